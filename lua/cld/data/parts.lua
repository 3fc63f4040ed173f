--- The parts of what a person calls a data set: train/, test/ and val/ of a folder, a folder without these, an archive.
-- For programs that work on all of them.
local caller = require "cld.caller"
local core = require "cld.core"
local folder = require "cld.data.folder"
local user_error = require "cld.user_error"

local parts = {}

--- Where the parts of a path are: a list of {split = "train"|"test"|"val"|nil, where = path, is_archive}.
function parts.find(path)
  if core.io.exists(path) == "file" then return { { where = path, is_archive = true } } end
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

--- The data set of one of them. options: {inside (of an archive), layout, upright, problems (see data.folder)}
function parts.open(part, options)
  local archive = part.is_archive
  if not archive and options.inside then
    caller.raise("data.parts: %s is a folder: inside is for archives", part.where)
  end
  return (archive and folder.tar or folder.folder) {
    [archive and "path" or "root"] = part.where, inside = options.inside, layout = options.layout,
    upright = options.upright, problems = not archive and options.problems or nil,
  }
end

return parts
