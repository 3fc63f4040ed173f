--- The products and convolutions under the CUDA backend (kernels/cuda/blas.h, dnn.h), each against the sums that define
-- it: always the loops on the host, and cuBLASLt and cuDNN as far as the machine has them.
local process = require "spec.support.process"

-- One of the programs that make builds for this, which prints what failed; skipped where it was not built, and where it
-- finds no device.
local function run(name)
  local program = process.build .. "/spec/" .. name
  local file = io.open(program)
  if not file then
    pending("this was built without CUDA")
    return
  end
  file:close()
  local result = process.run { program = program, timeout = 300 }
  if result.code == 77 then
    pending(result.out:gsub("%s+$", ""))
    return
  end
  assert.equal("", result.err)
  assert.equal(0, result.code, result.out)
  assert.matches(" 0 failures\n$", result.out)
end

describe("CUDA's libraries", function()
  it("the loops on the host are products and convolutions", function() run "cuda_libraries_host" end)

  it("cuBLASLt is asked for the products that are meant", function() run "cuda_blas" end)

  it("cuDNN has plans for every dtype and for the layers of the networks", function() run "cuda_plans" end)

  it("on a GPU they compute products and convolutions", function() run "cuda_libraries" end)
end)
