--- ImageNet, unpacked and in its archives: the same images in the same order from both, the requested classes, and the
-- messages for missing pieces.
local cld = require "cld"
local check = require "spec.support.check"
local files = require "spec.support.data_files"
local process = require "spec.support.process"

local wnids = files.wnids
local truth = { 9, 1, 1, 5, 9 } -- the classes of the validation images, in the development kit's numbers

describe("ImageNet", function()
  local root
  before_each(function()
    root = process.temporary_folder()
    files.devkit(root, truth)
  end)
  after_each(function() process.remove(root) end)

  local function sh(command, ...) assert(os.execute("cd " .. root .. " && " .. command:format(...)), command) end
  local function open(split, classes) return cld.data.imagenet { root = root, split = split, classes = classes } end
  local function fails(pattern, ...)
    local arguments = { ... }
    return check.fails(function() open(table.unpack(arguments)) end, pattern)
  end

  -- ---- the forms ------------------------------------------------------------

  local function train_folders(folder)
    folder = folder or root .. "/train"
    files.train_class(folder, 5, { 10, 9 }) -- by name, 10 is before 9
    files.train_class(folder, 1, { 3 })
    files.train_class(folder, 9, { 4, 2, 7 })
  end
  local function train_archive()
    train_folders(root .. "/unpacked")
    for _, class in ipairs { 1, 9, 5 } do sh("tar -C unpacked/%s -cf %s.tar .", wnids[class], wnids[class]) end
    sh "tar -cf ILSVRC2012_img_train.tar n*.tar && rm -r n*.tar unpacked"
  end
  local function flat_val(folder)
    for i in ipairs(truth) do
      files.write(("%s/%s"):format(folder or root .. "/val", files.val_name(i)), files.val_image(i))
    end
  end
  local function val_archive()
    flat_val(root .. "/unpacked")
    sh "cd unpacked && tar -cf ../ILSVRC2012_img_val.tar *.JPEG && rm -r ../unpacked"
  end
  local function val_folders()
    for i, class in ipairs(truth) do
      files.write(("%s/val/%s/%s"):format(root, wnids[class], files.val_name(i)), files.val_image(i))
    end
  end
  local function half_moved_val()
    flat_val()
    sh("mkdir val/%s && mv val/%s val/%s", wnids[9], files.val_name(5), wnids[9])
  end
  local function no_kit() sh "rm -r ILSVRC2012_devkit_t12" end
  local function packed_kit()
    sh "tar -czf ILSVRC2012_devkit_t12.tar.gz ILSVRC2012_devkit_t12 && rm -r ILSVRC2012_devkit_t12"
  end
  -- Whether there is libarchive; what is said without it is checked in mat5_spec.lua.
  local function unpacks()
    local there = pcall(cld.files.devkit, root)
    return there
  end

  local function names(set)
    local found = {}
    for i, path in ipairs(set.paths) do
      assert.equal(root .. "/", path:sub(1, #root + 1))
      found[i] = path:match "[^/]*$"
    end
    return found
  end
  local function colours(set)
    local found = {}
    for i = 1, #set do found[i] = files.colour((set:read(i))) end
    return found
  end

  local function is_train(set)
    assert.same({ 6, 3, { wnids[9], wnids[5], wnids[1] } }, { #set, set.classes, set.class_names })
    assert.same({ 0, 0, 0, 1, 1, 2 }, set.labels:totable())
    local wanted = {}
    for i, image in ipairs { { 9, 2 }, { 9, 4 }, { 9, 7 }, { 5, 10 }, { 5, 9 }, { 1, 3 } } do
      wanted[i] = ("%s_%d.JPEG"):format(wnids[image[1]], image[2])
    end
    assert.same(wanted, names(set))
    assert.same({ { 0, 9, 2 }, { 0, 9, 4 }, { 0, 9, 7 }, { 0, 5, 10 }, { 0, 5, 9 }, { 0, 1, 3 } }, colours(set))
  end
  local function is_val(set)
    assert.same({ 5, 3, { wnids[9], wnids[5], wnids[1] } }, { #set, set.classes, set.class_names })
    assert.same({ 0, 0, 1, 2, 2 }, set.labels:totable())
    assert.same({ 0, 2 }, { select(2, set:read(2)), select(2, set:read(4)) })
    local order, wanted, wanted_colours = { 1, 5, 4, 2, 3 }, {}, {}
    for k, i in ipairs(order) do wanted[k], wanted_colours[k] = files.val_name(i), { 100, i, 0 } end
    assert.same(wanted, names(set))
    assert.same(wanted_colours, colours(set))
    assert.same({ 4, 9, 3 }, set:read(2).shape)
  end

  describe("'s training images are the same", function()
    it("in folders", function()
      train_folders()
      is_train(open "train")
    end)
    it("in the archive of archives", function()
      train_archive()
      is_train(open "train")
    end)
    it("in the archive, read by its index", function()
      train_archive()
      open "train"
      is_train(open "train")
      assert.truthy(cld.io.exists(root .. "/ILSVRC2012_img_train.tar.index.safetensors"))
    end)
    it("in folders, if there is an archive as well", function()
      process.write(root .. "/ILSVRC2012_img_train.tar", "not looked at")
      train_folders()
      is_train(open "train")
    end)
    it("in the archive, if the folder train/ is empty", function()
      train_archive()
      cld.io.mkdir(root .. "/train")
      is_train(open "train")
    end)
    it("without a kit", function()
      no_kit()
      train_folders()
      is_train(cld.data.imagenet { root = root })
    end)
  end)

  describe("'s validation images are the same", function()
    it("in class folders, without a kit", function()
      no_kit()
      val_folders()
      is_val(open "val")
    end)
    it("in one folder", function()
      flat_val()
      is_val(open "val")
    end)
    it("in a folder of which half was moved into classes", function()
      half_moved_val()
      is_val(open "val")
    end)
    it("in the archive", function()
      val_archive()
      is_val(open "val")
    end)
    it("in the archive, with the kit in its own", function()
      val_archive()
      packed_kit()
      if not unpacks() then return pending "no libarchive" end
      is_val(open "val")
    end)
    it("in class folders, if there is an archive as well", function()
      val_archive()
      val_folders()
      no_kit()
      is_val(open "val")
    end)
    it("in batches", function()
      flat_val()
      local set = open "val"
      local loader = cld.data.loader { set, batch_size = 5, views = 1, shuffle = false,
        augment = cld.augment.list { cld.augment.center_crop { size = 4 } } }
      for batch in loader:epoch(1) do
        assert.same({ 0, 1, 2, 3, 4 }, batch.index:totable())
        assert.same({ 0, 0, 1, 2, 2 }, batch.labels:totable())
        check.close(batch.views[1][2][2][1][1]:item(), 5 / 255, { rtol = 1e-6 })
      end
    end)
  end)

  -- ---- classes --------------------------------------------------------------

  describe("of some classes", function()
    local wanted = { wnids[1], wnids[9] }
    local forms = {
      ["training folders"] = { "train", train_folders }, ["the training archive"] = { "train", train_archive },
      ["class folders"] = { "val", val_folders }, ["one folder"] = { "val", flat_val },
      ["the validation archive"] = { "val", val_archive },
    }
    for what, form in pairs(forms) do
      it("has these alone, in the order of their ids, in " .. what, function()
        form[2]()
        local set = open(form[1], wanted)
        assert.same({ 2, { wnids[9], wnids[1] } }, { set.classes, set.class_names })
        assert.same(form[1] == "train" and { 0, 0, 0, 1 } or { 0, 0, 1, 1 }, set.labels:totable())
        assert.equal(#set.labels, #set.paths)
        local last = form[1] == "train" and { 0, 1, 3 } or { 100, 3, 0 }
        assert.same(last, files.colour((set:read(#set))))
        assert.equal(("imagenet %s, 2 classes"):format(form[1]), set.name)
      end)
      it("names those that are not there, in " .. what, function()
        form[2]()
        fails("no [%w ]+ 2 of the wanted classes: n00000001, n00000002$", form[1],
          { "n00000002", wnids[1], "n00000001" })
      end)
    end
    it("reads them from a text", function()
      train_folders()
      local list = files.write(root .. "/list.txt", wnids[1] .. "\r\n\n  " .. wnids[9] .. "\n")
      assert.same({ wnids[9], wnids[1] }, open("train", list).class_names)
    end)
    it("reads them from a text of one line, as CMC's is", function()
      train_folders()
      assert.equal(2, open("train", files.write(root .. "/list.txt", wnids[1] .. " " .. wnids[9])).classes)
    end)
    it("leaves the caller's list as it was", function()
      train_folders()
      local list = { wnids[1], wnids[9] }
      open("train", list)
      assert.same({ wnids[1], wnids[9] }, list)
    end)
  end)

  describe("-100", function()
    local ids = require "cld.data.imagenet100"
    it("is a hundred ids in order", function()
      assert.equal(100, #ids)
      for i, id in ipairs(ids) do
        assert.truthy(id:find "^n%d%d%d%d%d%d%d%d$")
        assert.is_true(i == 1 or ids[i - 1] < id)
      end
      assert.same({ "n01558993", "n13040303" }, { ids[1], ids[100] })
    end)
    it("is a part of ImageNet", function()
      for _, id in ipairs(ids) do files.write(("%s/train/%s/%s_1.JPEG"):format(root, id, id), "") end
      train_folders()
      local set = open("train", "imagenet100")
      assert.same({ 100, 100, ids }, { #set, set.classes, set.class_names })
      assert.same({ 0, 99 }, { set.labels[1]:item(), set.labels[100]:item() })
    end)
    it("is a folder of its own", function()
      for _, id in ipairs(ids) do files.write(("%s/val/%s/ILSVRC2012_val_00000001.JPEG"):format(root, id), "") end
      assert.equal(100, open("val").classes)
      assert.equal(100, open("val", "imagenet100").classes)
    end)
    it("names what is missing of it", function()
      train_folders()
      fails("no folders for 100 of the wanted classes: n01558993, n01692333, .*, ...$", "train", "imagenet100")
    end)
  end)

  describe("refuses classes", function()
    before_each(function() train_folders() end)
    it("that are twice in the list", function()
      fails("is in the list twice$", "train", { wnids[1], wnids[5], wnids[1] })
    end)
    it("that are no ids", function()
      fails("classes: 'robin' is not a WordNet id, n and eight digits$", "train", { wnids[1], "robin" })
    end)
    it("whose list is a folder", function()
      fails("classes: cannot read the list .*/train: Is a directory$", "train", root .. "/train")
    end)
    it("that are numbers", function() fails("classes: 3 is not a WordNet id", "train", { 3 }) end)
    it("that are an empty list", function()
      fails("must be imagenet100, a list of WordNet ids, or a text file of them, got an empty list$", "train", {})
    end)
    it("of an empty text", function()
      fails("list.txt: the list of classes is empty$", "train", files.write(root .. "/list.txt", "\n \n"))
    end)
    it("of a text with something else in it, whose line it names", function()
      fails("list.txt, line 2: '../x' is not a WordNet id", "train",
        files.write(root .. "/list.txt", wnids[1] .. "\n../x\n"))
    end)
    it("of a text that is not there", function()
      fails("cannot read the list imagenet10: No such file or directory; did you mean 'imagenet100'%?$", "train",
        "imagenet10")
    end)
    it("of a folder", function() fails("cannot read the list", "train", root) end)
  end)

  -- ---- what is missing ------------------------------------------------------

  describe("is an error", function()
    it("without training images, and says where they were looked for", function()
      fails("no training images of ImageNet here: train/ is not there, and there is no ILSVRC2012_img_train.tar$",
        "train")
    end)
    it("if train/ has no classes", function()
      files.write(root .. "/train/n01440764.tar", "")
      fails("train/ has no folders nXXXXXXXX, and there is no ILSVRC2012_img_train.tar$", "train")
    end)
    it("without validation images", function()
      train_folders()
      fails("no validation images of ImageNet here: val/ is not there, and there is no ILSVRC2012_img_val.tar$", "val")
      cld.io.mkdir(root .. "/val")
      fails("val/ has no folders nXXXXXXXX and no ILSVRC2012_val_%*.JPEG, and there is no ILSVRC2012_img_val.tar$",
        "val")
    end)
    it("without a kit, if validation images lie in no class folders", function()
      no_kit()
      flat_val()
      fails("/val: the images are not in class folders, and nothing says their classes: put the development kit into"
        .. " .*, as ILSVRC2012_devkit_t12.tar.gz or unpacked; or move the images into folders with recipes/valprep.lua",
          "val")
    end)
    it("if the kit knows fewer images", function()
      flat_val()
      files.write(("%s/val/%s"):format(root, files.val_name(6)), files.val_image(6))
      fails("ILSVRC2012_val_00000006.JPEG: the development kit has no such image: it has "
        .. "ILSVRC2012_val_00000001.JPEG to 00000005$", "val")
    end)
    it("if an image has another name", function()
      flat_val()
      files.write(root .. "/val/photo.jpg", files.val_image(1))
      fails("val/photo.jpg: the development kit has no such image", "val")
    end)
    it("if an image is there twice", function()
      half_moved_val()
      files.write(("%s/val/%s"):format(root, files.val_name(5)), files.val_image(5))
      fails("the same image is also '.*'; remove one of them$", "val")
    end)
    it("if a folder is of no WordNet id", function()
      train_folders()
      files.write(root .. "/train/robin/1.JPEG", "")
      fails("/train: 'robin' is not a WordNet id, n and eight digits; cld.data.folder takes folders of any name$",
        "train")
    end)
    it("if a class is empty", function()
      train_folders()
      sh("mkdir train/%s", wnids[2])
      fails("no images in 1 of the 4 class folders: '" .. wnids[2] .. "'", "train")
    end)
    it("if the archive is cut off", function()
      train_archive()
      sh "head -c 3000 ILSVRC2012_img_train.tar >x && mv x ILSVRC2012_img_train.tar"
      fails("ILSVRC2012_img_train.tar: ", "train")
    end)
    it("if there is no such folder", function()
      check.fails(function() cld.data.imagenet { root = root .. "/none" } end,
        "data.imagenet: there is no folder '.*/none'$")
    end)
    it("if the options are others", function()
      fails("data.imagenet: split must be train or val, got 'test'$", "test")
      check.fails(function() cld.data.imagenet { root = "" } end,
        "root must be the folder that holds the files, got ''")
      check.fails(function() cld.data.imagenet { root = root, clases = {} } end, "did you mean 'classes'%?")
    end)
  end)

  -- ---- for recipes ----------------------------------------------------------

  describe("in cld.data.splits", function()
    local function splits(classes)
      return cld.data.splits { dataset = "imagenet", data = root, classes = classes or "", size = 32, max_bad = 0.5,
        strict = true, decode = "exact" }
    end
    it("is training and validation, with its view for the test", function()
      train_archive()
      flat_val()
      local sets = splits()
      is_train(sets.train)
      is_val(sets.test)
      assert.is_nil(sets.memory)
      assert.same({ max_bad = 0.5, strict = true, decode = "exact" }, sets.train.reading)
      assert.is_true(cld.augment.is_list(sets.test_view))
    end)
    it("is of the classes that are wanted", function()
      train_archive()
      flat_val()
      local sets = splits(files.write(root .. "/list.txt", wnids[5] .. "\n"))
      assert.same({ 2, 1 }, { #sets.train, #sets.test })
    end)
    it("has the same classes in both, or names one that is not", function()
      train_folders()
      flat_val()
      files.train_class(root .. "/train", 2, { 1 })
      check.fails(splits, "the classes of train %(4%) and val %(3%) differ: " .. wnids[2]
        .. " is only in train; say which")
      sh("rm -r train/%s train/%s", wnids[2], wnids[9])
      check.fails(splits, "the classes of train %(2%) and val %(3%) differ: " .. wnids[9]
        .. " is only in val; say which")
    end)
    it("has a group of options", function()
      local opt = cld.options({ cld.options.imagenet }, { "--classes", "imagenet100" })
      assert.same({ "imagenet", "./data", "imagenet100", 0.01 }, { opt.dataset, opt.data, opt.classes, opt.max_bad })
    end)
  end)
end)
