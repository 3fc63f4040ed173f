--- cld.graph: on the CPU it calls the step; on a device that can capture, a captured step does the same as a plain one.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"

local exact = { atol = 0, rtol = 0, nan = true }

-- Tensors in nested tables as plain values.
local function plain_values(value)
  if type(value) == "userdata" then return value:totable() end
  if type(value) ~= "table" then return value end
  local plain = {}
  for k, v in pairs(value) do plain[k] = plain_values(v) end
  return plain
end

describe("graph on the cpu", function()
  it("calls the step with what it is given", function()
    local given
    local step = cld.graph(function(...)
      given = table.pack(...)
      return 1, nil, given
    end)
    local object = setmetatable({}, { __index = function() return nil end })
    local x = cld.ones(2):requires_grad_()
    local one, none, results = step(x, 0.5, { 3, a = object }, nil, print, nil)
    assert.same({ 1, 6 }, { one, given.n })
    assert.is_nil(none)
    assert.equal(given, results)
    assert.equal(x, given[1])
    assert.equal(0.5, given[2])
    assert.equal(object, given[3].a)
    assert.equal(print, given[5])
    given = nil
  end)

  it("takes tables of any keys, and in circles", function()
    local circle = { [{}] = 1, [{}] = 2, [true] = 3, [false] = 4 }
    circle.again = circle
    local step = cld.graph(function(table) return table.again, table[true] end)
    local again, three = step(circle)
    assert.equal(circle, again)
    assert.equal(3, three)
  end)

  it("says what it cannot be made of", function()
    check.fails(function() cld.graph(3) end, "graph_spec.lua:%d+: graph: expected a function, got 3")
    check.fails(function() cld.graph(print, { enable = true }) end, "graph: unknown field 'enable'")
    check.fails(function() cld.graph(print, { enabled = 0 }) end,
      "graph_spec.lua:%d+: graph: enabled must be true or false, got 0")
    check.fails(function() cld.graph(print, { device = "gpu" }) end,
      "graph_spec.lua:%d+: there is no device 'gpu'; expected cpu, cuda or cuda:N")
  end)
end)

