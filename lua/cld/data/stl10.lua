--- STL-10 in its authors' files (Coates, Ng and Lee, AISTATS 2011): stl10_binary/{train,test,unlabeled}_X.bin
-- and _y.bin. An image is three planes of 96 x 96, stored column by column; a label is a byte, 1 to 10.
local core = require "cld.core"
local caller = require "cld.caller"
local dataset = require "cld.data.dataset"
local download = require "cld.data.download"
local sets = require "cld.data.sets"
local user_error = require "cld.user_error"
local create = core.tensor

local stl10 = {}

local SIDE, CLASSES = 96, 10
local MEMORY_BYTES = 2 ^ 29 -- a split up to this size is held in memory; a larger one is read on demand

-- The file's text; or nil and why it cannot be read.
local function read_file(path)
  local file, problem = io.open(path, "rb")
  if not file then return nil, problem end
  local text
  text, problem = file:read "a"
  file:close()
  return text, problem and ("%s: %s"):format(path, problem)
end

local function folder_of(root)
  for _, folder in ipairs { root .. "/stl10_binary", root } do
    if core.io.exists(folder .. "/train_X.bin") or core.io.exists(folder .. "/unlabeled_X.bin") then return folder end
  end
  user_error.raise("%s: no STL-10 here: expected stl10_binary/ with train_X.bin, train_y.bin, ... in it;"
    .. " --download or recipes/download.lua stl10 fetches them", root)
end

local function labels_of(folder, split, count)
  if split == "unlabeled" then return create.full({ count }, -1, "i64") end
  local path = ("%s/%s_y.bin"):format(folder, split)
  local text, problem = read_file(path)
  if not text then user_error.raise("%s", problem) end
  if #text ~= count then
    user_error.raise("%s: it has %d labels, but %s_X.bin has %d images", path, #text, split, count)
  end
  local list = {}
  for i = 1, count do
    local label = text:byte(i)
    if label < 1 or label > CLASSES then
      user_error.raise("%s: label %d is %d; STL-10's are 1 to %d", path, i, label, CLASSES)
    end
    list[i] = label - 1
  end
  return create.tensor(list, "i64")
end

local function class_names(folder)
  local text, names = read_file(folder .. "/class_names.txt"), {}
  for line in (text or ""):gmatch "[^\r\n]+" do names[#names + 1] = line end
  return #names == CLASSES and names or nil
end

-- The indices (from 0) of a fold, 1 to 10: a line of a thousand numbers.
local function fold_of(folder, fold, count)
  local path = folder .. "/fold_indices.txt"
  local text, problem = read_file(path)
  if not text then user_error.raise("%s", problem) end
  local number, indices = 0, {}
  for line in text:gmatch "[^\r\n]+" do
    number = number + 1
    if number == fold then
      for word in line:gmatch "%S+" do
        local index = math.tointeger(tonumber(word))
        if not index or index < 0 or index >= count then
          user_error.raise("%s, line %d: '%s' is not an image from 0 to %d", path, number, word, count - 1)
        end
        indices[#indices + 1] = index
      end
    end
  end
  if #indices == 0 then user_error.raise("%s: there is no fold %d", path, fold) end
  return create.tensor(indices, "i64")
end

local function one_split(folder, split)
  local path = ("%s/%s_X.bin"):format(folder, split)
  local source = user_error.call(core.dataset.planes, path, SIDE, SIDE, true)
  local fields = {
    name = "stl10 " .. split, source = source, labels = labels_of(folder, split, #source), classes = CLASSES,
    class_names = class_names(folder),
  }
  if #source * SIDE * SIDE * 3 > MEMORY_BYTES then return dataset.new(fields) end
  fields.images = user_error.call(source.load, source)
  return dataset.in_memory(fields)
end

local splits = { train = true, test = true, unlabeled = true, ["train+unlabeled"] = true }

--- cld.data.stl10{root =, split = "train"|"test"|"unlabeled"|"train+unlabeled", fold, download = false, mirror} ->
-- dataset: STL-10's images, u8 (96, 96, 3). fold, 1 to 10, selects the thousand images of `train` for that fold of the
-- 10-fold protocol. Unlabeled images have the label -1.
function stl10.new(options)
  caller.require_fields("data.stl10", options, { "root", "split", "fold", "download", "mirror" })
  if type(options.root) ~= "string" then
    caller.raise("data.stl10: root must be the folder that holds the files, got %s", caller.shown(options.root))
  end
  local split = options.split or "train"
  if not splits[split] then
    caller.raise("data.stl10: split must be train, test, unlabeled or train+unlabeled, got %s", caller.shown(split))
  end
  if options.fold and split ~= "train" then caller.raise "data.stl10: only the split train has folds" end
  download.for_reader("stl10", options)
  local folder = folder_of(options.root)
  if split == "train+unlabeled" then
    return sets.concat {
      one_split(folder, "train"), one_split(folder, "unlabeled"), name = "stl10 train+unlabeled",
    }
  end
  local set = one_split(folder, split)
  if not options.fold then return set end
  local fold = caller.integer("data.stl10", "fold", options.fold)
  return sets.subset { set, indices = fold_of(folder, fold, #set), name = ("stl10 train, fold %d"):format(fold) }
end

return stl10
