--- The lines of `cldlua --version` below the first: how this was built, which parts exist, and where they are. It loads
-- no library: not CUDA, not MPI, and none of those that load on first use.
local core = require "cld.core"

local printable_line = core.text.printable_line

-- The folder of these files; nil if unknown.
local function lua_folder()
  local folder = debug.getinfo(1, "S").source:match "^@(.*)/version%.lua$"
  return folder and (folder:gsub("^%./", ""))
end

-- The recipes' folder: next to lua/ in a source tree, in share/cldlua once installed, or inside a rock.
local function recipes_folder(lua)
  local rock = ("/lib/luarocks/rocks-5.4/cldlua/%s-1/recipes"):format(core.system.versions().cldlua)
  local places = {
    ["/lua/cld$"] = "/recipes", ["/lua/5%.4/cld$"] = "/cldlua/recipes", ["/share/lua/5%.4/cld$"] = rock,
  }
  for pattern, place in pairs(places) do
    local folder, found = ("/" .. (lua or "")):gsub(pattern, place)
    folder = folder:sub(2)
    if found == 1 and core.io.exists(folder) == "folder" then return folder end
  end
end

-- One of our libraries: what it was built with, and where it is.
local function plugin(with, path, missing)
  if not path then return "no: " .. missing end
  if not core.io.exists(path) then return ("no: there is no %s"):format(path) end
  return ("%s; %s"):format(with or "of another build", path)
end

--- version() -> list of lines, such as "libcurl      7.88.1, loaded on first use"; the line of a missing part says what
-- does not work without it.
return function()
  local versions, built = core.system.versions(), core.system.built_with()
  local lua = lua_folder()
  local function or_else(text, more, missing) return text and text .. more or "no: " .. missing end
  local rows = {
    { "compiler", versions.compiler },
    { "kernels", versions.cpu_library },
    { "images", versions.images },
    { "jansson", versions.jansson },
    { "libedit", or_else(built.libedit, "", "no line editing") },
    { "libcurl", or_else(built.libcurl, ", loaded on first use", "no downloads") },
    { "libarchive", or_else(built.libarchive, ", loaded on first use",
      "no archives but .tar, and of PyTorch's files only legacy ones") },
    { "protobuf-c", or_else(built.protobuf_c, "", "no ONNX and no TensorBoard files") },
    { "MPI", plugin(built.mpi, built.mpi_library, "no jobs of several processes") },
    { "CUDA", plugin(built.cuda, built.cuda_library, "no GPU") },
    { "Lua files", lua or "not known" },
    { "recipes", recipes_folder(lua) or "not found" },
  }
  local lines = {}
  for i, row in ipairs(rows) do lines[i] = printable_line(("%-12s %s"):format(row[1], row[2])) end
  return lines
end
