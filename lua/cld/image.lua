--- Images: u8 (height, width, 3). Image files, grids of images, and Pillow's operations (bindings/image.c).
--
--   local image = cld.image.read "cat.jpg"
--   cld.image.write("half.png", cld.image.resized_crop(image, 0, 0, image.shape[1], image.shape[2], 112))
--   cld.image.write("views.png", cld.image.grid(batch.views[1]:cpu()))
local core = require "cld.core"
local augment = require "cld.augment"
local caller = require "cld.caller"
local user_error = require "cld.user_error"
local is_tensor = core.tensor.is_tensor

local image = {}
for name, operation in pairs(core.image) do image[name] = operation end

local function check_path(name, path)
  if type(path) ~= "string" then caller.raise("%s: expected a file's path, got %s", name, caller.shown(path)) end
end

--- read(path[, {upright = false}]) -> u8 (height, width, 3): reads a JPEG, PNG, PPM or PGM, recognized by its content,
-- as Pillow's convert("RGB") does. upright rotates it as its EXIF orientation says.
function image.read(path, options)
  check_path("image.read", path)
  caller.check_fields("image.read", options, { "upright" })
  return user_error.call(core.picture.read, path, options and options.upright)
end

--- cld.image.decode(bytes[, {upright, shrink, part = {top, left, height, width}}]) -> u8 (height, width, 3): decodes
-- the bytes of an image file, a string or u8 (n). part is in pixels, from 0; shrink = 2, 4 or 8 decodes a JPEG at that
-- fraction of its size.
function image.decode(bytes, options)
  if type(bytes) ~= "string" and not is_tensor(bytes) then
    caller.raise("image.decode: expected a file's bytes, a string or u8[n], got %s", caller.shown(bytes))
  end
  caller.check_fields("image.decode", options, { "upright", "shrink", "part" })
  local settings = options or {}
  local part = settings.part or {}
  if settings.part ~= nil then
    if type(part) ~= "table" or #part ~= 4 then
      caller.raise("image.decode: part must be {top, left, height, width}, got %s", caller.shown(part))
    end
    for i = 1, 4 do caller.integer("image.decode", "part", part[i], i <= 2 and 0 or 1) end
  end
  return user_error.call(core.picture.decode, bytes, settings.upright, settings.shrink, table.unpack(part, 1, 4))
end

local kinds = { jpg = "jpeg", jpeg = "jpeg", png = "png", ppm = "ppm" }
local default_quality = 75 -- Pillow's

local function kind_of(path) return kinds[(path:match "%.([^./]+)$" or ""):lower()] end

--- cld.image.can_write(path) -> boolean: whether write supports the file type of the path's ending.
--
--     print(cld.image.can_write "a.png", cld.image.can_write "a.gif")  --> true false
function image.can_write(path)
  check_path("image.can_write", path)
  return kind_of(path) ~= nil
end

local function check_image(name, value)
  if not is_tensor(value) or value.dtype ~= "u8" or #value.shape ~= 3 or value.shape[3] ~= 3 then
    caller.raise("%s: an image is u8[height, width, 3], got %s", name, caller.shown(value))
  end
end

--- cld.image.write(path, image[, {quality = 75}]): writes an image u8 (H, W, 3) to a file of the type that its name
-- ends in, .jpg, .jpeg, .png or .ppm. quality (1 to 100) is for JPEG, whose colours are stored at half resolution
-- (4:2:0). An existing file is replaced only when the new one is complete.
--
--     cld.image.write("grey.png", cld.full({ 4, 6, 3 }, 128, "u8"))
--     print(cld.image.read("grey.png").shape[2])  --> 6
function image.write(path, value, options)
  check_path("image.write", path)
  caller.check_fields("image.write", options, { "quality" })
  local kind = kind_of(path)
  if not kind then
    caller.raise("image.write: the name of a file to write ends in .jpg, .jpeg, .png or .ppm, got '%s'", path)
  end
  check_image("image.write", value)
  local quality = options and options.quality or default_quality
  if math.type(quality) ~= "integer" or quality < 1 or quality > 100 then
    caller.raise("image.write: quality must be an integer of 1 to 100, got %s", caller.shown(quality))
  end
  user_error.call(core.picture.write, path, kind, value, quality)
end

-- ---- a page of images -------------------------------------------------------

local forms = "f32[n, 3, height, width], u8[n, height, width, 3], one image without n, a grey one [height, width]"
local page_options = { "columns", "padding", "mean", "std", "range" }

local function channels(caller_name, name, values)
  if type(values) ~= "table" or #values ~= 3 then
    caller.raise("%s: %s must be three numbers, got %s", caller_name, name, caller.shown(values))
  end
  return core.tensor.tensor(values):reshape(1, 3, 1, 1)
end

-- The values for black and for white.
local function limits(name, range)
  local low, high
  if type(range) == "table" and #range == 2 then low, high = range[1], range[2] end
  if type(low) == "number" and type(high) == "number" and low < high then return low, high end
  caller.raise("%s: range must be {black, white}, as in {0, 1}, got %s", name, caller.shown(range))
end

