--- MoCo v2 + CLD on ImageNet-100, the hundred classes of CMC (Tian et al., 2020), read from ImageNet's own folder. The
-- settings are ours: imagenet_mocov2_cld.lua's, adapted to a tenth of the images; nothing is published for them.
--
--   cldlua recipes/imagenet100_mocov2_cld.lua --data /imagenet
local cld = require "cld"

cld.options.defaults { classes = "imagenet100", batch_size = 256, lr = 0.1, queue = 16384 }
cld.run.recipe "imagenet_mocov2_cld.lua"
