--- The trunk of a network, under torchvision's names, whatever surrounds it. load_published fills it and
-- cld.models.export writes it.
--
--   local found, why = trunk.of(net)
--   print(found.arch, found.width, found.small)       -- resnet18   16   true
--   for _, one in ipairs(found.tensors) do print(one.name, one.tensor) end     -- layer2.0.downsample.0.weight  ...
local architecture = require "cld.models.architecture"
local modules = require "cld.nn.module"
local resnet = require "cld.models.resnet"

local trunk = {}

local function is_trunk(module)
  local class = modules.members_of(module).class
  while class do
    if class == resnet.trunk then return true end
    class = (getmetatable(class) or {}).__index
  end
  return false
end

-- The outermost trunk in the network, and where it is: "", or "encoder.".
local function find(net)
  for path, module in net:named_modules() do
    if is_trunk(module) then return module, path == "" and "" or path .. "." end
  end
end

--- torchvision_name(name of a tensor in a trunk of ours) -> torchvision's: the published CIFAR code calls a block's
-- `downsample` `shortcut`. Nil for other tensors.
function trunk.torchvision_name(name)
  if not (name:find "^conv1%.weight$" or name:find "^bn1%." or name:find "^layer[1-4]%.%d+%.") then return nil end
  return (name:gsub("^(layer%d%.%d+%.)shortcut%.", "%1downsample."))
end

--- of(net) -> {prefix = of the trunk's names in net, tensors = {{name = torchvision's, own = net's, tensor}, ...} in
-- PyTorch's order, arch, width, stem = the first convolution's channels, small = a 3x3 stem, window = {height, width}
-- that is pooled if not the whole map, features}; or nil and why there is none.
function trunk.of(net)
  local module, prefix = find(net)
  if not module then return nil, "the network has no ResNet's trunk (one that cld.models makes)" end
  local tensors, state = {}, {}
  for _, entry in ipairs(module:state_list()) do
    local name = trunk.torchvision_name(entry[1])
    if name then
      tensors[#tensors + 1] = { name = name, own = prefix .. entry[1], tensor = entry[2] }
      state[name] = entry[2]
    end
  end
  local shape, why = architecture.read(state, "")
  if not shape then return nil, why end
  local window = module.pool_window
  if math.type(window) then window = { window, window } end
  return {
    prefix = prefix, tensors = tensors, arch = shape.arch, width = shape.width, stem = shape.stem or shape.width,
    small = shape.small, window = window or nil, features = module.feature_width,
  }
end

--- as_torchvision(state = {name = tensor} of a network that published.recognise has found) -> the trunk's tensors under
-- torchvision's names, and the names of the rest.
function trunk.as_torchvision(state)
  local own, rest = {}, {}
  for name, tensor in pairs(state) do
    local plain = trunk.torchvision_name(name:gsub("^encoder%.", ""))
    if plain then own[plain] = tensor else rest[#rest + 1] = name end
  end
  table.sort(rest)
  return own, rest
end

--- text(found): "resnet18, width 16, a 3x3 stem".
function trunk.text(found)
  local words = { found.arch }
  if found.width ~= 64 then words[#words + 1] = "width " .. found.width end
  if found.stem ~= found.width then words[#words + 1] = ("stem of %d channels"):format(found.stem) end
  if found.small then words[#words + 1] = "a 3x3 stem" end
  return table.concat(words, ", ")
end

return trunk
