--- detectron2's names of a ResNet's trunk, in its own weights and in files that MoCo's
-- convert-pretrain-to-detectron2.py writes: stem.conv1, res2 .. res5, convN.norm and shortcut for torchvision's conv1,
-- layer1 .. layer4, bnN and downsample.
local detectron2 = {}

-- {torchvision's name of a module = detectron2's}: of the stem, and within a block.
local stem = { conv1 = "stem.conv1", bn1 = "stem.conv1.norm" }
local block = {
  conv1 = "conv1", bn1 = "conv1.norm", conv2 = "conv2", bn2 = "conv2.norm", conv3 = "conv3", bn3 = "conv3.norm",
  ["downsample.0"] = "shortcut", ["downsample.1"] = "shortcut.norm",
}

local function inverted(names)
  local inverse = {}
  for ours, theirs in pairs(names) do inverse[theirs] = ours end
  return inverse
end

local stem_of, block_of = inverted(stem), inverted(block)
stem_of["stem.bn1"] = "bn1" -- as some converters write it

-- "layer1.0.conv1", "weight" of "layer1.0.conv1.weight".
local function split(name) return name:match "^(.*)%.([^.]+)$" end

-- The torchvision name of a tensor of the trunk; nil for any other.
local function torchvision_name(name)
  local module, tensor = split(name)
  if not module then return nil end
  if stem_of[module] then return stem_of[module] .. "." .. tensor end
  local stage, at, own = module:match "^res([2-5])%.(%d+)%.(.+)$"
  return block_of[own] and ("layer%d.%s.%s.%s"):format(stage - 1, at, block_of[own], tensor)
end

--- name(torchvision's name of a tensor of the trunk) -> detectron2's; nil for any other.
function detectron2.name(name)
  local module, tensor = split(name)
  if not module then return nil end
  if stem[module] then return stem[module] .. "." .. tensor end
  local layer, at, own = module:match "^layer([1-4])%.(%d+)%.(.+)$"
  return block[own] and ("res%d.%s.%s.%s"):format(layer + 1, at, block[own], tensor)
end

--- translate(state) -> {name = tensor} with the trunk under torchvision's names and the rest as it was; nil if the
-- names are not detectron2's. The prefix of the trunk's names stays.
function detectron2.translate(state)
  local prefix
  for name in pairs(state) do
    local before = name:match "^(.*)stem%.conv1%.weight$"
    if before and state[before .. "res2.0.conv1.weight"] and (not prefix or before < prefix) then prefix = before end
  end
  if not prefix then return nil end
  local translated = {}
  for name, tensor in pairs(state) do
    local own = name:sub(1, #prefix) == prefix and torchvision_name(name:sub(#prefix + 1))
    translated[own and prefix .. own or name] = tensor
  end
  return translated
end

return detectron2
