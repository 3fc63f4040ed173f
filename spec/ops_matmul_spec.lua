--- Matrix products and linear: PyTorch's rules for dimensions, gradients, strides, dtypes, errors.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"
local linear = cld.nn.functional.linear
local values = formula.waves

local function matmul(a, b) return a:matmul(b) end

it("every combination of dimensions: shape and gradient", function()
  local cases = {
    { { 4 }, { 4 }, {} }, { { 3, 4 }, { 4 }, { 3 } }, { { 4 }, { 4, 5 }, { 5 } }, { { 3, 4 }, { 4, 5 }, { 3, 5 } },
    { { 2, 3, 4 }, { 4 }, { 2, 3 } }, { { 4 }, { 2, 4, 5 }, { 2, 5 } }, { { 2, 3, 4 }, { 4, 5 }, { 2, 3, 5 } },
    { { 3, 4 }, { 2, 4, 5 }, { 2, 3, 5 } }, { { 2, 3, 4 }, { 2, 4, 5 }, { 2, 3, 5 } },
    { { 1, 3, 4 }, { 2, 4, 1 }, { 2, 3, 1 } }, { { 2, 1, 3, 4 }, { 3, 4, 2 }, { 2, 3, 3, 2 } },
    { { 1, 1 }, { 1, 1 }, { 1, 1 } },
  }
  for _, case in ipairs(cases) do
    local a, b = values(table.unpack(case[1])), values(table.unpack(case[2])) + 0.1
    assert.same(case[3], a:matmul(b).shape)
    check.gradcheck(matmul, { a, b })
  end
end)

it("values of the obvious triple loop, in every dtype, for transposed and cut operands", function()
  local function reference(a, b)
    local rows = {}
    for i = 1, #a do
      rows[i] = {}
      for j = 1, #b[1] do
        local sum = 0
        for k = 1, #b do sum = sum + a[i][k] * b[k][j] end
        rows[i][j] = sum
      end
    end
    return rows
  end
  for _, dtype in ipairs { "f32", "f64", "bf16", "f16", "i64", "i32", "u8" } do
    local a = cld.tensor({ { 1, 2, 3 }, { 4, 5, 6 }, { 0, 1, 0 }, { 2, 2, 2 } }, dtype)
    local b = cld.tensor({ { 1, 0 }, { 2, 1 }, { 1, 3 } }, dtype)
    local expected = reference(a:totable(), b:totable())
    local out = a:matmul(b)
    assert.equal(dtype, out.dtype)
    check.close(out, expected, { atol = 0, rtol = 0 })
    check.close(a:t():contiguous():t():matmul(b), expected, { atol = 0, rtol = 0 })
    check.close(a:matmul(b:t():contiguous():t()), expected, { atol = 0, rtol = 0 })
    check.close(a:narrow(2, 2, 2):matmul(b:narrow(1, 2, 2)),
      reference(a:narrow(2, 2, 2):totable(), b:narrow(1, 2, 2):totable()), { atol = 0, rtol = 0 })
    local twice = cld.stack({ a, a }, 3):select(3, 1) -- both strides above 1
    check.close(twice:matmul(b), expected, { atol = 0, rtol = 0 })
    local repeated = a:narrow(1, 1, 1):expand(4, 3)
    check.close(repeated:matmul(b), reference(repeated:totable(), b:totable()), { atol = 0, rtol = 0 })
  end
end)

it("f32 agrees with f64 at sizes that oneDNN cuts up", function()
  local a, b = values(65, 300), values(300, 129)
  check.close(a:to("f32"):matmul(b:to("f32")), a:matmul(b), { atol = 1e-3, rtol = 1e-4 })
end)

it("empty operands", function()
  assert.same({ 0, 5 }, cld.ones(0, 4):matmul(cld.ones(4, 5)).shape)
  assert.same({ { 0, 0 }, { 0, 0 } }, cld.ones(2, 0):matmul(cld.ones(0, 2)):totable())
  assert.same({ 2, 0, 5 }, cld.ones(2, 0, 4):matmul(cld.ones(4, 5)).shape)
end)

