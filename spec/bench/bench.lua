--- `make bench`: the table of the README, as ratios to PyTorch, side by side in one run.
--
-- Every measurement is a process of its own, ours and the peer's in turn, several rounds; the table has the medians.
-- The peers are peer_*.py beside this file, run by $PEER_PYTHON or the first python3 that imports torch; without one
-- our figures are printed alone. Results also go to build/bench.json.
local cld = require "cld"
local median = require "spec.bench.median"

local opt = cld.options {
  about = "The performance table: ours against PyTorch's, in one run",
  { "batch",  128,   "images per training step", min = 2 },
  { "width",  64,    "channels of the encoder's first stage", min = 1 },
  { "steps",  3,     "timed steps per process", min = 1 },
  { "rounds", 3,     "processes per measurement", min = 1 },
  { "views",  20000, "views of the augmentation", min = 1 },
  { "only",   "",    "measure just those whose name has this in it, such as neighbours or npid" },
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

-- The last line that the command prints, as JSON.
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

-- The same for tables of numbers, key by key (of the first table); what is no number is the first table's.
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

-- Run each measurement once per round, in turn; {name = medians}.
local function alternate(measurements)
  local collected, result = {}, {}
  for round = 1, opt.rounds do
    for _, measurement in ipairs(measurements) do
      local name, measure = measurement[1], measurement[2]
      collected[name] = collected[name] or {}
      local found = measure(round)
      table.insert(collected[name], found)
      io.stderr:write(("  %s, round %d of %d: %s\n"):format(name, round, opt.rounds,
        found.views_per_s and ("%.1f views/s"):format(found.views_per_s) or "done"))
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
add_peer("npid PyTorch channels-last", "peer_step.py npid --channels-last " .. sizes)
local one_core = "OMP_NUM_THREADS=1 taskset -c 0 "
add("augmentation", function() return run("%s'%s' %s/augment.lua --views %d", one_core, ours, here, opt.views) end)
if peer then
  add("augmentation torchvision", function()
    return run("%s'%s' %s/peer_augment.py --views %d", one_core, peer, here, math.max(opt.views // 8, 500))
  end)
end
-- Beside busy programs, with OpenMP's threads waiting as they do here, and as libgomp has them wait by itself.
local waits = { ours = "", libgomp = "GOMP_SPINCOUNT=300000 ", passive = "OMP_WAIT_POLICY=passive " }
for neighbours = 0, 2 do
  for _, name in ipairs { "ours", "libgomp", "passive" } do
    add(("%d neighbours %s"):format(neighbours, name), function()
      return run("%s'%s' %s/busy.lua --neighbours %d", waits[name], ours, here, neighbours)
    end)
  end
end
add("kernels", function() return run("'%s' %s/kernels.lua", ours, here) end)
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
-- higher = true: the ratio must reach the goal, else it must not exceed it.
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
speed("base augmentation, one core", "augmentation", "augmentation torchvision", 8)
local kernels = found.kernels or {}
row("k-means 256 x 128, k 128, 5 iterations", "ms", kernels.kmeans_ms, nil, kernels.kmeans_ms, 1)
row("kNN 10,000 x 50,000 x 128 / its matrix product", "s", kernels.knn_s, kernels.product_s,
  ratio(kernels.knn_s, kernels.product_s), 2)
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

-- Where a step's time goes, and what its convolutions alone would take in oneDNN.
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
  if npid.parts.rest < 0 then print "(run again alone the parts took longer than in the step: the machine is busy)" end
  print(("its convolutions alone, as oneDNN primitives: %.1f views/s; the whole step reaches %.0f%% of that")
    :format(npid.floor_views_per_s, 100 * npid.views_per_s / npid.floor_views_per_s))
end

local torch = found["npid PyTorch"]
if torch and found["augmentation torchvision"] then
  print(("\npeer: %s (%d threads, %.0f MB resident once imported), %s"):format(torch.what, torch.threads,
    torch.import_mb, found["augmentation torchvision"].what))
elseif not peer then
  print "\nno python3 here has torch and torchvision (PEER_PYTHON can name one): ours alone"
end
print_table()
if found.npid then print_parts() end

local file = assert(io.open(opt.build .. "/bench.json", "w"))
file:write(cld.json.encode { settings = sizes, measured = found, rows = rows }, "\n")
assert(file:close())
