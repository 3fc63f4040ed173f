--- InfoMin + CLD on ImageNet (Wang, Liu and Yu, CVPR 2021; InfoMin: Tian et al., NeurIPS 2020). The defaults are the
-- published settings: 100 epochs of batch 512. The authors report a top-1 of 70.1 for a linear classifier (linear.lua
-- --protocol infomin), and 71.5 after 200 epochs (--epochs 200); their code enqueues the keys twice per step
-- (--double-enqueue). For InfoMin itself, with 67.4 after 100 epochs on eight GPUs with 32 images each, use --lambda 0
-- --queries 1 --batch-size 256 --block 32 --lr 0.03 --head mlp.
--
--   cldlua recipes/imagenet_infomin_cld.lua --data /imagenet [--accumulate 4]    -- less memory, the same result
local cld = require "cld"

-- The settings specific to ImageNet. Recipes for other images run this file with their own (cld.run.recipe).
local task = cld.run.task {
  about = "InfoMin + CLD on ImageNet",
  options = { cld.options.imagenet, cld.options.view { size = 224 } },
  sets = function(opt)
    local sets, colours = cld.data.splits(opt), cld.augment.statistics.imagenet
    sets.views = cld.augment.infomin { size = opt.size, mean = colours.mean, std = colours.std }
    sets.patches = cld.augment.infomin_jigsaw { view = opt.size, mean = colours.mean, std = colours.std }
    return sets
  end,
}

local opt = cld.options {
  about = task.about,
  task.options,
  cld.options.resnet { arch = "resnet50", head = "norm_mlp", dim = 128 },
  cld.options.infomin { queue = 65536, moco_t = 0.15, moco_m = 0.999, queries = 2, beta = 0.5 },
  cld.options.cld { lambda = 0.25, clusters = 120, iterations = 5, cld_t = 0.8 },
  cld.options.blocks { block = 64 },
  cld.options.sgd { batch_size = 512, lr = 0.2, lr_at = 0, weight_decay = 1e-4 },
  cld.options.schedule { epochs = 100, schedule = "infomin" },
  cld.options.knn { knn_every = 0 }, cld.options.training,
}

local run    = cld.run(opt)
cld.options.check_infomin(opt)
local sets   = task.sets(opt)
cld.options.check_moco_v2_images(opt, #sets.train)
local views  = {}                                              -- of an image: the queries', the key's, the patches
for v = 1, opt.queries + 1 do views[v] = sets.views end
if opt.jigsaw then views[#views + 1] = sets.patches end
local loader = cld.data.loader {
  sets.train, batch_size = opt.batch_size, views = views, seed = opt.seed, drop_last = opt.last == "drop",
  workers = opt.workers, device = opt.device, dtype = "auto", block = opt.block,
}
local queue  = cld.losses.moco_queue {
  size = opt.queue, dim = opt.dim, temperature = opt.moco_t, init = "normal", device = opt.device,
}
local net    = cld.models[opt.arch] {
  layout = "infomin", head = opt.head, dim = opt.dim, width = opt.width, small = opt.small, jigsaw = opt.jigsaw,
  branches = opt.lambda > 0 and { "instance", "group" } or { "instance" },
}:to(opt.device)
local keys   = net:clone()                                     -- the momentum encoder: a moving average of net
local infomin = cld.losses.infomin { queue = queue, beta = opt.beta, double_enqueue = opt.double_enqueue }
local groups  = cld.losses.cld_settings(opt)
local sgd     = cld.optim.sgd(net:parameters(), { momentum = opt.momentum, weight_decay = opt.weight_decay })
local lr      = cld.schedule.from_options(opt, #loader)

-- Runs the query views and the patches of some whole blocks of the batch (`part`, from cld.nn.blocks) through net.
local function encode(batch, order, part)
  local rows, queries = { { part.first, part.first + part.count - 1 } }, {}
  for v = 1, opt.queries do queries[v] = batch[v][rows] end
  local settings = { block = opt.block, done = part.done, total = part.total, after = order and 1 or 0 }
  local q, g = net:each(queries, settings)
  if not order then return rows, q, g end
  local patches = batch[opt.queries + 2][{ { 9 * part.done + 1, 9 * (part.done + part.count) } }]
  settings.unit, settings.before, settings.after = 9, opt.queries, 0
  local jigsaw = cld.nn.each(function(x) return net:jigsaw(x, order[rows]) end, { patches }, settings)
  return rows, q, g, jigsaw[1]
end

-- The part's loss, the values to log, and the queries' features.
local function losses(key, part, rows, q, g, jigsaw)
  local instance = infomin:loss(q[1], q[2], jigsaw, key[rows], part) -- the step enqueues the keys
  if not g then return instance, { instance = instance }, q end
  local group, hit, empty = cld.losses.cld(g[1], g[2], groups)
  return instance + opt.lambda * group,
    { instance = instance, cld = group, group_accuracy = hit, empty_groups = empty }, q
end

local step = cld.graph(function(batch, rate)
  local parts = cld.nn.blocks(#batch[1], { block = opt.block, groups = opt.accumulate })
  local shuffled = cld.nn.shuffle(keys, batch[opt.queries + 1], { block = opt.block, groups = opt.accumulate })
  local order = opt.jigsaw and net.orders(#batch[1], opt.device) or nil
  sgd:begin()
  local rows, q, g, jigsaw = encode(batch, order, parts[1])    -- while the keys' images arrive from nearby ranks
  local key = cld.no_grad(function() return (shuffled()) end)
  local told = cld.diagnostics.over_parts(key)
  for i, part in ipairs(parts) do
    if i > 1 then rows, q, g, jigsaw = encode(batch, order, part) end
    local loss, values, features = losses(key, part, rows, q, g, jigsaw)
    sgd:add(loss, part.count / #key, { last = part.last })
    told:add(values, features, part.count)
  end
  local made = sgd:finish { lr = rate, grad_norm = true }      -- 0 if a loss was not finite: then nothing changes
  cld.optim.ema(keys, net, opt.moco_m, made)                   -- after the step; MoCo v2 does this before it
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
