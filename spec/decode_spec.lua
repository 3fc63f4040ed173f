--- Image files: Pillow's pixels for each kind (fixtures/make_pictures.py), parts of images, images at a smaller scale,
-- and damaged files.
local cld = require "cld"
local check = require "spec.support.check"
local decode = cld.image.decode

local fixture = cld.load "spec/fixtures/pictures.safetensors"

-- The names of the fixture's tensors that begin with "<of>:", without that, sorted.
local function names(of)
  local list = {}
  for name in pairs(fixture) do list[#list + 1] = name:match("^" .. of .. ":(.*)$") end
  table.sort(list)
  assert(#list > 0)
  return list
end

local function file(name) return fixture["file:" .. name] end
local function text(bytes) return string.char(table.unpack(bytes:totable())) end

-- Whole numbers of at least `low` and at most `high`, the same on each run.
local function random_from(seed)
  local state = seed
  return function(low, high)
    state = (state * 6364136223846793005 + 1442695040888963407)
    return low + (state >> 33) % (high - low + 1)
  end
end

-- Of files that lack their last scans the versions of libjpeg make pixels that differ by some levels.
local tolerance = { ["jpeg 420 incomplete progressive"] = { atol = 4 } }

describe("a file's pixels are Pillow's:", function()
  for _, name in ipairs(names "pixels") do
    it(name, function() check.close(decode(file(name)), fixture["pixels:" .. name], tolerance[name]) end)
  end
  for _, name in ipairs(names "upright") do
    it(name .. ", upright", function()
      check.close(decode(file(name), { upright = true }), fixture["upright:" .. name])
    end)
  end
end)

-- Raises unless random parts of the file are what the whole of it is there, at 1/shrink.
local function check_parts(bytes, shrink, count)
  local random = random_from(shrink)
  local size = decode(bytes).shape
  local whole = decode(bytes, { shrink = shrink })
  local by = math.ceil(size[1] / whole.shape[1]) -- 1 where the kind is not shrunk
  for _ = 1, count do
    local top, left = random(0, size[1] - 1), random(0, size[2] - 1)
    local height, width = random(1, size[1] - top), random(1, size[2] - left)
    local part = decode(bytes, { shrink = shrink, part = { top, left, height, width } })
    local first, last = top // by, (top + height + by - 1) // by
    local from, to = left // by, (left + width + by - 1) // by
    local expected = whole:narrow(1, first + 1, last - first):narrow(2, from + 1, to - from)
    if not (part - expected):eq(0):all():item() then
      error(("part %d, %d, %d x %d at 1/%d differs"):format(top, left, height, width, shrink))
    end
  end
end

describe("a part is as in the whole image:", function()
  for _, name in ipairs(names "parts") do
    it(name, function() check_parts(fixture["parts:" .. name], 1, 60) end)
    it(name .. ", shrunk", function()
      for _, shrink in ipairs { 2, 4, 8 } do check_parts(fixture["parts:" .. name], shrink, 20) end
    end)
  end
  for _, name in ipairs(names "file") do
    it(name, function() check_parts(file(name), 1, 8) end)
  end

  it("and must lie in it", function()
    for _, part in ipairs { { 0, 0, 26, 1 }, { 0, 0, 1, 34 }, { 25, 0, 1, 1 }, { 3, 33, 1, 1 } } do
      check.fails(function() decode(file "png rgb", { part = part }) end, "is not in an image of 25 x 33")
    end
    check.fails(function() decode(file "png rgb", { part = { 0, 0, 0, 1 } }) end,
      "part must be an integer of at least 1, got 0")
  end)
end)

describe("a shrunk image", function()
  it("has a half, a quarter or an eighth of the rows and columns, rounded up", function()
    local bytes = fixture["parts:jpeg 420"] -- 107 x 90
    assert.same({ 54, 45, 3 }, decode(bytes, { shrink = 2 }).shape)
    assert.same({ 27, 23, 3 }, decode(bytes, { shrink = 4 }).shape)
    assert.same({ 14, 12, 3 }, decode(bytes, { shrink = 8 }).shape)
    check.fails(function() decode(bytes, { shrink = 3 }) end, "shrunk by 1, 2, 4 or 8, not by 3")
  end)

  it("gives views that differ by less than 2 levels in the mean", function()
    local n = 256
    local y, x = cld.arange(0, n):float():reshape(n, 1, 1), cld.arange(0, n):float():reshape(1, n, 1)
    local phase = cld.tensor({ 0, 1.5, 3 }):reshape(1, 1, 3)
    local smooth = 128 + (x / 7 + y / 31 + phase):sin() * 50 + (x * y / 700 + phase):cos() * 40
    cld.manual_seed(1)
    local image = (smooth + cld.randn(n, n, 3) * 12):clamp(0, 255):to("u8")
    local folder = require "spec.support.process".temporary_folder()
    local path = folder .. "/image.jpg"
    cld.image.write(path, image, { quality = 90 })
    local bytes = assert(io.open(path, "rb")):read "a"
    require "spec.support.process".remove(folder)
    local full = decode(bytes)
    for _, shrink in ipairs { 2, 4 } do
      local small = decode(bytes, { shrink = shrink })
      local out = math.floor(192 / shrink / 1.75) -- as cld_picture_shrink allows
      local exact = cld.image.resized_crop(full, 32, 32, 192, 192, out):float()
      local fast = cld.image.resized_crop(small, 32 // shrink, 32 // shrink, 192 // shrink, 192 // shrink, out):float()
      assert.is_true((exact - fast):abs():mean():item() < 2)
    end
  end)
end)

describe("a damaged file", function()
  -- An error, or the pixels of the whole file.
  local function check_truncated(name)
    local whole, bytes = decode(file(name)), text(file(name))
    local decoded = 0
    for length = 0, #bytes - 1 do
      local ok, result = pcall(decode, bytes:sub(1, length))
      if ok then
        decoded = decoded + 1
        if not (result - whole):eq(0):all():item() then error("other pixels at length " .. length) end
      end
    end
    assert.is_true(decoded < 30, decoded .. " lengths are read") -- what follows the last row
  end
  for _, name in ipairs { "jpeg 420", "jpeg 420 progressive", "png rgb", "png interlaced", "plain pbm", "pgm" } do
    it("cut off at any length is an error, or all there: " .. name, function() check_truncated(name) end)
  end

  it("with bytes flipped is an error or an image, and nothing else", function()
    local random = random_from(7)
    local images, errors = 0, 0
    for _, name in ipairs(names "file") do
      local bytes = { text(file(name)):byte(1, -1) }
      for _ = 1, 40 do
        local kept = {}
        for _ = 1, random(1, 4) do
          local at = random(1, #bytes)
          kept[at] = kept[at] or bytes[at]
          bytes[at] = random(0, 255)
        end
        local ok, result = pcall(decode, string.char(table.unpack(bytes)), { shrink = 1 << random(0, 3) })
        if ok then images = images + 1 else errors = errors + 1 end
        if not ok then assert.is_truthy(tostring(result):find "^a" or tostring(result):find "^n", tostring(result)) end
        for at, byte in pairs(kept) do bytes[at] = byte end
      end
    end
    assert.is_true(images > 500 and errors > 500)
  end)

  it("still gives the rows above the damage", function()
    local bytes = fixture["parts:jpeg 420"]
    local whole, part = decode(bytes), text(bytes):sub(1, bytes.shape[1] // 2)
    check.close(decode(part, { part = { 0, 0, 20, 90 } }), whole:narrow(1, 1, 20))
    check.fails(function() decode(part, { part = { 80, 0, 20, 90 } }) end, "a truncated JPEG: it ends at byte %d+")
  end)

  it("is named by what is wrong", function()
    local png = text(file "png rgb")
    local function flipped(at) return png:sub(1, at - 1) .. string.char(png:byte(at) ~ 1) .. png:sub(at + 1) end
    check.fails(function() decode(flipped(30)) end, "a damaged PNG: IHDR: CRC error")
    check.fails(function() decode(png:sub(1, 900)) end, "a truncated PNG: it ends at byte 900")
    check.fails(function() decode(text(file "jpeg 420"):sub(1, 800)) end, "a truncated JPEG: it ends at byte 800")
    check.fails(function() decode(text(file "jpeg 420"):sub(1, 50)) end, "a JPEG that ends within its header")
    check.fails(function() decode(text(file "pgm"):sub(1, 500)) end, "a truncated P5 image: 500 bytes are too few for")
    check.fails(function() decode "P2 2 1 9 3 10" end, "a damaged P2 image: expected a level from 0 to 9 before")
    check.fails(function() decode "P6 2 x 255 " end, "a damaged P6 image: its header")
  end)
end)

describe("a file that is no JPEG, PNG or PNM is named:", function()
  local named = {
    GIF = "a GIF", BMP = "a BMP", TIFF = "a TIFF", WEBP = "a WebP", AVIF = "an AVIF", JPEG2000 = "a JPEG 2000",
  }
  for _, kind in ipairs(names "other") do
    it(kind, function()
      check.fails(function() decode(fixture["other:" .. kind]) end, "^" .. named[kind] .. "; JPEG, PNG, PPM and PGM")
    end)
  end
  for bytes, what in pairs {
    [""] = "an empty file", ["\0\0\0\0\0"] = "only zeros %(5 bytes%)",
    ["\n <!DOCTYPE HTML><html>"] = "an HTML page", ["<svg/>"] = "an SVG",
    ["\0\0\0\28ftypheic"] = "a HEIC", ["hello"] = "not a known kind of image: it begins with the bytes 68 65 6c 6c 6f",
    ["version https://git-lfs.github.com/spec/v1"] = "a Git LFS pointer",
  } do
    it(what, function() check.fails(function() decode(bytes) end, what) end)
  end
end)

describe("a header that claims too much", function()
  -- Kilobytes of address space that the process has had at most.
  local function peak() return tonumber(io.open("/proc/self/status"):read("a"):match "VmPeak:%s*(%d+)") end
  local function frame(height, width, marker)
    return "\xff\xd8\xff" .. string.char(marker or 0xc0) ..
      string.pack(">I2I1I2I2I1", 17, 8, height, width, 3) .. "\1\x22\0\2\x11\1\3\x11\1" ..
      "\xff\xda" .. string.pack(">I2", 12) .. "\3\1\0\2\x11\3\x11\0\63\0" .. "\0\0\xff\xd9"
  end
  local function png(height, width)
    return "\x89PNG\r\n\x1a\n" .. string.pack(">I4", 13) .. "IHDR" ..
      string.pack(">I4I4", width, height) .. "\8\2\0\0\0" .. ("\0"):rep(60)
  end
  local function refuses(bytes, why)
    local before = peak()
    check.fails(function() decode(bytes) end, why)
    assert.is_true(peak() - before < 4096)
  end

  it("is refused before anything is allocated", function()
    refuses(frame(60000, 60000), "60000 x 60000 pixels; at most 178956970")
    refuses(png(60000, 60000), "60000 x 60000 pixels; at most 178956970")
    refuses("P6 60000 60000 255\n...", "60000 x 60000 pixels; at most 178956970")
    refuses(png(0x80000000, 1), "a damaged PNG: a size of 2147483648 x 1 pixels")
  end)

  it("has no pixels", function()
    refuses(frame(0, 5), "an image without pixels %(0 x 5%)")
    refuses(png(3, 0), "an image without pixels %(3 x 0%)")
    refuses("P5 0 0 255\n", "an image without pixels")
  end)

  it("is refused if the file is too short for it", function()
    refuses(frame(13000, 13000), "a damaged JPEG")
    refuses(frame(13000, 13000, 0xc2), "a damaged JPEG")
    refuses(png(13000, 13000), "a damaged PNG")
    refuses("P6 13000 13000 255\n...", "22 bytes are too few for its 13000 x 13000 pixels")
    refuses("P3 13000 13000 255\n0 0 0", "bytes are too few")
  end)

  it("has at most 500 scans", function()
    local bytes = text(file "jpeg 420 progressive")
    local last
    for at in bytes:gmatch "()\xff\xda" do last = at end
    local scan = bytes:sub(last, -3)
    assert.has_no.errors(function() decode(bytes:sub(1, last - 1) .. scan:rep(400) .. "\xff\xd9") end)
    check.fails(function() decode(bytes:sub(1, last - 1) .. scan:rep(600) .. "\xff\xd9") end, "more than 500 scans")
  end)
end)
