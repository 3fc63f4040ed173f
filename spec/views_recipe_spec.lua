--- recipes/views.lua: the picture that it makes from an image file.
local cld = require "cld"
local process = require "spec.support.process"

describe("recipes/views.lua", function()
  local folder, file
  before_each(function()
    folder = process.temporary_folder()
    file = folder .. "/image.png"
    cld.image.write(file, cld.load("spec/fixtures/image.safetensors").smooth)
  end)
  after_each(function() process.remove(folder) end)

  local function run(...)
    return process.run { "recipes/views.lua", "--data", file, "--out", folder .. "/views.png", ... }
  end

  it("prints the augmentation and writes a row for the image: itself, then its views", function()
    local result = run("--augment", "plus", "--size", "16", "--views", "3", "--seed", "5")
    assert.equal("", result.err)
    local statistics = cld.augment.statistics.imagenet
    local a = cld.augment.plus { size = 16, mean = statistics.mean, std = statistics.std }
    assert.truthy(result.out:find(tostring(a), 1, true))
    local page = cld.image.read(folder .. "/views.png")
    assert.same({ 2 + 16 + 2, 2 + 4 * 18, 3 }, page.shape)
    -- The second view, as a loader makes it of the data set's first image.
    local mean, std = a:statistics()
    local view = a:views(cld.image.read(file), { seed = 5, epoch = 1, sample = 0, view = 2 })
    local function channels(x) return cld.tensor(x):reshape(1, 3, 1, 1) end
    local levels = ((view * channels(std) + channels(mean)) * 255):round():squeeze(1):permute(2, 3, 1):to("u8")
    assert.same(levels:totable(), page:narrow(1, 3, 16):narrow(2, 3 + 2 * 18, 16):totable())
  end)

  it("shows the nine patches of a jigsaw", function()
    local result = run("--augment", "infomin_jigsaw", "--views", "2")
    assert.equal("", result.err)
    assert.same({ 68, 2 + 19 * 66, 3 }, cld.image.read(folder .. "/views.png").shape)
  end)

  it("says what is wrong in one line", function()
    local result = run("--augment", "infomin", "--size", "8")
    assert.equal(1, result.code)
    assert.truthy(result.err:match "^cldlua: [^\n]*gaussian_blur: 23 taps need at least 12 pixels per side[^\n]*\n$")
    result = run("--out", folder .. "/views.gif")
    assert.equal(1, result.code)
    assert.truthy(result.err:match "^cldlua: option '%-%-out': expected the name of a .png, .jpg or .ppm file, got")
  end)
end)
