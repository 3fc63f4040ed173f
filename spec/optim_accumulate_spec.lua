--- A step from several losses (begin, add, finish), the gradients' norm and clipping, and both in fp16.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"

local everywhere = { "cpu", table.unpack(devices.names) }
local exact = { atol = 0, rtol = 0 }

local function in_fp16(f)
  local was = cld.set_precision "fp16"
  local _ <close> = setmetatable({}, { __close = function() cld.set_precision(was) end })
  return f()
end

local function parameter(values, device, dtype) return cld.tensor(values, dtype):to(device):requires_grad_() end

for _, device in ipairs(everywhere) do
  describe("a step from several losses, on " .. device .. ",", function()
    it("is that from their weighted sum", function()
      for _, rule in ipairs { "sgd", "lars", "adamw" } do
        local function run(accumulates)
          local w = formula.uniform("w", { 5 }, "f64"):to(device):requires_grad_()
          local v = formula.uniform("v", { 3 }, "f64"):to(device):requires_grad_()
          local optimizer = cld.optim[rule]({ { params = { w } }, { params = { v }, lr_factor = 0.5 } }, { lr = 0.1 })
          for i = 1, 3 do
            local first, second = (w * w * i):sum(), (w:sin():sum() + (v * v):sum())
            if accumulates then
              optimizer:begin()
              optimizer:add(first, 0.25)
              optimizer:add(second, 0.75)
              assert.equal(1, optimizer:finish { clip = 1 }:item())
            else
              optimizer:step(first * 0.25 + second * 0.75, { clip = 1 })
            end
          end
          check.close(optimizer.grad_norm, cld.optim.clip_grad_norm({ w, v }, 9), { rtol = 1e-6 })
          return { w:detach():totable(), v:detach():totable() }
        end
        check.close(run(true), run(false), { rtol = 1e-12, atol = 1e-14 })
      end
    end)

    it("is not made if one of them is not finite, whichever", function()
      for bad = 1, 3 do
        local w = parameter({ 1, 2 }, device, "f64")
        local optimizer = cld.optim.sgd({ w }, { lr = 0.1, momentum = 0.9 })
        local function step(factor)
          optimizer:begin()
          for i = 1, 3 do optimizer:add((w * w):sum() * (i == bad and factor or 1)) end
          return optimizer:finish { grad_norm = true }:item()
        end
        assert.equal(1, step(1))
        local before = { w:detach():totable(), optimizer:state_dict()["momentum.1"]:totable() }
        for _, factor in ipairs { 0 / 0, 1 / 0 } do
          assert.equal(0, step(factor))
          local norm = optimizer.grad_norm:item()
          assert.is_true(norm ~= norm)
        end
        assert.same(before, { w:detach():totable(), optimizer:state_dict()["momentum.1"]:totable() })
        assert.equal(2, optimizer.skipped)
        assert.equal(1, step(1))
        assert.are_not.same(before[1], w:detach():totable())
      end
    end)

    it("changes a memory bank's rows at its end, in order, if it is made", function()
      local bank = cld.losses.memory_bank { size = 3, dim = 2, momentum = 0, device = device }
      local f, g = parameter({ { 1, 0 } }, device), parameter({ { 0, 1 } }, device)
      local index = cld.tensor({ 1 }, "i64"):to(device)
      local optimizer = cld.optim.sgd({ f, g }, { lr = 0 })
      local function rows() return bank.memory:totable() end
      local before = rows()
      local function add(features, factor) optimizer:add(bank:loss(features, index) * (factor or 1)) end
      optimizer:begin()
      add(f)
      add(g, 0 / 0)
      assert.equal(0, optimizer:finish():item())
      assert.same(before, rows())
      optimizer:begin()
      add(f)
      add(g)
      assert.same(before, rows())
      assert.equal(1, optimizer:finish():item())
      check.close(rows()[2], { 0, 1 })
      assert.same(before[1], rows()[1])
      optimizer:begin()
      add(f)
      optimizer:zero_grad() -- nothing comes of it
      check.close(rows()[2], { 0, 1 })
    end)

    it("divides by the loss scale of fp16 once, which moves at its end", function()
      in_fp16(function()
        local w, v = parameter({ 1, 2 }, device), parameter({ 3 }, device)
        local optimizer = cld.optim.sgd({ { params = { w } }, { params = { v }, lr_factor = 2 } }, { lr = 0.25 })
        local function step(factor)
          optimizer:begin()
          optimizer:add((w * 0.5):sum(), 0.5)
          optimizer:add((w * 0.25):sum() + (v * factor):sum())
          return optimizer:finish { grad_norm = true }:item()
        end
        assert.equal(1, step(0.5))
        check.close(w:detach(), { 0.875, 1.875 }, exact)
        check.close(v:detach(), { 2.75 }, exact)
        check.close(optimizer.grad_norm, math.sqrt(3) / 2, { rtol = 1e-6 })
        assert.same({ 65536, 1 }, { optimizer.loss_scale, optimizer:state_dict().good_steps:item() })
        assert.equal(0, step(1e34)) -- times 65536 no f32
        assert.same({ 32768, 1 }, { optimizer.loss_scale, optimizer.skipped })
        check.close(v:detach(), { 2.75 }, exact)
        local norm = optimizer.grad_norm:item()
        assert.is_true(norm ~= norm)
      end)
    end)

    it("keeps a memory bank's rows in fp16 where a gradient of finite losses is not finite", function()
      in_fp16(function()
        local bank = cld.losses.memory_bank { size = 3, dim = 2, device = device }
        local f = parameter({ { 1, 0 } }, device)
        local optimizer = cld.optim.sgd({ f }, { lr = 1 })
        local before = bank.memory:totable()
        local function step(factor)
          local loss = bank:loss(f, cld.tensor({ 1 }, "i64"):to(device)) + (f * factor):sum()
          return optimizer:step(loss):item()
        end
        assert.equal(0, step(1e34))
        assert.same(before, bank.memory:totable())
        assert.equal(1, step(1))
        assert.are_not.same(before, bank.memory:totable())
      end)
    end)

    it("clips by the true norm in fp16", function()
      local function run()
        local w = parameter({ 3, 4 }, device)
        local optimizer = cld.optim.sgd({ w }, { lr = 1 })
        optimizer:step((w * w):sum(), { clip = 1 })
        return { w:detach():totable(), optimizer.grad_norm:item() }
      end
      local scaled = in_fp16(run)
      check.close(scaled, run(), { rtol = 1e-6 })
      check.close(scaled, { { 3 - 0.6, 4 - 0.8 }, 10 }, { rtol = 1e-6 })
    end)
  end)
