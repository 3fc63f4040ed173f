--- MoCo + CLD on STL-10 at 96 pixels: stl10_npid_cld.lua's data and its base augmentation, cifar10_moco_cld.lua's
-- method. The queue is shorter than the 5,000 images of `train`. The settings are ours; nothing is published for them.
--
--   cldlua recipes/stl10_moco_cld.lua --data ./data [--split train+unlabeled --queue 65536]
local cld = require "cld"

cld.options.defaults { queue = 4096 }
cld.run.recipe("cifar10_moco_cld.lua", {
  about = "MoCo + CLD on STL-10; kNN accuracy after every epoch",
  options = {
    cld.options.stl10,
    cld.options.images { size = 96 },
    { "augment", "base", "views: base, or MoCo v2's plus (weaker hue, blur)", choices = { "base", "plus" } },
  },
  sets = function(opt)
    local sets = cld.data.splits(opt)
    cld.options.tell_of_queue(opt, #sets.train)
    sets.views = cld.augment[opt.augment] { size = opt.size, mean = 0.5, std = 0.5 }
    return sets
  end,
})
