--- Networks as files for other programs: cld.models.export, and recipes/export.lua.
--
--   cld.models.export(net, "resnet18.pth")                              -- torchvision's names
--   cld.models.export(net, "net.onnx", { layer = "instance" })         -- the name's ending chooses the format
--
-- | format | ending | what is written | read by |
-- |---|---|---|---|
-- | torchvision | .pth, .pt | the trunk by torchvision's names | `m.load_state_dict(torch.load(path))` |
-- | pth | .pth, .pt | all tensors by our names | `torch.load(path, weights_only=True)` |
-- | detectron2 | .pkl | the trunk by detectron2's names | `MODEL.WEIGHTS` of detectron2 |
-- | onnx | .onnx | the network as a graph, `images` to `features` | onnxruntime and others |
-- | npy | .npy | a folder of NAME.npy, the trunk by torchvision's names | `numpy.load` |
-- | npz | .npz | the trunk by torchvision's names | `numpy.load` |
-- | safetensors | .safetensors | the trunk by torchvision's names | `safetensors.torch.load_file(path)` |
--
-- For a classifier's encoder (fine-tuning), the classification layer is written as torchvision's `fc`. All formats but
-- onnx hold only weights: export/usage.lua says which torchvision model they fit.
local caller = require "cld.caller"
local core = require "cld.core"
local detectron2 = require "cld.models.detectron2"
local modules = require "cld.nn.module"
local sorted_keys = require "cld.sorted_keys"
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
  user_error.raise("format %s: %s; formats pth and onnx, and safetensors, npy and npz with names 'own', write any"
    .. " network", format, why)
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

-- {name = tensor} of a list.
local function by_name(list)
  local state = {}
  for _, entry in ipairs(list) do state[entry[1]] = entry[2] end
  return state
end

-- The list for NumPy, which has no bf16: such tensors become f32, without loss.
local function for_numpy(list)
  for _, entry in ipairs(list) do
    if entry[2].dtype == "bf16" then entry[2] = entry[2]:detach():to "f32" end
  end
  return list
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
  if type(problem) ~= "string" then error(problem, 0) end
  local at, last = problem:find(temporary, 1, true)
  error(at and problem:sub(1, at - 1) .. path .. problem:sub(last + 1) or problem, 0)
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
    local list = for_numpy(by_detectron2(net))
    core.io.save_detectron2(path, list, "cldlua")
    return #list
  end },
  safetensors = { names = true, write = function(net, path, options)
    local list = by_option(net, options, "safetensors")
    core.io.save(path, by_name(list), { format = "pt" })
    return #list
  end },
  npz = { names = true, write = function(net, path, options)
    local list = for_numpy(by_option(net, options, "npz"))
    core.io.save_npz(path, by_name(list))
    return #list
  end },
  npy = { names = true, folder = true, write = function(net, path, options)
    local list = for_numpy(by_option(net, options, "npy"))
    write_folder(path, list)
    return #list
  end },
  onnx = { write = function(net, path, options)
    return require "cld.export.onnx".write(net, path, options)
  end },
}

--- The formats' names.
export.formats = { "torchvision", "pth", "detectron2", "onnx", "npy", "npz", "safetensors" }

local endings = { pth = "torchvision", pt = "torchvision", pkl = "detectron2", onnx = "onnx", npy = "npy", npz = "npz",
  safetensors = "safetensors" }

-- The ending of a file's name, in lower case; nil if there is none. That of x.pth.tar is pth.
local function ending_of(path)
  local name = path:lower():match "([^/]*)/*$"
  return name:gsub("%.tar$", ""):match "%.pth?$" and "pth" or name:match "%.(%w+)$"
end

--- format_of(path) -> the format for the ending of the file's name; torchvision if it has none. The user's error if no
-- format has that ending.
function export.format_of(path)
  local ending = ending_of(path)
  if not ending or endings[ending] then return endings[ending or "pth"] end
  if core.io.exists(path) == "folder" then
    user_error.raise("cannot write '%s': it is a folder; the name of a file is needed", path)
  end
  user_error.raise("cannot tell the format of '%s': .%s is none of .%s; --format (format =) chooses one", path, ending,
    table.concat(sorted_keys(endings), ", ."))
end

-- Raises if the name has the ending of another format, whose readers would then try to read it.
local function check_ending(path, format)
  local ending = ending_of(path)
  local other = endings[ending]
  if not other or other == format or other == "torchvision" and format == "pth" then return end
  user_error.raise("'%s' is to have format %s, and .%s is the ending of format %s; give it another ending or format",
    path, format, ending, other)
end

--- ending(format) -> the ending of its files' names, such as "pth".
function export.ending(format)
  if format == "torchvision" then return "pth" end
  return format == "detectron2" and "pkl" or format
end

--- ending_note(path, format) -> a line if the format's readers may not know the file by its name, else nil.
function export.ending_note(path, format)
  local ending = ending_of(path)
  if endings[ending] then return nil end
  if format == "detectron2" then return "detectron2 reads such a file only if its name ends with .pkl" end
  return ending and (".%s is not an ending of format %s; that is .%s"):format(ending, format,
    export.ending(format))
end

local function check_choice(name, value, choices)
  if value == nil then return nil end
  for _, choice in ipairs(choices) do
    if value == choice then return value end
  end
  caller.raise("models.export: %s must be %s, got %s%s", name, "'" .. table.concat(choices, "', '") .. "'",
    caller.shown(value), type(value) == "string" and user_error.hint(value, choices) or "")
end

-- Replaces an existing path only if asked to; never a folder with a file, nor a folder that holds other files.
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
    user_error.raise("format %s: it has its own names; 'names' is of safetensors, npy and npz", format)
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
  local format = check_choice("format", options.format, export.formats) or export.format_of(path)
  check_choice("layer", options.layer, { "features", "instance" })
  check_choice("names", options.names, { "torchvision", "own" })
  check_fitting(format, options)
  check_ending(path, format)
  check_path(path, format, options.force)
  local ok, count = pcall(formats[format].write, net, path, options)
  if ok then return count end
  if user_error.is(count) then error(count, 0) end
  user_error.check_memory("models.export", count)
  user_error.raise("format %s: %s", format, (caller.without_place(count):gsub("^save[%w_]*: ", "")))
end

return export
