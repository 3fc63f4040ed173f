--- Rows that cross entropy leaves out (PyTorch's ignore_index), and rows without a largest logit.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"

local nan = 0 / 0

for _, device in ipairs { "cpu", table.unpack(devices.names) } do
  describe("ignored rows of cross_entropy on " .. device, function()
    local function labels(...) return cld.tensor({ ... }, { dtype = "i64", device = device }) end
    local function logits(dtype)
      return cld.tensor({ { 1, 2, 3 }, { 3, 2, 1 }, { 0, 0, 4 } }, { dtype = dtype or "f64", device = device })
    end

    for _, reduction in ipairs { "mean", "sum", "none" } do
      for _, smoothing in ipairs { 0, 0.2 } do
        it(("%s, smoothing %g: as the others alone"):format(reduction, smoothing), function()
          local options = { reduction = reduction, label_smoothing = smoothing }
          local all, some = logits():requires_grad_(), logits():index_select(1, labels(0, 2)):requires_grad_()
          local loss = all:cross_entropy(labels(2, -100, 1), options)
          local expected = some:cross_entropy(labels(2, 1), options)
          loss:sum():backward()
          expected:sum():backward()
          check.close(reduction == "none" and loss:index_select(1, labels(0, 2)) or loss, expected)
          check.close(all.grad:index_select(1, labels(0, 2)), some.grad)
          assert.same({ 0, 0, 0 }, all.grad[2]:totable())
        end)
      end
    end

    it("PyTorch's value", function()
      check.close(logits():cross_entropy(labels(0, -100, 1)), 3.221791132096287)
    end)

    it("a class of its own choice", function()
      check.close(logits():cross_entropy(labels(0, 2, 2), { ignore_index = 2 }), 2.4076059644443806)
    end)

    it("each row of its own: 0", function()
      assert.equal(0, logits():cross_entropy(labels(0, -100, 1), { reduction = "none" })[2]:item())
    end)

    it("NaN where all are ignored, and no gradient", function()
      local x = logits():requires_grad_()
      local loss = x:cross_entropy(labels(-100, -100, -100))
      loss:backward()
      assert.is_true(loss:item() ~= loss:item())
      assert.equal(0, x.grad:abs():sum():item())
    end)

    it("the sum where all are ignored is 0", function()
      assert.equal(0, logits():cross_entropy(labels(-100, -100, -100), { reduction = "sum" }):item())
    end)

    it("logits of NaN in an ignored row", function()
      local x = logits()
      x[2] = nan
      x:requires_grad_()
      local loss = x:cross_entropy(labels(2, -100, 1))
      loss:backward()
      check.close(loss, 2.221791132096287)
      assert.same({ 0, 0, 0 }, x.grad[2]:totable())
    end)

    it("count in no accuracy", function()
      local _, share = logits():cross_entropy(labels(2, -100, 1), { accuracy = true })
      assert.equal(0.5, share:item())
    end)

    for _, dtype in ipairs { "f32", "f16", "bf16" } do
      it("in " .. dtype, function()
        check.close(logits(dtype):cross_entropy(labels(0, -100, 1)):float(), 3.221791132096287, { atol = 0.02 })
      end)
    end

    it("of many rows", function()
      local n = 5000
      local x = cld.randn({ n, 7 }, { device = device, dtype = "f64" })
      local at = cld.arange(n):remainder(7):to(device)
      local given = at:masked_fill(cld.arange(n):remainder(3):eq(0):to(device), -100)
      local kept = cld.arange(n):remainder(3):ne(0):to(device)
      check.close(x:cross_entropy(given), x[kept]:cross_entropy(at[kept]), { rtol = 1e-12 })
    end)

    it("of one row, and of maps, as of the rows that they are", function()
      local x, at = logits(), labels(2, -100, 1)
      assert.equal(x[{ { 1, 1 } }]:cross_entropy(at[{ { 1, 1 } }]):item(), x[1]:cross_entropy(at[1]):item())
      assert.same({}, x[1]:cross_entropy(at[1], { reduction = "none" }).shape)
      local maps = cld.randn({ 2, 3, 2, 2 }, { device = device, dtype = "f64" }):requires_grad_()
      local where = labels(0, 1, 2, -100, 1, 1, 0, 2)
      local rows = maps:permute(1, 3, 4, 2):reshape(8, 3):detach():requires_grad_()
      for _, reduction in ipairs { "mean", "sum", "none" } do
        local options = { reduction = reduction, label_smoothing = 0.1, accuracy = true }
        local loss, share = maps:cross_entropy(where:reshape(2, 2, 2), options)
        local wanted, wanted_share = rows:cross_entropy(where, options)
        assert.same(wanted:flatten():totable(), loss:flatten():totable())
        assert.equal(wanted_share:item(), share:item())
        loss:sum():backward()
        wanted:sum():backward()
      end
      assert.same(rows.grad:totable(), maps.grad:permute(1, 3, 4, 2):reshape(8, 3):totable())
      check.fails(function() maps:cross_entropy(where) end, "or %(n, classes, ...%) and %(n, ...%), or prob")
    end)

    it("other labels out of range stay an error", function()
      check.fails(function() logits():cross_entropy(labels(0, -1, 1)):item() end, "label.* %-1")
    end)
  end)

  it("a row of cross_entropy with a NaN is no hit on " .. device, function()
    for _, classes in ipairs { 3, 5000 } do
      local x = cld.zeros({ 5, classes }, { dtype = "f32", device = device })
      x[{ {}, 1 }] = 1
      x[1], x[{ 2, 1 }], x[{ 3, classes }] = nan, nan, nan
      local at = cld.zeros({ 5 }, { dtype = "i64", device = device })
      local _, share = x:cross_entropy(at, { accuracy = true })
      check.close(share, 0.4, { rtol = 1e-6 })
    end
  end)
end
