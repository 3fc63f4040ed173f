--- Steps in blocks: CLD per block against a call for each block, and one process with blocks against two processes of
-- the published code (spec/fixtures/make_blocks.py).
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"
local nn = cld.nn

local all_devices = { "cpu", table.unpack(devices.names) }

-- ---- CLD -----------------------------------------------------------------------

local function features(rows, dtype, device)
  local list = {}
  for i = 1, 2 do
    local unit = formula.uniform("g" .. i, { rows, 7 }, "f64"):normalize()
    list[i] = unit:to(dtype):to(device):requires_grad_()
  end
  return list[1], list[2]
end

local function options(clusters, block, detach)
  return { clusters = clusters, iterations = 5, temperature = 0.2, block = block, detach_centroids = detach }
end

-- Loss, accuracy and share of empty groups by a call for each block: means weighted with the rows.
local function block_by_block(g1, g2, clusters, block, detach)
  local rows = g1.shape[1]
  local blocks = nn.blocks(rows, { block = block })[1].blocks
  local sums = { 0, 0, 0 }
  for b = 0, blocks - 1 do
    local from = nn.functional.part_begin({ blocks = blocks }, rows, b)
    local count = nn.functional.part_begin({ blocks = blocks }, rows, b + 1) - from
    local results = { cld.losses.cld(g1:narrow(1, from + 1, count), g2:narrow(1, from + 1, count),
      options(clusters, nil, detach)) }
    for i = 1, 3 do sums[i] = sums[i] + results[i] * (count / rows) end
  end
  return table.unpack(sums)
end

for _, device in ipairs(all_devices) do
  describe("cld by blocks on " .. device, function()
    for dtype, limits in pairs { f64 = { atol = 1e-12, rtol = 1e-12 }, f32 = { atol = 1e-5, rtol = 1e-5 } } do
      -- rows, block, clusters: blocks alike and not, fewer and more clusters than rows, one block.
      for _, case in ipairs { { 12, 6, 3 }, { 11, 4, 3 }, { 13, 4, 4 }, { 11, 4, 9 }, { 9, 20, 4 } } do
        local rows, block, clusters = table.unpack(case)
        for _, detach in ipairs { false, true } do
          it(("is a call for each block: %d rows, block %d, %d clusters, %s%s"):format(rows, block, clusters, dtype,
            detach and ", detached" or ""), function()
            local a1, a2 = features(rows, dtype, device)
            local loss, accuracy, empty = cld.losses.cld(a1, a2, options(clusters, block, detach))
            loss:backward()
            local b1, b2 = features(rows, dtype, device)
            local loss_b, accuracy_b, empty_b = block_by_block(b1, b2, clusters, block, detach)
            loss_b:backward()
            check.close(loss, loss_b, limits)
            check.close(accuracy, accuracy_b, { atol = 1e-6 })
            check.close(empty, empty_b, { atol = 1e-6 })
            check.close(a1.grad, b1.grad, limits)
            check.close(a2.grad, b2.grad, limits)
          end)
        end
      end
    end

    it("tells the share of empty groups", function()
      local function share(list, clusters, block)
        local g = cld.tensor(list):to(device)
        local _, _, empty = cld.losses.cld(g, g, options(clusters, block))
        assert.same({}, empty.shape)
        assert.equal("f32", empty.dtype)
        assert.is_false(empty.requires_grad)
        return empty
      end
      local function is(expected, ...) check.close(share(...), expected, { atol = 1e-6 }) end
      local a, b = { 1, 0 }, { 0, 1 }
      is(0, { a, b, b, a }, 2)
      is(1 / 3, { a, a, b, b }, 3) -- group 2 is group 1's twin
      is(2 / 4, { a, a, b, b }, 4)
      is(2 / 4, { a, a, b, b }, 7) -- of four rows in seven groups three groups are not counted
      is(0.6 * (1 / 2) + 0.4 * 0, { a, a, a, a, b }, 2, 3)
    end)
  end)
