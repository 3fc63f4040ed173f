--- Losses, memories, k-means and nearest neighbours on a device, against the cpu: several chunks of a memory, repeated
-- rows, conditions, ties, empty clusters, extreme logits.
local cld = require "cld"
local core = require "cld.core"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"
local neighbours = require "cld.eval.neighbours"
local functional = core.losses

local exact = { atol = 0, rtol = 0 }
local close = {
  f32 = { atol = 1e-5, rtol = 2e-5 }, f64 = { atol = 1e-13, rtol = 1e-10 },
}

local function with(options, more)
  local all = {}
  for key, value in pairs(options) do all[key] = value end
  for key, value in pairs(more) do all[key] = value end
  return all
end

local function indices(extent, ...)
  local x <close> = formula.uniform("index", { ... }, "f64")
  return (x * extent / 2 + extent / 2):floor():to "i64"
end

-- Multiples of 1/8: products and sums are exact in f32, so that ties are ties.
local function grid(name, shape, dtype) return ((formula.uniform(name, shape, "f64") * 8):floor() / 8):to(dtype) end

-- rows, dim, size of the memory; the last one takes several chunks
local shapes = { { 1, 1, 1 }, { 3, 5, 7 }, { 4, 2, 600 }, { 5, 33, 257 }, { 2, 4, 40000 } }

devices.each("bank_softmax, queue_softmax", function(device)
  for dtype, limits in pairs(close) do
    for _, shape in ipairs(shapes) do
      local rows, dim, size = table.unpack(shape)
      it(("of %d x %d against %d, %s"):format(rows, dim, size, dtype), function()
        local f, key = formula.uniform("f", { rows, dim }, dtype), formula.uniform("key", { rows, dim }, dtype)
        local memory, at = formula.uniform("m", { size, dim }, dtype), indices(size, rows)
        devices.same(device, function(x, m, i)
          x:requires_grad_()
          local y = m + 0
          local loss = functional.bank_loss(x, y, i, 0.3, 0.5)
          loss:backward()
          return loss:detach(), x.grad, y, functional.bank_loss(x:detach(), y, i, 0.07, 0.5)
        end, { f, memory, at }, limits)
        devices.same(device, function(x, k, m)
          x:requires_grad_()
          local loss = functional.queue_loss(x, k, m, 0.3)
          loss:backward()
          return loss:detach(), x.grad
        end, { f, key, memory }, limits)
      end)
    end
  end

  it("with logits far apart, and without a number", function()
    local f, memory = formula.uniform("f", { 4, 6 }, "f32", 30), formula.uniform("m", { 900, 6 }, "f32", 30)
    local at = indices(900, 4)
    local function losses(x, m, i)
      x:requires_grad_()
      local loss = functional.bank_loss(x, m + 0, i, 0.1, 0.5)
      loss:backward()
      return loss:detach(), x.grad, functional.queue_loss(x:detach(), x:detach() * -1, m, 0.1)
    end
    devices.same(device, losses, { f, memory, at }, { atol = 1e-3, rtol = 1e-4 })
    local nan = f:clone()
    nan[{ 2, 3 }] = 0 / 0
    devices.same(device, losses, { nan, memory, at }, { atol = 1e-3, rtol = 1e-4 })
  end)

  it("report an index out of range when the device is next waited for", function()
    local f, memory = formula.waves(2, 3):to(device), formula.waves(5, 3):to(device)
    local bad = cld.tensor({ 1, 5 }, "i64"):to(device)
    check.fails(function() functional.bank_loss(f, memory, bad, 0.1, 0.5):item() end, "memory_bank: index 5")
  end)
end)

