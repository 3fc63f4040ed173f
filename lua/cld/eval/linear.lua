--- Linear evaluation as one call: the loop of recipes/linear.lua without a run.
local caller = require "cld.caller"
local data = require "cld.data"
local extract = require "cld.eval.extract"
local linear_probe = require "cld.eval.linear_probe"
local protocols = require "cld.eval.protocols"

local linear = {}

local own_fields = { "net", "train", "test", "test_view", "view", "size", "protocol", "seed", "on_test" }
local probe_fields = { "layer", "branch", "device", "workers", "max_bad", "strict", "dtype" }

-- How a network wants its images: {size, mean, std} of the test view, or of the set's own images.
local function images_of(options)
  local view = extract.view(options.train, { augment = options.test_view })
  local mean, std = view:statistics()
  local height, width = view:size()
  return { size = options.size or { height, width }, mean = mean, std = std }
end

--- The loader of the training images: {train, batch_size, view, ...}; a last batch of one image is as good as another.
function linear.loader(options)
  local loader = { views = { options.view }, drop_single = false }
  for name, value in pairs(options) do
    if name ~= "view" then loader[name] = value end
  end
  return data.loader(loader)
end

--- linear{net =, train =, test =, protocol = "moco"|"infomin"|{...}, test_view, view, size, seed = 0, on_test, a
-- protocol's settings, and the options of features} -> {top1 =, top5 =, many =, medium =, few =, epoch =} of the best
-- tested epoch, as shares, and the probe. Settings: protocols.lua. view: the training augmentation, by default the
-- protocol's at the size and with the statistics of test_view. on_test(epoch, values) is called after each test.
-- Labels that the training set lacks, images without one, a set of one class and a network that is not finite are the
-- user's errors.
function linear.evaluate(options)
  local names = table.move(own_fields, 1, #own_fields, 1, {})
  for _, list in ipairs { probe_fields, protocols.fields } do table.move(list, 1, #list, #names + 1, names) end
  caller.require_fields("eval.linear", options, names)
  extract.check("eval.linear", options.net, options.train, "train")
  extract.check("eval.linear", options.net, options.test, "test")
  local p = protocols.settings("eval.linear", options.protocol, options)
  local given = { net = options.net, train = options.train, test = options.test, test_view = options.test_view,
    protocol = p }
  for _, name in ipairs(probe_fields) do given[name] = options[name] end
  local probe = linear_probe(given)
  local loader = linear.loader {
    options.train, batch_size = p.batch_size, view = options.view or protocols.view(p, images_of(options)),
    device = probe.device, seed = options.seed, workers = options.workers, max_bad = options.max_bad,
    strict = options.strict, dtype = options.dtype,
  }
  local rate, step, best = protocols.rate(p, #loader), 0, nil
  for epoch = 1, p.epochs do
    for batch in loader:epoch(epoch) do
      probe:step(batch, rate(step))
      step = step + 1
    end
    if epoch == 1 then probe:check_frozen() end
    if protocols.is_tested(p, epoch) then
      local values = probe:test(options.test, epoch)
      if options.on_test then options.on_test(epoch, values) end
      if probe.best.epoch == epoch then best = values end
    end
  end
  best.epoch = probe.best.epoch
  return best, probe
end

return linear
