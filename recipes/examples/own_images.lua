--- Your own images: a data set that is a Lua function, or a folder of files; and your own augmentation.
-- The method is NPID (Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018).
--
--   cldlua recipes/examples/own_images.lua                    # discs and bars that this file draws
--   cldlua recipes/examples/own_images.lua --data ~/photos    # a folder with a folder per class
local cld = require "cld"

local opt = cld.options {
  about = "NPID on images of one's own, drawn by a function in Lua or read from a folder",
  { "data",       "",   "folder of class folders; empty: what this file draws" },
  { "count",      2000, "images to draw", min = 10, integer = true },
  { "width",      32,   "channels of the encoder's first stage", min = 1, integer = true },
  { "batch-size", 64,   "images per step", min = 2, integer = true },
  { "lr",         0.03, "learning rate of SGD", above = 0 },
  { "epochs",     20,   "training epochs", min = 1, integer = true },
  cld.options.knn { knn_k = 20 }, cld.options.training,
}

local SIZE = 32 -- of the views, in pixels
-- Image i, u8 (height, width, 3), and its class from 0, the same on every call. Images may have any size. A reader for
-- a file format that cld.data does not know, or for a table of images, would look the same.
local function draw(i)
  local side, label, x, y = 40, i % 2, 12 + i * 7 % 17, 12 + i * 5 % 17
  local image = cld.full({ side, side, 3 }, 30 + i * 31 % 60, "u8")
  local color = cld.tensor({ 120 + i * 13 % 130, 120 + i * 29 % 130, 120 + i * 53 % 130 }, "u8")
  if label == 0 then
    image[{ { y - 3, y + 3 }, { x - 10, x + 10 } }] = color -- a bar: a range of rows and one of columns
  else
    local offset  = cld.arange(1, side + 1)
    local squared = (offset - y):square():unsqueeze(2) + (offset - x):square()
    image[squared:le(64)] = color                           -- a disc: where the mask is true
  end
  return image, label
end

local run = cld.run(opt)                                    -- first: --resume restores the run's options in opt
local set = opt.data ~= "" and cld.data.folder { root = opt.data }
  or cld.data.custom { count = opt.count, read = draw, class_names = { "bar", "disc" } }

local augment   = cld.augment
local normalize = augment.normalize { mean = 0.5, std = 0.25 }
local views = augment.list {                                -- applied in this order; print(views) shows all settings
  augment.random_resized_crop { size = SIZE, scale = { 0.6, 1 } },
  augment.flip { p = 0.5 },
  augment.color_jitter { brightness = 0.4, contrast = 0.4, saturation = 0.8, hue = 0.5, p = 0.9 },
  augment.gaussian_blur { sigma = { 0.1, 1 }, p = 0.3 },
  normalize,
}
local test_view = augment.list { augment.resize { size = { SIZE, SIZE } }, normalize }

local train, test = cld.data.split { set, share = 0.2, seed = opt.seed }
local loader = cld.data.loader { train, batch_size = opt.batch_size, views = 2, augment = views, seed = opt.seed,
  workers = opt.workers, device = opt.device, dtype = "auto" }
local net    = cld.models.resnet18 { small = true, width = opt.width, branches = { "instance" } }:to(opt.device)
local bank   = cld.losses.memory_bank { size = #train, dim = 128, temperature = 0.1, device = opt.device }
local sgd    = cld.optim.sgd(net, { momentum = 0.9, weight_decay = 5e-4 })

local step = cld.graph(function(views_of, index)
  local f = net:each(views_of, { normalize = true })
  local loss = (bank:loss(f[1], index) + bank:loss(f[2], index)) / 2
  sgd:step(loss, { lr = opt.lr, grad_norm = true })
  return { loss = loss, grad_norm = sgd.grad_norm }
end, { enabled = opt.graph, device = opt.device })

run:describe { test_view = test_view, layer = "instance" }
for epoch in run:epochs { net = net, bank = bank, sgd = sgd, loader = loader } do
  for batch in loader:epoch(epoch) do run:track(step(batch.views, batch.index), { lr = opt.lr }) end
  run:evaluate(net, { train = train, test = test, test_view = test_view })
end
