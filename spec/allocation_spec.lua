--- Memory that runs out: every allocation of ours made to fail in turn, under cldlua-failing (support/failing.c).
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
end)
