--- What recipes/pretrain.lua does with a run that has ended: a linear classifier on its frozen features, if the images
-- have classes.
local linear = require "cld.eval.linear"
local models = require "cld.models"
local say = require "cld.say"
local splits = require "cld.data.splits"

-- A last batch of one image is as good as another, but a single batch an epoch is few.
local function batch_size(images) return math.max(math.min(256, images // 4), 2) end

--- evaluate(run, epochs): of a run that has ended. 0 epochs: nothing.
return function(run, epochs)
  if epochs == 0 then return end
  local net, about = models.load(run.folder)
  local options = run.opt
  local train, test = splits.folder(options)
  if not test then return end
  local reading = { max_bad = options.max_bad, strict = options.strict, decode = options.decode }
  train.reading, test.reading = reading, reading
  local best = linear.evaluate {
    net = net:to(options.device), train = train, test = test, test_view = about.test_view, epochs = epochs,
    batch_size = batch_size(#train), layer = "features", seed = options.seed, workers = options.workers,
  }
  say(("linear classifier on the frozen features, %d epochs: top-1 %.2f %% of %d test images"):format(epochs,
    100 * best.top1, #test))
end