end

devices.each("a captured step from several losses", function(device)
  it("is the plain one, bit for bit", function()
    local function run(enabled)
      cld.manual_seed(3)
      local w = formula.uniform("w", { 40, 4 }, "f32"):to(device):requires_grad_()
      local bank = cld.losses.memory_bank { size = 6, dim = 4, device = device }
      local optimizer = cld.optim.adamw({ w }, { lr = 0.01 })
      local index = cld.tensor({ 1, 4 }, "i64"):to(device)
      local step = cld.graph(function(x, factor, rate)
        optimizer:begin()
        for i = 1, 2 do
          local rows = x:narrow(1, 2 * i - 1, 2):matmul(w):normalize(2)
          optimizer:add(bank:loss(rows, index) * factor, 0.5)
        end
        return optimizer:finish { lr = rate, clip = 0.1 }
      end, { enabled = enabled, device = device })
      local made = {}
      for i = 1, 6 do
        local factor = (i == 2 or i == 5) and 0 / 0 or 1
        made[i] = step(formula.uniform("x" .. i, { 4, 40 }, "f32"), factor, 0.1 / i):item()
      end
      return { made, w:detach():totable(), bank.memory:totable(), optimizer.grad_norm:item(), optimizer.skipped }
    end
    local captured, plain = run(true), run(false)
    check.close(captured, plain, exact)
    assert.same({ 1, 0, 1, 1, 0, 1 }, plain[1])
  end)
end)

