--- Where a run lives. A fresh run without a name takes the recipe's, numbered if that is taken: npid, npid-2, ...
-- A folder is taken once a run has trained in it (it has a log) or while one is using it (it is locked). If a run fails
-- before its first epoch, the empty folder that it made is removed. A folder that holds a checkpoint is never started
-- afresh.
--
-- A run holds its folder (core.io.claim, runtime/io/folder.h) and reads and writes through it, not by its path. It
-- continues to write to a folder that is moved or renamed, and never to another folder that later has its path.
local core = require "cld.core"
local dist = require "cld.dist"
local user_error = require "cld.user_error"
local io_, printable_line = core.io, core.text.printable_line

local folder = {}

--- The file that a run resumes from.
folder.checkpoint = "checkpoint.safetensors"

--- The checkpoint of the epoch with the best score (kept.lua).
folder.best = "best.safetensors"

--- epoch_of(name of a file) -> the epoch whose checkpoint has that name (kept.lua), or nil.
function folder.epoch_of(file)
  local digits = file:match "^checkpoint%-(%d+)%.safetensors$"
  return digits and #digits < 16 and digits:find "^[^0]" and math.tointeger(tonumber(digits)) or nil
end

-- Whether a file name names a checkpoint from which a run may continue.
local function is_checkpoint(file)
  return file == folder.checkpoint or file == folder.best or folder.epoch_of(file) ~= nil
end

-- The first checkpoint in a folder that is held, or nil.
local function first_checkpoint(held)
  for _, file in ipairs(user_error.call(held.list, held)) do
    if is_checkpoint(file) then return file end
  end
end

--- The recipe's path: the script that was started, or nil if there is none.
function folder.recipe() return arg and arg[-1] and arg[0] or nil end

-- The recipe's name: its path without folder and extension.
local function recipe_name()
  local script = folder.recipe()
  local name = script and script:match "[^/]*$":gsub("%.lua$", "")
  return name and name ~= "" and name or "run"
end

local function numbered(name, n) return n == 1 and name or ("%s-%d"):format(name, n) end

-- `how` is io_.claim, which makes the folder if there is none, or io_.lock.
local function hold(how, path)
  return user_error.call(how, path)
    or user_error.raise("the run folder '%s' is in use by a run that is still running", path)
end

-- Whether a run can be continued from there; `exists` checks for a file in the folder.
local function is_begun(exists) return exists(folder.checkpoint) or exists "options.json" end

-- The folder of the recipe's run with the highest number, or nil. An empty folder, left by a run that was stopped
-- before its first epoch, does not count.
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
    -- Checks by path first, so that an old run's folder is never seen locked. The check after the lock is what counts.
    if not is_taken(function(file) return io_.exists(path .. "/" .. file) end) then
      local held = user_error.call(io_.claim, path)
      if held and not held:exists "log.jsonl" and not first_checkpoint(held) then return path, held end
      if held then held:close() end
    end
  end
end

local function start_named(path)
  local held = hold(io_.claim, path)
  if first_checkpoint(held) then
    held:close()
    user_error.raise("the run folder '%s' holds a checkpoint: --resume continues it, --name starts another", path)
  end
  return path, held
end

-- --resume PATH: a run folder, or a checkpoint in it, whose name is then returned too.
local function given(path)
  local kind = io_.exists(path)
  if not kind then user_error.raise("--resume: there is no '%s'", path) end
  if kind == "folder" then return (path:gsub("(.)/+$", "%1")), folder.checkpoint end
  local parent, file = path:match "^(.*)/([^/]*)$"
  if not parent then parent, file = ".", path end
  if not is_checkpoint(file) then
    user_error.raise("--resume: '%s' is neither a run folder nor its checkpoint.safetensors, checkpoint-EPOCH"
      .. ".safetensors or best.safetensors", path)
  end
  return parent, file
end

-- A folder without checkpoint.safetensors but with other checkpoints is never started afresh.
local function check_left(path, held)
  local other = not held:exists(folder.checkpoint) and first_checkpoint(held)
  if not other then return end
  held:close()
  user_error.raise("the run folder '%s' has no checkpoint.safetensors: --resume %s/%s continues from that one", path,
    path, other)
end

-- Removes partial files of a run that was killed while writing (runtime/io/file.h: <file>.<hexadecimal digits>.tmp).
-- Files that another program is writing at the moment stay.
local function remove_leftovers(held)
  for _, name in ipairs(user_error.call(held.list, held)) do
    local kind = name:match "%.(%a+)%.%x+%.tmp$"
    if kind == "safetensors" or kind == "json" or kind == "lua" then held:remove_leftover(name) end
  end
end

local function check_names(runs, name)
  if runs == "" then user_error.raise "option '--runs': expected a folder, got ''" end
  if name:find "[/%z]" or name == "." or name == ".." then
    user_error.raise("option '--name': expected the name of a folder inside --runs, got '%s'", name)
  end
end

--- to_resume{runs =, name =, resume = true or a path} -> the run's folder, and which of its checkpoints. A path must
-- exist; a run chosen by name or as the recipe's latest need not.
function folder.to_resume(options)
  if type(options.resume) == "string" then return given(options.resume) end
  local name = options.name ~= "" and options.name or latest(options.runs, recipe_name()) or recipe_name()
  return options.runs .. "/" .. name, folder.checkpoint
end

local function choose(options)
  local runs, name, resume = options.runs, options.name, options.resume
  check_names(runs, name)
  if not resume and name == "" then return start_numbered(runs) end
  if not resume then return start_named(runs .. "/" .. name) end
  local path, file = folder.to_resume(options)
  -- A folder given by path is not recreated if it is removed at this moment.
  local held = hold(type(resume) == "string" and io_.lock or io_.claim, path)
  if file == folder.checkpoint then check_left(path, held) end
  return path, held, file, file ~= folder.checkpoint or is_begun(function(name_) return held:exists(name_) end)
end

--- claim{runs =, name =, resume =} -> {path, held = the handle for reading and writing all of the run's files,
-- continues = whether there is a run to continue, file = the name of the checkpoint to continue from}.
function folder.claim(options)
  local path, held, file, continues = choose(options)
  if not held:locked() then
    io.stderr:write(printable_line(("the file system of '%s' cannot lock folders: start no other run there while this "
      .. "one is running"):format(path)), "\n")
  end
  remove_leftovers(held)
  return { path = path, held = held, file = file or folder.checkpoint, continues = continues }
end

-- A stand-in for the folder on the other ranks, which do not read or write there.
local function nobodys(path)
  local function nothing() end
  return {
    where = function() return path end, exists = function() return false end, list = function() return {} end,
    read = nothing, write = nothing, append = nothing, save = nothing, close = nothing,
  }
end

--- The same for all ranks of a job: rank 0 claims the folder.
function folder.claim_for_all(options)
  local own
  local told = dist.shared(function()
    own = folder.claim(options)
    return { path = own.path, file = own.file, continues = own.continues }
  end)
  return own or { path = told.path, file = told.file, continues = told.continues, held = nobodys(told.path) }
end

return folder
