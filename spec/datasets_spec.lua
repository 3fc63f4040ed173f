--- Data sets: what each kind has (length, labels, classes, names, paths, read), and the faults of tensors, .npy files
-- and sets written in Lua. CIFAR, STL-10, ImageNet, listings, archives, and sets made of sets have their own specs.
local cld = require "cld"
local check = require "spec.support.check"
local files = require "spec.support.data_files"
local process = require "spec.support.process"
local sets = require "spec.support.sets"

local data, fails = cld.data, check.fails
local i64, reds, labels_read, epoch = sets.i64, sets.reds, sets.labels_read, sets.epoch

describe("a data set", function()
  local root
  before_each(function() root = process.temporary_folder() end)
  after_each(function() process.remove(root) end)

  local function write(name, text) return files.write(root .. "/" .. name, text) end
  local function folder() return sets.folder(root .. "/photos") end
  local function npy(count, labels)
    cld.io.save_npy(root .. "/x.npy", files.images(count, 2, 3))
    return data.npy { images = root .. "/x.npy", labels = labels }
  end

  describe("of any kind", function()
    -- Each: two classes, three images of the labels 0, 0, 1 and reds 10, 20, 30 or 0, 10, 20.
    local kinds = {
      folder = folder,
      tar = function()
        folder()
        assert(os.execute(("tar -C %s/photos -cf %s/x.tar a b"):format(root, root)))
        return data.tar { path = root .. "/x.tar" }
      end,
      kitchen_hc = function()
        folder()
        assert(os.execute(("cd %s && mkdir Kitchen-HC && cp -r photos Kitchen-HC/train && cp -r photos Kitchen-HC/test")
          :format(root)))
        return data.kitchen_hc { root = root, split = "test" }
      end,
      tensors = function() return data.tensors { images = files.images(3, 2, 3), labels = i64 { 0, 0, 1 } } end,
      npy = function() return npy(3, i64 { 0, 0, 1 }) end,
      custom = function()
        local images = files.images(3, 2, 3)
        return data.custom { count = 3, read = function(i) return images[i], i // 3 end }
      end,
      subset = function() return data.subset { folder(), indices = i64 { 0, 1, 2 } } end,
      concat = function()
        local set = folder()
        return data.concat { data.subset { set, indices = i64 { 0, 1 } }, data.subset { set, indices = i64 { 2 } } }
      end,
    }
    local with_paths = { folder = true, tar = true, kitchen_hc = true, subset = true, concat = true }
    for kind, make in pairs(kinds) do
      it("has the documented fields: " .. kind, function()
        local set = make()
        assert.is_true(data.is_dataset(set))
        assert.equal(3, #set)
        assert.same({ "i64", { 3 }, { 0, 0, 1 } }, { set.labels.dtype, set.labels.shape, set.labels:totable() })
        assert.equal(2, set.classes)
        local first = with_paths[kind] and 10 or 0
        assert.same({ first, first + 10, first + 20 }, reds(set))
        local image, label = set:read(3)
        assert.same({ "u8", "cpu", { 2, 3, 3 }, 1 }, { image.dtype, image.device, image.shape, label })
        assert.equal("integer", math.type(label))
        if with_paths[kind] then
          assert.same({ "a", "b" }, set.class_names)
          assert.equal(3, #set.paths)
          for i, name in ipairs { "a/1.png", "a/2.jpg", "b/1.ppm" } do
            assert.equal("/" .. name, set.paths[i]:sub(-#name - 1))
          end
        else
          assert.is_nil(set.class_names)
          assert.is_nil(set.paths)
        end
      end)
      it("counts its images from 1: " .. kind, function()
        local set = make()
        for _, i in ipairs { 0, 4, 1.5, "1" } do
          fails(function() set:read(i) end, "read: the data set has images 1 to 3, got ")
        end
      end)
      it("comes in batches: " .. kind, function()
        local set = make()
        local found = epoch(set)
        assert.same({ labels = { 0, 0, 1 }, index = { 0, 1, 2 }, red = reds(set) }, found)
      end)
    end
  end)

  it("of CIFAR has images in memory, and no paths", function()
    require("spec.support.cifar").write10(root, "binary")
    local set = data.cifar10 { root = root, split = "test" }
    assert.same({ 3, 10, "cat" }, { #set, set.classes, set.class_names[4] })
    assert.same({ { 3, 1, 9 }, { 3, 1, 9 } }, { set.labels:totable(), labels_read(set) })
    assert.same({ 3, 32, 32, 3 }, set.images.shape)
    assert.is_nil(set.paths)
    check.close((set:read(2)), set.images[2])
  end)

  -- ---- Kitchen-HC -------------------------------------------------------------

  describe("of Kitchen-HC", function()
    local function make(...)
      for i, name in ipairs { ... } do write("Kitchen-HC/" .. name, files.ppm(i, 2, { i, 0, 0 })) end
    end
    before_each(function()
      make("train/mug/b.jpg", "train/mug/a.jpg", "train/bowl/c.png", "test/bowl/x.jpg", "test/mug/y.jpg")
    end)
    it("has classes in the order of their names, and images of any size", function()
      local set = data.kitchen_hc { root = root, split = "train" }
      assert.same({ { 0, 1, 1 }, { "bowl", "mug" } }, { set.labels:totable(), set.class_names })
      assert.same({ 3, 2, 1 }, reds(set))
      assert.same({ 2, 2, 3 }, set:read(2).shape)
      assert.is_nil(set:size())
    end)
    it("may have its folder itself as root, and trains if no split is named", function()
      assert.same({ 3, 2, 1 }, reds(data.kitchen_hc { root = root .. "/Kitchen-HC" }))
    end)
    it("is split for recipes", function()
      local both = data.splits { dataset = "kitchen_hc", data = root, size = 32 }
      assert.same({ 3, 2 }, { #both.train, #both.test })
    end)
    it("has the same classes in both splits, or says which not", function()
      make "test/spoon/z.jpg"
      fails(function() data.splits { dataset = "kitchen_hc", data = root, size = 32 } end,
        "'spoon' is only in the second")
    end)
    it("is an error without a split, or without classes", function()
      assert(os.execute("rm -r " .. root .. "/Kitchen-HC/test"))
      fails(function() data.kitchen_hc { root = root, split = "test" } end, "Kitchen%-HC: no %w+ split")
      assert(os.execute(("cd %s/Kitchen-HC/train && mv mug/* . && rm -r mug bowl"):format(root)))
      fails(function() data.kitchen_hc { root = root } end, "/train: no images in it, and no sub%-folders")
      fails(function() data.kitchen_hc { root = root, split = "all" } end,
        "split must be one of train, test, val, got 'all'")
    end)
  end)

  -- ---- tensors ----------------------------------------------------------------

  describe("of tensors", function()
    local images = function() return files.images(3, 2, 3) end
    it("has the label -1 without labels", function()
      local set = data.tensors { images = images() }
      assert.same({ { -1, -1, -1 }, 0 }, { set.labels:totable(), set.classes })
      assert.equal(-1, select(2, set:read(1)))
    end)
    it("has as many classes as it is told, or as it has names", function()
      assert.equal(7, data.tensors({ images = images(), classes = 7 }).classes)
      local set = data.tensors { images = images(), class_names = { "a", "b" } }
      assert.same({ 2, { "a", "b" } }, { set.classes, set.class_names })
    end)
    it("takes views that are not contiguous", function()
      local set = data.tensors { images = files.images(3, 3, 2):permute(1, 3, 2, 4) }
      assert.same({ 10, 2, 1 }, files.colour(set:read(2), 2, 3))
    end)
    for what, case in pairs {
      ["images of another type"] = { function() return { images = images():to "f32" } end,
        "must be u8%[n, height, width, 3%], got f32" },
      ["images of another shape"] = { function() return { images = images()[1] } end,
        "must be u8.*, got u8%[2, 3, 3%]" },
      ["no images"] = { function() return { images = cld.zeros({ 0, 2, 3, 3 }, "u8") } end, "there are no images" },
      ["too few labels"] = { function() return { images = images(), labels = i64 { 1 } } end,
        "labels must be i64%[3%], one per image, got i64%[1%]" },
      ["labels in a list"] = { function() return { images = images(), labels = { 0, 1, 0 } } end,
        "labels must be i64%[3%].*, got a table" },
      ["labels out of range"] = { function() return { images = images(), labels = i64 { 0, 3, 1 }, classes = 3 } end,
        "labels must be 0 to 2, or %-1 for none; got 3" },
      ["labels below -1"] = { function() return { images = images(), labels = i64 { 0, -2, 1 } } end,
        "labels must be at least 0, or %-1 for none; got %-2" },
      ["names of another number"] = { function() return { images = images(), classes = 3, class_names = { "a" } } end,
        "class_names has 1 names, but classes is 3" },
      ["names that are none"] = { function() return { images = images(), class_names = { 1 } } end,
        "class_names must be a list of texts, got 1" },
      ["a number of classes that is none"] = { function() return { images = images(), classes = 1.5 } end,
        "classes must be an integer of at least 0, got 1.5" },
    } do
      it("refuses " .. what, function()
        fails(function() data.tensors(case[1]()) end, "data.tensors: .*" .. case[2])
      end)
    end
  end)

  -- ---- .npy -------------------------------------------------------------------

  describe("of a .npy file", function()
    it("has its images where they lie", function()
      local set = npy(3)
      assert.same({ 20, 1, 2 }, files.colour(set:read(3), 2, 3))
      assert.same({ -1, -1, -1 }, set.labels:totable())
      assert.same({ nil, root .. "/x.npy" }, { set.images, set.name })
    end)
    it("has labels from another file, of any integers", function()
      local path = write("y.npy", files.npy("<u2", "(3,)", string.pack("<I2I2I2", 1, 0, 5)))
      local set = npy(3, path)
      assert.same({ { 1, 0, 5 }, 6 }, { set.labels:totable(), set.classes })
      for _, labels in ipairs { i64 { 1, 0, 5 }, i64({ 1, 0, 5 }):to "i32", i64({ 1, 0, 5 }):to "u8" } do
        cld.io.save_npy(path, labels)
        assert.same({ 1, 0, 5 }, npy(3, path).labels:totable())
      end
    end)
    for what, case in pairs {
      ["of another length"] = { "<i8", "(2,)", string.pack("<i8i8", 0, 1) },
      ["of two dimensions"] = { "<i8", "(3, 1)", ("\0"):rep(24) },
      ["of floats"] = { "<f4", "(3,)", ("\0"):rep(12) },
    } do
      it("refuses labels " .. what, function()
        fails(function() npy(3, write("y.npy", files.npy(table.unpack(case)))) end,
          "y.npy: labels must be integers %(3%), one per image of .*/x.npy; got ")
      end)
    end
    it("refuses labels below -1, and out of range", function()
      fails(function() npy(3, write("y.npy", files.npy("|i1", "(3,)", "\0\xfe\0"))) end,
        "labels must be at least 0, or %-1 for none; got %-2")
      cld.io.save_npy(root .. "/x.npy", files.images(3, 1, 1))
      fails(function() data.npy { images = root .. "/x.npy", labels = i64 { 0, 2, 1 }, classes = 2 } end,
        "data.npy: labels must be 0 to 1, or %-1 for none; got 2")
    end)
    local function refuses(pattern, ...)
      local path = write("x.npy", files.npy(...))
      fails(function() data.npy { images = path } end, pattern)
    end
    it("refuses other types", function()
      refuses("x.npy: its elements must be u1 in C order", "<f4", "(1, 1, 1, 3)", ("\0"):rep(12))
      refuses("x.npy: its elements must be u1 in C order", "|i1", "(1, 1, 1, 3)", "\0\0\0")
    end)
    for shape, bytes in pairs { ["(1, 2, 3)"] = 6, ["(1, 3, 2, 2)"] = 12, ["(0, 2, 2, 3)"] = 0, ["(1, 0, 2, 3)"] = 0,
      ["(3,)"] = 3, ["()"] = 1 } do
      it("refuses the shape " .. shape, function()
        refuses("x.npy: images must be u1 %(n, height, width, 3%), 1 to 65535 pixels wide and high; got %("
          .. shape:gsub("[()]", ""):gsub(",$", "") .. "%)$", "|u1", shape, ("\0"):rep(bytes))
      end)
    end
    it("refuses a file that is shorter than it says", function()
      refuses("x.npy: damaged file: 11 bytes of data do not fill the shape in its header", "|u1", "(2, 1, 2, 3)",
        ("\0"):rep(11))
      refuses("x.npy: ", "|u1", "(4611686018427387904, 2, 2, 3)", ("\0"):rep(12))
    end)
    it("takes one that is longer, as NumPy does", function()
      local path = write("x.npy", files.npy("|u1", "(1, 1, 2, 3)", "\1\2\3\4\5\6more"))
      local set = data.npy { images = path }
      assert.equal(1, #set)
      assert.same({ 4, 5, 6 }, files.colour(set:read(1), 1, 2))
    end)
    it("refuses a file that is not there, and one that is none", function()
      fails(function() data.npy { images = root .. "/none.npy" } end, "none.npy.*No such file")
      local path = write("x.npy", "P6 1 1 255\n123")
      fails(function() data.npy { images = path } end, "x.npy: not an .npy file")
      fails(function() data.npy {} end, "data.npy: images must be the path of a .npy file, got nil")
    end)
    describe("that is cut off while it is open", function()
      local function cut()
        local set = npy(8)
        assert(os.execute(("truncate -s %d %s/x.npy"):format(128 + 5 * 18 + 1, root)))
        return set
      end
      it("is an error that names the image", function()
        fails(function() cut():read(6) end, "x.npy, image 6: .*x.npy")
      end)
      it("still has the images before", function() assert.same({ 40, 0, 0 }, files.colour((cut():read(5)))) end)
      it("has others in their place in a batch", function()
        local found, bad = epoch(cut(), { max_bad = 0.5 })
        assert.equal(8, #found.red)
        for k, red in ipairs(found.red) do
          assert.is_true(red <= 40)
          assert.equal(found.index[k] * 10, red)
        end
        assert.equal(3, #bad)
      end)
      it("ends the epoch if more are missing than may be", function()
        local set = cut()
        fails(function() epoch(set, { max_bad = 0.1 }) end, "x.npy, image ")
      end)
    end)
  end)

  -- ---- custom -----------------------------------------------------------------

  describe("written in Lua", function()
    local image = function(red, height, width) return cld.full({ height or 1, width or 1, 3 }, red, "u8") end
    local function custom(read, more)
      local options = { count = 3, read = read }
      for name, value in pairs(more or {}) do options[name] = value end
      return data.custom(options)
    end

    it("may have images of any size", function()
      local set = custom(function(i) return image(10 * i, i, 5 - i), 0 end)
      assert.is_nil(set:size())
      assert.same({ { 1, 4, 3 }, { 3, 2, 3 } }, { set:read(1).shape, set:read(3).shape })
      assert.same({ 10, 20, 30 }, epoch(set).red)
    end)
    it("may have images that are not contiguous", function()
      local whole = files.images(1, 4, 6)[1]
      local set = custom(function() return whole:permute(2, 1, 3) end)
      assert.same({ 0, 1, 5 }, files.colour(set:read(1), 6, 2))
    end)
    it("has the labels that read returns, or -1", function()
      local set = custom(function(i) return image(0), i ~= 2 and i or nil end)
      assert.same({ 1, -1, 3 }, labels_read(set))
      assert.same({ 1, -1, 3 }, epoch(set).labels)
      assert.same({ 1, -1, 3 }, set.labels:totable())
      assert.equal(4, set.classes)
    end)
    it("reads no more than is asked for", function()
      local calls = 0
      local set = custom(function()
        calls = calls + 1
        return image(0)
      end)
      assert.equal(-1, select(2, set:read(2)))
      assert.equal(1, calls)
      epoch(set)
      assert.equal(4, calls)
      assert.same({ -1, -1, -1 }, set.labels:totable())
      assert.equal(0, set.classes)
      assert.equal(7, calls)
    end)
    it("has the labels that it was given, whatever read returns", function()
      local set = custom(function() return image(0), 5 end, { labels = i64 { 2, 0, 1 } })
      assert.same({ 3, { 2, 0, 1 } }, { set.classes, set.labels:totable() })
      assert.same({ 2, 0, 1 }, labels_read(set))
      assert.same({ 2, 0, 1 }, epoch(set).labels)
    end)
    it("may be a subset of classes, with labels of its own", function()
      local set = custom(function(i) return image(10 * i), 2 * i end)
      local part = data.subset { set, classes = i64 { 4, 6 } }
      assert.same({ 2, { 0, 1 } }, { part.classes, part.labels:totable() })
      assert.same({ 0, 1 }, labels_read(part))
      assert.same({ labels = { 0, 1 }, index = { 0, 1 }, red = { 20, 30 } }, epoch(part))
    end)
    it("may read other images of its own", function()
      local set
      set = custom(function(i)
        if i == 2 then return set:read(3) end
        return image(10 * i), i
      end)
      assert.same({ 10, 30, 30 }, reds(set))
      assert.same({ 1, 3, 3 }, epoch(set).labels)
    end)
    it("that asks for its own image without end is an error", function()
      local set
      set = custom(function(i) return set:read(i) end)
      fails(function() set:read(1) end, "read%(1%): .*stack overflow")
    end)
    it("may read another set", function()
      local inner = custom(function(i) return image(10 * i), i end)
      local set = custom(function(i) return inner:read(4 - i) end)
      assert.same({ 30, 20, 10 }, reds(set))
      assert.same({ 3, 2, 1 }, set.labels:totable())
    end)

    for what, case in pairs {
      ["nothing"] = { function() end, "read must return an image u8%[height, width, 3%], and may .*; got nil" },
      ["a text"] = { function() return "x" end, "read must return an image .*; got string" },
      ["floats"] = { function() return cld.zeros { 2, 2, 3 } end, "got f32%[2, 2, 3%]" },
      ["planes"] = { function() return cld.zeros({ 3, 2, 2 }, "u8") end, "got u8%[3, 2, 2%]" },
      ["no pixels"] = { function() return cld.zeros({ 0, 2, 3 }, "u8") end, "got u8%[0, 2, 3%]" },
      ["a batch"] = { function() return cld.zeros({ 1, 2, 2, 3 }, "u8") end, "got u8%[1, 2, 2, 3%]" },
      ["a label that is no integer"] = { function() return image(0), 1.5 end,
        "read must return an integer as the label, or nothing; got a number" },
      ["a label in a tensor"] = { function() return image(0), cld.tensor({ 3 }, "i64")[1] end,
        "read must return an integer as the label, or nothing; got a i64%[%]; :item%(%) gives its number" },
      ["a label that is a text"] = { function() return image(0), "one" end,
        "an integer as the label, or nothing; got a string" },
      ["a label below -1"] = { function() return image(0), -2 end,
        "the label is %-2; it must be at least 0, or %-1 for none" },
    } do
      it("that returns " .. what .. " is an error that names the image", function()
        local set = custom(case[1])
        fails(function() set:read(2) end, "read%(2%): .*" .. case[2])
        fails(function() return set.labels end, "read%(1%): .*" .. case[2])
      end)
    end
    it("that returns a label out of range is an error", function()
      local set = custom(function(i) return image(0), i end, { classes = 3 })
      fails(function() set:read(3) end, "read%(3%): the label is 3; it must be 0 to 2, or %-1 for none$")
    end)
    it("that raises is an error with its message", function()
      local set = custom(function(i) error("no picture " .. i) end)
      fails(function() set:read(2) end, "read%(2%): .*datasets_spec.lua:%d+: no picture 2$")
    end)
    it("that raises something odd is an error, too", function()
      local set = custom(function() error { code = 3 } end)
      fails(function() set:read(2) end, "read%(2%): table")
    end)
    it("has another in the place of an image that fails", function()
      local set = custom(function(i)
        if i == 2 then error "no picture" end
        return image(10 * i), i
      end)
      local found, bad = epoch(set, { max_bad = 0.5 })
      for k, index in ipairs(found.index) do
        assert.same({ 10 * (index + 1), index + 1 }, { found.red[k], found.labels[k] })
        assert.is_true(index ~= 1)
      end
      assert.equal(1, #bad)
      assert.truthy(bad[1]:find("read(2)", 1, true), bad[1])
    end)
    it("is checked when it is made", function()
      fails(function() data.custom { read = function() end } end,
        "data.custom: count must be a positive integer, got nil")
      fails(function() data.custom { count = 0, read = function() end } end, "count must be a positive integer, got 0")
      fails(function() data.custom { count = 1 } end, "read must be a function of the image's number, got nil")
      fails(function() custom(function() end, { labels = i64 { 1 } }) end, "labels must be i64%[3%]")
      fails(function() custom(function() end, { lables = 1 }) end, "did you mean 'labels'%?")
    end)
  end)
end)
