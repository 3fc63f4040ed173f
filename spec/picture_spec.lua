--- Reading and writing image files, and grids of images.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"

local fixture = cld.load "spec/fixtures/pictures.safetensors"
local photo = fixture["pixels:png rgb"] -- 25 x 33

local function text(bytes) return string.char(table.unpack(bytes:totable())) end

local folder
setup(function() folder = process.temporary_folder() end)
teardown(function() process.remove(folder) end)
local function at(name) return folder .. "/" .. name end

describe("cld.image.read", function()
  it("tells a file by its content", function()
    local path = process.write(at "really a png.JPEG", text(fixture["file:png rgb"]))
    check.close(cld.image.read(path), photo)
  end)

  it("turns an image upright if asked", function()
    local path = process.write(at "turned.jpg", text(fixture["file:jpeg 6 big"]))
    check.close(cld.image.read(path), fixture["pixels:jpeg 6 big"])
    check.close(cld.image.read(path, { upright = true }), fixture["upright:jpeg 6 big"])
    assert.same({ 5, 3, 3 }, cld.image.read(path, { upright = true }).shape)
  end)

  it("names the file and what is wrong", function()
    local function fails(name, why)
      local message = check.fails(function() cld.image.read(at(name)) end, why)
      assert.equal(1, message:find("'" .. at(name) .. "': ", 1, true))
    end
    fails("none", "cannot be read: No such file or directory")
    fails("", "a folder, not a regular file")
    process.write(at "empty.jpg", "")
    fails("empty.jpg", "an empty file")
    process.write(at "some.gif", text(fixture["other:GIF"]))
    fails("some.gif", "a GIF; JPEG, PNG, PPM and PGM are read")
    process.write(at "\27[31m", "x")
    check.fails(function() cld.image.read(at "\27[31m") end, "\\x1b%[31m': not a known kind of image")
  end)

  it("does not wait for a FIFO, and refuses devices", function()
    os.execute("mkfifo '" .. at "pipe" .. "'")
    check.fails(function() cld.image.read(at "pipe") end, "pipe': a FIFO, not a regular file")
    check.fails(function() cld.image.read "/dev/zero" end, "'/dev/zero': a device, not a regular file")
  end)

  it("sees that a file is longer than it was", function()
    check.fails(function() cld.image.read "/proc/self/status" end, "was written to while it was read")
  end)

  it("refuses a file of more than a GiB unread", function()
    local file = assert(io.open(at "huge.ppm", "wb"))
    file:seek("set", 1 << 30)
    file:write "x"
    file:close()
    check.fails(function() cld.image.read(at "huge.ppm") end, "huge.ppm': a file of 1.0 GiB; at most 1 GiB can be read")
    os.remove(at "huge.ppm")
  end)

  it("checks its arguments", function()
    check.fails(function() cld.image.read(3) end, "image.read: expected a file's path, got 3")
    check.fails(function() cld.image.read("x", { uprihgt = true }) end, "did you mean 'upright'")
    check.fails(function() cld.image.read "a\0b" end, "zero byte")
  end)
end)

describe("cld.image.write", function()
  for _, name in ipairs { "a.png", "a.ppm", "a.PNG" } do
    it("keeps every level in " .. name, function()
      cld.image.write(at(name), photo)
      check.close(cld.image.read(at(name)), photo)
    end)
  end

  for _, quality in ipairs { 30, 75, 95 } do
    it("makes the JPEG that Pillow makes at quality " .. quality, function()
      cld.image.write(at "a.jpeg", photo, { quality = quality })
      check.close(cld.image.read(at "a.jpeg"), fixture["pixels:written jpeg " .. quality])
    end)
  end

  it("has quality 75 unless told otherwise", function()
    cld.image.write(at "a.jpg", photo)
    check.close(cld.image.read(at "a.jpg"), fixture["pixels:written jpeg 75"])
  end)

  it("takes views of tensors, and images of one pixel", function()
    cld.image.write(at "b.png", photo:narrow(2, 3, 7))
    check.close(cld.image.read(at "b.png"), photo:narrow(2, 3, 7))
    for _, name in ipairs { "c.png", "c.ppm" } do
      cld.image.write(at(name), photo:narrow(1, 1, 1):narrow(2, 1, 1))
      assert.same({ 1, 1, 3 }, cld.image.read(at(name)).shape)
    end
  end)

  it("leaves the old file if it cannot write the new one", function()
    process.write(at "old.jpg", "old")
    check.fails(function() cld.image.write(at "old.jpg", cld.zeros({ 1, 70000, 3 }, { dtype = "u8" })) end,
      "old.jpg': a JPEG holds at most 65500 rows and columns, got 1 x 70000")
    assert.equal("old", process.read(at "old.jpg"))
    check.fails(function() cld.image.write(at "none/a.png", photo) end, "none/a.png': No such file or directory")
  end)

  it("checks its arguments", function()
    local write = cld.image.write
    check.fails(function() write(at "a.gif", photo) end, "ends in .jpg, .jpeg, .png or .ppm, got '.*a.gif'")
    check.fails(function() write(at "a", photo) end, "ends in .jpg")
    check.fails(function() write(at "a.png", photo:float()) end, "u8%[height, width, 3%], got f32%[25, 33, 3%]")
    check.fails(function() write(at "a.png", photo[1]) end, "got u8%[33, 3%]")
    check.fails(function() write(at "a.png", cld.zeros({ 0, 4, 3 }, { dtype = "u8" })) end, "1 to 178956970 pixels")
    for _, quality in ipairs { 0, 101, 7.5, "high" } do
      check.fails(function() write(at "a.jpg", photo, { quality = quality }) end,
        "quality must be an integer of 1 to 100")
    end
  end)
end)

