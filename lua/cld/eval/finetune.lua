--- Fine-tuning: trains all layers of a network on labels, with a new linear classification layer, for every entry of a
-- grid of learning rates. Batch norm is in training mode. Each training of the grid starts from the same weights,
-- including the new layer's, and sees the images in the same order.
--
--   local tuning = cld.eval.finetuning { net = net, train = train, test = test, test_view = view, protocol = p,
--     grid = { { lr = 0.01, head_lr = 100 } } }
--   for epoch in run:epochs { net = tuning.net, tuning = tuning, loader = loader } do
--     local own, begins = tuning:begin(epoch)            -- the epoch of the running training
--     ...; tuning.sgd:step(loss, { lr = tuning:rate(run.step) })
--     tuning:test(own)
--   end
local caller = require "cld.caller"
local class = require "cld.class"
local core = require "cld.core"
local extract = require "cld.eval.extract"
local models = require "cld.models"
local optim = require "cld.optim"
local protocols = require "cld.eval.finetune_protocols"
local shots = require "cld.eval.shots"
local sorted_keys = require "cld.sorted_keys"
local state = require "cld.state"
local user_error = require "cld.user_error"
local create, no_grad = core.tensor, core.autograd.no_grad

local WHAT = "fine-tuning" -- messages begin with it
local NONE = -1 -- in place of a missing score

-- ---- the network ------------------------------------------------------------------

-- The encoder in a network that was fine-tuned before, or the network itself; its description, and the layer.
local function encoder_of(net, layer)
  local how, reason = models.description(net)
  if not how then caller.raise("eval.finetuning: the network's constructor is not known: %s", reason) end
  if how.constructor == "classifier" then return net.encoder, how.settings.encoder, how.settings.layer end
  return net, how, layer or extract.last_layer(net)
end

-- A classifier around a copy of the network; its `fc` is drawn from the global generator with PyTorch's default.
local function with_classes(options, classes)
  local encoder, how, layer = encoder_of(options.net, options.layer)
  local dim = extract.dim("eval.finetuning", encoder, options.train, {
    augment = options.test_view, layer = layer, device = options.device, workers = options.workers,
  })
  local net = models.classifier { encoder = how, classes = classes, dim = dim, layer = layer }
  net.encoder:load_state_dict(encoder:state_dict())
  return net:to(extract.device(encoder, options))
end

local function copies_of(net)
  local copies = {}
  for name, tensor in pairs(net:state_dict()) do copies[name] = tensor:clone() end
  return copies
end

-- ---- the tuning -------------------------------------------------------------------

local Tuning = class.new "cld.eval.finetuning"

-- The record of a training: the scores of its last test, and the best top1 with its epoch.
local columns = { "top1", "top5", "many", "medium", "few", "best", "epoch" }

local fields = {
  "net", "train", "test", "test_view", "protocol", "grid", "layer", "device", "workers", "steps_per_epoch",
}

