--- Kernel by kernel: achieved GB/s against a measured copy, and TFLOP/s against a measured product. Prints a table, and
-- one JSON line at its end. Bytes are the fewest that must move: each input read once, each output written once.
local cld = require "cld"
local median = require "spec.bench.median"

local opt = cld.options {
  about = "Part of the GPU benchmark: single kernels",
  { "device",  "auto", "where", value = "device" },
  { "scale",   1.0,    "of the sizes: a small one only tries the script", above = 0 },
  { "repeats", 20,     "launches per timing", min = 1 },
}
local device = cld.cuda.resolve(opt.device)
local on_gpu = device ~= "cpu"
local function wait() if on_gpu then cld.cuda.synchronize() end end
local F = cld.nn.functional

-- Seconds of one f(): the median of seven timings of `repeats` calls, after a call for warm-up.
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

-- f(), which moves so many bytes.
local function bandwidth(name, bytes, f)
  local _ <close> = cld.no_grad()
  local seconds = measure(f)
  local rate = bytes / seconds / 1e9
  copy_rate = copy_rate or rate
  rows[#rows + 1] = { name = name, us = seconds * 1e6, gb_per_s = rate, share = rate / copy_rate }
end

local function arithmetic(name, flop, f)
  local _ <close> = cld.no_grad()
  local seconds = measure(f)
  local rate = flop / seconds / 1e12
  product_rate = product_rate or rate
  rows[#rows + 1] = { name = name, us = seconds * 1e6, tflop_per_s = rate, share = rate / product_rate }
end

-- ---- bandwidth: everything is several times the L2 cache ----------------------------

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

-- Activations of ResNet-18's stages, a batch that is several times the cache.
for _, stage in ipairs { { 64, 32 }, { 128, 16 }, { 256, 8 }, { 512, 4 } } do
  local channels, extent = stage[1], stage[2]
  local images = math.max(n // (channels * extent * extent), 1)
  local maps = F.conv2d(cld.rand(images, 8, extent, extent):to(device):to "bf16",
    cld.rand(channels, 8, 1, 1):to(device):to "bf16") -- comes in the device's own layout
  local count = images * channels * extent * extent
  local w, b = cld.ones(channels):to(device), cld.zeros(channels):to(device)
  local mean, var = cld.zeros(channels):to(device), cld.ones(channels):to(device)
  local name = ("%d channels, %d x %d"):format(channels, extent, extent)
  bandwidth("batch norm + relu bf16, " .. name, 6 * count, function()
    close(F.batch_norm(maps, w, b, mean, var, { training = true, relu = true }))
  end)
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
for _, stage in ipairs { { 64, 32 }, { 128, 16 }, { 256, 8 }, { 512, 4 } } do
  local channels, extent = stage[1], stage[2]
  local images = scaled(512)
  local maps = cld.rand(images, channels, extent, extent):to(device):to "bf16"
  local w = cld.rand(channels, channels, 3, 3):to(device):to "bf16"
  local flop = 2 * images * channels * channels * 9 * extent * extent
  arithmetic(("3 x 3 convolution bf16, %d channels, %d x %d"):format(channels, extent, extent), flop,
    function() close(F.conv2d(maps, w, nil, { padding = 1 })) end)
  close(maps, w)
end

-- ---- the method's own, in microseconds -----------------------------------------------------

local function timed(name, f)
  local seconds = measure(f)
  rows[#rows + 1] = { name = name, us = seconds * 1e6 }
end
local features = cld.randn(256, 128):normalize():to(device)
local size = scaled(50000)
local bank = cld.losses.memory_bank { size = size, dim = 128, device = device }
local index = cld.randint(0, size, { 256 }):to(device)
timed("memory bank loss, 256 against 50,000", function()
  local f <close> = features:detach():requires_grad_()
  close(bank:loss(f, index))
end)
timed("k-means 256 x 128, 128 groups, 5 iterations", function() close(cld.losses.kmeans(features, 128, 5)) end)
do
  local memory = cld.randn(size, 128):normalize():to(device)
  local labels = cld.randint(0, 10, { size }):to(device)
  local queries = cld.randn(scaled(10000), 128):normalize():to(device)
  timed("kNN, 10,000 against 50,000", function()
    close(cld.eval.weighted_knn(memory, labels, queries, { k = math.min(200, size), temperature = 0.1, classes = 10 }))
  end)
end

-- ---- the table ------------------------------------------------------------------------------

local function number(format, value) return value and format:format(value) or "" end
for _, r in ipairs(rows) do
  print(("%-52s %10.1f us %9s %9s %7s"):format(r.name, r.us, number("%.0f GB/s", r.gb_per_s),
    number("%.0f TFLOP/s", r.tflop_per_s), number("%.0f %%", r.share and 100 * r.share)))
end
print(cld.json.encode(rows))
