--- The optimizers' rules against PyTorch's, alone and in groups; resumed and captured they continue bit for bit.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"
local process = require "spec.support.process"

local everywhere = { "cpu", table.unpack(devices.names) }
local tolerances = { f64 = { rtol = 1e-10, atol = 1e-13 }, f32 = { atol = 2e-6, rtol = 1e-5 } }
local exact = { atol = 0, rtol = 0 }

-- As spec/fixtures/make_optim.py has them: {rule, w's settings, v's settings}.
local sgd = { momentum = 0.9, weight_decay = 0.05 }
local adam = { betas = { 0.8, 0.95 }, weight_decay = 0.05, eps = 1e-3 }
local lars = { momentum = 0.9, weight_decay = 0.05, eta = 0.02 }
local cases = {
  sgd = { "sgd", sgd, { momentum = 0.5, dampening = 0.3 } },
  nesterov = { "sgd", { momentum = 0.9, weight_decay = 0.05, nesterov = true }, { weight_decay = 0.1 } },
  clipped = { "sgd", sgd, {}, clip = 1.5 },
  adam = { "adam", adam, {} },
  adamw = { "adamw", adam, {} },
  lars = { "lars", lars, { momentum = 0.9, weight_decay = 0.05, eta = 0.02, adapt = false } },
}

local function group(params, settings, factor)
  local out = { params = params, lr_factor = factor }
  for key, value in pairs(settings) do out[key] = value end
  return out
end

-- The optimizer of a case for two tensors.
local function make(case, w, v)
  return cld.optim[case[1]]({ group({ w }, case[2]), group({ v }, case[3], 0.2) }, { lr = 0.1 })
end

-- Calls after(step, w, v, optimizer) behind each step of the fixture's.
local function train(case, all, dtype, device, after)
  local w, v = all.w:to(dtype):to(device):requires_grad_(), all.v:to(dtype):to(device):requires_grad_()
  local optimizer = make(case, w, v)
  for step = 1, 6 do
    w.grad = all["gradients.w"][step]:to(dtype):to(device)
    v.grad = step ~= 2 and step ~= 3 and all["gradients.v"][step]:to(dtype):to(device) or nil
    local options = { clip = case.clip }
    if step >= 5 then options.lr = step == 5 and 0.05 or cld.tensor(0.05, "f64"):to(device) end
    optimizer:step(options)
    after(step, w:detach(), v:detach(), optimizer)
  end
end

describe("the rule of", function()
  for name, case in pairs(cases) do
    for dtype, tolerance in pairs(tolerances) do
      for _, device in ipairs(everywhere) do
        it(("%s agrees with PyTorch, %s on %s"):format(name, dtype, device), function()
          local all = cld.load "spec/fixtures/optim.safetensors"
          train(case, all, dtype, device, function(step, w, v, optimizer)
            check.close(w, all[name .. ".w"][step], tolerance)
            check.close(v, all[name .. ".v"][step], tolerance)
            if case.clip then check.close(optimizer.grad_norm, all["clipped.norms"][step], { rtol = 1e-6 }) end
          end)
        end)
      end
    end
  end

  for _, device in ipairs(everywhere) do
    for dtype, tolerance in pairs { f64 = { rtol = 1e-12 }, f32 = { rtol = 1e-6, atol = 1e-6 } } do
      it(("lars takes 90 steps of BYOL's rates as DeepMind's does, %s on %s"):format(dtype, device), function()
        local all = cld.load "spec/fixtures/byol.safetensors"
        local function tensor(name, step) return (step and all[name][step] or all[name]):to(dtype):to(device) end
        local w, b = tensor "lars.w0":requires_grad_(), tensor "lars.b0":requires_grad_()
        local optimizer = cld.optim.from_options({ w, b }, {
          optimizer = "lars", lars_eta = 1e-3, momentum = 0.9, weight_decay = 1.5e-6,
        })
        for step = 1, 90 do
          w.grad, b.grad = tensor("lars.gw", step), tensor("lars.gb", step)
          optimizer:step { lr = all.rates[step]:item() }
        end
        check.close(w:detach(), all["lars.w"][90], tolerance)
        check.close(b:detach(), all["lars.b"][90], tolerance)
      end)
    end

    it("lars takes the gradient as it is where a norm is 0, on " .. device, function()
      local function on(...) return cld.tensor(...):to(device):requires_grad_() end
      local zero, still = on { 0, 0 }, on { 3, 4 }
      local optimizer = cld.optim.lars({ zero, still }, { lr = 0.5, momentum = 0 })
      zero.grad, still.grad = cld.tensor({ 2, -4 }):to(device), cld.zeros({ 2 }, { device = device })
      optimizer:step()
      check.close(zero:detach(), { -1, 2 })
      check.close(still:detach(), { 3, 4 })
    end)
  end
end)

