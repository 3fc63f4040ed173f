--- Fetches a data set from where it is published, checks it and unpacks it. A transfer that broke off is continued by
-- the same command; a set that is there is only checked.
--
--   cldlua recipes/download.lua cifar10 --root ./data
local cld = require "cld"
local sets = require "cld.data.download".sets

-- The name stands alone: the first word, or one that is a set's.
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
