--- Three whole training steps of NPID + CLD and of MoCo + CLD against PyTorch: fixtures/make_model.py, in f64.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"

-- As in make_model.py.
local BATCH, STEPS, CLUSTERS, LR, ROWS, DIM = 8, 3, 3, 0.003, 20, 16

local function images(step, view, dtype)
  local noise = formula.uniform(("view%d.step%d"):format(view, step), { BATCH, 3, 16, 16 }, dtype)
  return noise + formula.uniform("step" .. step, { BATCH, 3, 1, 1 }, dtype, 2)
end

local function network(dtype, norm_linear)
  local net = cld.models.resnet18_cifar { low_dim = DIM, width = 16, norm_linear = norm_linear }
  return formula.fill(net, dtype)
end

local function rows(dtype) return formula.uniform("memory", { ROWS, DIM }, dtype, math.sqrt(3 / DIM)) end

local function optimizer(net)
  return cld.optim.sgd(net:parameters(), { lr = LR, momentum = 0.9, weight_decay = 7e-4 })
end

local function group_loss(g1, g2)
  return cld.losses.cld(g1, g2, { clusters = CLUSTERS, iterations = 5, temperature = 0.2 })
end

local function number(value) return type(value) == "number" and value or value:item() end

-- Each returns {instance loss, group loss, group accuracy} per step, the network, and what else is compared.
local function npid(dtype)
  local net = network(dtype, false)
  local bank = cld.losses.memory_bank { size = ROWS, dim = DIM, momentum = 0.5, temperature = 0.1, dtype = dtype }
  bank:load_state_dict { memory = rows(dtype) }
  local sgd, losses = optimizer(net), {}
  for step = 0, STEPS - 1 do
    local index = {}
    for i = 0, BATCH - 1 do index[i + 1] = (i * 7 + 11 * step) % ROWS end
    index = cld.tensor(index, "i64")
    local f1, g1 = net(images(step, 1, dtype))
    local f2, g2 = net(images(step, 2, dtype))
    local instance = (bank:loss(f1, index) + bank:loss(f2, index)) / 2
    local group, hit = group_loss(g1, g2)
    losses[step + 1] = { instance:item(), group:item(), number(hit) }
    sgd:step(instance + group)
  end
  return losses, net, { memory = bank:state_dict().memory }
end

local function moco(dtype)
  local net, keys = network(dtype, true), network(dtype, true)
  local queue = cld.losses.moco_queue { size = ROWS, dim = DIM, temperature = 0.07, dtype = dtype }
  queue:load_state_dict { memory = rows(dtype), pointer = cld.tensor({ 0 }, "i64"):reshape {} }
  local sgd, losses = optimizer(net), {}
  for step = 0, STEPS - 1 do
    local q1, g1 = net(images(step, 1, dtype))
    local q2, g2 = net(images(step, 2, dtype))
    local key = cld.no_grad(function() return (keys(images(step, 3, dtype))) end)
    local instance = (queue:loss(q1, key) + queue:loss(q2, key)) / 2
    local group, hit = group_loss(g1, g2)
    losses[step + 1] = { instance:item(), group:item(), number(hit) }
    sgd:step(instance + 0.25 * group)
    cld.optim.ema(keys, net, 0.9)
    queue:enqueue(key)
  end
  local state = queue:state_dict()
  return losses, net, {
    memory = state.memory, pointer = state.pointer,
    ["keys.conv1.weight"] = keys:get_parameter "conv1.weight",
    ["keys.linear.weight"] = keys:get_parameter "linear.weight",
  }
end

-- f64 shows that the mathematics is the same; f32, with Winograd convolutions, drifts a little in each step, and a relu
-- that falls on its other side shows at once in so small a batch.
local cases = {
  { dtype = "f64", tolerance = 1e-9 },
  { dtype = "f32", tolerance = 5e-3 },
}

describe("three training steps agree with PyTorch", function()
  for name, method in pairs { npid = npid, moco = moco } do
    for _, case in ipairs(cases) do
      it(("%s + CLD, %s"):format(name, case.dtype), function()
        local fixture = cld.load "spec/fixtures/training.safetensors"
        local function compare(actual, entry)
          local expected = fixture[name .. "." .. entry]
          local scale = expected:double():abs():amax():item()
          local ok, message = pcall(check.close, actual, expected, { atol = case.tolerance * scale, rtol = 0 })
          assert(ok, entry .. ": " .. tostring(message))
        end
        local losses, net, others = method(case.dtype)
        compare(losses, "losses")
        for parameter, tensor in net:named_parameters() do
          compare(tensor:detach():square():sum():sqrt(), "norm." .. parameter)
        end
        compare(net:get_parameter "conv1.weight", "conv1.weight")
        for entry, tensor in pairs(others) do compare(tensor, entry) end
      end)
    end
  end
end)
