--- Reductions: gradients, every set of dimensions, accuracy, sizes, dtypes, errors.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"
local values = formula.waves

describe("gradients", function()
  local reductions = {
    sum = function(x, ...) return x:sum(...) end,
    mean = function(x, ...) return x:mean(...) end,
    prod = function(x, ...) return x:prod(...) end,
    amax = function(x, ...) return x:amax(...) end,
    amin = function(x, ...) return x:amin(...) end,
    var = function(x, dims, keepdim) return x:var(dims, true, keepdim) end,
    norm = function(x, dims, keepdim) return x:norm(2, dims, keepdim) end,
    norm1 = function(x, dims, keepdim) return x:norm(1, dims, keepdim) end,
    norm3 = function(x, dims, keepdim) return x:norm(3, dims, keepdim) end,
    largest = function(x, dims, keepdim) return x:norm(math.huge, dims, keepdim) end,
    logsumexp = function(x, ...) return x:logsumexp(...) end,
  }
  for name, reduce in pairs(reductions) do
    it(name, function()
      local x = values(2, 3, 4)
      check.gradcheck(function(t) return reduce(t) end, { x })
      for _, dims in ipairs { 1, 2, 3, -1, { 1, 3 }, { 2, 3 }, { 1, 2, 3 } } do
        check.gradcheck(function(t) return reduce(t, dims) end, { x })
        check.gradcheck(function(t) return reduce(t, dims, true) end, { x })
      end
      check.gradcheck(function(t) return reduce(t:permute(3, 1, 2), 2) end, { x })
      if name ~= "var" then check.gradcheck(function(t) return reduce(t) end, { cld.tensor(1.5, "f64") }) end
    end)
  end
  it("amax shares among equals; prod through zeros; norm of zero is 0", function()
    local x = cld.tensor({ { 1, 3, 3 }, { 5, 5, 5 } }, "f64"):requires_grad_()
    x:amax(2):sum():backward()
    check.close(x.grad, { { 0, 0.5, 0.5 }, { 1 / 3, 1 / 3, 1 / 3 } })
    local y = cld.tensor({ { 2, 0, 3 }, { 0, 0, 3 } }, "f64"):requires_grad_()
    y:prod(2):sum():backward()
    assert.same({ { 0, 6, 0 }, { 0, 0, 0 } }, y.grad:totable())
    local z = cld.zeros(2, 3, { dtype = "f64" }):requires_grad_()
    z:norm(2, 2):sum():backward()
    assert.same({ { 0, 0, 0 }, { 0, 0, 0 } }, z.grad:totable())
  end)
end)

describe("norms and logsumexp", function()
  it("of a known vector, and of what overflows", function()
    local x = cld.tensor({ 3, -4, 0 }, "f64")
    local norms = { [0] = 2, [1] = 7, [2] = 5, [3] = 91 ^ (1 / 3), [math.huge] = 4, [-math.huge] = 0 }
    for p, norm in pairs(norms) do check.close(x:norm(p), norm) end
    check.close(cld.tensor { 1000, 1000 }:logsumexp(), 1000 + math.log(2))
    check.close(cld.tensor { -1000, -1001 }:logsumexp(1, true), { -1000 + math.log(1 + math.exp(-1)) }, { rtol = 1e-6 })
    assert.equal(-math.huge, cld.tensor { -math.huge, -math.huge }:logsumexp():item())
    assert.equal(math.huge, cld.tensor { math.huge, 1 }:logsumexp():item())
    check.fails(function() return x:norm(0 / 0) end, "norm: p is")
    check.fails(function() return cld.arange(3):norm(1) end, "norm: expected a floating point tensor")
  end)
end)

