--- Our side of the augmentation: views per second through the loader with one worker, for the base augmentation of
-- CIFAR images, or for RandAugment alone at 224 pixels. Run on one core (bench.lua uses taskset); prints one JSON
-- line.
local cld = require "cld"

local opt = cld.options {
  about = "One side of the benchmark: augmentation on one core",
  { "what",  "base", "the augmentation", choices = { "base", "rand_augment" } },
  { "views", 100000, "views to make", min = 2, integer = true },
}

local imagenet = cld.augment.statistics.imagenet
-- RandAugment: both operations are always applied, as in torchvision, and the view is normalized.
local side, augment = 32, cld.augment.cifar()
if opt.what == "rand_augment" then
  side, augment = 224, cld.augment.list { cld.augment.rand_augment { p = 1 }, cld.augment.normalize(imagenet) }
end

local loader = cld.data.loader {
  require("spec.bench.images")(side == 32 and opt.views or 512, side), batch_size = 32 * 128 // side, views = 2,
  augment = augment, workers = 1,
}
-- In processor time; the consumer uses nearly none.
local made, epoch, start = 0, 0, os.clock()
while made < opt.views do
  epoch = epoch + 1
  for batch in loader:epoch(epoch) do made = made + 2 * #batch.index end
end
print(cld.json.encode { what = "cldlua", views_per_s = made / (os.clock() - start) })
