--- Pretrains with one command and nothing to choose: looks at a folder of images and at the machine, picks a method and
-- settings that fit, says which and why, trains, evaluates if the images have classes, and writes the weights for
-- torchvision. The rules are one table in lua/cld/pretrain.lua.
--
--   cldlua recipes/pretrain.lua --data ~/photos                  -- at most a night; --minutes 30 for less
--   cldlua recipes/pretrain.lua --data ~/photos --resume         -- continues
--
-- Options override the choices: --size 96, --epochs 50, or any other option of the recipe that is run
-- (folder_npid_cld.lua, folder_mocov2_cld.lua or folder_byol_cld.lua).
local cld = require "cld"
local pretrain = require "cld.pretrain"
local say = require "cld.say"

local own = {
  { "minutes", 0,      "how long all of it may take, in minutes; 0: 480, a night", min = 0, max = 1000000 },
  { "method",  "auto", "what to train", choices = { "auto", "npid", "mocov2", "byol" }, fixed = "which it began with" },
  { "linear-epochs", 20, "of the linear classifier at the end; 0: none", min = 0, max = 1000, integer = true },
}

local encoder = {} -- the encoder's options that every method has
for _, declaration in ipairs(cld.options.resnet) do
  if declaration[1] == "arch" or declaration[1] == "width" then encoder[#encoder + 1] = declaration end
end

-- The options that the choices depend on. The chosen recipe reads the whole command line.
local asked, given = cld.options.peek {
  about = "self-supervised training on a folder of images, without choices to make: of the options below, and all"
    .. " others of the recipe that it takes, those that matter and are not given are chosen",
  default_texts = pretrain.default_texts,
  own, cld.options.folder, cld.options.view, encoder, cld.options.sgd, cld.options.schedule, cld.options.knn,
  cld.options.training,
}
local plan = pretrain.plan(asked, given)
for _, line in ipairs(plan.lines) do say(line) end

cld.options.further(own, plan.recipe)
cld.options.defaults(plan.settings)
local run = cld.run.recipe(plan.recipe)
pretrain.export(run)
pretrain.evaluate(run, run.opt.linear_epochs)
