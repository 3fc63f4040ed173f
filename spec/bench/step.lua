--- Our side of the whole training step: `cldlua step.lua --method npid|moco|mocov2|byol ...` prints one JSON line with
-- views per second, peak resident memory and where the time goes.
--
-- Unlike the peer's, this time includes the loader and the augmentation. Convolutions and norms run deep inside
-- backward, where they cannot be timed, so afterwards each is run again by itself, forward and backward, on the
-- activations of a real pass. With --floor the same convolutions are also timed as bare oneDNN primitives.
local cld = require "cld"
local median = require "spec.bench.median"
local peak_mb = require "spec.bench.peak_mb"

local opt = cld.options {
  about = "One side of the benchmark: whole training steps on random images",
  { "method",   "npid", "what to train", choices = { "npid", "moco", "mocov2", "infomin", "byol" } },
  { "batch",    128,    "images per step", min = 2, integer = true },
  { "size",     32,     "height and width of a view; from 64 on the images have 256 x 256", min = 8, integer = true },
  { "steps",    3,      "timed steps, after two for warm-up", min = 1, integer = true },
  { "width",    64,     "channels of the first stage", min = 1, integer = true },
  { "clusters", 128,    "k-means groups", min = 1, integer = true },
  { "bank",     50000,  "rows of the memory bank, images of the data set", min = 1, integer = true },
  { "queue",    4096,   "keys in the queue", min = 1, integer = true },
  { "floor",    false,  "time the convolutions as oneDNN primitives too" },
}

-- ---- the methods: encode a batch, compute its loss, and what follows the optimizer's step ----

local function group_loss(g1, g2)
  return (cld.losses.cld(g1, g2, { clusters = opt.clusters, iterations = 5, temperature = 0.2 }))
end

local methods = {}

function methods.npid()
  local net = cld.models.resnet18_cifar { width = opt.width }
  local bank = cld.losses.memory_bank { size = opt.bank, dim = 128, momentum = 0.5, temperature = 0.1 }
  return {
    net = net, views = 2,
    encode = function(views)
      local f, g = net:each(views)
      return { f[1], f[2], g[1], g[2] }
    end,
    score = function(features, index)
      local f1, f2, g1, g2 = table.unpack(features)
      return (bank:loss(f1, index) + bank:loss(f2, index)) / 2 + group_loss(g1, g2)
    end,
    finish = function() end,
  }
end

function methods.moco()
  local net = cld.models.resnet18_cifar { width = opt.width }
  local keys = cld.models.resnet18_cifar { width = opt.width }
  keys:load_state_dict(net:state_dict())
  local queue = cld.losses.moco_queue { size = opt.queue, dim = 128, temperature = 0.07 }
  return {
    net = net, views = 3,
    encode = function(views)
      local q, g = net:each { views[1], views[2] }
      return { q[1], q[2], g[1], g[2], cld.no_grad(function() return (keys(views[3])) end) }
    end,
    score = function(features)
      local q1, q2, g1, g2, key = table.unpack(features)
      return (queue:loss(q1, key) + queue:loss(q2, key)) / 2 + 0.25 * group_loss(g1, g2)
    end,
    finish = function(features)
      cld.optim.ema(keys, net, 0.999)
      queue:enqueue(features[5])
    end,
  }
end

-- ResNet-50 with the published settings: as in recipes/imagenet_mocov2_cld.lua, in one part.
function methods.mocov2()
  local net = cld.models.resnet50 { head = "norm_mlp", width = opt.width }
  local keys = net:clone()
  local queue = cld.losses.moco_queue { size = opt.queue, dim = 128, temperature = 0.2, init = "normal" }
  return {
    net = net, views = 3,
    encode = function(views)
      local q, g = net:each({ views[1], views[2] }, { block = 64, normalize = true })
      cld.optim.ema(keys, net, 0.999)
      local key = cld.no_grad(function()
        local k = cld.nn.shuffled(keys, views[3], { block = 64 })
        return k:normalize()
      end)
      return { q[1], q[2], g[1], g[2], key }
    end,
    score = function(features)
      local q1, q2, g1, g2, key = table.unpack(features)
      local group = cld.losses.cld(g1, g2, { clusters = 120, iterations = 5, temperature = 0.4, block = 64 })
      return (queue:loss(q1, key) + queue:loss(q2, key)) / 2 + 0.25 * group
    end,
    finish = function(features) queue:enqueue(features[5]) end,
  }
