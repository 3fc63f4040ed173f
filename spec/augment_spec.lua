--- The augmentations' distributions, seen in the views of one image drawn four thousand times: what torchvision's
-- RandomResizedCrop, ColorJitter, RandomGrayscale, RandomHorizontalFlip and RandomErasing promise.
local cld = require "cld"
local check = require "spec.support.check"

local DRAWS = 4000
local plain = { mean = { 0, 0, 0 }, std = { 1, 1, 1 } } -- values 0 to 1

-- Views of `image` (u8 H x W x 3) as flat tables of numbers: red, green, blue. `settings` on top of plain.
local function views(image, preset, settings, count)
  local options = { size = { image.shape[1], image.shape[2] } }
  for key, value in pairs(plain) do options[key] = value end
  for key, value in pairs(settings) do options[key] = value end
  count = count or DRAWS
  local set = cld.data.tensors { images = image:unsqueeze(1):expand(count, image.shape[1], image.shape[2], 3) }
  local loader = cld.data.loader {
    set, batch_size = count, views = 1, shuffle = false, augment = cld.augment[preset](options),
  }
  local batch = loader:epoch(1)()
  return batch.views[1]:flatten(2, -1):totable(), batch.views[1].shape
end

local function constant(height, width, r, g, b)
  local rows = {}
  for y = 1, height do
    rows[y] = {}
    for x = 1, width do rows[y][x] = { r, g, b } end
  end
  return cld.tensor(rows, "u8")
end

-- Red tells x, green y, blue neither.
local function map(size)
  local rows = {}
  for y = 0, size - 1 do
    rows[y + 1] = {}
    for x = 0, size - 1 do rows[y + 1][x + 1] = { 4 * x, 4 * y, 77 } end
  end
  return cld.tensor(rows, "u8")
end

local function share(list, predicate)
  local hits = 0
  for _, view in ipairs(list) do if predicate(view) then hits = hits + 1 end end
  return hits / #list
end

-- Within four standard deviations of a binomial share.
local function near(actual, expected, n)
  local tolerance = 4 * math.sqrt(expected * (1 - expected) / (n or DRAWS))
  local close = math.abs(actual - expected) <= tolerance
  assert.truthy(close, ("%.4f, expected %.4f +- %.4f"):format(actual, expected, tolerance))
end

