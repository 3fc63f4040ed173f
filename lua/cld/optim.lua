--- Optimizers. The steps and their equations are in C (runtime/optim/{sgd,lars,adam}.c); this file splits modules into
-- their parameters.
--
--   local sgd = cld.optim.sgd(net:parameters(), { lr = 0.03, momentum = 0.9, weight_decay = 5e-4 })
--   sgd:zero_grad(); loss:backward(); sgd:step()      -- as in PyTorch, or all three at once:
--   local made = sgd:step(loss, { lr = 0.02 })        -- skips, and counts in sgd.skipped, a loss that is not finite
--
--   sgd:begin()                                       -- a step from several losses, whose gradients add up:
--   for i, part in ipairs(parts) do sgd:add(loss(part), #part / n, { last = i == #parts }) end
--   local made = sgd:finish { lr = 0.02, clip = 1 }
local caller = require "cld.caller"
local core = require "cld.core"
local user_error = require "cld.user_error"
local functional = core.optim

local optim = {}

local function is_module(value) return type(value) == "table" and value.named_parameters ~= nil end

-- The table's fields with names, in order.
local function named(list)
  local names = {}
  for key in pairs(list) do
    if type(key) == "string" then names[#names + 1] = key end
  end
  table.sort(names)
  return names
end

-- A list of tensors, or a module's parameters.
local function listed(name, params)
  if is_module(params) then return params:parameters() end
  if type(params) ~= "table" then
    caller.raise("%s: expected a list of tensors or a module, got %s%s", name, caller.shown(params),
      core.tensor.is_tensor(params) and "; a list of one is {tensor}" or "")
  end
  local field = named(params)[1]
  if field then
    caller.raise("%s: the list of parameters has a field '%s'; settings are a table of their own after it, and a group"
      .. " is an entry of a list, {{params = ...}}", name, field)
  end
  return params
end

local function check_group(name, i, group)
  if type(group) ~= "table" or is_module(group) then
    caller.raise("%s: group %d is %s; expected {params =, settings}", name, i,
      is_module(group) and "a module" or caller.shown(group))
  elseif group.params == nil then
    local has = ""
    for _, key in ipairs(named(group)) do
      if user_error.hint(key, { "params" }) ~= "" then has = (", and has '%s'"):format(key) end
    end
    caller.raise("%s: group %d lacks its list 'params'%s", name, i, has)
  end
end

-- Turns {{params =, settings...}, ...} into one list of tensors and {{number of them, settings...}, ...}.
local function flattened(name, groups)
  local all, settings = {}, {}
  for i, group in ipairs(groups) do
    check_group(name, i, group)
    local params = listed(("%s: group %d"):format(name, i), group.params)
    table.move(params, 1, #params, #all + 1, all)
    settings[i] = { #params }
    for _, key in ipairs(named(group)) do
      if key ~= "params" then settings[i][key] = group[key] end
    end
  end
  return all, settings
end

--- cld.optim.lars(params[, {lr =, momentum = 0.9, eta = 0.001, weight_decay = 0, adapt = true}]) -> optimizer: scales
-- each tensor's gradient g + weight_decay w by eta |w| / |g|. A group with adapt = false, for biases and norms, uses g
-- unscaled and without decay (cld.optim.no_decay makes such groups). You et al., 2017, as used by Grill et al., 2020
-- (BYOL).
--- cld.optim.adam(params[, {lr =, betas = {0.9, 0.999}, eps = 1e-8, weight_decay = 0}]) -> optimizer: like
-- torch.optim.Adam: the decay is part of the gradient. Kingma and Ba, ICLR 2015.
--- cld.optim.adamw(params[, {lr =, betas = {0.9, 0.999}, eps = 1e-8, weight_decay = 0.01}]) -> optimizer: like
-- torch.optim.AdamW, without amsgrad. Loshchilov and Hutter, ICLR 2019.
--- cld.optim.sgd(params[, {lr =, momentum = 0, dampening = 0, nesterov = false, weight_decay = 0}]) -> optimizer: like
-- torch.optim.SGD. params, here and for the others, is a module, a list of tensors, or a list of groups {params =,
-- settings that differ...}. A group may also have lr_factor = 1, which multiplies its rate, including a rate given to
-- a step.
--
--     local net = cld.nn.linear(2, 1)
--     local sgd = cld.optim.sgd(net, { lr = 0.1, momentum = 0.9 })
--     sgd:step(net(cld.ones(4, 2)):square():mean())    -- zero_grad, backward and step in one
--     print(sgd.skipped)                        --> 0
for name, new in pairs(functional.rules) do
  optim[name] = function(params, settings)
    params = listed(name, params)
    if type(params[1]) == "table" then
      local all, groups = flattened(name, params)
      return caller.call(name, new, all, settings, groups)
    end
    return caller.call(name, new, params, settings, { { #params } })
  end
end

--- cld.optim.from_options(net, opt) -> optimizer: the optimizer of a recipe's options: momentum and weight_decay of
-- cld.options.sgd, and the kind from cld.options.optimizer. LARS leaves biases and norms out (no_decay), as in Grill
-- et al., 2020, and Chen et al., 2020 (SimCLR); SGD decays all. net is a module, or a list of tensors.
function optim.from_options(net, opt)
  local settings = { momentum = opt.momentum, weight_decay = opt.weight_decay }
  if rawget(opt, "optimizer") ~= "lars" then return optim.sgd(net, settings) end
  settings.eta = opt.lars_eta
  return optim.lars(optim.no_decay(net), settings)
end

--- cld.optim.no_decay(net) -> groups: two groups for an optimizer, {params = tensors of at least two dimensions} and
-- {params = biases and norms, weight_decay = 0, adapt = false}, each in the order of registration; an empty group is
-- left out. net is a module, or a list of tensors.
--
--     local net = cld.nn.linear(4, 2)
--     local sgd = cld.optim.sgd(cld.optim.no_decay(net), { lr = 0.1, weight_decay = 1e-4 })
--     print(#sgd.groups, sgd.groups[2].weight_decay)  --> 2 0.0
function optim.no_decay(net)
  local params = listed("no_decay", net)
  local wide, narrow = { params = {} }, { params = {}, weight_decay = 0, adapt = false }
  for i, param in ipairs(params) do
    if not core.tensor.is_tensor(param) then
      caller.raise("no_decay: entry %d of the list is %s, not a tensor", i, caller.shown(param))
    end
    local list = (#param.shape >= 2 and wide or narrow).params
    list[#list + 1] = param
  end
  local groups = {}
  for _, group in ipairs { wide, narrow } do
    if #group.params > 0 then groups[#groups + 1] = group end
  end
  return groups
end

--- cld.optim.clip_grad_norm(params, max_norm) -> norm: the gradients of params (a list of tensors, or a module) are
-- scaled in place if their common norm exceeds max_norm, like torch.nn.utils.clip_grad_norm_. The result is the norm
-- before scaling, as a tensor of no dimension; nothing waits for it. This is for gradients that already exist: if an
-- optimizer's step makes them, use its `clip`.
function optim.clip_grad_norm(params, max_norm)
  local list = listed("clip_grad_norm", params)
  if type(max_norm) ~= "number" then
    caller.raise("clip_grad_norm: max_norm, the largest norm, is %s; expected a number above 0", caller.shown(max_norm))
  end
  return caller.call("clip_grad_norm", functional.clip_grad_norm, list, max_norm)
end

-- The parameters of the target and the source with the same names, as two lists.
local function matched(target, source)
  local targets, sources, others = {}, {}, {}
  for name, tensor in source:named_parameters() do others[name] = tensor end
  for name, tensor in target:named_parameters() do
    if not others[name] then caller.raise("ema: the source has no parameter '%s'", name) end
    targets[#targets + 1], sources[#sources + 1] = tensor, others[name]
  end
  return targets, sources
end

--- cld.optim.ema(target, source, decay[, made]): target = decay * target + (1 - decay) * source, in place, for every
-- parameter of the target. Both are modules (matched by name: the source may have others too, as BYOL's online network
-- has its group branch; buffers do not change) or lists of tensors. decay 0 copies. decay is a number from 0 to 1, or
-- a tensor of one element, which is read on the parameters' device: a captured step takes it as an argument, and so can
-- follow a schedule. made is the result of optimizer:step: if it is 0, nothing changes.
--
-- MoCo v2 updates its key encoder before the step, ahead of the keys' forward, and so without `made`; BYOL updates its
-- target after the step, with `made`.
--
--     local net = cld.nn.linear(2, 2)
--     local key = net:clone()
--     net.weight:detach():add_(1)
--     cld.optim.ema(key, net, 0)
--     print(key.weight:allclose(net.weight))    --> true
function optim.ema(target, source, decay, made)
  if is_module(target) ~= is_module(source) then
    local function shown(value) return is_module(value) and "a module" or caller.shown(value) end
    caller.raise("ema: the target is %s and the source %s; expected two modules, or two lists of tensors",
      shown(target), shown(source))
  end
  if is_module(target) then target, source = matched(target, source) end
  target, source = listed("ema: target", target), listed("ema: source", source)
  caller.call("ema", functional.ema, target, source, decay, made)
end

return optim
