--- Recognizes the ResNet of a state dict's trunk from the shapes of its tensors.
local architecture = {}

-- ResNets by their blocks: {basic, bottleneck}.
local depths = {
  ["2,2,2,2"] = { 18 }, ["3,4,6,3"] = { 34, 50 }, ["3,4,23,3"] = { false, 101 }, ["3,8,36,3"] = { false, 152 },
}

-- How many blocks each layer has, up to the first missing one.
local function count_blocks(state, prefix)
  local counts = {}
  for layer = 1, 4 do
    local count = 0
    while state[("%slayer%d.%d.conv1.weight"):format(prefix, layer, count)] do count = count + 1 end
    counts[layer] = count
  end
  return counts
end

-- The first block that is missing in a layer, up to the layer's last block in the names, as the name of its first
-- tensor; nil if none is missing.
local function first_missing(state, prefix)
  local last = {}
  for name in pairs(state) do
    local layer, block = name:match("^layer([1-4])%.(%d+)%.", #prefix + 1)
    if layer and name:sub(1, #prefix) == prefix then
      layer, block = tonumber(layer), tonumber(block)
      last[layer] = math.max(last[layer] or 0, block)
    end
  end
  for layer = 1, 4 do
    for block = 0, last[layer] or 0 do
      local name = ("layer%d.%d.conv1.weight"):format(layer, block)
      if not state[prefix .. name] then return name end
    end
  end
end

-- Whether some block has a third convolution.
local function has_bottlenecks(state, prefix)
  for name in pairs(state) do
    local own = name:sub(1, #prefix) == prefix and name:sub(#prefix + 1) or ""
    if own:find "^layer[1-4]%.%d+%.conv3%.weight$" then return true end
  end
  return false
end

-- "resnet50", "wide_resnet50_2", "resnext50_32x4d". A block's inner width: groups * int(planes * width_per_group / 64).
local function name_of(depth, groups, width_per_group)
  if groups > 1 then return ("resnext%d_%dx%dd"):format(depth, groups, width_per_group) end
  if width_per_group == 64 then return ("resnet%d"):format(depth) end
  if width_per_group == 128 then return ("wide_resnet%d_2"):format(depth) end
end

local function is_4d(tensor) return tensor and #tensor.shape == 4 end

-- The trunk's names in the state dict.
local function list_names(state, prefix)
  local names = {}
  for name in pairs(state) do
    local own = name:sub(1, #prefix) == prefix and name:sub(#prefix + 1) or ""
    if own:find "^conv1%.weight$" or own:find "^bn1%." or own:find "^layer[1-4]%.%d+%." then names[#names + 1] = own end
  end
  table.sort(names)
  return names
end

-- The number of groups and their width, from the first block's second convolution; nil and why if its shape is wrong.
local function read_groups(state, prefix, planes)
  local weight = state[prefix .. "layer1.0.conv2.weight"]
  if not is_4d(weight) then return nil, "its layer1.0.conv2.weight is missing" end
  local inner, per_group = weight.shape[1], weight.shape[2]
  if per_group == 0 or planes == 0 or inner % per_group ~= 0 then
    return nil, "its layer1.0.conv2.weight is of no block's shape"
  end
  return inner // per_group, 64 * per_group // planes
end

--- read(state, prefix) -> {arch, width, stem, small, is_cifar, names}, or nil and why. width: the planes of the first
-- layer, 64 as published; stem: the first convolution's channels, if not `width`; small: it has a 3x3 stem; is_cifar:
-- it has the published CIFAR code's names; names: those of the trunk's tensors that the state dict has.
function architecture.read(state, prefix)
  local stem = state[prefix .. "conv1.weight"]
  if not is_4d(stem) then return nil, "its conv1.weight has no 4 dimensions" end
  if stem.shape[2] ~= 3 then
    return nil, ("its first convolution takes %d channels; images have 3"):format(stem.shape[2])
  end
  local missing = first_missing(state, prefix)
  if missing then return nil, ("its %s is missing"):format(missing) end
  local is_bottleneck = has_bottlenecks(state, prefix)
  local name = is_bottleneck and "layer1.0.conv3.weight" or "layer1.0.conv1.weight"
  local widest = state[prefix .. name]
  if not is_4d(widest) then return nil, ("its %s %s"):format(name, widest and "has no 4 dimensions" or "is missing") end
  local blocks = table.concat(count_blocks(state, prefix), ",")
  local depth = depths[blocks] and depths[blocks][is_bottleneck and 2 or 1]
  if not depth then return nil, ("a ResNet with %s blocks is none of those known"):format(blocks) end
  local planes = is_bottleneck and widest.shape[1] // 4 or widest.shape[1]
  local groups, width_per_group = 1, 64
  if is_bottleneck then groups, width_per_group = read_groups(state, prefix, planes) end
  if not groups then return nil, width_per_group end
  local arch = name_of(depth, groups, width_per_group)
  if not arch then
    local unknown = "a ResNet-%d whose blocks have %d / 64 of the width is none of those known"
    return nil, unknown:format(depth, width_per_group)
  end
  return {
    arch = arch, width = planes, stem = stem.shape[1] ~= planes and stem.shape[1] or nil,
    small = stem.shape[3] == 3, names = list_names(state, prefix),
    is_cifar = state[prefix .. "layer2.0.shortcut.0.weight"] ~= nil,
  }
end

return architecture
