--- What is printed of an error that nobody catches: a call with a dot in place of a colon, and the traceback.
local cld = require "cld"
local class = require "cld.class"
local colon = require "cld.colon"
local missing = require "cld.missing"
local base = require "cld.nn.module".base
local process = require "spec.support.process"
local sorted_keys = require "cld.sorted_keys"

local nn = cld.nn

-- What is said of an error in f(...); nil if there is no error, or no such mistake.
local function said(f, ...)
  local ok, message = xpcall(f, function() return (colon.problem()) end, ...)
  return not ok and message or nil
end

local Net = nn.module "Net"
function Net:build() self.fc = nn.linear(4, 4) end
function Net:forward(x) return self.fc(x) end

-- Runs a line of code with these objects.
local function line(text)
  local f = assert(load("local cld, net, trunk, layer, x, sgd, bank, infomin, Net = ... local y = " .. text))
  local net, queue = Net(), cld.losses.moco_queue { size = 4, dim = 2 }
  return said(f, cld, net, nn.sequential(nn.linear(4, 4)), { nn.linear(4, 4) }, cld.ones(2, 4),
    cld.optim.sgd(net:parameters(), { lr = 0.1 }), cld.losses.memory_bank { size = 4, dim = 2 },
    cld.losses.infomin { queue = queue }, Net)
end

describe("a method called with a dot", function()
  for text, expected in pairs {
    ["net.parameters()"] = "parameters needs ':': write net:parameters()",
    ["net.to('cpu')"] = "to needs ':': write net:to(...)",
    ["net.forward(x)"] = "forward needs ':': write net:forward(...)",
    ["trunk.forward(x)"] = "forward needs ':': write trunk:forward(...)",
    ["trunk.modules()"] = "modules needs ':': write trunk:modules()",
    ["layer[1].forward(x)"] = "forward needs ':': write layer[1]:forward(...)",
    ["net.fc.forward(x)"] = "forward needs ':': write net.fc:forward(...)",
    ["x.sum()"] = "sum needs ':': write x:sum()",
    ["x.add(x + 1)"] = "add needs ':': write x:add(...)",
    ["x.backward()"] = "backward needs ':': write x:backward()",
    ["sgd.step()"] = "step needs ':': write sgd:step()",
    ["bank.loss(x)"] = "loss needs ':': write bank:loss(...)",
    ["infomin.loss(x, x)"] = "loss needs ':': write infomin:loss(...)",
  } do
    it(("%s is an error that says so"):format(text), function()
      assert.equal(expected, line(text):match "^[^\n]*:1: (.*)$")
    end)
  end

  it("names the kind of object if the line does not show the object", function()
    assert.matches(": parameters needs ':': write module:parameters%(%.%.%.%)$", line "(net or x)['parameters']()")
  end)

  it("is named at the line of the user's function that returned it", function()
    local path = process.write(os.tmpname(), [[
local cld = require "cld"
local Net = cld.nn.module "Net"
function Net:build() self.fc = cld.nn.linear(4, 4) end
function Net:forward(x)
  return self.fc.forward(x)
end
local y = Net()(cld.ones(2, 4))
]])
    local result = process.run { path }
    os.remove(path)
    local expected = "cldlua: FILE:5: forward needs ':': write self.fc:forward(...)\n"
      .. "stack traceback:\n\tFILE:7: in main chunk\n"
    assert.equal(expected:gsub("FILE", path), result.err)
  end)

  -- Every method that does not work without its object.
  local function all(kind, names, methods)
    it(("is told from other errors in every method of %s"):format(kind), function()
      local other, count = {}, 0
      for _, name in ipairs(names) do
        local ok, message = xpcall(methods[name], function(problem) return colon.problem() or problem end)
        if not ok and not tostring(message):find(name .. " needs ':'", 1, true) then other[name] = tostring(message) end
        count = count + (ok and 0 or 1)
      end
      assert.same({}, other)
      assert.is_true(count > 0)
    end)
  end
  local methods = {} -- `each` is a function of nn as well
  for _, name in ipairs(missing.methods(base)) do methods[name] = name ~= "each" and base[name] or nil end
  all("modules", sorted_keys(methods), methods)
  for _, Class in ipairs(class.all) do
    if Class.__name ~= "cld.run" then all(class.kind(Class), missing.methods(Class), Class) end
  end
end)

describe("a method of a tensor called with a dot in code whose text is not known", function()
  local function run(text)
    return process.run { "-e", "local cld = require 'cld' local x = cld.ones(2) " .. text }.err
  end

  it("is told by Lua's words", function()
    assert.matches("^cldlua: %(command line%):1: sum needs ':': write x:sum%(%.%.%.%)\n", run "local y = x.sum()")
  end)
  it("is no method that lacks an operand", function()
    assert.matches("bad argument #1 to 'add' %(cld%.tensor expected, got string%)", run "local y = x:add('no')")
  end)
  it("is no function of cld", function()
    assert.matches("bad argument #1 to 'sum' %(cld%.tensor expected", run "local y = cld.sum()")
  end)
end)

describe("a function called with a colon", function()
  for text, expected in pairs {
    ["cld:ones(2)"] = "ones needs '.': write cld.ones(...)",
    ["cld.nn:linear(4, 3)"] = "linear needs '.': write cld.nn.linear(...)",
    ["cld.optim:sgd(net:parameters())"] = "sgd needs '.': write cld.optim.sgd(...)",
  } do
    it(("%s is an error that says so"):format(text), function()
      assert.equal(expected, line(text):match "^[^\n]*:1: (.*)$")
    end)
  end
end)

describe("other errors keep their words:", function()
  for _, text in ipairs {
    "x:add('no')", "cld.sum()", "Net.forward(net, 1)", "net:forward(1)", "cld.nn.linear()", "bank:loss(x, 1)",
    "x.shape.y()", "bank.memory.shape[9].z",
  } do
    it(text, function() assert.is_nil(line(text)) end)
  end
end)

