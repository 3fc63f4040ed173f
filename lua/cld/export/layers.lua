--- The layers of cld.nn in ONNX (opset 17), in evaluation mode: {forward of the layer = function(graph, module, value,
-- ...) -> the value after it}. If a layer is not listed here but has its own forward, that forward is traced
-- (export/trace.lua).
local core = require "cld.core"
local graphs = require "cld.export.graph"
local nn = require "cld.nn"

local layers = {}

local function tensor_of(value) return rawget(value, "tensor") end

-- add(class, f): f(graph, module, value, the layer's output for the value's tensor, ...) -> value
local function add(class, f)
  local forward = class.forward
  layers[forward] = function(graph, module, value, ...)
    return f(graph, module, value, graphs.stand_in(forward(module, tensor_of(value))), ...)
  end
end

-- {top, left, bottom, right} from {vertical, horizontal}.
local function pads(padding) return { padding[1], padding[2], padding[1], padding[2] } end

-- ---- convolution and pools ----------------------------------------------------------------

add(nn.conv2d, function(graph, module, value, y)
  if module.padding_mode then
    graphs.fail(graph, "padding_mode '%s' is not exported; 'zeros' is", module.padding_mode)
  end
  local settings, shape = module.settings, module.weight.shape
  local inputs = { value, graph:constant("weight", module.weight) }
  if module.bias then inputs[3] = graph:constant("bias", module.bias) end
  return graph:node("Conv", inputs, {
    kernel_shape = { shape[3], shape[4] }, strides = settings.stride, pads = pads(settings.padding),
    dilations = settings.dilation, group = settings.groups,
  }, y)
end)

add(nn.max_pool2d, function(graph, module, value, y)
  return graph:node("MaxPool", { value }, {
    kernel_shape = module.kernel, strides = module.settings.stride, pads = pads(module.settings.padding),
  }, y)
end)

add(nn.avg_pool2d, function(graph, module, value, y)
  local shape, kernel, settings = value.shape, module.kernel, module.settings
  if kernel[1] == shape[3] and kernel[2] == shape[4] and settings.padding[1] == 0 and settings.padding[2] == 0 then
    return graph:node("GlobalAveragePool", { value }, nil, y)
  end
  return graph:node("AveragePool", { value }, {
    kernel_shape = kernel, strides = settings.stride, pads = pads(settings.padding), count_include_pad = 1,
  }, y)
end)

