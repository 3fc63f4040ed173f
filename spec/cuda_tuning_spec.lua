--- The choice among plans of convolutions, with made-up plans; see spec/support/cuda_tuning.cu. Its only kernel runs on
-- the host.
local process = require "spec.support.process"

local program = process.absolute(process.build .. "/spec/cuda_tuning")

local function passes(env)
  local result = process.run { program = program, env = env }
  assert.equal("", result.err)
  assert.matches("^%d+ checks, 0 failures\n$", result.out)
  assert.equal(0, result.code)
end

describe("the choice among plans", function()
  it("goes by time and by result, one engine after the other, within its seconds and its workspace; what was chosen can"
    .. " be told and given", function() passes { CLD_HOST_CACHE = "1" } end)

  it("does so with the kernels' threads in the other order", function() passes { CLD_HOST_ORDER = "reverse" } end)
end)
