--- After a run of recipes/pretrain.lua: writes the weights as a file for torchvision, then trains a linear classifier
-- on the frozen features if the images have classes.
local dist = require "cld.dist"
local linear = require "cld.eval.linear"
local models = require "cld.models"
local say = require "cld.say"
local splits = require "cld.data.splits"

local after = {}

-- At least four batches an epoch if there are enough images. A last batch of a single image does no harm.
local function batch_size(images) return math.max(math.min(256, images // 4), 2) end

--- evaluate(run, epochs): evaluates a run that has ended; does nothing if epochs is 0.
function after.evaluate(run, epochs)
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
  say(("linear classifier on the frozen features, %d epoch%s: top-1 %.2f %% of %d test image%s"):format(epochs,
    epochs == 1 and "" or "s", 100 * best.top1, #test, #test == 1 and "" or "s"))
end

--- export(run): writes torchvision.pth, the trunk with torchvision's names, to the run's folder, like the first of the
-- commands that a run prints at its end.
function after.export(run)
  if dist.rank > 0 then return end
  local net, about = models.load(run.folder)
  local path = run.folder .. "/torchvision.pth"
  models.export(net, path, { format = "torchvision", view = about.test_view, force = true })
  say(("the encoder's weights are in %s: the first of these lines is done"):format(path))
end

return after
