--- The recipes, run as a user runs them, on a few toy images: they train, and they can be killed and resumed.
local cld = require "cld"
local cifar = require "spec.support.cifar"
local process = require "spec.support.process"
local recipes = require "spec.support.recipes"

describe("recipes", function()
  local folder, toy
  local recipe, checkpoint, differences = recipes.run, recipes.checkpoint, recipes.differences
  local recipe_after, stopped_at = recipes.run_after, recipes.stopped_at

  -- Three epochs of three steps in runs/<run>, the last of 12 images.
  local function arguments(run, ...)
    return "--data", toy, "--runs", folder .. "/runs", "--name", run, "--epochs", "3", "--batch-size", "18", "--width",
      "16", "--low-dim", "16", "--clusters", "8", "--warmup-epochs", "1", "--threads", "1", "--knn-k", "20", ...
  end

  local function train(name, run, ...) return recipe(name, arguments(run, ...)) end

  setup(function() folder, toy = recipes.start() end)
  teardown(recipes.remove)

  local function trains(name, run, ...)
    local result = train(name, run, ...)
    assert.equal(0, result.code, result.err)
    assert.matches("done: 3 epochs", result.out)
    assert.matches("epoch 3/3  top1 [%d.]+ %%", result.out)
    for line in io.lines(("%s/runs/%s/log.jsonl"):format(folder, run)) do
      local event = cld.json.decode(line)
      for what, mean in pairs(event.means or {}) do
        assert.is_true(type(mean) == "number" and (mean >= 0 or what == "uniformity"),
          ("%s is %s"):format(what, tostring(mean)))
      end
    end
  end

  it("train NPID + CLD", function() trains("cifar10_npid_cld", "npid") end)
  it("train NPID with drawn negatives", function() trains("cifar10_npid_cld", "nce", "--nce-k", "32") end)
  it("train MoCo with groups by normalized cuts", function()
    trains("cifar10_moco_cld", "moco-ncut", "--queue", "40", "--grouping", "ncut", "--eigenvectors", "5")
  end)
  it("refuse a queue that is smaller than a batch", function()
    local result = recipes.run("cifar10_moco_cld", "--data", toy, "--batch-size", "16", "--queue", "15")
    assert.equal(1, result.code)
    assert.matches("cldlua: option '%-%-queue': expected at least the 16 of %-%-batch%-size, got 15\n$", result.err)
  end)
  it("say in one line that there is too little memory", function()
    local result = recipes.run("cifar10_moco_cld", arguments("large", "--queue", "16777216", "--low-dim", "65536"))
    assert.equal(1, result.code)
    assert.matches("^cldlua: recipes/cifar10_moco_cld.lua:%d+: [^\n]*: out of memory: wanted [^\n]*\n$",
      (result.err:gsub("no GPU is used[^\n]*\n", "")))
  end)
  it("train MoCo + CLD", function() trains("cifar10_moco_cld", "moco", "--queue", "40") end)
  it("train the other encoders", function()
    trains("cifar10_npid_cld", "resnet50", "--arch", "resnet50", "--schedule", "step", "--milestones", "1,2",
      "--gamma", "0.5", "--augment", "plus", "--erasing", "--no-winograd")
  end)

  it("have CIFAR-100's settings and read its files", function()
    local data, settings = folder .. "/cifar-100-python", {
      cifar100_npid_cld = { "clusters", "200" }, cifar100_moco_cld = { "lambda", "0.25" },
    }
    assert(os.execute("mkdir " .. data))
    cifar.write100(data, "python")
    for name, setting in pairs(settings) do
      local result = recipe(name, "--data", folder, "--runs", folder .. "/runs", "--epochs", "1", "--batch-size", "2",
        "--width", "4", "--threads", "1")
      assert.equal(0, result.code, result.err)
      assert.matches("dataset +cifar100", result.out)
      assert.matches(setting[1] .. " +" .. setting[2], result.out)
    end
  end)

  for _, name in ipairs { "cifar10_npid_cld", "cifar10_moco_cld" } do
    it("train without any CLD with --lambda 0: " .. name, function()
      local run = name .. "-lambda-0"
      local result = recipe_after("cld.losses.cld = nil", name, arguments(run, "--epochs", "1", "--lambda", "0"))
      assert.equal(0, result.code, result.err)
      assert.is_nil(result.out:find "group_accuracy")
      assert.is_nil(result.out:find "skipped")
      assert.matches("epoch 1/1  top1 [%d.]+ %%", result.out)
    end)
  end

  -- The loss is NaN from step `first` on, counted from 1; a SIGTERM in step `last`.
  local function poisoned(first, last)
    return stopped_at(last or 0, "TERM") .. ([[

      local counted = cld.losses.cld
      function cld.losses.cld(...)
        local value, hit = counted(...)
        return count >= %d and value * (0 / 0) or value, hit
      end]]):format(first)
  end

  it("change nothing in a step whose loss is not finite", function()
    local result = recipe_after(poisoned(1, 2), "cifar10_moco_cld", arguments("poisoned", "--queue", "40"))
    assert.equal(143, result.code, result.err)
    local state = cld.load(checkpoint "poisoned")
    assert.same({ 0, 2 }, { state["queue.pointer"]:item(), state["sgd.skipped"]:item() })
    for name, tensor in pairs(state) do
      local parameter = name:match "^keys%.(.*)$"
      if parameter and not parameter:find "running_" and not parameter:find "num_batches" then
        assert.equal(0, tensor:ne(state["net." .. parameter]):any():item(), name)
      end
    end
    result = recipe_after(poisoned(1, 2), "cifar10_npid_cld", arguments "poisoned-npid")
    assert.equal(143, result.code, result.err)
    cld.manual_seed(1)
    cld.models.resnet18_cifar { width = 16, low_dim = 16 }
    local bank = cld.losses.memory_bank { size = 48, dim = 16 }
    assert.equal(0, cld.load(checkpoint "poisoned-npid")["bank.memory"]:ne(bank.memory):any():item())
  end)

  it("end where they have diverged, the last good checkpoint as it was", function()
    local result = recipe_after(poisoned(4), "cifar10_npid_cld", arguments "diverged")
    assert.equal(1, result.code)
    assert.matches("^cldlua: epoch 2: the loss was not finite in any of 3 steps: [^\n]*diverged/checkpoint.safetensors "
      .. "is unchanged\n$", result.err)
    local _, metadata = cld.load(checkpoint "diverged")
    assert.equal("1", metadata.epoch)
    result = train("cifar10_npid_cld", "exploded", "--lr", "1e30", "--warmup-epochs", "0")
    assert.equal(1, result.code)
    assert.matches("^cldlua: epoch 1: features of the training images are not finite: the training has "
      .. "diverged [^\n]*; there is no checkpoint\n$", result.err)
    assert.is_nil(cld.io.exists(checkpoint "exploded"))
  end)

  it("cannot go on with other images in the middle of an epoch, and can with another batch size", function()
    assert.equal(143, recipe_after(stopped_at(5, "TERM"), "cifar10_npid_cld", arguments "order").code)
    local settings = folder .. "/runs/order/options.json"
    local before = process.read(settings)
    local other = folder .. "/toy-40"
    assert.equal(0, recipe("make_toy_data", "--out", other, "--train", "40", "--test", "16").code)
    for expected, change in pairs {
      ["%-%-seed %(2, was 1%)"] = { "--seed", "2" }, ["%-%-data %(40 images, was 48%)"] = { "--data", other },
    } do
      local result = train("cifar10_npid_cld", "order", "--resume", table.unpack(change))
      assert.equal(1, result.code)
      assert.matches("^cldlua: [^\n]*in the middle of epoch 2, where " .. expected .. " cannot change, [^\n]*\n$",
        result.err)
      assert.equal(before, process.read(settings))
    end
    local result = train("cifar10_npid_cld", "order", "--resume", "--batch-size", "24")
    assert.equal(0, result.code, result.err)
    assert.matches("changed on resume: .*batch_size 24 %(was 18%)", result.out)
  end)

  it("only fill the bank in --fill-epochs, and measure the normalizer of the negatives afterwards", function()
    assert.equal(143, recipe_after(stopped_at(3, "TERM"), "cifar10_npid_cld", arguments("filled", "--fill-epochs",
      "1", "--nce-k", "8")).code)
    local state = cld.load(checkpoint "filled")
    cld.manual_seed(1)
    for name, tensor in cld.models.resnet18_cifar { width = 16, low_dim = 16 }:named_parameters() do
      assert.equal(0, tensor:detach():ne(state["net." .. name]):any():item(), name)
    end
    assert.equal(0, state["bank.normalizer"]:item())
    local lengths = (state["bank.memory"] * state["bank.memory"]):sum(2)
    assert.is_true((lengths - 1):abs():max():item() < 1e-5)
    for name, tensor in pairs(state) do
      if name:find "^sgd%.momentum" then assert.same({ 0 }, tensor.shape) end
    end
  end)

  -- Three steps an epoch: a SIGTERM in the second step of the second epoch, then a kill -9 in the third.
  for name, case in pairs {
    ["NPID"] = { "cifar10_npid_cld", "bank.memory" },
    ["NPID with drawn negatives"] = { "cifar10_npid_cld", "bank.draws", "--nce-k", "8" },
    ["NPID by normalized cuts"] = { "cifar10_npid_cld", "bank.memory", "--grouping", "ncut" },
    ["MoCo"] = { "cifar10_moco_cld", "queue.pointer", "--queue", "40" },
  } do
    it("end as if undisturbed where stopped in the middle of an epoch, and killed: " .. name, function()
      local script, state = case[1], case[2]
      local undisturbed, stopped = name:gsub(" ", "-") .. "-a", name:gsub(" ", "-") .. "-b"
      local function start(code, more)
        return recipe_after(code, script, arguments(stopped, table.unpack(more or case, more and 1 or 3)))
      end
      assert.equal(0, train(script, undisturbed, table.unpack(case, 3)).code)
      assert.equal(143, start(stopped_at(5, "TERM")).code)
      local saved, metadata = cld.load(checkpoint(stopped))
      local position = cld.json.decode(metadata.position)
      assert.same({ 1, 2 }, { position.epoch, position.step_in_epoch })
      for _, tensor in ipairs { state, "net.bn1.running_mean", "sgd.momentum.1", "meters.sum.instance" } do
        assert.is_true(saved[tensor] ~= nil and saved[tensor]:numel() > 0, tensor)
      end
      assert.equal(137, start(stopped_at(1, "KILL"), { "--resume" }).code)
      local last = start("", { "--resume" })
      assert.equal(0, last.code, last.err)
      assert.matches("resumed from .*, after step 2 of epoch 2\n", last.out)
      assert.equal("", differences(undisturbed, stopped))
    end)
  end

  it("stop soon in an evaluation, and repeat it when resumed", function()
    -- The loader of an evaluation gives one view.
    local stop = [[
      local new_loader = cld.data.loader
      function cld.data.loader(options)
        if options.views == 1 then io.popen("kill -TERM " .. cld.host().pid):close() end
        return new_loader(options)
      end
      require("cld.eval.neighbours").scores = nil]]
    assert.equal(0, train("cifar10_npid_cld", "evaluated").code)
    local result = recipe_after(stop, "cifar10_npid_cld", arguments "evaluating")
    assert.equal(143, result.code, result.err)
    assert.matches("\nepoch 1/3  [^\n]* images/s  [^\n]*\ninterrupted %(SIGTERM%) after step 3 of epoch 1", result.out)
    result = train("cifar10_npid_cld", "evaluating", "--resume")
    assert.equal(0, result.code, result.err)
    local scores, events = {}, {}
    for line in io.lines(folder .. "/runs/evaluating/log.jsonl") do
      local event = cld.json.decode(line)
      events[event.event .. " " .. event.epoch] = (events[event.event .. " " .. event.epoch] or 0) + 1
      if event.event == "score" then scores[#scores + 1] = event.epoch end
    end
    assert.same({ 1, 2, 3 }, scores)
    assert.equal(1, events["epoch 1"])
    assert.equal("", differences("evaluated", "evaluating"))
  end)

  it("end with one line where they cannot write or read", function()
    local result = recipe("make_toy_data", "--out", "/proc/none")
    assert.same({ 1, "cldlua: cannot make the folder '/proc/none': No such file or directory\n" },
      { result.code, result.err })
    assert(os.execute("mkdir -p " .. folder .. "/full/cifar-10-batches-py/data_batch_1"))
    result = recipe("make_toy_data", "--out", folder .. "/full", "--train", "10", "--test", "10")
    assert.equal(1, result.code)
    assert.matches("^cldlua: cannot write '.*/data_batch_1': it is not a regular file\n$", result.err)
  end)

  it("leave no folder where they cannot start", function()
    for pattern, change in pairs {
      ["there is no folder '/nowhere'"] = { "--data", "/nowhere" },
      ["'%-%-batch%-size': expected an integer from 2 to 65536, got '1'"] = { "--batch-size", "1" },
      ["'%-%-fill%-epochs': expected fewer than the 3 of"] = { "--fill-epochs", "3" },
      ["'%-%-name': expected the name of a folder inside %-%-runs, got 'a/b'"] = { "--name", "a/b" },
      ["got '%.%.'"] = { "--name", ".." },
    } do
      local result = train("cifar10_npid_cld", "never", "--runs", folder .. "/never/deep", table.unpack(change))
      assert.equal(1, result.code)
      assert.matches("^cldlua: [^\n]*" .. pattern .. "[^\n]*\n$", result.err)
      assert.is_nil(cld.io.exists(folder .. "/never"))
    end
  end)

  it("score a checkpoint", function()
    trains("cifar10_npid_cld", "scored")
    local result = recipe("knn", "--checkpoint", checkpoint "scored", "--baselines")
    assert.equal(0, result.code, result.err)
    for _, row in ipairs { "raw pixels", "untrained network", "after 3 epochs" } do
      assert.matches(row .. " +top%-1 +[%d.]+ %%", result.out)
    end
    local function refused(pattern, ...)
      local failed = recipe("knn", "--checkpoint", ...)
      assert.equal(1, failed.code)
      assert.matches("^cldlua: [^\n]*" .. pattern .. "[^\n]*\n$", failed.err)
    end
    refused("there is no '[^\n]*none'; expected a run's folder", folder .. "/none")
    refused("set_num_threads: 100000 threads", checkpoint "scored", "--threads", "100000")
    local tensors, metadata = cld.load(checkpoint "scored")
    local diverged = {}
    for name, t in pairs(tensors) do diverged[name] = t.dtype == "f32" and t * (0 / 0) or t end
    cld.save(folder .. "/diverged", diverged, metadata)
    refused("features of %d+ of %d+ images are not finite: the checkpoint has diverged", folder .. "/diverged")
    local function foreign(pattern, pattern_of_options, replacement, states)
      local facts = {}
      for key, text in pairs(metadata) do facts[key] = text end
      facts.options = metadata.options:gsub(pattern_of_options, replacement)
      facts.description = nil -- as of a checkpoint that is older
      cld.save(folder .. "/foreign", states or tensors, facts)
      refused("foreign" .. pattern, folder .. "/foreign")
    end
    foreign(" does not say how its 'net' is made: it is older than that, or no constructor of cld.models made the net",
      "^.*$", "{}")
    foreign(" does not say where to find images like those of its run: give %-%-data and %-%-dataset",
      '"dataset":[^,]*,', "")
    foreign(": its option 'dataset' is 'mnist'; expected one of", '"cifar10"', '"mnist"')
    foreign(": its option 'arch' is 'vgg'; expected one of resnet18", '"resnet18"', '"vgg"')
    foreign(": its option 'width' is '16'; expected an integer from", '"width":16', '"width":"16"')
    foreign(" does not fit this run: 'net': .*of another shape: bn1.bias", '"width":16', '"width":8')
    foreign(": it has no object 'net'; it holds x", "^", "", { ["x.y"] = cld.zeros(1) })
  end)
end)
