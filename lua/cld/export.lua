--- Networks as files for other programs: cld.models.export, and recipes/export.lua.
--
--   cld.models.export(net, "resnet18.pth")                              -- torchvision's names
--   cld.models.export(net, "net.onnx", { layer = "instance" })         -- .onnx, .pkl, .safetensors, .npy: that format
--
-- | format | what is written | read by |
-- |---|---|---|
-- | torchvision | the trunk by torchvision's names, a .pth | `m.load_state_dict(torch.load(path, weights_only=True))` |
-- | pth | all tensors by our names, a .pth | `torch.load(path, weights_only=True)` |
-- | detectron2 | the trunk by detectron2's names, a .pkl | `MODEL.WEIGHTS` of detectron2 |
-- | onnx | the network as a graph, `images` to `features` | onnxruntime and others |
-- | npy | a folder of NAME.npy, the trunk by torchvision's names | `numpy.load` |
-- | safetensors | the trunk by torchvision's names | `safetensors.torch.load_file(path)` |
--
-- For a classifier's encoder (fine-tuning), the classification layer is written as torchvision's `fc`. All formats but
-- onnx hold only weights: export/usage.lua says which torchvision model they fit.
local caller = require "cld.caller"
local core = require "cld.core"
local detectron2 = require "cld.models.detectron2"
local modules = require "cld.nn.module"
local trunk = require "cld.models.trunk"
local user_error = require "cld.user_error"

local export = {}

-- ---- which tensors, under which names -------------------------------------------------

-- The classification layer on the pooled features, as in torchvision, or nil.
function export.classes(net)
  if net._name ~= "classifier" or net.layer ~= "features" then return nil end
  return net.fc
end

local function trunk_of(net, format)
  local found, why = trunk.of(net)
  if found then return found end
  user_error.raise("format %s: %s; formats pth and onnx, and safetensors and npy with names 'own', write any network",
    format, why)
end

