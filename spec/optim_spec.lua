--- SGD against PyTorch's, the moving average, and skipped steps.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"

local sgd_options = {
  plain = { lr = 0.1 },
  decay = { lr = 0.1, weight_decay = 0.05 },
  momentum = { lr = 0.1, momentum = 0.9, weight_decay = 0.05 },
  nesterov = { lr = 0.1, momentum = 0.9, weight_decay = 0.05, nesterov = true },
  dampening = { lr = 0.1, momentum = 0.9, dampening = 0.3 },
}

local function reversed(list)
  local out = {}
  for i = 1, #list do out[i] = list[#list + 1 - i] end
  return out
end

describe("sgd", function()
  for dtype, tolerance in pairs { f64 = { rtol = 1e-10 }, f32 = { atol = 1e-6, rtol = 1e-5 } } do
    for name, options in pairs(sgd_options) do
      -- Ten steps; the second parameter has a gradient from step 4 on; the rate halves at step 6.
      it(("agrees with PyTorch, %s, %s"):format(name, dtype), function()
        local all = cld.load "spec/fixtures/losses.safetensors"
        local w, v = all["sgd.w"]:to(dtype):requires_grad_(), all["sgd.v"]:to(dtype):requires_grad_()
        local sgd = cld.optim.sgd({ w, v }, options)
        for step, gradient in ipairs(all["sgd.gradients"]:totable()) do
          w.grad = cld.tensor(gradient, dtype)
          if step >= 4 then v.grad = cld.tensor(reversed(gradient), dtype) end
          sgd:step(step >= 6 and { lr = options.lr / 2 } or nil)
        end
        check.close(w:detach(), all[("sgd.%s.w"):format(name)], tolerance)
        check.close(v:detach(), all[("sgd.%s.v"):format(name)], tolerance)
      end)
    end
  end

  it("steps many tensors of all sizes at once as it does each alone", function()
    local function params()
      local list = {}
      for i, n in ipairs { 1, 40000, 3, 15, 16, 17, 70001, 2 } do
        list[i] = formula.uniform("w" .. i, { n }, "f32"):requires_grad_()
        list[i].grad = formula.uniform("g" .. i, { n }, "f32")
      end
      return list
    end
    local together, alone = params(), params()
    local options, threads = { lr = 0.1, momentum = 0.9, weight_decay = 0.01 }, cld.get_num_threads()
    cld.set_num_threads(3)
    cld.optim.sgd(together, options):step()
    cld.set_num_threads(threads)
    for i, p in ipairs(alone) do
      cld.optim.sgd({ p }, options):step()
      local difference = (p:detach() - together[i]:detach()):abs():amax():item()
      assert.equal(0, difference)
    end
  end)

  it("makes a whole step of a loss, and skips one that is not finite", function()
    local w = cld.tensor({ 2 }, "f64"):requires_grad_()
    local sgd = cld.optim.sgd({ w }, { momentum = 0.9 })
    w.grad = cld.tensor({ 100 }, "f64") -- left over: zeroed
    assert.equal(1, sgd:step((w * w):sum(), { lr = 0.25 }):item())
    check.close(w:detach(), { 1 })
    for _, bad in ipairs { 1 / 0, 0 / 0 } do
      assert.equal(0, sgd:step((w * bad):sum(), { lr = 0.25 }):item())
    end
    check.close(w:detach(), { 1 })
    assert.equal(2, sgd.skipped)
    assert.equal(1, sgd:step((w * w):sum(), { lr = 0.25 }):item())
    check.close(w:detach(), { 1 - 0.25 * (0.9 * 4 + 2) }) -- momentum survived
  end)

  for _, device in ipairs { "cpu", table.unpack(devices.names) } do
    it("lets a skipped step touch nothing on " .. device, function()
      local bank = cld.losses.memory_bank { size = 3, dim = 2, device = device }
      local f = cld.tensor({ { 1, 0 } }):to(device):requires_grad_()
      local sgd = cld.optim.sgd({ f }, { lr = 1, momentum = 0.9 })
      local function step(factor) return sgd:step(bank:loss(f, cld.tensor({ 1 }, "i64"):to(device)) * factor):item() end
      local function state()
        return { f:detach():totable(), bank.memory:totable(), sgd:state_dict()["momentum.1"]:totable() }
      end
      assert.equal(1, step(1))
      local before = state()
      assert.same({ 0, 0 }, { step(0 / 0), step(1 / 0) })
      assert.same(before, state())
      assert.equal(2, sgd.skipped)
      assert.equal(1, step(1))
      assert.are_not.same(before, state())
    end)
  end

  it("takes its rate from a tensor, for all groups", function()
    for _, dtype in ipairs { "f64", "f32", "i64" } do
      local w, v = cld.tensor({ 1, 2 }):requires_grad_(), cld.tensor({ 3 }):requires_grad_()
      local sgd = cld.optim.sgd({ { params = { w } }, { params = { v }, lr = 100 } }, {})
      sgd:step(w:sum() + v:sum(), { lr = cld.tensor(2, dtype) })
      check.close(w:detach(), { -1, 0 })
      w.grad, v.grad = cld.ones(2), cld.ones(1)
      sgd:step { lr = cld.tensor({ 1 }, dtype) }
      check.close(v:detach(), { 0 })
      check.fails(function() sgd:step { lr = cld.ones(2) } end, "the learning rate is f32%[2%]; expected one element")
    end
  end)

  it("leaves the momentum's first, undampened step to the first that is made", function()
    local w = cld.tensor({ 2 }, "f64"):requires_grad_()
    local sgd = cld.optim.sgd({ w }, { lr = 1, momentum = 0.5, dampening = 0.5 })
    sgd:step((w * (0 / 0)):sum())
    sgd:step((w * 1):sum())
    check.close(w:detach(), { 1 })
    sgd:step((w * 1):sum())
    check.close(w:detach(), { 0 })
  end)

  it("goes on from its state", function()
    local function run(state)
      local w = cld.tensor({ 1, 2, 3 }):requires_grad_()
      local sgd = cld.optim.sgd({ w }, { lr = 0.1, momentum = 0.9 })
      if state then sgd:load_state_dict(state) end
      sgd:step((w * w):sum())
      return w:detach():totable(), sgd:state_dict()
    end
    local first, state = run()
    check.close(state["momentum.1"], { 2, 4, 6 })
    local second = run(state)
    for i = 1, 3 do check.close(second[i], first[i] - 0.1 * 0.9 * 2 * i, { atol = 1e-6 }) end
  end)

  describe("state", function()
    local function stepped(options)
      local w, v = cld.tensor({ 1, 2, 3 }):requires_grad_(), cld.ones(2):requires_grad_()
      local sgd = cld.optim.sgd({ v, w }, options or { lr = 0.1, momentum = 0.9 })
      sgd:step((w * w):sum())
      return sgd, w
    end

    it("holds the count of skipped steps, and nothing for what has not been stepped", function()
      local sgd, w = stepped()
      sgd:step((w * (0 / 0)):sum())
      local state = sgd:state_dict()
      assert.same({ 0 }, state["momentum.1"].shape)
      check.close(state["momentum.2"], { 2, 4, 6 })
      assert.same({ "i64", 1 }, { state.skipped.dtype, state.skipped:item() })
      local other = stepped()
      other:load_state_dict(state)
      assert.equal(1, other.skipped)
    end)

    it("of a fresh optimizer resets one that has been stepped", function()
      local fresh = cld.optim.sgd({ cld.ones(2):requires_grad_(), cld.ones(3):requires_grad_() }, { momentum = 0.9 })
      local sgd, w = stepped()
      sgd:load_state_dict(fresh:state_dict())
      local before = w:detach():clone()
      sgd:step((w * w):sum())
      check.close(w:detach(), before - 0.2 * before)
    end)

    it("is loaded whole or not at all", function()
      local sgd = stepped()
      local state = sgd:state_dict()
      local function with(name, value)
        local changed = { skipped = cld.tensor(7, "i64") }
        for key, tensor in pairs(state) do changed[key] = changed[key] or tensor end
        changed["momentum.1"] = cld.ones(2)
        changed[name] = value
        return function() sgd:load_state_dict(changed) end
      end
      check.fails(with("momentum.2", nil), "'momentum.2' is missing in the state")
      check.fails(with("skipped", nil), "'skipped' is missing in the state")
      check.fails(with("momentum.2", 3), "'momentum.2' is a number, not a tensor")
      check.fails(with("momentum.3", cld.ones(2)), "unexpected entry 'momentum.3'; expected momentum.1 to momentum.2")
      check.fails(with("momentum.2", cld.ones(4)), "momentum of parameter 2 is f32%[4%], the parameter f32%[3%]")
      assert.equal(0, sgd.skipped)
      assert.same({ 0 }, sgd:state_dict()["momentum.1"].shape)
    end)
  end)

  it("has a rate that can be assigned", function()
    local w = cld.tensor({ 1 }, "f64"):requires_grad_()
    local sgd = cld.optim.sgd({ w }, {})
    assert.is_nil(sgd.lr)
    sgd.lr = 0.25
    assert.equal(0.25, sgd.lr)
    sgd:step((w * w):sum())
    check.close(w:detach(), { 0.5 })
    sgd:step((w * w):sum(), { lr = 0.5 })
    check.close(w:detach(), { 0 })
    check.fails(function() sgd.lr = -1 end, "learning rate is %-1")
    check.fails(function() sgd.lr = 0 / 0 end, "learning rate is nan")
    check.fails(function() sgd.lr = "fast" end, "'lr': expected a number, got string")
    check.fails(function() sgd.momentum = 0.5 end, "'momentum' cannot be set; only 'lr' can")
    check.fails(function() sgd:step { lr = 0 / 0 } end, "learning rate is nan")
    assert.equal(0.25, sgd.lr)
  end)

  it("leaves alone what requires no gradient", function()
    local w, frozen = cld.tensor({ 1 }):requires_grad_(), cld.tensor({ 5 })
    local sgd = cld.optim.sgd({ frozen, w }, { lr = 0.5, momentum = 0.9, weight_decay = 0.1 })
    sgd:step((w * frozen):sum())
    check.close(frozen, { 5 })
    check.close(w:detach(), { 1 - 0.5 * 5.1 })
  end)

  describe("with groups", function()
    -- Three steps of two parameters, the second of which requires settings of its own.
    local function train(make, rate)
      local w, v = cld.tensor({ 1, -2 }, "f64"):requires_grad_(), cld.tensor({ 3 }, "f64"):requires_grad_()
      local optimizers = make(w, v)
      for _ = 1, 3 do
        w.grad, v.grad = w:detach() * 2 + 1, v:detach() * 3
        for _, sgd in ipairs(optimizers) do sgd:step(rate and { lr = rate } or nil) end
      end
      return { w:detach():totable(), v:detach():totable() }
    end

    it("steps each as an optimizer of its own would", function()
      local base = { lr = 0.1, momentum = 0.9, weight_decay = 0.05 }
      local function alone(own)
        return function(w, v)
          return { cld.optim.sgd({ w }, base), cld.optim.sgd({ v }, own) }
        end
      end
      for _, own in ipairs {
        { lr = 0.02, momentum = 0.9, weight_decay = 0 }, { lr = 0.1, momentum = 0, weight_decay = 0.05 },
      } do
        for rate in pairs { [false] = true, [0.3] = true } do
          local function grouped(w, v)
            return { cld.optim.sgd({
              { params = { w } },
              { params = { v }, lr = own.lr, momentum = own.momentum, weight_decay = own.weight_decay },
            }, base) }
          end
          check.close(train(grouped, rate), train(alone(own), rate), { rtol = 1e-14 })
        end
      end
    end)

    it("takes modules, and numbers all parameters through", function()
      local a, b = cld.nn.linear(2, 3), cld.nn.linear(3, 1)
      local sgd = cld.optim.sgd({ { params = a, weight_decay = 0.1 }, { params = b } }, { lr = 0.1, momentum = 0.9 })
      sgd:step(b(a(cld.ones(1, 2))):sum())
      assert.same({ 1, 3 }, sgd:state_dict()["momentum.3"].shape)
    end)

    it("says what is wrong", function()
      local w, v = cld.ones(2):requires_grad_(), cld.ones(1):requires_grad_()
      check.fails(function() cld.optim.sgd({ { params = { w } }, { v } }, {}) end, "group 2 lacks its list 'params'$")
      check.fails(function() cld.optim.sgd({ { parms = { w }, lr = 1 } }, {}) end,
        "sgd: group 1 lacks its list 'params', and has 'parms'$")
      check.fails(function() cld.optim.sgd({ { params = w } }, {}) end,
        "sgd: group 1: expected a list of tensors or a module, got f32%[2%]; a list of one is {tensor}$")
      check.fails(function() cld.optim.sgd({ { params = { w } }, v }, {}) end,
        "sgd: group 2 is f32%[1%]; expected {params =, settings}$")
      check.fails(function() cld.optim.sgd({ cld.nn.linear(1, 1), cld.nn.linear(1, 1) }, {}) end,
        "sgd: group 1 is a module; expected {params =, settings}$")
      check.fails(function() cld.optim.sgd { params = { w }, weight_decay = 0 } end,
        "sgd: the list of parameters has a field 'params'; .*a group is an entry of a list, {{params = ...}}$")
      check.fails(function() cld.optim.sgd({ { params = { w }, lr = "fast" } }, {}) end,
        "optim_spec.lua:%d+: sgd: field 'lr': expected a number, got string$")
      check.fails(function() cld.optim.sgd({ { params = { w }, momentun = 1 } }, {}) end, "did you mean 'momentum'")
      check.fails(function() cld.optim.sgd({ { params = { w } }, { params = { v, w } } }, {}) end,
        "optim_spec.lua:%d+: sgd: parameters 1 and 3 are the same tensor, f32%[2%]")
      check.fails(function() cld.optim.sgd({ { params = { w }, momentum = -1 } }, {}) end, "momentum is %-1")
    end)
  end)

  it("zeroes gradients", function()
    local w = cld.tensor({ 1 }):requires_grad_()
    w.grad = cld.tensor({ 1 })
    cld.optim.sgd({ w }, { lr = 1 }):zero_grad()
    assert.is_nil(w.grad)
  end)

  it("says what is wrong", function()
    local w = cld.zeros(3):requires_grad_()
    local sgd = cld.optim.sgd({ w }, { momentum = 0.9 })
    check.fails(function() sgd:step() end, "no learning rate")
    check.fails(function() sgd:step { lr = -1 } end, "learning rate is %-1")
    check.fails(function() sgd:step { rate = 1 } end, "'rate'")
    check.fails(function() sgd:step(w * 2, { lr = 1 }) end, "the loss is f32%[3%]; expected one element")
    check.fails(function() sgd:step(cld.ones(1):sum(), { lr = 1 }) end, "does not depend on anything")
    local foreign = cld.ones(2):requires_grad_():sum()
    check.fails(function() sgd:step(foreign, { lr = 1 }) end, "reached none of the parameters")
    check.fails(function() cld.optim.sgd({}, {}) end, "no parameters")
    check.fails(function() cld.optim.sgd({ w, cld.zeros(2), w }, {}) end,
      "optim_spec.lua:%d+: sgd: parameters 1 and 3 are the same tensor, f32%[3%]; list it once")
    check.fails(function() cld.optim.sgd({ w, w * 2 }, {}) end, "parameter 2, .*only leaves")
    check.fails(function() cld.optim.sgd({ cld.zeros(2, 3):t():requires_grad_() }, {}) end, "is a strided view")
    check.fails(function() cld.optim.sgd({ 3 }, {}) end, "entry 1 of the list is a number")
    check.fails(function() cld.optim.sgd(w, {}) end,
      "optim_spec.lua:%d+: sgd: expected a list of tensors or a module, got f32%[3%]; a list of one is {tensor}$")
    check.fails(function() cld.optim.sgd { w, lr = 1 } end,
      "sgd: the list of parameters has a field 'lr'; settings are a table of their own after it")
    check.fails(function() cld.optim.sgd({ w }, { momentun = 1 }) end, "did you mean 'momentum'")
    check.fails(function() cld.optim.sgd({ w }, { nesterov = true }) end, "nesterov needs a momentum")
  end)
end)

