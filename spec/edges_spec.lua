--- Gradients at a function's corners, poles and ties, and at values that are not finite: they are PyTorch's (2.15), on
-- every device and in every floating-point dtype.
local cld = require "cld"
local devices = require "spec.support.devices"

local nan, inf = 0 / 0, math.huge
local tolerance = { f64 = 1e-9, f32 = 1e-5, f16 = 2e-3, bf16 = 2e-2 }

-- { what, input, f, the gradient of f(x):sum() }
local zeros, row, column = { { 0, 0 }, { 0, 0 } }, { { 1, 1 }, { 1, 2 } }, { { 1, 5 }, { 1, 6 }, { 1, 7 } }
local cases = {
  { "std of equal values", { 1, 1 }, function(x) return x:std() end, { 0, 0 } },
  { "std with one constant row", row, function(x) return x:std(2) end, { 0, 0, -0.7071067811865, 0.7071067811865 } },
  { "std with one constant column", column, function(x) return x:std(1) end, { 0, -0.5, 0, 0, 0, 0.5 } },
  { "std, biased", row, function(x) return x:std(2, false) end, { 0, 0, -0.5, 0.5 } },
  { "std, biased, of one value", { { 3 } }, function(x) return x:std(2, false, true) end, { 0 } },
  { "std, unbiased, of one value", { 3 }, function(x) return x:std() end, { nan } },
  { "a hinge on std", column, function(x) return (1 - x:std(1)):relu() end, { 0, 0, 0, 0, 0, 0 } },
  { "norm of 0", zeros, function(x) return x:norm() end, { 0, 0, 0, 0 } },
  { "norm of a row of 0", { { 0, 0 }, { 0, 2 } }, function(x) return x:norm(2, 2) end, { 0, 0, 0, 1 } },
  { "norm with an infinity", { 1, inf }, function(x) return x:norm() end, { 0, nan } },
  { "norm(0) counts", { 1, 0 }, function(x) return x:norm(0) end, { 0, 0 } },
  { "norm(0.5) at 0", { 0, 1 }, function(x) return x:norm(0.5) end, { 0, 1 } },
  { "norm(0.5) of 0", zeros, function(x) return x:norm(0.5) end, { 0, 0, 0, 0 } },
  { "norm(1) at 0", { 0, -2 }, function(x) return x:norm(1) end, { 0, -1 } },
  { "norm(1) with an infinity", { 1, inf }, function(x) return x:norm(1) end, { 1, 1 } },
  { "norm(1.5) of 0", zeros, function(x) return x:norm(1.5) end, { 0, 0, 0, 0 } },
  { "norm(3) of 0", zeros, function(x) return x:norm(3, 1) end, { 0, 0, 0, 0 } },
  { "norm(-1) with a 0", { 0, 1 }, function(x) return x:norm(-1) end, { 0, 0 } },
  { "norm(inf) of 0", zeros, function(x) return x:norm(inf) end, { 0, 0, 0, 0 } },
  { "norm(inf) of equals", { 2, -2 }, function(x) return x:norm(inf) end, { 0.5, -0.5 } },
  { "norm(-inf)", { 2, -1 }, function(x) return x:norm(-inf) end, { 0, -1 } },
  { "max with NaN", { 1, nan }, function(x) return x:max() end, { 0, 1 } },
  { "min with NaN", { nan, 1, nan }, function(x) return x:min() end, { 0.5, 0, 0.5 } },
  { "max along a dimension with NaN", { { nan, 1 }, { 2, 3 } }, function(x) return (x:max(2)) end, { 1, 0, 0, 1 } },
  { "max of equals", { 2, 1, 2 }, function(x) return x:max() end, { 0.5, 0, 0.5 } },
  { "sort with NaN", { nan, 1 }, function(x) return (x:sort()):narrow(1, 2, 1) end, { 1, 0 } },
  { "maximum of equals", { 1, 2 }, function(x) return x:maximum(1) end, { 0.5, 1 } },
  { "sqrt at 0", { 0, 4 }, function(x) return x:sqrt() end, { inf, 0.25 } },
  { "sqrt, not taken", { 0, 4 }, function(x)
    return x:sqrt() * cld.tensor({ 0, 1 }, { dtype = x.dtype, device = x.device })
  end, { nan, 0.25 } },
  { "log, not taken, of what has no finite reciprocal", { 6e-8, 2 }, function(x)
    return cld.where(x:gt(1), x:log(), x)
  end, { 1, 0.5 } },
  { "0 / x for a small x", { 6e-8, 2 }, function(x) return 0 / x end, { 0, 0 } },
  { "x ^ 0 at 0", { 0, 1 }, function(x) return x ^ 0 end, { 0, 0 } },
  { "x ^ 0.5 at 0", { 0, 4 }, function(x) return x ^ 0.5 end, { inf, 0.25 } },
  { "x ^ y at x = 0", { 0, 2 }, function(x) return x ^ cld.full_like(x, 2) end, { 0, 4 } },
  { "abs at 0", { 0, -1 }, function(x) return x:abs() end, { 0, -1 } },
  { "relu at 0 and NaN", { 0, -1, 1 }, function(x) return x:relu() end, { 0, 0, 1 } },
  { "clamp at its bounds", { 0, 1, 1.5, 2, 3 }, function(x) return x:clamp(1, 2) end, { 0, 0, 1, 0, 0 } },
  { "clamp with an open side", { -inf, 1, 2 }, function(x) return x:clamp(nil, 2) end, { 1, 1, 0 } },
  { "clamp to NaN", { 1, 2 }, function(x) return x:clamp(nan, 2) end, { 0, 0 } },
  { "prod with one 0", { 2, 0, 3 }, function(x) return x:prod() end, { 0, 6, 0 } },
  { "prod with two", { 0, 0, 3 }, function(x) return x:prod() end, { 0, 0, 0 } },
  { "logsumexp of -inf", { { -inf, -inf }, { 1, -inf } }, function(x) return x:logsumexp(2) end, { nan, nan, 1, 0 } },
  { "log_softmax with -inf", { 1, -inf }, function(x) return x:log_softmax():narrow(1, 1, 1) end, { 0, 0 } },
  { "cross_entropy with -inf elsewhere", { { 1, -inf, 1 } }, function(x)
    return x:cross_entropy(cld.zeros(1, { dtype = "i64", device = x.device }))
  end, { -0.5, 0, 0.5 } },
}

