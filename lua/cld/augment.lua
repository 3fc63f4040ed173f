--- Augmentations: a view is a program, a list of steps, like torchvision's Compose. C (runtime/views) defines the
-- kinds of steps, their settings and what they draw. The constructors are made from its tables. Presets are lists.
--
--   cld.augment.cifar()                                   -- CLD's `base` at 32 pixels with CIFAR's statistics
--   cld.augment.plus { size = 96, scale = { 0.08, 1 } }   -- presets take settings
--   local a = cld.augment.infomin()                       -- and return lists that you can edit: `print(a)`,
--   a[3].p = 0.5                                          -- change a setting,
--   table.insert(a, 5, cld.augment.solarize { p = 0.1 })  -- insert a step: the others draw as before
--   local b = cld.augment.list { cld.augment.resize { size = 32 }, cld.augment.flip() }
--
-- Steps run in order. A list that begins with random_resized_crop or resize is fast: only the part of the file that it
-- cuts out is decoded. Values are 0 to 1 before `normalize`, after which only `erasing` may come. Every function that
-- takes a list checks it.
local core = require "cld.core"
local caller = require "cld.caller"
local class = require "cld.class"
local views = core.views

local augment = {}

--- Channel statistics, of values 0 to 1: what normalize{} and the presets' mean and std take.
augment.statistics = {
  cifar = { mean = { 0.4914, 0.4822, 0.4465 }, std = { 0.2023, 0.1994, 0.2010 } },
  imagenet = { mean = { 0.485, 0.456, 0.406 }, std = { 0.229, 0.224, 0.225 } },
  stl10 = { mean = { 0.5, 0.5, 0.5 }, std = { 0.5, 0.5, 0.5 } },
}

local function copy(value)
  if type(value) ~= "table" then return value end
  local fresh = {}
  for key, entry in pairs(value) do fresh[key] = copy(entry) end
  return setmetatable(fresh, getmetatable(value))
end

-- ---- printing ---------------------------------------------------------------

-- The shortest text that reads back as the same number.
local function number_shown(value)
  for digits = 6, 16 do
    local text = ("%." .. digits .. "g"):format(value)
    if tonumber(text) == value then return text end
  end
  return ("%.17g"):format(value)
end

local function shown(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) == "number" then return number_shown(value) end
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  for i, entry in ipairs(value) do parts[i] = shown(entry) end
  return ("{ %s }"):format(table.concat(parts, ", "))
end

local kinds = {} -- by name
for _, kind in ipairs(views.kinds()) do kinds[kind.name] = kind end

