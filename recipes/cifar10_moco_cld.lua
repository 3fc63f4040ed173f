--- MoCo + CLD on CIFAR-10 (Wang, Liu and Yu, CVPR 2021; He et al., "Momentum Contrast", CVPR 2020). The paper reports a
-- kNN top-1 of 87.5, and 82.1 without CLD (--lambda 0).
--
--   cldlua recipes/cifar10_moco_cld.lua --data ./data
local cld = require "cld"

local opt = cld.options {
  about = "MoCo + CLD on CIFAR; kNN accuracy after every epoch",
  { "dataset",       "cifar10", "which data set", choices = { "cifar10", "cifar100" } },
  { "data",          "./data",  "folder that holds it", nonempty = true },
  { "layout",        "auto",    "its files", choices = { "auto", "python", "binary" } },
  { "augment",       "plus",    "views: base, or MoCo v2's plus (weaker hue, blur)", choices = { "base", "plus" } },
  { "erasing",       true,      "random erasing of every view" },
  { "epochs",        200,       "training epochs", min = 1, max = 1000000 },
  { "batch-size",    256,       "images per step; the last step of an epoch takes what is left", min = 2, max = 65536 },
  -- the encoder
  { "arch",          "resnet18", "encoder", choices = { "resnet18", "resnet34", "resnet50" } },
  { "width",         64,        "channels of the first stage", min = 1, max = 4096 },
  { "low-dim",       128,       "dimension of the features", min = 1, max = 65536 },
  { "norm-linear",   true,      "NormLinear heads instead of Linear" },
  -- instance branch: MoCo
  { "queue",         12288,     "keys in the queue: the negatives", min = 1, max = 16777216 },
  { "moco-t",        0.07,      "temperature", above = 0 },
  { "moco-m",        0.999,     "momentum of the key encoder", min = 0, max = 1 },
  -- group branch: CLD
  { "lambda",        0.8,       "weight of the CLD loss; 0 is plain MoCo", min = 0 },
  { "clusters",      200,       "k-means groups per batch and view", min = 1, max = 65536 },
  { "iterations",    5,         "k-means iterations", min = 1, max = 1000 },
  { "cld-t",         0.2,       "temperature", above = 0 },
  { "detach-centroids", false,  "no gradient through the centroids" },
  -- optimization
  { "lr",            0.03,      "learning rate at batch size 128, scaled linearly", above = 0 },
  { "schedule",      "cosine",  "learning rate over time", choices = { "cosine", "step" } },
  { "warmup-epochs", 5,         "epochs of linear warm-up", min = 0 },
  { "warmup-factor", 100,       "the warm-up starts at lr divided by this", min = 1 },
  { "lr-min",        1e-6,      "where the cosine ends", min = 0 },
  { "milestones",    "120,160", "epochs at which --schedule step takes the rate times gamma",
    value = "integers" },
  { "gamma",         0.1,       "its factor", min = 0 },
  { "momentum",      0.9,       "SGD momentum", min = 0, max = 1 },
  { "weight-decay",  8e-4,      "SGD weight decay", min = 0 },
  -- evaluation
  { "knn-k",         200,       "neighbours that vote", min = 1 },
  { "knn-t",         0.1,       "temperature of their votes", above = 0 },
  cld.options.training,
}

local run    = cld.run(opt)
local train  = cld.data[opt.dataset] { root = opt.data, split = "train", layout = opt.layout }
local test   = cld.data[opt.dataset] { root = opt.data, split = "test", layout = opt.layout }
local loader = cld.data.loader {
  train, batch_size = opt.batch_size, views = 3, augment = cld.augment[opt.augment] { erasing = opt.erasing },
  seed = opt.seed, workers = opt.workers, device = opt.device, dtype = "auto",
}
local encoder = cld.models[opt.arch .. "_cifar"]
local shape  = { low_dim = opt.low_dim, width = opt.width, norm_linear = opt.norm_linear }
local net    = encoder(shape):to(opt.device)
local keys   = encoder(shape):to(opt.device)                -- the momentum encoder: net's average over time
keys:load_state_dict(net:state_dict())
local queue  = cld.losses.moco_queue {
  size = opt.queue, dim = opt.low_dim, temperature = opt.moco_t, device = opt.device,
}
local sgd    = cld.optim.sgd(net:parameters(), { momentum = opt.momentum, weight_decay = opt.weight_decay })
local lr     = cld.schedule.from_options(opt, #loader)

local step = cld.graph(function(views, rate)
  local q1, g1 = net(views[1])
  local q2, g2 = net(views[2])
  local k = cld.no_grad(function() return (keys(views[3])) end)
  local loss = (queue:loss(q1, k) + queue:loss(q2, k)) / 2
  local means = { instance = loss }
  if opt.lambda > 0 then
    means.cld, means.group_accuracy = cld.losses.cld(g1, g2, {
      clusters = opt.clusters, iterations = opt.iterations, temperature = opt.cld_t,
      detach_centroids = opt.detach_centroids,
    })
    loss = loss + opt.lambda * means.cld
  end
  local made = sgd:step(loss, { lr = rate })                -- 0 where the loss is not finite: nothing changes then
  cld.optim.ema(keys, net, opt.moco_m, made)
  queue:enqueue(k, made)
  return means
end, { enabled = opt.graph, device = opt.device })

for epoch in run:epochs { net = net, keys = keys, queue = queue, sgd = sgd, loader = loader } do
  for batch in loader:epoch(epoch) do
    run:track(step(batch.views, lr(run.step)))
  end
  run:score(cld.eval.knn { net = net, memory = train, queries = test, k = opt.knn_k, temperature = opt.knn_t })
end
