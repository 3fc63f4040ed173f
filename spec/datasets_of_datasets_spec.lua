--- Data sets made of data sets: subset, concat, long_tailed, labelled_share, split.
local cld = require "cld"
local check = require "spec.support.check"
local files = require "spec.support.data_files"
local process = require "spec.support.process"
local sets = require "spec.support.sets"

local data, fails = cld.data, check.fails
local i64, pixels, reds, labels_read, epoch = sets.i64, sets.pixels, sets.reds, sets.labels_read, sets.epoch

-- A set, and options.
local function with(set, options)
  local both = { set }
  for name, value in pairs(options) do both[name] = value end
  return both
end

describe("a data set", function()
  local root
  before_each(function() root = process.temporary_folder() end)
  after_each(function() process.remove(root) end)

  local function write(name, text) return files.write(root .. "/" .. name, text) end
  local function folder() return sets.folder(root .. "/photos") end

  -- ---- subset -----------------------------------------------------------------

  describe("that is a subset", function()
    local function set() return pixels({ 0, 1, 2, 1, 0, -1 }, { class_names = { "cat", "dog", "fox" } }) end
    it("has the images of its indices, in their order", function()
      local part = data.subset { set(), indices = i64 { 3, 0, 3 } }
      assert.same({ { 30, 0, 30 }, { 1, 0, 1 }, 3, { "cat", "dog", "fox" } },
        { reds(part), part.labels:totable(), part.classes, part.class_names })
    end)
    it("takes a list of indices", function() assert.same({ 20 }, reds(data.subset { set(), indices = { 2 } })) end)
    it("has the classes of a list, numbered anew", function()
      local part = data.subset { set(), classes = { "fox", "cat" } }
      assert.same({ { 0, 20, 40 }, { 0, 1, 0 }, 2, { "cat", "fox" } },
        { reds(part), part.labels:totable(), part.classes, part.class_names })
      assert.same({ 0, 1, 0 }, labels_read(part))
    end)
    it("has the classes of labels", function()
      local part = data.subset { set(), classes = i64 { 1 } }
      assert.same({ { 10, 30 }, { 0, 0 }, { "dog" } }, { reds(part), part.labels:totable(), part.class_names })
    end)
    it("has the name that it is given", function()
      assert.equal("pets", data.subset({ set(), classes = { "cat" }, name = "pets" }).name)
      assert.equal("two", data.subset({ set(), indices = { 1 }, name = "two" }).name)
    end)
    it("of a subset has its files", function()
      local part = data.subset { data.subset { folder(), indices = { 2, 1 } }, indices = { 1 } }
      assert.equal("/a/2.jpg", part.paths[1]:sub(-8))
      assert.same({ 20 }, reds(part))
    end)
    it("reads as its set does", function()
      local whole = folder()
      whole.reading = { strict = true }
      assert.same({ strict = true }, data.subset({ whole, indices = { 0 } }).reading)
    end)
    for what, case in pairs {
      ["an index beyond the images"] = { { indices = { 6 } }, "indices must be 0 to 5, .* counted from 0; got 6" },
      ["a negative index"] = { { indices = { 0, -1 } }, "got %-1" },
      ["no indices"] = { { indices = {} }, "an i64 vector of at least one image, got a table" },
      ["fractions"] = { { indices = { 0.5 } }, "indices must be an i64 vector" },
      ["nothing"] = { {}, "give either indices or classes" },
      ["both"] = { { indices = { 0 }, classes = { "cat" } }, "give either indices or classes" },
      ["a class that is not there"] = { { classes = { "dgo" } }, "has no class 'dgo'; did you mean 'dog'%?" },
      ["labels in a list"] = { { classes = { 1 } },
        "has no class 1; a list must hold names, and labels must be an i64 tensor" },
      ["no classes"] = { { classes = {} }, "a list of names or an i64 tensor of labels, got a table" },
      ["a typing error"] = { { indexes = { 1 } }, "did you mean 'indices'%?" },
    } do
      it("refuses " .. what, function()
        fails(function() data.subset(with(set(), case[1])) end, "data.subset: .*" .. case[2])
      end)
    end
    it("refuses labels that are not there, and other tensors", function()
      fails(function() data.subset { set(), classes = i64 { 3 } } end, "has the labels 0 to 2, got 3")
      fails(function() data.subset { set(), indices = i64 { 1 }:to "i32" } end,
        "must be an i64 vector .*, got i32%[1%]")
    end)
    it("refuses what is no set", function()
      fails(function() data.subset { { 1 }, indices = { 0 } } end, "expected a data set of cld.data, got a table")
    end)
  end)

  -- ---- concat -----------------------------------------------------------------

  describe("that is a concatenation", function()
    it("has the images of all, one set after the other", function()
      local both = data.concat { pixels { 0, 1 }, pixels { 1, 1, 0 } }
      assert.same({ { 0, 10, 0, 10, 20 }, { 0, 1, 1, 1, 0 }, 2 }, { reds(both), both.labels:totable(), both.classes })
    end)
    it("is in memory if all are", function()
      assert.same({ 3, 1, 1, 3 }, data.concat({ pixels { 0 }, pixels { 1, 0 } }).images.shape)
    end)
    it("mixes files and memory", function()
      local both = data.concat { folder(), data.tensors { images = files.images(2, 2, 3), labels = i64 { 1, -1 } } }
      assert.same({ { 10, 20, 30, 0, 10 }, { 0, 0, 1, 1, -1 } }, { reds(both), labels_read(both) })
      assert.same({ 2, { "a", "b" } }, { both.classes, both.class_names })
      assert.same({ nil, nil }, { both.images, both.paths })
      assert.same({ labels = { 0, 0, 1, 1, -1 }, index = { 0, 1, 2, 3, 4 }, red = { 10, 20, 30, 0, 10 } }, epoch(both))
    end)
    it("mixes sizes", function()
      local both = data.concat { pixels { 0 }, data.tensors { images = files.images(1, 2, 3), labels = i64 { 0 } } }
      assert.is_nil(both:size())
      assert.same({ 2, 3, 3 }, both:read(2).shape)
    end)
    it("has the files of all, if all have files", function()
      local set = folder()
      local both = data.concat { set, data.subset { set, indices = { 1 } } }
      assert.equal(4, #both.paths)
      assert.equal(set.paths[2], both.paths[4])
    end)
    it("takes sets without labels", function()
      local both = data.concat { pixels { 0, 2 }, data.tensors { images = files.images(1, 1, 1) } }
      assert.same({ { 0, 2, -1 }, 3 }, { both.labels:totable(), both.classes })
    end)
    it("refuses sets of different classes", function()
      local cats, dogs = pixels({ 0 }, { class_names = { "cat" } }), pixels({ 0 }, { class_names = { "dog" } })
      fails(function() data.concat { cats, dogs } end, "data.concat: tensors and tensors have different classes")
      local both = pixels({ 0 }, { class_names = { "cat", "dog" } })
      fails(function() data.concat { cats, both } end, "have different classes")
      fails(function() data.concat { data.tensors { images = files.images(1, 1, 1) }, cats, dogs } end,
        "different classes")
    end)
    it("refuses labels for which the other has no classes", function()
      local cats = pixels({ 0 }, { class_names = { "cat" }, name = "cats" })
      fails(function() data.concat { cats, pixels { 0, 1 } } end, "data.concat: cats has 1 classes, but tensors has 2")
    end)
    it("refuses what is no set, wherever it stands", function()
      fails(function() data.concat {} end, "expected a data set of cld.data, got nil")
      fails(function() data.concat { pixels { 0 }, "x" } end, "expected a data set of cld.data, got 'x'")
      fails(function() data.concat { pixels { 0 }, nil, pixels { 0 } } end, "expected a data set of cld.data, got nil")
    end)
  end)

  -- ---- long tails ---------------------------------------------------------------

  -- `each` images of each of `classes` classes, mixed.
  local function balanced(classes, each)
    return data.tensors {
      images = cld.zeros({ classes * each, 1, 1, 3 }, "u8"), classes = classes,
      labels = cld.arange(0, each * classes, 1, "i64") % classes,
    }
  end
  local function counts(set)
    local found = {}
    for c = 1, set.classes do found[c] = 0 end
    for _, label in ipairs(set.labels:totable()) do found[label + 1] = found[label + 1] + 1 end
    return found
  end

  describe("with a long tail", function()
    for classes, totals in pairs { [10] = { [10] = 20431, [50] = 13996, [100] = 12406 },
      [100] = { [10] = 19573, [50] = 12608, [100] = 10847 } } do
      it(("has the totals of LDAM's CIFAR-%d"):format(classes), function()
        local set = balanced(classes, 50000 // classes)
        for factor, total in pairs(totals) do assert.equal(total, #data.long_tailed { set, factor = factor }) end
      end)
    end
    it("has LDAM's images of each class, by a factor of 100", function()
      assert.same({ 5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50 },
        counts(data.long_tailed { balanced(10, 5000) }))
    end)
    it("has a step if told", function()
      local set = data.long_tailed { balanced(4, 100), factor = 50, kind = "step" }
      assert.same({ 100, 100, 2, 2 }, counts(set))
    end)
    it("keeps its seed", function()
      local set = balanced(2, 100)
      assert.equal(0, data.long_tailed({ set, factor = 10 }).seed)
      assert.equal(3, data.long_tailed({ set, factor = 10, seed = 3 }).seed)
    end)
    it("keeps the images' order, and each once", function()
      local labels = {}
      for i = 1, 20 do labels[i] = i % 2 end
      local red = reds(data.long_tailed { pixels(labels), factor = 5, seed = 1 })
      assert.equal(12, #red)
      for k = 2, #red do assert.is_true(red[k - 1] < red[k]) end
    end)
    it("has other images by another seed, and the same by the same", function()
      local labels = {}
      for i = 1, 20 do labels[i] = i % 2 end
      local set = pixels(labels)
      local function drawn(seed) return reds(data.long_tailed { set, factor = 5, seed = seed }) end
      assert.same(drawn(1), drawn(1))
      assert.not_same(drawn(1), drawn(2))
    end)
    it("does not disturb the program's random numbers", function()
      cld.manual_seed(5)
      local before = cld.rand(3):totable()
      cld.manual_seed(5)
      data.long_tailed { balanced(2, 10), factor = 2 }
      assert.same(before, cld.rand(3):totable())
    end)
    it("leaves images without labels out", function()
      assert.same({ 2 }, counts(data.long_tailed { pixels { 0, -1, 0 }, factor = 1 }))
    end)
    for what, case in pairs {
      ["a factor below 1"] = { { factor = 0.5 }, "factor must be a number from 1 to 1e%+06, got 0.5" },
      ["a factor that is none"] = { { factor = "x" }, "factor must be a number" },
      ["a factor that is not a number"] = { { factor = 0 / 0 }, "factor must be a number" },
      ["another kind"] = { { kind = "linear" }, "kind must be exponential or step, got 'linear'" },
      ["a seed that is none"] = { { seed = 1.5 }, "seed must be an integer of at least 0, got 1.5" },
    } do
      it("refuses " .. what, function()
        fails(function() data.long_tailed(with(balanced(2, 10), case[1])) end, "data.long_tailed: " .. case[2])
      end)
    end
    it("refuses sets without labels, and classes that are too small", function()
      fails(function() data.long_tailed { data.tensors { images = files.images(2, 1, 1) } } end,
        "data.long_tailed: tensors has no labels")
      fails(function() data.long_tailed { pixels { 0, 0, 0, 0, 1 }, factor = 2 } end,
        "tensors cannot be long%-tailed by 2: class 1 would keep 2 images and has 1; expected classes of about")
    end)
  end)

  -- ---- few labels ---------------------------------------------------------------

  describe("with a share of the labels", function()
    -- 100 images of 3 classes: 50, 40 and 10.
    local function set()
      local labels = {}
      for i = 1, 100 do labels[i] = i <= 50 and 0 or i <= 90 and 1 or 2 end
      return data.tensors { images = files.images(100, 1, 1), labels = i64(labels) }
    end
    it("has floor(share N) images, of each class as many, or one more", function()
      assert.same({ 4, 3, 3 }, counts(data.labelled_share { set(), share = 0.1 }))
      assert.same({ 7, 6, 6 }, counts(data.labelled_share { set(), share = 0.199 }))
    end)
    it("has more of the others if a class is small", function()
      assert.same({ 25, 25, 10 }, counts(data.labelled_share { set(), share = 0.6 }))
      assert.same({ 50, 40, 10 }, counts(data.labelled_share { set(), share = 1 }))
    end)
    it("has floor(share N) images even if the product is a hair less", function()
      assert.equal(29, #data.labelled_share { set(), share = 0.29 })
    end)
    it("of a smaller share is a part of that of a larger", function()
      local labels = {}
      for i = 1, 25 do labels[i] = i % 3 end
      local whole = pixels(labels)
      local before = {}
      for _, share in ipairs { 0.04, 0.1, 0.3, 0.7, 1 } do
        local now = {}
        for _, red in ipairs(reds(data.labelled_share { whole, share = share, seed = 2 })) do now[red] = true end
        for red in pairs(before) do assert.is_true(now[red]) end
        before = now
      end
    end)
    it("is another by another seed", function()
      local labels = {}
      for i = 1, 25 do labels[i] = i % 3 end
      local whole = pixels(labels)
      local function drawn(seed) return reds(data.labelled_share { whole, share = 0.5, seed = seed }) end
      assert.same(drawn(1), drawn(1))
      assert.not_same(drawn(1), drawn(2))
    end)
    for what, case in pairs {
      ["a share above 1"] = { { share = 2 }, "share must be a number from 0 to 1, got 2" },
      ["a share of none"] = { { share = 0.001 }, "a share of 0.001 of 100 images is no image" },
      ["a list and a share"] = { { share = 0.1, list = "x" }, "give a list, or a share and a seed" },
      ["a list for images without files"] = { { list = "x" }, "tensors has no files that a list could name" },
      ["a list that is none"] = { { list = 3 }, "list must be the path of a text file, got 3" },
    } do
      it("refuses " .. what, function()
        fails(function() data.labelled_share(with(set(), case[1])) end, "data.labelled_share: " .. case[2])
      end)
    end

    describe("by a list", function()
      local function listed(text) return data.labelled_share { folder(), list = write("list.txt", text) } end
      it("has the files that it names, in the set's order", function()
        write("photos/b/1_3.JPEG", files.ppm(1, 1, { 40, 0, 0 }))
        local part = listed "1_3.JPEG\r\n\n2.jpg\n"
        assert.same({ { 20, 40 }, { 0, 1 } }, { reds(part), part.labels:totable() })
      end)
      it("may name folders too", function() assert.same({ 10, 30 }, reds(listed "b/1.ppm\na/1.png\n")) end)
      it("names what is not there, and its line", function()
        fails(function() listed "2.jpg\nc/1.ppm\n3.jpg\n" end,
          "list.txt, line 2: 'c/1.ppm' is not among the 3 images of .*/photos %(2 of 3 names are not%)$")
      end)
      it("refuses a name of two files", function()
        write("photos/b/2.jpg", files.ppm(1, 1, { 40, 0, 0 }))
        fails(function() listed "2.jpg" end,
          "list.txt, line 1: '2.jpg' matches two files of .*/photos: .*/a/2.jpg and .*/b/2.jpg$")
        assert.same({ 40 }, reds(listed "b/2.jpg"))
      end)
      it("refuses an empty text, or none", function()
        fails(function() listed "\n \n" end, "list.txt: the list is empty$")
        fails(function() listed "\xff\xd8\xff\xe0\0\16JFIF" end, "list.txt: it is not text; expected a list")
        fails(function() data.labelled_share { folder(), list = root .. "/none" } end,
          "cannot read the list .*none: No such file")
        fails(function() data.labelled_share { folder(), list = root } end, "cannot read the list .*: Is a directory$")
      end)
    end)
  end)

  -- ---- split --------------------------------------------------------------------

  describe("that is split", function()
    it("gives what is left, and that share of each class", function()
      local labels = {}
      for i = 1, 30 do labels[i] = i <= 20 and 0 or 1 end
      local left, taken = data.split { pixels(labels), share = 0.3 }
      assert.same({ { 14, 7 }, { 6, 3 } }, { counts(left), counts(taken) })
      local seen = {}
      for _, part in ipairs { left, taken } do
        for _, red in ipairs(reds(part)) do
          assert.is_nil(seen[red])
          seen[red] = true
        end
      end
    end)
    it("takes one of each class that has two, and leaves one", function()
      local left, taken = data.split { pixels { 0, 1, 1, 2, 2 }, share = 0.01 }
      assert.same({ { 1, 1, 1 }, { 0, 1, 1 } }, { counts(left), counts(taken) })
      left, taken = data.split { pixels { 0, 1, 1, 2, 2 }, share = 1 }
      assert.same({ { 1, 1, 1 }, { 0, 1, 1 } }, { counts(left), counts(taken) })
    end)
    it("leaves images without labels out", function()
      local left, taken = data.split { pixels { 0, -1, 0, 0 }, share = 0.5 }
      assert.same({ 2, 1 }, { #left, #taken })
    end)
    it("is an error if no class has two images", function()
      fails(function() data.split { pixels { 0, 1 } } end, "data.split: no class of tensors has two images")
      fails(function() data.split { data.tensors { images = files.images(2, 1, 1) } } end,
        "no class of tensors has two images")
    end)
    it("is drawn by its seed", function()
      local labels = {}
      for i = 1, 25 do labels[i] = 0 end
      local set = pixels(labels)
      local function drawn(seed) return reds(select(2, data.split { set, share = 0.5, seed = seed })) end
      assert.same(drawn(1), drawn(1))
      assert.not_same(drawn(1), drawn(2))
    end)
  end)
end)
