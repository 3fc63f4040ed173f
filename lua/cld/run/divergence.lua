--- Detects a diverged training: every step of an epoch was skipped because its loss was not finite, or a step was
-- skipped and a network's weights or statistics are not finite either. A single bad step does no harm and does not end
-- the run.
local core = require "cld.core"

local divergence = {}

-- The number of steps that an object has skipped; nil if it does not count them.
local function skipped(object)
  local ok, count = pcall(function() return object.skipped end)
  return ok and math.type(count) == "integer" and count or nil
end

--- Those of {name = object} that count skipped steps: objects whose `.skipped` is an integer.
function divergence.counters(objects)
  local counters = {}
  for _, object in pairs(objects) do
    if skipped(object) then counters[#counters + 1] = object end
  end
  return counters
end

--- The total of steps that they have skipped. Waits for their device.
function divergence.skipped(counters)
  local sum = 0
  for _, object in ipairs(counters) do sum = sum + (skipped(object) or 0) end
  return sum
end

local function is_network(object)
  local ok, method = pcall(function() return object.named_parameters end)
  return ok and method ~= nil
end

local function is_finite(tensor)
  local _ <close> = core.autograd.no_grad()
  local finite <close> = tensor:isfinite()
  local all <close> = finite:all()
  return all:item() ~= 0
end

-- "net.bn1.running_mean": the first tensor by name that is not finite.
local function broken(states)
  local found
  for prefix, object in pairs(states) do
    for name, tensor in pairs(is_network(object) and object:state_dict() or {}) do
      local full = prefix .. "." .. name
      if (not found or full < found) and not is_finite(tensor) then found = full end
    end
  end
  return found
end

local Watch = {}
Watch.__index = Watch

--- watch(counters): starts to watch, at the start of an epoch.
function divergence.watch(counters)
  local before = {}
  for i, object in ipairs(counters) do before[i] = skipped(object) or 0 end
  return setmetatable({ counters = counters, before = before }, Watch)
end

--- The problem, or nil. `steps`: the number since the watch began, to compare with the steps that each counter skipped.
-- states: {name = object}; its networks are checked only if a step was skipped.
function Watch:problem(states, steps)
  local sum = 0
  for i, object in ipairs(self.counters) do
    local count = (skipped(object) or 0) - self.before[i]
    if count > 0 and count == steps then
      local what = core.autograd.precision() == "fp16" and "the loss or a gradient" or "the loss"
      return ("%s was not finite in any of %d steps"):format(what, steps)
    end
    sum = sum + count
  end
  if sum == 0 then return nil end
  local name = broken(states)
  return name and ("'%s' is not finite, and %d steps were skipped"):format(name, sum)
end

return divergence
