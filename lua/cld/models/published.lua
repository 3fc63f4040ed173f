--- Published weights: recognizes the network in a file's value, whoever wrote it.
--
--   local found, why = published.recognise((cld.load "moco_v2_200ep_pretrain.pth.tar"))
--   print(found.layout, found.arch)                   -- MoCo v2   resnet50
--   local net = cld.models[found.constructor](found.settings)
--   net:load_state_dict(found.state)
--
-- A state dict is recognized by its trunk: names with a common prefix that continue like torchvision's (conv1.weight,
-- layer1.0.conv1.weight), or like detectron2's (models/detectron2.lua). The heads next to it and the structure of the
-- file show whose it is. The architecture is read from the tensors' shapes, never from what the file says.
local core = require "cld.core"
local architecture = require "cld.models.architecture"
local detectron2 = require "cld.models.detectron2"
local sorted_keys = require "cld.sorted_keys"

local published = {}

local is_tensor = core.tensor.is_tensor
local IMAGENET = { size = 224, mean = { 0.485, 0.456, 0.406 }, std = { 0.229, 0.224, 0.225 }, kind = "imagenet" }
local CIFAR = { size = 32, mean = { 0.4914, 0.4822, 0.4465 }, std = { 0.2023, 0.1994, 0.2010 }, kind = "cifar" }

-- ---- state dicts --------------------------------------------------------------------

-- The tensors of a module that was pickled as a whole, by the names of its state_dict.
local function flatten(record, prefix, state, depth)
  local fields = type(record) == "table" and record.state
  if type(fields) ~= "table" or depth > 32 then return state end
  for _, kind in ipairs { "_parameters", "_buffers" } do
    for name, value in pairs(type(fields[kind]) == "table" and fields[kind] or {}) do
      if is_tensor(value) then state[prefix .. tostring(name)] = value end
    end
  end
  for name, child in pairs(type(fields._modules) == "table" and fields._modules or {}) do
    flatten(child, prefix .. tostring(name) .. ".", state, depth + 1)
  end
  return state
end

-- {name = tensor} of a table or of a pickled module; nil for anything else.
local function state_of(value)
  if type(value) ~= "table" then return nil end
  if getmetatable(value) == core.io.record then value = flatten(value, "", {}, 0) end
  local state = {}
  for name, tensor in pairs(value) do
    if type(name) == "string" and is_tensor(tensor) then state[name] = tensor end
  end
  return next(state) and state
end

-- Whether the name is that of a moving average of another network, whose weights are used only if there are no others.
local function is_average(name)
  for _, word in ipairs { "encoder_k", "ema", "momentum", "teacher", "target" } do
    if name:find(word, 1, true) then return true end
  end
  return false
end