describe("clip_grad_norm", function()
  it("scales the gradients to the norm where they exceed it, as PyTorch", function()
    for max_norm, scale in pairs { [6.5] = 0.5, [13.5] = 1 } do
      local w, v, idle = cld.zeros(2):requires_grad_(), cld.zeros(1):requires_grad_(), cld.zeros(1):requires_grad_()
      w.grad, v.grad = cld.tensor { 3, 4 }, cld.tensor { 12 }
      local total = cld.optim.clip_grad_norm({ w, idle, v }, max_norm)
      assert.same({ 0, 13 }, { #total.shape, total:item() })
      check.close(w.grad, { 3 * scale, 4 * scale })
      check.close(v.grad, { 12 * scale })
    end
  end)

  it("takes a module, and is 0 where there is no gradient", function()
    assert.equal(0, cld.optim.clip_grad_norm(cld.nn.linear(2, 2), 1):item())
    assert.equal(0, cld.optim.clip_grad_norm({}, 1):item())
  end)

  it("is f64 of gradients that all are, and tells that they are not finite", function()
    local w = cld.zeros({ 1 }, "f64"):requires_grad_()
    w.grad = cld.tensor({ 1e-9 }, "f64")
    local total = cld.optim.clip_grad_norm({ w }, 1)
    assert.same({ "f64", 1e-9 }, { total.dtype, total:item() })
    w.grad = cld.tensor({ 1 / 0 }, "f64")
    assert.equal(1 / 0, cld.optim.clip_grad_norm({ w }, 1):item())
  end)

  it("says what is wrong", function()
    local w = cld.zeros(2):requires_grad_()
    check.fails(function() cld.optim.clip_grad_norm({ w }, 0) end, "the largest norm is 0; expected a number above 0")
    check.fails(function() cld.optim.clip_grad_norm({ w }) end,
      "optim_spec.lua:%d+: clip_grad_norm: max_norm, the largest norm, is nil; expected a number above 0$")
    check.fails(function() cld.optim.clip_grad_norm(w, 1) end, "clip_grad_norm: expected a list of tensors or a module")
    check.fails(function() cld.optim.clip_grad_norm({ 3 }, 1) end, "entry 1 of the list is a number, not a tensor")
    local half = cld.zeros({ 2 }, "bf16"):requires_grad_()
    half.grad = cld.zeros({ 2 }, "bf16")
    check.fails(function() cld.optim.clip_grad_norm({ w, half }, 1) end,
      "the gradient of parameter 2 is bf16%[2%]; expected dense f32 or f64")
  end)
end)

describe("sgd, looked at,", function()
  it("tells its parameters, settings and groups", function()
    local a, b, c = cld.zeros(2), cld.zeros(3), cld.zeros(1)
    assert.equal("sgd: 2 parameters, lr 0.03, momentum 0.9, weight decay 0.0005",
      tostring(cld.optim.sgd({ a, b }, { lr = 0.03, momentum = 0.9, weight_decay = 5e-4 })))
    assert.equal("sgd: 1 parameter, momentum 0.5, weight decay 0, nesterov",
      tostring(cld.optim.sgd({ a }, { momentum = 0.5, nesterov = true })))
    assert.equal("sgd: 1 parameter, lr 2, momentum 0, weight decay 0",
      tostring(cld.optim.sgd({ { params = { a }, lr = 2 } }, { lr = 1 })))
    local grouped = cld.optim.sgd({ { params = { a, b } }, { params = { c }, lr = 1, dampening = 0.5 } },
      { lr = 0.1, momentum = 0.9 })
    assert.equal("sgd: 3 parameters in 2 groups, lr 0.1\n  group 1: 2 parameters, momentum 0.9, weight decay 0\n" ..
      "  group 2: 1 parameter, lr 1, momentum 0.9, weight decay 0, dampening 0.5", tostring(grouped))
  end)

  it("names the nearest method or field", function()
    local sgd = cld.optim.sgd({ cld.zeros(1):requires_grad_() }, { lr = 1 })
    check.fails(function() sgd:stepp() end, "optim_spec.lua:%d+: sgd has no method 'stepp'; did you mean 'step'%?")
    check.fails(function() return sgd.grad_nrom end, "sgd has no field 'grad_nrom'; did you mean 'grad_norm'%?")
    assert.is_nil(sgd.something_else)
  end)

  it("names its methods and properties, for completion", function()
    local sgd = cld.optim.sgd({ cld.zeros(1) }, { lr = 0.5 })
    local meta = getmetatable(sgd)
    for _, name in ipairs { "step", "zero_grad", "state_dict", "load_state_dict" } do
      assert.equal(meta.methods[name], sgd[name])
    end
    assert.same({ "function", "function" }, { type(meta.properties.lr), type(meta.properties.skipped) })
    assert.same({ 0.5, 0 }, { sgd.lr, sgd.skipped })
    assert.is_nil(sgd.other)
  end)
end)

describe("from_options", function()
  it("is made of a recipe's options: sgd for all parameters alike, lars without biases", function()
    local net, opt = cld.nn.linear(3, 2), { momentum = 0.8, weight_decay = 0.1, optimizer = "lars", lars_eta = 0.02 }
    local lars = cld.optim.from_options(net, opt)
    assert.same({ 0.02, 0.8, 0.1, true }, { lars.groups[1].eta, lars.groups[1].momentum, lars.groups[1].weight_decay,
      lars.groups[1].adapt })
    assert.same({ 0, false }, { lars.groups[2].weight_decay, lars.groups[2].adapt })
    opt.optimizer = "sgd"
    local sgd = cld.optim.from_options(net, opt)
    assert.equal(1, #sgd.groups)
    assert.same({ 0.8, 0.1 }, { sgd.groups[1].momentum, sgd.groups[1].weight_decay })
  end)
end)

describe("ema", function()
  it("moves every tensor of the target towards the source", function()
    for _, dtype in ipairs { "f64", "f32" } do
      local target = { cld.tensor({ 1, 2 }, dtype), cld.tensor({ { 3 } }, dtype) }
      local source = { cld.tensor({ 5, 6 }, dtype):requires_grad_(), cld.tensor({ { -1 } }, dtype) }
      cld.optim.ema(target, source, 0.75)
      check.close(target[1], { 2, 3 })
      check.close(target[2], { { 2 } })
    end
  end)

  it("takes its decay from a tensor of one element", function()
    for _, dtype in ipairs { "f64", "f32" } do
      local target = cld.tensor({ 1, 2 }, dtype)
      cld.optim.ema({ target }, { cld.tensor({ 5, 6 }, dtype) }, cld.tensor({ 0.75 }, dtype))
      check.close(target, { 2, 3 })
    end
    check.fails(function() cld.optim.ema({ cld.ones(1) }, { cld.ones(1) }, cld.ones(2)) end,
      "ema: decay is f32%[2%]; expected one element")
  end)

  it("changes nothing where the condition is 0", function()
    for made, expected in pairs { [0] = { 1, 2 }, [1] = { 3, 4 } } do
      local target = cld.tensor { 1, 2 }
      cld.optim.ema({ target }, { cld.tensor { 5, 6 } }, 0.5, cld.tensor(made, "u8"))
      check.close(target, expected)
    end
    check.fails(function() cld.optim.ema({ cld.ones(1) }, { cld.ones(1) }, 0.5, cld.ones(1)) end,
      "ema: expected the condition as one element of u8, got f32%[1%]")
  end)

  it("takes modules: parameters by name, buffers left alone", function()
    local function net(value)
      local bn = cld.nn.batch_norm2d(2)
      cld.no_grad(function()
        bn.weight:detach():fill_(value)
        bn.bias:detach():fill_(-value)
        bn.running_mean:fill_(value)
      end)
      return bn
    end
    local target, source = net(1), net(3)
    cld.optim.ema(target, source, 0.5)
    check.close(target.weight:detach(), { 2, 2 })
    check.close(target.bias:detach(), { -2, -2 })
    check.close(target.running_mean, { 1, 1 })
  end)

  it("moves what the target has of a larger module, and with a decay of 0 copies it", function()
    local target = cld.nn.sequential(cld.nn.linear(2, 3))
    local source = cld.nn.sequential(cld.nn.linear(2, 3), cld.nn.linear(3, 1))
    cld.optim.ema(target, source, 0)
    check.close(target[1].weight:detach(), source[1].weight:detach(), { atol = 0, rtol = 0 })
    check.close(target[1].bias:detach(), source[1].bias:detach(), { atol = 0, rtol = 0 })
    check.fails(function() cld.optim.ema(source, target, 0) end, "ema: the source has no parameter '1.weight'")
  end)

  it("says what does not fit", function()
    check.fails(function() cld.optim.ema({ cld.zeros(2) }, { cld.zeros(3) }, 0.9) end,
      "tensor 1 is f32%[2%] in the target, f32%[3%] in the source")
    check.fails(function() cld.optim.ema({ cld.zeros(2) }, {}, 0.9) end, "1 tensors in the target, but 0 in the source")
    check.fails(function() cld.optim.ema(cld.nn.linear(1, 1), { cld.zeros(2) }, 0.9) end,
      "ema: the target is a module and the source a table; expected two modules, or two lists of tensors$")
    check.fails(function() cld.optim.ema(cld.zeros(2), cld.zeros(2), 0.9) end,
      "ema: target: expected a list of tensors or a module, got f32%[2%]")
    check.fails(function() cld.optim.ema({ cld.zeros(2) }, { cld.zeros(2) }, 1.5) end, "decay is 1.5")
    check.fails(function() cld.optim.ema({}, {}) end, "optim_spec.lua:%d+: ema: decay is a nil")
    check.fails(function() cld.optim.ema(cld.nn.linear(2, 2), cld.nn.linear(2, 2, { bias = false }), 0.9) end,
      "the source has no parameter 'bias'")
  end)
end)
