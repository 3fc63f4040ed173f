--- Kernel by kernel: GB/s against a measured copy, TFLOP/s against a measured product. Prints one JSON line; bench.lua
-- makes the table, with peer_kernels.py's times under the same names. Bytes are the minimum that must be moved: each
-- input read once, each output written once. Only batch norm's input counts twice, since its statistics are needed
-- before its result.
local cld = require "cld"
local median = require "spec.bench.median"

local opt = cld.options {
  about = "Part of the GPU benchmark: single kernels",
  { "device",  "auto", "where to run", value = "device" },
  { "scale",   1.0,    "factor of the sizes; a small one only serves to try the script", above = 0 },
  { "repeats", 20,     "launches per timing", min = 1, integer = true },
}
local device = cld.cuda.resolve(opt.device)
local on_gpu = device ~= "cpu"
local function wait() if on_gpu then cld.cuda.synchronize() end end
local F = cld.nn.functional

-- Seconds per f(): the median of seven timings of `repeats` calls, after a warm-up call.
local function measure(f)
  f()
  wait()
  local seconds = {}
  for i = 1, 7 do
    local start = cld.clock()
    for _ = 1, opt.repeats do f() end
    wait()
    seconds[i] = (cld.clock() - start) / opt.repeats
  end
  return median(seconds)
end

local function scaled(n) return math.max(math.floor(n * opt.scale), 8) end

local function close(...)
  for _, tensor in ipairs { ... } do tensor:close() end
end

local rows = {}
local copy_rate, product_rate