end

describe("cld by blocks", function()
  it("is cross-view discrimination inside each block where clusters are as many as its rows", function()
    local g1, g2 = features(8, "f64", "cpu")
    local loss = cld.losses.cld(g1, g2, options(6, 4))
    local expected = 0
    for b = 0, 1 do
      local x, y = g1:narrow(1, 4 * b + 1, 4), g2:narrow(1, 4 * b + 1, 4)
      local zeros, own = cld.zeros({ 4, 2 }, "f64"), cld.arange(0, 4, 1)
      expected = expected + (nn.functional.cross_entropy(cld.cat({ x:matmul(y:t()), zeros }, 2) / 0.2, own)
        + nn.functional.cross_entropy(cld.cat({ y:matmul(x:t()), zeros }, 2) / 0.2, own)) / 4
    end
    check.close(loss, expected)
    loss:backward()
    local d1, d2 = g1.grad, g2.grad
    g1.grad, g2.grad = nil, nil
    expected:backward()
    check.close(d1, g1.grad)
    check.close(d2, g2.grad)
  end)

  it("gives equal rows to the first of them", function()
    local x = cld.tensor({ { 1, 0 }, { 0, 1 }, { 1, 0 }, { 0, 1 }, { 1, 0 } }, "f64")
    local labels, centroids = cld.losses.kmeans(x, 6, 5)
    assert.same({ 0, 1, 0, 1, 0 }, labels:totable())
    check.close(centroids, { { 1, 0 }, { 0, 1 }, { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 } })
  end)

  it("has the gradients of central differences", function()
    for _, clusters in ipairs { 3, 6 } do
      check.gradcheck(function(g1, g2) return (cld.losses.cld(g1, g2, options(clusters, 4))) end,
        { formula.uniform("g1", { 11, 5 }, "f64"), formula.uniform("g2", { 11, 5 }, "f64") })
    end
  end)

  it("says what is no block", function()
    local g = cld.randn { 4, 3 }
    check.fails(function() cld.losses.cld(g, g, { block = -1 }) end, "cld: a block of %-1 rows; expected at least 1")
  end)
end)

-- ---- two processes ---------------------------------------------------------------

local Net = nn.module "net"
function Net:build()
  self.conv1, self.bn1 = nn.conv2d(3, 4, 3, { padding = 1, bias = false }), nn.batch_norm2d(4)
  self.conv2, self.bn2 = nn.conv2d(4, 4, 3, { padding = 1, bias = false }), nn.batch_norm2d(4)
  self.instance, self.group = nn.linear(4, 5), nn.linear(4, 5)
end
function Net:forward(x)
  local y = self.bn1(self.conv1(x), { relu = true })
  y = (self.bn2(self.conv2(y)) + y):relu():mean { 3, 4 }
  return self.instance(y):normalize(), self.group(y):normalize()
end

local ROWS = 6 -- of a process

-- What the fixture's parameters, in dtype on the device, come to.
local function network(fixture, prefix, dtype, device)
  local net = Net():to(dtype):to(device)
  local state = {}
  for name, tensor in pairs(fixture) do
    local own = name:match("^" .. prefix .. "%.(.*)$")
    if own then state[own] = tensor end
  end
  net:load_state_dict(state, { strict = false })
  return net
end

