--- A recipe that another recipe runs with its own images: cld.run.recipe(path, task) and cld.run.task.
local process = require "spec.support.process"

describe("a recipe that runs another", function()
  local folder, recipes
  setup(function()
    folder = process.temporary_folder()
    recipes = io.popen("pwd"):read "l" .. "/recipes/"
  end)
  teardown(function() process.remove(folder) end)

  -- Runs a recipe that has this task, for an epoch of 40 images as large as --size.
  local function run(base, sets, ...)
    local script = process.write(folder .. "/mine.lua", ([[
      local cld = require "cld"
      cld.options.defaults { epochs = 1, batch_size = 20, width = 16, clusters = 4, warmup_epochs = 0, knn_k = 5 }
      cld.run.recipe(%q, {
        about = "mine",
        options = {
        { "hue", 7, "of all images", min = 0, max = 255, integer = true }, cld.options.images { size = 16 } },
        sets = function(opt)
          local images = cld.full({ 40, opt.size, opt.size, 3 }, opt.hue, { dtype = "u8" })
          local set = cld.data.tensors { images = images, labels = cld.zeros({ 40 }, "i64") }
          return { train = set, views = cld.augment.base { size = opt.size }, %s }
        end,
      })]]):format(recipes .. base .. ".lua", sets))
    return process.run { script, "--runs", folder .. "/runs", "--threads", "1", ... }
  end

  for _, base in ipairs { "cifar10_npid_cld", "cifar10_moco_cld" } do
    it("takes its own images, " .. base, function()
      local result = run(base, "test = set", "--name", base)
      assert.equal(0, result.code, result.err)
      assert.matches("epoch 1/1  top1 100.00 %%", result.out)
    end)
  end

  it("has no score without a test set", function()
    local result = run("cifar10_npid_cld", "", "--name", "none")
    assert.equal(0, result.code, result.err)
    assert.is_nil(result.out:find "top1")
    assert.matches("done: 1 epoch in", result.out)
  end)

  it("has the run that the other has made", function()
    local script = process.write(folder .. "/outer.lua", ([[
      local cld = require "cld"
      cld.options.defaults { epochs = 1, batch_size = 20, width = 16, clusters = 4, warmup_epochs = 0, knn_k = 5 }
      local run = cld.run.recipe(%q)
      print(run.folder, run.opt.epochs, run.epochs_done)]]):format(recipes .. "cifar100_npid_cld.lua"))
    local toy, runs = folder .. "/toy", folder .. "/runs"
    local made = process.run { recipes .. "make_toy_data.lua", "--out", toy, "--train", "20", "--test", "10" }
    assert.equal(0, made.code, made.err)
    local result = process.run { script, "--dataset", "cifar10", "--data", toy, "--runs", runs, "--threads", "1",
      "--name", "inner" }
    assert.equal(0, result.code, result.err)
    assert.matches(folder:gsub("%p", "%%%0") .. "/runs/inner\t1\t1\n$", result.out)
  end)

  it("has its own options beside the method's", function()
    local result = run("cifar10_npid_cld", "", "--help")
    assert.matches("\nmine\n", result.out)
    for _, name in ipairs { "hue", "size", "stem", "nce-t", "lambda" } do
      assert.truthy(result.out:find("--" .. name, 1, true), name)
    end
    assert.is_nil(result.out:find("--dataset", 1, true))
  end)

  it("is refused a task that the recipe does not have", function()
    local script = process.write(folder .. "/wrong.lua",
      ([[require "cld".run.recipe(%q, { augment = 1 })]]):format(recipes .. "cifar10_npid_cld.lua"))
    local result = process.run { script }
    assert.equal(1, result.code)
    assert.matches("run.recipe: the recipe has no task 'augment'", result.err)
  end)

  it("is refused a task by a recipe that takes none", function()
    local script = process.write(folder .. "/none.lua",
      ([[require "cld".run.recipe(%q, { about = "x" })]]):format(process.write(folder .. "/empty.lua", "")))
    local result = process.run { script }
    assert.equal(1, result.code)
    assert.matches("run.recipe: '[^']*empty.lua' takes no task", result.err)
  end)
end)
