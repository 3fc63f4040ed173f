--- A list of ONNX nodes, and the values that make it: a forward runs on values instead of tensors, and each operation
-- on a value adds a node. `graph.methods` has the operations (export/operations.lua fills it).
--
-- Each value also holds a tensor of its shape, so that shapes are known and a mistake is found where it is made.
local core = require "cld.core"
local user_error = require "cld.user_error"

local graph = {}

-- ---- values ----------------------------------------------------------------------------

local Value = { __name = "cld.export.value" }

--- {name = function(value, ...)}: the functions that a forward may call as value:name(...) or cld.name(value, ...).
graph.methods = {}

--- index(value, key) -> value: x[...] (operations.lua).
graph.index = nil

--- The metatable of values; operations.lua adds the operators.
graph.Value = Value

--- Whether something is a value of a trace.
function graph.is_value(value) return getmetatable(value) == Value end

local is_value = graph.is_value

--- value(of, name, tensor) -> the value of that name in a graph.
function graph.value(of, name, tensor) return setmetatable({ graph = of, name = name, tensor = tensor }, Value) end

--- of(value) -> the graph that it belongs to.
function graph.of(value) return rawget(value, "graph") end

--- tensor_of(value) -> its tensor; anything else as it is.
function graph.tensor_of(value) return is_value(value) and rawget(value, "tensor") or value end

local stand_ins = setmetatable({}, { __mode = "k" })

--- stand_in(tensor) -> a tensor of that shape and dtype that takes no memory. Closes the given one: a value's shape
-- matters, its elements do not.
function graph.stand_in(tensor)
  if stand_ins[tensor] then return tensor end
  local one = core.tensor.zeros({}, { dtype = tensor.dtype, device = tensor.device }):expand(tensor.shape)
  stand_ins[one] = true
  tensor:close()
  return one
end

-- ---- errors ----------------------------------------------------------------------------

--- place(graph) -> "in 'layer1.0' (basic_block)": the module whose forward is running.
function graph.place(of)
  local module = of.running[#of.running]
  local name = module and of.names[module]
  if not module then return "in the network" end
  return ("in %s (%s)"):format(name and name ~= "" and ("'%s'"):format(name) or "the network itself", module._name)
end

--- Raises an error: the current part of the network cannot be exported.
function graph.fail(of, format, ...)
  user_error.raise("format onnx: %s: %s", graph.place(of), format:format(...))
end

--- Raises an error for an operation that cannot be exported: "x:cumsum", "cld.where".
function graph.refuse(of, used)
  local known = {}
  for name in pairs(graph.methods) do known[#known + 1] = name end
  table.sort(known)
  graph.fail(of, "its forward uses %s, which cannot be exported; what can are layers of cld.nn, +, -, *, /, ^, indices,"
    .. " and %s", used, table.concat(known, ", "))
end

local properties = { shape = true, ndim = true, dtype = true, device = true, requires_grad = true }

function Value.__index(value, key)
  if graph.methods[key] then return graph.methods[key] end
  if properties[key] then return rawget(value, "tensor")[key] end
  if type(key) ~= "string" then return graph.index(value, key) end
  graph.refuse(graph.of(value), "x:" .. key)
end

function Value.__newindex(value) graph.refuse(graph.of(value), "x[...] = y") end

-- ---- the list of nodes --------------------------------------------------------------------

local Graph = {}
Graph.__index = Graph

--- new(net) -> an empty graph of a network.
function graph.new(net)
  local names = {}
  for path, module in net:named_modules() do names[module] = path end
  return setmetatable({
    nodes = {}, constants = {}, running = { net }, names = names, taken = { images = 1, features = 1 },
    kept = setmetatable({}, { __mode = "k" }),
  }, Graph)
end

-- A unique name for a value or node: "layer1.0.conv1", or with _2, _3 appended.
local function unique(of, name)
  local count = (of.taken[name] or 0) + 1
  of.taken[name] = count
  return count == 1 and name or unique(of, ("%s_%d"):format(name, count))
end

local function module_name(of)
  local module = of.running[#of.running]
  return module and of.names[module] or ""
end

local function prefixed(of, name)
  local path = module_name(of)
  return unique(of, path ~= "" and path .. "/" .. name or name)
end

--- graph:constant(name, tensor) -> the name of a value stored in the file. Each tensor of the network is stored once.
function Graph:constant(name, tensor)
  if is_value(tensor) then graph.fail(self, "its %s is made from the images, which cannot be exported", name) end
  local key = self.kept[tensor]
  if key then return key end
  key = prefixed(self, name)
  local written = tensor.dtype == "i64" and tensor or tensor:detach():to "f32"
  self.constants[#self.constants + 1] = { key, written, source = tensor, place = graph.place(self) }
  self.kept[tensor] = key
  return key
end

--- graph:integers(values[, name]) -> the name of an i64 constant: of a list, or of one number.
function Graph:integers(values, name)
  return self:constant(name or "shape", core.tensor.tensor(values, "i64"))
end

--- graph:operand(x) -> the value or the constant for an operand: a value, a tensor or a number.
function Graph:operand(x)
  if is_value(x) then return x end
  if math.type(x) then return self:constant("number", core.tensor.full({}, x)) end
  if core.tensor.is_tensor(x) then return self:constant("tensor", x) end
  graph.fail(self, "its forward computes with %s", x == nil
    and "nil: if those are the positions of x:max(dim) or x:min(dim), they cannot be exported" or "a " .. type(x))
end

--- graph:node(op, inputs, attributes, tensor) -> the value that the node makes. inputs: values, names of
-- constants, or "" for none. tensor: the result in the trace, which is closed (stand_in).
function Graph:node(op, inputs, attributes, tensor)
  local names = {}
  for i, input in ipairs(inputs) do names[i] = is_value(input) and rawget(input, "name") or input end
  local name = prefixed(self, op)
  table.insert(self.nodes,
    { op = op, name = name, inputs = names, outputs = { name }, attributes = attributes or {} })
  return graph.value(self, name, graph.stand_in(tensor))
end

--- graph:finish(result) -> {nodes, constants, shape}, in which the last value has its name.
function Graph:finish(result)
  local name = rawget(result, "name")
  if name == "images" then
    result = self:node("Identity", { result }, nil, graph.tensor_of(result))
    name = rawget(result, "name")
  end
  for _, node in ipairs(self.nodes) do
    for _, list in ipairs { node.inputs, node.outputs } do
      for i, one in ipairs(list) do
        if one == name then list[i] = "features" end
      end
    end
  end
  local shape = graph.tensor_of(result).shape
  shape[1] = -1
  return { nodes = self.nodes, constants = self.constants, shape = shape }
end

return graph
