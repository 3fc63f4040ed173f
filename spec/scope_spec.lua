--- Scopes of temporaries: what is closed at the end of a forward, and what is not; nn.scope, nn.chain.
local cld = require "cld"
local check = require "spec.support.check"
local nn = cld.nn

-- A module of a declared class with this forward.
local function declared(forward, build)
  local Class = nn.module "declared"
  Class.forward, Class.build = forward, build
  nn.transient(Class)
  return Class()
end

-- A module of a class that is not declared.
local function undeclared(forward)
  local Class = nn.module "undeclared"
  Class.forward = forward
  return Class()
end

local function is_closed(tensor) return not pcall(function() return tensor.shape end) end

-- How many tensors f() leaves alive, without the collector's help.
local function left_by(f)
  collectgarbage()
  collectgarbage "stop"
  local before = cld.tensors_alive()
  local results = table.pack(pcall(f))
  local left = cld.tensors_alive() - before
  collectgarbage "restart"
  return left, table.unpack(results, 1, results.n)
end

local function without_tape(f) return function() return cld.no_grad(f) end end

describe("a forward", function()
  local x = cld.ones(2, 2)

  it("that is plain Lua leaves its result alone", function()
    local block = declared(function(self, input) return (self.linear(input):relu() + input) * 2 end,
      function(self) self.linear = nn.linear(2, 2) end)
    local left, ok, y = left_by(without_tape(function() return block(x) end))
    assert.is_true(ok)
    assert.equal(1, left)
    assert.same({ 2, 2 }, y.shape)
  end)

  it("has the gradients that it has without a scope", function()
    local function forward(self, input) return (self.linear(input):tanh() + input) * self.linear(input) end
    local function build(self) self.linear = nn.linear(2, 2) end
    local block, plain = declared(forward, build), undeclared(forward)
    plain.linear = block.linear
    block(x):sum():backward()
    local expected = block.linear.weight.grad:clone()
    block:zero_grad()
    plain(x):sum():backward()
    check.close(plain.linear.weight.grad, expected, { atol = 0, rtol = 0 })
  end)

  it("returns what it made in plain tables", function()
    local block = declared(function(_, input) return { a = input + 1, rest = { input + 2 } }, input * 3, 7 end)
    local left, ok, features, product, number = left_by(function() return block(x) end)
    assert.is_true(ok)
    assert.equal(3, left)
    check.close(features.rest[1], { { 3, 3 }, { 3, 3 } })
    check.close(product, { { 3, 3 }, { 3, 3 } })
    assert.equal(7, number)
  end)

  it("that returns a function or an object has nothing closed", function()
    local made
    local block = declared(function(_, input)
      made = input + 1
      return function() return made end
    end)
    check.close(block(x)(), { { 2, 2 }, { 2, 2 } })
    block = declared(function(_, input) return setmetatable({ input + 1 }, {}) end)
    assert.is_false(is_closed(block(x)[1]))
  end)

  it("closes neither its input nor its members", function()
    local block = declared(function(self, input)
      local _ = self.weight * input
      return self.weight
    end, function(self) self.weight = nn.parameter(cld.ones(2, 2)) end)
    assert.is_true(rawequal(block.weight, block(x)))
    assert.is_false(is_closed(block.weight))
    assert.is_false(is_closed(x))
    assert.is_true(rawequal(x, declared(function(_, input) return input end)(x)))
  end)

  it("closes nothing that became a field", function()
    local other = nn.relu()
    local block = declared(function(self, input)
      self.seen, other.seen = input + 1, { input + 2 }
      self.kept = {}
      self.kept[1] = input + 3
      self.older[1] = input + 4
      self.late = nn.linear(2, 2)
      return input + 5
    end, function(self) self.older = {} end)
    block(x)
    for _, tensor in ipairs { block.seen, other.seen[1], block.kept[1], block.older[1], block.late.weight } do
      assert.is_false(is_closed(tensor))
    end
  end)

  it("closes nothing that a module of another class made or was given", function()
    local kept = {}
    local cache = undeclared(function(_, input, more)
      kept = { input, more.residual, input + 1 }
      return kept[3]
    end)
    local block = declared(function(self, input) return self.cache(input + 1, { residual = input + 2 }) * 2 end,
      function(self) self.cache = cache end)
    block(x)
    for _, tensor in ipairs(kept) do assert.is_false(is_closed(tensor)) end
  end)

  it("closes nothing that an overridden forward made or was given", function()
    local kept = {}
    local relu = nn.relu()
    function relu.forward(_, input)
      kept = { input, input:relu() }
      return kept[2]
    end
    declared(function(_, input) return relu(input + 1) + 1 end)(x)
    assert.is_false(is_closed(kept[1]))
    assert.is_false(is_closed(kept[2]))
  end)

  it("closes nothing that a class's own __call made or was given", function()
    local kept = {}
    local Called = nn.module "called"
    function Called.__call(_, input)
      kept = { input, input + 1 }
      return kept[2]
    end
    local called = Called()
    declared(function(_, input) return called(input + 1) + 1 end)(x)
    assert.is_false(is_closed(kept[1]))
    assert.is_false(is_closed(kept[2]))
  end)

  it("leaves to a Function what its context keeps", function()
    local square = cld.Function {
      name = "square",
      forward = function(ctx, input)
        ctx.input, ctx.double = input, input * 2
        return input * input
      end,
      backward = function(ctx, dy) return dy * ctx.double + 0 * ctx.input end,
    }
    local input = cld.tensor({ 3 }):requires_grad_()
    local block = declared(function(_, t) return square(t * 1) * 1 end)
    block(input):sum():backward()
    check.close(input.grad, { 6 })
  end)

  it("closes on errors too", function()
    local block = declared(function(self, input)
      self.seen = input + 1
      local y = input + 2
      local z = y * 2
      error("no " .. #z.shape)
    end)
    local left, ok, message = left_by(function() return block(x) end)
    assert.is_false(ok)
    assert.truthy(message:find "no 2$")
    assert.equal(1, left) -- the field
    check.close(block.seen, { { 2, 2 }, { 2, 2 } })
    assert.is_nil(cld.nn.scope(function() return nil end)) -- and the next scope works
  end)

  it("hands its result to the forward around it, which closes it", function()
    local inner = declared(function(_, input) return (input + 1) * 2 end)
    local results = {}
    local outer = declared(function(_, input)
      local y = inner(input)
      results[1] = y
      return inner(y)
    end)
    local left, ok, y = left_by(function() return outer(x) end)
    assert.is_true(ok)
    assert.equal(1, left)
    assert.is_true(is_closed(results[1]))
    check.close(y, { { 10, 10 }, { 10, 10 } })
  end)

  it("keeps for the forward around it what a field of the inner one holds", function()
    local inner = declared(function(self, input)
      self.list[#self.list + 1] = input
      return input + 1
    end, function(self) self.list = {} end)
    declared(function(_, input) return inner(input * 2) + inner(input * 3) end)(x)
    assert.is_false(is_closed(inner.list[1]) or is_closed(inner.list[2]))
  end)

  it("in a coroutine has a scope of its own", function()
    local block = declared(function(_, input)
      local y = input + 1
      coroutine.yield()
      return y * 2
    end)
    local thread = coroutine.wrap(function() return block(x) end)
    thread()
    local made = x + 1 -- between, outside of it
    local outer = declared(function(_, input) return (input + 3) * 2 end)(x)
    check.close(thread(), { { 4, 4 }, { 4, 4 } })
    assert.is_false(is_closed(made))
    check.close(outer, { { 8, 8 }, { 8, 8 } })
  end)

  it("of a subclass is declared with it, an overridden one is not", function()
    local Base = nn.module "base"
    function Base:forward(input)
      self.probe[1] = cld.ones(1)
      local made = input + 1
      self.see(made)
      return made * 2
    end
    nn.transient(Base)
    local seen
    local function see(tensor) seen = tensor end
    local Same, Other = nn.module("same", Base), nn.module("other", Base)
    function Other:forward(input) return Base.forward(self, input) end
    for class, expected in pairs { [Same] = true, [Other] = false } do
      local net = class()
      net.see, net.probe = see, {}
      net(x)
      assert.equal(expected, is_closed(seen))
      assert.is_false(is_closed(net.probe[1]))
    end
  end)
end)

describe("nn.scope", function()
  it("closes what a function made and does not return", function()
    local seen
    local left, ok, y, number = left_by(function()
      return nn.scope(function(a, b)
        seen = a + b
        return seen * 2, 5
      end, cld.ones(2):requires_grad_(), 1)
    end)
    assert.is_true(ok)
    assert.equal(5, number)
    check.close(y, { 4, 4 })
    assert.is_true(is_closed(seen))
    assert.is_true(left >= 2) -- the input, the result; on the tape the sum
    y:sum():backward()
  end)

  it("is open for a call alone", function()
    nn.scope(function() end)
    assert.is_false(is_closed((cld.ones(1) + 1)))
    assert.is_nil(require "cld.core".scope.current())
  end)
end)

describe("nn.chain", function()
  local function linear() return nn.linear(2, 2) end

  it("runs modules, modules with an argument, and functions", function()
    local x, norm = cld.randn(3, 2, 2, 2), nn.batch_norm2d(2)
    local y = nn.chain(x, { norm, { norm, { relu = true } }, function(t) return t + 1 end })
    check.close(y, norm(norm(x), { relu = true }) + 1)
    assert.is_true(rawequal(x, nn.chain(x, {})))
  end)

  it("closes at once what lies between modules, and not its input", function()
    local alive, x = {}, nil
    local probe = nn.relu()
    local a, b, c = linear(), linear(), linear()
    local block = declared(function(_, input)
      x = input * 2
      local y = nn.chain(x, { a, b, c })
      alive[1] = is_closed(x)
      return y + x
    end)
    local left = left_by(without_tape(function()
      return nn.scope(function()
        local y = nn.chain(cld.ones(1, 2), { a, b, c, probe })
        alive[2] = cld.tensors_alive()
        local z = nn.chain(cld.ones(1, 2), { a, b, c, probe })
        alive[3] = cld.tensors_alive()
        return y + z
      end)
    end))
    assert.equal(1, left)
    assert.equal(2, alive[3] - alive[2]) -- the input and the result, nothing between
    block(cld.ones(1, 2))
    assert.is_false(alive[1])
  end)

  it("closes nothing that a function was given", function()
    local seen
    nn.scope(function()
      local y = nn.chain(cld.ones(1, 2), { linear(), function(t)
        seen = t
        return t + 1
      end, linear() })
      assert.is_false(is_closed(seen))
      return y
    end)
  end)
end)
