--- softmax, log_softmax, cross_entropy, normalize: gradients, every dimension, long lines, extremes, errors.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"
local values = formula.waves

for _, name in ipairs { "softmax", "log_softmax", "normalize" } do
  describe(name, function()
    it("gradients along every dimension, of permuted and cut inputs, 0-d", function()
      for _, dim in ipairs { 1, 2, 3, -1 } do
        check.gradcheck(function(x) return x[name](x, dim) end, { values(3, 4, 2) })
      end
      check.gradcheck(function(x) return x[name](x:t(), 2) end, { values(3, 4) })
      check.gradcheck(function(x) return x[name](x:narrow(2, 2, 2), 1) end, { values(3, 4) })
      check.gradcheck(function(x) return x[name](x) end, { values(5) })
      for _, shape in ipairs { {}, { 0, 3 }, { 3, 0 } } do
        local x = cld.zeros(shape)
        assert.same(shape, x[name](x).shape)
      end
    end)
    it("f32, bf16 and f16 agree with f64, forward and backward, on lines of several pieces", function()
      for _, case in ipairs { { "f32", 1e-5 }, { "bf16", 2e-2 }, { "f16", 3e-3 } } do
        local dtype, tolerance = case[1], case[2]
        for _, shape in ipairs { { 3, 2500 }, { 40, 1000 }, { 5, 17 } } do
          local base = values(table.unpack(shape)):to(dtype)
          local function run(x)
            x = x:detach():clone():requires_grad_()
            local out = x[name](x, 2)
            out:backward(values(table.unpack(shape)):to(x.dtype))
            return out:to("f64"), x.grad:to("f64")
          end
          local out, grad = run(base)
          local expected, expected_grad = run(base:to("f64"))
          check.close(out, expected, { atol = tolerance, rtol = tolerance })
          check.close(grad, expected_grad, { atol = tolerance, rtol = tolerance })
        end
      end
    end)
    it("refuses integers and dimensions that are not there", function()
      check.fails(function() local x = cld.ones(2, { dtype = "i64" }) return x[name](x) end,
        name .. ": expected a floating point tensor, got i64%[2%]")
      check.fails(function() local x = cld.ones(2) return x[name](x, 2) end, "dimension 2 of f32%[2%]")
    end)
  end)
end

describe("log_softmax", function()
  it("loses nothing to an offset that all values share", function()
    local labels = cld.tensor({ 0, 3, 6 }, "i64")
    for _, offset in ipairs { 0, 1e2, 1e4, 1e6, 1e7, -1e7 } do
      local x = (values(3, 7) * 4 + offset):to "f32" -- its rounding is that of both
      local exact = x:to "f64"
      check.close(x:log_softmax(2), exact:log_softmax(2), { atol = 2e-6, rtol = 0 })
      check.close(cld.cross_entropy(x, labels), cld.cross_entropy(exact, labels), { atol = 2e-6, rtol = 0 })
    end
  end)
end)

