--- Augmentations as lists of steps: presets, editing, printing, error messages, and which random numbers each step
-- gets. augment_draws_spec.lua tests the distributions of what is drawn.
local cld = require "cld"
local check = require "spec.support.check"
local drawn = require "spec.support.drawn"

local augment = cld.augment
local list = augment.list
local draws, find, share, has, near = drawn.views, drawn.find, drawn.share, drawn.has, drawn.near
local DRAWS = drawn.COUNT

local crop = augment.random_resized_crop { size = 24 }

-- Its steps as they print, but for the prefix and the filter.
local function brief(a)
  local lines = {}
  for i, step in ipairs(a) do
    lines[i] = tostring(step):gsub("^cld%.augment%.", ""):gsub(", filter = \"bilinear\"", "")
  end
  return lines
end

describe("a preset", function()
  local cifar = "normalize { mean = { 0.4914, 0.4822, 0.4465 }, std = { 0.2023, 0.1994, 0.201 } }"
  local imagenet = "normalize { mean = { 0.485, 0.456, 0.406 }, std = { 0.229, 0.224, 0.225 } }"
  local function cut(size, low)
    local text = "random_resized_crop { size = %d, scale = { %g, 1 }, ratio = { 0.75, 1.3333333333333333 } }"
    return text:format(size, low)
  end
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
    ["infomin_jigsaw beside 32 pixels"] = { augment.infomin_jigsaw { view = 32 },
      { cut(36, 0.6), flip, "jigsaw { size = 9 }", imagenet } },
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

  it("takes the crop's scale as its crop", function()
    assert.same({ 0.4, 0.6 }, augment.none { crop = { 0.4, 0.6 } }[1].scale)
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
  cld.augment.resize { size = 32, filter = "bilinear" },
  cld.augment.flip { p = 0.25 },
  cld.augment.normalize { mean = 0, std = 1 },
}]], tostring(a))
  end)

  it("prints what makes the same list when it is pasted", function()
    local a = augment.plus { erasing = true, scale = { 1 / 7, 1 } }
    local again = assert(load("local cld = ...; return " .. tostring(a)))(cld)
    for i, step in ipairs(a) do assert.same(step, again[i]) end
    assert.equal(#a, #again)
  end)

  it("tells the size of its views", function()
    assert.same({ 20, 30 }, { augment.base { size = { 20, 30 } }:size() })
    assert.same({ 64, 64 }, { augment.infomin_jigsaw():size() })
    assert.same({ 256, 341 }, { list { augment.resize { size = 256 } }:size(360, 480) })
    assert.same({ 17, 23 }, { list {}:size(17, 23) })
  end)

  it("says that the size depends on the image", function()
    check.fails(function() list { augment.resize { size = 256 } }:size() end,
      "augment_spec.lua:%d+: augment: the views would differ in size, as the images do: add random_resized_crop")
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

  it("may resample where it likes", function()
    local view = list { augment.resize { size = 20 }, augment.flip { p = 1 }, crop }:draw({}, 30, 40)[1]
    assert.same({ 24, 24, "RESAMPLE", "RESAMPLE", "NORMALIZE" },
      { view.height, view.width, view[1].op, view[2].op, view[3].op })
    assert.same({ 0, 0, 30, 40 }, view[1].box)
    assert.truthy(view[2].box[3] <= 20 and view[2].box[4] <= 26)
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

describe("a mistake", function()
  local function fails(f, pattern) check.fails(f, "^[^\n]*augment_spec.lua:%d+: " .. pattern .. "[^\n]*$") end

  for _, case in ipairs {
    { "flip", { q = 1 }, "augment.flip: unknown setting 'q'" },
    { "flip", { 0.5 }, "augment.flip: settings need names: p" },
    { "color_jitter", { 0.4, 0.4, 0.4, 0.1 }, "settings need names: brightness, contrast, saturation, hue, p" },
    { "gaussian_blur", { kernel_size = 23 }, "unknown setting 'kernel_size'; known settings: sigma, p, taps" },
    { "center_crop", { size = { 8, "8" } },
      "size must be a number of pixels or {height, width}; got a list with a string" },
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
    { "resize", { size = { 8 } },
      "size must be a number of pixels for the shorter side, or {height, width}; got a list of 1" },
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
    { "normalize", { mean = { 0.5, 0.5 }, std = 1 },
      "mean must be a number or a list of 3 numbers, one per channel; got a list of 2" },
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
    fails(function() a:size() end, "augment: step 4: there is no step 'flop'; did you mean 'flip'%?")
    a[4] = 7
    fails(function() a:size() end, "augment: step 4 is a number; make steps with cld.augment.flip{} and the like")
    a[4] = {}
    fails(function() a:size() end, "augment: step 4: its field 'op' must be the name of a step, got a nil")
  end)

  it("in the order is named, with what to do", function()
    fails(function() list { augment.erasing() } end, "augment: step 1, erasing: .* put it after normalize{mean, std}")
    local identity = augment.normalize { mean = 0, std = 1 }
    fails(function() list { identity, augment.flip() } end,
      "augment: step 2, flip: it works on 8%-bit pixels, which step 1, normalize, turns into floats")
    local small = augment.jigsaw { size = 2 }
    fails(function() list { small, small } end, "augment: step 2, jigsaw: there is already one before it")
  end)

  it("is a nil between steps", function()
    fails(function() list { augment.flip(), nil, augment.flip() } end,
      "augment: step 2 is nil, and step 3 is not: a list has no holes")
    fails(function() list { nil, augment.flip() } end, "augment: step 1 is nil, and step 2 is not")
    local a = augment.base()
    a[7] = augment.flip()
    fails(function() a:size() end, "augment: step 6 is nil, and step 7 is not")
    a[7], a[2] = nil, nil
    fails(function() a:size() end, "augment: step 2 is nil, and step 5 is not")
  end)

  it("is a list in a list", function()
    fails(function() list { augment.base() } end, "augment: step 1 is a list itself: put its steps there")
  end)

  it("is a setting of a list", function()
    local a = augment.base()
    fails(function() a.size = 96 end,
      "augment: a list has steps alone, settings are a step's, as in list%[1%].size = 96; got field 'size'")
  end)

  it("in a list is not taken for a setting", function()
    fails(function() list { augment.flip(), size = 3 } end, "augment.list: expected steps alone, .* found field 'size'")
    fails(function() list(3) end, "augment.list: expected a table of steps, got 3")
  end)

  it("in a preset's settings is named", function()
    fails(function() augment.plus { flop = 1 } end, "augment.plus: unknown field 'flop'; did you mean 'flip'%?")
    fails(function() augment.infomin { jitter = 4 } end,
      "augment.infomin: unknown field 'jitter'; known fields: mean, ratio, scale, size, std")
    fails(function() augment.base { 32 } end, "augment.base: settings need names: blur, crop, ")
    fails(function() augment.base(augment.base()) end, "augment.base: settings need names: blur, crop, ")
    fails(function() augment.plus { flip = "often" } end, "augment.flip: p must be a number; got 'often'")
    fails(function() augment.plus { grayscale = 0 / 0 } end, "augment.random_grayscale: p is a probability")
    fails(function() augment.plus { jitter = { 1, 2 } } end, "augment.plus: jitter must be a list of 4")
    fails(function() augment.base { crop = 1 } end,
      "augment.base: crop must be true, false or the scale {low, high}, got 1")
    fails(function() augment.center { size = "big" } end, "augment.center_crop: size must be")
    fails(function() augment.byol_1 { size = {} } end, "augment.random_resized_crop: size must be")
  end)

  it("in what a view is drawn for is named", function()
    local function draw(key) return function() augment.base():draw(key, 8, 8) end end
    fails(draw { smaple = 1 }, "augment: unknown field 'smaple'; did you mean 'sample'%?")
    fails(draw { sample = 1.5 }, "draw: field 'sample': expected an integer, got 1.5")
    fails(draw { sample = -1 }, "bad argument #2 to 'draw' %(sample must be 0 to 2%^36 %- 1%)")
    fails(draw { epoch = 1 << 22 }, ".*epoch must be 0 to 4194303")
    fails(draw { view = 65 }, ".*view must be 1 to 64")
    fails(function() augment.base():draw({}, 0, 8) end, ".*expected the side of an image in pixels")
  end)

  it("in torchvision's names is a step's name here", function()
    for theirs, ours in pairs {
      RandomHorizontalFlip = "flip", random_erasing = "erasing", grayscale = "random_grayscale", byol = "byol_1",
      resized_crop = "random_resized_crop", RandAugment = "rand_augment", ColorJitter = "color_jitter",
    } do
      fails(function() return augment[theirs] end,
        ("cld.augment has no '%s'; did you mean '%s'%%?"):format(theirs, ours))
    end
  end)

  it("in the name of a step is named", function()
    fails(function() return augment.random_greyscale end,
      "cld.augment has no 'random_greyscale'; did you mean 'random_grayscale'%?")
  end)

  it("in a name shows no control characters", function()
    fails(function() augment.flip { ["p\27[2J\n"] = 1 } end, "augment.flip: unknown setting 'p\\x1b%[2J\\n'")
  end)
end)
