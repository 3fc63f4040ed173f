--- Linear evaluation of a checkpoint of any recipe, or of published weights: a linear classifier on the features of the
-- frozen network, by MoCo's protocol (He et al., CVPR 2020) or InfoMin's (Tian et al., NeurIPS 2020). Both were
-- published for ImageNet at 224 pixels; their use on other images is our choice.
--
--   cldlua recipes/linear.lua --checkpoint runs/NAME --data /imagenet
--   cldlua recipes/linear.lua --checkpoint runs/NAME --folds          -- STL-10: the mean over its ten folds
local cld = require "cld"
local folds = require "cld.eval.folds"
local linear = require "cld.eval.linear"
local protocols = require "cld.eval.protocols"
local subject = require "cld.eval.subject"

local opt = cld.options {
  about = "linear evaluation of a checkpoint",
  cld.options.checkpoint,
  { "protocol",   "moco", "which one; the settings below replace its own", choices = { "moco", "infomin" },
    fixed = "by which its classifier was trained so far" },
  { "epochs",     0,   "training epochs; 0: 100 of moco, 61 of infomin; with others the rate falls in proportion",
    min = 0, max = 1000000, integer = true },
  { "batch-size", 0,   "images per step; 0: 256", min = 0, max = 65536, integer = true },
  { "lr",         0.0, "learning rate at the beginning, whatever the batch size; 0: 30", min = 0 },
  { "layer",      "auto", "what the classifier sees: features (what the heads see), instance (the first output); auto:"
    .. " features if the network has them", choices = { "auto", "features", "instance" },
    fixed = "on which its classifier was trained so far" },
  { "folds",      false, "train on each of STL-10's ten folds of 1,000 images: mean and deviation",
    fixed = "which is how many classifiers it has" },
  cld.options.training { precision = "fp32" },
}
linear.settle(opt)                                         -- replaces 0 by the protocol's value
local run        = cld.run(opt)
local net, about = subject.load(opt, run.loaded and run.checkpoint) -- a resumed run has the network in its checkpoint
local sets, data = subject.sets(opt, about)
local trains     = linear.training_sets(opt, sets, data)
local view       = subject.view(opt, about)
local protocol   = linear.protocol(opt)
net:to(opt.device)

local probes, loaders, steps = {}, {}, {}
for i, train in ipairs(trains) do
  probes[i] = cld.eval.linear_probe {
    net = net, train = train, test = sets.test, test_view = view, protocol = protocol, workers = opt.workers,
    layer = subject.layer(opt, net, about), shared = i > 1 and probes[1].shared or nil,
  }
  loaders[i] = linear.loader {
    train, batch_size = opt.batch_size, view = linear.view(protocol, view), seed = opt.seed, workers = opt.workers,
    device = opt.device, dtype = "auto",
  }
  steps[i] = cld.graph(function(views, labels, rate)
    return probes[i]:step({ views = views, labels = labels }, rate)
  end, { enabled = opt.graph, device = opt.device })
end
local loader = #loaders > 1 and folds.loader(loaders) or loaders[1]
local source = linear.source(run, about, data)
local lr     = protocols.rate(protocol, #loader)
print("images to test by: " .. subject.view_text(view))

local objects = { net = net, loader = loader, probe = probes[1] }
for i = 2, #probes do objects["probe_" .. i] = probes[i] end
run:describe { test_view = view, layer = about.layer, knn = about.knn, source = source }
for epoch in run:epochs(objects) do
  for batch, fold in loader:epoch(epoch) do
    local rate = lr(run.step)
    run:track(steps[fold or 1](batch.views, batch.labels, rate), { lr = rate })
  end
  if protocols.is_tested(protocol, epoch) then           -- the first epoch is
    local scores = {}
    probes[1]:check_frozen()
    for i, probe in ipairs(probes) do scores[i] = probe:test(sets.test, epoch) end
    run:score(folds.mean(scores))
  end
end
for _, line in ipairs(linear.summary(run, source, protocol, data)) do print(line) end