-- ---- states ------------------------------------------------------------------

describe("a resumed", function()
  for name, case in pairs(cases) do
    for _, device in ipairs(everywhere) do
      it(("%s goes on bit for bit, on %s"):format(name, device), function()
        local folder = process.temporary_folder()
        local path = folder .. "/state.safetensors"
        local function tensor(key, n) return formula.uniform(key, { n }, "f32"):to(device):requires_grad_() end
        local function start()
          local w, v = tensor("w", 700), tensor("v", 5)
          local optimizer = make(case, w, v)
          local function step(i)
            local loss = (w * w * (i % 2 + 1)):sum() * (i == 2 and 0 / 0 or 1)
            return optimizer:step(i > 1 and loss + v:sin():sum() or loss, { clip = case.clip })
          end
          return w, v, optimizer, step
        end
        local w, v, optimizer, step = start()
        for i = 1, 3 do step(i) end
        cld.save(path, optimizer:state_dict())
        local w2, v2, other, step2 = start()
        step2(4) -- what is there is written over
        cld.no_grad(function()
          w2:detach():copy_(w:detach())
          v2:detach():copy_(v:detach())
        end)
        other:load_state_dict(cld.load(path))
        for i = 4, 6 do
          step(i)
          step2(i)
        end
        check.close(w2:detach(), w:detach(), exact)
        check.close(v2:detach(), v:detach(), exact)
        assert.equal(1, other.skipped)
        process.remove(folder)
      end)
    end
  end
end)

