--- The data set that a recipe's options name, split into images for training and for scoring: for the recipes, and for
-- those that use a run later.
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

-- Tolerance of damaged files, decoding, and threads: the evaluation uses the training's settings.
local function reading(opt)
  return { max_bad = opt.max_bad, strict = opt.strict, decode = opt.decode, workers = rawget(opt, "workers") }
end

local function with_reading(result, opt)
  for _, name in ipairs { "train", "memory", "test" } do
    if result[name] then result[name].reading = reading(opt) end
  end
  return result
end

-- ---- folders ------------------------------------------------------------------

-- Any error that keeps a folder from being read names the option.
local function check_data(path)
  local kind = core.io.exists(path)
  if kind == "file" then
    if path:lower():find "%.tar$" or path:lower():find "%.npy$" then return end
    user_error.raise("option '--data': expected a folder of images, or a .tar or .npy file of recipes/pack.lua; got the"
      .. " file '%s'", path)
  end
  if kind == "other" then user_error.raise("option '--data': '%s' is neither a folder nor a file", path) end
  local ok, problem = pcall(core.files.find_split, path, "train")
  if not ok then user_error.raise("option '--data': %s", tostring(problem)) end
end

local function open(part, opt)
  local settings = { inside = part.inside, layout = rawget(opt, "layout"), upright = opt.upright }
  settings[part.is_archive and "path" or "root"] = part.where
  return (part.is_archive and folder.tar or folder.folder)(settings)
end

-- The training set that --data names, and the set for scoring or nil.
local function train_and_test(opt)
  local train, test = packed.find(opt.data, { upright = opt.upright, npy = require "cld.data".npy })
  if test then return train, test end
  local list
  if not train or core.io.exists(opt.data) == "file" then list = parts.find(opt.data) end
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
    user_error.raise("%s: the images for training and those for testing have different classes", opt.data)
  end
end

