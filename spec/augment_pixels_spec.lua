--- Views of merged steps have the same pixels as their steps run one after the other by the functions of cld.image.
local cld = require "cld"
local check = require "spec.support.check"
local drawn = require "spec.support.drawn"

local augment = cld.augment
local list = augment.list
local image = cld.load("spec/fixtures/image.safetensors").smooth
local H, W = image.shape[1], image.shape[2]

local resize = augment.resize { size = { 30, 44 } }
local flip, half = augment.flip { p = 1 }, augment.flip { p = 0.5 }
local resized = cld.image.resized_crop(image, 0, 0, H, W, { 30, 44 })

-- The part of u8 (H, W, 3); black beside it.
local function part(x, top, left, height, width)
  local rows, out = x:totable(), {}
  for y = 1, height do
    out[y] = {}
    for column = 1, width do
      local row = rows[top + y]
      out[y][column] = row and row[left + column] or { 0, 0, 0 }
    end
  end
  return cld.tensor(out, "u8")
end

local function same(steps, expected, key)
  check.close(list(steps):views(image, key):squeeze(1), cld.image.normalize(expected), { atol = 0, rtol = 0 })
end

describe("the pixels of", function()
  it("a list without steps are the image's", function() same({}, image) end)
  it("a view at the image's own size are the image's", function()
    same({ augment.resize { size = { H, W } } }, image)
  end)
  it("a resized image", function() same({ resize }, resized) end)
  it("one that is mirrored", function() same({ resize, flip }, cld.image.hflip(resized)) end)
  it("one that is mirrored at the end", function()
    same({ resize, augment.random_grayscale { p = 1 }, flip }, cld.image.hflip(cld.image.grayscale(resized)))
  end)
  it("one that is mirrored in between", function()
    local steps = { augment.random_grayscale { p = 1 }, flip, augment.gaussian_blur { sigma = 1.5 } }
    same(steps, cld.image.gaussian_blur(cld.image.hflip(cld.image.grayscale(image)), 1.5))
  end)
  it("a resized image that is resized again", function()
    same({ resize, augment.resize { size = { 13, 50 }, filter = "bicubic" } },
      cld.image.resized_crop(resized, 0, 0, 30, 44, { 13, 50 }, "bicubic"))
  end)
  it("a crop of one that is mirrored", function()
    local steps = { flip, augment.random_resized_crop { size = { 9, 12 } } }
    local box = list(steps):draw({ sample = 3 }, H, W)[1][2].box
    same(steps, cld.image.resized_crop(cld.image.hflip(image), box[1], box[2], box[3], box[4], { 9, 12 }),
      { sample = 3 })
  end)
  it("a grey image that is resized, mirrored", function()
    local grey = cld.image.resized_crop(cld.image.grayscale(image), 0, 0, H, W, { 30, 44 })
    same({ augment.random_grayscale { p = 1 }, resize, flip }, cld.image.hflip(grey))
  end)
  it("the middle of a resized image", function()
    same({ resize, augment.center_crop { size = { 11, 20 } } }, part(resized, 10, 12, 11, 20))
  end)
  it("the middle of a mirrored one", function()
    same({ resize, flip, augment.center_crop { size = { 11, 19 } } }, part(cld.image.hflip(resized), 10, 12, 11, 19))
  end)
  it("the mirrored middle, twice cut", function()
    local function middle(height, width) return augment.center_crop { size = { height, width } } end
    local steps = { resize, flip, middle(11, 19), flip, middle(6, 5) }
    local once = cld.image.hflip(part(cld.image.hflip(resized), 10, 12, 11, 19))
    same(steps, part(once, 2, 7, 6, 5))
  end)
  it("the middle of the image itself", function()
    same({ augment.center_crop { size = { H - 3, W - 8 } } }, part(image, 2, 4, H - 3, W - 8))
  end)
  it("a middle that is larger than the image", function()
    same({ augment.center_crop { size = { H + 4, W - 8 } } }, part(image, -2, 4, H + 4, W - 8))
  end)

  for _, first in ipairs { "nothing", "a resampling", "a blur" } do
    it("a random crop with padding, after " .. first, function()
      local steps, canvas = {}, image
      if first == "a resampling" then steps, canvas = { resize }, resized end
      if first == "a blur" then
        steps, canvas = { augment.gaussian_blur { sigma = 1 } }, cld.image.gaussian_blur(image, 1)
      end
      local height, width = canvas.shape[1], canvas.shape[2]
      steps[#steps + 1] = augment.random_crop { size = { height, width }, padding = 5 }
      for sample = 1, 12 do
        local view = list(steps):draw({ sample = sample }, H, W)[1]
        local resample, window = drawn.find(view, "RESAMPLE"), drawn.find(view, "WINDOW")
        local inner, outer = resample and resample.window or { 0, 0 }, window and window.window or { 0, 0 }
        same(steps, part(canvas, inner[1] + outer[1], inner[2] + outer[2], height, width), { sample = sample })
      end
    end)
  end

  it("jigsaw patches are cut out of one crop", function()
    local crop = augment.random_resized_crop { size = 90 }
    local patches = list { crop, half, augment.jigsaw { size = 22 } }
    for sample = 1, 4 do
      local key = { sample = sample }
      local whole = list { crop, half }:views(image, key):squeeze(1)
      local views, all = patches:draw(key, H, W), patches:views(image, key)
      assert.same({ 9, 3, 22, 22 }, all.shape)
      for p, view in ipairs(views) do
        local w = view[1].window
        local left = view[1].flip and 90 - w[2] - 22 or w[2]
        check.close(all:select(1, p), whole:narrow(2, w[1] + 1, 22):narrow(3, left + 1, 22), { atol = 0, rtol = 0 })
      end
    end
  end)

  it("an erased view are the value within the rectangle", function()
    local steps = { augment.normalize { mean = 0, std = 1 }, augment.erasing { p = 1, value = { 7, 8, 9 } } }
    local erased = drawn.find(list(steps):draw({}, H, W)[1], "ERASE").window
    local view, whole = list(steps):views(image):squeeze(1), cld.image.normalize(image)
    for c = 1, 3 do
      whole:select(1, c):narrow(1, erased[1] + 1, erased[3]):narrow(2, erased[2] + 1, erased[4]):fill_(6 + c)
    end
    check.close(view, whole, { atol = 0, rtol = 0 })
  end)

  it("the presets are finite and of their size", function()
    for _, name in ipairs { "none", "base", "plus", "infomin", "byol_1", "byol_2", "crop_flip", "center" } do
      local views = augment[name] { size = 40 }:views(image, { sample = 3 })
      assert.same({ 1, 3, 40, 40 }, views.shape)
      assert.truthy(views:abs():max():item() < 10)
    end
  end)
end)

describe("a view of an image", function()
  it("wants u8 of three channels", function()
    check.fails(function() augment.base():views(cld.zeros({ 4, 4, 4 }, "u8")) end,
      "augment_pixels_spec.lua:%d+: views: expected an image u8%[height, width, 3%], got u8")
    check.fails(function() augment.base():views(cld.zeros { 4, 4, 3 }) end, "got f32")
  end)
  it("is the same whatever the image's strides", function()
    local turned = image:permute(2, 1, 3)
    local key = { sample = 4 }
    local dense = augment.base():views(turned:contiguous(), key)
    check.close(augment.base():views(turned, key), dense, { atol = 0, rtol = 0 })
  end)
end)
