--- `make gpu-bench`: the README's GPU table, ours against PyTorch's on the same GPU in one run. Prints it, and writes
-- build/gpu-bench.json.
--
-- Every measurement is a process of its own; the round is repeated and the medians count. The peer is $PEER_PYTHON or
-- the first python3 that imports torch; its best mode counts.
local cld = require "cld"
local median = require "spec.bench.median"

local opt = cld.options {
  about = "The GPU table: ours against PyTorch's, in one run",
  { "device",  "auto",  "where; cpu only tries the scripts, with the small sizes below", value = "device" },
  { "rounds",  2,       "processes per measurement", min = 1 },
  { "batch",   256,     "images per step", min = 2 },
  { "width",   64,      "channels of the first stage", min = 1 },
  { "bank",    50000,   "images of the data set", min = 1 },
  { "steps",   100,     "timed steps per process", min = 1 },
  { "size",    224,     "pixels of ResNet-50's images", min = 32 },
  { "scale",   1.0,     "of the single kernels' sizes", above = 0 },
  { "quick",   false,   "leave out torch.compile, the Pillow pipeline and ResNet-50" },
  { "build",   "build", "where gpu-bench.json goes" },
}

local function interpreter()
  local i = 0
  while arg[i - 1] do i = i - 1 end
  return arg[i]
end
local ours, here = interpreter(), arg[0]:match "^(.*)/" or "."
local device = cld.cuda.resolve(opt.device)
if device == "cpu" and opt.device ~= "cpu" then
  io.stderr:write("gpu-bench: ", (select(2, cld.cuda.resolve "auto")), "\n")
  os.exit(1)
end
local peer_device = device:gsub(":.*", "")

local function find_peer(modules)
  for _, python in ipairs { os.getenv "PEER_PYTHON" or "python3", "python3", "/usr/bin/python3" } do
    if os.execute(("'%s' -c 'import %s' >/dev/null 2>&1"):format(python, modules)) then return python end
  end
end
local peer = find_peer "torch"
local has_torchvision = peer and find_peer "torch, torchvision" ~= nil

-- The last line of the command as JSON; nil, told on stderr, where it fails: the table then has a gap.
local function run(format, ...)
  local command = format:format(...)
  local pipe = assert(io.popen(command))
  local last
  for line in pipe:lines() do last = line end
  local ok, value = pcall(cld.json.decode, last or "")
  if pipe:close() and ok then return value end
  io.stderr:write("  failed: ", command, "\n")
end

