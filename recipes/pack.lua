--- Packs a folder of images into one file that loads faster, or into one each for train/, test/ and val/: a tar of
-- JPEGs no larger than training needs, or a pair of .npy files with pixels of one size. Both are standard formats.
--
--   cldlua recipes/pack.lua --data photos --out small                  small-train.tar, small-val.tar
--   cldlua recipes/pack.lua --data photos --out small --format npy     small-train-images.npy, ...
--
-- tar. CLASS/NUMBER-NAME.jpg and CLASS/NUMBER-NAME.cls with the label as text. The class folders keep the class names
-- and the numbers keep the order, so cld.data.tar{path} gives the same images, labels and class names. Keys are unique
-- and have no dots, so WebDataset reads each pair as one sample (jpg, cls). Files are in the order of the set, class
-- after class: shuffle when reading. A JPEG that is already small enough, upright and has three channels is copied
-- unchanged.
-- npy. OUT-images.npy, u1 (N, SIZE, SIZE, 3): the shorter side resized, then a centre crop; OUT-labels.npy, i8 (N);
-- OUT-classes.json, the class names. cld.data.npy{images, labels} reads them one image at a time.
--
-- An image that cannot be read is named and left out. If there are more than --max-bad, nothing is written and the exit
-- status is 1. The same images and options make the same bytes, whatever the number of workers.
local cld = require "cld"
local counter = require "cld.counter"
local say = require "cld.say"
local tar_writer = require "cld.tar_writer"
local user_error = require "cld.user_error"

local opt = cld.options {
  about = "packs a folder of images into one file for each of its splits",
  { "data",      "",    "the folder: of class folders, of plain files, or with train/ and test/ or val/ inside; or a"
    .. " .tar", nonempty = true },
  { "inside",    "",    "of a .tar: the folder in it" },
  { "out",       "",    "what the names of the files begin with: OUT.tar, or OUT-train.tar and OUT-val.tar",
    nonempty = true },
  { "format",    "tar", "a tar of JPEGs, or .npy files of pixels", choices = { "tar", "npy" } },
  { "size",      256,   "pixels: tar: the shorter side is at most that, 0: as it is; npy: height and width", min = 0,
    max = 65535, integer = true },
  { "quality",   90,    "of JPEGs that are made; those that are small enough, in colour and upright are only copied",
    min = 1, max = 100, integer = true, needs = { "format", "tar" } },
  { "upright",   false, "turn images as their EXIF orientation says; without it what is packed has none" },
  { "workers",   1,     "threads that read and encode; 0: none of their own", min = 0, max = 256, integer = true },
  { "max-bad",   0.01,  "share of the images that may be unreadable and are left out; more, and nothing is written",
    min = 0, max = 1 },
  { "overwrite", false, "replace what is there" },
}
cld.dist.first_only()
local is_npy = opt.format == "npy"
if opt.data == "" then user_error.raise("pack: --data is missing: the folder of images") end
if opt.out == "" then user_error.raise("pack: --out is missing: what the names of the files begin with") end
if opt.out:find "/$" then
  user_error.raise("pack: --out is what the names of the files begin with, such as %sphotos, and no folder", opt.out)
end
if is_npy and opt.size == 0 then user_error.raise("pack: --format npy wants images of one size: --size 256, say") end

-- ---- file names -------------------------------------------------------------

-- The output files of a part.
local function targets(part, has_classes)
  local base = opt.out:gsub("%.tar$", "") .. (part.split and "-" .. part.split or "")
  if not is_npy then return { tar = base .. ".tar" } end
  return {
    images = base .. "-images.npy", labels = has_classes and base .. "-labels.npy",
    classes = has_classes and base .. "-classes.json",
  }
end

local function check_absent(files)
  if opt.overwrite then return end
  for _, path in pairs(files) do
    if path and cld.io.exists(path) then
      user_error.raise("pack: '%s' is there already; --overwrite replaces it", path)
    end
  end
end

-- ---- writing ----------------------------------------------------------------

-- Whether the class names are just the labels, as in WebDataset. There are no class folders then, since they would
-- sort differently (10 before 2).
local function is_numbered(set)
  for label, name in ipairs(set.class_names) do
    if name ~= tostring(label - 1) then return false end
  end
  return true
end

-- KEY of an image: its class, its position, and as much of its name as fits.
local function key_of(set, row, has_folders)
  local path = set.listing:path(row)
  local stem = path:match "([^/]*)%.[^./]*$" or path:match "[^/]*$"
  local folder = has_folders and set.class_names[set.labels[row]:item() + 1] .. "/" or ""
  return ("%s%08d-%s"):format(folder, row - 1, stem:gsub("[^%w_-]", "_"):sub(1, 60))
end

local function write_tar(set, files, each)
  local archive <close> = tar_writer.open(files.tar)
  local has_folders = set.class_names and not is_numbered(set)
  each(function(item)
    local key = key_of(set, item.row, has_folders)
    archive:add(key .. ".jpg", item.made)
    if set.class_names then archive:add(key .. ".cls", tostring(set.labels[item.row]:item())) end
  end)
  archive:commit()
  return files.tar
