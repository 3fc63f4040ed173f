--- ResNets as torchvision has them (v1.5: a bottleneck's stride is in its 3x3 convolution): blocks, the trunk, and the
-- network of trunk and heads. He et al. 2016; ResNeXt: Xie et al. 2017; wide: Zagoruyko and Komodakis 2016.
--
-- Names are torchvision's: conv1, bn1, layer1 .. layer4, and in a block conv1, bn1, ..., downsample.0, downsample.1.
-- Parameters are listed in the order in which they are made: the trunk's in torchvision's order, then the heads'.
local caller = require "cld.caller"
local heads = require "cld.models.heads"
local nn = require "cld.nn"
local user_error = require "cld.user_error"

local resnet = {}

local RELU = { relu = true } -- the norm also applies relu, in the same pass over memory

-- ---- residual blocks --------------------------------------------------------

-- A block takes `input` channels and returns planes * expansion. where: {stride, groups, width_per_group, shortcut =
-- the name of the child with a 1x1 convolution and its norm, which exists if the shape changes}.
local Block = nn.module "block"

function Block:extra_repr()
  local groups = self.groups > 1 and (", %d in %d groups"):format(self.inner, self.groups) or ""
  return ("%d -> %d%s%s"):format(self.input, self.output, groups,
    self.stride > 1 and ", stride " .. self.stride or "")
end

function Block:project(input, output, where)
  self.input, self.output, self.stride, self.groups = input, output, where.stride, where.groups
  self.shortcut_name = where.shortcut
  if where.stride == 1 and input == output then return end
  self[where.shortcut] = nn.sequential(
    nn.conv2d(input, output, 1, { stride = where.stride, bias = false }), nn.batch_norm2d(output))
end

function Block:shortcut_of(x)
  local projection = self[self.shortcut_name]
  return projection and projection(x) or x
end

local BasicBlock = nn.module("basic_block", Block)
BasicBlock.expansion = 1

--- Two 3x3 convolutions; the first has the stride.
function BasicBlock:build(input, planes, where)
  self.conv1 = nn.conv2d(input, planes, 3, { stride = where.stride, padding = 1, bias = false })
  self.bn1 = nn.batch_norm2d(planes)
  self.conv2 = nn.conv2d(planes, planes, 3, { padding = 1, bias = false })
  self.bn2 = nn.batch_norm2d(planes)
  self:project(input, planes, where)
end

function BasicBlock:forward(x)
  local y = nn.chain(x, { self.conv1, { self.bn1, RELU }, self.conv2 })
  return self.bn2(y, { relu = true, residual = self:shortcut_of(x) })
end

nn.transient(BasicBlock)

local Bottleneck = nn.module("bottleneck", Block)
Bottleneck.expansion = 4

-- The channels of a bottleneck's 3x3 convolution: planes * width_per_group / 64 in each group.
local function inner_width(planes, kind) return planes * kind.width_per_group // 64 * kind.groups end

--- 1x1, 3x3 (in groups, with the stride) and 1x1 convolutions.
function Bottleneck:build(input, planes, where)
  local inner, output = inner_width(planes, where), planes * Bottleneck.expansion
  self.inner = inner
  self.conv1 = nn.conv2d(input, inner, 1, { bias = false })
  self.bn1 = nn.batch_norm2d(inner)
  self.conv2 = nn.conv2d(inner, inner, 3,
    { stride = where.stride, padding = 1, groups = where.groups, bias = false })
  self.bn2 = nn.batch_norm2d(inner)
  self.conv3 = nn.conv2d(inner, output, 1, { bias = false })
  self.bn3 = nn.batch_norm2d(output)
  self:project(input, output, where)
end

function Bottleneck:forward(x)
  local y = nn.chain(x, { self.conv1, { self.bn1, RELU }, self.conv2, { self.bn2, RELU }, self.conv3 })
  return self.bn3(y, { relu = true, residual = self:shortcut_of(x) })
end

nn.transient(Bottleneck)

resnet.basic_block, resnet.bottleneck = BasicBlock, Bottleneck

-- ---- the trunk --------------------------------------------------------------

local Trunk = nn.module "resnet_trunk"
resnet.trunk = Trunk

local function stage(kind, depth, input, planes, stride, shortcut)
  local blocks = {}
  for i = 1, depth do
    blocks[i] = kind.block(i == 1 and input or planes * kind.block.expansion, planes, {
      stride = i == 1 and stride or 1, groups = kind.groups, width_per_group = kind.width_per_group,
      shortcut = shortcut,
    })
  end
  return nn.sequential(table.unpack(blocks))
end

--- Trunk(kind, {width, stem = width, small, shortcut = "downsample"}): the network before the heads. width: planes of
-- the first stage; the stages' planes are 1, 2, 4 and 8 times that. stem: channels of the first convolution. small:
-- for small images, a 3x3 stem of stride 1 without max-pool, instead of 7x7 and max-pool, each of stride 2. The
-- convolutions have PyTorch's default initialisation.
function Trunk:build(kind, settings)
  local width, expansion = settings.width, kind.block.expansion
  local stem = settings.stem or width
  if settings.small then
    self.conv1 = nn.conv2d(3, stem, 3, { padding = 1, bias = false })
  else
    self.conv1 = nn.conv2d(3, stem, 7, { stride = 2, padding = 3, bias = false })
  end
  self.bn1 = nn.batch_norm2d(stem)
  if not settings.small then self.maxpool = nn.max_pool2d(3, { stride = 2, padding = 1 }) end
  local input = stem
  for i, depth in ipairs(kind.depths) do
    local planes = width << (i - 1)
    self["layer" .. i] = stage(kind, depth, input, planes, i == 1 and 1 or 2, settings.shortcut or "downsample")
    input = planes * expansion
  end
  self.feature_width = input
end

--- Initialises the network's convolutions as torchvision does: by kaiming_normal_ with mode fan_out.
function resnet.draw_convolutions(net)
  for _, weight in ipairs(net:parameters()) do
    if weight.ndim == 4 then nn.init.kaiming_normal_(weight, { mode = "fan_out", nonlinearity = "relu" }) end
  end
end

-- The average over the whole map, or over the one window that fits.
local function pooled(maps, window)
  local height, width = maps.shape[3], maps.shape[4]
  local y = nn.avg_pool2d(window or { height, width })(maps)
  if y.shape[3] * y.shape[4] ~= 1 then
    caller.raise("pool_window: %d x %d windows fit into the %d x %d maps; expected one", y.shape[3], y.shape[4], height,
      width)
  end
  return y:flatten(2, -1)
end

local function features_of(self, x)
  local stages = { self.conv1, { self.bn1, RELU }, self.maxpool }
  for i = 1, 4 do stages[#stages + 1] = self["layer" .. i] end
  return pooled(nn.chain(x, stages), self.pool_window)
end

function Trunk:extra_repr() return ("%d features"):format(self.feature_width) end

--- net:features(images) -> (N, F): the pooled features of images (N, 3, H, W), F = net.feature_width = 8 * width *
-- expansion: the input of a linear evaluation.
function Trunk:features(x) return (nn.scope(features_of, self, x)) end

Trunk.forward = Trunk.features
nn.transient(Trunk)

-- ---- trunk and heads --------------------------------------------------------

local ResNet = nn.module("resnet", Trunk)

function ResNet:build(kind, settings)
  Trunk.build(self, kind, settings)
  resnet.draw_convolutions(self)
  self.head, self.branches = settings.head, settings.branches
  if self.head then heads.build(self, self.feature_width, settings) end
end

function ResNet:extra_repr()
  if not self.head then return Trunk.extra_repr(self) end
  return ("%d features, head %s: %s"):format(self.feature_width, self.head, table.concat(self.branches, ", "))
end

--- net:heads(features) -> (N, dim), ...: the branches' outputs of pooled features (N, F), in the order of `branches`.
-- The CIFAR encoders and InfoMin's layout return rows of unit length, except a projector's; others do not normalise.
-- Without heads: the features.
function ResNet:heads(features)
  if not self.head then return features end
  return heads.forward(self, features)
end

function ResNet:forward(x) return self:heads(self:features(x)) end

nn.transient(ResNet)

-- ---- by name ----------------------------------------------------------------

local function bottleneck(depths, groups, width_per_group)
  return { block = Bottleneck, depths = depths, groups = groups or 1, width_per_group = width_per_group or 64 }
end

local function basic(depths) return { block = BasicBlock, depths = depths, groups = 1, width_per_group = 64 } end

local D50, D101, D152 = { 3, 4, 6, 3 }, { 3, 4, 23, 3 }, { 3, 8, 36, 3 }

--- {name, kind}, in the order of the table in a help text. kind: block, depths of the four stages, groups of the 3x3
-- convolution, and the channels of a group in a stage of 64 planes.
resnet.kinds = {
  { "resnet18", basic { 2, 2, 2, 2 } },
  { "resnet34", basic(D50) },
  { "resnet50", bottleneck(D50) },
  { "resnet101", bottleneck(D101) },
  { "resnet152", bottleneck(D152) },
  { "wide_resnet50_2", bottleneck(D50, 1, 128) },
  { "wide_resnet101_2", bottleneck(D101, 1, 128) },
  { "resnext50_32x4d", bottleneck(D50, 32, 4) },
  { "resnext101_32x4d", bottleneck(D101, 32, 4) },
  { "resnext101_32x8d", bottleneck(D101, 32, 8) },
  { "resnext101_64x4d", bottleneck(D101, 64, 4) },
  { "resnext152_32x4d", bottleneck(D152, 32, 4) },
  { "resnext152_32x8d", bottleneck(D152, 32, 8) },
  { "resnext152_64x4d", bottleneck(D152, 64, 4) },
}

--- InfoMin's names for some of them (Tian et al., NeurIPS 2020; PyContrast): {name, the name above, the factor for
-- `width`}. x2 and x4 multiply all channels.
resnet.aliases = {
  { "resnet50x2", "resnet50", 2 }, { "resnet50x4", "resnet50", 4 },
  { "resnext50", "resnext50_32x4d", 1 },
  { "resnext101v1", "resnext101_32x4d", 1 }, { "resnext101v2", "resnext101_32x8d", 1 },
  { "resnext101v3", "resnext101_64x4d", 1 },
  { "resnext152v1", "resnext152_32x4d", 1 }, { "resnext152v2", "resnext152_32x8d", 1 },
  { "resnext152v3", "resnext152_64x4d", 1 },
}

--- The settings of each, with their defaults.
resnet.defaults = {
  layout = "moco", head = "mlp", dim = 128, branches = { "instance", "group" }, projector = false, width = 64,
  stem = false, small = false, jigsaw = false,
}

--- {name = {check(name, settings), build(kind, settings)}}: the position of the trunk and the heads in the network.
resnet.layouts = {
  moco = {
    check = function(name, settings)
      if settings.jigsaw then caller.raise("%s: only layout 'infomin' has a head for jigsaw patches", name) end
      settings.layout, settings.jigsaw = nil, nil -- a description does not mention the default layout
    end,
    build = ResNet,
  },
}

-- Below this width a group of the 3x3 convolutions would have no channel.
local function least_width(kind)
  return kind.block == Bottleneck and (64 + kind.width_per_group - 1) // kind.width_per_group or 1
end

--- least_width(name) -> the smallest setting `width` of a ResNet of resnet.kinds or resnet.aliases.
function resnet.least_width(name)
  for _, alias in ipairs(resnet.aliases) do
    if alias[1] == name then return (resnet.least_width(alias[2]) + alias[3] - 1) // alias[3] end
  end
  for _, entry in ipairs(resnet.kinds) do
    if entry[1] == name then return least_width(entry[2]) end
  end
end

local function check_width(name, kind, width)
  if width >= least_width(kind) then return end
  caller.raise("%s: width %d leaves a group of the 3x3 convolutions no channel; the smallest width is %d", name, width,
    least_width(kind))
end

local function layout_of(name, settings)
  local layout = settings.layout == nil and "moco" or settings.layout
  local found = type(layout) == "string" and resnet.layouts[layout]
  if found then return found end
  caller.raise("%s: layout is %s; expected 'moco' or 'infomin'%s", name, caller.shown(layout),
    type(layout) == "string" and user_error.hint(layout, { "moco", "infomin" }) or "")
end

-- Checks the stem; one as wide as the first stage is the default.
local function check_stem(name, settings)
  if settings.stem then settings.stem = caller.integer(name, "stem", settings.stem) end
  if settings.stem == settings.width or not settings.stem then settings.stem = nil end
end

--- check(name, kind, settings) raises if a setting is wrong. Integers given as floats (64.0) become integers; without
-- heads the branches and their dimension are removed.
function resnet.check(name, kind, settings)
  settings.width = caller.integer(name, "width", settings.width)
  check_stem(name, settings)
  settings.dim = caller.integer(name, "dim", settings.dim)
  if type(settings.small) ~= "boolean" then
    caller.raise("%s: small must be true or false, got %s", name, caller.shown(settings.small))
  end
  check_width(name, kind, settings.width)
  heads.check(name, settings)
  layout_of(name, settings).check(name, settings)
  if not settings.head then settings.dim, settings.branches, settings.projector = nil, nil, nil end
end

--- net(images) -> the branches' features, or with head = false the pooled ones.
function resnet.build(kind, settings) return layout_of("resnet", settings).build(kind, settings) end

return resnet