devices.each("nt_xent, byol", function(device)
  for dtype, limits in pairs(close) do
    it("with gradients, " .. dtype, function()
      for _, shape in ipairs { { 2, 1 }, { 5, 33 }, { 70, 8 }, { 160, 16 } } do
        local inputs = {}
        for i, name in ipairs { "a", "b", "c", "d" } do inputs[i] = formula.uniform(name, shape, dtype) end
        devices.same(device, function(a, b) return functional.nt_xent(a, b, 0.2) end, { inputs[1], inputs[2] },
          with(limits, { gradients = true }))
        devices.same(device, function(a, b)
          return cld.losses.byol(a, b, inputs[3]:to(a.device), inputs[4]:to(a.device), 4)
        end, { inputs[1], inputs[2] }, with(limits, { gradients = true }))
      end
    end)
  end

  it("of a row that is zero, and without a number", function()
    local x = formula.uniform("x", { 4, 3 }, "f32")
    x[2] = 0
    local nan = x:clone()
    nan[{ 3, 1 }] = 0 / 0
    for _, rows in ipairs { x, nan } do
      devices.same(device, function(a, b)
        return functional.nt_xent(a, b, 0.2), cld.losses.byol(a, b, b, a)
      end, { rows, formula.uniform("y", { 4, 3 }, "f32") }, close.f32)
    end
  end)

  it("wait for nothing", function()
    local a, b = formula.uniform("a", { 6, 4 }, "f32"):to(device), formula.uniform("b", { 6, 4 }, "f32"):to(device)
    a:requires_grad_()
    cld.cuda.forbid_waiting(true)
    local ok, message = pcall(function()
      (cld.losses.nt_xent(a, b, 0.5) + cld.losses.byol(a, b, b, b)):backward()
    end)
    cld.cuda.forbid_waiting(false)
    assert(ok, message)
  end)
end)

devices.each("the bank's update", function(device)
  for dtype, limits in pairs(close) do
    it("of rows that come twice and of none that is not zero, " .. dtype, function()
      for _, shape in ipairs { { 5, 3, 4 }, { 70, 33, 9 }, { 100, 4, 2000 } } do
        local rows, dim, size = table.unpack(shape)
        devices.same(device, function(x, m, i)
          local y = m + 0
          x:requires_grad_()
          functional.bank_loss(x, y, i, 0.3, 0.5):backward()
          return y
        end, { formula.uniform("f", { rows, dim }, dtype), formula.uniform("m", { size, dim }, dtype),
          indices(size, rows) }, limits)
      end
      devices.same(device, function(x, m, i)
        local y = m + 0
        x:requires_grad_()
        functional.bank_loss(x, y, i, 0.3, 0.5):backward()
        return y
      end, { cld.zeros(2, 3, dtype), cld.zeros(4, 3, dtype), cld.tensor({ 1, 1 }, "i64") }, exact)
    end)
  end

  it("goes by whether the step was made", function()
    devices.same(device, function(given, m, i)
      local x, y, after = (given + 0):requires_grad_(), m + 0, {} -- the step writes x
      local sgd = cld.optim.sgd({ x }, { lr = 0.1 })
      for n, factor in ipairs { 1, 0 / 0, 2 } do
        sgd:step(functional.bank_loss(x, y, i, 0.3, 0.5) * factor)
        after[n] = y + 0
      end
      return table.unpack(after)
    end, { formula.uniform("f", { 4, 3 }, "f32"), formula.uniform("m", { 5, 3 }, "f32"), indices(5, 4) }, close.f32)
  end)
end)

