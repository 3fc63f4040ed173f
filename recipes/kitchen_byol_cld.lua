--- BYOL + CLD on Kitchen-HC: kitchen_npid_cld.lua's data and its number of groups, cifar10_byol_cld.lua's method. The
-- settings are ours; nothing is published for them.
--
--   cldlua recipes/kitchen_byol_cld.lua --data ./data
local cld = require "cld"

cld.options.defaults { clusters = 10 }
cld.run.recipe("cifar10_byol_cld.lua", {
  about = "BYOL + CLD on Kitchen-HC; kNN accuracy after every epoch",
  options = { cld.options.kitchen_hc, cld.options.images { size = 32 } },
  sets = function(opt)
    local sets, colours = cld.data.splits(opt), cld.augment.statistics.cifar
    local given = { size = opt.size, mean = colours.mean, std = colours.std }
    sets.views = { cld.augment.byol_1(given), cld.augment.byol_2(given) }
    return sets
  end,
})
