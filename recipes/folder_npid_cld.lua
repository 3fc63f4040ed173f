--- NPID + CLD on a folder of images of your own: class folders, plain files, or train/ and test/ or val/ inside. If
-- there are classes, it prints the kNN accuracy after every epoch. The settings are ours; nothing is published for such
-- data.
--
--   cldlua recipes/folder_npid_cld.lua --data ~/photos --size 224
local cld = require "cld"

cld.options.defaults { batch_size = 64, clusters = 32 }
cld.run.recipe("cifar10_npid_cld.lua", {
  about = "NPID + CLD on a folder of images",
  options = {
    cld.options.folder,
    cld.options.images { size = 224 },
    { "augment", "plus", "views: base, or MoCo v2's plus (weaker hue, blur)", choices = { "base", "plus" } },
  },
  sets = function(opt)
    local sets = cld.data.splits(opt)
    local statistics = cld.augment.statistics.imagenet
    sets.views = cld.augment[opt.augment] { size = opt.size, mean = statistics.mean, std = statistics.std }
    return sets
  end,
})
