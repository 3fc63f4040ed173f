--- Makes a procedural data set in CIFAR-10's own file layout, or as image files: ten textures at random position, size,
-- angle and hue. Raw pixels separate the classes badly, because position and hue do not depend on the class; crops,
-- flips and colour jitter preserve it. It can be learned in two minutes, which suits the demos and the tests.
--
--   cldlua recipes/make_toy_data.lua --out build/toy
--   cldlua recipes/make_toy_data.lua --out build/toy-images --layout files
local cld = require "cld"
local user_error = require "cld.user_error"
local writer = require "cld.cifar_writer"

local opt = cld.options {
  about = "procedural images in CIFAR-10's file layout, or as image files",
  { "out",      "build/toy", "folder to write to", nonempty = true },
  { "train",    2000,     "training images", min = 10, max = 1000000, integer = true },
  { "test",     1000,     "test images", min = 10, max = 1000000, integer = true },
  { "layout",   "python", "CIFAR-10's python or binary one; files: JPEG and some PNG, train/CLASS/ and test/CLASS/",
    choices = { "python", "binary", "files" } },
  { "least-side", 60,     "of an image file, in pixels", min = 8, max = 4096, integer = true },
  { "most-side", 220,     "of an image file, in pixels", min = 8, max = 4096, integer = true },
  { "period",   6.0,      "pixels per repetition of the texture, at least, in an image of 32 x 32", min = 2, max = 32 },
  { "range",    1.6,      "at most this many times that", min = 1, max = 10 },
  { "contrast", 0.45,     "difference in brightness of the two colours", min = 0, max = 1 },
  { "saturation", 0.4,    "of both colours", min = 0, max = 1 },
  { "shade",    0.25,     "how much the light varies across an image", min = 0, max = 1 },
  { "noise",    0.06,     "standard deviation of each pixel's noise", min = 0, max = 1 },
  { "seed",     1,        "seed", integer = true },
}
cld.dist.first_only()

local pi, sin, cos, floor, abs = math.pi, math.sin, math.cos, math.floor, math.abs
local random = math.random
local SIDE = 32

local function uniform(low, high) return low + (high - low) * random() end

-- ---- the textures -----------------------------------------------------------
-- Each returns a function of a position, measured in repetitions of the texture: the share of the second colour there,
-- from 0 to 1. The centre of the image is at (x0, y0).

local function wave(x) return 0.5 + 0.5 * sin(2 * pi * x) end
local function step(x) return x > 0 and 1 or 0 end

local textures = {
  { "rows", function() return function(_, y) return wave(y) end end },
  { "columns", function() return function(x, _) return wave(x) end end },
  { "diagonals", function()
    local sense = random(2) == 1 and 1 or -1
    return function(x, y) return wave((x + sense * y) * 0.7071) end
  end },
  { "checks", function() return function(x, y) return step(sin(1.4 * pi * x) * sin(1.4 * pi * y)) end end },
  { "lattice", function() -- thin lines in both directions
    return function(x, y) return step(math.max(cos(2 * pi * x), cos(2 * pi * y)) - 0.75) end
  end },
  { "dots", function()
    return function(x, y)
      local dx, dy = x - floor(x) - 0.5, y - floor(y) - 0.5
      return step(0.09 - dx * dx - dy * dy)
    end
  end },
  { "rings", function(x0, y0)
    local cx, cy = x0 + uniform(-1.3, 1.3), y0 + uniform(-1.3, 1.3)
    return function(x, y) return wave(((x - cx) ^ 2 + (y - cy) ^ 2) ^ 0.5) end
  end },
  { "zigzag", function()
    return function(x, y) return wave(y + 0.9 * abs(x - floor(x) - 0.5)) end
  end },
  { "bricks", function()
    return function(x, y)
      local row = floor(2 * y)
      local bx, by = x + 0.5 * (row % 2), 2 * y - row
      bx = bx - floor(bx)
      return (bx < 0.14 or by < 0.28) and 1 or 0
    end
  end },
  { "clouds", function()
    local waves = {}
    for i = 1, 6 do
      local angle = uniform(0, 2 * pi)
      waves[i] = { cos(angle), sin(angle), uniform(0, 1) }
    end
    return function(x, y)
      local sum = 0
      for i = 1, 6 do
        local w = waves[i]
        sum = sum + sin(2 * pi * (w[1] * x + w[2] * y + w[3]))
      end
      return step(sum)
    end
  end },
}

-- ---- an image ---------------------------------------------------------------

-- Hue 0..1, saturation and value to {red, green, blue}.
local function rgb(hue, saturation, value)
  local colour = {}
  for c = 1, 3 do
    local distance = abs((hue * 6 + 8 - 2 * c) % 6 - 3) -- from the hue opposite this primary colour
    colour[c] = value * (1 - saturation * (1 - math.max(0, math.min(1, distance - 1))))
  end
  return colour
