--- The layers: what has weights, and the functions among them as modules.
local core = require "cld.core"
local caller = require "cld.caller"
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

-- "3x3, stride 2, padding 1": a kernel, and of the settings those that are not the usual ones.
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

-- f(x, ...), its errors at the user's line.
local function apply(name, f, x, ...)
  if not create.is_tensor(x) then raise("%s: expected a tensor, got %s", name, caller.shown(x)) end
  return caller.call(name, f, x, ...)
end

-- PyTorch's default for convolutions and linear layers: kaiming-uniform with a = sqrt(5), which is this bound.
local function uniform_fan_in(shape, fan_in)
  local bound = 1 / math.sqrt(fan_in)
  return parameter(create.empty(shape):uniform_(-bound, bound))
end

-- ---- convolution ------------------------------------------------------------

local Conv2d = modules.class "conv2d"

--- nn.conv2d(in_channels, out_channels, kernel, {stride = 1, padding = 0, dilation = 1, groups = 1, bias = true})
function Conv2d:build(input, output, kernel, options)
  check_fields("conv2d", options, { "stride", "padding", "dilation", "groups", "bias" })
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
end

function Conv2d:extra_repr()
  local shape, settings = self.weight.shape, self.settings
  return ("%d -> %d, %s%s%s"):format(shape[2] * settings.groups, shape[1],
    shown_window({ shape[3], shape[4] }, settings, { stride = 1, padding = 0, dilation = 1 }),
    settings.groups > 1 and (", %d groups"):format(settings.groups) or "", self.bias and "" or ", no bias")
end

function Conv2d:forward(x) return apply("conv2d", functional.conv2d, x, self.weight, self.bias, self.settings) end

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

-- Without running statistics the batch's are used in evaluation as well.
local function normalize(self, name, x, fuse)
  local tracked = self.running_mean ~= nil
  return apply(name, functional.batch_norm, x, self.weight, self.bias, self.running_mean, self.running_var, {
    training = self.training or not tracked, momentum = self.momentum, eps = self.eps,
    relu = fuse and fuse.relu, residual = fuse and fuse.residual, num_batches_tracked = self.num_batches_tracked,
    parts = parts.current(),
  })
end

local BatchNorm2d = modules.class "batch_norm2d"

--- nn.batch_norm2d(channels, {momentum = 0.1, eps = 1e-5, affine = true, track_running_stats = true}). A call may fuse
-- what follows: bn(x, {relu = true}), bn(x, {relu = true, residual = r}) = relu(bn(x) + r). A batch that is not finite
-- moves no running statistics. Where a batch has parts (nn/parts.lua), each goes by its own statistics.
function BatchNorm2d:build(channels, options) build_norm(self, "batch_norm2d", channels, options) end

function BatchNorm2d:extra_repr() return tostring(self.channels) end

function BatchNorm2d:forward(x, fuse) return normalize(self, "batch_norm2d", x, fuse) end

local BatchNorm1d = modules.class "batch_norm1d"

--- nn.batch_norm1d(features, {as batch_norm2d}): inputs (N, C) or (N, C, L).
function BatchNorm1d:build(channels, options) build_norm(self, "batch_norm1d", channels, options) end

BatchNorm1d.extra_repr = BatchNorm2d.extra_repr

function BatchNorm1d:forward(x)
  local shape = create.is_tensor(x) and x.shape or {}
  if #shape ~= 2 and #shape ~= 3 then
    raise("batch_norm1d: expected a tensor (N, C) or (N, C, L), got %s", caller.shown(x))
  elseif shape[2] ~= self.channels then
    raise("batch_norm1d: expected %d features in dimension 2, got %s", self.channels, caller.shown(x))
  elseif self.training and shape[1] * (shape[3] or 1) == 1 then
    raise("batch_norm1d: training needs more than one value per feature, got %s", caller.shown(x))
  end
  local maps <close> = x:reshape { shape[1], shape[2], shape[3] or 1, 1 }
  local y <close> = normalize(self, "batch_norm1d", maps)
  return y:reshape(shape)
