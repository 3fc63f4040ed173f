--- recipes/pretrain.lua: what it chooses for which images and machine; it trains, continues, and refuses wrong input.
local cld = require "cld"
local pretrain = require "cld.pretrain"
local process = require "spec.support.process"
local recipes = require "spec.support.recipes"

describe("pretrain.choose", function()
  -- A view of `ms` milliseconds and `mb` megabytes at 32 pixels, and by the number of pixels at others.
  local function facts(given, ms, mb)
    local f = {
      data = "photos", images = 5000, classes = 10, test = 500, side = 300, looked = 500, bad = 0, cores = 4,
      memory = 16e9, ranks = 1, minutes = 480, linear_epochs = 20,
      cost = function(_, _, size)
        return { seconds = (ms or 5) / 1000 * (size / 32) ^ 2, bytes = (mb or 5) * 1e6 * (size / 32) ^ 2 }
      end,
    }
    for name, value in pairs(given or {}) do f[name] = value end
    return f
  end
  local function settings(...) return pretrain.choose(facts(...), {}).settings end
  local function method(...) return pretrain.choose(facts(...), {}).method end

  -- What a choice is to be, by the facts that make it so.
  local cases = {
    { "NPID for some thousand images in a night on a CPU", "method", { }, "npid" },
    { "NPID for few images, whatever time there is", "method", { images = 500, side = 32 }, "npid", 0.01 },
    { "MoCo v2 for a million images", "method", { images = 1000000, gpu = "H200" }, "mocov2", 0.01 },
    { "ResNet-50 for many images on a GPU", "arch", { images = 100000, gpu = "H200" }, "resnet50", 0.01 },
    { "ResNet-18 for many images on a CPU", "arch", { images = 100000 }, "resnet18", 0.01 },
    { "ResNet-18 for few images on a GPU", "arch", { images = 1000, gpu = "H200" }, "resnet18", 0.01 },
    { "224 pixels for photographs if there is time", "size", {}, 224, 0.01 },
    { "fewer pixels if there is not", "size", { minutes = 250 }, 96, 1 },
    { "but not fewer than 64 for want of time", "size", { minutes = 1 }, 64, 50 },
    { "no more pixels than half of the images have", "size", { side = 70 }, 64, 0.01 },
    { "32 pixels for tiny images", "size", { side = 7 }, 32, 0.01 },
    { "CIFAR's stem for tiny images", "stem", { side = 32 }, "cifar", 0.01 },
    { "the stem of photographs from 64 pixels on", "stem", { side = 64 }, "imagenet", 0.01 },
    { "as many epochs as help, and more of few images", "epochs", { images = 1000, side = 32 }, 800, 0.01 },
    { "fewer epochs of many images", "epochs", { images = 100000, side = 32 }, 200, 0.01 },
    { "as many epochs as the time has room for", "epochs", { minutes = 60, side = 32, classes = 0 }, 64 },
    { "fewer epochs of images that take long to read", "epochs",
      { minutes = 60, side = 32, classes = 0, reading = 0.01 }, 32 },
    { "fewer still if kNN reads them too", "epochs",
      { minutes = 60, side = 32, classes = 2, test = 0, linear_epochs = 0, reading = 0.02 }, 12 },
    { "as many beside a GPU that takes longer still", "epochs",
      { minutes = 60, side = 32, classes = 0, reading = 0.01, gpu = "H200" }, 64 },
    { "one epoch at least", "epochs", { minutes = 0.01, side = 32 }, 1, 50 },
    { "several steps an epoch of few images", "batch_size", { images = 100, side = 32 }, 8, 0.01 },
    { "no more than 256 images a step on a CPU", "batch_size", { images = 100000, side = 32 }, 256, 0.01 },
    { "a batch that fits into memory", "batch_size", { side = 32, memory = 1e9 }, 16, 0.01 },
    { "half as many groups as images in a batch", "clusters", { images = 600, side = 32 }, 32, 0.01 },
    { "no larger queue than there are images", "queue", { images = 200000, gpu = "H200" }, 65536, 0.01 },
    { "fewer neighbours of small classes", "knn_k", { images = 100, classes = 10, side = 32 }, 5, 0.01 },
    { "200 neighbours of large ones", "knn_k", { classes = 2 }, 200, 0.01 },
    { "twice the share of unreadable images that was seen", "max_bad", { bad = 0.02 }, 0.05, 0.01 },
  }
  for _, case in ipairs(cases) do
    local what, name, given, expected, ms, mb = table.unpack(case, 1, 6)
    it("takes " .. what, function()
      local chosen = name == "method" and method(given, ms, mb) or settings(given, ms, mb)[name]
      if math.type(expected) == "float" then
        assert.is_true(math.abs(chosen - expected) < 1e-12, tostring(chosen))
      else
        assert.equal(expected, chosen)
      end
    end)
  end

  it("takes what is given, and the rest fits it", function()
    local choice = pretrain.choose(facts({}, 0.01), { size = 32, method = "mocov2", epochs = 3 })
    assert.equal("mocov2", choice.method)
    assert.same({ 32, 3, true }, { choice.settings.size, choice.settings.epochs, choice.settings.small })
    assert.equal("as given", choice.why.size)
  end)

  it("leaves out settings that the method's recipe lacks", function()
    for name, of in pairs { npid = { "queue", "block", "small" }, mocov2 = { "stem" }, byol = { "queue", "small" } } do
      local s = pretrain.choose(facts {}, { method = name }).settings
      for _, setting in ipairs(of) do assert.is_nil(s[setting], name .. " " .. setting) end
    end
  end)

  it("counts on several ranks", function()
    local alone, four = settings({ side = 32 }, 50), settings({ side = 32, ranks = 4 }, 50)
    assert.is_true(four.epochs > 3 * alone.epochs, ("%d and %d"):format(alone.epochs, four.epochs))
  end)

  it("gives a reason for every choice that is told", function()
    local why = pretrain.choose(facts {}, {}).why
    for _, name in ipairs { "arch", "size", "method", "epochs", "batch_size" } do
      assert.matches("%a+ %a+", why[name])
    end
  end)
end)

