--- Runs the kernels' specs once more, with the emulated device's threads in the other order: if one thread reads what
-- another writes without a barrier between them, the result then differs.
local cld = require "cld"
local process = require "spec.support.process"

describe("the kernels, threads in reverse order:", function()
  if not os.getenv "CLD_CUDA_PLUGIN" or not cld.cuda.is_emulated() then return end
  local files = assert(io.popen("ls spec/backend_*_spec.lua"))
  for file in files:lines() do
    it(file:match "backend_(%w+)_spec", function()
      local result = process.run { arg[0], file, env = { CLD_HOST_ORDER = "reverse" }, timeout = 600 }
      assert.equal(0, result.code, result.out .. result.err)
    end)
  end
  files:close()
end)
