--- What PyTorch users write without thinking.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"

local inf = math.huge

for _, device in ipairs { "cpu", table.unpack(devices.names) } do
  describe("on " .. device, function()
    local function i64(...) return cld.tensor({ ... }, { dtype = "i64", device = device }) end
    local function f64(values) return cld.tensor(values, { dtype = "f64", device = device }) end
    local function counting(...) return cld.arange(1, 1 + cld.ones(...):numel()):to(device):double():reshape { ... } end
    local function matrix() return f64 { { 1, 2, 3 }, { 4, 5, 6 } } end

    describe("cat", function()
      it("leaves out the empty list that a loop begins with", function()
        local grown = cld.zeros({ 0 }, { device = device })
        for i = 1, 2 do grown = cld.cat({ grown, cld.full({ 1, 2 }, i, { device = device }) }, 1) end
        assert.same({ { 1, 1 }, { 2, 2 } }, grown:totable())
        local none = cld.zeros({ 0 }, { device = device })
        assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, cld.cat({ matrix(), none }, 2):totable())
      end)
      it("of nothing but empty lists is empty", function()
        assert.same({ 0 }, cld.cat({ cld.zeros(0), cld.zeros(0) }).shape)
      end)
      it("promotes dtypes", function()
        assert.equal("f64", cld.cat({ i64(1), f64 { 0.5 } }).dtype)
        assert.equal("f32", cld.cat({ i64(1), cld.zeros({ 0 }, { device = device }) }).dtype)
        assert.same({ 1, 0.5 }, cld.cat({ i64(1), f64 { 0.5 } }):totable())
        assert.equal("f64", cld.stack({ i64(1), f64 { 0.5 } }).dtype)
      end)
      it("has each input's gradient in its own dtype", function()
        local a, b = f64({ 1 }):requires_grad_(), f64({ 2 }):float():requires_grad_()
        local y = cld.cat { a, b } * f64 { 3, 5 }
        y:sum():backward()
        assert.same({ { 3 }, { 5 }, "f64", "f32" }, { a.grad:totable(), b.grad:totable(), a.grad.dtype, b.grad.dtype })
      end)
    end)

    it("logsumexp of nothing is -inf", function()
      assert.same({ -inf, -inf, -inf }, cld.zeros({ 0, 3 }, { device = device }):logsumexp(1):totable())
      assert.same({ { -inf }, { -inf } }, cld.zeros({ 2, 0 }, { device = device }):logsumexp(2, true):totable())
      assert.same({}, cld.zeros({ 0, 3 }, { device = device }):logsumexp(2):totable())
    end)

    it("t() of a vector and of a number is itself", function()
      assert.same({ 1, 2 }, f64({ 1, 2 }):t():totable())
      assert.equal(3, f64({ 3 })[1]:t():item())
    end)

    describe("positions from the end", function()
      it("in t[i], narrow and select", function()
        assert.same({ 4, 5, 6 }, matrix()[-1]:totable())
        assert.same({ 4, 5, 6 }, matrix():select(1, -1):totable())
        assert.same({ { 2, 3 }, { 5, 6 } }, matrix():narrow(2, -2, 2):totable())
        assert.equal(6, matrix()[{ -1, -1 }]:item())
      end)
      it("in ranges", function()
        assert.same({ { 2, 3 }, { 5, 6 } }, matrix()[{ {}, { -2, -1 } }]:totable())
        assert.same({ { 1, 2 }, { 4, 5 } }, matrix()[{ {}, { 1, -2 } }]:totable())
      end)
      it("in assignments", function()
        local x = matrix()
        x[-1] = 0
        x[{ 1, { -2, -1 } }] = 7
        assert.same({ { 1, 7, 7 }, { 0, 0, 0 } }, x:totable())
      end)
      it("too far", function()
        check.fails(function() return matrix()[{ {}, -4 }] end,
          "index %-4 of dimension 2 of f64%[2, 3%]; expected 1 to 3, or %-3 to %-1")
        check.fails(function() return matrix():select(2, -4) end, "select: position %-4 of dimension 2")
        check.fails(function() return matrix():select(2, 0) end, "select: position 0 of dimension 2")
        check.fails(function() return matrix():narrow(2, -1, 2) end, "narrow: 2 from position %-1 leave dimension 2")
      end)
    end)

    describe("steps", function()
      it("read every second", function()
        assert.same({ { 1, 3 }, { 4, 6 } }, matrix()[{ {}, { 1, 3, 2 } }]:totable())
        assert.same({ 1, 4, 7 }, counting(8)[{ { 1, -1, 3 } }]:totable())
      end)
      it("have the gradient", function()
        check.gradcheck(function(x) return x[{ {}, { 2, -1, 2 } }] end, { counting(2, 6):cpu() }, { device = device })
      end)
      it("write", function()
        local x = matrix()
        x[{ {}, { 1, 3, 2 } }] = 0
        assert.same({ { 0, 2, 0 }, { 0, 5, 0 } }, x:totable())
      end)
      it("below 1 are refused", function()
        check.fails(function() return matrix()[{ { 1, 2, 0 } }] end, "index 1: the step is 0")
        check.fails(function() return matrix()[{ { 1, 2, 3, 4 } }] end, "a range is {first, last}")
      end)
    end)

    describe("negative integers in index tensors count from the end", function()
      it("alone, beside a range and beside each other", function()
        assert.same({ { 4, 5, 6 }, { 1, 2, 3 } }, matrix()[i64(-1, 0)]:totable())
        assert.same({ { 3, 1 }, { 6, 4 } }, matrix()[{ {}, i64(-1, 0) }]:totable())
        assert.same({ 6, 1 }, matrix()[{ i64(-1, 0), i64(-1, -3) }]:totable())
        assert.same({ 6 }, matrix()[{ i64(0, 1):eq(1), i64(-1) }]:totable())
      end)
      it("in assignments", function()
        local x = matrix()
        x[i64(-1)] = 0
        x[{ i64(-2), i64(-1) }] = 9
        assert.same({ { 1, 2, 9 }, { 0, 0, 0 } }, x:totable())
      end)
      it("with the gradient", function()
        local x = matrix():requires_grad_()
        x[{ {}, i64(-1, 2, -3) }]:sum():backward()
        assert.same({ { 1, 0, 2 }, { 1, 0, 2 } }, x.grad:totable())
      end)
      it("too far is an error that names what was written", function()
        check.fails(function() return matrix()[i64(-3)]:sum():item() end, "%-3")
        check.fails(function() return matrix()[{ i64(0), i64(-4) }]:sum():item() end, "%-4")
      end)
      it("but not in gather and index_select, as in PyTorch", function()
        check.fails(function() return matrix():index_select(1, i64(-1)):sum():item() end, "%-1")
        check.fails(function() return matrix():gather(2, i64(-1, -1):unsqueeze(2)):sum():item() end, "%-1")
      end)
    end)

    -- The shapes and values are PyTorch's.
    describe("several index tensors", function()
      it("choose one element for each pair", function()
        assert.same({ 3, 4 }, matrix()[{ i64(0, 1), i64(2, 0) }]:totable())
      end)
      it("broadcast", function()
        assert.same({ { 1, 3 }, { 4, 6 } }, matrix()[{ i64(0, 1):unsqueeze(2), i64(0, 2) }]:totable())
      end)
      it("stand where the indexed dimensions stood, side by side", function()
        assert.same({ 2, 2 }, counting(2, 3, 4)[{ {}, i64(0, 1), i64(1, 3) }].shape)
        assert.same({ { 2, 8 }, { 14, 20 } }, counting(2, 3, 4)[{ {}, i64(0, 1), i64(1, 3) }]:totable())
      end)
      it("come first where a dimension lies between", function()
        assert.same({ { 1, 5, 9 }, { 16, 20, 24 } }, counting(2, 3, 4)[{ i64(0, 1), {}, i64(0, 3) }]:totable())
      end)
      it("beside positions and ranges", function()
        assert.same({ { 1, 4 }, { 5, 8 }, { 9, 12 } }, counting(2, 3, 4)[{ 1, {}, i64(0, 3) }]:totable())
        assert.same({ { 5, 6 }, { 17, 18 } }, counting(2, 3, 4)[{ i64(0, 1), 2, { 1, 2 } }]:totable())
      end)
      it("one of two dimensions", function()
        assert.same({ 2, 2, 2, 4 }, counting(2, 3, 4)[{ {}, i64(0, 1, 2, 0):reshape(2, 2) }].shape)
      end)
      it("with a mask among them", function()
        assert.same({ { 2, 3 }, { 5, 6 } }, matrix()[{ {}, i64(0, 1, 1):eq(1) }]:totable())
        assert.same({ 5 }, matrix()[{ i64(1), i64(0, 1, 0):eq(1) }]:totable())
      end)
      it("have the gradient, summed where an element comes twice", function()
        check.gradcheck(function(x) return x[{ i64(0, 1, 1), i64(2, 0, 0) }]:square() end, { counting(2, 3):cpu() },
          { device = device })
        check.gradcheck(function(x) return x[{ i64(0, 1), {}, i64(0, 3) }] end, { counting(2, 3, 4):cpu() },
          { device = device })
        check.gradcheck(function(x) return x[{ {}, i64(0, 1), i64(1, 3) }] end, { counting(2, 3, 4):cpu() },
          { device = device })
      end)
      it("write", function()
        local x = matrix()
        x[{ i64(0, 1), i64(2, 0) }] = f64 { 7, 8 }
        assert.same({ { 1, 2, 7 }, { 8, 5, 6 } }, x:totable())
        x[{ i64(0, 1), i64(1, 1) }] = 0
        assert.same({ { 1, 0, 7 }, { 8, 0, 6 } }, x:totable())
      end)
      it("write where the indexed dimensions come last", function()
        local x = counting(2, 2, 2)
        x[{ {}, i64(0, 1), i64(1, 1) }] = f64 { { 10, 20 }, { 30, 40 } }
        assert.same({ { { 1, 10 }, { 3, 20 } }, { { 5, 30 }, { 7, 40 } } }, x:totable())
      end)
      it("write through one tensor beside a range", function()
        local x = matrix()
        x[{ { 1, 2 }, i64(2, 0) }] = f64 { 8, 9 }
        assert.same({ { 9, 2, 8 }, { 9, 5, 8 } }, x:totable())
      end)
      it("write into a view", function()
        local x = matrix()
        x:t()[{ i64(0, 2), i64(1, 0) }] = 0
        assert.same({ { 1, 2, 0 }, { 0, 5, 6 } }, x:totable())
      end)
      it("each checked against its own dimension", function()
        check.fails(function() return matrix()[{ i64(0), i64(3) }]:sum():item() end, "3")
        check.fails(function() return matrix()[{ i64(0, 1), i64(0, 1, 2) }] end, "do not broadcast")
        check.fails(function() return matrix()[{ i64(0), i64(0), i64(0) }] end, "index 3 of f64%[2, 3%]")
        check.fails(function() return matrix()[{ i64(0):float(), 1 }] end, "index 1: the index must be i64, got f32")
        check.fails(function() return matrix()[{ {}, i64(1, 0):eq(1) }] end, "index 2: the mask u8%[2%] does not fit")
      end)
      it("a source that does not fit", function()
        check.fails(function() matrix()[{ i64(0, 1), i64(0, 1) }] = f64 { 1, 2, 3 } end, "do not broadcast")
      end)
    end)

    it("roll without a dimension goes over all elements", function()
      assert.same({ { 6, 1, 2 }, { 3, 4, 5 } }, matrix():roll(1):totable())
    end)
    it("roll and flip of several dimensions", function()
      assert.same({ { 6, 4, 5 }, { 3, 1, 2 } }, matrix():roll({ 1, 1 }, { 1, 2 }):totable())
      assert.same({ { 6, 5, 4 }, { 3, 2, 1 } }, matrix():flip({ 1, 2 }):totable())
      check.fails(function() matrix():roll({ 1, 2 }, 1) end, "a dimension for each shift")
    end)

    it("uniform_ and normal_ fill no integers", function()
      for _, dtype in ipairs { "i64", "i32", "u8" } do
        local x = cld.zeros({ 2 }, { dtype = dtype, device = device })
        check.fails(function() x:uniform_(0, 9) end, "uniform_: expected a floating point tensor, got " .. dtype)
        check.fails(function() x:normal_() end, "normal_: expected a floating point tensor, got " .. dtype)
      end
    end)

    it("clamp{min =, max =}", function()
      assert.same({ 2, 2, 3 }, f64({ 1, 2, 3 }):clamp({ min = 2 }):totable())
      assert.same({ 1, 2, 2 }, f64({ 1, 2, 3 }):clamp({ max = 2 }):totable())
      check.fails(function() f64({ 1 }):clamp { low = 1 } end, "clamp: unknown field 'low'")
    end)

    it("squeeze of several dimensions", function()
      local x = counting(1, 2, 1, 1)
      assert.same({ 2, 1 }, x:squeeze({ 1, 3 }).shape)
      assert.same({ 1, 2, 1 }, x:squeeze({ 2, -1 }).shape)
      assert.same({ 2 }, x:squeeze().shape)
      check.gradcheck(function(t) return t:squeeze({ 1, 4 }) end, { x:cpu() }, { device = device })
      check.fails(function() x:squeeze { 9 } end, "squeeze")
    end)

    it("isinf, of integers too", function()
      assert.same({ 1, 1, 0, 0 }, f64({ inf, -inf, 0 / 0, 1 }):isinf():totable())
      assert.same({ 0, 0 }, i64(math.mininteger, math.maxinteger):isinf():totable())
    end)

    it("masked_fill_", function()
      local x = f64 { 1, 2, 3 }
      assert.same({ 1, 0, 0 }, x:masked_fill_(x:gt(1), 0):totable())
      assert.same({ 1, 0, 0 }, x:totable())
      check.fails(function() i64(1):masked_fill_(i64(1):eq(1), 0.5) end, "masked_fill_: the result is f32")
    end)

    it("dim()", function() assert.equal(2, matrix():dim()) end)
  end)
end
