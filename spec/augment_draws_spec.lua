--- What is drawn for a view: the distributions that torchvision's, timm's and PyContrast's transforms promise, counted
-- over some thousand draws, and which steps are merged. image_spec.lua tests what the instructions do to pixels.
local cld = require "cld"
local check = require "spec.support.check"
local drawn = require "spec.support.drawn"

local augment = cld.augment
local list = augment.list
local draws, find, share, has, near = drawn.views, drawn.find, drawn.share, drawn.has, drawn.near
local spread, uniform = drawn.spread, drawn.uniform
local DRAWS = drawn.COUNT

local crop = augment.random_resized_crop { size = 24 }

local function box_of(view) return view[1].box end

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
      "augment: step 1, resize: an image of 1 x 100000 would become 256 x 25600000; at most 16777216")
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
      "augment: step 2, gaussian_blur: 23 taps need at least 12 pixels per side; the image is 40 x 11 by then")
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
    local area = spread(views, function(view) return window(view)[3] * window(view)[4] / 1024 end)
    check.close(area, 0.1743, { atol = 6e-3 })
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

describe("jigsaw", function()
  local function patches(key, settings) return augment.infomin_jigsaw(settings):draw(key or {}, 300, 400) end

  it("makes nine images of one", function()
    assert.equal(9, augment.infomin_jigsaw():images())
    assert.equal(9, #patches())
    assert.equal(1, augment.base():images())
  end)

  it("has patches of 64 pixels", function()
    for _, view in ipairs(patches()) do
      assert.same({ 64, 64, 4096, 2 }, { view.height, view.width, view.pixels, #view })
    end
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
