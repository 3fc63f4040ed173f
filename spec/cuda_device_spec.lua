--- The CUDA backend's calls of CUDA's own runtime, on a fake one without a GPU; see spec/support/cuda_device.cpp.
local process = require "spec.support.process"

local program = process.build .. "/spec/cuda_device"

local function passes(arguments)
  local file = io.open(program)
  if not file then
    pending("this was built without CUDA")
    return
  end
  file:close()
  local result = process.run { program = process.absolute(program), table.unpack(arguments) }
  assert.equal("", result.err)
  assert.matches("^%d+ checks, 0 failures\n$", result.out)
  assert.equal(0, result.code)
end

describe("the CUDA runtime", function()
  it("is asked for nothing that ends a capture; copies are read before they are overwritten, steps keep close, and"
    .. " faults and errors are told", function() passes {} end)

  it("serves the same from a small ring, where the system gives little page-locked memory", function()
    passes { "small" }
  end)
end)
