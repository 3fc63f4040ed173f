--- `make bench-ranks`: compares a job of two ranks, one thread each, with one process of two threads, on this machine;
-- counts the bytes that the ranks exchange in a step; and predicts the speed on many GPUs with a model of the network.
--
-- The measurement is the recipe itself on generated images, ours against ours in turn, with medians over some rounds.
-- The prediction is arithmetic (below) from counted bytes and stated constants; it has not been run.
local cld = require "cld"
local median = require "spec.bench.median"

local opt = cld.options {
  about = "Two ranks beside two threads, and a prediction for many GPUs",
  { "rounds", 3,       "processes per measurement", min = 1, integer = true },
  { "images", 512,     "images of an epoch", min = 128, integer = true },
  { "batch",  128,     "images per training step", min = 2, integer = true },
  { "width",  64,      "channels of the encoder's first stage", min = 1, integer = true },
  { "build",  "build", "where the images and the runs go" },
  { "model",  true,    "print the prediction" },
}

local function interpreter()
  local i = 0
  while arg[i - 1] do i = i - 1 end
  return arg[i]
end

local ours = interpreter()

-- ---- measured --------------------------------------------------------------------------

local toy = ("%s/bench-ranks-%d"):format(opt.build, opt.images)
local photos = toy .. "-files"

local function shell(format, ...)
  local command = format:format(...)
  if not os.execute(command .. " >/dev/null") then error("failed: " .. command, 0) end
end

local methods = {
  { "MoCo v2 + CLD: blocks of 64 rows, a rank has whole ones", "folder_mocov2_cld",
    "--size 32 --small --augment base --block 64 --queue 4096", photos },
  { "NPID + CLD: batch norm over the ranks", "cifar10_npid_cld", "" },
  { "MoCo + CLD: three views, queue 4,096", "cifar10_moco_cld", "--queue 4096" },
}

-- The log's line of the epoch.
local function train(method, ranks, threads)
  local name = ("%s/bench-ranks-run"):format(opt.build)
  os.execute("rm -rf " .. name)
  shell("'%s' %s recipes/%s.lua --data '%s' --runs '%s' --name bench-ranks-run --epochs 1 --knn-every 0 --device cpu"
    .. " --batch-size %d --width %d --threads %d --warmup-epochs 0 %s", ours, ranks > 1 and "--ranks " .. ranks or "",
    method[2], method[4] or toy, opt.build, opt.batch, opt.width, threads, method[3])
  for line in io.lines(name .. "/log.jsonl") do
    local event = cld.json.decode(line)
    if event.event == "epoch" then return event end
  end
end

