--- Encoders: the ResNets of NPID and CLD, with an instance and a group branch.
--
--   local net = cld.models.resnet18 { stem = "cifar", low_dim = 128 }
--   local instance, group = net(images)                  -- images (N, 3, H, W), of any size
--
-- One class. The stem is CIFAR's or torchvision's, and with it goes how the convolutions are drawn; the four stages and
-- the heads are the same, and parameter names are those of the published CLD checkpoints whatever the stem.
local autograd = require "cld.core".autograd
local caller = require "cld.caller"
local nn = require "cld.nn"
local pipe = require "cld.nn.pipe"
local user_error = require "cld.user_error"

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

-- ---- the ResNet -------------------------------------------------------------

local ResNet = nn.module "resnet"

local function stage(Block, count, input, width, stride)
  local blocks = {}
  for i = 1, count do
    blocks[i] = Block(i == 1 and input or width * Block.expansion, width, i == 1 and stride or 1)
  end
  return nn.sequential(table.unpack(blocks))
end

-- What stands before the four stages, and how the convolutions are drawn.
local stems = {}

-- For small images: the maps keep their size. PyTorch's default initialisation, as in the published CIFAR code.
function stems.cifar(net, width)
  net.conv1 = nn.conv2d(3, width, 3, { padding = 1, bias = false })
  net.bn1 = nn.batch_norm2d(width)
  return function() end
end

-- torchvision's: the maps become a quarter as high and wide. Convolutions N(0, sqrt(2 / fan_out)), fan_out =
-- output channels * kernel area (He et al.'s initialisation, kaiming_normal_ of mode fan_out).
function stems.imagenet(net, width)
  net.conv1 = nn.conv2d(3, width, 7, { stride = 2, padding = 3, bias = false })
  net.bn1 = nn.batch_norm2d(width)
  net.maxpool = nn.max_pool2d(3, { stride = 2, padding = 1 })
  return function()
    local _ <close> = autograd.no_grad()
    for _, weight in ipairs(net:parameters()) do
      local shape = weight.shape
      if #shape == 4 then weight:normal_(0, math.sqrt(2 / (shape[1] * shape[3] * shape[4]))) end
    end
  end
end

function ResNet:build(Block, depths, options)
  local width, head = options.width, options.norm_linear and nn.norm_linear or nn.linear
  local features = 8 * width * Block.expansion
  local draw_convolutions = stems[options.stem](self, width)
  self.layer1 = stage(Block, depths[1], width, width, 1)
  self.layer2 = stage(Block, depths[2], width * Block.expansion, 2 * width, 2)
  self.layer3 = stage(Block, depths[3], 2 * width * Block.expansion, 4 * width, 2)
  self.layer4 = stage(Block, depths[4], 4 * width * Block.expansion, 8 * width, 2)
  self.linear = head(features, options.low_dim)
  self.groupDis = nn.sequential(head(features, options.low_dim), nn.normalize())
  self.pool_window = options.pool_window
  draw_convolutions()
end

-- The average over the whole map, or over the one window that fits.
local function pooled(maps, window)
  local height, width = maps.shape[3], maps.shape[4]
  local y = caller.call("avg_pool2d", nn.functional.avg_pool2d, maps, window or { height, width })
  if y.shape[3] * y.shape[4] ~= 1 then
    caller.raise("pool_window: %d x %d windows fit into the %d x %d maps; expected one", y.shape[3], y.shape[4], height,
      width)
  end
  return y:flatten(2, -1)
end

--- The pooled features (N, 8 * width * expansion) that a linear evaluation sees.
function ResNet:features(x)
  local stages = { self.conv1, { self.bn1, RELU } }
  if self.maxpool then stages[#stages + 1] = self.maxpool end
  for _, name in ipairs { "layer1", "layer2", "layer3", "layer4" } do stages[#stages + 1] = self[name] end
  local maps, mine = pipe.run(x, stages)
  local features = pooled(maps, self.pool_window)
  if mine then maps:close() end
  return features
end

--- Images (N, 3, H, W) -> the instance and the group features, (N, low_dim) each, rows of unit length.
function ResNet:forward(x)
  local features = self:features(x) -- small, and a head may hand it through: left to the collector
  return self.linear(features):normalize(), self.groupDis(features)
end

-- ---- by name ----------------------------------------------------------------

local function encoder(name, Block, depths, stem)
  name = "models." .. name
  return function(options)
    caller.check_fields(name, options, { "stem", "low_dim", "width", "norm_linear", "pool_window" })
    local settings = { stem = stem, low_dim = 128, width = 64, norm_linear = false, pool_window = false }
    for key, value in pairs(options or {}) do settings[key] = value end
    for _, key in ipairs { "low_dim", "width" } do settings[key] = caller.integer(name, key, settings[key]) end
    if not stems[settings.stem] then
      caller.raise("%s: stem is %s; expected 'cifar' or 'imagenet'", name, caller.shown(settings.stem))
    end
    return ResNet(Block, depths, settings)
  end
end

local kinds = {
  resnet18 = { BasicBlock, { 2, 2, 2, 2 } },
  resnet34 = { BasicBlock, { 3, 4, 6, 3 } },
  resnet50 = { Bottleneck, { 3, 4, 6, 3 } },
}

--- models.resnet18{stem = "imagenet", low_dim = 128, width = 64, norm_linear = false, pool_window}, resnet34, resnet50;
-- resnet18_cifar and so on are the same with the stem "cifar": four stages of width, 2, 4 and 8 times width; two heads.
-- stem: "imagenet" is a 7x7 convolution of stride 2 and a 3x3 max-pool of stride 2; "cifar" a 3x3 one of stride 1.
-- `norm_linear` makes the heads NormLinear layers. The maps are pooled as a whole, or with pool_window (an integer or
-- {height, width}) over the one window of this size that fits, which is the top-left corner: the published code pools 7
-- of the 12 rows and columns that 96-pixel images come to.
for name, kind in pairs(kinds) do
  models[name] = encoder(name, kind[1], kind[2], "imagenet")
  models[name .. "_cifar"] = encoder(name .. "_cifar", kind[1], kind[2], "cifar")
end

-- The published window, for maps that it fits into once.
local function corner(size, stem)
  local reduction = stem == "imagenet" and 32 or 8
  local side = (size + reduction - 1) // reduction
  if side < 7 or side >= 14 then
    user_error.raise("option '--pool': corner is 7 x 7 of maps of 7 to 13 rows; %d pixels make %d with the stem %s,"
      .. " --size %d to %d would do", size, side, stem, 6 * reduction + 1, 13 * reduction)
  end
  return 7
end

--- from_options(opt): the encoder that a recipe's options ask for: arch, width, low_dim and norm_linear, of
-- cld.options.encoder; and where declared (cld.options.images) size, stem and pool. Without them the stem is CIFAR's.
function models.from_options(opt)
  local stem = rawget(opt, "stem") or "cifar"
  if stem == "auto" then stem = opt.size < 128 and "cifar" or "imagenet" end
  return models[opt.arch] {
    stem = stem, low_dim = opt.low_dim, width = opt.width, norm_linear = opt.norm_linear,
    pool_window = rawget(opt, "pool") == "corner" and corner(opt.size, stem) or nil,
  }
end

return models
