--- The place that the library reports for an error: the user's line, also for a returned call, and the layer of a
-- network.
local cld = require "cld"
local process = require "spec.support.process"

-- Each is a file of a user's. The error is in the line that ends with HERE, and says what follows that.
local head = [[
local cld = require "cld"
local nn = cld.nn
local x = cld.zeros(4, 16)
local Net = nn.module "Net"
function Net:build()
  self.fc, self.other = nn.linear(12, 3), nn.linear(12, 3)
  self.trunk = nn.sequential(nn.sequential(nn.linear(16, 12), nn.relu()), nn.linear(13, 1))
end
local function call(f, ...)
  local y = f(...)
  return y
end
]]

local LINEAR = "linear: x has 16 features, the weight takes 12"

local cases = {
  { "a call in a forward", [[
function Net:forward()
  local y = self.fc(x) -- HERE Net: fc (linear): ]] .. LINEAR .. [[

  return y
end
call(Net(), x)]] },
  { "a returned call in a forward", [[
function Net:forward()
  return self.fc(x) -- HERE Net: fc (linear): ]] .. LINEAR .. [[

end
call(Net(), x)]] },
  { "a returned call whose network fails further down", [[
function Net:forward()
  return self.trunk(x) -- HERE Net: trunk.1 (linear): linear: x has 12 features, the weight takes 13
end
call(Net(), x)]] },
  { "one of two returned calls, told apart by the member's name", [[
function Net:forward(images)
  if images.ndim == 1 then return self.other(images) end
  return self.fc(images) -- HERE Net: fc (linear): ]] .. LINEAR .. [[

end
call(Net(), x)]] },
  { "one of two that are alike: the line of the call around it", [[
function Net:forward(images)
  if images.ndim == 1 then return self.fc(images) end
  return self.fc(images)
end
local y = Net()(x) -- HERE Net: fc (linear): ]] .. LINEAR },
  { "a module in a module in a sequential", [[
local Outer = nn.module "Outer"
function Outer:build() self.net = Net() end
function Outer:forward(images) return self.net(images) end
function Net:forward(images)
  return self.fc(images) -- HERE sequential: 0.net.fc (linear): ]] .. LINEAR .. [[

end
call(nn.sequential(Outer()), x)]] },
  { "a module that is transient", [[
function Net:forward(images)
  return self.fc(images) -- HERE Net: fc (linear): ]] .. LINEAR .. [[

end
nn.transient(Net)
call(Net(), x)]] },
  { "a module with a __call of its own", [[
function Net:__call(images)
  return self.fc(images) -- HERE Net: fc (linear): ]] .. LINEAR .. [[

end
call(Net(), x)]] },
  { "a step function that returns a call", [[
local function step(images)
  local doubled = images * 2
  return nn.linear(12, 3)(doubled) -- HERE ]] .. LINEAR .. [[

end
local loss = step(x)]] },
  { "a step function in a table", [[
local M = {}
function M.step(images)
  return nn.linear(12, 3)(images) -- HERE ]] .. LINEAR .. [[

end
local loss = M.step(x)]] },
  { "a step function under pcall", [[
local function step(images)
  return nn.linear(12, 3)(images) -- HERE ]] .. LINEAR .. [[

end
local ok, message = pcall(step, x)
error(message, 0)]] },
  { "a step of cld.graph", [[
local step = cld.graph(function(images)
  return nn.linear(12, 3)(images) -- HERE ]] .. LINEAR .. [[

end)
local loss = step(x)]] },
  { "a function in nn.scope", [[
local y = nn.scope(function(images)
  return nn.linear(12, 3)(images) -- HERE ]] .. LINEAR .. [[

end, x)]] },
  { "a function in a sequential", [[
local last = nn.linear(12, 3)
call(nn.sequential(nn.flatten(), function(images)
  return last(images) -- HERE ]] .. LINEAR .. [[

end), x)]] },
  { "a returned call over two lines", [[
local function step(images)
  return nn.linear(12, 3)( -- HERE ]] .. LINEAR .. [[

    images)
end
local loss = step(x)]] },
  { "an inner function's return is not the outer's", [[
local function step(images)
  local inner = function(i) return nn.relu()(i) end
  images = inner(images)
  return nn.linear(12, 3)(images) -- HERE ]] .. LINEAR .. [[

end
local loss = step(x)]] },
  { "a method of the library, beside a function that returns a call", [[
local function features(images)
  return nn.relu()(images)
end
local bank = cld.losses.memory_bank { size = 4, dim = 3, momentum = 0.5, temperature = 0.1 }
local loss = bank:loss(features(x), 5) -- HERE bad argument #3 to 'loss' (cld.tensor expected, got number)]] },
  { "a function of the library under pcall, given one that returns a call", [[
local function features(images)
  return nn.relu()(images)
end
local ok, message = pcall(cld.data.custom, features) -- HERE data.custom: expected a table of options, got a function
error(message, 0)]] },
  { "the whole network, called alone", [[
local y = nn.linear(12, 3)(x) -- HERE ]] .. LINEAR },
  { "a layer of a sequential", [[
local y = nn.sequential(nn.linear(16, 3), nn.relu(), nn.linear(12, 2))(x) -- HERE sequential: layer 3 (linear): ]]
    .. [[linear: x has 3 features, the weight takes 12]] },
  { "a layer of a layer of a sequential", [[
local y = nn.sequential(nn.sequential(nn.linear(12, 2)))(x) -- HERE sequential: 0.0 (linear): ]] .. LINEAR },
  { "a layer of a published network", [[
local y = cld.models.resnet18 { width = 8 }(cld.zeros(1, 4, 32, 32)) -- HERE resnet: conv1 (conv2d): conv2d: x has 4]]
    .. [[ channels, the weight takes 3 (x is f32[1, 4, 32, 32], the weight f32[8, 3, 7, 7])]] },
  { "a method that a module does not have", [[
local net = Net()
net:paramters() -- HERE Net has no method 'paramters'; did you mean 'parameters'?]] },
  { "a method of one's own that is mistyped", [[
function Net:features(images) return images end
local net = { trunk = Net() }
net.trunk:featuers(x) -- HERE Net has no method 'featuers'; did you mean 'features'?]] },
  { "a method that is not near any", [[
Net():qqzzx() -- HERE attempt to call a nil value (method 'qqzzx')]] },
}

describe("the place of an error:", function()
  local folder
  setup(function() folder = process.temporary_folder() end)
  teardown(function() process.remove(folder) end)

  local function message_of(code, number)
    local path = process.write(("%s/user%d.lua"):format(folder, number), head .. code .. "\n")
    local ok, message = xpcall(assert(loadfile(path)), tostring)
    assert.is_false(ok)
    return path, tostring(message)
  end

  for number, case in ipairs(cases) do
    local name, code = table.unpack(case)
    it(name, function()
      local before, expected = (head .. code):match "^(.*)%-%- HERE ([^\n]*)"
      local _, lines = before:gsub("\n", "")
      local path, message = message_of(code, number)
      local _, full = message:match "^(.-):(%d+: .*)$"
      assert.equal(("%d: %s"):format(lines + 1, expected), full)
      assert.is_truthy(message:find(path, 1, true) or message:find("^%.%.%."), message)
    end)
  end

  it("survives that the file is gone: the line of the call around it", function()
    local path = process.write(folder .. "/gone.lua", head .. "local function step()\n"
      .. "  return nn.linear(12, 3)(x)\nend\nos.remove(arg_path)\nlocal loss = step()\n")
    local f = assert(loadfile(path, "t", setmetatable({ arg_path = path }, { __index = _G })))
    local ok, message = pcall(f)
    assert.is_false(ok)
    assert.matches("gone.lua:17: linear: x has 16", message)
  end)
end)

describe("a field of a module that is not there", function()
  local net = cld.nn.linear(2, 2, { bias = false })
  it("is nil", function()
    assert.is_nil(net.bias)
    assert.is_nil(net.paramters)
  end)
  it("is nil where it is asked for before it is called", function()
    local called = net.paramters and net:paramters()
    assert.is_nil(called)
  end)
end)