-- Floats (N, 3, H, W) to levels: u8 (N, H, W, 3). Grey images were not normalized, unless the options say so.
local function levels(name, views, options, is_grey)
  local is_normalized, scaled = options.mean ~= nil or options.std ~= nil, nil
  if options.range ~= nil and is_normalized then
    caller.raise("%s: give either range, or mean and std, of images that were normalized", name)
  elseif options.range ~= nil or is_grey and not is_normalized then
    local low, high = limits(name, options.range or { 0, 1 })
    scaled = (views:float() - low) / (high - low)
  else
    local statistics = augment.statistics.cifar
    scaled = views:float() * channels(name, "std", options.std or statistics.std)
      + channels(name, "mean", options.mean or statistics.mean)
  end
  return (scaled * 255):clamp(0, 255):round():permute(1, 3, 4, 2):to("u8")
end

-- Floats (H, W), (1 or 3, H, W) or (N, 1 or 3, H, W) as (N, 3, H, W), and whether they are grey; nil for other shapes.
local function views_of(images)
  local views = images
  if #images.shape == 2 then views = views:unsqueeze(1) end
  if #views.shape == 3 then views = views:unsqueeze(1) end
  local shape = views.shape
  if #shape ~= 4 or shape[2] ~= 3 and shape[2] ~= 1 then return nil end
  return views:expand(shape[1], 3, shape[3], shape[4]), shape[2] == 1
end

-- u8 (H, W), (H, W, 3) or (N, H, W, 3) as a list of (H, W, 3); nil for other shapes.
local function pictures_of(images)
  local shape = images.shape
  if #shape == 2 then return { images:unsqueeze(3):expand(shape[1], shape[2], 3):contiguous() } end
  if #shape == 3 and shape[3] == 3 then return { images } end
  return #shape == 4 and shape[4] == 3 and images:unbind() or nil
end

-- Converts any form that grid takes to a list of u8 (H, W, 3).
local function list_of(name, images, options)
  local list
  if is_tensor(images) then
    images = images:cpu():detach()
    if images.dtype == "u8" then
      list = pictures_of(images)
    elseif images.dtype:match "^b?f" then
      local views, is_grey = views_of(images)
      list = views and levels(name, views, options, is_grey):unbind()
    end
  elseif type(images) == "table" then
    for _, one in ipairs(images) do check_image(name, one) end
    list = images
  end
  return list or caller.raise("%s: expected %s or a list of images, got %s", name, forms, caller.shown(images))
end

-- A grid of the images, for the function `name`, which accepts the same forms.
local function page_of(name, images, options)
  local list = list_of(name, images, options)
  if #list == 0 then caller.raise("%s: there are no images", name) end
  local columns = caller.integer(name, "columns", options.columns or math.ceil(math.sqrt(#list)))
  columns = math.min(columns, #list)
  local padding = caller.integer(name, "padding", options.padding or 2, 0)
  local height, width = 0, 0
  for _, one in ipairs(list) do
    height, width = math.max(height, one.shape[1]), math.max(width, one.shape[2])
  end
  local rows = (#list + columns - 1) // columns
  local page = core.tensor.zeros({ rows * (height + padding) + padding, columns * (width + padding) + padding, 3 },
    { dtype = "u8" })
  for i, one in ipairs(list) do
    local row, column = (i - 1) // columns, (i - 1) % columns
    page:narrow(1, padding + row * (height + padding) + 1, one.shape[1])
      :narrow(2, padding + column * (width + padding) + 1, one.shape[2]):copy_(one)
  end
  return page
end

--- grid(images[, {columns, padding = 2, mean, std, range}]) -> u8 (height, width, 3): a grid of images on black,
-- `columns` wide (default: about as many columns as rows), with padding pixels between them. images: views f32 (N, 3,
-- H, W), whose normalization by mean and std (default: CIFAR's) is undone; u8 (N, H, W, 3); or a list of u8 images,
-- which may have different sizes. range = {0, 1} takes f32 that was not normalized: 0 is black, 1 is white. One image,
-- without N, and grey ones, f32 (N, 1, H, W) in range {0, 1}, f32 or u8 (H, W), are accepted too.
--
--     print(cld.image.grid(cld.rand(6, 1, 8, 8), { columns = 3 }).shape[2])  --> 32
function image.grid(images, options)
  caller.check_fields("image.grid", options, page_options)
  return page_of("image.grid", images, options or {})
end

--- cld.image.show(images[, {mode, width, columns, padding, mean, std, range}]): shows an image u8 (height, width, 3) in
-- the terminal, or a grid of what grid takes, at most `width` characters wide (default: the terminal). f32 is treated
-- as a view that was normalized by mean and std (default: CIFAR's); for values from 0 to 1 give range = {0, 1}, the
-- default for grey images. mode: "kitty" (Kitty's graphics protocol: Kitty, WezTerm, Ghostty), "sixel", "blocks" (half
-- blocks in 24-bit colours, in xterm's 256 unless COLORTERM is truecolor) or "ascii" (characters by brightness); by
-- default the best that the terminal supports, ascii if it has no colours, NO_COLOR is set or the locale is not UTF-8.
-- If standard output is not a terminal, it prints a line that says so.
--
--     -- needs a picture
--     cld.image.show(cld.image.read "cat.jpg")
function image.show(images, options)
  caller.check_fields("image.show", options, { "mode", "width", table.unpack(page_options) })
  options = options or {}
  local page = {}
  for _, name in ipairs(page_options) do page[name] = options[name] end
  if page.padding == nil and is_tensor(images) and #images.shape <= 3 then page.padding = 0 end -- one image
  local one = page_of("image.show", images, page)
  require "cld.image.shown".show("image.show", one, options)
end

return image
