--- Loading states: what every load_state_dict shares.
local core = require "cld.core"

local state = {}

local function shape_of(tensor) return "[" .. table.concat(tensor.shape, ", ") .. "]" end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

-- The same shape, or both of one element.
local function fits(a, b) return shape_of(a) == shape_of(b) or (a:numel() == 1 and b:numel() == 1) end

--- load(what, own, given): copy the tensors of `given` into those of `own`, by name. One error, raised for the caller's
-- caller, names everything that is missing, unexpected or of another shape; then nothing has been copied.
function state.load(what, own, given)
  local problems = {}
  for _, name in ipairs(sorted_keys(own)) do
    local mine, theirs = own[name], given[name]
    if not theirs then
      problems[#problems + 1] = name .. " is missing"
    elseif not fits(mine, theirs) then
      problems[#problems + 1] = ("%s is %s here, %s in the state"):format(name, shape_of(mine), shape_of(theirs))
    end
  end
  for _, name in ipairs(sorted_keys(given)) do
    if not own[name] then problems[#problems + 1] = name .. " is unexpected" end
  end
  if #problems > 0 then error(what .. ": the state does not fit: " .. table.concat(problems, "; "), 3) end
  local _ <close> = core.autograd.no_grad()
  for name, tensor in pairs(own) do tensor:copy_(given[name]:reshape(tensor.shape)) end
end

return state