-- {{torchvision's name, tensor}, ...}
local function by_torchvision(net, format)
  local list = {}
  for i, one in ipairs(trunk_of(net, format).tensors) do list[i] = { one.name, one.tensor } end
  local fc = export.classes(net)
  for _, entry in ipairs(fc and fc:state_list() or {}) do list[#list + 1] = { "fc." .. entry[1], entry[2] } end
  return list
end

local function by_detectron2(net)
  local list = {}
  for _, one in ipairs(trunk_of(net, "detectron2").tensors) do
    local name = detectron2.name(one.name)
    list[#list + 1] = { name, one.tensor }
  end
  return list
end

local function by_option(net, options, format)
  return options.names == "own" and net:state_list() or by_torchvision(net, format)
end

-- ---- folders of .npy -------------------------------------------------------------------

local function remove_folder(path)
  for _, name in ipairs(core.io.exists(path) and core.io.list(path) or {}) do os.remove(path .. "/" .. name) end
  os.remove(path)
end

-- Writes the folder next to the path and renames it, so that a partial folder never has that name.
local function write_folder(path, list)
  path = path:gsub("(.)/+$", "%1")
  local parent = path:match "^(.*)/[^/]*$"
  if parent and parent ~= "" and core.io.exists(parent) ~= "folder" then
    user_error.raise("format npy: cannot write '%s': there is no folder '%s'", path, parent)
  end
  local temporary = ("%s.%d.tmp"):format(path, core.system.host().pid)
  local ok, problem = pcall(function()
    core.io.mkdir(temporary)
    for _, entry in ipairs(list) do core.io.save_npy(("%s/%s.npy"):format(temporary, entry[1]), entry[2]) end
    if core.io.exists(path) then remove_folder(path) end
    assert(os.rename(temporary, path))
  end)
  if ok then return end
  remove_folder(temporary)
  error(problem, 0)
end

-- ---- the formats -----------------------------------------------------------------------

-- write(net, path, options) -> the number of tensors; `names`: whether the caller can choose the tensors.
local formats = {
  torchvision = { write = function(net, path)
    local list = by_torchvision(net, "torchvision")
    core.io.save_torch(path, list)
    return #list
  end },
  pth = { write = function(net, path)
    local list = net:state_list()
    core.io.save_torch(path, list)
    return #list
  end },
  detectron2 = { write = function(net, path)
    local list = by_detectron2(net)
    core.io.save_detectron2(path, list, "cldlua")
    return #list
  end },
  safetensors = { names = true, write = function(net, path, options)
    local list, state = by_option(net, options, "safetensors"), {}
    for _, entry in ipairs(list) do state[entry[1]] = entry[2] end
    core.io.save(path, state, { format = "pt" })
    return #list
  end },
  npy = { names = true, folder = true, write = function(net, path, options)
    local list = by_option(net, options, "npy")
    write_folder(path, list)
    return #list
  end },
  onnx = { write = function(net, path, options)
    return require "cld.export.onnx".write(net, path, options)
  end },
}

--- The formats' names.
export.formats = { "torchvision", "pth", "detectron2", "onnx", "npy", "safetensors" }

local endings = { onnx = "onnx", pkl = "detectron2", safetensors = "safetensors", npy = "npy" }

--- format_of(path) -> the format for the ending of the file name; torchvision if the ending is not known.
function export.format_of(path) return endings[path:lower():match "%.(%w+)/*$"] or "torchvision" end

local function check_choice(name, value, choices, fallback)
  if value == nil then return fallback end
  for _, choice in ipairs(choices) do
    if value == choice then return value end
  end
  caller.raise("models.export: %s must be %s, got %s%s", name, "'" .. table.concat(choices, "', '") .. "'",
    caller.shown(value), type(value) == "string" and user_error.hint(value, choices) or "")
end

-- Replaces an existing path only if asked to; never a folder by a file, nor a folder of other files.
local function check_path(path, format, force)
  local kind = core.io.exists(path)
  if kind == "folder" and not formats[format].folder then
    user_error.raise("cannot write '%s': it is a folder; format %s writes a file, and needs the name of one", path,
      format)
  elseif kind and kind ~= "folder" and formats[format].folder then
    user_error.raise("cannot write '%s': it is no folder; format %s makes a folder of that name", path, format)
  elseif kind == "folder" then
    for _, name in ipairs(core.io.list(path)) do
      if not (force and name:find "%.npy$") then
        user_error.raise("cannot write '%s': the folder is there and not empty%s", path,
          name:find "%.npy$" and "; --force (force = true) replaces .npy files in it"
            or (", it holds '%s'"):format(name))
      end
    end
  elseif kind and not force then
    user_error.raise("cannot write '%s': it is there already; --force (force = true) replaces it", path)
  end
end

-- Raises for an option that the format would ignore.
local function check_fitting(format, options)
  if options.names and not formats[format].names then
    user_error.raise("format %s: it has its own names; 'names' is of safetensors and npy", format)
  elseif format ~= "onnx" and (options.layer == "instance" or options.normalize) then
    user_error.raise("format %s: it holds weights alone; '%s' is of format onnx", format,
      options.normalize and "normalize" or "layer")
  end
end

local fields = { "format", "layer", "names", "size", "view", "normalize", "force" }

--- write(net, path[, options]): see cld.models.export.
function export.write(net, path, options)
  if not modules.is_module(net) then
    caller.raise("models.export: expected a module, got %s", caller.shown(net))
  elseif type(path) ~= "string" or path == "" then
    caller.raise("models.export: expected a path, got %s", caller.shown(path))
  end
  caller.check_fields("models.export", options, fields)
  options = options or {}
  local format = check_choice("format", options.format, export.formats, export.format_of(path))
  check_choice("layer", options.layer, { "features", "instance" })
  check_choice("names", options.names, { "torchvision", "own" })
  check_fitting(format, options)
  check_path(path, format, options.force)
  local ok, count = pcall(formats[format].write, net, path, options)
  if ok then return count end
  if user_error.is(count) then error(count, 0) end
  user_error.check_memory("models.export", count)
  user_error.raise("format %s: %s", format, (caller.without_place(count):gsub("^save[%w_]*: ", "")))
end

return export
