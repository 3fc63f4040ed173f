--- A network as a list of ONNX nodes: its forward runs on values that record the operations on them.
--
-- When a module is called with such a value, a known layer (export/layers.lua) records its nodes. For any other module
-- the forward runs on the value, which stands for a tensor, so blocks, heads and a user's own networks need no
-- description. `methods` below lists the operations that a forward may use. Each value also holds a real tensor,
-- computed from images of zeros, so that shapes are known and a mistake is found where it is made.
local core = require "cld.core"
local modules = require "cld.nn.module"
local user_error = require "cld.user_error"

local trace = {}

local BATCHES = { 2, 3 } -- batch sizes of two traces, which must agree: nothing may depend on the size or on chance

-- ---- values ----------------------------------------------------------------------------

local Value, methods = { __name = "cld.export.value" }, {}

--- Whether something is a value of a trace.
function trace.is_value(value) return getmetatable(value) == Value end

local is_value = trace.is_value

-- "in 'layer1.0' (basic_block)": the module whose forward is running.
local function place(graph)
  local module = graph.running[#graph.running]
  local name = module and graph.names[module]
  if not module then return "in the network" end
  return ("in %s (%s)"):format(name and name ~= "" and ("'%s'"):format(name) or "the network itself", module._name)
end

--- Raises an error: the current part of the network cannot be exported.
function trace.fail(graph, format, ...)
  user_error.raise("format onnx: %s: %s", place(graph), format:format(...))
end

local properties = { shape = true, ndim = true, dtype = true, device = true, requires_grad = true }

function Value.__index(value, key)
  if methods[key] then return methods[key] end
  local tensor, graph = rawget(value, "tensor"), rawget(value, "graph")
  if properties[key] then return tensor[key] end
  local known = {}
  for name in pairs(methods) do known[#known + 1] = name end
  table.sort(known)
  local used = type(key) == "string" and "x:" .. key or "x[...]"
  trace.fail(graph, "its forward uses %s, which cannot be exported; what can are layers of cld.nn, +, -, *, / and x:%s",
    used, table.concat(known, ", x:"))
end

-- ---- the list of nodes --------------------------------------------------------------------

local Graph = {}
Graph.__index = Graph

-- A unique name for a value or node: "layer1.0.conv1", or with _2, _3 appended.
local function unique(graph, name)
  local count = (graph.taken[name] or 0) + 1
  graph.taken[name] = count
  return count == 1 and name or unique(graph, ("%s_%d"):format(name, count))
end

local function module_name(graph)
  local module = graph.running[#graph.running]
  return module and graph.names[module] or ""
end

local function prefixed(graph, name)
  local path = module_name(graph)
  return unique(graph, path ~= "" and path .. "/" .. name or name)
end

--- graph:constant(name, tensor) -> the name of a value stored in the file. Each tensor of the network is stored once.
function Graph:constant(name, tensor)
  local key = self.kept[tensor]
  if key then return key end
  key = prefixed(self, name)
  local written = tensor.dtype == "i64" and tensor or tensor:detach():to "f32"
  self.constants[#self.constants + 1] = { key, written, source = tensor, place = place(self) }
  self.kept[tensor] = key
  return key
end

--- graph:integers{...} -> the name of an i64 constant.
function Graph:integers(values) return self:constant("shape", core.tensor.tensor(values, "i64")) end

--- graph:node(op, inputs, attributes, tensor) -> the value that the node makes; inputs are values or names of
-- constants, tensor is the result in the trace.
function Graph:node(op, inputs, attributes, tensor)
  local names = {}
  for i, input in ipairs(inputs) do names[i] = is_value(input) and rawget(input, "name") or input end
  local name = prefixed(self, op)
  table.insert(self.nodes,
    { op = op, name = name, inputs = names, outputs = { name }, attributes = attributes or {} })
  return setmetatable({ graph = self, name = name, tensor = tensor }, Value)
end

-- ---- what a forward may do with a value --------------------------------------------------------

local function tensor_of(value) return is_value(value) and rawget(value, "tensor") or value end

-- The value or constant for an operand.
local function operand(graph, x)
  if is_value(x) then return x end
  if math.type(x) then return graph:constant("number", core.tensor.full({}, x)) end
  if core.tensor.is_tensor(x) then return graph:constant("tensor", x) end
  trace.fail(graph, "its forward adds or multiplies a %s", type(x))
end

local function binary(op, f)
  return function(a, b)
    local graph = rawget(is_value(a) and a or b, "graph")
    return graph:node(op, { operand(graph, a), operand(graph, b) }, nil, f(tensor_of(a), tensor_of(b)))
  end
end

Value.__add = binary("Add", function(a, b) return a + b end)
Value.__sub = binary("Sub", function(a, b) return a - b end)
Value.__mul = binary("Mul", function(a, b) return a * b end)
Value.__div = binary("Div", function(a, b) return a / b end)
function Value.__unm(a) return rawget(a, "graph"):node("Neg", { a }, nil, -tensor_of(a)) end
function Value.__len(a) return #tensor_of(a) end

local function unary(name, op)
  methods[name] = function(value)
    local tensor = tensor_of(value)
    return rawget(value, "graph"):node(op, { value }, nil, tensor[name](tensor))
  end
end

for name, op in pairs { relu = "Relu", sigmoid = "Sigmoid", tanh = "Tanh", exp = "Exp", sqrt = "Sqrt", abs = "Abs" } do
  unary(name, op)
end
for _, name in ipairs { "add", "sub", "mul", "div" } do methods[name] = Value["__" .. name] end

-- Methods that do nothing in a trace.
for _, name in ipairs { "contiguous", "detach", "to" } do methods[name] = function(value) return value end end

-- A tensor is closed with the others of the trace.
function methods.close() end

-- The dimension, counted from 1.
local function dimension(value, dim)
  local ndim = tensor_of(value).ndim
  return dim < 0 and dim + ndim + 1 or dim
end

--- x / |x| along a dimension; a line of zeros stays zero.
function methods.normalize(value, dim)
  local graph, tensor = rawget(value, "graph"), tensor_of(value)
  dim = dimension(value, dim or -1)
  local length = graph:node("ReduceL2", { value }, { axes = { dim - 1 }, keepdims = 1 }, tensor:norm(2, dim, true))
  local least = graph:constant("least", core.tensor.full({}, 1e-30))
  local safe = graph:node("Max", { length, least }, nil, tensor_of(length))
  return graph:node("Div", { value, safe }, nil, tensor:normalize(dim))
end

function methods.flatten(value, first, last)
  local graph, tensor = rawget(value, "graph"), tensor_of(value)
  first, last = dimension(value, first or 1), dimension(value, last or -1)
  if first ~= 2 or last ~= tensor.ndim then
    trace.fail(graph, "its forward flattens dimensions %d to %d of %d; only all from the second on are exported", first,
      last, tensor.ndim)
  end
  return graph:node("Flatten", { value }, { axis = 1 }, tensor:flatten(2, -1))
end

function methods.mean(value, dims, keep)
  local graph, axes = rawget(value, "graph"), {}
  if dims == nil then trace.fail(graph, "its forward takes the mean of all elements, images among them") end
  for i, dim in ipairs(type(dims) == "table" and dims or { dims }) do axes[i] = dimension(value, dim) - 1 end
  return graph:node("ReduceMean", { value }, { axes = axes, keepdims = keep and 1 or 0 },
    tensor_of(value):mean(dims, keep))
end

--- The first dimension is the batch and must stay as it is.
function methods.reshape(value, ...)
  local graph, tensor = rawget(value, "graph"), tensor_of(value)
  local shape = type((...)) == "table" and table.move((...), 1, #(...), 1, {}) or { ... }
  local result = tensor:reshape(shape)
  if shape[1] ~= -1 and shape[1] ~= tensor.shape[1] or result.shape[1] ~= tensor.shape[1] then
    trace.fail(graph, "its forward reshapes the first dimension, that of the images")
  end
  local given = table.move(result.shape, 2, result.ndim, 2, { 0 }) -- 0: unchanged
  return graph:node("Reshape", { value, graph:integers(given) }, nil, result)
end

methods.view = methods.reshape

-- ---- the trace -------------------------------------------------------------------------------

-- While it is open, the graph handles modules that are called with a value.
local function watch(layers)
  local before = modules.run_forward
  function modules.run_forward(module, x, ...)
    if not is_value(x) then return before(module, x, ...) end
    local graph = rawget(x, "graph")
    table.insert(graph.running, module)
    local known, forward = layers[module.forward], module.forward
    local results = known and table.pack(known(graph, module, x, ...)) or table.pack(forward(module, x, ...))
    table.remove(graph.running)
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

-- The graph for this many images, and its output value.
local function followed(count, net, layer, height, width, prepare)
  local graph = setmetatable({
    nodes = {}, constants = {}, running = { net }, names = {}, taken = { images = 1, features = 1 },
    kept = setmetatable({}, { __mode = "k" }),
  }, Graph)
  for path, module in net:named_modules() do graph.names[module] = path end
  local device = (net:parameters()[1] or {}).device or "cpu"
  local images = core.tensor.zeros({ count, 3, height, width }, { device = device })
  local value = setmetatable({ graph = graph, name = "images", tensor = images }, Value)
  local ok, result = pcall(first_output, net, layer, prepare and prepare(value) or value)
  if not ok then
    if user_error.is(result) then error(result, 0) end
    user_error.check_memory("format onnx", result)
    local problem = tostring(result):gsub("^[^:%s]*:%d+: ", "") -- the graph names the layer, not the call
    problem = problem:gsub("^[%w_]+: [^ ]+ %b(): ", "")
    trace.fail(graph, "its forward cannot be followed: %s", problem)
  elseif type(result) == "table" and not is_value(result) then
    trace.fail(graph, "it returns a table; expected a tensor, and further ones after it: return a, b")
  elseif not is_value(result) then
    trace.fail(graph, "what comes out does not depend on the images by anything that is exported")
  end
  return graph, result
end

local function same_tensor(a, b)
  if rawequal(a.source, b.source) then return true end
  return table.concat(a[2].shape, "x") == table.concat(b[2].shape, "x") and a[2]:eq(b[2]):all():item() == 1
end

-- Raises unless both traces gave the same graph.
local function check_agreement(graph, other)
  for i, constant in ipairs(graph.constants) do
    local second = other.constants[i]
    if not second or constant[1] ~= second[1] or not same_tensor(constant, second) then
      user_error.raise("format onnx: %s: its forward uses a number or tensor that changes from call to call or with"
        .. " the number of images, which a file cannot hold", constant.place)
    end
  end
  local alike = #graph.nodes == #other.nodes and #graph.constants == #other.constants
  for i, node in ipairs(graph.nodes) do alike = alike and node.name == other.nodes[i].name end
  if alike then return end
  user_error.raise("format onnx: %s: its forward does other things from call to call or with another number of images,"
    .. " which a file cannot hold", place(graph))
end

--- of(net, layer, height, width, layers, prepare) -> {nodes = {{op, name, inputs, outputs, attributes}, ...}, constants
-- = {{name, tensor}, ...}, shape = of the output, -1 for the images}: from "images" (N, 3, height, width) to
-- "features". layers: {forward = function(graph, module, value, ...)}; prepare(images) -> the network's input, if it is
-- not the images themselves.
function trace.of(net, layer, height, width, layers, prepare)
  local _ <close> = core.autograd.no_grad()
  local _ <close> = evaluating(net)
  local _ <close> = watch(layers)
  local graph, result = followed(BATCHES[1], net, layer, height, width, prepare)
  check_agreement(graph, (followed(BATCHES[2], net, layer, height, width, prepare)))
  return graph:finish(result)
end

--- Gives the last value its name.
function Graph:finish(result)
  local name = rawget(result, "name")
  if name == "images" then
    result = self:node("Identity", { result }, nil, tensor_of(result))
    name = rawget(result, "name")
  end
  for _, node in ipairs(self.nodes) do
    for _, list in ipairs { node.inputs, node.outputs } do
      for i, one in ipairs(list) do
        if one == name then list[i] = "features" end
      end
    end
  end
  local shape = tensor_of(result).shape
  shape[1] = -1
  return { nodes = self.nodes, constants = self.constants, shape = shape }
end

return trace
