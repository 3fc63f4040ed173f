--- Image files as data sets: a folder, an archive, Kitchen-HC. C finds the files (runtime/data/listing.h,
-- tar_listing.h): a folder of class folders, of plain images, or with train/ and test/ or val/ inside.
local core = require "cld.core"
local caller = require "cld.caller"
local dataset = require "cld.data.dataset"
local say = require "cld.say"
local user_error = require "cld.user_error"

local folder = {}

local function check_text(name, options, field)
  if type(options[field]) == "string" and options[field] ~= "" then return options[field] end
  caller.raise("data.%s: %s must be a path, got %s", name, field, caller.shown(options[field]))
end

local function check_split(name, split, ...)
  for _, one in ipairs { ... } do
    if split == one then return split end
  end
  caller.raise("data.%s: split must be one of %s, got %s", name, table.concat({ ... }, ", "), caller.shown(split))
end

-- Reports images left out because of their type, once for each folder.
local told = {}
local function tell_unreadable(where, listing)
  local kinds, text = listing:unreadable()
  if next(kinds) == nil or told[where] then return end
  told[where] = true
  say(("%s: left out, because only JPEG, PNG, PPM and PGM are read: %s"):format(where, text))
end

local like_splits = {
  train = true, training = true, test = true, testing = true, val = true, valid = true, validation = true,
}

-- Train/ beside Test/, or train/ beside val/ without a split, are rarely two classes.
local function tell_splits(where, set)
  local found = {}
  for _, name in ipairs(set.class_names or {}) do
    if like_splits[name:lower()] then found[#found + 1] = name end
  end
  if #found < 2 then return end
  say(("%s: the folders %s are taken for classes: splits are named train/ and test/ or val/, and split = 'train'"
    .. " chooses one"):format(where, table.concat(found, ", ")))
end

-- The fields of every set made from a listing.
local function of_listing(name, where, listing, source, options)
  tell_unreadable(where, listing)
  if options.upright then source:set_upright(true) end
  local names = listing:class_names()
  return dataset.new {
    name = name, source = source, labels = listing:labels(), classes = #names,
    class_names = #names > 0 and names or nil, listing = listing, digest = listing:digest(),
    path_of = function(i) return listing:path(i) end,
  }
end

-- The images of a folder; options: layout, classes, upright.
local function of_folder(name, where, options)
  local listing, found = user_error.call(core.files.list, where, {
    layout = options.layout, classes = options.classes, bear = options.problems ~= nil,
  })
  if options.problems then table.move(found, 1, #found, #options.problems + 1, options.problems) end
  return of_listing(name, where, listing, user_error.call(core.dataset.files, listing), options)
end

-- The images of an archive; options: inside too.
local function of_archive(name, path, options)
  local tar = user_error.call(core.files.tar, path)
  local listing = user_error.call(tar.list, tar, {
    inside = options.inside, layout = options.layout, classes = options.classes,
  })
  return of_listing(name, path, listing, user_error.call(core.dataset.members, tar, listing), options)
end

folder.of_folder, folder.of_archive = of_folder, of_archive

--- cld.data.folder{root =, split = "train"|"test"|"val"|nil, layout = "auto"|"classes"|"plain", classes, upright,
-- problems} -> dataset: the images of a folder (JPEG, PNG, PPM, PGM), in torchvision's order. Class folders give
-- labels, in the order of their names; plain files have none. With a split, root has train/ and test/ or val/ inside,
-- or is itself `train`. classes: only these. upright: rotate the images as their EXIF orientation says. problems: a
-- list that collects what is wrong with single files and folders, which are then left out; without it the first is an
-- error.
--
--     -- needs data
--     local photos = cld.data.folder { root = "photos", split = "train" }
function folder.folder(options)
  caller.require_fields("data.folder", options, { "root", "split", "layout", "classes", "upright", "problems" })
  local root, split = check_text("folder", options, "root"), options.split
  if split ~= nil then check_split("folder", split, "train", "test", "val") end
  local where = split and user_error.call(core.files.find_split, root, split) or root
  local set = of_folder(split and ("%s, %s"):format(root, split) or root, where, options)
  tell_splits(root, set)
  return set
end

--- cld.data.tar{path =, inside, layout, classes, upright} -> dataset: the images of a .tar archive, read in place, as
-- if it were unpacked; also one with WebDataset's names, whose labels are KEY.cls. inside: only the images in this
-- folder of it.
function folder.tar(options)
  caller.require_fields("data.tar", options, { "path", "inside", "layout", "classes", "upright" })
  local path = check_text("tar", options, "path")
  return of_archive(path, path, options)
end

-- ---- Kitchen-HC -----------------------------------------------------------------

--- cld.data.kitchen_hc{root =, split = "train"|"test"} -> dataset: Kitchen-HC:
-- root/Kitchen-HC/{train,test}/class/*, or root is that folder itself.
function folder.kitchen_hc(options)
  caller.require_fields("data.kitchen_hc", options, { "root", "split" })
  local root = check_text("kitchen_hc", options, "root")
  local split = check_split("kitchen_hc", options.split or "train", "train", "test", "val")
  local inside = root .. "/Kitchen-HC"
  local where = user_error.call(core.files.find_split, core.io.exists(inside) and inside or root, split)
  return of_folder("kitchen-hc " .. split, where, { layout = "classes" })
end

return folder
