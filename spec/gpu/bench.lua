--- `make gpu-bench`: the GPU table of recipes/guide/gpu.md, ours against PyTorch's on the same GPU in one run. Prints
-- every figure as it comes, then the tables, and keeps what it has in build/gpu-bench.json at all times.
--
-- Every measurement is a separate process, so that one that fails or takes too long does not harm the others. There are
-- several rounds, and the medians count. The peer is $PEER_PYTHON or the first python3 that can import torch; its best
-- mode counts.
local cld = require "cld"
local median = require "spec.bench.median"

local opt = cld.options {
  about = "The GPU table: ours against PyTorch's, in one run",
  { "device",  "auto",  "where to run; cpu only serves to try the scripts", value = "device" },
  { "only",    "npid,kernels,resnet50,pillow", "which parts to run", nonempty = true },
  { "rounds",  2,       "processes per measurement", min = 1, integer = true },
  { "batch",   256,     "images per step", min = 2, integer = true },
  { "width",   64,      "channels of the first stage", min = 1, integer = true },
  { "bank",    50000,   "images of the data set", min = 1, integer = true },
  { "steps",   100,     "timed steps per process", min = 1, integer = true },
  { "size",    224,     "pixels of ResNet-50's images", min = 32, integer = true },
  { "scale",   1.0,     "factor of the single kernels' sizes", above = 0 },
  { "repeats", 20,      "launches per timing of a single kernel", min = 1, integer = true },
  { "quick",   false,   "leave out torch.compile, the Pillow pipeline and ResNet-50" },
  { "minutes", 0.0,     "minutes until everything must have ended; 0: no limit", min = 0 },
  { "limit",   5.0,     "minutes that one process may take", above = 0 },
  { "add",     false,   "add to the figures that gpu-bench.json already has" },
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
if peer_device == "cuda" and cld.cuda.is_emulated() then peer_device = "cpu" end

local parts = {}
for part in opt.only:gmatch "[^,%s]+" do parts[part] = true end
for part in pairs(parts) do
  if not (" npid kernels resnet50 pillow "):find(" " .. part .. " ", 1, true) then
    io.stderr:write(("gpu-bench: --only: there is no part '%s'; expected npid, kernels, resnet50, pillow\n")
      :format(part))
    os.exit(1)
  end
end
if opt.quick then parts.resnet50, parts.pillow = nil, nil end

local function find_peer(modules)
  for _, python in ipairs { os.getenv "PEER_PYTHON" or "python3", "python3", "/usr/bin/python3" } do
    if os.execute(("'%s' -c 'import %s' >/dev/null 2>&1"):format(python, modules)) then return python end
  end
end
local peer = find_peer "torch"
local has_torchvision = peer and find_peer "torch, torchvision" == peer
if not peer then io.stderr:write "gpu-bench: no python3 imports torch (PEER_PYTHON can name one): no peer\n" end

-- ---- the measurements, in order ------------------------------------------------------

local measurements = {} -- {name, command}
local function add(name, format, ...) measurements[#measurements + 1] = { name, format:format(...) } end

local function add_ours(name, what, more)
  add(name, "'%s' '%s/step.lua' --what %s --device %s --batch %d --steps %d --width %d --bank %d --size %d %s", ours,
    here, what, device, opt.batch, opt.steps, opt.width, opt.bank, opt.size, more or "")
end

local modes = { "graph", "amp", "eager" }
if not opt.quick then table.move({ "compile_graph", "compile" }, 1, 2, 4, modes) end
local function add_peer(what)
  for _, mode in ipairs(peer and modes or {}) do
    add(what .. " PyTorch " .. mode, "'%s' '%s/peer_step.py' %s --mode %s --device %s --batch %d --steps %d --width %d"
      .. " --bank %d --size %d", peer, here, what, mode, peer_device, opt.batch, opt.steps, opt.width, opt.bank,
      opt.size)
  end
end

if parts.npid then
  add_ours("npid", "npid", "--epoch --queries " .. math.max(opt.bank // 5, 1))
  add_peer "npid"
  add_ours("npid tf32", "npid", "--precision tf32")
  add_ours("npid without graph", "npid", "--no-graph")
end
if parts.kernels then
  local sizes = ("--scale %g --repeats %d"):format(opt.scale, opt.repeats)
  add("kernels", "'%s' '%s/kernels.lua' --device %s %s", ours, here, device, sizes)
  if peer then add("kernels PyTorch", "'%s' '%s/peer_kernels.py' --device %s %s", peer, here, peer_device, sizes) end
end
if parts.resnet50 then
  add_ours("resnet50", "resnet50")
  if has_torchvision then add_peer "resnet50" end
end
if parts.pillow and has_torchvision then
  for _, workers in ipairs { 4, 16 } do
    add("Pillow " .. workers, "'%s' '%s/peer_pillow.py' --workers %d --device %s --batch %d --width %d --bank %d"
      .. " --steps %d", peer, here, workers, peer_device, opt.batch, opt.width, opt.bank, math.max(opt.steps // 3, 1))
  end
end

-- ---- running them ---------------------------------------------------------------------

local started = cld.clock()
local function seconds_left()
  return opt.minutes > 0 and opt.minutes * 60 - (cld.clock() - started) or math.huge
end

-- The last line of the command as JSON; nil if it fails or takes too long, which is reported on stderr and leaves a gap
-- in the table.
local function run(command)
  local limit = math.floor(math.min(opt.limit * 60, seconds_left()))
  local pipe = assert(io.popen(("timeout -k 5 %d %s"):format(limit, command)))
  local last
  for line in pipe:lines() do last = line end
  local ok, value = pcall(cld.json.decode, last or "")
  local _, _, code = pipe:close()
  if code == 0 and ok then return value end
  io.stderr:write(code == 124 and ("  not done in %d s: "):format(limit) or "  failed: ", command, "\n")
end

local chip = device ~= "cpu" and cld.cuda.devices()[tonumber(device:match "%d+$") + 1].name or "cpu"
local library = device ~= "cpu" and cld.cuda.library() or cld.versions().cpu_library
local path = opt.build .. "/gpu-bench.json"

local found = {} -- name -> results
if opt.add then
  local file = io.open(path)
  local ok, before = pcall(cld.json.decode, file and file:read "a" or "")
  if file then file:close() end
  if ok and before.chip == chip then found = before.measured end
end

local function save()
  local file = assert(io.open(path, "w"))
  file:write(cld.json.encode { chip = chip, library = library, measured = found }, "\n")
  assert(file:close())
end

for round = 1, opt.rounds do
  for _, measurement in ipairs(measurements) do
    local name = measurement[1]
    if seconds_left() < 10 then
      io.stderr:write(("  %s, round %d: no time left\n"):format(name, round))
    elseif not (round > 1 and name:find "^kernels") then
      local result = run(measurement[2])
      found[name] = found[name] or {}
      table.insert(found[name], result)
      local text = not result and "no figure" or not result.views_per_s and "done"
        or ("%.0f views/s, %.2f ms, peak %.0f MB"):format(result.views_per_s, result.step_ms, result.peak_mb or 0)
      io.stderr:write(("  %s, round %d: %s\n"):format(name, round, text))
      save()
    end
  end
end

-- ---- the table -------------------------------------------------------------------------

local function field(name, key)
  local values = {}
  for _, result in ipairs(found[name] or {}) do values[#values + 1] = result[key] end
  return #values > 0 and median(values) or nil
end

-- The peer's best mode by views/s.
local function best(what)
  local rate, mode
  for _, m in ipairs { "eager", "amp", "graph", "compile", "compile_graph" } do
    local r = field(what .. " PyTorch " .. m, "views_per_s")
    if r and (not rate or r > rate) then rate, mode = r, m end
  end
  return rate, mode
end

local function number(value) return value and ("%.4g"):format(value) or "-" end

local line = "%-66s %10s %10s %7s  %-9s %s"
local function row(what, mine, theirs, value, goal, higher)
  local met
  if value and goal then met = higher and value >= goal or not higher and value <= goal end
  if not mine and not theirs then return end
  print(line:format(what, number(mine), number(theirs), value ~= mine and number(value) or "",
    goal and (higher and ">= " or "<= ") .. goal or "", met == nil and "" or met and "met" or "MISSED"))
end
local function ratio(a, b) return a and b and b > 0 and a / b or nil end

local torch
for name, results in pairs(found) do torch = torch or name:find " PyTorch " and results[1] and results[1].what end
print(("\n%s; %s; peer: %s"):format(chip, library, torch or "none"))
print(line:format("what", "ours", "peer", "ratio", "goal", ""))

local rate, peer_best, mode = field("npid", "views_per_s"), best "npid"
row("NPID + CLD step, bf16, views/s, against PyTorch's best" .. (mode and " (" .. mode .. ")" or ""), rate, peer_best,
  ratio(rate, peer_best), 1.3, true)
row("  the same, views/s", rate, nil, rate, 80000, true)
for _, m in ipairs { "eager", "amp", "graph", "compile", "compile_graph" } do
  local r = field("npid PyTorch " .. m, "views_per_s")
  if r and m ~= mode and m ~= "eager" then row("  against " .. m, rate, r, ratio(rate, r)) end
end
local tf32, eager = field("npid tf32", "views_per_s"), field("npid PyTorch eager", "views_per_s")
row("  in tf32, against eager", tf32, eager, ratio(tf32, eager))
local plain, amp = field("npid without graph", "views_per_s"), field("npid PyTorch amp", "views_per_s")
row("  without its graph, against amp", plain, amp, ratio(plain, amp))
local function memory_row(what, name, key, goal)
  local peak, theirs = field(name, key), field(name .. " PyTorch " .. (select(2, best(name)) or ""), key)
  row(what, peak, theirs, ratio(peak, theirs), goal)
end
memory_row("  peak memory in use, MB", "npid", "peak_mb", 0.8)
memory_row("  peak memory reserved, MB", "npid", "reserved_mb")
local epoch_s = field("npid", "epoch_s")
row("an epoch with its kNN evaluation, s", epoch_s)
local minutes = epoch_s and epoch_s * 200 / 60
row("200 of them (extrapolated), minutes", minutes, nil, minutes, 8)
for _, workers in ipairs { 4, 16 } do
  local pillow = field("Pillow " .. workers, "views_per_s")
  row(("against Pillow in %d processes, views/s"):format(workers), pillow and rate, pillow, ratio(rate, pillow), 10,
    true)
end
local r50, r50_best, r50_mode = field("resnet50", "views_per_s"), best "resnet50"
row("ResNet-50 at " .. opt.size .. ", images/s" .. (r50_mode and " (" .. r50_mode .. ")" or ""), r50, r50_best,
  ratio(r50, r50_best), 1.0, true)
memory_row("  peak memory in use, MB", "resnet50", "peak_mb")

-- ---- single kernels ----------------------------------------------------------------------

-- The faster of the two copies, and of the two products, is the reference for the others.
local kernels, theirs = (found.kernels or {})[1] or {}, (found["kernels PyTorch"] or {})[1] or {}
local by_unit = { gb_per_s = "GB/s", tflop_per_s = "TFLOP/s" }
local most = {}
for _, k in ipairs(kernels) do
  for unit in pairs(by_unit) do
    if k[unit] and not most[unit] then
      local peer_us = theirs[k.name]
      most[unit] = math.max(k[unit], peer_us and k[unit] * k.us / peer_us or 0)
    end
  end
end
if #kernels > 0 then
  print(("\n%-60s %10s %16s %8s %12s %6s"):format("kernel", "us", "", "of most", "PyTorch, us", "ratio"))
end
for _, k in ipairs(kernels) do
  local rate_text, share = "", ""
  for unit, label in pairs(by_unit) do
    if k[unit] then
      rate_text, share = ("%.4g %s"):format(k[unit], label), ("%.0f %%"):format(100 * k[unit] / most[unit])
    end
  end
  local peer_us = theirs[k.name]
  print(("%-60s %10.1f %16s %8s %12s %6s"):format(k.name, k.us, rate_text, share, peer_us and ("%.1f"):format(peer_us)
    or "", peer_us and ("%.2f"):format(peer_us / k.us) or ""))
end
print("\n" .. path .. " has the figures")
