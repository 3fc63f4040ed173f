local cld = require "cld"
local check = require "spec.support.check"

local function leaf(values, dtype) return cld.tensor(values, { dtype = dtype or "f64", requires_grad = true }) end

describe("backward", function()
  it("fills the gradients of leaves and adds to what is there", function()
    local x = leaf { 1, 2, 3 }
    assert.is_nil(x.grad)
    for n = 1, 3 do
      (x * x):sum():backward()
      check.close(x.grad, { 2 * n, 4 * n, 6 * n })
    end
    assert.is_true(x.grad == x.grad)
    x.grad = nil
    assert.is_nil(x.grad)
    x.grad = cld.zeros(3, "f64")
    x:sum():backward()
    check.close(x.grad, { 1, 1, 1 })
  end)

  it("sums over all ways through a diamond", function()
    local x = leaf { 2 }
    local a, b = x * 3, x * x
    local y = (a * b + a + x):sum() -- 3x^3 + 4x
    y:backward()
    check.close(x.grad, { 9 * 4 + 4 })
  end)

  it("uses a tensor that is both arguments of one op", function()
    local x = leaf { 3, 4 }
    x:mul(x):sum():backward()
    check.close(x.grad, { 6, 8 })
  end)

  it("takes the gradient of what is not one element", function()
    local x = leaf { { 1, 2 }, { 3, 4 } }
    local g = cld.tensor({ { 1, 10 }, { 100, 1000 } }, "f64")
    x:t():backward(g)
    check.close(x.grad, { { 1, 100 }, { 10, 1000 } })
    x.grad = nil
    x:clone():backward { gradient = g }
    check.close(x.grad, g)
    x.grad:zero_() -- its own memory
    assert.equal(10, g[{ 1, 2 }]:item())
    check.fails(function() x:t():backward() end, "backward: a gradient must be given for f64%[2, 2%]")
    check.fails(function() x:t():backward(cld.zeros(2, "f64")) end, "the gradient is f64%[2%], the tensor f64%[2, 2%]")
    check.fails(function() x:t():backward { gradients = g } end, "did you mean 'gradient'")
  end)

  it("needs something to differentiate", function()
    check.fails(function() cld.zeros(1):backward() end, "does not depend on anything that requires a gradient")
    check.fails(function() cld.zeros(1, "i64"):requires_grad_() end, "only floating%-point tensors have gradients")
    local x = leaf { 1 }
    check.fails(function() (x * 2):requires_grad_(false) end, "is a result of .*use detach")
    check.fails(function() x.grad = cld.zeros(2, "f64") end, "f64%[2%] cannot be the gradient of f64%[1%]")
    check.fails(function() x.grad = x end, "off the tape")
  end)

  it("knows leaves", function()
    local x = leaf { 1 }
    local y = x * 2
    assert.is_true(x.is_leaf)
    assert.is_false(y.is_leaf)
    assert.is_true(y.requires_grad)
    assert.is_string(y.grad_fn)
    assert.is_false(y:detach().requires_grad)
    assert.is_true(cld.zeros(1):requires_grad_().requires_grad)
    x.requires_grad = false
    assert.is_false((x * 2).requires_grad)
    x:requires_grad_(true)
    x:sum():backward()
    check.close(x.grad, { 1 })
  end)

  it("runs twice only where the graph was kept", function()
    local x = leaf { 2 }
    local y = (x * x):sum()
    y:backward { retain_graph = true }
    y:backward()
    check.close(x.grad, { 8 })
    check.fails(function() y:backward() end, "the graph through %w+ was released by an earlier backward")
  end)

  it("runs again through what had saved nothing, such as a view made outside the loop", function()
    local x = leaf { { 1, 2 } }
    local columns = x:t()
    for _ = 1, 3 do (columns * 2):sum():backward() end
    check.close(x.grad, { { 6, 6 } })
  end)

  it("skips branches that no gradient reaches", function()
    local x, y = leaf { 1 }, leaf { 1 }
    local _ = y * 2
    x:sum():backward()
    assert.is_nil(y.grad)
  end)

  it("stops at detach", function()
    local x = leaf { 3 }
    x:mul(x:detach()):sum():backward()
    check.close(x.grad, { 3 })
  end)
end)

