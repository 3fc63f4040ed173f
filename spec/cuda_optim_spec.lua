--- The optimizers of the CUDA backend where Lua does not reach them: spec/support/cuda_optim.cu says what. Its kernels
-- run on the host.
local process = require "spec.support.process"

describe("optimizers of the CUDA backend", function()
  it("go by what lies on the device: finite gradients, the loss scale, conditions", function()
    local result = process.run { program = process.absolute(process.build .. "/spec/cuda_optim") }
    assert.equal("", result.err)
    assert.matches("^%d+ checks, 0 failures\n$", result.out)
    assert.equal(0, result.code)
  end)
end)
