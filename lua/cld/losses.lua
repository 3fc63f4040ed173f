--- Losses: NPID's memory bank, MoCo's queue, CLD's groups, InfoMin's, BYOL's, SimCLR's. The mathematics is in C
-- (runtime/losses); this file has the objects with state: the memory bank and the queue.
--
--   local bank = cld.losses.memory_bank { size = #train, dim = 128, momentum = 0.5, temperature = 0.1 }
--   local loss = bank:loss(features, index)           -- features (batch, 128), index i64 (batch), 0-based
--   loss:backward()                                   -- then the rows `index` of bank.memory are updated
--
-- The state_dict of a bank or a queue holds its whole state.
local byol = require "cld.losses.byol"
local caller = require "cld.caller"
local class = require "cld.class"
local core = require "cld.core"
local dist = require "cld.dist"
local infomin = require "cld.losses.infomin"
local state = require "cld.state"
local functional, create = core.losses, core.tensor

-- A loss whose rows depend on each other is computed over the whole batch on each rank (cld.dist); the gradient
-- reaches the rank's own rows.
local function of_whole_batch(name, x)
  if dist.alone or not create.is_tensor(x) then return x end
  return caller.call(name, core.dist.gather_rows, x)
end

-- Whether groups of at most `block` rows (0: one group of all rows) span several ranks.
local function spans_ranks(block)
  local batch = not dist.alone and core.dist.batch()
  return batch and core.dist.spans(batch, block)
end

local function cld(g1, g2, settings, part)
  settings = settings or {}
  local block = settings.block or part and part.block or 0
  if part and block ~= settings.block then settings = setmetatable({ block = block }, { __index = settings }) end
  if math.type(block) == "integer" and spans_ranks(block) then
    g1, g2 = of_whole_batch("cld", g1), of_whole_batch("cld", g2)
  end
  return caller.call("cld", functional.cld, g1, g2, settings)
end

local losses = {
  --- cld.losses.kmeans(x, k, iterations) -> labels i64 (n), centroids (k, d): Lloyd's algorithm on x (n, d), from
  -- the first k rows. An empty cluster's centroid is the zero vector. The centroids are differentiable: means of the
  -- rows, labels constant.
  --
  --     local labels = cld.losses.kmeans(cld.tensor { { 0, 0 }, { 5, 5 }, { 0, 1 } }, 2, 3)
  --     print(table.concat(labels:totable(), " "))  --> 0 1 0
  kmeans = functional.kmeans,

  --- cld.losses.cld(g1, g2[, {clusters = 128, iterations = 5, temperature = 0.2, detach_centroids = false, block = 0,
  -- grouping = "kmeans"|"ncut", eigenvectors = 0}[, part]]) -> loss, accuracy, empty: CLD's group loss of two views g1
  -- and g2 (n, d): (CE(g1 C2' / T, c2) + CE(g2 C1' / T, c1)) / 2 with labels c and centroids C by k-means on each view
  -- (Wang, Liu and Yu, CVPR 2021), or with grouping = "ncut" by normalized_cuts with that many eigenvectors. The
  -- accuracy, a 0-d tensor in 0..1, is the share of rows whose largest logit of g1 C2' is c2. The third result, a 0-d
  -- constant in f32, is the share of empty groups over both views, among the min(clusters, rows) groups that can have
  -- a row.
  --
  -- block: the rows are cut into blocks of at most that many rows (nn.blocks), each with its own groups and its own
  -- centroids in the logits; all three results are means over the blocks, weighted by their rows. 0: one block. If
  -- there are at least as many clusters as rows in a block, each row is its own group (the first of equal rows takes
  -- them all), and the other centroids are zero vectors, whose logits are 0: the loss discriminates rows across the
  -- views inside their block. part: a part of nn.blocks, if the rows belong to one: blocks then have the size of its
  -- blocks. A block that spans several ranks is grouped as a whole.
  --
  --     local g1, g2 = cld.randn(32, 8):normalize(), cld.randn(32, 8):normalize()
  --     local loss, accuracy = cld.losses.cld(g1, g2, { clusters = 4 })
  --     print(loss:item() > 0, accuracy:item() <= 1)  --> true true
  cld = cld,

  --- cld.losses.byol(p1, p2, t1, t2[, scale = 1]) -> loss: scale / 2 ((1 - cos(p1, t2)) + (1 - cos(p2, t1))), the mean
  -- over the n images (Grill et al., 2020): the predictions p1 and p2 (n, dim) of two views, each compared with the
  -- target's projection of the other view. The gradient flows to p1 and p2 only. scale 4 gives the published sum of
  -- two squared distances.
  byol = byol,

  --- cld.losses.nt_xent(z1, z2, temperature) -> loss: SimCLR's loss of two views z1 and z2 (n, dim) of n images, not
  -- normalised (Chen et al., ICML 2020, equation 1): each of the 2 n rows must find the other view of its image among
  -- the 2 n - 1 other rows; the loss is the mean cross entropy of the cosines / temperature. The gradient flows to
  -- both. With several ranks, n counts the images of all.
  --
  --     local z1, z2 = cld.randn(8, 4), cld.randn(8, 4)
  --     print(cld.losses.nt_xent(z1, z2, 0.5):item() > 0)  --> true
  nt_xent = function(z1, z2, temperature)
    return caller.call("nt_xent", functional.nt_xent, of_whole_batch("nt_xent", z1), of_whole_batch("nt_xent", z2),
      temperature)
  end,
}

local function integer(what, options, name, least, default)
  local value = options[name]
  if value == nil then value = default end
  return caller.integer(what, name, value, least)
end

local function number(what, options, name, default, fits, expected)
  local value = options[name]
  if value == nil then value = default end
  if type(value) ~= "number" or not fits(value) then
    caller.raise("%s: %s is %s; expected %s", what, name, tostring(value), expected)
  end
  return value
end

local function temperature(what, options, default)
  return number(what, options, "temperature", default, function(t) return t > 0 and t < math.huge end,
    "a number above 0")
end

--- cld.losses.cld_settings(opt) -> table: the third argument of cld.losses.cld, from a recipe's options:
-- cld.options.cld, and cld.options.blocks if declared.
function losses.cld_settings(opt)
  return {
    grouping = opt.grouping, eigenvectors = opt.eigenvectors,
    clusters = opt.clusters, iterations = opt.iterations, temperature = opt.cld_t,
    detach_centroids = opt.detach_centroids, block = rawget(opt, "cld_rows") == "block" and opt.block or nil,
  }
end

--- cld.losses.normalized_cuts(x[, {eigenvectors = 0, clusters = 128, iterations = 5, sigma}]) -> labels i64 (n),
-- centroids (clusters, d), eigenvalues: groups of the rows of x (n, d) by normalized cuts (Shi and Malik, PAMI 2000;
-- as in CLD's authors' code), on x's device, without waiting for it.
--
-- With W_ij = |cos(x_i, x_j)|, 0 on the diagonal, and D its row sums: the eigenvectors of D^-1/2 (D - W) D^-1/2 that
-- have the smallest eigenvalues, times D^-1/2, then k-means on their rows. Centroids are the means of x's rows by
-- those labels and differentiable as such; labels and eigenvalues (ascending, from 0) are constants. An empty group's
-- centroid is the zero vector.
--
-- eigenvectors: 0 means as many as clusters; more than rows means as many as rows, as published. sigma: the authors
-- divide W by it, which changes neither labels nor eigenvalues; it is accepted and has no effect. A row that is
-- similar to no other, a row of zeros for example, has its own eigenvalue of 1, and all such rows share one label. A
-- value that is not finite makes the eigenvalues NaN and all labels 0.
function losses.normalized_cuts(x, options)
  options = options or {}
  caller.require_fields("normalized_cuts", options, { "eigenvectors", "clusters", "iterations", "sigma" })
  number("normalized_cuts", options, "sigma", 1, function(s) return s > 0 and s < math.huge end, "a number above 0")
  return caller.call("normalized_cuts", functional.normalized_cuts, x, {
    eigenvectors = options.eigenvectors, clusters = options.clusters, iterations = options.iterations,
  })
end

local draws = {}

-- Uniform in (-s, s) with s = 1 / sqrt(dim / 3), which makes unit rows on average.
function draws.uniform(rows, dim)
  local bound = 1 / math.sqrt(dim / 3)
  return rows:uniform_(-bound, bound)
end

-- N(0, 1), each row divided by its length.
function draws.normal(rows) return rows:normal_():normalize(-1) end

-- (size, dim)
local function random_rows(what, size, dim, options)
  local dtype, init = options.dtype or "f32", options.init or "uniform"
  if not draws[init] then
    caller.raise("%s: init is %s; expected 'uniform' or 'normal'", what, caller.shown(init))
  end
  if dtype ~= "f32" and dtype ~= "f64" then
    caller.raise("%s: dtype is %s; expected 'f32' or 'f64'", what, tostring(dtype))
  end
  local settings = { dtype = dtype, device = options.device or "cpu" }
  return draws[init](caller.call(what, create.empty, { size, dim }, settings), dim)
end

-- A counter that starts at 0, on the device of the kernels, so that nothing waits for it. i64, of no dimension.
local function counter(memory) return create.zeros({}, { dtype = "i64", device = memory.device }) end

-- Only the memory is required, since a published checkpoint has nothing else: the other tensors then stay as they are.
local own_affair = { optional = function(name) return name ~= "memory" end }

-- "65536 keys x 128, temperature 0.2, f32 on cpu": a bank or a queue as text.
local function shown(self, rows)
  local memory = self.memory
  local _ <close> = core.text.c_locale()
  return ("%d %s x %d, temperature %g, %s on %s"):format(memory.shape[1], rows, memory.shape[2], self.temperature,
    memory.dtype, memory.device)
end

-- ---- memory bank ------------------------------------------------------------

local MemoryBank = class.new "cld.memory_bank"

function MemoryBank:__tostring()
  local _ <close> = core.text.c_locale()
  return ("memory_bank: %s; momentum %g, %s"):format(shown(self, "rows"), self.momentum,
    self.negatives > 0 and self.negatives .. " negatives" or "all rows")
end

--- cld.losses.memory_bank{size =, dim =, momentum = 0.5, temperature = 0.1, negatives = 0, dtype = "f32", device =
-- "cpu"} -> memory_bank: one row per training image (Wu et al., CVPR 2018). negatives = 0 is the full softmax over all
-- rows; K > 0 is NCE against K rows drawn uniformly for each feature. bank.memory is the (size, dim) tensor.
function losses.memory_bank(options)
  caller.require_fields("memory_bank", options,
    { "size", "dim", "momentum", "temperature", "negatives", "dtype", "device" })
  local size, dim = integer("memory_bank", options, "size", 1), integer("memory_bank", options, "dim", 1)
  local self = setmetatable({
    momentum = number("memory_bank", options, "momentum", 0.5, function(m) return m >= 0 and m <= 1 end, "0 to 1"),
    temperature = temperature("memory_bank", options, 0.1),
    negatives = integer("memory_bank", options, "negatives", 0, 0),
    memory = random_rows("memory_bank", size, dim, options),
  }, MemoryBank)
  if self.negatives > 0 then
    self.draws = counter(self.memory)               -- calls of :loss so far: selects the next negatives
    self.normalizer = create.zeros({ 1 }, { dtype = self.memory.dtype, device = self.memory.device })
  end
  return self
end

-- This rank's rows of the negatives (rows, negatives), which are drawn for all ranks.
local function draw_negatives(self, features)
  local share = caller.call("memory_bank", core.dist.images, "memory_bank", features.shape[1])
  local drawn = functional.sample_negatives(self.draws, share.total, self.negatives, self.memory.shape[1])
  if share.rows == share.total then return drawn end
  local _ <close> = drawn
  return drawn:narrow(1, share.begin + 1, share.rows):clone()
end

-- The normalizer is measured on the first batch, over all ranks. The host cannot know whether it is set already, so it
-- is measured each time: on this rank's rows, then the mean over the ranks.
local function measure_normalizer(self, features, index, negatives)
  local _ <close> = core.autograd.no_grad()
  local rows <close> = features:detach()
  local measured <close> = create.zeros_like(self.normalizer)
  functional.bank_nce_loss(rows, self.memory, index, negatives, measured, self.temperature, self.momentum):close()
  local mean <close> = core.dist.all_reduce(measured * core.dist.weight(), "sum")
  local unknown <close> = self.normalizer:le(0)
  local normalizer <close> = create.where(unknown, mean, self.normalizer)
  self.normalizer:copy_(normalizer)
end

--- memory_bank:loss(features, index) -> loss: the mean loss of features (batch, dim) of the images index (i64 (batch),
-- 0-based) against the memory as it is now. When a backward through the loss has run, the rows become
-- normalize(momentum * row + (1 - momentum) * feature): with two views in one backward, view 2 first, then view 1.
--
--     local bank = cld.losses.memory_bank { size = 100, dim = 8 }
--     local loss = bank:loss(cld.randn(4, 8):normalize(), cld.tensor({ 0, 1, 2, 3 }, "i64"))
--     print(loss:item() > 0)                    --> true
function MemoryBank:loss(features, index)
  if self.negatives == 0 then
    return caller.call("loss", functional.bank_loss, features, self.memory, index, self.temperature, self.momentum)
  end
  local negatives <close> = draw_negatives(self, features)
  if not dist.alone then measure_normalizer(self, features, index, negatives) end
  return caller.call("loss", functional.bank_nce_loss, features, self.memory, index, negatives, self.normalizer,
    self.temperature, self.momentum)
end

--- memory_bank:reset_normalizer(): if there are negatives, the next loss measures their normalizer again, on the rows
-- as they are then.
function MemoryBank:reset_normalizer()
  if self.normalizer then self.normalizer:zero_() end
end

--- memory_bank:state_dict() -> {name = tensor}: memory, and with negatives also normalizer and draws.
function MemoryBank:state_dict()
  return { memory = self.memory, normalizer = self.normalizer, draws = self.draws }
end

--- memory_bank:load_state_dict(state): copies into the bank, in its own dtype. A state with only the memory is enough:
-- the normalizer and the draws then do not change. Any other missing, unexpected or mis-shaped entry is an error that
-- names it.
function MemoryBank:load_state_dict(given)
  state.load("memory_bank", self:state_dict(), given, own_affair)
end

-- ---- MoCo's queue -----------------------------------------------------------

local MocoQueue = class.new "cld.moco_queue"

function MocoQueue:__tostring() return "moco_queue: " .. shown(self, "keys") end

--- cld.losses.moco_queue{size =, dim =, temperature = 0.07, init = "uniform"|"normal", dtype = "f32", device = "cpu"}
-- -> moco_queue: a ring of keys, the negatives of MoCo (He et al., CVPR 2020). queue.memory is the (size, dim) tensor,
-- queue.pointer:item() the next row to be replaced, counted from 0. init: its first rows: "uniform" in (-s, s), s = 1
-- / sqrt(dim / 3), as in the published CIFAR code; "normal": N(0, 1), each row divided by its length, as in MoCo v2
-- (Chen et al., 2020).
function losses.moco_queue(options)
  caller.require_fields("moco_queue", options, { "size", "dim", "temperature", "init", "dtype", "device" })
  local size, dim = integer("moco_queue", options, "size", 1), integer("moco_queue", options, "dim", 1)
  local memory = random_rows("moco_queue", size, dim, options)
  return setmetatable({
    temperature = temperature("moco_queue", options, 0.07),
    memory = memory,
    pointer = counter(memory),
  }, MocoQueue)
end

--- moco_queue:loss(query, key) -> loss: the mean cross entropy of [query . key, query memory'] / temperature
-- against class 0; query and key (batch, dim). The gradient flows to the query only.
function MocoQueue:loss(query, key)
  return caller.call("loss", functional.queue_loss, query, key, self.memory, self.temperature)
end

--- moco_queue:enqueue(keys[, made]): replaces the oldest rows by keys (any number, dim); if there are more keys than
-- rows, the last ones remain. Keys are not checked: do not enqueue them after a step that was skipped because its loss
-- was not finite, since one NaN makes every loss NaN until its row is replaced. So pass the result of sgd:step as
-- `made`: nothing changes if it is 0.
--
--     local queue = cld.losses.moco_queue { size = 16, dim = 4 }
--     queue:enqueue(cld.ones(6, 4):normalize())
--     print(queue.pointer:item())               --> 6
function MocoQueue:enqueue(keys, made)
  caller.call("enqueue", functional.enqueue, self.memory, self.pointer, keys, made)
end

--- moco_queue:enqueue_after(loss, keys) -> loss: a loss whose backward also enqueues the keys. When a backward through
-- it has run, the keys replace the oldest rows, unless the optimizer's step is skipped. If a step has several losses
-- (sgd:add), they enqueue in the order of their backwards. A loss off the tape enqueues nothing.
function MocoQueue:enqueue_after(loss, keys)
  return caller.call("enqueue_after", functional.enqueue_after, loss, self.memory, self.pointer, keys)
end

--- moco_queue:state_dict() -> {memory =, pointer =}: the pointer, i64 of no dimension, is the next row to be replaced,
-- from 0.
function MocoQueue:state_dict() return { memory = self.memory, pointer = self.pointer } end

--- moco_queue:load_state_dict(state): copies into the queue, in its own dtype. A state with only the memory is enough:
-- the pointer then does not change. Any other missing, unexpected or mis-shaped entry is an error that names it.
function MocoQueue:load_state_dict(given)
  local size = self.memory.shape[1]
  local pointer = given.pointer and given.pointer:numel() == 1 and given.pointer:item()
  if pointer and not (pointer >= 0 and pointer < size) then
    caller.raise("moco_queue: the state's pointer is %s; expected 0 to %d", pointer, size - 1)
  end
  state.load("moco_queue", self:state_dict(), given, own_affair)
end

--- cld.losses.infomin{queue =, beta = 0.5, double_enqueue = false} -> loss object: InfoMin's loss with jigsaw
-- patches (Tian et al., NeurIPS 2020), on a cld.losses.moco_queue. beta is the weight of the patches' part;
-- double_enqueue puts the keys into the queue twice, as the published CLD code does.
function losses.infomin(options) return infomin.new(options, function(q) return getmetatable(q) == MocoQueue end) end

return losses
