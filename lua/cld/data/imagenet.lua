--- ImageNet (ILSVRC 2012) as published, or unpacked, in any mixture. Unpacked files are preferred.
--
--   train       root/train/nXXXXXXXX/*.JPEG, or root/ILSVRC2012_img_train.tar with an archive for each class in it
--   validation  root/val/nXXXXXXXX/*.JPEG, root/val/*.JPEG, or root/ILSVRC2012_img_val.tar. Without class folders the
--               development kit gives the classes: root/ILSVRC2012_devkit_t12.tar.gz or that folder
--
-- The set is the same, image by image, however the files are stored: classes in the order of their WordNet ids, and
-- the images of a class by name.
local core = require "cld.core"
local caller = require "cld.caller"
local folder = require "cld.data.folder"
local sets = require "cld.data.sets"
local user_error = require "cld.user_error"
local create = core.tensor

local imagenet = {}

local KIT = "ILSVRC2012_devkit_t12"
local archives = { train = "ILSVRC2012_img_train.tar", val = "ILSVRC2012_img_val.tar" }
local named_lists = { imagenet100 = "cld.data.imagenet100" }

local function is_id(name) return type(name) == "string" and #name == 9 and name:find "^n%d+$" ~= nil end

-- The number of a validation image, from 1, if the file name has one.
local function number_of(name) return math.tointeger(tonumber(name:match "^ILSVRC2012_val_(%d+)%.JPEG$")) end

-- ---- which classes --------------------------------------------------------------

local function read_list(path)
  local file, problem = io.open(path, "rb")
  local text
  if file then
    text, problem = file:read "a"
    problem = problem and path .. ": " .. problem -- for a folder
    file:close()
  end
  if not text then
    user_error.raise("data.imagenet: classes: cannot read the list %s%s", problem or path,
      user_error.hint(path, { "imagenet100" }))
  end
  local ids, number = {}, 0
  for line in (text .. "\n"):gmatch "(.-)\r?\n" do
    number = number + 1
    for word in line:gmatch "%S+" do
      if not is_id(word) then
        user_error.raise("%s, line %d: '%s' is not a WordNet id, n and eight digits", path, number, word:sub(1, 100))
      end
      ids[#ids + 1] = word
    end
  end
  if #ids == 0 then user_error.raise("%s: the list of classes is empty", path) end
  return ids
end

-- The ids, sorted; nil for all classes that exist.
local function check_classes(classes)
  if classes == nil then return nil end
  if type(classes) == "string" then
    classes = named_lists[classes] and require(named_lists[classes]) or read_list(classes)
  elseif type(classes) ~= "table" or #classes == 0 then
    caller.raise("data.imagenet: classes must be imagenet100, a list of WordNet ids, or a text file of them, got %s",
      type(classes) == "table" and "an empty list" or caller.shown(classes))
  end
  local ids = {}
  for i, id in ipairs(classes) do
    if not is_id(id) then
      caller.raise("data.imagenet: classes: %s is not a WordNet id, n and eight digits", caller.shown(id))
    end
    ids[i] = id
  end
  table.sort(ids)
  for i = 2, #ids do
    if ids[i] == ids[i - 1] then user_error.raise("data.imagenet: classes: %s is in the list twice", ids[i]) end
  end
  return ids
end

-- ---- where the images are -------------------------------------------------------

-- The path of the split, whether it is a folder, and whether its images have no class folders.
local function find(root, split)
  local place, archive = ("%s/%s"):format(root, split), ("%s/%s"):format(root, archives[split])
  if core.io.exists(root) ~= "folder" then user_error.raise("data.imagenet: there is no folder '%s'", root) end
  local is_there = core.io.exists(place) == "folder"
  local classes, flat = 0, 0
  for _, name in ipairs(is_there and user_error.call(core.io.list, place) or {}) do
    if is_id(name) and core.io.exists(place .. "/" .. name) == "folder" then classes = classes + 1 end
    if split == "val" and number_of(name) then flat = flat + 1 end
  end
  if classes + flat > 0 then return place, true, flat > 0 end
  if core.io.exists(archive) then return archive, false, split == "val" end
  user_error.raise("%s: no %s images of ImageNet here: %s/ %s, and there is no %s", root,
    split == "train" and "training" or "validation", split,
    not is_there and "is not there" or split == "train" and "has no folders nXXXXXXXX"
      or "has no folders nXXXXXXXX and no ILSVRC2012_val_*.JPEG", archives[split])
end

local function read_kit(root, where)
  if not (core.io.exists(root .. "/" .. KIT) or core.io.exists(("%s/%s.tar.gz"):format(root, KIT))
    or core.io.exists(root .. "/data/meta.mat")) then
    user_error.raise("%s: the images are not in class folders, and nothing says their classes: put the development kit"
      .. " into %s, as %s.tar.gz or unpacked; or move the images into folders with recipes/valprep.lua", where, root,
      KIT)
  end
  return user_error.call(core.files.devkit, root)
end

-- ---- validation images without class folders ------------------------------------

-- The row of each image, from 0, by its number.
local function rows_by_number(set, most)
  local rows = {}
  for i = 1, #set do
    local path = set.path_of(i)
    local number = number_of(path:match "[^/]*$")
    if not number or number < 1 or number > most then
      user_error.raise("%s: the development kit has no such image: it has ILSVRC2012_val_%08d.JPEG to %08d", path, 1,
        most)
    end
    if rows[number] then
      user_error.raise("%s: the same image is also '%s'; remove one of them", path, set.path_of(rows[number] + 1))
    end
    rows[number] = i - 1
  end
  return rows
end

-- The existing classes, sorted, or `wanted`, all of which must exist.
local function classes_there(numbers_of, wanted, where)
  if not wanted then
    local ids = {}
    for id in pairs(numbers_of) do ids[#ids + 1] = id end
    table.sort(ids)
    return ids
  end
  local absent = {}
  for _, id in ipairs(wanted) do
    if not numbers_of[id] then absent[#absent + 1] = id end
  end
  if #absent > 0 then
    user_error.raise("%s: no images of %d of the wanted classes: %s%s", where, #absent,
      table.concat(absent, ", ", 1, math.min(5, #absent)), #absent > 5 and ", ..." or "")
  end
  return wanted
end

local function with_kit(set, kit, wanted, where)
  local rows, numbers_of = rows_by_number(set, #kit), {}
  for number, id in ipairs(kit) do
    if rows[number] then
      numbers_of[id] = numbers_of[id] or {}
      table.insert(numbers_of[id], number)
    end
  end
  local ids, indices, labels = classes_there(numbers_of, wanted, where), {}, {}
  for c, id in ipairs(ids) do
    for _, number in ipairs(numbers_of[id]) do
      indices[#indices + 1], labels[#labels + 1] = rows[number], c - 1
    end
  end
  return sets.rows_of(set, create.tensor(indices, "i64"), {
    name = set.name, labels = create.tensor(labels, "i64"), classes = #ids, class_names = ids,
  })
end

-- ---- the set --------------------------------------------------------------------

--- imagenet{root, split = "train"|"val", classes}: classes: only these: "imagenet100", a list of WordNet ids, or the
-- path of a text with one id per line; each must exist. A label is the position of the image's id among the sorted ids
-- in use. An archive is read in place (runtime/io/tar.h).
function imagenet.new(options)
  caller.require_fields("data.imagenet", options, { "root", "split", "classes" })
  if type(options.root) ~= "string" or options.root == "" then
    caller.raise("data.imagenet: root must be the folder that holds the files, got %s", caller.shown(options.root))
  end
  local split = options.split or "train"
  if not archives[split] then
    caller.raise("data.imagenet: split must be train or val, got %s", caller.shown(split))
  end
  local wanted = check_classes(options.classes)
  local where, is_folder, is_flat = find(options.root, split)
  local kit = is_flat and read_kit(options.root, where)
  local open = is_folder and folder.of_folder or folder.of_archive
  local name = "imagenet " .. split .. (wanted and (", %d classes"):format(#wanted) or "")
  if is_flat then return with_kit(open(name, where, { layout = "plain" }), kit, wanted, where) end
  local set = open(name, where, { layout = "classes", classes = wanted })
  for _, id in ipairs(set.class_names) do
    if not is_id(id) then
      user_error.raise("%s: '%s' is not a WordNet id, n and eight digits; cld.data.folder takes folders of any name",
        where, id)
    end
  end
  return set
end

--- Raises if the two splits do not have the same classes.
function imagenet.check_same_classes(root, train, val)
  local of_val = {}
  for _, id in ipairs(val.class_names) do of_val[id] = true end
  local only_train, only_val
  for _, id in ipairs(train.class_names) do
    only_train = only_train or not of_val[id] and id or nil
    of_val[id] = nil
  end
  for _, id in ipairs(val.class_names) do only_val = only_val or of_val[id] and id or nil end
  if not (only_train or only_val) then return end
  user_error.raise("%s: the classes of train (%d) and val (%d) differ: %s is only in %s; say which classes are"
    .. " wanted", root, train.classes, val.classes, only_train or only_val, only_train and "train" or "val")
end

return imagenet
