--- How many nodes the captured step of NPID + CLD has, as `make gpu-count` counts them: no more than today.
local cld = require "cld"
local process = require "spec.support.process"

if cld.cuda.is_emulated() then
  describe("the captured step of NPID + CLD", function()
    it("has no more nodes than it had", function()
      -- The bank is one chunk here; each further one takes three nodes for each of the two views.
      local result = process.run {
        "spec/gpu/count.lua", "--nodes", "--width", "8", "--bank", "64", "--small", "4", "--build", process.build,
      }
      assert.equal("", result.err)
      local nodes = tonumber(result.out)
      assert.is_true(nodes ~= nil and nodes > 100 and nodes <= 233, result.out)
    end)
  end)
end
