--- BYOL + CLD on STL-10 at 96 pixels: stl10_npid_cld.lua's data, cifar10_byol_cld.lua's method. BYOL's views are
-- blurred from 64 pixels on. The settings are ours; nothing is published for them.
--
--   cldlua recipes/stl10_byol_cld.lua --data ./data --split train+unlabeled
local cld = require "cld"

cld.run.recipe("cifar10_byol_cld.lua", {
  about = "BYOL + CLD on STL-10; kNN accuracy after every epoch",
  options = { cld.options.stl10, cld.options.images { size = 96 } },
  sets = function(opt)
    local sets, given = cld.data.splits(opt), { size = opt.size, mean = 0.5, std = 0.5 }
    sets.views = { cld.augment.byol_1(given), cld.augment.byol_2(given) }
    return sets
  end,
})
