--- The recipes of image files, run as a user runs them, on a few generated files: what a folder may look like, damaged
-- files, and the data sets in their authors' layouts.
local cld = require "cld"
local process = require "spec.support.process"
local recipes = require "spec.support.recipes"

describe("recipes of image files", function()
  local folder, photos, damaged
  local checkpoint, differences = recipes.checkpoint, recipes.differences

  -- Two of the 48 files of damaged/train cannot be read, so that --max-bad has to allow it: one is cut off, one empty.
  local bear_two = { "--max-bad", "0.05" }
  local function damage(path)
    local names = io.popen(("ls %s/train/dots/*"):format(path))
    local first, second = names:read("l", "l")
    names:close()
    process.write(first, process.read(first):sub(1, 300))
    process.write(second, "")
  end

  setup(function()
    folder = recipes.start()
    photos, damaged = folder .. "/photos", folder .. "/damaged"
    local made = recipes.run("make_toy_data", "--out", photos, "--layout", "files", "--train", "48", "--test", "20",
      "--least-side", "24", "--most-side", "60")
    assert(made.code == 0, made.err)
    os.execute(("cp -r %s %s"):format(photos, damaged))
    damage(damaged)
  end)
  teardown(recipes.remove)

  -- Two epochs of three steps in runs/<run>.
  local function arguments(data, run, ...)
    return "--data", data, "--runs", folder .. "/runs", "--name", run, "--epochs", "2", "--batch-size", "16", "--size",
      "16", "--width", "4", "--low-dim", "16", "--clusters", "4", "--warmup-epochs", "0", "--threads", "1", "--knn-k",
      "10", "--device", "cpu", ...
  end

  local function train(name, data, run, ...) return recipes.run(name, arguments(data, run, ...)) end

  local function trains(name, data, run, ...)
    local result = train(name, data, run, ...)
    assert.equal(0, result.code, result.err)
    assert.matches("done: %d epochs? ", result.out)
    return result.out
  end

  it("are resumed from another folder with the images of a relative --data", function()
    local recipe, program = process.absolute "recipes/folder_npid_cld.lua", process.absolute(process.cldlua)
    local began = process.run { recipe, "--no-report", directory = folder, program = program,
      arguments("photos", "elsewhere", "--epochs", "1") }
    assert.equal(0, began.code, began.err)
    local result = process.run { recipe, "--resume", folder .. "/runs/elsewhere", "--epochs", "2", directory = "/",
      program = program }
    assert.equal(0, result.code, result.err)
    assert.matches("\n" .. photos:gsub("%p", "%%%0") .. ": 48 training images", result.out)
  end)

  for _, name in ipairs { "folder_npid_cld", "folder_moco_cld" } do
    local queue = name:find "moco" and { "--queue", "40" } or {}

    it("train on train/ and are scored on test/: " .. name, function()
      local out = trains(name, photos, name, table.unpack(queue))
      assert.matches("epoch 2/2  top1 [%d.]+ %%", out)
      assert.is_nil(out:find "kept from training")
    end)

    it("keep some images of class folders for the score: " .. name, function()
      local out = trains(name, photos .. "/train", name .. "-classes", "--epochs", "1", table.unpack(queue))
      assert.matches("train: no test/ or val/ in it: %d+ of its 48 images are kept from training", out)
      assert.matches("epoch 1/1  top1 [%d.]+ %%", out)
    end)

    it("train on plain files without a score, and say so: " .. name, function()
      local plain = folder .. "/plain"
      os.execute(("mkdir -p %s && cp %s/train/*/* %s"):format(plain, photos, plain))
      local out = trains(name, plain, name .. "-plain", "--epochs", "1", table.unpack(queue))
      assert.matches("plain: the images are not in class folders, so there is no kNN accuracy\n", out)
      assert.is_nil(out:find "top1")
    end)

    it("are the same, stopped in the middle of an epoch, with damaged files: " .. name, function()
      local whole, stopped = name .. "-whole", name .. "-stopped"
      local settings = table.move(queue, 1, #queue, 3, { table.unpack(bear_two) })
      local out = trains(name, damaged, whole, table.unpack(settings))
      assert.matches("another takes its place %(2 of 48 so far%)", out)
      local result = recipes.run_after(recipes.stopped_at(5, "TERM"), name,
        arguments(damaged, stopped, table.unpack(settings)))
      assert.equal(143, result.code, result.err)
      out = trains(name, damaged, stopped, "--resume")
      assert.matches("resumed from .*, after step 2 of epoch 2\n", out)
      assert.equal("", differences(whole, stopped))
    end)
  end

  it("do not go on in the middle of an epoch if a file has another name", function()
    local moved = folder .. "/moved"
    os.execute(("cp -r %s %s"):format(photos, moved))
    local result = recipes.run_after(recipes.stopped_at(5, "TERM"), "folder_npid_cld", arguments(moved, "moved"))
    assert.equal(143, result.code, result.err)
    os.execute(("cd %s/train/dots && set -- * && mv $1 zzz.${1##*.}"):format(moved))
    result = train("folder_npid_cld", moved, "moved", "--resume")
    assert.equal(1, result.code)
    assert.matches("in the middle of epoch 2, where %-%-data %(as many images, but others%) cannot change", result.err)
  end)

  it("do not depend on the number of workers, with damaged files", function()
    for _, workers in ipairs { "0", "1", "3" } do
      trains("folder_npid_cld", damaged, "workers-" .. workers, "--workers", workers, "--epochs", "1",
        table.unpack(bear_two))
    end
    assert.equal("", differences("workers-0", "workers-1"))
    assert.equal("", differences("workers-0", "workers-3"))
  end)

  it("end at the first damaged file with --strict", function()
    local result = train("folder_npid_cld", damaged, "strict", "--strict")
    assert.equal(1, result.code)
    assert.matches("^cldlua: [^\n]*/damaged/train/dots/%d+%.%a+: [^\n]*\n$", result.err)
  end)

  it("end with the list where more files are damaged than --max-bad allows", function()
    local result = train("folder_npid_cld", damaged, "bad")
    assert.equal(1, result.code)
    local one = "[^\n;]*/damaged/train/dots/%d+%.%a+: [^\n;\\]+"
    assert.matches("^cldlua: 2 of 48 images cannot be read, more than the 1 that are allowed %(max%-bad%): " .. one
      .. "; " .. one .. "\n$", result.err)
  end)

  it("have torchvision's stem at 128 pixels, and CIFAR's below", function()
    trains("folder_npid_cld", photos, "large", "--size", "128", "--epochs", "1", "--batch-size", "48")
    assert.same({ 4, 3, 7, 7 }, cld.load(checkpoint "large")["net.conv1.weight"].shape)
    trains("folder_npid_cld", photos, "small", "--size", "32", "--epochs", "1", "--batch-size", "48")
    assert.same({ 4, 3, 3, 3 }, cld.load(checkpoint "small")["net.conv1.weight"].shape)
  end)

  it("have checkpoints that knn.lua scores", function()
    trains("folder_npid_cld", photos, "scored", "--epochs", "1")
    local result = recipes.run("knn", "--checkpoint", checkpoint "scored", "--baselines", "--knn-k", "10")
    assert.equal(0, result.code, result.err)
    for _, row in ipairs { "raw pixels", "untrained network", "after 1 epoch" } do
      assert.matches(row .. " +top%-1 +[%d.]+ %%", result.out)
    end
    trains("folder_npid_cld", photos .. "/train", "unscored", "--epochs", "1", "--holdout", "0")
    result = recipes.run("knn", "--checkpoint", checkpoint "unscored")
    assert.equal(1, result.code)
    assert.matches("^cldlua: [^\n]*/photos/train: it has no test images with classes to score\n$", result.err)
  end)

  it("end with one line where there is nothing to train on", function()
    os.execute(("mkdir -p %s/empty %s/classes/cat %s/classes/dog"):format(folder, folder, folder))
    for path, pattern in pairs { nowhere = "", empty = "", classes = "'cat'" } do
      local result = train("folder_npid_cld", folder .. "/" .. path, "never")
      assert.equal(1, result.code, path)
      assert.matches("^cldlua: [^\n]*/" .. path .. "[^\n]*" .. pattern .. "[^\n]*\n$", result.err)
      assert.is_nil(cld.io.exists(folder .. "/runs/never"))
    end
  end)

  it("train on STL-10's files", function()
    local data = folder .. "/stl10_binary"
    assert(os.execute("mkdir " .. data))
    local function write(split, count)
      cld.manual_seed(count)
      local bytes = {}
      for i, level in ipairs(cld.rand(count * 27648):mul(256):to("u8"):totable()) do bytes[i] = string.char(level) end
      process.write(("%s/%s_X.bin"):format(data, split), table.concat(bytes))
      if split == "unlabeled" then return end
      local labels = {}
      for i = 1, count do labels[i] = string.char((i - 1) % 10 + 1) end
      process.write(("%s/%s_y.bin"):format(data, split), table.concat(labels))
    end
    write("train", 20)
    write("test", 10)
    write("unlabeled", 12)
    local out = trains("stl10_npid_cld", folder, "stl10", "--epochs", "1")
    assert.matches("epoch 1/1  top1 [%d.]+ %%", out)
    out = trains("stl10_npid_cld", folder, "stl10-all", "--epochs", "1", "--split", "train+unlabeled", "--size", "64",
      "--pool", "corner")
    assert.matches("epoch 1/1  top1 [%d.]+ %%", out)
    assert.same({ 32, 16 }, cld.load(checkpoint "stl10-all")["bank.memory"].shape)
    local result = recipes.run("knn", "--checkpoint", checkpoint "stl10-all", "--knn-k", "10")
    assert.equal(0, result.code, result.err)
  end)

  it("train on Kitchen-HC's files", function()
    assert(os.execute(("mkdir %s/kitchen && cp -r %s %s/kitchen/Kitchen-HC"):format(folder, photos, folder)))
    local out = trains("kitchen_npid_cld", folder .. "/kitchen", "kitchen", "--epochs", "1")
    assert.matches("epoch 1/1  top1 [%d.]+ %%", out)
  end)
end)
