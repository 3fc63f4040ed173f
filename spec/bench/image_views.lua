--- Our side of image files, on one core with one worker thread (bench.lua runs it with taskset): images per second of
-- processor time from the file to two views at 224 pixels, or of decoding alone. Prints one JSON line.
--
--   cldlua spec/bench/image_views.lua --what jpeg --data build/bench/images
--
-- jpeg: crop, flip, normalize. plus: the preset of that name. npy: like jpeg, from 256 x 256 pixels that are already
-- decoded. decode, png: from bytes in memory to pixels in memory; decode also with libjpeg-turbo called directly
-- (decode_floor.c), alternating file by file.
local cld = require "cld"

local opt = cld.options {
  about = "One side of the benchmark: image files on one core",
  { "what",    "jpeg", "what to measure", choices = { "jpeg", "plus", "npy", "decode", "png", "memory" } },
  { "data",    "build/bench/images", "folder of make_images.lua", nonempty = true },
  { "images",  600,    "images to take", min = 1, integer = true },
  { "workers", 1,      "threads of the loader", min = 0, integer = true },
}

-- ---- decoding -----------------------------------------------------------------

local function read(path)
  local file = assert(io.open(path, "rb"))
  local bytes = file:read "a"
  file:close()
  return bytes
end

-- Images per second of each function, called with a file's bytes, after one pass that is not counted. The second
-- function to decode a file finds its bytes in the processor's cache, so the functions take turns being second.
local function decode_all(folder, ways)
  local files, seconds = {}, {}
  for i, path in ipairs(cld.data.folder { root = folder }.paths) do files[i] = read(path) end
  for way in ipairs(ways) do seconds[way] = 0 end
  local passes = 2 * math.max(1, opt.images // (2 * #files))
  for pass = 0, passes do
    for _, bytes in ipairs(files) do
      for turn = 1, #ways do
        local way = (pass + turn) % #ways + 1
        local start = os.clock()
        local image <close> = ways[way](bytes) -- luacheck: ignore
        if pass > 0 then seconds[way] = seconds[way] + os.clock() - start end
      end
    end
  end
  for way, total in ipairs(seconds) do seconds[way] = passes * #files / total end
  return table.unpack(seconds)
end

-- ---- views --------------------------------------------------------------------

local BATCH = 16

local function peak_mb()
  for line in io.lines "/proc/self/status" do
    local kb = line:match "^VmHWM:%s+(%d+)"
    if kb then return kb / 1024 end
  end
end

local function loader(set, view)
  return cld.data.loader { set, batch_size = BATCH, views = 2, augment = view, workers = opt.workers }
end

-- Whole epochs, so that exactly the views made are counted, after one epoch that fills caches and buffers.
local function images_per_s(set, view)
  local epochs, batches, start = math.max(1, opt.images // #set), loader(set, view), nil
  for epoch = 0, epochs do
    if epoch == 1 then start = os.clock() end
    for batch in batches:epoch(epoch) do
      for _, one in ipairs(batch.views) do one:close() end
    end
  end
  return epochs * #set / (os.clock() - start)
end

local crop = cld.augment.crop_flip { scale = { 0.2, 1 } }
local statistics = cld.augment.statistics.imagenet
local plus = cld.augment.plus { size = 224, mean = statistics.mean, std = statistics.std }

local function folder() return cld.data.folder { root = opt.data .. "/jpeg" } end
local measure = {
  jpeg = function() return { images_per_s = images_per_s(folder(), crop) } end,
  plus = function() return { images_per_s = images_per_s(folder(), plus) } end,
  npy = function()
    return { images_per_s = images_per_s(cld.data.npy { images = opt.data .. "/packed-images.npy" }, crop) }
  end,
  decode = function()
    local floor = require "decode_floor"
    local ours, direct = decode_all(opt.data .. "/jpeg", {
      cld.image.decode, function(bytes) floor.decode(bytes) end,
    })
    return { images_per_s = ours, direct_per_s = direct }
  end,
  png = function()
    return { images_per_s = decode_all(opt.data .. "/png", { cld.image.decode }) }
  end,
  -- The memory that the loader adds to the process, not counting its batches: those being made, and the one handed out.
  memory = function()
    local before, made = peak_mb(), 0
    local all = loader(folder(), plus)
    for batch in all:epoch(1) do made = made + #batch.index end
    local batches = (3 + 1) * BATCH * 2 * 3 * 224 * 224 * 4 / 2 ^ 20
    return { peak_mb = peak_mb() - before - batches, images = made }
  end,
}

print(cld.json.encode(measure[opt.what]()))
