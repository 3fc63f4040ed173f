--- A data set: what the loader, evaluation and recipes use. The runtime holds the images (runtime/data/dataset.h);
-- labels, classes and names are here.
--
--   #set               images
--   set.labels         i64 (N), -1 for an image without a label
--   set.classes        how many
--   set.class_names    their names, if known, in the order of the labels
--   set.images         u8 (N, H, W, 3), if all of them are in memory; else nil
--   set.paths          the files, in order, if there are files; else nil
--   set:read(i)        image i, counted from 1: u8 (H, W, 3), and its label. On the caller's thread
--   set:size()         height and width of every image; nil if they differ, or are not known
--   set.digest         of files: an integer that tells which ones they are, by their names and labels; else nil
--   set.name           for messages
--   set.reading        {decode =, max_bad =, strict =}: what its loaders do unless they are told otherwise; or nil
local core = require "cld.core"
local caller = require "cld.caller"
local class = require "cld.class"
local user_error = require "cld.user_error"

local Dataset = class.new "cld.dataset"
local dataset = {}

-- Fields that are computed at first use if the set has a function for them.
local made_by = { labels = "make_labels", classes = "make_classes", paths = "make_paths" }

function Dataset.__index(set, key)
  local make = made_by[key] and rawget(set, made_by[key])
  if not make then return class.field(Dataset, set, key) end
  local value = make(set)
  rawset(set, key, value)
  return value
end

local function all_paths(set)
  local paths, path_of = {}, rawget(set, "path_of")
  for i = 1, #set do paths[i] = path_of(i) end
  return paths
end

function Dataset:__len() return #rawget(self, "source") end

function Dataset:__tostring()
  local height, width = self:size()
  local size = height and (" of %d x %d"):format(height, width) or ""
  local classes = rawget(self, "classes")
  return ("%s: %d images%s%s"):format(self.name, #self, size, classes and (", %d classes"):format(classes) or "")
end

--- dataset:size() -> height, width: the size of every image; nil if sizes differ or are not known.
function Dataset:size() return self.source:size() end

--- dataset:read(i) -> image, label: image i, from 1, decoded: u8 (H, W, 3), and its label, -1 if it has none. #set is
-- the number of images; set.labels, .classes, .class_names, .images and .paths describe all of them.
--
--     local set = cld.data.tensors { images = cld.zeros({ 5, 8, 8, 3 }, "u8"), labels = cld.zeros({ 5 }, "i64") }
--     local image, label = set:read(1)
--     print(#set, image.shape[1], label)        --> 5 8 0
function Dataset:read(i)
  if math.type(i) ~= "integer" or i < 1 or i > #self then
    caller.raise("read: the data set has images 1 to %d, got %s", #self, caller.shown(i))
  end
  local image, label = user_error.call(self.source.read, self.source, i - 1)
  if label == nil and not dataset.learns_labels(self) then label = self.labels[i]:item() end
  return image, label or -1
end

--- new{name, source, labels, classes, class_names, images, ...}: source is core.dataset's. labels and classes may come
-- later, from functions make_labels(set) and make_classes(set); path_of(i) is the file of image i, counted from 1.
function dataset.new(fields)
  if fields.path_of then fields.make_paths = all_paths end
  return setmetatable(fields, Dataset)
end

--- Whether the set finds an image's label only by reading it, and nobody has asked for all labels yet.
function dataset.learns_labels(set) return rawget(set, "labels_when_read") and not rawget(set, "labels") end

--- Whether value is a data set.
function dataset.is(value) return getmetatable(value) == Dataset end

--- The field `set` of options, or else its first entry; it must be a data set.
function dataset.check(name, value)
  if dataset.is(value) then return value end
  caller.raise("%s: expected a data set of cld.data, got %s", name, caller.shown(value))
end

--- A set of images in memory: u8 (N, H, W, 3), on the cpu.
function dataset.in_memory(fields)
  fields.source = user_error.call(core.dataset.memory, fields.images)
  return dataset.new(fields)
end

return dataset