end

-- A light and a dark colour of one hue; either may be the first. Hue jitter changes the hue arbitrarily, so images
-- cannot be told apart by colour, only by texture.
local function colours()
  local hue, middle = random(), uniform(0.5, 0.6)
  local light = rgb(hue, opt.saturation, middle + opt.contrast / 2)
  local dark = rgb(hue, opt.saturation, middle - opt.contrast / 2)
  if random(2) == 1 then return light, dark end
  return dark, light
end

-- The sum of four uniform numbers: close enough to a normal distribution, without a logarithm.
local function noise() return opt.noise * 1.7320508 * (random() + random() + random() + random() - 2) end

-- Three planes, each a list of height * width levels. A larger image shows the same scene as a 32 x 32 one.
local function draw(texture, height, width)
  local scale = SIDE / math.min(height, width)
  local period = opt.period * opt.range ^ random()
  local tilt = uniform(-0.12, 0.12) -- radians: a little off the axes
  local ux, uy = cos(tilt) / period, sin(tilt) / period
  local x0, y0 = uniform(0, 8), uniform(0, 8)
  local amount = texture(x0, y0)
  local back, front = colours()
  local light = uniform(0, 2 * pi)
  local lx, ly = opt.shade * cos(light) / SIDE, opt.shade * sin(light) / SIDE
  local planes = { {}, {}, {} }
  for y = 0, height - 1 do
    for x = 0, width - 1 do
      local dx, dy = (x - width / 2) * scale, (y - height / 2) * scale
      local t = amount(x0 + dx * ux - dy * uy, y0 + dx * uy + dy * ux)
      local brightness = 1 + dx * lx + dy * ly
      local grain = noise()
      for c = 1, 3 do
        local level = (back[c] + t * (front[c] - back[c])) * brightness + grain
        local plane = planes[c]
        plane[#plane + 1] = level <= 0 and 0 or level >= 1 and 255 or floor(level * 255 + 0.5)
      end
    end
  end
  return planes
end

-- ---- CIFAR-10's files -------------------------------------------------------

-- Images of 3072 bytes: three planes of 32 x 32.
local function batch(count)
  local labels, images = {}, {}
  for i = 1, count do
    labels[i] = random(#textures) - 1
    local planes = draw(textures[labels[i] + 1][2], SIDE, SIDE)
    for c = 1, 3 do planes[c] = string.char(table.unpack(planes[c])) end
    images[i] = table.concat(planes)
  end
  return { labels = labels, images = images }
end

local function write_cifar()
  writer.folder(opt.out, opt.layout) -- fails before the work starts if the folder cannot be made
  local names = {}
  for i, texture in ipairs(textures) do names[i] = texture[1] end
  local train, test = batch(opt.train), batch(opt.test)
  return writer.cifar10(opt.out, opt.layout, train, test, names)
end

-- ---- image files ------------------------------------------------------------

local PNG_SHARE = 0.1

-- Sizes are log-uniform: as many images near each size as near twice that size.
local function side() return floor(opt.least_side * (opt.most_side / opt.least_side) ^ random() + 0.5) end

local function write_file(path, texture)
  local height, width = side(), side()
  local image = cld.tensor(draw(texture, height, width), "u8"):reshape(3, height, width):permute(2, 3, 1):contiguous()
  user_error.call(cld.image.write, path .. (random() < PNG_SHARE and ".png" or ".jpg"), image, { quality = 85 })
end

local function write_files()
  if opt.least_side > opt.most_side then
    user_error.raise("option '--least-side': expected at most the %d of --most-side, got %d", opt.most_side,
      opt.least_side)
  end
  local splits = { { opt.out .. "/train", opt.train }, { opt.out .. "/test", opt.test } }
  for _, split in ipairs(splits) do
    if cld.io.exists(split[1]) then
      user_error.raise("'%s' is there already: remove it, or give another --out", split[1])
    end
    for _, texture in ipairs(textures) do user_error.call(cld.io.mkdir, split[1] .. "/" .. texture[1]) end
  end
  for _, split in ipairs(splits) do
    for i = 1, split[2] do
      local texture = textures[(i - 1) % #textures + 1] -- in turn, so that no class is empty
      write_file(("%s/%s/%05d"):format(split[1], texture[1], i), texture[2])
    end
  end
  return opt.out
end

math.randomseed(opt.seed)
local folder = (opt.layout == "files" and write_files or write_cifar)()
print(("%s: %d training and %d test images of %d textures"):format(folder, opt.train, opt.test, #textures))
