--- The comparisons that the other specs rest on: they must be able to fail.
local check = require "spec.support.check"
local nan = 0 / 0

describe("check.close", function()
  it("takes equal values, numbers within the tolerance and equal infinities", function()
    check.close({ { 1, 2 }, { 3, 4 } }, { { 1, 2 }, { 3, 4 } })
    check.close(1.05, 1, { atol = 0.1 })
    check.close({ math.huge }, { math.huge })
  end)

  it("names the first bad element and counts the bad ones", function()
    check.fails(function() check.close({ { 1, 2 }, { 3.5, 4.5 } }, { { 1, 2 }, { 3, 4 } }) end,
      "element %[2%]%[1%] is 3.5, expected 3; 2 of 4 differ")
  end)

  it("refuses NaN on either side, and on both unless asked to", function()
    check.fails(function() check.close(nan, 1) end, "the value is %-?nan")
    check.fails(function() check.close(1, nan) end, "expected %-?nan")
    check.fails(function() check.close({ nan }, { nan }) end, "1 of 1 differ")
    check.close({ nan }, { nan }, { nan = true })
  end)

  it("refuses an infinity against a number, whatever the tolerance", function()
    check.fails(function() check.close(math.huge, 1, { rtol = math.huge }) end, "is inf")
    check.fails(function() check.close(1, math.huge) end, "expected inf")
  end)

  it("refuses other shapes", function()
    check.fails(function() check.close({ 1, 2 }, { 1, 2, 3 }) end, "shapes differ: the value: 2 entries against 3")
    check.fails(function() check.close({ { 1 } }, { 1 }) end, "element %[1%]: 1 entries against a plain value")
  end)
end)

describe("check.fails", function()
  it("returns the message of the error it expects", function()
    assert.are.equal("boom", check.fails(function() error("boom", 0) end, "bo+m"))
  end)

  it("fails where nothing is raised, or something else", function()
    check.fails(function() check.fails(function() end, "x") end, "there was none")
    check.fails(function() check.fails(function() error "y" end, "x") end, "got: .*y")
  end)
end)
