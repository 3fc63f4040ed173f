--- nn.module: what is registered, what the tree lists, state, copies and moves, classes and subclasses; the containers
-- and what they free.
local cld = require "cld"
local check = require "spec.support.check"
local sorted_keys = require "cld.sorted_keys"
local nn = cld.nn

local function names(list)
  local found = {}
  for name in list do found[#found + 1] = name end
  return found
end

-- A module with these fields, assigned after it was built.
local function module_of(fields)
  local self = nn.module "thing"()
  for name, value in pairs(fields) do self[name] = value end
  return self
end

-- Hands its input through and keeps it.
local Cache = nn.module "cache"
function Cache:forward(x)
  self.seen = x
  return x
end

describe("registration", function()
  it("takes leaf tensors while the module is built", function()
    local Thing = nn.module "thing"
    function Thing:build()
      self.weight = cld.ones(2):requires_grad_()
      self.mean = cld.zeros(2)
      self.on_tape = self.weight * 2
      self.text, self.file = "text", io.stdout
    end
    local thing = Thing()
    assert.same({ "weight" }, names(thing:named_parameters()))
    assert.same({ "mean" }, names(thing:named_buffers()))
    assert.equal(io.stdout, thing.file)
  end)

  it("takes afterwards only what nn.parameter and nn.buffer made", function()
    local thing = module_of {}
    local x = cld.ones(2):requires_grad_()
    thing.activation, thing.feature, thing.plain, thing.leaf = x * 2, x:detach(), cld.zeros(2), x
    assert.same({}, sorted_keys(thing:state_dict()))
    thing.weight, thing.mean = nn.parameter(cld.ones(2)), nn.buffer(cld.zeros(2))
    assert.same({ "weight" }, names(thing:named_parameters()))
    assert.same({ "mean" }, names(thing:named_buffers()))
  end)

  it("follows what is assigned to a member's name, without listing it twice", function()
    local linear = nn.linear(2, 2)
    linear.bias = nil
    assert.same({ "weight" }, names(linear:named_parameters()))
    assert.same({ 1, 2 }, linear(cld.ones(1, 2)).shape)
    linear.bias = nn.parameter(cld.zeros(2))
    linear.bias = nn.parameter(cld.ones(2))
    linear.weight = nn.buffer(cld.eye(2))
    assert.same({ "bias" }, names(linear:named_parameters()))
    assert.same({ "weight" }, names(linear:named_buffers()))
    assert.same({ { 2, 2 } }, linear(cld.ones(1, 2)):totable())
    linear.weight = cld.ones(2, 2):requires_grad_() -- of a member's name, unmarked
    assert.same({ "weight", "bias" }, names(linear:named_parameters()))
    linear.weight = 7
    assert.same({ "bias" }, sorted_keys(linear:state_dict()))
    check.fails(function() linear.bias = linear.bias * 2 end,
      "module_spec.lua:%d+: linear.bias is a parameter; a tensor on the tape %(from mul%) cannot take its place")
  end)

  it("makes parameters and buffers of tensors on the tape by their values", function()
    local x = cld.ones(2):requires_grad_() * 3
    local parameter, buffer = nn.parameter(x), nn.buffer(x)
    assert.is_true(parameter.is_leaf and parameter.requires_grad)
    assert.is_false(buffer.requires_grad)
    check.close(parameter, { 3, 3 })
    check.fails(function() nn.parameter(cld.zeros({ 2 }, "i64")) end,
      "module_spec.lua:%d+: nn.parameter: only floating%-point tensors are trained, got i64")
    check.fails(function() nn.parameter(3) end, "nn.parameter: expected a tensor, got 3")
    check.fails(function() nn.buffer {} end, "nn.buffer: expected a tensor, got a table")
  end)

  it("refuses plain tables of modules", function()
    local expected = "module_spec.lua:%d+: thing.blocks: modules in a plain table .* nn.module_list"
    check.fails(function() module_of { blocks = { nn.relu(), nn.relu() } } end, expected)
    local Thing = nn.module "thing"
    function Thing:build()
      self.blocks = {}
      self.blocks[1] = nn.relu()
    end
    check.fails(function() Thing() end, expected)
  end)

  it("refuses names that would break the tree, and cycles", function()
    check.fails(function() module_of { train = nn.relu() } end, "a member cannot be called 'train'")
    check.fails(function() module_of { ["a.b"] = nn.relu() } end, "a string without dots, got 'a.b'")
    local outer, inner = module_of {}, module_of {}
    outer.inner = inner
    check.fails(function() inner.outer = outer end, "thing.outer: a module cannot be part of itself")
  end)
end)

describe("the tree", function()
  local function tree()
    return module_of { body = nn.sequential(nn.linear(2, 3), nn.batch_norm2d(3)) }
  end

  it("lists by name, in loops as often as one likes", function()
    local list = tree():named_parameters()
    local expected = { "body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias" }
    assert.equal(4, #list)
    local first
    for name in list do
      first = first or name
      if name == "body.0.bias" then break end
    end
    assert.equal("body.0.weight", first)
    assert.same(expected, names(list))
    assert.same(expected, names(list))
    local pairs_seen = {}
    for name, tensor in pairs(list) do
      assert.equal(list[name], tensor)
      pairs_seen[#pairs_seen + 1] = name
    end
    assert.same(expected, pairs_seen)
    assert.equal(tree():get_parameter "body.0.bias".shape[1], 3)
    assert.equal(tree():get_buffer "body.1.running_mean".shape[1], 3)
    check.fails(function() tree():get_buffer "body.0.bias" end,
      "module_spec.lua:%d+: thing has no buffer 'body.0.bias'")
  end)

  it("lists children, modules and buffers", function()
    local net = tree()
    assert.same({ "body" }, names(net:named_children()))
    assert.same({ "", "body", "body.0", "body.1" }, names(net:named_modules()))
    assert.equal(net.body, net:children()[1])
    assert.equal(4, #net:modules())
    assert.equal(3, #net:buffers())
    local order = {}
    assert.equal(net, net:apply(function(module) order[#order + 1] = module end))
    assert.is_true(rawequal(net.body[1], order[1]) and rawequal(net.body[2], order[2]) and rawequal(net, order[4]))
  end)

  it("has shared tensors and modules once, and their state under every name", function()
    local a, b = nn.linear(2, 2), nn.linear(2, 2)
    b.weight = a.weight
    local net = nn.sequential(a, b, a)
    assert.same({ "0.weight", "0.bias", "1.bias" }, names(net:named_parameters()))
    assert.equal(3, #net:parameters())
    assert.same({ "0.bias", "0.weight", "1.bias", "1.weight", "2.bias", "2.weight" }, sorted_keys(net:state_dict()))
    assert.equal(a.weight, net:get_parameter "1.weight")
    assert.equal(3, #net:modules())
    net(cld.ones(1, 2)):sum():backward()
    net:zero_grad()
    assert.is_nil(a.weight.grad)
    b.alias = nn.parameter(b.bias:contiguous()) -- another userdata of the same tensor
    assert.equal(3, #net:parameters())
    b.alias = nil
    net:to "f64"
    assert.equal(net[1].weight, net[2].weight)
    local target = net:clone()
    cld.optim.ema(target, net, 0.5)
    target:load_state_dict(net:state_dict())
  end)

  it("trains, freezes and moves", function()
    local net = tree()
    net.counts = nn.buffer(cld.tensor({ 1, 2 }, "u8"))
    net.body[1]:requires_grad_(false)
    net:to "f64"
    assert.same({ false, false, true, true }, { net.body[1].weight.requires_grad, net.body[1].bias.requires_grad,
      net.body[2].weight.requires_grad, net.body[2].bias.requires_grad })
    assert.equal(4, #net:parameters())
    assert.same({ "f64", "u8", "i64" }, { net.body[2].running_mean.dtype, net.counts.dtype,
      net.body[2].num_batches_tracked.dtype })
    assert.is_true(net:requires_grad_().body[1].weight.requires_grad)
    check.fails(function() net:to "i64" end, "to: expected a device or a floating%-point dtype, got 'i64'")
    check.fails(function() net:to(3) end, "module_spec.lua:%d+: to: expected a device or .*, got 3")
  end)

  it("clones", function()
    local net = tree()
    net.again = net.body[1]
    net.body[1].bias:requires_grad_(false)
    net.body:eval()
    local copy = net:clone()
    assert.same(sorted_keys(net:state_dict()), sorted_keys(copy:state_dict()))
    assert.is_true(rawequal(copy.again, copy.body[1]))
    assert.is_false(rawequal(copy.body[1], net.body[1]))
    assert.is_false(copy.body[1].bias.requires_grad)
    assert.same({ true, false }, { copy.training, copy.body[1].training })
    cld.no_grad(function() net.body[1].weight:fill_(9) end)
    assert.is_true(copy.body[1].weight:amax():item() < 9)
  end)
end)

describe("classes", function()
  it("inherit build, forward and metamethods", function()
    local Base = nn.module "base"
    function Base:build(width) self.linear = nn.linear(width, 1) end
    function Base:forward(x) return self.linear(x) end
    function Base.__len() return 5 end
    local Sub = nn.module("sub", Base)
    function Sub:forward(x) return Base.forward(self, x) + 1 end
    local sub = Sub(2)
    assert.equal(5, #sub)
    assert.same({ 3, 1 }, sub(cld.ones(3, 2)).shape)
    local Stem = nn.module("stem", nn.sequential)
    function Stem:build() nn.sequential.build(self, nn.relu(), nn.flatten()) end
    assert.equal(2, #Stem())
    check.fails(function() nn.module("sub", nil) end, "the base of sub must be a class of modules, got nil")
    check.fails(function() nn.module("sub", {}) end, "the base of sub must be a class of modules, got a table")
    check.fails(function() nn.module() end, "nn.module: expected the name of a class, got nil")
  end)

  it("say at the user's line what is wrong with a call", function()
    check.fails(function() module_of {}(1) end, "module_spec.lua:%d+: thing has no forward")
    local Head = nn.module "head"
    function Head:build() self.linear = nn.linear(3, 2) end
    function Head:forward(x)
      local y = self.linear(x)
      return y
    end
    local head = Head()
    local line = debug.getinfo(Head.forward, "S").linedefined + 1
    local ok, message = xpcall(head, debug.traceback, cld.ones(1, 4))
    assert.is_false(ok)
    local place = ("module_spec.lua:%d: head: linear %%(linear%%): linear: "):format(line)
    assert.truthy(message:find("^%S*" .. place .. "x has 4 features, the weight takes 3\n"), message)
    assert.truthy(message:find(("\n%%s+%%S*module_spec.lua:%d: in "):format(line)), message)
    check.fails(function() head(nil) end, place .. "expected a tensor, got nil")
    local closed = cld.ones(1, 3)
    closed:close()
    check.fails(function() head(closed) end, "bad argument #1 to 'linear' %(the tensor was closed%)")
  end)
end)

describe("load_state_dict", function()
  it("takes strict as a field or as a boolean", function()
    local linear = nn.linear(2, 2)
    local state = { weight = cld.ones(2, 2) }
    check.fails(function() linear:load_state_dict(state) end, "module_spec.lua:%d+: linear: .* 1 missing: bias")
    assert.same({ "bias" }, linear:load_state_dict(state, false).missing)
    assert.same({ "bias" }, linear:load_state_dict(state, { strict = false }).missing)
    check.close(linear.weight, state.weight)
    check.fails(function() linear:load_state_dict(state, { strickt = false }) end,
      "load_state_dict: unknown field 'strickt'; did you mean 'strict'")
    check.fails(function() linear:load_state_dict(state, 1) end, "load_state_dict: expected a table of options, got 1")
  end)

  it("says what is no state", function()
    local linear = nn.linear(2, 2)
    check.fails(function() linear:load_state_dict(nil) end,
      "module_spec.lua:%d+: linear: expected a state, {name = tensor}, got nil")
    check.fails(function() linear:load_state_dict { weight = 1 } end, "got 1 under the key 'weight'")
    check.fails(function() linear:load_state_dict { cld.ones(2) } end, "got f32%[2%] under the key 1")
  end)

  describe("of what cld.load returns, as it is", function()
    local path = os.tmpname()
    teardown(function() os.remove(path) end)
    local function weight() return { weight = cld.ones(2, 2), bias = cld.ones(2) } end

    -- A file of PyTorch's has the first of these.
    for _, metadata in ipairs { { format = "pt" }, {}, { strict = "false" } } do
      it("takes the file's metadata for no options: " .. (next(metadata) or "none"), function()
        local linear = nn.linear(2, 2)
        cld.save(path, weight(), metadata)
        linear:load_state_dict(cld.load(path))
        check.close(linear.weight, cld.ones(2, 2))
        cld.save(path, { weight = cld.ones(2, 2) }, metadata)
        check.fails(function() linear:load_state_dict(cld.load(path)) end, "1 missing: bias")
      end)
    end

    it("takes options instead", function()
      cld.save(path, { weight = cld.ones(2, 2) }, { format = "pt" })
      assert.same({ "bias" }, nn.linear(2, 2):load_state_dict(cld.load(path), { strict = false }).missing)
    end)

    it("says why a tensor was not read", function()
      local norm = nn.batch_norm2d(2)
      local state, _, unread = norm:state_dict(), {}, { num_batches_tracked = "why", other = "not asked for" }
      state.num_batches_tracked = nil
      check.fails(function() norm:load_state_dict(state, {}, unread) end,
        "the state does not fit: 1 missing: num_batches_tracked %(why%)$")
    end)
  end)

  describe("with integers of another width", function()
    local checkpoint = require "cld.run.checkpoint"
    local function restored(own, given)
      checkpoint.object(own):load_state_dict(given)
      return own.x:totable()
    end

    it("takes those that fit", function()
      assert.same({ 0, 255 }, restored({ x = cld.zeros(2, "u8") }, { x = cld.tensor({ 0, 255 }, "i32") }))
      assert.same({ -1, 7 }, restored({ x = cld.zeros(2, "i32") }, { x = cld.tensor({ -1, 7 }, "i64") }))
      assert.same({ 0, 255 }, restored({ x = cld.zeros(2, "i64") }, { x = cld.tensor({ 0, 255 }, "u8") }))
    end)

    it("names those that do not, and copies nothing", function()
      local own = { x = cld.ones(2, "u8"), y = cld.ones(1) }
      local given = { x = cld.tensor({ 0, 256 }, "i32"), y = cld.zeros(1) }
      check.fails(function() restored(own, given) end,
        "1 of another dtype: x %(u8 here, which does not hold the values of i32 in the state%)")
      assert.same({ 1, 1 }, own.x:totable())
      assert.same({ 1 }, own.y:totable())
      check.fails(function() restored({ x = cld.ones(1, "i32") }, { x = cld.tensor({ 1 << 31 }, "i64") }) end,
        "x %(i32 here, which does not hold the values of i64")
    end)

    it("says that they are no floats", function()
      check.fails(function() restored({ x = cld.ones(1) }, { x = cld.tensor({ 1 }, "i32") }) end,
        "x %(f32 here, i32 in the state%)")
    end)
  end)
end)

describe("nn.sequential", function()
  it("takes its modules one by one or as a table, and functions", function()
    local a, b = nn.linear(2, 3), nn.relu()
    for _, net in ipairs { nn.sequential(a, b), nn.sequential { a, b } } do
      assert.equal(2, #net)
      assert.is_true(rawequal(a, net[1]) and rawequal(b, net[2]))
      assert.same({ "0.bias", "0.weight" }, sorted_keys(net:state_dict()))
      check.close(net(cld.ones(1, 2)), a(cld.ones(1, 2)):relu())
    end
    assert.equal(0, #nn.sequential())
    assert.equal(0, #nn.sequential {})
    check.close(nn.sequential { function(x) return x * 2 end, nn.relu() }(cld.ones(2)), { 2, 2 })
    check.fails(function() nn.sequential(a, 3) end,
      "module_spec.lua:%d+: sequential: entry 2 is 3; expected a module")
    check.fails(function() nn.sequential { a, nil, b } end, "sequential: entry 2 is nil; expected a module")
    check.fails(function() nn.sequential { a, cld.ones(2) } end, "sequential: entry 2 is f32%[2%]")
    check.fails(function() nn.sequential { conv = a } end, "entries have positions, not names; got 'conv'")
  end)

  it("can be changed by position", function()
    local net = nn.sequential(nn.linear(2, 3), nn.relu())
    net[1] = nn.linear(2, 5)
    net:append(nn.linear(5, 1))
    net["1"] = nn.tanh()
    assert.equal(3, #net)
    assert.same({ 4, 1 }, net(cld.ones(4, 2)).shape)
    assert.same({ "0.weight", "0.bias", "2.weight", "2.bias" }, names(net:named_parameters()))
    local seen = 0
    for i, child in ipairs(net) do
      assert.is_true(rawequal(child, net[i]))
      seen = seen + 1
    end
    assert.equal(3, seen)
    check.fails(function() net[9] = nn.relu() end, "sequential: entry 9 cannot be set; there are 3")
  end)

  it("closes no tensor that somebody else has", function()
    local x = cld.ones(1, 2)
    assert.is_true(rawequal(x, nn.sequential(nn.identity(), nn.identity())(x)))
    nn.sequential(nn.identity(), nn.relu(), nn.relu())(x)
    nn.sequential(nn.sequential(), nn.dropout(0):eval(), nn.relu(), nn.relu())(x)
    check.close(x, { { 1, 1 } })

    local cache = Cache()
    nn.sequential(nn.linear(2, 2), cache, nn.relu(), nn.relu())(x)
    assert.same({ 1, 2 }, cache.seen.shape)
    nn.sequential(nn.linear(2, 2), nn.sequential(nn.identity(), cache), nn.relu(), nn.relu())(x)
    assert.same({ 1, 2 }, cache.seen.shape)

    local Table = nn.module "table"
    function Table:build() self.rows = nn.parameter(cld.ones(1, 2)) end
    function Table:forward(_) return self.rows end
    local rows = Table()
    nn.sequential(nn.relu(), rows, nn.relu(), nn.relu())(x)
    check.close(rows.rows, { { 1, 1 } })

    local keeping = nn.relu() -- a layer whose forward the user has replaced
    function keeping:forward(y)
      self.kept = y
      return y:relu()
    end
    nn.sequential(nn.relu(), keeping, nn.relu())(x)
    check.close(keeping.kept, { { 1, 1 } })
  end)

  it("frees at once what lies between layers", function()
    local net = nn.sequential(nn.linear(2, 2), nn.sequential(nn.identity(), nn.relu()), nn.tanh(), nn.flatten())
    local x = cld.ones(1, 2)
    collectgarbage()
    collectgarbage "stop"
    local before = cld.tensors_alive()
    local y = cld.no_grad(function() return net(x) end)
    local made = cld.tensors_alive() - before
    collectgarbage "restart"
    assert.equal(1, made)
    assert.same({ 1, 2 }, y.shape)
  end)
end)

describe("nn.module_list", function()
  it("holds modules that forward calls itself", function()
    local list = nn.module_list { nn.linear(2, 2), nn.linear(2, 2) }
    local net = module_of { blocks = list }
    local count = 0
    for i, block in ipairs(net.blocks) do
      assert.is_true(rawequal(block, list[i]))
      count = count + 1
    end
    assert.same({ 2, 2 }, { count, #list })
    assert.same({ "blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias" },
      names(net:named_parameters()))
    check.fails(function() list(cld.ones(1, 2)) end, "module_list has no forward")
    check.fails(function() nn.module_list { print } end, "module_list: entry 1 is a function; expected a module")
  end)
end)
