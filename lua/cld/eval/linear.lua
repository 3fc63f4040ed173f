--- Linear evaluation as one call: the loop of recipes/linear.lua without a run.
local caller = require "cld.caller"
local data = require "cld.data"
local extract = require "cld.eval.extract"
local linear_probe = require "cld.eval.linear_probe"
local protocols = require "cld.eval.protocols"
local reported = require "cld.eval.reported"
local user_error = require "cld.user_error"

local linear = {}

local own_fields = { "net", "train", "test", "test_view", "view", "size", "protocol", "seed", "on_test" }
local probe_fields = { "layer", "branch", "device", "workers", "max_bad", "strict", "dtype" }

-- The images that a network expects: {size, mean, std}, from the test view or else from the set's own images.
local function images_of(options)
  local view = extract.view(options.train, { augment = options.test_view })
  local mean, std = view:statistics()
  local height, width = view:size()
  return { size = options.size or { height, width }, mean = mean, std = std }
end

--- The loader of the training images: {train, batch_size, view, ...}. It keeps a last batch of one image: no batch norm
-- is trained.
function linear.loader(options)
  local loader = { views = { options.view }, drop_single = false }
  for name, value in pairs(options) do
    if name ~= "view" then loader[name] = value end
  end
  return data.loader(loader)
end

--- cld.eval.linear{net =, train =, test =, protocol = "moco"|"infomin"|{...}, test_view, view, size, seed = 0,
-- on_test, a protocol's settings, and the options of cld.eval.features} -> {top1 =, top5 =, many =, medium =, few =,
-- epoch =}, probe: a whole linear evaluation: the scores of the best tested epoch, as shares. Settings:
-- eval/protocols.lua. view: the training augmentation, by default the protocol's, with test_view's size and
-- statistics. on_test(epoch, values) is called after each test. The user's errors: labels that the training set lacks,
-- images without a label, a set with one class, and a network that is not finite.
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
    if protocols.is_tested(p, epoch) then -- the first epoch is always tested
      probe:check_frozen()
      local values = probe:test(options.test, epoch)
      if options.on_test then options.on_test(epoch, values) end
      if probe.best.epoch == epoch then best = values end
    end
  end
  best.epoch = probe.best.epoch
  return best, probe
end

-- ---- for the recipe -----------------------------------------------------------------

--- settle(opt): replaces options epochs, batch_size and lr that are 0 with the protocol's, before cld.run.
function linear.settle(opt)
  local p = protocols.named[opt.protocol]
  for _, name in ipairs { "epochs", "batch_size", "lr" } do
    if opt[name] == 0 then opt[name] = p[name] end
  end
end

--- protocol(opt) -> its settings, with what opt replaces.
function linear.protocol(opt)
  return protocols.settings("linear", opt.protocol, { epochs = opt.epochs, batch_size = opt.batch_size, lr = opt.lr })
end

--- view(protocol, test view) -> the training augmentation at the test view's size and with its statistics.
function linear.view(p, view)
  local mean, std = view:statistics()
  local height, width = view:size(224, 224) -- for a view without a fixed size: that of images of 224 x 224
  return protocols.view(p, { size = { height, width }, mean = mean, std = std })
end

--- training_sets(opt, sets, data) -> a list: the labelled training images, or with --folds STL-10's ten folds of them.
function linear.training_sets(opt, sets, of)
  if not sets.test then user_error.raise("%s: it has no test images with classes to score", of.data) end
  if not opt.folds then return { sets.memory or sets.train } end
  if of.dataset ~= "stl10" then
    user_error.raise("option '--folds': only stl10 has them, and these images are %s", of.dataset)
  end
  local list = {}
  for fold = 1, 10 do list[fold] = data.stl10 { root = of.data, split = "train", fold = fold } end
  return list
end

--- source(run, about, data[, fine_tuned]) -> what the checkpoint of an evaluation says of the network's origin, and
-- whether it has been trained on since. A resumed run has it in its own checkpoint.
function linear.source(run, about, of, fine_tuned)
  if run.loaded then return about.source end
  local plain = {}
  for name, value in pairs(of) do plain[name] = value end
  return {
    path = about.path, fine_tuned = fine_tuned, layout = about.layout, epoch = about.epoch, data = plain,
    published = about.published or reported.of(about.description, about.options, about.epoch),
  }
end

local function percent(share) return ("%.2f %%"):format(100 * share) end

-- "published for such weights: top-1 69.2 %", if the images are those of the published number.
local function published_text(source, p, of)
  local is_imagenet = of.dataset == "imagenet" and of.classes == "" and of.size == 224
  if type(source.published) ~= "number" or not is_imagenet then return nil end
  return ("published for such weights: top-1 %.1f %%, by the whole protocol (%d epochs here)"):format(
    source.published, p.epochs)
end

--- summary(run, source, protocol, data) -> lines: the best epoch, and the published number to compare it with.
function linear.summary(run, source, p, of)
  local lines, best = {}, run.best
  if best then lines[1] = ("best top-1 %s, epoch %d of %d"):format(percent(best.value), best.epoch, p.epochs) end
  lines[#lines + 1] = published_text(source, p, of)
  return lines
end

return linear
