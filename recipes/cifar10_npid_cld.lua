--- NPID + CLD on CIFAR-10 (Wang, Liu and Yu, "Unsupervised Feature Learning by Cross-Level Instance-Group
-- Discrimination", CVPR 2021). The paper reports a kNN top-1 of 86.7, and 80.8 without CLD (--lambda 0).
--
--   cldlua recipes/cifar10_npid_cld.lua --data ./data
local cld = require "cld"

-- The settings specific to CIFAR. Recipes for other images run this file with their own (cld.run.recipe).
local task = cld.run.task {
  about = "NPID + CLD on CIFAR; kNN accuracy after every epoch",
  options = {
    cld.options.cifar,
    { "augment", "base", "views: base, or MoCo v2's plus (weaker hue, blur)", choices = { "base", "plus" } },
    { "erasing", false,  "random erasing of every view" },
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
  cld.options.encoder,
  cld.options.npid { nce_t = 0.1, nce_k = 0, nce_m = 0.5 },
  cld.options.cld { lambda = 1.0, clusters = 128, cld_t = 0.2 },
  cld.options.sgd { batch_size = 256, lr = 0.03, weight_decay = 7e-4 },
  cld.options.schedule { epochs = 200, warmup_epochs = 5 },
  cld.options.knn,
  cld.options.training,
}

local run    = cld.run(opt)
local sets   = task.sets(opt)
local loader = cld.data.loader {
  sets.train, batch_size = opt.batch_size, views = 2, augment = sets.views,
  seed = opt.seed, workers = opt.workers, device = opt.device, dtype = "auto",
}
local net    = cld.models.from_options(opt):to(opt.device)
local bank   = cld.losses.memory_bank {
  size = #sets.train, dim = opt.low_dim, momentum = opt.nce_m, temperature = opt.nce_t, negatives = opt.nce_k,
  device = opt.device,
}
local groups  = cld.losses.cld_settings(opt)
local sgd    = cld.optim.sgd(net:parameters(), { momentum = opt.momentum, weight_decay = opt.weight_decay })
local lr     = cld.schedule.from_options(opt, #loader)

-- Makes a training step, which computes the loss from two views of the images and passes it to `learn`.
local function stepper(learn)
  return cld.graph(function(views, index, rate)
    local f, g = net:each(views)                            -- features of both views, for the bank and the groups
    local loss = (bank:loss(f[1], index) + bank:loss(f[2], index)) / 2
    local means = cld.diagnostics.views(f[1], f[2])         -- alignment and uniformity
    means.instance = loss
    if opt.lambda > 0 then
      means.cld, means.group_accuracy, means.empty_groups = cld.losses.cld(g[1], g[2], groups)
      loss = loss + opt.lambda * means.cld
    end
    means.grad_norm = learn(loss, rate)
    return means
  end, { enabled = opt.graph, device = opt.device })
end
local train_step = stepper(function(loss, rate)
  sgd:step(loss, { lr = rate, grad_norm = true })
  return sgd.grad_norm
end)
local fill_step  = stepper(function(loss)                   -- updates the bank's rows, not the network
  sgd:zero_grad()
  loss:backward()
  bank:reset_normalizer()                                   -- it must be computed from the filled bank
end)

run:describe { test_view = sets.test_view, layer = "instance" }
for epoch in run:epochs { net = net, bank = bank, sgd = sgd, loader = loader } do
  local step = epoch > opt.fill_epochs and train_step or fill_step
  for batch in loader:epoch(epoch) do
    local rate = lr(run.step)
    run:track(step(batch.views, batch.index, rate), { lr = rate })
  end
  run:evaluate(net, sets)
end
