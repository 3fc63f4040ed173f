--- Our side of `make gpu-bench`: whole training steps on one device. Prints one JSON line.
--
--   cldlua step.lua --what npid        NPID + CLD, ResNet-18 for CIFAR: augmentation, both views, bank, k-means, SGD
--   cldlua step.lua --what resnet50    ResNet-50 at 224: forward, cross entropy, backward, SGD
local cld = require "cld"
local median = require "spec.bench.median"

local opt = cld.options {
  about = "Part of the GPU benchmark: whole training steps",
  { "what",      "npid", "what to train", choices = { "npid", "resnet50" } },
  { "device",    "auto", "where to run", value = "device" },
  { "precision", "bf16", "of convolutions and products", choices = { "fp32", "tf32", "bf16", "fp16" } },
  { "graph",     true,   "capture the step as a CUDA graph" },
  { "batch",     256,    "images per step", min = 2, integer = true },
  { "steps",     100,    "timed steps", min = 1, integer = true },
  { "width",     64,     "channels of the first stage", min = 1, integer = true },
  { "size",      224,    "pixels of ResNet-50's images", min = 32, integer = true },
  { "clusters",  128,    "k-means groups", min = 1, integer = true },
  { "bank",      50000,  "rows of the memory bank, images of the data set", min = 1, integer = true },
  { "queries",   10000,  "test images of the kNN evaluation", min = 1, integer = true },
  { "plans",     "",     "file of the convolutions' plans: read if it exists, then written" },
  { "once",      false,  "end after the first replay: nothing is timed" },
  { "epoch",     false,  "also time a whole epoch with its kNN evaluation (npid)" },
}
local device = cld.cuda.resolve(opt.device)
local on_gpu = device ~= "cpu"
cld.set_precision(opt.precision, device)
cld.manual_seed(1)

local function read(path)
  local file = io.open(path)
  local text = file and file:read "a"
  if file then file:close() end
  return text
end

-- Takes the plans of another step on this machine, so that no time goes into choosing them, and kernels can be counted.
local keeps_plans = opt.plans ~= "" and on_gpu
if keeps_plans then
  local ok, stored = pcall(cld.json.decode, read(opt.plans) or "")
  cld.zeros(1, { device = device }):close()
  local known = ok and stored.library == cld.cuda.plans().library and stored.plans or {}
  for _, plan in ipairs(known) do cld.cuda.use_plan(plan) end
end

local work = {}

-- ---- NPID + CLD -----------------------------------------------------------------

function work.npid()
  local net = cld.models.resnet18_cifar { width = opt.width }:to(device)
  local bank = cld.losses.memory_bank { size = opt.bank, dim = 128, momentum = 0.5, temperature = 0.1, device = device }
  local sgd = cld.optim.sgd(net:parameters(), { momentum = 0.9, weight_decay = 7e-4 })
  local train = require "spec.bench.images"(opt.bank)
  local loader = cld.data.loader {
    train, batch_size = opt.batch, views = 2, augment = cld.augment.cifar(), device = device, dtype = "auto",
    drop_last = true, -- every timed step is of a full batch
  }
  local step = cld.graph(function(views, index, rate)
    local f, g = net:each(views)
    local instance = (bank:loss(f[1], index) + bank:loss(f[2], index)) / 2
    local group = cld.losses.cld(g[1], g[2], { clusters = opt.clusters, iterations = 5, temperature = 0.2 })
    sgd:step(instance + group, { lr = rate })
    return instance
  end, { enabled = opt.graph })
  local queries = opt.epoch and require "spec.bench.images"(opt.queries)
  local epoch, next_batch = 0, nil
  local function one_step()
    local batch = next_batch and next_batch()
    if not batch then
      epoch = epoch + 1
      next_batch = loader:epoch(epoch)
      batch = next_batch()
    end
    return step(batch.views, batch.index, 0.03)
  end
  local function whole_epoch()
    for batch in loader:epoch(1) do step(batch.views, batch.index, 0.03) end
    return cld.eval.knn { net = net, memory = train, queries = queries, k = 200 }
  end
  return 2 * opt.batch, one_step, whole_epoch
end

-- ---- ResNet-50 ------------------------------------------------------------------

local Classifier = cld.nn.module "resnet50"

-- The encoder of cld.models has the CIFAR stem: ImageNet's stem goes in front of it.
function Classifier:build()
  local encoder = cld.models.resnet50_cifar { width = opt.width }
  self.conv1 = cld.nn.conv2d(3, opt.width, 7, { stride = 2, padding = 3, bias = false })
  self.bn1 = cld.nn.batch_norm2d(opt.width)
  self.layers = cld.nn.sequential(encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4)
  self.fc = cld.nn.linear(32 * opt.width, 1000)
end

function Classifier:forward(x)
  local maps = cld.nn.functional.max_pool2d(self.bn1(self.conv1(x), { relu = true }), 3, { stride = 2, padding = 1 })
  maps = self.layers(maps)
  return self.fc(cld.nn.functional.avg_pool2d(maps, { maps.shape[3], maps.shape[4] }):flatten(2, -1))
end

function work.resnet50()
  local net = Classifier():to(device)
  local sgd = cld.optim.sgd(net:parameters(), { momentum = 0.9, weight_decay = 1e-4 })
  local images = cld.randn(opt.batch, 3, opt.size, opt.size):to(device)
  local labels = cld.randint(0, 1000, { opt.batch }):to(device)
  local step = cld.graph(function(x, y, rate)
    local loss = net(x):cross_entropy(y)
    sgd:step(loss, { lr = rate })
    return loss
  end, { enabled = opt.graph })
  return opt.batch, function() return step(images, labels, 0.03) end
end

-- ---- time -----------------------------------------------------------------------

local count, step, whole_epoch = work[opt.what]()
local function wait() if on_gpu then cld.cuda.synchronize() end end
local loss
if opt.once then
  for _ = 1, 3 do loss = step() end -- two run directly, one captured and replayed
  wait()
  return print(cld.json.encode { device = device, loss = loss:item() })
end
for _ = 1, on_gpu and 6 or 1 do loss = step() end -- two run directly, one captured, plans chosen
wait()
if keeps_plans then cld.io.write_atomic(opt.plans, cld.json.encode(cld.cuda.plans())) end
if on_gpu then cld.cuda.reset_peak() else cld.reset_peak() end
local rounds = {}
for round = 1, 5 do
  local start, n = cld.clock(), math.max(opt.steps // 5, 1)
  for _ = 1, n do loss = step() end
  wait()
  rounds[round] = (cld.clock() - start) / n
end
local seconds = median(rounds)
local memory = on_gpu and cld.cuda.memory() or cld.memory() -- of the steps
local epoch_s
if opt.epoch and whole_epoch then
  whole_epoch()
  wait()
  local start = cld.clock()
  whole_epoch()
  epoch_s = cld.clock() - start
end
print(cld.json.encode {
  what = on_gpu and cld.cuda.library() or cld.versions().cpu_library, device = device, loss = loss:item(),
  step_ms = seconds * 1e3, views_per_s = count / seconds, peak_mb = memory.peak / 1e6,
  reserved_mb = memory.reserved / 1e6, epoch_s = epoch_s,
})
