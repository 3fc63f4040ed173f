--- Checkpoints: the state of named objects in one safetensors file. The tensor `conv1.weight` of the object `net` is
-- stored as "net.conv1.weight". Everything else is JSON in the metadata: "options", "position" (epoch, step, random
-- numbers, best score), and "description" (run/description.lua). An object is anything with state_dict() -> {name =
-- tensor} and load_state_dict(state); checkpoint.object makes one from plain tensors.
local core = require "cld.core"
local caller = require "cld.caller"
local described = require "cld.models.description"
local dist = require "cld.dist"
local folder = require "cld.run.folder"
local json = require "cld.json"
local options = require "cld.options"
local position = require "cld.run.position"
local sorted_keys = require "cld.sorted_keys"
local state = require "cld.state"
local user_error = require "cld.user_error"

local checkpoint = {}

local function has_state(value)
  local ok, method = pcall(function() return value.state_dict end)
  return ok and method ~= nil
end

--- `value` itself if it has a state_dict. For a tensor (with the state {value = tensor}) or a table {name = tensor}, an
-- object that restores it in place. Nil for anything else.
function checkpoint.object(value)
  if has_state(value) then return value end
  local own = core.tensor.is_tensor(value) and { value = value } or value
  if type(own) ~= "table" or not next(own) then return nil end
  for name, tensor in pairs(own) do
    if type(name) ~= "string" or not core.tensor.is_tensor(tensor) then return nil end
  end
  return {
    state_dict = function() return own end,
    load_state_dict = function(_, given) state.load("tensors", own, given) end,
  }
end

--- save(handle of the run's folder, file name, {name = object}, {key = JSON-able value})
function checkpoint.save(held, file, objects, facts)
  local tensors, metadata = {}, { format = "cldlua checkpoint 1" }
  for prefix, object in pairs(objects) do
    for name, tensor in pairs(object:state_dict()) do
      if not core.tensor.is_tensor(tensor) then
        error(("run: the state of '%s' holds '%s', a %s; a state holds tensors"):format(prefix, name, type(tensor)), 0)
      end
      tensors[prefix .. "." .. name] = tensor
    end
  end
  for key, value in pairs(facts) do metadata[key] = json.encode(value) end
  user_error.call(held.save, held, file, tensors, metadata)
end

-- ---- reading ----------------------------------------------------------------

local function is_count(value) return math.type(value) == "integer" and value >= 0 end
local function is_number(value) return type(value) == "number" end
local function is_amount(value) return is_number(value) and value >= 0 and value < math.huge end

-- The fields of a position and their checks, in this order.
local position_fields = {
  { "epoch", is_count }, { "step", is_amount }, { "step_in_epoch", is_amount }, { "seen", position.is_seen },
  { "seconds", function(value) return is_number(value) and value >= 0 end },
  { "rng", function(value)
    return type(value) == "table" and math.type(value.seed) == "integer" and math.type(value.position) == "integer"
  end },
  { "best", function(value)
    return value == nil or type(value) == "table" and is_count(value.epoch) and is_number(value.value)
      and type(value.name) == "string"
  end },
  { "order", function(value) return value == nil or type(value) == "table" end },
}

-- The table in the metadata's entry `key`.
local function decode(path, metadata, key)
  local ok, value = pcall(json.decode, metadata[key])
  if not ok then user_error.check_memory(path, value) end
  if not ok then user_error.raise("%s: damaged checkpoint: its %s: %s", path, key, tostring(value)) end
  if type(value) ~= "table" then user_error.raise("%s: damaged checkpoint: its %s is not a table", path, key) end
  return value
end

--- The path of the checkpoint file, from its own path or that of its run's folder.
function checkpoint.file(path)
  return core.io.exists(path) == "folder" and path .. "/" .. folder.checkpoint or path
end

--- Whether a file's metadata is that of a run's checkpoint.
function checkpoint.is_ours(metadata)
  return metadata.format == "cldlua checkpoint 1" and metadata.options ~= nil and metadata.position ~= nil
end

--- load(path of a checkpoint, or of its run's folder) -> {path, options, position, description or nil, states = {object
-- name = {name = tensor}}, unread = {key = why}}.
-- `declarations` are the caller's options, as cld.options takes them: the checkpoint's must fit them.
function checkpoint.load(path, declarations)
  path = checkpoint.file(path)
  local tensors, metadata, unread = user_error.call(core.io.load, path)
  if not checkpoint.is_ours(metadata) then
    user_error.raise("%s: not a checkpoint of a run (its metadata do not describe one)", path)
  end
  local loaded = checkpoint.read(path, tensors, metadata, unread)
  if declarations then options.check(path, declarations, loaded.options) end
  return loaded
end