end

-- ResNet-50 with the published settings: as in recipes/imagenet_infomin_cld.lua, in one part.
function methods.infomin()
  local net = cld.models.resnet50 { layout = "infomin", head = "norm_mlp", jigsaw = true, width = opt.width }
  local keys = net:clone()
  local queue = cld.losses.moco_queue { size = opt.queue, dim = 128, temperature = 0.15, init = "normal" }
  local infomin = cld.losses.infomin { queue = queue }
  local view = cld.augment.infomin { size = opt.size }
  return {
    net = net, views = 3, programs = { view, view, view, cld.augment.infomin_jigsaw { view = opt.size } },
    encode = function(views)
      local key = cld.no_grad(function() return (cld.nn.shuffled(keys, views[3], { block = 64 })) end)
      local q, g = net:each({ views[1], views[2] }, { block = 64 })
      local jigsaw = cld.nn.each(function(x) return net:jigsaw(x) end, { views[4] }, { block = 64, unit = 9 })
      return { q[1], q[2], g[1], g[2], jigsaw[1], key }
    end,
    score = function(features)
      local q1, q2, g1, g2, jigsaw, key = table.unpack(features)
      local group = cld.losses.cld(g1, g2, { clusters = 120, iterations = 5, temperature = 0.8, block = 64 })
      return infomin:loss(q1, q2, jigsaw, key) + 0.25 * group
    end,
    finish = function() cld.optim.ema(keys, net, 0.999) end,
  }
end

-- ResNet-50 with the published widths, as in recipes/imagenet_byol_cld.lua in one part, but with SGD, which the peer
-- also has.
function methods.byol()
  local projector = { hidden = 4096, dim = 256 }
  local net = cld.models.resnet50 { head = "norm_mlp", width = opt.width, projector = projector }
  local target = cld.models.resnet50 {
    head = "norm_mlp", width = opt.width, projector = projector, branches = { "instance" },
  }
  cld.optim.ema(target, net, 0)
  local predictor = cld.nn.projector(256, 4096, 256)
  return {
    net = cld.nn.module_list(net, predictor), views = 2,
    encode = function(views)
      local z, g = net:each(views)
      local p = predictor:each(z)
      local t = cld.no_grad(function() return (target:each(views)) end)
      return { p[1], p[2], g[1]:normalize(), g[2]:normalize(), t[1], t[2] }
    end,
    score = function(features)
      local p1, p2, g1, g2, t1, t2 = table.unpack(features)
      local group = cld.losses.cld(g1, g2, { clusters = 120, iterations = 5, temperature = 0.4, block = 64 })
      return cld.losses.byol(p1, p2, t1, t2, 4) + group
    end,
    finish = function() cld.optim.ema(target, net, 0.99) end,
  }
end

-- ---- time ------------------------------------------------------------------------

-- Adds the time of f() to seconds[part]; returns what f returned.
local function timed(seconds, part, f)
  local start = cld.clock()
  local result = f()
  seconds[part] = (seconds[part] or 0) + cld.clock() - start
  return result
end

