--- Loading of states: shared by every load_state_dict.
local core = require "cld.core"
local caller = require "cld.caller"
local sorted_keys = require "cld.sorted_keys"

local state = {}

local function shape_of(tensor) return "[" .. table.concat(tensor.shape, ", ") .. "]" end

-- Whether both have the same shape, or one element each.
local function fits(a, b) return shape_of(a) == shape_of(b) or (a:numel() == 1 and b:numel() == 1) end

-- A float dtype accepts floats of any width, an integer dtype accepts integers; there is no conversion between the two.
local function kind_of(tensor) return tensor.dtype:find "^b?f" and "float" or "integer" end

-- Whether the destination holds every value of the source: a file's i16 is i32 here, and may go to u8 if the values
-- fit.
local function is_held(dtype, tensor)
  return dtype == tensor.dtype or tensor:to(dtype):to(tensor.dtype):eq(tensor):all():item() ~= 0
end

-- "3 missing: a, b, c" for each kind of problem that occurred; a long list is cut.
local function describe(missing, unexpected, misshaped, mistyped)
  local parts = {}
  local function add(what, names)
    if #names == 0 then return end
    local some = table.concat(names, ", ", 1, math.min(#names, 8)) .. (#names > 8 and ", ..." or "")
    parts[#parts + 1] = ("%d %s: %s"):format(#names, what, some)
  end
  add("missing", missing)
  add("unexpected", unexpected)
  add("of another shape", misshaped)
  add("of another dtype", mistyped)
  return table.concat(parts, "; ")
end

local function check(what, given)
  if type(given) ~= "table" then
    caller.raise("%s: expected a state, {name = tensor}, got %s", what, caller.shown(given))
  end
  for name, value in pairs(given) do
    if type(name) ~= "string" or not core.tensor.is_tensor(value) then
      caller.raise("%s: expected a state, {name = tensor}, got %s under the key %s", what, caller.shown(value),
        caller.shown(name))
    end
  end
end

--- load(what, own, given, {strict = true, optional, unread}): copies the tensors of `given` into those of `own`, by
-- name. If tensors are missing, unexpected, of another shape, too large, or integers instead of floats, one error names
-- them all, and nothing has been copied. If not strict, it copies what fits. `optional(name)`: whether this one may be
-- missing; not if it is in `unread`, {name = why}: tensors that the file has but cld.load could not read. Returns
-- {missing, unexpected, misshaped, mistyped}, lists of words.
function state.load(what, own, given, options)
  check(what, given)
  local strict = not options or options.strict ~= false
  local optional = options and options.optional
  local unread = options and options.unread or {}
  local missing, unexpected, misshaped, mistyped, copies = {}, {}, {}, {}, {}
  for _, name in ipairs(sorted_keys(own)) do
    local mine, theirs = own[name], given[name]
    if not theirs then
      if unread[name] then
        missing[#missing + 1] = ("%s (%s)"):format(name, unread[name])
      elseif not (optional and optional(name)) then
        missing[#missing + 1] = name
      end
    elseif not fits(mine, theirs) then
      misshaped[#misshaped + 1] = ("%s (%s here, %s in the state)"):format(name, shape_of(mine), shape_of(theirs))
    elseif kind_of(mine) ~= kind_of(theirs) then
      mistyped[#mistyped + 1] = ("%s (%s here, %s in the state)"):format(name, mine.dtype, theirs.dtype)
    elseif kind_of(mine) == "integer" and not is_held(mine.dtype, theirs) then
      mistyped[#mistyped + 1] = ("%s (%s here, which does not hold the values of %s in the state)"):format(name,
        mine.dtype, theirs.dtype)
    else
      copies[#copies + 1] = name
    end
  end
  for _, name in ipairs(sorted_keys(given)) do
    if not own[name] then unexpected[#unexpected + 1] = name end
  end
  local problems = describe(missing, unexpected, misshaped, mistyped)
  if strict and problems ~= "" then caller.raise("%s: the state does not fit: %s", what, problems) end
  local _ <close> = core.autograd.no_grad()
  for _, name in ipairs(copies) do own[name]:copy_(given[name]:reshape(own[name].shape)) end
  return { missing = missing, unexpected = unexpected, misshaped = misshaped, mistyped = mistyped }
end

return state
