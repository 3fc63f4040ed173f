--- MoCo v2 + CLD on a folder of images of your own: folder_npid_cld.lua's data, imagenet_mocov2_cld.lua's method. The
-- settings are ours; nothing is published for such data. Blocks are smaller than a batch, so that a query cannot find
-- its key by the batch statistics. There are half as many groups as images in a block (--clusters), so that groups have
-- more than one image.
--
--   cldlua recipes/folder_mocov2_cld.lua --data ~/photos
--   cldlua recipes/folder_mocov2_cld.lua --data ~/icons --size 32 --small
local cld = require "cld"

cld.options.defaults {
  arch = "resnet18", batch_size = 128, block = 32, clusters = 16, last = "keep", lr = 0.05, queue = 4096, knn_every = 1,
}
cld.run.recipe("imagenet_mocov2_cld.lua", {
  about = "MoCo v2 + CLD on a folder of images",
  options = {
    cld.options.folder,
    cld.options.view { size = 224 },
    { "augment", "plus", "views: MoCo v2's plus, or base (any hue, no blur)", choices = { "base", "plus" } },
  },
  sets = function(opt)
    local sets, colours = cld.data.splits(opt), cld.augment.statistics.imagenet
    sets.views = cld.augment[opt.augment] { size = opt.size, mean = colours.mean, std = colours.std }
    return sets
  end,
})
