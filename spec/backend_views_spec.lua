--- Views made on a device from their drawn instructions, one by one, have the same values as the host's.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"

local image = require("cld.core").image
local exactly = { atol = 0, rtol = 0 }

-- n images of h x w with edges, flat parts and noise; the first is grey, without contrast.
local function pictures(n, h, w)
  local noise = formula.uniform("image", { n, h, w, 3 }, "f32", 60)
  local wave = (cld.arange(n * h * w * 3):float() * 0.37):sin():reshape(n, h, w, 3) * 120
  local images = (wave + noise + 128):clamp(0, 255):to "u8"
  images:narrow(1, 1, 1):fill_(17)
  return images
end

local plain = { "normalize", 0, 0, 0, 1, 1, 1, 0 }
local published = { "normalize", 0.485, 0.456, 0.406, 0.229, 0.224, 0.225, 1 }

local function taps(radius, sigma)
  local instruction, sum = { "tap_blur" }, 0
  for k = 0, radius do sum = sum + math.exp(-k * k / (2 * sigma ^ 2)) * (k == 0 and 1 or 2) end
  for k = 0, radius do instruction[k + 2] = math.exp(-k * k / (2 * sigma ^ 2)) / sum end
  return instruction
end

local function random_integer(state, low, high)
  state.at = (state.at * 6364136223846793005 + 1442695040888963407)
  return low + (state.at >> 33) % (high - low + 1)
end

