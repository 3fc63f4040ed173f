--- Indexing in tensors that are too large for a spec; see spec/support/cuda_walk.cu.
local process = require "spec.support.process"

describe("counting in kernels of the CUDA backend", function()
  it("divides by multiplying, and cuts walks in two", function()
    local result = process.run { program = process.absolute(process.build .. "/spec/cuda_walk") }
    assert.equal("", result.err)
    assert.matches("^%d+ checks, 0 failures\n$", result.out)
    assert.equal(0, result.code)
  end)
end)
