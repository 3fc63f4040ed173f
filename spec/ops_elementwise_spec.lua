--- Elementwise ops: gradients against central differences, broadcasting, dtypes, layouts, in place, errors.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"
local values = formula.waves

local function positive(...) return values(...):abs() + 0.2 end

describe("unary gradients", function()
  local unary = {
    neg = values, abs = values, exp = values, log = positive, sqrt = positive, rsqrt = positive, square = values,
    reciprocal = positive, sin = values, cos = values, tanh = values, sigmoid = values, relu = values, sign = values,
    floor = values, ceil = values, round = values,
  }
  for name, inputs in pairs(unary) do
    it(name, function()
      check.gradcheck(function(x) return x[name](x) end, { inputs(3, 5) })
    end)
  end
  it("with a number", function()
    check.gradcheck(function(x) return (x + 3) * 2 - 1 end, { values(3, 5) })
    check.gradcheck(function(x) return 3 - x end, { values(3, 5) })
    check.gradcheck(function(x) return 2 / x end, { positive(3, 5) })
    check.gradcheck(function(x) return x / 4 end, { values(3, 5) })
    check.gradcheck(function(x) return x ^ 3 end, { values(3, 5) })
    check.gradcheck(function(x) return x ^ -0.5 end, { positive(3, 5) })
    check.gradcheck(function(x) return x:clamp(-0.5, 1) end, { values(3, 5) })
    local x = cld.tensor({ 0, 2 }, "f64"):requires_grad_()
    local flat = x ^ 0
    flat:sum():backward()
    assert.same({ 0, 0 }, x.grad:totable())
  end)
  it("of odd shapes: 0-d, empty, transposed, strided", function()
    check.gradcheck(function(x) return x:exp() end, { cld.tensor(0.7, "f64") })
    check.gradcheck(function(x) return x:t():tanh() end, { values(3, 5) })
    check.gradcheck(function(x) return x:narrow(2, 2, 3):square() end, { values(3, 5) })
    local empty = cld.zeros(0, 3, { dtype = "f64" }):requires_grad_()
    empty:exp():sum():backward()
    assert.same({ 0, 3 }, empty.grad.shape)
  end)
end)

describe("binary gradients", function()
  local binary = {
    add = function(a, b) return a + b end,
    sub = function(a, b) return a - b end,
    mul = function(a, b) return a * b end,
    div = function(a, b) return a / b end,
    pow = function(a, b) return a ^ b end,
    maximum = function(a, b) return a:maximum(b) end,
    minimum = function(a, b) return a:minimum(b) end,
    remainder = function(a, b) return a % b end,
    floor_divide = function(a, b) return a // b end,
  }
  local shapes = {
    { { 3, 5 }, { 3, 5 } }, { { 3, 5 }, { 5 } }, { { 3, 1 }, { 1, 5 } }, { { 2, 1, 4 }, { 3, 1 } }, { { 1 }, { 2, 2 } },
  }
  for name, f in pairs(binary) do
    it(name, function()
      for _, pair in ipairs(shapes) do
        check.gradcheck(f, { positive(table.unpack(pair[1])), positive(table.unpack(pair[2])) * 0.7 })
      end
      check.gradcheck(f, { positive(2, 3), cld.tensor(0.8, "f64") })
      check.gradcheck(function(a, b) return f(a:t(), b) end, { positive(3, 2), positive(2, 3) * 0.7 })
    end)
  end
  it("of one tensor used twice", function()
    check.gradcheck(function(x) return x * x + x end, { values(4) })
  end)
  it("pow at zero: x^0 is flat, 0^y has no slope in y", function()
    local a = cld.tensor({ 0, 0, 2 }, "f64"):requires_grad_()
    local b = cld.tensor({ 0, 2, 0 }, "f64"):requires_grad_()
    local out = a ^ b
    assert.same({ 1, 0, 1 }, out:totable())
    out:sum():backward()
    check.close(a.grad, { 0, 0, 0 })
    check.close(b.grad, { 0, 0, math.log(2) })
  end)
  it("ties of maximum are shared", function()
    local a = cld.tensor({ 1, 2 }, "f64"):requires_grad_()
    local b = cld.tensor({ 1, 3 }, "f64"):requires_grad_()
    a:maximum(b):sum():backward()
    assert.same({ 0.5, 0 }, a.grad:totable())
    assert.same({ 0.5, 1 }, b.grad:totable())
  end)
  it("where", function()
    local mask = values(3, 5):gt(0)
    check.gradcheck(function(a, b) return cld.where(mask, a, b) end, { values(3, 5), values(5) })
    check.gradcheck(function(a, b) return cld.where(mask, a, b) end, { values(1, 1), values(3, 1) })
    check.gradcheck(function(a, b) return a:where(mask, b) end, { values(3, 5), values(5) })
  end)
  it("where is x where the condition holds, as a method", function()
    local x = cld.tensor { 1, 2, 3 }
    assert.same({ 1, 9, 3 }, x:where(x:ne(2), 9):totable())
    assert.same({ 1, 0, 0 }, x:where(x:lt(2), cld.zeros(3)):totable())
    assert.same({ 1, 0, 1 }, cld.where(x:ne(2), 1, 0):totable())
    assert.equal("f32", cld.where(x:ne(2), 1, 0).dtype)
    for _, f in ipairs { function() return cld.where(x, x, 0) end, function() return x:where(x, 0) end } do
      check.fails(f, "where: a mask is u8, as comparisons give it, got f32%[3%]")
    end
    check.fails(function() return x:where(x:lt(2)) end, "tensor expected")
    check.fails(function() return cld.where(x:lt(2), x, 0, 1) end, "surplus argument")
  end)
  it("casts carry the gradient back in the input's dtype", function()
    local x = cld.tensor({ 1, 2, 3 }, "f32"):requires_grad_()
    local w = cld.tensor({ 4, 5, 6 }, "f64")
    local out = x * w
    assert.equal("f64", out.dtype)
    out:sum():backward()
    assert.equal("f32", x.grad.dtype)
    assert.same({ 4, 5, 6 }, x.grad:totable())
  end)
end)

