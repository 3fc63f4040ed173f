--- Einsum, distances, diagonals, sums in place, ranges that run backwards: against PyTorch's own results
-- (spec/fixtures/make_tensors.py), and gradients against central differences.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"

local numbers, waves = formula.counting, formula.waves

-- The same names as in make_tensors.py; dimensions count from 1 here.
local cases = {
  ["lerp_"] = function(a, b) return a:lerp_(b, 0.3) end,
  ["lerp_ of a row"] = function(a, b) return a:lerp_(b, 0.8) end,
  ["lerp_ beyond"] = function(a, b) return a:lerp_(b, 1.5) end,
  ["lerp_ by a tensor"] = function(a, b, w) return a:lerp_(b, w) end,
  ["addcmul_"] = function(a, b, c) return a:addcmul_(b, c, -0.7) end,
  ["addcmul_ of integers"] = function(a, b) return a:addcmul_(b, b, 2) end,
  ["addcdiv_"] = function(a, b, c) return a:addcdiv_(b, c, cld.tensor(2.5, "f64")) end,
  ["sqrt_"] = function(a) return a:sqrt_() end,
  ["reciprocal_"] = function(a) return a:reciprocal_() end,
  ["pow_"] = function(a) return a:pow_(3) end,
  ["diag of a vector"] = function(a) return a:diag() end,
  ["diag above"] = function(a) return a:diag(2) end,
  ["diag below"] = function(a) return a:diag(-1) end,
  ["diag of a matrix"] = function(a) return a:diag() end,
  ["diag of a matrix above"] = function(a) return a:diag(1) end,
  ["diag of a matrix below"] = function(a) return a:diag(-2) end,
  ["diag of a corner"] = function(a) return a:diag(3) end,
  ["diag outside"] = function(a) return a:diag(9) end,
  ["diagonal"] = function(a) return a:diagonal(1, 3, 1) end,
  ["cdist"] = function(a, b) return cld.cdist(a, b) end,
  ["cdist of batches"] = function(a, b) return a:cdist(b) end,
  ["movedim"] = function(a) return a:movedim(1, -1) end,
  ["movedim of two"] = function(a) return a:movedim({ 1, 2 }, { 4, 1 }) end,
  ["outer"] = function(a, b) return a:outer(b) end,
}

local function case_of(name)
  local equation = name:match "^einsum (.*)"
  return cases[name] or equation and function(...) return cld.einsum(equation, ...) end
end

local function weights_like(out)
  return (cld.arange(out:numel()):to "f64" * 0.6180339887498949 % 1 + 0.5):to(out.dtype):reshape(out.shape)
end

