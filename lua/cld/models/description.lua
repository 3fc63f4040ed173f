--- Records how a net was made: the name of its constructor and all settings, plain values that JSON can hold. The
-- record is a plain field of the net, so that a clone has it too.
local caller = require "cld.caller"
local sorted_keys = require "cld.sorted_keys"

local description = {}

local DEEPEST = 8 -- levels of nested tables

local function is_plain_number(value) return value == value and math.abs(value) < math.huge end

-- A copy of value if JSON can hold all of it; or nil and the part that it cannot hold.
local function copied(value, depth)
  local kind = type(value)
  if kind == "string" or kind == "boolean" then return value end
  if kind == "number" then return is_plain_number(value) and value or nil, tostring(value) end
  if kind ~= "table" or getmetatable(value) then return nil, caller.shown(value) end
  if depth > DEEPEST then return nil, ("tables more than %d deep"):format(DEEPEST) end
  local copy = {}
  for key, item in next, value do
    if type(key) ~= "string" and math.type(key) ~= "integer" then return nil, "the key " .. caller.shown(key) end
    if math.type(key) == "integer" and (key < 1 or key > #value) then return nil, ("the position %d"):format(key) end
    local own, problem = copied(item, depth + 1)
    if own == nil then return nil, problem end
    copy[key] = own
  end
  return copy
end

--- plain(name, settings) -> a copy, or an error that names the first setting that is not a plain value.
function description.plain(name, settings)
  local copy = {}
  for key, value in pairs(settings) do
    if type(key) ~= "string" then caller.raise("%s: settings need names, got %s", name, caller.shown(key)) end
    local own, problem = copied(value, 1)
    if own == nil then
      caller.raise("%s: the setting '%s' holds %s; settings are numbers, strings, booleans and tables of them", name,
        key, problem)
    end
    copy[key] = own
  end
  return copy
end

-- The names and shapes of all parameters and buffers, as one text.
local function layout(net)
  local shapes = {}
  for name, tensor in pairs(net:state_dict()) do shapes[name] = table.concat(tensor.shape, "x") end
  local lines = {}
  for i, name in ipairs(sorted_keys(shapes)) do lines[i] = name .. " " .. shapes[name] end
  return table.concat(lines, "\n")
end

--- Records on the net its constructor and settings.
function description.note(net, constructor, settings)
  net._description = { constructor = constructor, settings = settings, layout = layout(net) }
end

--- of(net) -> {constructor, settings}, a copy; or nil and the reason: no constructor of cld.models made the net, or
-- its tensors' names or shapes have changed since, so that the constructor would make another net.
function description.of(net)
  local noted = net._description
  if not noted then return nil, "no constructor of cld.models made it" end
  if layout(net) ~= noted.layout then
    return nil, ("its tensors are no longer those that cld.models.%s made"):format(noted.constructor)
  end
  return { constructor = noted.constructor, settings = copied(noted.settings, 0) }
end

--- "resnet50 { dim = 128, head = 'mlp' }": a description as a message shows it.
function description.text(how)
  local function shown(value)
    if type(value) ~= "table" then return type(value) == "string" and ("'%s'"):format(value) or tostring(value) end
    local words = {}
    for i, item in ipairs(value) do words[i] = shown(item) end
    for _, name in ipairs(#words == 0 and sorted_keys(value) or {}) do
      words[#words + 1] = ("%s = %s"):format(name, shown(value[name]))
    end
    return "{ " .. table.concat(words, ", ") .. " }"
  end
  local words = {}
  for i, name in ipairs(sorted_keys(how.settings)) do words[i] = ("%s = %s"):format(name, shown(how.settings[name])) end
  return ("%s { %s }"):format(how.constructor, table.concat(words, ", "))
end

return description