describe("dtypes", function()
  local all = { "f32", "f64", "bf16", "f16", "i64", "i32", "u8" }
  it("every dtype, contiguous and strided, for what all of them can do", function()
    for _, dtype in ipairs(all) do
      local x = cld.tensor({ { 1, 2, 3 }, { 4, 5, 6 } }, dtype)
      assert.same({ { 2, 4, 6 }, { 8, 10, 12 } }, (x + x):totable(), dtype)
      assert.same({ { 1, 4 }, { 4, 10 } }, (x:narrow(2, 1, 2) * cld.tensor({ { 1, 2 }, { 1, 2 } }, dtype)):totable())
      assert.same({ { 2, 5 }, { 3, 6 }, { 4, 7 } }, (x:t() + 1):totable(), dtype)
      assert.same({ { 0, 0, 1 }, { 1, 1, 1 } }, x:gt(2):totable(), dtype)
      assert.equal("u8", x:eq(x).dtype)
      assert.same({ { 2, 2, 3 }, { 4, 4, 4 } }, x:clamp(2, 4):totable(), dtype)
      assert.same({ { 1, 4, 9 }, { 16, 25, 36 } }, (x ^ 2):totable(), dtype)
      assert.equal(dtype, (x ^ 2).dtype)
    end
  end)
  it("every cast: truncated towards zero, wrapped to u8, rounded to nearest even", function()
    for _, from in ipairs(all) do
      for _, to in ipairs(all) do
        local y = cld.tensor({ 0, 1, 2, 100 }, from):to(to)
        assert.equal(to, y.dtype)
        check.close(y, { 0, 1, 2, 100 }, { atol = 0, rtol = 0 })
      end
    end
    assert.same({ -1, 1, 2 }, cld.tensor({ -1.9, 1.9, 2.5 }):to("i64"):totable())
    assert.same({ 255, 0, 44 }, cld.tensor({ -1, 256, 300 }, "i64"):to("u8"):totable())
    assert.same({ 1, 1 + 2 ^ -6, 1 + 2 ^ -7 }, -- 8 bits of precision; the first two are ties
      cld.tensor({ 1 + 2 ^ -8, 1 + 3 * 2 ^ -8, 1 + 2 ^ -7 }):to("bf16"):totable())
    assert.same({ 1, 1 + 2 ^ -9, 65504, math.huge },
      cld.tensor({ 1 + 2 ^ -11, 1 + 3 * 2 ^ -11, 65504, 65520 }):to("f16"):totable())
    local nan = cld.tensor({ 0 / 0 }):to("bf16"):to("f16"):totable()[1]
    assert.is_true(nan ~= nan)
  end)
  it("promotion", function()
    local function dtype_of(a, b) return (cld.ones(1, { dtype = a }) + cld.ones(1, { dtype = b })).dtype end
    assert.equal("f64", dtype_of("f32", "f64"))
    assert.equal("f32", dtype_of("bf16", "f16"))
    assert.equal("f16", dtype_of("i64", "f16"))
    assert.equal("i64", dtype_of("i32", "i64"))
    assert.equal("i32", dtype_of("u8", "i32"))
    local whole = cld.tensor({ 1, 2 }, "i64")
    assert.equal("f32", (whole / whole).dtype)
    assert.equal("f32", (whole + 0.5).dtype)
    assert.equal("f32", whole:exp().dtype)
    assert.equal("i64", (whole * 2).dtype)
    check.fails(function() return whole ^ -1 end, "pow: i64%[2%] to the negative power %-1; cast it to a float first")
  end)
  it("tensors without dimensions promote as numbers do", function()
    for _, case in ipairs { { "f32", "f64", "f32" }, { "bf16", "f32", "bf16" }, { "u8", "i64", "u8" },
      { "i32", "i64", "i32" }, { "i64", "f32", "f32" }, { "u8", "bf16", "bf16" }, { "i64", "f64", "f64" },
      { "f16", "i64", "f16" } } do
      local x, s = cld.ones(2, case[1]), cld.tensor(2, case[2])
      local name = case[1] .. " and 0-d " .. case[2]
      assert.equal(case[3], (x + s).dtype, name)
      assert.equal(case[3], (s * x).dtype, name)
      assert.equal(case[3], cld.where(cld.ones(2, "u8"), x, s).dtype, name)
    end
    assert.equal("f64", (cld.tensor(1, "f32") + cld.tensor(1, "f64")).dtype)
    assert.equal("f64", (cld.ones(1, "f32") + cld.ones(1, "f64")).dtype)
    local x, s = cld.ones(3):requires_grad_(), cld.tensor(2, "f64"):requires_grad_();
    (x * s):sum():backward()
    assert.equal("f64", s.grad.dtype)
    assert.equal(3, s.grad:item())
  end)
  it("integers of Lua stay exact beside i64", function()
    local n = (1 << 53) + 1
    local x = cld.tensor({ n, n - 1 }, "i64")
    assert.same({ 1, 0 }, x:eq(n):totable())
    assert.same({ 0, 1 }, x:lt(n):totable())
    assert.same({ 2 * n, 2 * n - 1 }, (x + n):totable())
    assert.same({ 0, 1 }, (n - x):totable())
    assert.same({ 0, -1 }, (x - n):totable())
    assert.same({ n, n }, x:maximum(n):totable())
    assert.same({ n, n }, cld.full({ 2 }, n, "i64"):totable())
    assert.same({ n, n }, cld.full_like(x, n):totable())
    assert.same({ n, n }, x:clone():fill_(n):totable())
    assert.same({ n, 7 }, cld.where(x:eq(n), n, cld.full({ 2 }, 7, "i64")):totable())
    assert.same({ 0, n - 1 }, x:masked_fill(x:eq(n), 0):totable())
    x[2] = n + 2
    assert.same({ n, n + 2 }, x:totable())
    x[x:eq(n)] = -n
    assert.same({ -n, n + 2 }, x:totable())
  end)
  it("a number that the dtype cannot hold is no operand and no element", function()
    local x = cld.zeros(2, "u8")
    for _, f in ipairs { function() x[1] = 300 end, function() x[{ { 1, 2 } }] = -1 end, function() x:fill_(256) end,
      function() cld.full({ 2 }, 256, "u8") end, function() x[x:eq(0)] = 300 end, function() x:maximum(300) end,
      function() x:masked_fill(x:eq(0), 1000) end, function() cld.where(x:eq(0), x, 300) end } do
      check.fails(f, ": the value is %-?%d+, which u8 cannot hold")
    end
    check.fails(function() x[1] = 1.5 end, "assignment: the value is 1.5%d*, which is not an integer, as u8 needs")
    check.fails(function() cld.full({ 1 }, 0 / 0, "i64") end, "full: the value is .*nan, which is not an integer")
    check.fails(function() x[1] = {} end, "number expected")
    x[1] = true
    assert.same({ 1, 0 }, x:totable())
    check.close(cld.full({ 1 }, 200, "u8") / 400, { 0.5 })
  end)
  it("16-bit floats are computed in f32 and rounded once", function()
    local x = cld.tensor({ 1.0 }, "bf16")
    check.close((x * 3 + x):to("f32"), { 4 })
    check.close(cld.tensor({ 0.1 }, "bf16"):exp():to("f32"), { 1.1015625 }, { atol = 0.004 })
  end)
end)

