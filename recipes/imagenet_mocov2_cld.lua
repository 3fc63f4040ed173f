--- MoCo v2 + CLD on ImageNet (Wang, Liu and Yu, CVPR 2021; MoCo v2: Chen et al., 2020). The defaults are the published
-- settings: 200 epochs of batch 512. The authors report a top-1 of 70.0 for a linear classifier. For MoCo v2 itself,
-- with 67.5 on eight GPUs with 32 images each, use --lambda 0 --queries 1 --batch-size 256 --block 32 --lr 0.03 --head
-- mlp.
--
--   cldlua recipes/imagenet_mocov2_cld.lua --data /imagenet [--accumulate 4]     -- less memory, the same result
local cld = require "cld"

-- The settings specific to ImageNet. Recipes for other images run this file with their own (cld.run.recipe).
local task = cld.run.task {
  about = "MoCo v2 + CLD on ImageNet",
  options = { cld.options.imagenet, cld.options.view { size = 224 } },
  sets = function(opt)
    local sets, colours = cld.data.splits(opt), cld.augment.statistics.imagenet
    sets.views = cld.augment.plus { size = opt.size, mean = colours.mean, std = colours.std }
    return sets
  end,
}

local opt = cld.options {
  about = task.about,
  task.options,
  cld.options.resnet { arch = "resnet50", head = "norm_mlp", dim = 128 },
  cld.options.moco_v2 { queue = 65536, moco_t = 0.2, moco_m = 0.999, queries = 2 },
  cld.options.cld { lambda = 0.25, clusters = 120, iterations = 5, cld_t = 0.4, eigenvectors = 100 },
  cld.options.blocks { block = 64 },
  cld.options.sgd { batch_size = 512, lr = 0.2, lr_at = 0, weight_decay = 1e-4 },
  cld.options.schedule { epochs = 200, schedule = "cosine-epochs", warmup_epochs = 0, lr_min = 0 },
  cld.options.knn { knn_every = 0 }, cld.options.training,
}

local run    = cld.run(opt)
cld.options.check_moco_v2(opt)
local sets   = task.sets(opt)
cld.options.check_moco_v2_images(opt, #sets.train)
local loader = cld.data.loader {                               -- views of an image: the queries', then the key's
  sets.train, batch_size = opt.batch_size, views = opt.queries + 1, augment = sets.views, seed = opt.seed,
  drop_last = opt.last == "drop", workers = opt.workers, device = opt.device, dtype = "auto", block = opt.block,
}
local queue  = cld.losses.moco_queue {
  size = opt.queue, dim = opt.dim, temperature = opt.moco_t, init = "normal", device = opt.device,
}
local net    = cld.models[opt.arch] {
  head = opt.head, dim = opt.dim, width = opt.width, small = opt.small,
  branches = opt.lambda > 0 and { "instance", "group" } or { "instance" },
}:to(opt.device)
local keys   = net:clone()                                     -- the momentum encoder: a moving average of net
local groups  = cld.losses.cld_settings(opt)
local sgd    = cld.optim.sgd(net:parameters(), { momentum = opt.momentum, weight_decay = opt.weight_decay })
local lr     = cld.schedule.from_options(opt, #loader)

-- Runs the queries of some whole blocks of the batch (`part`, from cld.nn.blocks) through the network.
local function encode(views, part)
  local rows, queries = { { part.first, part.first + part.count - 1 } }, {}
  for v = 1, opt.queries do queries[v] = views[v][rows] end
  local q, g = net:each(queries, { block = opt.block, normalize = true, done = part.done, total = part.total })
  return rows, q, g
end

-- The loss of these blocks, the values to log, and the queries' features.
local function losses(key, rows, q, g)
  local instance = queue:loss(q[1], key[rows])
  if q[2] then instance = (instance + queue:loss(q[2], key[rows])) / 2 end
  if not g then return instance, { instance = instance }, q end
  local group, hit, empty = cld.losses.cld(g[1], g[2], groups)
  return instance + opt.lambda * group,
    { instance = instance, cld = group, group_accuracy = hit, empty_groups = empty }, q
end

local step = cld.graph(function(views, rate)
  local parts = cld.nn.blocks(#views[1], { block = opt.block, groups = opt.accumulate })
  local shuffled = cld.nn.shuffle(keys, views[#views], { block = opt.block, groups = opt.accumulate })
  cld.optim.ema(keys, net, opt.moco_m)                         -- from the weights before this step, even a skipped one
  sgd:begin()
  local rows, q, g = encode(views, parts[1])                   -- while the keys' images arrive from nearby ranks
  local key = cld.no_grad(function() return shuffled():normalize() end)
  local told = cld.diagnostics.over_parts(key)
  for i, part in ipairs(parts) do
    if i > 1 then rows, q, g = encode(views, part) end
    local loss, values, features = losses(key, rows, q, g)
    sgd:add(loss, part.count / #key, { last = part.last })
    told:add(values, features, part.count)
  end
  local made = sgd:finish { lr = rate, grad_norm = true }      -- 0 if a loss was not finite: then nothing changes
  queue:enqueue(key, made)
  return told:means { grad_norm = sgd.grad_norm }
end, { enabled = opt.graph, device = opt.device })

run:describe { test_view = sets.test_view, layer = "features" }
for epoch in run:epochs { net = net, keys = keys, queue = queue, sgd = sgd, loader = loader } do
  for batch in loader:epoch(epoch) do
    local rate = lr(run.step)
    run:track(step(batch.views, rate), { lr = rate })
  end
  run:evaluate(net, sets)
end
