--- Finds the files that recipes/pack.lua wrote: NAME.tar, or NAME-train.tar with NAME-test.tar or NAME-val.tar, or
-- NAME-images.npy with its labels and classes, or NAME-train-images.npy and so on.
local core = require "cld.core"
local folder = require "cld.data.folder"
local json = require "cld.json"
local user_error = require "cld.user_error"

local packed = {}

local endings = { ".tar", "-images.npy" }

-- NAME: the path without the ending of one of the files.
local function name_of(path)
  for _, ending in ipairs(endings) do
    if path:sub(-#ending) == ending then
      path = path:sub(1, -#ending - 1)
      break
    end
  end
  return (path:gsub("%-train$", ""))
end

local function is_file(path) return core.io.exists(path) == "file" end

local function class_names(name)
  local path = name .. "-classes.json"
  if not is_file(path) then return nil end
  local file = io.open(path)
  local text = file:read "a"
  file:close()
  local ok, names = pcall(json.decode, text)
  if not ok or type(names) ~= "table" then user_error.raise("%s: not a list of class names", path) end
  return names
end

local function open_npy(name, npy)
  local labels = name .. "-labels.npy"
  return npy {
    images = name .. "-images.npy", labels = is_file(labels) and labels or nil, class_names = class_names(name),
  }
end

-- The set in NAME's files, or nil if there are none.
local function open(name, options)
  if is_file(name .. ".tar") then return folder.tar { path = name .. ".tar", upright = options.upright } end
  if is_file(name .. "-images.npy") then return open_npy(name, options.npy) end
end

--- Whether path is the NAME of such files or one of the files.
function packed.is_there(path)
  local name = name_of(path)
  for _, ending in ipairs(endings) do
    if is_file(name .. ending) or is_file(name .. "-train" .. ending) then return true end
  end
  return false
end

--- find(path, {upright, npy = cld.data.npy}) -> the training set, and the set for scoring or nil; nil if path is
-- neither such a file nor the NAME of such files.
function packed.find(path, options)
  if core.io.exists(path) == "folder" then return nil end
  local name = name_of(path)
  local train = open(name .. "-train", options)
  if not train then return open(name, options) end
  return train, open(name .. "-test", options) or open(name .. "-val", options)
end

return packed