--- finetuning{net =, train =, test =, test_view =, grid = {{lr =, head_lr =}, ...}, protocol = "openselfsup"|"swav"|
-- settings, layer, device, workers, steps_per_epoch}: the network, made by cld.models, does not change: a copy of it
-- is tuned. lr is the rate of its layers; the new layer's rate is lr times head_lr. layer: "features" (the input of
-- the heads) by default, or "instance". steps_per_epoch may be set later, before :rate. tuning.net: the classifier
-- (cld.models.classifier); tuning.sgd: the running training's optimizer; tuning.training: its number in the grid. The
-- user's errors: a training set without labels or with one class, a class without an image, and test images of another
-- class. state_dict and load_state_dict: all but tuning.net.
local function new(options)
  caller.require_fields("eval.finetuning", options, fields)
  extract.check("eval.finetuning", options.net, options.train, "train")
  extract.check("eval.finetuning", options.net, options.test, "test")
  if type(options.grid) ~= "table" or #options.grid == 0 then
    caller.raise("eval.finetuning: grid must be a list of at least one {lr =, head_lr =}, got %s",
      caller.shown(options.grid))
  end
  shots.check_every_class(options.train, WHAT, "; a larger share of the labels, or a longer list, would have")
  local counts = shots.counts(options.train, WHAT)
  shots.check_test(counts, options.test, WHAT)
  local self = setmetatable({
    protocol = protocols.settings("eval.finetuning", options.protocol), grid = options.grid, counts = counts,
    test_set = options.test, steps_per_epoch = options.steps_per_epoch, net = with_classes(options, #counts),
    passes = { augment = options.test_view, layer = "instance", workers = options.workers },
    results = create.full({ #options.grid, #columns }, NONE, "f64"), at = create.zeros({}, "i64"),
  }, Tuning)
  if #self.grid > 1 then self.start, self.best = copies_of(self.net), copies_of(self.net) end
  return self
end

function Tuning.__index(self, key)
  -- A diverged training does not end the others of its grid: the run sees skipped steps only if there is one training.
  if key == "skipped" then
    local sgd = rawget(self, "sgd")
    return #rawget(self, "grid") == 1 and (sgd and sgd.skipped or 0) or nil
  end
  return class.field(Tuning, self, key)
end

-- ---- the trainings ------------------------------------------------------------------

local function optimizer(self)
  local entry, p = self.grid[self.training], self.protocol
  return optim.sgd({
    { params = self.net.encoder:parameters() }, { params = self.net.fc:parameters(), lr_factor = entry.head_lr },
  }, { lr = entry.lr, momentum = p.momentum, weight_decay = p.weight_decay })
end

local function set_training(self, training)
  self.training = training
  self.at:fill_(training)
  self.sgd = optimizer(self)
end

--- finetuning:begin(epoch) -> epoch, is_new: the epoch of its own training, from 1, and whether tuning.sgd is new: a
-- training begins, or continues in a resumed run. The argument counts the epochs of all trainings in sequence.
function Tuning:begin(epoch)
  local epochs = self.protocol.epochs
  local training, own = (epoch - 1) // epochs + 1, (epoch - 1) % epochs + 1
  local is_new = self.training ~= training or not self.begun
  if self.training ~= training then
    set_training(self, training)
    if self.start then self.net:load_state_dict(self.start) end
  end
  self.begun = true
  self.net:train()
  return own, is_new
end

--- finetuning:rate(step) -> number: the rate of the network's layers at a step, counted over all trainings from 0.
function Tuning:rate(step)
  local p, steps = self.protocol, self.steps_per_epoch
  local own = step - (self.training - 1) * p.epochs * steps
  return protocols.rate(p, self.grid[self.training].lr, steps)(math.max(own, 0))
end

-- ---- tests ------------------------------------------------------------------------

local function keep(self, own, values)
  local row = self.results[self.training]
  for i = 1, 5 do row[i]:fill_(values[columns[i]] or NONE) end
  if values.top1 and values.top1 > row[6]:item() then
    row[6]:fill_(values.top1)
    row[7]:fill_(own)
  end
end

-- The training with the highest top1 in its last test; the first of equal ones; nil if none has a score.
local function best_training(self)
  local best, at = NONE, nil
  for i, row in ipairs(self.results:totable()) do
    if row[1] > best then best, at = row[1], i end
  end
  return at
end

-- Keeps the best training's network, which becomes tuning.net when the last training has ended.
local function end_training(self)
  if best_training(self) == self.training then
    for name, tensor in pairs(self.net:state_dict()) do self.best[name]:copy_(tensor) end
  end
  if self.training == #self.grid then self.net:load_state_dict(self.best) end
end

--- finetuning:test(epoch) -> {top1 =, top5 =, many =, medium =, few =} or nil: tests tuning.net as it is now, in that
-- epoch of its own training; shares (eval/shots.lua). nil if a training of a grid has diverged. In the last epoch of a
-- training its network is kept if it is the best so far; after the last training tuning.net is the best one.
function Tuning:test(own)
  local _ <close> = no_grad()
  local logits, labels = extract.all("eval.finetuning", self.net, self.test_set, self.passes)
  local values = {}
  if not self.start or extract.odd_rows(logits):item() == 0 then values = shots.score(logits, labels, self.counts) end
  keep(self, own, values)
  if self.start and own == self.protocol.epochs then end_training(self) end
  return next(values) and values or nil
end

-- ---- the results --------------------------------------------------------------------

local function percent(share) return share ~= NONE and ("%.2f %%"):format(100 * share) or "-" end

--- finetuning:summary() -> {line, ...}: a table of the trainings that names the best by its last epoch. The best epoch
-- of each is listed separately, since it was selected on the test images.
function Tuning:summary()
  local _ <close> = core.text.c_locale()
  local rows, best = self.results:totable(), best_training(self)
  local at, shown = {}, {}
  for i, name in ipairs(columns) do
    at[name] = i
    if i <= at.top1 or i < 6 and best and rows[best][i] ~= NONE then shown[#shown + 1] = name end
  end
  local words = { ("%10s %8s"):format("lr", "head x") }
  for _, name in ipairs(shown) do words[#words + 1] = ("%9s"):format(name) end
  local lines = { table.concat(words, " ") .. "   best epoch" }
  for i, row in ipairs(rows) do
    local entry = self.grid[i]
    words = { ("%10g %8g"):format(entry.lr, entry.head_lr) }
    for _, name in ipairs(shown) do words[#words + 1] = ("%9s"):format(percent(row[at[name]])) end
    lines[#lines + 1] = row[1] == NONE and ("%10g %8g  diverged"):format(entry.lr, entry.head_lr)
      or ("%s   %s, epoch %d"):format(table.concat(words, " "), percent(row[6]), math.tointeger(row[7]))
  end
  if not best then
    lines[#lines + 1] = "every training of the grid has diverged: lower rates (--lr) would do"
    return lines
  end
  local row, entry = rows[best], self.grid[best]
  local top5 = row[2] ~= NONE and (", top-5 %s"):format(percent(row[2])) or ""
  lines[#lines + 1] = ("last epoch: top-1 %s%s (lr %g, head x %g); best epoch: top-1 %s, epoch %d"):format(
    percent(row[1]), top5, entry.lr, entry.head_lr, percent(row[6]), math.tointeger(row[7]))
  return lines
end

--- finetuning:text() -> text: the current training, and its rates.
function Tuning:text()
  local _ <close> = core.text.c_locale()
  local entry = self.grid[self.training]
  return ("training %d of %d: lr %g, of the new layer %g"):format(self.training, #self.grid, entry.lr,
    entry.lr * entry.head_lr)
end

-- ---- state ------------------------------------------------------------------------

local function own_tensors(self)
  local own = { results = self.results, training = self.at }
  for _, kept in ipairs { "start", "best" } do
    for name, tensor in pairs(rawget(self, kept) or {}) do own[kept .. "." .. name] = tensor end
  end
  return own
end

--- finetuning:state_dict() -> {name = tensor}: everything but tuning.net.
function Tuning:state_dict()
  local all = own_tensors(self)
  for name, tensor in pairs(self.sgd and self.sgd:state_dict() or {}) do all["sgd." .. name] = tensor end
  return all
end

--- finetuning:load_state_dict(state): copies in what state_dict returned; an error names an entry that does not fit.
function Tuning:load_state_dict(given)
  local own, optimizer_state = {}, {}
  for _, name in ipairs(sorted_keys(given)) do
    local inner = name:match "^sgd%.(.+)$"
    if inner then optimizer_state[inner] = given[name] else own[name] = given[name] end
  end
  state.load("finetuning", own_tensors(self), own)
  local training = self.at:item()
  if training < 1 then return end
  if training > #self.grid then
    user_error.raise("it is at training %d, and there are %d", training, #self.grid)
  end
  set_training(self, training)
  self.sgd:load_state_dict(optimizer_state)
end

return new