describe("augment", function()
  it("none normalizes, and resizes where the size differs", function()
    local image = cld.load("spec/fixtures/image.safetensors").smooth
    local expected = cld.image.normalize(image, cld.augment.statistics.cifar.mean, cld.augment.statistics.cifar.std)
    local set = cld.data.tensors { images = image:unsqueeze(1) }
    local function view(settings)
      local loader = cld.data.loader { set, batch_size = 1, views = 1, augment = cld.augment.none(settings) }
      return loader:epoch(1)().views[1]:squeeze(1)
    end
    check.close(view { size = { 20, 27 } }, expected)
    local small = cld.image.resized_crop(image, 0, 0, 20, 27, 12)
    check.close(view { size = 12, mean = { 0, 0, 0 }, std = { 1, 1, 1 } }, cld.image.normalize(small))
  end)

  it("crops 0.2 to 1 of the area at 3/4 to 4/3", function()
    local size = 60
    local list = views(map(size), "none", { crop = true, size = 30 }, 1500)
    local areas, least, most = 0, 2, 0
    for _, view in ipairs(list) do
      -- Away from the border red grows by 4 crop widths / 30 per pixel.
      local width = (view[25] - view[6]) * 255 / 4 / 19 * 30
      local height = (view[900 + 24 * 30 + 1] - view[900 + 5 * 30 + 1]) * 255 / 4 / 19 * 30
      local area, ratio = width * height / size ^ 2, width / height
      areas, least, most = areas + area, math.min(least, area), math.max(most, area)
      assert.truthy(ratio > 0.75 * 0.95 and ratio < 4 / 3 * 1.05, ratio)
    end
    -- Large areas at extreme ratios do not fit and are drawn again: the mean is a little below 0.6.
    assert.truthy(areas / #list > 0.52 and areas / #list < 0.6, areas / #list)
    assert.truthy(least > 0.18 and least < 0.22 and most > 0.95 and most < 1.02, ("%g to %g"):format(least, most))
  end)

  it("falls back to the central crop", function()
    -- 4 x 40 at ratios of 3/4 to 4/3 and the whole area: never fits; the centre has width 4 * 4/3.
    local rows = {}
    for y = 1, 4 do
      rows[y] = {}
      for x = 1, 40 do rows[y][x] = { x, 0, 0 } end
    end
    local list = views(cld.tensor(rows, "u8"), "none", { crop = true, scale = { 1, 1 }, size = { 4, 5 } }, 3)
    for _, view in ipairs(list) do
      for x = 1, 5 do check.close(view[x] * 255, 17 + x, { atol = 1e-3 }) end
    end
  end)

  it("flips half of the views", function()
    local image = map(8)
    near(share(views(image, "none", { flip = 0.5 }), function(view) return view[1] > view[8] end), 0.5)
    near(share(views(image, "none", { flip = 0.1 }), function(view) return view[1] > view[8] end), 0.1)
  end)

  it("turns a fifth of the views grey", function()
    local image = constant(2, 2, 10, 200, 90)
    local grey = function(view) return view[1] == view[5] and view[5] == view[9] end
    near(share(views(image, "none", { grayscale = 0.2 }), grey), 0.2)
  end)

  it("jitters with its probability and within its range", function()
    local image = constant(1, 1, 120, 60, 30)
    local changed = function(view) return math.abs(view[1] * 255 - 120) > 0.5 end
    assert.equal(0, share(views(image, "none", {}), changed))
    local list = views(image, "none", { jitter_p = 1, jitter = { 0.4, 0, 0, 0 } })
    local sum, least, most = 0, 9, 0
    for _, view in ipairs(list) do
      local factor = view[1] * 255 / 120
      sum, least, most = sum + factor, math.min(least, factor), math.max(most, factor)
      assert.truthy(math.abs(view[5 - 3] * 255 - 60 * factor) < 1.5)
    end
    assert.truthy(math.abs(sum / #list - 1) < 0.02, sum / #list)
    assert.truthy(least >= 0.59 and least < 0.61 and most <= 1.4 and most > 1.38)
    -- Half of the factors between 0.8 and 1.2.
    near(share(list, function(view) return math.abs(view[1] * 255 / 120 - 1) <= 0.2 end), 0.5)
    near(share(views(image, "none", { jitter_p = 0.8, jitter = { 0, 0, 0, 0.4 } }), function(view)
      return math.abs(view[2] * 255 - 60) > 2 or math.abs(view[3] * 255 - 30) > 2
    end), 0.8 * 0.975, 400)
  end)

  it("applies the parts of the jitter in any order", function()
    -- Black and white, contrast c < 1 and brightness b > 1. Brightness first: white stays 255, contrast then brings
    -- both towards 128, their sum stays 255. Contrast first: the sum is 255 b. An eighth of the views each.
    local image = cld.tensor({ { { 0, 0, 0 }, { 255, 255, 255 } } }, "u8")
    local list = views(image, "none", { jitter_p = 1, jitter = { 0.4, 0.4, 0, 0 } }, 1000)
    local contrast_first, brightness_first = 0, 0
    for _, view in ipairs(list) do
      local black, white = view[1] * 255, view[2] * 255
      if black > 1 and black + white > 258 then contrast_first = contrast_first + 1 end
      if black > 1 and math.abs(black + white - 255) < 2 then brightness_first = brightness_first + 1 end
    end
    assert.truthy(contrast_first > 70 and contrast_first < 170, contrast_first)
    assert.truthy(brightness_first > 70 and brightness_first < 170, brightness_first)
  end)

  it("blurs half of the views", function()
    local image = map(8)
    local unblurred = views(image, "none", {}, 1)[1]
    local blurred = function(view)
      for i, value in ipairs(view) do if value ~= unblurred[i] then return true end end
      return false
    end
    near(share(views(image, "none", { blur = 0.5, sigma = { 0.9, 2 } }, 1000), blurred), 0.5, 1000)
  end)

  it("erases one rectangle of 0.02 to 0.33 after normalizing", function()
    local list = views(constant(20, 20, 255, 255, 255), "none", { erasing = true }, 1000)
    for _, view in ipairs(list) do
      local top, bottom, left, right, erased = 20, -1, 20, -1, 0
      for i = 0, 399 do
        local y, x = i // 20, i % 20
        assert(view[i + 1] == view[i + 401] and view[i + 1] == view[i + 801])
        if view[i + 1] == 0 then
          erased = erased + 1
          top, bottom, left, right = math.min(top, y), math.max(bottom, y), math.min(left, x), math.max(right, x)
        end
      end
      assert.equal(erased, (bottom - top + 1) * (right - left + 1))
      assert.truthy(erased / 400 > 0.01 and erased / 400 < 0.36, erased)
    end
    local normalized = views(constant(20, 20, 0, 0, 0), "none", { erasing = 1, mean = { 0.5, 0.5, 0.5 } }, 50)
    for _, view in ipairs(normalized) do
      local zeros = 0
      for _, value in ipairs(view) do if value == 0 then zeros = zeros + 1 end end
      assert.truthy(zeros > 0 and zeros < 600)
    end
  end)

  it("is CLD's by default", function()
    local base, plus = cld.augment.cifar(), cld.augment.plus { erasing = true }
    assert.same({ 32, 32 }, base.size)
    assert.same({ 0.2, 1 }, base.scale)
    assert.same({ 0.4, 0.4, 0.4, 0.4 }, base.jitter)
    assert.same({ 1, 0.2, 0.5, 0, 0 }, { base.jitter_p, base.grayscale, base.flip, base.blur, base.erasing })
    assert.same({ 0.4914, 0.4822, 0.4465 }, base.mean)
    assert.same({ 0.4, 0.4, 0.4, 0.1 }, plus.jitter)
    assert.same({ 0.8, 0.2, 0.5, 0.5, 1 }, { plus.jitter_p, plus.grayscale, plus.flip, plus.blur, plus.erasing })
    assert.same({ 0.1, 2 }, plus.sigma)
    local shape = select(2, views(map(40), "plus", { size = 24 }, 2))
    assert.same({ 2, 3, 24, 24 }, shape)
  end)

  it("says which setting makes no sense", function()
    local image = constant(2, 2, 1, 2, 3)
    local function fails(settings, pattern)
      check.fails(function() views(image, "plus", settings, 1) end, pattern)
    end
    fails({ flop = 1 }, "augment.plus: unknown field 'flop'; did you mean 'flip'?")
    fails({ scale = { 0.5, 0.2 } }, "augment: scale must be {low, high} with 0 < low <= high <= 1; got {0.5, 0.2}")
    fails({ scale = { 0, 1 } }, "augment: scale")
    fails({ ratio = 1 }, "augment: ratio must be a list of 2 numbers")
    fails({ jitter = { 0.4, 0.4, 0.4, 0.6 } }, "augment: hue of the colour jitter must be 0 to 0.5; got 0.6")
    fails({ flip = 1.5 }, "augment: flip is a probability, 0 to 1; got 1.5")
    fails({ grayscale = 0 / 0 }, "augment: grayscale is a probability")
    fails({ std = { 1, 0, 1 } }, "augment: std must be positive .*channel 2")
    fails({ mean = { 0.5, 0.5 } }, "augment: mean must be a list of 3 numbers")
    fails({ size = 0 }, "augment: size must be 1 to 4096 pixels; got 0 x 0")
    fails({ sigma = { -1, 2 } }, "augment: sigma")
    fails({ erasing = 1, erasing_area = { 0.1, 3 } }, "augment: erasing_area")
    fails({ flip = "often" }, "field 'flip': expected a number, got string")
  end)
end)