-- Trains by the rule of arg[2], and is stopped in its step number arg[3]; prints the weights in the end.
local script = [==[
local cld = require "cld"
local rule, stop, steps = arg[2], tonumber(arg[3]), 0
local net = cld.nn.linear(12, 3)
local optimizer = cld.optim[rule](cld.optim.no_decay(net), { lr = 0.01 })
local set = cld.data.tensors { images = cld.tensor({ 0 }, "u8"):expand(24, 2, 2, 3):contiguous() }
local loader = cld.data.loader { set, batch_size = 4, views = 1, workers = 0 }
local run = cld.run { epochs = 2, runs = arg[1], name = "run", resume = true }
for epoch in run:epochs { net = net, optimizer = optimizer, loader = loader } do
  for batch in loader:epoch(epoch) do
    steps = steps + 1
    optimizer:begin()
    for i = 1, 2 do
      local x = (batch.index:to "f32" * 0.1 + cld.arange(1, 13, 1):to("f32"):reshape(12, 1) * i):t():cos()
      optimizer:add(net(x):square():sum(), 0.5)
    end
    optimizer:finish { clip = 10 }
    if steps == stop then io.popen("kill -TERM " .. cld.host().pid):close() end
    run:track { rows = #batch.index }
  end
end
for _, w in ipairs(net:parameters()) do
  for _, x in ipairs(w:detach():flatten():totable()) do io.write(("%a "):format(x)) end
end
]==]

describe("a run", function()
  for _, rule in ipairs { "lars", "adamw", "adam" } do
    it("that was stopped in mid-epoch goes on bit for bit with " .. rule, function()
      local folder = process.temporary_folder()
      local path = process.write(folder .. "/run.lua", script)
      local function session(runs, stop) return process.run { path, folder .. runs, rule, stop } end
      local whole = session("/whole", "0")
      assert.same({ 0, "" }, { whole.code, whole.err })
      assert.equal(143, session("/parts", "8").code)
      local rest = session("/parts", "0")
      assert.same({ 0, "" }, { rest.code, rest.err })
      local function weights(result) return result.out:match "[^\n]*$" end
      assert.equal(39, select(2, weights(whole):gsub("0x", "")))
      assert.equal(weights(whole), weights(rest))
      process.remove(folder)
    end)
  end
end)

describe("the state", function()
  it("of adam has its moments, and counts the steps that were made with each parameter", function()
    local w, v, idle = cld.ones(2):requires_grad_(), cld.ones(3):requires_grad_(), cld.ones(1):requires_grad_()
    local optimizer = cld.optim.adam({ { params = { w } }, { params = { v, idle } } }, { lr = 0.1 })
    optimizer:step(w:sum())
    optimizer:step(w:sum() + v:sum())
    optimizer:step((w:sum() + v:sum()) * (0 / 0))
    local state = optimizer:state_dict()
    local names = {}
    for name in pairs(state) do names[#names + 1] = name end
    table.sort(names)
    assert.same({
      "exp_avg.1", "exp_avg.2", "exp_avg.3", "exp_avg_sq.1", "exp_avg_sq.2", "exp_avg_sq.3", "groups", "skipped",
      "step.1", "step.2", "step.3",
    }, names)
    assert.same({ 2, 1, 0, 1 }, {
      state["step.1"]:item(), state["step.2"]:item(), state["step.3"]:item(), state.skipped:item(),
    })
    assert.same({ "i64", { 1, 2 } }, { state.groups.dtype, state.groups:totable() })
    assert.same({ 0 }, state["exp_avg.3"].shape)
    check.close(state["exp_avg_sq.2"], { 0.001, 0.001, 0.001 })
  end)

  it("is refused by another division into groups, and by another rule", function()
    local w, v = cld.ones(2):requires_grad_(), cld.ones(3):requires_grad_()
    local grouped = cld.optim.adamw({ { params = { w } }, { params = { v } } }, { lr = 0.1 })
    local plain = cld.optim.adamw({ w, v }, { lr = 0.1 })
    local state = grouped:state_dict()
    check.fails(function() plain:load_state_dict(state) end,
      "adamw: the state has 2 groups of parameters, but there are 1 here")
    state.groups = cld.tensor({ 2, 0 }, "i64")
    check.fails(function() grouped:load_state_dict(state) end,
      "adamw: group 1 has 2 parameters in the state, but 1 here")
    check.fails(function() cld.optim.sgd({ w, v }, {}):load_state_dict(plain:state_dict()) end,
      "sgd:load_state_dict: unexpected entry '[%a_]+%.%d'; expected momentum.1 to momentum.2 and skipped")
    state = plain:state_dict()
    state["step.2"] = nil
    check.fails(function() plain:load_state_dict(state) end,
      "adamw: the count of steps of parameter 2 is missing from the state")
    state["step.2"] = cld.ones(1)
    check.fails(function() plain:load_state_dict(state) end, "steps of parameter 2 is f32%[1%]; expected one integer")
  end)

  it("of sgd without counts and groups, as files of before have it, goes in", function()
    local w = cld.tensor({ 1, 1 }, "f64"):requires_grad_()
    local function dampened() return cld.optim.sgd({ w }, { lr = 1, momentum = 0.5, dampening = 0.5 }) end
    local stepped = dampened()
    stepped:load_state_dict { ["momentum.1"] = cld.tensor({ 2, 4 }, "f64"), skipped = cld.tensor(3, "i64") }
    assert.equal(3, stepped.skipped)
    stepped:step(w:sum())
    check.close(w:detach(), { 1 - (0.5 * 2 + 0.5), 1 - (0.5 * 4 + 0.5) }) -- not its first step
    local fresh = dampened()
    fresh:load_state_dict { ["momentum.1"] = cld.zeros({ 0 }, "f64"), skipped = cld.tensor(0, "i64") }
    fresh:step(w:sum())
    check.close(w:detach(), { -1.5, -2.5 })
  end)
end)

-- ---- captured ------------------------------------------------------------------

devices.each("a captured step", function(device)
  for name, case in pairs(cases) do
    it("of " .. name .. " is the plain one, bit for bit", function()
      local function run(enabled)
        local w = formula.uniform("w", { 9000 }, "f32"):to(device):requires_grad_()
        local v = formula.uniform("v", { 5 }, "f32"):to(device):requires_grad_()
        local slow = cld.zeros({ 5 }, { device = device })
        local optimizer = make(case, w, v)
        local step = cld.graph(function(x, rate, decay)
          local made = optimizer:step((w * w * x):sum() + (v * x):sin():sum(),
            { lr = rate, clip = case.clip, grad_norm = true })
          cld.optim.ema({ slow }, { v }, decay, made)
          return made
        end, { enabled = enabled, device = device })
        local made, norms = {}, {}
        for i = 1, 6 do
          made[i] = step(cld.tensor(i == 5 and 1 / 0 or 0.3 * i), 0.1 / i, 1 - 0.5 ^ i):item()
          norms[i] = optimizer.grad_norm:item()
        end
        return { made, norms, w:detach():totable(), v:detach():totable(), slow:totable() }
      end
      local captured, plain = run(true), run(false)
      check.close(captured, plain, { atol = 0, rtol = 0, nan = true })
      assert.same({ 1, 1, 1, 1, 0, 1 }, plain[1])
    end)
  end
end)

-- ---- settings ------------------------------------------------------------------

describe("an optimizer's settings", function()
  local w, v = cld.ones(2), cld.ones(3)

  it("are printed by group, the defaults that everyone knows left out", function()
    assert.equal("adamw: 2 parameters, lr 0.001, betas 0.9 0.999, weight decay 0.01",
      tostring(cld.optim.adamw({ w, v }, { lr = 1e-3 })))
    assert.equal("adam: 1 parameter, betas 0.5 0.9, eps 1e-05, weight decay 0",
      tostring(cld.optim.adam({ w }, { betas = { 0.5, 0.9 }, eps = 1e-5 })))
    assert.equal("lars: 2 parameters in 2 groups, lr 0.45\n" ..
      "  group 1: 1 parameter, momentum 0.9, weight decay 1e-06, eta 0.001\n" ..
      "  group 2: 1 parameter, lr factor 10, momentum 0.9, weight decay 0, eta 0.001, not adapted",
      tostring(cld.optim.lars({
        { params = { w } }, { params = { v }, weight_decay = 0, adapt = false, lr_factor = 10 },
      }, { lr = 0.45, weight_decay = 1e-6 })))
  end)

  it("can be read, with the tensors that they hold for", function()
    local groups = cld.optim.adam({ { params = { w } }, { params = { v }, lr = 2, betas = { 0, 0.5 } } }, {}).groups
    assert.equal(2, #groups)
    assert.same({ 2, 1, { 0, 0.5 }, 1e-8, 0, true, false }, {
      groups[2].lr, groups[2].lr_factor, groups[2].betas, groups[2].eps, groups[2].weight_decay, groups[2].adapt,
      groups[2].amsgrad,
    })
    assert.is_nil(groups[1].lr)
    assert.same({ { 3 } }, { groups[2].params[1].shape })
  end)

  it("say what is wrong with them", function()
    local function fails(rule, settings, message)
      check.fails(function() cld.optim[rule]({ w }, settings) end, "optim_rules_spec.lua:%d+: " .. message)
    end
    fails("adam", { amsgrad = true }, "adam: amsgrad is not supported; leave it out")
    fails("adamw", { betas = { 0.9, 1 } }, "adamw: betas are 0.9 and 1; expected numbers from 0 to below 1")
    fails("adamw", { betas = 0.9 }, "adamw: field 'betas': expected a list of two numbers")
    fails("adamw", { betas = { 0.9, "x" } }, "adamw: field 'betas': expected a list of two numbers")
    fails("adam", { eps = -1 }, "adam: eps is %-1; expected a number of at least 0")
    fails("lars", { eta = 0 }, "lars: eta is 0; expected a number above 0")
    fails("lars", { momentum = -1 }, "lars: momentum is %-1; expected at least 0")
    fails("sgd", { weight_decay = -1 }, "sgd: weight_decay is %-1; expected at least 0")
    fails("sgd", { lr_factor = -2 }, "sgd: lr_factor is %-2; expected a number of at least 0")
    fails("sgd", { dampening = 0 / 0 }, "sgd: dampening is %-?nan; expected a finite number")
    fails("sgd", { eta = 1 }, "sgd: .*'eta'")
    fails("lars", { nesterov = true }, "lars: .*'nesterov'")
    fails("adam", { lr = -1 }, "adam: the learning rate is %-1")
    local adamw = cld.optim.adamw({ w }, {})
    check.fails(function() adamw:step() end, "adamw: no learning rate")
    check.fails(function() adamw:step(3) end, "adamw:step: expected a loss or a table of options, got a number")
    check.fails(function() adamw.betas = 1 end, "adamw: the field 'betas' cannot be set; only 'lr' can")
  end)

  it("of a step's own rate keep each group's factor", function()
    local a, b = cld.ones(1):requires_grad_(), cld.ones(1):requires_grad_()
    local optimizer = cld.optim.sgd({ { params = { a } }, { params = { b }, lr_factor = 3 } }, { lr = 1 })
    optimizer:step(a:sum() + b:sum(), { lr = 0.1 })
    check.close(a:detach(), { 0.9 })
    check.close(b:detach(), { 0.7 })
    optimizer:step(a:sum() + b:sum())
    check.close(b:detach(), { -2.3 })
  end)
end)

describe("no_decay", function()
  it("parts a network's parameters by their dimensions, in the order of registration", function()
    local net = cld.nn.sequential(cld.nn.conv2d(3, 4, 1), cld.nn.batch_norm2d(4), cld.nn.linear(4, 2))
    local groups = cld.optim.no_decay(net)
    local shapes = {}
    for g, list in ipairs(groups) do
      shapes[g] = {}
      for i, p in ipairs(list.params) do shapes[g][i] = table.concat(p.shape, "x") end
    end
    assert.same({ { "4x3x1x1", "2x4" }, { "4", "4", "4", "2" } }, shapes)
    assert.same({ 0, false }, { groups[2].weight_decay, groups[2].adapt })
    assert.same({}, { groups[1].weight_decay, groups[1].adapt })
    for _, rule in ipairs { "sgd", "lars", "adam", "adamw" } do
      assert.equal(2, #cld.optim[rule](groups, { lr = 1 }).groups)
    end
  end)

  it("leaves out a group without parameters", function()
    assert.equal(1, #cld.optim.no_decay { cld.ones(2), cld.ones(3) })
    assert.equal(0, cld.optim.no_decay { cld.ones(2) }[1].weight_decay)
    assert.is_nil(cld.optim.no_decay(cld.nn.linear(2, 2, { bias = false }))[1].weight_decay)
    check.fails(function() cld.optim.no_decay(3) end, "no_decay: expected a list of tensors or a module, got 3")
    check.fails(function() cld.optim.no_decay { 3 } end, "no_decay: entry 1 of the list is 3, not a tensor")
  end)
end)