-- The prefix of the trunk's names: "module.encoder_q.", or "".
local function trunk_prefix(state)
  local best
  for name in pairs(state) do
    local prefix = name:match "^(.*)conv1%.weight$"
    if prefix and (prefix == "" or prefix:sub(-1) == ".") and state[prefix .. "layer1.0.conv1.weight"] then
      local function rank(p) return (is_average(p) and "2" or "1") .. ("%03d"):format(#p) .. p end
      if not best or rank(prefix) < rank(best) then best = prefix end
    end
  end
  return best
end

-- The state dict in the file, its place there ("" is the whole file), the prefix of its trunk, and whether its names
-- were detectron2's.
local function find_state(value)
  local places = { "state_dict", "model", "net" }
  local known = { state_dict = true, model = true, net = true }
  for _, average in ipairs { false, true } do
    local others = {}
    for key in pairs(type(value) == "table" and value or {}) do
      if type(key) == "string" and not known[key] and is_average(key) == average then others[#others + 1] = key end
    end
    table.sort(others)
    if not average then others[#others + 1] = "" end
    table.move(others, 1, #others, #places + 1, places)
  end
  for _, place in ipairs(places) do
    local state = state_of(place == "" and value or type(value) == "table" and value[place] or nil)
    local translated = state and detectron2.translate(state)
    local prefix = state and trunk_prefix(translated or state)
    if prefix then return translated or state, place, prefix, translated ~= nil end
  end
end

-- ---- heads --------------------------------------------------------------------------

-- A linear layer's kind and outputs: NormLinear has no bias, and its weight is (in, out).
local function linear(state, name)
  local weight, bias = state[name .. ".weight"], state[name .. ".bias"]
  if not weight or #weight.shape ~= 2 then return nil end
  return { norm = not bias, dim = weight.shape[bias and 1 or 2] }
end

-- {name = name}: for layers whose names are the same as ours.
local function same(names)
  local layers = {}
  for _, name in ipairs(names) do layers[name] = name end
  return layers
end

-- The name in each layout of every layer of our heads (cld.models), and which layer is the last. Heads next to the
-- trunk belong to our layout "infomin".
local heads = {
  { name = "MoCo v2 + CLD", branches = { "instance", "group" }, head = "mlp", last = "instDis",
    layers = { ["fc.0"] = "fc.0", instDis = "instDis", groupDis = "groupDis" } },
  { name = "MoCo v2 + CLD", branches = { "instance", "group" }, head = "linear", last = "fc",
    layers = { fc = "fc", groupDis = "groupDis" } },
  { name = "MoCo v2", branches = { "instance" }, head = "mlp", last = "fc.2",
    layers = { ["fc.0"] = "fc.0", ["fc.2"] = "fc.2" } },
  { name = "MoCo v1", momentum = true, branches = { "instance" }, head = "linear", last = "fc",
    layers = { fc = "fc" } },
  { name = "InfoMin + CLD", beside = true, branches = { "instance", "group" }, head = "mlp", last = "proj1.0",
    layers = same { "head.0", "proj1.0", "proj2.0" } },
  { name = "InfoMin + CLD", beside = true, branches = { "instance", "group" }, head = "linear", last = "proj1.0",
    layers = same { "proj1.0", "proj2.0" } },
  { name = "PyContrast", beside = true, branches = { "instance" }, head = "mlp", last = "head.2",
    layers = same { "head.0", "head.2" } },
  { name = "PyContrast", beside = true, branches = { "instance" }, head = "linear", last = "head.0",
    layers = same { "head.0" } },
}

-- The head for jigsaw patches, which the last four may have too.
local jigsaw_layers = {
  mlp = { "head_jig.fc1.0", "head_jig.fc1.2", "head_jig.fc2" }, linear = { "head_jig.fc1", "head_jig.fc2" },
}

local function has_jigsaw(state, at, head)
  for _, layer in ipairs(jigsaw_layers[head]) do
    if not linear(state, at .. layer) then return false end
  end
  return true
end

-- The first layout whose layers all exist. MoCo's follow the trunk's prefix; InfoMin's and PyContrast's are next to
-- the trunk ("module.encoder.conv1" and "module.head.0"). A lone `fc` is a classifier unless MoCo wrote it.
local function find_heads(state, prefix)
  local outer = prefix:match "^(.*)encoder%.$"
  for _, layout in ipairs(heads) do
    local at = layout.beside and outer or not layout.beside and prefix
    local whole = at and (not layout.momentum or prefix:find("encoder_q.", 1, true))
    for _, theirs in pairs(layout.layers) do whole = whole and linear(state, at .. theirs) end
    if whole then return layout, at end
  end
end

-- ---- the network --------------------------------------------------------------------

-- The part of a name by which left-out tensors are counted: up to its first dot after "module." and the trunk's
-- prefix.
local function group_of(name, prefix)
  local at = name:sub(1, #prefix) == prefix and #prefix or name:sub(1, 7) == "module." and 7 or 0
  return name:match("^[^.]*%.?", at + 1), name:sub(1, at)
end

local function count_left_out(found, value, state, place, prefix, taken)
  local left_out = {}
  for name in pairs(state) do
    if not taken[name] then
      local group, before = group_of(name, prefix)
      left_out[before .. group] = (left_out[before .. group] or 0) + 1
    end
  end
  if place ~= "" then
    for key, part in pairs(value) do
      if key ~= place and type(key) == "string" and type(part) == "table" then
        local tensors = 0
        for _ in pairs(state_of(part) or {}) do tensors = tensors + 1 end
        left_out[key] = math.max(tensors, 1)
      end
    end
  end
  found.left_out = left_out
end

-- The queue of keys, one per row, and the row to be written next, if the file has it.
local function find_queue(value, state)
  local queue, pointer = state["module.queue"] or state.queue, state["module.queue_ptr"] or state.queue_ptr
  if queue and #queue.shape == 2 then
    return { keys = queue:t(), pointer = pointer and pointer:numel() == 1 and pointer:item() or nil }
  end
  local memory = type(value.contrast) == "table" and value.contrast.memory
  if is_tensor(memory) and #memory.shape == 2 then return { keys = memory } end
end

-- Top-1 accuracy of linear evaluation, in percent, as the papers give it for a ResNet-50 after so many epochs. MoCo's
-- are also in the README of facebookresearch/moco: 60.6, 67.7 and 71.1 for the three files that it offers, and 67.5 as
-- the mean of five trainings of MoCo v2 over 200 epochs.
local accuracies = {
  ["MoCo v1"] = { linear = { [200] = 60.6 } },
  ["MoCo v2"] = { mlp = { [200] = 67.5, [800] = 71.1 } },
  ["MoCo v2 + CLD"] = { mlp = { [200] = 69.2 }, norm_mlp = { [200] = 70.0 } },
  ["InfoMin + CLD"] = { mlp = { [100] = 69.5, [200] = 70.6 }, norm_mlp = { [100] = 70.1, [200] = 71.5 } },
}

local function accuracy(found)
  local by_head = accuracies[found.layout]
  local by_epoch = by_head and by_head[found.settings.head]
  return found.arch == "resnet50" and found.settings.width == 64 and by_epoch and by_epoch[found.epoch] or nil
end

-- Restores the integer type of a counter of batches: it is a float if the whole state dict was averaged or cast to f16.
local function whole(name, tensor)
  return name:find "num_batches_tracked$" and tensor.dtype:find "^b?f" and tensor:to "i64" or tensor
end

local function take(found, state, from, to, taken)
  if state[from] then
    found.state[to] = whole(to, state[from])
    taken[from] = true
  end
end

-- The encoders of the published CIFAR code: `shortcut` in place of `downsample`, heads called linear and groupDis.0.
local function describe_cifar(found, value, state, prefix, shape, taken)
  local head = linear(state, prefix .. "linear")
  local queued = type(value.contrast) == "table" or value.model_ema ~= nil
  local grouped = state[prefix .. "groupDis.0.weight"]
  found.layout = "CIFAR " .. (queued and "MoCo" or "NPID") .. (grouped and " + CLD" or "")
  found.constructor = shape.arch .. "_cifar"
  found.settings = {
    stem = shape.small and "cifar" or "imagenet", width = shape.width, low_dim = head and head.dim or nil,
    norm_linear = head and head.norm or false,
  }
  for _, layer in ipairs { "linear", "groupDis.0" } do
    for _, part in ipairs { ".weight", ".bias" } do
      take(found, state, prefix .. layer .. part, layer .. part, taken)
    end
  end
end

-- Takes the layers of a layout, {our name = its name}.
local function take_layers(found, state, at, layers, taken)
  for ours, theirs in pairs(layers) do
    for _, part in ipairs { ".weight", ".bias" } do take(found, state, at .. theirs .. part, ours .. part, taken) end
  end
end

-- Makes the found network one of our layout "infomin": the trunk's names begin with "encoder.".
local function as_infomin(found, state, at, head, taken)
  local trunk = found.state
  found.state = {}
  for name, tensor in pairs(trunk) do found.state["encoder." .. name] = tensor end
  found.settings.layout = "infomin"
  if not has_jigsaw(state, at, head) then return end
  found.settings.jigsaw = true
  take_layers(found, state, at, same(jigsaw_layers[head]), taken)
end

local function describe_imagenet(found, state, prefix, shape, taken)
  local layout, at = find_heads(state, prefix)
  found.layout = layout and layout.name
    or prefix:find "encoder_q%.$" and "MoCo" or prefix:find "encoder1?%.$" and "PyContrast"
    or prefix == "" and linear(state, "fc") and "torchvision" or "state dict"
  found.constructor = shape.arch
  found.settings = { head = false, width = shape.width, stem = shape.stem, small = shape.small }
  if not layout then return end
  local last = linear(state, at .. layout.layers[layout.last])
  found.settings.head = (last.norm and "norm_" or "") .. layout.head
  found.settings.dim = last.dim
  found.settings.branches = table.move(layout.branches, 1, #layout.branches, 1, {})
  if layout.beside then as_infomin(found, state, at, layout.head, taken) end
  take_layers(found, state, at, layout.layers, taken)
end

local function copy_view(view)
  return { size = view.size, mean = { table.unpack(view.mean) }, std = { table.unpack(view.std) }, kind = view.kind }
end

-- ", and its tensors are backbone.0.weight and 121 more": from the first place that has tensors; "" if none has.
local function names_in(value)
  for _, place in ipairs { "state_dict", "model", "net", "" } do
    local state = state_of(place == "" and value or type(value) == "table" and value[place] or nil)
    if state then
      local names = sorted_keys(state)
      local more = #names > 1 and (" and %d more"):format(#names - 1) or ""
      return (", and its tensors are %s%s"):format(names[1], more)
    end
  end
  return ""
end

-- Contrastive Multiview Coding (Tian et al., ECCV 2020) on Lab images: encoder1 takes L, encoder2 takes a and b.
local function is_cmc(state, prefix)
  local outer = prefix:match "^(.*)encoder1%.$"
  if not outer then return false end
  local light, colour = state[prefix .. "conv1.weight"], state[outer .. "encoder2.conv1.weight"]
  return #light.shape == 4 and light.shape[2] == 1 and colour ~= nil and #colour.shape == 4 and colour.shape[2] == 2
end

--- recognise(value), with the value that cld.load returned for a file -> a table, or nil and why:
--   layout       "MoCo v2 + CLD", "InfoMin + CLD", "CIFAR NPID + CLD", "CIFAR MoCo + CLD" and these without CLD,
--                "MoCo v1", "MoCo v2", "PyContrast", "torchvision", "detectron2", "state dict"
--   arch         "resnet50"; constructor and settings: cld.models[constructor](settings) is the network
--   state        {name = tensor} as that network's state_dict names them. Heads that the network does not have are left
--                out, and so is a classifier.
--   left_out     {prefix or part of the file = how many of its tensors}
--   epoch        as the file says, or nil
--   queue        {keys = (entries, dim), pointer = the row to be written next}, or nil
--   view         {size, mean, std, kind = "imagenet" | "cifar"}: the preparation of images that it was trained with
--   published    top-1 of linear evaluation in percent that the paper gives for such a file, or nil
function published.recognise(value)
  local state, place, prefix, is_detectron2 = find_state(value)
  if not state then
    return nil, "it holds no ResNet: no names like conv1.weight and layer1.0.conv1.weight" .. names_in(value)
  end
  if is_cmc(state, prefix) then
    return nil, "it holds the two networks of CMC, one of an image's lightness and one of its two colours in Lab; the"
      .. " networks here take RGB"
  end
  local shape, why = architecture.read(state, prefix)
  if not shape then return nil, why end
  local found = { arch = shape.arch, state = {}, epoch = type(value.epoch) == "number" and value.epoch or nil }
  local taken = {}
  for _, name in ipairs(shape.names) do take(found, state, prefix .. name, name, taken) end
  if shape.is_cifar then
    describe_cifar(found, value, state, prefix, shape, taken)
  else
    describe_imagenet(found, state, prefix, shape, taken)
    if is_detectron2 then found.layout = "detectron2" end
  end
  found.view = copy_view(shape.small and CIFAR or IMAGENET)
  found.queue = find_queue(value, state)
  found.published = accuracy(found)
  count_left_out(found, value, state, place, prefix, taken)
  return found
end

return published
