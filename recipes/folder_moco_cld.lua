--- MoCo + CLD on a folder of images of your own: folder_npid_cld.lua's data, cifar10_moco_cld.lua's method. The
-- settings are ours; nothing is published for such data.
--
--   cldlua recipes/folder_moco_cld.lua --data ~/photos --size 224
local cld = require "cld"

cld.options.defaults { batch_size = 64, clusters = 32, queue = 4096 }
cld.run.recipe("cifar10_moco_cld.lua", {
  about = "MoCo + CLD on a folder of images",
  options = {
    cld.options.folder,
    cld.options.images { size = 224 },
    { "augment", "plus", "views: base, or MoCo v2's plus (weaker hue, blur)", choices = { "base", "plus" } },
  },
  sets = function(opt)
    local sets = cld.data.splits(opt)
    cld.options.tell_of_queue(opt, #sets.train)
    local statistics = cld.augment.statistics.imagenet
    sets.views = cld.augment[opt.augment] { size = opt.size, mean = statistics.mean, std = statistics.std }
    return sets
  end,
})
