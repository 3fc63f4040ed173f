--- `make bench`: the table of spec/bench/README.md, as ratios to PyTorch, side by side in one run.
--
-- Every measurement is a separate process, ours and the peer's in turn, for several rounds; the table has the medians.
-- The peers are peer_*.py beside this file, run by $PEER_PYTHON or the first python3 that can import torch; without
-- one only our figures are printed. Results also go to build/bench.json.
local cld = require "cld"
local median = require "spec.bench.median"

local opt = cld.options {
  about = "The performance table: ours against PyTorch's, in one run",
  { "batch",  128,   "images per training step", min = 2, integer = true },
  { "width",  64,    "channels of the encoder's first stage", min = 1, integer = true },
  { "steps",  3,     "timed steps per process", min = 1, integer = true },
  { "rounds", 3,     "processes per measurement", min = 1, integer = true },
  { "views",  20000, "views of the augmentation", min = 1, integer = true },
  { "images", 600,   "images of each measurement of image files", min = 1, integer = true },
  { "encoder_size",  224, "pixels of the encoder's images", min = 32 },
  { "encoder_batch", 32,  "images per step of the encoder", min = 2 },
  { "only",   "",    "measure only those whose name contains this, such as neighbours, images or npid" },
  { "build",  "build", "where bench.json goes" },
}

-- ---- children ----------------------------------------------------------------------

local function interpreter()
  local i = 0
  while arg[i - 1] do i = i - 1 end
  return arg[i]
end

local ours = interpreter()
local here = arg[0]:match "^(.*)/" or "."

-- The last line that the command prints, parsed as JSON.
local function run(format, ...)
  local command = format:format(...)
  local pipe = assert(io.popen(command))
  local last
  for line in pipe:lines() do last = line end
  if not pipe:close() or not last then error("failed: " .. command, 0) end
  return cld.json.decode(last)
end

local function find_peer()
  for _, python in ipairs { os.getenv "PEER_PYTHON" or "python3", "python3", "/usr/bin/python3" } do
    if os.execute(("'%s' -c 'import torch, torchvision' >/dev/null 2>&1"):format(python)) then return python end
  end
end

local peer = find_peer()

-- ---- medians over rounds ---------------------------------------------------------------

