--- The recipes of MoCo v2 + CLD, run as a user runs them, on a few generated files: each trains an epoch; what their
-- options mean; stopping and resuming.
local cld = require "cld"
local process = require "spec.support.process"
local recipes = require "spec.support.recipes"

describe("MoCo v2 + CLD", function()
  local folder, photos
  setup(function()
    folder = recipes.start()
    photos = folder .. "/photos"
    assert(recipes.run("make_toy_data", "--out", photos, "--layout", "files", "--train", "44", "--test", "20",
      "--least-side", "16", "--most-side", "24").code == 0)
  end)
  teardown(recipes.remove)

  -- Two steps of 20 images in blocks of 7, 7 and 6, and 4 images that are left.
  local function arguments(data, run, ...)
    return "--data", data, "--runs", folder .. "/runs", "--name", run, "--epochs", "1", "--batch-size", "20", "--block",
      "8", "--size", "16", "--small", "--arch", "resnet18", "--width", "4", "--dim", "8", "--queue", "48", "--clusters",
      "4", "--threads", "1", "--knn-k", "10", "--device", "cpu", ...
  end
  local function train(name, data, run, ...) return recipes.run(name, arguments(data, run, ...)) end

  local function trains(name, data, run, ...)
    local result = train(name, data, run, ...)
    assert.equal(0, result.code, result.err)
    assert.matches("\ndone: %d epochs? ", result.out)
    return result.out
  end

  local function imagenet(name, wnids) return recipes.imagenet(folder .. "/" .. name, photos, wnids) end

  it("has the published settings", function()
    local found = recipes.defaults "imagenet_mocov2_cld"
    for option, value in pairs {
      arch = "resnet50", width = "64", head = "norm_mlp", dim = "128", size = "224", epochs = "200", lr = "0.2",
      ["batch-size"] = "512", block = "64", queue = "65536", ["moco-t"] = "0.2", ["moco-m"] = "0.999", queries = "2",
      clusters = "120", iterations = "5", ["cld-t"] = "0.4", lambda = "0.25", momentum = "0.9", ["lr-at"] = "0",
      ["weight-decay"] = "0.0001", schedule = "cosine-epochs", ["warmup-epochs"] = "0", ["lr-min"] = "0.0",
      accumulate = "1", ["cld-rows"] = "block", last = "drop", ["knn-every"] = "0", ["knn-k"] = "200",
      ["knn-t"] = "0.1",
    } do
      assert.equal(value, found[option], option)
    end
    found = recipes.defaults "imagenet100_mocov2_cld"
    assert.same({ "256", "0.1", "16384" }, { found["batch-size"], found.lr, found.queue })
  end)

  it("makes groups of the images of a folder, without being asked to", function()
    local found = recipes.defaults "folder_mocov2_cld"
    assert.is_true(tonumber(found.clusters) < tonumber(found.block))
  end)

  it("says so where the queue is larger than the data set", function()
    assert.matches("\n%-%-queue 48 is more than the 44 images: it holds old keys of every image as negatives\n",
      trains("folder_mocov2_cld", photos, "large-queue"))
    assert.is_nil(trains("folder_mocov2_cld", photos, "all-keys", "--queue", "44"):find "old keys")
  end)

  it("trains on a folder, its figures in the log", function()
    local out = trains("folder_mocov2_cld", photos, "folder")
    assert.matches("\nepoch 1/1  alignment [%d.]+  effective_rank [%d.]+  nmi [%d.]+  uniformity [%d.-]+\n"
      .. "epoch 1/1  top1 [%d.]+ %%", out)
    local epoch = recipes.last("folder", "epoch")
    for _, name in ipairs {
      "instance", "cld", "group_accuracy", "empty_groups", "alignment", "uniformity", "grad_norm",
    } do
      assert.equal("number", type(epoch.means[name]), name)
    end
    assert.same({ lr = 0.05 }, epoch.now)
    assert.is_true(recipes.last("folder", "diagnostics").values.effective_rank > 1)
    assert.equal(3, epoch.step) -- --last keep
  end)

  it("trains on ImageNet, without kNN and the last images unless they are asked for", function()
    local wnids = {}
    for i = 1, 44 do wnids[i] = ("n%08d"):format(i) end
    local root = imagenet("imagenet", wnids)
    local out = trains("imagenet_mocov2_cld", root, "imagenet")
    assert.is_nil(out:find "top1")
    assert.equal(2, recipes.last("imagenet", "epoch").step)
    out = trains("imagenet_mocov2_cld", root, "imagenet-knn", "--knn-every", "2", "--epochs", "3", "--last", "keep")
    assert.equal(1, select(2, out:gsub("\nepoch %d/3  top1", "")))
    assert.matches("\nepoch 2/3  top1", out)
    assert.equal(9, recipes.last("imagenet-knn", "epoch").step)
  end)

  it("trains on ImageNet-100 out of ImageNet", function()
    local wnids = table.move(require "cld.data.imagenet100", 1, 100, 1, {})
    wnids[101] = "n00000001"
    trains("imagenet100_mocov2_cld", imagenet("imagenet100", wnids), "hundred")
    assert.equal(5, recipes.last("hundred", "epoch").step)
  end)

  it("is judged on the classes of its run, or those that --classes names", function()
    local wnids = {}
    for i = 1, 44 do wnids[i] = ("n%08d"):format(i) end
    trains("imagenet_mocov2_cld", imagenet("judged", wnids), "judged")
    process.write(folder .. "/three.txt", "n00000001\nn00000007\nn00000044\n")
    local function queries(...)
      local run = ("%s/runs/judged"):format(folder)
      return recipes.run("knn", "--checkpoint", run, ...).out:match "memory of (%d+) images, (%d+) queries"
    end
    assert.same({ "44", "44" }, { queries() })
    assert.same({ "3", "3" }, { queries("--classes", folder .. "/three.txt") })
  end)

  it("is MoCo v2 with --lambda 0 --queries 1: two views, no group head", function()
    local out = trains("folder_mocov2_cld", photos, "baseline", "--lambda", "0", "--queries", "1", "--head", "mlp")
    assert.is_nil(out:find "group_accuracy")
    local state = cld.load(recipes.checkpoint "baseline")
    assert.is_not_nil(state["net.fc.2.weight"])
    assert.is_nil(state["net.groupDis.weight"])
    assert.equal(44 // 20 + 1, state["net.bn1.num_batches_tracked"]:item()) -- one query view a step
  end)

  it("has two query views and no group head with --lambda 0", function()
    trains("folder_mocov2_cld", photos, "no-cld", "--lambda", "0")
    local state = cld.load(recipes.checkpoint "no-cld")
    assert.is_nil(state["net.groupDis.weight"])
    assert.equal(2 * (44 // 20 + 1), state["net.bn1.num_batches_tracked"]:item())
  end)

  it("groups the rows of a block, or of the batch", function()
    assert.matches("%-%-clusters 7, and CLD sees 7 rows at a time: each is a group of its own",
      trains("folder_mocov2_cld", photos, "own-groups", "--clusters", "7"))
    local out = trains("folder_mocov2_cld", photos, "batch", "--clusters", "7", "--cld-rows", "batch")
    assert.is_nil(out:find "a group of its own")
  end)

  -- The average of equal weights is equal to a rounding: 0.999 w + 0.001 w.
  local function follows(state)
    local weight = state["net.conv1.weight"]
    return (state["keys.conv1.weight"] - weight):abs():le(1e-6 * weight:abs()):all():item() ~= 0
  end

  it("starts from a queue of rows of unit length, the key encoder as the encoder", function()
    local result = recipes.run_after(recipes.stopped_at(1, "TERM"), "folder_mocov2_cld",
      arguments(photos, "first", "--lr", "1e-30", "--queue", "60"))
    assert.equal(143, result.code, result.err)
    local state = cld.load(recipes.checkpoint "first")
    assert.is_true((state["queue.memory"]:square():sum(2) - 1):abs():max():item() < 1e-5)
    assert.equal(20, state["queue.pointer"]:item())
    assert.is_true(follows(state))
    assert.equal(1, state["net.bn1.running_mean"]:ne(state["keys.bn1.running_mean"]):any():item())
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
    local result = recipes.run_after(poisoned, "folder_mocov2_cld", arguments(photos, "poisoned", "--accumulate", "3"))
    assert.equal(143, result.code, result.err)
    local state = cld.load(recipes.checkpoint "poisoned")
    assert.same({ 0, 1 }, { state["queue.pointer"]:item(), state["sgd.skipped"]:item() })
    assert.is_true(follows(state))
  end)

  it("ends as if undisturbed where it was stopped in mid-epoch, in parts too", function()
    for parts = 1, 2 do
      local more = { "--epochs", "2", "--accumulate", tostring(parts) }
      local whole, stopped = "whole-" .. parts, "stopped-" .. parts
      trains("folder_mocov2_cld", photos, whole, table.unpack(more))
      local code = recipes.stopped_at(4 * parts, "TERM")
      local result = recipes.run_after(code, "folder_mocov2_cld", arguments(photos, stopped, table.unpack(more)))
      assert.equal(143, result.code, result.err)
      trains("folder_mocov2_cld", photos, stopped, "--resume", table.unpack(more))
      assert.equal("", recipes.differences(whole, stopped))
    end
  end)

  it("says so where a run is too short for the key encoder's momentum", function()
    local function told(fields)
      local script = process.write(folder .. "/told.lua", ([[
        local opt = { epochs = 200, batch_size = 128, queue = 128, moco_m = 0.999, last = "keep" }
        for name, value in pairs(%s) do opt[name] = value end
        require "cld".options.check_moco_v2_images(opt, 200)]]):format(fields))
      local result = process.run { script }
      assert.equal(0, result.code, result.err)
      return result.out
    end
    assert.equal("--moco-m 0.999 is for longer runs: after 400 steps 67 % of the key encoder are the weights that it"
      .. " began with; with --moco-m 0.989, 1 %\n", told "{}")
    for _, fields in ipairs { "{ moco_m = 0.99 }", "{ epochs = 2000 }", "{ epochs = 40 }" } do
      assert.equal("", told(fields))
    end
    assert.matches("after 200 steps", told '{ last = "drop" }')
  end)

  it("says which network a run has that cannot go on with another", function()
    trains("folder_mocov2_cld", photos, "begun")
    local result = train("folder_mocov2_cld", photos, "begun", "--resume", "--epochs", "2", "--head", "mlp")
    assert.equal(1, result.code)
    assert.matches("does not fit this run: 'net', 'keys': a resnet18 [^\n]*head = 'mlp'[^\n]* here, a resnet18"
      .. " [^\n]*head = 'norm_mlp'[^\n]* in it[^\n]*\n$", result.err)
    assert.is_nil(result.err:find "of another shape: instDis")
  end)

  it("refuses options that do not fit together, in a line", function()
    for pattern, change in pairs {
      ["'%-%-queries': 1 leaves CLD %(%-%-lambda 0.25%) no second view"] = { "--queries", "1" },
      ["'%-%-queue': expected at least the 20 of %-%-batch%-size, got 19"] = { "--queue", "19" },
      ["'%-%-accumulate': expected at most 3, the blocks of a batch .*, got 4"] = { "--accumulate", "4" },
      ["'%-%-accumulate': expected 1 with %-%-cld%-rows batch"] = { "--accumulate", "2", "--cld-rows", "batch" },
      ["'%-%-width': expected at least 16 with %-%-arch resnext50_32x4d, got 15"] = {
        "--arch", "resnext50_32x4d", "--width", "15" },
      ["'%-%-batch%-size': expected at most the 44 training images, since %-%-last drop .* got 45; %-%-last keep"] = {
        "--batch-size", "45", "--last", "drop" },
    } do
      local result = train("folder_mocov2_cld", photos, "never", "--runs", folder .. "/never", table.unpack(change))
      assert.equal(1, result.code)
      assert.matches("^cldlua: option " .. pattern .. "[^\n]*\n$", result.err)
      assert.is_nil(cld.io.exists(folder .. "/never/never"))
    end
  end)
end)
