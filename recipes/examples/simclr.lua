--- SimCLR (Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", 2020) on CIFAR-10:
-- your own loss, written in plain tensor functions and differentiated automatically.
--
--   cldlua recipes/examples/simclr.lua --data ./data
local cld = require "cld"

local opt = cld.options {
  about = "SimCLR on CIFAR-10, with its loss written in Lua",
  cld.options.cifar,
  { "width",        64,   "channels of the encoder's first stage", min = 1, integer = true },
  { "temperature",  0.5,  "of the cosines", above = 0 },
  { "batch-size",   256,  "images per step, each in two views", min = 2, integer = true },
  { "lr",           1e-3, "learning rate of AdamW", above = 0 },
  { "weight-decay", 1e-4, "its weight decay", min = 0 },
  { "epochs",       100,  "training epochs", min = 1, integer = true },
  cld.options.knn,
  cld.options.training,
}

local run    = cld.run(opt)
local sets   = cld.data.splits(opt)
local loader = cld.data.loader {
  sets.train, batch_size = opt.batch_size, views = 2, augment = cld.augment.base(), seed = opt.seed,
  workers = opt.workers, device = opt.device, dtype = "auto",
}
local net    = cld.models.resnet18 { small = true, width = opt.width, branches = { "instance" } }:to(opt.device)
local adamw  = cld.optim.adamw(net, { weight_decay = opt.weight_decay })
local lr     = cld.schedule.cosine { base = opt.lr, steps_per_epoch = #loader, epochs = opt.epochs }

-- NT-Xent, equation 1: each of the 2 n views must find the other view of its image among all other views.
local function nt_xent(z1, z2)
  local n, device = #z1, z1.device
  local z       = cld.cat { z1, z2 }:normalize()
  local cosines = cld.einsum("id,jd->ij", z, z)
  local itself  = cld.eye(2 * n, { dtype = "u8", device = device })
  local other   = (cld.arange(2 * n, { device = device }) + n) % (2 * n)
  return (cosines / opt.temperature):masked_fill(itself, -math.huge):cross_entropy(other)
end

-- On a GPU the step is captured, so it must not read the value of a tensor.
local step = cld.graph(function(views, rate)
  local z = net:each(views)                                 -- both views as one batch, each with its own statistics
  local loss = nt_xent(cld.dist.gather_rows(z[1]), cld.dist.gather_rows(z[2])) -- the rows of all ranks
  adamw:step(loss, { lr = rate, grad_norm = true })
  local means = cld.diagnostics.views(z[1]:normalize(), z[2]:normalize())
  means.loss, means.grad_norm = loss, adamw.grad_norm
  return means
end, { enabled = opt.graph, device = opt.device })

run:describe { layer = "features" }                         -- kNN compares the head's input
for epoch in run:epochs { net = net, adamw = adamw, loader = loader } do
  for batch in loader:epoch(epoch) do
    local rate = lr(run.step)
    run:track(step(batch.views, rate), { lr = rate })
  end
  run:evaluate(net, sets)
end
