--- The parts of a data set: train/, test/ and val/ of a folder or an archive, or the whole set if it has none of
-- these. For programs that work on all parts.
local core = require "cld.core"
local folder = require "cld.data.folder"
local user_error = require "cld.user_error"

local parts = {}

local images = { jpg = true, jpeg = true, png = true, ppm = true, pgm = true }

-- The top-level folders below `prefix` that hold the archive's images, and their number; 0 if some images are in none.
local function folders_in(tar, prefix)
  local found, count = {}, 0
  for i = 1, #tar do
    local name = tar:member(i)
    if name:sub(1, #prefix) == prefix and images[(name:match "%.(%w+)$" or ""):lower()] then
      local first = name:match("^[^/]+/", #prefix + 1)
      if not first then return {}, 0 end
      if not found[first] then found[first], count = true, count + 1 end
    end
  end
  return found, count
end

local function in_archive(path, inside)
  local whole = { { where = path, inside = inside, is_archive = true } }
  local ok, tar = pcall(core.files.tar, path)
  if inside or not ok then return whole end -- opening it will say why
  local prefix = ""
  while true do
    local found, count = folders_in(tar, prefix)
    if count ~= 1 then
      local list = {}
      for _, split in ipairs { "train", "test", "val" } do
        if found[split .. "/"] then
          list[#list + 1] = { split = split, where = path, inside = prefix .. split, is_archive = true }
        end
      end
      return #list == count and count > 0 and list or whole
    end
    prefix = prefix .. next(found)
  end
end

--- The parts of a path: a list of {split = "train"|"test"|"val"|nil, where = path, inside, is_archive}. inside: only
-- this folder of an archive.
function parts.find(path, inside)
  if core.io.exists(path) == "file" then return in_archive(path, inside) end
  if inside then user_error.raise("'%s' is not an archive; only an archive has folders inside to choose from", path) end
  local list, seen, problem = {}, {}, nil
  for _, split in ipairs { "train", "test", "val" } do
    local ok, where = pcall(core.files.find_split, path, split)
    if not ok then
      problem = problem or where
    elseif not seen[where] then
      seen[where] = true
      list[#list + 1] = { split = where ~= path and where:match "[^/]*$" or nil, where = where }
    end
  end
  if #list == 0 then user_error.raise("%s", tostring(problem)) end
  return list
end

--- Opens one of them as a data set. options: {layout, upright, problems (see data.folder)}
function parts.open(part, options)
  local archive = part.is_archive
  return (archive and folder.tar or folder.folder) {
    [archive and "path" or "root"] = part.where, inside = part.inside, layout = options.layout,
    upright = options.upright, problems = not archive and options.problems or nil,
  }
end

return parts
