--- Plans of convolutions in a job whose ranks would choose different ones, on the emulated device: all ranks end up
-- with the same plans, which a resumed run has from its first step on. The device's engines 0 and 1 round differently.
local cld = require "cld"
local process = require "spec.support.process"
local ranks = require "spec.support.ranks"
local missing = ranks.missing()

-- Each rank has rows of its own, 3 and 2, and 4 that all have. On rank 1 the chip is another one, if it is asked.
local recipe = [[
local cld = require "cld"
local core = require "cld.core"
local opt = cld.options {
  about = "an example", { "epochs", 1, "epochs", min = 1, integer = true }, { "other-chip", false, "on rank 1" },
  cld.options.training,
}
if opt.other_chip and cld.dist.rank == 1 then
  local devices = core.cuda.devices
  function core.cuda.devices()
    local list = devices()
    list[1].name = "Other Chip"
    return list
  end
end
local run = cld.run(opt)
local net = cld.nn.sequential(cld.nn.conv2d(3, 4, 3), cld.nn.relu(), cld.nn.conv2d(4, 2, 3)):to(opt.device)
local sgd = cld.optim.sgd(net, { lr = 0.02, momentum = 0.9 })
local own = cld.randn(3 - cld.dist.rank, 3, 9, 9):to(opt.device)
cld.manual_seed(3)
local same = cld.randn(4, 3, 9, 9):to(opt.device)
local step = cld.graph(function(x, y)
  local loss = net(x):square():mean() + net(y):square():mean()
  sgd:step(loss)
  return { loss = loss }
end, { enabled = opt.graph })
for epoch in run:epochs { net = net, sgd = sgd } do
  for _ = 1, 4 do run:track(step(own, same)) end
end
]]

describe("plans of several ranks", function()
  if not os.getenv "CLD_CUDA_PLUGIN" then return pending "there is no emulated device here" end
  if missing then return pending(missing) end
  local folder, script

  setup(function()
    folder = process.temporary_folder()
    script = process.write(folder .. "/example.lua", recipe)
  end)
  teardown(function() process.remove(folder) end)

  local function train(name, engines, ...)
    local result = ranks.with_variable("CLD_HOST_ENGINE", engines, { script, "--runs", folder, "--name", name,
      "--threads", "1", "--device", "cuda", "--precision", "fp32", ... })
    assert.equal(0, result.code, result.out .. result.err)
    return result.out
  end

  -- The engines in the run's file, by the rows of their images: { [3] = "0 0 0", ... }.
  local function engines_of(name, chip)
    local found = {}
    local file = ("%s/%s/plans-%s.json"):format(folder, name, chip or "host-emulation")
    for _, plan in ipairs(cld.json.decode(process.read(file)).plans) do
      local rows = plan.x[1]
      found[rows] = (found[rows] and found[rows] .. " " or "") .. plan.engine
    end
    return found
  end

  local function checkpoint(name) return ("%s/%s/checkpoint.safetensors"):format(folder, name) end

  for _, way in ipairs { "--graph", "--no-graph" } do
    it("are rank 0's, and of a shape that it has not met another's: " .. way, function()
      local name = "whole" .. way
      train(name, { "0", "1" }, way, "--epochs", "2")
      -- of two convolutions: forward and weight, and data of the second one
      assert.same({ [2] = "1 1 1 1 1", [3] = "0 0 0 0 0", [4] = "0 0 0 0 0" }, engines_of(name))
    end)

    it("are kept for all ranks of a resumed run, whatever these would choose: " .. way, function()
      train("cut" .. way, { "0", "1" }, way)
      train("cut" .. way, { "1", "0" }, way, "--epochs", "2", "--resume")
      assert.equal(0, (ranks.difference(checkpoint("whole" .. way), checkpoint("cut" .. way))))
    end)
  end

  it("are others where engines are", function() -- or nothing above would tell them apart
    train("zero", { "0", "0" }, "--epochs", "2")
    assert.is_true(ranks.difference(checkpoint "whole--graph", checkpoint "zero") > 0)
  end)

  it("are a chip's own: a line says so, and its file is kept", function()
    local out = train("chips", { "0", "1" }, "--epochs", "2", "--other-chip")
    local said = "rank 1 chooses its convolutions itself: it is on other-chip with loops on the host, rank 0 on"
      .. " host-emulation with loops on the host\n"
    assert.equal(1, select(2, out:gsub(said:gsub("%p", "%%%0"), "")))
    assert.same({ [3] = "0 0 0 0 0", [4] = "0 0 0 0 0" }, engines_of "chips")
    assert.same({ [2] = "1 1 1 1 1", [4] = "1 1 1 1 1" }, engines_of("chips", "other-chip"))
    assert.matches("rank 1 chooses", train("chips", { "1", "0" }, "--epochs", "3", "--other-chip", "--resume"))
    assert.same({ [2] = "1 1 1 1 1", [4] = "1 1 1 1 1" }, engines_of("chips", "other-chip"))
  end)

  it("that a rank cannot make are told", function()
    local out = ranks.script(2, [[
      local exchange = require("cld.plans").exchange
      local w = cld.ones(4, 3, 3, 3):to "cuda"
      local function convolve(size) cld.nn.functional.conv2d(cld.ones(1, 3, size, size):to "cuda", w) end
      convolve(5)
      local plan = cld.cuda.plans().plans[1]
      plan.x, plan.y, plan.engine = { 1, 3, 6, 6 }, { 1, 4, 4, 4 }, 7
      if dist.rank == 0 then cld.cuda.use_plan(plan) end
      exchange "cuda:0"
      convolve(6)
      for _ = 1, 2 do exchange "cuda:0" end
    ]])
    assert.equal("1 of rank 0's convolutions cannot be computed as on the other ranks, and were chosen anew\n"
      .. "1 of rank 1's convolutions cannot be computed as on the other ranks, and were chosen anew\n", out)
  end)
end)