local measurements = {}
local function add(name, ...)
  local arguments = table.pack(...)
  measurements[#measurements + 1] = { name, function() return run(table.unpack(arguments, 1, arguments.n)) end }
end
local function add_ours(name, what, more)
  add(name, "'%s' %s/step.lua --what %s --device %s --batch %d --steps %d --width %d --bank %d --size %d %s", ours,
    here, what, device, opt.batch, opt.steps, opt.width, opt.bank, opt.size, more or "")
end
local modes = { "eager", "amp", "graph", not opt.quick and "compile" or nil }
local function add_peer(what)
  for _, mode in ipairs(peer and modes or {}) do
    add(what .. " PyTorch " .. mode, "'%s' %s/peer_step.py %s --mode %s --device %s --batch %d --steps %d --width %d"
      .. " --bank %d", peer, here, what, mode, peer_device, opt.batch, opt.steps, opt.width, opt.bank)
  end
end

add_ours("npid", "npid", "--epoch --queries " .. math.max(opt.bank // 5, 1))
add_ours("npid fp32", "npid", "--precision fp32")
add_ours("npid without graph", "npid", "--no-graph")
add_peer "npid"
if not opt.quick then
  for _, workers in ipairs(has_torchvision and { 4, 16 } or {}) do
    add("Pillow " .. workers, "'%s' %s/peer_pillow.py --workers %d --device %s --batch %d --width %d --bank %d"
      .. " --steps %d", peer, here, workers, peer_device, opt.batch, opt.width, opt.bank, math.max(opt.steps // 3, 1))
  end
  add_ours("resnet50", "resnet50")
  if has_torchvision then add_peer "resnet50" end
end

local found = {}
for round = 1, opt.rounds do
  for _, measurement in ipairs(measurements) do
    local result = measurement[2]()
    local list = found[measurement[1]] or {}
    found[measurement[1]], list[#list + 1] = list, result
    io.stderr:write(("  %s, round %d: %s\n"):format(measurement[1], round,
      result and ("%.0f views/s"):format(result.views_per_s) or "no figure"))
  end
end

local function field(name, key)
  local values = {}
  for _, result in ipairs(found[name] or {}) do values[#values + 1] = result[key] end
  return #values > 0 and median(values) or nil
end

-- The peer's best mode by views/s.
local function best(what)
  local rate, mode
  for _, m in ipairs(modes) do
    local r = field(what .. " PyTorch " .. m, "views_per_s")
    if r and (not rate or r > rate) then rate, mode = r, m end
  end
  return rate, mode
end

local rows = {}
local function row(what, mine, theirs, value, goal, higher)
  local met
  if value and goal then met = higher and value >= goal or not higher and value <= goal end
  rows[#rows + 1] = { what = what, ours = mine, peer = theirs, value = value, goal = goal, higher = higher, met = met }
end
local function ratio(a, b) return a and b and a / b end

local step_rate, npid_best, npid_mode = field("npid", "views_per_s"), best "npid"
row("NPID + CLD step, bf16, views/s, against PyTorch's best" .. (npid_mode and " (" .. npid_mode .. ")" or ""),
  step_rate, npid_best, ratio(step_rate, npid_best), 1.3, true)
row("  the same, views/s", step_rate, nil, step_rate, 80000, true)
row("  f32", field("npid fp32", "views_per_s"), field("npid PyTorch eager", "views_per_s"),
  ratio(field("npid fp32", "views_per_s"), field("npid PyTorch eager", "views_per_s")))
row("  without its graph", field("npid without graph", "views_per_s"))
local npid_peak = field("npid", "peak_mb")
row("  peak memory, MB", npid_peak, npid_mode and field("npid PyTorch " .. npid_mode, "peak_mb"),
  npid_mode and ratio(npid_peak, field("npid PyTorch " .. npid_mode, "peak_mb")), 0.8)
local epoch_s = field("npid", "epoch_s")
local minutes = epoch_s and epoch_s * 200 / 60
row("an epoch with its kNN evaluation, s", epoch_s)
row("200 of them (extrapolated), minutes", minutes, nil, minutes, 8)
for _, workers in ipairs { 4, 16 } do
  local pillow = field("Pillow " .. workers, "views_per_s")
  row(("against Pillow in %d processes, views/s"):format(workers), step_rate, pillow, ratio(step_rate, pillow), 10,
    true)
end
local r50, r50_best, r50_mode = field("resnet50", "views_per_s"), best "resnet50"
row("ResNet-50 at " .. opt.size .. ", images/s" .. (r50_mode and " (" .. r50_mode .. ")" or ""), r50, r50_best,
  ratio(r50, r50_best), 1.0, true)

local function number(value) return value and ("%.4g"):format(value) or "-" end
local torch = peer and (found["npid PyTorch eager"] or {})[1]
local chip = device ~= "cpu" and cld.cuda.devices()[tonumber(device:match "%d+$") + 1].name or "cpu"
print(("\n%s; %s; peer: %s"):format(chip, device ~= "cpu" and cld.cuda.library() or cld.versions().cpu_library,
  torch and torch.what or "none"))
local line = "%-66s %10s %10s %7s  %-9s %s"
print(line:format("what", "ours", "peer", "ratio", "goal", ""))
for _, r in ipairs(rows) do
  print(line:format(r.what, number(r.ours), number(r.peer), r.value ~= r.ours and number(r.value) or "",
    r.goal and (r.higher and ">= " or "<= ") .. r.goal or "", r.met == nil and "" or r.met and "met" or "MISSED"))
end
print()
-- Single kernels: a table of its own, whose last line is for us.
local kernels
local pipe = assert(io.popen(("'%s' %s/kernels.lua --device %s --scale %g"):format(ours, here, device, opt.scale)))
for text in pipe:lines() do
  if text:sub(1, 1) == "[" then kernels = cld.json.decode(text) else print(text) end
end
if not pipe:close() then io.stderr:write "  failed: the single kernels\n" end

local file = assert(io.open(opt.build .. "/gpu-bench.json", "w"))
file:write(cld.json.encode { chip = chip, measured = found, rows = rows, kernels = kernels }, "\n")
assert(file:close())
