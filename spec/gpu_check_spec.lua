--- Part `ranks` of `make gpu-check` on the emulated device: a job of one rank gives the same bits as no job, in
-- captured steps; and the message if there can be no job.
local cld = require "cld"
local process = require "spec.support.process"
local ranks = require "spec.support.ranks"
local missing = ranks.missing()

if cld.cuda.is_emulated() then
  describe("gpu-check of a job of one rank", function()
    local function run(env)
      return process.run { "spec/gpu/check.lua", "--build", process.build, "--only", "ranks",
        env = ranks.environment(env), timeout = 240 }
    end

    it("passes", function()
      if missing then return pending(missing) end
      local result = run {}
      assert.matches("\na job of one rank, blocks of 4 of 4 +1 passed, 0 failed\n3 passed, 0 failed\n$", result.out)
      assert.equal("", result.err)
    end)

    it("names a missing mpirun", function()
      local folder = process.temporary_folder()
      assert(os.execute("ln -s $(command -v timeout) " .. folder))
      local out = run({ PATH = folder }).out
      process.remove(folder)
      assert.matches("not run: no Open MPI's mpirun\n", out)
    end)

    it("names a missing MPI", function()
      if missing then return pending(missing) end
      assert.matches("not run: no Open MPI's libraries\n", run({ CLD_MPI_PLUGIN = "/nowhere/libcld_mpi.so" }).out)
    end)
  end)
end