describe("grad mode", function()
  it("is switched for a scope by <close>", function()
    local x = leaf { 1 }
    do
      local _ <close> = cld.no_grad()
      assert.is_false(cld.is_grad_enabled())
      assert.is_false((x * 2).requires_grad)
      do
        local _ <close> = cld.enable_grad()
        assert.is_true((x * 2).requires_grad)
      end
      assert.is_false(cld.is_grad_enabled())
    end
    assert.is_true(cld.is_grad_enabled())
  end)

  it("is back when a guard that was not closed is collected, whatever is open then", function()
    cld.no_grad()
    assert.is_false(cld.is_grad_enabled())
    collectgarbage()
    assert.is_true(cld.is_grad_enabled())
    do
      cld.enable_grad()
      local _ <close> = cld.no_grad()
      cld.enable_grad()
      assert.is_true(cld.is_grad_enabled())
      collectgarbage()
      assert.is_false(cld.is_grad_enabled())
    end
    assert.is_true(cld.is_grad_enabled())
    local x = leaf { 1, 2 }
    local forgetful = cld.Function {
      forward = function(_, y) return y * 2 end,
      backward = function(_, g)
        cld.enable_grad()
        collectgarbage()
        assert(not cld.is_grad_enabled())
        return g * 2
      end,
    }
    forgetful(x):sum():backward()
    check.close(x.grad, { 2, 2 })
  end)

  it("is switched for a function, which may fail", function()
    local x = leaf { 1 }
    local y, n = cld.no_grad(function(t, k) return t * k, k end, x, 5)
    assert.equal(5, y:item())
    assert.equal(5, n)
    assert.is_false(y.requires_grad)
    check.fails(function() cld.no_grad(function() error "inside" end) end, "inside")
    assert.is_true(cld.is_grad_enabled())
    assert.is_true(cld.no_grad(function() return cld.enable_grad(cld.is_grad_enabled) end))
    check.fails(function() cld.no_grad(3) end, "function expected")
  end)
end)

describe("writes in place", function()
  it("are refused on the tape, and allowed without recording", function()
    local x = leaf { 1, 2 }
    for _, f in ipairs { function() x:zero_() end, function() (x * 2):add_(1) end, function() x[1] = 3 end,
      function() x:detach():copy_(x) end, function() cld.zeros(2, "f64"):add_(x) end, function() x:uniform_() end,
      function() cld.zeros(2, "f64")[1] = x[1] end } do
      check.fails(f, "in.place")
    end
    cld.no_grad(function() x:mul_(2) end)
    assert.same({ 2, 4 }, x:totable())
  end)

  it("of what backward needs are noticed", function()
    local x, w = leaf { 1, 2 }, cld.tensor({ 3, 4 }, "f64")
    local y = (x * w):sum()
    w:narrow(1, 1, 1):fill_(7) -- through a view
    check.fails(function() y:backward() end, "in the gradient of mul: f64%[2%].*changed in place")
    local z = (x * w):sum()
    w:detach()[2] = 1
    check.fails(function() z:backward() end, "changed in place")
  end)

  it("of what backward does not need are fine", function()
    local x = leaf { 1, 2 }
    local c = cld.ones(2, "f64")
    local y = (x + c):sum()
    c:zero_()
    y:backward()
    check.close(x.grad, { 1, 1 })
  end)
end)

describe("long graphs", function()
  it("of 100,000 nodes neither overflow the stack in backward nor when they are dropped", function()
    local x = leaf { 1 }
    local y = x
    for _ = 1, 100000 do y = y + 1 end
    y:sum():backward()
    check.close(x.grad, { 1 })
    y = x
    for _ = 1, 100000 do y = y * 1 end
    y = nil -- luacheck: ignore
    collectgarbage()
  end)

  it("that fork at every node are walked once", function()
    local x = leaf { 1 }
    local y = x
    for _ = 1, 40 do y = (y + y) * 0.5 end
    y:sum():backward()
    check.close(x.grad, { 1 })
  end)
end)

describe("memory", function()
  it("is given back as backward passes, and with the graph", function()
    local x = leaf { 1, 2, 3 }
    collectgarbage()
    local before = cld.tensors_alive()
    do
      local function deep(y)
        for _ = 1, 10 do y = (y * y):exp():log() end
        return y:sum()
      end
      local loss <close> = deep(x * 0.1)
      collectgarbage()
      assert.is_true(cld.tensors_alive() > before + 10) -- saved
      loss:backward()
      collectgarbage()
      assert.equal(before + 2, cld.tensors_alive()) -- loss and x.grad
      local never <close> = deep(x)
      assert.is_true(never.requires_grad)
    end
    collectgarbage()
    assert.equal(before + 1, cld.tensors_alive())
  end)
end)

