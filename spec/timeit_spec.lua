--- cld.timeit: how long a call takes.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local process = require "spec.support.process"

describe("timeit", function()
  it("gives the median of runs, and what the others lie between", function()
    local count = 0
    local took = cld.timeit(function() count = count + 1 end, { seconds = 0.01 })
    assert.is_true(took.seconds > 0 and took.seconds < 0.001)
    assert.is_true(took.least <= took.low and took.low <= took.seconds)
    assert.is_true(took.seconds <= took.high and took.high <= took.most)
    assert.is_true(took.runs >= 3 and took.calls > 1)
    assert.is_true(count > took.runs * took.calls)
  end)
  it("takes about as long as it is given, and counts a slow call by itself", function()
    local function slow()
      local start = cld.clock()
      while cld.clock() - start < 0.01 do end
    end
    local start = cld.clock()
    local took = cld.timeit(slow, { seconds = 0.05 })
    assert.equal(1, took.calls)
    assert.is_true(took.least >= 0.01)
    assert.is_true(cld.clock() - start < 2)
  end)
  it("prints itself", function()
    local took = cld.timeit(function() end, { seconds = 0.01 })
    assert.matches("^[%d.e+]+ %a+ a call, the middle half [%d.e+]+ %a+ to [%d.e+]+ %a+ %(%d+ runs of %d+ calls%)$",
      tostring(took))
    took.seconds, took.low, took.high, took.runs, took.calls = 0.00123, 2e-6, 3, 4, 1
    assert.equal("1.23 ms a call, the middle half 2 us to 3 s (4 runs of 1 call)", tostring(took))
  end)
  it("waits for the device before it stops a clock", function()
    if not devices.names[1] then return end
    local x, waits, synchronize = cld.ones(2):to "cuda", 0, cld.cuda.synchronize
    assert.is_true(cld.cuda.is_open())
    cld.cuda.synchronize = function()
      waits = waits + 1
      synchronize()
    end
    local ok, took = pcall(cld.timeit, function() return x + 1 end, { seconds = 0.01 })
    cld.cuda.synchronize = synchronize
    assert.is_true(ok)
    assert.is_true(waits > took.runs)
  end)
  it("opens no device", function()
    local result = process.run { "-e", "local cld = require 'cld' cld.timeit(print, { seconds = 1e-6 }) "
      .. "print(cld.cuda.is_open())" }
    assert.matches("false\n$", result.out)
  end)
  it("says what is wrong", function()
    check.fails(function() cld.timeit(3) end, "timeit_spec.lua:%d+: timeit: expected a function, got 3")
    check.fails(function() cld.timeit(print, { second = 1 }) end,
      "timeit: unknown field 'second'; did you mean 'seconds'")
    check.fails(function() cld.timeit(print, { seconds = 0 }) end, "timeit: seconds must be a number above 0, got 0")
    check.fails(function() cld.timeit(function() error "no" end) end, "timeit_spec.lua:%d+: no$")
  end)
end)
