--- Which launcher has started a process, recognized only by its environment (runtime/dist/launcher.h).
local process = require "spec.support.process"

local launchers = { "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
  "OMPI_COMM_WORLD_LOCAL_SIZE", "PMI_RANK", "PMI_SIZE", "PMI_JOBID", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "PMIX_RANK",
  "PMIX_NAMESPACE", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_ID", "SLURM_STEP_ID",
  "SLURM_NTASKS", "CLD_RANK_TAKEN" }

-- spec/support/rank.c in an environment of these variables alone.
local function rank(env, ...)
  return process.run { program = process.build .. "/spec/rank", env = env, unset = launchers, ... }
end

local function open_mpi(size, number)
  return { OMPI_COMM_WORLD_SIZE = size, OMPI_COMM_WORLD_RANK = number, OMPI_COMM_WORLD_LOCAL_RANK = number,
    OMPI_COMM_WORLD_LOCAL_SIZE = size, PMIX_RANK = number, PMIX_NAMESPACE = "77" }
end

local function with(env, more)
  for name, value in pairs(more) do env[name] = value end
  return env
end

-- What srun sets for task 3 of 8, the second on its machine.
local function srun()
  return { SLURM_JOB_ID = "9", SLURM_STEP_ID = "0", SLURM_NTASKS = "8", SLURM_STEP_NUM_TASKS = "8",
    SLURM_PROCID = "3", SLURM_LOCALID = "1" }
end

describe("the launcher of", function()
  local function is(expected, env)
    local result = rank(env, "launcher")
    assert.same({ expected .. "\n", "" }, { result.out, result.err })
  end

  it("a plain process is none", function() is("none", {}) end)

  it("a rank of Open MPI is mpirun", function() is("mpirun 4 1 1 4", open_mpi("4", "1")) end)

  it("the one rank of `mpirun -n 1` is mpirun", function() is("mpirun 1 0 0 1", open_mpi("1", "0")) end)

  it("a rank of MPICH's hydra is mpirun", function()
    is("mpirun 4 2 0 2", { PMI_RANK = "2", PMI_SIZE = "4", MPI_LOCALRANKID = "0", MPI_LOCALNRANKS = "2" })
  end)

  it("a rank of PMIx alone is mpirun, its world unknown", function() is("mpirun -1 2 -1 -1", { PMIX_RANK = "2" }) end)

  it("a task of `srun --mpi=none` is srun", function() is("srun 8 3 1 -1", srun()) end)

  it("a task of `srun --mpi=pmix` is srun", function()
    is("srun 8 3 1 -1", with(srun(), { PMIX_RANK = "3", PMIX_NAMESPACE = "slurm.pmix.9.0" }))
  end)

  it("a task of `srun --mpi=pmi2` is srun", function()
    is("srun 8 3 1 -1", with(srun(), { PMI_RANK = "3", PMI_SIZE = "8", PMI_JOBID = "9.0" }))
  end)

  it("the only task of srun is srun", function()
    is("srun 1 0 0 -1", { SLURM_NTASKS = "1", SLURM_STEP_NUM_TASKS = "1", SLURM_PROCID = "0", SLURM_LOCALID = "0" })
  end)

  it("a process of a batch script for eight tasks is none", function()
    is("none", { SLURM_JOB_ID = "9", SLURM_NTASKS = "8", SLURM_NPROCS = "8", SLURM_PROCID = "0", SLURM_LOCALID = "0" })
  end)

  it("a rank of mpirun whose daemon srun has started is mpirun", function()
    local daemon = { SLURM_NTASKS = "8", SLURM_STEP_NUM_TASKS = "2", SLURM_PROCID = "1", SLURM_LOCALID = "0" }
    is("mpirun 8 5 5 8", with(open_mpi("8", "5"), daemon))
    is("mpirun 8 5 -1 -1", with({ PMI_RANK = "5", PMI_SIZE = "8" }, daemon))
    is("mpirun -1 5 -1 -1", with({ PMIX_RANK = "5" }, daemon))
  end)

  it("numbers that are none, or no rank of their world, is none", function()
    is("none", { OMPI_COMM_WORLD_SIZE = "4", OMPI_COMM_WORLD_RANK = "4" })
    is("none", { OMPI_COMM_WORLD_SIZE = "4", OMPI_COMM_WORLD_RANK = "-1" })
    is("none", { OMPI_COMM_WORLD_SIZE = "4x", OMPI_COMM_WORLD_RANK = "1" })
    is("none", { OMPI_COMM_WORLD_SIZE = "99999999999", OMPI_COMM_WORLD_RANK = "1" })
    is("none", { OMPI_COMM_WORLD_SIZE = "", OMPI_COMM_WORLD_RANK = "" })
    is("none", { OMPI_COMM_WORLD_SIZE = "4" })
  end)
end)

