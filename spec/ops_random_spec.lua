--- Random numbers: the generator's known answers, what a position means, distributions.
local cld = require "cld"
local check = require "spec.support.check"

describe("Philox4x32-10", function()
  it("gives the known answers of Random123", function()
    local function hex(words)
      local text = {}
      for i, word in ipairs(words) do text[i] = ("%08x"):format(word) end
      return table.concat(text, " ")
    end
    local ones = 0xffffffff
    assert.equal("6627e8d5 e169c58d bc57ac4c 9b00dbd8", hex(cld.philox({ 0, 0 }, { 0, 0, 0, 0 })))
    assert.equal("408f276d 41c83b0e a20bc7c6 6d5451fd", hex(cld.philox({ ones, ones }, { ones, ones, ones, ones })))
    assert.equal("d16cfe09 94fdcceb 5001e420 24126ea1",
      hex(cld.philox({ 0xa4093822, 0x299f31d0 }, { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 })))
  end)
  it("is what uniform draws: element i takes words 2 (i mod 2) and the next of block i / 2", function()
    cld.manual_seed(5)
    local drawn = cld.rand(4):totable()
    for i = 0, 3 do
      local words = cld.philox({ 5, 0 }, { i // 2, 0, 0, 0 })
      assert.equal((words[2 * (i % 2) + 1] >> 8) / 2 ^ 24, drawn[i + 1])
    end
  end)
end)

describe("the generator", function()
  it("is a position in a sequence: the same numbers in one call or in many, in any strides", function()
    for _, method in ipairs { "uniform_", "normal_" } do
      for _, dtype in ipairs { "f32", "f64", "bf16" } do
        local whole, first = cld.zeros(7, { dtype = dtype }), cld.zeros(3, { dtype = dtype })
        local rest = cld.zeros(2, 2, { dtype = dtype })
        cld.manual_seed(11)
        whole[method](whole)
        cld.manual_seed(11)
        first[method](first)
        local state = cld.get_rng_state()
        assert.equal(3, state.position)
        rest[method](rest)
        assert.same(whole:totable(), cld.cat({ first, rest:reshape(4) }, 1):totable())
        local columns = cld.zeros(2, 2, { dtype = dtype }):t()
        cld.set_rng_state(state)
        columns[method](columns)
        assert.same(rest:totable(), columns:totable())
      end
    end
  end)
  it("differs between seeds, and repeats for one", function()
    local function draw(seed)
      cld.manual_seed(seed)
      return cld.randn(100000)
    end
    assert.same(draw(1):narrow(1, 1, 50):totable(), draw(1):narrow(1, 1, 50):totable())
    assert.is_true((draw(1) - draw(1)):abs():amax():item() == 0)
    assert.is_true((draw(1) - draw(2)):abs():mean():item() > 0.5)
  end)
end)

describe("distributions", function()
  it("uniform stays in [low, high) with the right mean and variance", function()
    cld.manual_seed(3)
    for _, dtype in ipairs { "f32", "f64" } do
      local x = cld.zeros(200000, { dtype = dtype }):uniform_(-1, 3)
      assert.is_true(x:amin():item() >= -1 and x:amax():item() < 3)
      check.close(x:mean():item(), 1, { atol = 0.02 })
      check.close(x:var():item(), 16 / 12, { atol = 0.02 })
    end
    local tight = cld.zeros(100000):uniform_(1, 1 + 2 ^ -22) -- rounding must not reach the upper end
    assert.is_true(tight:amax():item() < 1 + 2 ^ -22)
  end)
  it("normal has the right moments, no infinities, and neighbours that are not correlated", function()
    cld.manual_seed(4)
    for _, dtype in ipairs { "f32", "f64" } do
      local x = cld.zeros(200000, { dtype = dtype }):normal_(2, 3)
      assert.equal(1, x:isfinite():all():item())
      local z = (x - 2) / 3
      check.close(z:mean():item(), 0, { atol = 0.01 })
      check.close((z ^ 2):mean():item(), 1, { atol = 0.02 })
      check.close((z ^ 3):mean():item(), 0, { atol = 0.04 })
      check.close((z ^ 4):mean():item(), 3, { atol = 0.1 })
      local n = 199999
      check.close((z:narrow(1, 1, n) * z:narrow(1, 2, n)):mean():item(), 0, { atol = 0.01 })
    end
  end)
  it("errors", function()
    check.fails(function() cld.zeros(2):uniform_(1, 0) end, "uniform_: low must not be above high, got 1 and 0")
    check.fails(function() cld.zeros(2):normal_(0, -1) end, "normal_: the standard deviation must not be negative")
    check.fails(function() cld.zeros(2, { dtype = "i64" }):normal_() end, "normal_: expected a floating point tensor")
    check.fails(function() cld.zeros(2):requires_grad_():normal_() end, "normal_: cannot write in place to")
  end)
end)

it("never give the upper bound, whatever the dtype rounds to", function()
  for _, dtype in ipairs { "bf16", "f16", "f32", "f64" } do
    cld.manual_seed(5)
    for _, bounds in ipairs { { 0, 1 }, { -1, 0 }, { 3, 4 }, { -2, -1 }, { 1, 1.001 }, { 0, 1e30 } } do
      local x = cld.empty(1 << 16, dtype):uniform_(bounds[1], bounds[2])
      assert.is_true(x:max():item() < bounds[2], ("%s in [%g, %g)"):format(dtype, bounds[1], bounds[2]))
    end
    assert.is_true(cld.rand(1 << 16, dtype):max():item() < 1)
    assert.equal(3, cld.empty(4, dtype):uniform_(3, 3):max():item())
  end
end)

it("of integers fit their dtype", function()
  check.fails(function() cld.randint(0, 257, 4, "u8") end, "randint: 0 to 256 is more than u8 can hold")
  check.fails(function() cld.randint(-1, 3, 4, "u8") end, "randint: %-1 to 2 is more than u8 can hold")
  check.fails(function() cld.randint(0, 1 << 32, 4, "i32") end, "more than i32 can hold")
  check.fails(function() cld.randperm(257, "u8") end, "randperm: 0 to 256 is more than u8 can hold")
  assert.equal(4, cld.randint(0, 256, 4, "u8"):numel())
  assert.equal(256, cld.randperm(256, "u8"):numel())
  assert.equal(0, cld.randperm(0, "u8"):numel())
  assert.is_true(cld.randint(0, 256, 1000, "u8"):max():item() <= 255)
end)