-- Times functional.<name>: each call runs again on detached inputs, forward and (if the tape is on) backward, and that
-- is timed. The forward's own output serves as the gradient, because it has the right layout.
local function isolate(seconds, part, name)
  local functional = cld.nn.functional
  local op = functional[name]
  local function leaf(x) return x.requires_grad and x:detach():requires_grad_() or x:detach() end
  local function wrapped(x, ...)
    local arguments = table.pack(...)
    local settings = arguments[arguments.n]
    if settings.residual then
      local copy = { residual = leaf(settings.residual) }
      for key, value in pairs(settings) do copy[key] = copy[key] or value end
      arguments[arguments.n] = copy
    end
    local input = leaf(x)
    timed(seconds, part, function()
      local y = op(input, table.unpack(arguments, 1, arguments.n))
      if cld.is_grad_enabled() then y:backward(y:detach()) end
    end)
    return op(x, ...)
  end
  functional[name] = wrapped
  return setmetatable({}, { __close = function() functional[name] = op end })
end

-- The shares of one step: convolutions, norms and losses alone.
local function profile_once(method, batch)
  local seconds = {}
  do
    local _ <close> = isolate(seconds, "convolutions", "conv2d")
    local _ <close> = isolate(seconds, "norms", "batch_norm")
    method.encode(batch.views)
  end
  local features = method.encode(batch.views)
  for i, feature in ipairs(features) do
    features[i] = feature.requires_grad and feature:detach():requires_grad_() or feature
  end
  timed(seconds, "losses", function() method.score(features, batch.index):backward() end)
  return seconds
end

-- The fastest of three runs of each, because other programs can only add time.
local function profile(method, batch)
  local best = profile_once(method, batch)
  for _ = 2, 3 do
    for part, seconds in pairs(profile_once(method, batch)) do best[part] = math.min(best[part], seconds) end
  end
  return best
end

-- ---- the measurement -----------------------------------------------------------------

local method = methods[opt.method]()
local sgd = cld.optim.sgd(method.net:parameters(), { lr = 0.03, momentum = 0.9, weight_decay = 7e-4 })
local is_large = opt.size >= 64
local programs = method.programs or {}
for v = #programs + 1, method.programs and 0 or method.views do
  programs[v] = programs[1] or is_large and cld.augment.plus { size = opt.size } or cld.augment.cifar()
end
local loader = cld.data.loader {
  require("spec.bench.images")(is_large and opt.batch or opt.bank, is_large and 256 or 32), batch_size = opt.batch,
  views = programs, drop_last = true,
}

-- Batch after batch, epoch after epoch.
local epoch, batches = 0, nil
local function next_batch()
  local batch = batches and batches()
  if batch then return batch end
  epoch = epoch + 1
  batches = loader:epoch(epoch)
  return batches()
end
local totals, parts = {}, {}
local batch, loss
for step = 1, 2 + opt.steps do
  local seconds = {}
  timed(seconds, "step", function()
    batch = timed(seconds, "loader", next_batch)
    local features = method.encode(batch.views)
    local total = method.score(features, batch.index)
    loss = total:item()
    sgd:zero_grad()
    if math.abs(loss) < math.huge then -- as sgd:step(total) does, whose parts are timed here
      total:backward()
      timed(seconds, "optimizer", function()
        sgd:step()
        method.finish(features)
      end)
    end
  end)
  if step > 2 then
    totals[#totals + 1] = seconds.step
    for _, part in ipairs { "loader", "optimizer" } do
      parts[part] = (parts[part] or 0) + (seconds[part] or 0) / opt.steps
    end
  end
end
local step_s, peak = median(totals), peak_mb()

for part, seconds in pairs(profile(method, batch)) do parts[part] = seconds end
local rest = step_s
for _, seconds in pairs(parts) do rest = rest - seconds end
parts.rest = rest

local result = {
  what = "cldlua", loss = loss, step_s = step_s, views_per_s = method.views * opt.batch / step_s, peak_mb = peak,
  parts = parts,
}
if opt.floor then
  local forward, data, weights = require("conv_floor").measure(opt.batch, opt.width, 3)
  result.floor_views_per_s = opt.batch / (forward + data + weights)
end
print(cld.json.encode(result))