end

local npy_header_bytes = 128
local function npy_header(count)
  local shape = ("(%d, %d, %d, 3)"):format(count, opt.size, opt.size)
  local text = ("{'descr': '|u1', 'fortran_order': False, 'shape': %s, }"):format(shape)
  local room = npy_header_bytes - 10
  return "\x93NUMPY\1\0" .. string.pack("<I2", room) .. text .. (" "):rep(room - 1 - #text) .. "\n"
end

-- The images are moved into place last: if they are there, the other files are too.
local function write_npy(set, files, each)
  local images <close> = user_error.call(cld.io.writer, files.images)
  local labels = {}
  images:put(npy_header(#set))
  each(function(item)
    user_error.call(images.put, images, item.made)
    labels[#labels + 1] = set.labels[item.row]:item()
  end)
  user_error.call(images.patch, images, 0, npy_header(#labels))
  if files.labels then
    user_error.call(cld.io.save_npy, files.labels, cld.tensor(labels, "i64"))
    user_error.call(cld.io.write_atomic, files.classes, cld.json.encode(set.class_names) .. "\n")
  end
  user_error.call(images.commit, images)
  return files.images
end

-- ---- reading ----------------------------------------------------------------

local function check_bad(set, bad)
  local allowed = math.floor(opt.max_bad * #set)
  if opt.max_bad > 0 then allowed = math.max(allowed, 1) end
  if #bad > allowed then
    user_error.raise("pack: %d of %d images cannot be read, more than --max-bad %g allows; nothing was written", #bad,
      #set, opt.max_bad)
  end
end

-- A class with no images left would shift the labels of the classes after it.
local function check_classes(set, kept)
  for label, name in ipairs(set.class_names or {}) do
    if not kept[label] then
      user_error.raise("pack: no image of the class '%s' can be read; nothing was written", name)
    end
  end
end

-- Calls write for each image that can be read. Returns the counts.
local function read_all(part, set, write)
  local count, kept, bad, done = counter.new(part.split or part.where, #set), {}, {}, { copied = 0, images = 0 }
  local options = {
    set, make = is_npy and "square" or "jpeg", side = opt.size, quality = opt.quality, workers = opt.workers,
    on_signal = function()
      local name, number = cld.interrupted()
      count:clear()
      say(("interrupted (SIG%s); nothing was written for %s"):format(name, part.where))
      os.exit(128 + number, true) -- closing the state removes the partial file
    end,
  }
  for item in cld.data.sweep(options) do
    if item.problem then
      count:clear()
      bad[#bad + 1] = item.row
      say(("left out: %s: %s"):format(set.source:describe(item.row - 1), item.problem))
      check_bad(set, bad)
    else
      write(item)
      kept[set.labels[item.row]:item() + 1] = true
      done.images = done.images + 1
      if item.is_copy then done.copied = done.copied + 1 end
    end
    count:step()
  end
  count:clear()
  if done.images == 0 then user_error.raise("pack: no image of '%s' can be read; nothing was written", part.where) end
  check_classes(set, kept)
  done.bad = #bad
  return done
end

local function pack(part, set, files)
  local started, done = cld.clock(), nil
  local written = (is_npy and write_npy or write_tar)(set, files, function(write) done = read_all(part, set, write) end)
  local file = assert(io.open(written, "rb"))
  local bytes = file:seek "end"
  file:close()
  say(("%s: %d images%s%s, %.1f MB, %.0f images a second%s"):format(written, done.images,
    #(set.class_names or {}) > 0 and (" of %d classes"):format(#set.class_names) or "",
    is_npy and "" or (", %d of them copied as they were"):format(done.copied), bytes / 1e6,
    done.images / math.max(cld.clock() - started, 1e-9), done.bad > 0 and ("; %d left out"):format(done.bad) or ""))
  if is_npy then
    say(("  cld.data.npy { images = '%s'%s }"):format(files.images,
      files.labels and (", labels = '%s'"):format(files.labels) or ""))
  else
    say(("  cld.data.tar { path = '%s' }"):format(files.tar))
  end
end

-- ---- all parts --------------------------------------------------------------

local parts = cld.data.parts.find(opt.data, opt.inside ~= "" and opt.inside or nil)
local sets = {}
for i, part in ipairs(parts) do
  sets[i] = cld.data.parts.open(part, { upright = opt.upright })
  if i > 1 then user_error.call(sets[1].listing.check_same_classes, sets[1].listing, sets[i].listing) end
end
for i, part in ipairs(parts) do check_absent(targets(part, sets[i].class_names ~= nil)) end
cld.catch_signals()
for i, part in ipairs(parts) do pack(part, sets[i], targets(part, sets[i].class_names ~= nil)) end
cld.restore_signals()
