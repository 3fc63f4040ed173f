--- A linear classifier on the features of a frozen network. The network runs in evaluation mode, off the tape, so that
-- a step is its forward and one matrix product. The classifier computes in f32 whatever the precision.
--
--   local probe = cld.eval.linear_probe { net = net, train = train, test_view = view, protocol = "moco" }
--   for batch in loader:epoch(epoch) do run:track(probe:step(batch, rate)) end
--   if epoch == 1 then probe:check_frozen() end
--   run:score(probe:test(test, epoch))
local caller = require "cld.caller"
local class = require "cld.class"
local core = require "cld.core"
local extract = require "cld.eval.extract"
local nn = require "cld.nn"
local optim = require "cld.optim"
local protocols = require "cld.eval.protocols"
local shots = require "cld.eval.shots"
local sorted_keys = require "cld.sorted_keys"
local state = require "cld.state"
local user_error = require "cld.user_error"
local create, no_grad = core.tensor, core.autograd.no_grad

local KEPT_BYTES = 2 ^ 30 -- the features of a test set up to this size are kept for its next test

local Probe = class.new "cld.eval.linear_probe"

-- ---- the classifier -------------------------------------------------------------

local function new_weights(classes, dim, init, device)
  local weight, bias = create.empty(classes, dim), create.zeros(classes)
  if init == "normal" then
    nn.init.normal_(weight, 0, 0.01)
  else
    nn.init.fan_in_uniform_(weight, dim)
    nn.init.fan_in_uniform_(bias, dim)
  end
  return weight:to(device):requires_grad_(), bias:to(device):requires_grad_()
end

local function logits(features, weight, bias)
  local columns <close> = weight:t()
  local products <close> = features:matmul(columns)
  return products + bias
end

-- ---- the frozen network -----------------------------------------------------------

-- {name = copy of a tensor}, all of them finite.
local function frozen_state(net)
  local copies = {}
  if not nn.is_module(net) then return copies end
  local tensors = net:state_dict()
  for _, name in ipairs(sorted_keys(tensors)) do
    local finite <close> = tensors[name]:isfinite()
    local all <close> = finite:all()
    if all:item() == 0 then
      user_error.raise("the network's '%s' is not finite: the checkpoint has diverged", name)
    end
    copies[name] = tensors[name]:clone()
  end
  return copies
end

local function differs(a, b)
  local different <close> = a:ne(b)
  local any <close> = different:any()
  return any:item() ~= 0
end

-- Compares two finite tensors bit for bit: 0 and -0 are equal, but their reciprocals differ.
local function same_bits(a, b)
  if differs(a, b) then return false end
  if not a.dtype:find "^b?f" then return true end
  local _ <close> = no_grad()
  local x <close> = a:reciprocal()
  local y <close> = b:reciprocal()
  return not differs(x, y)
end

-- ---- the probe --------------------------------------------------------------------

local fields = {
  "net", "train", "test", "test_view", "protocol", "layer", "branch", "device", "batch_size", "workers", "max_bad",
  "strict", "dtype", "lr", "momentum", "weight_decay", "init", "shared",
}

