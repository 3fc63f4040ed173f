--- STL-10 in its authors' layout: column-major planes, labels from 1, folds; and files with faults.
local cld = require "cld"
local check = require "spec.support.check"
local files = require "spec.support.data_files"
local process = require "spec.support.process"

describe("STL-10", function()
  local root, folder
  before_each(function() root = process.temporary_folder() end)
  after_each(function() process.remove(root) end)

  local function make(more)
    local sets = { train = { 10, 1, 2, 10 }, test = { 3, 1 }, unlabeled = 3 }
    for name, value in pairs(more or {}) do sets[name] = value end
    folder = files.stl10(root, sets)
  end
  local function open(split, fold) return cld.data.stl10 { root = root, split = split, fold = fold } end
  local function fails(pattern, ...)
    local arguments = { ... }
    check.fails(function() open(table.unpack(arguments)) end, pattern)
  end
  -- The whole image against the formula.
  local function is_image(image, i)
    assert.same({ 96, 96, 3 }, image.shape)
    local wanted = {}
    for y = 0, 95 do
      wanted[y + 1] = {}
      for x = 0, 95 do
        wanted[y + 1][x + 1] = { files.stl10_pixel(i, y, x, 0), files.stl10_pixel(i, y, x, 1),
          files.stl10_pixel(i, y, x, 2) }
      end
    end
    check.close(image, cld.tensor(wanted, "u8"))
  end

  it("has the pixel of a row and a column there", function()
    make()
    local set = open "train"
    is_image((set:read(1)), 0)
    is_image((set:read(4)), 3)
  end)
  it("has labels from 0", function()
    make()
    local set = open "train"
    assert.equal("i64", set.labels.dtype)
    assert.same({ 9, 0, 1, 9 }, set.labels:totable())
    assert.same({ 9, 1 }, { select(2, set:read(1)), select(2, set:read(3)) })
  end)
  it("has ten classes with names, images in memory, and no paths", function()
    make()
    local set = open "test"
    assert.same({ 2, 10, files.stl10_classes }, { #set, set.classes, set.class_names })
    assert.same({ 2, 96, 96, 3 }, set.images.shape)
    assert.is_nil(set.paths)
    assert.equal("stl10 test: 2 images of 96 x 96, 10 classes", tostring(set))
  end)
  it("trains on `train` if no split is named", function()
    make()
    assert.equal(4, #cld.data.stl10 { root = root })
  end)
  it("is found if root is stl10_binary itself", function()
    make()
    assert.equal(4, #cld.data.stl10 { root = folder })
  end)
  it("has no names without their file", function()
    make()
    os.remove(folder .. "class_names.txt")
    local set = open "train"
    assert.same({ 10 }, { set.classes, set.class_names })
  end)

  describe("unlabeled", function()
    it("has labels -1", function()
      make()
      local set = open "unlabeled"
      assert.same({ 3, 10 }, { #set, set.classes })
      assert.same({ -1, -1, -1 }, set.labels:totable())
      assert.equal(-1, select(2, set:read(2)))
    end)
    it("needs no other file", function()
      files.write(root .. "/unlabeled_X.bin", files.stl10_images(2))
      assert.equal(2, #open "unlabeled")
    end)
    it("comes after train in train+unlabeled", function()
      make()
      local set = open "train+unlabeled"
      assert.equal(7, #set)
      assert.same({ 9, 0, 1, 9, -1, -1, -1 }, set.labels:totable())
      is_image((set:read(2)), 1)
      is_image((set:read(7)), 2)
      assert.same({ "stl10 train+unlabeled", 10, files.stl10_classes }, { set.name, set.classes, set.class_names })
    end)
  end)

  describe("'s folds", function()
    it("are images of train, counted from 0", function()
      make { folds = { { 0, 1 }, { 3, 2 } } }
      local set = open("train", 2)
      assert.same({ 9, 1 }, set.labels:totable())
      is_image((set:read(1)), 3)
    end)
    it("are of no other split", function()
      make { folds = { { 0 } } }
      fails("only the split train has folds", "test", 1)
    end)
    it("that are not there are an error", function()
      make { folds = { { 0 }, { 1 } } }
      fails("fold_indices.txt: there is no fold 3$", "train", 3)
    end)
    it("are counted from 1", function()
      make { folds = { { 0 } } }
      fails("data.stl10: fold must be a positive integer, got 0$", "train", 0)
    end)
    for what, word in pairs { ["beyond the images"] = "4", negative = "-1", ["no number"] = "x", broken = "1.5" } do
      it("with an index that is " .. what .. " are an error", function()
        make { folds = { { 0 }, { 1, word } } }
        fails("fold_indices.txt, line 2: '" .. word:gsub("%p", "%%%0") .. "' is not an image from 0 to 3$", "train", 2)
      end)
    end
    it("without their file are an error", function()
      make()
      os.remove(folder .. "fold_indices.txt")
      fails("fold_indices.txt: No such file", "train", 1)
    end)
  end)

  describe("is an error", function()
    it("where there are no such files", function()
      fails("no STL%-10 here: expected stl10_binary/ with train_X.bin, train_y.bin", "train")
    end)
    it("if images are cut off", function()
      make()
      process.write(folder .. "train_X.bin", files.stl10_images(4):sub(1, -2))
      fails("train_X.bin: truncated, or not what its name says: 110591 bytes are not a multiple of the 27648", "train")
    end)
    it("if there are no images", function()
      make()
      process.write(folder .. "train_X.bin", "")
      fails("train_X.bin: truncated, .*: 0 bytes", "train")
    end)
    it("if whole images are missing", function()
      make()
      process.write(folder .. "train_X.bin", files.stl10_images(3))
      fails("train_y.bin: it has 4 labels, but train_X.bin has 3 images$", "train")
    end)
    for _, label in ipairs { 0, 11, 255 } do
      it("if a label is " .. label, function()
        make { train = { 1, 10, label, 2 } }
        fails(("train_y.bin: label 3 is %d; STL%%-10's are 1 to 10$"):format(label), "train")
      end)
    end
    it("if labels are missing", function()
      make()
      os.remove(folder .. "test_y.bin")
      fails("test_y.bin: No such file", "test")
    end)
    it("if labels are a folder", function()
      make()
      os.remove(folder .. "test_y.bin")
      cld.io.mkdir(folder .. "test_y.bin")
      fails("test_y.bin: Is a directory", "test")
    end)
    it("if the split is another", function()
      make()
      fails("data.stl10: split must be train, test, unlabeled or train%+unlabeled, got 'val'$", "val")
    end)
    it("if root is no text", function()
      check.fails(function() cld.data.stl10 { root = 1 } end, "data.stl10: root must be the folder")
    end)
  end)
end)
