--- Gradients that are returned, gradcheck as users call it, and hooks.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"

local grad, waves = cld.autograd.grad, formula.waves

local function leaf(...) return waves(...):requires_grad_() end

describe("grad", function()
  it("of leaves, in memory of their own; .grad stays", function()
    local x, y = leaf(2, 3), leaf(3)
    local list = grad((x * y):sum(), { x, y })
    check.close(list[1], y:detach():expand(2, 3))
    check.close(list[2], x:detach():sum(1))
    assert.is_nil(x.grad)
    assert.is_nil(y.grad)
    list[1]:zero_()
    check.close(list[2], x:detach():sum(1))
    assert.is_true(list[1]:is_contiguous())
  end)

  it("of what is on the tape, and of leaves behind it", function()
    local x = leaf(4)
    local y = x:exp()
    local z = (y * y):sum()
    local list = grad(z, { y, x, z, y })
    check.close(list[1], 2 * y:detach())
    check.close(list[2], 2 * (2 * x:detach()):exp())
    assert.equal(1, list[3]:item())
    check.close(list[4], 2 * y:detach())
    list[4]:zero_()
    check.close(list[1], 2 * y:detach())
  end)

  it("of several outputs, each with its gradient", function()
    local x = leaf(3)
    local a, b = x * 2, (x * x):sum()
    local outputs = cld.tensor({ 1, 10, 100 }, "f64")
    local list = grad({ a, b }, x, { grad_outputs = { outputs } })
    check.close(list[1], 2 * outputs + 2 * x:detach())
    check.close(grad(x * 3, x, { grad_outputs = outputs })[1], 3 * outputs)
  end)

  it("walks what leads to the inputs alone", function()
    local passed = 0
    local counted = cld.Function {
      name = "counted", forward = function(_, x) return x * 1 end,
      backward = function(_, dy)
        passed = passed + 1
        return dy
      end,
    }
    local x, y = leaf(2), leaf(2)
    local a = counted(x) + y
    grad(a:sum(), y)
    assert.equal(0, passed)
    local b = counted(x):exp()
    grad(b:sum(), b)
    assert.equal(0, passed)
    grad(counted(x):sum(), x)
    assert.equal(1, passed)
  end)

  it("again, if the graph is kept", function()
    local x = leaf(2)
    local y = x:exp():sum()
    local first = grad(y, x, { retain_graph = true })[1]
    check.close(grad(y, x)[1], first)
    check.fails(function() grad(y, x) end, "released by an earlier backward")
  end)

  it("says what the outputs do not depend on", function()
    local x, y = leaf(2), leaf(3)
    check.fails(function() grad(x:sum(), { x, y }) end,
      "grad: the outputs do not depend on input 2, f64%[3%]; with allow")
    local list = grad(x:sum(), { x, y }, { allow_unused = true })
    assert.is_false(list[2])
    check.close(list[1], { 1, 1 })
  end)

  it("says what is wrong", function()
    local x = leaf(2)
    check.fails(function() grad(x, x) end, "grad: a gradient must be given for f64%[2%]")
    check.fails(function() grad(x:sum(), cld.zeros(2)) end, "grad: input 1, f32%[2%], does not require a gradient")
    check.fails(function() grad(cld.zeros(1), x) end, "grad: the tensor does not depend on anything")
    check.fails(function() grad(x:sum(), {}) end, "a list of at least one tensor")
    check.fails(function() grad(x:sum(), { 3 }) end, "entry 1 is a number")
    check.fails(function() grad(x * 1, x, { grad_outputs = cld.zeros(3) }) end, "grad: the gradient is f32%[3%], the")
    check.fails(function() grad(x:sum(), x, { grad_outputs = { 1 } }) end, "grad: entry 1 of grad_outputs is a number")
    check.fails(function() grad(x:sum(), x, { grad_outputs = { x, x } }) end, "one tensor for each of the 1 output")
    check.fails(function() grad(x:sum(), x, { create_graph = true }) end, "grad: create_graph: gradients of gradients")
    check.fails(function() x:sum():backward { create_graph = true } end, "backward: create_graph: gradients of grad")
    check.fails(function() grad(x:sum(), x, { keep = true }) end, "grad: unknown field 'keep'")
  end)

  it("with a leaf as the output", function()
    local x = leaf(1)
    assert.equal(1, grad(x, x)[1]:item())
  end)

  it("of a network's loss, as backward", function()
    local net = cld.nn.sequential(cld.nn.conv2d(3, 16, 3), cld.nn.batch_norm2d(16), cld.nn.relu(),
      cld.nn.adaptive_avg_pool2d(1), cld.nn.flatten(), cld.nn.linear(16, 4))
    local images = waves(4, 3, 8, 8):to "f32"
    local gradients = grad(net(images):square():sum(), net:parameters())
    net(images):square():sum():backward()
    for i, p in ipairs(net:parameters()) do check.close(gradients[i], p.grad) end
  end)
end)

