--- BYOL + CLD on ImageNet-100, the hundred classes of CMC (Tian et al., 2020), read from ImageNet's own folder. Batch,
-- rate, decay and epochs are solo-learn's for BYOL (--lambda 0), which reports a linear top-1 of 80.3 with them and a
-- predictor twice as wide; the rest is imagenet_byol_cld.lua's, and CLD's settings are ours.
--
--   cldlua recipes/imagenet100_byol_cld.lua --data /imagenet
local cld = require "cld"

cld.options.defaults { classes = "imagenet100", batch_size = 256, lr = 0.5, epochs = 400 }
cld.run.recipe "imagenet_byol_cld.lua"
