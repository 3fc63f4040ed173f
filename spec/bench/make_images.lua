--- Image files for the benchmark: about 480 x 360 pixels, JPEG files of about 40 KB, like ImageNet's; the first ones
-- also as PNG. (recipes/pack.lua makes the .npy file from them.)
--
--   cldlua spec/bench/make_images.lua --out build/bench/images
--
-- An image is noise at several scales, weaker at finer scales. The wanted file size determines the strength of the
-- finest scale.
local cld = require "cld"

local opt = cld.options {
  about = "Image files for the benchmark",
  { "out",   "build/bench/images", "folder to write to", nonempty = true },
  { "count", 300,                  "JPEG files", min = 1, max = 99999, integer = true },
  { "png",   60,                   "how many of them also as PNG", min = 0, integer = true },
  { "kb",    40,                   "thousands of bytes of a JPEG file, on average", min = 1, integer = true },
}

local QUALITY = 90

local function between(low, high) return math.random(low, high) end

-- f32 (height, width, 3): noise in cells of `cells` pixels, smooth between them, from -1 to 1.
local function noise(height, width, cells)
  local coarse = cld.rand(height // cells + 2, width // cells + 2, 3):mul(256):to "u8"
  local smooth = cld.image.resize(coarse, { height, width }, "bicubic")
  return smooth:float():mul(2 / 255):sub(1)
end

local function image(height, width, finest)
  local sum = noise(height, width, 96):mul(70):add(128)
  for i, cells in ipairs { 48, 24, 12, 6 } do sum = sum + noise(height, width, cells):mul(60 / i) end
  sum = sum + noise(height, width, 2):mul(finest)
  return sum:clamp(0, 255):to "u8"
end

local function size_of(path)
  local file = assert(io.open(path, "rb"))
  local size = file:seek "end"
  file:close()
  return size
end

local function write(path, value) assert(cld.image.write(path, value, { quality = QUALITY }) == nil) end

-- The strength of the finest noise for which a file has about opt.kb thousand bytes.
local function strength()
  local low, high, path = 0, 128, opt.out .. "/trial.jpg"
  for _ = 1, 8 do
    local middle = (low + high) / 2
    cld.manual_seed(1)
    write(path, image(360, 480, middle))
    if size_of(path) > opt.kb * 1000 then high = middle else low = middle end
  end
  os.remove(path)
  return (low + high) / 2
end

for _, folder in ipairs { "/jpeg", "/png" } do assert(cld.io.mkdir(opt.out .. folder)) end
local finest, bytes = strength(), 0
math.randomseed(1)
cld.manual_seed(1)
for i = 1, opt.count do
  local made = image(between(330, 390), between(440, 520), finest)
  local path = ("%s/jpeg/%05d.jpg"):format(opt.out, i)
  write(path, made)
  bytes = bytes + size_of(path)
  if i <= opt.png then write(("%s/png/%05d.png"):format(opt.out, i), made) end
end
print(cld.json.encode { files = opt.count, bytes = bytes // opt.count, noise = finest })
