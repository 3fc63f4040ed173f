--- detectron2's names of a ResNet's trunk, which are those of its own weights and of what MoCo's
-- convert-pretrain-to-detectron2.py writes: stem.conv1, res2 .. res5, convN.norm and shortcut for torchvision's conv1,
-- layer1 .. layer4, bnN and downsample.
local detectron2 = {}

-- The torchvision name of a tensor of the trunk; nil of any other.
local function torchvision_name(name)
  name = name:gsub("%.conv(%d)%.norm%.", ".bn%1.")
  local stem = name:match "^stem%.(conv1%.weight)$" or name:match "^stem%.(bn1%..*)$"
  if stem then return stem end
  local layer, block = name:match "^res([2-5])(%.%d+%..*)$"
  if not layer then return nil end
  block = block:gsub("%.shortcut%.norm%.", ".downsample.1."):gsub("%.shortcut%.", ".downsample.0.")
  return ("layer%d%s"):format(layer - 1, block)
end

--- translate(state) -> {name = tensor} with the trunk under torchvision's names and the rest as it was; nil if the
-- names are not detectron2's. What stands in front of the trunk's names stays.
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