end

-- ---- linear -----------------------------------------------------------------

local Linear = modules.class "linear"

--- nn.linear(in_features, out_features, {bias = true}). Goes by its input, not by the precision: of f32 nothing is
-- rounded, of 16 bits the weight is as well, and the result is f32.
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

--- nn.norm_linear(in_features, out_features): cosines, normalize(x) . normalize(w) for every column w of the
-- weight, which is in x out, without bias (the NormLinear head of CLD).
function NormLinear:build(input, output)
  local columns = create.empty(integer("norm_linear", "in_features", input),
    integer("norm_linear", "out_features", output)):uniform_(-1, 1)
  self.weight = parameter(columns:normalize(1):contiguous())
end

function NormLinear:extra_repr() return ("%d -> %d"):format(self.weight.shape[1], self.weight.shape[2]) end

-- In the weight's dtype, whatever that of x: these products are what a loss is made of.
local function cosines(x, weight)
  local wide <close> = x:to(weight.dtype)
  local rows <close> = wide:normalize()
  local columns <close> = weight:normalize(1)
  return rows:matmul(columns)
end

function NormLinear:forward(x) return apply("norm_linear", cosines, x, self.weight) end

-- ---- dropout ----------------------------------------------------------------

local Dropout = modules.class "dropout"

--- nn.dropout(p = 0.5): in training each element is 0 with probability p, and 1 / (1 - p) times itself otherwise.
function Dropout:build(p)
  if p == nil then p = 0.5 end
  if type(p) ~= "number" or not (p >= 0 and p <= 1) then
    raise("dropout: p must be a number from 0 to 1, got %s", caller.shown(p))
  end
  self.p = p
end

function Dropout:extra_repr() return ("%g"):format(self.p) end

local function drop(x, p)
  if p == 1 then return x:mul(0) end
  local noise <close> = create.rand(x.shape, { device = x.device })
  local kept <close> = noise:ge(p)
  local mask <close> = kept:to(x.dtype)
  local scale <close> = mask:div(1 - p)
  return x:mul(scale)
end

function Dropout:forward(x)
  if not self.training or self.p == 0 then return x end
  return apply("dropout", drop, x, self.p)
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

--- nn.adaptive_avg_pool2d(1): the mean over each map, (N, C, 1, 1).
function AdaptiveAvgPool2d.build(_, size)
  if size ~= 1 then
    raise("adaptive_avg_pool2d: the only output size there is, is 1, got %s", caller.shown(size))
  end
end

function AdaptiveAvgPool2d.forward(_, x)
  return apply("adaptive_avg_pool2d", functional.adaptive_avg_pool2d, x, 1)
end

layers.conv2d, layers.batch_norm2d, layers.batch_norm1d = Conv2d, BatchNorm2d, BatchNorm1d
layers.linear, layers.norm_linear, layers.dropout = Linear, NormLinear, Dropout
layers.relu, layers.sigmoid, layers.tanh = stateless("relu", create.relu), stateless("sigmoid", create.sigmoid),
  stateless("tanh", create.tanh)
--- normalize: rows to unit length. flatten: (N, ...) to (N, features).
layers.normalize = stateless("normalize", function(x) return x:normalize() end)
layers.flatten = stateless("flatten", function(x) return x:flatten(2, -1) end)
layers.identity = stateless("identity", function(x) return x end)
--- nn.max_pool2d(kernel, {stride = kernel, padding = 0}), nn.avg_pool2d likewise
layers.max_pool2d, layers.avg_pool2d = pool "max_pool2d", pool "avg_pool2d"
layers.adaptive_avg_pool2d = AdaptiveAvgPool2d

for _, class in pairs(layers) do scope.leaf(class) end

return layers
