--- Data sets and the loader.
--
--   local train  = cld.data.cifar10 { root = "./data", split = "train" }
--   local loader = cld.data.loader { train, batch_size = 256, views = 2, augment = cld.augment.cifar() }
--   for batch in loader:epoch(1) do
--     -- batch.views[1], batch.views[2]: f32 (256, 3, 32, 32); batch.index: i64 (256), rows of `train`, from 0;
--     -- batch.labels: i64 (256)
--   end
--
-- With `device`, batches lie there. A CUDA device makes the views itself, the same ones: images are sent there once.
--
-- Views are f32 unless `dtype` says otherwise. With "auto" they are rounded to what convolutions and linear layers
-- round them to, in the precision that the process has when an epoch begins: bf16 or f16, which a CUDA device then
-- convolves as they lie. A network that begins with such a layer computes the same from either. What you compute from
-- views yourself may not: a mean comes in two or three digits, a sum in f16 overflows at 65504, and matmul and cat want
-- equal dtypes.
local core = require "cld.core"
local augment = require "cld.augment"
local caller = require "cld.caller"
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"
local is_tensor = core.tensor.is_tensor

local data = {}

-- ---- data sets --------------------------------------------------------------

--- A data set: name, images u8 (N, H, W, 3), labels i64 (N), classes (their number), class_names (where known);
-- #dataset is N.
local Dataset = { __name = "cld.dataset" }
Dataset.__index = Dataset
function Dataset:__len() return self.images.shape[1] end
function Dataset:__tostring()
  local shape = self.images.shape
  return ("%s: %d images of %d x %d, %d classes"):format(self.name, #self, shape[2], shape[3], self.classes)
end

--- Whether value is a data set.
function data.is_dataset(value) return getmetatable(value) == Dataset end

-- options[field], or the first of the choices.
local function choice(name, options, field, ...)
  local value = options[field] or (...)
  for _, one in ipairs { ... } do
    if value == one then return value end
  end
  caller.raise("data.%s: %s must be one of %s, got %s", name, field, table.concat({ ... }, ", "), caller.shown(value))
end

local function cifar(name, kind, options)
  if type(options.root) ~= "string" then
    caller.raise("data.%s: root must be the folder that holds the files, got %s", name, caller.shown(options.root))
  end
  local split = choice(name, options, "split", "train", "test")
  local layout = choice(name, options, "layout", "auto", "python", "binary")
  local set = user_error.call(core.data.read_cifar, options.root, kind, layout, split)
  set.name = name .. " " .. split
  return setmetatable(set, Dataset)
end

--- cifar10{root, split = "train"|"test", layout = "auto"|"python"|"binary"}
function data.cifar10(options)
  caller.require_fields("data.cifar10", options, { "root", "split", "layout" })
  return cifar("cifar10", "cifar10", options)
end

--- cifar100{root, split, layout, labels = "fine"|"coarse"}: 100 classes, or their 20 groups.
function data.cifar100(options)
  caller.require_fields("data.cifar100", options, { "root", "split", "layout", "labels" })
  return cifar("cifar100", choice("cifar100", options, "labels", "fine", "coarse"), options)
end

--- tensors{images = u8 (N, H, W, 3), labels = i64 (N), classes, class_names, name}: a data set in memory. Without
-- labels all are 0; without classes there are as many as the labels say.
function data.tensors(options)
  caller.require_fields("data.tensors", options, { "images", "labels", "classes", "class_names", "name" })
  local images = options.images
  if not is_tensor(images) or images.dtype ~= "u8" or #images.shape ~= 4 or images.shape[4] ~= 3 then
    caller.raise("data.tensors: images must be u8[n, height, width, 3], got %s", caller.shown(images))
  end
  local labels = options.labels or core.tensor.zeros(images.shape[1], "i64")
  local count = images.shape[1]
  if not is_tensor(labels) or labels.dtype ~= "i64" or #labels.shape ~= 1 or labels.shape[1] ~= count then
    caller.raise("data.tensors: labels must be i64[%d], one per image, got %s", count, caller.shown(labels))
  end
  return setmetatable({
    name = options.name or "tensors",
    images = images:contiguous(),
    labels = labels:contiguous(),
    classes = options.classes or labels:max():item() + 1,
    class_names = options.class_names,
  }, Dataset)
end

-- ---- the loader -------------------------------------------------------------

local Loader = { __name = "cld.loader" }
Loader.__index = Loader

local defaults = {
  batch_size = 256,   -- images per step, over all ranks
  views = 2,          -- of each image, drawn independently
  augment = false,    -- a table of cld.augment; default: augment.none at the images' size
  device = "cpu",     -- where batches lie
  dtype = "f32",      -- of the views: f32, bf16, f16, or auto, that of the precision; wherever they are made
  resident = true,    -- the device holds the images and makes the views, where it can and they fit; else the host does
  workers = 1,        -- threads, where the host makes the views; 0: the caller's own. Batches do not depend on it
  prefetch = 3,       -- batches made ahead
  seed = 0,
  shuffle = true,     -- a new order each epoch
  drop_last = false,  -- leave out the last batch of an epoch if it is smaller
  drop_single = true, -- leave it out if it is of one image, on which batch norm cannot train; false to evaluate
  rank = 0,           -- of the processes that train together; each takes its part of every batch
  world = 1,
}

local names = sorted_keys(defaults)

-- The images on the device, or where they are. A data set keeps them for its next loader: training and evaluation share
-- one copy.
local function images_on(set, device)
  local copies = set.copies or {}
  set.copies = copies
  copies[device] = copies[device] or core.data.resident(set.images, device) or nil
  return copies[device] or set.images
end

--- loader{dataset, batch_size, views, augment, device, dtype, resident, workers, prefetch, seed, shuffle, drop_last,
-- drop_single, rank, world}
-- #loader: steps per epoch. Settings that do not fit the data are the user's to mend.
function data.loader(options)
  caller.require_fields("data.loader", options, names)
  local set = options[1]
  if not data.is_dataset(set) then
    caller.raise("data.loader: the first entry must be a data set of cld.data, got %s", caller.shown(set))
  end
  local settings = { images = set.images, labels = set.labels }
  for key, default in pairs(defaults) do
    if options[key] == nil then settings[key] = default else settings[key] = options[key] end
  end
  if not settings.augment then
    settings.augment = augment.none { size = { set.images.shape[2], set.images.shape[3] } }
  end
  if type(settings.device) ~= "string" or not core.cuda.is_name(settings.device) then
    caller.raise("data.loader: device must be cpu, cuda or cuda:N, got %s", caller.shown(settings.device))
  end
  settings.device = user_error.call(core.cuda.resolve, settings.device)
  settings.dtype = choice("loader", settings, "dtype", "f32", "bf16", "f16", "auto")
  local step_count = user_error.call(core.data.loader_rest, settings, 0)
  if settings.resident and settings.device ~= "cpu" then
    settings.images = user_error.call(images_on, set, settings.device)
  end
  return setmetatable({
    settings = settings, dataset = set, batch_size = settings.batch_size, step_count = step_count,
  }, Loader)
end

--- Steps per epoch.
function Loader:steps() return self.step_count end
Loader.__len = Loader.steps

--- What is left of an epoch from its image first_image (counted from 0) on: steps, and the images in them.
function Loader:rest(first_image)
  if math.type(first_image) ~= "integer" then
    caller.raise("loader:rest: the first image must be an integer, counted from 0, got %s", caller.shown(first_image))
  end
  return core.data.loader_rest(self.settings, first_image)
end

local rounded = { bf16 = "bf16", fp16 = "f16" } -- by the precision

--- `for batch in loader:epoch(e) do`: the batches of epoch e, from its image first_image on (counted from 0 in the
-- epoch's order; default: loader.first_image, which a resumed run sets). The order does not depend on the batch size:
-- after another one no image comes twice and none is left out, and after the same the batches are those that an
-- undisturbed run would have got. Leaving the loop stops the workers.
function Loader:epoch(epoch, first_image)
  local dtype = self.settings.dtype
  if dtype == "auto" then dtype = rounded[core.autograd.precision()] or "f32" end
  if math.type(epoch) ~= "integer" or epoch < 0 then
    caller.raise("loader:epoch: expected the number of an epoch, an integer of at least 0, got %s", caller.shown(epoch))
  end
  local batches = user_error.call(core.data.epoch, self.settings, epoch, first_image or self.first_image or 0, dtype)
  return batches, nil, nil, batches
end

return data
