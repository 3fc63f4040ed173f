--- Reads and runs the ONNX files that we write, without protobuf or onnxruntime: the message is parsed here, and its
-- graph is computed with plain ops of cld, written from ONNX's own description of each operator.
local cld = require "cld"
local process = require "spec.support.process"

local onnx = {}

-- ---- protobuf ----------------------------------------------------------------------

-- {field's number = {name, kind, repeated}}, from onnx.proto. A kind is integer, float, text, or the schema of a
-- message.
local dimension = { [1] = { "value", "integer" }, [2] = { "param", "text" } }
local value_type = { [1] = { "tensor", { [1] = { "elem_type", "integer" },
  [2] = { "shape", { [1] = { "dim", dimension, true } } } } } }
local value_info = { [1] = { "name", "text" }, [2] = { "type", value_type } }
local tensor = {
  [1] = { "dims", "integer", true }, [2] = { "data_type", "integer" }, [8] = { "name", "text" },
  [9] = { "raw", "text" },
}
local attribute = {
  [1] = { "name", "text" }, [2] = { "f", "float" }, [3] = { "i", "integer" }, [8] = { "ints", "integer", true },
  [20] = { "type", "integer" },
}
local node = {
  [1] = { "input", "text", true }, [2] = { "output", "text", true }, [3] = { "name", "text" }, [4] = { "op", "text" },
  [5] = { "attribute", attribute, true },
}
local graph = {
  [1] = { "node", node, true }, [2] = { "name", "text" }, [5] = { "initializer", tensor, true },
  [11] = { "input", value_info, true }, [12] = { "output", value_info, true },
}
local pair = { [1] = { "key", "text" }, [2] = { "value", "text" } }
local opset = { [1] = { "domain", "text" }, [2] = { "version", "integer" } }
local model = {
  [1] = { "ir_version", "integer" }, [2] = { "producer_name", "text" }, [3] = { "producer_version", "text" },
  [7] = { "graph", graph }, [8] = { "opset_import", opset, true }, [14] = { "metadata", pair, true },
}

local function varint(text, at)
  local value, shift = 0, 0
  while true do
    local byte = text:byte(at)
    value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
    if byte < 128 then return value, at end
  end
end

-- Returns a field's raw value, and where the next field begins.
local function content(text, at, wire)
  if wire == 0 then return varint(text, at) end
  if wire == 5 then return string.unpack("<f", text, at) end
  assert(wire == 2, "wire type " .. wire)
  local length
  length, at = varint(text, at)
  return text:sub(at, at + length - 1), at + length
end

local function message(text, schema)
  local result, at = {}, 1
  for _, field in pairs(schema) do
    if field[3] then result[field[1]] = {} end
  end
  while at <= #text do
    local key, value
    key, at = varint(text, at)
    value, at = content(text, at, key & 7)
    local name, kind, repeated = table.unpack((assert(schema[key >> 3], "unexpected field " .. (key >> 3))))
    if type(kind) == "table" then value = message(value, kind) end
    if repeated then table.insert(result[name], value) else result[name] = value end
  end
  return result
end

-- {name = tensor} of the initializers, which are put into a safetensors file for cld to read.
local function constants(initializers)
  local entries, data, at = {}, {}, 0
  for i, one in ipairs(initializers) do
    entries[i] = ('%s:{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]}'):format(cld.json.encode(one.name),
      assert(({ "F32", [7] = "I64" })[one.data_type]), table.concat(one.dims, ","), at, at + #one.raw)
    data[i], at = one.raw, at + #one.raw
  end
  local text = "{" .. table.concat(entries, ",") .. "}"
  local folder = process.temporary_folder()
  local path = process.write(folder .. "/constants.safetensors", string.pack("<s8", text) .. table.concat(data))
  local tensors = cld.load(path)
  process.remove(folder)
  return tensors
end

--- read(path) -> {ir_version, opset, producer_name, nodes = {{op, name, input, output, attributes = {name = value}}},
-- constants = {name = tensor}, inputs = {name = shape}, outputs, facts = {key = value}}. Free dimensions of a shape are
-- texts.
function onnx.read(path)
  local file = assert(io.open(path, "rb"))
  local made = message(file:read "a", model)
  file:close()
  local result = {
    ir_version = made.ir_version, producer_name = made.producer_name, opset = made.opset_import[1].version,
    nodes = made.graph.node, constants = constants(made.graph.initializer), inputs = {}, outputs = {}, facts = {},
  }
  for _, one in ipairs(result.nodes) do
    one.attributes = {}
    for _, a in ipairs(one.attribute) do
      one.attributes[a.name] = a.type == 7 and a.ints or a.type == 1 and a.f or a.i
    end
  end
  for from, to in pairs { input = result.inputs, output = result.outputs } do
    for _, info in ipairs(made.graph[from]) do
      local shape = {}
      for i, dim in ipairs(info.type.tensor.shape.dim) do shape[i] = dim.param or dim.value end
      to[info.name] = shape
    end
  end
  for _, fact in ipairs(made.metadata) do result.facts[fact.key] = fact.value end
  return result
end

-- ---- the operators -----------------------------------------------------------------

local F = cld.nn.functional

-- A tensor of channels, reshaped to broadcast over x's maps.
local function channels(t, x)
  local shape = { 1, t:numel() }
  for i = 3, x.ndim do shape[i] = 1 end
  return t:reshape(shape)
end

local function padding(a)
  local pads = a.pads or { 0, 0, 0, 0 }
  assert(pads[1] == pads[3] and pads[2] == pads[4])
  return { pads[1], pads[2] }
end

-- Dimensions of cld, from 1, of a list or a tensor of axes.
local function from_one(axes)
  local dims = {}
  for i, axis in ipairs(type(axes) == "table" and axes or axes:totable()) do dims[i] = axis + 1 end
  return dims
end

local function axes_of(a) return from_one(a.axes) end

local function moments(x, dims)
  local mean = x:mean(dims, true)
  local apart = x - mean
  return apart, (apart * apart):mean(dims, true)
end

local operators = {
  Conv = function(a, x, w, b)
    return F.conv2d(x, w, b, { stride = a.strides, padding = padding(a), dilation = a.dilations, groups = a.group })
  end,
  BatchNormalization = function(a, x, w, b, mean, var)
    local scale = w / (var + a.epsilon):sqrt()
    return (x - channels(mean, x)) * channels(scale, x) + channels(b, x)
  end,
  MaxPool = function(a, x)
    return F.max_pool2d(x, a.kernel_shape, { stride = a.strides, padding = padding(a) })
  end,
  AveragePool = function(a, x)
    assert(a.pads == nil or a.count_include_pad == 1)
    return F.avg_pool2d(x, a.kernel_shape, { stride = a.strides, padding = padding(a) })
  end,
  GlobalAveragePool = function(_, x) return x:mean({ 3, 4 }, true) end,
  Flatten = function(a, x)
    assert(a.axis == 1)
    return x:flatten(2, -1)
  end,
  Gemm = function(a, x, w, b)
    assert(a.transB == 1)
    return b and x:matmul(w:t()) + b or x:matmul(w:t())
  end,
  MatMul = function(_, x, w) return x:matmul(w) end,
  Relu = function(_, x) return x:relu() end,
  Sigmoid = function(_, x) return x:sigmoid() end,
  Tanh = function(_, x) return x:tanh() end,
  Erf = function(_, x) -- gelu(z) = z (1 + erf(z / sqrt 2)) / 2, and no z is 0
    local z = x * math.sqrt(2)
    return F.gelu(z) * 2 / z - 1
  end,
  LeakyRelu = function(a, x) return x:relu() - (-x):relu() * a.alpha end,
  Add = function(_, x, y) return x + y end,
  Sub = function(_, x, y) return x - y end,
  Mul = function(_, x, y) return x * y end,
  Div = function(_, x, y) return x / y end,
  Max = function(_, x, y) return x:maximum(y) end,
  Min = function(_, x, y) return x:minimum(y) end,
  Pow = function(_, x, y) return x:pow(y) end,
  Neg = function(_, x) return -x end,
  Reciprocal = function(_, x) return cld.ones(1) / x end,
  Clip = function(_, x, low, high)
    x = low and x:maximum(low) or x
    return high and x:minimum(high) or x
  end,
  Softmax = function(a, x)
    local powers = (x - x:amax(a.axis + 1, true)):exp()
    return powers / powers:sum(a.axis + 1, true)
  end,
  LogSoftmax = function(a, x) return x - x:logsumexp(a.axis + 1, true) end,
  Concat = function(a, ...) return cld.cat({ ... }, a.axis + 1) end,
  Transpose = function(a, x)
    local order = {}
    for i, axis in ipairs(a.perm) do order[i] = axis + 1 end
    return x:permute(table.unpack(order))
  end,
  Squeeze = function(_, x, axes) return x:squeeze(from_one(axes)) end,
  Unsqueeze = function(_, x, axes)
    for _, dim in ipairs(from_one(axes)) do x = x:unsqueeze(dim) end
    return x
  end,
  Expand = function(_, x, shape) return x + cld.zeros(shape:totable()) end,
  Slice = function(_, x, starts, ends, axes, steps)
    assert(starts:numel() == 1 and steps:item() == 1)
    return x:narrow(axes:item() + 1, starts:item() + 1, ends:item() - starts:item())
  end,
  Gather = function(a, x, position) return x:select(a.axis + 1, position:item() + 1) end,
  Identity = function(_, x) return x end,
  ReduceL1 = function(a, x) return x:abs():sum(axes_of(a), a.keepdims == 1) end,
  ReduceL2 = function(a, x) return (x * x):sum(axes_of(a), a.keepdims == 1):sqrt() end,
  ReduceLogSumExp = function(a, x) return x:exp():sum(axes_of(a), a.keepdims == 1):log() end,
  ReduceMax = function(a, x) return x:amax(axes_of(a), a.keepdims == 1) end,
  ReduceMean = function(a, x) return x:mean(axes_of(a), a.keepdims == 1) end,
  ReduceMin = function(a, x) return x:amin(axes_of(a), a.keepdims == 1) end,
  ReduceProd = function(a, x) return x:prod(axes_of(a), a.keepdims == 1) end,
  ReduceSum = function(a, x, axes) return x:sum(from_one(axes), a.keepdims == 1) end,
  Reshape = function(_, x, shape)
    local given = shape:totable()
    for i, size in ipairs(given) do given[i] = size == 0 and x.shape[i] or size end
    return x:reshape(given)
  end,
  LayerNormalization = function(a, x, w, b)
    local dims = {}
    for i = x.ndim + 1 + a.axis, x.ndim do dims[#dims + 1] = i end
    local apart, var = moments(x, dims)
    return apart / (var + a.epsilon):sqrt() * w + b
  end,
  InstanceNormalization = function(a, x, w, b)
    local dims = {}
    for i = 3, x.ndim do dims[#dims + 1] = i end
    local apart, var = moments(x, dims)
    return apart / (var + a.epsilon):sqrt() * channels(w, x) + channels(b, x)
  end,
}

for _, name in ipairs { "Abs", "Exp", "Log", "Sqrt", "Sin", "Cos", "Floor", "Ceil", "Round", "Sign" } do
  operators[name] = function(_, x) return cld[name:lower()](x) end
end

--- run(what read returned, images) -> features. Runs the nodes in order; each must find its inputs already computed.
function onnx.run(made, images)
  local _ <close> = cld.no_grad()
  local values = { images = images }
  for name, constant in pairs(made.constants) do values[name] = constant end
  for _, one in ipairs(made.nodes) do
    local inputs = {}
    for i, name in ipairs(one.input) do
      inputs[i] = name ~= "" and assert(values[name], name .. " is not there yet") or nil -- "": left out
    end
    assert(#one.output == 1 and not values[one.output[1]], "a value is made twice")
    local run = assert(operators[one.op], "no operator " .. one.op)
    values[one.output[1]] = run(one.attributes, table.unpack(inputs, 1, #one.input))
  end
  return assert(values.features)
end

return onnx
