--- Image operations: byte for byte the results of Pillow and torchvision on two images (fixtures/make_image.py).
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"

local follow = require("cld.core").image.follow
local fixture = cld.load "spec/fixtures/image.safetensors"

describe("cld.image", function()
  for name, expected in pairs(fixture) do
    local source, instruction, operation, arguments = name:match "^(%a+):(=?)([%a_]+):(.*)$"
    if source then
      it(("%s(%s) of '%s' is Pillow's"):format(operation, arguments, source), function()
        local list = {}
        for number in arguments:gmatch "[^,]+" do list[#list + 1] = math.tointeger(number) or tonumber(number) end
        if instruction == "" then
          check.close(cld.image[operation](fixture[source], table.unpack(list)), expected)
        else
          check.close(follow(fixture[source], { { operation, table.unpack(list) } }), expected)
          check.close(follow(fixture[source], { { operation, table.unpack(list) } }, { sparing = true }), expected)
        end
      end)
    end
  end

  if not os.getenv "CLD_PLAIN_LOOPS" then
    it("does all of this without AVX2 too", function()
      local result = process.run { arg[0], "spec/image_spec.lua", env = { CLD_PLAIN_LOOPS = "1" } }
      assert.equal(0, result.code, result.out .. result.err)
    end)
  end

  it("leaves its argument alone, and takes views", function()
    local before = fixture.noise:totable()
    cld.image.adjust_hue(fixture.noise, 0.3)
    cld.image.gaussian_blur(fixture.noise, 1)
    check.close(fixture.noise, before)
    local part = fixture.smooth:narrow(2, 4, 7)
    local copy = cld.tensor(part:totable(), "u8")
    check.close(cld.image.adjust_saturation(part, 1.3), cld.image.adjust_saturation(copy, 1.3))
    check.close(cld.image.resized_crop(part, 1, 1, 9, 5, 4), cld.image.resized_crop(copy, 1, 1, 9, 5, 4))
  end)

  it("resizes to a height and a width", function()
    assert.same({ 5, 9, 3 }, cld.image.resized_crop(fixture.noise, 0, 0, 17, 16, { 5, 9 }).shape)
  end)

  it("works on one pixel and on one row", function()
    local pixel = cld.tensor({ { { 10, 200, 90 } } }, "u8")
    check.close(cld.image.gaussian_blur(pixel, 2), pixel)
    check.close(cld.image.hflip(pixel), pixel)
    assert.same({ 3, 3, 3 }, cld.image.resized_crop(pixel, 0, 0, 1, 1, 3).shape)
    local row = cld.tensor({ { { 1, 2, 3 }, { 4, 5, 6 } } }, "u8")
    assert.same({ { { 4, 5, 6 }, { 1, 2, 3 } } }, cld.image.hflip(row):totable())
  end)

  it("turns the hue of every colour as Pillow does", function()
    -- 2^24 colours by 153 of 255: the sum of level * (its place modulo 251 + 1), as fixtures/make_image.py prints it.
    local weight = (cld.arange(65536 * 3) % 251 + 1):reshape(256, 256, 3)
    local sum = 0
    local green_and_blue = cld.zeros(256, 256, 3, "u8")
    green_and_blue:select(3, 2):copy_(cld.arange(256):reshape(256, 1):expand(256, 256))
    green_and_blue:select(3, 3):copy_(cld.arange(256):reshape(1, 256):expand(256, 256))
    for red = 0, 255 do
      green_and_blue:select(3, 1):fill_(red)
      local turned = follow(green_and_blue, { { "hue", 153 } })
      sum = sum + (turned:to "i64" * weight):sum():item() * (red % 7 + 1)
    end
    assert.equal(3219295284557, sum)
  end)

  it("resizes to a height and a width by name", function()
    local cropped = cld.image.resized_crop(fixture.noise, 0, 0, 17, 16, { 5, 9 })
    check.close(cld.image.resize(fixture.noise, { 5, 9 }), cropped)
    local view = { { "resample", 0, 0, 17, 16, 5, 9, 0, 0, 5, 9, 2, 0 } }
    check.close(cld.image.resize(fixture.noise, { 5, 9 }, "bicubic"), follow(fixture.noise, view))
  end)

  it("cuts a box out of an image that was decoded at a part of its size", function()
    for _, shrink in ipairs { 2, 4, 8 } do
      local function box(scale)
        return { { "resample", 1.5 * scale, 2 * scale, 12.25 * scale, 10 * scale, 6, 7, 1, 0, 4, 6, 1, 0 } }
      end
      local full, small = box(shrink), box(1)
      local expected = follow(fixture.noise, small)
      check.close(follow(fixture.noise, full, { shrink = shrink }), expected)
      check.close(follow(fixture.noise, full, { shrink = shrink, sparing = true }), expected)
    end
  end)

  it("follows a list: mirrored, normalized, parts erased", function()
    local pixels = cld.tensor({ { { 0, 51, 255 }, { 255, 102, 0 }, { 51, 51, 51 } } }, "u8")
    local view = {
      { "invert" }, { "normalize", 0, 0, 0, 1, 1, 0.5, 1 }, { "erase", 0, 0, 1, 2, 7, 8, 9 },
      { "erase", 0, 1, 1, 1, 1, 2, 3 },
    }
    check.close(follow(pixels, view), { { { 7, 1, 1 } }, { { 8, 2, 0.8 } }, { { 9, 3, 0 } } }, { atol = 1e-6 })
  end)

  it("normalizes to f32 (3, height, width)", function()
    local image = cld.tensor({ { { 0, 51, 255 }, { 255, 102, 0 } } }, "u8")
    check.close(cld.image.normalize(image), { { { 0, 1 } }, { { 0.2, 0.4 } }, { { 1, 0 } } }, { atol = 1e-6 })
    local mean, std = { 0.5, 0.2, 0.1 }, { 0.5, 0.1, 2 }
    local expected = { { { -1, 1 } }, { { 0, 2 } }, { { 0.45, -0.05 } } }
    check.close(cld.image.normalize(image, mean, std), expected, { atol = 1e-6 })
  end)

  it("says what is wrong", function()
    local image = fixture.noise
    check.fails(function() cld.image.grayscale(cld.zeros(3, 4, 4)) end,
      "grayscale: .*u8%[height, width, 3%], got f32%[3, 4, 4%]")
    check.fails(function() cld.image.adjust_hue(image, 0.6) end, "adjust_hue: factor must be %-0.5 to 0.5, got 0.6")
    check.fails(function() cld.image.adjust_contrast(image, -1) end, "adjust_contrast: factor must be 0 to .*got %-1")
    check.fails(function() cld.image.adjust_brightness(image, 0 / 0) end, "adjust_brightness: factor")
    check.fails(function() cld.image.posterize(image, 9) end, "posterize: bits must be 0 to 8, got 9")
    check.fails(function() cld.image.solarize(image, 0.5) end, "solarize: threshold must be an integer, got 0.5")
    check.fails(function() cld.image.resize(image, 4, "cubic") end, "invalid option 'cubic'")
    check.fails(function() cld.image.gaussian_blur(image, -1) end, "gaussian_blur: sigma")
    check.fails(function() cld.image.resized_crop(image, 10, 0, 8, 8, 4) end,
      "resized_crop: top 10, .* not inside u8%[17, 16, 3%]")
    check.fails(function() cld.image.resized_crop(image, 0, 0, 8, 8, 0) end, "size must be 1 to 65535, got 0 x 0")
    check.fails(function() cld.image.normalize(image, { 1, 2 }) end, "three numbers")
    check.fails(function() cld.image.normalize(image, { 0, 0, 0 }, { 1, 0, 1 }) end, "std must be positive")
  end)

  it("says what is wrong with an instruction", function()
    local mistakes = {
      ["there is no instruction 'turn'"] = { { "turn" } },
      ["contrast takes 1 numbers, got 0"] = { { "contrast" } },
      ["resample: the box must be inside the image or can"] =
        { { "window", 0, 0, 3, 3, 0, 0, 0 }, { "resample", 0, 0, 4, 4, 4, 4, 0, 0, 4, 4, 1, 0 } },
      ["resample: the box must be inside the image or canvas"] =
        { { "resample", 0, 0, 18, 4, 4, 4, 0, 0, 4, 4, 1, 0 } },
      ["resample: the window must be inside the resized box"] =
        { { "resample", 0, 0, 4, 4, 4, 4, 0, 1, 4, 4, 1, 0 } },
      ["erase needs normalize before it"] = { { "erase", 0, 0, 1, 1, 0, 0, 0 } },
      ["only erase may follow normalize, not grey"] = { { "normalize", 0, 0, 0, 1, 1, 1, 0 }, { "grey" } },
      ["erase: the part must be inside the view"] =
        { { "normalize", 0, 0, 0, 1, 1, 1, 0 }, { "erase", 0, 10, 1, 7, 0, 0, 0 } },
      ["brightness: the factor must be 0 to 1e6"] = { { "brightness", 0 / 0 } },
      ["affine: the matrix must be finite"] = { { "affine", 1, 0, 1 / 0, 0, 1, 0, 0, 0, 0, 1 } },
    }
    for message, view in pairs(mistakes) do
      check.fails(function() follow(fixture.noise, view) end, "follow: " .. message:gsub("%(", "%%("))
    end
  end)
end)
