--- A rank's share of its machine's cores (runtime/dist/cores.h): under mpirun, and on processes bound as mpirun binds
-- them.
local process = require "spec.support.process"

local program = process.absolute(process.build .. "/spec/rank")
local root = { OMPI_ALLOW_RUN_AS_ROOT = "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM = "1" }
-- What may stand in the way: a launcher's variables, and a user's own choice of cores.
local unset = { "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_MCA_hwloc_base_binding_policy",
  "OMPI_MCA_orte_launch", "OMPI_MCA_orte_bound_at_launch", "PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_CPUS_PER_TASK",
  "SLURM_CPU_BIND", "PRTE_MCA_hwloc_default_binding_policy" }

-- {id, ...} of "0-3,8"
local function numbers(list)
  local ids = {}
  for range in list:gmatch "[^,]+" do
    local first, last = range:match "^(%d+)-(%d+)$"
    for id = tonumber(first or range), tonumber(last or range) do ids[#ids + 1] = id end
  end
  return ids
end

-- The machine's, as a process that nobody has bound sees them. One core has several with hardware threads.
local function machine()
  local script = "taskset -pc 0-8191 $$ >/dev/null; sed -n 's/^Cpus_allowed_list:.//p' /proc/$$/status"
  local every = process.run { "-c", script, program = "sh" }
  return numbers(every.out:match "%S+")
end

-- What each process printed: {{ids = {...}, usable = n}, ...}
local function shares(result)
  assert.same({ 0, "" }, { result.code, result.err })
  local all = {}
  for list, usable in result.out:gmatch "(%S+) (%d+)\r?\n" do
    all[#all + 1] = { ids = numbers(list), usable = tonumber(usable) }
  end
  return all
end

-- Local rank `number` of `size`, on the cores of `list` as Open MPI's mpirun leaves it; `more` adds to its environment.
local function bound(list, number, size, more)
  local env = { OMPI_COMM_WORLD_SIZE = size, OMPI_COMM_WORLD_RANK = number, OMPI_COMM_WORLD_LOCAL_RANK = number,
    OMPI_COMM_WORLD_LOCAL_SIZE = size, OMPI_MCA_orte_launch = 1, OMPI_MCA_orte_bound_at_launch = 1 }
  for name, value in pairs(more or {}) do env[name] = value or nil end
  for name, value in pairs(env) do env[name] = tostring(value) end
  return shares(process.run { "-c", list, program, "cores", program = "taskset", env = env, unset = unset })[1]
end

local function sorted(ids)
  table.sort(ids)
  return ids
end

describe("the cores of a rank", function()
  local cores = machine()
  local first = tostring(cores[1])

  -- Of each local rank, together: every core of the machine, and none twice.
  local function divided(size)
    local together, sizes = {}, {}
    for number = 0, size - 1 do
      local share = bound(first, number, size)
      assert.equal(#share.ids, share.usable)
      for _, id in ipairs(share.ids) do together[#together + 1] = id end
      sizes[#sizes + 1] = #share.ids
    end
    assert.same(cores, sorted(together))
    return sizes
  end

  it("are all of the machine's for one that is alone, though mpirun has bound it to one", function()
    assert.same(cores, bound(first, 0, 1).ids)
  end)

  it("are a part each, all of them given, none twice", function()
    divided(#cores)
    if #cores % 2 == 0 then assert.same({ #cores // 2, #cores // 2 }, divided(2)) else divided(2) end
  end)

  it("are one each, shared, if there are more ranks than cores", function()
    local size, of = 2 * #cores, {}
    for number = 0, size - 1 do
      local share = bound(first, number, size)
      assert.equal(1, #share.ids)
      of[#of + 1] = share.ids[1]
    end
    local twice = {}
    for _, id in ipairs(cores) do twice[#twice + 1], twice[#twice + 2] = id, id end
    assert.same(twice, sorted(of))
  end)

  it("stay what the user has chosen", function()
    for name, value in pairs { OMPI_MCA_hwloc_base_binding_policy = "core", OMPI_MCA_hwloc_base_cpu_set = "0",
      OMPI_MCA_hwloc_base_cpu_list = "0", OMPI_MCA_orte_rankfile = "hosts",
      OMPI_MCA_rmaps_base_mapping_policy = "slot:PE=1", PRTE_MCA_hwloc_default_binding_policy = "core" } do
      assert.same({ name, { cores[1] } }, { name, bound(first, 0, 1, { [name] = value }).ids })
    end
  end)

  it("are cut from those that the user has given to an mpirun that binds nothing", function()
    assert.same({ cores[1] }, bound(first, 0, 1, { OMPI_MCA_orte_bound_at_launch = false,
      OMPI_MCA_hwloc_base_binding_policy = "none" }).ids)
    assert.equal(#bound(table.concat(cores, ","), 0, #cores, { OMPI_MCA_orte_bound_at_launch = false }).ids, 1)
  end)

  it("are widened under an mpirun that does not say whether it binds, as Open MPI 5 does not", function()
    local five = { OMPI_MCA_orte_launch = false, OMPI_MCA_orte_bound_at_launch = false, PMIX_RANK = "0" }
    assert.same(cores, bound(first, 0, 1, five).ids)
    five.PRTE_MCA_hwloc_default_binding_policy = "none"
    assert.same({ cores[1] }, bound(first, 0, 1, five).ids)
  end)

  -- Task 0 of srun's #cores tasks on this machine, on all cores.
  local function task(env)
    env.SLURM_STEP_NUM_TASKS, env.SLURM_PROCID, env.SLURM_LOCALID = tostring(#cores), "0", "0"
    return shares(process.run { "cores", "0", tostring(#cores), program = program, env = env, unset = unset })[1].ids
  end

  it("stay what Slurm has set, for its own tasks", function()
    assert.same({ cores, cores }, { task { SLURM_CPUS_PER_TASK = "1" }, task { SLURM_CPU_BIND = "quiet,none" } })
  end)

  it("are a part where Slurm has set nothing", function() assert.equal(1, #task {}) end)

  it("do not stay what Slurm has set for the script in which mpirun runs", function()
    assert.same(cores, bound(first, 0, 1, { SLURM_CPUS_PER_TASK = "1", SLURM_CPU_BIND = "quiet,mask_cpu:0x1" }).ids)
  end)
end)

describe("the usable cores of a rank", function()
  local function under(...) return tonumber(process.run { program = program, "under", ... }.out) end

  it("are its part of a quota that all ranks of the machine share", function()
    assert.same({ 2, 2 }, { under("0", "2", "8", "4"), under("1", "2", "8", "4") })
    assert.same({ 1, 2 }, { under("0", "2", "8", "2.5"), under("1", "2", "8", "2.5") })
    assert.same({ 1, 1 }, { under("0", "2", "1", "2"), under("1", "2", "1", "2") })
  end)

  it("are one at least", function() assert.equal(1, under("3", "4", "8", "0.5")) end)

  it("are the cores that it has, where the quota is larger or none is set", function()
    assert.same({ 3, 3 }, { under("0", "2", "3", "64"), under("0", "2", "3", "inf") })
  end)
end)

describe("under mpirun", function()
  local cores = machine()

  local function mpirun(...)
    local words = { program = "mpirun", env = root, unset = unset, ... }
    words[#words + 1], words[#words + 2] = program, "cores"
    return shares(process.run(words))
  end

  if os.execute "command -v mpirun >/dev/null" then
    it("one rank has all cores", function()
      assert.same({ { ids = cores, usable = #cores } }, mpirun("-n", "1"))
    end)

    it("two ranks have half of them each", function()
      local two = mpirun("--oversubscribe", "-n", "2")
      local together = {}
      for _, share in ipairs(two) do table.move(share.ids, 1, #share.ids, #together + 1, together) end
      assert.same({ 2, cores }, { #two, #cores > 1 and sorted(together) or cores })
    end)

    it("twice as many ranks as cores have one each", function()
      local many, ids = mpirun("--oversubscribe", "-n", tostring(2 * #cores)), {}
      for _, share in ipairs(many) do
        assert.same({ 1, 1 }, { #share.ids, share.usable })
        ids[#ids + 1] = share.ids[1]
      end
      local twice = {}
      for _, id in ipairs(cores) do twice[#twice + 1], twice[#twice + 2] = id, id end
      assert.same(twice, sorted(ids))
    end)

    it("--bind-to is obeyed", function() assert.equal(1, #mpirun("--bind-to", "hwthread", "-n", "1")[1].ids) end)
  else
    pending("mpirun is not installed: its own binding was not tried")
  end
end)
