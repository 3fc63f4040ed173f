--- Augmentations: settings of one pipeline in C (runtime/data/augment.h), which turns an image into a view:
-- crop, colour jitter, grey, blur, flip, normalize, erase, in this order, each with its probability.
--
--   cld.augment.cifar()                                   -- CLD's `base` at 32 pixels with CIFAR's statistics
--   cld.augment.plus { size = 96, scale = { 0.08, 1 } }   -- any number can be given
local caller = require "cld.caller"
local sorted_keys = require "cld.sorted_keys"

local augment = {}

--- Channel statistics, of values 0 to 1: the default of mean and std.
augment.statistics = {
  cifar = { mean = { 0.4914, 0.4822, 0.4465 }, std = { 0.2023, 0.1994, 0.2010 } },
}

-- Every setting. `none` is exactly this: the whole image, resized where it has another size, and normalized.
local plain = {
  size = 32,                                -- pixels of the view: a number or { height, width }
  crop = false,                             -- RandomResizedCrop; else the whole image
  scale = { 0.2, 1 },                       -- the crop's share of the area
  ratio = { 3 / 4, 4 / 3 },                 -- its width / height
  jitter_p = 0,                             -- probability of the colour jitter
  jitter = { 0.4, 0.4, 0.4, 0.4 },          -- brightness, contrast, saturation, hue
  grayscale = 0,                            -- probability
  blur = 0,                                 -- probability
  sigma = { 0.1, 2 },                       -- of the blur, in pixels
  flip = 0,                                 -- probability of the left-right flip
  erasing = 0,                              -- probability; true is 1
  erasing_area = { 0.02, 0.33 },            -- the erased share of the view
  erasing_ratio = { 0.3, 3.3 },             -- its height / width
  mean = augment.statistics.cifar.mean,     -- per channel, of values 0 to 1
  std = augment.statistics.cifar.std,
}

local names = sorted_keys(plain) -- in order: of two as near, always the same is offered

-- plain, then the preset, then the caller's.
local function settings(name, preset, given)
  caller.check_fields("augment." .. name, given, names)
  local a = {}
  for key, value in pairs(plain) do a[key] = value end
  for key, value in pairs(preset) do a[key] = value end
  for key, value in pairs(given or {}) do a[key] = value end
  if type(a.size) == "number" then a.size = { a.size, a.size } end
  if type(a.erasing) == "boolean" then a.erasing = a.erasing and 1 or 0 end
  return a
end

local base = { crop = true, jitter_p = 1, grayscale = 0.2, flip = 0.5 }
local plus = { crop = true, jitter_p = 0.8, jitter = { 0.4, 0.4, 0.4, 0.1 }, grayscale = 0.2, blur = 0.5, flip = 0.5 }

--- No augmentation: resize and normalize, for evaluation.
function augment.none(options) return settings("none", {}, options) end

--- CLD's base augmentation (CIFAR, STL-10, Kitchen-HC).
function augment.base(options) return settings("base", base, options) end

--- MoCo v2's: a weaker hue, the jitter in four of five views, and blur. CLD's MoCo on CIFAR-10 adds `erasing = true`.
function augment.plus(options) return settings("plus", plus, options) end

--- base at 32 pixels with CIFAR's mean and deviation.
augment.cifar = augment.base

return augment
