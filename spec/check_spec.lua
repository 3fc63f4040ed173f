--- The comparisons that the other specs rely on: they must be able to fail.
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

describe("check.gradcheck", function()
  local cld = require "cld"

  -- x^2 with the gradient `slope` * x; 2 is right.
  local function square(slope)
    return cld.Function {
      name = "square",
      forward = function(ctx, x)
        ctx:save(x)
        return x * x
      end,
      backward = function(ctx, dy) return dy * ctx.saved[1] * slope end,
    }
  end

  it("takes right gradients, of every input, and passes others through", function()
    local x, y = cld.tensor({ { 1, -2 }, { 3, 0.5 } }, "f64"), cld.tensor({ 2, -1 }, "f64")
    check.gradcheck(square(2), { x })
    check.gradcheck(function(a, b, k) return a * b * k end, { x, y, 3 })
  end)

  it("finds a wrong gradient, and names the element", function()
    check.fails(function() check.gradcheck(square(2.001), { cld.tensor({ 1, 2 }, "f64") }) end,
      "input 1, element 1 .* backward 2.*, central difference")
  end)

  it("finds a gradient that is right only for a plain sum", function()
    local transposed = cld.Function {
      name = "identity",
      forward = function(_, x) return x + 0 end,
      backward = function(_, dy) return dy:transpose(1, 2) end,
    }
    check.fails(function() check.gradcheck(transposed, { cld.tensor({ { 1, 2 }, { 3, 4 } }, "f64") }) end,
      "input 1, element 2")
  end)

  it("finds NaN", function()
    check.fails(function() check.gradcheck(square(nan), { cld.tensor({ 1, 2 }, "f64") }) end, "input 1, element 1")
  end)

  it("refuses a result that is not f64", function()
    check.fails(function() check.gradcheck(function(x) return x:to "f32" end, { cld.tensor({ 1 }, "f64") }) end,
      "gradcheck: f returned f32%[1%]; expected a tensor of f64")
  end)
end)

describe("the test run", function()
  local process = require "spec.support.process"
  local folder

  before_each(function() folder = process.temporary_folder() end)
  after_each(function() process.remove(folder) end)

  local function run(text)
    process.write(folder .. "/x_spec.lua", text)
    return process.run { "/usr/bin/busted", folder .. "/x_spec.lua" }
  end

  it("counts what passed and ends with status 0", function()
    local result = run "it('a', function() end) it('b', function() end)"
    assert.is_truthy(result.out:find("\n2 passed, 0 failed\n$"))
    assert.are.equal(0, result.code)
  end)

  it("fails a test that leaves a tensor alive", function()
    local result = run [[
      local cld, kept = require "cld", nil
      it("keeps one", function() kept = cld.tensor { 1, 2, 3 } end)
      it("drops its own", function() local x = cld.tensor { 1, 2, 3 } end)
      return kept]]
    assert.is_truthy(result.out:find("keeps one\n[^\n]*leak: 0 tensors alive before this test, 1 after it"), result.out)
    assert.is_truthy(result.out:find("\n1 passed, 1 failed\n$"), result.out)
    assert.are.equal(1, result.code)
  end)

  it("fails on errors outside tests, and where there is no test at all", function()
    for _, text in ipairs { "it('a', function() end) error 'x'", "not Lua", "describe('a', function() end)",
      "before_each(function() error 'x' end) it('a', function() end)" } do
      local result = run(text)
      assert.is_truthy(result.out:find("[1-9]%d* failed\n$"), text .. ":\n" .. result.out)
      assert.are.equal(1, result.code)
    end
  end)
end)
