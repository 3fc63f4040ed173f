--- Whole training steps on a device: they are as on the cpu, the same with and without a graph, and never wait; and
-- what happens if memory runs out. They are small on the emulated device; `make gpu-check` runs larger ones.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"

local nn = cld.nn

-- A network with all that a ResNet has, in a few layers: what the emulated device has time for.
local Small = nn.module "small"

function Small:build()
  self.conv1, self.bn1 = nn.conv2d(3, 8, 3, { padding = 1, bias = false }), nn.batch_norm2d(8)
  self.conv2, self.bn2 = nn.conv2d(8, 16, 3, { padding = 1, stride = 2, bias = false }), nn.batch_norm2d(16)
  self.shortcut = nn.sequential(nn.conv2d(8, 16, 1, { stride = 2, bias = false }), nn.batch_norm2d(16))
  self.linear, self.groupDis = nn.linear(16, 32), nn.sequential(nn.linear(16, 32), nn.normalize())
end

function Small:forward(x)
  local a = self.bn1(self.conv1(x), { relu = true })
  local b = self.bn2(self.conv2(a), { relu = true, residual = self.shortcut(a) })
  local pooled = nn.functional.avg_pool2d(b, { b.shape[3], b.shape[4] }):flatten(2, -1)
  return self.linear(pooled):normalize(), self.groupDis(pooled)
end

-- On the emulated device few steps of that; on a GPU those that the guide speaks of.
local sizes = { images = 512, batch = 64, pixels = 32, steps = 20, dim = 128 }
local function network() return cld.models.resnet18_cifar { width = 16 } end
if cld.cuda.is_emulated() then
  sizes = { images = 24, batch = 8, pixels = 12, steps = 5, dim = 32 }
  network = Small
end

local function images()
  cld.manual_seed(3)
  local few = cld.rand(sizes.images, sizes.pixels, sizes.pixels, 3):mul(256):to "u8"
  return cld.data.tensors { images = few }
end

local methods = {}

function methods.npid(device, net, sgd)
  local bank = cld.losses.memory_bank { size = sizes.images, dim = sizes.dim, device = device }
  return 2, function(views, index, rate)
    local f1, g1 = net(views[1])
    local f2, g2 = net(views[2])
    local instance = (bank:loss(f1, index) + bank:loss(f2, index)) / 2
    local group = cld.losses.cld(g1, g2, { clusters = 4, iterations = 5, temperature = 0.2 })
    sgd:step(instance + group, { lr = rate })
    return { instance = instance, group = group }
  end, { bank = bank }
end

function methods.nce(device, net, sgd)
  local bank = cld.losses.memory_bank { size = sizes.images, dim = sizes.dim, negatives = 16, device = device }
  return 2, function(views, index, rate)
    local instance = (bank:loss(net(views[1]), index) + bank:loss(net(views[2]), index)) / 2
    sgd:step(instance, { lr = rate })
    return { instance = instance }
  end, { bank = bank }
end

function methods.moco(device, net, sgd)
  local keys = network():to(device)
  keys:load_state_dict(net:state_dict())
  local queue = cld.losses.moco_queue { size = 20, dim = sizes.dim, temperature = 0.07, device = device }
  return 3, function(views, _, rate)
    local q1, g1 = net(views[1])
    local q2, g2 = net(views[2])
    local k = cld.no_grad(function() return (keys(views[3])) end)
    local instance = (queue:loss(q1, k) + queue:loss(q2, k)) / 2
    local group = cld.losses.cld(g1, g2, { clusters = 4, iterations = 5, temperature = 0.2 })
    local made = sgd:step(instance + group, { lr = rate })
    cld.optim.ema(keys, net, 0.9, made)
    queue:enqueue(k, made)
    return { instance = instance, group = group }
  end, { queue = queue }
end

-- Both views at once, LARS, and a momentum of the target that differs from step to step.
function methods.byol(device, net)
  local predictor, target = nn.projector(sizes.dim, 16, sizes.dim):to(device), net:clone()
  local lars = cld.optim.lars(cld.optim.no_decay(nn.module_list(net, predictor)), { weight_decay = 1e-4, eta = 0.02 })
  return 2, function(views, _, rate)
    local z, g = net:each(views)
    local p = predictor:each(z)
    local t = cld.no_grad(function() return (target:each(views)) end)
    local instance = cld.losses.byol(p[1], p[2], t[1], t[2], 4)
    local group = cld.losses.cld(g[1], g[2], { clusters = 4, iterations = 5, temperature = 0.2 })
    local made = lars:step(instance + group, { lr = rate })
    cld.optim.ema(target, net, rate * 10, made)
    return { instance = instance, group = group }
  end, { predictor = predictor, target = target }
