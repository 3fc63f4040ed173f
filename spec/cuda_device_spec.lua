--- What the CUDA backend asks of CUDA's own runtime, on one without a GPU: spec/support/cuda_device.cpp says what.
local process = require "spec.support.process"

local program = process.build .. "/spec/cuda_device"

describe("the CUDA runtime", function()
  it("is asked for nothing that ends a capture, its errors are told, and copies are read before they are overwritten",
    function()
      local file = io.open(program)
      if not file then
        pending("this was built without CUDA")
        return
      end
      file:close()
      local result = process.run { program = process.absolute(program) }
      assert.equal("", result.err)
      assert.matches("^%d+ checks, 0 failures\n$", result.out)
      assert.equal(0, result.code)
    end)
end)
