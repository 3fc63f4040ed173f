--- NPID + CLD on Kitchen-HC (Wang, Liu and Yu, CVPR 2021), kitchen objects at 32 pixels: the base augmentation, and
-- about as many groups as there are classes, which the paper found best.
--
--   cldlua recipes/kitchen_npid_cld.lua --data ./data
local cld = require "cld"

cld.options.defaults { clusters = 10 }
cld.run.recipe("cifar10_npid_cld.lua", {
  about = "NPID + CLD on Kitchen-HC; kNN accuracy after every epoch",
  options = {
    cld.options.kitchen_hc,
    cld.options.images { size = 32 },
    { "augment", "base", "views: base, or MoCo v2's plus (weaker hue, blur)", choices = { "base", "plus" } },
  },
  sets = function(opt)
    local sets = cld.data.splits(opt)
    sets.views = cld.augment[opt.augment] { size = opt.size }
    return sets
  end,
})
