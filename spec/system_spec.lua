--- The process and the machine: threads, memory, clock, versions, names.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"
local system = require("cld.core").system

describe("system", function()
  it("sets the number of threads; 0 is one per core", function()
    local before = cld.get_num_threads()
    cld.set_num_threads(3)
    assert.equal(3, cld.get_num_threads())
    cld.set_num_threads(0)
    assert.equal(cld.host().cores, cld.get_num_threads())
    cld.set_num_threads(before)
    check.fails(function() cld.set_num_threads(-1) end, "expected 0")
    check.fails(function() cld.set_num_threads(100000) end, "set_num_threads: 100000 threads on %d+ cores; expected 0")
    assert.equal(before, cld.get_num_threads())
  end)

  it("names the nearest field where cld has none of that name", function()
    check.fails(function() return cld.zeross end, "cld has no 'zeross'; did you mean 'zeros'%?")
    check.fails(function() return cld.optimm end, "cld has no 'optimm'; did you mean 'optim'%?")
    check.fails(function() return cld.xyzzyplugh end, "cld has no 'xyzzyplugh'$")
    assert.is_nil(rawget(cld, "zeross"))
    assert.is_nil(cld[1])
    local found = {}
    for name in pairs(cld) do found[name] = true end
    assert.is_true(found.zeros and found.nn and not found.zeross)
  end)

  it("counts memory in bytes", function()
    local before = cld.memory()
    local x <close> = cld.zeros(1024, 1024)
    local after = cld.memory()
    assert.is_true(#x == 1024 and after.in_use - before.in_use >= 4 << 20)
    assert.is_true(after.peak >= after.in_use and after.in_use < after.limit)
    assert.is_true(after.resident_peak >= after.resident and after.resident > 1 << 20)
  end)

  it("counts the peak of memory from reset_peak on, on each device", function()
    collectgarbage()
    for device, of in pairs { cpu = cld, cuda = os.getenv "CLD_CUDA_PLUGIN" and cld.cuda or nil } do
      cld.zeros(1 << 20, { device = device }):close()
      local before = of.memory()
      of.reset_peak()
      assert.is_true(before.peak - of.memory().peak >= 4 << 20)
      assert.equal(of.memory().in_use, of.memory().peak)
      cld.zeros(1 << 19, { device = device }):close()
      assert.is_true(of.memory().peak - of.memory().in_use >= 2 << 20)
    end
  end)

  it("has a clock that does not go back", function()
    local a = cld.clock()
    local b = cld.clock()
    assert.is_true(b >= a and b - a < 10)
  end)

  it("knows what it was built of", function()
    local versions = cld.versions()
    assert.matches("^%d+%.%d+%.%d+$", versions.cldlua)
    assert.matches("^oneDNN %d", versions.cpu_library)
    assert.equal("Lua 5.4", versions.lua:sub(1, 7))
    for _, name in ipairs { "commit", "jansson", "compiler" } do assert.is_string(versions[name]) end
    assert.is_true(cld.host().cores >= 1 and cld.host().pid > 0 and #cld.host().cpu > 0)
  end)

  it("is no terminal where output goes to a file, and one on a terminal", function()
    local script = "local columns = require('cld').terminal() print(math.type(columns))"
    assert.equal("nil\n", process.run { "-e", script }.out)
    assert.matches("integer", process.terminal { script = {}, "-e", script }.out)
  end)

  it("is interrupted only by a signal that is caught", function()
    assert.is_nil(cld.interrupted())
    cld.catch_signals()
    cld.catch_signals()
    io.popen("kill -TERM " .. cld.host().pid):close()
    assert.same({ "TERM", 15 }, { cld.interrupted() })
    cld.restore_signals()
    cld.restore_signals()
    cld.catch_signals()
    assert.is_nil(cld.interrupted())
    cld.restore_signals()
    local result = process.run { "-e", [[local cld = require "cld"
      cld.catch_signals() cld.restore_signals()
      io.popen("kill -TERM " .. cld.host().pid):close()
      print "not reached"]] }
    assert.equal(143, result.code)
    assert.equal("", result.out)
  end)

  it("finds the nearest name", function()
    assert.equal(0, system.edit_distance("lr", "lr"))
    assert.equal(3, system.edit_distance("kitten", "sitting"))
    system.check_fields("f", { a = 1, 2 }, { "a" })
    system.check_fields("f", nil, { "a" })
    check.fails(function() system.check_fields("f", { batchsize = 1 }, { "lr", "batch_size" }) end,
      "f: unknown field 'batchsize'; did you mean 'batch_size'%?")
  end)
end)
