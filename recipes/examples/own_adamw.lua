--- Your own optimizer: AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019) in plain
-- tensor functions, here for a supervised ResNet-18 on CIFAR-10. On a GPU its step is captured with the rest.
--   cldlua recipes/examples/own_adamw.lua --data ./data
local cld = require "cld"
local AdamW = {}
AdamW.__index = AdamW

--- own.new(net, {betas, eps, weight_decay}): its state is tensors on the parameters' device.
function AdamW.new(net, settings)
  local self = setmetatable({ params = net:parameters(), settings = settings, first = {}, second = {} }, AdamW)
  for i, p in ipairs(self.params) do self.first[i], self.second[i] = cld.zeros_like(p), cld.zeros_like(p) end
  self.count = cld.zeros({}, { dtype = "f64", device = self.params[1].device })
  return self
end

--- A step from the loss. In a captured step lr is a tensor; the step count always is. So nothing is read back.
function AdamW:step(loss, lr)
  local beta1, beta2 = table.unpack(self.settings.betas)
  for _, p in ipairs(self.params) do p.grad = nil end
  loss:backward()
  cld.dist.reduce_gradients(self.params)                    -- on several ranks: sums them over the batch
  local _ <close> = cld.no_grad()
  self.count:add_(1)
  local size, root = -lr / (1 - beta1 ^ self.count), (1 - beta2 ^ self.count):sqrt()
  for i, p in ipairs(self.params) do
    local m, v = self.first[i]:lerp_(p.grad, 1 - beta1), self.second[i]
    v:mul_(beta2):addcmul_(p.grad, p.grad, 1 - beta2)
    local below <close> = v:sqrt()                          -- <close> frees its memory at once, for the next one
    p:mul_(1 - lr * self.settings.weight_decay):addcdiv_(m, below:div_(root):add_(self.settings.eps), size)
  end
  return cld.optim.clip_grad_norm(self.params, math.huge)   -- clips nothing; the norm is for the log
end

--- With these two, checkpoints hold its state and --resume continues bit for bit.
function AdamW:state_dict()
  local state = { count = self.count }
  for i in ipairs(self.params) do state["first." .. i], state["second." .. i] = self.first[i], self.second[i] end
  return state
end
function AdamW:load_state_dict(given)
  for name, tensor in pairs(self:state_dict()) do tensor:copy_(given[name]) end
end

local opt = cld.options {
  about = "a supervised ResNet-18 on CIFAR-10 by an AdamW written in Lua", cld.options.cifar,
  { "width", 64, "channels of the first stage", min = 1, integer = true },
  { "batch-size", 128, "images per step", min = 2, integer = true }, { "lr", 1e-3, "learning rate", above = 0 },
  { "epochs", 30, "training epochs", min = 1, integer = true }, cld.options.training,
}
local run    = cld.run(opt)
local sets   = cld.data.splits(opt)
local loader = cld.data.loader { sets.train, batch_size = opt.batch_size, views = 1, seed = opt.seed, dtype = "auto",
  augment = cld.augment.none { crop = { 0.4, 1 }, flip = 0.5 }, workers = opt.workers, device = opt.device }
local net    = cld.models.resnet18 { small = true, width = opt.width, head = "linear", dim = sets.train.classes,
  branches = { "instance" } }:to(opt.device)
local adamw  = AdamW.new(net, { betas = { 0.9, 0.999 }, eps = 1e-8, weight_decay = 0.05 })
local lr     = cld.schedule.cosine { base = opt.lr, steps_per_epoch = #loader, epochs = opt.epochs }

local step = cld.graph(function(images, labels, rate)
  local loss, top1 = net(images):cross_entropy(labels, { accuracy = true })
  return { loss = loss, train_top1 = top1, grad_norm = adamw:step(loss, rate) }
end, { enabled = opt.graph, device = opt.device })

for epoch in run:epochs { net = net, adamw = adamw, loader = loader } do
  for batch in loader:epoch(epoch) do
    run:track(step(batch.views[1], batch.labels, lr(run.step)), { lr = lr(run.step) })
  end
  run:score { top1 = (cld.eval.accuracy(cld.eval.features(net, sets.test))) }
end