devices.each("the queue", function(device)
  it("takes keys as a ring, also more than it has rows, and none where the step was not made", function()
    for _, dim in ipairs { 3, 4, 8 } do
      devices.same(device, function(m, keys, made, not_made)
        local queue, pointer = m + 0, cld.zeros({}, { dtype = "i64", device = m.device })
        local results = {}
        for _, n in ipairs { 3, 4, 1, 17, 7 } do
          functional.enqueue(queue, pointer, keys:narrow(1, 1 + n % 3, n), made)
          functional.enqueue(queue, pointer, keys, not_made)
          table.move({ queue + 0, pointer + 0 }, 1, 2, #results + 1, results)
        end
        return table.unpack(results)
      end, { formula.uniform("m", { 7, dim }, "f32"), formula.uniform("keys", { 20, dim }, "f32"),
        cld.tensor(1, "u8"), cld.tensor(0, "u8") }, exact)
    end
  end)
end)

devices.each("noise-contrastive estimation", function(device)
  it("draws the cpu's negatives, and counts on", function()
    devices.same(device, function(draws)
      local calls = draws + 0
      cld.manual_seed(9)
      local a, b = functional.sample_negatives(calls, 5, 7, 100), functional.sample_negatives(calls, 3, 1, 1 << 31)
      return a, b, functional.sample_negatives(calls, 130, 9, 3), calls
    end, { cld.zeros({}, "i64") }, exact)
  end)

  for dtype, limits in pairs(close) do
    it("with the first batch's Z, " .. dtype, function()
      for _, shape in ipairs { { 1, 1, 1, 1 }, { 3, 5, 7, 40 }, { 9, 36, 200, 90 }, { 2, 130, 33, 600 } } do
        local rows, dim, count, size = table.unpack(shape)
        devices.same(device, function(x, m, i, negatives)
          local z = cld.zeros({ 1 }, { dtype = dtype, device = x.device })
          x:requires_grad_()
          local loss = functional.bank_nce_loss(x, m + 0, i, negatives, z, 0.4, 0.5)
          loss:backward()
          local second = functional.bank_nce_loss(x:detach() * 0.5, m, i, negatives, z, 0.4, 0.5)
          return loss:detach(), x.grad, z, second
        end, { formula.uniform("f", { rows, dim }, dtype, 0.3), formula.uniform("m", { size, dim }, dtype, 0.3),
          indices(size, rows), indices(size, rows, count) }, with(limits, { rtol = dtype == "f32" and 1e-4 or 1e-10 }))
      end
    end)
  end

  it("reports negatives out of range", function()
    local f, memory = formula.waves(1, 3):to(device), formula.waves(5, 3):to(device)
    local z = cld.zeros({ 1 }, { dtype = "f64", device = device })
    local at = cld.zeros({ 1 }, { dtype = "i64", device = device })
    local bad = cld.tensor({ { 1, -1 } }, "i64"):to(device)
    check.fails(function() functional.bank_nce_loss(f, memory, at, bad, z, 0.1, 0.5):item() end,
      "memory_bank: negative %-1")
  end)
end)

devices.each("kmeans", function(device)
  for dtype in pairs(close) do
    it("as on the cpu, " .. dtype, function()
      local cases = { { 9, 3, 2 }, { 1, 1, 1 }, { 5, 2, 9 }, { 300, 7, 130 }, { 131, 130, 5 }, { 1200, 3, 17 } }
      for _, case in ipairs(cases) do
        local n, dim, k = table.unpack(case)
        for _, iterations in ipairs { 1, 4 } do
          devices.same(device, function(x)
            local labels, centroids = functional.kmeans(x, k, iterations)
            return labels, centroids
          end, { grid("x", { n, dim }, dtype) }, { atol = 1e-6, rtol = 1e-6 })
        end
      end
    end)
  end

  it("the first of equals, empty clusters at zero, NaN and infinity nowhere near", function()
    local x = cld.tensor { { 1, 1 }, { 1, 1 }, { 1, 1 }, { -2, 3 }, { 0 / 0, 1 }, { math.huge, 1 } }
    devices.same(device, function(t) return functional.kmeans(t, 4, 1) end, { x }, exact)
    devices.same(device, function(t) return functional.kmeans(t, 3, 3) end, { x:narrow(1, 1, 4) }, exact)
  end)

  it("with gradients", function()
    devices.same(device, function(x)
      local _, centroids = functional.kmeans(x, 4, 3)
      return centroids
    end, { grid("x", { 21, 3 }, "f64") }, { gradients = true })
  end)

  it("and the loss made of it", function()
    devices.same(device, function(a, b)
      return (functional.cld(a, b, { clusters = 5, iterations = 3, temperature = 0.2 }))
    end, { grid("a", { 24, 6 }, "f32"), grid("b", { 24, 6 }, "f32") }, { gradients = true, atol = 1e-5, rtol = 1e-4 })
  end)

  it("and the loss made of it with more clusters than rows", function()
    for _, case in ipairs { { 80, 128, 128 }, { 2, 6, 200 } } do
      local rows, dim, clusters = table.unpack(case)
      devices.same(device, function(a, b)
        return (functional.cld(a, b, { clusters = clusters, iterations = 5, temperature = 0.2 }))
      end, { formula.uniform("a", { rows, dim }, "f32"), formula.uniform("b", { rows, dim }, "f32") },
        { gradients = true, atol = 1e-5, rtol = 1e-4 })
    end
  end)
end)

local function knn(...) return (neighbours.scores("weighted_knn", ...)) end

devices.each("weighted_knn", function(device)
  for dtype in pairs(close) do
    it("the first of equally similar rows, " .. dtype, function()
      local cases = { { 2500, 3, 40 }, { 1024, 2, 1 }, { 33, 3, 33 }, { 5, 3, 5 }, { 4097, 1, 1024 }, { 300, 20, 7 } }
      for _, case in ipairs(cases) do
        local size, dim, k = table.unpack(case)
        devices.same(device, function(m, labels, queries)
          return knn(m, labels, queries, { k = k, temperature = 0.5, classes = 7 })
        end, { grid("memory", { size, dim }, dtype), indices(7, size), grid("queries", { 6, dim }, dtype) },
          { rtol = dtype == "f32" and 1e-5 or 1e-10 })
      end
    end)
  end

  it("of more queries and classes than a tile, and similarities too large for exp", function()
    devices.same(device, function(m, labels, queries)
      return knn(m, labels, queries, { k = 9, temperature = 0.5, classes = 300 }),
        knn(m, labels, queries, { k = 9, temperature = 1e-3, classes = 300 })
    end, { grid("memory", { 150, 3 }, "f32"), indices(300, 150), grid("queries", { 140, 3 }, "f32") },
      { rtol = 1e-4 })
  end)

  it("what is no number is nobody's neighbour, and 0 is as similar as -0", function()
    local memory, queries = grid("memory", { 30, 3 }, "f32"), grid("queries", { 5, 3 }, "f32")
    memory[2][1], memory[5][3], memory[9][2] = 0 / 0, -math.huge, math.huge
    queries[3][2] = 0 / 0
    for _, k in ipairs { 1, 4, 30 } do
      devices.same(device, function(m, labels, q)
        return knn(m, labels, q, { k = k, temperature = 0.5, classes = 7 })
      end, { memory, indices(7, 30), queries }, { rtol = 1e-5 })
    end
    devices.same(device, function(m, labels, q)
      return knn(m, labels, q, { k = 1, temperature = 0.5, classes = 2 })
    end, { cld.tensor { { -1e-30 }, { 1e-30 } }:tile(1, 8), cld.tensor({ 0, 1 }, "i64"),
      cld.tensor { { 1e-30 } }:tile(1, 8) }, exact)
  end)

  it("of more queries than are taken at a time", function()
    devices.same(device, function(m, labels, queries)
      return knn(m, labels, queries, { k = 2, temperature = 0.5, classes = 3 })
    end, { grid("memory", { 9, 2 }, "f32"), indices(3, 9), grid("queries", { 1030, 2 }, "f32") }, { rtol = 1e-5 })
  end)

  -- Lists of rows on either side, and what the vote selects from lists that are longer than k.
  it("nearest and vote, by themselves, of parts of a memory too", function()
    for dtype in pairs(close) do
      local memory, queries = grid("memory", { 203, 3 }, dtype), grid("queries", { 7, 3 }, dtype)
      memory[2][1], memory[5][3], memory[9][2], queries[3][2] = 0 / 0, -math.huge, math.huge, 0 / 0
      for _, k in ipairs { 1, 5, 67 } do
        devices.same(device, function(m, q)
          local lists, rows = {}, {}
          for part = 0, 2 do -- 67 rows, 67, 69
            local values, index = functional.nearest(m:narrow(1, 1 + part * 67, part < 2 and 67 or 69), q, k)
            lists[part + 1], rows[part + 1] = values, index
          end
          local values, index = cld.cat(lists, 2), cld.cat(rows, 2)
          return values, index, functional.vote(values, index, { k = k, classes = 69, temperature = 0.5 })
        end, { memory, queries }, { rtol = dtype == "f32" and 1e-6 or 1e-12 })
      end
    end
  end)

  it("reports a label out of range", function()
    local similarities, labels = cld.ones(1, 3):to(device), cld.tensor({ { 0, 1, 9 } }, "i64"):to(device)
    check.fails(function()
      functional.vote(similarities, labels, { k = 3, temperature = 0.5, classes = 3 }):totable()
    end, "weighted_knn: label 9")
  end)
end)
