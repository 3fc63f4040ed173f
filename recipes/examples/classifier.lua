--- A supervised classifier on CIFAR-10 with your own module, and a linear probe that shows how well the features of an
-- inner stage separate the classes. The probe learns from detached features, so it does not affect the network.
--
--   cldlua recipes/examples/classifier.lua --data ./data
local cld = require "cld"
local nn = cld.nn

local opt = cld.options {
  about = "a supervised classifier on CIFAR-10, and a linear probe of an inner stage",
  cld.options.cifar,
  { "width",           32,   "channels of the first stage", min = 1, integer = true },
  { "label-smoothing", 0.1,  "of the classifier's targets", min = 0, max = 0.9 },
  { "batch-size",      128,  "images per step", min = 2, integer = true },
  { "lr",              0.1,  "learning rate of SGD", above = 0 },
  { "epochs",          30,   "training epochs", min = 1, integer = true },
  cld.options.training,
}

-- Modules assigned to fields are children: their parameters are found, moved, saved and loaded by name.
local Classifier = nn.module "classifier"

local function stage(input, output, stride)
  return nn.sequential(nn.conv2d(input, output, 3, { stride = stride, padding = 1, bias = false }),
    nn.batch_norm2d(output), nn.relu())
end

function Classifier:build(width, classes)
  self.stages = nn.sequential(stage(3, width, 1), stage(width, 2 * width, 2))
  self.top    = nn.sequential(stage(2 * width, 4 * width, 2), nn.adaptive_avg_pool2d(1), nn.flatten())
  self.fc     = nn.linear(4 * width, classes)
end

function Classifier:inner(images) return self.stages(images):mean { 3, 4 }:to "f32" end
function Classifier:forward(images)
  local maps = self.stages(images)
  return self.fc(self.top(maps)), maps:mean { 3, 4 }:to "f32"
end

local run    = cld.run(opt)
local sets   = cld.data.splits(opt)
local loader = cld.data.loader {
  sets.train, batch_size = opt.batch_size, views = 1, augment = cld.augment.none { crop = { 0.4, 1 }, flip = 0.5 },
  seed = opt.seed, workers = opt.workers, device = opt.device, dtype = "auto",
}
local classes = sets.train.classes
local net, probe = Classifier(opt.width, classes):to(opt.device), nn.linear(2 * opt.width, classes):to(opt.device)
local sgd    = cld.optim.sgd(cld.optim.no_decay(net), { momentum = 0.9, weight_decay = 5e-4 })
local probe_sgd = cld.optim.sgd(probe, { momentum = 0.9 })
local lr     = cld.schedule.cosine { base = opt.lr, steps_per_epoch = #loader, epochs = opt.epochs }

local step = cld.graph(function(images, labels, rate)
  local logits, inner = net(images)
  local loss, top1 = logits:cross_entropy(labels, { label_smoothing = opt.label_smoothing, accuracy = true })
  local probe_loss, probe_top1 = probe(inner:detach()):cross_entropy(labels, { accuracy = true })
  sgd:step(loss, { lr = rate, grad_norm = true })
  probe_sgd:step(probe_loss, { lr = rate })
  return { loss = loss, train_top1 = top1, probe_loss = probe_loss, probe_train_top1 = probe_top1,
    grad_norm = sgd.grad_norm }
end, { enabled = opt.graph, device = opt.device })

for epoch in run:epochs { net = net, probe = probe, sgd = sgd, probe_sgd = probe_sgd, loader = loader } do
  for batch in loader:epoch(epoch) do
    run:track(step(batch.views[1], batch.labels, lr(run.step)), { lr = lr(run.step) })
  end
  local logits, truth = cld.eval.features(net, sets.test, { device = opt.device })
  local function probed(trained, images) return probe(trained:inner(images)) end
  local guesses = cld.eval.features(net, sets.test, { device = opt.device, branch = probed })
  run:score { top1 = cld.eval.accuracy(logits, truth, { 1 }), probe = cld.eval.accuracy(guesses, truth, { 1 }) }
end