-- The medians of tables of numbers, key by key (the first table's keys); other values come from the first table.
local function median_of(tables)
  local result = {}
  for key, value in pairs(tables[1]) do
    local list = {}
    for _, entry in ipairs(tables) do list[#list + 1] = entry[key] end
    if type(value) == "number" then result[key] = median(list)
    elseif type(value) == "table" then result[key] = median_of(list)
    else result[key] = value end
  end
  return result
end

-- Runs each measurement once per round, in turn; returns {name = medians}.
local function alternate(measurements)
  local collected, result = {}, {}
  for round = 1, opt.rounds do
    for _, measurement in ipairs(measurements) do
      local name, measure = measurement[1], measurement[2]
      collected[name] = collected[name] or {}
      local found = measure(round)
      table.insert(collected[name], found)
      local speed = found.views_per_s and ("%.1f views/s"):format(found.views_per_s)
        or found.images_per_s and ("%.1f images/s"):format(found.images_per_s)
      io.stderr:write(("  %s, round %d of %d: %s\n"):format(name, round, opt.rounds, speed or "done"))
    end
  end
  for name, tables in pairs(collected) do result[name] = median_of(tables) end
  return result
end

-- ---- the measurements -----------------------------------------------------------------

local sizes = ("--batch %d --steps %d --width %d"):format(opt.batch, opt.steps, opt.width)
local measurements = {}
local function add(name, measure)
  if name:find(opt.only, 1, true) then measurements[#measurements + 1] = { name, measure } end
end
local function add_peer(name, script)
  if peer then add(name, function() return run("'%s' %s/%s", peer, here, script) end) end
end

for _, method in ipairs { "npid", "moco" } do
  add(method, function(round)
    local floor = method == "npid" and round == 1
    return run("LUA_CPATH='%s/bench/?.so;;' '%s' %s/step.lua --method %s %s%s", opt.build, ours, here, method, sizes,
      floor and " --floor" or "")
  end)
  add_peer(method .. " PyTorch", ("peer_step.py %s %s"):format(method, sizes))
end
-- MoCo v2 + CLD with ResNet-50 at 224 pixels: each step adds a minute.
local large = ("mocov2 --batch 64 --size 224 --steps %d --queue 65536"):format(math.min(opt.steps, 2))
add("224", function() return run("'%s' %s/step.lua --method %s", ours, here, large) end)
add_peer("224 PyTorch", "peer_step.py " .. large)
add_peer("224 PyTorch channels-last", "peer_step.py --channels-last " .. large)
-- InfoMin + CLD with ResNet-50 at 64 pixels, patches of 18.
local infomin = ("infomin --batch 32 --size 64 --steps %d --queue 65536"):format(opt.steps)
add("infomin", function() return run("'%s' %s/step.lua --method %s", ours, here, infomin) end)
add_peer("infomin PyTorch", "peer_step.py " .. infomin)
add_peer("infomin PyTorch channels-last", "peer_step.py --channels-last " .. infomin)
local byol = ("byol --batch 32 --size 64 --steps %d"):format(opt.steps)
add("byol", function() return run("'%s' %s/step.lua --method %s", ours, here, byol) end)
add_peer("byol PyTorch", "peer_step.py " .. byol)
add_peer("npid PyTorch channels-last", "peer_step.py npid --channels-last " .. sizes)
-- An encoder alone, in both of the peer's memory formats; the better one counts.
local encoder = ("--arch resnet50 --size %d --batch %d --steps %d"):format(opt.encoder_size, opt.encoder_batch,
  opt.steps)
add("encoder", function() return run("'%s' %s/encoder.lua %s", ours, here, encoder) end)
add_peer("encoder PyTorch", "peer_encoder.py " .. encoder)
add_peer("encoder PyTorch channels-last", "peer_encoder.py --channels-last " .. encoder)
local one_core = "OMP_NUM_THREADS=1 taskset -c 0 "
for _, one in ipairs { { "CIFAR augmentation", "base", 1, 8 }, { "RandAugment", "rand_augment", 8, 2 } } do
  local name, what, less, peer_less = table.unpack(one)
  add("images: " .. name, function()
    return run("%s'%s' %s/augment.lua --what %s --views %d", one_core, ours, here, what, opt.views // less)
  end)
  if peer then
    add(("images: %s torchvision"):format(name), function()
      return run("%s'%s' %s/peer_augment.py --what %s --views %d", one_core, peer, here, what,
        math.max(opt.views // less // peer_less, 500))
    end)
  end
end
-- Image files: made once, in a folder that is renamed to its final name when all are written.
local image_files = opt.build .. "/bench/images"
if ("images: files"):find(opt.only, 1, true) and not cld.io.exists(image_files) then
  local new = image_files .. ".new"
  os.execute(("rm -rf '%s'"):format(new))
  run("'%s' %s/make_images.lua --out '%s'", ours, here, new)
  local packed = ("'%s' recipes/pack.lua --data '%s/jpeg' --out '%s/packed' --format npy --size 256 >&2"):format(ours,
    new, new)
  if not os.execute(packed) then error("failed: " .. packed, 0) end
  assert(os.rename(new, image_files))
end
local function add_images(what, workers, cores)
  add("images: " .. what, function()
    return run("LUA_CPATH='%s/bench/?.so;;' %s'%s' %s/image_views.lua --what %s --data '%s' --images %d --workers %d",
      opt.build, cores or one_core, ours, here, what, image_files, opt.images, workers or 1)
  end)
end
local function add_images_peer(what, share)
  if not peer then return end
  add(("images: %s peer"):format(what), function()
    return run("%s'%s' %s/peer_images.py %s '%s' --images %d", one_core, peer, here, what, image_files,
      math.max(opt.images // share, 20))
  end)
end
for _, one in ipairs { { "jpeg", 3 }, { "plus", 6 }, { "decode", 1 }, { "png", 6 } } do
  add_images(one[1])
  add_images_peer(one[1], one[2])
  if one[1] == "jpeg" or one[1] == "decode" then add_images_peer(one[1] .. "-v2", one[2]) end
end
add_images "npy"
add_images("memory", 16, "")
-- Beside busy programs, with OpenMP's threads waiting as they do in cldlua, and as they do by libgomp's default.
local waits = { ours = "", libgomp = "GOMP_SPINCOUNT=300000 ", passive = "OMP_WAIT_POLICY=passive " }
for neighbours = 0, 2 do
  for _, name in ipairs { "ours", "libgomp", "passive" } do
    add(("%d neighbours %s"):format(neighbours, name), function()
      return run("%s'%s' %s/busy.lua --neighbours %d", waits[name], ours, here, neighbours)
    end)
  end
end
add("kernels", function() return run("'%s' %s/kernels.lua", ours, here) end)
add_peer("kernels PyTorch", "peer_cuts.py")
add("start", function()
  local command, seconds = ("'%s' -e ''"):format(ours), {}
  for i = 1, 21 do
    local start = cld.clock()
    assert(os.execute(command))
    seconds[i] = cld.clock() - start
  end
  return { ms = median(seconds) * 1e3 }
end)

local found = alternate(measurements)

-- ---- the table ---------------------------------------------------------------------------

local function ratio(a, b) return a and b and a / b end
local function field(name, key) return found[name] and found[name][key] end

local rows = {}
-- higher = true: the ratio must reach the goal; else it must not exceed it.
local function row(what, unit, mine, theirs, value, goal, higher)
  if not mine then return end -- not measured
  local met = value and goal and (higher and value >= goal or not higher and value <= goal)
  rows[#rows + 1] = { what = what, unit = unit, ours = mine, peer = theirs, value = value, goal = goal, met = met,
                      higher = higher }
end

local step = ("step, ResNet-18 width %d, batch %d x 2 views"):format(opt.width, opt.batch)
local function speed(what, mine, theirs, goal)
  local a, b = field(mine, "views_per_s"), field(theirs, "views_per_s")
  row(what, "views/s", a, b, ratio(a, b), goal, true)
end
speed("NPID + CLD " .. step, "npid", "npid PyTorch", 1.6)
if peer then speed("  against PyTorch in channels-last", "npid", "npid PyTorch channels-last") end
row("  peak resident memory", "MB", field("npid", "peak_mb"), field("npid PyTorch", "peak_mb"),
  ratio(field("npid", "peak_mb"), field("npid PyTorch", "peak_mb")), 0.6)
speed("MoCo + CLD step, 3 views, queue 4,096", "moco", "moco PyTorch", 1.6)
speed("BYOL + CLD step, ResNet-50 at 64, batch 32", "byol", "byol PyTorch", 1.5)
speed("MoCo v2 + CLD step at 224, batch 64", "224", "224 PyTorch", 1.4)
if peer then speed("  against PyTorch in channels-last", "224", "224 PyTorch channels-last", 1.4) end
row("  peak resident memory", "MB", field("224", "peak_mb"), field("224 PyTorch", "peak_mb"),
  ratio(field("224", "peak_mb"), field("224 PyTorch", "peak_mb")), 0.55)
speed("InfoMin + CLD step at 64, batch 32", "infomin", "infomin PyTorch", 1.5)
if peer then speed("  against PyTorch in channels-last", "infomin", "infomin PyTorch channels-last") end
-- The better of the peer's two formats for the comparison: the faster one, or the one with less memory.
local function best(key, better)
  local a, b = field("encoder PyTorch", key), field("encoder PyTorch channels-last", key)
  return a and b and better(a, b) or a or b
end
local function encoder_row(what, unit, key, better, goal, higher)
  local mine, theirs = field("encoder", key), best(key, better)
  row(what, unit, mine, theirs, ratio(mine, theirs), goal, higher)
end
encoder_row(("ResNet-50 training, %d px, batch %d / PyTorch's best"):format(opt.encoder_size, opt.encoder_batch),
  "images/s", "images_per_s", math.max, 1.4, true)
encoder_row("  processor time of a step", "s", "processor_s", math.min)
encoder_row("  peak resident memory", "MB", "peak_mb", math.min, 0.55)
speed("base augmentation, one core", "images: CIFAR augmentation", "images: CIFAR augmentation torchvision", 8)
speed("RandAugment of 224 pixels, both operations made, one core", "images: RandAugment",
  "images: RandAugment torchvision", 4)

local function files(what, mine, theirs, goal, key)
  local a, b = field("images: " .. mine, "images_per_s"), field("images: " .. theirs, key or "images_per_s")
  row(what, "images/s", a, b, ratio(a, b), goal, true)
end
files("JPEG file to 2 views at 224, one core / Pillow", "jpeg", "jpeg peer", 3.5)
files("  / torchvision's v2 on tensors", "jpeg", "jpeg-v2 peer")
files("JPEG file to 2 plus views at 224 / Pillow", "plus", "plus peer", 6)
files("JPEG decoding / libjpeg-turbo called directly", "decode", "decode", 0.97, "direct_per_s")
files("  / Pillow's", "decode", "decode peer")
files("  / torchvision's", "decode", "decode-v2 peer")
files("PNG decoding / Pillow's", "png", "png peer", 0.97)
files("packed .npy to 2 views at 224 / ours from JPEG", "npy", "jpeg", 2)
row("loader's memory at 16 workers, batches left out", "MB", field("images: memory", "peak_mb"), nil,
  field("images: memory", "peak_mb"), 300)
local kernels = found.kernels or {}
row("k-means 256 x 128, k 128, 5 iterations", "ms", kernels.kmeans_ms, nil, kernels.kmeans_ms, 1)
row("normalized cuts 256 x 128, 100 eigenvectors, k 128", "ms", kernels.cut_ms, field("kernels PyTorch", "cut_ms"),
  kernels.cut_ms, 20)
row("kNN 10,000 x 50,000 x 128 / its matrix product", "s", kernels.knn_s, kernels.product_s,
  ratio(kernels.knn_s, kernels.product_s), 2)
row("NT-Xent 512 x 128, with gradient / its products", "ms", kernels.nt_xent_ms, kernels.nt_xent_products_ms,
  ratio(kernels.nt_xent_ms, kernels.nt_xent_products_ms), 1.2)
local wait_goals = { [0] = 0.98, [2] = 3 }
for neighbours = 0, 2 do
  local function images(name) return field(("%d neighbours %s"):format(neighbours, name), "images_per_s") end
  local mine, libgomp, passive = images "ours", images "libgomp", images "passive"
  local beside = ("small training beside %d busy programs"):format(neighbours)
  row(beside .. " / libgomp's wait", "images/s", mine, libgomp, ratio(mine, libgomp), wait_goals[neighbours], true)
  row("  / passive waiting", "images/s", mine, passive, ratio(mine, passive))
end
row("cldlua -e ''", "ms", field("start", "ms"), nil, field("start", "ms"), 30)

local function number(value) return value and ("%.4g"):format(value) or "-" end

local function print_table()
  local line = "%-58s %-8s %9s %9s %7s  %-8s %s"
  print(line:format("what", "unit", "ours", "peer", "ratio", "goal", ""))
  for _, r in ipairs(rows) do
    print(line:format(r.what, r.unit, number(r.ours), number(r.peer), number(r.value),
      r.goal and (r.higher and ">= " or "<= ") .. r.goal or "", r.met == nil and "" or r.met and "met" or "MISSED"))
  end
end

-- Where a step's time goes, and how long its convolutions alone would take in oneDNN.
local function print_parts()
  local npid = found.npid
  local order = {}
  for part in pairs(npid.parts) do order[#order + 1] = part end
  table.sort(order, function(a, b) return npid.parts[a] > npid.parts[b] end)
  local shares = {}
  for i, part in ipairs(order) do
    shares[i] = ("%s %.0f%%"):format(part, 100 * npid.parts[part] / npid.step_s)
  end
  print(("\nthe NPID + CLD step takes %.0f ms: %s"):format(npid.step_s * 1e3, table.concat(shares, ", ")))
  if npid.parts.rest < 0 then print "(run alone, the parts took longer than in the step: the machine is busy)" end
  print(("its convolutions alone, as oneDNN primitives: %.1f views/s; the whole step reaches %.0f%% of that")
    :format(npid.floor_views_per_s, 100 * npid.views_per_s / npid.floor_views_per_s))
end

local torch = found["npid PyTorch"]
if torch and found["images: CIFAR augmentation torchvision"] then
  print(("\npeer: %s (%d threads, %.0f MB resident after the import), %s"):format(torch.what, torch.threads,
    torch.import_mb, found["images: CIFAR augmentation torchvision"].what))
elseif not peer then
  print "\nno python3 here has torch and torchvision (PEER_PYTHON can name one): only our figures"
end
print_table()
if found.npid then print_parts() end

local file = assert(io.open(opt.build .. "/bench.json", "w"))
file:write(cld.json.encode { settings = sizes, measured = found, rows = rows }, "\n")
assert(file:close())