local function measure(method)
  local one, two, exchanged = {}, {}, nil
  for _ = 1, opt.rounds do
    one[#one + 1] = train(method, 1, 2).images_per_second
    local event = train(method, 2, 1)
    two[#two + 1], exchanged = event.images_per_second, event.ranks
  end
  print(("| %s | %.1f | %.1f | %.2f | %.0f | %.1f MB |"):format(method[1], median(two), median(one),
    median(two) / median(one), exchanged.collectives, exchanged.bytes / 1e6))
end

if not cld.io.exists(toy) then
  shell("'%s' recipes/make_toy_data.lua --out '%s' --train %d --test 10", ours, toy, opt.images)
end
if not cld.io.exists(photos) then
  shell("'%s' recipes/make_toy_data.lua --out '%s' --train %d --test 20 --layout files --least-side 32 --most-side 48",
    ours, photos, opt.images)
end
print(("ResNet-18 width %d, batch %d, images/s:"):format(opt.width, opt.batch))
print "| what | 2 ranks of 1 thread | 1 process of 2 threads | ratio | collectives a step | bytes a step and rank |"
print "|---|---|---|---|---|---|"
for _, method in ipairs(methods) do measure(method) end
if not opt.model then return end

-- ---- predicted ---------------------------------------------------------------------------
--
-- The time of a collective of n GPUs: latency + bytes on the wire / bandwidth (Hockney's alpha-beta model). A ring's
-- all_reduce puts 2 (n - 1) / n of the bytes on each link, an all_gather n - 1 times a rank's. The latency is that of a
-- tree, 2 log2(n) hops; hops between machines cost more.
local constants = {
  { "a hop inside a machine (NVLink), microseconds", 4 },
  { "a hop between machines (InfiniBand), microseconds", 10 },
  { "launch of a collective, microseconds", 8 },
  { "bandwidth of NVLink for collectives, GB/s a GPU", 350 },
  { "bandwidth of InfiniBand (400 Gbit/s a GPU), GB/s", 42 },
  { "a GPU's arithmetic, of 989 TFLOP/s in bf16, TFLOP/s", 300 },
}
local hop, far_hop, launch, near, far, flops = constants[1][2] * 1e-6, constants[2][2] * 1e-6, constants[3][2] * 1e-6,
  constants[4][2] * 1e9, constants[5][2] * 1e9, constants[6][2] * 1e12

local function latency(n)
  local inside, machines = math.min(n, 8), math.max(n // 8, 1)
  return launch + 2 * math.log(inside, 2) * hop + 2 * math.log(machines, 2) * far_hop
end
local function bandwidth(n) return n > 8 and far or near end
local function all_reduce(n, bytes) return latency(n) + 2 * (n - 1) / n * bytes / bandwidth(n) end
local function all_gather(n, bytes) return latency(n) / 2 + (n - 1) * bytes / bandwidth(n) end

-- forward: the cost of a row in forward passes, with its gradients (backward counts as two). small: collectives that
-- nothing hides. gathered: bytes of a rank's keys, which all others receive for their queues. shuffled: bytes of the
-- images that a rank sends for the keys to the ranks of its 512 images (`among` GPUs) during the forward pass of the
-- queries (`meanwhile` passes); the step waits for what does not fit into that time. Gradients are reduced during
-- backward, which is half the time; the step always waits for the last bucket, of 1 MB.
local predictions = {
  { name = "CIFAR ResNet-18, NPID + CLD, 256 rows a GPU, batch norm over all ranks", gflop = 1.11, rows = 256,
    forward = 6, gradients = 45e6, small = 40 + 6, small_bytes = 8e3 },
  { name = "ImageNet ResNet-50, MoCo v2 + CLD, 64 rows a GPU (a block)", gflop = 8.2, rows = 64,
    forward = 7, gradients = 113e6, small = 5, small_bytes = 2e5, gathered = 64 * 128 * 4,
    shuffled = 64 * 3 * 224 * 224 * 2, among = 512 // 64, meanwhile = 2 },
}

local function efficiency(p, n)
  local pass = p.gflop * 1e9 * p.rows / flops
  local compute = pass * p.forward
  local exposed = p.small * all_reduce(n, p.small_bytes) + all_reduce(n, 1e6)
  if p.gathered then exposed = exposed + all_gather(n, p.gathered) end
  if p.shuffled then
    exposed = exposed + math.max(0, all_gather(math.min(n, p.among), p.shuffled) - p.meanwhile * pass)
  end
  local hidden = all_reduce(n, p.gradients) - all_reduce(n, 1e6)
  return compute / (compute + exposed + math.max(0, hidden - compute / 2)), compute
end

print "\nPredicted, not measured: images/s a GPU as a share of one GPU's (weak scaling)"
for _, constant in ipairs(constants) do print(("  %s: %g"):format(constant[1], constant[2])) end
print "| what | compute, ms a step | 8 GPUs | 64 | 1,024 |"
print "|---|---|---|---|---|"
for _, p in ipairs(predictions) do
  local _, compute = efficiency(p, 8)
  print(("| %s | %.1f | %.2f | %.2f | %.2f |"):format(p.name, compute * 1e3, (efficiency(p, 8)), (efficiency(p, 64)),
    (efficiency(p, 1024))))
end
