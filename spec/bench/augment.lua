--- Our side of the augmentation: base CIFAR views per second through the loader with one worker. Run on one core
-- (bench.lua does, with taskset); prints one JSON line.
local cld = require "cld"

local opt = cld.options {
  about = "One side of the benchmark: base augmentation on one core",
  { "views", 100000, "views to make", min = 1 },
}

local loader = cld.data.loader {
  require("spec.bench.images")(opt.views), batch_size = 128, views = 2, augment = cld.augment.cifar(), workers = 1,
}
-- Of processor time: the consumer's is nearly none.
local made, start = 0, os.clock()
for batch in loader:epoch(1) do made = made + 2 * #batch.index end
print(cld.json.encode { what = "cldlua", views_per_s = made / (os.clock() - start) })
