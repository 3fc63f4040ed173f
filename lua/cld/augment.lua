--- Augmentations: a view is a program, a list of steps, as torchvision's Compose is. The kinds of steps, their settings
-- and what they draw are C's (runtime/views); constructors are made from its tables, presets are lists.
--
--   cld.augment.cifar()                                   -- CLD's `base` at 32 pixels with CIFAR's statistics
--   cld.augment.plus { size = 96, scale = { 0.08, 1 } }   -- presets take settings
--   local a = cld.augment.infomin()                       -- and are lists of your own: `print(a)` shows them,
--   a[3].p = 0.5                                          -- a setting is changed,
--   table.insert(a, 5, cld.augment.solarize { p = 0.1 })  -- a step is put in between: the others draw as before
--   local b = cld.augment.list { cld.augment.resize { size = 32 }, cld.augment.flip() }
--
-- Steps are done in their order. A list that begins with random_resized_crop or resize is fast: of a file only the part
-- that it cuts out is decoded. Values are 0 to 1 unless there is `normalize`, after which only `erasing` may come.
-- Whoever takes a list checks it.
local core = require "cld.core"
local caller = require "cld.caller"
local user_error = require "cld.user_error"
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

-- The shortest that is read as the same number again.
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

-- As one would write it in a program.
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

-- What was given, and the defaults of the rest, so that a step shows all its settings. Its settings are checked here,
-- their place in a list by `list`.
local function construct(kind, given)
  local step = { op = kind.name }
  for key, value in pairs(given or {}) do step[key] = copy(value) end
  caller.call("augment." .. kind.name, views.check, step)
  for _, setting in ipairs(kind.settings) do
    if step[setting.name] == nil then step[setting.name] = copy(setting.default) end
  end
  return setmetatable(step, Step)
end

for name, kind in pairs(kinds) do
  augment[name] = function(given)
    if given ~= nil and type(given) ~= "table" then
      caller.raise("augment.%s: expected a table of settings, got %s", name, caller.shown(given))
    end
    return construct(kind, given)
  end
end

-- ---- lists ------------------------------------------------------------------

--- A list of steps: list[i], #list, table.insert and table.remove. Edited, it is checked when it is used next.
local List = { __name = "cld.augment.list" }
List.__index = List

function List:__newindex(key, step)
  if math.type(key) == "integer" then return rawset(self, key, step) end
  caller.raise("augment: a list has steps alone, settings are a step's, as in list[1].size = 96; got field %s",
    caller.shown(key))
end

-- Raises unless value has steps 1 to n and nothing else: a nil among them would end the list without a word.
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

--- Whether value is an augmentation: a list of steps.
function augment.is_list(value) return getmetatable(value) == List end

--- The program in C, checked, for cld.core: what is wrong with a step is raised at the user's line.
function List:program()
  check_entries(self)
  return caller.call("augment", views.program, self)
end

--- height, width of the views of images of that size, or of any without it.
function List:size(height, width) return caller.call("size", views.size, self:program(), height, width) end

--- Views that it makes of one image: 9 of jigsaw patches, else 1.
function List:images() return views.images(self:program()) end

--- mean, std that normalize takes, each a list of 3; 0 and 1 if there is no such step.
function List:statistics()
  local mean, std = 0, 1
  for _, step in ipairs(self) do
    if step.op == "normalize" then mean, std = step.mean, step.std end
  end
  local function channels(x) return type(x) == "number" and { x, x, x } or copy(x) end
  return channels(mean), channels(std)
end

--- What is drawn for a view of an image of that size: draw({seed, epoch, sample, view}, height, width) -> a list of
-- instructions (kernels/view.h) for each of its images. sample counts from 0, view from 1.
function List:draw(key, height, width)
  return caller.call("draw", views.draw, self:program(), key or {}, height, width)
end

--- What it makes of an image, u8 (H, W, 3): views(image[, {seed, epoch, sample, view}]) -> f32 (images, 3, height,
-- width). Those that a loader with this seed makes of the data set's image `sample`.
function List:views(image, key) return caller.call("views", views.apply, self:program(), image, key or {}) end

--- A list of its own, to be edited.
function List:copy() return copy(self) end

--- list{step, step, ...}: an augmentation, at most 32 steps, done in order.
function augment.list(steps)
  if type(steps) ~= "table" then
    caller.raise("augment.list: expected a table of steps, got %s", caller.shown(steps))
  end
  local list = setmetatable(table.move(steps, 1, check_entries(steps), 1, {}), List)
  list:program()
  return list
end

--- The steps as plain tables, such as a file can hold: {{op = "flip", p = 0.5}, ...}. from_table makes a list of them.
function List:to_table()
  local plain = {}
  for i = 1, check_entries(self) do
    plain[i] = {}
    for key, value in pairs(self[i]) do plain[i][key] = copy(value) end
  end
  return plain
end

