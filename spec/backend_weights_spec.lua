--- Copies of weights and gradients of weights, which a device may compute for all of them at once.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"

local function both(device, precision, f)
  local was = cld.set_precision(precision)
  local _ <close> = setmetatable({}, { __close = function() cld.set_precision(was) end })
  return f(device)
end

-- Three steps with two convolutions of one weight, a grouped one, and a 1 x 1; the gradients of the last.
local function train(device)
  cld.manual_seed(1)
  local shared = (cld.randn(8, 8, 3, 3) * 0.1):to(device):requires_grad_()
  local grouped = (cld.randn(8, 2, 3, 3) * 0.1):to(device):requires_grad_()
  local one = (cld.randn(16, 8, 1, 1) * 0.1):to(device):requires_grad_()
  local x = cld.randn(4, 8, 6, 6):to(device)
  local conv2d = cld.nn.functional.conv2d
  local sgd = cld.optim.sgd({ shared, grouped, one }, { lr = 0.1, momentum = 0.9 })
  local losses = {}
  for i = 1, 3 do
    local y = conv2d(conv2d(x, shared, nil, { padding = 1 }), shared, nil, { padding = 1 })
    y = conv2d(conv2d(y, grouped, nil, { padding = 1, groups = 4 }), one)
    local loss = y:to("f32"):square():mean()
    losses[i] = loss:item()
    sgd:step(loss)
  end
  return losses, { shared.grad:cpu(), grouped.grad:cpu(), one.grad:cpu() }
end

