--- Checkpoints: the state of named objects in one safetensors file. The tensor `conv1.weight` of the object `net` lies
-- there as "net.conv1.weight"; what is no tensor is JSON in the metadata: "options", and "position" (epoch, step,
-- random numbers, best score). An object is anything with state_dict() -> {name = tensor} and load_state_dict(state);
-- checkpoint.object makes one of plain tensors.
local core = require "cld.core"
local json = require "cld.json"
local state = require "cld.state"
local user_error = require "cld.user_error"

local checkpoint = {}

local function has_state(value)
  local ok, method = pcall(function() return value.state_dict end)
  return ok and method ~= nil
end

--- `value` where it has a state_dict; an object where it is a tensor (whose state is {value = tensor}) or a table
-- {name = tensor}: restored in place. Nil for anything else.
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

--- save(path, {name = object}, {key = JSON-able value})
function checkpoint.save(path, objects, facts)
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
  user_error.call(core.io.save, path, tensors, metadata)
end

--- load(path) -> {path, options, position, states = {object name = {name = tensor}}}
function checkpoint.load(path)
  local tensors, metadata = user_error.call(core.io.load, path)
  if metadata.format ~= "cldlua checkpoint 1" or not metadata.options or not metadata.position then
    user_error.raise("%s: not a checkpoint of a run (its metadata say nothing of one)", path)
  end
  local loaded = { path = path, states = {} }
  for _, key in ipairs { "options", "position" } do
    loaded[key] = user_error.call(json.decode, metadata[key])
  end
  for key, tensor in pairs(tensors) do
    local prefix, name = key:match "^([^.]+)%.(.+)$"
    if not prefix then user_error.raise("%s: not a checkpoint of a run: what is '%s'?", path, key) end
    loaded.states[prefix] = loaded.states[prefix] or {}
    loaded.states[prefix][name] = tensor
  end
  return loaded
end

--- Put the loaded states into the objects. One error lists all that does not fit.
function checkpoint.restore(loaded, objects)
  local problems, names = {}, {}
  for name in pairs(objects) do names[#names + 1] = name end
  for name in pairs(loaded.states) do
    if not objects[name] then problems[#problems + 1] = ("'%s' is not in this run"):format(name) end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local object = objects[name]
    local ok, message = pcall(object.load_state_dict, object, loaded.states[name] or {})
    if not ok then
      message = tostring(message):gsub("^[^:%s]*:%d+: ", "") -- without the line of the code that found it
      problems[#problems + 1] = ("'%s': %s"):format(name, message)
    end
  end
  if #problems > 0 then
    user_error.raise("%s does not fit this run: %s", loaded.path, table.concat(problems, "; "))
  end
end

return checkpoint
