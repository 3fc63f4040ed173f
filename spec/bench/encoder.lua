--- Our side of training an encoder alone: `cldlua encoder.lua --arch resnet50 --size 224 --batch 32` prints one JSON
-- line with images per second and peak resident memory. The images are one ready-made tensor, as for the peer; a step
-- is forward, a loss on both heads, backward and SGD. processor_s is the time of all threads together.
local cld = require "cld"
local median = require "spec.bench.median"
local peak_mb = require "spec.bench.peak_mb"

local opt = cld.options {
  about = "One side of the benchmark: training an encoder on random images",
  { "arch",  "resnet50", "the encoder, one of cld.models" },
  { "size",  224,        "pixels of the images' sides", min = 32, integer = true },
  { "batch", 32,         "images per step", min = 2, integer = true },
  { "steps", 3,          "timed steps, after one for warm-up", min = 1, integer = true },
}

cld.manual_seed(1)
local net = cld.models[opt.arch] { head = "linear" }
local sgd = cld.optim.sgd(net:parameters(), { lr = 0.03, momentum = 0.9, weight_decay = 1e-4 })
local images = cld.randn(opt.batch, 3, opt.size, opt.size)
local targets = { cld.randn(opt.batch, 128), cld.randn(opt.batch, 128) }

local seconds, processor, loss = {}, {}, nil
for step = 0, opt.steps do
  local start, busy = cld.clock(), os.clock()
  local instance, group = net(images)
  local total = (instance:normalize() * targets[1]):mean() + (group:normalize() * targets[2]):mean()
  sgd:step(total)
  loss = total:item()
  if step > 0 then seconds[step], processor[step] = cld.clock() - start, os.clock() - busy end
end
local step_s = median(seconds)
print(cld.json.encode { what = "cldlua", loss = loss, step_s = step_s, processor_s = median(processor),
                        images_per_s = opt.batch / step_s, peak_mb = peak_mb() })
