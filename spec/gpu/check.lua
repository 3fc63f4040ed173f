--- `make gpu-check`: is the CUDA backend right on this machine's GPU? Ends with "N passed, N failed".
--
-- The specs that compare a device with the cpu (spec/backend_*_spec.lua: every op, loss and optimizer of the contract,
-- gradients, whole training steps on both with the same seed, with a graph and without, memory that runs out), run on
-- the GPU; the libraries by themselves; the recipe on toy data on both; and, where NVIDIA's compute-sanitizer is there,
-- memcheck and racecheck over the kernels' specs.
local cld = require "cld"

local opt = cld.options {
  about = "The CUDA backend against the CPU, on this machine's GPU",
  { "build",     "build", "folder of the build", nonempty = true },
  { "sanitizer", true,    "compute-sanitizer over the kernels' specs, where it is there" },
  { "minutes",   8,       "of compute-sanitizer, at most, for each of its tools", min = 1 },
}

local function interpreter()
  local i = 0
  while arg[i - 1] do i = i - 1 end
  return arg[i]
end
local cldlua = interpreter()
local passed, failed = 0, 0

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

-- Adds up what the text's last "N passed, N failed" says; without one the whole counts as one.
local function count(name, text, ok)
  local p, f
  for a, b in text:gmatch "(%d+) passed, (%d+) failed" do p, f = tonumber(a), tonumber(b) end
  p, f = p or (ok and 1 or 0), f or (ok and 0 or 1)
  if not ok and f == 0 then f = 1 end
  passed, failed = passed + p, failed + f
  print(("%-34s %5d passed, %d failed"):format(name, p, f))
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
local specs = { "math", "index", "losses", "optim", "layers", "augment", "training" }
for _, name in ipairs(specs) do
  local path = ("spec/backend_%s_spec.lua"):format(name)
  count(path, read(("'%s' %s %s"):format(cldlua, busted, path)))
end
for _, path in ipairs { "spec/graph_spec.lua", "spec/precision_spec.lua" } do
  if exists(path) then count(path, read(("'%s' %s %s"):format(cldlua, busted, path))) end
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

-- Programs that make builds where CUDA is: products and convolutions, memory and optimizers by themselves.
local programs = assert(io.popen(("ls %s/spec/cuda_libraries %s/cuda/spec/* 2>/dev/null"):format(opt.build, opt.build)))
for path in programs:lines() do
  if not path:find "%.%w+$" and not cld.cuda.is_emulated() then
    count(path, read(("LD_LIBRARY_PATH='%s':$LD_LIBRARY_PATH '%s'"):format(library_folders(), path)))
  end
end
programs:close()

-- ---- the recipe, as a user runs it ---------------------------------------------------

local toy = opt.build .. "/toy-gpu"
local function recipe(device, options)
  local text, ok = read(("'%s' recipes/cifar10_npid_cld.lua --data %s --runs %s/gpu-check --width 16 --batch-size 64"
    .. " --clusters 16 --epochs 2 --warmup-epochs 1 --knn-k 20 --device %s %s"):format(cldlua, toy, opt.build, device,
    options))
  local instance = tonumber(text:match "epoch 2/2 .-instance ([%d.]+)")
  return instance, text, ok
end
if not exists(toy) then
  read(("'%s' recipes/make_toy_data.lua --out %s --train 640 --test 200"):format(cldlua, toy))
end
local expected, expected_text, expected_ok = recipe("cpu", "--precision fp32")
count("recipe on the cpu", expected_text, expected_ok and expected ~= nil)
for _, settings in ipairs { "fp32", "fp32 --no-graph", "tf32", "bf16", "fp16" } do
  local options = "--precision " .. settings
  local instance, text, ok = recipe("cuda", options)
  local near = instance and expected and math.abs(instance - expected) <= 0.05 * expected
  count("recipe on cuda " .. options, text, ok and near == true)
end

-- ---- compute-sanitizer -----------------------------------------------------------------

local sanitizer = opt.sanitizer and not cld.cuda.is_emulated() and read "command -v compute-sanitizer":match "%S+"
if sanitizer then
  for _, tool in ipairs { "memcheck", "racecheck" } do
    for _, name in ipairs { "math", "index", "losses", "optim", "layers", "augment" } do
      local text, ok, code = read(("timeout %d '%s' --tool %s --error-exitcode 9 '%s' %s spec/backend_%s_spec.lua")
        :format(opt.minutes * 60 // 6, sanitizer, tool, cldlua, busted, name))
      local clean = text:find "ERROR SUMMARY: 0 errors" or text:find "RACECHECK SUMMARY: 0 hazards"
      if code == 124 then
        print(("%-34s not finished in its time"):format(tool .. " " .. name))
      else
        count(tool .. " " .. name, clean and "1 passed, 0 failed" or text, ok and clean ~= nil)
      end
    end
  end
else
  print "compute-sanitizer: not run"
end

print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and 0 or 1)