-- The training set, the queries of kNN or nil, and a notice about them.
local function with_queries(opt, train, test)
  if train.classes == 0 then return train, nil, "the images are not in class folders, so there is no kNN accuracy" end
  if train.classes == 1 then return train, nil, "all images are of one class, so there is no kNN accuracy" end
  if test then
    check_same_classes(opt, train, test)
    return train, test
  end
  if opt.holdout == 0 then return train, nil, "no test/ or val/ in it, and --holdout is 0: there is no kNN accuracy" end
  if #train == train.classes then
    return train, nil, "no test/ or val/ in it, and no class has a second image to hold out: there is no kNN accuracy"
  end
  local kept, held = sets.split { train, share = opt.holdout, seed = opt.seed }
  return kept, held, ("no test/ or val/ in it: %d of its %d images are kept from training (--holdout %g)"):format(#held,
    #train, opt.holdout)
end

-- " of 3 classes (cat, dog, owl)", or nothing.
local function classes_shown(set)
  if set.classes < 2 then return "" end
  local names = set.class_names
  local shown = names and table.concat(names, ", ", 1, math.min(#names, 5)) .. (#names > 5 and ", ..." or "")
  return (" of %d classes%s"):format(set.classes, shown and (" (%s)"):format(shown) or "")
end

--- cld.data.splits.folder(opt) -> the training set, the set for scoring or nil, and a notice or nil, from the options
-- cld.options.folder. --data is a folder of images, with train/ and test/ or val/, class folders, or plain files; or
-- the files that recipes/pack.lua made from one.
function splits.folder(opt)
  if core.io.exists(opt.data) or not packed.is_there(opt.data) then check_data(opt.data) end
  return with_queries(opt, train_and_test(opt))
end

local function of_folder(opt)
  local train, test, note = splits.folder(opt)
  if note then say(("%s: %s"):format(opt.data, note)) end
  if #train < 2 then user_error.raise("%s: training needs two images or more, and has %d", opt.data, #train) end
  say(("%s: %d training images%s%s"):format(opt.data, #train, classes_shown(train),
    test and (", %d to test by"):format(#test) or ""))
  return { train = train, test = test }
end

-- ---- by name ------------------------------------------------------------------

local function of_cifar(opt)
  local make = require "cld.data"[opt.dataset]
  local function set(split)
    return make {
      root = opt.data, split = split, layout = opt.layout, download = rawget(opt, "download"),
      mirror = rawget(opt, "mirror"),
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
  }
end

local function of_kitchen(opt)
  check_data(opt.data)
  local train = folder.kitchen_hc { root = opt.data, split = "train" }
  local test = folder.kitchen_hc { root = opt.data, split = "test" }
  user_error.call(train.listing.check_same_classes, train.listing, test.listing)
  return { train = train, test = test }
end

local function of_imagenet(opt)
  local classes = opt.classes ~= "" and opt.classes or nil
  local train = imagenet.new { root = opt.data, split = "train", classes = classes }
  local test = imagenet.new { root = opt.data, split = "val", classes = classes }
  imagenet.check_same_classes(opt.data, train, test)
  return { train = train, test = test }
end

local by_name = {
  cifar10 = of_cifar, cifar100 = of_cifar, folder = of_folder, imagenet = of_imagenet, kitchen_hc = of_kitchen,
  stl10 = of_stl10,
}

-- How an image of each set is prepared for evaluation.
local test_views = {
  cifar10 = function() return augment.none() end,
  cifar100 = function() return augment.none() end,
  folder = function(size) return augment.center { size = size } end,
  imagenet = function(size) return augment.center { size = size } end,
  kitchen_hc = function(size) return augment.none { size = size } end,
  stl10 = function(size) return augment.none { size = size, mean = 0.5, std = 0.5 } end,
}

--- test_view(options of a run) -> how an image of its data set is prepared for evaluation; nil if they do not name it.
function splits.test_view(opt)
  local make, size = test_views[rawget(opt, "dataset")], rawget(opt, "size")
  if not make or size ~= nil and math.type(size) ~= "integer" then return nil end
  return (size or opt.dataset:find "^cifar") and make(size) or nil
end

--- cld.data.splits(opt) -> {train =, test =, memory =, test_view =}: the data set that a recipe's options name
-- (opt.dataset, of cld.options.cifar, .folder, .imagenet, .stl10 or .kitchen_hc). test: the queries of kNN, nil if
-- there are none; memory: nil if it is the training set; test_view: how an image is prepared for evaluation.
local function new(opt)
  local make = by_name[opt.dataset]
  if not make then caller.raise("data.splits: no data set is called '%s'", tostring(opt.dataset)) end
  local result = make(opt)
  result.test_view = splits.test_view(opt)
  return rawget(opt, "max_bad") and with_reading(result, opt) or result
end

--- The possible names in opt.dataset.
splits.names = sorted_keys(by_name)

-- ---- the images of a run --------------------------------------------------------

local native = { cifar10 = 32, cifar100 = 32, kitchen_hc = 32, stl10 = 96 } -- the sizes of the published recipes

-- A data set's options with their defaults, and with a run's own values if the run used the same data set.
local function options_of(name, stored, where)
  local groups = require "cld.options"
  local group = groups[name:find "^cifar" and "cifar" or name]
  local opt = { seed = 1, size = native[name] or 224, workers = stored.workers }
  local was = stored.dataset == name and stored or {}
  local seed = { "seed", 1, "of the held out images", min = 0, integer = true }
  for _, list in ipairs { group, { seed }, groups.images } do
    for _, declaration in ipairs(list) do
      local field = declaration[1]:gsub("-", "_")
      if opt[field] == nil then opt[field] = declaration[2] end
      if was[field] ~= nil then
        groups.check(where, { declaration }, was)
        opt[field] = was[field]
      end
    end
  end
  opt.dataset = name
  return opt
end

local function is_there(path) return core.io.exists(path) ~= nil or packed.is_there(path) end

-- The folder in which a run was started, from its checkpoint's path and the option --runs: "a" of "a/runs/NAME/...".
local function folder_above(where, runs)
  local path = where:match "^(.*)/[^/]*$" or "."
  if type(runs) ~= "string" or runs:find "^/" or runs:find("..", 1, true) then return nil end
  for word in runs:gmatch "[^/]+" do path = word == "." and path or path .. "/.." end
  return path .. "/.."
end

-- The path of a run's images. A relative path starts from the folder in which the run was started. If nothing is there,
-- or an old checkpoint does not name that folder, it starts from the current folder or from the one that the run's own
-- path suggests.
local function located(data, where, stored, started_in)
  if data:find "^/" then return data end
  local here = core.io.working_folder()
  if started_in == here then started_in = nil end
  for _, parent in ipairs { started_in or "", "", folder_above(where, stored.runs) } do
    local path = parent == "" and data or parent .. "/" .. data
    if is_there(path) then return path end
  end
  return started_in and started_in .. "/" .. data or data -- the error names it
end

--- of_run(where, stored, {dataset, data, size, classes, started_in}) -> what splits returns, and the options that name
-- it: the data set that a run's stored options name. The third argument replaces the set, its place, or its size;
-- classes: ImageNet's, as its option, or "all"; started_in: the folder in which the run was started, or nil. `where` is
-- the checkpoint's path. A data set that no option names is a folder.
function splits.of_run(where, stored, given)
  local name = given.dataset or stored.dataset or "folder"
  if not by_name[name] then
    user_error.raise("%s: its option 'dataset' is %s; expected one of %s", where, caller.shown(name),
      table.concat(splits.names, ", "))
  end
  if given.classes and name ~= "imagenet" then
    user_error.raise("option '--classes': only imagenet takes it, and these images are %s", name)
  end
  local data = given.data or stored.dataset == name and stored.data
  if type(data) ~= "string" then
    user_error.raise("%s does not say where to find images like those of its run: give --data%s", where,
      given.dataset and "" or " and --dataset, which is 'folder' otherwise")
  end
  if not given.data then data = located(data, where, stored, given.started_in) end
  local opt = options_of(name, stored, where)
  opt.data, opt.size, opt.download = data, given.size or opt.size, false
  if given.classes then opt.classes = given.classes ~= "all" and given.classes or "" end
  local ok, result = pcall(new, opt)
  if ok then return result, opt end
  if given.dataset or not given.data or name == "folder" then error(result, 0) end
  user_error.raise("%s; --dataset folder uses it as a folder of images", tostring(result))
end

return setmetatable(splits, { __call = function(_, opt) return new(opt) end })
