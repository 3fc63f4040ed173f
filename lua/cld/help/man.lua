--- The man page cldlua(1), made from the output of `cldlua --help`.
local man = {}

-- Escapes text for troff, so that it contains no requests or fonts, and hyphens stay hyphens.
local function plain(text)
  text = text:gsub("\\", "\\e"):gsub("%-", "\\-")
  return (text:gsub("^([.'])", "\\&%1"):gsub("\n([.'])", "\n\\&%1"))
end

-- "  -e stat       execute string 'stat'" of the usage as {"-e stat", "execute string 'stat'"}, in order.
function man.options(usage)
  local options = {}
  for line in usage:gmatch "[^\n]+" do
    local flag, text = line:match "^%s+(%-.-)%s%s+(.+)$"
    if flag then options[#options + 1] = { flag, text } end
  end
  return options
end

local function section(title) return ".SH " .. title .. "\n" end

-- {term, text} as a tagged paragraph.
local function tagged(list)
  local parts = {}
  for _, item in ipairs(list) do
    parts[#parts + 1] = (".TP\n.B %s\n%s\n"):format(plain(item[1]), plain(item[2]))
  end
  return table.concat(parts)
end

local ENVIRONMENT = {
  { "LUA_INIT, LUA_INIT_5_4", "Lua code, or @ and a file's name, to run first; as with lua(1)." },
  { "LUA_PATH, LUA_CPATH", "Where Lua looks for modules; as with lua(1)." },
  { "OMP_NUM_THREADS", "Threads of the numerical kernels, if a program says nothing else." },
  { "CUDA_VISIBLE_DEVICES", "The GPUs that there are for the process." },
  { "CLD_CUDA_PLUGIN", "Path of libcld_cuda.so, if it is not beside the program or where it was installed." },
  { "CLD_MPI_PLUGIN", "Path of libcld_mpi.so, likewise." },
  { "CLD_TIMEOUT", "Seconds that one rank of a job may keep the others waiting; 600 by default, 0 is any time."
    .. " --timeout of a recipe comes before it." },
  { "CLD_JOB_OF_ONE", "1: a job of a single rank is a job all the same." },
  { "XDG_STATE_HOME", "Where the session keeps its history: cldlua/history in it; ~/.local/state by default." },
}

local FILES = {
  { "runs/NAME/", "A run's folder: options, log, checkpoint." },
  { "~/.local/state/cldlua/history", "Lines typed in sessions." },
  { "PREFIX/share/lua/5.4/cld/", "The Lua files." },
  { "PREFIX/share/cldlua/recipes/", "The recipes." },
  { "PREFIX/lib/cldlua/", "libcld_cuda.so and libcld_mpi.so, if they were built." },
}

local EXAMPLES = {
  { "cldlua", "A session: help() says how to ask." },
  { "cldlua recipes/cifar10_npid_cld.lua --data ./data", "A recipe; --help lists its options." },
  { "cldlua recipes/cifar10_npid_cld.lua --resume", "Its latest run goes on." },
  { "cldlua --ranks 4 recipes/cifar10_npid_cld.lua --data ./data", "Four processes that share the work." },
}

--- The page; versions: cld.versions().
function man.page(usage, versions)
  return table.concat {
    ('.TH CLDLUA 1 "" "cldlua %s" "User Commands"\n'):format(plain(versions.cldlua)),
    section "NAME", "cldlua \\- Lua with tensors, for training self\\-supervised image encoders\n",
    section "SYNOPSIS", ".B cldlua\n.RI [ options ]\n.RI [ script \" [\" args ]]\n",
    section "DESCRIPTION", plain [[
cldlua runs Lua programs that train image encoders without labels, and judge them. It takes what lua(1) takes; the
module cld has tensors, gradients, networks, losses, data sets and the loop over epochs. Without a script, and on a
terminal, it is a session, in which help() tells what there is.
]], section "OPTIONS", tagged(man.options(usage)), section "EXIT STATUS", plain [[
0 after a program that ended well, 1 after an error; a run that a signal has stopped ends with 128 and the signal's
number, its checkpoint written.
]], section "ENVIRONMENT", tagged(ENVIRONMENT), section "FILES", tagged(FILES), section "EXAMPLES", tagged(EXAMPLES),
    section "SEE ALSO", ".BR lua (1)\n",
  }
end

return man
