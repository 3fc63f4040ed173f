--- Draws what an augmentation makes of some images: one row per image, starting with the image itself.
--
--   cldlua recipes/views.lua --data cat.jpg --augment infomin
--   cldlua recipes/views.lua --data ./data --dataset cifar10 --augment base --images 8
local cld = require "cld"
local say = require "cld.say"
local user_error = require "cld.user_error"

local presets = {
  "base", "plus", "infomin", "infomin_jigsaw", "byol_1", "byol_2", "crop_flip", "none", "center",
}

local opt = cld.options {
  about = "a picture of what an augmentation makes of some images",
  { "data",    "./data", "an image, or the folder of the data set", nonempty = true },
  { "dataset", "folder", "what lies there", choices = {
    "folder", "cifar10", "cifar100", "stl10", "kitchen_hc", "imagenet" } },
  { "augment", "plus",   "which views", choices = presets },
  { "size",    0,        "pixels of a view; 0: those of the training recipe, or the augmentation's own", min = 0,
    max = 4096, integer = true },
  { "images",  6,        "images, chosen at random", min = 1, max = 1000, integer = true },
  { "views",   7,        "views of each", min = 1, max = 64, integer = true },
  { "epoch",   1,        "whose views: those that training with this seed would see", min = 0, integer = true },
  { "seed",    1,        "seed", min = 0, integer = true },
  { "out",     "views.png", "the picture, .png or .jpg", nonempty = true },
}
cld.dist.first_only()

if not cld.image.can_write(opt.out) then
  user_error.raise("option '--out': expected the name of a .png, .jpg or .ppm file, got '%s'", opt.out)
end

-- The settings that the training recipes pass to the presets whose defaults are CIFAR's.
local large = { size = 224, mean = cld.augment.statistics.imagenet.mean, std = cld.augment.statistics.imagenet.std }
local trained_with = { folder = large, imagenet = large, stl10 = { size = 96, mean = 0.5, std = 0.5 } }
local is_cifars = { base = true, plus = true, none = true }

-- The images: {tensor u8 (H, W, 3), row from 0}.
local function is_file(path)
  local file <close> = io.open(path, "rb")
  return file and file:read(0) ~= nil
end

local images = {}
if is_file(opt.data) then
  images[1] = { cld.image.read(opt.data), 0 }
else
  local set = cld.data[opt.dataset] { root = opt.data, split = "train" }
  math.randomseed(opt.seed)
  local chosen, left, problem = {}, #set, nil
  while #images < opt.images and left > 0 do
    local row = math.random(#set)
    if not chosen[row] then
      chosen[row], left = true, left - 1
      local ok, image = pcall(set.read, set, row)
      if ok then
        images[#images + 1] = { image, row - 1 }
      else
        problem = tostring(image)
        say("left out: " .. problem)
      end
    end
  end
  if #images == 0 then user_error.raise("%s: no image can be read; the last is %s", opt.data, problem) end
end

local settings = {}
for key, value in pairs(is_cifars[opt.augment] and trained_with[opt.dataset] or {}) do settings[key] = value end
if opt.size > 0 then settings.size = opt.size end
local a = user_error.call(cld.augment[opt.augment], settings)
local mean, std = a:statistics()
print(a)

local function page()
  local rows = {}
  for _, entry in ipairs(images) do
    local image, sample = entry[1], entry[2]
    local height, width = a:size(image.shape[1], image.shape[2])
    rows[#rows + 1] = cld.augment.none { size = { height, width }, mean = mean, std = std }:views(image)
    for view = 1, opt.views do
      rows[#rows + 1] = a:views(image, { seed = opt.seed, epoch = opt.epoch, sample = sample, view = view })
    end
  end
  return cld.image.grid(cld.cat(rows, 1), { columns = 1 + opt.views * a:images(), mean = mean, std = std })
end
user_error.call(cld.image.write, opt.out, user_error.call(page))
print(("%s: %d images, %d views of each"):format(opt.out, #images, opt.views))
