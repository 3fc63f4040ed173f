--- Masks and index tensors as keys: reading, writing, gradients, shapes, errors.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"

local function numbers(...) return formula.counting(...) - 5 end

describe("nonzero", function()
  it("lists the positions in row-major order", function()
    local x = cld.tensor { { 0, 1, 0 }, { 2, 0, -1 } }
    assert.same({ { 0, 1 }, { 1, 0 }, { 1, 2 } }, x:nonzero():totable())
    assert.same({ { 0, 1 }, { 1, 0 }, { 2, 1 } }, x:t():nonzero():totable())
    assert.equal("i64", x:nonzero().dtype)
  end)
  it("of nothing, of one number, of NaN, of longer lines than a piece", function()
    assert.same({ 0, 2 }, cld.zeros(3, 4):nonzero().shape)
    assert.same({ 0, 1 }, cld.zeros(0):nonzero().shape)
    assert.same({ 1, 0 }, cld.tensor(5):nonzero().shape)
    assert.same({ { 1 } }, cld.tensor { 0, 0 / 0 }:nonzero():totable())
    local x = cld.zeros(2, 5000, "u8")
    x[{ 2, 4001 }], x[{ 1, 1025 }] = 1, 1
    assert.same({ { 0, 1024 }, { 1, 4000 } }, x:nonzero():totable())
  end)
end)

describe("a mask as a key", function()
  it("picks elements, rows, and what it broadcasts to", function()
    local x = numbers(3, 4)
    assert.same({ 1, 2, 3, 4, 5, 6, 7 }, x[x:gt(0)]:totable())
    local rows = cld.tensor({ true, false, true }, "u8")
    assert.same({ { -4, -3, -2, -1 }, { 4, 5, 6, 7 } }, x[rows]:totable())
    assert.same({ -4, -3, -2, -1, 4, 5, 6, 7 }, x:masked_select(rows:unsqueeze(2)):totable())
    assert.same({ 0, 4 }, x[rows:lt(0)].shape)
    local turned = x:t()
    assert.same({ 4, 1, 5, 2, 6, 3, 7 }, turned[turned:gt(0)]:totable())
  end)
  it("has the gradient", function()
    local mask = cld.tensor({ { 1, 0, 1 }, { 0, 1, 1 } }, "u8")
    check.gradcheck(function(x) return x[mask] end, { numbers(2, 3) })
    check.gradcheck(function(x) return x:masked_select(mask) end, { numbers(3) })
    check.gradcheck(function(x) return x:t()[mask:t()] end, { numbers(2, 3) })
    check.gradcheck(function(x) return x[cld.tensor({ 0, 1 }, "u8")] end, { numbers(2, 3) })
  end)
  it("is written through: one number, one row, a row each; strided and blocked", function()
    local x = numbers(2, 3)
    x[x:lt(-2)] = 9
    assert.same({ { 9, 9, -2 }, { -1, 0, 1 } }, x:totable())
    x[cld.tensor({ 0, 1 }, "u8")] = cld.tensor { 5, 6, 7 }
    assert.same({ { 9, 9, -2 }, { 5, 6, 7 } }, x:totable())
    x[cld.tensor({ 1, 1 }, "u8")] = cld.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, x:totable())
    x:t()[x:t():gt(4)] = cld.tensor { 50, 60 }
    assert.same({ { 1, 2, 3 }, { 4, 50, 60 } }, x:totable())
    x[cld.zeros(2, "u8")] = 0
    assert.same({ { 1, 2, 3 }, { 4, 50, 60 } }, x:totable())
    local blocked = cld.nn.functional.avg_pool2d(cld.ones(1, 16, 2, 2), 1)
    blocked[blocked:gt(0)] = 3
    assert.equal(192, blocked:sum():item())
  end)
  it("says what does not fit", function()
    local x = numbers(2, 3)
    check.fails(function() return x[cld.zeros(3, "u8")] end, "mask u8%[3%] does not fit f64%[2, 3%]")
    check.fails(function() return x:masked_select(cld.zeros(2, 3)) end, "a mask is u8.*got f32%[2, 3%]")
    check.fails(function() x[x:gt(-100)] = cld.zeros(5) end, "assignment by index: .*6.*5")
    local w = numbers(2, 3):requires_grad_()
    check.fails(function() w[w:gt(0)] = 1 end, "cannot write in place to")
    check.fails(function() x[x:gt(0)] = w:sum() end, "carries no gradient")
  end)
end)

describe("an i64 tensor as a key", function()
  it("picks rows in its own shape", function()
    local x, index = numbers(3, 2), cld.tensor({ { 2, 0 }, { 1, 1 } }, "i64")
    assert.same({ { { 0, 1 }, { -4, -3 } }, { { -2, -1 }, { -2, -1 } } }, x[index]:totable())
    assert.same({ 0, 1 }, x[cld.tensor(2, "i64")]:totable())
    check.gradcheck(function(v) return v[index] end, { x })
  end)
  it("is written through, also where the rows are strided", function()
    local x, index = numbers(3, 2), cld.tensor({ 2, 0 }, "i64")
    x[index] = 7
    assert.same({ { 7, 7 }, { -2, -1 }, { 7, 7 } }, x:totable())
    x[index] = cld.tensor { { 1 }, { 2 } }
    assert.same({ { 2, 2 }, { -2, -1 }, { 1, 1 } }, x:totable())
    x:t()[cld.tensor({ 1 }, "i64")] = cld.tensor { 8, 9, 10 }
    assert.same({ { 2, 8 }, { -2, 9 }, { 1, 10 } }, x:totable())
  end)
  it("says what does not fit", function()
    local x = numbers(3, 2)
    check.fails(function() x[cld.tensor({ 3 }, "i64")] = 1 end, "is 3; expected 0 to 2")
    check.fails(function() x[cld.tensor({ 0, 1 }, "i64")] = cld.zeros(3, 2) end, "assignment by index: .*2.*3")
    check.fails(function() return x[cld.tensor { 0, 1 }] end, "index must be i64, got f32")
    assert.same({ { -4, -3 }, { -2, -1 }, { 0, 1 } }, x:totable())
  end)
end)
