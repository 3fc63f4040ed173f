--- The recipes that evaluate a checkpoint, run as a user runs them: knn, linear and features take any recipe's
-- checkpoint, say what they use, and follow what the checkpoint says about its network.
local cld = require "cld"
local check = require "spec.support.check"
local cifar = require "spec.support.cifar"
local cifar_writer = require "cld.cifar_writer"
local files = require "spec.support.data_files"
local process = require "spec.support.process"
local recipes = require "spec.support.recipes"

describe("recipes that judge a checkpoint", function()
  local folder, toy, trained, trained_metadata
  local recipe, checkpoint, differences = recipes.run, recipes.checkpoint, recipes.differences

  local function ok(...)
    local result = recipe(...)
    if result.code ~= 0 then error(result.out .. result.err, 2) end
    return result.out
  end

  local function refused(pattern, ...)
    local result = recipe(...)
    assert.equal(1, result.code, result.out)
    assert.matches("^cldlua: [^\n]*" .. pattern .. "[^\n]*\n$", result.err)
  end

  local function metadata_of(path) return select(2, cld.load(path)) end

  setup(function()
    folder, toy = recipes.start()
    ok("cifar10_npid_cld", "--data", toy, "--runs", folder .. "/runs", "--name", "npid", "--epochs", "1",
      "--batch-size", "24", "--width", "4", "--low-dim", "8", "--clusters", "4", "--warmup-epochs", "0",
      "--threads", "1", "--knn-k", "7", "--knn-t", "0.2", "--keep-checkpoints", "1")
    trained = checkpoint "npid"
    trained_metadata = metadata_of(trained)
  end)
  teardown(recipes.remove)

  for _, kept in ipairs { "best", "checkpoint-1" } do
    it("take a run's " .. kept .. ".safetensors", function()
      local path = folder .. "/runs/npid/" .. kept .. ".safetensors"
      assert.matches(path:gsub("%p", "%%%0") .. ": resnet18_cifar {[^\n]*}, after 1 epoch\n",
        ok("knn", "--checkpoint", path, "--device", "cpu", "--threads", "1"))
    end)
  end

  -- The checkpoint with other metadata; nil as json.null.
  local function changed(name, facts)
    local all = {}
    for key, value in pairs(trained_metadata) do all[key] = value end
    for key, value in pairs(facts) do all[key] = value ~= cld.json.null and value or nil end
    local path = folder .. "/" .. name
    cld.save(path, (cld.load(trained)), all)
    return path
  end

  describe("the checkpoint of a recipe", function()
    it("says how its networks are made, which images they take, and what is compared", function()
      local said = cld.json.decode(trained_metadata.description)
      assert.equal("resnet18_cifar", said.models.net.constructor)
      assert.equal(4, said.models.net.settings.width)
      assert.equal("instance", said.layer)
      assert.same({ k = 7, temperature = 0.2 }, said.knn)
      assert.same(cld.augment.none():to_table(), said.test_view)
    end)

    it("is a network with cld.models.load", function()
      local net, about = cld.models.load(folder .. "/runs/npid")
      assert.same({ "cldlua", "resnet18_cifar", 1, "instance" },
        { about.layout, about.arch, about.epoch, about.layer })
      assert.equal(tostring(cld.augment.none()), tostring(about.test_view))
      local state = cld.load(trained)
      for name, tensor in pairs(net:state_dict()) do
        assert.equal(0, tensor:ne(state["net." .. name]):any():item(), name)
      end
    end)
  end)

  describe("knn", function()
    it("goes by the run's own k, T, layer and images, and says so", function()
      local out = ok("knn", "--checkpoint", folder .. "/runs/npid")
      assert.matches("npid/checkpoint.safetensors: resnet18_cifar { [^\n]*width = 4 }, after 1 epoch\n", out)
      assert.matches("\nk 7, T 0.2, layer instance, memory of 48 images, 16 queries\n", out)
      assert.matches("\nimages: resize { size = { 32, 32 }[^\n]*normalize { mean = { 0.4914, ", out)
      local score
      for line in io.lines(folder .. "/runs/npid/log.jsonl") do
        local event = cld.json.decode(line)
        if event.event == "score" then score = event.values end
      end
      local expected = ("top-1 %5.1f %%   top-5 %5.1f %%"):format(100 * score.top1, 100 * score.top5)
      assert.truthy(out:find(expected, 1, true), out)
    end)

    it("goes by what it is given", function()
      local out = ok("knn", "--checkpoint", trained, "--knn-k", "3", "--knn-t", "0.5", "--layer", "features", "--size",
        "16", "--baselines")
      assert.matches("\nk 3, T 0.5, layer features, ", out)
      assert.matches("\nimages: resize { size = { 16, 16 }", out)
      assert.matches("\nuntrained network +top%-1", out)
    end)

    it("scores a checkpoint that is older than descriptions, by its options", function()
      local old = changed("old.safetensors", { description = cld.json.null })
      local expected = assert(ok("knn", "--checkpoint", trained):match "after 1 epoch +(top[^\n]*)")
      assert.equal(expected, ok("knn", "--checkpoint", old):match "after 1 epoch +(top[^\n]*)")
    end)

    it("says what is wrong with a description", function()
      refused("broken: damaged checkpoint: its description", "knn", "--checkpoint",
        changed("broken", { description = "{" }))
      local said = cld.json.decode(trained_metadata.description)
      said.models.net.constructor = "resnet19_cifar"
      refused("unknown: its 'net' is a resnet19_cifar, which is not defined here: %-%-require FILE", "knn",
        "--checkpoint", changed("unknown", { description = cld.json.encode(said) }))
      said.models.net = { constructor = "resnet18_cifar", settings = { width = 8, low_dim = 8 } }
      refused("other does not fit this run: 'net': .*of another shape: .*; its 'net' is a resnet18_cifar { low_dim",
        "knn", "--checkpoint", changed("other", { description = cld.json.encode(said) }))
      said.test_view[1].op = "stretch"
      refused("its test view: .*step 1 is of the kind 'stretch'", "knn", "--checkpoint",
        changed("view", { description = cld.json.encode(said) }))
    end)

    it("scores weights that name no epoch as these, not as a published number", function()
      local path = folder .. "/weights.safetensors"
      cld.save(path, cld.models.resnet18({ small = true, width = 4, head = false }):state_dict())
      local out = ok("knn", "--checkpoint", path, "--data", toy, "--dataset", "cifar10")
      assert.matches("weights.safetensors: layout state dict, resnet18 { [^\n]*width = 4 }\n", out)
      assert.matches("\nthese weights +top%-1 +[%d.]+ %%   top%-5 +[%d.]+ %%\n$", out)
    end)

    it("says what is no checkpoint by the option's name", function()
      refused("option '%-%-checkpoint': there is no '[^\n]*/none'; expected a run's folder", "knn", "--checkpoint",
        folder .. "/none")
      refused("option '%-%-checkpoint': the folder '[^\n]*/runs' holds no checkpoint", "knn", "--checkpoint",
        folder .. "/runs")
    end)

    it("writes no features after Ctrl-C", function()
      local result = recipes.run_after([[
        local file = require "cld.eval.features_file"
        local open = file.open
        function file.open(...)
          io.popen("kill -INT " .. cld.host().pid):close()
          return open(...)
        end]], "features", "--checkpoint", trained, "--out", folder .. "/stopped")
      assert.equal(130, result.code)
      assert.matches("\ninterrupted %(SIGINT%); nothing was written\n$", result.out)
      assert.is_nil(cld.io.exists(folder .. "/stopped.npy"))
    end)

    it("leaves at Ctrl-C without a traceback", function()
      local result = recipes.run_after([[
        function cld.eval.knn()
          io.popen("kill -INT " .. cld.host().pid):close()
          while true do end
        end]], "knn", "--checkpoint", trained)
      assert.equal(130, result.code)
      assert.is_nil(result.err:find "traceback")
    end)

    it("has no top-5 of three classes", function()
      local photos = folder .. "/three"
      for i = 1, 24 do
        files.write(("%s/%s/%d/%d.ppm"):format(photos, i % 2 == 0 and "train" or "test", i % 3, i),
          files.ppm(8, 8, { 80 * (i % 3), i, 0 }))
      end
      local out = ok("knn", "--checkpoint", trained, "--data", photos, "--dataset", "folder")
      assert.matches("\nafter 1 epoch +top%-1 +[%d.]+ %%\n$", out)
      out = ok("linear", "--checkpoint", trained, "--data", photos, "--dataset", "folder", "--runs", folder .. "/runs",
        "--name", "three", "--epochs", "1", "--threads", "1")
      assert.matches("\nepoch 1/1  top1 [%d.]+ %%  %(best", out)
    end)
  end)

  describe("a network of one's own", function()
    local mine, script
    setup(function()
      mine = process.write(folder .. "/mine.lua", [[
        local cld = require "cld"
        local nn = cld.nn
        cld.models.define("tiny", function(settings)
          return nn.sequential(nn.conv2d(3, settings.width, 3, { stride = 4 }), nn.relu(), nn.adaptive_avg_pool2d(1),
            nn.flatten())
        end, { width = 6 })
      ]])
      script = process.write(folder .. "/own.lua", ([[
        dofile(%q)
        local cld = require "cld"
        local opt = cld.options { about = "mine",
        { "epochs", 1, "epochs", integer = true }, cld.options.cifar, cld.options.training }
        local run = cld.run(opt)
        local sets = cld.data.splits(opt)
        local net = cld.models.tiny { width = 5 }
        local loader = cld.data.loader { sets.train, batch_size = 24, views = 1 }
        local sgd = cld.optim.sgd(net, { lr = 0.1 })
        run:describe { test_view = cld.augment.none { size = 16 } }
        for epoch in run:epochs { net = net, sgd = sgd, loader = loader } do
          for batch in loader:epoch(epoch) do
            local loss = net(batch.views[1]):square():mean()
            sgd:step(loss)
            run:track { loss = loss }
          end
        end]]):format(mine))
      local result = process.run { script, "--data", toy, "--runs", folder .. "/runs", "--name", "own" }
      assert.equal(0, result.code, result.err)
    end)

    it("is scored where its constructor is known", function()
      local out = ok("knn", "--checkpoint", checkpoint "own", "--require", mine)
      assert.matches(": tiny { width = 5 }, after 1 epoch\n", out)
      assert.matches("\nk 48 %(all that there are, of 200%), T 0.1, layer instance, memory of 48 images", out)
      assert.matches("\nimages: resize { size = { 16, 16 }", out)
      refused("its 'net' is a tiny, which is not defined here: %-%-require FILE.lua, of the file that calls"
        .. " cld.models.define", "knn", "--checkpoint", checkpoint "own")
      refused("cannot load the file of models: cannot open /nowhere.lua", "knn", "--checkpoint", checkpoint "own",
        "--require", "/nowhere.lua")
    end)

    it("is not made known by a recipe, which would train", function()
      refused("own.lua is a recipe, with options of its own; expected a file that calls cld.models.define and no more",
        "knn", "--checkpoint", checkpoint "own", "--require", script)
    end)

    it("is evaluated linearly, and its features are written", function()
      local out = ok("linear", "--checkpoint", checkpoint "own", "--require", mine, "--runs", folder .. "/runs",
        "--name", "own-linear", "--epochs", "1", "--threads", "1")
      assert.matches("\nbest top%-1 [%d.]+ %%, epoch 1 of 1\n$", out)
      out = ok("features", "--checkpoint", checkpoint "own", "--require", mine, "--out", folder .. "/own")
      assert.matches("\nlayer instance of 48 images", out)
      assert.same({ 48, 5 }, cld.io.load_npy(folder .. "/own.npy").shape)
    end)

    it("has no features unless it says what they are", function()
      for _, name in ipairs { "knn", "features", "linear" } do
        refused("option '%-%-layer': [^\n]* has a network without a method 'features'; expected instance", name,
          "--checkpoint", checkpoint "own", "--require", mine, "--layer", "features")
      end
    end)
  end)

  describe("linear", function()
    local function arguments(name, ...)
      return "--checkpoint", trained, "--runs", folder .. "/runs", "--name", name, "--epochs", "3", "--batch-size",
        "16", "--lr", "1", "--threads", "1", ...
    end

    it("trains a classifier, keeps the best and says what it is", function()
      local out = ok("linear", arguments "linear")
      assert.matches("\nimages to test by: resize { size = { 32, 32 }", out)
      assert.matches("\nepoch 3/3  grad_norm [%d.]+  loss [%d.]+  train_top1 [%d.]+  lr", out)
      for epoch = 1, 3 do assert.matches(("\nepoch %d/3  top1 [%%d.]+ %%%%  top5"):format(epoch), out) end
      assert.matches("\nbest top%-1 [%d.]+ %%, epoch %d of 3\n$", out)
      local state = cld.load(checkpoint "linear")
      assert.same({ 10, 32 }, state["probe.weight"].shape)
      assert.same({ 10, 32 }, state["probe.best.weight"].shape)
    end)

    it("changes nothing of the network, whose checkpoint it holds too", function()
      local before, after = cld.load(trained), cld.load(checkpoint "linear")
      local compared = 0
      for name, tensor in pairs(before) do
        if name:find "^net%." then
          assert.equal(0, tensor:ne(after[name]):any():item(), name)
          compared = compared + 1
        end
      end
      assert.is_true(compared > 100)
      local out = ok("knn", "--checkpoint", folder .. "/runs/linear")
      assert.matches("that of [^\n]*npid/checkpoint.safetensors, after 1 epoch\n", out)
      local expected = assert(ok("knn", "--checkpoint", trained):match "after 1 epoch +(top[^\n]*)")
      assert.equal(expected, out:match "\nafter 1 epoch +(top[^\n]*)")
    end)

    it("goes on where it was stopped, bit for bit, without the first checkpoint", function()
      local other = folder .. "/moved.safetensors"
      local stop = [[
        local count, new = 0, cld.eval.linear_probe
        function cld.eval.linear_probe(options)
          local probe = new(options)
          return setmetatable({}, { __index = function(_, key)
            if key ~= "step" then
              local value = probe[key]
              return type(value) == "function" and function(_, ...) return value(probe, ...) end or value
            end
            return function(_, ...)
              count = count + 1
              if count == 5 then io.popen("kill -TERM " .. cld.host().pid):close() end
              return probe:step(...)
            end
          end })
        end]]
      assert(os.execute(("cp %s %s"):format(trained, other)))
      local result = recipes.run_after(stop, "linear", arguments("stopped", "--checkpoint", other))
      assert.equal(143, result.code, result.err)
      os.remove(other)
      local out = ok("linear", "--runs", folder .. "/runs", "--name", "stopped", "--resume")
      assert.matches("resumed from .*, after step 2 of epoch 2\n", out)
      assert.equal("", differences("linear", "stopped"))
    end)

    it("takes no other network, protocol, layer or folds for a run that goes on", function()
      for option, values in pairs {
        checkpoint = { folder .. "/runs/npid", trained, "whose network its checkpoint holds" },
        protocol = { "infomin", "moco", "by which its classifier was trained so far" },
        layer = { "instance", "auto", "on which its classifier was trained so far" },
      } do
        local given, was, why = table.unpack(values)
        local message = "option '%%-%%-%s': [^\n]*/linear/checkpoint.safetensors goes on with %%-%%-%s %s, %s; without"
        refused(message:format(option, option, (was:gsub("%p", "%%%0")), why), "linear", "--runs", folder .. "/runs",
          "--name", "linear", "--resume", "--" .. option, given)
      end
      refused("option '%-%-folds': [^\n]* goes on with %-%-no%-folds, which is", "linear", "--runs", folder .. "/runs",
        "--name", "linear", "--resume", "--folds")
      ok("linear", "--runs", folder .. "/runs", "--name", "linear", "--resume", "--protocol", "moco")
    end)

    it("and a training say which recipe's a run is that they cannot resume", function()
      refused("/npid is a run of cifar10_npid_cld.lua, not of linear.lua: resume it with recipes/cifar10_npid_cld.lua",
        "linear", "--resume", folder .. "/runs/npid")
      refused("/linear is a run of linear.lua, not of cifar10_moco_cld.lua: resume it with recipes/linear.lua",
        "cifar10_moco_cld", "--resume", checkpoint "linear")
    end)

    it("takes InfoMin's protocol", function()
      local out = ok("linear", "--checkpoint", trained, "--runs", folder .. "/runs", "--name", "infomin", "--protocol",
        "infomin", "--epochs", "2", "--threads", "1")
      assert.matches("\n  *[^\n]*protocol +infomin", out)
      assert.matches("\nepoch 2/2  top1", out)
      local options = cld.json.decode(process.read(folder .. "/runs/infomin/options.json"))
      assert.same({ 256, 30 }, { options.batch_size, options.lr })
    end)

    it("refuses images of one class, and folds of what has none", function()
      local one = folder .. "/one"
      for i = 1, 4 do files.write(("%s/train/a/%d.ppm"):format(one, i), files.ppm(8, 8, { i, 0, 0 })) end
      refused("one: it has no test images with classes to score", "linear",
        arguments("one", "--data", one, "--dataset", "folder"))
      refused("no files in [^\n]*; %-%-dataset folder uses it as a folder of images", "linear",
        arguments("one", "--data", one))
      refused("option '%-%-folds': only stl10 has them, and these images are cifar10", "linear",
        arguments("no-folds", "--folds"))
    end)

    it("takes another image for one that cannot be read, the first too", function()
      local damaged = folder .. "/first-damaged"
      for i = 1, 6 do
        for _, part in ipairs { "train", "test" } do
          for c, class in ipairs { "a", "b" } do
            files.write(("%s/%s/%s/%d.ppm"):format(damaged, part, class, i), files.ppm(8, 8, { 40 * i, 90 * c, 0 }))
          end
        end
      end
      files.write(damaged .. "/train/a/1.ppm", "x")
      local out = ok("linear", arguments("damaged", "--data", damaged, "--dataset", "folder"))
      assert.matches("another takes its place %(1 of 12 so far%): [^\n]*train/a/1.ppm: ", out)
      assert.matches("\nbest top%-1 [%d.]+ %%, epoch %d of 3\n$", out)
    end)

    it("refuses a class that the training images lack", function()
      local images = cifar.images(3)
      cifar_writer.cifar10(folder .. "/lacking", "python", { labels = { 0, 1, 0, 1, 0, 1 },
        images = { images[1], images[2], images[1], images[2], images[1], images[2] } },
        { labels = { 0, 1, 9 }, images = images }, cifar.classes)
      refused("cifar10 test has 1 images of class 'truck' %(label 9%), and the training set has none of it", "linear",
        arguments("lacking", "--data", folder .. "/lacking"))
      assert.is_nil(cld.io.exists(checkpoint "lacking"))
    end)

    it("trains on STL-10's ten folds and gives mean and deviation", function()
      local stl, folds = folder .. "/stl", {}
      for f = 1, 10 do folds[f] = { f % 6, (f + 1) % 6, (f + 2) % 6, (f + 3) % 6 } end
      files.stl10(stl, { train = { 1, 2, 1, 2, 1, 2 }, test = { 1, 2, 2 }, folds = folds })
      local out = ok("linear", "--checkpoint", trained, "--data", stl, "--dataset", "stl10", "--folds", "--runs",
        folder .. "/runs", "--name", "folds", "--epochs", "2", "--threads", "1", "--size", "16")
      assert.matches("\nepoch 2/2  top1 [%d.]+ %%  top1_deviation [%d.]+ %%  top5 [%d.]+ %%", out)
      local state = cld.load(checkpoint "folds")
      assert.is_true(state["probe.weight"] ~= nil and state["probe_10.weight"] ~= nil)
    end)
  end)

  describe("features", function()
    local photos
    setup(function()
      photos = folder .. "/photos"
      for i, path in ipairs { "b/2.ppm", "a/1.ppm", "a/deep/3.ppm", "0.ppm" } do
        files.write(photos .. "/" .. path, files.ppm(20 + i, 30, { 60 * i, 10, 200 }))
      end
    end)

    it("have a name, not that of a folder", function()
      refused("option '%-%-out': '[^\n]*/' is the name of a folder; expected NAME of NAME.npy and NAME.txt in it",
        "features", "--checkpoint", trained, "--data", photos, "--out", folder .. "/")
    end)

    it("are an array of rows and a list of their files, those of cld.eval.features", function()
      local out = ok("features", "--checkpoint", trained, "--data", photos, "--out", folder .. "/f", "--batch-size",
        "3")
      assert.matches("/f.npy: f32 %(4, 32%); [^\n]*/f.txt: their paths\n$", out)
      local set = cld.data.folder { root = photos, layout = "plain" }
      assert.equal(table.concat(set.paths, "\n") .. "\n", process.read(folder .. "/f.txt"))
      local net, about = cld.models.load(trained)
      local expected = cld.eval.features(net, set, { layer = "features", augment = about.test_view, batch_size = 3 })
      check.close(cld.io.load_npy(folder .. "/f.npy"), expected, { atol = 1e-6 })
    end)

    it("are of all images of a folder, of which no part can be asked for", function()
      refused("option '%-%-split': all images of %-%-data are taken; expected the part itself as %-%-data, such as",
        "features", "--checkpoint", trained, "--data", photos, "--out", folder .. "/part", "--split", "train")
    end)

    it("replace no files unless they are told to", function()
      for _, ending in ipairs { ".npy", ".txt" } do
        local path = folder .. "/there"
        process.write(path .. ending, "x")
        refused("there" .. ending:gsub("%.", "%%.") .. "' is there already; %-%-force replaces it", "features",
          "--checkpoint", trained, "--data", photos, "--out", path .. ".npy")
        ok("features", "--checkpoint", trained, "--data", photos, "--out", path, "--force")
        assert.same({ 4, 32 }, cld.io.load_npy(path .. ".npy").shape)
        os.remove(path .. ".npy")
        os.remove(path .. ".txt")
      end
    end)

    it("leave out an image that cannot be read, and its path", function()
      local damaged = folder .. "/damaged"
      assert(os.execute(("cp -r %s %s && printf x > %s/a/1.ppm"):format(photos, damaged, damaged)))
      local out = ok("features", "--checkpoint", trained, "--data", damaged, "--out", folder .. "/d", "--max-bad",
        "0.3")
      assert.matches("d.npy: f32 %(3, 32%);[^\n]*; 1 images could not be read and are left out\n$", out)
      assert.same({ 3, 32 }, cld.io.load_npy(folder .. "/d.npy").shape)
      local listed = process.read(folder .. "/d.txt")
      assert.is_nil(listed:find("a/1.ppm", 1, true))
      assert.equal(3, select(2, listed:gsub("\n", "")))
      refused("a/1.ppm: ", "features", "--checkpoint", trained, "--data", damaged, "--out", folder .. "/s", "--strict")
      assert.is_nil(cld.io.exists(folder .. "/s.npy"))
    end)

    it("are of the run's own images without --data", function()
      local out = ok("features", "--checkpoint", trained, "--split", "test", "--out", folder .. "/t")
      assert.matches("f32 %(16, 32%); this data set has no files to list", out)
    end)
  end)
end)