it("linear: gradients with and without bias, any leading dimensions", function()
  check.gradcheck(linear, { values(5, 3), values(4, 3), values(4) })
  check.gradcheck(function(x, w) return linear(x, w) end, { values(5, 3), values(4, 3) })
  check.gradcheck(linear, { values(2, 3, 3), values(4, 3), values(4) })
  check.gradcheck(linear, { values(3), values(4, 3), values(4) })
  check.gradcheck(function(x, w, b) return linear(x:t(), w, b) end, { values(3, 5), values(4, 3), values(4) })
  check.gradcheck(function(x, w, b) return linear(x, w:t(), b) end, { values(2, 3), values(3, 4), values(4) })
  local x = values(5, 3):to("bf16")
  check.close(linear(x, values(4, 3):to("bf16"), values(4):to("bf16")):to("f64"),
    linear(x:to("f64"), values(4, 3), values(4)), { atol = 0.03, rtol = 0.02 })
  assert.same({ 0, 4 }, linear(cld.ones(0, 3), cld.ones(4, 3), cld.ones(4)).shape)
  assert.same({ { 1, 1 } }, linear(cld.ones(1, 0), cld.ones(2, 0), cld.ones(2)):totable())
end)

it("linear adds the bias to each row, in every dtype, whatever its strides", function()
  for _, dtype in ipairs { "f32", "f64", "bf16", "f16", "i64", "i32", "u8" } do
    local x, w = cld.tensor({ { 1, 2, 3 }, { 4, 5, 6 } }, dtype), cld.tensor({ { 1, 0, 2 }, { 2, 1, 0 } }, dtype)
    local wide = cld.tensor({ 1, 2, 3, 4 }, dtype)
    local function same(expected, bias)
      local y = linear(x, w, bias)
      assert.equal(dtype, y.dtype)
      check.close(y, expected, { atol = 0, rtol = 0 })
    end
    same({ { 9, 7 }, { 18, 16 } }, wide:narrow(1, 2, 2))
    same({ { 9, 8 }, { 18, 17 } }, wide:reshape(2, 2):select(2, 2))
    same({ { 10, 7 }, { 19, 16 } }, wide:narrow(1, 3, 1):expand(2))
  end
end)

it("errors", function()
  check.fails(function() cld.ones(2, 3):matmul(cld.ones(4, 5)) end,
    "matmul: f32%[2, 3%] and f32%[4, 5%] do not match: 3 columns against 4 rows")
  check.fails(function() cld.ones(2, 2, 3):matmul(cld.ones(3, 3, 5)) end, "batch dimensions of .* do not broadcast")
  check.fails(function() cld.ones(2, 3):matmul(cld.ones(3, 5, { dtype = "f64" })) end, "matmul: the dtypes differ")
  check.fails(function() cld.tensor(1.0):matmul(cld.ones(3)) end, "at least one dimension")
  check.fails(function() linear(cld.ones(2, 3), cld.ones(4, 5), cld.ones(4)) end,
    "linear: x has 3 features, the weight takes 5$")
  check.fails(function() linear(cld.ones(2, 3, 4, 4), cld.ones(4, 5)) end,
    "linear: x has 4 features, the weight takes 5 %(x is f32%[2, 3, 4, 4%]%)$")
  check.fails(function() linear(cld.ones(2, 3), cld.ones(4, 3), cld.ones(3)) end,
    "linear: the bias has 3 elements, the weight makes 4 features")
  check.fails(function() linear(cld.ones({ 2, 3 }, "f64"), cld.ones(4, 3)) end,
    "linear: x is f64, the weight f32; expected both of one dtype, or x of 16 bits")
  check.fails(function() linear(cld.ones(2, 3), cld.ones(4, 5, 6)) end, "linear: expected x %(..., in%), weight")
end)

it("an inner extent of 0 gives zeros", function()
  for _, shapes in ipairs { { { 5, 2, 0 }, { 0, 2 }, { 5, 2, 2 } }, { { 2, 0 }, { 0, 3 }, { 2, 3 } },
    { { 5, 2, 0 }, { 5, 0, 3 }, { 5, 2, 3 } }, { { 0 }, { 0 }, {} }, { { 0, 2, 3 }, { 3, 4 }, { 0, 2, 4 } } } do
    local a, b = cld.ones(shapes[1]):requires_grad_(), cld.ones(shapes[2])
    local y = a:matmul(b)
    assert.same(shapes[3], y.shape)
    assert.equal(0, y:sum():item())
    y:sum():backward()
    assert.same(shapes[1], a.grad.shape)
  end
end)
