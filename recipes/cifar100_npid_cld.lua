--- NPID + CLD on CIFAR-100: cifar10_npid_cld.lua with other defaults. The paper reports a kNN top-1 of 57.5, and 51.6
-- without CLD (--lambda 0).
local cld = require "cld"

cld.options.defaults { dataset = "cifar100", clusters = 200 }
cld.run.recipe "cifar10_npid_cld.lua"