end

function methods.simclr(_, net, sgd)
  return 2, function(views, _, rate)
    local z = net:each(views)
    local instance = cld.losses.nt_xent(z[1], z[2], 0.5)
    sgd:step(instance, { lr = rate })
    return { instance = instance }
  end, {}
end

-- {name = {values}} of every step, and the state of all at the end, on the cpu. settings: {device, method, precision,
-- graph, rate}. A high rate soon makes one row change its group, and two devices' losses part.
local function train(settings)
  local before = cld.set_precision(settings.precision or "fp32")
  cld.manual_seed(7)
  local device = settings.device
  local net = network():to(device)
  local sgd = cld.optim.sgd(net:parameters(), { momentum = 0.9, weight_decay = 5e-4 })
  local views, body, objects = methods[settings.method or "npid"](device, net, sgd)
  local loader = cld.data.loader {
    images(), batch_size = sizes.batch, views = views, seed = 5, device = device, dtype = "auto", workers = 0,
    augment = cld.augment.cifar { size = sizes.pixels },
  }
  local step = cld.graph(body, { enabled = settings.graph or false })
  local losses, done, epoch = {}, 0, 0
  while done < sizes.steps do
    epoch = epoch + 1
    for batch in loader:epoch(epoch) do
      if settings.before_step then settings.before_step(done) end
      local rate = (settings.rate or 0.02) * (1 + done % 3)
      local result = step(batch.views, batch.index, rate)
      if settings.after_step then settings.after_step(done) end
      for name, value in pairs(result) do
        losses[name] = losses[name] or {}
        table.insert(losses[name], value:item())
      end
      done = done + 1
      if done == sizes.steps then break end
    end
  end
  local state = {}
  for name, tensor in pairs(net:state_dict()) do state["net." .. name] = tensor:cpu() end
  for name, object in pairs(objects) do
    for key, tensor in pairs(object:state_dict()) do state[name .. "." .. key] = tensor:cpu() end
  end
  cld.set_precision(before)
  return losses, state
end

local function check_states(actual, expected, options)
  for name, tensor in pairs(expected) do
    local ok, message = pcall(check.close, actual[name], tensor, options)
    if not ok then error(name .. ": " .. tostring(message), 0) end
  end
end

devices.each("a training step", function(device)
  for _, method in ipairs { "npid", "nce", "moco", "byol", "simclr" } do
    it(method .. ": the losses of the cpu, from the same seed", function()
      local losses = train { device = device, method = method, rate = 1e-3 }
      local expected = train { device = "cpu", method = method, rate = 1e-3 }
      for name, values in pairs(expected) do check.close(losses[name], values, { atol = 1e-3, rtol = 1e-3 }) end
    end)

    it(method .. ": the same with a graph as without, bit for bit", function()
      local losses, state = train { device = device, method = method, graph = true }
      local expected_losses, expected = train { device = device, method = method }
      check.close(losses.instance, expected_losses.instance, { atol = 0, rtol = 0 })
      check_states(state, expected, { atol = 0, rtol = 0 })
    end)
  end

  for _, precision in ipairs { "bf16", "fp16", "tf32" } do
    it("in " .. precision .. ": near fp32's losses, with a graph too", function()
      local losses = train { device = device, precision = precision, graph = true }
      local expected = train { device = "cpu" }
      check.close(losses.instance, expected.instance, { atol = 0.1, rtol = 0.05 })
    end)
  end

  it("reads nothing back", function()
    local losses = train {
      device = device,
      before_step = function() cld.cuda.forbid_waiting(true) end,
      after_step = function() cld.cuda.forbid_waiting(false) end,
    }
    assert.equal(sizes.steps, #losses.instance)
  end)

  it("a value that is read in it is an error, which names what is not allowed", function()
    local step = cld.graph(function(x) return x:sum():item() end)
    local x = cld.ones(3):to(device)
    step(x)
    step(x)
    check.fails(function() step(x) end, "captur")
    local y = (x + 1):sum() -- the device goes on
    assert.equal(6, y:item())
    cld.cuda.forbid_waiting(true)
    local ok, message = pcall(y.item, y)
    cld.cuda.forbid_waiting(false)
    assert.is_false(ok)
    assert.matches("forbid_waiting", message)
  end)

  it("memory that runs out is an error with the figures, and the rest goes on", function()
    local limit = cld.cuda.memory().limit
    check.fails(function() cld.empty(limit // 4 + 2 ^ 28 // 1 | 0, { device = device }) end,
      "out of memory: wanted .* in use .* on cuda:0")
    local x <close> = cld.ones(5, { device = device })
    assert.equal(5, x:sum():item())
  end)
end)
