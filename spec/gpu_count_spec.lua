--- The captured step of NPID + CLD, counted by `make gpu-count`, has no more nodes than today; and the device that runs
-- nothing, on which they are counted, lists the same work.
local cld = require "cld"
local process = require "spec.support.process"

if cld.cuda.is_emulated() then
  describe("the captured step of NPID + CLD", function()
    it("has no more nodes than it had", function()
      local result = process.run { "spec/gpu/count.lua", "--nodes", "--build", process.build }
      assert.equal("", result.err)
      local nodes = tonumber(result.out)
      assert.is_true(nodes ~= nil and nodes > 100 and nodes <= 271, result.out)
    end)

    it("is the same on a device that runs nothing", function()
      local function listed(idle)
        local path = os.tmpname()
        local result = process.run {
          "spec/gpu/step.lua", "--device", "cuda", "--once", "--batch", "4", "--width", "8", "--bank", "64",
          "--clusters", "2",
          env = { CLD_HOST_LAUNCHES = path, CLD_HOST_IDLE = idle },
        }
        assert.equal("", result.err)
        local list <close> = assert(io.open(path))
        os.remove(path)
        return list:read "a"
      end
      local run = listed ""
      assert.equal(run, listed "1")
      assert.is_true(select(2, run:gsub("\n", "")) > 400)
    end)
  end)
end
