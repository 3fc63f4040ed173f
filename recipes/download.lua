--- Downloads a data set from its publisher, checks it and unpacks it. Run the same command again to continue an
-- interrupted transfer. A data set that is already there is only checked.
--
--   cldlua recipes/download.lua cifar10 --root ./data
local cld = require "cld"
local sets = require "cld.data.download".sets

-- The data set's name may be given without an option: the first word, or any word that names a set.
local function take_name()
  for i, word in ipairs(arg) do
    local is_value = i > 1 and (arg[i - 1] == "--root" or arg[i - 1] == "--mirror")
    if not word:find "^%-" and not is_value and (i == 1 or sets[word]) then return table.remove(arg, i) end
  end
end
local name = take_name()

local opt = cld.options {
  about = "download.lua NAME: fetch a data set, NAME being cifar10, cifar100 or stl10",
  { "root",   "./data", "folder that is to hold it", nonempty = true },
  { "layout", "auto",   "CIFAR's files; auto: those that are there, or python",
    choices = { "auto", "python", "binary" } },
  { "mirror", "",       "another address to fetch it from: the archive's, or of the folder that holds it" },
  { "keep",   false,    "keep the archive as well" },
  { "stall",  60,       "seconds without a byte after which the server is given up",
    min = 1, max = 86400, integer = true },
}
cld.dist.first_only()
if not name then
  require "cld.user_error".raise "which data set? download.lua NAME, NAME being cifar10, cifar100 or stl10"
end

local folder = cld.data.download {
  name = name, root = opt.root, layout = opt.layout, mirror = opt.mirror, keep = opt.keep, stall = opt.stall,
}
require "cld.say"(("%s: complete"):format(folder))