describe("gradcheck", function()
  local gradcheck = cld.autograd.gradcheck

  it("returns true, leaves inputs and .grad alone, checks several results", function()
    local x, y = leaf(2, 3), waves(3)
    local before = x:totable()
    assert.is_true(gradcheck(function(a, b, k) return a * b * k, (a * a):sum(), a:argmax() end, { x, y, 2 }))
    assert.same(before, x:totable())
    assert.is_nil(x.grad)
  end)

  it("finds a wrong second result", function()
    local wrong = cld.Function {
      name = "wrong", forward = function(_, x) return x * 2 end, backward = function(_, dy) return dy * 2.1 end,
    }
    check.fails(function() gradcheck(function(x) return x * 3, wrong(x) end, { waves(2) }) end,
      "gradcheck: input 1, element 1 .* central difference")
  end)

  it("says what is wrong", function()
    check.fails(function() gradcheck(1, {}) end, "gradcheck: expected a function, got 1")
    check.fails(function() gradcheck(math.abs, waves(2)) end, "gradcheck: expected a list of inputs, got f64%[2%]")
    check.fails(function() gradcheck(math.abs, { cld.zeros(2) }) end, "gradcheck: no input is a tensor of f64")
    check.fails(function() gradcheck(math.abs, { waves(2) }, { eps = -1 }) end, "gradcheck: eps must be")
    check.fails(function() gradcheck(cld.sum, { waves(2) }, { eps = 0 }) end, "gradcheck: eps must be above 0, got 0")
    check.fails(function() gradcheck(function(x) return x:detach() end, { waves(2) }) end, "input 1 got no gradient")
    check.fails(function() gradcheck(function() end, { waves(2) }) end, "f returned nil; expected a tensor of f64")
  end)
end)