describe("recipes/pretrain.lua", function()
  local folder, photos
  setup(function()
    folder = recipes.start()
    photos = folder .. "/photos"
    local made = recipes.run("make_toy_data", "--out", photos, "--layout", "files", "--train", "40", "--test", "20",
      "--least-side", "34", "--most-side", "50")
    assert(made.code == 0, made.err)
  end)
  teardown(recipes.remove)

  local function run(data, name, ...)
    return recipes.run("pretrain", "--data", data, "--runs", folder .. "/runs", "--name", name, "--threads", "1",
      "--device", "cpu", ...)
  end
  local function tiny(data, name, ...)
    return run(data, name, "--width", "16", "--epochs", "1", "--linear-epochs", "2", ...)
  end

  local function refused(data, pattern, ...)
    local result = tiny(data, "refused", ...)
    assert.equal(1, result.code)
    assert.matches("^cldlua: [^\n]*" .. pattern .. "[^\n]*\n$", result.err)
    assert.is_nil(cld.io.exists(folder .. "/runs/refused/log.jsonl"))
  end

  it("says what it takes and why, trains, and evaluates", function()
    local result = tiny(photos, "whole")
    assert.equal(0, result.code, result.err)
    assert.matches("photos: 40 images to train on of 10 classes, 20 more to test by; median shorter side %d+ pixels; ",
      result.out)
    assert.matches("\n  method +NPID %+ CLD +%a", result.out)
    assert.matches("\n  size +32 pixels +as large as most of the images\n", result.out)
    assert.matches("\n  epochs +1, about [%d:]+ +as given\n", result.out)
    assert.matches("epoch 1/1  top1 [%d.]+ %%", result.out)
    assert.matches("\nlinear classifier on the frozen features, 2 epochs: top%-1 [%d.]+ %% of 20 test images\n$",
      result.out)
    assert.matches("\nthe encoder's weights are in [^\n]*/whole/torchvision.pth: the first of these lines is done\n",
      result.out)
  end)

  it("names the recipe that lacks an option, though another one has it", function()
    refused(photos, "unknown option '%-%-small' of folder_npid_cld.lua, which was chosen", "--small")
    refused(photos, "unknown option '%-%-nce%-t' of folder_byol_cld.lua", "--method", "byol", "--nce-t", "0.2")
    refused(photos, "chosen; did you mean '%-%-clusters'%? %(folder_npid_cld.lua %-%-help", "--cluster", "2")
  end)

  it("refuses a folder that stands alone, without --data", function()
    local result = recipes.run("pretrain", photos)
    assert.matches("^cldlua: unexpected argument '" .. photos:gsub("%p", "%%%0") .. "'[^\n]*\n$", result.err)
  end)

  it("says in one line that it was interrupted before the run", function()
    local result = recipes.run_after([[
      local cld = require "cld"
      require "cld.pretrain.look".facts = function()
        io.popen("kill -INT " .. cld.host().pid):close()
        while true do end
      end]], "pretrain", "--data", photos)
    assert.equal(130, result.code)
    assert.matches("^cldlua: interrupted while looking[^\n]*; no run was begun\n$", result.err)
  end)

  it("keeps what it chose with the run", function()
    local stored = cld.json.decode(process.read(folder .. "/runs/whole/options.json"))
    assert.same({ "npid", 32, 8, 4 }, { stored.method, stored.size, stored.batch_size, stored.clusters })
  end)

  it("leaves a report, and the weights for torchvision where the run's lines read them", function()
    local path = folder .. "/runs/whole/"
    assert.same({ "file", "file" }, { cld.io.exists(path .. "report.html"), cld.io.exists(path .. "torchvision.pth") })
    assert.same({ 16, 3, 3, 3 }, cld.load(path .. "torchvision.pth")["conv1.weight"].shape)
  end)

  it("goes on with the method and settings that it began with", function()
    local result = recipes.run("pretrain", "--runs", folder .. "/runs", "--name", "whole", "--resume", "--epochs", "2",
      "--linear-epochs", "0")
    assert.equal(0, result.code, result.err)
    assert.matches("resumed from [^\n]*after epoch 1", result.out)
    assert.matches("done: 2 epochs", result.out)
    assert.is_nil(result.out:find("\n  method ", 1, true))
    assert.is_nil(result.out:find("linear classifier", 1, true))
  end)

  it("refuses to go on with another method", function()
    local result = recipes.run("pretrain", "--resume", folder .. "/runs/whole", "--method", "byol")
    assert.equal(1, result.code)
    assert.matches("^cldlua: option '%-%-method': [^\n]* goes on with %-%-method npid", result.err)
  end)

  for _, method in ipairs { "mocov2", "byol" } do
    it("trains by --method " .. method .. ", on images without classes", function()
      local plain = folder .. "/plain"
      os.execute(("mkdir -p %s && cp %s/train/*/* %s"):format(plain, photos, plain))
      local result = tiny(plain, method, "--method", method)
      assert.equal(0, result.code, result.err)
      assert.matches("plain: 40 images to train on, no classes; ", result.out)
      assert.matches("done: 1 epoch in", result.out)
      assert.is_nil(result.out:find("linear classifier", 1, true))
    end)
  end

  it("measures on a GPU if there is one", function()
    local result = process.run { "-e", ([[
      local look = require "cld.pretrain.look"
      local facts = look.facts {
        data = %q, layout = "auto", holdout = 0.1, upright = false, seed = 1, threads = 1, device = "cuda", minutes = 0,
        linear_epochs = 0, width = 8,
      }
      local cost = facts.cost("resnet18", "cifar", 64)
      print(facts.gpu, facts.memory > 0, cost.seconds > 0, cost.bytes > 64 * 64 * 8 * 4)]]):format(photos) }
    local said = result.err
    if said:find "no GPU" or said:find "no NVIDIA" or said:find "built without CUDA" then return pending "no GPU" end
    assert.equal("", result.err)
    assert.matches("^%S[^\t]*\ttrue\ttrue\ttrue\n$", result.out)
  end)

  it("lists its options with --help, and looks at nothing", function()
    local result = recipes.run("pretrain", "--help", "--data", "/nowhere")
    assert.equal(0, result.code)
    for _, name in ipairs { "data", "minutes", "method", "epochs" } do assert.matches("%-%-" .. name, result.out) end
  end)

  it("shows no default with --help that a run does not have", function()
    local function defaults(recipe)
      local help = recipes.run(recipe, "--help").out:gsub("\n          +", " "):gsub("\n +", "\n")
      local found = {}
      for name, rest in help:gmatch "\n%-%-(%S+)([^\n]*)" do found[name] = rest:match "default: ([^)]*)" or "none" end
      return found
    end
    local shown = defaults "pretrain"
    assert.equal("chosen from the images and the machine", shown["batch-size"])
    for _, method in pairs(pretrain.methods) do
      local own = defaults(method.recipe:match "^(.*)%.lua$")
      for name, default in pairs(shown) do
        local is_own = name == "minutes" or name == "method" or name == "linear-epochs" -- pretrain.lua's
        local is_told = default:find "^chosen" or default == "the recipe's"
        local what = ("%s --%s: %s"):format(method.recipe, name, default)
        assert.is_truthy(is_own or is_told or default == own[name], what)
      end
    end
  end)

  it("allows some broken files, and says which share", function()
    local some = folder .. "/some"
    os.execute(("cp -r %s/train %s && for f in $(ls %s/*/* | head -3); do echo > $f; done"):format(photos, some, some))
    local result = tiny(some, "some", "--holdout", "0")
    assert.equal(0, result.code, result.err)
    assert.matches("\n  max%-bad +0.16 +7.5 %% of the images looked at cannot be read, such as [^\n]*some/", result.out)
  end)

  it("refuses a folder of nothing but broken files", function()
    local broken = folder .. "/broken"
    os.execute(("cp -r %s/train %s && for f in %s/*/*; do echo > $f; done"):format(photos, broken, broken))
    refused(broken, "none of the 40 images looked at can be read, such as", "--holdout", "0")
  end)

  it("refuses a folder that is not there, and an empty one", function()
    os.execute(("mkdir %s/empty"):format(folder))
    refused(folder .. "/nowhere", "nowhere")
    refused(folder .. "/empty", "empty")
  end)

  it("refuses a single image, and three of three classes", function()
    os.execute(("mkdir -p %s/one && cp %s/train/dots/00006.* %s/one"):format(folder, photos, folder))
    refused(folder .. "/one", "one: 1 image to train on; expected 16 or more")
    os.execute(("for c in dots rings rows; do mkdir -p %s/three/$c; cp $(ls %s/train/$c/* | head -1) %s/three/$c; done")
      :format(folder, photos, folder))
    refused(folder .. "/three", "three: 3 images to train on; expected 16 or more")
  end)

  it("says how many of too few images are held out", function()
    os.execute(("for c in dots rings; do mkdir -p %s/few/$c; cp $(ls %s/train/*/* | head -8) %s/few/$c; done"):format(
      folder, photos, folder))
    refused(folder .. "/few", "few: 14 images to train on, as %-%-holdout keeps 2 of 16 from training; expected 16 or")
  end)

  it("trains on images smaller than any view", function()
    local small = folder .. "/small"
    local made = recipes.run("make_toy_data", "--out", small, "--layout", "files", "--train", "20", "--test", "10",
      "--least-side", "8", "--most-side", "20")
    assert.equal(0, made.code, made.err)
    local result = tiny(small, "small")
    assert.equal(0, result.code, result.err)
    assert.matches("\n  size +32 pixels ", result.out)
  end)
end)
