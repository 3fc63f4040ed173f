--- recipes/finetune.lua as a user runs it: a grid on a recipe's checkpoint, stopping and resuming, how other recipes
-- treat its own checkpoint, lists of labels, and wrong options.
local cld = require "cld"
local files = require "spec.support.data_files"
local process = require "spec.support.process"
local recipes = require "spec.support.recipes"

describe("finetune", function()
  local folder, toy, start
  local recipe, checkpoint, differences = recipes.run, recipes.checkpoint, recipes.differences

  local function ok(...)
    local result = recipe(...)
    if result.code ~= 0 then error(result.out .. result.err, 2) end
    return result.out
  end

  local function refused(pattern, ...)
    local result = recipe("finetune", ...)
    assert.equal(1, result.code, result.out)
    assert.matches("^cldlua: [^\n]*" .. pattern .. "[^\n]*\n$", result.err)
  end

  local function arguments(name, ...)
    return "--checkpoint", start, "--runs", folder .. "/runs", "--name", name, "--labels", "0.5", "--lr", "0.05,0.01",
      "--head-lr", "1,10", "--epochs", "2", "--batch-size", "8", "--threads", "1", "--workers", "0", ...
  end

  setup(function()
    folder, toy = recipes.start()
    ok("cifar10_npid_cld", "--data", toy, "--runs", folder .. "/runs", "--name", "npid", "--epochs", "1",
      "--batch-size", "24", "--width", "2", "--low-dim", "4", "--clusters", "4", "--warmup-epochs", "0",
      "--threads", "1", "--knn-k", "7", "--knn-t", "0.2")
    start = checkpoint "npid"
  end)
  teardown(recipes.remove)

  describe("over a grid", function()
    local out
    setup(function() out = ok("finetune", arguments "grid") end)

    it("trains each combination and puts them into a table, the best told", function()
      assert.matches("\ncifar10 train, 50 %% of the labels: 24 images, 50 %% of the labels; 16 to test by\n", out)
      for i, rates in ipairs { "0.05, of the new layer 0.05", "0.05, of the new layer 0.5",
        "0.01, of the new layer 0.01", "0.01, of the new layer 0.1" } do
        assert.truthy(out:find(("\ntraining %d of 4: lr %s\n"):format(i, rates), 1, true), rates)
      end
      assert.matches("\nepoch 8/8  top1 [%d.]+ %%", out)
      assert.matches("\n +lr +head x +top1 +top5 +best epoch\n", out)
      assert.matches("\n +0.05 +1 +[%d.]+ %% +[%d.]+ %% +[%d.]+ %%, epoch [12]\n", out)
      assert.matches("\nlast epoch: top%-1 [%d.]+ %%, top%-5 [%d.]+ %% %(lr [%d.]+, head x %d+%); best epoch: top%-1 "
        .. "[%d.]+ %%, epoch [12]\n$", out)
    end)

    it("leaves a checkpoint that knn and the linear evaluation take up", function()
      local top1 = out:match "\nlast epoch: top%-1 ([%d.]+) %%"
      local knn = ok("knn", "--checkpoint", folder .. "/runs/grid")
      assert.matches("grid/checkpoint.safetensors: classifier { classes = 10, dim = 16, [^\n]*, that of [^\n]*npid/"
        .. "[^\n]*, after 1 epoch, fine%-tuned\n", knn)
      assert.matches("\nk 7, T 0.2, layer features, memory of 48 images", knn)
      assert.matches("\nfine%-tuned +top%-1 ", knn)
      local net = cld.models.load(folder .. "/runs/grid")
      local test = cld.data.cifar10 { root = toy, split = "test" }
      local logits, labels = cld.eval.features(net, test, { layer = "instance" })
      assert.equal(top1, ("%.2f"):format(100 * cld.eval.accuracy(logits, labels)))
    end)

    it("goes on where it was stopped, bit for bit, without the first checkpoint", function()
      local other = folder .. "/moved.safetensors"
      assert(os.execute(("cp %s %s"):format(start, other)))
      local stop = [[
        local count, loss = 0, cld.cross_entropy
        function cld.cross_entropy(...)
          count = count + 1
          if count == 8 then io.popen("kill -TERM " .. cld.host().pid):close() end
          return loss(...)
        end]]
      local result = recipes.run_after(stop, "finetune", arguments("stopped", "--checkpoint", other))
      assert.equal(143, result.code, result.err)
      os.remove(other)
      local again = ok("finetune", "--runs", folder .. "/runs", "--name", "stopped", "--resume")
      assert.matches("resumed from .*, after step 2 of epoch 3\n", again)
      assert.equal("", differences("grid", "stopped"))
      assert.equal(out:match "\n( +lr +head x.*)$", again:match "\n( +lr +head x.*)$")
    end)

    it("is not resumed as another grid, with other labels, their seed or epochs", function()
      for option, value in pairs { lr = "0.1", labels = "1", seed = "9", epochs = "3", ["head-lr"] = "1" } do
        refused(("option '%%-%%-%s': "):format(option:gsub("%-", "%%-")) .. "[^\n]* goes on with ", "--runs",
          folder .. "/runs", "--name", "grid", "--resume", "--" .. option, value)
      end
    end)
  end)

  describe("on a folder", function()
    local photos
    local function on_folder(name, ...)
      return "--checkpoint", start, "--runs", folder .. "/runs", "--name", name, "--dataset", "folder", "--data",
        photos, "--lr", "0.01", "--head-lr", "1", "--epochs", "1", "--batch-size", "4", "--threads", "1", "--workers",
        "0", ...
    end

    setup(function()
      photos = folder .. "/photos"
      for i = 1, 6 do
        for c, class in ipairs { "a", "b" } do
          for _, part in ipairs { "train", "test" } do
            files.write(("%s/%s/%s/%s%d.ppm"):format(photos, part, class, class, i),
              files.ppm(32, 32, { 30 * i, 100 * c, 0 }))
          end
        end
      end
    end)

    it("trains on the files that a list names", function()
      local out = ok("finetune", on_folder("listed", "--list", process.write(folder .. "/list.txt",
        "a1.ppm\na2.ppm\nb6.ppm\n")))
      assert.matches(": 3 images, 25 %% of the labels; 12 to test by\n", out)
      assert.matches("\nlast epoch: top%-1 ", out)
    end)

    it("says how many names of a list are no training images, and the first", function()
      refused("list.txt, line 2: 'c1.ppm' is not among the 12 images of [^\n]* %(2 of 4 names are not%)",
        on_folder("unknown", "--list", process.write(folder .. "/list.txt", "a1.ppm\nc1.ppm\nb1.ppm\nd1.ppm\n")))
    end)

    it("refuses a list that leaves a class without an image", function()
      refused("fine%-tuning: 1 of the 2 classes of [^\n]* have no image %(the first: 'b' %(label 1%)%); a larger share",
        on_folder("absent", "--list", process.write(folder .. "/list.txt", "a1.ppm\na2.ppm\n")))
    end)
  end)

  it("refuses a share that leaves a class without an image", function()
    refused("fine%-tuning: 6 of the 10 classes of cifar10 train, 10 %% of the labels have no image [^\n]* a larger",
      arguments("share", "--labels", "0.1"))
  end)

  it("refuses rates that are no list of numbers", function()
    refused("option '%-%-lr': expected different numbers, each above 0, separated by commas, got '0.1,x'",
      arguments("rates", "--lr", "0.1,x"))
    refused("option '%-%-head%-lr': expected different numbers, each above 0, [^\n]* got '1,1'",
      arguments("rates", "--head-lr", "1,1"))
  end)

  it("refuses a weight decay below 0 that is not the protocol's", function()
    refused("option '%-%-weight%-decay': expected %-1 or at least 0, got %-0.5",
      arguments("decay", "--weight-decay", "-0.5"))
  end)

  it("refuses batches of one image", function()
    refused("option '%-%-batch%-size': expected at least 2, since batch norm is trained, got 1",
      arguments("single", "--batch-size", "1"))
  end)

  it("takes SwAV's rates for their share only, or those that it is given", function()
    refused("option '%-%-protocol': swav has rates for 1 %% and 10 %% of the labels, and these are 50 %%",
      "--checkpoint", start, "--runs", folder .. "/runs", "--name", "swav", "--labels", "0.5", "--protocol", "swav",
      "--threads", "1")
  end)
end)
