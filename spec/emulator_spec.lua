--- The CUDA emulator, kernels/cuda/host/launch.h: it does what it promises, and stops at mistakes.
local process = require "spec.support.process"

describe("the emulator of CUDA", function()
  local titles = {
    emulator_test = "runs kernels as their results are known", emulator_mistakes = "notices mistakes, or stops at them",
  }
  for program, title in pairs(titles) do
    for _, order in ipairs { "forward", "reverse" } do
      it(("%s, started with threads in order: %s"):format(title, order), function()
        local result = process.run { program = process.build .. "/spec/" .. program, env = { CLD_HOST_ORDER = order } }
        assert.equal("", result.out .. result.err)
        assert.equal(0, result.code)
      end)
    end
  end
end)
