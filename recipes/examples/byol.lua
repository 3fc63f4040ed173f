--- BYOL (Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020) on CIFAR-10 with your own target network, predictor
-- and moving average: all that a method with two networks needs.
--
--   cldlua recipes/examples/byol.lua --data ./data
local cld = require "cld"
local nn = cld.nn
local opt = cld.options {
  about = "BYOL on CIFAR-10, with its target network written in Lua", cld.options.cifar,
  { "width", 64, "channels of the first stage", min = 1, integer = true },
  { "hidden", 1024, "of the projector", min = 1, integer = true },
  { "tau", 0.99, "share of the target that a step keeps at first; it rises to 1", min = 0, max = 1 },
  { "batch-size", 256, "images per step", min = 2, integer = true },
  { "lr", 1e-3, "learning rate of AdamW", above = 0 }, { "epochs", 100, "training epochs", min = 1, integer = true },
  cld.options.knn, cld.options.training,
}

local function mlp(i, o)
  return nn.sequential(nn.linear(i, opt.hidden), nn.batch_norm1d(opt.hidden), nn.relu(), nn.linear(opt.hidden, o))
end

-- The online network and the target: an encoder and a projector.
local Branch = nn.module "branch"
function Branch:build()
  self.encoder   = cld.models.resnet18 { small = true, width = opt.width, head = false }
  self.projector = mlp(self.encoder.feature_width, 128)
end
function Branch:features(images) return self.encoder(images) end
function Branch:forward(images) return self.projector(self.encoder(images)) end

local run    = cld.run(opt)
local sets   = cld.data.splits(opt)
local of     = cld.augment.statistics.cifar                 -- the images' mean and standard deviation
local loader = cld.data.loader {
  sets.train, batch_size = opt.batch_size, seed = opt.seed, workers = opt.workers, device = opt.device, dtype = "auto",
  views = { cld.augment.byol_1 { size = 32, mean = of.mean, std = of.std },
            cld.augment.byol_2 { size = 32, mean = of.mean, std = of.std } },
}
local online    = Branch():to(opt.device)
local predictor = mlp(128, 128):to(opt.device)
local target    = online:clone()                            -- starts as the online network
local adamw     = cld.optim.adamw(nn.module_list(online, predictor), { weight_decay = 1e-4 })
local lr        = cld.schedule.cosine { base = opt.lr, steps_per_epoch = #loader, epochs = opt.epochs }
local function tau(step) return 1 - (1 - opt.tau) * (math.cos(math.pi * step / opt.epochs / #loader) + 1) / 2 end

-- target = keep * target + (1 - keep) * online. In a captured step, keep is a tensor: lerp_ reads it on the device.
local function follow(keep)
  local _ <close> = cld.no_grad()
  local source = online:parameters()
  for i, p in ipairs(target:parameters()) do p:lerp_(source[i], 1 - keep) end
end

-- The squared distance between unit rows, averaged over the batch.
local function distance(p, t) return 2 - 2 * (p:normalize() * t:normalize()):sum(2):mean() end

local step = cld.graph(function(views, rate, keep)
  local z, t = online:each(views), cld.no_grad(function() return target:each(views) end)
  local loss = distance(predictor(z[1]), t[2]) + distance(predictor(z[2]), t[1])
  adamw:step(loss, { lr = rate, grad_norm = true })
  follow(keep)                                              -- after the step
  return { loss = loss, grad_norm = adamw.grad_norm }
end, { enabled = opt.graph, device = opt.device })

run:describe { layer = "features" }                         -- the layer that kNN compares
for epoch in run:epochs { net = online, predictor = predictor, target = target, adamw = adamw, loader = loader } do
  for batch in loader:epoch(epoch) do
    run:track(step(batch.views, lr(run.step), tau(run.step)), { lr = lr(run.step) })
  end
  run:evaluate(online, sets)
end