describe("cross_entropy", function()
  it("reduces and smooths as asked", function()
    local x, labels = values(4, 5), cld.tensor({ 4, 0, 2, 2 }, "i64")
    for i, s in ipairs { 0, 0.1, 1 } do
      local temperature = ({ 0.2, 1, 3 })[i]
      local log_p = (x / temperature):log_softmax(2)
      local each = -(log_p:gather(2, labels:unsqueeze(2)):squeeze(2) * (1 - s) + log_p:mean(2) * s)
      for reduction, expected in pairs { none = each, sum = each:sum(), mean = each:mean() } do
        local function loss(logits)
          return cld.cross_entropy(logits, labels,
            { reduction = reduction, label_smoothing = s, temperature = temperature })
        end
        check.close(loss(x), expected)
        check.gradcheck(loss, { x })
      end
    end
  end)
  local labels = cld.tensor({ 2, 0, 4, 2 }, "i64")
  it("is the mean of -log_softmax at the label, with its gradient", function()
    local x = values(4, 5)
    local by_hand = -x:log_softmax(2):gather(2, labels:unsqueeze(2)):mean()
    check.close(cld.cross_entropy(x, labels), by_hand:item())
    check.gradcheck(function(logits) return cld.cross_entropy(logits, labels) end, { x })
    check.gradcheck(function(logits) return cld.cross_entropy(logits, labels) * 3 end, { x })
    check.gradcheck(function(logits) return cld.cross_entropy(logits:t(), labels) end, { values(5, 4) })
  end)
  it("takes rows of several pieces, of one class, none, and more than one use", function()
    local long = values(3, 2500)
    local at = cld.tensor({ 0, 2499, 1024 }, "i64")
    local function by_hand(x) return -x:log_softmax(2):gather(2, at:unsqueeze(2)):mean() end
    local x, y = long:detach():requires_grad_(), long:detach():requires_grad_()
    local loss = cld.cross_entropy(x, at)
    check.close(loss, by_hand(y))
    loss:backward()
    by_hand(y):backward()
    check.close(x.grad, y.grad)
    local one = values(4, 1):requires_grad_()
    local none_to_learn = cld.cross_entropy(one, cld.zeros({ 4 }, "i64"), { label_smoothing = 0.3 })
    none_to_learn:backward()
    check.close(none_to_learn, 0)
    check.close(one.grad, cld.zeros(4, 1))
    check.gradcheck(function(logits)
      local silent = cld.no_grad(function() return cld.cross_entropy(logits, labels) end)
      assert.is_false(silent.requires_grad)
      return cld.cross_entropy(logits, labels) * 2 + cld.cross_entropy(logits, labels, { reduction = "none" }):square()
        + silent * 0
    end, { values(4, 5) })
    local rows, absent = cld.zeros({ 0, 3 }), cld.zeros({ 0 }, "i64")
    assert.same({ 0 }, cld.cross_entropy(rows, absent, { reduction = "none" }).shape)
    check.close(cld.cross_entropy(rows, absent, { reduction = "sum" }), 0)
    check.close(cld.cross_entropy(rows, absent), 0 / 0, { nan = true })
  end)
  it("tells the share of rows whose label argmax would choose, and none with a NaN", function()
    local inf, nan = math.huge, 0 / 0
    local rows = { { 1, 3, 3 }, { 1, 3, 3 }, { nan, 5, nan }, { nan, 5, nan }, { 0, nan, 9 }, { inf, inf, 0 },
      { -inf, -inf, -inf }, { -inf, -inf, -inf }, { 2, 1, 0 } }
    local at = cld.tensor({ 1, 2, 0, 2, 2, 0, 0, 1, 0 }, "i64")
    for _, dtype in ipairs { "f32", "f64", "bf16", "f16" } do
      local x = cld.tensor(rows):to(dtype)
      for i = 1, #rows do
        local row, label = x:narrow(1, i, 1), at:narrow(1, i, 1)
        local _, accuracy = cld.cross_entropy(row, label, { accuracy = true })
        local hit = row:argmax(2):eq(label):double():mean():float()
        check.close(accuracy, row:isnan():any():item() == 0 and hit or 0)
      end
      local loss, accuracy = cld.cross_entropy(x, at, { accuracy = true, reduction = "none" })
      assert.same({ 9 }, loss.shape)
      assert.equal("f32", accuracy.dtype)
      check.close(accuracy, 4 / 9, { atol = 1e-6 })
    end
    local long = values(1, 3000)
    for _, label in ipairs { 0, 1500, 2999, long:argmax():item() } do
      local _, accuracy = cld.cross_entropy(long, cld.tensor({ label }, "i64"), { accuracy = true })
      check.close(accuracy, label == long:argmax():item() and 1 or 0)
    end
  end)
  it("f32, bf16 and f16 agree with f64, forward and backward", function()
    for _, case in ipairs { { "f32", 1e-5 }, { "bf16", 2e-2 }, { "f16", 3e-3 } } do
      for _, shape in ipairs { { 3, 2500 }, { 40, 1000 }, { 5, 17 } } do
        local base, at = values(table.unpack(shape)):to(case[1]), cld.arange(0, shape[1]) * 3
        local function run(x)
          x = x:detach():clone():requires_grad_()
          local loss = cld.cross_entropy(x, at:to "i64", { label_smoothing = 0.1 })
          loss:backward()
          return loss:to "f64", x.grad:to "f64" * shape[1]
        end
        local loss, grad = run(base)
        local expected, expected_grad = run(base:to "f64")
        check.close(loss, expected, { atol = case[2], rtol = case[2] })
        check.close(grad, expected_grad, { atol = case[2], rtol = case[2] })
      end
    end
  end)
  it("stays finite for large logits", function()
    local x = cld.tensor({ { 1e4, 0 }, { -1e4, 0 } }):requires_grad_()
    local loss = cld.cross_entropy(x, cld.tensor({ 1, 1 }, "i64"))
    check.close(loss:item(), 5000)
    loss:backward()
    check.close(x.grad, { { 0.5, -0.5 }, { 0, 0 } })
  end)
  it("names the row and the label that does not exist", function()
    check.fails(function() cld.cross_entropy(cld.ones(3, 5), cld.tensor({ 0, 5, 1 }, "i64")) end,
      "cross_entropy: the label of row 2 is 5; expected 0 to 4")
    check.fails(function() cld.cross_entropy(cld.ones(3, 5), cld.tensor({ 0, 1, -1 }, "i64")) end,
      "cross_entropy: the label of row 3 is %-1; expected 0 to 4")
    check.fails(function() cld.cross_entropy(cld.ones(3, 5), cld.tensor({ 0, 1 }, "i64")) end,
      "expected logits %(n, classes%) and i64 labels %(n%), or .*, got f32%[3, 5%] and i64%[2%]")
    check.fails(function() cld.cross_entropy(cld.ones(3, 5), cld.ones(3)) end, "got f32%[3, 5%] and f32%[3%]")
    local function fails(options, pattern)
      check.fails(function() cld.cross_entropy(cld.ones(2, 5), cld.tensor({ 0, 1 }, "i64"), options) end, pattern)
    end
    fails({ smoothing = 1 }, "did you mean 'label_smoothing'")
    fails({ label_smoothing = 2 }, "must be from 0 to 1, got 2")
    fails({ temperature = 0 }, "the temperature is 0; expected a number above 0")
    fails({ reduction = "max" }, "'mean', 'sum' or 'none', got 'max'")
    fails("sum", "table expected")
  end)
end)

