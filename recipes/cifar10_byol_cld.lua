--- BYOL + CLD on CIFAR-10 (BYOL: Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020; CLD: Wang, Liu and Yu, CVPR
-- 2021, whose authors announced the combination and released no code of it). BYOL's settings are those of lightly's
-- CIFAR-10 benchmark, which reports a kNN top-1 of 86.9 (batch 128) and 86.8 (512) without CLD (--lambda 0); batch 256
-- and the settings of CLD are ours.
--
--   cldlua recipes/cifar10_byol_cld.lua --data ./data
local cld = require "cld"

-- The settings specific to CIFAR. Recipes for other images run this file with their own (cld.run.recipe).
local task = cld.run.task {
  about = "BYOL + CLD on CIFAR; kNN accuracy after every epoch",
  options = {
    cld.options.cifar,
    { "augment", "byol", "views: byol, the two of BYOL; or base, CLD's, of any hue", choices = { "byol", "base" } },
  },
  encoder = { cld.options.encoder { norm_linear = true } },
  sets = function(opt)
    local sets, colours = cld.data.splits(opt), cld.augment.statistics.cifar
    local given = { size = 32, mean = colours.mean, std = colours.std }
    sets.views = { cld.augment.byol_1(given), cld.augment.byol_2(given) }
    if opt.augment == "base" then sets.views = { cld.augment.base(given), cld.augment.base(given) } end
    return sets
  end,
  network = cld.models.from_options,                           -- is called with opt and {projector =, branches =}
}

local opt = cld.options {
  about = task.about,
  task.options,
  task.encoder,
  cld.options.byol { hidden = 1024, projection_dim = 256, tau = 0.99, tau_schedule = "constant", byol_scale = 1 },
  cld.options.cld { lambda = 0.25, clusters = 128, cld_t = 0.2 },
  cld.options.micro_batches { cld_rows = "batch", last = "keep" },
  cld.options.sgd { batch_size = 256, lr = 0.06, weight_decay = 5e-4 },
  cld.options.optimizer { optimizer = "sgd" },
  cld.options.schedule { epochs = 200, warmup_epochs = 0, lr_min = 0 },
  cld.options.knn, cld.options.training,
}

local run    = cld.run(opt)
local sets   = task.sets(opt)
cld.options.check_byol(opt, #sets.train)
local loader = cld.data.loader {
  sets.train, batch_size = opt.batch_size, views = sets.views, seed = opt.seed, drop_last = opt.last == "drop",
  workers = opt.workers, device = opt.device, dtype = "auto", block = -(-opt.batch_size // opt.accumulate),
}
local function encoder(...)                                    -- trunk, projector and, if named, the group branch
  local projector = { hidden = opt.hidden, dim = opt.projection_dim }
  return task.network(opt, { projector = projector, branches = { ... } }):to(opt.device)
end
local predictor = cld.nn.projector(opt.projection_dim, opt.hidden, opt.projection_dim):to(opt.device)
local net       = encoder("instance", opt.lambda > 0 and "group" or nil)
local target    = encoder "instance"                           -- a moving average of net
cld.optim.ema(target, net, 0)                                  -- starts as a copy
local optimizer = cld.optim.from_options(cld.nn.module_list(net, predictor), opt)
local groups    = cld.losses.cld_settings(opt)
local lr        = cld.schedule.from_options(opt, #loader)
local tau       = cld.schedule.constant { base = opt.tau }
if opt.tau_schedule == "cosine" then tau = cld.schedule.byol_tau { base = opt.tau, steps = opt.epochs * #loader } end

-- For a part of the batch (from cld.nn.blocks): the loss, the values to log, and the projections of both views.
local function losses(views, part)
  local rows = { { part.first, part.first + part.count - 1 } }
  local given = { block = part.block, done = part.done, total = part.total }
  local images = { views[1][rows], views[2][rows] }
  local z, g = net:each(images, given)
  local p = predictor:each(z, given)
  local t = cld.no_grad(function() return (target:each(images, given)) end)
  local loss = cld.losses.byol(p[1], p[2], t[1], t[2], opt.byol_scale)
  local values = { instance = loss }
  if opt.lambda > 0 then
    values.cld, values.group_accuracy, values.empty_groups =
      cld.losses.cld(g[1]:normalize(), g[2]:normalize(), groups, part)
    loss = loss + opt.lambda * values.cld
  end
  return loss, values, { z[1]:detach():normalize(), z[2]:detach():normalize() }
end

local step = cld.graph(function(views, rate, momentum)
  local images = #views[1]
  local told = cld.diagnostics.over_parts(images)
  optimizer:begin()
  for _, part in ipairs(cld.nn.blocks(images, { count = opt.accumulate, groups = opt.accumulate })) do
    local loss, values, z = losses(views, part)
    optimizer:add(loss, part.count / images, { last = part.last })
    told:add(values, z, part.count)
  end
  local made = optimizer:finish { lr = rate, grad_norm = true } -- 0 if a loss was not finite: then nothing changes
  cld.optim.ema(target, net, momentum, made)
  return told:means { grad_norm = optimizer.grad_norm }
end, { enabled = opt.graph, device = opt.device })

run:describe { test_view = sets.test_view, layer = "features" }
for epoch in run:epochs { net = net, predictor = predictor, target = target, optimizer = optimizer, loader = loader } do
  for batch in loader:epoch(epoch) do
    local rate, momentum = lr(run.step), tau(run.step)
    run:track(step(batch.views, rate, momentum), { lr = rate, tau = momentum })
  end
  run:evaluate(net, sets)
end
