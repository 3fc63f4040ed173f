--- The layers: those with weights, and functions wrapped as modules.
local core = require "cld.core"
local caller = require "cld.caller"
local init = require "cld.nn.init"
local modules = require "cld.nn.module"
local parts = require "cld.nn.parts"
local scope = require "cld.nn.scope"
local functional, create = core.nn, core.tensor
local parameter, raise, check_fields, integer = modules.parameter, caller.raise, caller.check_fields, caller.integer

local layers = {}

-- ---- what the constructors check --------------------------------------------

local function is_pair(value) return type(value) == "table" and #value == 2 end

-- A number for both axes, or {height, width}.
local function pair(name, what, value, least)
  if type(value) == "table" and not is_pair(value) then
    raise("%s: %s must be an integer or a pair of integers, got a table of %d", name, what, #value)
  end
  local height, width = value, value
  if is_pair(value) then height, width = value[1], value[2] end
  return { integer(name, what, height, least), integer(name, what, width, least) }
end

local function option(name, options, field, default)
  local value = options and options[field]
  if value == nil then return default end
  if type(value) ~= type(default) then
    raise("%s: %s must be a %s, got %s", name, field, type(default), caller.shown(value))
  end
  return value
end

-- ---- as text ----------------------------------------------------------------

-- "3x3" of {3, 3}.
local function shown_pair(value) return ("%dx%d"):format(value[1], value[2]) end

-- "3x3, stride 2, padding 1": a kernel, and the settings that differ from the defaults.
local function shown_window(kernel, settings, usual)
  local texts = { shown_pair(kernel) }
  for _, name in ipairs { "stride", "padding", "dilation" } do
    local value = settings[name]
    if value and (value[1] ~= value[2] or value[1] ~= usual[name]) then
      texts[#texts + 1] = ("%s %s"):format(name, value[1] == value[2] and value[1] or shown_pair(value))
    end
  end
  return table.concat(texts, ", ")
end

-- ---- calls ------------------------------------------------------------------

-- f(x, ...), with its errors at the user's line.
local function apply(name, f, x, ...)
  if not create.is_tensor(x) then raise("%s: expected a tensor, got %s", name, caller.shown(x)) end
  return caller.call(name, f, x, ...)
end

local function uniform_fan_in(shape, fan_in) return parameter(init.fan_in_uniform_(create.empty(shape), fan_in)) end

-- ---- convolution ------------------------------------------------------------

local Conv2d = modules.class "conv2d"

local padding_modes = { zeros = true, reflect = true, replicate = true, circular = true }

--- cld.nn.conv2d(in_channels, out_channels, kernel[, {stride = 1, padding = 0, dilation = 1, groups = 1, bias =
-- true, padding_mode = "zeros"}]) -> module: a convolution of images (N, in_channels, H, W). kernel, stride, padding
-- and dilation are integers or {height, width}; padding_mode "reflect", "replicate" and "circular" fill the padding
-- from the input. weight is (out, in / groups, h, w), bias (out).
--
--     local layer = cld.nn.conv2d(3, 8, 3, { stride = 2, padding = 1 })
--     print(table.concat(layer(cld.ones(2, 3, 32, 32)).shape, " "))  --> 2 8 16 16
function Conv2d:build(input, output, kernel, options)
  check_fields("conv2d", options, { "stride", "padding", "dilation", "groups", "bias", "padding_mode" })
  input, output = integer("conv2d", "in_channels", input), integer("conv2d", "out_channels", output)
  local size = pair("conv2d", "kernel", kernel)
  local groups = integer("conv2d", "groups", option("conv2d", options, "groups", 1))
  if input % groups ~= 0 or output % groups ~= 0 then
    raise("conv2d: %d groups do not divide %d input and %d output channels", groups, input, output)
  end
  local fan_in = input // groups * size[1] * size[2]
  self.weight = uniform_fan_in({ output, input // groups, size[1], size[2] }, fan_in)
  if option("conv2d", options, "bias", true) then self.bias = uniform_fan_in({ output }, fan_in) end
  options = options or {}
  self.settings = {
    stride = pair("conv2d", "stride", options.stride or 1),
    padding = pair("conv2d", "padding", options.padding or 0, 0),
    dilation = pair("conv2d", "dilation", options.dilation or 1),
    groups = groups,
  }
  local mode = option("conv2d", options, "padding_mode", "zeros")
  if not padding_modes[mode] then
    raise("conv2d: padding_mode must be 'zeros', 'reflect', 'replicate' or 'circular', got %s", caller.shown(mode))
  end
  if mode ~= "zeros" then
    self.padding_mode, self.unpadded = mode, {}
    for name, value in pairs(self.settings) do self.unpadded[name] = value end
    self.unpadded.padding = 0
  end
end

function Conv2d:extra_repr()
  local shape, settings = self.weight.shape, self.settings
  return ("%d -> %d, %s%s%s%s"):format(shape[2] * settings.groups, shape[1],
    shown_window({ shape[3], shape[4] }, settings, { stride = 1, padding = 0, dilation = 1 }),
    self.padding_mode and ", " .. self.padding_mode or "",
    settings.groups > 1 and (", %d groups"):format(settings.groups) or "", self.bias and "" or ", no bias")
end

-- Fills the padding from x; conv2d itself reports an x that it cannot take.
local function conv2d_padded(x, layer)
  local shape, settings, weight = x.shape, layer.settings, layer.weight
  if #shape ~= 4 or shape[2] ~= weight.shape[2] * settings.groups then
    return functional.conv2d(x, weight, layer.bias, settings)
  end
  local height, width = settings.padding[1], settings.padding[2]
  local ok, padded = pcall(functional.pad, x, { width, width, height, height }, { mode = layer.padding_mode })
  if not ok then error(tostring(padded):gsub("pad: mode", "conv2d: padding_mode"), 0) end
  local y = functional.conv2d(padded, weight, layer.bias, layer.unpadded)
  padded:close()
  return y
end

function Conv2d:forward(x)
  if self.padding_mode then return apply("conv2d", conv2d_padded, x, self) end
  return apply("conv2d", functional.conv2d, x, self.weight, self.bias, self.settings)
end

-- ---- batch normalization ----------------------------------------------------

local function build_norm(self, name, channels, options)
  check_fields(name, options, { "momentum", "eps", "affine", "track_running_stats" })
  channels = integer(name, "channels", channels)
  self.channels = channels
  if option(name, options, "affine", true) then
    self.weight = parameter(create.ones(channels))
    self.bias = parameter(create.zeros(channels))
  end
  if option(name, options, "track_running_stats", true) then
    self.running_mean = modules.buffer(create.zeros(channels))
    self.running_var = modules.buffer(create.ones(channels))
    self.num_batches_tracked = modules.buffer(create.zeros({}, "i64"))
  end
  self.momentum, self.eps = option(name, options, "momentum", 0.1), option(name, options, "eps", 1e-5)
end

-- Without running statistics, the batch's statistics are used in evaluation too.
local function normalize(self, name, x, fuse)
  local tracked = self.running_mean ~= nil
  return apply(name, functional.batch_norm, x, self.weight, self.bias, self.running_mean, self.running_var, {
    training = self.training or not tracked, momentum = self.momentum, eps = self.eps,
    relu = fuse and fuse.relu, residual = fuse and fuse.residual, num_batches_tracked = self.num_batches_tracked,
    parts = (self.training or not tracked) and create.is_tensor(x) and parts.of_norm(x.shape[1]) or nil,
  })
end

local BatchNorm2d = modules.class "batch_norm2d"

--- cld.nn.batch_norm2d(channels[, {momentum = 0.1, eps = 1e-5, affine = true, track_running_stats = true}]) -> module:
-- batch normalization of (N, channels, H, W): by the batch's statistics in training, by the running ones in
-- evaluation. A call may also apply relu: bn(x, {relu = true}), or bn(x, {relu = true, residual = r}) for relu(bn(x) +
-- r). A batch that is not finite does not update the running statistics. If a batch has parts (nn/parts.lua), each
-- uses its own statistics.
function BatchNorm2d:build(channels, options) build_norm(self, "batch_norm2d", channels, options) end

function BatchNorm2d:extra_repr() return tostring(self.channels) end

function BatchNorm2d:forward(x, fuse)
  if create.is_tensor(x) then
    if x.ndim ~= 4 then raise("batch_norm2d: expected a 4-d input (N, C, H, W), got %s", caller.shown(x)) end
    local channels = x:size(2)
    if channels ~= self.channels then
      raise("batch_norm2d: x has %d channels, the layer takes %d (x is %s)", channels, self.channels, caller.shown(x))
    end
  end
  return (normalize(self, "batch_norm2d", x, fuse))
end

local BatchNorm1d = modules.class "batch_norm1d"

--- cld.nn.batch_norm1d(features[, {as batch_norm2d}]) -> module: batch normalization of (N, features) or (N,
-- features, L).
function BatchNorm1d:build(channels, options) build_norm(self, "batch_norm1d", channels, options) end

BatchNorm1d.extra_repr = BatchNorm2d.extra_repr

function BatchNorm1d:forward(x)
  local shape = create.is_tensor(x) and x.shape or {}
  if #shape ~= 2 and #shape ~= 3 then
    raise("batch_norm1d: expected a tensor (N, C) or (N, C, L), got %s", caller.shown(x))
  elseif shape[2] ~= self.channels then
    raise("batch_norm1d: x has %d features, the layer takes %d (x is %s)", shape[2], self.channels, caller.shown(x))
  elseif self.training and shape[1] * (shape[3] or 1) == 1 and not core.dist.batch() then -- ranks may have one each
    raise("batch_norm1d: training needs more than one value per feature, got %s", caller.shown(x))
  end
  local maps <close> = x:reshape { shape[1], shape[2], shape[3] or 1, 1 }
  local y <close> = normalize(self, "batch_norm1d", maps)
  return y:reshape(shape)
end

-- ---- norms of each image by itself -------------------------------------------

local function check_eps(name, options)
  local eps = option(name, options, "eps", 1e-5)
  if eps <= 0 or eps ~= eps then raise("%s: eps must be above 0, got %s", name, caller.shown(eps)) end
  return eps
end

local LayerNorm = modules.class "layer_norm"

--- cld.nn.layer_norm(shape[, {eps = 1e-5, affine = true}]) -> module: normalizes each row over its last dimensions,
-- whose sizes are in shape (an integer, or a table of them). Ba, Kiros and Hinton, "Layer Normalization", 2016.
function LayerNorm:build(shape, options)
  check_fields("layer_norm", options, { "eps", "affine" })
  self.shape = {}
  local listed = type(shape) == "table" and #shape > 0
  for i = 1, listed and #shape or 1 do
    self.shape[i] = integer("layer_norm", "shape", listed and shape[i] or shape)
  end
  if option("layer_norm", options, "affine", true) then
    self.weight = parameter(create.ones(self.shape))
    self.bias = parameter(create.zeros(self.shape))
  end
  self.eps = check_eps("layer_norm", options)
end

function LayerNorm:extra_repr()
  return ("%s%s"):format(table.concat(self.shape, "x"), self.weight and "" or ", not affine")
end

function LayerNorm:forward(x)
  return apply("layer_norm", functional.layer_norm, x, self.shape, self.weight, self.bias, { eps = self.eps })
end

local GroupNorm = modules.class "group_norm"

--- cld.nn.group_norm(groups, channels[, {eps = 1e-5, affine = true}]) -> module: normalizes each image over each group
-- of channels, so it needs neither running statistics nor parts of a batch. Wu and He, "Group Normalization", ECCV
-- 2018.
function GroupNorm:build(groups, channels, options)
  check_fields("group_norm", options, { "eps", "affine" })
  self.groups, self.channels = integer("group_norm", "groups", groups), integer("group_norm", "channels", channels)
  if self.channels % self.groups ~= 0 then
    raise("group_norm: %d groups do not divide %d channels", self.groups, self.channels)
  end
  if option("group_norm", options, "affine", true) then
    self.weight = parameter(create.ones(self.channels))
    self.bias = parameter(create.zeros(self.channels))
  end
  self.eps = check_eps("group_norm", options)
end

function GroupNorm:extra_repr()
  return ("%d groups of %d%s"):format(self.groups, self.channels, self.weight and "" or ", not affine")
end

function GroupNorm:forward(x)
  local shape = create.is_tensor(x) and x.shape or {}
  if shape[2] and shape[2] ~= self.channels then
    raise("group_norm: x has %d channels, the layer takes %d (x is %s)", shape[2], self.channels, caller.shown(x))
  end
  return apply("group_norm", functional.group_norm, x, self.groups, self.weight, self.bias, { eps = self.eps })
end

-- ---- linear -----------------------------------------------------------------

local Linear = modules.class "linear"

--- cld.nn.linear(in_features, out_features[, {bias = true}]) -> module: (..., in_features) to (..., out_features);
-- weight (out, in), bias (out), initialised as in PyTorch. The input's dtype decides, not the precision: with f32
-- nothing is rounded; with 16 bits the weight is rounded too, and the result is f32.
--
--     print(cld.nn.linear(16, 4)(cld.ones(2, 16)).shape[2])  --> 4
function Linear:build(input, output, options)
  check_fields("linear", options, { "bias" })
  input, output = integer("linear", "in_features", input), integer("linear", "out_features", output)
  self.weight = uniform_fan_in({ output, input }, input)
  if option("linear", options, "bias", true) then self.bias = uniform_fan_in({ output }, input) end
end

function Linear:extra_repr()
  local shape = self.weight.shape
  return ("%d -> %d%s"):format(shape[2], shape[1], self.bias and "" or ", no bias")
end

function Linear:forward(x) return apply("linear", functional.linear, x, self.weight, self.bias) end

local NormLinear = modules.class "norm_linear"

--- cld.nn.norm_linear(in_features, out_features) -> module: cosines: each row of x and each column of the weight (in,
-- out) is divided by its length before the product; no bias (the NormLinear head of CLD).
function NormLinear:build(input, output)
  local columns = create.empty(integer("norm_linear", "in_features", input),
    integer("norm_linear", "out_features", output)):uniform_(-1, 1)
  self.weight = parameter(columns:normalize(1):contiguous())
end

function NormLinear:extra_repr() return ("%d -> %d"):format(self.weight.shape[1], self.weight.shape[2]) end

-- Computed in the weight's dtype, whatever the dtype of x, because the loss is computed from these products.
local function cosines(x, weight)
  if x.ndim > 0 and x:size(-1) ~= weight:size(1) then
    error(("norm_linear: x has %d features, the weight takes %d%s"):format(x:size(-1), weight:size(1),
      x.ndim == 2 and "" or (" (x is %s)"):format(caller.shown(x))), 0)
  end
  local wide <close> = x:to(weight.dtype)
  local rows <close> = wide:normalize()
  local columns <close> = weight:normalize(1)
  return rows:matmul(columns)
end

function NormLinear:forward(x) return apply("norm_linear", cosines, x, self.weight) end

-- ---- dropout ----------------------------------------------------------------

local Dropout = modules.class "dropout"

--- cld.nn.dropout([p = 0.5]) -> module: in training each element is 0 with probability p, and 1 / (1 - p) times
-- itself otherwise; in evaluation nothing changes.
function Dropout:build(p)
  if p == nil then p = 0.5 end
  if type(p) ~= "number" or not (p >= 0 and p <= 1) then
    raise("dropout: p must be a number from 0 to 1, got %s", caller.shown(p))
  end
  self.p = p
end

function Dropout:extra_repr() return ("%g"):format(self.p) end

function Dropout:forward(x)
  if not self.training or self.p == 0 then return x end
  return apply("dropout", functional.dropout, x, self.p)
end

-- ---- functions as modules ---------------------------------------------------

-- A module without settings around a function of x.
local function stateless(name, f)
  local Class = modules.class(name)
  function Class:build(...)
    if select("#", ...) > 0 then raise("%s takes no arguments, got %s", self._name, caller.shown((...))) end
  end
  function Class.forward(_, x) return apply(name, f, x) end
  return Class
end

local function pool(name)
  local Class = modules.class(name)
  function Class:build(kernel, options)
    check_fields(name, options, { "stride", "padding" })
    self.kernel = pair(name, "kernel", kernel)
    self.settings = {
      stride = pair(name, "stride", options and options.stride or kernel),
      padding = pair(name, "padding", options and options.padding or 0, 0),
    }
  end
  function Class:extra_repr()
    return shown_window(self.kernel, self.settings, { stride = self.kernel[1], padding = 0 })
  end

  function Class:forward(x) return apply(name, functional[name], x, self.kernel, self.settings) end
  return Class
end

local AdaptiveAvgPool2d = modules.class "adaptive_avg_pool2d"

--- cld.nn.adaptive_avg_pool2d(size) -> module: means over windows that divide each map evenly; size is a number or
-- {height, width}, 1 for the mean of the whole map, (N, C, 1, 1).
function AdaptiveAvgPool2d:build(size) self.size = pair("adaptive_avg_pool2d", "the output size", size) end

function AdaptiveAvgPool2d:extra_repr() return shown_pair(self.size) end

function AdaptiveAvgPool2d:forward(x)
  return apply("adaptive_avg_pool2d", functional.adaptive_avg_pool2d, x, self.size)
end

local Gelu = modules.class "gelu"

--- cld.nn.gelu{approximate = "none"|"tanh"} -> module: x times the normal distribution function at x.
function Gelu:build(options)
  check_fields("gelu", options, { "approximate" })
  self.approximate = option("gelu", options, "approximate", "none")
  if self.approximate ~= "none" and self.approximate ~= "tanh" then
    raise("gelu: approximate must be 'none' or 'tanh', got %s", caller.shown(self.approximate))
  end
end

function Gelu:extra_repr() return self.approximate == "none" and "" or self.approximate end

function Gelu:forward(x) return apply("gelu", functional.gelu, x, { approximate = self.approximate }) end

local LeakyRelu = modules.class "leaky_relu"

--- cld.nn.leaky_relu([negative_slope = 0.01]) -> module: x, multiplied by the slope if it is below 0.
function LeakyRelu:build(slope)
  if slope == nil then slope = 0.01 end
  if type(slope) ~= "number" then raise("leaky_relu: negative_slope must be a number, got %s", caller.shown(slope)) end
  self.negative_slope = slope
end

function LeakyRelu:extra_repr() return ("%g"):format(self.negative_slope) end

function LeakyRelu:forward(x) return apply("leaky_relu", functional.leaky_relu, x, self.negative_slope) end

layers.conv2d, layers.batch_norm2d, layers.batch_norm1d = Conv2d, BatchNorm2d, BatchNorm1d
layers.layer_norm, layers.group_norm = LayerNorm, GroupNorm
layers.linear, layers.norm_linear, layers.dropout = Linear, NormLinear, Dropout
--- cld.nn.tanh() -> module: the hyperbolic tangent.
--- cld.nn.sigmoid() -> module: 1 / (1 + exp(-x)).
--- cld.nn.relu() -> module: x, or 0 if x is below 0.
layers.relu, layers.sigmoid, layers.tanh = stateless("relu", create.relu), stateless("sigmoid", create.sigmoid),
  stateless("tanh", create.tanh)
layers.gelu, layers.leaky_relu = Gelu, LeakyRelu
--- cld.nn.silu() -> module: x times its sigmoid.
layers.silu = stateless("silu", functional.silu)
--- cld.nn.normalize() -> module: divides each row (the last dimension) by its Euclidean length.
layers.normalize = stateless("normalize", function(x) return x:normalize() end)
--- cld.nn.flatten() -> module: (N, ...) to (N, features).
layers.flatten = stateless("flatten", function(x) return x:flatten(2, -1) end)
--- cld.nn.identity() -> module: returns its argument.
layers.identity = stateless("identity", function(x) return x end)
--- cld.nn.max_pool2d(kernel[, {stride = kernel, padding = 0}]), cld.nn.avg_pool2d(kernel[, {stride = kernel, padding =
-- 0}]) -> module: the maximum, or the mean, of each window of (N, C, H, W); numbers or {height, width}. Padding counts
-- as zeros in the mean.
layers.max_pool2d, layers.avg_pool2d = pool "max_pool2d", pool "avg_pool2d"
layers.adaptive_avg_pool2d = AdaptiveAvgPool2d

for _, class in pairs(layers) do scope.leaf(class) end

return layers
