--- The recipes of BYOL + CLD and of SimCLR, and those of MoCo + CLD for STL-10 and Kitchen-HC, run as a user runs them,
-- on a few generated images: each trains an epoch; what their options mean; stopping and resuming.
local cld = require "cld"
local files = require "spec.support.data_files"
local recipes = require "spec.support.recipes"

describe("BYOL + CLD and SimCLR", function()
  local folder, toy, photos
  setup(function()
    folder, toy = recipes.start()
    photos = folder .. "/photos"
    assert(recipes.run("make_toy_data", "--out", photos, "--layout", "files", "--train", "40", "--test", "20",
      "--least-side", "16", "--most-side", "24").code == 0)
  end)
  teardown(recipes.remove)

  local small = {
    byol = { "--hidden", "8", "--projection-dim", "6", "--clusters", "4" },
    simclr = { "--hidden", "8", "--projection-dim", "6", "--clusters", "4" },
    moco = { "--queue", "16", "--clusters", "4" },
  }

  -- Three steps of an epoch of 48 toy images.
  local function arguments(name, data, run, ...)
    local list = {
      "--data", data, "--runs", folder .. "/runs", "--name", run, "--epochs", "1", "--batch-size", "16", "--width", "2",
      "--threads", "1", "--knn-k", "5", "--device", "cpu",
    }
    for _, more in ipairs { small[name:match "_(%l+)"], { ... } } do table.move(more, 1, #more, #list + 1, list) end
    return table.unpack(list)
  end
  local function train(name, data, run, ...) return recipes.run(name, arguments(name, data, run, ...)) end

  local function trains(name, data, run, ...)
    local result = train(name, data, run, ...)
    assert.equal(0, result.code, result.err)
    assert.matches("\ndone: %d epochs? ", result.out)
    return result.out
  end

  local function fails(message, name, data, ...)
    local result = train(name, data, "never", ...)
    assert.equal(1, result.code)
    assert.matches("^cldlua: [^\n]*" .. message .. "[^\n]*\n$", result.err)
  end

  local settings = {
    cifar10_byol_cld = {
      augment = "byol", arch = "resnet18",
      hidden = "1024", ["projection-dim"] = "256", tau = "0.99", ["tau-schedule"] = "constant",
      ["byol-scale"] = "1.0", lambda = "0.25", ["cld-t"] = "0.2", clusters = "128", ["cld-rows"] = "batch",
      ["low-dim"] = "128", ["batch-size"] = "256", lr = "0.06", ["lr-at"] = "128", ["weight-decay"] = "0.0005",
      momentum = "0.9", optimizer = "sgd", epochs = "200", schedule = "cosine", ["warmup-epochs"] = "0",
      ["lr-min"] = "0.0", accumulate = "1", last = "keep", ["knn-k"] = "200", ["knn-t"] = "0.1",
    },
    cifar100_byol_cld = { dataset = "cifar100", clusters = "128", lr = "0.06" },
    stl10_byol_cld = { size = "96", clusters = "128" },
    kitchen_byol_cld = { size = "32", clusters = "10" },
    folder_byol_cld = { size = "224", ["batch-size"] = "64", clusters = "32" },
    imagenet_byol_cld = {
      arch = "resnet50", head = "norm_mlp", dim = "128", hidden = "4096", ["projection-dim"] = "256", tau = "0.99",
      ["tau-schedule"] = "cosine", ["byol-scale"] = "4.0", lambda = "1.0", ["cld-t"] = "0.4", clusters = "120",
      block = "64", ["cld-rows"] = "block", ["batch-size"] = "4096", lr = "0.45", ["lr-at"] = "256",
      ["weight-decay"] = "1e-06", optimizer = "lars", ["lars-eta"] = "0.001", epochs = "100", ["warmup-epochs"] = "10",
      ["warmup-factor"] = "0", ["lr-min"] = "0.0", last = "drop", ["knn-every"] = "0", size = "224",
    },
    imagenet100_byol_cld = {
      classes = "imagenet100", ["batch-size"] = "256", lr = "0.5", epochs = "400", optimizer = "lars", lambda = "1.0",
      ["weight-decay"] = "1e-06",
    },
    cifar10_simclr = {
      augment = "simclr", arch = "resnet18",
      hidden = "512", ["projection-dim"] = "128", ["simclr-t"] = "0.5", lambda = "0.0",
      ["batch-size"] = "512", lr = "1.0", ["lr-at"] = "256", ["weight-decay"] = "0.0001", optimizer = "lars",
      epochs = "1000", ["warmup-epochs"] = "10", ["warmup-factor"] = "0",
    },
    stl10_moco_cld = { size = "96", augment = "base", queue = "4096", clusters = "200" },
    kitchen_moco_cld = { size = "32", augment = "base", clusters = "10" },
  }
  for name, expected in pairs(settings) do
    it("has its settings: " .. name, function()
      local found = recipes.defaults(name)
      for option, value in pairs(expected) do assert.equal(value, found[option], option) end
    end)
  end

  it("trains, its figures in the log, and is judged by the other recipes", function()
    local out = trains("cifar10_byol_cld", toy, "byol", "--epochs", "2", "--tau-schedule", "cosine")
    assert.matches("\nepoch 2/2  alignment [%d.]+  effective_rank [%d.]+  nmi [%d.]+  uniformity [%d.-]+\n"
      .. "epoch 2/2  top1 [%d.]+ %%", out)
    local epoch = recipes.last("byol", "epoch")
    for _, name in ipairs {
      "instance", "cld", "group_accuracy", "empty_groups", "alignment", "uniformity", "grad_norm",
    } do
      assert.equal("number", type(epoch.means[name]), name)
    end
    assert.equal(6, epoch.step)
    assert.is_true(epoch.now.tau > 0.99 and epoch.now.tau < 1)
    local path = recipes.checkpoint "byol"
    local judged = recipes.run("knn", "--checkpoint", path)
    assert.equal(0, judged.code, judged.err)
    assert.matches("projector = { dim = 6, hidden = 8 }", judged.out)
    assert.matches("layer features", judged.out)
    local linear = recipes.run("linear", "--checkpoint", path, "--runs", folder .. "/runs", "--name", "byol-linear",
      "--epochs", "1", "--device", "cpu")
    assert.equal(0, linear.code, linear.err)
    local features = recipes.run("features", "--checkpoint", path, "--data", photos .. "/test", "--out",
      folder .. "/features")
    assert.equal(0, features.code, features.err)
  end)

  it("has a target of trunk and projector that follows slowly, with statistics of its own", function()
    trains("cifar10_byol_cld", toy, "target", "--lr", "1e-30", "--weight-decay", "0")
    local state, compared = cld.load(recipes.checkpoint "target"), 0
    for name, tensor in pairs(state) do
      local own = name:match "^target%.(.*)$"
      if own and not own:find "running_" and not own:find "num_batches" then
        local weight = state["net." .. own]
        local near = (tensor - weight):abs():le(1e-5 * weight:abs() + 1e-20)
        assert.is_true(near:all():item() ~= 0, own) -- it began as a copy
        compared = compared + 1
      end
    end
    assert.is_true(compared > 60)
    assert.is_not_nil(state["target.projector.layers.3.weight"])
    assert.is_not_nil(state["predictor.layers.3.weight"])
    assert.is_nil(state["target.groupDis.0.weight"])
    assert.equal(6, state["target.bn1.num_batches_tracked"]:item()) -- two views in each of three steps
    assert.equal(6, state["net.projector.layers.1.num_batches_tracked"]:item())
  end)

  it("leaves network and target alone in a step whose loss is not finite", function()
    local more = { "--tau", "0.5" }
    local poisoned = [[
      local count, loss = 0, cld.losses.byol
      function cld.losses.byol(...)
        count = count + 1
        return count == 3 and loss(...) * (0 / 0) or loss(...)
      end]]
    local result = recipes.run_after(poisoned, "cifar10_byol_cld", arguments("cifar10_byol_cld", toy, "skipped",
      table.unpack(more)))
    assert.equal(0, result.code, result.err)
    assert.matches("skipped 1", result.out)
    assert.equal(143, recipes.run_after(recipes.stopped_at(2, "TERM"), "cifar10_byol_cld",
      arguments("cifar10_byol_cld", toy, "two-steps", table.unpack(more))).code)
    local differing = recipes.differences("skipped", "two-steps"):gsub("[%w_.]*running_%w+", ""):gsub(
      "[%w_.]*num_batches_tracked", ""):gsub("meters[%w_.]*", ""):gsub("optimizer.skipped", "")
    assert.equal("", (differing:gsub("[, ]", "")))
  end)

  it("is the method without CLD with --lambda 0: no group head", function()
    for name, run in pairs { cifar10_byol_cld = "byol-plain", cifar10_simclr = "simclr-plain" } do
      local out = trains(name, toy, run, "--lambda", "0")
      assert.is_nil(out:find "group_accuracy")
      assert.is_nil(cld.load(recipes.checkpoint(run))["net.groupDis.0.weight"])
    end
    assert.matches("group_accuracy", trains("cifar10_simclr", toy, "simclr-cld", "--lambda", "0.25"))
    assert.is_not_nil(cld.load(recipes.checkpoint "simclr-cld")["net.groupDis.0.weight"])
  end)

  it("makes a step in micro-batches, and groups their blocks", function()
    local out = trains("cifar10_byol_cld", toy, "micro", "--accumulate", "3", "--cld-rows", "block", "--block", "3",
      "--clusters", "3")
    assert.matches("%-%-clusters 3, and CLD sees 3 rows at a time: each is a group of its own", out)
    assert.equal(6, cld.load(recipes.checkpoint "micro")["net.bn1.num_batches_tracked"]:item())
  end)

  it("trains on other data", function()
    files.stl10(folder, { train = { 1, 2, 3, 1, 2, 3, 1, 2 }, test = { 1, 2, 3, 1 }, unlabeled = 4 })
    assert(os.execute(("mkdir %s/kitchen && cp -r %s %s/kitchen/Kitchen-HC"):format(folder, photos, folder)))
    for name, data in pairs {
      stl10_byol_cld = folder, stl10_moco_cld = folder, kitchen_byol_cld = folder .. "/kitchen",
      kitchen_moco_cld = folder .. "/kitchen", folder_byol_cld = photos,
    } do
      local out = trains(name, data, name, "--batch-size", "8", "--size", "16")
      assert.matches("epoch 1/1  top1 [%d.]+ %%", out)
    end
    assert.matches("\n%-%-queue 16 is more than the 8 images", trains("stl10_moco_cld", folder, "queue", "--size", "16",
      "--batch-size", "4"))
  end)

  it("trains on ImageNet, and on ImageNet-100 out of it", function()
    local wnids = table.move(require "cld.data.imagenet100", 1, 100, 1, {})
    wnids[101] = "n00000001"
    local root = recipes.imagenet(folder .. "/imagenet", photos, wnids)
    for name, steps in pairs { imagenet_byol_cld = 5, imagenet100_byol_cld = 5 } do
      local out = trains(name, root, name, "--batch-size", "20", "--accumulate", "2", "--block", "5", "--size", "16",
        "--small", "--arch", "resnet18", "--dim", "8")
      assert.is_nil(out:find "top1")
      assert.equal(steps, recipes.last(name, "epoch").step)
      assert.is_not_nil(cld.load(recipes.checkpoint(name))["net.fc.0.weight"])
      assert.is_nil(cld.load(recipes.checkpoint(name))["target.fc.0.weight"])
    end
  end)

  it("takes CLD's views instead of its own", function()
    for name, run in pairs { cifar10_byol_cld = "byol-base", cifar10_simclr = "simclr-base" } do
      local own = name .. "-own"
      trains(name, toy, own)
      trains(name, toy, run, "--augment", "base")
      assert.is_not.equal(recipes.last(own, "epoch").means.instance, recipes.last(run, "epoch").means.instance)
    end
  end)

  it("leaves out a last batch of one image", function()
    for name, run in pairs { cifar10_byol_cld = "byol-one", cifar10_simclr = "simclr-one" } do
      trains(name, toy, run, "--batch-size", "47")
      assert.equal(1, recipes.last(run, "epoch").step)
    end
  end)

  it("says what is wrong with its options", function()
    fails("'%-%-batch%-size': expected an integer from 2 to 65536, got '1'", "cifar10_byol_cld", toy, "--batch-size",
      "1")
    fails("'%-%-accumulate': expected at most 8, since batch norm needs two images in a micro%-batch "
      .. "%(%-%-batch%-size 16%), got 9", "cifar10_byol_cld", toy, "--accumulate", "9")
    fails("'%-%-batch%-size': expected at most the 48 training images, since %-%-last drop", "cifar10_byol_cld", toy,
      "--batch-size", "49", "--last", "drop")
    fails("'%-%-simclr%-t': expected a number above 0, got '0'", "cifar10_simclr", toy, "--simclr-t", "0")
    fails("'%-%-tau': expected a number from 0 to 1, got '2'", "cifar10_byol_cld", toy, "--tau", "2")
  end)

  -- Three steps an epoch: a SIGTERM in the second step of the second epoch.
  for name, tensor in pairs { cifar10_byol_cld = "target.bn1.running_mean", cifar10_simclr = "net.bn1.running_mean" } do
    it("ends as if undisturbed where stopped in the middle of an epoch: " .. name, function()
      local more = { "--epochs", "2", "--lambda", "0.25", "--optimizer", "lars" }
      local whole, stopped = name .. "-whole", name .. "-stopped"
      trains(name, toy, whole, table.unpack(more))
      local result = recipes.run_after(recipes.stopped_at(5, "TERM"), name,
        arguments(name, toy, stopped, table.unpack(more)))
      assert.equal(143, result.code, result.err)
      local saved, metadata = cld.load(recipes.checkpoint(stopped))
      assert.equal(2, cld.json.decode(metadata.position).step_in_epoch)
      for _, entry in ipairs { tensor, "optimizer.momentum.1" } do assert.is_true(saved[entry]:numel() > 0, entry) end
      assert.matches("resumed from .*, after step 2 of epoch 2\n", trains(name, toy, stopped, "--resume",
        "--epochs", "2"))
      assert.equal("", recipes.differences(whole, stopped))
    end)
  end

  it("is read after a change of its recipe's settings by what it says of itself", function()
    trains("cifar10_byol_cld", toy, "described", "--lambda", "0")
    local net, about = cld.models.load(recipes.checkpoint "described")
    assert.same({ "instance" }, about.description.settings.branches)
    assert.equal("features", about.layer)
    assert.same({ 2, 16 }, net:eval():features(cld.ones { 2, 3, 32, 32 }).shape)
    local target = cld.models.load(recipes.checkpoint "described", { object = "target" })
    assert.same({ 2, 6 }, target:eval()(cld.ones { 2, 3, 32, 32 }).shape)
    local _, problem = pcall(cld.models.load, recipes.checkpoint "described", { object = "predictor" })
    assert.matches("does not say how its 'predictor' is made", tostring(problem))
  end)
end)