local function one_step(fixture, clusters, dtype, device, groups)
  local function moved(name) return fixture[name]:to(dtype):to(device) end
  local net, keys = network(fixture, "net", dtype, device), network(fixture, "keys", dtype, device)
  local queue = cld.losses.moco_queue { size = 16, dim = 5, temperature = 0.2, dtype = dtype, device = device }
  queue:load_state_dict { memory = moved "queue" }
  local q, g = net:each({ moved "view1", moved "view2" }, { block = ROWS })
  local k = cld.no_grad(function()
    return (nn.shuffled(keys, moved "view3", { block = ROWS, order = fixture.order:to(device), groups = groups }))
  end)
  local group, accuracy = cld.losses.cld(g[1], g[2], options(clusters, ROWS))
  local loss = (queue:loss(q[1], k) + queue:loss(q[2], k)) / 2 + 0.25 * group
  loss:backward()
  local results = { q1 = q[1], q2 = q[2], g1 = g[1], g2 = g[2], k = k, loss = loss, accuracy = accuracy }
  for name, parameter in net:named_parameters() do results["grad." .. name] = parameter.grad end
  for prefix, of in pairs { net = net, keys = keys } do
    for name, buffer in of:named_buffers() do
      if buffer.dtype == dtype then results["running." .. prefix .. "." .. name] = buffer end
    end
  end
  return results
end

for _, device in ipairs(all_devices) do
  describe("one process with blocks on " .. device, function()
    local fixture = cld.load "spec/fixtures/blocks.safetensors"
    for dtype, tolerance in pairs { f64 = 1e-10, f32 = 3e-6 } do
      for _, clusters in ipairs { 3, 6, 8 } do
        it(("is two processes of the published code: %d clusters, %s"):format(clusters, dtype), function()
          local results, compared = one_step(fixture, clusters, dtype, device, clusters == 6 and 2 or 1), 0
          for name, expected in pairs(fixture) do
            local own = name:match("^" .. clusters .. "%.(.*)$")
            if own then
              local limit = own == "accuracy" and 1e-6 or tolerance -- a share is f32
              check.close(results[own], expected, { atol = limit, rtol = limit })
              compared = compared + 1
            end
          end
          assert.equal(7 + 10 + 8, compared) -- outputs, gradients, statistics
        end)
      end
    end
  end)
end

-- ---- CIFAR's step ------------------------------------------------------------------

describe("the step of the CIFAR recipes", function()
  local function step(net, views, index, each)
    local f, g
    if each then
      f, g = net:each(views)
    else
      local f1, g1 = net(views[1])
      local f2, g2 = net(views[2])
      f, g = { f1, f2 }, { g1, g2 }
    end
    local bank = cld.losses.memory_bank { size = 9, dim = 8, dtype = views[1].dtype }
    bank:load_state_dict { memory = formula.uniform("bank", { 9, 8 }, "f64") }
    local loss = (bank:loss(f[1], index) + bank:loss(f[2], index)) / 2 + (cld.losses.cld(g[1], g[2], options(3)))
    loss:backward()
    return loss, bank.memory
  end

  -- Winograd's algorithms round more, and which is taken depends on the batch and the processor.
  local had_winograd
  before_each(function() had_winograd = cld.nn.functional.set_winograd(false) end)
  after_each(function() cld.nn.functional.set_winograd(had_winograd) end)

  for dtype, tolerance in pairs { f64 = 1e-12, f32 = 1e-5 } do
    it("is that of two calls, " .. dtype, function()
      cld.manual_seed(2)
      local net = cld.models.resnet18_cifar { width = 4, low_dim = 8 }:to(dtype)
      local other = net:clone()
      local views = {}
      for v = 1, 2 do views[v] = formula.uniform("v" .. v, { 5, 3, 8, 8 }, dtype) end
      local index = cld.tensor({ 3, 8, 0, 1, 4 }, "i64")
      local limits = { atol = tolerance, rtol = tolerance }
      local loss, memory = step(net, views, index, true)
      local expected, expected_memory = step(other, views, index, false)
      check.close(loss, expected, limits)
      check.close(memory, expected_memory, limits)
      local theirs = other:named_parameters()
      for name, parameter in net:named_parameters() do
        local scale = theirs[name].grad:abs():amax():item()
        check.close(parameter.grad, theirs[name].grad, { atol = tolerance * math.max(1, scale), rtol = tolerance })
      end
      local state = other:state_dict()
      for name, tensor in pairs(net:state_dict()) do check.close(tensor, state[name], limits) end
    end)
  end
end)