--- linear_probe{net =, train =, test, protocol = "moco"|"infomin"|{...}, test_view, layer, branch, lr, momentum,
-- weight_decay, init, shared, and the options of features}: a classifier of the classes of `train`, its weights drawn
-- from the global generator. test: the default set of probe:test. test_view is the augmentation for tests. layer is
-- "features" by default if the network has that, else "instance". The protocol's settings can be replaced one by one
-- (protocols.lua). shared: the `shared` of another probe of the same network and layer, so that what both keep
-- about it is stored once.
-- probe.weight (classes, dim), probe.bias (classes); probe.best: {top1 =, epoch =} or nil; probe.skipped: steps whose
-- loss was not finite. state_dict and load_state_dict: the classifier, its optimizer, the best one; not the network.
local function new(options)
  caller.require_fields("eval.linear_probe", options, fields)
  extract.check("eval.linear_probe", options.net, options.train, "train")
  local net, train = options.net, options.train
  local p = protocols.settings("eval.linear_probe", options.protocol, {
    lr = options.lr, momentum = options.momentum, weight_decay = options.weight_decay, init = options.init,
  })
  local layer = options.branch == nil and (options.layer or extract.last_layer(net)) or nil
  local self = setmetatable({
    net = net, layer = layer, test_view = options.test_view, device = extract.device(net, options),
    counts = shots.counts(train, "linear evaluation"), test_set = options.test,
    branch = options.branch or extract.layer("eval.linear_probe", net, layer),
    passes = {
      augment = options.test_view, branch = options.branch, layer = layer, device = options.device,
      batch_size = options.batch_size, workers = options.workers, max_bad = options.max_bad, strict = options.strict,
      dtype = options.dtype,
    },
  }, Probe)
  if options.test then
    extract.check("eval.linear_probe", net, options.test, "test")
    shots.check_test(self.counts, options.test, "linear evaluation")
  end
  self.shared = options.shared or { frozen = frozen_state(net), features = {} }
  local dim = extract.dim("eval.linear_probe", net, train, self.passes)
  self.weight, self.bias = new_weights(#self.counts, dim, p.init, self.device)
  self.sgd = optim.sgd({ self.weight, self.bias },
    { lr = p.lr, momentum = p.momentum, weight_decay = p.weight_decay })
  self.best_of = {
    weight = create.zeros_like(self.weight), bias = create.zeros_like(self.bias), top1 = create.zeros({}, "f64"),
    epoch = create.zeros({}, "i64"),
  }
  return self
end

--- "linear_probe: 10 classes of 512 features, f32 on cpu; best top-1 52.30 %, epoch 3"
function Probe:__tostring()
  local _ <close> = core.text.c_locale()
  local best, weight = self.best, self.weight
  return ("linear_probe: %d classes of %d %s, f32 on %s%s"):format(weight.shape[1], weight.shape[2],
    self.layer == "instance" and "outputs" or "features", weight.device,
    best and ("; best top-1 %.2f %%, epoch %d"):format(100 * best.top1, best.epoch) or "")
end

function Probe.__index(self, key)
  if key == "skipped" then return rawget(self, "sgd").skipped end
  if key == "best" then
    local best = rawget(self, "best_of")
    local epoch = best.epoch:item()
    return epoch > 0 and { top1 = best.top1:item(), epoch = epoch } or nil
  end
  return class.field(Probe, self, key)
end

--- linear_probe:features(images) -> f32 (n, dim): the frozen network's features of images (n, 3, height, width), off
-- the tape.
function Probe:features(images)
  local _ <close> = extract.in_eval_mode(self.net)
  local _ <close> = no_grad()
  return self.branch(self.net, images):to "f32"
end

--- linear_probe:step(batch, rate) -> {loss =, train_top1 =, grad_norm =}: a training step on the first view of a
-- loader's batch {views =, labels =}, at a rate: a number or a tensor of one element. The results have no dimension:
-- the batch's mean cross entropy, the share of its rows whose highest logit is their class, and the norm of the
-- classifier's gradient.
function Probe:step(batch, rate)
  local features = self:features(batch.views[1]) -- may belong to the network: left to the collector
  local out = logits(features, self.weight, self.bias)
  local loss, hit = create.cross_entropy(out, batch.labels, { accuracy = true })
  self.sgd:step(loss, { lr = rate, grad_norm = true })
  return { loss = loss, train_top1 = hit, grad_norm = self.sgd.grad_norm }
end

-- ---- tests ------------------------------------------------------------------------

-- The features of a test set, kept for the next test if they are small: the network does not change.
local function features_of(self, set)
  local kept = self.shared.features[set]
  if kept then return kept[1], kept[2] end
  local features, labels = extract.all("eval.linear_probe", self.net, set, self.passes, "rows")
  features = features:to "f32"
  if features:numel() * 4 <= KEPT_BYTES then self.shared.features[set] = { features, labels } end
  return features, labels
end

--- linear_probe:test([data set[, epoch]]) -> {top1 =, top5 =, many =, medium =, few =}: shares (eval/shots.lua): top5
-- only with at least 5 classes, the last three only if at least two of them have classes. If an epoch is given and the
-- classifier is the best so far, it is kept.
function Probe:test(set, epoch)
  set = set or self.test_set
  extract.check("linear_probe:test", self.net, set, "the data set")
  shots.check_test(self.counts, set, "linear evaluation")
  local _ <close> = no_grad()
  local features, labels = features_of(self, set)
  local values = shots.score(logits(features, self.weight, self.bias), labels, self.counts)
  if epoch and (not self.best or values.top1 > self.best.top1) then
    local best = self.best_of
    best.weight:copy_(self.weight)
    best.bias:copy_(self.bias)
    best.top1:fill_(values.top1)
    best.epoch:fill_(epoch)
  end
  return values
end

--- linear_probe:check_frozen(): raises if a tensor of the network differs in any bit from what it was when the probe
-- was made; the error names the tensor.
function Probe:check_frozen()
  if not nn.is_module(self.net) then return end
  local now = self.net:state_dict()
  local frozen = self.shared.frozen
  for _, name in ipairs(sorted_keys(frozen)) do
    if not now[name] or not same_bits(frozen[name], now[name]) then
      user_error.raise("linear evaluation: '%s' of the frozen network is no longer what it was in the checkpoint", name)
    end
  end
end

-- ---- state ------------------------------------------------------------------------

local function own_tensors(self)
  local own = { weight = self.weight:detach(), bias = self.bias:detach() }
  for name, tensor in pairs(self.best_of) do own["best." .. name] = tensor end
  return own
end

--- linear_probe:state_dict() -> {name = tensor}: the classifier, its optimizer and the best one; not the network.
function Probe:state_dict()
  local all = own_tensors(self)
  for name, tensor in pairs(self.sgd:state_dict()) do all["sgd." .. name] = tensor end
  return all
end

--- linear_probe:load_state_dict(state): copies in what state_dict returned; an error names an entry that does not fit.
function Probe:load_state_dict(given)
  local own, optimizer = {}, {}
  for name, tensor in pairs(given) do
    local inner = name:match "^sgd%.(.+)$"
    if inner then optimizer[inner] = tensor else own[name] = tensor end
  end
  state.load("linear_probe", own_tensors(self), own)
  self.sgd:load_state_dict(optimizer)
end

return new
