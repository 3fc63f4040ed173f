--- Threads as the environment sets them: how OpenMP's threads wait for each other, and how many there are.
local process = require "spec.support.process"

-- What libgomp reads, and what programs started from a script see.
local probe = [[
  local start = io.open "/proc/self/environ":read "a"
  for _, name in ipairs { "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "CLD_RESTARTED" } do
    print(name, ("\0" .. start):match("%z" .. name .. "=(%Z*)"), os.getenv(name))
  end]]

-- {GOMP_SPINCOUNT = {at the start, later}, ...}, as text.
local function variables(options)
  options.unset = { "GOMP_SPINCOUNT", "OMP_WAIT_POLICY" }
  options[1], options[2] = "-e", probe
  local found = {}
  for name, start, later in process.run(options).out:gmatch "(%S+)\t(%S+)\t(%S+)" do found[name] = { start, later } end
  return found
end

describe("waiting threads of OpenMP", function()
  it("look for the next piece of work a short while, then sleep", function()
    local spins = tonumber(variables {}.GOMP_SPINCOUNT[1])
    assert.is_true(spins and spins >= 100 and spins <= 10000)
  end)

  it("leave no trace of that in the environment", function()
    local found = variables {}
    assert.same({ "nil", "nil" }, { found.GOMP_SPINCOUNT[2], found.CLD_RESTARTED[2] })
  end)

  it("wait as OMP_WAIT_POLICY says", function()
    local found = variables { env = { OMP_WAIT_POLICY = "active" } }
    assert.same({ GOMP_SPINCOUNT = { "nil", "nil" }, OMP_WAIT_POLICY = { "active", "active" },
      CLD_RESTARTED = { "nil", "nil" } }, found)
  end)

  it("wait as GOMP_SPINCOUNT says", function()
    assert.same({ "77", "77" }, variables { env = { GOMP_SPINCOUNT = "77" } }.GOMP_SPINCOUNT)
  end)

  it("leave the program its arguments, its name and its number", function()
    local result = process.run { "-e", [[
      local name = io.open "/proc/self/comm":read "l"
      print(name == arg[0]:match "[^/]*$":sub(1, 15))
      local line = io.open "/proc/self/cmdline":read "a"
      print(select(2, line:gsub("%z", "")), (arg[0]))]] }
    assert.equal(("true\n3\t%s\n"):format(process.cldlua), result.out)
  end)
end)

describe("the program", function()
  it("runs under the linker as a command", function()
    local loader = io.open "/proc/self/maps":read "a":match "(/%S*/ld%-linux%S*)"
    local script = "print(require('cld').ones(2):sum():item())"
    local result = process.run { process.absolute(process.cldlua), "-e", script, program = loader }
    assert.same({ 0, "2.0\n" }, { result.code, result.out })
  end)

  it("finds its files where /proc is not mounted", function()
    local script = "print(require('cld').ones(2):sum():item())"
    local function without_proc(program)
      return process.run { "-m", "sh", "-c", 'umount -l /proc && exec "$0" "$@"', program, "-e", script,
        program = "unshare" }
    end
    if without_proc("true").code ~= 0 then return pending "needs root and unshare" end
    if process.build:find "asan" then return pending "AddressSanitizer needs /proc" end
    for _, program in ipairs { process.cldlua, process.absolute(process.cldlua) } do
      local result = without_proc(program)
      assert.same({ 0, "2.0\n" }, { result.code, result.out }, result.err)
    end
  end)
end)

describe("a thread that the system refuses", function()
  -- Threads of user 65534, who may have one.
  local function limited(environment, script)
    environment.ASAN_OPTIONS = "detect_leaks=0" -- that wants a thread of its own
    return process.run {
      program = "setpriv", "--reuid=65534", "--clear-groups", "prlimit", "--nproc=1:1",
      process.absolute(process.cldlua), "-e", script, env = environment,
    }
  end

  local function can_limit()
    return limited({ OMP_NUM_THREADS = "1" }, "print 'here'").out == "here\n"
  end

  it("is one line of the loader's", function()
    if not can_limit() then return pending "needs root, setpriv and prlimit" end
    local result = limited({ OMP_NUM_THREADS = "1" }, [[
      local cld = require "cld"
      local set = cld.data.tensors { images = cld.zeros({ 8, 32, 32, 3 }, "u8") }
      for _ in cld.data.loader { set, batch_size = 4, workers = 2 }:epoch(1) do end]])
    assert.same({ 1, "cldlua: loader: the system refuses worker thread 1 of 2: Resource temporarily unavailable; "
      .. "workers = 0 does without it\n" }, { result.code, result.err })
  end)

  it("is one line of OpenMP's", function()
    if not can_limit() then return pending "needs root, setpriv and prlimit" end
    local result = limited({ OMP_NUM_THREADS = "2" }, [[
      local cld = require "cld"
      cld.rand(512, 512):matmul(cld.rand(512, 512))]])
    assert.same({ 1, "libgomp: Thread creation failed: Resource temporarily unavailable" },
      { result.code, (result.err:match "^%s*(.-)%s*$") })
  end)
end)

describe("OMP_NUM_THREADS", function()
  local function threads(value)
    return process.run { "-e", "print(require('cld').get_num_threads() == require('cld').host().cores)",
      env = { OMP_NUM_THREADS = value } }
  end

  it("far above the cores stands for one thread a core", function()
    assert.equal("true\n", threads "1024".out)
  end)

  it("far above the cores is told in one line", function()
    assert.matches("^cld: OMP_NUM_THREADS is 1024 on %d+ cores: %d+ threads are used\n$", threads "1024".err)
  end)

  it("beyond an int is told as it was written", function()
    assert.matches("^cld: OMP_NUM_THREADS is 99999999999 on", threads "99999999999".err)
  end)

  it("of a few threads is what it says", function()
    local result = process.run { "-e", "print(require('cld').get_num_threads())", env = { OMP_NUM_THREADS = "3" } }
    assert.same({ "3\n", "" }, { result.out, result.err })
  end)

  it("far above the cores leaves --help as it is", function()
    local result = process.run { "recipes/knn.lua", "--help", env = { OMP_NUM_THREADS = "1024" } }
    assert.same({ 0, 1 }, { result.code, (result.out:find "^usage: cldlua knn.lua") })
  end)
end)
