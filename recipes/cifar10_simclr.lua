--- SimCLR on CIFAR-10 (Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML
-- 2020); --lambda 0.25 adds CLD (Wang, Liu and Yu, CVPR 2021). These settings follow the command that SimCLR's code
-- gives for CIFAR-10: ResNet-18, 1000 epochs of batch 512, LARS at a rate of 1 per 256 images with 10 epochs of
-- warm-up, decay 1e-4, jitter of strength 0.5, no blur, temperature 0.5; they report a linear top-1 of about 91. Our
-- own are the projector's layers (cld.nn.projector), the normalisation of images, keeping the last, smaller batch, and
-- CLD.
--
--   cldlua recipes/cifar10_simclr.lua --data ./data
local cld = require "cld"

-- The settings specific to CIFAR. Recipes for other images run this file with their own (cld.run.recipe).
local task = cld.run.task {
  about = "SimCLR on CIFAR; kNN accuracy after every epoch",
  options = {
    cld.options.cifar,
    { "augment", "simclr", "views: simclr, or base, CLD's, of any hue", choices = { "simclr", "base" } },
  },
  sets = function(opt)
    local sets = cld.data.splits(opt)
    sets.views = opt.augment == "base" and cld.augment.base {} or cld.augment.list {
      cld.augment.random_resized_crop { size = 32, scale = { 0.08, 1 } },
      cld.augment.flip(),
      cld.augment.color_jitter { brightness = 0.4, contrast = 0.4, saturation = 0.4, hue = 0.1, p = 0.8 },
      cld.augment.random_grayscale { p = 0.2 },
      cld.augment.normalize(cld.augment.statistics.cifar),
    }
    return sets
  end,
}

local opt = cld.options {
  about = task.about,
  task.options,
  cld.options.encoder { norm_linear = true },
  cld.options.simclr { hidden = 512, projection_dim = 128, simclr_t = 0.5 },
  cld.options.cld { lambda = 0, clusters = 256, cld_t = 0.2 },
  cld.options.sgd { batch_size = 512, lr = 1, lr_at = 256, weight_decay = 1e-4 },
  cld.options.optimizer { optimizer = "lars" },
  cld.options.schedule { epochs = 1000, warmup_epochs = 10, warmup_factor = 0, lr_min = 0 },
  cld.options.knn,
  cld.options.training,
}

local run    = cld.run(opt)
local sets   = task.sets(opt)
local loader = cld.data.loader {
  sets.train, batch_size = opt.batch_size, views = 2, augment = sets.views,
  seed = opt.seed, workers = opt.workers, device = opt.device, dtype = "auto",
}
local net    = cld.models.from_options(opt, {
  projector = { hidden = opt.hidden, dim = opt.projection_dim },
  branches = { "instance", opt.lambda > 0 and "group" or nil },
}):to(opt.device)
local groups = cld.losses.cld_settings(opt)
local lr     = cld.schedule.from_options(opt, #loader)
local optimizer = cld.optim.from_options(net, opt)

local step = cld.graph(function(views, rate)
  local z, g = net:each(views)                              -- projections of both views, and features for the groups
  local loss = cld.losses.nt_xent(z[1], z[2], opt.simclr_t)
  local means = cld.diagnostics.views(z[1]:detach():normalize(), z[2]:detach():normalize())
  means.instance = loss
  if opt.lambda > 0 then
    means.cld, means.group_accuracy, means.empty_groups = cld.losses.cld(g[1], g[2], groups)
    loss = loss + opt.lambda * means.cld
  end
  optimizer:step(loss, { lr = rate, grad_norm = true })     -- skipped if the loss is not finite
  means.grad_norm = optimizer.grad_norm
  return means
end, { enabled = opt.graph, device = opt.device })

run:describe { test_view = sets.test_view, layer = "features" }
for epoch in run:epochs { net = net, optimizer = optimizer, loader = loader } do
  for batch in loader:epoch(epoch) do
    local rate = lr(run.step)
    run:track(step(batch.views, rate), { lr = rate })
  end
  run:evaluate(net, sets)
end