-- The step as it is written in a program.
local function step_shown(step)
  local _ <close> = core.text.c_locale()
  local parts = {}
  for _, setting in ipairs(kinds[step.op] and kinds[step.op].settings or {}) do
    local value = step[setting.name]
    if value ~= nil then parts[#parts + 1] = ("%s = %s"):format(setting.name, shown(value)) end
  end
  return ("cld.augment.%s { %s }"):format(step.op, table.concat(parts, ", "))
end

-- ---- steps ------------------------------------------------------------------

local Step = { __name = "cld.augment.step", __tostring = step_shown }

-- Fills in the defaults, so that a step shows all its settings. The settings are checked here; `list` checks the
-- step's place in a list.
local function construct(kind, given)
  local step = { op = kind.name }
  for key, value in pairs(given or {}) do step[key] = copy(value) end
  caller.call("augment." .. kind.name, views.check, step)
  for _, setting in ipairs(kind.settings) do
    if step[setting.name] == nil then step[setting.name] = copy(setting.default) end
  end
  return setmetatable(step, Step)
end

--- cld.augment.erasing{p = 0.5, area = {0.02, 0.33}, ratio = {0.3, 3.3}, value = 0} -> step: torchvision's
-- RandomErasing: a rectangle with that share of the view's area is set to value.
--- cld.augment.normalize{mean =, std =} -> step: (x - mean) / std per channel, of values 0 to 1. Only erasing may
-- come after it.
--- cld.augment.jigsaw{size = 64} -> step: cuts nine patches of size pixels out of a three-by-three grid; each becomes
-- an image. A view has at most one such step.
--- cld.augment.rand_augment{n = 2, m = 10, mstd = 0.5, p = 0.5, fill = {124, 116, 104}} -> step: n operations of
-- RandAugment, each with probability p, at magnitude m, which varies by mstd, as in InfoMin's code. fill: the colour
-- of areas that come from outside the image.
--- cld.augment.solarize{threshold = 128, p = 0.5} -> step: inverts values at or above the threshold, with probability
-- p.
--- cld.augment.gaussian_blur{sigma = {0.1, 2}, p = 1, taps = 0} -> step: blurs with a sigma drawn from that range, in
-- pixels. taps 0: Pillow's box blurs, as in MoCo's code; an odd number: a kernel with that many weights, as in
-- torchvision's GaussianBlur.
--- cld.augment.random_grayscale{p = 0.1} -> step: torchvision's RandomGrayscale, with three channels.
--- cld.augment.color_jitter{brightness = 0, contrast = 0, saturation = 0, hue = 0, p = 1} -> step: torchvision's
-- ColorJitter: factors within 1 +- each setting, the hue within +- its share of the colour circle, in random order;
-- with probability p.
--- cld.augment.flip{p = 0.5} -> step: torchvision's RandomHorizontalFlip.
--- cld.augment.random_crop{size =, padding = 0} -> step: torchvision's RandomCrop: a random position in the image,
-- with `padding` black pixels around it.
--- cld.augment.center_crop{size =} -> step: the centre; size is a number or {height, width}.
--- cld.augment.resize{size =, filter = "bilinear"} -> step: torchvision's Resize: a number sets the shorter side,
-- {height, width} both.
--- cld.augment.random_resized_crop{size =, scale = {0.08, 1}, ratio = {3/4, 4/3}, filter = "bilinear"} -> step:
-- torchvision's RandomResizedCrop: a rectangle with that share of the area and that width / height, resized to size, a
-- number or {height, width}. A list that begins with it decodes only that part of a JPEG file.
for name, kind in pairs(kinds) do
  augment[name] = function(given)
    if given ~= nil and type(given) ~= "table" then
      caller.raise("augment.%s: expected a table of settings, got %s", name, caller.shown(given))
    end
    return construct(kind, given)
  end
end

-- ---- lists ------------------------------------------------------------------

--- A list of steps: list[i], #list, table.insert and table.remove. After an edit it is checked at its next use.
local List = class.new "cld.augment.list"

function List:__newindex(key, step)
  if math.type(key) == "integer" then return rawset(self, key, step) end
  caller.raise("augment: a list has steps alone, settings are a step's, as in list[1].size = 96; got field %s",
    caller.shown(key))
end

-- Raises unless value has steps 1 to n and nothing else: a nil among them would silently end the list.
local function check_entries(value)
  local last = 0
  for key in pairs(value) do
    if math.type(key) ~= "integer" or key < 1 then
      caller.raise("augment.list: expected steps alone, as in list{flip{}, normalize{...}}; found field %s",
        caller.shown(key))
    end
    last = math.max(last, key)
  end
  for i = 1, last do
    local step = rawget(value, i)
    if step == nil then caller.raise("augment: step %d is nil, and step %d is not: a list has no holes", i, last) end
    if getmetatable(step) == List then
      caller.raise("augment: step %d is a list itself: put its steps there, one by one, or by table.unpack", i)
    end
  end
  return last
end

function List:__tostring()
  local lines = { "cld.augment.list {" }
  for _, step in ipairs(self) do lines[#lines + 1] = ("  %s,"):format(tostring(step)) end
  lines[#lines + 1] = "}"
  return table.concat(lines, "\n")
end

--- cld.augment.is_list(value) -> boolean: whether value is an augmentation: a list of steps.
function augment.is_list(value) return getmetatable(value) == List end

--- augmentation:program() -> program: the checked steps, in C: what cld.views takes.
function List:program()
  check_entries(self)
  return caller.call("augment", views.program, self)
end

--- augmentation:size([height, width]) -> height, width: the size of the views of images of that size, or of any size.
function List:size(height, width) return caller.call("size", views.size, self:program(), height, width) end

--- augmentation:images() -> integer: the number of views that it makes of one image: 9 for jigsaw patches, else 1.
function List:images() return views.images(self:program()) end

--- augmentation:statistics() -> mean, std: what its normalize step takes, each a list of 3; zeros and ones if there is
-- no such step.
function List:statistics()
  local mean, std = 0, 1
  for _, step in ipairs(self) do
    if step.op == "normalize" then mean, std = step.mean, step.std end
  end
  local function channels(x) return type(x) == "number" and { x, x, x } or copy(x) end
  return channels(mean), channels(std)
end

--- augmentation:draw({seed =, epoch =, sample =, view =}, height, width) -> {instructions, ...}: the random choices
-- for a view of an image of that size, one entry for each of its images (kernels/view.h). sample counts from 0, view
-- from 1.
function List:draw(key, height, width)
  return caller.call("draw", views.draw, self:program(), key or {}, height, width)
end

--- augmentation:views(image[, {seed =, epoch =, sample =, view =}]) -> f32 (images, 3, height, width): applies the
-- list to an image, u8 (H, W, 3). The views equal those that a loader with this seed makes of the data set's image
-- `sample`.
function List:views(image, key) return caller.call("views", views.apply, self:program(), image, key or {}) end

--- augmentation:copy() -> list: an independent copy, to be edited.
function List:copy() return copy(self) end

--- cld.augment.list{step, step, ...} -> list: an augmentation of your own, at most 32 steps, applied in order.
--
--     local view = cld.augment.list { cld.augment.resize { size = { 32, 32 } }, cld.augment.flip { p = 1 } }
--     local image = cld.zeros({ 40, 60, 3 }, "u8")
--     print(table.concat(view:views(image).shape, " "))  --> 1 3 32 32
function augment.list(steps)
  if type(steps) ~= "table" then
    caller.raise("augment.list: expected a table of steps, got %s", caller.shown(steps))
  end
  local list = setmetatable(table.move(steps, 1, check_entries(steps), 1, {}), List)
  list:program()
  return list
end

--- augmentation:to_table() -> {{op =, settings}, ...}: the steps as plain tables that a file can hold, such as {{op =
-- "flip", p = 0.5}, ...}. cld.augment.from_table makes a list of them.
function List:to_table()
  local plain = {}
  for i = 1, check_entries(self) do
    plain[i] = {}
    for key, value in pairs(self[i]) do plain[i][key] = copy(value) end
  end
  return plain
end

--- cld.augment.from_table(steps) -> list: makes a list from what to_table returned. An error names the step at fault.
function augment.from_table(steps)
  if type(steps) ~= "table" then
    caller.raise("augment.from_table: expected a list of steps, got %s", caller.shown(steps))
  end
  local made = {}
  for i = 1, check_entries(steps) do
    local given, step = steps[i], {}
    local kind = type(given) == "table" and kinds[given.op]
    if not kind then
      caller.raise("augment.from_table: step %d is %s; expected {op = its kind, settings}", i,
        type(given) == "table" and "of the kind " .. caller.shown(given.op) or caller.shown(given))
    end
    for key, value in pairs(given) do
      if key ~= "op" then step[key] = value end
    end
    made[i] = construct(kind, step)
  end
  return augment.list(made)
end

-- ---- presets ----------------------------------------------------------------

-- A preset's settings: its own, then the caller's.
local function settings(name, own, given)
  local names = {}
  for key in pairs(own) do names[#names + 1] = key end
  table.sort(names)
  if type(given) == "table" and #given > 0 then
    caller.raise("augment.%s: settings need names: %s", name, table.concat(names, ", "))
  end
  caller.check_fields("augment." .. name, given, names)
  local a = {}
  for key, value in pairs(own) do a[key] = value end
  for key, value in pairs(given or {}) do a[key] = value end
  return a
end

-- The steps without the absent ones: a step with probability 0 is left out.
local function list_of(...)
  local list = setmetatable({}, List)
  for i = 1, select("#", ...) do
    local step = select(i, ...)
    if step and step.p ~= 0 then list[#list + 1] = step end
  end
  list:program()
  return list
end

local function cut(a) return augment.random_resized_crop { size = a.size, scale = a.scale, ratio = a.ratio } end
local function normalized(a) return augment.normalize { mean = a.mean, std = a.std } end
local function jitter(b, c, s, h, p)
  return augment.color_jitter { brightness = b, contrast = c, saturation = s, hue = h, p = p }
end

local crop_ratio = { 3 / 4, 4 / 3 }
local cifar, imagenet = augment.statistics.cifar, augment.statistics.imagenet

-- Every setting of none, base and plus, with the defaults of `none`: the whole image, resized and normalized.
local plain = {
  size = 32,                          -- pixels of the view: a number or { height, width }
  crop = false,                       -- random_resized_crop, instead of the whole image; { low, high }: at that scale
  scale = { 0.2, 1 },                 -- the crop's share of the area
  ratio = crop_ratio,                 -- its width / height
  jitter_p = 0,                       -- probability of the colour jitter
  jitter = { 0.4, 0.4, 0.4, 0.4 },    -- brightness, contrast, saturation, hue
  grayscale = 0,                      -- probability
  blur = 0,                           -- probability
  sigma = { 0.1, 2 },                 -- of the blur, in pixels
  flip = 0,                           -- probability of the left-right flip
  erasing = 0,                        -- probability; true is 1
  erasing_area = { 0.02, 0.33 },      -- the erased share of the view
  erasing_ratio = { 0.3, 3.3 },       -- its height / width
  mean = cifar.mean,                  -- per channel, of values 0 to 1
  std = cifar.std,
}

local function plain_list(name, own, given)
  local a = settings(name, own, given)
  if type(a.erasing) == "boolean" then a.erasing = a.erasing and 1 or 0 end
  if type(a.crop) == "table" then a.crop, a.scale = true, a.crop end
  if type(a.crop) ~= "boolean" then
    caller.raise("augment.%s: crop must be true, false or the scale {low, high}, got %s", name, caller.shown(a.crop))
  end
  if type(a.jitter) ~= "table" or #a.jitter ~= 4 then
    caller.raise("augment.%s: jitter must be a list of 4: brightness, contrast, saturation and hue, got %s", name,
      caller.shown(a.jitter))
  end
  return list_of(
    a.crop and cut(a) or augment.resize { size = type(a.size) == "number" and { a.size, a.size } or a.size },
    a.jitter_p ~= 0 and jitter(a.jitter[1], a.jitter[2], a.jitter[3], a.jitter[4], a.jitter_p),
    augment.random_grayscale { p = a.grayscale },
    a.blur ~= 0 and augment.gaussian_blur { sigma = a.sigma, p = a.blur },
    augment.flip { p = a.flip },
    normalized(a),
    a.erasing ~= 0 and augment.erasing { p = a.erasing, area = a.erasing_area, ratio = a.erasing_ratio })
end

local function with(defaults, own)
  local all = {}
  for key, value in pairs(defaults) do all[key] = value end
  for key, value in pairs(own) do all[key] = value end
  return all
end

--- cld.augment.none{size = 32, mean, std, ...} -> list: no augmentation: the whole image, resized and normalized,
-- for evaluation.
function augment.none(options) return plain_list("none", with(plain, {}), options) end

--- cld.augment.base{size = 32, scale = {0.2, 1}, mean, std, ...} -> list: CLD's base augmentation (CIFAR, STL-10,
-- Kitchen-HC): crop, colour jitter, grey in one of five, flip. Further settings: jitter, jitter_p, grayscale, blur,
-- sigma, flip, erasing.
--
--     local views = cld.augment.base { size = 96 }
--     print(views[1].op, #views)                --> random_resized_crop 5
function augment.base(options)
  return plain_list("base", with(plain, { crop = true, jitter_p = 1, grayscale = 0.2, flip = 0.5 }), options)
end

--- cld.augment.plus{size = 32, scale = {0.2, 1}, mean, std, ...} -> list: MoCo v2's augmentation: less hue, colour
-- jitter in four of five views, and blur in half of them. CLD's MoCo on CIFAR-10 adds erasing = true.
function augment.plus(options)
  return plain_list("plus", with(plain, {
    crop = true, jitter_p = 0.8, jitter = { 0.4, 0.4, 0.4, 0.1 }, grayscale = 0.2, blur = 0.5, flip = 0.5,
  }), options)
end

--- cld.augment.cifar{...} -> list: the same as base: 32 pixels and CIFAR's statistics unless the settings say
-- otherwise.
augment.cifar = augment.base

-- The presets below are for ImageNet: 224 pixels, its statistics.
local large = { size = 224, scale = { 0.2, 1 }, ratio = crop_ratio, mean = imagenet.mean, std = imagenet.std }

--- cld.augment.infomin{size = 224, scale = {0.2, 1}, ratio, mean, std} -> list: InfoMin's ("D"): RandAugment after
-- strong jitter.
function augment.infomin(options)
  local a = settings("infomin", large, options)
  return list_of(cut(a), augment.flip(), jitter(0.8, 0.8, 0.8, 0.2, 0.8), augment.gaussian_blur { p = 0.5, taps = 23 },
    augment.rand_augment(), augment.random_grayscale { p = 0.2 }, normalized(a))
end

--- cld.augment.infomin_jigsaw{view = 224, size = view * 255 / 224, patch = view * 64 / 224, scale = {0.6, 1}, ratio,
-- mean, std} -> list: InfoMin's jigsaw patches, nine patches of 64 pixels cut from 255. view, a number, is the size of
-- the views that they accompany.
function augment.infomin_jigsaw(options)
  local own = with(large, { view = 224, size = false, scale = { 0.6, 1 }, patch = false })
  local a = settings("infomin_jigsaw", own, options)
  if math.type(a.view) ~= "integer" or a.view < 1 then
    caller.raise("augment.infomin_jigsaw: view must be a number of pixels, got %s", caller.shown(a.view))
  end
  a.size = a.size or math.floor(a.view * 255 / 224 + 0.5)
  a.patch = a.patch or math.floor(a.view * 64 / 224 + 0.5)
  return list_of(cut(a), augment.flip(), augment.jigsaw { size = a.patch }, normalized(a))
end

-- BYOL blurs views of at least 64 pixels.
local function byol(name, blur, solarize, options)
  local a = settings(name, with(large, { scale = { 0.08, 1 }, blur = false, solarize = solarize }), options)
  if not a.blur then
    local side = type(a.size) == "table" and a.size[1] or a.size
    a.blur = type(side) == "number" and side < 64 and 0 or blur
  end
  return list_of(cut(a), augment.flip(), jitter(0.4, 0.4, 0.2, 0.1, 0.8), augment.random_grayscale { p = 0.2 },
    augment.gaussian_blur { p = a.blur, taps = 23 }, augment.solarize { p = a.solarize }, normalized(a))
end

--- cld.augment.byol_1{size = 224, scale = {0.08, 1}, ratio, mean, std, blur, solarize} -> list: BYOL's first view.
-- blur and solarize are probabilities; blur is 1 for views of at least 64 pixels and 0 for smaller ones.
function augment.byol_1(options) return byol("byol_1", 1, 0, options) end

--- cld.augment.byol_2{size = 224, scale = {0.08, 1}, ratio, mean, std, blur, solarize} -> list: BYOL's second view:
-- like the first, but blurred in one of ten and solarized in one of five.
function augment.byol_2(options) return byol("byol_2", 0.1, 0.2, options) end

--- cld.augment.crop_flip{size = 224, scale = {0.08, 1}, ratio, mean, std} -> list: crop and flip, for linear
-- evaluation.
function augment.crop_flip(options)
  local a = settings("crop_flip", with(large, { scale = { 0.08, 1 } }), options)
  return list_of(cut(a), augment.flip(), normalized(a))
end

--- cld.augment.center{size = 224, mean, std} -> list: the centre of an image whose shorter side is resized to size *
-- 256 / 224, for evaluation.
function augment.center(options)
  local a = settings("center", { size = 224, mean = imagenet.mean, std = imagenet.std }, options)
  local crop = augment.center_crop { size = a.size }
  local longest = type(a.size) == "table" and math.max(table.unpack(a.size)) or a.size
  return list_of(augment.resize { size = math.floor(longest * 256 / 224 + 0.5) }, crop, normalized(a))
end

return augment