describe("begin, add and finish", function()
  local function fresh()
    local w = parameter({ 1, 2 }, "cpu")
    return w, cld.optim.sgd({ w }, { lr = 0.5 })
  end

  it("say what is out of order, which ends what was begun", function()
    local w, sgd = fresh()
    check.fails(function() sgd:finish() end, "sgd: finish was called without begin")
    check.fails(function() sgd:add(w:sum()) end, "sgd: add was called without begin")
    sgd:begin()
    check.fails(function() sgd:finish() end, "sgd: finish was called, but no loss was added since begin")
    sgd:begin()
    check.fails(function() sgd:add(w * 2) end, "sgd: the loss is f32%[2%]; expected one element")
    check.fails(function() sgd:finish() end, "sgd: finish was called without begin")
    sgd:begin()
    check.fails(function() sgd:begin() end, "sgd: begin was called twice without finish")
    check.fails(function() sgd:finish() end, "sgd: finish was called without begin")
    sgd:begin()
    check.fails(function() sgd:step() end, "sgd: step was called between begin and finish")
    sgd:zero_grad()
    sgd:begin()
    sgd:add(w:sum())
    sgd:finish()
    check.close(w:detach(), { 0.5, 1.5 })
  end)

  it("say what is wrong with a loss, its weight or the step", function()
    local w, sgd = fresh()
    local function fails(message, ...)
      local arguments = table.pack(...)
      sgd:begin()
      check.fails(function() sgd:add(table.unpack(arguments, 1, arguments.n)) end, message)
      sgd:zero_grad()
    end
    fails("sgd:add: expected a loss, got a nil")
    fails("sgd:add: the weight of a loss is a string; expected a number", w:sum(), "half")
    fails("sgd: the weight of a loss is inf; expected a finite number", w:sum(), 1 / 0)
    fails("sgd: the loss is f32%[2%]; expected one element", w * 2)
    fails("sgd: the loss reached none of the parameters", cld.ones(1):requires_grad_():sum())
    local bare = cld.optim.sgd({ w }, {})
    bare:begin()
    bare:add(w:sum())
    check.fails(function() bare:finish() end, "sgd: no learning rate")
    check.close(w:detach(), { 1, 2 })
    check.fails(function() sgd:step { clip = -1 } end, "sgd: clip is %-1; expected a norm above 0")
    check.fails(function() sgd:step { clip = 0 } end, "clip is 0; expected a norm above 0")
    check.fails(function() sgd:finish { norm = true } end, "sgd:finish: .*'norm'")
    check.fails(function() sgd:step(w:sum(), { grad_norm = 1 }) end, "'grad_norm': expected true or false")
  end)

  it("let go of a loss that was added, and of what it asked for when the optimizer goes", function()
    local bank = cld.losses.memory_bank { size = 3, dim = 2 }
    local f = parameter({ { 1, 0 } }, "cpu")
    local optimizer = cld.optim.sgd({ f }, { lr = 1 })
    local loss = bank:loss(f, cld.tensor({ 1 }, "i64"))
    optimizer:begin()
    optimizer:add(loss)
    check.fails(function() loss:backward() end, "released by an earlier backward")
  end) -- every test counts the tensors that it leaves

  it("run no backward behind a loss that is not finite, on the cpu", function()
    local w, sgd = fresh()
    sgd:begin()
    sgd:add(w:sum() * (0 / 0))
    sgd:add(w:sum())
    assert.is_nil(w.grad)
    assert.equal(0, sgd:finish():item())
  end)
end)

describe("grad_norm", function()
  it("is one tensor, NaN until it is asked for", function()
    local w = parameter({ 3, 4 }, "cpu")
    local sgd = cld.optim.sgd({ w }, { lr = 0 })
    local norm = sgd.grad_norm
    sgd:step((w * 1):sum())
    assert.is_true(norm:item() ~= norm:item())
    sgd:step((w * w):sum() / 2, { grad_norm = true })
    assert.same({ "f32", 0, 5 }, { norm.dtype, #norm.shape, norm:item() })
    sgd:step((w * w):sum(), { clip = 100 })
    assert.equal(10, norm:item())
    sgd:step((w * w):sum() * 2)
    assert.equal(10, norm:item())
  end)
end)

describe("gradients that are multiplied by the loss scale", function()
  it("are refused where nothing divides by it", function()
    local w = parameter({ 3, 4 }, "cpu")
    local sgd = cld.optim.sgd({ w }, { lr = 1 })
    in_fp16(function() sgd:step((w * w):sum()) end)
    check.fails(function() cld.optim.clip_grad_norm({ w }, 1) end,
      "gradient of parameter 1 is multiplied by the loss scale of fp16; give the step 'clip' instead")
    check.fails(function() sgd:step() end, "sgd: the gradients of a step in fp16 are multiplied by the loss scale")
    sgd:zero_grad()
    w.grad = cld.tensor { 30, 40 }
    assert.equal(50, cld.optim.clip_grad_norm({ w }, 1):item())
    sgd:step()
  end)
end)