-- Numbers of eight steps with weights that others write to as well: losses, weights, gradients. step(net, optimizer, x)
-- makes one; way.finite: none is to be skipped; way.rewritten: all weights are written to after each.
local function eight_steps(device, rule, settings, way)
  cld.manual_seed(2)
  local net = cld.nn.sequential(cld.nn.conv2d(3, 8, 3), cld.nn.relu(), cld.nn.conv2d(8, 8, 3), cld.nn.flatten(),
    cld.nn.linear(8 * 2 * 2, 5)):to(device)
  local parameters = net:parameters()
  local optimizer = cld.optim[rule](parameters, settings)
  local run = function(x) return way.step(net, optimizer, x):detach() end
  if way.graph then run = cld.graph(run) end
  local before, seen = {}, {}
  for name, value in pairs(net:state_dict()) do before[name] = value:clone() end
  local function see(x)
    local number = x:detach():to("f32"):sum():item()
    seen[#seen + 1] = number == number and number or "nan"
  end
  for i = 1, 8 do
    local x = cld.randn(4, 3, 6, 6)
    if i == 4 and not way.finite then x = x * math.huge end
    see(run(x:to(device)))
    for _, p in ipairs(parameters) do
      see(p)
      if i % 2 == 0 then
        assert.same({ "f32", p.shape }, { p.grad.dtype, p.grad.shape })
        see(p.grad:square())
        see(p.grad:reshape(-1):narrow(1, 2, 2))
      end
    end
    cld.no_grad(function()
      if i == 2 then parameters[3]:mul_(0.5) end
      if i == 3 then parameters[1]:mul_(-2) end
      if i == 5 then see(net(cld.ones(1, 3, 6, 6):to(device))) end
      if i == 6 then net:load_state_dict(before) end
      if i == 7 or way.rewritten then for _, p in ipairs(parameters) do p:mul_(1) end end
    end)
  end
  return seen
end

local function from_loss(net, optimizer, x)
  local loss = net(x):square():mean()
  optimizer:step(loss)
  return loss
end

local ways = {
  ["one loss"] = from_loss,
  ["one loss, clipped"] = function(net, optimizer, x)
    local loss = net(x):square():mean()
    optimizer:step(loss, { clip = 0.01 })
    return loss
  end,
  ["two losses and two calls"] = function(net, optimizer, x)
    optimizer:begin()
    local one, two = net(x):square():mean(), net(x * 2):square():mean()
    optimizer:add(one, 0.5)
    optimizer:add(two + net(x):mean(), 0.5)
    optimizer:finish()
    return one + two
  end,
  ["gradients that are clipped by hand"] = function(net, optimizer, x)
    optimizer:zero_grad()
    local loss = net(x):square():mean()
    loss:backward()
    cld.optim.clip_grad_norm(net:parameters(), 0.01)
    cld.no_grad(function() net:parameters()[1].grad:mul_(0.5) end)
    optimizer:step()
    return loss
  end,
}

-- Dense gradients, and copies that are made anew.
local function by_hand(net, optimizer, x)
  optimizer:zero_grad()
  local loss = net(x):square():mean()
  loss:backward()
  optimizer:step()
  return loss
end

local rules = { sgd = { lr = 0.1, momentum = 0.9, weight_decay = 1e-3 }, lars = { lr = 0.1, momentum = 0.9 },
  adamw = { lr = 0.01 } }

for _, device in ipairs(devices.names) do
  describe("weights on " .. device, function()
    for precision, tolerance in pairs { fp32 = 1e-4, bf16 = 3e-2 } do
      it("in " .. precision .. " have the gradients of the cpu, one that is used twice as well", function()
        local losses, gradients = both(device, precision, train)
        local expected_losses, expected = both("cpu", precision, train)
        for i, loss in ipairs(losses) do
          assert.is_false(not (math.abs(loss - expected_losses[i]) <= tolerance * expected_losses[i]))
        end
        for i, gradient in ipairs(gradients) do
          assert.equal("f32", gradient.dtype)
          local err = (gradient - expected[i]):abs():max():item() / expected[i]:abs():max():item()
          assert.is_false(not (err <= tolerance), i .. ": " .. err)
        end
      end)
    end

    it("that are written to between two calls are taken as they are then", function()
      both(device, "bf16", function()
        local w = cld.ones(8, 8, 3, 3):to(device):requires_grad_()
        local v = cld.ones(8, 8, 3, 3):to(device):requires_grad_()
        local x = cld.ones(1, 8, 3, 3):to(device)
        local function middle(weight) return cld.nn.functional.conv2d(x, weight):detach():to("f32"):max():item() end
        assert.equal(72, middle(w))
        assert.equal(72, middle(v))
        cld.no_grad(function()
          w:fill_(2)
          v:fill_(3)
        end)
        assert.equal(144, middle(w))
        assert.equal(216, middle(v))
        cld.no_grad(function() v:fill_(4) end)
        assert.equal(144, middle(w))
        assert.equal(288, middle(v))
      end)
    end)

    for rule, settings in pairs(rules) do
      it("of 16 bits, copies and gradients, give " .. rule .. " the bits that dense ones give it", function()
        both(device, "bf16", function()
          local expected = eight_steps(device, rule, settings, { step = by_hand, finite = true, rewritten = true })
          assert.same(expected, eight_steps(device, rule, settings, { step = from_loss, finite = true }))
        end)
      end)
    end

    for precision in pairs { bf16 = true, fp16 = true } do
      for name, step in pairs(ways) do
        if precision == "bf16" or name ~= "gradients that are clipped by hand" then
          it(("in %s are those of uncaptured steps in captured ones: %s"):format(precision, name), function()
            both(device, precision, function()
              local way = { step = step, finite = name == "gradients that are clipped by hand" }
              local expected = eight_steps(device, "sgd", rules.sgd, way)
              way.graph = true
              assert.same(expected, eight_steps(device, "sgd", rules.sgd, way))
            end)
          end)
        end
      end
    end

    it("of several devices are refused by a step of two losses and by clipping too", function()
      both(device, "bf16", function()
        local one, two = cld.ones(8, 8, 3, 3):requires_grad_(), cld.ones(8, 8, 3, 3):to(device):requires_grad_()
        local x = cld.ones(1, 8, 3, 3):to(device)
        local function loss() return cld.nn.functional.conv2d(x, two):to("f32"):square():mean() end
        local sgd = cld.optim.sgd({ one, two }, { lr = 0.1 })
        sgd:begin()
        sgd:add(loss())
        sgd:add(loss())
        check.fails(function() sgd:finish() end,
          "sgd: parameter 2 is on cuda:0, its gradient on cuda:0, parameter 1 on cpu")
        two.grad = nil
        check.fails(function() sgd:step(loss()) end, "sgd: parameter 2 is on cuda:0")
        both(device, "fp16", function()
          check.fails(function() sgd:step(loss()) end, "sgd: parameter 2 is on cuda:0")
          sgd:zero_grad()
        end)
        sgd:begin()
        sgd:add(loss())
        check.fails(function() cld.optim.clip_grad_norm({ one, two }, 1) end, "clip_grad_norm: .* on cuda:0")
        assert.equal("f32", two.grad.dtype)
      end)
    end)

    it("have gradients that others' graphs leave alone, and their own step's renews", function()
      both(device, "bf16", function()
        cld.manual_seed(3)
        local w = (cld.randn(8, 8, 3, 3) * 0.1):to(device):requires_grad_()
        local sgd, x = cld.optim.sgd({ w }, { lr = 0.1 }), cld.randn(2, 8, 5, 5):to(device)
        local function loss_of(input) return cld.nn.functional.conv2d(input, w):to("f32"):square():mean() end
        local step = cld.graph(function(input) sgd:step(loss_of(input)) end)
        local other = cld.graph(function(input) return input * 2 end)
        for _ = 1, 4 do
          step(x)
          other(x)
        end
        local function gradient() return w.grad:cpu():totable() end
        local left = gradient()
        cld.no_grad(function() w.grad:fill_(1) end)
        other(x)
        assert.same(cld.ones(8, 8, 3, 3):totable(), gradient())
        loss_of(x):backward()
        local sum = gradient()
        assert.not_same(cld.ones(8, 8, 3, 3):totable(), sum)
        other(x)
        assert.same(sum, gradient())
        local before = w:detach():cpu()
        step(x)
        local moved = (before - w:detach():cpu()) * 10
        assert.not_same(left, gradient())
        assert.is_false(not ((moved - w.grad:cpu()):abs():max():item() <= 1e-5))
      end)
    end)

    it("have gradients that keep no memory when they were read", function()
      both(device, "bf16", function()
        local w = (cld.randn(8, 8, 3, 3) * 0.1):to(device):requires_grad_()
        local sgd, x = cld.optim.sgd({ w }, { lr = 0.1 }), cld.randn(2, 8, 5, 5):to(device)
        local alive
        for i = 1, 4 do
          sgd:step(cld.nn.functional.conv2d(x, w):to("f32"):square():mean())
          assert.equal("f32", w.grad.dtype)
          assert.is_true(w.grad:is_contiguous())
          collectgarbage()
          collectgarbage()
          if i == 2 then alive = cld.tensors_alive() end
        end
        assert.equal(alive, cld.tensors_alive())
      end)
    end)
  end)
end
