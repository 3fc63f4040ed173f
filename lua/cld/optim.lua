--- Optimizers. The steps are C (runtime/optim); here modules are taken apart into their parameters.
--
--   local sgd = cld.optim.sgd(net:parameters(), { lr = 0.03, momentum = 0.9, weight_decay = 5e-4 })
--   sgd:zero_grad(); loss:backward(); sgd:step()      -- as in PyTorch, or all three at once:
--   sgd:step(loss, { lr = 0.02 })                     -- skips, and counts in sgd.skipped, a loss that is not finite
local functional = require("cld.core").optim

local optim = {}

local function is_module(value) return type(value) == "table" and value.named_parameters ~= nil end

--- sgd(params, {lr, momentum = 0, weight_decay = 0, dampening = 0, nesterov = false}): params is a list of tensors
-- or a module. PyTorch's form: g = grad + weight_decay * w; buf = momentum * buf + (1 - dampening) * g, the first time
-- g itself; w = w - lr * buf.
--
-- :step([{lr =}]) applies the gradients at hand; parameters without one stay. :step(loss[, {lr =}]) is zero_grad,
-- backward and step, and returns whether it was made. :zero_grad(), :state_dict(), :load_state_dict(state).
-- The state holds the momentum of parameter i as "momentum.<i>".
function optim.sgd(params, options)
  return functional.sgd(is_module(params) and params:parameters() or params, options)
end

-- Two modules' parameters as two lists in the same order, by name.
local function matched(target, source)
  local targets, sources, others = {}, {}, {}
  for name, tensor in source:named_parameters() do others[name] = tensor end
  for name, tensor in target:named_parameters() do
    if not others[name] then error(("ema: the source has no parameter '%s'"):format(name), 3) end
    targets[#targets + 1], sources[#sources + 1] = tensor, others[name]
    others[name] = nil
  end
  local extra = next(others)
  if extra then error(("ema: the target has no parameter '%s'"):format(extra), 3) end
  return targets, sources
end

--- ema(target, source, decay): target = decay * target + (1 - decay) * source, in place, for every parameter. Both are
-- modules (matched by name; buffers are left alone) or lists of tensors.
function optim.ema(target, source, decay)
  if is_module(target) and is_module(source) then target, source = matched(target, source) end
  functional.ema(target, source, decay)
end

return optim
