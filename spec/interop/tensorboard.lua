--- `make test-interop-tensorboard`: compares what TensorBoard's own readers see in killed and resumed runs with what
-- the specs' reader sees (spec/support/tensorboard.lua) and with the log. Needs a Python with tensorboard:
--
--   make test-interop-tensorboard PYTHON=/path/to/python
local cld = require "cld"
local history = require "cld.run.history"
local process = require "spec.support.process"
local recipes = require "spec.support.recipes"
local tensorboard = require "spec.support.tensorboard"

local python = arg[1] or "python3"
local probe = process.run { program = python, "-c", "import tensorboard, werkzeug; print(tensorboard.__version__)" }
if probe.code ~= 0 then
  print(("test-interop-tensorboard: %s has no tensorboard; nothing is tested"):format(python))
  os.exit(true)
end
print("TensorBoard " .. probe.out:match "%S+")

local function equal(what, expected, found)
  local a, b = cld.json.encode(expected), cld.json.encode(found)
  if a ~= b then
    print(("FAILED  %s\n  expected %s\n  found    %s"):format(what, a, b))
    os.exit(1)
  end
  print("ok  " .. what)
end

local folder, toy = recipes.start()
local _ <close> = setmetatable({}, { __close = recipes.remove })

local function train(after, ...)
  local words = { "--data", toy, "--runs", folder .. "/runs", "--epochs", "3", "--batch-size", "12", "--width", "2",
    "--low-dim", "4", "--clusters", "4", "--knn-k", "5", "--warmup-epochs", "0", "--threads", "1", "--device", "cpu",
    "--print-every", "0", ... }
  if after then return recipes.run_after(after, "cifar10_npid_cld", table.unpack(words)) end
  return recipes.run("cifar10_npid_cld", table.unpack(words))
end

local function steps_of(points)
  local steps = {}
  for i, point in ipairs(points) do steps[i] = point[1] end
  return steps
end

local function check(name)
  local board = folder .. "/runs/" .. name .. "/tensorboard"
  local result = process.run { program = python, "spec/interop/read_tensorboard.py", board, timeout = 120 }
  if result.code ~= 0 then
    print(result.err)
    os.exit(1)
  end
  local theirs, ours = cld.json.decode(result.out), tensorboard.read(board)
  local curves, count = history.read(folder .. "/runs/" .. name).curves, 0
  for tag, points in pairs(ours) do
    local own = {}
    for i, point in ipairs(points) do own[i] = { point[1], ("%.9g"):format(point[2]) } end
    local other = {}
    for i, point in ipairs(theirs.scalars[tag]) do other[i] = { point[1], ("%.9g"):format(point[2]) } end
    equal(("%s: %s: the values of the scripts' reader"):format(name, tag), own, other)
    equal(("%s: %s: the steps of the page's reader"):format(name, tag), steps_of(points), theirs.steps[tag])
    local expected = {}
    local group, curve = tag:match "^([^/]*)/(.*)$"
    -- Alignment and uniformity are tracked over the steps and written at an epoch's end: one curve of the log.
    if not (curve == "alignment" or curve == "uniformity") then
      for i, point in ipairs(curves[curve]) do expected[i] = point.step end
      equal(("%s: %s: the steps of the log"):format(name, tag), expected, steps_of(points))
    end
    count = count + (group and 1 or 0)
  end
  equal(name .. ": the number of tags", 16, count)
  equal(name .. ": the images of views", { { 0, 206, 206 } }, theirs.images.views)
  local shown = theirs.projector.instance
  equal(name .. ": the projector's rows and columns", { 16, 4 }, { shown.rows, shown.columns })
  equal(name .. ": its classes", 16, #shown.metadata)
  equal(name .. ": its thumbnails", true, shown.sprite > 1000)
end

assert(train(nil, "--name", "whole", "--tensorboard").code == 0)
check "whole"
assert(train(recipes.stopped_at(6, "KILL"), "--name", "killed", "--tensorboard").code == 137)
assert(train(recipes.stopped_at(2, "TERM"), "--resume", folder .. "/runs/killed").code == 143)
assert(train(nil, "--resume", folder .. "/runs/killed").code == 0)
check "killed"
