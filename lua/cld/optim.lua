--- Optimizers. The steps are C (runtime/optim); here modules are taken apart into their parameters.
--
--   local sgd = cld.optim.sgd(net:parameters(), { lr = 0.03, momentum = 0.9, weight_decay = 5e-4 })
--   sgd:zero_grad(); loss:backward(); sgd:step()      -- as in PyTorch, or all three at once:
--   local made = sgd:step(loss, { lr = 0.02 })        -- skips, and counts in sgd.skipped, a loss that is not finite
local caller = require "cld.caller"
local core = require "cld.core"
local functional = core.optim

local optim = {}

local function is_module(value) return type(value) == "table" and value.named_parameters ~= nil end

-- A list of tensors, or a module's.
local function listed(params) return is_module(params) and params:parameters() or params end

-- {{params =, settings...}, ...} as one list of tensors and {{number of them, settings...}, ...}.
local function flattened(groups)
  local all, settings = {}, {}
  for i, group in ipairs(groups) do
    local params = type(group) == "table" and listed(group.params)
    if type(params) ~= "table" then caller.raise("sgd: group %d lacks its list 'params'", i) end
    table.move(params, 1, #params, #all + 1, all)
    settings[i] = { #params }
    for key, value in pairs(group) do
      if type(key) == "string" and key ~= "params" then settings[i][key] = value end
    end
  end
  return all, settings
end

--- sgd(params, {lr, momentum = 0, weight_decay = 0, dampening = 0, nesterov = false}): params is a list of tensors
-- or a module, or a list of groups {params =, settings that differ...}, whose params are either. PyTorch's form:
-- g = grad + weight_decay * w; buf = momentum * buf + (1 - dampening) * g, the first time g itself; w = w - lr * buf.
--
-- :step([{lr =}]) applies the gradients at hand; parameters without one stay. :step(loss[, {lr =}]) is zero_grad,
-- backward and step. Where the loss is not finite it changes nothing: no parameter, no momentum, no row of a memory
-- bank. Whether it was made is known where the kernels run, and nothing waits for it: what :step returns is a tensor
-- (u8, of no dimension: 1 or 0), for cld.optim.ema and queue:enqueue to go by; to Lua it is always true. sgd.skipped,
-- the number of steps not made, waits for the device. (Of a dampened momentum the first step does too.)
--
-- In the precision fp16, :step(loss) multiplies the loss by sgd.loss_scale, so that small gradients do not vanish, and
-- divides by it in the step: it starts at 65536, doubles after 2000 good steps and is halved where a gradient is not
-- finite, in which case the step is not made and counted as skipped. Until the next step .grad holds the larger values.
--
-- A step's lr, a number or a tensor of one element, is for all groups; a step without one takes the group's, or sgd.lr,
-- which may be assigned. :zero_grad(), :state_dict(), :load_state_dict(state).
-- The state: the momentum of parameter i, counted through all groups, as "momentum.<i>", an empty tensor where it has
-- none yet; "skipped"; and once there was a step in fp16 "loss_scale" and "good_steps".
function optim.sgd(params, options)
  local first = not is_module(params) and type(params) == "table" and params[1]
  if type(first) == "table" then
    local all, groups = flattened(params)
    return caller.call("sgd", functional.sgd, all, options, groups)
  end
  params = listed(params)
  return caller.call("sgd", functional.sgd, params, options, { { type(params) == "table" and #params or 0 } })
end

--- clip_grad_norm(params, max_norm) -> total norm: the gradients of params (a list of tensors, or a module), scaled
-- in place where their common norm exceeds max_norm. The norm before that is a tensor of no dimension.
function optim.clip_grad_norm(params, max_norm)
  local _ <close> = core.autograd.no_grad()
  local grads, squares = {}, {}
  for _, param in ipairs(listed(params)) do
    local grad = param.grad
    if grad then
      local square <close> = grad * grad
      grads[#grads + 1], squares[#squares + 1] = grad, square:sum()
    end
  end
  if #grads == 0 then return core.tensor.zeros({}) end
  local all <close> = core.tensor.stack(squares)
  for _, square in ipairs(squares) do square:close() end
  local sum <close> = all:sum()
  local total = sum:sqrt()
  local scale <close> = (max_norm / (total + 1e-6)):clamp_(nil, 1)
  for _, grad in ipairs(grads) do grad:mul_(scale) end
  return total
end

-- Two modules' parameters as two lists in the same order, by name.
local function matched(target, source)
  local targets, sources, others = {}, {}, {}
  for name, tensor in source:named_parameters() do others[name] = tensor end
  for name, tensor in target:named_parameters() do
    if not others[name] then caller.raise("ema: the source has no parameter '%s'", name) end
    targets[#targets + 1], sources[#sources + 1] = tensor, others[name]
    others[name] = nil
  end
  local extra = next(others)
  if extra then caller.raise("ema: the target has no parameter '%s'", extra) end
  return targets, sources
end

--- ema(target, source, decay[, made]): target = decay * target + (1 - decay) * source, in place, for every parameter.
-- Both are modules (matched by name; buffers are left alone) or lists of tensors. Nothing changes where `made`, what
-- sgd:step returned, is 0.
function optim.ema(target, source, decay, made)
  if is_module(target) and is_module(source) then target, source = matched(target, source) end
  caller.call("ema", functional.ema, target, source, decay, made)
end

return optim
