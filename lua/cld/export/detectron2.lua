--- What detectron2 needs besides a file of weights: its settings for the network, and the parts of the network that it
-- does not have. detectron2's ResNet begins with a 7x7 convolution of stride 2 and a max-pool; the widths of blocks are
-- settings.
local sorted_keys = require "cld.sorted_keys"

local detectron2 = {}

local defaults = { DEPTH = 50, NUM_GROUPS = 1, WIDTH_PER_GROUP = 64, STEM_OUT_CHANNELS = 64, RES2_OUT_CHANNELS = 256,
  STRIDE_IN_1X1 = "True" }

local function channels(found, name)
  for _, one in ipairs(found.tensors) do
    if one.name == name then return one.tensor.shape[1] end
  end
end

local function is_bottleneck(found) return channels(found, "layer1.0.conv3.weight") ~= nil end

-- "MODEL.RESNETS.DEPTH 18 ...": the settings that differ from detectron2's defaults.
local function resnet(found)
  local groups = tonumber(found.arch:match "_(%d+)x%d+d$") or 1
  local values = {
    DEPTH = tonumber(found.arch:match "(%d+)"), STEM_OUT_CHANNELS = found.stem, RES2_OUT_CHANNELS = found.width,
  }
  if is_bottleneck(found) then -- its stride is in the 3x3 convolution, as in torchvision
    values.RES2_OUT_CHANNELS = channels(found, "layer1.0.conv3.weight")
    values.NUM_GROUPS = groups
    values.WIDTH_PER_GROUP = channels(found, "layer1.0.conv1.weight") // groups
    values.STRIDE_IN_1X1 = "False"
  end
  local words = {}
  for _, name in ipairs(sorted_keys(values)) do
    if values[name] ~= defaults[name] then words[#words + 1] = ("MODEL.RESNETS.%s %s"):format(name, values[name]) end
  end
  return words
end

-- Converts means or deviations of RGB from the range 0 to 1 to pixels from 0 to 255.
local function pixels(list)
  return ("'[%.6g, %.6g, %.6g]'"):format(255 * list[1], 255 * list[2], 255 * list[3])
end

--- settings(found = what trunk.of returned, view = the test view or nil, file = the path, quoted) -> a line: names and
-- values as detectron2's train_net.py takes them after its options.
function detectron2.settings(found, view, file)
  local words = { "MODEL.WEIGHTS " .. file, "INPUT.FORMAT RGB" }
  if view then
    local mean, std = view:statistics()
    words[#words + 1] = ("MODEL.PIXEL_MEAN %s MODEL.PIXEL_STD %s"):format(pixels(mean), pixels(std))
  end
  table.move(resnet(found), 1, 99, #words + 1, words)
  return "detectron2's settings: " .. table.concat(words, " ")
    .. (view and "" or "; MODEL.PIXEL_MEAN and MODEL.PIXEL_STD as its training prepared images")
end

--- missing(found) -> lines: the parts of the network that detectron2's ResNet does not have; none if it fits.
function detectron2.missing(found)
  local lines = {}
  if found.small then
    lines[1] = "detectron2's ResNet begins with a 7x7 convolution of stride 2 and a max-pool, this network with a 3x3"
      .. " convolution of stride 1: detectron2 skips stem.conv1.weight, unless you register a backbone with such a stem"
  end
  if not is_bottleneck(found) and found.width ~= 64 then
    lines[#lines + 1] = ("detectron2's ResNet-18 and ResNet-34 have width 64, this network has %d: it needs a backbone"
      .. " that you register"):format(found.width)
  end
  return lines
end

return detectron2
