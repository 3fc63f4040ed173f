--- When a training has come to nothing: every step of an epoch was skipped because its loss was not finite, or one was
-- and a network's weights or statistics are not finite either. A single bad step harms nothing and ends nothing.
local core = require "cld.core"

local divergence = {}

--- Steps that the optimizer has skipped, where it counts them.
function divergence.skipped(optimizer)
  local ok, count = pcall(function() return optimizer.skipped end)
  return ok and math.type(count) and count or 0
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

-- "net.bn1.running_mean", the first by name that is not finite.
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

--- watch(optimizer): from an epoch's start on.
function divergence.watch(optimizer)
  return setmetatable({ optimizer = optimizer, before = divergence.skipped(optimizer) }, Watch)
end

--- What is wrong, or nil. `steps`: made since the watch began, all of which may have been skipped; states: {name =
-- object}, of which the networks are looked at once a step was skipped.
function Watch:problem(states, steps)
  local skipped = divergence.skipped(self.optimizer) - self.before
  if skipped == 0 then return nil end
  if skipped == steps then
    local what = core.autograd.precision() == "fp16" and "the loss or a gradient" or "the loss"
    return ("%s was not finite in any of %d steps"):format(what, steps)
  end
  local name = broken(states)
  return name and ("'%s' is not finite, and %d steps were skipped"):format(name, skipped)
end

return divergence
