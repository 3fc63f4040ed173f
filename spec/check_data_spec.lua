--- recipes/check_data.lua as a user runs it: what it finds, and its exit status.
local cld = require "cld"
local process = require "spec.support.process"

local pictures = cld.load "spec/fixtures/pictures.safetensors"

describe("check_data", function()
  local root, data
  before_each(function()
    root = process.temporary_folder()
    data = root .. "/photos"
  end)
  after_each(function() process.remove(root) end)

  local function run(...)
    local result = process.run { "recipes/check_data.lua", ... }
    assert.is_nil(result.err:find "traceback", result.err)
    return result
  end
  local function finds(code, ...)
    local result = run(data)
    assert.equal(code, result.code, result.out .. result.err)
    for _, pattern in ipairs { ... } do
      assert.truthy(result.out:find(pattern), ("%s\n-- is not in --\n%s"):format(pattern, result.out))
    end
    return result.out
  end
  local function put(name, bytes)
    cld.io.mkdir((data .. "/" .. name):match "^(.*)/")
    return process.write(data .. "/" .. name, bytes)
  end
  local function copy(name, picture) put(name, string.char(table.unpack(pictures["file:" .. picture]:totable()))) end
  local seed = 0
  local function write(name, height, width)
    seed = seed + 1
    cld.io.mkdir((data .. "/" .. name):match "^(.*)/")
    cld.image.write(data .. "/" .. name, cld.full({ height or 16, width or 16, 3 }, seed % 256, "u8"))
  end
  local function shell(line) assert(os.execute(line)) end

  it("finds nothing wrong with a folder in order", function()
    for i = 1, 3 do write(("cat/%d.jpg"):format(i), 20, 30) end
    write("dog/1.png", 40, 10)
    finds(0, "images +4\n", "classes +2: smallest 1 %(dog%), median 1, largest 3 %(cat%)\n", " 3  cat\n", " 1  dog\n",
      "shorter side +smallest 10, median 20, largest 20 pixels",
      "longer side +smallest 30, median 30, largest 40 pixels", "files +3 JPEG, 1 PNG; ", "\nnothing is wrong\n$")
  end)
  it("takes the path as --data, too", function()
    write "cat/1.jpg"
    assert.equal(0, run("--data", data, "--workers", "0").code)
  end)
  it("counts the kinds", function()
    copy("a/1.jpg", "jpeg gray")
    copy("a/2.jpg", "jpeg cmyk")
    copy("a/3.png", "png rgba 16 bit")
    copy("a/4.jpg", "jpeg 6 big")
    copy("a/5.pgm", "pgm 16 bit")
    copy("a/6.png", "png gray with alpha")
    finds(0, "files +3 JPEG, 2 PNG, 1 PPM, 3 gray, 1 CMYK, 2 with alpha, 2 of 16 bits, 1 EXIF says turned; ")
  end)
  it("looks through a folder without classes", function()
    write "1.jpg"
    finds(0, "classes +none")
  end)
  it("looks through an archive", function()
    write "cat/1.jpg"
    put("cat/2.jpg", "no image")
    shell(("tar -C '%s' -cf '%s/x.tar' photos"):format(root, root))
    local result = run(root .. "/x.tar")
    assert.equal(1, result.code)
    assert.truthy(result.out:find "x.tar/cat/2.jpg: not a known kind of image", result.out)
  end)
  it("looks through the splits of an archive", function()
    write "train/cat/1.jpg"
    put("test/cat/2.jpg", process.read(data .. "/train/cat/1.jpg"))
    shell(("tar -C '%s' -cf '%s/x.tar' photos"):format(root, root))
    local result = run(root .. "/x.tar")
    assert.truthy(result.out:find "bad: 1 image is in more than one split", result.out)
  end)

  describe("finds", function()
    it("a truncated file", function()
      write("cat/1.jpg", 200, 200)
      put("cat/2.jpg", process.read(data .. "/cat/1.jpg"):sub(1, -100))
      finds(1, "images +2, 1 of them unreadable", "bad: 1 file cannot be read\n  [^\n]*cat/2.jpg: a truncated JPEG",
        "\n1 thing is bad, 0 warnings\n")
    end)
    it("an empty class folder, and reads the rest", function()
      write "cat/1.jpg"
      cld.io.mkdir(data .. "/dog")
      finds(1, "images +1\n", "no images in 1 of the 2 class folders: 'dog'", " 0  dog\n")
    end)
    it("a link to nothing and a FIFO, and reads the rest", function()
      write "cat/1.jpg"
      shell(("ln -s nowhere '%s/cat/2.jpg'; mkfifo '%s/cat/3.jpg'"):format(data, data))
      finds(1, "images +1\n", "cat/2.jpg: a link whose target does not exist", "cat/3.jpg: not a regular file",
        "\n2 things are bad")
    end)
    it("a loop of links, and reads the rest", function()
      write "cat/1.jpg"
      shell(("ln -s .. '%s/cat/up'"):format(data))
      finds(1, "images +1\n", "cat/up: a link back to")
    end)
    it("a name that is not UTF-8", function()
      write "cat/1.jpg"
      put("cat/\xff.jpg", "x")
      finds(1, "images +1\n", "the name is not UTF%-8")
    end)
    it("images beside class folders, and reads both", function()
      write "1.jpg"
      write "cat/2.jpg"
      finds(1, "images +2\n", "there are images both at its top")
    end)
    it("splits of different classes", function()
      write "train/a/1.jpg"
      write "train/b/1.jpg"
      write "test/a/1.jpg"
      finds(1, "'b' is only in the first")
    end)
    it("no images at all", function()
      cld.io.mkdir(data .. "/cat")
      finds(1, "no images in ")
    end)
    it("kinds that are not read: a warning", function()
      write "cat/1.jpg"
      put("cat/2.gif", "GIF89a")
      finds(0, "left out +1 GIF", "nothing is bad, 1 warning\n")
    end)
    it("the same file twice: a warning", function()
      write "cat/1.jpg"
      put("cat/2.jpg", process.read(data .. "/cat/1.jpg"))
      local out = finds(0, "warning: 1 image is more than once in one split\n  [^\n]*cat/1.jpg = [^\n]*cat/2.jpg\n")
      assert.is_nil(out:find "different classes")
    end)
    it("the same file in two classes", function()
      write "cat/1.jpg"
      put("dog/1.jpg", process.read(data .. "/cat/1.jpg"))
      finds(0, "cat/1.jpg = [^\n]*dog/1.jpg  %(of different classes%)")
    end)
    it("a file that is in train and in test", function()
      write "train/cat/1.jpg"
      put("test/cat/2.jpg", process.read(data .. "/train/cat/1.jpg"))
      finds(1, "bad: 1 image is in more than one split\n  [^\n]*train/cat/1.jpg = [^\n]*test/cat/2.jpg")
    end)
  end)

  it("shows as many lines as --show says", function()
    for i = 1, 4 do put(("cat/%d.jpg"):format(i), "no image " .. i) end
    local result = run(data, "--show", "2")
    assert.truthy(result.out:find "cat/2.jpg: [^\n]*\n  %.%.%. and 2 more", result.out)
  end)
  it("says the same whatever the number of workers", function()
    for i = 1, 20 do write(("cat/%d.jpg"):format(i)) end
    put("cat/5.jpg", "no image")
    assert.equal(run(data, "--workers", "0").out, run(data, "--workers", "4").out)
  end)
  it("says in one line that a folder is not there", function()
    local result = run(data)
    assert.equal(1, result.code)
    assert.truthy(result.err:find "there is no folder", result.err)
  end)
end)
