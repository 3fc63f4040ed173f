--- CIFAR-10 and CIFAR-100 in their original layouts, found wherever users put them; and folders and files with faults.
local cld = require "cld"
local check = require "spec.support.check"
local cifar = require "spec.support.cifar"
local process = require "spec.support.process"

-- Rows `rows` of the data set are those of the formula, in order.
local function check_images(images, rows)
  assert.same({ #rows, 32, 32, 3 }, images.shape)
  assert.equal("u8", images.dtype)
  local values = images:totable()
  for i, row in ipairs(rows) do
    for _, at in ipairs { { 0, 0 }, { 0, 31 }, { 31, 0 }, { 17, 5 } } do
      for c = 0, 2 do
        local expected = cifar.pixel(row, c * 1024 + at[1] * 32 + at[2])
        assert.equal(expected, values[i][at[1] + 1][at[2] + 1][c + 1])
      end
    end
  end
end

describe("CIFAR", function()
  local root
  before_each(function() root = process.temporary_folder() end)
  after_each(function() process.remove(root) end)

  local function read(options)
    options = options or {}
    options.root = options.root or root
    return cld.data.cifar10(options)
  end
  local function fails(pattern, options)
    return check.fails(function() read(options) end, pattern)
  end

  for _, layout in ipairs { "python", "binary" } do
    it("10 is read in the " .. layout .. " layout", function()
      cifar.write10(root, layout)
      local test, train = read { split = "test" }, read { layout = layout }
      check_images(test.images, { 0, 1, 2 })
      assert.same({ 3, 1, 9 }, test.labels:totable())
      assert.equal("i64", test.labels.dtype)
      check_images(train.images, { 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2 })
      assert.equal(15, #train)
      assert.equal(10, train.classes)
      assert.same(cifar.classes, train.class_names)
      assert.equal("cifar10 train: 15 images of 32 x 32, 10 classes", tostring(train))
    end)

    it("100 is read in the " .. layout .. " layout", function()
      local folder = root .. (layout == "python" and "/cifar-100-python" or "/cifar-100-binary")
      cld.io.mkdir(folder)
      cifar.write100(folder, layout)
      local fine = cld.data.cifar100 { root = root }
      local coarse = cld.data.cifar100 { root = root, labels = "coarse", split = "test" }
      check_images(fine.images, { 0, 1, 2 })
      assert.same({ 99, 0, 41 }, fine.labels:totable())
      assert.same({ 19, 0, 7 }, coarse.labels:totable())
      assert.same({ 100, 20 }, { fine.classes, coarse.classes })
      assert.is_nil(fine.class_names)
    end)
  end

  it("is found in the folder itself, under its own name, and in CIFAR-10/", function()
    local folder = cifar.write10(root, "python")
    assert.equal(3, #read { root = folder, split = "test" })
    cld.io.mkdir(root .. "/elsewhere/CIFAR-10")
    os.rename(folder, root .. "/elsewhere/CIFAR-10/cifar-10-batches-py")
    assert.equal(3, #read { root = root .. "/elsewhere", split = "test" })
    assert.equal(3, #read { root = root .. "/elsewhere/CIFAR-10", split = "test" })
  end)

  it("prefers the python layout, and takes the other where asked", function()
    cifar.write10(root, "binary")
    assert.equal(3, #read { split = "test" })
    fails("CIFAR%-10: no python%-layout files in", { layout = "python" })
    local folder = cifar.write10(root, "python")
    process.write(folder .. "/test_batch", "?")
    fails("test_batch", { split = "test" })
    assert.equal(3, #read { split = "test", layout = "binary" })
  end)

  -- ---- Python 3's pickles -----------------------------------------------------

  local fixture = cld.load "spec/fixtures/cifar.safetensors"
  local function write_fixture(name, edit)
    local folder = cifar.write10(root, "python")
    local bytes = string.char(table.unpack(fixture[name]:totable()))
    process.write(folder .. "/test_batch", edit and edit(bytes) or bytes)
  end

  for _, name in ipairs {
    "protocol 2", "protocol 3", "protocol 4", "protocol 5", "bytes as keys, labels in an array",
  } do
    it("10 is read as Python 3 pickles it: " .. name, function()
      write_fixture(name)
      local test = read { split = "test" }
      check_images(test.images, { 0, 1, 2 })
      assert.same({ 3, 1, 9 }, test.labels:totable())
    end)
  end

  it("10 is read with NumPy 2's names", function()
    write_fixture("protocol 2", function(bytes) return (bytes:gsub("numpy%.core", "numpy._core")) end)
    check_images(read({ split = "test" }).images, { 0, 1, 2 })
  end)

  it("10 is read in Fortran order", function()
    write_fixture "Fortran order"
    check_images(read({ split = "test" }).images, { 0, 1, 2 })
  end)

  it("refuses arrays of another kind and other Python objects", function()
    write_fixture "floats"
    fails("test_batch: .* 'data' should be a 2%-d array of u1, .*; it is an array of f4 %(3, 2%)", { split = "test" })
    write_fixture "a class"
    fails("test_batch: .* it uses 'pathlib.PurePosixPath', .* %(nothing was run%)", { split = "test" })
  end)

  -- ---- what can be wrong with a folder ------------------------------------------

  it("says where it looked", function()
    local none = root .. "/none"
    fails("CIFAR%-10: there is no folder '.*/none'; it should hold cifar%-10%-batches%-py from https", { root = none })
    local message = fails("CIFAR%-10: no files in")
    local remedy = "unpack https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    assert.truthy(message:find("/CIFAR-10/cifar-10-batches-py'; " .. remedy, 1, true))
    check.fails(function() cld.data.cifar100 { root = root } end, "CIFAR%-100: no files in .*cifar%-100%-python")
  end)

  it("names a missing file", function()
    local folder = cifar.write10(root, "python")
    os.remove(folder .. "/data_batch_4")
    fails("CIFAR%-10: cannot .*data_batch_4'")
    assert.equal(3, #read { split = "test" })
  end)

  it("does without the names of the classes, but not with damaged ones", function()
    local folder = cifar.write10(root, "python")
    os.remove(folder .. "/batches.meta")
    assert.is_nil(read().class_names)
    process.write(folder .. "/batches.meta", "\x80\x02}q\1.")
    fails("batches.meta: not a CIFAR file: it has no list 'label_names'")
  end)

  it("names the row of a label out of range", function()
    local batch = cifar.batch()
    batch.labels[2] = 10
    local folder = cifar.write10(root, "python")
    process.write(folder .. "/data_batch_2", require("cld.cifar_writer").python(batch, "x"))
    fails("data_batch_2: row 1 has label 10; the labels of CIFAR%-10 are 0 to 9")
    folder = cifar.write10(root, "binary")
    process.write(folder .. "/test_batch.bin", require("cld.cifar_writer").binary(batch))
    fails("test_batch.bin: row 1 has label 10", { split = "test", layout = "binary" })
  end)

  it("tells a truncated binary file", function()
    local folder = cifar.write10(root, "binary")
    local bytes = process.read(folder .. "/test_batch.bin")
    process.write(folder .. "/test_batch.bin", bytes:sub(1, -2))
    fails("test_batch.bin: truncated, or not CIFAR%-10: 9218 bytes are not a multiple of the 3073 of a row",
      { split = "test" })
    for _, name in ipairs { "test_batch.bin", "data_batch_3.bin" } do
      process.write(folder .. "/" .. name, "")
      fails(name .. ": the file is empty", { split = name == "test_batch.bin" and "test" or "train" })
    end
    folder = cifar.write10(root, "python")
    local none = require("cld.cifar_writer").python({ labels = {}, images = {} }, "x")
    process.write(folder .. "/test_batch", (none:gsub("K%zK%z\x86", "K\0M\0\12\x86"))) -- 0 x 3072
    fails("CIFAR%-10: the files in '.*' hold no images", { split = "test" })
  end)

  it("tells what is wrong with its options", function()
    fails("data.cifar10: unknown field 'spilt'", { spilt = "test" })
    fails("split must be one of train, test, got 'validation'", { split = "validation" })
    fails("layout must be one of auto, python, binary, got 'json'", { layout = "json" })
    check.fails(function() cld.data.cifar10 {} end, "data.cifar10: root must be")
    check.fails(function() cld.data.cifar100 { root = root, labels = "rough" } end,
      "labels must be one of fine, coarse, got 'rough'")
  end)
end)

describe("data.tensors", function()
  it("makes a data set of any size", function()
    local images = cld.zeros(4, 5, 7, 3, "u8")
    local set = cld.data.tensors { images = images, labels = cld.tensor({ 0, 2, 1, 2 }, "i64"), name = "mine" }
    assert.equal(4, #set)
    assert.equal(3, set.classes)
    assert.equal("mine: 4 images of 5 x 7, 3 classes", tostring(set))
    assert.same({ -1, -1, -1, -1 }, cld.data.tensors({ images = images }).labels:totable())
  end)

  it("says what is wrong", function()
    check.fails(function() cld.data.tensors { images = cld.zeros(4, 5, 7, 3) } end,
      "images must be u8%[n, height, width, 3%]")
    check.fails(function() cld.data.tensors { images = cld.zeros(4, 5, 7, 3, "u8"), labels = cld.zeros(3, "i64") } end,
      "labels must be i64%[4%]")
    check.fails(function() cld.data.tensors { image = 1 } end, "unknown field 'image'")
  end)
end)
