--- A network as a list of ONNX nodes: its forward runs on values that record the operations on them.
--
-- When a module is called with such a value, a known layer (export/layers.lua) records its nodes. For any other module
-- the forward runs on the value, which stands for a tensor, so blocks, heads and a user's own networks need no
-- description. export/operations.lua lists the operations that a forward may use.
local core = require "cld.core"
local functions = require "cld.export.functions"
local graph = require "cld.export.graph"
local layers = require "cld.export.layers"
local modules = require "cld.nn.module"
local user_error = require "cld.user_error"

local trace = {}

local BATCHES = { 2, 3 } -- sizes of two traces that must agree: nothing may depend on the batch size or on chance

local is_value, tensor_of, place = graph.is_value, graph.tensor_of, graph.place

-- While it is open, the graph handles modules that are called with a value.
local function watch()
  local before = modules.run_forward
  function modules.run_forward(module, x, ...)
    if not is_value(x) then return before(module, x, ...) end
    local of = graph.of(x)
    table.insert(of.running, module)
    local known, forward = layers[module.forward], module.forward
    local results = known and table.pack(known(of, module, x, ...)) or table.pack(forward(module, x, ...))
    table.remove(of.running)
    return table.unpack(results, 1, results.n)
  end
  return setmetatable({}, { __close = function() modules.run_forward = before end })
end

-- Puts all modules of the net into evaluation mode until it is closed.
local function evaluating(net)
  local training = {}
  for _, module in ipairs(net:modules()) do training[module] = module.training end
  net:eval()
  return setmetatable({}, { __close = function()
    for module, was in pairs(training) do module.training = was end
  end })
end

local function first_output(net, layer, value)
  if layer == "features" and type(net.features) == "function" then return (net:features(value)) end
  return (net(value))
end

-- The hint for an error of a function that got a value because its call bypassed export/functions.lua.
local function copied(problem)
  for _, sign in ipairs { "cld.export.value", "a table, not an open tensor" } do
    if problem:find(sign, 1, true) then
      return "; call it by its full name, such as cld.cat: the export does not see a local variable that holds it"
    end
  end
  return ""
end

-- The message of an error in a forward, without the place of the call: the graph's place follows it.
local function shown(problem)
  problem = tostring(problem):gsub("^[^:%s]*:%d+: ", ""):gsub("^[%w_]+: [^ ]+ %b(): ", "")
  return (problem:gsub("^bad argument #%d+ to '[%w_?]+' %((.*)%)$", "%1")) -- it names a function of the export
end

-- The graph for this many images, and its output value.
local function followed(count, net, layer, height, width, prepare)
  local of = graph.new(net)
  local device = (net:parameters()[1] or {}).device or "cpu"
  local images = core.tensor.zeros({ count, 3, height, width }, { device = device })
  local value = graph.value(of, "images", graph.stand_in(images))
  local ok, result = pcall(first_output, net, layer, prepare and prepare(value) or value)
  if not ok then
    if user_error.is(result) then error(result, 0) end
    user_error.check_memory("format onnx", result)
    local problem = shown(result)
    if problem:find "^Function: result %d+ of forward is a table" then graph.refuse(of, "a cld.Function") end
    graph.fail(of, "its forward cannot be followed: %s%s", problem, copied(problem))
  elseif type(result) == "table" and not is_value(result) then
    graph.fail(of, "it returns a table; expected a tensor, and further ones after it: return a, b")
  elseif not is_value(result) then
    graph.fail(of, "what comes out does not depend on the images by anything that is exported")
  end
  return of, result
end

local function same_tensor(a, b)
  if rawequal(a.source, b.source) then return true end
  return table.concat(a[2].shape, "x") == table.concat(b[2].shape, "x") and a[2]:eq(b[2]):all():item() == 1
end

-- Raises unless both traces gave the same graph.
local function check_agreement(of, other)
  for i, constant in ipairs(of.constants) do
    local second = other.constants[i]
    if not second or constant[1] ~= second[1] or not same_tensor(constant, second) then
      user_error.raise("format onnx: %s: its forward uses a number or tensor that changes from call to call or with"
        .. " the number of images, which a file cannot hold", constant.place)
    end
  end
  local alike = #of.nodes == #other.nodes and #of.constants == #other.constants
  for i, node in ipairs(of.nodes) do alike = alike and node.name == other.nodes[i].name end
  if alike then return end
  user_error.raise("format onnx: %s: its forward does other things from call to call or with another number of images,"
    .. " which a file cannot hold", place(of))
end

-- Raises unless the first dimension of both results is that of the images.
local function check_output(of, result, other)
  if tensor_of(result).shape[1] == BATCHES[1] and tensor_of(other).shape[1] == BATCHES[2] then return end
  graph.fail(of, "what comes out is [%s] for %d images; expected a row for each", table.concat(tensor_of(result).shape,
    ", "), BATCHES[1])
end

--- of(net, layer, height, width, prepare) -> {nodes = {{op, name, inputs, outputs, attributes}, ...}, constants =
-- {{name, tensor}, ...}, shape = of the output, -1 for the images}: from "images" (N, 3, height, width) to "features".
-- prepare(images) -> the network's input, if it is not the images themselves.
function trace.of(net, layer, height, width, prepare)
  local _ <close> = core.autograd.no_grad()
  local _ <close> = evaluating(net)
  local _ <close> = watch()
  local _ <close> = functions.watch()
  local of, result = followed(BATCHES[1], net, layer, height, width, prepare)
  local again, other = followed(BATCHES[2], net, layer, height, width, prepare)
  check_agreement(of, again)
  check_output(of, result, other)
  return of:finish(result)
end

return trace
