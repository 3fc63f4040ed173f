--- BYOL + CLD on ImageNet: cifar10_byol_cld.lua's method with the settings of DeepMind's BYOL for 100 epochs (Grill et
-- al., 2020), except that crops are bilinear instead of bicubic. DeepMind uses --lr 0.3 for 300 epochs, and --lr 0.2
-- --tau 0.996 --weight-decay 1.5e-6 for 1000. solo-learn reports a linear top-1 of 68.4 for BYOL (--lambda 0) after 100
-- epochs of batch 2048. The settings of CLD are ours, including that it groups 64 rows at a time, as in MoCo v2 + CLD.
--
--   cldlua recipes/imagenet_byol_cld.lua --data /imagenet --accumulate 16      -- micro-batches of 256
local cld = require "cld"

cld.options.defaults {
  hidden = 4096, projection_dim = 256, tau_schedule = "cosine", byol_scale = 4, lambda = 1, clusters = 120, cld_t = 0.4,
  cld_rows = "block", block = 64, last = "drop", batch_size = 4096, lr = 0.45, lr_at = 256, weight_decay = 1e-6,
  optimizer = "lars", lars_eta = 1e-3, epochs = 100, warmup_epochs = 10, warmup_factor = 0, knn_every = 0,
}
cld.run.recipe("cifar10_byol_cld.lua", {
  about = "BYOL + CLD on ImageNet",
  options = { cld.options.imagenet, cld.options.view { size = 224 } },
  encoder = { cld.options.resnet { arch = "resnet50", head = "norm_mlp", dim = 128 } },
  sets = function(opt)
    local sets, colours = cld.data.splits(opt), cld.augment.statistics.imagenet
    local given = { size = opt.size, mean = colours.mean, std = colours.std }
    sets.views = { cld.augment.byol_1(given), cld.augment.byol_2(given) }
    return sets
  end,
  network = function(opt, given)
    return cld.models[opt.arch] {
      head = opt.head, dim = opt.dim, width = opt.width, small = opt.small, projector = given.projector,
      branches = given.branches,
    }
  end,
})
