--- Extracts features of images with a checkpoint of any recipe or with published weights: NAME.npy, f32 (images, dim),
-- and NAME.txt, the images' paths in row order, one per line. Memory does not grow with the number of images.
--
--   cldlua recipes/features.lua --checkpoint runs/NAME --data ~/photos --out photos
--
-- --data is a folder of images, with or without subfolders, or a .tar. Without it, the run's own data set is used, or
-- the --split part of --dataset. An image that cannot be read has no row.
local cld = require "cld"
local counter = require "cld.counter"
local extract = require "cld.eval.extract"
local features_file = require "cld.eval.features_file"
local say = require "cld.say"
local subject = require "cld.eval.subject"
local user_error = require "cld.user_error"

local opt = cld.options {
  about = "features of images by a checkpoint",
  cld.options.checkpoint,
  { "out",     "features", "NAME of NAME.npy and NAME.txt", nonempty = true },
  { "force",   false,      "replace files that are there" },
  { "split",   "train",    "of a data set that has them, not of a folder (--data): train or test", choices = {
    "train", "test" } },
  { "layer",   "auto",     "features (what the heads see), or instance (the first output); auto: features if the"
    .. " network has them", choices = { "auto", "features", "instance" } },
  { "batch-size", 64,      "images at a time", min = 1, max = 65536, integer = true },
  { "upright", false,      "turn images of a folder as their EXIF orientation says" },
  { "max-bad", 0.01,       "share of the images that may be unreadable", min = 0, max = 1 },
  { "strict",  false,      "end at the first image that cannot be read" },
  cld.options.machine,
}
features_file.check_absent(opt.out, opt.force)
local device     = subject.set_up(opt)
local net, about = subject.load(opt)
local set        = features_file.images(opt, about)
local view       = subject.view(opt, about)
local layer      = subject.layer(opt, net, about)
net:to(device)
print(("layer %s of %d images: %s"):format(layer, #set, subject.view_text(view)))

cld.catch_signals()
local file <close> = features_file.open(opt.out, set)
local count = counter.new(opt.out .. ".npy", #set)
for batch, features in extract.batches("features", net, set, {
  augment = view, layer = layer, batch_size = opt.batch_size, device = device, workers = opt.workers,
  max_bad = opt.max_bad, strict = opt.strict,
}) do
  local signal, number = cld.dist.interrupted()
  if signal then
    count:clear()
    say(("interrupted (SIG%s); nothing was written"):format(signal))
    os.exit(128 + number, true)
  end
  file:add(batch.index, features)
  count:step(#features)
end
count:clear()
cld.restore_signals()
file:commit()
if file.rows == 0 then user_error.raise "no image could be read" end
say(file:text())