describe("gradients of views", function()
  local function random(...) return cld.randn(..., "f64") end

  before_each(function() cld.manual_seed(11) end)

  local cases = {
    { "reshape", { 2, 6 }, function(x) return x:reshape(3, 4) * 2 end },
    { "reshape that copies", { 2, 3 }, function(x) return x:t():reshape(6) end },
    { "permute", { 2, 3, 4 }, function(x) return x:permute(3, 1, 2) end },
    { "transpose", { 2, 3, 4 }, function(x) return x:transpose(1, 3) end },
    { "narrow", { 3, 5 }, function(x) return x:narrow(2, 2, 3) end },
    { "narrow to nothing and back", { 3, 5 }, function(x) return cld.cat { x:narrow(1, 1, 0), x } end },
    { "select", { 3, 4, 2 }, function(x) return x:select(2, 3) end },
    { "expand", { 3, 1 }, function(x) return x:expand(2, 3, 4) end },
    { "expand of one element", { 1 }, function(x) return x:expand(5) end },
    { "squeeze", { 3, 1, 2 }, function(x) return x:squeeze(2) end },
    { "unsqueeze", { 3, 2 }, function(x) return x:unsqueeze(-1) end },
    { "flatten", { 2, 3, 2 }, function(x) return x:flatten(2) end },
    { "contiguous", { 2, 3 }, function(x) return x:t():contiguous() end },
    { "clone", { 2, 3 }, function(x) return x:clone() end },
    { "index", { 3, 4 }, function(x) return x[{ { 2, 3 }, 4 }] + x[2][1] end },
    { "index by a tensor", { 4, 2 }, function(x) return x[cld.tensor({ 3, 1, 1 }, "i64")] end },
    { "overlapping views", { 4 }, function(x) return x:narrow(1, 1, 3) * x:narrow(1, 2, 3) end },
    { "rows", { 3, 2 }, function(x)
      local sum = 0
      for i, row in x:rows() do sum = sum + row * i end
      return sum
    end },
  }
  for _, case in ipairs(cases) do
    it("of " .. case[1], function() check.gradcheck(case[3], { random(case[2]) }) end)
  end

  it("of cat and stack", function()
    check.gradcheck(function(a, b, c) return cld.cat({ a, b, c, a }, 2) end,
      { random { 2, 3 }, random { 2, 1 }, random { 2, 2 } })
    check.gradcheck(function(a, b) return cld.stack({ a, b }, 2) end, { random { 2, 3 }, random { 2, 3 } })
    local x, c = leaf { 1, 2 }, cld.zeros(3, "f64")
    cld.cat({ c, x, c }):sum():backward() -- only x needs a gradient
    check.close(x.grad, { 1, 1 })
  end)

  it("of activations in the device's own layout are those of row-major ones", function()
    local conv2d = require("cld.core").nn.conv2d
    local function run(dtype)
      cld.manual_seed(2)
      local x = random({ 2, 16, 5, 5 }):to(dtype):requires_grad_()
      local w = random({ 32, 16, 3, 3 }):to(dtype):requires_grad_()
      local y = conv2d(x, w, nil, { padding = 1 }) -- f32: blocked; f64: row-major
      local row = y:select(3, 2):unsqueeze(3):expand(2, 32, 5, 5)
      local z = cld.cat({ y:narrow(2, 3, 7), row, y:permute(1, 2, 4, 3) }, 2)
      local loss = (z * z):flatten(2):mean() + y[{ 1, { 2, 5 }, {}, 3 }]:sum() + y:clone():reshape(2, -1):mean()
      loss:backward()
      return loss, x.grad, w.grad
    end
    local loss, dx, dw = run("f32")
    local loss64, dx64, dw64 = run("f64")
    check.close(loss, loss64:item(), { rtol = 1e-5 })
    check.close(dx, dx64, { atol = 1e-4, rtol = 1e-4 })
    check.close(dw, dw64, { atol = 1e-4, rtol = 1e-4 })
  end)

  it("of extremes go to the position named", function()
    check.gradcheck(function(x) return (x:max(2)) * (x:min(1, true)):sum() end, { random { 3, 4 } })
    check.gradcheck(function(x) return (x:topk(2)) end, { random { 3, 4 } })
  end)
end)

