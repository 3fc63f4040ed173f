--- Fine-tunes a checkpoint of any recipe, or published weights: all layers are trained on some or all labels, with a
-- new linear layer for the classes, by OpenSelfSup's protocol or SwAV's (Caron et al., NeurIPS 2020). Both were
-- published for ImageNet at 224 pixels; their use on other images is our choice. Several rates and factors form a
-- grid: each combination is one training, and its result is that of the last epoch.
--
--   cldlua recipes/finetune.lua --checkpoint runs/NAME --labels 0.01
--   cldlua recipes/finetune.lua --checkpoint v2.pth.tar --data /imagenet --dataset imagenet --list 1percent.txt
--   cldlua recipes/finetune.lua --checkpoint runs/NAME --long-tail 100 --lr 0.01 --head-lr 1,10
local cld = require "cld"
local linear = require "cld.eval.linear"
local protocols = require "cld.eval.finetune_protocols"
local say = require "cld.say"
local subject = require "cld.eval.subject"

local opt = cld.options {
  about = "fine-tuning of a checkpoint, all layers, on a share of the labels",
  cld.options.checkpoint,
  { "labels",     1.0, "share of the training labels: as many images of each class, a smaller share a part of a larger"
    .. " one; which ones, --seed says", above = 0, max = 1, fixed = "which are the images that it trains on" },
  { "list",       "",  "a text file that names the labelled images instead, a file name a line", path = true,
    fixed = "which are the images that it trains on" },
  { "long-tail",  1,   "in place of either: so many times fewer images of the last class than of the first; 1: all",
    min = 1, max = 1000000, fixed = "which are the images that it trains on" },
  { "long-tail-kind", "exponential", "how the classes in between fall: exponential; step: the second half is small",
    choices = { "exponential", "step" }, fixed = "which are the images that it trains on" },
  { "protocol",   "openselfsup", "which one; the settings below replace its own", choices = protocols.names,
    fixed = "by which it was trained so far" },
  { "lr",         "",  "learning rates of the network's layers, whatever the batch size; empty: openselfsup's"
    .. " 0.1,0.01,0.001, swav's by the share of the labels", value = "numbers", above = 0,
    fixed = "which is its grid" },
  { "head-lr",    "",  "that of the new layer is so many times as large; empty: openselfsup's 1,10,100, swav's by the"
    .. " share", value = "numbers", above = 0, fixed = "which is its grid" },
  { "epochs",     0,   "epochs of each training; 0: 20; with others the rate falls in proportion", min = 0,
    max = 1000000, integer = true, fixed = "by which its trainings are counted" },
  { "batch-size", 0,   "images per step; 0: 256", min = 0, max = 65536, integer = true },
  { "weight-decay", -1, "SGD weight decay; -1: 0.0005 of openselfsup, 0 of swav", min = -1 },
  { "test-every", 1,   "epochs between tests; the last is always tested", min = 1, integer = true },
  { "layer",      "auto", "what the new layer sees: features (what the heads see), instance (the first output); auto:"
    .. " features if the network has them", choices = { "auto", "features", "instance" },
    fixed = "on which its new layer was trained so far" },
  cld.options.training:fixed { seed = "which says which images have labels" },
}
protocols.settle(opt)                                      -- replaces 0 by the protocol's value
local run          = cld.run(opt)
local net, about   = subject.load(opt, run.loaded and run.checkpoint) -- a resumed run has the network in its checkpoint
local sets, data   = subject.sets(opt, about)
local train, share = protocols.training_set(opt, sets, data)
local view         = subject.view(opt, about)
local protocol     = protocols.of_options(opt)
local tuning       = cld.eval.finetuning {
  net = net:to(opt.device), train = train, test = sets.test, test_view = view, protocol = protocol,
  grid = protocols.grid(opt, share), layer = subject.layer(opt, net, about), workers = opt.workers,
}
local loader       = cld.data.loader {
  train, batch_size = opt.batch_size, views = { protocols.view(protocol, view) }, seed = opt.seed,
  workers = opt.workers, device = opt.device, dtype = "auto",
}
tuning.steps_per_epoch = #loader
say(("%s: %d images, %.3g %% of the labels; %d to test by"):format(train.name, #train, 100 * share, #sets.test))
print("images to test by: " .. subject.view_text(view))

-- Captured again for each training, because each has a new optimizer.
local function stepper()
  return cld.graph(function(views, labels, rate)
    local loss, hit = cld.cross_entropy(tuning.net(views[1]), labels, { accuracy = true })
    tuning.sgd:step(loss, { lr = rate, grad_norm = true })
    return { loss = loss, train_top1 = hit, grad_norm = tuning.sgd.grad_norm }
  end, { enabled = opt.graph, device = opt.device })
end

run:repeats(#tuning.grid)
run:describe { test_view = view, layer = "features", knn = about.knn, source = linear.source(run, about, data, true) }
local step
for epoch in run:epochs { net = tuning.net, tuning = tuning, loader = loader } do
  local own, begins = tuning:begin(epoch)                  -- the epoch of the running training
  if begins then
    step = stepper()
    print(tuning:text())
  end
  for batch in loader:epoch(own) do
    local rate = tuning:rate(run.step)
    run:track(step(batch.views, batch.labels, rate), { lr = rate })
  end
  if own % opt.test_every == 0 or own == opt.epochs then
    local scores = tuning:test(own)                        -- none if a training of the grid has diverged
    if scores then run:score(scores) end
  end
end
for _, line in ipairs(tuning:summary()) do print(line) end
