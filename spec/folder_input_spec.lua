--- Faulty input for the recipes of image folders: one line says what is wrong. For input that is merely unusual, a line
-- says what was done.
local cld = require "cld"
local process = require "spec.support.process"

describe("the input of", function()
  local folder
  setup(function()
    folder = process.temporary_folder()
    local function image(path, value)
      assert(os.execute(("mkdir -p '%s'"):format(path:match "^(.*)/")))
      cld.image.write(path, cld.full({ 20, 24, 3 }, value, { dtype = "u8" }))
    end
    for class = 1, 3 do
      for i = 1, 4 do
        image(("%s/photos/class %d/%d.png"):format(folder, class, i), 40 * class + i)
        image(("%s/split/train/%d/%d.png"):format(folder, class, i), 40 * class + i)
        image(("%s/split/val/%d/%d.png"):format(folder, class, i), 40 * class + i)
      end
      image(("%s/singles/%d/only.png"):format(folder, class), class)
      image(("%s/same/a/%d.png"):format(folder, class), class)
      image(("%s/mixed/a/%d.png"):format(folder, class), class)
      image(("%s/mixed/%d.png"):format(folder, class), class)
    end
    image(folder .. "/lonely/only.png", 7)
    process.write(folder .. "/photos.tar", "x")
  end)
  teardown(function() process.remove(folder) end)

  local function recipe(name, ...) return process.run { "recipes/" .. name .. ".lua", ... } end

  local function train(data, ...)
    return recipe("folder_npid_cld", "--data", folder .. "/" .. data, "--runs", folder .. "/runs", "--epochs", "1",
      "--warmup-epochs", "0", "--batch-size", "4", "--size", "16", "--width", "2", "--low-dim", "8", "--clusters", "2",
      "--threads", "1", "--device", "cpu", ...)
  end

  local function fails(result, expected)
    assert.equal(1, result.code)
    assert.matches("^cldlua: [^\n]*" .. expected .. "[^\n]*\n$", result.err)
  end

  local function trains(result, expected)
    assert.equal(0, result.code, result.err)
    assert.matches(expected, result.out)
    assert.matches("done: 1 epoch in", result.out)
    return result.out
  end

  describe("a training recipe:", function()
    it("a folder that is not there", function()
      fails(train "none", "option '%-%-data': there is no folder '.*/none'")
    end)

    it("a file for a folder", function()
      fails(train "lonely/only.png", "'%-%-data': expected a folder of images, or [^\n]*; got the file '.*/only.png'")
    end)

    it("an archive that is none", function()
      fails(train "photos.tar", "/photos.tar: not a tar archive")
    end)

    it("the name of what recipes/pack.lua made, and one of its files", function()
      assert(os.execute(("tar cf '%s/packed-train.tar' -C '%s/photos' ."):format(folder, folder)))
      trains(train "packed", "/packed: 9 training images of 3 classes")
      trains(train "packed-train.tar", "/packed%-train.tar: 9 training images of 3 classes")
      fails(train "pack", "option '%-%-data': there is no folder '.*/pack'")
    end)

    it("a single image", function()
      fails(train "lonely", "/lonely: training needs two images or more, and has 1")
    end)

    it("classes of one image each, none of which can be held out", function()
      local out = trains(train "singles", "no class has a second image to hold out: there is no kNN accuracy\n")
      assert.matches("/singles: 3 training images of 3 classes %(1, 2, 3%)\n", out)
    end)

    it("a single class, whose accuracy would say nothing", function()
      local out = trains(train "same", "all images are of one class, so there is no kNN accuracy\n")
      assert.matches("/same: 3 training images\n", out)
    end)

    it("classes: tells how many images train and how many are kept", function()
      local out = trains(train "photos", "3 of its 12 images are kept from training %(%-%-holdout 0.1%)\n")
      assert.matches("/photos: 9 training images of 3 classes %(class 1, class 2, class 3%), 3 to test by", out)
    end)

    it("splits of other names, which are taken for classes", function()
      local from, to = folder .. "/photos", folder .. "/named"
      assert(os.execute(("mkdir '%s'; cp -r '%s' '%s/Train'; cp -r '%s' '%s/Test'"):format(to, from, to, from, to)))
      trains(train "named",
        "the folders Test, Train are taken for classes: splits are named train/ and test/ or val/, ")
    end)

    it("a folder that is cut off by a file", function()
      fails(train "photos.tar/x", "option '%-%-data': /[^\n]*photos.tar/x: Not a directory")
    end)

    it("images beside class folders, of which --layout tells what they are", function()
      fails(train "mixed", "there are images both at its top .* and in sub%-folders")
      trains(train("mixed", "--layout", "plain"), "/mixed: 6 training images\n")
      trains(train("mixed", "--layout", "classes"), "/mixed: 3 training images\n")
    end)

    it("the largest views, whose evaluation is larger", function()
      fails(train("photos", "--size", "3585"), "option '%-%-size': expected an integer from 16 to 3584, got '3585'")
      assert.has_no.errors(function() cld.augment.center { size = 3584 } end)
    end)

    it("a corner that does not fit: tells the sizes that would", function()
      fails(train("photos", "--pool", "corner"), "16 pixels make 2 with the stem cifar, %-%-size 49 to 104 would do")
      fails(train("photos", "--pool", "corner", "--stem", "imagenet"), "%-%-size 193 to 416 would do")
    end)
  end)

  describe("a resumed run:", function()
    it("another number of images, which a memory bank cannot go on with", function()
      trains(train("photos", "--name", "grown"), "9 training images")
      fails(train("split", "--name", "grown", "--resume", "--epochs", "2"),
        "'bank': .*; %-%-data has 12 training images now, but had 9: what is kept for each image")
    end)

    it("another width: nothing is said of the images", function()
      trains(train("photos", "--name", "wider"), "9 training images")
      local result = train("photos", "--name", "wider", "--resume", "--width", "3")
      fails(result, "does not fit this run")
      assert.is_nil(result.err:find "training images")
    end)
  end)

  it("recipes/knn.lua: the run's folder for its checkpoint", function()
    trains(train("photos", "--name", "scored"), "9 training images")
    local result = recipe("knn", "--checkpoint", folder .. "/runs/scored", "--device", "cpu")
    assert.equal(0, result.code, result.err)
    assert.matches("after 1 epoch +top%-1", result.out)
    fails(recipe("knn", "--checkpoint", folder .. "/photos"),
      "'%-%-checkpoint': the folder '.*/photos' holds no checkpoint%.safetensors")
  end)

  describe("recipes/views.lua:", function()
    local function views(...) return recipe("views", "--out", folder .. "/views.png", "--views", "1", ...) end

    it("the name of a file that cannot be written", function()
      fails(recipe("views", "--data", folder .. "/photos", "--out", folder .. "/views.gif"),
        "option '%-%-out': expected the name of a .png, .jpg or .ppm file, got '.*/views.gif'")
    end)

    it("damaged images, which are named and left out", function()
      assert(os.execute(("cp -r '%s/photos' '%s/damaged'"):format(folder, folder)))
      process.write(folder .. "/damaged/class 1/0.png", "")
      local result = views("--data", folder .. "/damaged", "--images", "100", "--size", "16")
      assert.equal("", result.err)
      assert.matches("left out: .*/class 1/0.png: an empty file\n", result.out)
      assert.matches("12 images, 1 views of each\n", result.out)
    end)

    it("damaged images alone", function()
      assert(os.execute(("mkdir -p '%s/bad'"):format(folder)))
      process.write(folder .. "/bad/0.png", "")
      fails(views("--data", folder .. "/bad"), "/bad: no image can be read; the last is .*/0.png: an empty file")
    end)

    it("no size: the views are those that the folder's recipe trains with", function()
      local result = views("--data", folder .. "/photos", "--images", "1")
      assert.equal("", result.err)
      assert.matches("random_resized_crop { size = 224,", result.out)
      assert.matches("mean = { 0.485,", result.out)
    end)
  end)

  describe("Lua code:", function()
    it("a name that cld.data or cld.image does not have", function()
      assert.error_matches(function() return cld.data.foldr end, "cld.data has no 'foldr'; did you mean 'folder'%?")
      assert.error_matches(function() return cld.image.wirte end, "cld.image has no 'wirte'; did you mean 'write'%?")
    end)

    it("a folder of splits read as if they were classes, which is told", function()
      local code = ("local s = require 'cld'.data.folder { root = '%s/split' } print(#s)"):format(folder)
      local result = process.run { "-e", code }
      assert.matches("/split: the folders train, val are taken for classes: [^\n]*split = 'train' chooses one\n24\n",
        result.out)
    end)
  end)
end)