describe("normalize", function()
  it("gives unit rows; a zero row stays zero and gets no gradient", function()
    local x = cld.tensor({ { 3, 4 }, { 0, 0 } }, "f64"):requires_grad_()
    local y = x:normalize()
    check.close(y, { { 0.6, 0.8 }, { 0, 0 } })
    y:backward(cld.tensor({ { 1, 0 }, { 1, 1 } }, "f64"))
    check.close(x.grad, { { 0.128, -0.096 }, { 0, 0 } })
    check.close(values(100, 128):to("f32"):normalize():norm(2, 2), cld.ones(100))
    assert.is_true(values(3, 4):normalize(1):is_contiguous())
  end)
  it("takes rows of any size that f32 has", function()
    for _, scale in ipairs { 1e-36, 1e-30, 1e-20, 1, 1e19, 1e30, 1e38 } do
      local x = (values(5, 40) * scale):to("f32"):requires_grad_()
      local exact = x:detach():to("f64"):requires_grad_()
      local y, expected = x:normalize(), exact:normalize()
      check.close(y, expected, { atol = 1e-6 })
      if scale < 1e38 then -- the norm, and the gradient, are ones that f32 has
        local dy = values(5, 40):flip(1) * math.min(scale, 1)
        y:backward(dy:to "f32")
        expected:backward(dy)
        check.close(x.grad:to "f64" * math.max(scale, 1), exact.grad * math.max(scale, 1), { atol = 1e-5, rtol = 1e-5 })
      end
    end
  end)
end)
