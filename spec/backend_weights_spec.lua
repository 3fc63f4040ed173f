--- Copies of weights and gradients of weights, which a device may make for all at once.
local cld = require "cld"
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
  end)
end
