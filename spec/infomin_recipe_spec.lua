--- The recipes of InfoMin + CLD, run as a user runs them, on a few generated files: each trains an epoch; what their
-- options mean; stopping and resuming; their networks in the evaluation recipes.
local cld = require "cld"
local process = require "spec.support.process"
local recipes = require "spec.support.recipes"

describe("InfoMin + CLD", function()
  local folder, photos
  setup(function()
    folder = recipes.start()
    photos = folder .. "/photos"
    assert(recipes.run("make_toy_data", "--out", photos, "--layout", "files", "--train", "44", "--test", "20",
      "--least-side", "16", "--most-side", "24").code == 0)
  end)
  teardown(recipes.remove)

  -- Two steps of 20 images in blocks of 7, 7 and 6, and 4 images that are left; patches of 5 pixels.
  local function arguments(run, ...)
    return "--data", photos, "--runs", folder .. "/runs", "--name", run, "--epochs", "1", "--batch-size", "20",
      "--block", "8", "--size", "16", "--small", "--arch", "resnet18", "--width", "4", "--dim", "8", "--queue", "44",
      "--clusters", "4", "--threads", "1", "--knn-k", "10", "--device", "cpu", ...
  end
  local function train(run, ...) return recipes.run("folder_infomin_cld", arguments(run, ...)) end

  local function trains(run, ...)
    local result = train(run, ...)
    assert.equal(0, result.code, result.err)
    assert.matches("\ndone: %d epochs? ", result.out)
    return result.out
  end

  it("has the published settings", function()
    local found = recipes.defaults "imagenet_infomin_cld"
    for option, value in pairs {
      arch = "resnet50", width = "64", head = "norm_mlp", dim = "128", size = "224", epochs = "100", lr = "0.2",
      ["batch-size"] = "512", block = "64", queue = "65536", ["moco-t"] = "0.15", ["moco-m"] = "0.999", queries = "2",
      beta = "0.5", jigsaw = "yes", ["double-enqueue"] = "no", clusters = "120", iterations = "5", ["cld-t"] = "0.8",
      lambda = "0.25", momentum = "0.9", ["lr-at"] = "0", ["weight-decay"] = "0.0001", schedule = "infomin",
      accumulate = "1", ["cld-rows"] = "block", last = "drop", ["knn-every"] = "0",
    } do
      assert.equal(value, found[option], option)
    end
    found = recipes.defaults "imagenet100_infomin_cld"
    assert.same({ "256", "0.1", "16384" }, { found["batch-size"], found.lr, found.queue })
    found = recipes.defaults "folder_infomin_cld"
    assert.is_true(tonumber(found.clusters) < tonumber(found.block))
  end)

  it("trains, and the linear evaluation, kNN and the features take its network", function()
    local out = trains "whole"
    assert.matches("\nepoch 1/1  alignment [%d.]+  effective_rank [%d.]+  nmi [%d.]+  uniformity [%d.-]+\n"
      .. "epoch 1/1  top1 [%d.]+ %%", out)
    local epoch = recipes.last("whole", "epoch")
    for _, name in ipairs { "instance", "cld", "group_accuracy", "empty_groups", "alignment", "grad_norm" } do
      assert.equal("number", type(epoch.means[name]), name)
    end
    local state = cld.load(recipes.checkpoint "whole")
    for _, name in ipairs { "encoder.conv1.weight", "head.0.weight", "proj2.0.weight", "head_jig.fc1.2.weight",
      "head_jig.fc2.weight" } do
      assert.is_not_nil(state["net." .. name], name)
    end
    assert.equal(3 * 3, state["net.encoder.bn1.num_batches_tracked"]:item()) -- two views and the patches a step
    assert.equal(1, state["net.proj2.0.weight"]:ne(state["keys.proj2.0.weight"]):any():item())

    local checkpoint = folder .. "/runs/whole"
    local function ok(name, ...)
      local result = recipes.run(name, "--checkpoint", checkpoint, "--threads", "1", "--device", "cpu", ...)
      assert.equal(0, result.code, result.err)
      return result.out
    end
    out = ok("linear", "--protocol", "infomin", "--runs", folder .. "/runs", "--name", "linear", "--epochs", "2",
      "--batch-size", "10")
    assert.matches("layout = 'infomin'", out)
    local probe = cld.load(recipes.checkpoint "linear")
    assert.equal(0, probe["net.encoder.conv1.weight"]:ne(state["net.encoder.conv1.weight"]):any():item())
    assert.matches("layer features.*top%-1 +[%d.]+ %%", ok("knn", "--knn-k", "5"))
    ok("features", "--data", photos .. "/test", "--out", folder .. "/features")
  end)

  it("has each kind of head, whichever it is its network is judged", function()
    for _, head in ipairs { "linear", "mlp" } do
      trains("head-" .. head, "--head", head, "--no-jigsaw", "--knn-every", "0")
      local result = recipes.run("knn", "--checkpoint", folder .. "/runs/head-" .. head, "--threads", "1", "--knn-k",
        "5")
      assert.equal(0, result.code, result.err)
    end
  end)

  it("is InfoMin with --lambda 0 --queries 1", function()
    local out = trains("plain", "--lambda", "0", "--queries", "1", "--head", "mlp")
    assert.is_nil(out:find "group_accuracy")
    local state = cld.load(recipes.checkpoint "plain")
    assert.is_not_nil(state["net.head.2.weight"])
    assert.is_not_nil(state["net.head_jig.fc1.2.bias"])
    assert.is_nil(state["net.proj2.0.weight"])
    assert.equal(2 * 3, state["net.encoder.bn1.num_batches_tracked"]:item()) -- a view and the patches
  end)

  it("enqueues the keys twice if it is asked to", function()
    trains("once", "--knn-every", "0", "--queue", "100", "--last", "drop")
    trains("twice", "--knn-every", "0", "--queue", "100", "--last", "drop", "--double-enqueue")
    local function pointer(run) return cld.load(recipes.checkpoint(run))["queue.pointer"]:item() end
    assert.same({ 40, 80 }, { pointer "once", pointer "twice" })
    local memory = cld.load(recipes.checkpoint "twice")["queue.memory"]
    assert.equal(0, memory:narrow(1, 1, 20):ne(memory:narrow(1, 21, 20)):any():item())
  end)

  it("moves the key encoder after the step", function()
    trains("after", "--moco-m", "0", "--knn-every", "0")
    local state = cld.load(recipes.checkpoint "after")
    for _, name in ipairs { "encoder.conv1.weight", "head_jig.fc2.weight" } do
      assert.equal(0, state["net." .. name]:ne(state["keys." .. name]):any():item(), name)
    end
  end)

  it("enqueues nothing and changes nothing where a part of a step is not finite", function()
    local poisoned = [[
      local counted, count = cld.losses.cld, 0
      function cld.losses.cld(...)
        count = count + 1
        local value, hit, empty = counted(...)
        if count == 2 then io.popen("kill -TERM " .. cld.host().pid):close() end
        return count == 2 and value * (0 / 0) or value, hit, empty
      end]]
    local result = recipes.run_after(poisoned, "folder_infomin_cld", arguments("poisoned", "--accumulate", "3",
      "--moco-m", "0"))
    assert.equal(143, result.code, result.err)
    local state = cld.load(recipes.checkpoint "poisoned")
    assert.same({ 0, 1 }, { state["queue.pointer"]:item(), state["sgd.skipped"]:item() })
    assert.equal(0, state["net.proj1.0.weight"]:ne(state["keys.proj1.0.weight"]):any():item())
  end)

  it("ends as if undisturbed where it was stopped in mid-epoch", function()
    for name, more in pairs { once = { "--accumulate", "2" }, twice = { "--double-enqueue" } } do
      local parts, options = name == "once" and 2 or 1, { "--epochs", "2", "--knn-every", "0", table.unpack(more) }
      trains("undisturbed-" .. name, table.unpack(options))
      local result = recipes.run_after(recipes.stopped_at(4 * parts, "TERM"), "folder_infomin_cld",
        arguments("stopped-" .. name, table.unpack(options)))
      assert.equal(143, result.code, result.err)
      trains("stopped-" .. name, "--resume", table.unpack(options))
      assert.equal("", recipes.differences("undisturbed-" .. name, "stopped-" .. name))
    end
  end)

  it("refuses options that do not fit together, in a line", function()
    for pattern, change in pairs {
      ["'%-%-queries': 1 leaves CLD %(%-%-lambda 0.25%) no second view"] = { "--queries", "1" },
      ["'%-%-queue': expected at least the 20 of %-%-batch%-size, got 19"] = { "--queue", "19" },
      ["'%-%-queue': expected at least 40 with %-%-double%-enqueue, twice the 20 of %-%-batch%-size, got 39"] = {
        "--queue", "39", "--double-enqueue" },
      ["'%-%-warmup%-epochs': the schedule infomin has its own warm%-up; expected 0, [^\n]*, got 3"] = {
        "--warmup-epochs", "3" },
      ["'%-%-batch%-size': expected .*2.*, got '1'"] = { "--batch-size", "1" },
      ["'%-%-accumulate': expected 1 with %-%-double%-enqueue, whose second call needs all keys .*, got 2"] = {
        "--double-enqueue", "--accumulate", "2" },
      ["'%-%-double%-enqueue': with %-%-queries 1 there is no second call"] = {
        "--double-enqueue", "--queries", "1", "--lambda", "0" },
      ["'%-%-width': expected at least 8 with %-%-arch resnext101v2, got 7"] = {
        "--arch", "resnext101v2", "--width", "7" },
    } do
      local result = train("never", "--runs", folder .. "/never", table.unpack(change))
      assert.equal(1, result.code)
      assert.matches("^cldlua: option " .. pattern .. "[^\n]*\n$", result.err)
      assert.is_nil(cld.io.exists(folder .. "/never/never"))
    end
  end)

  it("trains on ImageNet and on ImageNet-100 out of it", function()
    local root, commands = folder .. "/imagenet", {}
    local wnids = table.move(require "cld.data.imagenet100", 1, 100, 1, {})
    wnids[101] = "n00000001"
    local image = io.popen(("ls %s/train/*/*.jpg | head -1"):format(photos)):read "l"
    for _, wnid in ipairs(wnids) do
      for _, split in ipairs { "train", "val" } do
        local class = ("%s/%s/%s"):format(root, split, wnid)
        commands[#commands + 1] = ("mkdir -p %s && cp %s %s/1.JPEG"):format(class, image, class)
      end
    end
    process.write(folder .. "/make.sh", table.concat(commands, "\n"))
    assert(os.execute(("sh %s/make.sh"):format(folder)))
    for recipe, steps in pairs { imagenet_infomin_cld = 101 // 20, imagenet100_infomin_cld = 5 } do
      local result = recipes.run(recipe, arguments(recipe, "--data", root))
      assert.equal(0, result.code, result.err)
      assert.equal(steps, recipes.last(recipe, "epoch").step)
    end
  end)
end)
