--- Augmentations as lists of steps, and what is drawn for their views: the distributions that torchvision's, PyContrast's
-- and timm's transforms promise, counted over some thousand draws. What the instructions do to pixels: image_spec.lua.
local cld = require "cld"
local check = require "spec.support.check"

local augment = cld.augment
local list = augment.list
local DRAWS = 4000

local crop = augment.random_resized_crop { size = 24 }

-- The instructions of `count` views of an image, each of another sample.
local function draws(a, count, height, width, key)
  local views = {}
  for sample = 1, count or DRAWS do
    local k = { sample = sample }
    for name, value in pairs(key or {}) do k[name] = value end
    views[sample] = a:draw(k, height or 40, width or height or 40)[1]
  end
  return views
end

local function find(view, op)
  for _, instruction in ipairs(view) do
    if instruction.op == op then return instruction end
  end
end

local function share(views, predicate)
  local hits = 0
  for _, view in ipairs(views) do if predicate(view) then hits = hits + 1 end end
  return hits / #views
end

local function has(op) return function(view) return find(view, op) ~= nil end end

-- Within four standard deviations of a binomial share.
local function near(actual, expected, n)
  local tolerance = 4 * math.sqrt(expected * (1 - expected) / (n or DRAWS))
  assert.truthy(math.abs(actual - expected) <= tolerance, ("%.4f, expected %.4f +- %.4f"):format(actual, expected, tolerance))
end

-- Mean, least and greatest of f(view) over the views in which it is a number.
local function spread(views, f)
  local sum, n, least, most = 0, 0, math.huge, -math.huge
  for _, view in ipairs(views) do
    local x = f(view)
    if x then sum, n, least, most = sum + x, n + 1, math.min(least, x), math.max(most, x) end
  end
  return sum / n, least, most, n
end

-- Uniform from low to high: mean, ends and middle half.
local function uniform(views, low, high, f)
  local mean, least, most, n = spread(views, f)
  local width = high - low
  assert.truthy(n >= 100, n)
  assert.truthy(least >= low - 1e-6 and least <= low + 12 * width / n, ("least %g, from %g"):format(least, low))
  assert.truthy(most <= high + 1e-6 and most >= high - 12 * width / n, ("most %g, to %g"):format(most, high))
  assert.truthy(math.abs(mean - (low + high) / 2) <= 4 * width / math.sqrt(12 * n), ("mean %g of %g to %g"):format(mean, low, high))
  local inner, count = 0, 0
  for _, view in ipairs(views) do
    local x = f(view)
    if x then
      count = count + 1
      if math.abs(x - (low + high) / 2) <= width / 4 then inner = inner + 1 end
    end
  end
  near(inner / count, 0.5, count)
end

-- "op{name = value, ...}" of the settings that are named, for comparison with a table of the paper.
local function brief(a)
  local lines = {}
  for i, step in ipairs(a) do lines[i] = tostring(step):gsub(", filter = \"bilinear\"", "") end
  return lines
end

local function box_of(view) return view[1].box end

describe("a preset", function()
  local cifar = "normalize { mean = { 0.4914, 0.4822, 0.4465 }, std = { 0.2023, 0.1994, 0.201 } }"
  local imagenet = "normalize { mean = { 0.485, 0.456, 0.406 }, std = { 0.229, 0.224, 0.225 } }"
  local function cut(size, low) return ("random_resized_crop { size = %d, scale = { %g, 1 }, ratio = { 0.75, 1.33333 } }"):format(size, low) end
  local function jitter(b, c, s, h, p)
    return ("color_jitter { brightness = %g, contrast = %g, saturation = %g, hue = %g, p = %g }"):format(b, c, s, h, p)
  end
  local grey, flip = "random_grayscale { p = 0.2 }", "flip { p = 0.5 }"
  local function taps(p) return ("gaussian_blur { sigma = { 0.1, 2 }, p = %g, taps = 23 }"):format(p) end
  local pillow = "gaussian_blur { sigma = { 0.1, 2 }, p = 0.5, taps = 0 }"
  local rand = "rand_augment { n = 2, m = 10, mstd = 0.5, p = 0.5, fill = { 124, 116, 104 } }"
  local erasing = "erasing { p = 1, area = { 0.02, 0.33 }, ratio = { 0.3, 3.3 }, value = 0 }"
  local solarize = "solarize { threshold = 128, p = 0.2 }"
  local tables = {
    none = { augment.none(), { "resize { size = { 32, 32 } }", cifar } },
    base = { augment.base(), { cut(32, 0.2), jitter(0.4, 0.4, 0.4, 0.4, 1), grey, flip, cifar } },
    cifar = { augment.cifar(), { cut(32, 0.2), jitter(0.4, 0.4, 0.4, 0.4, 1), grey, flip, cifar } },
    plus = { augment.plus(), { cut(32, 0.2), jitter(0.4, 0.4, 0.4, 0.1, 0.8), grey, pillow, flip, cifar } },
    ["plus with erasing"] = { augment.plus { erasing = true },
      { cut(32, 0.2), jitter(0.4, 0.4, 0.4, 0.1, 0.8), grey, pillow, flip, cifar, erasing } },
    infomin = { augment.infomin(),
      { cut(224, 0.2), flip, jitter(0.8, 0.8, 0.8, 0.2, 0.8), taps(0.5), rand, grey, imagenet } },
    infomin_jigsaw = { augment.infomin_jigsaw(), { cut(255, 0.6), flip, "jigsaw { size = 64 }", imagenet } },
    byol_1 = { augment.byol_1(), { cut(224, 0.08), flip, jitter(0.4, 0.4, 0.2, 0.1, 0.8), grey, taps(1), imagenet } },
    byol_2 = { augment.byol_2(),
      { cut(224, 0.08), flip, jitter(0.4, 0.4, 0.2, 0.1, 0.8), grey, taps(0.1), solarize, imagenet } },
    ["byol_2 at 32 pixels"] = { augment.byol_2 { size = 32 },
      { cut(32, 0.08), flip, jitter(0.4, 0.4, 0.2, 0.1, 0.8), grey, solarize, imagenet } },
    crop_flip = { augment.crop_flip(), { cut(224, 0.08), flip, imagenet } },
    center = { augment.center(), { "resize { size = 256 }", "center_crop { size = 224 }", imagenet } },
  }
  for name, case in pairs(tables) do
    it("is the published list: " .. name, function() assert.same(case[2], brief(case[1])) end)
  end

  it("takes every setting that it had as a table", function()
    local a = augment.none {
      size = { 20, 24 }, crop = true, scale = { 0.3, 0.9 }, ratio = { 0.5, 2 }, jitter_p = 0.7,
      jitter = { 0.1, 0.2, 0.3, 0.15 }, grayscale = 0.25, blur = 0.35, sigma = { 0.5, 1 }, flip = 0.45, erasing = 0.55,
      erasing_area = { 0.1, 0.2 }, erasing_ratio = { 0.5, 1 }, mean = { 0.1, 0.2, 0.3 }, std = { 0.4, 0.5, 0.6 },
    }
    assert.same({
      "random_resized_crop { size = { 20, 24 }, scale = { 0.3, 0.9 }, ratio = { 0.5, 2 } }",
      "color_jitter { brightness = 0.1, contrast = 0.2, saturation = 0.3, hue = 0.15, p = 0.7 }",
      "random_grayscale { p = 0.25 }", "gaussian_blur { sigma = { 0.5, 1 }, p = 0.35, taps = 0 }", "flip { p = 0.45 }",
      "normalize { mean = { 0.1, 0.2, 0.3 }, std = { 0.4, 0.5, 0.6 } }",
      "erasing { p = 0.55, area = { 0.1, 0.2 }, ratio = { 0.5, 1 }, value = 0 }",
    }, brief(a))
  end)

  it("is a fresh list, which can be edited", function()
    local a = augment.base()
    a[2].p = 0.25
    a[5].mean[1] = 0
    table.insert(a, 3, augment.solarize { p = 1 })
    assert.truthy(has "SOLARIZE"(draws(a, 1)[1]))
    assert.same({ 0.4914, 0.4822, 0.4465 }, augment.base():statistics())
    assert.equal(1, augment.base()[2].p)
  end)

  it("of evaluation resizes by 256 to 224", function()
    assert.same({ 110, 96 }, { augment.center { size = 96 }[1].size, augment.center { size = 96 }[2].size })
  end)
end)