describe("a hook", function()
  it("sees a leaf's whole gradient before it is added to .grad", function()
    local x, seen = leaf(3), {}
    x:register_hook(function(g) seen[#seen + 1] = g:totable() end)
    for _ = 1, 2 do (x * 2 + x:exp() - x:exp()):sum():backward() end
    assert.equal(2, #seen)
    check.close(seen[1], { 2, 2, 2 })
    check.close(seen[2], { 2, 2, 2 })
    check.close(x.grad, { 4, 4, 4 })
  end)

  it("replaces a gradient, one after the other", function()
    local x = leaf(2)
    x:register_hook(function(g) return g * 10 end)
    local handle = x:register_hook(function(g) return g + 1 end)
    x:sum():backward()
    check.close(x.grad, { 11, 11 })
    handle:remove()
    handle:remove()
    x.grad = nil
    x:sum():backward()
    check.close(x.grad, { 10, 10 })
  end)

  it("of a result: when its gradient is complete, before the ops behind it", function()
    local x, seen = leaf(2), nil
    local y = x:exp()
    y:register_hook(function(g)
      seen = g:totable()
      return g * 0
    end)
    local z = (y * 3 + y):sum()
    z:backward { retain_graph = true }
    check.close(seen, { 4, 4 })
    check.close(x.grad, { 0, 0 })
    z:backward()
    check.fails(function() y:register_hook(print) end, "register_hook: backward has passed")
  end)

  it("of what goes into a norm as two terms: their sum", function()
    local x, seen = waves(4, 16, 2, 2):to("f32"):requires_grad_(), nil
    local bn = cld.nn.batch_norm2d(16)
    local y = bn(x, { relu = true })
    y:register_hook(function(g) seen = g end)
    local sum = (y * 2 + y * 3):sum()
    sum:backward()
    check.close(seen, cld.full(y.shape, 5))
  end)

  it("runs in cld.autograd.grad", function()
    local x, y = leaf(2), leaf(2)
    x:register_hook(function(g) return g * 2 end)
    y:register_hook(function() error "not asked for" end)
    local a = x * y
    a:register_hook(function(g) return g * 3 end)
    check.close(grad(a:sum(), x)[1], 6 * y:detach())
    check.close(grad((x * y:detach()):sum(), x)[1], 2 * y:detach())
  end)

  it("in an optimizer's step, and for each part of an accumulated one", function()
    local x, calls = cld.ones(2):requires_grad_(), 0
    x:register_hook(function(g)
      calls = calls + 1
      return g * 2
    end)
    local sgd = cld.optim.sgd({ x }, { lr = 0.5 })
    sgd:step(x:sum())
    check.close(x, { 0, 0 })
    sgd:begin()
    sgd:add(x:sum(), 0.5)
    sgd:add(x:sum(), 0.25)
    sgd:finish()
    check.close(x, { -0.75, -0.75 })
    assert.equal(3, calls)
  end)

  it("may be removed, and add others, while it runs", function()
    local x, order, first = leaf(1), {}, nil
    first = x:register_hook(function()
      order[#order + 1] = 1
      first:remove()
      x:register_hook(function() order[#order + 1] = 3 end)
    end)
    x:register_hook(function() order[#order + 1] = 2 end)
    x:sum():backward()
    x:sum():backward()
    assert.same({ 1, 2, 3, 2, 3 }, order)
  end)

  it("goes with its leaf, or its graph", function()
    local alive = setmetatable({}, { __mode = "k" })
    do
      local x, token = leaf(2), {}
      alive[token] = true
      x:register_hook(function() return token and nil end)
      local kept = {}
      alive[kept] = true
      local y = x:exp()
      y:register_hook(function() return kept and nil end)
      y:sum():backward()
    end
    collectgarbage()
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(alive))
  end)

  it("says what is wrong, and leaves the gradient out", function()
    local x = leaf(2)
    check.fails(function() cld.zeros(2):register_hook(print) end,
      "register_hook: the tensor does not require a gradient")
    check.fails(function() x:register_hook(1) end, "function expected")
    local function with(f, pattern)
      local handle <close> = setmetatable({ x:register_hook(f) }, { __close = function(h) h[1]:remove() end })
      check.fails(function() (x * 2):sum():backward() end, pattern)
      assert.is_nil(x.grad)
      return handle
    end
    with(function() return 1 end, "hook: it returned a number; expected a replacement for the gradient, or nil")
    with(function() return cld.zeros(3) end,
      "hook: it returned f32%[3%] on cpu in place of the gradient, which is f64%[2%]")
    with(function() error("boom", 0) end, "boom")
    with(function() cld.enable_grad(function() (x * 1):sum():backward() end) end,
      "backward: called inside another backward")
  end)
end)

devices.each("hooks", function(device)
  local function network()
    cld.manual_seed(1)
    return cld.nn.sequential(cld.nn.conv2d(3, 16, 3, { bias = false }), cld.nn.batch_norm2d(16), cld.nn.relu(),
      cld.nn.adaptive_avg_pool2d(1), cld.nn.flatten(), cld.nn.linear(16, 4)):to(device)
  end

  local function loss_of(net, images) return net(images):square():mean() end

  it("see a weight's gradient dense, as .grad has it, in every precision", function()
    for _, precision in ipairs { "fp32", "bf16", "fp16" } do
      local before = cld.set_precision(precision)
      local images = waves(4, 3, 8, 8):to "f32":to(device)
      local plain, hooked, seen = network(), network(), {}
      for i, p in ipairs(hooked:parameters()) do p:register_hook(function(g) seen[i] = g end) end
      for _, net in ipairs { plain, hooked } do cld.optim.sgd(net, { lr = 0.1 }):step(loss_of(net, images)) end
      for i, p in ipairs(plain:parameters()) do
        local q = hooked:parameters()[i]
        check.close(seen[i], p.grad, { atol = 1e-6 })
        assert.equal(p.dtype, seen[i].dtype)
        assert.is_true(seen[i]:is_contiguous())
        check.close(q.grad, p.grad, { atol = 1e-6 })
        check.close(q, p, { atol = 1e-6 })
      end
      cld.set_precision(before)
    end
  end)

  it("run at the capture, and their work is repeated", function()
    local function steps(captured)
      local net, calls = network(), 0
      local weight = net:parameters()[1]
      weight:register_hook(function(g)
        calls = calls + 1
        return g * 2
      end)
      local sgd = cld.optim.sgd(net, { lr = 0.1 })
      local step = cld.graph(function(images) return sgd:step(loss_of(net, images)) end, { enabled = captured })
      for i = 1, 6 do step((waves(4, 3, 8, 8) * i):to "f32":to(device)) end
      return weight, calls
    end
    local plain, plain_calls = steps(false)
    local captured, calls = steps(true)
    check.close(captured, plain)
    assert.equal(6, plain_calls)
    assert.equal(3, calls)
  end)

  it("grad on the device, as backward", function()
    local net, images = network(), waves(4, 3, 8, 8):to "f32":to(device)
    local gradients = grad(loss_of(net, images), net:parameters())
    loss_of(net, images):backward()
    for i, p in ipairs(net:parameters()) do check.close(gradients[i], p.grad) end
  end)
end)
