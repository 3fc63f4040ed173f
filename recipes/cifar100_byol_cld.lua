--- BYOL + CLD on CIFAR-100: cifar10_byol_cld.lua on other data. The settings are ours; nothing is published for them.
local cld = require "cld"

cld.options.defaults { dataset = "cifar100" }
cld.run.recipe "cifar10_byol_cld.lua"