describe("the traceback of a script", function()
  local function run(text)
    local path = process.write(os.tmpname(), text)
    local result = process.run { path }
    os.remove(path)
    return (result.err:gsub(path:gsub("%p", "%%%0"), "FILE"))
  end

  it("has the user's own calls", function()
    assert.equal([[
cldlua: FILE:3: cld.nn has no 'Linear'; did you mean 'linear'?
stack traceback:
	FILE:3: in upvalue 'make'
	FILE:6: in local 'f'
	FILE:6: in main chunk
]], run [[
local cld = require "cld"
local function make()
  local layer = cld.nn.Linear(2, 3)
  return layer
end
cld.timeit(function() local layer = make() return layer end)
]])
  end)

  it("is whole if the error is in the library", function()
    assert.matches("class%.lua:%d+: in function 'cld%.class%.kind'\n\tFILE:1: in main chunk\n\t%[C%]: in %?\n$",
      run "require 'cld' require 'cld.class'.kind(nil)")
  end)

  it("is cut in the middle if it is long", function()
    local text = run "require 'cld' local function f(n) if n == 0 then error 'end' end f(n - 1) return n end f(100)"
    assert.matches("\n\t%.%.%.\t%(skipping 81 calls%)\n", text)
  end)

  it("is Lua's own for a stack that overflows", function()
    assert.matches("stack overflow\nstack traceback:\n.*skipping %d+ levels.*in main chunk\n\t%[C%]: in %?\n$",
      run "require 'cld' local function f() return 1 + f() end f()")
  end)

  it("comes with an error that is no text", function()
    assert.equal("cldlua: (error object is a nil value)\nstack traceback:\n\tFILE:1: in main chunk\n",
      run "require 'cld' error(nil)")
  end)
end)

describe("a mistake that Python's users make", function()
  local python = require "cld.help.python"

  for text, expected in pairs {
    ["import torch"] = "cld is there already", ["from torch import nn"] = "cld is there already",
    ["def f(x): return x"] = "function f(x) ... end", ["class Net(Module):"] = 'cld.nn.module "Net"',
    ["g = lambda x: x"] = "function(x) return ... end", ["with cld.no_grad():"] = "cld.no_grad(function() ... end)",
    ["for i in range(3):"] = "for i = 1, n do ... end", ["if x == 1: y = 2"] = "if x then ... end",
    ["while x:"] = "while x do ... end", ["x = x != 1"] = "x ~= y", ["x = x ** 2"] = "x ^ 2", ["x += 1"] = "x = x + 1",
    ["y = x @ x"] = "x:matmul(y)", ["t = f([1, 2])"] = "{1, 2, 3}", ["y = x[1, 2]"] = 'help "indexing"',
    ["y = f(2, dtype=3)"] = "f(x, {name = value})", ["y = f((2, 3))"] = "{2, 3}",
  } do
    it(("is told of: %s"):format(text), function()
      local f, message = load(text, "=stdin")
      assert.is_nil(f)
      assert.is_truthy(python.of_code(text, message):find(expected, 1, true), python.of_code(text, message))
    end)
  end

  for _, text in ipairs {
    "for i, p in pairs(net:state_dict(", "if net:training() then", "local loss = a + opt.lambda * {", "with = {",
    "def = function()", "class = {", "import = {", "while x:next() do", "f(a,",
  } do
    it(("is no beginning of Lua code: %s"):format(text), function()
      local f, message = load(text, "=stdin")
      assert.is_nil(f)
      assert.same({ "", false }, { python.of_code(text, message) })
    end)
  end

  for text, expected in pairs {
    ["len(3)"] = "(global 'len'); in Lua it is #x", ["torch.ones(2)"] = "(global 'torch'); here it is cld",
    ["for p in ({}) do end"] = "; in Lua it is for i, x in ipairs(list) do ... end",
    ["print('loss ' .. require 'cld'.ones(1))"] = "; x:item() is the number of a tensor of one element",
    ["math.sqrt(require 'cld'.ones(1))"] = "number expected, got cld.tensor); x:item() is the number",
    ["require 'cld'.ones(2, 2):T()"] = "; write x.T, without parentheses",
  } do
    it(("is told of where it runs: %s"):format(text), function()
      local result = process.run { "-e", "require 'cld' " .. text }
      assert.is_truthy(result.err:find(expected, 1, true), result.err)
    end)
  end

  it("names the methods of an object of C that lacks the one that is called", function()
    local path = process.write(os.tmpname(), [[
local hook = require 'cld'.ones(2):requires_grad_():register_hook(print)
hook:close()
]])
    local result = process.run { path }
    os.remove(path)
    assert.matches(":2: attempt to call a nil value %(method 'close'%); it has remove\n", result.err)
  end)

  it("says that a schedule is a function", function()
    local text = "local lr = require 'cld'.schedule.cosine { base = 1, steps_per_epoch = 1, epochs = 1 } lr:step()"
    assert.matches("attempt to index a function value %(local 'lr'%); it is a function: lr%(%.%.%.%)\n",
      process.run { "-e", text }.err)
  end)

  it("names the methods of an object that is called", function()
    local text = "local bank = require 'cld'.losses.memory_bank { size = 2, dim = 2 } bank(3)"
    assert.matches("attempt to call a cld.memory_bank value %(local 'bank'%); it has load_state_dict, loss, ",
      process.run { "-e", text }.err)
  end)

  it("is no undefined name of one's own", function()
    local result = process.run { "-e", "require 'cld' f(3)" }
    assert.matches("attempt to call a nil value %(global 'f'%)\n", result.err)
  end)
end)