add(nn.adaptive_avg_pool2d, function(graph, module, value, y)
  local shape, size = value.shape, module.size
  if size[1] == 1 and size[2] == 1 then return graph:node("GlobalAveragePool", { value }, nil, y) end
  if shape[3] % size[1] ~= 0 or shape[4] % size[2] ~= 0 then
    graphs.fail(graph, "%d x %d windows of %d x %d maps are not all of one size, which ONNX's AveragePool has", size[1],
      size[2], shape[3], shape[4])
  end
  local kernel = { shape[3] // size[1], shape[4] // size[2] }
  return graph:node("AveragePool", { value }, { kernel_shape = kernel, strides = kernel }, y)
end)

-- ---- norms ----------------------------------------------------------------------------------

-- A weight or bias, or its neutral value if there is none.
local function affine(graph, name, tensor, shape, fill)
  return graph:constant(name, tensor or core.tensor.full(shape, fill))
end

-- fuse: {relu, residual}, as passed by the residual blocks.
local function batch_norm(graph, module, value, _, fuse)
  if module.running_mean == nil then
    graphs.fail(graph, "a batch norm without running statistics takes those of the batch, which is not exported")
  end
  local forward, shape = module.forward, { module.channels }
  local y = graph:node("BatchNormalization", {
    value, affine(graph, "weight", module.weight, shape, 1), affine(graph, "bias", module.bias, shape, 0),
    graph:constant("running_mean", module.running_mean), graph:constant("running_var", module.running_var),
  }, { epsilon = module.eps + 0.0 }, forward(module, tensor_of(value)))
  if fuse and fuse.residual then y = y + fuse.residual end
  return fuse and fuse.relu and y:relu() or y
end

add(nn.batch_norm2d, batch_norm)
add(nn.batch_norm1d, batch_norm)

add(nn.layer_norm, function(graph, module, value, y)
  return graph:node("LayerNormalization", {
    value, affine(graph, "weight", module.weight, module.shape, 1), affine(graph, "bias", module.bias, module.shape, 0),
  }, { axis = -#module.shape, epsilon = module.eps + 0.0 }, y)
end)

-- Opset 17 has no group norm: InstanceNormalization with a channel for each group.
add(nn.group_norm, function(graph, module, value, y)
  local shape, groups = value.shape, module.groups
  local per_channel = { module.channels }
  for i = 3, #shape do per_channel[i - 1] = 1 end
  local own = table.move(shape, 2, #shape, 2, { 0 })
  local grouped = graph:node("Reshape", { value, graph:integers { 0, groups, -1 } }, nil, y)
  local ones, zeros = core.tensor.ones(groups), core.tensor.zeros(groups)
  local normal = graph:node("InstanceNormalization", { grouped, graph:constant("ones", ones),
    graph:constant("zeros", zeros) }, { epsilon = module.eps + 0.0 }, y)
  local back = graph:node("Reshape", { normal, graph:integers(own) }, nil, y)
  if not module.weight then return back end
  local scaled = graph:node("Mul", { back, graph:constant("weight", module.weight:reshape(per_channel)) }, nil, y)
  return graph:node("Add", { scaled, graph:constant("bias", module.bias:reshape(per_channel)) }, nil, y)
end)

-- ---- linear -----------------------------------------------------------------------------------

add(nn.linear, function(graph, module, value, y)
  if value.ndim == 2 then
    local inputs = { value, graph:constant("weight", module.weight) }
    if module.bias then inputs[3] = graph:constant("bias", module.bias) end
    return graph:node("Gemm", inputs, { transB = 1 }, y)
  end
  local product = graph:node("MatMul", { value, graph:constant("weight", module.weight:t():contiguous()) }, nil, y)
  if not module.bias then return product end
  return graph:node("Add", { product, graph:constant("bias", module.bias) }, nil, y)
end)

-- The columns of the weight are scaled to unit length here.
add(nn.norm_linear, function(graph, module, value, y)
  local columns = graph:constant("weight", module.weight:normalize(1):contiguous())
  return graph:node("MatMul", { value:normalize(), columns }, nil, y)
end)

-- ---- functions ----------------------------------------------------------------------------------

for name, op in pairs { relu = "Relu", sigmoid = "Sigmoid", tanh = "Tanh" } do
  add(nn[name], function(graph, _, value, y) return graph:node(op, { value }, nil, y) end)
end

add(nn.leaky_relu, function(graph, module, value, y)
  return graph:node("LeakyRelu", { value }, { alpha = module.negative_slope + 0.0 }, y)
end)

add(nn.silu, function(graph, _, value, y)
  return graph:node("Mul", { value, graph:node("Sigmoid", { value }, nil, y) }, nil, y)
end)

-- x (1 + erf(x / sqrt 2)) / 2
add(nn.gelu, function(graph, module, value, y)
  if module.approximate ~= "none" then graphs.fail(graph, "gelu's approximation 'tanh' is not exported; 'none' is") end
  local error_function = graph:node("Erf", { value * math.sqrt(0.5) }, nil, y)
  return value * (error_function + 1) * 0.5
end)

add(nn.normalize, function(_, _, value) return value:normalize() end)
add(nn.flatten, function(_, _, value) return value:flatten(2, -1) end)
add(nn.identity, function(_, _, value) return value end)
add(nn.dropout, function(_, _, value) return value end)

return layers
