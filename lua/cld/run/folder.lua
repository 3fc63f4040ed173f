--- Where a run lives. A fresh run without a name takes the recipe's, numbered if that is taken: npid, npid-2, ...
-- A folder is taken once a run has trained in it (it has a log) or while one is using it (it is locked); one that a
-- run has made and left empty, because it failed before its first epoch, goes with the run. A folder that holds a
-- checkpoint is never started afresh.
--
-- A run holds its folder (core.io.claim, runtime/io/folder.h) and reads and writes through it, not by its path: it
-- writes on in a folder that is moved or renamed, and never in another that comes to lie at its path.
local core = require "cld.core"
local dist = require "cld.dist"
local user_error = require "cld.user_error"
local io_, printable_line = core.io, core.text.printable_line

local folder = {}

--- The file that a run resumes from.
folder.checkpoint = "checkpoint.safetensors"

--- The recipe's path: that of the script that was started, or nil if there is none.
function folder.recipe() return arg and arg[-1] and arg[0] or nil end

-- The recipe's name: its path without folder and ending.
local function recipe_name()
  local script = folder.recipe()
  local name = script and script:match "[^/]*$":gsub("%.lua$", "")
  return name and name ~= "" and name or "run"
end

local function numbered(name, n) return n == 1 and name or ("%s-%d"):format(name, n) end

-- `how` is io_.claim, which makes the folder if there is none, or io_.lock.
local function hold(how, path)
  return user_error.call(how, path)
    or user_error.raise("the run folder '%s' is in use by a run that is still going", path)
end

-- Whether a run can be continued from there; `exists` tells of a file in the folder.
local function is_begun(exists) return exists(folder.checkpoint) or exists "options.json" end

-- The folder of the recipe's run with the highest number, or nil. One that was stopped before its first epoch has left
-- an empty folder, which is no run.
local function latest(runs, name)
  local best, highest = nil, 0
  for _, entry in ipairs(io_.exists(runs) == "folder" and user_error.call(io_.list, runs) or {}) do
    local digits = entry:sub(1, #name + 1) == name .. "-" and entry:sub(#name + 2):match "^[1-9]%d*$"
    local number = entry == name and 1 or digits and math.tointeger(tonumber(digits))
    local function exists(file) return io_.exists(runs .. "/" .. entry .. "/" .. file) end
    if number and number > highest and is_begun(exists) then best, highest = entry, number end
  end
  return best
end

local function start_numbered(runs)
  local name = recipe_name()
  for n = 1, math.huge do
    local path = runs .. "/" .. numbered(name, n)
    local function is_taken(exists) return exists "log.jsonl" or exists(folder.checkpoint) end
    -- By path first, so that nobody finds an old run's folder locked; what counts is what is there once it is held.
    if not is_taken(function(file) return io_.exists(path .. "/" .. file) end) then
      local held = user_error.call(io_.claim, path)
      if held and not is_taken(function(file) return held:exists(file) end) then return path, held end
      if held then held:close() end
    end
  end
end

local function start_named(path)
  local held = hold(io_.claim, path)
  if held:exists(folder.checkpoint) then
    held:close()
    user_error.raise("the run folder '%s' holds a checkpoint: --resume continues it, --name starts another", path)
  end
  return path, held
end

-- --resume PATH: a run folder, or the checkpoint in it.
local function given(path)
  local kind = io_.exists(path)
  if not kind then user_error.raise("--resume: there is no '%s'", path) end
  if kind == "folder" then return (path:gsub("(.)/+$", "%1")) end
  local parent, file = path:match "^(.*)/([^/]*)$"
  if not parent then parent, file = ".", path end
  if file ~= folder.checkpoint then
    user_error.raise("--resume: '%s' is neither a run folder nor its checkpoint.safetensors", path)
  end
  return parent
end

-- What a run that was killed in the middle of a write has left (runtime/io/file.h: <file>.<hexadecimal digits>.tmp).
-- What another program is writing there just now stays.
local function remove_leftovers(held)
  for _, name in ipairs(user_error.call(held.list, held)) do
    local kind = name:match "%.(%a+)%.%x+%.tmp$"
    if kind == "safetensors" or kind == "json" or kind == "lua" then held:remove_leftover(name) end
  end
end

local function check_names(runs, name)
  if runs == "" then user_error.raise "option '--runs': expected a folder, got ''" end
  if name:find "[/%z]" or name == "." or name == ".." then
    user_error.raise("option '--name': expected the name of one folder (in that of --runs), got '%s'", name)
  end
end

local function choose(options)
  local runs, name, resume = options.runs, options.name, options.resume
  check_names(runs, name)
  if not resume and name == "" then return start_numbered(runs) end
  if not resume then return start_named(runs .. "/" .. name) end
  local path, held
  if type(resume) == "string" then
    path = given(resume)
    held = hold(io_.lock, path) -- not made anew, should it be removed at this moment
  else
    path = runs .. "/" .. (name ~= "" and name or latest(runs, recipe_name()) or recipe_name())
    held = hold(io_.claim, path)
  end
  return path, held, is_begun(function(file) return held:exists(file) end)
end

--- claim{runs =, name =, resume =} -> {path, held = what all of the run's files are read and written through, continues
-- = whether there is a run to continue}.
function folder.claim(options)
  local path, held, continues = choose(options)
  if not held:locked() then
    io.stderr:write(printable_line(("the file system of '%s' cannot lock folders: start no other run there while this "
      .. "one is going"):format(path)), "\n")
  end
  remove_leftovers(held)
  return { path = path, held = held, continues = continues }
end

-- What stands for the folder on the other ranks, which read and write nothing there.
local function nobodys(path)
  local function nothing() end
  return {
    where = function() return path end, exists = function() return false end, list = function() return {} end,
    read = nothing, write = nothing, append = nothing, save = nothing, close = nothing,
  }
end

--- The same on every rank of a job: rank 0 claims it.
function folder.claim_for_all(options)
  local own
  local told = dist.shared(function()
    own = folder.claim(options)
    return { path = own.path, continues = own.continues }
  end)
  return own or { path = told.path, continues = told.continues, held = nobodys(told.path) }
end

return folder
