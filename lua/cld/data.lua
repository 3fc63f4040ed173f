--- Data sets and the loader.
--
--   local train  = cld.data.cifar10 { root = "./data", split = "train" }
--   local loader = cld.data.loader { train, batch_size = 256, views = 2, augment = cld.augment.cifar() }
--   for batch in loader:epoch(1) do
--     -- batch.views[1], batch.views[2]: f32 (256, 3, 32, 32); batch.index: i64 (256), rows of `train`, from 0;
--     -- batch.labels: i64 (256)
--   end
--
-- With `device`, batches are on that device. A CUDA device makes the same views itself: each image is sent to it once.
--
-- Views are f32 unless `dtype` says otherwise. With "auto" they have the dtype to which convolutions and linear layers
-- round their inputs under the precision that is set when an epoch begins: bf16 or f16, which a CUDA device convolves
-- without conversion. A network that begins with such a layer computes the same from either. Your own computations on
-- views may not: a mean has only two or three digits, a sum in f16 overflows at 65504, and matmul and cat require
-- equal dtypes.
--
-- data/dataset.lua defines what a data set is. To add a kind, read its images in runtime/data (dataset.h) and add a
-- line here.
local core = require "cld.core"
local caller = require "cld.caller"
local dataset = require "cld.data.dataset"
local download = require "cld.data.download"
local folder = require "cld.data.folder"
local imagenet = require "cld.data.imagenet"
local loader = require "cld.data.loader"
local parts = require "cld.data.parts"
local sets = require "cld.data.sets"
local splits = require "cld.data.splits"
local stl10 = require "cld.data.stl10"
local sweep = require "cld.data.sweep"
local user_error = require "cld.user_error"
local create = core.tensor

local data = {
  --- cld.data.is_dataset(value) -> boolean: whether value is a data set of cld.data.
  is_dataset = dataset.is,
  loader = loader.new,
  concat = sets.concat,
  download = download.get,
  folder = folder.folder,
  imagenet = imagenet.new,
  kitchen_hc = folder.kitchen_hc,
  labelled_share = sets.labelled_share,
  long_tailed = sets.long_tailed,
  --- cld.data.parts: for recipes that take any path: cld.data.parts.find(path) lists the parts (train, test, val) that
  -- exist there, .open makes a data set of one (lua/cld/data/parts.lua).
  parts = parts,
  split = sets.split,
  splits = splits,
  stl10 = stl10.new,
  subset = sets.subset,
  sweep = sweep,
  tar = folder.tar,
}

-- options[field], or the first of the choices.
local function choice(name, options, field, ...)
  local value = options[field] or (...)
  for _, one in ipairs { ... } do
    if value == one then return value end
  end
  caller.raise("data.%s: %s must be one of %s, got %s", name, field, table.concat({ ... }, ", "), caller.shown(value))
end

local function check_root(name, options)
  if type(options.root) == "string" then return options.root end
  caller.raise("data.%s: root must be the folder that holds the files, got %s", name, caller.shown(options.root))
end

-- ---- CIFAR --------------------------------------------------------------------

local function cifar(name, kind, options)
  local root = check_root(name, options)
  local split = choice(name, options, "split", "train", "test")
  local layout = choice(name, options, "layout", "auto", "python", "binary")
  download.for_reader(kind == "cifar10" and kind or "cifar100", options)
  local set = user_error.call(core.data.read_cifar, root, kind, layout, split)
  set.name = name .. " " .. split
  return dataset.in_memory(set)
end

--- cld.data.cifar10{root =, split = "train"|"test", layout = "auto"|"python"|"binary", download = false, mirror} ->
-- dataset: CIFAR-10's images, u8 (32, 32, 3), in either of the published layouts below root. download fetches the
-- files if they are missing (data/download.lua).
--
--     -- needs data
--     local train = cld.data.cifar10 { root = "./data", split = "train", download = true }
function data.cifar10(options)
  caller.require_fields("data.cifar10", options, { "root", "split", "layout", "download", "mirror" })
  return cifar("cifar10", "cifar10", options)
end

--- cld.data.cifar100{root =, split, layout, download, mirror, labels = "fine"|"coarse"} -> dataset: CIFAR-100 with its
-- 100 classes, or their 20 groups. The settings are as for cifar10.
function data.cifar100(options)
  caller.require_fields("data.cifar100", options, { "root", "split", "layout", "labels", "download", "mirror" })
  return cifar("cifar100", choice("cifar100", options, "labels", "fine", "coarse"), options)
end

-- ---- the user's own -------------------------------------------------------------

