--- The emulator of CUDA, kernels/cuda/host/launch.h: does it do what it promises, and stop at what is a mistake?
local process = require "spec.support.process"

describe("the emulator of CUDA", function()
  for _, order in ipairs { "forward", "reverse" } do
    it("runs kernels as their results are known, threads in order: " .. order, function()
      local result = process.run { program = process.build .. "/spec/emulator_test", env = { CLD_HOST_ORDER = order } }
      assert.equal("", result.out .. result.err)
      assert.equal(0, result.code)
    end)
  end
end)
