--- Where a run lives. A fresh run without a name takes the recipe's, numbered where that is taken: npid, npid-2, ...
-- A folder is taken once a run has trained in it (it has a log) or while one is using it (it is locked); a run that
-- failed before its first epoch abandons its own. A folder that holds a checkpoint is never started afresh.
local core = require "cld.core"
local user_error = require "cld.user_error"
local io_ = core.io

local folder = {}

local function has(path, file) return io_.exists(path .. "/" .. file) ~= nil end

--- The checkpoint of the run in this folder.
function folder.checkpoint(path) return path .. "/checkpoint.safetensors" end

-- The recipe's name: the script that was started (where there is one), without folder and ending.
local function recipe_name()
  local script = arg and arg[-1] and arg[0]
  local name = script and script:match "[^/]*$":gsub("%.lua$", "")
  return name and name ~= "" and name or "run"
end

local function numbered(name, n) return n == 1 and name or ("%s-%d"):format(name, n) end

local function lock(path)
  return user_error.call(io_.lock, path)
    or user_error.raise("the run folder '%s' is in use by a run that is still going", path)
end

-- The folder of the recipe's run with the highest number, or nil.
local function latest(runs, name)
  local best, highest = nil, 0
  for _, entry in ipairs(io_.exists(runs) == "folder" and user_error.call(io_.list, runs) or {}) do
    local number = entry == name and 1
      or entry:sub(1, #name + 1) == name .. "-" and math.tointeger(tonumber(entry:sub(#name + 2)))
    if number and number > highest then best, highest = entry, number end
  end
  return best
end

-- Makes the folder; what was not there before is noted in `made`, inner folders first.
local function make(path, made)
  local missing = path
  while missing and not io_.exists(missing) do
    made[#made + 1] = missing
    missing = missing:match "^(.+)/[^/]+$"
  end
  user_error.call(io_.mkdir, path)
end

local function start_numbered(runs, made)
  local name = recipe_name()
  for n = 1, math.huge do
    local path = runs .. "/" .. numbered(name, n)
    make(path, made)
    if not has(path, "log.jsonl") and not has(path, "checkpoint.safetensors") then
      local held = user_error.call(io_.lock, path)
      if held then return path, held end
    end
  end
end

local function start_named(path, made)
  make(path, made)
  if has(path, "checkpoint.safetensors") then
    user_error.raise("the run folder '%s' holds a checkpoint: --resume continues it, --name starts another", path)
  end
  return path, lock(path)
end

-- --resume PATH: a run folder, or the checkpoint in it.
local function given(path)
  local kind = io_.exists(path)
  if not kind then user_error.raise("--resume: there is no '%s'", path) end
  if kind == "folder" then return (path:gsub("(.)/+$", "%1")) end
  local parent, file = path:match "^(.*)/([^/]*)$"
  if not parent then parent, file = ".", path end
  if file ~= "checkpoint.safetensors" then
    user_error.raise("--resume: '%s' is neither a run folder nor its checkpoint.safetensors", path)
  end
  return parent
end

-- What a run that was killed in the middle of a write has left (runtime/io/file.c: <file>.<process>.tmp).
local function remove_leftovers(path)
  for _, name in ipairs(user_error.call(io_.list, path)) do
    local kind = name:match "%.(%a+)%.%d+%.tmp$"
    if kind == "safetensors" or kind == "json" or kind == "lua" then os.remove(path .. "/" .. name) end
  end
end

local function check_names(runs, name)
  if runs == "" then user_error.raise "option '--runs': expected a folder, got ''" end
  if name:find "[/%z]" or name == "." or name == ".." then
    user_error.raise("option '--name': expected the name of one folder (in that of --runs), got '%s'", name)
  end
end

local function choose(options, made)
  local runs, name, resume = options.runs, options.name, options.resume
  check_names(runs, name)
  if not resume and name == "" then return start_numbered(runs, made) end
  if not resume then return start_named(runs .. "/" .. name, made) end
  local path
  if type(resume) == "string" then
    path = given(resume)
  else
    path = runs .. "/" .. (name ~= "" and name or latest(runs, recipe_name()) or recipe_name())
  end
  make(path, made)
  return path, lock(path), has(path, "checkpoint.safetensors") or has(path, "options.json")
end

--- claim{runs =, name =, resume =} -> {path, lock, continues = whether there is a run to continue, made}. The lock is
-- to be kept.
function folder.claim(options)
  local made = {}
  local path, held, continues = choose(options, made)
  remove_leftovers(path)
  return { path = path, lock = held, continues = continues, made = made }
end

--- Removes the folders that the claim has made, where they are still empty.
function folder.abandon(claim)
  for _, path in ipairs(claim.made) do os.remove(path) end
end

return folder
