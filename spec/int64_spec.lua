--- Integers that no double can hold, 2^53 + 1 and beyond, stay exact: in operations with numbers, when tensors are
-- created, and in print.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"

local B, most, least = (1 << 53) + 1, math.maxinteger, math.mininteger

for _, device in ipairs { "cpu", table.unpack(devices.names) } do
  describe("integers beyond 2^53 on " .. device, function()
    local function i64(...) return cld.tensor({ ... }, { dtype = "i64", device = device }) end

    -- { what, f, the elements of its result }
    local cases = {
      { "x + s", function() return i64(1, -1) + B end, { B + 1, B - 1 } },
      { "s + x", function() return B + i64(1, -1) end, { B + 1, B - 1 } },
      { "x - s", function() return i64(0, most) - B end, { -B, most - B } },
      { "x - the least", function() return i64(-1) - least end, { most } },
      { "s - x", function() return most - i64(1, B) end, { most - 1, most - B } },
      { "x * s", function() return i64(1, 3) * B end, { B, 3 * B } },
      { "x // s", function() return i64(most, -B) // B end, { most // B, -1 } },
      { "s // x", function() return most // i64(B) end, { most // B } },
      { "x % s", function() return i64(most, -1) % B end, { most % B, B - 1 } },
      { "x ^ s", function() return i64(3) ^ 39 end, { 4052555153018976267 } },
      { "sums wrap around", function() return i64(most) + 1 end, { least } },
      { "add with alpha", function() return cld.add(i64(1), i64(1), B) end, { B + 1 } },
      { "add of a number with alpha", function() return i64(1):add(B, 3) end, { 3 * B + 1 } },
      { "add_", function() return i64(1):add_(B) end, { B + 1 } },
      { "sub_", function() return i64(1):sub_(B) end, { 1 - B } },
      { "mul_", function() return i64(-1):mul_(B) end, { -B } },
      { "clamp", function() return i64(B, most, -most):clamp(-B, B) end, { B, B, -B } },
      { "clamp from below", function() return i64(1):clamp(B, nil) end, { B } },
      { "clamp{max}", function() return i64(most):clamp { max = most - 1 } end, { most - 1 } },
      { "clamp_", function() return i64(most):clamp_(0, most - 1) end, { most - 1 } },
      { "maximum", function() return i64(0, most):maximum(B) end, { B, most } },
      { "minimum", function() return cld.minimum(B, i64(0, most)) end, { 0, B } },
      { "where", function() return cld.where(i64(1, 0):eq(1), B, i64(2, most)) end, { B, most } },
      { "masked_fill", function() return i64(1, 2):masked_fill(i64(1, 2):eq(1), most) end, { most, 2 } },
      { "fill_", function() return i64(1, 2):fill_(B) end, { B, B } },
      { "full", function() return cld.full({ 2 }, most, { dtype = "i64", device = device }) end, { most, most } },
      { "full_like", function() return cld.full_like(i64(1), least) end, { least } },
      { "assignment", function()
        local x = i64(1, 2)
        x[2] = most
        return x
      end, { 1, most } },
      { "arange", function() return cld.arange(B, B + 3, 1, { device = device }) end, { B, B + 1, B + 2 } },
      { "arange to the largest", function() return cld.arange(most - 2, most, 1, { device = device }) end,
        { most - 2, most - 1 } },
      { "arange downwards", function() return cld.arange(least + 2, least, -2, { device = device }) end,
        { least + 2 } },
      { "arange in long steps", function() return cld.arange(least, most, 1 << 62, { device = device }) end,
        { least, -(1 << 62), 0, 1 << 62 } },
      { "linspace", function() return cld.linspace(B, B + 4, 3, { dtype = "i64", device = device }) end,
        { B, B + 2, B + 4 } },
      { "linspace over all", function() return cld.linspace(least, most, 2, { dtype = "i64", device = device }) end,
        { least, most } },
      { "randint", function() return cld.randint(most - 1, most, { 2 }, { device = device }) end,
        { most - 1, most - 1 } },
      { "sum", function() return i64(B, 1):sum():reshape(1) end, { B + 1 } },
      { "prod", function() return i64(B, 3):prod():reshape(1) end, { 3 * B } },
      { "max", function() return i64(B, B - 1, B + 1):max():reshape(1) end, { B + 1 } },
      { "argmax", function() return i64(B, B - 1, B + 1):argmax():reshape(1) end, { 2 } },
      { "sort", function() return (i64(B + 1, B - 1, B):sort()) end, { B - 1, B, B + 1 } },
      { "cumsum", function() return i64(B, 1):cumsum(1) end, { B, B + 1 } },
      { "tril's diagonal", function() return i64(B, most):reshape(1, 2):triu(most):reshape(2) end, { 0, 0 } },
      { "a cast to f64 and back", function() return i64(B - 1, 1 << 62, least):double():long() end,
        { B - 1, 1 << 62, least } },
      { "a cast of what no i64 can hold", function()
        return cld.tensor({ 2.0 ^ 63, -2.0 ^ 64, 0 / 0 }, { dtype = "f64", device = device }):long()
      end, { least, least, least } },
    }
    for _, case in ipairs(cases) do
      local name, f, want = table.unpack(case)
      it(name, function() assert.same(want, f():totable()) end)
    end

    -- { comparison, number, its verdict on least, -1, 2, B, most }
    local comparisons = {
      { "eq", B, { 0, 0, 0, 1, 0 } }, { "eq", B - 1, { 0, 0, 0, 0, 0 } }, { "ne", B, { 1, 1, 1, 0, 1 } },
      { "gt", B - 1, { 0, 0, 0, 1, 1 } }, { "ge", most, { 0, 0, 0, 0, 1 } }, { "lt", most, { 1, 1, 1, 1, 0 } },
      { "le", least, { 1, 0, 0, 0, 0 } }, { "ge", 2.0 ^ 63, { 0, 0, 0, 0, 0 } }, { "lt", 2.0 ^ 63, { 1, 1, 1, 1, 1 } },
      { "gt", 1.5, { 0, 0, 1, 1, 1 } }, { "ge", 1.5, { 0, 0, 1, 1, 1 } }, { "lt", 1.5, { 1, 1, 0, 0, 0 } },
      { "le", -0.5, { 1, 1, 0, 0, 0 } }, { "eq", 1.5, { 0, 0, 0, 0, 0 } }, { "ne", 1.5, { 1, 1, 1, 1, 1 } },
      { "lt", math.huge, { 1, 1, 1, 1, 1 } }, { "gt", -math.huge, { 1, 1, 1, 1, 1 } },
      { "lt", 0 / 0, { 0, 0, 0, 0, 0 } },
      { "ne", 0 / 0, { 1, 1, 1, 1, 1 } }, { "eq", math.huge, { 0, 0, 0, 0, 0 } },
    }
    for _, case in ipairs(comparisons) do
      local name, number, want = table.unpack(case)
      it(("x:%s(%s)"):format(name, number), function()
        local x = i64(least, -1, 2, B, most)
        assert.same(want, x[name](x, number):totable())
      end)
    end

    it("a number on the left compares as on the right", function()
      assert.same({ 0, 0, 1 }, cld.lt(B - 1, i64(0, B - 1, B)):totable())
    end)

    it("< and <= between tensors of one element and numbers", function()
      assert.is_true(cld.tensor(B - 1, { dtype = "i64", device = device }) < B)
      assert.is_false(cld.tensor(B, { dtype = "i64", device = device }) <= B - 1)
    end)
  end)
end

describe("printing", function()
  local function shown(x) return (tostring(x):gsub("%s+", " ")) end
  it("one", function() assert.equal("tensor i64[] on cpu: 9007199254740993", shown(cld.tensor(B, "i64"))) end)
  it("several, with their least and largest", function()
    assert.equal(("tensor i64[3] on cpu min %d, max %d %d %d %d"):format(least, most, B, most, least),
      shown(cld.tensor({ B, most, least }, "i64")))
  end)
  it("in columns as wide as the longest", function()
    assert.equal("tensor i64[2, 2] on cpu\nmin -5, max 9007199254740993\n" ..
      "                 1  9007199254740993\n                -5                 7",
      tostring(cld.tensor({ { 1, B }, { -5, 7 } }, "i64")))
  end)
end)

describe("what does not fit", function()
  it("a sequence of more than 2^63 elements", function()
    check.fails(function() cld.arange(least, most) end, "arange: .* not a finite sequence")
  end)
  it("a float clamped into integers", function()
    check.fails(function() cld.tensor({ 5 }, "i64"):clamp_(0.5) end,
      "clamp_: the result is f32, which i64%[1%] cannot hold")
  end)
end)
