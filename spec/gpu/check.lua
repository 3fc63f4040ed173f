--- `make gpu-check`: is the CUDA backend right on this machine's GPU? Ends with "N passed, N failed".
--
-- The parts, as --only names them:
--   kernels, graph   parts of specs: kernels has those of single ops, losses, optimizers and views, graph the one of
--              captured steps
--   specs      the specs that compare a device with the cpu (spec/backend_*_spec.lua): every op, loss and optimizer of
--              the contract, also gradients by central differences; whole training steps on both from the same seed,
--              with a graph and without; memory that runs out
--   programs   the libraries, the allocator and the optimizers by themselves
--   recipe     the recipe on toy data on both devices: its losses in each of 20 steps agree to 1e-3 in fp32, with a
--              graph and without, and to a few percent in other precisions; each device can continue the other's
--              checkpoint
--   ranks      a job of one rank, with Open MPI and NCCL, against no job: bit for bit (one_rank.lua)
--   memcheck, racecheck   NVIDIA's compute-sanitizer, if it is there, over the kernels' specs
local cld = require "cld"

local opt = cld.options {
  about = "The CUDA backend against the CPU, on this machine's GPU",
  { "build",   "build", "folder of the build", nonempty = true },
  { "only",    "specs,programs,recipe,ranks,memcheck,racecheck", "which parts to run", nonempty = true },
  { "minutes", 8,       "minutes that each tool of compute-sanitizer may take", min = 1, integer = true },
}

local parts = {}
for part in opt.only:gmatch "[^,%s]+" do
  parts[part] = true
  if not (" specs kernels graph programs recipe ranks memcheck racecheck "):find(" " .. part .. " ", 1, true) then
    io.stderr:write(("gpu-check: --only: there is no part '%s'; expected specs, kernels, graph, programs, recipe,"
      .. " ranks, memcheck, racecheck\n"):format(part))
    os.exit(1)
  end
end

local function interpreter()
  local i = 0
  while arg[i - 1] do i = i - 1 end
  return arg[i]
end
local cldlua = interpreter()
local passed, failed = 0, 0

-- Runs for at most `seconds`, in this process's group, so that ending the check's group also ends the command.
local function limited(seconds, command)
  return ("timeout --foreground %d %s"):format(seconds, command)
end

