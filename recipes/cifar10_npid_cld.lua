--- NPID + CLD on CIFAR-10 (Wang, Liu and Yu, "Unsupervised Feature Learning by Cross-Level Instance-Group
-- Discrimination", CVPR 2021). The paper reports a kNN top-1 of 86.7, and 80.8 without CLD (--lambda 0).
--
--   cldlua recipes/cifar10_npid_cld.lua --data ./data
local cld = require "cld"

local opt = cld.options {
  about = "NPID + CLD on CIFAR; kNN accuracy after every epoch",
  { "dataset",       "cifar10", "which data set", choices = { "cifar10", "cifar100" } },
  { "data",          "./data",  "folder that holds it", nonempty = true },
  { "layout",        "auto",    "its files", choices = { "auto", "python", "binary" } },
  { "augment",       "base",    "views: base, or MoCo v2's plus (weaker hue, blur)", choices = { "base", "plus" } },
  { "erasing",       false,     "random erasing of every view" },
  { "epochs",        200,       "training epochs", min = 1, max = 1000000 },
  { "batch-size",    256,       "images per step; the last step of an epoch takes what is left", min = 2, max = 65536 },
  -- the encoder
  { "arch",          "resnet18", "encoder", choices = { "resnet18", "resnet34", "resnet50" } },
  { "width",         64,        "channels of the first stage", min = 1, max = 4096 },
  { "low-dim",       128,       "dimension of the features", min = 1, max = 65536 },
  { "norm-linear",   false,     "NormLinear heads instead of Linear" },
  -- instance branch: NPID
  { "nce-t",         0.1,       "temperature", above = 0 },
  { "nce-k",         0,         "negatives drawn per image; 0 is the full softmax", min = 0, max = 1048576 },
  { "nce-m",         0.5,       "momentum of the memory bank's rows", min = 0, max = 1 },
  -- group branch: CLD
  { "lambda",        1.0,       "weight of the CLD loss; 0 is plain NPID", min = 0 },
  { "clusters",      128,       "k-means groups per batch and view", min = 1, max = 65536 },
  { "iterations",    5,         "k-means iterations", min = 1, max = 1000 },
  { "cld-t",         0.2,       "temperature", above = 0 },
  { "detach-centroids", false,  "no gradient through the centroids" },
  -- optimization
  { "lr",            0.03,      "learning rate at batch size 128, scaled linearly", above = 0 },
  { "schedule",      "cosine",  "learning rate over time", choices = { "cosine", "step" } },
  { "fill-epochs",   0,         "epochs before the warm-up in which only the memory bank learns; fewer than --epochs",
    min = 0 },
  { "warmup-epochs", 5,         "epochs of linear warm-up", min = 0 },
  { "warmup-factor", 100,       "the warm-up starts at lr divided by this", min = 1 },
  { "lr-min",        1e-6,      "where the cosine ends", min = 0 },
  { "milestones",    "120,160", "epochs at which --schedule step takes the rate times gamma",
    value = "integers" },
  { "gamma",         0.1,       "its factor", min = 0 },
  { "momentum",      0.9,       "SGD momentum", min = 0, max = 1 },
  { "weight-decay",  7e-4,      "SGD weight decay", min = 0 },
  -- evaluation
  { "knn-k",         200,       "neighbours that vote", min = 1 },
  { "knn-t",         0.1,       "temperature of their votes", above = 0 },
  cld.options.training,
}

local run    = cld.run(opt)
local train  = cld.data[opt.dataset] { root = opt.data, split = "train", layout = opt.layout }
local test   = cld.data[opt.dataset] { root = opt.data, split = "test", layout = opt.layout }
local loader = cld.data.loader {
  train, batch_size = opt.batch_size, views = 2, augment = cld.augment[opt.augment] { erasing = opt.erasing },
  seed = opt.seed, workers = opt.workers, device = opt.device, dtype = "auto",
}
local net    = cld.models[opt.arch .. "_cifar"] {
  low_dim = opt.low_dim, width = opt.width, norm_linear = opt.norm_linear,
}:to(opt.device)
local bank   = cld.losses.memory_bank {
  size = #train, dim = opt.low_dim, momentum = opt.nce_m, temperature = opt.nce_t, negatives = opt.nce_k,
  device = opt.device,
}
local sgd    = cld.optim.sgd(net:parameters(), { momentum = opt.momentum, weight_decay = opt.weight_decay })
local lr     = cld.schedule.from_options(opt, #loader)

-- A training step: two views of the images to the loss, and what `learn` makes of that.
local function stepper(learn)
  return cld.graph(function(views, index, rate)
    local f1, g1 = net(views[1])
    local f2, g2 = net(views[2])
    local loss = (bank:loss(f1, index) + bank:loss(f2, index)) / 2
    local means = { instance = loss }
    if opt.lambda > 0 then
      means.cld, means.group_accuracy = cld.losses.cld(g1, g2, {
        clusters = opt.clusters, iterations = opt.iterations, temperature = opt.cld_t,
        detach_centroids = opt.detach_centroids,
      })
      loss = loss + opt.lambda * means.cld
    end
    learn(loss, rate)
    return means
  end, { enabled = opt.graph, device = opt.device })
end
local train_step = stepper(function(loss, rate) sgd:step(loss, { lr = rate }) end)
local fill_step  = stepper(function(loss)                   -- renews the bank's rows; the network stays
  sgd:zero_grad()
  loss:backward()
end)

for epoch in run:epochs { net = net, bank = bank, sgd = sgd, loader = loader } do
  local step = epoch > opt.fill_epochs and train_step or fill_step
  for batch in loader:epoch(epoch) do
    run:track(step(batch.views, batch.index, lr(run.step)))
  end
  run:score(cld.eval.knn { net = net, memory = train, queries = test, k = opt.knn_k, temperature = opt.knn_t })
end
