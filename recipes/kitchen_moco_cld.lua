--- MoCo + CLD on Kitchen-HC: kitchen_npid_cld.lua's data, base augmentation and number of groups,
-- cifar10_moco_cld.lua's method. The settings are ours; nothing is published for them.
--
--   cldlua recipes/kitchen_moco_cld.lua --data ./data
local cld = require "cld"

cld.options.defaults { clusters = 10, queue = 4096 }
cld.run.recipe("cifar10_moco_cld.lua", {
  about = "MoCo + CLD on Kitchen-HC; kNN accuracy after every epoch",
  options = {
    cld.options.kitchen_hc,
    cld.options.images { size = 32 },
    { "augment", "base", "views: base, or MoCo v2's plus (weaker hue, blur)", choices = { "base", "plus" } },
  },
  sets = function(opt)
    local sets = cld.data.splits(opt)
    cld.options.tell_of_queue(opt, #sets.train)
    sets.views = cld.augment[opt.augment] { size = opt.size }
    return sets
  end,
})