describe("sizes", function()
  it("around the piece and thread limits: every element is reached once", function()
    for _, n in ipairs { 1, 15, 16, 17, 1023, 1024, 1025, 32767, 32768, 70001 } do
      local x = cld.arange(0, n, 1)
      check.close((x + 1 - x):sum(), n)
      check.close((x * 0 + 1):sum(), n)
      local both = cld.stack({ x, x }, 2) -- innermost dimension 2
      check.close((both + x:unsqueeze(2) - 2 * x:unsqueeze(2)):abs():sum(), 0)
    end
  end)
  it("f32 agrees with f64 on large, transposed and broadcast arrays", function()
    local a, b = values(70, 33, 31), values(33, 1)
    local f = function(x, y) return (x:transpose(1, 3) * y:unsqueeze(1) + x:permute(3, 2, 1)):tanh() end
    check.close(f(a:to("f32"), b:to("f32"):t():t()), f(a, b), { atol = 1e-5, rtol = 1e-5 })
  end)
  it("f32 exp within 2 ulp over its range", function()
    local x = cld.arange(-87, 88, 1 / 256)
    local ratio = x:exp():to("f64") / x:to("f64"):exp() - 1
    assert.is_true(ratio:abs():amax():item() < 2 * 2 ^ -23)
  end)
end)