-- Checks a list of class names against the number of classes; either may be nil.
local function check_classes(name, classes, names)
  if classes ~= nil then classes = caller.integer("data." .. name, "classes", classes, 0) end
  if names == nil then return classes end
  for c = 1, type(names) == "table" and math.max(1, #names) or 1 do
    if type(names) ~= "table" or type(names[c]) ~= "string" then
      caller.raise("data.%s: class_names must be a list of texts, got %s", name,
        caller.shown(type(names) == "table" and names[c] or names))
    end
  end
  if classes and classes ~= #names then
    caller.raise("data.%s: class_names has %d names, but classes is %d", name, #names, classes)
  end
  return #names
end

-- Returns the labels as i64 (count), and the number of classes that they imply.
local function check_labels(name, labels, count, classes)
  labels = labels or create.full({ count }, -1, "i64")
  if not create.is_tensor(labels) or labels.dtype ~= "i64" or labels.ndim ~= 1 or #labels ~= count then
    caller.raise("data.%s: labels must be i64[%d], one per image, got %s", name, count, caller.shown(labels))
  end
  labels = labels:to("cpu"):contiguous()
  local low, high = labels:min():item(), labels:max():item()
  if low < -1 or classes and high >= classes then
    user_error.raise("data.%s: labels must be %s, or -1 for none; got %d", name,
      classes and ("0 to %d"):format(classes - 1) or "at least 0", low < -1 and low or high)
  end
  return labels, classes or high + 1
end

--- cld.data.tensors{images = u8 (N, H, W, 3), labels = i64 (N), classes, class_names, name} -> dataset: images in
-- memory. Without labels, all labels are -1. Without classes or class_names, the labels determine the number of
-- classes.
function data.tensors(options)
  caller.require_fields("data.tensors", options, { "images", "labels", "classes", "class_names", "name" })
  local images = options.images
  if not create.is_tensor(images) or images.dtype ~= "u8" or images.ndim ~= 4 or images.shape[4] ~= 3 then
    caller.raise("data.tensors: images must be u8[n, height, width, 3], got %s", caller.shown(images))
  end
  local classes = check_classes("tensors", options.classes, options.class_names)
  if images.shape[1] < 1 then caller.raise "data.tensors: there are no images" end
  local labels
  labels, classes = check_labels("tensors", options.labels, images.shape[1], classes)
  return dataset.in_memory {
    name = options.name or "tensors", images = images:to("cpu"):contiguous(), labels = labels, classes = classes,
    class_names = options.class_names,
  }
end

--- cld.data.npy{images = path, labels = path or tensor, classes, class_names, name} -> dataset: images of a NumPy
-- file, u1 (N, H, W, 3), each read when it is needed, so the file may be larger than memory. The labels are N
-- integers.
function data.npy(options)
  caller.require_fields("data.npy", options, { "images", "labels", "classes", "class_names", "name" })
  if type(options.images) ~= "string" then
    caller.raise("data.npy: images must be the path of a .npy file, got %s", caller.shown(options.images))
  end
  local classes = check_classes("npy", options.classes, options.class_names)
  local source = user_error.call(core.dataset.npy, options.images)
  local labels = options.labels
  if type(labels) == "string" then
    local path = labels
    labels = user_error.call(core.io.load_npy, path)
    if labels.ndim ~= 1 or #labels ~= #source or labels.dtype:find "^[fb]" then
      user_error.raise("%s: labels must be integers (%d), one per image of %s; got %s", path, #source, options.images,
        caller.shown(labels))
    end
    labels = labels:to "i64"
  end
  labels, classes = check_labels("npy", labels, #source, classes)
  return dataset.new {
    name = options.name or options.images, source = source, labels = labels, classes = classes,
    class_names = options.class_names,
  }
end

-- The runtime's read(i): with checked labels if read returns them, or without labels if the set has its own.
local function reading(read, classes, has_labels)
  if has_labels then return function(i) return (read(i)) end end
  return function(i)
    local image, label = read(i)
    if math.type(label) == "integer" and (label < -1 or classes and label >= classes) then
      error(("the label is %d; it must be %s, or -1 for none"):format(label,
        classes and ("0 to %d"):format(classes - 1) or "at least 0"), 0)
    end
    return image, label
  end
end

--- cld.data.custom{count =, read = function(i) return image, label end, labels, classes, class_names, name} ->
-- dataset: images returned by a Lua function: u8 (H, W, 3) of any size, i from 1, called on the program's main thread.
-- Without `labels`, the labels that read returns are used: the first access to set.labels reads all images once, and
-- so does set.classes if classes was not given.
--
--     local set = cld.data.custom { count = 10, read = function(i) return cld.full({ 8, 8, 3 }, i, "u8"), i % 2 end }
--     print(#set, set.classes)                  --> 10 2
function data.custom(options)
  caller.require_fields("data.custom", options, { "count", "read", "labels", "classes", "class_names", "name" })
  local count = caller.integer("data.custom", "count", options.count)
  if type(options.read) ~= "function" then
    caller.raise("data.custom: read must be a function of the image's number, got %s", caller.shown(options.read))
  end
  local classes = check_classes("custom", options.classes, options.class_names)
  local set = {
    name = options.name or "custom", class_names = options.class_names, classes = classes,
    source = core.dataset.custom(count, reading(options.read, classes, options.labels ~= nil)),
  }
  if options.labels ~= nil then
    set.labels, set.classes = check_labels("custom", options.labels, count, classes)
    return dataset.new(set)
  end
  set.labels_when_read = true
  function set.make_labels(self)
    local list = {}
    for i = 1, count do
      local _, label = user_error.call(self.source.read, self.source, i - 1)
      list[i] = label or -1
    end
    return create.tensor(list, "i64")
  end
  function set.make_classes(self) return self.labels:max():item() + 1 end
  return dataset.new(set)
end

return data
