--- InfoMin + CLD on a folder of images of your own: folder_npid_cld.lua's data, imagenet_infomin_cld.lua's method. The
-- settings are ours; nothing is published for such data. Blocks are smaller than a batch, so that a query cannot find
-- its key by the batch statistics. There are half as many groups as images in a block (--clusters), so that groups have
-- more than one image. The size of the patches follows --size: 64 pixels at 224, 9 at 32. RandAugment and blur leave
-- little of such small views: --augment base has neither.
--
--   cldlua recipes/folder_infomin_cld.lua --data ~/photos
--   cldlua recipes/folder_infomin_cld.lua --data ~/icons --size 32 --small --augment base
local cld = require "cld"

cld.options.defaults {
  arch = "resnet18", batch_size = 128, block = 32, clusters = 16, last = "keep", lr = 0.05, queue = 4096, knn_every = 1,
  epochs = 200,
}
cld.run.recipe("imagenet_infomin_cld.lua", {
  about = "InfoMin + CLD on a folder of images",
  options = {
    cld.options.folder,
    cld.options.view { size = 224 },
    { "augment", "infomin", "views: InfoMin's, with RandAugment and blur, or base (any hue, neither)", choices = {
      "base", "infomin" } },
  },
  sets = function(opt)
    local sets, colours = cld.data.splits(opt), cld.augment.statistics.imagenet
    sets.views = cld.augment[opt.augment] { size = opt.size, mean = colours.mean, std = colours.std }
    sets.patches = cld.augment.infomin_jigsaw { view = opt.size, mean = colours.mean, std = colours.std }
    return sets
  end,
})
