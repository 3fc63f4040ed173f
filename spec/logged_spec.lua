--- Every training recipe logs lr, images_per_second, data_wait and grad_norm, under these names, because tools read
-- them.
local process = require "spec.support.process"
local recipes = require "spec.support.recipes"

describe("what a training recipe logs:", function()
  local folder, toy, photos
  setup(function()
    folder, toy = recipes.start()
    photos = folder .. "/photos"
    assert(recipes.run("make_toy_data", "--out", photos, "--layout", "files", "--train", "24", "--test", "10",
      "--least-side", "16", "--most-side", "24").code == 0)
    local result = recipes.run("cifar10_npid_cld", "--data", toy, "--runs", folder .. "/runs", "--name", "start",
      "--epochs", "1", "--batch-size", "24", "--width", "2", "--low-dim", "4", "--clusters", "4", "--knn-k", "5",
      "--warmup-epochs", "0", "--threads", "1")
    assert(result.code == 0, result.err)
  end)
  teardown(recipes.remove)

  -- What each is started with beside the data, where a run may be short.
  local small = { "--width", "2", "--batch-size", "12", "--clusters", "4", "--knn-every", "0" }
  local byol = { "--hidden", "4", "--projection-dim", "4", "--warmup-epochs", "0", "--block", "12" }
  local large = { "--small", "--arch", "resnet18", "--size", "16", "--dim", "4", "--queue", "24", "--block", "6" }
  local own = {
    cifar10_npid_cld = {}, cifar10_moco_cld = { "--queue", "48", "--warmup-epochs", "0" }, cifar10_byol_cld = byol,
    cifar10_simclr = { "--hidden", "4", "--projection-dim", "4", "--warmup-epochs", "0" },
    imagenet_mocov2_cld = large, imagenet_infomin_cld = large,
    linear = { "--batch-size", "12" }, finetune = { "--batch-size", "12", "--lr", "0.1", "--head-lr", "1" },
  }
  -- What stands for a recipe that no toy data fits: one that runs it.
  local runs_it = { imagenet_mocov2_cld = "folder_mocov2_cld", imagenet_infomin_cld = "folder_infomin_cld" }

  local function start(name)
    local judges = name == "linear" or name == "finetune"
    local words = { "--runs", folder .. "/runs", "--name", name, "--epochs", "1", "--threads", "1", "--device", "cpu" }
    local function add(list) table.move(list, 1, #list, #words + 1, words) end
    add(own[name])
    if judges then add { "--checkpoint", folder .. "/runs/start" } else add(small) end
    if not judges then add { "--data", runs_it[name] and photos or toy } end
    return recipes.run(runs_it[name] or name, table.unpack(words))
  end

  for name in pairs(own) do
    it(name, function()
      local result = start(name)
      assert.equal(0, result.code, result.err)
      local epoch = recipes.last(name, "epoch")
      assert.is_true(epoch.now.lr > 0)
      assert.is_true(epoch.means.grad_norm > 0)
      assert.is_true(epoch.images_per_second > 0)
      assert.is_true(epoch.data_wait >= 0 and epoch.data_wait <= 1)
    end)
  end

  it("all that train are among these, or run one of them", function()
    local files = io.popen "ls recipes/*.lua"
    for path in files:lines() do
      local trains = process.read(path):find("run:epochs", 1, true)
      if trains then assert.is_not_nil(own[path:match "([^/]*)%.lua$"], path) end
    end
    files:close()
  end)
end)
