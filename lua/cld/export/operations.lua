--- The operations on tensors in ONNX (opset 17): value:name(...) is cld's tensor:name(...) and adds the nodes for it.
-- A value's first dimension is usually the images; whatever depends on their number is found when two traces differ
-- (export/trace.lua).
local core = require "cld.core"
local graph = require "cld.export.graph"

local methods, Value, is_value, tensor_of = graph.methods, graph.Value, graph.is_value, graph.tensor_of

-- ---- dimensions ------------------------------------------------------------------------

-- The dimension, counted from 1. beyond: 1 if it is a dimension of a result that has one more than the value.
local function dimension(value, dim, beyond)
  return dim < 0 and dim + tensor_of(value).ndim + (beyond or 0) + 1 or dim
end

-- {0-based axis, ...} of a dimension or a table of them.
local function axes_of(value, dims)
  local axes = {}
  for i, dim in ipairs(type(dims) == "table" and dims or { dims }) do axes[i] = dimension(value, dim) - 1 end
  return axes
end

-- The numbers as a list, from f(2, 3) or f{2, 3}.
local function numbers(...) return type((...)) == "table" and table.move((...), 1, #(...), 1, {}) or { ... } end

-- ---- element by element -------------------------------------------------------------------

local function binary(op, f)
  return function(a, b)
    local of = graph.of(is_value(a) and a or b)
    local inputs = { of:operand(a), of:operand(b) }
    return of:node(op, inputs, nil, f(tensor_of(a), tensor_of(b)))
  end
end

Value.__add = binary("Add", function(a, b) return a + b end)
Value.__sub = binary("Sub", function(a, b) return a - b end)
Value.__mul = binary("Mul", function(a, b) return a * b end)
Value.__div = binary("Div", function(a, b) return a / b end)
Value.__pow = binary("Pow", function(a, b) return a ^ b end)
function Value.__unm(a) return a:neg() end
function Value.__len(a) return #tensor_of(a) end
function Value.__close() end -- the trace closes its tensor with all others
methods.close = Value.__close

for name, text in pairs { __mod = "%%", __idiv = "//", __lt = "<", __le = "<=", __concat = ".." } do
  Value[name] = function(a, b) graph.refuse(graph.of(is_value(a) and a or b), text) end
end

methods.mul, methods.div, methods.pow = Value.__mul, Value.__div, Value.__pow

local function scaled(f)
  return function(a, b, alpha) return f(a, alpha and alpha ~= 1 and b * alpha or b) end
end

methods.add, methods.sub = scaled(Value.__add), scaled(Value.__sub)

for name, op in pairs { maximum = "Max", minimum = "Min", matmul = "MatMul", mm = "MatMul", bmm = "MatMul" } do
  methods[name] = binary(op, function(a, b) return core.tensor[name](a, b) end)
end

local unary = {
  relu = "Relu", sigmoid = "Sigmoid", tanh = "Tanh", exp = "Exp", log = "Log", sqrt = "Sqrt", abs = "Abs", neg = "Neg",
  reciprocal = "Reciprocal", sin = "Sin", cos = "Cos", floor = "Floor", ceil = "Ceil", round = "Round", sign = "Sign",
}

for name, op in pairs(unary) do
  methods[name] = function(value)
    local tensor = tensor_of(value)
    return graph.of(value):node(op, { value }, nil, tensor[name](tensor))
  end
end

function methods.square(value) return value * value end
function methods.rsqrt(value) return value:sqrt():reciprocal() end

function methods.clamp(value, low, high)
  if type(low) == "table" then low, high = low.min, low.max end
  local of = graph.of(value)
  local inputs = { value, low and of:operand(low) or "", high and of:operand(high) or nil }
  return of:node("Clip", inputs, nil, tensor_of(value):clamp(low, high))
end

methods.clip = methods.clamp

-- Methods that change nothing in a file of f32.
for _, name in ipairs { "contiguous", "detach", "clone" } do methods[name] = function(value) return value end end

function methods.to(value, ...)
  local dtype = tensor_of(value):to(...).dtype
  if dtype:find "f%d" then return value end
  graph.fail(graph.of(value), "its forward turns f32 into %s, which cannot be exported", dtype)
end

function methods.float(value) return value end

-- Questions about the shape: the tensor answers them.
for _, name in ipairs { "size", "numel", "dim" } do
  methods[name] = function(value, ...)
    local tensor = tensor_of(value)
    return tensor[name](tensor, ...)
  end
end

-- ---- along dimensions ----------------------------------------------------------------------

-- Raises if a reduction has no dimensions: it would take all images together.
local function check_dims(value, name, dims)
  if dims ~= nil then return end
  graph.fail(graph.of(value), "its forward takes the %s of all elements, images among them", name)
end

local reductions = { mean = "ReduceMean", amax = "ReduceMax", amin = "ReduceMin", prod = "ReduceProd",
  logsumexp = "ReduceLogSumExp" }

for name, op in pairs(reductions) do
  methods[name] = function(value, dims, keep)
    check_dims(value, name, dims)
    local tensor = tensor_of(value)
    return graph.of(value):node(op, { value }, { axes = axes_of(value, dims), keepdims = keep and 1 or 0 },
      tensor[name](tensor, dims, keep))
  end
end

-- In ONNX the axes of a sum are an input.
function methods.sum(value, dims, keep)
  check_dims(value, "sum", dims)
  local of = graph.of(value)
  return of:node("ReduceSum", { value, of:integers(axes_of(value, dims), "axes") }, { keepdims = keep and 1 or 0 },
    tensor_of(value):sum(dims, keep))
end

function methods.norm(value, p, dims, keep)
  check_dims(value, "norm", dims)
  if p == math.huge then return value:abs():amax(dims, keep) end
  local op = ({ "ReduceL1", "ReduceL2" })[p or 2]
  if not op then graph.fail(graph.of(value), "its forward takes a %s-norm; 1, 2 and math.huge are exported", p) end
  return graph.of(value):node(op, { value }, { axes = axes_of(value, dims), keepdims = keep and 1 or 0 },
    tensor_of(value):norm(p or 2, dims, keep))
end

function methods.var(value, dims, unbiased, keep)
  check_dims(value, "variance", dims)
  local count = tensor_of(value):numel() / tensor_of(value):sum(dims):numel()
  local squares = (value - value:mean(dims, true)):square():mean(dims, keep)
  return unbiased == false and squares or squares * (count / (count - 1))
end

function methods.std(value, ...) return value:var(...):sqrt() end

-- x:max(y) takes the larger of each pair. x:max(dim) also returns positions, which are not exported.
local function extreme(name, pairwise, along)
  methods[name] = function(value, other, keep)
    if is_value(other) or core.tensor.is_tensor(other) then return pairwise(value, other) end
    check_dims(value, name, other)
    return along(value, other, keep)
  end
end

extreme("max", methods.maximum, methods.amax)
extreme("min", methods.minimum, methods.amin)

for name, op in pairs { softmax = "Softmax", log_softmax = "LogSoftmax" } do
  methods[name] = function(value, dim)
    local tensor = tensor_of(value)
    dim = dimension(value, dim or -1)
    return graph.of(value):node(op, { value }, { axis = dim - 1 }, tensor[name](tensor, dim))
  end
end

--- x / |x| along a dimension; zeros stay zero.
function methods.normalize(value, dim)
  local of, tensor = graph.of(value), tensor_of(value)
  dim = dimension(value, dim or -1)
  local length = of:node("ReduceL2", { value }, { axes = { dim - 1 }, keepdims = 1 }, tensor:norm(2, dim, true))
  local least = of:constant("least", core.tensor.full({}, 1e-30))
  local safe = of:node("Max", { length, least }, nil, tensor_of(length))
  return of:node("Div", { value, safe }, nil, tensor:normalize(dim))
end

-- ---- shapes ----------------------------------------------------------------------------------

--- The first dimension is the batch and must stay as it is.
function methods.reshape(value, ...)
  local of, tensor, shape = graph.of(value), tensor_of(value), numbers(...)
  local result = tensor:reshape(shape)
  if shape[1] ~= -1 and shape[1] ~= tensor.shape[1] or result.shape[1] ~= tensor.shape[1] then
    graph.fail(of, "its forward reshapes the first dimension, that of the images")
  end
  local given = table.move(result.shape, 2, result.ndim, 2, { 0 }) -- 0: unchanged
  return of:node("Reshape", { value, of:integers(given) }, nil, result)
end

methods.view = methods.reshape

function methods.flatten(value, first, last)
  local of, tensor = graph.of(value), tensor_of(value)
  first, last = dimension(value, first or 1), dimension(value, last or -1)
  if first == 1 and last > 1 then
    graph.fail(of, "its forward flattens dimensions 1 to %d; only those from the second on are exported", last)
  elseif first == 2 and last == tensor.ndim then
    return of:node("Flatten", { value }, { axis = 1 }, tensor:flatten(2, -1))
  end
  return value:reshape(tensor:flatten(first, last).shape)
end

function methods.squeeze(value, dims)
  local of, tensor, axes = graph.of(value), tensor_of(value), {}
  local wanted = dims == nil and table.move(tensor.shape, 1, tensor.ndim, 1, {}) or axes_of(value, dims)
  for i, axis in ipairs(wanted) do
    if dims == nil then axis = i - 1 end
    if tensor.shape[axis + 1] == 1 then axes[#axes + 1] = axis end
  end
  local result = dims == nil and tensor:squeeze() or tensor:squeeze(dims)
  if #axes == 0 then return value end
  return of:node("Squeeze", { value, of:integers(axes, "axes") }, nil, result)
end

function methods.unsqueeze(value, dim)
  local of = graph.of(value)
  local axes = of:integers({ dimension(value, dim, 1) - 1 }, "axes")
  return of:node("Unsqueeze", { value, axes }, nil, tensor_of(value):unsqueeze(dim))
end

-- A tensor with distinct extents shows how the method reorders the dimensions.
for _, name in ipairs { "permute", "transpose", "swapaxes", "t", "movedim" } do
  methods[name] = function(value, ...)
    local tensor, extents, order = tensor_of(value), {}, {}
    for i = 1, tensor.ndim do extents[i] = i + 1 end
    local probe = core.tensor.zeros({}):expand(extents)
    for i, extent in ipairs(probe[name](probe, ...).shape) do order[i] = extent - 2 end
    return graph.of(value):node("Transpose", { value }, { perm = order }, tensor[name](tensor, ...))
  end
end

function methods.expand(value, ...)
  local of, tensor = graph.of(value), tensor_of(value)
  local result = tensor:expand(numbers(...))
  local shape, added = result.shape, result.ndim - tensor.ndim
  for i, extent in ipairs(tensor.shape) do
    if shape[added + i] == extent then shape[added + i] = 1 end -- 1: unchanged
  end
  return of:node("Expand", { value, of:integers(shape) }, nil, result)
end

-- ---- parts and joins ------------------------------------------------------------------------

-- The positions from first up to, but not including, last; 0-based.
local function slice(value, axis, first, last, step, result)
  local of = graph.of(value)
  local inputs = { value }
  for i, name in ipairs { "starts", "ends", "axes", "steps" } do
    inputs[i + 1] = of:integers({ (select(i, first, last, axis, step)) }, name)
  end
  return of:node("Slice", inputs, nil, result)
end

local function at(value, axis, position, result)
  local of = graph.of(value)
  return of:node("Gather", { value, of:integers(position, "position") }, { axis = axis }, result)
end

-- The 0-based offset of a position, which counts from 1 or, if negative, from the end.
local function offset(position, extent) return position < 0 and position + extent or position - 1 end

function methods.narrow(value, dim, start, length)
  local tensor = tensor_of(value)
  dim = dimension(value, dim)
  local first = offset(start, tensor.shape[dim])
  return slice(value, dim - 1, first, first + length, 1, tensor:narrow(dim, start, length))
end

function methods.select(value, dim, position)
  local tensor = tensor_of(value)
  dim = dimension(value, dim)
  return at(value, dim - 1, offset(position, tensor.shape[dim]), tensor:select(dim, position))
end

-- x[i], x[{i, {a, b}, {}}]: a position or a range for each dimension.
function graph.index(value, key)
  local of, axis, result = graph.of(value), 1, value
  local keys = math.type(key) == "integer" and { key } or key
  if type(keys) ~= "table" then graph.refuse(of, "x[...] with a " .. type(key)) end
  local _ = tensor_of(value)[key] -- raises the tensor's own errors
  for _, one in ipairs(keys) do
    if math.type(one) == "integer" then
      result = result:select(axis, one)
      axis = axis - 1
    elseif type(one) ~= "table" or (one[3] or 1) ~= 1 then
      graph.refuse(of, "x[...] with a tensor or a step")
    elseif #one > 0 then
      local extent = tensor_of(result).shape[axis]
      result = result:narrow(axis, one[1], offset(one[2], extent) - offset(one[1], extent) + 1)
    end
    axis = axis + 1
  end
  return result
end

-- The parts that a method of the tensor makes along a dimension.
local function parts(value, list, dim)
  local first, made = 1, {}
  for i, part in ipairs(list) do
    made[i] = value:narrow(dim, first, part.shape[dim])
    first = first + part.shape[dim]
  end
  return made
end

for _, name in ipairs { "split", "chunk" } do
  methods[name] = function(value, size, dim)
    local tensor = tensor_of(value)
    dim = dimension(value, dim or 1)
    return parts(value, tensor[name](tensor, size, dim), dim)
  end
end

function methods.unbind(value, dim)
  local made = {}
  dim = dimension(value, dim or 1)
  for i = 1, tensor_of(value).shape[dim] do made[i] = value:select(dim, i) end
  return made
end

-- The first value of a list.
local function first_value(list)
  for _, item in ipairs(list) do
    if is_value(item) then return item end
  end
end

function methods.cat(list, dim)
  local first, inputs, tensors = first_value(list), {}, {}
  local of = graph.of(first)
  for i, item in ipairs(list) do inputs[i], tensors[i] = of:operand(item), tensor_of(item) end
  dim = dimension(first, dim or 1)
  return of:node("Concat", inputs, { axis = dim - 1 }, core.tensor.cat(tensors, dim))
end

function methods.stack(list, dim)
  local made = {}
  dim = dimension(first_value(list), dim or 1, 1)
  for i, item in ipairs(list) do made[i] = item:unsqueeze(dim) end
  return methods.cat(made, dim)
end

return methods
