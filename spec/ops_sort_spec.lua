--- sort and topk: stable, NaN largest, every dtype and dimension, partial selection against the whole sort.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"
local nan = 0 / 0
local values = formula.waves

it("gradients flow to where the values came from", function()
  for dim = 1, 3 do
    check.gradcheck(function(x) return (x:sort(dim)) end, { values(3, 4, 2) })
    check.gradcheck(function(x) return (x:topk(2, dim)) end, { values(3, 4, 2) })
    check.gradcheck(function(x) return (x:topk(2, dim, false)) end, { values(3, 4, 2) })
  end
  check.gradcheck(function(x) return (x:t():sort(1, true)) end, { values(3, 4) })
  local value, at = cld.tensor(3.0):sort()
  assert.equal(3, value:item())
  assert.equal(0, at:item())
end)

it("every dtype, both directions; equals keep their order", function()
  for _, dtype in ipairs { "f32", "f64", "bf16", "f16", "i64", "i32", "u8" } do
    local x = cld.tensor({ 3, 1, 2, 3, 1, 200 }, dtype)
    local up, at = x:sort()
    assert.same({ 1, 1, 2, 3, 3, 200 }, up:totable(), dtype)
    assert.same({ 1, 4, 2, 0, 3, 5 }, at:totable(), dtype)
    local down, from = x:sort(1, true)
    assert.same({ 200, 3, 3, 2, 1, 1 }, down:totable(), dtype)
    assert.same({ 5, 0, 3, 2, 1, 4 }, from:totable(), dtype)
    local best, places = x:topk(2)
    assert.same({ 200, 3 }, best:totable())
    assert.same({ 5, 0 }, places:totable())
    assert.equal(dtype, best.dtype)
    assert.equal("i64", places.dtype)
  end
  local x = cld.tensor({ -5, 7, math.mininteger, math.maxinteger, 0 }, "i64")
  assert.same({ math.mininteger, -5, 0, 7, math.maxinteger }, (x:sort()):totable())
end)

it("NaN is the largest, -0 equals 0, infinities stand at the ends", function()
  local x = cld.tensor { nan, 1, -math.huge, 0, -0.0, math.huge, -1, nan }
  local _, at = x:sort()
  assert.same({ 2, 6, 3, 4, 1, 5, 0, 7 }, at:totable())
  _, at = x:sort(1, true)
  assert.same({ 0, 7, 5, 1, 3, 4, 6, 2 }, at:totable())
  _, at = x:topk(3)
  assert.same({ 0, 7, 5 }, at:totable())
end)

it("topk is the start of the sort, for many lengths, k and ties", function()
  for _, n in ipairs { 1, 2, 15, 16, 17, 33, 100, 1025 } do
    local x = (values(3, n) * 8):floor() -- many ties
    for _, largest in ipairs { true, false } do
      local all, all_at = x:sort(2, largest)
      for _, k in ipairs { 0, 1, n // 2, n - 1, n } do
        local some, some_at = x:topk(k, 2, largest)
        assert.same(all:narrow(2, 1, k):totable(), some:totable())
        assert.same(all_at:narrow(2, 1, k):totable(), some_at:totable())
      end
      check.close(x:gather(2, all_at), all, { atol = 0, rtol = 0 })
    end
  end
end)

it("long and many lines", function()
  local x = cld.randn(40, 3000)
  local sorted, at = x:sort(2)
  assert.is_true((sorted:narrow(2, 2, 2999) - sorted:narrow(2, 1, 2999)):amin():item() >= 0)
  check.close(x:gather(2, at), sorted, { atol = 0, rtol = 0 })
  local across, across_at = x:t():contiguous():topk(50, 1)
  local along, along_at = x:topk(50, 2)
  check.close(across:t(), along, { atol = 0, rtol = 0 })
  check.close(across_at:t(), along_at)
end)

it("empty tensors and errors", function()
  assert.same({ 0, 3 }, (cld.ones(0, 3):sort(1)).shape)
  assert.same({ 0, 2 }, (cld.ones(0, 3):topk(2, 2)).shape)
  check.fails(function() cld.ones(2, 3):topk(4, 2) end, "topk: k = 4, but dimension 2 of f32%[2, 3%] has 3 elements")
  check.fails(function() cld.ones(2, 3):topk(-1) end, "topk: k = %-1")
  check.fails(function() cld.ones(2, 3):sort(3) end, "dimension 3 of f32%[2, 3%]")
end)

it("options that are no flags are refused", function()
  local x = cld.tensor { 2, 1, 3 }
  for _, f in ipairs { function() x:sort(1, { descending = true }) end, function() x:sort(1, "desc") end,
    function() x:argsort(1, 1) end, function() x:topk(1, 1, 0) end } do
    check.fails(f, "boolean expected")
  end
  check.fails(function() x:sort { descending = true } end, "number expected, got table")
  check.fails(function() x:topk(1, 1, true, true) end, "surplus argument")
end)