describe("a list of steps", function()
  it("prints as one would write it", function()
    local a = list { augment.resize { size = 32 }, augment.flip { p = 0.25 }, augment.normalize { mean = 0, std = 1 } }
    assert.equal([[cld.augment.list {
  resize { size = 32, filter = "bilinear" },
  flip { p = 0.25 },
  normalize { mean = 0, std = 1 },
}]], tostring(a))
  end)

  it("prints what can be read again", function()
    local a = augment.plus { erasing = true, ratio = { 0.5, 2 } }
    local again = assert(load("local cld = ...; local _ENV = cld.augment; _ENV.cld = cld; return " .. tostring(a)))(cld)
    rawset(augment, "cld", nil)
    assert.equal(tostring(a), tostring(again))
  end)

  it("tells the size of its views", function()
    assert.same({ 20, 30 }, { augment.base { size = { 20, 30 } }:size() })
    assert.same({ 64, 64 }, { augment.infomin_jigsaw():size() })
    assert.same({ 256, 341 }, { list { augment.resize { size = 256 } }:size(360, 480) })
    assert.same({ 17, 23 }, { list {}:size(17, 23) })
  end)

  it("says that the size depends on the image", function()
    check.fails(function() list { augment.resize { size = 256 } }:size() end,
      "augment_spec.lua:%d+: augment: views would differ in size as the images do: begin with random_resized_crop")
  end)

  it("tells mean and std", function()
    assert.same({ { 0.5, 0.5, 0.5 }, { 2, 3, 4 } },
      { list { augment.normalize { mean = 0.5, std = { 2, 3, 4 } } }:statistics() })
    assert.same({ { 0, 0, 0 }, { 1, 1, 1 } }, { list { augment.flip() }:statistics() })
  end)

  it("has a copy of its own", function()
    local a = augment.base()
    local b = a:copy()
    b[1].scale[1] = 0.5
    assert.equal(0.2, a[1].scale[1])
    assert.truthy(augment.is_list(b))
  end)

  it("holds 32 steps", function()
    local steps = {}
    for i = 1, 32 do steps[i] = augment.random_grayscale { p = 1 } end
    assert.equal(33, #list(steps):draw({}, 8, 8)[1])
    steps[33] = augment.flip()
    check.fails(function() list(steps) end, "augment: 33 steps; at most 32")
  end)

  it("has a constructor for every kind of step, which gives the defaults", function()
    local required = { size = 16, mean = 0, std = 1 }
    for _, kind in ipairs(cld.views.kinds()) do
      local given, expected = {}, { op = kind.name }
      for _, setting in ipairs(kind.settings) do
        if setting.default == nil then given[setting.name] = required[setting.name] end
        expected[setting.name] = setting.default == nil and required[setting.name] or setting.default
      end
      assert.same(expected, augment[kind.name](given))
    end
  end)

  it("does not begin with a step that resamples", function()
    local view = list { augment.random_grayscale { p = 1 } }:draw({}, 30, 20)[1]
    assert.same({ 30, 20, 600, "GREY", "NORMALIZE" }, { view.height, view.width, view.pixels, view[1].op, view[2].op })
  end)

  it("ends with values 0 to 1 if nothing normalizes", function()
    local last = list { crop }:draw({}, 30, 20)[1][2]
    assert.same({ "NORMALIZE", { 0, 0, 0 }, { 1, 1, 1 } }, { last.op, last.mean, last.std })
  end)
end)

describe("a step's random numbers", function()
  local function plain(view)
    local ops = {}
    for _, instruction in ipairs(view) do
      ops[instruction.op] = instruction
    end
    return ops
  end
  local key = { seed = 3, epoch = 5, sample = 7, view = 2 }

  it("are the same whenever it is drawn", function()
    assert.same(augment.infomin():draw(key, 300, 200), augment.infomin():draw(key, 300, 200))
  end)

  for _, other in ipairs { { seed = 4 }, { seed = 3 + (1 << 32) }, { epoch = 6 }, { sample = 8 },
                           { sample = 7 + (1 << 32) }, { view = 1 } } do
    local name, value = next(other)
    it(("depend on the %s: %s"):format(name, value), function()
      for k, v in pairs(key) do other[k] = other[k] or v end
      assert.not_same(list { crop }:draw(key, 300, 200)[1][1].box, list { crop }:draw(other, 300, 200)[1][1].box)
    end)
  end

  it("do not move when a step is put in between", function()
    local a = list {
      crop, augment.color_jitter { brightness = 0.4, contrast = 0.4, hue = 0.1, p = 0.8 }, augment.flip(),
      augment.gaussian_blur { p = 0.5 }, augment.normalize { mean = 0, std = 1 }, augment.erasing { p = 0.5 },
    }
    local b = a:copy()
    table.insert(b, 2, augment.rand_augment { n = 0 })
    table.insert(b, 3, augment.solarize { p = 1 })
    for sample = 1, 200 do
      local one, two = a:draw({ sample = sample }, 40, 40)[1], b:draw({ sample = sample }, 40, 40)[1]
      two = plain(two)
      two.SOLARIZE = nil
      -- A flip is merged with what stands next to it.
      local flips = { one = 0, two = 0 }
      for _, instruction in ipairs(one) do flips.one = flips.one ~ (instruction.flip and 1 or 0) end
      for _, instruction in pairs(two) do flips.two = flips.two ~ (instruction.flip and 1 or 0) end
      assert.equal(flips.one ~ (find(one, "FLIP") and 1 or 0), flips.two ~ (two.FLIP and 1 or 0))
      one = plain(one)
      for _, ops in ipairs { one, two } do
        ops.FLIP = nil
        for _, instruction in pairs(ops) do instruction.flip = nil end
      end
      assert.same(one, two)
    end
  end)

  it("are others for a second step of its kind", function()
    local views = draws(list { augment.solarize { p = 0.5 }, augment.solarize { p = 0.5, threshold = 9 } })
    local both = share(views, function(view) return #view == 3 end)
    near(both, 0.25)
  end)

  it("are not those of a step of another kind", function()
    local views = draws(list { augment.solarize { p = 0.5 }, augment.random_grayscale { p = 0.5 } })
    near(share(views, function(view) return #view == 3 end), 0.25)
  end)

  it("are independent of the next view's", function()
    local a, both = list { augment.solarize { p = 0.5 } }, 0
    for sample = 1, DRAWS do
      local one, two = a:draw({ sample = sample }, 4, 4)[1], a:draw({ sample = sample, view = 2 }, 4, 4)[1]
      if #one == 2 and #two == 2 then both = both + 1 end
    end
    near(both / DRAWS, 0.25)
  end)
end)

describe("random_resized_crop", function()
  -- Means over 60,000 of torchvision's own draws.
  local function agrees(height, width, scale, top, left, h, w, area)
    local views = draws(list { augment.random_resized_crop { size = 24, scale = scale } }, DRAWS, height, width)
    local tolerance = 4 * 0.25 / math.sqrt(DRAWS) -- of shares, whose deviations are below a quarter
    for i, expected in ipairs { top / height, left / width, h / height, w / width } do
      local mean = spread(views, function(view) return box_of(view)[i] / (i % 2 == 1 and height or width) end)
      assert.truthy(math.abs(mean - expected) <= tolerance, ("number %d: %g, expected %g"):format(i, mean, expected))
    end
    local mean = spread(views, function(view) return box_of(view)[3] * box_of(view)[4] / (height * width) end)
    assert.truthy(math.abs(mean - area) <= tolerance, mean)
  end
  it("is torchvision's of a square", function() agrees(60, 60, { 0.2, 1 }, 8.226, 8.215, 43.577, 43.593, 0.54467) end)
  it("is torchvision's of a rectangle", function()
    agrees(60, 90, { 0.08, 1 }, 8.021, 22.073, 43.899, 45.794, 0.39567)
  end)
  it("is torchvision's where most draws do not fit", function()
    agrees(40, 100, { 0.5, 1 }, 0.006, 23.097, 39.988, 52.909, 0.52893)
  end)

  it("keeps to its area and ratio", function()
    for _, view in ipairs(draws(list { crop }, 1000, 400)) do
      local box = box_of(view)
      local area, ratio = box[3] * box[4] / 400 ^ 2, box[4] / box[3]
      assert.truthy(area > 0.078 and area <= 1 and ratio > 0.74 and ratio < 1.35, ("%g %g"):format(area, ratio))
      assert.truthy(box[1] >= 0 and box[2] >= 0 and box[1] + box[3] <= 400 and box[2] + box[4] <= 400)
    end
  end)

  it("reaches every corner", function()
    local a = list { augment.random_resized_crop { size = 24, scale = 0.25, ratio = 1 } }
    local views = draws(a, DRAWS, 8)
    near(share(views, function(view) return box_of(view)[1] == 0 end), 1 / 5)
    near(share(views, function(view) return box_of(view)[2] == 4 end), 1 / 5)
  end)

  it("falls back to the central crop of the nearest ratio", function()
    local a = list { augment.random_resized_crop { size = 24, scale = 1 } }
    assert.same({ 0, 17, 4, 5 }, box_of(a:draw({}, 4, 40)[1]))
    assert.same({ 17, 0, 5, 4 }, box_of(a:draw({}, 40, 4)[1]))
    assert.same({ 0, 0, 1, 1 }, box_of(a:draw({}, 1, 1)[1]))
  end)

  it("resizes to its size, bilinear or bicubic", function()
    local function first(settings) return list { augment.random_resized_crop(settings) }:draw({}, 40, 40)[1][1] end
    assert.same({ { 24, 20 }, { 0, 0, 24, 20 }, 1 },
      { first { size = { 24, 20 } }.size, first { size = { 24, 20 } }.window, first { size = 3 }.filter })
    assert.equal(2, first { size = 3, filter = "bicubic" }.filter)
  end)
end)

describe("a crop of fixed size", function()
  -- torchvision's Resize(256) and CenterCrop(224): height, width, resized height, width, top, left.
  for _, case in ipairs {
    { 360, 480, 256, 341, 16, 58 }, { 480, 360, 341, 256, 58, 16 }, { 500, 333, 384, 256, 80, 16 },
    { 3, 1, 768, 256, 272, 16 }, { 375, 500, 256, 341, 16, 58 }, { 224, 224, 256, 256, 16, 16 },
    { 256, 300, 256, 300, 16, 38 }, { 77, 255, 256, 847, 16, 312 },
  } do
    it(("is the middle of the resized image, as torchvision's: %d x %d"):format(case[1], case[2]), function()
      local view = augment.center():draw({}, case[1], case[2])[1]
      assert.same({ 2, { 0, 0, case[1], case[2] }, { case[3], case[4] }, { case[5], case[6], 224, 224 }, 224 * 224 },
        { #view, view[1].box, view[1].size, view[1].window, view.pixels })
    end)
  end

  it("of the image itself reads nothing but the crop", function()
    local view = list { augment.center_crop { size = 32 } }:draw({}, 225, 227)[1]
    assert.same({ 2, { 225, 227 }, { 96, 98, 32, 32 }, 1024 }, { #view, view[1].size, view[1].window, view.pixels })
  end)

  it("has black around an image that is smaller", function()
    local view = list { augment.center_crop { size = 32 } }:draw({}, 30, 40)[1]
    assert.same({ { 0, 4, 30, 32 }, { -1, 0, 32, 32 }, { 0, 0, 0 } }, { view[1].window, view[2].window, view[2].fill })
  end)

  it("at the image's own size is nothing", function()
    assert.equal(1, #list { augment.center_crop { size = 32 } }:draw({}, 32, 32)[1])
  end)

  it("at random begins anywhere", function()
    local views = draws(list { augment.random_crop { size = { 30, 20 } } }, DRAWS, 34, 24)
    for offset = 0, 4 do
      near(share(views, function(view) return view[1].window[1] == offset end), 1 / 5)
      near(share(views, function(view) return view[1].window[2] == offset end), 1 / 5)
    end
  end)

  it("at random begins in the padding too, and fills it with black", function()
    -- Of 32 pixels with 4 on each side, shifts -4 to 4 along each axis.
    local views, seen = draws(list { augment.random_crop { size = 32, padding = 4 } }, DRAWS, 32), {}
    for _, view in ipairs(views) do
      local resample, window = find(view, "RESAMPLE"), find(view, "WINDOW")
      local inner = resample and resample.window or { 0, 0, 32, 32 }
      local outer = window and window.window or { 0, 0, 32, 32 }
      local top, left = inner[1] + outer[1], inner[2] + outer[2]
      assert.equal(32 * 32, view.height * view.width)
      -- What is left of the image lies inside the view, and is all that it can be.
      assert.same({ 32 - math.abs(top), 32 - math.abs(left) }, { inner[3], inner[4] })
      seen[top] = (seen[top] or 0) + 1
    end
    for shift = -4, 4 do near(seen[shift] / DRAWS, 1 / 9) end
  end)

  it("at random holds all of an image that is smaller", function()
    for _, view in ipairs(draws(list { augment.random_crop { size = 40 } }, 500, 30, 38)) do
      local window = find(view, "WINDOW").window
      assert.truthy(window[1] >= -10 and window[1] <= 0 and window[2] >= -2 and window[2] <= 0)
    end
  end)

  it("may lie beside the image", function()
    for _, view in ipairs(draws(list { augment.random_crop { size = 2, padding = 9 } }, 500, 3)) do
      assert.same({ 2, 2 }, { view.height, view.width })
    end
  end)

  it("says that a narrow image would grow too long", function()
    local a = list { augment.resize { size = 256 }, augment.center_crop { size = 224 } }
    check.fails(function() a:draw({}, 1, 100000) end,
      "augment: step 1, resize: an image of 1 x 100000 would be 256 x 25600000 then; at most 16777216")
    check.fails(function() list { augment.resize { size = 256 } }:draw({}, 1, 10000) end,
      "augment: an image of 1 x 10000 becomes one of 655360000 pixels; at most 178956970")
  end)
end)

describe("flip", function()
  it("mirrors half of the views", function()
    near(share(draws(list { crop, augment.flip() }), function(view) return view[1].flip end), 0.5)
  end)
  it("mirrors with its probability", function()
    near(share(draws(list { crop, augment.flip { p = 0.1 } }), function(view) return view[1].flip end), 0.1)
  end)
  it("is merged into the resampling before it", function()
    local view = list { crop, augment.flip { p = 1 }, augment.random_grayscale { p = 1 } }:draw({}, 40, 40)[1]
    assert.same({ 3, true, false }, { #view, view[1].flip, view[3].flip })
  end)
  it("is merged into the normalization after it", function()
    local view = list { augment.random_grayscale { p = 1 }, augment.flip { p = 1 } }:draw({}, 40, 40)[1]
    assert.same({ "GREY", "NORMALIZE", true }, { view[1].op, view[2].op, view[2].flip })
  end)
  it("twice is none", function()
    local twice = { augment.random_grayscale { p = 1 }, augment.flip { p = 1 }, augment.flip { p = 1 } }
    local view = list(twice):draw({}, 40, 40)[1]
    assert.same({ 2, false }, { #view, view[2].flip })
    view = list { crop, twice[2], twice[3] }:draw({}, 40, 40)[1]
    assert.same({ 2, false }, { #view, view[1].flip })
  end)
  it("moves the window of a crop after it to the other side", function()
    local steps = { augment.resize { size = { 10, 20 } }, augment.center_crop { size = { 10, 3 } } }
    assert.same({ 0, 8, 10, 3 }, list(steps):draw({}, 40, 40)[1][1].window)
    table.insert(steps, 2, augment.flip { p = 1 })
    assert.same({ 0, 9, 10, 3 }, list(steps):draw({}, 40, 40)[1][1].window)
  end)
  it("between other steps is an instruction", function()
    local steps = { augment.random_grayscale { p = 1 }, augment.flip { p = 1 }, augment.solarize { p = 1 } }
    assert.equal("FLIP", list(steps):draw({}, 40, 40)[1][2].op)
  end)
end)

describe("color_jitter", function()
  local all = list { augment.color_jitter { brightness = 0.4, contrast = 0.3, saturation = 1.5, hue = 0.1 } }
  it("happens with its probability", function()
    near(share(draws(list { augment.color_jitter { brightness = 0.4, p = 0.8 } }), has "BRIGHTNESS"), 0.8)
  end)
  local function factor(op) return function(view) return find(view, op).factor end end
  it("has factors from 1 - x to 1 + x", function()
    local views = draws(all)
    uniform(views, 0.6, 1.4, factor "BRIGHTNESS")
    uniform(views, 0.7, 1.3, factor "CONTRAST")
  end)
  it("has factors from 0 on where x is above 1", function() uniform(draws(all), 0, 2.5, factor "SATURATION") end)
  it("has factors from low to high", function()
    uniform(draws(list { augment.color_jitter { contrast = { 0.2, 0.9 } } }), 0.2, 0.9, factor "CONTRAST")
  end)
  it("turns the hue by -x to x, in Pillow's 255 steps", function()
    local views, seen = draws(all), {}
    for _, view in ipairs(views) do seen[find(view, "HUE").shift] = (seen[find(view, "HUE").shift] or 0) + 1 end
    for shift = -25, 25 do -- truncated towards 0, to which two steps go
      local width = shift == 0 and 2 or math.abs(shift) == 25 and 0.5 or 1
      near((seen[shift & 255] or 0) / DRAWS, width / 51)
      seen[shift & 255] = nil
    end
    assert.is_nil(next(seen))
  end)
  it("has its parts in any order, each alike", function()
    local orders, count = {}, 0
    for _, view in ipairs(draws(all, 9600)) do
      local order = {}
      for i = 1, 4 do order[i] = view[i].op:sub(1, 1) end
      order = table.concat(order)
      if not orders[order] then count = count + 1 end
      orders[order] = (orders[order] or 0) + 1
    end
    assert.equal(24, count)
    for _, n in pairs(orders) do near(n / 9600, 1 / 24, 9600) end
  end)
  it("leaves out the parts that change nothing", function()
    assert.equal(1, #list { augment.color_jitter {} }:draw({}, 40, 40)[1])
    local view = list { augment.color_jitter { hue = 0.1, saturation = { 1, 1 } } }:draw({}, 40, 40)[1]
    assert.same({ 2, "HUE" }, { #view, view[1].op })
  end)
end)

describe("random_grayscale", function()
  it("happens with its probability", function()
    near(share(draws(list { augment.random_grayscale { p = 0.2 } }), has "GREY"), 0.2)
  end)
end)

describe("gaussian_blur", function()
  it("happens with its probability", function()
    near(share(draws(list { augment.gaussian_blur { p = 0.1 } }), has "BOX_BLUR"), 0.1)
  end)
  it("without taps is Pillow's box of its sigma", function()
    local box = list { augment.gaussian_blur { sigma = 2 } }:draw({}, 40, 40)[1][1]
    -- Of sigma 2: L = sqrt(12 * 4 / 3 + 1) = 4.123, l = 1, the radius 1 + 3 (2 - 4) / (6 (4 / 3 - 4)) = 1.375.
    assert.same({ "BOX_BLUR", 1 }, { box.op, box.radius })
    check.close(box.whole / 2 ^ 24, 1 / 3.75, { rtol = 1e-6 })
    check.close((3 * box.whole + 2 * box.edge) / 2 ^ 24, 1, { rtol = 1e-6 })
  end)
  it("with taps is a Gaussian that sums to 1", function()
    local view = list { augment.gaussian_blur { sigma = 1.5, taps = 23 } }:draw({}, 40, 40)[1][1]
    local sum, expected = view.weights[1], {}
    for i = 0, 11 do expected[i + 1] = math.exp(-i * i / (2 * 1.5 ^ 2)) end
    for i = 2, 12 do sum = sum + 2 * view.weights[i] end
    assert.same({ "TAP_BLUR", 11 }, { view.op, view.radius })
    check.close(sum, 1, { atol = 1e-6 })
    for i = 1, 12 do check.close(view.weights[i] / view.weights[1], expected[i], { atol = 1e-6 }) end
  end)
  it("draws sigma uniformly", function()
    uniform(draws(list { augment.gaussian_blur { sigma = { 0.5, 2 }, taps = 3 } }), 0.5, 2, function(view)
      return math.sqrt(-0.5 / math.log(view[1].weights[2] / view[1].weights[1]))
    end)
  end)
  it("says that the view is smaller than its taps", function()
    check.fails(function() list { augment.resize { size = { 40, 11 } }, augment.gaussian_blur { taps = 23 } } end,
      "augment: step 2, gaussian_blur: 23 taps need at least 12 pixels a side; the image is 40 x 11 by then")
  end)
end)

describe("solarize", function()
  it("happens with its probability", function()
    near(share(draws(list { augment.solarize { p = 0.2 } }), has "SOLARIZE"), 0.2)
  end)
  it("has its threshold", function()
    assert.equal(77, list { augment.solarize { threshold = 77, p = 1 } }:draw({}, 4, 4)[1][1].level)
  end)
end)

describe("erasing", function()
  local function erasing(settings)
    return list { augment.resize { size = 32 }, augment.normalize { mean = 0, std = 1 }, augment.erasing(settings) }
  end
  local function window(view) return find(view, "ERASE").window end
  it("happens with its probability", function() near(share(draws(erasing { p = 0.3 }), has "ERASE"), 0.3) end)
  it("is torchvision's", function()
    local views = draws(erasing { p = 1 }) -- 32 x 32; the means of 60,000 of torchvision's draws
    for i, expected in ipairs { 9.21, 9.20, 13.58, 13.61 } do
      local mean = spread(views, function(view) return window(view)[i] end)
      assert.truthy(math.abs(mean - expected) <= 4 * 6.7 / math.sqrt(DRAWS), mean)
    end
    check.close(spread(views, function(view) return window(view)[3] * window(view)[4] / 1024 end), 0.1743, { atol = 6e-3 })
  end)
  it("leaves something of each side", function()
    for _, view in ipairs(draws(erasing { p = 1, area = { 0.9, 1 } }, 500)) do
      local erased = find(view, "ERASE")
      local w = erased and erased.window
      assert.truthy(not w or w[3] < 32 and w[4] < 32 and w[1] + w[3] <= 32 and w[2] + w[4] <= 32)
    end
  end)
  it("leaves out what fits in none of ten tries", function()
    assert.equal(2, #draws(erasing { p = 1, area = 1, ratio = 1 }, 1)[1])
  end)
  it("has its value", function()
    assert.same({ 1, 2, 3 }, find(draws(erasing { p = 1, value = { 1, 2, 3 } }, 1)[1], "ERASE").value)
  end)
end)

describe("rand_augment", function()
  -- One op of each view, always applied, so that its kind can be counted.
  local single = list { augment.rand_augment { n = 1, p = 1 } }
  local exact = list { augment.rand_augment { n = 1, p = 1, mstd = 0 } }
  local kinds = {}
  for _, op in ipairs { "AUTOCONTRAST", "EQUALIZE", "INVERT", "POSTERIZE", "SOLARIZE", "SOLARIZE_ADD", "SATURATION",
                        "CONTRAST", "BRIGHTNESS", "SHARPNESS" } do
    kinds[op] = function(view) return view[1].op == op end
  end
  local function affine(predicate)
    return function(view) return view[1].op == "AFFINE" and predicate(table.unpack(view[1].matrix)) end
  end
  kinds.rotate = affine(function(a) return a ~= 1 end)
  kinds.shear_x = affine(function(a, b) return a == 1 and b ~= 0 end)
  kinds.shear_y = affine(function(a, _, _, d) return a == 1 and d ~= 0 end)
  kinds.translate_x = affine(function(a, _, c) return a == 1 and c ~= 0 end)
  kinds.translate_y = affine(function(a, _, _, _, _, f) return a == 1 and f ~= 0 end)

  it("draws each of 15 ops alike", function()
    local views, all = draws(single, 9000), 0
    for _, predicate in pairs(kinds) do
      local found = share(views, predicate)
      near(found, 1 / 15, 9000)
      all = all + found
    end
    check.close(all, 1, { atol = 1e-9 })
  end)

  it("applies each op with probability 0.5", function()
    local views = draws(list { augment.rand_augment() })
    for n, expected in ipairs { 0.25, 0.5, 0.25 } do
      near(share(views, function(view) return #view == n end), expected)
    end
  end)

  it("draws with replacement", function()
    local views = draws(list { augment.rand_augment { p = 1 } }, 9000)
    near(share(views, function(view) return view[1].op == "INVERT" and view[2].op == "INVERT" end), 1 / 225, 9000)
  end)

  it("has magnitude 10 in half of the draws", function()
    local views = draws(single, 9000)
    local posterized, kept = 0, 0
    for _, view in ipairs(views) do
      if view[1].op == "POSTERIZE" then
        posterized = posterized + 1
        assert.truthy(view[1].level == 4 or view[1].level == 3)
        if view[1].level == 4 then kept = kept + 1 end
      end
    end
    near(kept / posterized, 0.5, posterized)
  end)

  it("has a normal magnitude around m", function()
    -- Of m 5, deviation 1: the factor is 1 with deviation 0.18, and 0.683 of them lie within one.
    local views, n, within = draws(list { augment.rand_augment { n = 1, m = 5, mstd = 1, p = 1 } }, 9000), 0, 0
    local mean = spread(views, function(view) return view[1].factor end)
    for _, view in ipairs(views) do
      if view[1].factor then
        n = n + 1
        if math.abs(view[1].factor - 1) <= 0.18 then within = within + 1 end
      end
    end
    near(within / n, 0.6827, n)
    assert.truthy(math.abs(mean - 1) <= 4 * 0.18 / math.sqrt(n), mean)
  end)

  local function at(m, op)
    local a = list { augment.rand_augment { n = 1, m = m, mstd = 0, p = 1 } }
    for sample = 1, 500 do
      local view = a:draw({ sample = sample }, 20, 33)[1]
      if view[1].op == op then return view[1].level or view[1].factor end
    end
  end
  -- op, at m = 10, at m = 5
  for _, case in ipairs {
    { "POSTERIZE", 4, 2 }, { "SOLARIZE", 256, 128 }, { "SOLARIZE_ADD", 110, 55 }, { "SATURATION", 1.9, 1 },
    { "CONTRAST", 1.9, 1 }, { "BRIGHTNESS", 1.9, 1 }, { "SHARPNESS", 1.9, 1 },
  } do
    it("has the argument of the magnitude: " .. case[1], function()
      check.close(at(10, case[1]), case[2], { atol = 1e-6 })
      check.close(at(5, case[1]), case[3], { atol = 1e-6 })
    end)
  end

  -- The matrices of an image of 20 x 33 at magnitude 10, as PIL.Image.rotate(30) and (-30), and PyContrast make them.
  local matrices = {
    rotate = { { 0.866025403784439, -0.5, 7.210580837556757, 0.5, 0.866025403784439, -6.910254037844389 },
               { 0.866025403784438, 0.5, -2.7894191624432274, -0.5, 0.866025403784438, 9.58974596215562 } },
    shear_x = { { 1, 0.3, 0, 0, 1, 0 }, { 1, -0.3, 0, 0, 1, 0 } },
    shear_y = { { 1, 0, 0, 0.3, 1, 0 }, { 1, 0, 0, -0.3, 1, 0 } },
    translate_x = { { 1, 0, 14.85, 0, 1, 0 }, { 1, 0, -14.85, 0, 1, 0 } },
    translate_y = { { 1, 0, 0, 0, 1, 9 }, { 1, 0, 0, 0, 1, -9 } },
  }
  for name, pair in pairs(matrices) do
    it("moves pixels by Pillow's matrix, either way: " .. name, function()
      local n, first = 0, 0
      for _, view in ipairs(draws(exact, DRAWS, 20, 33)) do
        if kinds[name](view) then
          local m = view[1].matrix
          local sum = m[2] + m[3] + m[4] + m[6]
          local expected = pair[math.abs(sum - (pair[1][2] + pair[1][3] + pair[1][4] + pair[1][6])) < 1e-3 and 1 or 2]
          check.close(m, expected, { atol = 1e-13, rtol = 0 })
          n, first = n + 1, first + (expected == pair[1] and 1 or 0)
        end
      end
      near(first / n, 0.5, n)
    end)
  end

  it("resamples bilinearly or bicubically, each half of the time", function()
    local n, bicubic = 0, 0
    for _, view in ipairs(draws(single)) do
      if view[1].op == "AFFINE" then
        n, bicubic = n + 1, bicubic + view[1].filter - 1
        assert.same({ 124, 116, 104 }, view[1].fill)
      end
    end
    near(bicubic / n, 0.5, n)
  end)
end)

describe("jigsaw", function()
  local function patches(key, settings) return augment.infomin_jigsaw(settings):draw(key or {}, 300, 400) end

  it("makes nine images of one", function()
    assert.equal(9, augment.infomin_jigsaw():images())
    assert.equal(9, #patches())
    assert.equal(1, augment.base():images())
  end)

  it("has patches of 64 pixels", function()
    for _, view in ipairs(patches()) do assert.same({ 64, 64, 4096, 2 }, { view.height, view.width, view.pixels, #view }) end
  end)

  it("cuts all of them out of one crop, mirrored or not", function()
    for sample = 1, 20 do
      local views = patches { sample = sample }
      for _, view in ipairs(views) do
        assert.same({ views[1][1].box, views[1][1].flip, { 255, 255 } }, { view[1].box, view[1].flip, view[1].size })
      end
    end
  end)

  it("begins each 0 to 21 pixels into its cell, drawn for each", function()
    local seen, apart = {}, {}
    for sample = 1, 400 do
      for p, view in ipairs(patches { sample = sample }) do
        local w = view[1].window
        local left = view[1].flip and 255 - w[2] - 64 or w[2]
        local y, x = w[1] - (p - 1) // 3 * 85, left - (p - 1) % 3 * 85
        assert.truthy(y >= 0 and y <= 21 and x >= 0 and x <= 21, ("patch %d at %d, %d"):format(p, y, x))
        seen[y], apart[x] = (seen[y] or 0) + 1, (apart[x] or 0) + 1
      end
    end
    for offset = 0, 21 do
      near(seen[offset] / 3600, 1 / 22, 3600)
      near(apart[offset] / 3600, 1 / 22, 3600)
    end
  end)

  it("lets the steps after it draw for each patch", function()
    local a = augment.infomin_jigsaw()
    table.insert(a, 4, augment.solarize { p = 0.5 })
    local solarized = 0
    for sample = 1, 400 do
      for _, view in ipairs(a:draw({ sample = sample }, 300, 300)) do
        if find(view, "SOLARIZE") then solarized = solarized + 1 end
      end
    end
    near(solarized / 3600, 0.5, 3600)
  end)

  it("says that the image is too small", function()
    check.fails(function() list { augment.resize { size = { 255, 190 } }, augment.jigsaw() } end,
      "augment: step 2, jigsaw: patches of 64 x 64 need an image of at least 192 x 192; it is 255 x 190 by then")
    check.fails(function() list { augment.jigsaw() }:draw({}, 100, 300) end,
      "augment: step 1, jigsaw: patches of 64 x 64 need")
  end)
end)

describe("fused", function()
  it("a view of CLD's base has a resampling at its beginning and a normalization at its end", function()
    for _, view in ipairs(draws(augment.base(), 200)) do
      assert.same({ "RESAMPLE", "NORMALIZE" }, { view[1].op, view[#view].op })
      assert.is_nil(find(view, "FLIP"))
      assert.truthy(#view <= 7)
    end
  end)
end)

describe("a mistake", function()
  local function fails(f, pattern) check.fails(f, "^[^\n]*augment_spec.lua:%d+: " .. pattern .. "[^\n]*$") end

  for _, case in ipairs {
    { "flip", { q = 1 }, "augment.flip: unknown setting 'q'" },
    { "flip", { 0.5 }, "augment.flip: settings have names, as in size = 32" },
    { "flip", { p = 1.5 }, "augment.flip: p is a probability, 0 to 1; got 1.5" },
    { "flip", { p = 0 / 0 }, "augment.flip: p is a probability" },
    { "flip", { p = "often" }, "augment.flip: p must be a number; got 'often'" },
    { "flip", 3, "augment.flip: expected a table of settings, got 3" },
    { "random_resized_crop", {}, "augment.random_resized_crop: size must be given" },
    { "random_resized_crop", { size = 32, scail = 1 }, "unknown setting 'scail'; did you mean 'scale'?" },
    { "random_resized_crop", { size = 0 }, "size must be 1 to 4096 pixels, integers; got 0 x 0" },
    { "random_resized_crop", { size = { 3, 2.5 } }, "size must be 1 to 4096 pixels, integers; got 3 x 2.5" },
    { "random_resized_crop", { size = { 3, 3, 3 } },
      "size must be a number of pixels or {height, width}; got a list of 3" },
    { "random_resized_crop", { size = 8, scale = { 0.5, 0.2 } },
      "scale must be {low, high} with 0 < low <= high <= 1; got {0.5, 0.2}" },
    { "random_resized_crop", { size = 8, scale = { 0, 1 } }, "scale must be {low, high} with 0 < low" },
    { "random_resized_crop", { size = 8, filter = "cubic" }, "filter must be one of bilinear|bicubic; got 'cubic'" },
    { "random_resized_crop", { size = 8, filter = 1 }, "filter must be one of bilinear|bicubic" },
    { "resize", { size = { 8, 0 } }, "size must be" },
    { "resize", { size = { 8 } }, "size must be a number of pixels for the shorter side, or {height, width}; got a list of 1" },
    { "resize", { size = 1e9 }, "size must be 1 to 4096 pixels, an integer; got 1e+09" },
    { "color_jitter", { hue = 0.6 },
      "hue must be {low, high} with -0.5 <= low <= high <= 0.5, or a number x for {-x, x}; got {-0.6, 0.6}" },
    { "color_jitter", { brightness = -1 }, "brightness must be a number x, for {1 - x, 1 + x}, or {low, high}; one" },
    { "color_jitter", { contrast = { -1, 1 } }, "contrast must be {low, high} with 0 <= low" },
    { "gaussian_blur", { sigma = { -1, 2 } }, "sigma must be {low, high} with 0 < low" },
    { "gaussian_blur", { taps = 22 }, "taps must be odd, or 0 to blur as Pillow does; got 22" },
    { "gaussian_blur", { taps = 25 }, "taps must be an integer from 0 to 23; got 25" },
    { "solarize", { threshold = 1.5 }, "threshold must be an integer from 0 to 256; got 1.5" },
    { "rand_augment", { n = 9 }, "n must be an integer from 0 to 8; got 9" },
    { "rand_augment", { m = 11 }, "m must be a number from 0 to 10; got 11" },
    { "normalize", { std = 1 }, "mean must be given" },
    { "normalize", { mean = 0, std = { 1, 0, 1 } }, "std must be positive and at most 1000; channel 2 has 0" },
    { "normalize", { mean = { 0.5, 0.5 }, std = 1 }, "mean must be a number or a list of 3 numbers, one per channel; got" },
    { "erasing", { area = { 0.1, 3 } }, "area must be" },
  } do
    it(("in a step is named: %s %d"):format(case[1], #case[3]), function()
      local escaped = case[3]:gsub("[%^%$%(%)%%%.%[%]%*%+%-%?]", "%%%0")
      fails(function() augment[case[1]](case[2]) end, ".*" .. escaped)
    end)
  end

  it("in an edited list is named with its step", function()
    local a = augment.base()
    a[2].hue = 0.7
    fails(function() a:draw({}, 32, 32) end, "augment: step 2, color_jitter: hue must be")
    a[2].hue, a[4].probability = 0.1, 1
    fails(function() a:size() end, "augment: step 4, flip: unknown setting 'probability'")
    a[4] = { op = "flop" }
    fails(function() a:size() end, "augment: step 4: there is no 'flop'; did you mean 'flip'%?")
    a[4] = 7
    fails(function() a:size() end, "augment: step 4 is a number: steps are made by cld.augment.flip{} and its like")
    a[4] = {}
    fails(function() a:size() end, "augment: step 4: its `op`, the name of what it does, is a nil")
  end)

  it("in the order is named, with what to do", function()
    fails(function() list { augment.flip(), crop } end,
      "augment: step 2, random_resized_crop: it cuts the view out of the image, and must be the first step: move it")
    fails(function() list { augment.erasing() } end, "augment: step 1, erasing: .* put it after normalize{mean, std}")
    fails(function() list { augment.normalize { mean = 0, std = 1 }, augment.flip() } end,
      "augment: step 2, flip: it works on 8%-bit pixels, which step 1, normalize, has made numbers")
    fails(function() list { augment.jigsaw { size = 2 }, augment.jigsaw { size = 2 } } end, "augment: step 2, jigsaw: there is")
  end)

  it("in a list is not taken for a setting", function()
    fails(function() list { augment.flip(), size = 32 } end, "augment.list: expected steps alone, .* found field 'size'")
    fails(function() list(3) end, "augment.list: expected a table of steps, got 3")
  end)

  it("in a preset's settings is named", function()
    fails(function() augment.plus { flop = 1 } end, "augment.plus: unknown field 'flop'; did you mean 'flip'%?")
    fails(function() augment.plus { flip = "often" } end, "augment.flip: p must be a number; got 'often'")
    fails(function() augment.plus { grayscale = 0 / 0 } end, "augment.random_grayscale: p is a probability")
    fails(function() augment.plus { jitter = { 1, 2 } } end, "augment.plus: jitter must be a list of 4")
    fails(function() augment.base { crop = 1 } end, "augment.base: crop must be true or false, got 1")
    fails(function() augment.center { size = "big" } end, "augment.center_crop: size must be")
    fails(function() augment.byol_1 { size = {} } end, "augment.random_resized_crop: size must be")
  end)

  it("in the name of a step is named", function()
    fails(function() return augment.random_greyscale end,
      "cld.augment has no 'random_greyscale'; did you mean 'random_grayscale'%?")
  end)

  it("in a name shows no control characters", function()
    fails(function() augment.flip { ["p\27[2J\n"] = 1 } end, "augment.flip: unknown setting 'p\\x1b%[2J\\n'")
  end)
end)