describe("cld.image.grid", function()
  local function plain(...) return cld.tensor(..., "u8") end
  -- One channel of a page, as rows.
  local function red(page) return page:narrow(3, 1, 1):squeeze(3):totable() end

  it("lays images out in rows", function()
    local images = cld.arange(1, 6):reshape(5, 1, 1, 1):to("u8"):expand(5, 1, 2, 3)
    local expected = { { 0, 0, 0, 0, 0, 0, 0 }, { 0, 1, 1, 0, 2, 2, 0 }, { 0, 0, 0, 0, 0, 0, 0 },
      { 0, 3, 3, 0, 4, 4, 0 }, { 0, 0, 0, 0, 0, 0, 0 }, { 0, 5, 5, 0, 0, 0, 0 }, { 0, 0, 0, 0, 0, 0, 0 } }
    assert.same(expected, red(cld.image.grid(images, { columns = 2, padding = 1 })))
    assert.same({ { 1, 1, 2, 2, 3, 3 }, { 4, 4, 5, 5, 0, 0 } }, red(cld.image.grid(images, { padding = 0 })))
  end)

  it("takes images of different sizes", function()
    local small = plain { { { 7, 0, 0 } } }
    local large = plain { { { 8, 0, 0 }, { 9, 0, 0 } }, { { 1, 0, 0 }, { 2, 0, 0 } } }
    assert.same({ { 7, 0, 8, 9 }, { 0, 0, 1, 2 } }, red(cld.image.grid({ small, large }, { padding = 0 })))
  end)

  it("undoes the normalization of views", function()
    local cifar, own = cld.augment.statistics.cifar, { mean = { 0.5, 0.4, 0.3 }, std = { 0.2, 0.3, 0.4 } }
    for _, statistics in ipairs { cifar, own } do
      local views = cld.image.normalize(photo, statistics.mean, statistics.std):reshape(1, 3, 25, 33)
      local given = statistics == own and own or {}
      check.close(cld.image.grid(views, { padding = 0, mean = given.mean, std = given.std }), photo)
    end
  end)

  local plain_page = { padding = 0 }
  local ramp = { { 0, 51 }, { 102, 255 } }

  it("takes a grey image of bytes", function()
    assert.same(ramp, red(cld.image.grid(plain(ramp), plain_page)))
  end)

  it("takes a grey image of 0 to 1", function()
    assert.same(ramp, red(cld.image.grid(cld.tensor(ramp) / 255, plain_page)))
  end)

  it("takes grey images of one channel", function()
    local images = (cld.tensor(ramp) / 255):reshape(1, 1, 2, 2)
    assert.same({ 2, 4, 3 }, cld.image.grid(cld.cat({ images, images }, 1), plain_page).shape)
    assert.same(ramp, red(cld.image.grid(images:squeeze(1), plain_page)))
  end)

  it("has the three colours alike in a grey image", function()
    local page = cld.image.grid(cld.tensor(ramp) / 255, plain_page)
    check.close(page:narrow(3, 1, 2), page:narrow(3, 2, 2))
  end)

  it("takes images of a range", function()
    local image = cld.tensor(ramp):div(51):sub(1):reshape(1, 2, 2):expand(3, 2, 2) -- -1 to 4
    assert.same(ramp, red(cld.image.grid(image, { padding = 0, range = { -1, 4 } })))
  end)

  it("takes one image of bytes", function() check.close(cld.image.grid(photo, plain_page), photo) end)

  it("refuses a range beside mean and std", function()
    check.fails(function() cld.image.grid(cld.zeros(2, 2), { range = { 0, 1 }, mean = { 0, 0, 0 } }) end,
      "image%.grid: give either range, or mean and std")
  end)

  it("refuses a range that is none", function()
    check.fails(function() cld.image.grid(cld.zeros(2, 2), { range = { 1, 0 } }) end,
      "image%.grid: range must be {black, white}, as in {0, 1}, got a table")
  end)

  it("says what is wrong", function()
    local grid = cld.image.grid
    check.fails(function() grid(cld.zeros(2, 4, 4, 3)) end,
      "expected f32%[n, 3, height, width%].*got f32%[2, 4, 4, 3%]")
    check.fails(function() grid {} end, "there are no images")
    check.fails(function() grid { 3 } end, "an image is u8%[height, width, 3%], got 3")
    check.fails(function() grid(photo:reshape(1, 25, 33, 3), { columns = 0 }) end, "columns must be a positive")
    check.fails(function() grid(cld.zeros(1, 3, 4, 4), { mean = { 1 } }) end, "mean must be three numbers")
    check.fails(function() grid(cld.zeros(1, 3, 4, 4), { colums = 1 }) end, "did you mean 'columns'")
  end)
end)
