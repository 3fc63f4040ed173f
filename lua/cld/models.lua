--- Encoders: the CIFAR ResNets of NPID and CLD, with an instance and a group branch.
local caller = require "cld.caller"
local nn = require "cld.nn"
local pipe = require "cld.nn.pipe"

local models = {}

-- ---- residual blocks --------------------------------------------------------

-- The identity, or a 1x1 convolution and its norm where the shape changes.
local function shortcut(input, output, stride)
  if stride == 1 and input == output then return nn.sequential() end
  return nn.sequential(nn.conv2d(input, output, 1, { stride = stride, bias = false }), nn.batch_norm2d(output))
end

local RELU = { relu = true }

-- relu(norm(y) + shortcut(x)), where norm, addition and relu are one pass over memory. y is what the stages make of x.
local function residual(x, stages, norm, through)
  local y, y_mine = pipe.run(x, stages)
  local r, r_mine = pipe.run(x, { through })
  local out = norm(y, { relu = true, residual = r })
  if pipe.is_transient(norm) then
    if y_mine and not rawequal(y, out) then y:close() end
    if r_mine and not rawequal(r, out) then r:close() end
  end
  return out
end

local BasicBlock = nn.module "basic_block"
BasicBlock.expansion = 1

function BasicBlock:build(input, width, stride)
  self.conv1 = nn.conv2d(input, width, 3, { stride = stride, padding = 1, bias = false })
  self.bn1 = nn.batch_norm2d(width)
  self.conv2 = nn.conv2d(width, width, 3, { padding = 1, bias = false })
  self.bn2 = nn.batch_norm2d(width)
  self.shortcut = shortcut(input, width, stride)
end

function BasicBlock:forward(x)
  return residual(x, { self.conv1, { self.bn1, RELU }, self.conv2 }, self.bn2, self.shortcut)
end

nn.transient(BasicBlock)

local Bottleneck = nn.module "bottleneck"
Bottleneck.expansion = 4

function Bottleneck:build(input, width, stride)
  local output = width * Bottleneck.expansion
  self.conv1 = nn.conv2d(input, width, 1, { bias = false })
  self.bn1 = nn.batch_norm2d(width)
  self.conv2 = nn.conv2d(width, width, 3, { stride = stride, padding = 1, bias = false })
  self.bn2 = nn.batch_norm2d(width)
  self.conv3 = nn.conv2d(width, output, 1, { bias = false })
  self.bn3 = nn.batch_norm2d(output)
  self.shortcut = shortcut(input, output, stride)
end

function Bottleneck:forward(x)
  local stages = { self.conv1, { self.bn1, RELU }, self.conv2, { self.bn2, RELU }, self.conv3 }
  return residual(x, stages, self.bn3, self.shortcut)
end

nn.transient(Bottleneck)

-- ---- the CIFAR ResNet -------------------------------------------------------

local ResNetCifar = nn.module "resnet_cifar"

local function stage(Block, count, input, width, stride)
  local blocks = {}
  for i = 1, count do
    blocks[i] = Block(i == 1 and input or width * Block.expansion, width, i == 1 and stride or 1)
  end
  return nn.sequential(table.unpack(blocks))
end

function ResNetCifar:build(Block, depths, options)
  local width, head = options.width, options.norm_linear and nn.norm_linear or nn.linear
  local features = 8 * width * Block.expansion
  self.conv1 = nn.conv2d(3, width, 3, { padding = 1, bias = false })
  self.bn1 = nn.batch_norm2d(width)
  self.layer1 = stage(Block, depths[1], width, width, 1)
  self.layer2 = stage(Block, depths[2], width * Block.expansion, 2 * width, 2)
  self.layer3 = stage(Block, depths[3], 2 * width * Block.expansion, 4 * width, 2)
  self.layer4 = stage(Block, depths[4], 4 * width * Block.expansion, 8 * width, 2)
  self.linear = head(features, options.low_dim)
  self.groupDis = nn.sequential(head(features, options.low_dim), nn.normalize())
  self.pool_window = options.pool_window
end

-- The published code pools the 12 x 12 maps of 96-pixel images by windows of 7, of which one fits.
local function pooled_extent(extent) return extent == 12 and 7 or extent end

--- The pooled features (N, 8 * width * expansion) that a linear evaluation sees.
function ResNetCifar:features(x)
  local maps, mine = pipe.run(x, {
    self.conv1, { self.bn1, RELU }, self.layer1, self.layer2, self.layer3, self.layer4,
  })
  local window = self.pool_window or { pooled_extent(maps.shape[3]), pooled_extent(maps.shape[4]) }
  local pooled = caller.call("avg_pool2d", nn.functional.avg_pool2d, maps, window)
  if mine then maps:close() end
  return pooled:flatten(2, -1)
end

--- Images (N, 3, H, W) -> the instance and the group features, (N, low_dim) each, rows of unit length.
function ResNetCifar:forward(x)
  local pooled = self:features(x) -- small, and a head may hand it through: left to the collector
  return self.linear(pooled):normalize(), self.groupDis(pooled)
end

local function cifar(name, Block, depths)
  name = "models." .. name
  return function(options)
    caller.check_fields(name, options, { "low_dim", "width", "norm_linear", "pool_window" })
    local settings = { low_dim = 128, width = 64, norm_linear = false, pool_window = false }
    for key, value in pairs(options or {}) do settings[key] = value end
    for _, key in ipairs { "low_dim", "width" } do settings[key] = caller.integer(name, key, settings[key]) end
    return ResNetCifar(Block, depths, settings)
  end
end

--- models.resnet18_cifar{low_dim = 128, width = 64, norm_linear = false, pool_window}: 3x3 stride-1 stem, no max-pool,
-- four stages of width, 2, 4 and 8 times width; two heads. `norm_linear` makes the heads NormLinear layers.
-- pool_window: average pooling over windows of this size; else over the whole map, of 96-pixel images over 7 x 7.
-- Parameter names are those of the published CLD checkpoints.
models.resnet18_cifar = cifar("resnet18_cifar", BasicBlock, { 2, 2, 2, 2 })
models.resnet34_cifar = cifar("resnet34_cifar", BasicBlock, { 3, 4, 6, 3 })
models.resnet50_cifar = cifar("resnet50_cifar", Bottleneck, { 3, 4, 6, 3 })

return models