describe("a program that a rank starts", function()
  it("is none", function()
    for _, env in ipairs { open_mpi("4", "1"), srun(), { PMIX_RANK = "2" } } do
      assert.equal("none\n", rank(env, "child").out)
    end
  end)

  it("is a rank if it belongs to another job", function()
    assert.equal("mpirun 4 1 1 4\n", rank(open_mpi("4", "1"), "other", "PMIX_NAMESPACE=78").out)
    assert.equal("mpirun 2 1 1 4\n", rank(open_mpi("4", "1"), "other", "OMPI_COMM_WORLD_SIZE=2").out)
  end)
end)

describe("a task of srun", function()
  local function told(library, env, folder) return rank(env, "told", library, folder).out end

  local function pmi2() return with(srun(), { PMI_RANK = "3", PMI_SIZE = "8" }) end

  it("is told nothing by --mpi=pmi2 that an Open MPI without the part for it understands", function()
    local folder = process.temporary_folder()
    assert(os.execute(("mkdir %s/openmpi3"):format(folder)))
    local function add(name) process.write(folder .. "/openmpi3/" .. name, "") end
    assert.equal("no\n", told("Open MPI 5.0.7", pmi2()))
    assert.equal("yes\n", told("Open MPI 4.1.4", pmi2(), folder)) -- its parts may be in the library
    add "mca_pmix_ext3x.so"
    assert.equal("no\n", told("Open MPI 4.1.4", pmi2(), folder))
    assert.equal("yes\n", told("MPICH 4.0.2", pmi2(), folder))
    add "mca_pmix_s2.so"
    assert.equal("yes\n", told("Open MPI 4.1.4", pmi2(), folder))
    process.remove(folder)
  end)

  it("is told nothing of the others without --mpi, if its MPI is Open MPI", function()
    assert.equal("no\n", told("Open MPI 4.1.4", srun()))
  end)

  it("may be told of them otherwise, which its MPI knows", function()
    assert.equal("yes\n", told("MPICH 4.0.2", srun()))
    assert.equal("yes\n", told("Open MPI 4.1.4", with(srun(), { PMIX_RANK = "3" })))
    assert.equal("yes\n", told("Open MPI 4.1.4", pmi2()))
    assert.equal("yes\n", told("Open MPI 4.1.4", open_mpi("4", "1")))
    local one = with(srun(), { SLURM_STEP_NUM_TASKS = "1", SLURM_PROCID = "0" })
    assert.equal("yes\n", told("Open MPI 4.1.4", one))
  end)
end)

describe("the error of a launch", function()
  it("of a program without MPI says what to install", function()
    local result = rank(open_mpi("4", "1"), "without")
    assert.equal("mpirun has started 4 processes of this program, which was built without MPI: install libopenmpi-dev"
      .. " and openmpi-bin, then make\n", result.err)
    assert.matches("^mpirun has started several processes", rank({ PMIX_RANK = "2" }, "without").err)
    assert.matches("^srun has started one process of", rank(with(srun(), { SLURM_STEP_NUM_TASKS = "1",
      SLURM_PROCID = "0" }), "without").err)
  end)

  it("by srun without PMIx names the right one", function()
    assert.equal("srun has started 8 processes of this program, but they do not find each other: its MPI, Open MPI"
      .. " 4.1.4, was not told about the others. Start them with `srun --mpi=pmix`; `srun --mpi=list` shows whether"
      .. " this Slurm has pmix. If it does not, use mpirun inside the job\n", rank(srun(), "apart").err)
  end)

  it("by another MPI's mpirun names the program's own", function()
    assert.equal("mpirun has started 4 processes of this program, but they do not find each other: the program uses"
      .. " Open MPI 4.1.4, and this mpirun belongs to another MPI. Start it with the mpirun of Open MPI 4.1.4"
      .. " (`mpirun --version` says whose it is)\n", rank({ PMI_RANK = "2", PMI_SIZE = "4" }, "apart").err)
  end)
end)