describe("cld.Function", function()
  -- x * y + k
  local calls
  local multiply = cld.Function {
    name = "multiply",
    forward = function(ctx, x, y, k)
      assert(not cld.is_grad_enabled())
      ctx:save(x, y)
      ctx.k = k
      return x * y + k
    end,
    backward = function(ctx, gradient)
      assert(not cld.is_grad_enabled())
      calls = ctx.k
      local x, y = table.unpack(ctx.saved)
      return gradient * y, gradient * x, nil
    end,
  }

  it("has the backward that it is given", function()
    check.gradcheck(function(x, y) return multiply(x, y, 3):exp() end, {
      cld.tensor({ 0.5, -1 }, "f64"), cld.tensor({ 2, 0.25 }, "f64") })
    assert.equal(3, calls)
    local x = leaf { 1 }
    local y = multiply(x, cld.ones(1, "f64"), 0)
    assert.equal("multiply", y.grad_fn)
    y:sum():backward()
    check.close(x.grad, { 1 })
    check.fails(function() y:sum():backward() end, "the graph through multiply was released")
  end)

  it("is an ordinary call where nothing needs a gradient", function()
    local y = multiply(cld.ones(2, "f64"), cld.ones(2, "f64"), 1)
    assert.is_false(y.requires_grad)
    assert.same({ 2, 2 }, y:totable())
  end)

  it("may have several results, and get no gradient for some", function()
    local seen
    local split = cld.Function {
      forward = function(_, x) return x * 2, x * 3, x:argmax() end,
      backward = function(_, a, b)
        seen = { a:totable(), b:totable() }
        return a * 2 + b * 3
      end,
    }
    local x = leaf { 1, 2 }
    local a, b, at = split(x)
    assert.equal("i64", at.dtype)
    assert.is_false(at.requires_grad)
    b:sum():backward()
    assert.same({ { 0, 0 }, { 1, 1 } }, seen)
    check.close(x.grad, { 3, 3 })
    assert.is_true(a.requires_grad)
  end)

  it("may return its argument", function()
    local reverse = cld.Function { forward = function(_, x) return x end, backward = function(_, g) return -g end }
    local x = leaf { 1, 2 }
    local y = reverse(x)
    assert.is_true(x.is_leaf)
    assert.is_false(y.is_leaf)
    y:sum():backward()
    check.close(x.grad, { -1, -1 })
  end)

  it("turns errors of its Lua into errors of backward", function()
    local function failing(backward, forward)
      local f = cld.Function { name = "failing", forward = forward or function(_, x) return x * 1 end,
        backward = backward }
      return function() f(leaf { 1, 2 }):sum():backward() end
    end
    check.fails(failing(function() error "my own words" end),
      "in the gradient of failing: .*autograd_spec.lua:%d+: my own words")
    check.fails(failing(function() error {} end), "in the gradient of failing: table")
    check.fails(failing(function() return 3 end), "result 1 is a number; expected the gradient of argument 1")
    check.fails(failing(function() return cld.zeros(3, "f64") end),
      "in the gradient of failing: input 1 is f64%[2%], but its gradient came out as f64%[3%]")
    check.fails(failing(print, function() error "forwards" end), "forwards")
    assert.is_true(cld.is_grad_enabled())
    check.fails(failing(print, function() return 5 end), "failing: result 1 of forward is a number; expected a tensor")
    check.fails(failing(print, function() end), "failing: forward returned nothing")
    check.fails(function() cld.Function { forward = print } end, "field 'backward' must be a function")
    check.fails(function() cld.Function { forward = print, backwards = print } end, "did you mean 'backward'")
    local x = leaf { 1 } -- the engine is as before
    x:sum():backward()
    check.close(x.grad, { 1 })
  end)

  it("runs in a coroutine", function()
    local x = leaf { 2 }
    coroutine.wrap(function() multiply(x, x, 0):sum():backward() end)()
    check.close(x.grad, { 4 })
  end)

  for name, run in pairs {
    backward = function(loss) loss:backward() end,
    ["sgd:step"] = function(loss, sgd) sgd:step(loss) end,
  } do
    it(("under %s runs in the coroutine that called, hooks and all"):format(name), function()
      local seen
      local probe = cld.Function {
        forward = function(_, x) return x * 1 end,
        backward = function(_, g)
          seen = coroutine.running()
          for _ = 1, 10000 do end
          return g
        end,
      }
      local x = leaf { 2 }
      local sgd = cld.optim.sgd({ x }, { lr = 0.1 })
      local hooked = 0
      local thread = coroutine.create(function() run(probe(x):sum(), sgd) end)
      debug.sethook(thread, function() hooked = hooked + 1 end, "", 1000) -- as Ctrl-C in the REPL
      assert(coroutine.resume(thread))
      assert.equal(thread, seen)
      assert.is_true(hooked >= 9)
    end)
  end

  it("keeps nothing alive", function()
    collectgarbage()
    local before = cld.tensors_alive()
    do
      local keep = cld.Function {
        forward = function(ctx, x)
          local y = x:exp()
          ctx:save(y)
          return y
        end,
        backward = function(ctx, g) return g * ctx.saved[1] end,
      }
      local x = leaf { 1 }
      local y = keep(keep(x)) -- never differentiated
      assert.is_number(y:item())
    end
    collectgarbage()
    collectgarbage()
    assert.equal(before, cld.tensors_alive())
  end)
end)