describe("against PyTorch", function()
  local names = {}
  for name in pairs(cld.load "spec/fixtures/tensors.safetensors") do names[name:match "^(.*)/"] = true end
  collectgarbage()

  it("every case is in the fixture", function()
    for name in pairs(cases) do assert.is_true(names[name], name) end
  end)

  for name in pairs(names) do
    it(name, function()
      local fixture, inputs = cld.load "spec/fixtures/tensors.safetensors", {}
      local in_place = name:find "_" ~= nil
      while fixture[name .. "/" .. #inputs + 1] do
        local input = fixture[name .. "/" .. #inputs + 1]
        inputs[#inputs + 1] = input:requires_grad_(input.dtype == "f32" and not in_place)
      end
      local out, expected = case_of(name)(table.unpack(inputs)), fixture[name .. "/out"]
      assert.same(expected.shape, out.shape)
      check.close(out, expected, { atol = 2e-6, rtol = 1e-5, nan = true })
      if not out.requires_grad then return end
      out:backward(weights_like(out))
      for i, input in ipairs(inputs) do
        check.close(input.grad, fixture[name .. "/grad" .. i], { atol = 5e-6, rtol = 1e-5 })
      end
    end)
  end
end)

describe("einsum", function()
  it("gradients", function()
    local function gradients(equation, ...)
      check.gradcheck(function(...) return cld.einsum(equation, ...) end, { ... })
    end
    gradients("ij,jk->ik", waves(2, 3), waves(3, 2))
    gradients("bi,bi->b", waves(2, 3), waves(2, 3) + 1)
    gradients("iij,jk,k->ik", waves(2, 2, 3), waves(3, 2), waves(2))
    gradients("...i,ij", waves(2, 2, 3), waves(3, 2))
  end)

  it("takes a list, other dtypes, and extents of 0", function()
    local a, b = numbers(2, 3), numbers(3, 2)
    check.close(cld.einsum("ij, jk -> ik", { a, b:to "f32" }), a:matmul(b))
    assert.same({ { 0, 0 }, { 0, 0 } }, cld.einsum("ij,jk->ik", cld.zeros(2, 0), cld.zeros(0, 2)):totable())
  end)

  it("says what does not fit", function()
    local a, b = cld.zeros(2, 3), cld.zeros(4, 2)
    check.fails(function() cld.einsum("ij,jk->ik", a, b) end, "'j' is 3, but 4 in tensor 2, f32%[4, 2%]")
    check.fails(function() cld.einsum("ijk,jk", a, b) end, "subscript 1 has 3 letters, its tensor is f32%[2, 3%]")
    check.fails(function() cld.einsum("ij", a, b) end, "fewer subscripts than the 2 tensors")
    check.fails(function() cld.einsum("ij,ij", a) end, "more subscripts than the 1 tensor")
    check.fails(function() cld.einsum("ij->iz", a) end, "the result's 'z' is in no tensor")
    check.fails(function() cld.einsum("ij->ii", a) end, "the result has 'i' twice")
    check.fails(function() cld.einsum("i1->i", a) end, "character 2 is '1'; expected letters")
    check.fails(function() cld.einsum("ii", a) end, "'i' is 2, but 3 in tensor 1")
    check.fails(function() cld.einsum("ij") end, "expected a list of at least one tensor")
    check.fails(function() cld.einsum("abcde,fghij", cld.zeros(1, 1, 1, 1, 1), cld.zeros(1, 1, 1, 1, 1)) end,
      "einsum: 'abcde,fghij': the result would have 10 dimensions")
  end)
end)

describe("in place", function()
  it("lerp_ is exact at both ends", function()
    local x, y = waves(5):to "f32", (waves(5) * 3e7):to "f32"
    assert.same(x:totable(), x:clone():lerp_(y, 0):totable())
    assert.same(y:totable(), x:clone():lerp_(y, 1):totable())
  end)

  it("of 16 bits, of parts of a tensor, of itself turned round", function()
    local x = waves(3, 3):to "f32"
    check.close(x:to("bf16"):lerp_(x + 1, 0.5), x + 0.5, { atol = 0.02 })
    local part = x:clone()
    part:t()[1]:lerp_(cld.zeros(3), 0.5)
    check.close(part[{ {}, 1 }], x[{ {}, 1 }] / 2)
    check.close(x:clone():lerp_(x:t(), 0.5), (x + x:t()) / 2)
    local own = x:clone()
    check.close(own:lerp_(own:t(), 0.5), (x + x:t()) / 2)
    own = x:clone()
    check.close(own:addcmul_(own:t(), own, 2), x + x:t() * x * 2)
  end)

  it("of more than is computed at a time", function()
    local x, a, b = waves(150001):to "f32", waves(150001):to "f32" + 1, waves(150001):to "f32" + 3
    check.close(x:clone():addcmul_(a, b, 0.3), x + a * b * 0.3)
    check.close(x:clone():addcdiv_(a, b, cld.tensor(0.3, "f64")), x + a / b * 0.3)
    check.close(x:clone():addcmul_(x, x), x + x * x)
  end)

  it("with an operand that broadcasts, of another dtype, of the other layout", function()
    local x, y = waves(4, 5):to "f32", waves(4, 5):to "f32" + 3
    for _, name in ipairs { "add", "sub", "mul", "div", "pow" } do
      local plain, x1 = x.abs(x), x:abs()
      check.close(x1[name .. "_"](x1, y[1]), plain[name](plain, y[1]))
      check.close(plain:clone()[name .. "_"](plain:clone(), y:t():contiguous():t()), plain[name](plain, y))
      check.close(plain:clone()[name .. "_"](plain:clone(), cld.tensor(0.5, "f64")), plain[name](plain, 0.5))
      check.close(plain:to("bf16")[name .. "_"](plain:to "bf16", y:to "bf16"),
        plain:to("bf16")[name](plain:to "bf16", y:to "bf16"))
    end
    local map = cld.nn.functional.conv2d(waves(2, 3, 4, 4):to "f32", waves(16, 3, 1, 1):to "f32")
    local other = cld.nn.functional.conv2d(waves(2, 3, 4, 4):to "f32", waves(16, 3, 1, 1):to "f32" + 1)
    local expected = map:clone():contiguous() * other:clone():contiguous()
    check.close(map:clone():mul_(other), expected)
    map:mul_(other)
    check.close(map, expected)
    map:mul_(cld.tensor(2))
    check.close(map, expected * 2)
  end)

  it("each is its function", function()
    for _, name in ipairs { "neg", "abs", "sign", "exp", "log", "sqrt", "rsqrt", "square", "reciprocal", "sin", "cos",
      "tanh", "sigmoid", "relu", "floor", "ceil", "round" } do
      local x = waves(2, 3)
      local same = x[name .. "_"](x)
      assert.equal(x, same)
      check.close(x, waves(2, 3)[name](waves(2, 3)), { nan = true })
    end
  end)

  it("backward notices", function()
    local x = waves(3):requires_grad_()
    local y = x * 1
    local z = y:exp()
    cld.no_grad(function() z:sqrt_() end)
    check.fails(function() z:sum():backward() end, "exp saved for backward, was changed in place")
  end)

  it("says what is wrong", function()
    local x, w = cld.zeros(2, 3), cld.zeros(2, 3):requires_grad_()
    check.fails(function() w:sqrt_() end, "sqrt_: cannot write in place to f32%[2, 3%], which requires a gradient")
    check.fails(function() cld.arange(3):sqrt_() end, "sqrt_: the result is f32, which i64%[3%] cannot hold")
    check.fails(function() x:addcmul_(x, w) end, "addcmul_: a write in place carries no gradient, and argument 2 needs")
    check.fails(function() x:addcmul_(cld.zeros(4), x) end, "addcmul_: f32%[4%] and f32%[2, 3%] do not broadcast")
    check.fails(function() x[1]:addcdiv_(x, x) end, "addcdiv_: the result would be f32%[2, 3%]")
    check.fails(function() x:lerp_(x, cld.zeros(2)) end, "lerp_: the weight is f32%[2%]; expected a number or")
    check.fails(function() x:lerp_(x) end, "number or cld.tensor expected, got no value")
    check.fails(function() x:lerp_(x, "1") end, "number or cld.tensor expected, got string")
    check.fails(function() x:lerp_(cld.zeros(4), 0.5) end, "lerp_: f32%[4%] cannot become f32%[2, 3%]")
    check.fails(function() cld.arange(3):lerp_(cld.arange(3), 0.5) end, "lerp_: expected a floating point tensor")
  end)
end)

describe("cdist", function()
  it("gradient, 0 at equal rows", function()
    check.gradcheck(function(a, b) return a:cdist(b) end, { waves(3, 2), numbers(4, 2) })
    check.gradcheck(function(a, b) return a:cdist(b) end, { waves(2, 2, 3), waves(4, 3) + 100 })
    local a = waves(3, 2):requires_grad_()
    local distances = a:cdist(a)
    assert.same({ 0, 0, 0 }, distances:diag():totable())
    distances:diag():sum():backward()
    assert.same({ { 0, 0 }, { 0, 0 }, { 0, 0 } }, a.grad:totable())
  end)

  it("keeps near rows apart, far from 0", function()
    local a = cld.tensor { { 1000, 1000 } }
    check.close(a:cdist(a + 0.0625), { { 0.0625 * math.sqrt(2) } })
  end)

  it("of 16 bits, whose squares would be too large", function()
    local a = cld.tensor({ { 300, 400 }, { 0, 0 } }, "f16")
    assert.same({ { 0, 500 }, { 500, 0 } }, a:cdist(a):totable())
    assert.equal("f16", a:cdist(a).dtype)
  end)

  it("of more rows than fit at a time, of none", function()
    local a, b = waves(700, 64):to "f32", waves(90, 64):to "f32"
    check.close(a:cdist(b)[{ 699, 80 }], (a[699] - b[80]):norm())
    assert.same({ 0, 4 }, cld.zeros(0, 3):cdist(cld.zeros(4, 3)).shape)
    assert.same({ { 0 } }, cld.zeros(1, 0):cdist(cld.zeros(1, 0)):totable())
  end)

  it("says what is wrong", function()
    check.fails(function() cld.zeros(2, 3):cdist(cld.zeros(2, 4)) end,
      "cdist: expected rows .*f32%[2, 3%] and f32%[2, 4%]")
    check.fails(function() cld.zeros(3):cdist(cld.zeros(3)) end, "cdist: expected rows")
    check.fails(function() cld.zeros(2, 3):cdist(cld.zeros(2, 3), 1) end, "p is 1.*the only supported norm is 2")
  end)
end)

describe("diag and diagonal", function()
  it("gradients", function()
    for _, offset in ipairs { 0, 1, -2 } do
      check.gradcheck(function(x) return x:diag(offset) end, { waves(3) })
      check.gradcheck(function(x) return x:diag(offset) end, { waves(3, 4) })
      check.gradcheck(function(x) return x:diagonal(offset, 3, 1) end, { waves(3, 2, 3) })
    end
  end)

  it("diagonal is a view", function()
    local x = cld.zeros(2, 3)
    x:diagonal(1):fill_(5)
    assert.same({ { 0, 5, 0 }, { 0, 0, 5 } }, x:totable())
  end)

  it("says what is wrong", function()
    check.fails(function() cld.zeros(2, 2, 2):diag() end, "diag: expected a vector or a matrix, got f32%[2, 2, 2%]")
    check.fails(function() cld.zeros(3):diagonal() end, "diagonal: expected at least two dimensions, got f32%[3%]")
    check.fails(function() cld.zeros(3, 3):diagonal(0, 2, 2) end,
      "diagonal: dimension 2 of f32%[3, 3%] is listed twice")
    check.fails(function() cld.zeros(3):diag(math.mininteger) end, "diag: the offset %-%d+ is too far")
  end)
end)

describe("movedim", function()
  it("keeps the others in order; says what is listed twice", function()
    assert.same({ 3, 4, 2 }, cld.zeros(2, 3, 4):movedim(1, 3).shape)
    check.gradcheck(function(x) return x:movedim({ 3, 1 }, { 1, 2 }) end, { waves(2, 3, 2) })
    check.fails(function() cld.zeros(2, 3):movedim({ 1, 1 }, { 1, 2 }) end,
      "movedim: dimension 1 of .* is listed twice")
    check.fails(function() cld.zeros(2, 3):movedim({ 1, 2 }, 1) end, "expected as many dimensions as are moved")
    check.fails(function() cld.zeros(2, 3):movedim(1, 3) end, "dimension 3 of f32%[2, 3%]")
  end)
end)

describe("allclose", function()
  it("has PyTorch's tolerances", function()
    local x = cld.tensor { 1, 100, math.huge }
    assert.is_true(cld.allclose(x, x))
    assert.is_true(x:allclose(cld.tensor { 1.000009, 100.0009, math.huge }))
    assert.is_false(x:allclose(cld.tensor { 1.00002, 100, math.huge }))
    assert.is_true(x:allclose(cld.tensor { 1.5, 100, math.huge }, { atol = 0.6 }))
    assert.is_false(x:allclose(cld.tensor { 1, 100, -math.huge }, { rtol = 10 }))
    assert.is_false(x:allclose(cld.tensor { 1, 100, 5 }))
  end)

  it("takes NaN as equal if asked to, integers, what broadcasts", function()
    local nan = cld.tensor { 0 / 0, 1 }
    assert.is_false(nan:allclose(nan))
    assert.is_true(nan:allclose(nan, { equal_nan = true }))
    assert.is_false(nan:allclose(cld.ones(2), { equal_nan = true }))
    assert.is_true(cld.ones(3, "u8"):allclose(cld.ones(2, 3)))
    assert.is_false(cld.zeros(1, "u8"):allclose(cld.ones(1, "u8"), { rtol = 0.1 }))
    check.fails(function() cld.ones(3):allclose(cld.ones(2)) end, "allclose: f32%[3%] and f32%[2%] do not broadcast")
    check.fails(function() cld.ones(3):allclose(cld.ones(3), { atol = -1 }) end, "allclose: .*neither may be negative")
    check.fails(function() cld.ones(3):allclose(cld.ones(3), { tol = 1 }) end, "unknown field 'tol'")
  end)
end)

describe("ranges", function()
  it("count from the end, and run backwards", function()
    local x = numbers(5)
    assert.equal(5, x[-1]:item())
    assert.same({ 3, 4, 5 }, x[{ { -3, -1 } }]:totable())
    assert.same({ 5, 4, 3, 2, 1 }, x[{ { -1, 1, -1 } }]:totable())
    assert.same({ 4, 2 }, x[{ { 4, 1, -2 } }]:totable())
    assert.same({ 3 }, x[{ { 3, 3, -1 } }]:totable())
    local m = numbers(2, 3)
    assert.same({ { 6, 5, 4 }, { 3, 2, 1 } }, m[{ { 2, 1, -1 }, { 3, 1, -1 } }]:totable())
    assert.same({ 6, 4 }, m[{ 2, { 3, 1, -2 } }]:totable())
    assert.same({ { 3, 1 }, { 6, 4 } }, m[{ {}, { 3, 1, -1 } }][{ {}, cld.tensor({ 0, 2 }, "i64") }]:totable())
    assert.same({ { 3, 1 }, { 2, 2 } }, numbers(3, 1):tile(1, 2)[{ { 3, 2, -1 } }]
      :mul(cld.tensor({ { 1, 1 / 3 }, { 1, 1 } }, "f64")):totable())
    check.gradcheck(function(t) return t[{ { 3, 1, -2 }, { -1, 1, -1 } }] end, { waves(3, 2) })
    check.gradcheck(function(t, i) return t[{ i, { -1, 1, -1 } }] end, { waves(3, 2), cld.tensor({ 2, 0 }, "i64") })
  end)

  it("are assigned to", function()
    local x = cld.zeros(2, 3)
    x[{ 1, { 3, 1, -1 } }] = cld.tensor { 1, 2, 3 }
    assert.same({ { 3, 2, 1 }, { 0, 0, 0 } }, x:totable())
    x[{ { 2, 1, -1 }, 2 }] = 7
    assert.same({ { 3, 7, 1 }, { 0, 7, 0 } }, x:totable())
  end)

  it("says what is wrong", function()
    local x = cld.zeros(3, 2)
    check.fails(function() return x[{ { 1, 3, -1 } }] end,
      "index 1: the range {1, 3} runs forwards, but its step is %-1")
    check.fails(function() return x[{ { 3, 1 } }] end, "index 1: the range {3, 1} runs backwards, but its step is 1")
    check.fails(function() return x[{ { 1, 3, 0 } }] end, "index 1: the step is 0")
    check.fails(function() x[{ { 3, 1, -1 }, cld.tensor({ 0 }, "i64") }] = 1 end,
      "cannot be combined with an index tensor")
  end)
end)
