--- Einsum, distances, diagonals, sums in place and ranges that run backwards on a device, against the cpu.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"

local function x(...)
  local shape = { ... }
  return function() return formula.waves(table.unpack(shape)):to "f32" end
end

local function equation(text, a, b)
  return { function(s, t) return cld.einsum(text, s, t) end, x(table.unpack(a)), x(table.unpack(b)), gradients = true }
end

devices.each("tensor functions", function(device)
  devices.cases(device, {
    ["einsum of matrices"] = equation("ij,kj->ki", { 5, 7 }, { 6, 7 }),
    ["einsum of batches"] = equation("bhqd,bhkd->bqhk", { 2, 3, 5, 4 }, { 2, 3, 6, 4 }),
    ["einsum of rows"] = equation("nd,nd->n", { 9, 33 }, { 9, 33 }),
    ["einsum of a diagonal"] = { function(a) return cld.einsum("bii->ib", a) end, x(3, 5, 5), gradients = true },
    ["cdist"] = { function(a, b) return a:cdist(b) end, x(17, 9), x(2, 12, 9), gradients = true, atol = 1e-5 },
    ["cdist of equal rows"] = { function(a) return a:cdist(a:detach():clone()) end, x(17, 9), gradients = true,
      atol = 1e-5 },
    ["diag"] = { function(a) return a:diag(-2):diag(1) end, x(9, 8), gradients = true },
    ["diagonal"] = { function(a) return a:diagonal(1, 3, 1) end, x(4, 3, 5), gradients = true },
    ["movedim"] = { function(a) return a:movedim(1, -1) end, x(4, 3, 5), gradients = true },
    ["backward ranges"] = { function(a) return a[{ { -1, 1, -2 }, {}, { 4, 2, -1 } }] end, x(5, 2, 6),
      gradients = true },
    ["assignment to one"] = { function(a, b)
      local copy = a:clone()
      copy[{ { 4, 2, -1 }, 1 }] = b
      return copy
    end, x(5, 2), x(3) },
    ["lerp_"] = { function(a, b, on)
      local w = cld.tensor(0.3, { dtype = "f64", device = on })
      return a:clone():lerp_(b, 0.3), a:clone():lerp_(b[1], w), a:to("bf16"):lerp_(b, 0.3), a:t():lerp_(b:t(), 0.9)
    end, x(5, 7), x(5, 7) },
    ["addcmul_ and addcdiv_"] = { function(a, b, on)
      local v = cld.tensor(-0.7, { dtype = "f64", device = on })
      return a:clone():addcmul_(b, b[1]), a:clone():addcmul_(b, b, v), a:clone():addcdiv_(a, b, 2.5),
        a:clone():addcdiv_(a, b, v)
    end, x(5, 7), x(5, 7) },
    ["functions in place"] = { function(a) return a:clone():sqrt_(), a:exp():log_(), a:abs():rsqrt_():square_() end,
      x(5, 7) },
  })

  it("allclose", function()
    local a = x(5, 7)():to(device)
    assert.is_true(a:allclose(a * 1.000001))
    assert.is_false(a:allclose(a * 1.001))
    check.fails(function() return a:allclose(a:cpu()) end, "allclose: one tensor is on cuda.*, the other on cpu")
  end)

  it("in a captured step: numbers come as tensors", function()
    local weights, mean = x(4, 5)():to(device), cld.zeros(4, 5):to(device)
    local step = cld.graph(function(g, rate, decay)
      mean:lerp_(g, decay)
      weights:addcdiv_(mean, mean:square():sqrt_():add_(1), -rate)
      return cld.einsum("ij,kj->ik", weights, mean):diag(), weights:cdist(mean)[{ { -1, 1, -1 } }]
    end)
    local plain, plain_mean = x(4, 5)(), cld.zeros(4, 5)
    for i = 1, 5 do
      local g = x(4, 5)() * i
      local dots, distances = step(g:to(device), 0.1 * i, 0.5 / i)
      plain_mean:lerp_(g, 0.5 / i)
      plain:addcdiv_(plain_mean, plain_mean:square():sqrt_():add_(1), -0.1 * i)
      check.close(weights, plain, { atol = 1e-5 })
      check.close(dots, plain:matmul(plain_mean:t()):diag(), { atol = 1e-4, rtol = 1e-4 })
      check.close(distances, plain:cdist(plain_mean):flip(1), { atol = 1e-4, rtol = 1e-4 })
    end
  end)
end)
