--- The recipes, run as a person runs them, on a few toy images: they train, they can be killed and resumed.
local cld = require "cld"
local cifar = require "spec.support.cifar"
local process = require "spec.support.process"

describe("recipes", function()
  local folder, toy

  local function recipe(name, ...)
    return process.run { "recipes/" .. name .. ".lua", ... }
  end

  -- Three epochs of three steps in runs/<run>.
  local function arguments(run, ...)
    return "--data", toy, "--runs", folder .. "/runs", "--name", run, "--epochs", "3", "--batch-size", "16", "--width",
      "16", "--low-dim", "16", "--clusters", "8", "--warmup-epochs", "1", "--threads", "1", "--knn-k", "20", ...
  end

  local function train(name, run, ...) return recipe(name, arguments(run, ...)) end

  local function checkpoint(run) return ("%s/runs/%s/checkpoint.safetensors"):format(folder, run) end

  -- The names of the tensors in which two runs differ.
  local function differences(a, b)
    local state, other = cld.load(checkpoint(a)), cld.load(checkpoint(b))
    local names = {}
    for name, tensor in pairs(state) do
      if not other[name] or tensor:ne(other[name]):any():item() ~= 0 then names[#names + 1] = name end
    end
    for name in pairs(other) do
      if not state[name] then names[#names + 1] = name end
    end
    return table.concat(names, ", ")
  end

  setup(function()
    folder = process.temporary_folder()
    toy = folder .. "/toy"
    local made = recipe("make_toy_data", "--out", toy, "--train", "48", "--test", "16")
    assert.equal(0, made.code, made.err)
  end)
  teardown(function() process.remove(folder) end)

  local function trains(name, run, ...)
    local result = train(name, run, ...)
    assert.equal(0, result.code, result.err)
    assert.matches("done: 3 epochs", result.out)
    assert.matches("epoch 3/3  top1 [%d.]+ %%", result.out)
    for line in io.lines(("%s/runs/%s/log.jsonl"):format(folder, run)) do
      local event = cld.json.decode(line)
      for what, mean in pairs(event.means or {}) do
        assert.is_true(type(mean) == "number" and mean >= 0, ("%s is %s"):format(what, tostring(mean)))
      end
    end
  end

  it("train NPID + CLD", function() trains("cifar10_npid_cld", "npid") end)
  it("train plain NPID with --lambda 0", function() trains("cifar10_npid_cld", "plain", "--lambda", "0") end)
  it("train NPID with drawn negatives", function() trains("cifar10_npid_cld", "nce", "--nce-k", "32") end)
  it("train MoCo + CLD", function() trains("cifar10_moco_cld", "moco", "--queue", "40") end)
  it("train the other encoders", function()
    trains("cifar10_npid_cld", "resnet50", "--arch", "resnet50", "--schedule", "step", "--milestones", "1,2")
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

  for name, extra in pairs { cifar10_npid_cld = { "--nce-k", "8" }, cifar10_moco_cld = { "--queue", "40" } } do
    it("end as if undisturbed where killed and resumed: " .. name, function()
      local undisturbed, killed = name .. "-a", name .. "-b"
      assert.equal(0, train(name, undisturbed, table.unpack(extra)).code)
      local first = process.run {
        program = "timeout", "-s", "KILL", "0.8", process.cldlua, "recipes/" .. name .. ".lua",
        arguments(killed, table.unpack(extra)),
      }
      assert.is_true(first.code == 137 or first.code == 0, first.err)
      local second = train(name, killed, "--resume", table.unpack(extra))
      assert.equal(0, second.code, second.err)
      assert.equal("", differences(undisturbed, killed))
    end)
  end

  it("score a checkpoint", function()
    trains("cifar10_npid_cld", "scored")
    local result = recipe("knn", "--checkpoint", checkpoint "scored", "--baselines", "--knn-k", "20")
    assert.equal(0, result.code, result.err)
    for _, row in ipairs { "raw pixels", "untrained network", "after 3 epochs" } do
      assert.matches(row .. " +top%-1 +[%d.]+ %%", result.out)
    end
    local missing = recipe("knn", "--checkpoint", folder .. "/none")
    assert.equal(1, missing.code)
    assert.matches("none'?: No such file", missing.err)
  end)
end)