local function agrees(got, want, tol)
  return want ~= want and got ~= got or got == want or math.abs(got - want) <= tol
end

local places = { "cpu", table.unpack(devices.names) }
for _, device in ipairs(places) do
  describe("gradients on " .. device, function()
    for _, case in ipairs(cases) do
      local name, input, f, want = table.unpack(case)
      for dtype, tol in pairs(tolerance) do
        it(("%s, %s"):format(name, dtype), function()
          local x = cld.tensor(input, { dtype = dtype, device = device }):requires_grad_()
          f(x):sum():backward()
          local got = x.grad:flatten():totable()
          for i, w in ipairs(want) do
            if not agrees(got[i], w, tol * (1 + math.abs(w))) then
              error(("element %d: %s, expected %s"):format(i, got[i], w))
            end
          end
        end)
      end
    end

    for dtype, tol in pairs(tolerance) do
      it("logsumexp of more than f16 can count, " .. dtype, function()
        local x = cld.zeros(70000, { dtype = dtype, device = device }):requires_grad_()
        local y = x:logsumexp()
        y:backward()
        assert.is_true(agrees(y:item(), math.log(70000), 10 * tol))
        assert.is_true(agrees(x.grad[70000]:item(), 1 / 70000, 0.004 / 70000))
      end)
    end

    it("amax of more equals than f16 can count", function()
      local x = cld.ones(70000, { dtype = "f16", device = device }):requires_grad_()
      x:amax(1):backward(cld.tensor(70000 / 4, { dtype = "f16", device = device }))
      assert.equal(0.25, x.grad[1]:item())
      assert.equal(0.25, x.grad[70000]:item())
    end)
  end)

  describe("division on " .. device, function()
    -- Of the exact quotient, as Python's and PyTorch's.
    local quotients = {
      { -2.3, inf, -1 }, { 2.3, inf, 0 }, { 2.3, -inf, -1 }, { 0, inf, 0 }, { 1, 0.1, 9 }, { 6, 0.1, 59 },
      { -1, 0.1, -10 }, { 7, -2, -4 }, { inf, 2, nan }, { 1, 0, inf }, { -1, 0, -inf }, { nan, 1, nan },
      { 1e30, 1e-9, inf },
    }
    for _, q in ipairs(quotients) do
      it(("floor of %s / %s"):format(q[1], q[2]), function()
        local a, b = cld.tensor({ q[1] }, { device = device }), cld.tensor({ q[2] }, { device = device })
        assert.is_true(agrees((a // b):item(), q[3], 0))
      end)
    end

    for dtype in pairs(tolerance) do
      it("a quotient between 0 and 1 has the floor 0, not -0, " .. dtype, function()
        local function signs(values) return (1 / cld.tensor(values, { dtype = dtype, device = device })):totable() end
        local a = cld.tensor({ -1, -0.1, 1 }, { dtype = dtype, device = device })
        assert.same(signs { 0, 0, 0 }, (1 / (a // cld.tensor({ -2.5, -inf, 3 }, { dtype = dtype, device = device })))
          :totable())
        assert.same(signs { 0, 0 }, (1 / (a:narrow(1, 1, 2) // -2)):totable())
      end)
    end

    it("the quotient and the remainder make the dividend", function()
      for _, q in ipairs { { -2.3, 0.7 }, { 5, -0.3 }, { 100, 7 }, { -1e-3, 1e3 } } do
        local a, b = cld.tensor({ q[1] }, { dtype = "f64", device = device }), q[2]
        assert.is_true(math.abs(((a // b) * b + a % b):item() - q[1]) <= 1e-12)
      end
    end)
  end)
end
