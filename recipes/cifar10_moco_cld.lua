--- MoCo + CLD on CIFAR-10 (Wang, Liu and Yu, CVPR 2021; He et al., "Momentum Contrast", CVPR 2020). The paper reports a
-- kNN top-1 of 87.5, and 82.1 without CLD (--lambda 0).
--
--   cldlua recipes/cifar10_moco_cld.lua --data ./data
local cld = require "cld"

-- The settings specific to CIFAR. Recipes for other images run this file with their own (cld.run.recipe).
local task = cld.run.task {
  about = "MoCo + CLD on CIFAR; kNN accuracy after every epoch",
  options = {
    cld.options.cifar,
    { "augment", "plus", "views: base, or MoCo v2's plus (weaker hue, blur)", choices = { "base", "plus" } },
    { "erasing", true,   "random erasing of every view" },
  },
  sets = function(opt)
    local sets = cld.data.splits(opt)
    sets.views = cld.augment[opt.augment] { erasing = opt.erasing }
    return sets
  end,
}

local opt = cld.options {
  about = task.about,
  task.options,
  cld.options.encoder { norm_linear = true },
  cld.options.moco { queue = 12288, moco_t = 0.07, moco_m = 0.999 },
  cld.options.cld { lambda = 0.8, clusters = 200, cld_t = 0.2 },
  cld.options.sgd { batch_size = 256, lr = 0.03, weight_decay = 8e-4 },
  cld.options.schedule { epochs = 200, warmup_epochs = 5 },
  cld.options.knn,
  cld.options.training,
}

local run    = cld.run(opt)
cld.options.check_queue(opt)
local sets   = task.sets(opt)
local loader = cld.data.loader {
  sets.train, batch_size = opt.batch_size, views = 3, augment = sets.views,
  seed = opt.seed, workers = opt.workers, device = opt.device, dtype = "auto",
}
local net    = cld.models.from_options(opt):to(opt.device)
local keys   = cld.models.from_options(opt):to(opt.device)  -- the momentum encoder: a moving average of net
keys:load_state_dict(net:state_dict())
local queue  = cld.losses.moco_queue {
  size = opt.queue, dim = opt.low_dim, temperature = opt.moco_t, device = opt.device,
}
local groups  = cld.losses.cld_settings(opt)
local sgd    = cld.optim.sgd(net:parameters(), { momentum = opt.momentum, weight_decay = opt.weight_decay })
local lr     = cld.schedule.from_options(opt, #loader)

local step = cld.graph(function(views, rate)
  local q, g = net:each { views[1], views[2] }
  local k = cld.no_grad(function() return (keys(views[3])) end)
  local loss = (queue:loss(q[1], k) + queue:loss(q[2], k)) / 2
  local means = cld.diagnostics.views(q[1], q[2])            -- alignment and uniformity
  means.instance = loss
  if opt.lambda > 0 then
    means.cld, means.group_accuracy, means.empty_groups = cld.losses.cld(g[1], g[2], groups)
    loss = loss + opt.lambda * means.cld
  end
  local made = sgd:step(loss, { lr = rate, grad_norm = true }) -- 0 if the loss was not finite: then nothing changes
  cld.optim.ema(keys, net, opt.moco_m, made)
  queue:enqueue(k, made)
  means.grad_norm = sgd.grad_norm
  return means
end, { enabled = opt.graph, device = opt.device })

run:describe { test_view = sets.test_view, layer = "instance" }
for epoch in run:epochs { net = net, keys = keys, queue = queue, sgd = sgd, loader = loader } do
  for batch in loader:epoch(epoch) do
    local rate = lr(run.step)
    run:track(step(batch.views, rate), { lr = rate })
  end
  run:evaluate(net, sets)
end
