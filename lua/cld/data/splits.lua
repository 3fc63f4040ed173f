--- The data set that a recipe's options name, cut into what is trained on and what is scored: for the recipes, and for
-- those that take up a run later.
local augment = require "cld.augment"
local caller = require "cld.caller"
local core = require "cld.core"
local folder = require "cld.data.folder"
local imagenet = require "cld.data.imagenet"
local packed = require "cld.data.packed"
local parts = require "cld.data.parts"
local say = require "cld.say"
local sets = require "cld.data.sets"
local sorted_keys = require "cld.sorted_keys"
local stl10 = require "cld.data.stl10"
local user_error = require "cld.user_error"

local splits = {}

-- How damaged files are borne, and how files are decoded: the options of cld.options.files.
local function reading(opt) return { max_bad = opt.max_bad, strict = opt.strict, decode = opt.decode } end

local function with_reading(result, opt)
  for _, name in ipairs { "train", "memory", "test" } do
    if result[name] then result[name].reading = reading(opt) end
  end
  return result
end

-- ---- folders ------------------------------------------------------------------

local function open(part, opt)
  if part.is_archive then return folder.tar { path = part.where, inside = part.inside, upright = opt.upright } end
  return folder.folder { root = part.where, upright = opt.upright }
end

-- The training set of what --data names, and the one to score by, or nil.
local function train_and_test(opt)
  local train, test = packed.find(opt.data, { upright = opt.upright, npy = require "cld.data".npy })
  if test then return train, test end
  local list = train and core.io.exists(opt.data) == "file" and parts.find(opt.data) or not train and parts.find(opt.data)
  for _, part in ipairs(list or {}) do
    if part.split == "train" then train = open(part, opt) end
    if not test and (part.split == "test" or part.split == "val") then test = open(part, opt) end
  end
  return train or open(list[1], opt), test
end

local function check_same_classes(opt, train, test)
  if train.listing and test.listing then
    user_error.call(train.listing.check_same_classes, train.listing, test.listing)
  elseif table.concat(train.class_names or {}, "\n") ~= table.concat(test.class_names or {}, "\n") then
    user_error.raise("%s: the images to train on and those to score by have different classes", opt.data)
  end
end

--- A folder of images: train/ and test/ or val/, class folders, or plain files; or what recipes/pack.lua made of one.
local function of_folder(opt)
  local train, test = train_and_test(opt)
  local view = augment.center { size = opt.size }
  if train.classes == 0 then
    say(("%s: the images are in no class folders, so there is no kNN accuracy"):format(opt.data))
    return { train = train, test_view = view }
  end
  if test then
    check_same_classes(opt, train, test)
    return { train = train, test = test, test_view = view }
  end
  if opt.holdout == 0 then
    say(("%s: no test/ or val/ in it, and --holdout is 0: there is no kNN accuracy"):format(opt.data))
    return { train = train, test_view = view }
  end
  local kept, held = sets.split { train, share = opt.holdout, seed = opt.seed }
  say(("%s: no test/ or val/ in it: %d of its %d images are kept from training, to score the others by"):format(
    opt.data, #held, #train))
  return { train = kept, test = held, test_view = view }
end

-- ---- by name ------------------------------------------------------------------

local function of_cifar(opt)
  local make = require "cld.data"[opt.dataset]
  local function set(split)
    return make {
      root = opt.data, split = split, layout = opt.layout, download = rawget(opt, "download"), mirror = rawget(opt, "mirror"),
    }
  end
  return { train = set "train", test = set "test" }
end

local function of_stl10(opt)
  local train = stl10.new {
    root = opt.data, split = "train", download = rawget(opt, "download"), mirror = rawget(opt, "mirror"),
  }
  return {
    train = opt.split == "train" and train or stl10.new { root = opt.data, split = opt.split },
    memory = train, test = stl10.new { root = opt.data, split = "test" },
    test_view = augment.none { size = opt.size, mean = 0.5, std = 0.5 },
  }
end

local function of_kitchen(opt)
  local train = folder.kitchen_hc { root = opt.data, split = "train" }
  local test = folder.kitchen_hc { root = opt.data, split = "test" }
  user_error.call(train.listing.check_same_classes, train.listing, test.listing)
  return { train = train, test = test, test_view = augment.none { size = opt.size } }
end

local function of_imagenet(opt)
  local classes = opt.classes ~= "" and opt.classes or nil
  local train = imagenet.new { root = opt.data, split = "train", classes = classes }
  local test = imagenet.new { root = opt.data, split = "val", classes = classes }
  imagenet.check_same_classes(opt.data, train, test)
  return { train = train, test = test, test_view = augment.center { size = opt.size } }
end

local by_name = {
  cifar10 = of_cifar, cifar100 = of_cifar, folder = of_folder, imagenet = of_imagenet, kitchen_hc = of_kitchen,
  stl10 = of_stl10,
}

--- splits(opt) -> {train =, test =, memory =, test_view =} of the options of cld.options.cifar, .folder, .imagenet,
-- .stl10 or .kitchen_hc: opt.dataset says which. test: the queries of kNN, nil if there are none; memory: nil if it is
-- train; test_view: nil if images need no more than to be normalized.
local function new(opt)
  local make = by_name[opt.dataset]
  if not make then caller.raise("data.splits: no data set is called '%s'", tostring(opt.dataset)) end
  local result = make(opt)
  return rawget(opt, "max_bad") and with_reading(result, opt) or result
end

--- The names that opt.dataset can have.
splits.names = sorted_keys(by_name)

return setmetatable(splits, { __call = function(_, opt) return new(opt) end })
