--- eigvalsh against NumPy's (fixtures/make_diagnostics.py).
local cld = require "cld"
local check = require "spec.support.check"

local fixture = cld.load "spec/fixtures/diagnostics.safetensors"

describe("eigvalsh", function()
  for name, matrix in pairs(fixture) do
    local case = name:match "^matrix%.(.*)$"
    if case then
      it("agrees with NumPy: " .. case, function()
        local expected = fixture["values." .. case]
        local scale = expected:abs():amax():item()
        check.close(matrix:eigvalsh() / scale, expected / scale, { atol = 1e-14 * #matrix, rtol = 0 })
      end)
    end
  end

  it("goes by the lower half alone", function()
    local values = cld.tensor({ { 2, 99 }, { 1, 2 } }, "f64"):eigvalsh()
    check.close(values, cld.tensor({ 1, 3 }, "f64"), { atol = 1e-14, rtol = 0 })
  end)

  it("takes matrices that lie otherwise, and none", function()
    local a = fixture["matrix.random"]
    local wide = cld.zeros({ 9, 18 }, "f64")
    wide[{ {}, { 1, 17, 2 } }] = a
    check.close(wide[{ {}, { 1, 17, 2 } }]:eigvalsh(), a:eigvalsh(), { atol = 0, rtol = 0 })
    assert.same({ 0 }, cld.zeros(0, 0):eigvalsh().shape)
  end)

  it("gives the dtype that it was given, computed in f64", function()
    local values = fixture["matrix.random"]:float():eigvalsh()
    assert.equal("f32", values.dtype)
    check.close(values:double(), fixture["values.random"], { atol = 1e-5, rtol = 0 })
  end)

  it("of a large matrix has its trace and its norm", function()
    local x = cld.randn({ 200, 200 }, "f64")
    local a = x + x:t()
    local values = a:eigvalsh()
    check.close(values:sum(), (a * cld.eye(200, "f64")):sum(), { atol = 1e-10, rtol = 0 })
    check.close(values:square():sum(), a:square():sum(), { atol = 0, rtol = 1e-13 })
  end)

  it("finds those of a matrix of few directions among many", function()
    local x = cld.zeros({ 512, 512 }, "f64")
    for i = 1, 512 do x[{ i, (i - 1) % 3 + 1 }] = 1 end
    local expected = cld.zeros({ 512 }, "f64")
    expected[{ { 510, 512 } }] = cld.tensor({ 170, 171, 171 }, "f64")
    check.close(x:matmul(x:t()):eigvalsh(), expected, { atol = 1e-12, rtol = 0 })
  end)

  it("refuses what it cannot take", function()
    check.fails(function() cld.zeros(2, 3):eigvalsh() end,
      "eigvalsh: expected a symmetric matrix %(n, n%), got .*2, 3")
    check.fails(function() cld.zeros({ 2, 2 }, "i64"):eigvalsh() end, "eigvalsh: .*i64")
    for _, bad in ipairs { 0 / 0, math.huge, -math.huge } do
      check.fails(function() cld.full({ 2, 2 }, bad):eigvalsh() end, "eigvalsh: the matrix has values that are not fin")
    end
    check.fails(function() cld.ones(2, 2):requires_grad_():eigvalsh() end, "eigvalsh has no gradient: give it x:detach")
  end)
end)