describe("in place", function()
  it("writes into views and counts as a change for backward", function()
    local x = cld.zeros(2, 3)
    x:narrow(2, 2, 2):add_(cld.tensor { 1, 2 })
    assert.same({ { 0, 1, 2 }, { 0, 1, 2 } }, x:totable())
    x:mul_(3)
    assert.same({ { 0, 3, 6 }, { 0, 3, 6 } }, x:totable())
    local w = cld.ones(3):requires_grad_()
    local factor = cld.ones(3)
    local out = (w * factor):sum()
    factor:add_(cld.ones(3))
    check.fails(function() out:backward() end, "mul.*changed in place since")
  end)
  it("takes a factor for the other operand", function()
    local x, y = cld.tensor { 1, 2 }, cld.tensor { 10, 20 }
    assert.same({ 6, 12 }, x:add(y, 0.5):totable())
    assert.same({ -4, -8 }, x:sub(y, 0.5):totable())
    assert.same({ 6, 12 }, x:clone():add_(y, 0.5):totable())
    assert.same({ -1, 0 }, x:clone():sub_(4, 0.5):totable())
    check.gradcheck(function(a, b) return a:add(b, -3) end, { values(4), values(4) })
    for _, f in ipairs { function() x:add_(y, { alpha = -0.1 }) end, function() x:add_(y, "a") end } do
      check.fails(f, "number expected")
    end
    for _, f in ipairs { function() x:mul_(y, 2) end, function() x:add_(y, 1, 2) end, function() x:copy_(y, 1) end,
      function() x:exp(1) end, function() x:sum(1, false, 2) end, function() x:mul(y, 2) end,
      function() x:reshape({ 2 }, 1) end, function() x:zero_(1) end, function() cld.zeros({ 2 }, "f32", 1) end } do
      check.fails(f, "surplus argument")
    end
    x:exp(nil)
    assert.same({ -1, -2 }, (-x):totable())
  end)
  it("is refused where recording needs the old value, and where it does not fit", function()
    local w = cld.ones(3):requires_grad_()
    check.fails(function() w:add_(cld.ones(3)) end, "cannot write in place to f32%[3%], which requires a gradient")
    local y = w * 2
    check.fails(function() y:mul_(2) end, "cannot write in place to f32%[3%], which backward will pass through")
    cld.no_grad(function() w:add_(cld.ones(3)) end)
    assert.same({ 2, 2, 2 }, w:totable())
    check.fails(function() cld.ones(3):add_(cld.ones(2, 3)) end, "add_: .* does not fit into f32%[3%]")
    check.fails(function() cld.ones(3, { dtype = "i64" }):add_(cld.ones(3)) end, "cannot hold")
  end)
  it("takes a number as the tensor of it, to the last bit", function()
    for _, dtype in ipairs { "f32", "f64", "bf16", "f16", "i64", "i32", "u8" } do
      local whole = not dtype:match "f"
      local x = cld.arange(0, 9):to(dtype) * (whole and 3 or 0.7)
      for _, s in ipairs(whole and { 2, 1, 5 } or { 2, -8, 3, 0, 2 ^ -40, 2 ^ 60, 2 ^ 120, 0.375, math.huge }) do
        local number = cld.tensor(s, whole and "i64" or "f64"):to(dtype)
        local operations = whole and { "add", "sub", "mul" } or { "add", "sub", "mul", "div" }
        for _, op in ipairs(number:item() == s and operations or {}) do -- the dtype has it
          local expected, y = x[op](x, number), x:clone()
          check.close(x[op](x, s), expected, { atol = 0, rtol = 0, nan = true })
          local view = y:narrow(1, 3, 5)
          assert.equal(view, view[op .. "_"](view, s))
          check.close(view, expected:narrow(1, 3, 5), { atol = 0, rtol = 0, nan = true })
          check.close(y:narrow(1, 1, 2), x:narrow(1, 1, 2), { atol = 0, rtol = 0 })
        end
        if whole then check.close(x / s, x:to "f32" / cld.tensor(s, "f32"), { atol = 0, rtol = 0 }) end
      end
    end
    check.gradcheck(function(x) return x / 4 + x / 3 end, { cld.tensor({ 1, -2 }, "f64") })
  end)
  it("reads a source in the same memory as it was", function()
    for _, n in ipairs { 5, 300 } do
      local x = cld.arange(n * n):reshape(n, n)
      local turned, sum = x:t():clone(), x + x:t()
      assert.same(sum:totable(), x:clone():add_(x:t()):totable())
      local y = x:clone()
      assert.same(sum:totable(), y:add_(y:t()):totable())
      y = x:clone()
      assert.same(turned:totable(), y:copy_(y:t()):totable())
      y = x:clone()
      assert.same((x * 2):totable(), y:add_(y):totable())
    end
    local n = 100000
    local x = cld.arange(n)
    x[{ { 2, n } }] = x[{ { 1, n - 1 } }]
    assert.same(0, x[1]:item())
    assert.is_true((x:narrow(1, 2, n - 1):eq(cld.arange(n - 1))):all():item() == 1)
    x = cld.arange(n)
    x:narrow(1, 2, n - 1):add_(x:narrow(1, 1, n - 1))
    assert.is_true((x:narrow(1, 2, n - 1):eq(cld.arange(n - 1) * 2 + 1)):all():item() == 1)
    x = cld.arange(6.0)
    x:narrow(1, 2, 5):sub_(x:narrow(1, 1, 5))
    assert.same({ 0, 1, 1, 1, 1, 1 }, x:totable())
    x = cld.tensor({ 2, 0, 1 }, "i64")
    x[x] = cld.tensor({ 100, 200, 300 }, "i64") -- the index is read before it is written
    assert.same({ 200, 300, 100 }, x:totable())
    local activation = require("cld.core").nn.conv2d(cld.ones(1, 16, 2, 2), cld.ones(16, 16, 1, 1)) -- blocked
    assert.same(16 * 16 * 4 * 3, cld.zeros(3, 16, 2, 2):copy_(activation):sum():item())
  end)
  it("is refused where several elements share one place in memory", function()
    local x = cld.zeros(1, 3)
    local wide = x:expand(2, 3)
    local mask, rows = cld.ones(2, 3, "u8"), cld.tensor({ 0, 1 }, "i64")
    for _, f in ipairs { function() wide:add_(1) end, function() wide:add_(cld.ones(2, 3)) end,
      function() wide:mul_(2) end, function() wide:fill_(1) end, function() wide:copy_(cld.ones(2, 3)) end,
      function() wide:uniform_() end, function() wide:clamp_(0, 1) end, function() wide[{}] = 1 end,
      function() wide[mask] = 1 end, function() wide[rows] = 1 end } do
      check.fails(f, ": several elements of f32%[2, 3%] share one place in memory")
    end
    wide[2] = 5 -- one row is in memory of its own
    assert.same({ { 5, 5, 5 } }, x:totable())
    cld.zeros(1, 0):expand(2, 0):fill_(1)
  end)
end)

it("shapes that do not broadcast are named", function()
  check.fails(function() return cld.ones(2, 3) + cld.ones(4) end, "add: f32%[2, 3%] and f32%[4%] do not broadcast")
  check.fails(function() return cld.where(cld.ones(2, "u8"), cld.ones(3), 0) end, "where: .* do not broadcast")
end)
