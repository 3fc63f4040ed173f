--- eigh: the values against eigvalsh, the vectors against their definition.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"

local function symmetric(n, dtype)
  local x = formula.uniform("eigh", { n, n }, "f64")
  return (x + x:t()):to(dtype)
end

-- A v = v diag(values), v' v = 1; the sign is right.
local function check_vectors(a, values, v, tolerance)
  local k = v.shape[2]
  check.close(a:matmul(v), v * values[{ { 1, k } }]:unsqueeze(1), { atol = tolerance, rtol = 0 })
  check.close(v:t():matmul(v), cld.eye(k, a.dtype), { atol = tolerance, rtol = 0 })
  assert.is_true((v:amax(1) - v:abs():amax(1)):abs():amax():item() <= tolerance)
end

describe("eigh", function()
  for dtype, tolerance in pairs { f64 = 1e-12, f32 = 2e-5 } do
    for _, n in ipairs { 1, 2, 3, 16, 17, 70 } do
      it(("of %d x %d, %s"):format(n, n, dtype), function()
        local a = symmetric(n, dtype)
        local values, vectors = a:eigh()
        check.close(values, a:eigvalsh(), { atol = tolerance, rtol = 0 })
        check_vectors(a, values, vectors, tolerance)
      end)
    end
  end

  it("gives the vectors of the k smallest, and of several matrices", function()
    local a, b = symmetric(9, "f64"), symmetric(9, "f64") * -0.5
    local values, vectors = cld.stack({ a, b }, 1):eigh(4)
    assert.same({ 2, 9, 4 }, vectors.shape)
    for i, matrix in ipairs { a, b } do
      local all, whole = matrix:eigh()
      check.close(values[i], all, { atol = 0, rtol = 0 })
      check.close(vectors[i], whole[{ {}, { 1, 4 } }], { atol = 0, rtol = 0 })
    end
    assert.same({ 9, 0 }, select(2, a:eigh(0)).shape)
  end)

  it("of equal eigenvalues has vectors at right angles", function()
    local few = formula.uniform("few", { 40, 3 }, "f64")
    for name, a in pairs { zeros = cld.zeros({ 5, 5 }, "f64"), eye = cld.eye(7, "f64") * 3, few = few:matmul(few:t()),
      ones = cld.ones({ 20, 20 }, "f64") } do
      local values, vectors = a:eigh()
      local ok, message = pcall(check_vectors, a, values, vectors, 1e-12)
      assert(ok, name .. ": " .. tostring(message))
    end
  end)

  it("goes by the lower half alone, and by no scale", function()
    local values = cld.tensor({ { 2, 99 }, { 1, 2 } }, "f64"):eigh()
    check.close(values, cld.tensor({ 1, 3 }, "f64"), { atol = 1e-14, rtol = 0 })
    local a = symmetric(6, "f64")
    local one, v = a:eigh()
    for _, scale in ipairs { 1e-200, 1e300 } do
      local values_of, vectors = (a * scale):eigh()
      check.close(values_of / scale, one, { atol = 1e-13, rtol = 0 })
      check.close(vectors, v, { atol = 1e-12, rtol = 0 })
    end
  end)

  it("gives NaN where a value is not finite, in that matrix alone", function()
    for _, bad in ipairs { 0 / 0, math.huge, -math.huge } do
      local a = cld.stack({ symmetric(4, "f64"), symmetric(4, "f64") }, 1)
      a[{ 1, 3, 2 }] = bad
      local values, vectors = a:eigh()
      assert.is_true(values[1]:isnan():all():item() == 1 and vectors[1]:isnan():all():item() == 1)
      check_vectors(a[2], values[2], vectors[2], 1e-12)
    end
  end)

  it("takes none, and refuses what it cannot take", function()
    assert.same({ 0 }, cld.zeros(0, 0):eigh().shape)
    check.fails(function() cld.zeros(2, 3):eigh() end, "eigh: expected a symmetric matrix %(n, n%) .*got .*2, 3")
    check.fails(function() cld.zeros(4):eigh() end, "eigh: expected a symmetric matrix")
    check.fails(function() cld.zeros({ 2, 2 }, "i64"):eigh() end, "eigh: .*i64")
    check.fails(function() cld.zeros(2, 2):eigh(3) end, "eigh: 3 eigenvectors of f32%[2, 2%]; expected 0 to 2")
    check.fails(function() cld.ones(2, 2):requires_grad_():eigh() end, "eigh has no gradient: give it x:detach")
  end)
end)