--- The same for what cld.load returned.
function checkpoint.read(path, tensors, metadata, unread)
  local loaded = { path = path, states = {}, unread = unread or {} }
  for _, key in ipairs { "options", "position" } do loaded[key] = decode(path, metadata, key) end
  if metadata.description then loaded.description = decode(path, metadata, "description") end
  for _, field in ipairs(position_fields) do
    local name, is_valid = table.unpack(field)
    if not is_valid(loaded.position[name]) then
      user_error.raise("%s: damaged checkpoint: '%s' of its position is %s", path, name,
        caller.shown(loaded.position[name]))
    end
  end
  for key, tensor in pairs(tensors) do
    local prefix, name = key:match "^([^.]+)%.(.+)$"
    if not prefix then user_error.raise("%s: not a checkpoint of a run: unknown entry '%s'", path, key) end
    loaded.states[prefix] = loaded.states[prefix] or {}
    loaded.states[prefix][name] = tensor
  end
  return loaded
end

--- of_all(loaded or nil) -> what rank 0 has loaded, on every rank, with tensors on the cpu.
function checkpoint.of_all(loaded)
  if dist.alone then return loaded end
  local keys, list = {}, {}
  for _, object in ipairs(sorted_keys(loaded and loaded.states or {})) do
    for _, name in ipairs(sorted_keys(loaded.states[object])) do
      keys[#keys + 1] = { object, name }
      list[#list + 1] = loaded.states[object][name]
    end
  end
  local told = dist.shared(function()
    if not loaded then return {} end
    local plain = { keys = keys }
    for _, field in ipairs { "path", "options", "position", "description", "unread" } do
      plain[field] = loaded[field]
    end
    return { loaded = plain }
  end)
  if not told.loaded then return nil end
  local tensors = dist.tensors(list)
  if dist.rank == 0 then return loaded end
  local own = told.loaded
  own.states = {}
  for i, key in ipairs(own.keys) do
    own.states[key[1]] = own.states[key[1]] or {}
    own.states[key[1]][key[2]] = tensors[i]
  end
  return own
end

-- {object name = how it was made, according to the checkpoint}.
local function described_in(loaded)
  local all, models = {}, loaded.description and loaded.description.models
  for name, how in pairs(type(models) == "table" and models or {}) do
    if type(how) == "table" and type(how.settings) == "table" then all[name] = how end
  end
  return all
end

-- Restores an object. Returns what does not fit, or nil.
local function restore_object(loaded, name, object)
  local ok, message = pcall(object.load_state_dict, object, loaded.states[name] or {})
  if ok then return nil end
  user_error.check_memory(("%s: '%s'"):format(loaded.path, name), message)
  return ("'%s': %s"):format(name, caller.without_place(message))
end

-- How a network that does not fit was made: "a resnet34 { ... } here, a resnet18 { ... } in it" if that differs, or
-- nil; and the checkpoint's description of it.
local function difference(theirs, object)
  local known, own = pcall(described.of, object)
  if not known or not own then return nil end
  local same = { constructor = own.constructor, settings = {} } -- only the settings that theirs lists
  for name in pairs(theirs.settings) do same.settings[name] = own.settings[name] end
  if described.text(same) == described.text(theirs) then return nil end
  return ("a %s here, a %s in it"):format(described.text(own), described.text(theirs))
end

-- The objects that do not fit, in words: networks that were made differently together, and the others one by one.
local function restore_objects(loaded, objects)
  local problems, held, alike, theirs = {}, {}, {}, described_in(loaded)
  for _, name in ipairs(sorted_keys(objects)) do
    local problem = restore_object(loaded, name, objects[name])
    local text = problem and theirs[name] and difference(theirs[name], objects[name])
    if text and alike[text] then
      problems[alike[text]] = ("'%s', %s"):format(name, problems[alike[text]])
    elseif text then
      problems[#problems + 1] = ("'%s': %s"):format(name, text)
      alike[text] = #problems
    else
      problems[#problems + 1] = problem
      local how = problem and theirs[name]
      if how then held[#held + 1] = ("; its '%s' is a %s"):format(name, described.text(how)) end
    end
  end
  return problems, table.concat(held)
end

--- Loads the states into the objects {name = object}; if `some` is true, further objects in the checkpoint are ignored.
-- One error lists everything that does not fit.
function checkpoint.restore(loaded, objects, some)
  local problems = {}
  for _, name in ipairs(sorted_keys(loaded.states)) do
    if not some and not objects[name] then problems[#problems + 1] = ("'%s' is not in this run"):format(name) end
  end
  for _, key in ipairs(sorted_keys(loaded.unread)) do
    if objects[key:match "^[^.]*"] then
      problems[#problems + 1] = ("'%s' could not be read: %s"):format(key, loaded.unread[key])
    end
  end
  local unfit, held = restore_objects(loaded, objects)
  table.move(unfit, 1, #unfit, #problems + 1, problems)
  if #problems > 0 then
    user_error.raise("%s does not fit this run: %s%s", loaded.path, table.concat(problems, "; "), held)
  end
end

return checkpoint
