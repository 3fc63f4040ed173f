--- recipes/valprep.lua as a user runs it.
local cld = require "cld"
local process = require "spec.support.process"

local fixture = cld.load "spec/fixtures/devkit.safetensors"

describe("valprep", function()
  local root, val
  before_each(function()
    root = process.temporary_folder()
    val = root .. "/val"
    cld.io.mkdir(val)
  end)
  after_each(function() process.remove(root) end)

  local function name(i) return ("ILSVRC2012_val_%08d.JPEG"):format(i) end
  local function wnid(number) return ("n%08d"):format(1440764 + 7919 * (101 - number)) end -- as make_devkit.py has it
  local truth = { 9, 1, 1, 5 }
  local function make_images(...)
    for _, i in ipairs { ... } do process.write(val .. "/" .. name(i), "image " .. i) end
  end
  local function make_devkit()
    cld.io.mkdir(root .. "/kit/data")
    process.write(root .. "/kit/data/meta.mat", string.char(table.unpack(fixture["meta.mat"]:totable())))
    process.write(root .. "/kit/data/ILSVRC2012_validation_ground_truth.txt", table.concat(truth, "\n"))
    return root .. "/kit"
  end
  local function list(text) return process.write(root .. "/list.sh", text) end
  -- The result; a Lua error would have a traceback, of which there is to be none.
  local function run(...)
    local result = process.run { "recipes/valprep.lua", ... }
    assert.is_nil(result.err:find "traceback", result.err)
    return result
  end
  local function with_devkit(...) return run("--data", val, "--devkit", make_devkit(), ...) end
  local function fails(pattern, ...)
    local result = run(...)
    assert.equal(1, result.code, result.out)
    assert.truthy(result.err:find(pattern), result.err)
    assert.equal(1, select(2, result.err:gsub("\n", "")), "one line")
  end
  local function all_placed()
    for i, number in ipairs(truth) do
      assert.equal("image " .. i, process.read(("%s/%s/%s"):format(val, wnid(number), name(i))))
    end
  end

  it("says what it would do, and does nothing", function()
    make_images(1, 2, 3, 4)
    local before = cld.io.list(val)
    local result = with_devkit()
    assert.equal(0, result.code, result.err)
    assert.equal(("4 images of 3 classes: 0 in their folders, 4 to move, 0 missing\n"
      .. "  would move %s to %s/\n  would move %s to %s/\n  would move %s to %s/\n  ... and 1 more\n"
      .. "Nothing was moved: --move does it.\n"):format(name(1), wnid(9), name(2), wnid(1), name(3), wnid(1)),
      result.out)
    assert.same(before, cld.io.list(val))
  end)
  it("moves each image into its class", function()
    make_images(1, 2, 3, 4)
    local result = with_devkit("--move")
    assert.equal("4 images of 3 classes: 0 in their folders, 4 to move, 0 missing\n4 images moved\n", result.out)
    all_placed()
    assert.equal(3, #cld.io.list(val))
  end)
  it("does nothing the second time", function()
    make_images(1, 2, 3, 4)
    with_devkit "--move"
    local result = with_devkit "--move"
    assert.equal("4 images of 3 classes: 4 in their folders, 0 to move, 0 missing\n0 images moved\n", result.out)
    assert.equal(0, result.code)
    all_placed()
  end)
  it("goes on after a break", function()
    make_images(1, 2, 3, 4)
    cld.io.mkdir(val .. "/" .. wnid(1))
    os.rename(val .. "/" .. name(2), val .. "/" .. wnid(1) .. "/" .. name(2))
    local result = with_devkit "--move"
    assert.truthy(result.out:find("1 in their folders, 3 to move, 0 missing\n3 images moved", 1, true), result.out)
    all_placed()
  end)
  it("makes class folders that the listing reads", function()
    make_images(1, 2, 3, 4)
    with_devkit "--move"
    assert.same({ wnid(9), wnid(5), wnid(1) }, cld.files.list(val):class_names())
  end)
  it("leaves other files alone", function()
    make_images(1, 2, 3, 4)
    process.write(val .. "/notes.txt", "x")
    with_devkit "--move"
    assert.equal("x", process.read(val .. "/notes.txt"))
  end)
  it("moves what is there, and ends with status 1 if images are missing", function()
    make_images(1, 2, 4)
    fails("^[^\n]*valprep: 1 of the 4 images are missing, the first " .. name(3), "--data", val, "--devkit",
      make_devkit(), "--move")
    assert.equal("image 1", process.read(("%s/%s/%s"):format(val, wnid(9), name(1))))
  end)

  describe("with a list", function()
    local function with_list(text, ...) return run("--data", val, "--list", list(text), ...) end
    it("takes its mv lines and no others", function()
      make_images(1, 2)
      local text = "#!/bin/bash\nmkdir -p n00000001\ntouch " .. val .. "/made\nmv " .. name(1) .. " n00000001/\n\n"
        .. "  mv  " .. name(2) .. "   n00000002\r\n"
      local result = with_list(text, "--move")
      assert.equal(0, result.code, result.err)
      assert.same({ "n00000001", "n00000002" }, cld.io.list(val))
      assert.same({ name(2) }, cld.io.list(val .. "/n00000002"))
    end)
    it("takes a line that is there twice once", function()
      make_images(1)
      local line = "mv " .. name(1) .. " n00000001/\n"
      assert.truthy(with_list(line .. line).out:find "^1 images of 1 classes")
    end)
    for what, line in pairs {
      ["a path as the name"] = "mv ../x.JPEG n00000001/", ["an absolute name"] = "mv /x.JPEG n00000001/",
      ["a path as the class"] = "mv x.JPEG ../n00000001/", ["another class"] = "mv x.JPEG elsewhere/",
      ["an option"] = "mv -f x.JPEG n00000001/", ["a second command"] = "mv x.JPEG n00000001/; touch made",
      ["a substitution"] = "mv $(touch made) n00000001/",
    } do
      it("refuses " .. what, function()
        make_images(1)
        fails("line 2 of '.*/list.sh' is not 'mv NAME WNID/': mv", "--data", val, "--list",
          list("mv " .. name(1) .. " n00000001/\n" .. line .. "\n"), "--move")
        assert.same({ name(1) }, cld.io.list(val))
      end)
    end
    it("refuses an image of two classes", function()
      make_images(1)
      fails("has " .. name(1) .. " in two classes, n00000001 and n00000002", "--data", val, "--list",
        list(("mv %s n00000001/\nmv %s n00000002/\n"):format(name(1), name(1))))
    end)
    it("refuses a text without such lines", function()
      fails("has no line 'mv NAME WNID/'", "--data", val, "--list", list "text\n")
    end)
    it("says if it cannot be read", function()
      fails("cannot read the list .*none: No such file", "--data", val, "--list", root .. "/none")
      fails("cannot read the list", "--data", val, "--list", root)
    end)
  end)

  describe("is an error", function()
    it("without a folder", function() fails("valprep: %-%-data is missing", "--devkit", "x") end)
    it("without either source, or with both", function()
      fails("give one of %-%-devkit and %-%-list", "--data", val)
      fails("give one of %-%-devkit and %-%-list", "--data", val, "--devkit", "a", "--list", "b")
    end)
    it("if the folder is not there", function()
      fails("there is no folder '.*/none'", "--data", root .. "/none", "--devkit", make_devkit())
    end)
    it("if the kit is not there", function()
      fails("no data/meta.mat there; expected", "--data", val, "--devkit", root)
    end)
    it("if none of the images is there", function()
      fails("has none of the 4 images, such as " .. name(1), "--data", val, "--devkit", make_devkit())
    end)
    it("if an image lies in both places, and nothing is moved", function()
      make_images(1, 2, 3, 4)
      cld.io.mkdir(val .. "/" .. wnid(5))
      process.write(val .. "/" .. wnid(5) .. "/" .. name(4), "another")
      fails("lies both in '.*/val' and in its folder " .. wnid(5), "--data", val, "--devkit", make_devkit(), "--move")
      assert.equal("image 1", process.read(val .. "/" .. name(1)))
    end)
    it("if a class's folder is a file", function()
      make_images(1, 2, 3, 4)
      process.write(val .. "/" .. wnid(9), "")
      fails(wnid(9) .. "'?: ", "--data", val, "--devkit", make_devkit(), "--move")
    end)
  end)
end)
