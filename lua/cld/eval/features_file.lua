--- Features as files: NAME.npy, f32 (images, dim), and NAME.txt, the images' paths, one per line, in the order of the
-- rows. Both are renamed into place when complete, the .npy last: if it exists, so does the rest. With several ranks,
-- each gets all rows, and rank 0 writes them.
local core = require "cld.core"
local data = require "cld.data"
local dist = require "cld.dist"
local extract = require "cld.eval.extract"
local options = require "cld.options"
local subject = require "cld.eval.subject"
local user_error = require "cld.user_error"
local io_ = core.io

local features_file = {}

local HEADER_BYTES = 128

local function header(rows, dim)
  local text = ("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }"):format(rows, dim)
  local room = HEADER_BYTES - 10
  return "\x93NUMPY\1\0" .. string.pack("<I2", room) .. text .. (" "):rep(room - 1 - #text) .. "\n"
end

local function base_of(name) return (name:gsub("%.npy$", "")) end

--- Raises if the name is that of a folder or, unless `force`, of an existing file.
function features_file.check_absent(name, force)
  if base_of(name):find "/$" then
    user_error.raise("option '--out': '%s' is the name of a folder; expected NAME of NAME.npy and NAME.txt in it", name)
  end
  for _, ending in ipairs(force and {} or { ".npy", ".txt" }) do
    local path = base_of(name) .. ending
    if io_.exists(path) then user_error.raise("option '--out': '%s' is there already; --force replaces it", path) end
  end
end

--- images(opt, about) -> the data set that the options of recipes/features.lua name.
function features_file.images(opt, about)
  local is_folder = opt.dataset == "folder" or opt.dataset == "own" and opt.data ~= ""
  if not is_folder then
    local sets, of = subject.sets(opt, about)
    if not sets[opt.split] then user_error.raise("%s: it has no %s images", of.data, opt.split) end
    return sets[opt.split]
  end
  if opt.data == "" then user_error.raise "option '--data': expected a folder of images, or a .tar" end
  if options.details(opt).given.split then
    user_error.raise("option '--split': all images of --data are taken; expected the part itself as --data, such as"
      .. " %s/%s", opt.data, opt.split)
  end
  local settings = { layout = "plain", upright = opt.upright }
  local is_archive = opt.data:lower():find "%.tar$"
  settings[is_archive and "path" or "root"] = opt.data
  return (is_archive and data.tar or data.folder)(settings)
end

local File = { __name = "cld.features_file" }
File.__index = File
function File:__close() self.writer:close() end

-- The writer of a rank that writes nothing.
local function nobodys()
  local function nothing() end
  return { put = nothing, patch = nothing, commit = nothing, close = nothing }
end

--- open(NAME, data set): no file exists before commit.
function features_file.open(name, set)
  local base = base_of(name)
  local writer = dist.rank == 0 and user_error.call(io_.writer, base .. ".npy") or nobodys()
  return setmetatable({
    base = base, set = set, path_of = rawget(set, "path_of"), writer = writer,
    rows = 0, seen = 0, paths = {},
  }, File)
end

-- The positions, from 1, of the rows with the expected image. If another image replaced an unreadable one, its
-- features are written only in its own position.
local function due(self, index)
  local rows = {}
  for i, at in ipairs(index:totable()) do
    if at == self.seen + i - 1 then rows[#rows + 1] = i end
  end
  return rows
end

local function remember(self, at)
  local path = self.path_of(at)
  if path:find "[\r\n]" then user_error.raise("'%s': a path with a line break cannot be a line of a text", path) end
  self.paths[#self.paths + 1] = path
end

--- Adds the features (n, dim) of the next images of the set; index, i64 (n), has their positions.
function File:add(index, features)
  if features.ndim ~= 2 then
    user_error.raise("the network makes features of %d dimensions, not rows", features.ndim)
  end
  local odd = extract.odd_rows(features):item()
  if odd > 0 then extract.raise_not_finite(odd, #features) end
  if not self.dim then
    self.dim = features.shape[2]
    user_error.call(self.writer.put, self.writer, header(0, self.dim))
  end
  local rows = due(self, index)
  for _, i in ipairs(self.path_of and rows or {}) do remember(self, self.seen + i) end
  self.seen, self.rows = self.seen + #index, self.rows + #rows
  if #rows == 0 then return end
  local kept = features:to "f32"
  if #rows < #index then
    local positions = {}
    for k, i in ipairs(rows) do positions[k] = i - 1 end
    kept = kept:index_select(1, core.tensor.tensor(positions, "i64"):to(kept.device))
  end
  user_error.call(self.writer.put, self.writer, kept)
end

--- Renames both files into place; writes neither if there are no rows.
function File:commit()
  if self.rows == 0 or dist.rank > 0 then return end
  user_error.call(self.writer.patch, self.writer, 0, header(self.rows, self.dim))
  local list = self.base .. ".txt"
  if self.path_of then
    user_error.call(io_.write_atomic, list, table.concat(self.paths, "\n") .. "\n")
  elseif io_.exists(list) then
    os.remove(list) -- the list of the file that is replaced
  end
  user_error.call(self.writer.commit, self.writer)
end

--- A line about what was written.
function File:text()
  local left = self.seen - self.rows
  return ("%s.npy: f32 (%d, %d)%s%s"):format(self.base, self.rows, self.dim,
    self.path_of and ("; %s.txt: their paths"):format(self.base) or "; this data set has no files to list",
    left > 0 and ("; %d images could not be read and are left out"):format(left) or "")
end

return features_file