local function read(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read "a"
  local ok, _, code = pipe:close()
  return text, ok, code
end

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

-- Adds the numbers of the text's last "N passed, N failed"; without one, the text counts as one check.
local function count(name, text, ok)
  local p, f
  for a, b in text:gmatch "(%d+) passed, (%d+) failed" do p, f = tonumber(a), tonumber(b) end
  p, f = p or (ok and 1 or 0), f or (ok and 0 or 1)
  if not ok and f == 0 then f = 1 end
  passed, failed = passed + p, failed + f
  print(("%-40s %4d passed, %d failed"):format(name, p, f))
  if f > 0 then print(text:sub(-4000)) end
  io.stdout:flush()
end

-- ---- the device --------------------------------------------------------------------

local gpus, reason = cld.cuda.devices()
if #gpus == 0 then
  print("gpu-check: " .. tostring(reason))
  print "0 passed, 1 failed"
  os.exit(1)
end
local gpu = gpus[1]
print(("%s, %.0f GiB, compute capability %s%s; %s"):format(gpu.name, gpu.memory / 2 ^ 30, gpu.capability,
  cld.cuda.is_emulated() and " (emulated)" or "", cld.cuda.library()))

-- ---- the specs ---------------------------------------------------------------------

local busted = exists "/usr/bin/busted" and "/usr/bin/busted" or "lua/busted-runner.lua"
local kernels = {
  "backend_math", "backend_index", "backend_losses", "backend_optim", "backend_layers", "backend_views",
  "backend_augment",
}
local function run_specs(names)
  for _, name in ipairs(names) do
    local path = ("spec/%s_spec.lua"):format(name)
    count(path, read(limited(300, ("'%s' %s %s"):format(cldlua, busted, path))))
  end
end

-- The folders of this process's CUDA libraries, for a program that does not look for them itself.
local function library_folders()
  local folders, seen = {}, {}
  for line in io.lines "/proc/self/maps" do
    local folder = line:match "(/[^ ]*)/lib[%w_]*%.so[^/]*$"
    if folder and line:find "libcud" or folder and line:find "libcublas" then
      if not seen[folder] then folders[#folders + 1] = folder end
      seen[folder] = true
    end
  end
  return table.concat(folders, ":")
end

-- The programs that make builds if CUDA is installed: products and convolutions, memory and optimizers by themselves.
local function run_programs()
  local list = assert(io.popen(("cd '%s' && ls $PWD/spec/cuda_libraries $PWD/cuda/spec/* 2>/dev/null")
    :format(opt.build)))
  for path in list:lines() do
    if not path:find "%.%w+$" and not cld.cuda.is_emulated() then
      count(path, read(("LD_LIBRARY_PATH='%s':$LD_LIBRARY_PATH %s"):format(library_folders(),
        limited(300, "'" .. path .. "'"))))
    end
  end
  list:close()
end

-- ---- the recipe, as a user runs it ---------------------------------------------------

local toy, runs = opt.build .. "/toy-gpu", opt.build .. "/gpu-check"
local sizes = cld.cuda.is_emulated() and { images = 80, batch = 4, width = 2, clusters = 2 }
  or { images = 1280, batch = 64, width = 16, clusters = 16 }

-- The losses of each step of a run, computed from its log, which has the means so far: {{instance =, cld =}, ...}. Also
-- the run's output.
local function recipe(name, options)
  os.execute(("rm -rf '%s/%s'"):format(runs, name))
  local text, ok = read(limited(300, ("'%s' recipes/cifar10_npid_cld.lua --data '%s' --runs '%s' --name %s --width %d"
    .. " --batch-size %d --clusters %d --epochs 1 --warmup-epochs 1 --lr 2e-3 --knn-k 20 --print-every 0 %s")
    :format(cldlua, toy, runs, name, sizes.width, sizes.batch, sizes.clusters, options)))
  local steps, sums, log = {}, { instance = 0, cld = 0 }, io.open(("%s/%s/log.jsonl"):format(runs, name))
  for line in log and log:lines() or function() end do
    local means = cld.json.decode(line).means
    if means then
      local step = {}
      for key, sum in pairs(sums) do
        sums[key] = means[key] * (#steps + 1)
        step[key] = sums[key] - sum
      end
      steps[#steps + 1] = step
    end
  end
  if log then log:close() end
  return steps, text, ok
end

-- The largest relative difference between the losses, and the number of steps compared.
local function difference(a, b)
  local worst, steps = 0, math.min(#a, #b)
  for i = 1, steps do
    for name, value in pairs(b[i]) do
      local error = math.abs(a[i][name] - value) / math.abs(value)
      if not (error <= worst) then worst = error end
    end
  end
  return worst, steps
end

local function run_recipe()
  if not exists(toy) then
    read(("'%s' recipes/make_toy_data.lua --out '%s' --train %d --test 200"):format(cldlua, toy, sizes.images))
  end
  local expected, expected_text, expected_ok = recipe("cpu", "--device cpu --precision fp32")
  count("recipe on the cpu", expected_text, expected_ok and #expected >= 20)
  local plain
  for _, case in ipairs {
    { "--precision fp32 --no-graph", 1e-3 }, { "--precision fp32", 1e-3, true }, { "--precision tf32", 0.02 },
    { "--precision bf16", 0.1 }, { "--precision fp16", 0.1 },
  } do
    local losses, text, ok = recipe("cuda", "--device cuda " .. case[1])
    plain = plain or losses
    local error, steps = difference(losses, expected)
    count(("recipe, %s: %.1e"):format(case[1], error), ("%s\n%d steps, worst difference %g of at most %g")
      :format(text, steps, error, case[2]), ok and steps >= 20 and error <= case[2])
    if case[3] then
      local apart, both = difference(losses, plain)
      -- of two processes, which may have chosen other convolutions: the specs compare bits within one process
      count(("  with its graph and without: %.1e"):format(apart), ("%d steps, worst difference %g of at most 1e-4")
        :format(both, apart), both >= 20 and apart <= 1e-4)
    end
  end
  for _, way in ipairs { { "cpu", "cuda", "fp32" }, { "cuda", "cpu", "bf16" } } do
    local from, to, precision = table.unpack(way)
    recipe("moved", ("--device %s --precision %s"):format(from, precision))
    local text, ok = read(limited(300, ("'%s' recipes/cifar10_npid_cld.lua --resume '%s/moved' --device %s --epochs 2")
      :format(cldlua, runs, to)))
    count(("resumed on %s, from %s"):format(to, from), text, ok and text:find "epoch 2/2 .-top1" ~= nil)
  end
end

-- ---- compute-sanitizer -----------------------------------------------------------------

-- CLD_CUDA_EXACT makes each tensor an allocation of its own; otherwise a write past its end would hit its neighbour.
local function sanitize(sanitizer, tool)
  local left = opt.minutes * 60
  for _, name in ipairs { "optim", "views", "augment", "index", "losses", "layers", "math" } do
    local start = cld.clock()
    local text, ok, code = read("CLD_CUDA_EXACT=1 " .. limited(math.max(left // 1, 1),
      ("'%s' --tool %s --error-exitcode 9 '%s' %s spec/backend_%s_spec.lua")
        :format(sanitizer, tool, cldlua, busted, name)))
    left = left - (cld.clock() - start)
    local clean = text:find "ERROR SUMMARY: 0 errors" or text:find "RACECHECK SUMMARY: 0 hazards"
    if code == 124 then
      print(("%-40s not finished in time"):format(tool .. " " .. name))
      return
    end
    count(tool .. " " .. name, clean and ok and "1 passed, 0 failed" or text, ok and clean ~= nil)
  end
end

if parts.specs or parts.kernels then run_specs(kernels) end
if parts.specs or parts.graph then run_specs { "graph" } end
if parts.specs then run_specs { "backend_gradients", "backend_training", "precision" } end
if parts.programs then run_programs() end
if parts.recipe then run_recipe() end
if parts.ranks then
  require "spec.gpu.one_rank" {
    cldlua = cldlua, build = opt.build, runs = runs, read = read, limited = limited, count = count, exists = exists,
    sizes = cld.cuda.is_emulated() and { images = 20, rows = 4, pixels = 16, width = 2 }
      or { images = 640, rows = 64, pixels = 64, width = 16 },
  }
end
for _, tool in ipairs { "memcheck", "racecheck" } do
  local sanitizer = not cld.cuda.is_emulated() and read "command -v compute-sanitizer":match "%S+"
    or exists "/usr/local/cuda/bin/compute-sanitizer" and "/usr/local/cuda/bin/compute-sanitizer"
  if parts[tool] and sanitizer and not cld.cuda.is_emulated() then
    sanitize(sanitizer, tool)
  elseif parts[tool] then
    print(("%-40s not run: no compute-sanitizer"):format(tool))
  end
end

if passed + failed == 0 then
  print "gpu-check: none of these parts could run"
  failed = 1
end
print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