devices.each("graph", function(device)
  local function on(x) return x:to(device) end

  -- {step, state()}: noise, a memory bank with negatives, momentum, a norm's running statistics.
  local function npid(options)
    cld.manual_seed(11)
    local norm = cld.nn.batch_norm2d(3):to(device)
    local w = on(formula.uniform("w", { 4, 12 }, "f32")):requires_grad_()
    local bank = cld.losses.memory_bank { size = 20, dim = 4, negatives = 5, device = device }
    local sgd = cld.optim.sgd({ w, norm.weight, norm.bias }, { momentum = 0.9, weight_decay = 0.01 })
    local step = cld.graph(function(batch, rate)
      local noise = cld.randn(batch.x.shape, { device = device })
      local features = norm(batch.x + 0.1 * noise):flatten(2):matmul(w:t()):normalize(2)
      local loss = bank:loss(features, batch.index) * batch.factor
      local made = sgd:step(loss, { lr = rate })
      return { loss = loss, made = made }, noise
    end, options)
    return step, function()
      return {
        w:detach(), bank.memory, bank.draws, bank.normalizer, sgd.skipped, sgd:state_dict()["momentum.1"],
        norm.running_mean, norm.running_var, cld.get_rng_state().position,
      }
    end
  end

  local function batch(i, rows)
    local index = {}
    for k = 1, rows do index[k] = (i * 7 + k * 3) % 20 end
    return {
      x = formula.uniform("x" .. i, { rows, 3, 2, 2 }, "f32"), index = cld.tensor(index, "i64"),
      factor = cld.tensor(i % 4 == 1 and 0 / 0 or 1), -- the first step is skipped, and a replayed one
    }
  end

  -- Of 5 rows each, but for the short steps {i = rows}.
  local function train(options, steps, short)
    local step, state = npid(options)
    local seen = {}
    for i = 1, steps or 9 do
      local means, noise = step(batch(i, (short or { [6] = 3 })[i] or 5), 0.1 * i)
      seen[#seen + 1] = { means.loss:item(), means.made:item(), noise:sum():item() }
    end
    return { seen, state() }
  end

  it("trains as the plain step does, bit for bit", function()
    local captured, plain = train { device = device }, train { enabled = false, device = device }
    check.close(plain_values(captured), plain_values(plain), exact)
    assert.equal(3, plain[2][5]) -- steps skipped
  end)

  it("trains as the plain step does when every third batch is short", function()
    local short = { [3] = 2, [6] = 2, [9] = 2, [12] = 2, [15] = 2 } -- captured at the ninth, replayed from there on
    local captured = train({ device = device }, 15, short)
    check.close(plain_values(captured), plain_values(train({ enabled = false, device = device }, 15, short)), exact)
  end)

  it("keeps the momentum encoder and the queue from a step that was not made", function()
    local function run(enabled)
      local w, keys = on(cld.ones(2, 3)):requires_grad_(), on(cld.zeros(2, 3))
      cld.manual_seed(5)
      local queue = cld.losses.moco_queue { size = 7, dim = 2, device = device }
      local sgd = cld.optim.sgd({ w }, { momentum = 0.9 })
      local step = cld.graph(function(x, rate, factor)
        local k = cld.no_grad(function() return x:matmul(keys:t()):normalize(2) end)
        local loss = queue:loss(x:matmul(w:t()):normalize(2), k) * factor
        local made = sgd:step(loss, { lr = rate })
        cld.optim.ema({ keys }, { w }, 0.5, made)
        queue:enqueue(k, made)
        return made
      end, { enabled = enabled, device = device })
      local made = {}
      for i = 1, 6 do
        local factor = (i == 2 or i == 5) and 1 / 0 or 1
        made[i] = step(formula.uniform("x" .. i, { 3, 3 }, "f32"), 0.5, factor):item()
      end
      return { made, { w:detach(), keys, queue.memory, queue.pointer } }
    end
    local captured, plain = run(true), run(false)
    check.close(plain_values(captured), plain_values(plain), exact)
    assert.same({ 1, 0, 1, 1, 0, 1 }, plain[1])
    assert.equal(4 * 3 % 7, plain[2][4]:item())
  end)

  it("waits for nothing in a step, captured or not, nor in what a recipe does with its results", function()
    local meters = require "cld.run.meters"()
    for _, enabled in ipairs { false, true } do
      local step = npid { enabled = enabled, device = device }
      local w = on(formula.uniform("w", { 4, 12 }, "f32")):requires_grad_()
      local sgd = cld.optim.sgd({ w }, { momentum = 0.9 })
      local groups = cld.graph(function(x, rate)
        local g1, g2 = x:matmul(w:t()):normalize(2), (x * 0.9):matmul(w:t()):normalize(2)
        local loss, accuracy = cld.losses.cld(g1, g2, { clusters = 2 })
        sgd:step(loss, { lr = rate })
        return { cld = loss, accuracy = accuracy }
      end, { enabled = enabled, device = device })
      local before = cld.cuda.forbid_waiting(true)
      local ok, message = pcall(function()
        for i = 1, 5 do
          meters:track((step(batch(i, 5), 0.1)))
          meters:track(groups(formula.uniform("x" .. i, { 6, 12 }, "f32"), 0.1))
        end
      end)
      cld.cuda.forbid_waiting(before)
      assert(ok, message)
    end
    local means = meters:read()
    assert(means.cld > 0 and means.accuracy >= 0.5, "no group was found")
  end)

  it("captures each kind of call by itself, and runs its Lua no more", function()
    local calls = 0
    local step = cld.graph(function(x, name, flag)
      calls = calls + 1
      return flag and x * 2 or x + #name
    end, { device = device })
    for i = 1, 5 do
      check.close(step(cld.full({ 2 }, i), "abc", false), { i + 3, i + 3 }, exact)
      check.close(step(cld.full({ 2 }, i), "abcd", false), { i + 4, i + 4 }, exact)
      check.close(step(cld.full({ 3 }, i), "abc", false), { i + 3, i + 3, i + 3 }, exact)
      check.close(step(cld.full({ 2 }, i, "f64"), "abc", true), { 2 * i, 2 * i }, exact)
      cld.no_grad(function() check.close(step(cld.full({ 2 }, i), "abc", false), { i + 3, i + 3 }, exact) end)
    end
    assert.equal(5 * 3, calls)
  end)

  it("takes numbers as tensors, and gives results that may be closed", function()
    local step = cld.graph(function(a, list)
      assert.equal("f64", a.dtype)
      return { sum = a + list[1] + list.x, parts = { list[2] } }, "text"
    end, { device = device })
    for i = 1, 5 do
      local results, text = step(i, { 10, on(cld.tensor { i }), x = 100 })
      assert.same({ 110 + i, i, "text" }, { results.sum:item(), results.parts[1]:item(), text })
      results.sum:close()
      results.parts[1]:close()
    end
  end)

  it("takes and gives tensors in the device's own layout, and transposed ones", function()
    local conv = cld.nn.conv2d(3, 3, 1):to(device)
    local step = cld.graph(function(x, y) return conv(x), x * 2, y:contiguous(), y:t() end)
    for i = 1, 5 do
      local x = cld.no_grad(function() return conv(on(cld.full({ 2, 3, 4, 4 }, i))) end)
      local y = on(cld.arange(6):reshape(2, 3) + i):t()
      local convolved, doubled, dense, transposed = step(x, y)
      check.close(convolved, cld.no_grad(function() return conv(x) end), exact)
      check.close(doubled, x * 2, exact)
      check.close(dense, y, exact)
      check.close(transposed, y:t(), exact)
    end
  end)

  it("finds its device by its arguments", function()
    local step = cld.graph(function(x) return x.device, x * 2 end)
    for _ = 1, 4 do
      assert.equal("cpu", (step(cld.ones(1))))
      local name, y = step(on(cld.ones(1)))
      assert.matches("^cuda", name)
      check.close(y, { 2 })
    end
  end)

  it("is one capture where steps are nested", function()
    local inner = cld.graph(function(x) return x * 2 end, { device = device })
    local outer = cld.graph(function(x) return inner(x) + 1 end, { device = device })
    for i = 1, 5 do check.close(outer(cld.full({ 1 }, i)), { 2 * i + 1 }, exact) end
  end)

  it("ends the capture where the step fails, and says what the step says", function()
    local w = on(cld.ones(2))
    local function failing(body)
      local step = cld.graph(function(x)
        w:add_(x)
        return body(x)
      end, { device = device })
      step(cld.zeros(2))
      step(cld.zeros(2))
      return function() step(cld.ones(2)) end
    end
    local reads = failing(function(x) return x:sum():item() end)
    for _ = 1, 2 do check.fails(reads, "graph_spec.lua:%d+: .*cannot wait for the device while a graph is") end
    check.fails(failing(function(x) return x + cld.randperm(2, { device = device }) end),
      "randperm: drawn on the host, which a captured graph cannot repeat")
    check.fails(failing(function(x) return x + on(cld.rand(2)) end), "drawn on the host")
    local times = 0
    check.fails(failing(function()
      times = times + 1
      if times == 3 then error "no third time" end
    end), "no third time")
    check.close(w, { 1, 1 }, exact) -- nothing was done
    check.close(w + 1, { 2, 2 }, exact)
    local fine = cld.graph(function(x) return x + w end, { device = device })
    for i = 1, 4 do check.close(fine(cld.full({ 2 }, i)), { i + 1, i + 1 }, exact) end
  end)

  it("fails where a replay would repeat what the host knew at the capture", function()
    local elsewhere = cld.full({ 2 }, 3)
    local function third_call(body)
      local step = cld.graph(body, { device = device })
      step(cld.zeros(2))
      step(cld.zeros(2))
      return function() step(cld.zeros(2)) end
    end
    check.fails(third_call(function(x) return x + on(elsewhere) end),
      "f32%[2%] on the cpu: a captured graph would copy its present values at every replay; move it to cuda")
    local w = on(cld.ones(1)):requires_grad_()
    local sgd, rate = cld.optim.sgd { w }, cld.full({}, 0.5, "f64")
    check.fails(third_call(function(x) return sgd:step((w + x):sum(), { lr = rate }) end), "f64%[%] on the cpu")
    cld.manual_seed(3)
    check.fails(third_call(function(x)
      cld.manual_seed(3)
      return x
    end), "the generator cannot be set in a captured step")
    check.fails(third_call(function(x)
      cld.set_rng_state { seed = 3, position = 1 }
      return x
    end), "the generator cannot be set in a captured step")
    local constant = cld.graph(function(x)
      return x + on(cld.tensor { 1, 2 }) + on(cld.arange(2))
    end, { device = device })
    for i = 1, 4 do check.close(constant(cld.full({ 2 }, i)), { i + 1, i + 3 }, exact) end
  end)

  it("takes no batch from a loader within it", function()
    local set = cld.data.tensors { images = cld.ones({ 20, 4, 4, 3 }, "u8"), labels = cld.zeros({ 20 }, "i64") }
    for _, where in ipairs { "cpu", device } do
      local loader = cld.data.loader { set, batch_size = 4, device = where, augment = cld.augment.none() }
      local batches = loader:epoch(1)
      local step = cld.graph(function(x) return x + on(batches().views[1]):sum() end, { device = device })
      step(cld.zeros(1))
      step(cld.zeros(1))
      check.fails(function() step(cld.zeros(1)) end, "loader: batches are chosen on the host")
    end
  end)

  it("takes no argument that wants a gradient, which a copy of it would get", function()
    local w = on(cld.ones(2)):requires_grad_()
    local step = cld.graph(function(x) return x * 2 end, { device = device })
    check.fails(function() step(w) end, "graph_spec.lua:%d+: graph: an argument that requires a gradient, f32%[2%]")
    check.close(step(w:detach()), { 2, 2 }, exact)
    cld.no_grad(function() check.close(step(w), { 2, 2 }, exact) end)
  end)

  it("cannot be left by a yield, and captures again after it", function()
    local yields = false
    local step = cld.graph(function(x)
      if yields then coroutine.yield() end
      return x + 1
    end, { device = device })
    local run = coroutine.wrap(function()
      for i = 1, 5 do
        yields = i == 3
        local ok, y = pcall(step, cld.full({ 1 }, i))
        if i == 3 then
          assert.is_false(ok)
          assert.matches("attempt to yield", y)
        else
          assert(ok, y)
          check.close(y, { i + 1 }, exact)
        end
      end
      return "done"
    end)
    assert.equal("done", run())
  end)

  it("is given and gives the same within another's capture as before it", function()
    local w = on(cld.ones(2)):requires_grad_()
    local kinds = {}
    local inner = cld.graph(function(x, factor)
      kinds[#kinds + 1] = x.device .. " " .. factor.dtype
      return x * factor * w
    end, { device = device })
    local outer = cld.graph(function(x)
      local y = inner(cld.tensor { 1, 2 }, 3)
      assert.is_false(y.requires_grad)
      return x + y
    end, { device = device })
    for i = 1, 4 do check.close(outer(cld.full({ 2 }, i)), { i + 3, i + 6 }) end
    assert.equal(3, #kinds)
    for _, kind in ipairs(kinds) do assert.matches("^cuda:0 f64$", kind) end
  end)

  it("keeps no graph of another seed", function()
    local step = cld.graph(function(x) return cld.rand({ 1000 }, { device = device }) + x end, { device = device })
    local function in_use()
      collectgarbage()
      return cld.cuda.memory().in_use
    end
    local before
    for seed = 1, 5 do
      cld.manual_seed(seed)
      for i = 1, 4 do step(cld.full({ 1 }, i)):close() end
      before = before or in_use()
      assert.equal(before, in_use())
    end
  end)

  it("goes on with an optimizer's state that was loaded, an empty one too", function()
    local function run(enabled)
      local w = on(cld.tensor { 1, -2 }):requires_grad_()
      local sgd = cld.optim.sgd({ w }, { lr = 0.1, momentum = 0.9 })
      local empty, later = {}, nil
      for name, tensor in pairs(sgd:state_dict()) do empty[name] = tensor:clone() end
      local step = cld.graph(function(x)
        local loss = (w * x):square():sum()
        sgd:step(loss)
        return loss
      end, { enabled = enabled, device = device })
      local seen = {}
      for i = 1, 9 do
        seen[i] = step(cld.full({ 2 }, i)):item()
        if i == 5 then
          later = {}
          for name, tensor in pairs(sgd:state_dict()) do later[name] = tensor:clone() end
          sgd:load_state_dict(empty)
        elseif i == 7 then
          sgd:load_state_dict(later)
        end
      end
      return { seen, { w:detach() } }
    end
    check.close(plain_values(run(true)), plain_values(run(false)), exact)
  end)

  it("is captured anew where its modules are switched or have other tensors, and not twice", function()
    local calls = 0
    local Net = cld.nn.module "Net"
    function Net:build() self.norm = cld.nn.batch_norm2d(3) end
    function Net:forward(x)
      calls = calls + 1
      return self.norm(x)
    end
    local net, frozen = Net():to(device), cld.nn.batch_norm2d(3):to(device)
    local step = cld.graph(function(x)
      frozen:eval()
      local y = net(x) + frozen(x)
      frozen:train()
      return y
    end, { device = device })
    local plain = net:clone()
    local function same(i)
      local x = formula.uniform("x" .. i, { 4, 3, 2, 2 }, "f32")
      local expected = plain(on(x)) + frozen:eval()(on(x))
      frozen:train()
      check.close(step(x), expected, exact)
    end
    for i = 1, 5 do same(i) end
    net:eval()
    plain:eval()
    for i = 6, 10 do same(i) end
    assert.equal(2 * 3 + 10, calls)
    net:train()
    plain:train()
    for i = 11, 12 do same(i) end
    net.norm.weight = on(cld.tensor { 1, 2, 3 }):requires_grad_()
    plain.norm.weight = on(cld.tensor { 1, 2, 3 }):requires_grad_()
    for i = 13, 17 do same(i) end
    assert.equal(3 * 3 + 17, calls)
    for name, tensor in pairs(net:state_dict()) do check.close(tensor, plain:state_dict()[name], exact) end
  end)

  it("is not upset by the collector in the middle of a capture", function()
    local dead = { cld.graph(function(x) return x + on(cld.tensor { 1 }) end, { device = device }), on(cld.ones(5000)) }
    for i = 1, 3 do dead[1](cld.full({ 1 }, i)) end
    local calls = 0
    local step = cld.graph(function(x)
      calls = calls + 1
      local y = on(cld.tensor { 10, 20 }) * x
      if calls == 3 then dead = nil end
      collectgarbage()
      local noise = cld.ones(5000, { device = device })
      collectgarbage()
      return y + noise:mean()
    end, { device = device })
    for i = 1, 6 do check.close(step(cld.full({ 2 }, i)), { 10 * i + 1, 20 * i + 1 }) end
    assert.is_nil(dead)
  end)

  it("takes no argument that it cannot tell from another", function()
    local step = cld.graph(function() end, { device = device })
    check.fails(function() step(print) end, "graph_spec.lua:%d+: graph: a function is no argument of a captured step")
    check.fails(function() step { setmetatable({}, {}) } end, "graph: a table is no argument of a captured step")
    check.fails(function() step { [{}] = 1 } end, "graph: a table is no argument of a captured step")
  end)

  it("draws what the plain step would draw, whatever is drawn between", function()
    local function run(enabled)
      cld.manual_seed(2)
      local step = cld.graph(function()
        return cld.rand({ 3 }, { device = device }), cld.randn({ 2, 2 }, { device = device })
      end, { enabled = enabled, device = device })
      local drawn = {}
      for i = 1, 6 do
        local a, b = step()
        drawn[#drawn + 1] = { a:totable(), b:totable(), cld.rand(2):totable() }
        if i == 4 then cld.manual_seed(9) end
      end
      return drawn
    end
    assert.same(run(false), run(true))
  end)

  it("computes with the weights of each step in 16 bits", function()
    local before = cld.set_precision "bf16"
    local function run(enabled)
      cld.manual_seed(4)
      local net = cld.nn.linear(4, 3):to(device)
      local sgd = cld.optim.sgd(net:parameters(), { lr = 0.5 })
      local step = cld.graph(function(x)
        local loss = net(x):square():mean()
        sgd:step(loss)
        return loss
      end, { enabled = enabled, device = device })
      local losses = {}
      for i = 1, 6 do
        losses[i] = step(formula.uniform("x", { 5, 4 }, "f32")):item()
        losses[#losses + 1] = cld.no_grad(function() return net(on(cld.ones(1, 4))):sum():item() end)
      end
      return losses
    end
    local plain, captured = run(false), run(true)
    cld.set_precision(before)
    assert.same(plain, captured)
  end)

  it("gives its memory back", function()
    collectgarbage()
    local before = cld.cuda.memory().in_use
    local kept
    do
      local step = cld.graph(function(x) return (x * 2 + 1):sqrt() end, { device = device })
      for i = 1, 4 do kept = step(cld.full({ 1000 }, i)) end
    end
    collectgarbage()
    check.close(kept:narrow(1, 1, 1), { 3 }) -- a result outlives its graph
    kept:close()
    collectgarbage()
    assert.equal(before, cld.cuda.memory().in_use)
  end)
end)