-- One instruction of any kind, which keeps the canvas' size, height x width.
local function random_instruction(state, height, width)
  local function integer(low, high) return random_integer(state, low, high) end
  local function factor() return integer(0, 20) / 10 end
  local a, b = integer(-30, 30) / 100, integer(-30, 30) / 100
  local kinds = {
    { "window", integer(-3, 3), integer(-3, 3), height, width, 9, 99, 199 }, { "flip" }, { "brightness", factor() },
    { "contrast", factor() }, { "saturation", factor() }, { "hue", integer(0, 255) }, { "grey" },
    { "box_blur", integer(1, 60) / 10 }, taps(integer(0, 11), integer(3, 25) / 10), { "invert" },
    { "solarize", integer(0, 256) }, { "solarize_add", integer(0, 128) }, { "posterize", integer(0, 8) },
    { "autocontrast" }, { "equalize" }, { "sharpness", factor() },
    { "affine", 1 + a, b, integer(-5, 5), -b, 1 - a, integer(-5, 5), 124, 116, 104, integer(1, 2) },
    { "resample", 0.5, 0, height / 2, width * 0.75, height + 3, 2 * width, 2, width // 2, height, width,
      integer(1, 2), integer(0, 1) },
  }
  return kinds[integer(1, #kinds)]
end

-- `out` pixels on a side of any part of an image, at most five instructions, and perhaps an erased part.
local function random_view(state, height, width, out)
  local function integer(low, high) return random_integer(state, low, high) end
  local h, w = integer(1, height), integer(1, width)
  local oh, ow = out[1] + integer(0, 6), out[2] + integer(0, 6)
  local view = {
    { "resample", integer(0, height - h), integer(0, width - w), h, w, oh, ow, integer(0, oh - out[1]),
      integer(0, ow - out[2]), out[1], out[2], integer(1, 2), integer(0, 1) },
  }
  for _ = 1, integer(0, 5) do view[#view + 1] = random_instruction(state, out[1], out[2]) end
  view[#view + 1] = integer(0, 1) == 0 and plain or published
  if integer(0, 1) == 0 then view[#view + 1] = { "erase", 0, 1, out[1] - 1, out[2] - 1, 0.5, -1, 2 } end
  return view
end

devices.each("views", function(device)
  -- The same on both; rows: which images, from 0.
  local function same(images, views, rows, dtype)
    local index = rows and cld.tensor(rows, "i64")
    local expected = image.follow_all(images, index, views, dtype)
    local actual = image.follow_all(images:to(device), index and index:to(device), views, dtype)
    assert.equal(cld.cuda.resolve(device), actual.device)
    assert.equal(dtype or "f32", actual.dtype)
    assert.same(expected.shape, actual.shape)
    local difference = (actual:to("cpu"):float() - expected:float()):abs():max():item()
    if not (difference <= 0) then check.close(actual, expected, exactly) end
  end

  local cases = {
    ["the image as it is"] = {},
    ["a part"] = { { "window", 2, 3, 7, 5, 0, 0, 0 } },
    ["a part over the border"] = { { "window", -4, 7, 9, 30, 1, 2, 3 } },
    ["beside the image"] = { { "window", 40, -50, 3, 4, 1, 2, 3 } },
    ["flip"] = { { "flip" } },
    ["brightness"] = { { "brightness", 1.7 } },
    ["contrast"] = { { "contrast", 0.3 } },
    ["contrast twice"] = { { "contrast", 0.3 }, { "contrast", 1.9 } },
    ["saturation"] = { { "saturation", 1.6 } },
    ["hue"] = { { "hue", 77 } },
    ["grey"] = { { "grey" } },
    ["box blur"] = { { "box_blur", 1.3 } },
    ["a box blur wider than the view"] = { { "box_blur", 9 } },
    ["tap blur"] = { taps(11, 1.1) },
    ["a tap blur of one tap"] = { taps(0, 1) },
    ["invert"] = { { "invert" } },
    ["solarize"] = { { "solarize", 128 } },
    ["solarize add"] = { { "solarize_add", 110 } },
    ["posterize"] = { { "posterize", 3 } },
    ["autocontrast"] = { { "posterize", 2 }, { "window", 0, 0, 9, 8, 0, 0, 0 }, { "autocontrast" } },
    ["equalize"] = { { "equalize" } },
    ["sharpness"] = { { "sharpness", 1.9 } },
    ["bilinear affine"] = { { "affine", 0.9, 0.2, 1, -0.3, 1.1, 2, 124, 116, 104, 1 } },
    ["bicubic affine"] = { { "affine", 0.9, 0.2, 1, -0.3, 1.1, 2, 124, 116, 104, 2 } },
    ["bilinear shear along x"] = { { "affine", 1, 0.3, 0, 0, 1, 0, 124, 116, 104, 1 } },
    ["bicubic shear along x"] = { { "affine", 1, -0.3, 0, 0, 1, 1, 124, 116, 104, 2 } },
    ["bilinear shear along y"] = { { "affine", 1, 0, -1, -0.3, 1, 0, 124, 116, 104, 1 } },
    ["bicubic shear along y"] = { { "affine", 1, 0, 0, 0.3, 1, 0, 124, 116, 104, 2 } },
    ["bilinear shift by a fraction of a row"] = { { "affine", 1, 0, 2, 0, 1, 1.7, 124, 116, 104, 1 } },
    ["bicubic shift by a fraction of a row"] = { { "affine", 1, 0, -2, 0, 1, -1.7, 124, 116, 104, 2 } },
    ["bicubic shift by fractions"] = { { "affine", 1, 0, 0.3, 0, 1, -1.7, 124, 116, 104, 2 } },
    ["bilinear, smaller"] = { { "resample", 1, 2, 13, 9, 7, 6, 0, 0, 7, 6, 1, 0 } },
    ["bicubic, larger"] = { { "resample", 1, 2, 3, 4, 17, 26, 0, 0, 17, 26, 2, 0 } },
    ["a window of it, mirrored"] = { { "resample", 0, 0, 16, 13, 30, 40, 3, 5, 20, 21, 1, 1 } },
    ["part of a pixel"] = { { "resample", 0.25, 1.5, 13.125, 0.75, 5, 6, 0, 0, 5, 6, 2, 0 } },
    ["along y first"] = { { "resample", 0, 0, 16, 5, 3, 5, 0, 0, 3, 5, 1, 0 } },
    ["a canvas, smaller"] = { { "grey" }, { "resample", 1, 2, 13, 9, 7, 6, 0, 0, 7, 6, 1, 1 }, { "equalize" } },
    ["a canvas, larger"] = { { "hue", 9 }, { "resample", 1, 2, 3, 4, 17, 36, 0, 5, 17, 30, 2, 0 }, { "hue", 8 } },
    ["a canvas, along y first"] = { { "flip" }, { "resample", 0, 0, 16, 5, 3, 5, 0, 0, 3, 5, 1, 0 } },
    ["one canvas after the other"] = { { "resample", 0, 0, 16, 13, 30, 33, 0, 0, 30, 33, 1, 0 },
      { "resample", 2, 2, 28, 31, 5, 40, 0, 0, 5, 40, 1, 0 }, { "resample", 0, 0, 5, 40, 31, 9, 0, 0, 31, 9, 2, 1 } },
  }
  local names = {}
  for name in pairs(cases) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    it("are the host's: " .. name, function()
      local view = { table.unpack(cases[name]) }
      view[#view + 1] = plain
      same(pictures(3, 16, 13), { view, view, view })
    end)
  end

  it("normalize, mirrored, and erase one part and another", function()
    local view = { published, { "erase", 1, 2, 3, 4, 1, 2, 3 }, { "erase", 3, 3, 9, 2, -1, 0, 0 } }
    same(pictures(2, 16, 13), { view, view })
  end)

  it("may all be different, of any images", function()
    local state, views, rows = { at = 1 }, {}, {}
    for i = 1, 40 do
      views[i] = random_view(state, 16, 21, { 11, 14 })
      rows[i] = random_integer(state, 0, 4)
    end
    same(pictures(5, 16, 21), views, rows)
  end)

  it("are CIFAR's, of 32 pixels", function()
    local state, views, rows = { at = 2 }, {}, {}
    for i = 1, 10 do
      views[i] = random_view(state, 32, 32, { 32, 32 })
      rows[i] = i % 3
    end
    same(pictures(3, 32, 32), views, rows)
  end)

  it("need more than shared memory: 96 pixels", function()
    local state, views = { at = 3 }, {}
    for i = 1, 3 do views[i] = random_view(state, 150, 130, { 96, 96 }) end
    same(pictures(3, 150, 130), views)
  end)

  it("of 224 pixels, of images that were cut elsewhere", function()
    local jitter = { { "brightness", 1.2 }, { "saturation", 0.7 }, { "hue", 250 }, { "contrast", 1.3 } }
    same(pictures(1, 224, 224), { { jitter[1], jitter[2], jitter[3], jitter[4], { "box_blur", 1.1 }, published } })
  end)

  it("of one row, of one column, of one pixel", function()
    for _, size in ipairs { { 1, 9 }, { 9, 1 }, { 1, 1 } } do
      local state = { at = 4 }
      local view = { { "sharpness", 1.5 }, taps(11, 2), { "box_blur", 3 }, { "equalize" }, { "flip" } }
      view[#view + 1] = random_instruction(state, size[1], size[2])
      view[#view + 1] = plain
      same(pictures(2, size[1], size[2]), { view, view })
    end
  end)

  it("work one after the other where each needs a lot of memory", function()
    local view = { { "resample", 0, 0, 22000, 4, 4500, 5000, 0, 0, 2, 4096, 1, 0 }, { "equalize" }, plain }
    same(pictures(2, 22000, 4), { view, view })
  end)

  for _, dtype in ipairs { "bf16", "f16" } do
    it("round to nearest: " .. dtype, function()
      same(pictures(2, 16, 13), { { { "hue", 20 }, published }, { { "grey" }, published } }, nil, dtype)
    end)
  end

  it("say which image is not there", function()
    local images, rows = pictures(2, 5, 4):to(device), cld.tensor({ 2 }, "i64"):to(device)
    check.fails(function() image.follow_all(images, rows, { { plain } }):to "cpu" end, "loader: image 2")
  end)
end)
