--- Running out of memory: each of our allocations fails in turn, and so do many of the whole process, under
-- cldlua-failing (support/failing.c).
local process = require "spec.support.process"

describe("an allocation that fails", function()
  it("is an error that speaks of memory, or is got over; nothing crashes and no tensor is left", function()
    local result = process.run {
      "spec/support/failing_script.lua", process.build .. "/failing.so", program = process.build .. "/cldlua-failing",
      timeout = 300,
    }
    assert.are.equal("", result.err, result.out)
    local runs, bad = result.out:match("(%d+) runs, (%d+) bad\n$")
    assert.are.equal("0", bad, result.out)
    assert.is_true(tonumber(runs) > 1000, result.out)
    assert.are.equal(0, result.code)
  end)

  it("in Lua or in a library is an error that speaks of memory, and calls no file damaged", function()
    local result = process.run { -- a limit: only under one is memory asked for before it is needed
      "-c", 'ulimit -v 100000000000; exec "$0" "$@"', process.build .. "/cldlua-failing",
      "spec/support/failing_process.lua", process.build .. "/failing.so", "40", program = "/bin/sh", timeout = 300,
    }
    local attempts, bad, crashes = result.out:match("(%d+) attempts, (%d+) bad, (%d+) crashes in libraries\n$")
    assert.are.equal("0", bad, result.out .. result.err)
    local least = process.build:find "asan" and 100 or 700 -- the sanitizer has malloc: ours alone fail
    assert.is_true(tonumber(attempts) > least, result.out)
    assert.is_true(tonumber(crashes) <= 6, result.out) -- of 160 attempts; an abort is none of them
  end)
end)
