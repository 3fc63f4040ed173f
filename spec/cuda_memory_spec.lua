--- The memory of the CUDA backend, with its kernels on the host; see spec/support/cuda_memory.cu.
local process = require "spec.support.process"

local program = process.absolute(process.build .. "/spec/cuda_memory")

local function passes(env)
  local result = process.run { program = program, env = env, unset = { "CLD_HOST_CACHE", "CLD_HOST_MEMORY" } }
  assert.equal("", result.err)
  assert.matches("^%d+ checks, 0 failures\n$", result.out)
  assert.equal(0, result.code)
end

describe("memory of the CUDA backend", function()
  it("is cut from segments, merged, reused, given back when it runs out, and a graph's own while that lives", function()
    passes { CLD_HOST_CACHE = "1", CLD_HOST_MEMORY = tostring(256 << 20) }
  end)

  it("lies on the host between guard zones, each block apart", function()
    passes { CLD_HOST_MEMORY = tostring(256 << 20) }
  end)
end)
