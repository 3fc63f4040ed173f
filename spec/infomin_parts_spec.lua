--- The parts of InfoMin + CLD: the network's layout with its head for jigsaw patches, and the loss. Whole steps are in
-- infomin_spec.lua.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"

local function network(settings)
  local all = { layout = "infomin", width = 4, dim = 5, small = true, jigsaw = true }
  for name, value in pairs(settings or {}) do all[name] = value end
  return cld.models.resnet18(all)
end

local function permutations(images, shift)
  local orders = {}
  for i = 1, images do
    orders[i] = {}
    for j = 0, 8 do orders[i][j + 1] = (2 * j + i + (shift or 0)) % 9 end
  end
  return cld.tensor(orders, "i64")
end

describe("the layout of InfoMin", function()
  local both, instance, group = { "instance", "group" }, { "instance" }, { "group" }
  local jigsaw_mlp = { "head_jig.fc1.0.weight 32x32", "head_jig.fc1.0.bias 32" }
  local cases = {
    { "linear", both, { "proj1.0.weight 5x32", "proj1.0.bias 5", "proj2.0.weight 5x32", "proj2.0.bias 5",
      "head_jig.fc1.weight 5x32", "head_jig.fc1.bias 5", "head_jig.fc2.weight 5x45", "head_jig.fc2.bias 5" } },
    { "linear", instance, { "head.0.weight 5x32", "head.0.bias 5" } },
    { "norm_linear", group, { "proj2.0.weight 32x5" } },
    { "mlp", both, { "head.0.weight 32x32", "head.0.bias 32", "proj1.0.weight 5x32", "proj1.0.bias 5",
      "proj2.0.weight 5x32", "proj2.0.bias 5", jigsaw_mlp[1], jigsaw_mlp[2], "head_jig.fc1.2.weight 5x32",
      "head_jig.fc1.2.bias 5", "head_jig.fc2.weight 5x45", "head_jig.fc2.bias 5" } },
    { "mlp", instance, { "head.0.weight 32x32", "head.0.bias 32", "head.2.weight 5x32", "head.2.bias 5" } },
    { "mlp", group, { "head.0.weight 32x32", "head.0.bias 32", "proj2.0.weight 5x32", "proj2.0.bias 5" } },
    { "norm_mlp", both, { "head.0.weight 32x32", "head.0.bias 32", "proj1.0.weight 32x5", "proj2.0.weight 32x5",
      jigsaw_mlp[1], jigsaw_mlp[2], "head_jig.fc1.2.weight 32x5", "head_jig.fc2.weight 45x5" } },
  }
  for _, case in ipairs(cases) do
    local head, branches, names = table.unpack(case)
    it(("has the published names, %s of %s"):format(head, table.concat(branches, " and ")), function()
      local found = {}
      for name, parameter in network { head = head, branches = branches }:named_parameters() do
        local own = not name:find "^encoder%." and not (name:find "^head_jig" and #branches == 1)
        if own then found[#found + 1] = ("%s %s"):format(name, table.concat(parameter.shape, "x")) end
      end
      assert.same(names, found)
    end)
  end

  it("has the trunk's names behind encoder, and the same features", function()
    local net, plain = network(), cld.models.resnet18 { width = 4, small = true, head = false }
    local state = {}
    for name, tensor in pairs(net:state_dict()) do
      local own = name:match "^encoder%.(.*)$"
      if own then state[own] = tensor end
    end
    plain:load_state_dict(state)
    local x = cld.randn(2, 3, 8, 8)
    check.close(net:eval():features(x), plain:eval():features(x))
    assert.equal(32, net.feature_width)
  end)

  it("gives rows of unit length in the branches' order", function()
    local net = network():eval()
    local x = cld.randn(3, 3, 8, 8)
    local hidden = net.head(net:features(x))
    local q, g = net(x)
    check.close(q, net.proj1(hidden):normalize(-1))
    check.close(g, net.proj2(hidden):normalize(-1))
    local turned = network { branches = { "group", "instance" } }:eval()
    turned:load_state_dict(net:state_dict())
    check.close(turned(x), g)
    check.close(network { branches = { "instance" } }(x):square():sum(2), cld.ones(3), { atol = 1e-5 })
  end)

  it("is made again by its description", function()
    local net = network { head = "norm_linear", stem = 6 }
    local again = cld.models.build(cld.models.description(net))
    again:load_state_dict(net:state_dict())
    local x = cld.randn(2, 3, 8, 8)
    check.close(again:eval()(x), (net:eval()(x)))
  end)
end)

describe("jigsaw patches", function()
  it("come into the places that the order says", function()
    local net = network():eval():to "f64"
    local patches, order = formula.uniform("patches", { 18, 3, 6, 6 }, "f64"), permutations(2)
    local each = net.head_jig.fc1(net:features(patches))
    local rows = {}
    for image = 0, 1 do
      local places = {}
      for j = 1, 9 do
        local patch = order[image + 1][j]:item()
        places[j] = each:narrow(1, 9 * image + patch + 1, 1)
      end
      rows[image + 1] = cld.cat(places, 2)
    end
    check.close(net:jigsaw(patches, order), net.head_jig.fc2(cld.cat(rows, 1)):normalize(-1), { atol = 1e-12 })
  end)

  it("have the gradients of central differences", function()
    local net = network { head = "norm_mlp" }:to "f64"
    formula.fill(net, "f64")
    local order = permutations(2, 4)
    check.gradcheck(function(features) return net.head_jig(features, order) end,
      { formula.uniform("features", { 18, 32 }, "f64") })
  end)

  it("are counted in images where batches are cut into blocks", function()
    local net, other = network():to "f64", network():to "f64"
    other:load_state_dict(net:state_dict())
    local patches, order = formula.uniform("patches", { 45, 3, 6, 6 }, "f64"), permutations(5)
    local rows = cld.nn.each(function(x) return net:jigsaw(x, order) end, { patches }, { block = 3, unit = 9 })[1]
    local first = other:jigsaw(patches:narrow(1, 1, 27), order:narrow(1, 1, 3))
    local second = other:jigsaw(patches:narrow(1, 28, 18), order:narrow(1, 4, 2))
    check.close(rows, cld.cat({ first, second }, 1), { atol = 1e-12 })
  end)

  it("have an order of their own in each image and call, drawn where they are", function()
    cld.manual_seed(3)
    local net = network()
    local first, second = net.orders(40, "cpu"), net.orders(40, "cpu")
    check.close(first:sort(2), cld.arange(0, 9, 1):reshape { 1, 9 }:expand { 40, 9 })
    assert.is_true(first:ne(second):any():item() ~= 0)
    assert.is_true(first[1]:ne(first[2]):any():item() ~= 0)
    net:eval()
    local patches = cld.randn(9, 3, 6, 6)
    cld.manual_seed(3)
    local drawn = net:jigsaw(patches)
    cld.manual_seed(3)
    check.close(drawn, net:jigsaw(patches, net.orders(1, "cpu")))
  end)

  it("say what they are not", function()
    local net, patches = network(), cld.randn(18, 3, 6, 6)
    local function fails(pattern, ...)
      local given = table.pack(...)
      check.fails(function() net:jigsaw(table.unpack(given, 1, given.n)) end, "infomin_parts_spec.lua:%d+: " .. pattern)
    end
    check.fails(function() net.orders(2.5) end, "orders: images must be an integer of at least 0, got 2.5")
    fails("jigsaw: 17 patches are not nine of each image", patches:narrow(1, 1, 17))
    fails("jigsaw: 8 patches are not nine of each image", patches:narrow(1, 1, 8))
    fails("jigsaw: the patches are .*; expected %(9 n, 3, height, width%), nine of each image", cld.randn(18, 3))
    fails("jigsaw: the order is 'order'; expected i64%[2, 9%], the patch at each place of each image", patches, "order")
    fails("jigsaw: the order is .*; expected i64%[2, 9%]", patches, permutations(3))
    fails("jigsaw: the order is .*; expected i64%[2, 9%]", patches, permutations(2):float())
    fails("jigsaw: each row of the order must have 0 to 8 once", patches, cld.zeros({ 2, 9 }, "i64"))
    fails("jigsaw: each row of the order must have 0 to 8 once", patches, permutations(2) + 1)
    net = network { jigsaw = false }
    fails("jigsaw: the network has no head for patches; make it with jigsaw = true", patches)
  end)
end)

devices.each("the jigsaw head", function(device)
  it("gives what it gives on the cpu, gradients too", function()
    local net = formula.fill(network(), "f32")
    local there = net:clone():to(device)
    devices.same(device, function(features, order)
      local head = features.device == "cpu" and net.head_jig or there.head_jig
      return head(features, order)
    end, { formula.uniform("features", { 18, 32 }, "f32"), permutations(2) }, { gradients = true, atol = 1e-5 })
  end)

  it("draws the orders of the cpu", function()
    cld.manual_seed(7)
    local here = network().orders(6, "cpu")
    cld.manual_seed(7)
    check.close(network().orders(6, device):to "cpu", here)
  end)
end)

-- ---- the loss ---------------------------------------------------------------------

local function unit(name, rows) return formula.uniform(name, { rows, 5 }, "f64"):normalize(-1) end

local function queue_of(size, device)
  local queue = cld.losses.moco_queue { size = size, dim = 5, temperature = 0.15, dtype = "f64", device = device }
  queue:load_state_dict { memory = unit("memory", size) }
  return queue
end

describe("the loss of InfoMin", function()
  local q1, q2, jig, k, other, queue
  before_each(function()
    q1, q2, jig, k, other = unit("q1", 3), unit("q2", 3), unit("jig", 3), unit("k", 3), unit("other", 3)
    queue = queue_of(8)
  end)
  after_each(function() q1, q2, jig, k, other, queue = nil, nil, nil, nil, nil, nil end)

  it("is the mean of two calls, views and patches weighted", function()
    local function entropy(x) return queue:loss(x, k) end
    local loss = cld.losses.infomin { queue = queue, beta = 0.25 }
    check.close(loss:loss(q1, q2, jig, k), 0.75 * (entropy(q1) + entropy(q2)) / 2 + 0.25 * entropy(jig))
    check.close(loss:loss(q1, nil, jig, k), 0.75 * entropy(q1) + 0.25 * entropy(jig))
    check.close(loss:loss(q1, q2, nil, k), (entropy(q1) + entropy(q2)) / 2)
    check.close(loss:loss(q1, nil, nil, k), entropy(q1))
  end)

  it("sees the keys in its second call where they are enqueued twice", function()
    local later = queue_of(8)
    later:enqueue(k)
    local loss = cld.losses.infomin { queue = queue, double_enqueue = true }
    local first = (queue:loss(q1, k) + queue:loss(jig, k)) / 2
    local second = (later:loss(q2, k) + later:loss(jig, k)) / 2
    check.close(loss:loss(q1, q2, jig, k), (first + second) / 2)
    check.close(queue.memory, unit("memory", 8)) -- until a backward
  end)

  it("has the gradients of central differences", function()
    for _, double in ipairs { false, true } do
      local loss = cld.losses.infomin { queue = queue, beta = 0.3, double_enqueue = double }
      check.gradcheck(function(a, b, c)
        queue:load_state_dict { memory = unit("memory", 8), pointer = cld.zeros({}, "i64") } -- a backward enqueues
        return loss:loss(a, b, c, k)
      end, { q1, q2, jig })
    end
  end)

  local function rows(from, to) return queue.memory:narrow(1, from, to - from + 1) end

  it("enqueues the keys when its backward has run, once or twice", function()
    for times, double in ipairs { false, true } do
      queue = queue_of(8)
      local q = q1:clone():requires_grad_()
      local loss = cld.losses.infomin { queue = queue, double_enqueue = double }:loss(q, q2, jig, k)
      assert.equal(0, queue.pointer:item())
      loss:backward()
      assert.equal(3 * times, queue.pointer:item())
      for i = 1, times do check.close(rows(3 * i - 2, 3 * i), k) end
    end
  end)

  it("enqueues nothing without a tape", function()
    local q = q1:clone():requires_grad_()
    cld.no_grad(function() cld.losses.infomin { queue = queue }:loss(q, q2, jig, k) end)
    cld.losses.infomin { queue = queue }:loss(q1, q2, jig, k)
    assert.equal(0, queue.pointer:item())
  end)

  it("enqueues in the order of a step's parts, after it, and nothing if it is skipped", function()
    local w = cld.ones({ 5 }, "f64"):requires_grad_()
    local sgd, loss = cld.optim.sgd({ w }, { lr = 0.1 }), cld.losses.infomin { queue = queue }
    for skipped, poison in pairs { [false] = 1, [true] = 0 / 0 } do
      queue:load_state_dict { memory = unit("memory", 8), pointer = cld.zeros({}, "i64") }
      sgd:begin()
      sgd:add(loss:loss(q1 * w, q2 * w, nil, k))
      sgd:add(loss:loss(q1 * w, q2 * w, nil, other) * poison)
      assert.equal(0, queue.pointer:item())
      sgd:finish()
      assert.equal(skipped and 0 or 6, queue.pointer:item())
      check.close(rows(1, 3), skipped and unit("memory", 8):narrow(1, 1, 3) or k)
      check.close(rows(4, 6), skipped and unit("memory", 8):narrow(1, 4, 3) or other)
    end
  end)

  it("says what is wrong", function()
    local loss = cld.losses.infomin { queue = queue }
    local function fails(pattern, f) check.fails(f, "infomin_parts_spec.lua:%d+: infomin: " .. pattern) end
    fails("queue is nil; expected one of cld.losses.moco_queue", function() cld.losses.infomin {} end)
    fails("beta is 2; expected 0 to 1", function() cld.losses.infomin { queue = queue, beta = 2 } end)
    fails("double_enqueue is 1; expected true or false", function()
      cld.losses.infomin { queue = queue, double_enqueue = 1 }
    end)
    fails("q1 is nil, the keys are .*; expected the same shape", function() loss:loss(nil, nil, nil, k) end)
    fails("q_jig is .*, the keys are .*; expected the same shape", function() loss:loss(q1, q2, unit("j", 2), k) end)
    fails("the keys are nil; expected %(n, 5%)", function() loss:loss(q1, q2, jig) end)
    fails("9 keys do not fit into a queue of 8; expected a queue of a batch or more", function()
      loss:loss(unit("a", 9), unit("b", 9), nil, unit("c", 9))
    end)
  end)
end)

devices.each("the loss of InfoMin", function(device)
  it("leaves what it leaves on the cpu", function()
    for _, double in ipairs { false, true } do
      devices.same(device, function(q1, q2, jig, k)
        local queue = queue_of(8, k.device)
        local w = cld.ones({ 5 }, { dtype = "f64", device = k.device }):requires_grad_()
        local loss = cld.losses.infomin { queue = queue, double_enqueue = double }
        local value = loss:loss(q1 * w, q2 * w, jig * w, k)
        value:backward()
        return value:detach(), w.grad, queue.memory, queue.pointer
      end, { unit("q1", 3), unit("q2", 3), unit("jig", 3), unit("k", 3) }, { atol = 1e-12 })
    end
  end)
end)