describe("values", function()
  it("over every set of dimensions of odd shapes, in f32 and f64, contiguous and permuted", function()
    local x = values(3, 1, 17, 5)
    local plain = x:totable()
    for mask = 1, 15 do
      local dims, sums = {}, {}
      for d = 1, 4 do if mask >> (d - 1) & 1 == 1 then dims[#dims + 1] = d end end
      for a = 1, 3 do for b = 1, 1 do for c = 1, 17 do for d = 1, 5 do
        local at = { a, b, c, d }
        for _, reduced in ipairs(dims) do at[reduced] = 1 end
        local key = table.concat(at, ",")
        sums[key] = (sums[key] or 0) + plain[a][b][c][d]
      end end end end
      for _, dtype in ipairs { "f32", "f64" } do
        for _, input in ipairs { x:to(dtype), x:to(dtype):permute(4, 3, 2, 1):contiguous():permute(4, 3, 2, 1) } do
          local out = input:sum(dims, true)
          for key, expected in pairs(sums) do
            local at = {}
            for n in key:gmatch "%d+" do at[#at + 1] = math.tointeger(n) end
            check.close(out[at]:item(), expected, { atol = dtype == "f32" and 1e-5 or 1e-12 })
          end
        end
      end
    end
  end)
  it("long and wide sums keep their digits in f32, and are the same twice", function()
    local x = cld.full({ 3000, 1000 }, 0.1)
    local exact = 0.1 -- as f32 holds it
    exact = string.unpack("f", string.pack("f", exact))
    for _, dims in ipairs { 1, 2, { 1, 2 } } do
      local sum = x:sum(dims)
      local count = dims == 1 and 3000 or dims == 2 and 1000 or 3000000
      check.close(sum:sub(count * exact):abs():amax() / (count * exact), 0, { atol = 1e-6 })
      check.close(x:sum(dims), sum, { atol = 0, rtol = 0 })
    end
    local noise = values(100, 700):to("f32")
    check.close(noise:sum(), noise:to("f64"):sum(), { atol = 1e-4, rtol = 1e-6 })
    check.close(noise:amax(1), noise:to("f64"):amax(1))
    check.close(noise:var(2), noise:to("f64"):var(2), { atol = 1e-5 })
  end)
  it("sizes around the limits", function()
    for _, n in ipairs { 1, 15, 16, 17, 1023, 1024, 1025, 32768, 100003 } do
      local x = cld.arange(0, n, 1, { dtype = "i64" })
      assert.equal(n * (n - 1) // 2, x:sum():item())
      assert.equal(n - 1, x:amax():item())
      assert.equal(n - 1, x:to("f32"):argmax():item())
      assert.equal(0, x:argmin():item())
      assert.equal(n - 1, x:unsqueeze(2):amax(1):item())
    end
  end)
  it("dtypes", function()
    for _, dtype in ipairs { "f32", "f64", "bf16", "f16", "i64", "i32", "u8" } do
      local x = cld.tensor({ { 1, 2, 3 }, { 6, 5, 4 } }, dtype)
      local whole = dtype:match "^[iu]"
      assert.equal(whole and "i64" or dtype, x:sum().dtype)
      assert.same({ 7, 7, 7 }, x:sum(1):totable(), dtype)
      assert.same({ 6, 120 }, x:prod(2):totable(), dtype)
      assert.same({ 3, 6 }, x:amax(2):totable(), dtype)
      assert.same({ 1, 2, 3 }, x:amin(1):totable(), dtype)
      assert.equal(dtype, x:amin(1).dtype)
      assert.same({ 2, 0 }, x:argmax(2):totable(), dtype)
      assert.same({ 1, 1 }, x:any(2):totable(), dtype)
      assert.same({ 1, 1, 1 }, x:all(1):totable(), dtype)
    end
    check.close(cld.full({ 4096 }, 1, { dtype = "bf16" }):mean():to("f32"), 1)
  end)
  it("NaN wins, the first one is found", function()
    local nan = 0 / 0
    local x = cld.tensor { { 1, nan, 3, nan }, { 1, 2, 3, 3 } }
    local most = x:amax(2):totable()
    assert.is_true(most[1] ~= most[1])
    assert.equal(3, most[2])
    assert.same({ 1, 2 }, x:argmax(2):totable())
    assert.same({ 1, 0 }, x:argmin(2):totable())
  end)
  it("nothing to reduce", function()
    local empty = cld.zeros(0, 3)
    assert.same({ 0, 0, 0 }, empty:sum(1):totable())
    assert.same({ 1, 1, 1 }, empty:prod(1):totable())
    assert.same({ 0 }, empty:sum(2).shape)
    assert.equal(1, empty:all():item())
    assert.equal(0, empty:any():item())
    check.fails(function() empty:amax(1) end, "amax: no elements to choose from in f32%[0, 3%]")
    check.fails(function() empty:argmax(1) end, "argmax: no elements")
  end)
end)

it("an error about a dimension counts the arguments as they were written", function()
  local x = cld.ones(2)
  check.fails(function() local _ = x:sum(3) end, "bad argument #1 to 'sum' %(dimension 3 of f32%[2%]")
  check.fails(function() local _ = x:sum({ 1, 3 }) end, "bad argument #1 to 'sum' %(dimension 3 of f32%[2%]")
end)

it("errors", function()
  check.fails(function() cld.ones(2):sum(3) end, "dimension 3 of f32%[2%]")
  check.fails(function() cld.tensor({ 1, 2 }, "i64"):mean() end, "mean: expected a floating point tensor, got i64%[2%]")
  check.fails(function() cld.ones(2, 2):sum({ 1, 1 }) end, "twice")
end)
