--- NPID + CLD on STL-10 (Coates, Ng and Lee, AISTATS 2011) at 96 pixels, with the base augmentation of Wang, Liu and Yu
-- (CVPR 2021). `--split train+unlabeled` trains on all 105,000 images; kNN's memory is the 5,000 of train either way.
-- `--pool corner` averages the last feature maps as the published code does.
--
--   cldlua recipes/stl10_npid_cld.lua --data ./data
local cld = require "cld"

cld.run.recipe("cifar10_npid_cld.lua", {
  about = "NPID + CLD on STL-10; kNN accuracy after every epoch",
  options = {
    cld.options.stl10,
    cld.options.images { size = 96 },
    { "augment", "base", "views: base, or MoCo v2's plus (weaker hue, blur)", choices = { "base", "plus" } },
  },
  sets = function(opt)
    local sets = cld.data.splits(opt)
    sets.views = cld.augment[opt.augment] { size = opt.size, mean = 0.5, std = 0.5 }
    return sets
  end,
})
