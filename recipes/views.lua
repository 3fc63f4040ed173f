--- What an augmentation makes of some images, as a picture: a row for each image, first the image itself.
--
--   cldlua recipes/views.lua --data cat.jpg --augment infomin
--   cldlua recipes/views.lua --data ./data --dataset cifar10 --augment base --images 8
local cld = require "cld"
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
  { "size",    0,        "pixels of a view; 0: the augmentation's own", min = 0, max = 4096 },
  { "images",  6,        "images, chosen at random", min = 1, max = 1000 },
  { "views",   7,        "views of each", min = 1, max = 64 },
  { "epoch",   1,        "whose views: those that training with this seed would see", min = 0 },
  { "seed",    1,        "seed", min = 0 },
  { "out",     "views.png", "the picture, .png or .jpg", nonempty = true },
}

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
  local chosen = {}
  while #images < math.min(opt.images, #set) do
    local row = math.random(#set)
    if not chosen[row] then
      chosen[row] = true
      images[#images + 1] = { set:read(row), row - 1 }
    end
  end
end

local a = user_error.call(cld.augment[opt.augment], { size = opt.size > 0 and opt.size or nil })
local mean, std = a:statistics()
print(a)

local rows = {}
for _, entry in ipairs(images) do
  local image, sample = entry[1], entry[2]
  local height, width = user_error.call(a.size, a, image.shape[1], image.shape[2])
  rows[#rows + 1] = cld.augment.none { size = { height, width }, mean = mean, std = std }:views(image)
  for view = 1, opt.views do
    rows[#rows + 1] = a:views(image, { seed = opt.seed, epoch = opt.epoch, sample = sample, view = view })
  end
end
local page = cld.image.grid(cld.cat(rows, 1), { columns = 1 + opt.views * a:images(), mean = mean, std = std })
user_error.call(cld.image.write, opt.out, page)
print(("%s: %d images, %d views of each"):format(opt.out, #images, opt.views))
