--- BYOL + CLD on a folder of images of your own: folder_npid_cld.lua's data, cifar10_byol_cld.lua's method. The
-- settings are ours; nothing is published for such data.
--
--   cldlua recipes/folder_byol_cld.lua --data ~/photos --size 224
local cld = require "cld"

cld.options.defaults { batch_size = 64, clusters = 32, tau_schedule = "cosine" }
cld.run.recipe("cifar10_byol_cld.lua", {
  about = "BYOL + CLD on a folder of images",
  options = { cld.options.folder, cld.options.images { size = 224 } },
  sets = function(opt)
    local sets, colours = cld.data.splits(opt), cld.augment.statistics.imagenet
    local given = { size = opt.size, mean = colours.mean, std = colours.std }
    sets.views = { cld.augment.byol_1(given), cld.augment.byol_2(given) }
    return sets
  end,
})