--- from_table(what to_table returned) -> the same list. What is wrong with a step is an error that names it.
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
    caller.raise("augment.%s: settings have names: %s", name, table.concat(names, ", "))
  end
  caller.check_fields("augment." .. name, given, names)
  local a = {}
  for key, value in pairs(own) do a[key] = value end
  for key, value in pairs(given or {}) do a[key] = value end
  return a
end

-- The steps that are there; one with the probability 0 is not.
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

-- Every setting of none, base and plus. `none` is exactly this: the whole image, resized and normalized.
local plain = {
  size = 32,                          -- pixels of the view: a number or { height, width }
  crop = false,                       -- random_resized_crop, { low, high }: at that scale; else the whole image
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

--- No augmentation: resize and normalize, for evaluation. none{size = 32, mean, std, ...}
function augment.none(options) return plain_list("none", with(plain, {}), options) end

--- CLD's base augmentation (CIFAR, STL-10, Kitchen-HC). base{size = 32, scale = {0.2, 1}, mean, std, ...}
function augment.base(options)
  return plain_list("base", with(plain, { crop = true, jitter_p = 1, grayscale = 0.2, flip = 0.5 }), options)
end

--- MoCo v2's: a weaker hue, the jitter in four of five views, and blur. CLD's MoCo on CIFAR-10 adds `erasing = true`.
function augment.plus(options)
  return plain_list("plus", with(plain, {
    crop = true, jitter_p = 0.8, jitter = { 0.4, 0.4, 0.4, 0.1 }, grayscale = 0.2, blur = 0.5, flip = 0.5,
  }), options)
end

--- base at 32 pixels with CIFAR's mean and deviation.
augment.cifar = augment.base

-- The presets below are those of ImageNet: 224 pixels, its statistics.
local large = { size = 224, scale = { 0.2, 1 }, ratio = crop_ratio, mean = imagenet.mean, std = imagenet.std }

--- InfoMin's ('D'): RandAugment on strong jitter. infomin{size = 224, scale = {0.2, 1}, ratio, mean, std}
function augment.infomin(options)
  local a = settings("infomin", large, options)
  return list_of(cut(a), augment.flip(), jitter(0.8, 0.8, 0.8, 0.2, 0.8), augment.gaussian_blur { p = 0.5, taps = 23 },
    augment.rand_augment(), augment.random_grayscale { p = 0.2 }, normalized(a))
end

--- InfoMin's jigsaw patches, nine of 64 pixels out of 255.
-- infomin_jigsaw{view = 224, size = view * 255 / 224, patch = view * 64 / 224, scale = {0.6, 1}, ratio, mean, std}:
-- view, a number, is the size of the views that they go with.
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

-- BYOL blurs views of 64 pixels and more.
local function byol(name, blur, solarize, options)
  local a = settings(name, with(large, { scale = { 0.08, 1 }, blur = false, solarize = solarize }), options)
  if not a.blur then
    local side = type(a.size) == "table" and a.size[1] or a.size
    a.blur = type(side) == "number" and side < 64 and 0 or blur
  end
  return list_of(cut(a), augment.flip(), jitter(0.4, 0.4, 0.2, 0.1, 0.8), augment.random_grayscale { p = 0.2 },
    augment.gaussian_blur { p = a.blur, taps = 23 }, augment.solarize { p = a.solarize }, normalized(a))
end

--- BYOL's first view. byol_1{size = 224, scale = {0.08, 1}, ratio, mean, std, blur, solarize}: blur and solarize are
-- probabilities; blur is 1 from 64 pixels on, below 0.
function augment.byol_1(options) return byol("byol_1", 1, 0, options) end

--- BYOL's second view: as the first, blurred in one of ten, solarized in one of five.
function augment.byol_2(options) return byol("byol_2", 0.1, 0.2, options) end

--- Crop and flip, for linear evaluation. crop_flip{size = 224, scale = {0.08, 1}, ratio, mean, std}
function augment.crop_flip(options)
  local a = settings("crop_flip", with(large, { scale = { 0.08, 1 } }), options)
  return list_of(cut(a), augment.flip(), normalized(a))
end

--- The middle of an image whose shorter side is size * 256 / 224, for evaluation. center{size = 224, mean, std}
function augment.center(options)
  local a = settings("center", { size = 224, mean = imagenet.mean, std = imagenet.std }, options)
  local crop = augment.center_crop { size = a.size }
  local longest = type(a.size) == "table" and math.max(table.unpack(a.size)) or a.size
  return list_of(augment.resize { size = math.floor(longest * 256 / 224 + 0.5) }, crop, normalized(a))
end

-- A field that is not there is a typing error.
return setmetatable(augment, {
  __index = function(self, key)
    if type(key) ~= "string" then return nil end
    local names = {}
    for name in next, self do names[#names + 1] = name end
    table.sort(names)
    caller.raise("cld.augment has no '%s'%s", key, user_error.hint(key, names))
  end,
})
