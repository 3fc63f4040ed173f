--- recipes/pack.lua as a user runs it: cld.data and other tools can read what it writes.
local cld = require "cld"
local check = require "spec.support.check"
local picture = require "cld.core".picture
local process = require "spec.support.process"

local pictures = cld.load "spec/fixtures/pictures.safetensors"

local function bytes_of(tensor) return string.char(table.unpack(tensor:totable())) end

-- u8 (height, width, 3): a gradient, so that JPEG keeps it well.
local function image(height, width, seed)
  local y = cld.arange(0, height, 1, "f32"):reshape(height, 1, 1)
  local x = cld.arange(0, width, 1, "f32"):reshape(1, width, 1)
  local c = cld.tensor({ 1, 2, 3 }):reshape(1, 1, 3)
  return ((y * (2 + seed % 3) + x * c + 17 * seed) % 256):to "u8"
end

describe("pack", function()
  local root, data
  before_each(function()
    root = process.temporary_folder()
    data = root .. "/photos"
  end)
  after_each(function() process.remove(root) end)

  local function run(...)
    local result = process.run { "recipes/pack.lua", "--data", data, "--out", root .. "/out", ... }
    assert.is_nil(result.err:find "traceback", result.err)
    return result
  end
  local function packs(...)
    local result = run(...)
    assert.equal(0, result.code, result.err)
    return result
  end
  local function fails(pattern, ...)
    local result = run(...)
    assert.equal(1, result.code, result.out)
    assert.truthy(result.err:find(pattern), result.err)
    return result
  end
  local function write(name, height, width, seed)
    cld.io.mkdir((data .. "/" .. name):match "^(.*)/")
    cld.image.write(data .. "/" .. name, image(height, width, seed or 0))
  end
  -- Class names with what names may have; two files that differ in their extension, dots, a folder in a class.
  local function make_classes()
    write("a.b c/x.y.jpg", 40, 60, 1)
    write("a.b c/x.y.png", 30, 20, 2)
    write("a.b c/below/z.jpg", 20, 16, 3)
    write("größe/one.ppm", 50, 34, 4)
    write("größe/two.jpg", 16, 16, 5)
  end
  local function make_damaged()
    make_classes()
    write("größe/three.jpg", 100, 100)
    process.write(data .. "/größe/three.jpg", process.read(data .. "/größe/three.jpg"):sub(1, 1000))
  end
  local function folder() return cld.data.folder { root = data } end
  local function tar(name) return cld.data.tar { path = root .. "/" .. (name or "out.tar") } end
  local function member(i)
    local path = root .. "/out.tar"
    local name, offset, size = cld.files.scan_tar(path):member(i)
    return process.read(path):sub(offset + 1, offset + size), name
  end
  local function outputs()
    local list = {}
    for _, name in ipairs(cld.io.list(root)) do
      if name ~= "photos" then list[#list + 1] = name end
    end
    return list
  end

  describe("into a tar", function()
    it("keeps order, labels and the classes' names", function()
      make_classes()
      packs("--size", "24")
      local set = tar()
      assert.same(folder().class_names, set.class_names)
      assert.same(folder().labels:totable(), set.labels:totable())
      for i, path in ipairs(folder().paths) do
        local stem = path:match "([^/]*)%.[^./]*$":gsub("%.", "_")
        assert.truthy(set.paths[i]:find(stem .. ".jpg", 1, true), set.paths[i])
      end
    end)
    it("makes the shorter side no longer than --size", function()
      make_classes()
      packs("--size", "24")
      local sizes = {}
      for i = 1, 5 do sizes[i] = table.concat(tar():read(i).shape, " ", 1, 2) end
      assert.same({ "24 36", "30 20", "20 16", "35 24", "16 16" }, sizes)
    end)
    it("has the JPEG of the resized image", function()
      write("a/x.png", 40, 60)
      packs("--size", "24", "--quality", "80")
      assert.equal(bytes_of(picture.encode("jpeg", cld.image.resize(image(40, 60, 0), { 24, 36 }), 80)), (member(1)))
    end)
    it("copies a JPEG that is small enough", function()
      write("a/x.jpg", 24, 30)
      packs("--size", "24")
      assert.equal(process.read(data .. "/a/x.jpg"), (member(1)))
    end)
    for name, why in pairs {
      ["jpeg gray"] = "is gray", ["jpeg cmyk"] = "is of four channels", ["jpeg 6 big"] = "has an EXIF orientation",
    } do
      it("makes a JPEG anew that " .. why, function()
        cld.io.mkdir(data .. "/a")
        process.write(data .. "/a/x.jpg", bytes_of(pictures["file:" .. name]))
        packs("--size", "0", "--quality", "77")
        assert.equal(bytes_of(picture.encode("jpeg", picture.decode(pictures["file:" .. name]), 77)), (member(1)))
      end)
    end
    it("turns images upright if it is told to", function()
      cld.io.mkdir(data .. "/a")
      process.write(data .. "/a/x.jpg", bytes_of(pictures["file:jpeg 6 big"]))
      packs("--upright", "--quality", "77")
      assert.equal(bytes_of(picture.encode("jpeg", picture.decode(pictures["file:jpeg 6 big"], true), 77)), (member(1)))
    end)
    it("has each label beside its image, under a key without dots", function()
      make_classes()
      packs()
      local archive = cld.files.scan_tar(root .. "/out.tar")
      assert.equal(10, #archive)
      for i = 1, #archive, 2 do
        local key = archive:member(i):match "/([^/.]+)%.jpg$"
        local text, name = member(i + 1)
        assert.equal(key .. ".cls", name:match "[^/]*$")
        assert.equal(tostring(folder().labels[(i + 1) // 2]:item()), text)
      end
    end)
    it("is read by tar", function()
      make_classes()
      local long = ("ü"):rep(120) -- in the archive's second form of names
      write(long .. "/x.jpg", 16, 16, 9)
      packs()
      cld.io.mkdir(root .. "/unpacked")
      assert.equal(0, process.run { program = "tar", "-C", root .. "/unpacked", "-xf", root .. "/out.tar" }.code)
      local set = cld.data.folder { root = root .. "/unpacked" }
      assert.same(folder().class_names, set.class_names)
      assert.same(folder().labels:totable(), set.labels:totable())
      check.close((tar():read(6)), (set:read(6)))
    end)
    it("has no labels of a folder without classes", function()
      write("x.jpg", 16, 16)
      write("y.jpg", 16, 16)
      packs()
      assert.equal(2, #cld.files.scan_tar(root .. "/out.tar"))
      assert.same({ -1, -1 }, tar().labels:totable())
    end)
    it("is the same whatever the number of workers", function()
      make_classes()
      packs("--workers", "0")
      local first = process.read(root .. "/out.tar")
      packs("--workers", "3", "--overwrite")
      assert.truthy(first == process.read(root .. "/out.tar"))
    end)
    it("keeps the labels of an archive in WebDataset's naming, whose classes are numbers", function()
      for i = 0, 11 do
        write(("%02d.jpg"):format(i), 16, 16, i)
        process.write(("%s/%02d.cls"):format(data, i), tostring(11 - i))
      end
      assert.equal(0, process.run { program = "tar", "-C", data, "-cf", root .. "/in.tar", "." }.code)
      local result = process.run { "recipes/pack.lua", "--data", root .. "/in.tar", "--out", root .. "/out" }
      assert.equal(0, result.code, result.err)
      assert.same({ 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0 }, tar().labels:totable())
      assert.same(tar("in.tar").class_names, tar().class_names)
    end)
    it("packs an archive as it packs the folder", function()
      make_classes()
      packs("--size", "0")
      local first = process.read(root .. "/out.tar")
      local result = process.run {
        "recipes/pack.lua", "--data", root .. "/out.tar", "--out", root .. "/again", "--size", "0",
      }
      assert.equal(0, result.code, result.err)
      assert.equal(#first, #process.read(root .. "/again.tar"))
      assert.same(tar().labels:totable(), tar("again.tar").labels:totable())
    end)
  end)

  describe("into .npy", function()
    local function npy(more)
      local settings = { images = root .. "/out-images.npy", labels = root .. "/out-labels.npy" }
      for key, value in pairs(more or {}) do settings[key] = value end
      return cld.data.npy(settings)
    end
    it("keeps order and labels", function()
      make_classes()
      packs("--format", "npy", "--size", "16")
      assert.same(folder().labels:totable(), npy().labels:totable())
    end)
    it("has the middle of each image, resized", function()
      make_classes()
      packs("--format", "npy", "--size", "16")
      check.close((npy():read(2)), cld.image.resize(image(30, 20, 2), { 24, 16 }):narrow(1, 5, 16))
    end)
    it("enlarges an image that is smaller", function()
      write("a/x.png", 8, 8)
      packs("--format", "npy", "--size", "16")
      check.close((npy():read(1)), cld.image.resize(image(8, 8, 0), { 16, 16 }))
    end)
    it("lists the classes' names", function()
      make_classes()
      packs("--format", "npy", "--size", "16")
      assert.same(folder().class_names, cld.json.decode(process.read(root .. "/out-classes.json")))
    end)
    it("says how many images there are, without those that cannot be read", function()
      make_damaged()
      packs("--format", "npy", "--size", "16", "--max-bad", "0.5")
      assert.equal(5, #npy())
      assert.equal(128 + 5 * 16 * 16 * 3, #process.read(root .. "/out-images.npy"))
    end)
    it("has no labels of a folder without classes", function()
      write("x.jpg", 16, 16)
      packs("--format", "npy", "--size", "16")
      assert.same({ "out-images.npy" }, outputs())
    end)
    it("wants a size", function()
      make_classes()
      fails("images of one size", "--format", "npy", "--size", "0")
    end)
  end)

  describe("damaged images", function()
    it("are named and left out", function()
      make_damaged()
      local result = packs("--max-bad", "0.2")
      assert.truthy(result.out:find "left out: [^\n]*three.jpg: a truncated JPEG")
      assert.truthy(result.out:find "; 1 left out\n")
      assert.equal(5, #tar())
    end)
    it("are too many for --max-bad: nothing is written", function()
      make_damaged()
      fails("1 of 6 images cannot be read", "--max-bad", "0")
      assert.same({}, outputs())
    end)
    it("may not be all of a class", function()
      write("a/x.jpg", 16, 16)
      cld.io.mkdir(data .. "/b")
      process.write(data .. "/b/x.jpg", "no image")
      fails("no image of the class 'b'", "--max-bad", "1")
      assert.same({}, outputs())
    end)
  end)

  it("makes a file of each split", function()
    write("train/a/x.jpg", 16, 16)
    write("train/b/x.jpg", 16, 16)
    write("val/a/y.jpg", 16, 16)
    write("val/b/y.jpg", 16, 16)
    packs()
    assert.same({ "out-train.tar", "out-val.tar" }, outputs())
    assert.same({ 0, 1 }, tar("out-val.tar").labels:totable())
  end)
  it("makes a file of each split of an archive", function()
    write("train/a/x.jpg", 16, 16)
    write("val/a/y.jpg", 16, 16)
    assert.equal(0, process.run { program = "tar", "-C", root, "-cf", root .. "/in.tar", "photos" }.code)
    local result = process.run { "recipes/pack.lua", "--data", root .. "/in.tar", "--out", root .. "/out" }
    assert.equal(0, result.code, result.err)
    assert.truthy(tar("out-val.tar").paths[1]:find "y%.jpg$")
  end)
  it("refuses splits of different classes", function()
    write("train/a/x.jpg", 16, 16)
    write("train/b/x.jpg", 16, 16)
    write("val/b/y.jpg", 16, 16)
    fails "'a' is only in the first"
    assert.same({}, outputs())
  end)
  it("does not replace a file", function()
    make_classes()
    process.write(root .. "/out.tar", "mine")
    fails "is there already; %-%-overwrite replaces it"
    assert.equal("mine", process.read(root .. "/out.tar"))
  end)
  it("replaces one with --overwrite", function()
    make_classes()
    process.write(root .. "/out.tar", "mine")
    packs "--overwrite"
    assert.equal(5, #tar())
  end)
  it("says where the folder is not", function() fails "there is no folder '[^\n]*photos'" end)
  it("does not take a folder for --out", function()
    make_classes()
    local result = process.run { "recipes/pack.lua", "--data", data, "--out", root .. "/" }
    assert.equal(1, result.code)
    assert.truthy(result.err:find "and no folder", result.err)
  end)
end)