local function report(row)
  rows[#rows + 1] = row
  io.stderr:write(("  %s: %.1f us\n"):format(row.name, row.us))
end

-- Times f(), which moves `bytes` bytes, without recording gradients unless with_gradients is set.
local function bandwidth(name, bytes, f, with_gradients)
  local _ <close> = not with_gradients and cld.no_grad() or nil
  local seconds = measure(f)
  local rate = bytes / seconds / 1e9
  copy_rate = copy_rate or rate
  report { name = name, us = seconds * 1e6, gb_per_s = rate, share = rate / copy_rate }
end

local function arithmetic(name, flop, f, with_gradients)
  local _ <close> = not with_gradients and cld.no_grad() or nil
  local seconds = measure(f)
  local rate = flop / seconds / 1e12
  product_rate = product_rate or rate
  report { name = name, us = seconds * 1e6, tflop_per_s = rate, share = rate / product_rate }
end

-- A function for the two above: f(leaves...) and the gradients of its result with respect to the leaves.
local function there_and_back(f, ...)
  local leaves, dy = table.pack(...), nil
  for _, leaf in ipairs(leaves) do leaf:requires_grad_() end
  return function()
    local y <close> = f(table.unpack(leaves))
    dy = dy or y:detach()
    y:backward(dy)
    for _, leaf in ipairs(leaves) do
      leaf.grad:close()
      leaf.grad = nil
    end
  end
end

-- ---- bandwidth: all arrays are several times as large as the L2 cache ---------------

local n = scaled(2 ^ 26)
local x = cld.rand(n):to(device)
local y = cld.rand(n):to(device)
local half = x:to "bf16"
bandwidth("copy f32", 8 * n, function() y:copy_(x) end)
bandwidth("add f32", 12 * n, function() close(x + y) end)
bandwidth("relu bf16", 4 * n, function() close(half:relu()) end)
bandwidth("cast f32 to bf16", 6 * n, function() close(x:to "bf16") end)
bandwidth("sum f32", 4 * n, function() close(x:sum()) end)
do
  local rows_of = x:narrow(1, 1, n // 128 * 128):reshape(-1, 128)
  bandwidth("normalize f32, rows of 128", 8 * n, function() close(rows_of:normalize()) end)
  bandwidth("softmax f32, rows of 128", 8 * n, function() close(rows_of:softmax(2)) end)
end

do
  local weight = x:clone():requires_grad_()
  weight.grad = y
  local sgd = cld.optim.sgd({ weight }, { lr = 1e-3, momentum = 0.9, weight_decay = 1e-4 })
  bandwidth("SGD f32, with momentum and weight decay", 20 * n, function() sgd:step() end)
  close(weight)
end
collectgarbage()

-- Random activations in bf16, in the device's own layout.
local function activations(images, channels, extent)
  return F.conv2d(cld.rand(images, 8, extent, extent):to(device):to "bf16",
    cld.rand(channels, 8, 1, 1):to(device):to "bf16")
end

-- For ResNet-18's stages, with a batch that is several times as large as the cache.
local stages = { { 64, 32 }, { 128, 16 }, { 256, 8 }, { 512, 4 } }
for _, stage in ipairs(stages) do
  local channels, extent = stage[1], stage[2]
  local images = math.max(n // (channels * extent * extent), 1)
  local maps, residual = activations(images, channels, extent), activations(images, channels, extent)
  local count = images * channels * extent * extent
  local w, b = cld.ones(channels):to(device), cld.zeros(channels):to(device)
  local mean, var = cld.zeros(channels):to(device), cld.ones(channels):to(device)
  local name = ("%d channels, %d x %d"):format(channels, extent, extent)
  local function norm(t, u, v, added)
    return F.batch_norm(t, u, v, mean, var, { training = true, relu = true, residual = added })
  end
  bandwidth("batch norm + relu bf16, " .. name, 6 * count, function() close(norm(maps, w, b)) end)
  bandwidth("batch norm + residual + relu bf16, " .. name, 8 * count, function() close(norm(maps, w, b, residual)) end)
  bandwidth("batch norm + relu bf16 and gradients, " .. name, 16 * count, there_and_back(norm, maps, w, b), true)
  close(maps, residual)
end
do
  local images = math.max(n // (64 * 112 * 112), 1)
  local maps = activations(images, 64, 112)
  bandwidth("max pool 3 x 3 bf16, 64 channels, 112 x 112", 2.5 * images * 64 * 112 * 112,
    function() close(F.max_pool2d(maps, 3, { stride = 2, padding = 1 })) end)
  close(maps)
end
close(half)

-- ---- products ---------------------------------------------------------------------------

do
  local m = scaled(8192)
  local a, b = cld.rand(m, m):to(device):to "bf16", cld.rand(m, m):to(device):to "bf16"
  arithmetic("product bf16, 8192^3", 2 * m ^ 3, function() close(a:matmul(b)) end)
  close(a, b)
end
for _, stage in ipairs(stages) do
  local channels, extent = stage[1], stage[2]
  local images = scaled(512)
  local maps = activations(images, channels, extent)
  local w = cld.rand(channels, channels, 3, 3):to(device):to "bf16"
  local flop = 2 * images * channels * channels * 9 * extent * extent
  local name = ("%d channels, %d x %d"):format(channels, extent, extent)
  local function conv(t, v) return F.conv2d(t, v, nil, { padding = 1 }) end
  arithmetic("3 x 3 convolution bf16, " .. name, flop, function() close(conv(maps, w)) end)
  arithmetic("3 x 3 convolution bf16 and gradients, " .. name, 3 * flop, there_and_back(conv, maps, w), true)
  close(maps, w)
end

-- ---- the method's own, in microseconds -----------------------------------------------------

local function timed(name, f)
  local seconds = measure(f)
  report { name = name, us = seconds * 1e6 }
end
local features = cld.randn(256, 128):normalize():to(device)
local size = scaled(50000)
local bank = cld.losses.memory_bank { size = size, dim = 128, device = device }
local index = cld.randint(0, size, { 256 }):to(device)
timed("memory bank loss, gradient, update, 256 against 50,000", function()
  local f <close> = features:detach():requires_grad_()
  local loss <close> = bank:loss(f, index)
  loss:backward()
end)
timed("k-means 256 x 128, 128 groups, 5 iterations", function() close(cld.losses.kmeans(features, 128, 5)) end)
timed("normalized cuts 256 x 128, 100 eigenvectors, 128 groups", function()
  close(cld.losses.normalized_cuts(features, { eigenvectors = 100, clusters = 128, iterations = 5 }))
end)
do
  local memory = cld.randn(size, 128):normalize():to(device)
  local labels = cld.randint(0, 10, { size }):to(device)
  local queries = cld.randn(scaled(10000), 128):normalize():to(device)
  timed("kNN, 10,000 against 50,000", function()
    close(cld.eval.weighted_knn(memory, labels, queries, { k = math.min(200, size), temperature = 0.1, classes = 10 }))
  end)
end

do
  local loader = cld.data.loader {
    require "spec.bench.images"(scaled(50000)), batch_size = math.min(256, scaled(50000)), views = 2,
    augment = cld.augment.cifar(), device = device, drop_last = true,
  }
  local next_batch
  timed("two views of 256 images", function()
    local batch = next_batch and next_batch()
    if not batch then
      next_batch = loader:epoch(1)
      batch = next_batch()
    end
    close(batch.views[1], batch.views[2])
  end)
end

print(cld.json.encode(rows))
