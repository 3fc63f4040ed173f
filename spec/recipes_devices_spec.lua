--- The recipes on a device with captured training steps: they end bit for bit as with plain steps.
local devices = require "spec.support.devices"
local recipes = require "spec.support.recipes"

devices.each("recipes", function(device)
  local folder, toy
  setup(function() folder, toy = recipes.start() end)
  teardown(recipes.remove)

  -- Four steps an epoch: the first two are made before one is captured.
  local function train(name, run, ...)
    local result = recipes.run(name, "--data", toy, "--runs", folder .. "/runs", "--name", run, "--device", device,
      "--precision", "fp32", "--batch-size", "12", "--width", "4", "--low-dim", "8", "--clusters", "4",
      "--warmup-epochs", "1", "--knn-k", "5", ...)
    assert.equal(0, result.code, result.err)
  end

  it("end with captured steps as with plain ones", function()
    for run, graph in pairs { plain = "--no-graph", captured = "--graph" } do
      train("cifar10_npid_cld", run, graph, "--epochs", "2", "--fill-epochs", "1", "--nce-k", "8")
    end
    assert.equal("", recipes.differences("plain", "captured"))
  end)

  it("end with captured steps as with plain ones by normalized cuts", function()
    for run, graph in pairs { ["ncut-plain"] = "--no-graph", ["ncut-captured"] = "--graph" } do
      train("cifar10_npid_cld", run, graph, "--epochs", "1", "--grouping", "ncut", "--width", "2")
    end
    assert.equal("", recipes.differences("ncut-plain", "ncut-captured"))
  end)

  it("evaluate linearly with captured steps as with plain ones", function()
    train("cifar10_npid_cld", "network", "--epochs", "1")
    for run, graph in pairs { ["linear-plain"] = "--no-graph", ["linear-captured"] = "--graph" } do
      local result = recipes.run("linear", "--checkpoint", recipes.checkpoint "network", "--runs", folder .. "/runs",
        "--name", run, "--device", device, "--batch-size", "10", "--epochs", "2", "--lr", "1", graph)
      assert.equal(0, result.code, result.err)
    end
    assert.equal("", recipes.differences("linear-plain", "linear-captured"))
  end)

  -- Four steps a training, of which the last two are replayed; the optimizer of the next training is another one.
  it("fine-tune over a grid with captured steps as with plain ones", function()
    train("cifar10_npid_cld", "untuned", "--epochs", "1", "--width", "2")
    for run, graph in pairs { ["tuned-plain"] = "--no-graph", ["tuned-captured"] = "--graph" } do
      local result = recipes.run("finetune", "--checkpoint", recipes.checkpoint "untuned", "--runs", folder .. "/runs",
        "--name", run, "--device", device, "--precision", "fp32", "--labels", "0.5", "--batch-size", "12", "--epochs",
        "2", "--lr", "0.01", "--head-lr", "1,10", graph)
      assert.equal(0, result.code, result.err)
    end
    assert.equal("", recipes.differences("tuned-plain", "tuned-captured"))
  end)

  it("end with captured steps, and resumed, as with plain ones", function()
    train("cifar10_moco_cld", "moco-plain", "--no-graph", "--queue", "40", "--epochs", "2")
    train("cifar10_moco_cld", "moco-captured", "--queue", "40", "--epochs", "1")
    train("cifar10_moco_cld", "moco-captured", "--resume", "--epochs", "2")
    assert.equal("", recipes.differences("moco-plain", "moco-captured"))
  end)

  for recipe, more in pairs {
    cifar10_byol_cld = { "--accumulate", "2", "--tau-schedule", "cosine" }, cifar10_simclr = { "--lambda", "0.25" },
  } do
    it("end with captured steps as with plain ones: " .. recipe, function()
      local plain, captured = recipe .. "-plain", recipe .. "-captured"
      table.move({ "--hidden", "8", "--projection-dim", "6", "--optimizer", "lars" }, 1, 6, #more + 1, more)
      train(recipe, plain, "--no-graph", "--epochs", "1", table.unpack(more))
      train(recipe, captured, "--epochs", "1", table.unpack(more))
      assert.equal("", recipes.differences(plain, captured))
    end)
  end

  -- Three steps an epoch of 12 images in blocks of 4, in two parts.
  it("end with captured steps in parts, and resumed, as with plain ones: MoCo v2 + CLD", function()
    local photos = folder .. "/photos"
    assert.equal(0, recipes.run("make_toy_data", "--out", photos, "--layout", "files", "--train", "36", "--test", "10",
      "--least-side", "8", "--most-side", "12").code)
    local function trains(run, ...)
      local result = recipes.run("folder_mocov2_cld", "--data", photos, "--runs", folder .. "/runs", "--name", run,
        "--device", device, "--precision", "fp32", "--batch-size", "12", "--block", "4", "--accumulate", "2", "--size",
        "16", "--small", "--width", "2", "--dim", "8", "--clusters", "3", "--queue", "30", "--knn-every", "0", ...)
      assert.equal(0, result.code, result.err)
    end
    trains("mocov2-plain", "--no-graph", "--epochs", "2")
    trains("mocov2-captured", "--epochs", "1")
    trains("mocov2-captured", "--resume", "--epochs", "2")
    assert.equal("", recipes.differences("mocov2-plain", "mocov2-captured"))
  end)

  it("end with captured steps as with plain ones, in parts or with keys enqueued twice: InfoMin + CLD", function()
    local photos = folder .. "/few-photos"
    assert.equal(0, recipes.run("make_toy_data", "--out", photos, "--layout", "files", "--train", "24", "--test", "10",
      "--least-side", "8", "--most-side", "12").code)
    local function trains(run, ...)
      local result = recipes.run("folder_infomin_cld", "--data", photos, "--runs", folder .. "/runs", "--name", run,
        "--device", device, "--precision", "fp32", "--batch-size", "6", "--block", "3", "--size", "16", "--small",
        "--width", "2", "--dim", "8", "--clusters", "3", "--queue", "30", "--epochs", "1", "--knn-every",
        "0", ...)
      assert.equal(0, result.code, result.err)
    end
    for method, option in pairs { once = { "--accumulate", "2" }, twice = { "--double-enqueue" } } do
      trains(method .. "-plain", "--no-graph", table.unpack(option))
      trains(method .. "-captured", table.unpack(option))
      assert.equal("", recipes.differences(method .. "-plain", method .. "-captured"))
    end
  end)

  -- 8 and 4 images: the step of the last is captured in the third epoch, with more clusters than it has rows.
  for recipe, option in pairs { cifar10_npid_cld = { "--nce-k", "8" }, cifar10_moco_cld = { "--queue", "30" } } do
    it("end with a captured step for the short last batch as with plain ones: " .. recipe, function()
      local few = folder .. "/few"
      assert.equal(0, recipes.run("make_toy_data", "--out", few, "--train", "12", "--test", "10").code)
      for run, graph in pairs { [recipe .. "-plain"] = "--no-graph", [recipe .. "-captured"] = "--graph" } do
        train(recipe, run, graph, "--data", few, "--batch-size", "8", "--width", "2", "--clusters", "6", "--epochs",
          "3", table.unpack(option))
      end
      assert.equal("", recipes.differences(recipe .. "-plain", recipe .. "-captured"))
    end)
  end
end)
