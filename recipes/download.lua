--- Downloads a data set from its publisher, checks it and unpacks it. Run the same command again to continue an
-- interrupted transfer. A data set that is already there is only checked.
--
--   cldlua recipes/download.lua cifar10 --root ./data
local cld = require "cld"

local opt = cld.options {
  about = "fetches a data set",
  { "name",   "",       "the data set: cifar10, cifar100 or stl10", value = "argument" },
  { "root",   "./data", "folder that is to hold it", nonempty = true },
  { "layout", "auto",   "CIFAR's files; auto: those that are there, or python",
    choices = { "auto", "python", "binary" } },
  { "mirror", "",       "another address to fetch it from: the archive's, or of the folder that holds it" },
  { "keep",   false,    "keep the archive as well" },
  { "stall",  60,       "seconds without a byte after which the server is given up",
    min = 1, max = 86400, integer = true },
}
cld.dist.first_only()
if opt.name == "" then
  require "cld.user_error".raise "which data set? download.lua NAME, NAME being cifar10, cifar100 or stl10"
end

local folder = cld.data.download {
  name = opt.name, root = opt.root, layout = opt.layout, mirror = opt.mirror, keep = opt.keep, stall = opt.stall,
}
require "cld.say"(("%s: complete"):format(folder))
