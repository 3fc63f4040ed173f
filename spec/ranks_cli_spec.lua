--- `cldlua --ranks N`: the arguments of mpirun, the message if it cannot be started, and two real processes.
local process = require "spec.support.process"
local jobs = require "spec.support.ranks"

local cldlua = process.absolute(process.cldlua)
local launchers = { "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMI_SIZE", "PMIX_RANK",
  "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "LUA_INIT", "LUA_INIT_5_4", "OMPI_ALLOW_RUN_AS_ROOT" }

local function run(options)
  options.unset, options.env = launchers, jobs.environment(options.env)
  return process.run(options)
end

-- An mpirun that says this of its version, exits so, and prints a line for each of its arguments.
local function fake(folder, version, code)
  process.write(folder .. "/mpirun", ([[#!/bin/sh
if [ "$1" = --version ]; then printf '%%s\n' '%s'; exit %d; fi
printf '%%s\n' "$@"
echo "TERM=$TERM"]]):format(version, code or 0))
  assert(os.execute("chmod +x " .. folder .. "/mpirun"))
  return { PATH = folder .. ":" .. os.getenv "PATH", TERM = "xterm" }
end

local root = io.popen "id -u":read "l" == "0"
local cores = require "cld".host().cores

describe("--ranks starts mpirun", function()
  local folder

  before_each(function() folder = process.temporary_folder() end)
  after_each(function() process.remove(folder) end)

  local function words(version, ...)
    local result = run { env = fake(folder, version), ... }
    assert.same({ 0, "" }, { result.code, result.err })
    local found = {}
    for word in result.out:gmatch "[^\n]+" do found[#found + 1] = word end
    return found
  end

  local function expected(before, after)
    local all = { table.unpack(before) }
    if root then all[#all + 1] = "--allow-run-as-root" end
    all[#all + 1] = cldlua
    table.move(after, 1, #after, #all + 1, all)
    all[#all + 1] = "TERM=dumb" -- what a rank prints goes to a file here, although to a terminal by what it sees
    return all
  end

  local four = { "-n", "3", "--bind-to", "none", "--map-by", ":OVERSUBSCRIBE", "--mca", "odls_base_sigkill_timeout",
    "3", "--mca", "orte_execute_quiet", "1", "--mca", "orte_allowed_exit_without_sync", "1" }
  local five = { "-n", "3", "--bind-to", "none", "--map-by", ":OVERSUBSCRIBE", "--prtemca", "odls_base_sigkill_timeout",
    "3", "--prtemca", "prte_execute_quiet", "1", "--prtemca", "prte_allowed_exit_without_sync", "1" }

  it("of Open MPI 4 with its options, this program, and the arguments as they were", function()
    assert.same(expected(four, { "-W", "-e", "x = 1", "s.lua", "--ranks", "7", "two words", "*" }),
      words("mpirun (Open MPI) 4.1.4", "-W", "--ranks", "3", "-e", "x = 1", "s.lua", "--ranks", "7", "two words", "*"))
  end)

  it("of Open MPI 5 with those of PRRTE", function()
    assert.same(expected(five, { "s.lua" }), words("mpirun (Open MPI) 5.0.7", "--ranks=3", "s.lua"))
  end)

  it("once, by the last of several", function()
    assert.same(expected(four, { "--", "-s.lua" }),
      words("mpirun (Open MPI) 4.1.4", "--ranks", "2", "--ranks=3", "--", "-s.lua"))
  end)

  it("and leaves TERM on a terminal", function()
    local result = process.terminal { "--ranks", "3", "s.lua", env = fake(folder, "mpirun (Open MPI) 4.1.4"),
      unset = launchers, script = { { "wait", "TERM=xterm" } } }
    assert.same({ 0, "" }, { result.code, result.err })
  end)

  it("not for one rank", function()
    local result = run { "--ranks", "1", "-e", "print 'here'", env = fake(folder, "mpirun (Open MPI) 4.1.4") }
    assert.same({ 0, "here\n", "" }, { result.code, result.out, result.err })
  end)

  it("from the one task that srun gives a shell", function()
    local env = fake(folder, "mpirun (Open MPI) 4.1.4")
    env.SLURM_STEP_NUM_TASKS, env.SLURM_PROCID = "1", "0"
    local unset = { "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK" }
    assert.matches("^%-n\n2\n", process.run { "--ranks", "2", "s.lua", env = env, unset = unset }.out)
  end)

  -- One line, status 1, nothing printed.
  local function fails(expect, options)
    local result = run(options)
    assert.same({ 1, "", "cldlua: " .. expect .. "\n" }, { result.code, result.out, result.err })
  end

  it("if there is one, and says what to install where there is not", function()
    assert(os.execute("ln -s $(command -v timeout) " .. folder))
    fails("--ranks needs Open MPI's mpirun, and there is none on PATH: apt install openmpi-bin (elsewhere: dnf install"
      .. " openmpi, or a cluster's `module load openmpi`)",
      { "--ranks", "2", "s.lua", program = cldlua, env = { PATH = folder } })
  end)

  it("and says so if that is killed", function()
    local env = fake(folder, "mpirun (Open MPI) 4.1.4")
    process.write(folder .. "/mpirun", [[#!/bin/sh
      if [ "$1" = --version ]; then echo 'mpirun (Open MPI) 4.1.4'; else kill -9 $$; fi]])
    local result = run { "--ranks", "2", "s.lua", env = env }
    assert.equal(137, result.code)
    assert.equal("cldlua: --ranks: mpirun was ended by signal 9 (Killed); --resume goes on from the last checkpoint\n",
      result.err)
  end)

  it("and says so if a rank is killed before it can", function()
    local env = fake(folder, "mpirun (Open MPI) 4.1.4")
    for code, how in pairs { [137] = "a rank was ended by signal 9 (Killed)", [1] = "mpirun ended with status 1" } do
      process.write(folder .. "/mpirun", ([[#!/bin/sh
        if [ "$1" = --version ]; then echo 'mpirun (Open MPI) 4.1.4'; else exit %d; fi]]):format(code))
      local result = run { "--ranks", "2", "s.lua", env = env }
      assert.same({ code, "", ("cldlua: --ranks: %s before the ranks had found each other\n"):format(how) },
        { result.code, result.out, result.err })
    end
  end)

  it("whose status it learns even if SIGCHLD is ignored", function()
    local env = fake(folder, "mpirun (Open MPI) 4.1.4")
    local script = ("trap '' CHLD; exec %s --ranks 2 s.lua"):format(cldlua)
    assert.equal(0, run { "-c", script, program = "sh", env = env }.code)
  end)

  it("if it is Open MPI's", function()
    fails("--ranks needs Open MPI's mpirun, and the one on PATH is another MPI's: `mpirun --version` says"
      .. " 'HYDRA build details:'", { "--ranks", "2", "s.lua", env = fake(folder, "\nHYDRA build details:") })
  end)

  it("if that can say its version", function()
    fails("--ranks: `mpirun --version` failed: libopen-rte.so: cannot open",
      { "--ranks", "2", "s.lua", env = fake(folder, "libopen-rte.so: cannot open", 3) })
  end)

  it("with a number", function()
    local most = 16 * cores
    for _, bad in ipairs { "0", "-1", most + 1, "2x", "two", "", " 2", "2.0", "99999999999999999999" } do
      local expect = ("--ranks: expected an integer from 1 to %d, 16 for each core that this process may use, got '%s'")
      fails(expect:format(most, bad), { "--ranks=" .. bad, "s.lua" })
      fails(expect:format(most, bad), { "--ranks", tostring(bad), "s.lua" })
    end
    local without = run { "--ranks" }
    assert.same({ 1, "cldlua: argument missing after '--ranks'" }, { without.code, without.err:match "[^\n]+" })
    assert.matches("^cldlua: unrecognized option '%-%-ranksx'\n", run { "--ranksx", "2" }.err)
  end)

  it("outside a job alone", function()
    local env = { OMPI_COMM_WORLD_SIZE = "2", OMPI_COMM_WORLD_RANK = "0" }
    fails("--ranks 2 inside a job: mpirun has started this process already; use one of the two",
      { "--ranks", "2", "s.lua", env = env })
    fails("--ranks 1 inside a job: mpirun has started this process already; use one of the two",
      { "--ranks", "1", "s.lua", env = env })
    local unset = { "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK" }
    local task = process.run { "--ranks", "2", "s.lua", unset = unset,
      env = { SLURM_STEP_NUM_TASKS = "2", SLURM_PROCID = "0" } }
    assert.matches("^cldlua: %-%-ranks 2 inside a job: srun has started this process already; use one", task.err)
  end)

  it("for what needs no terminal and no common input", function()
    for _, rest in ipairs { {}, { "-" }, { "-i", "s.lua" } } do
      fails("--ranks 2 needs a script or -e, without -i: ranks have no terminal and no input in common",
        { "--ranks", "2", table.unpack(rest) })
    end
  end)

  it("and -h tells of it", function() assert.matches("\n  %-%-ranks N ", run { "-h" }.out) end)
end)

describe("-E", function()
  it("keeps the mark of a process whose parent is a rank", function()
    local result = process.run { "-E", "-e", "print(os.getenv 'CLD_RANK_TAKEN', os.getenv 'CLD_RANK_TAKEN_NOT')",
      env = { CLD_RANK_TAKEN = "x", CLD_RANK_TAKEN_NOT = "y" } }
    assert.equal("x\tnil\n", result.out)
  end)
end)

describe("two ranks of a real mpirun", function()
  if not os.execute "command -v mpirun >/dev/null" then
    pending("mpirun is not installed: no real ranks were started")
    return
  end

  it("run the same command line", function()
    local folder = process.temporary_folder()
    local script = process.write(folder .. "/s.lua", "local rank = os.getenv 'OMPI_COMM_WORLD_RANK'\n"
      .. "local world = os.getenv 'OMPI_COMM_WORLD_SIZE'\n"
      .. "io.stderr:write(('%s of %s: %s %s %s\\n'):format(rank, world, x, ...))")
    local result = run { "--ranks", "2", "-e", "x = 'set'", script, "a b", "c" }
    process.remove(folder)
    local lines = {}
    for line in result.err:gmatch "[^\n]+" do lines[#lines + 1] = line end
    table.sort(lines)
    assert.same({ 0, { "0 of 2: set a b c", "1 of 2: set a b c" }, "" }, { result.code, lines, result.out })
  end)

  it("have what is a terminal only if the user has one", function()
    local result = run { "--ranks", "2", "-e", "print(require 'cld.core'.system.terminal())", env = { TERM = "xterm" } }
    assert.equal("\n", (result.out:gsub("nil", "")))
  end)

  it("fail with their own words, without mpirun's", function()
    local script = "if os.getenv 'OMPI_COMM_WORLD_RANK' == '1' then error('reason', 0) end"
    local result = run { "--ranks", "2", "-e", script }
    assert.equal(1, result.code)
    local trace = "\nstack traceback:\n[^\n]*\n[^\n]*\n[^\n]*\n$"
    assert.matches("^\n?cldlua: rank 1 on [^\n]* failed: reason" .. trace, result.err)
  end)

  it("end within seconds if one fails and the others wait", function()
    local script = "if os.getenv 'OMPI_COMM_WORLD_RANK' == '1' then os.exit(5) end while true do end"
    local result = run { "--ranks", "2", "-e", script, timeout = 20 }
    assert.is_true(result.code ~= 0 and result.code ~= 124)
    assert.matches("^\n?cldlua: rank 1 on [^\n]* failed: it ended with status 5\n$", result.err)
  end)

  -- mpirun is told 0, and so does not wait before it ends what is over.
  it("end with an error of all of them as one process does, without mpirun's knowing", function()
    local folder = process.temporary_folder()
    process.write(folder .. "/mpirun", ([[#!/bin/sh
      PATH='%s'
      mpirun "$@"
      code=$?
      [ "$1" = --version ] || echo $code >'%s/code'
      exit $code]]):format(os.getenv "PATH", folder))
    assert(os.execute("chmod +x " .. folder .. "/mpirun"))
    local env = { PATH = folder .. ":" .. os.getenv "PATH" }
    for script, expect in pairs {
      ["error('reason', 0)"] = { 1, "^cldlua: reason\nstack traceback:\n[^\n]*\n[^\n]*\n[^\n]*\n$" },
      ["os.exit(3)"] = { 3, "^$" },
    } do
      local result = run { "--ranks", "2", "-e", script, env = env }
      assert.same({ expect[1], "0\n" }, { result.code, process.read(folder .. "/code") })
      assert.matches(expect[2], result.err)
    end
    process.remove(folder)
  end)

  it("end in silence when the reader of their output has gone", function()
    local line = ("%s --ranks 2 -e \"for i = 1, 100000 do print 'a line' end\""):format(cldlua)
    local script = ("{ %s; echo $? >&2; } | head -n 1"):format(line)
    local result = run { "-c", script, program = "sh" }
    assert.same({ "a line\n", "141\n" }, { (result.out:gsub("\r", "")), result.err })
  end)

  it("print the same bytes, in the same order, as one process", function()
    local result = run { "--ranks", "2", "-e", "for i = 1, 20000 do print(i) end io.stdout:flush()" }
    local expect = {}
    for i = 1, 20000 do expect[i] = i .. "\n" end
    assert.is_true(table.concat(expect) == result.out:gsub("\r", ""))
  end)

  it("have no prompt, and no script from the input", function()
    local options = { "-n", "2", "--oversubscribe", cldlua, program = "mpirun",
      env = { OMPI_ALLOW_RUN_AS_ROOT = "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM = "1" } }
    local result = run(options)
    assert.equal(1, result.code)
    assert.matches("^cldlua: a job of 2 ranks needs a script or %-e, without %-i: ranks have no terminal", result.err)
  end)

  -- Two ranks, of which the first says "running", and what Ctrl-C makes of them.
  local function interrupted(script, keys)
    local steps = { { "wait", "running" } }
    for _ = 1, keys do steps[#steps + 1] = { "send", "\3" } end
    return process.terminal { "--ranks", "2", "-e", script, timeout = 20, unset = launchers, script = steps,
      env = jobs.environment() }
  end

  it("stop at Ctrl-C, at once", function()
    local result = interrupted("print 'running' while true do end", 1)
    assert.same({ 130, "running\n^C" }, { result.code, result.plain })
  end)

  it("hear of Ctrl-C as a wish that they grant in their own time", function()
    local result = interrupted([[
      local system = require "cld.core".system
      system.catch_signals()
      require "cld".dist.barrier() -- both have
      print "running"
      while not system.interrupted() do end
      local till = system.clock() + 1
      while system.clock() < till do end
      print(system.interrupted())
      os.exit(3)]], 1)
    assert.same({ 3, "running\n^CINT\t2\n" }, { result.code, (result.plain:gsub(" +", "\t")) })
  end)
end)
