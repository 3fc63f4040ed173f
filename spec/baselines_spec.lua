--- With the same seed a recipe starts from the same weights with and without CLD (--lambda 0), so that the two can be
-- compared. Each runs one step, too small to change a weight.
local cld = require "cld"
local recipes = require "spec.support.recipes"

describe("without CLD, the same beginning:", function()
  local folder, toy, photos
  setup(function()
    folder, toy = recipes.start()
    photos = folder .. "/photos"
    assert(recipes.run("make_toy_data", "--out", photos, "--layout", "files", "--train", "44", "--test", "20",
      "--least-side", "16", "--most-side", "24").code == 0)
  end)
  teardown(recipes.remove)

  -- {recipe, data, names that a network without the group branch has in place of others, its own options}
  local on_files = { "--size", "16", "--small", "--arch", "resnet18", "--dim", "8", "--queue", "48", "--block", "22" }
  local cases = {
    byol = { "cifar10_byol_cld", "toy", {}, { "--hidden", "8", "--projection-dim", "6" } },
    mocov2 = { "folder_mocov2_cld", "photos", { ["fc.2."] = "instDis." }, on_files },
    infomin = { "folder_infomin_cld", "photos", { ["head.2."] = "proj1.0." }, on_files },
  }

  local function state_of(case, lambda)
    local run = ("%s-%s"):format(case[1], lambda)
    local result = recipes.run(case[1], "--data", case[2] == "toy" and toy or photos, "--runs", folder .. "/runs",
      "--name", run, "--epochs", "1", "--batch-size", "44", "--last", "drop", "--width", "2", "--threads", "1",
      "--clusters", "4", "--knn-every", "0", "--device", "cpu", "--lr", "1e-30", "--weight-decay", "0", "--lambda",
      lambda, table.unpack(case[4]))
    assert.equal(0, result.code, result.err)
    return cld.load(recipes.checkpoint(run))
  end

  local function with_group_name(name, renamed)
    for own, other in pairs(renamed) do
      local at, to = name:find(own, 1, true)
      if at then return name:sub(1, at - 1) .. other .. name:sub(to + 1) end
    end
    return name
  end

  for title, case in pairs(cases) do
    it(title, function()
      local alone, both, compared = state_of(case, "0"), state_of(case, "0.25"), 0
      for name, tensor in pairs(alone) do
        local is_weight = name:find "^net%." or name:find "^predictor%." or name:find "^keys%."
        if is_weight and not name:find "running_" and not name:find "num_batches" then
          local other = both[with_group_name(name, case[3])]
          assert.is_not_nil(other, name)
          local err = (tensor - other):abs():max():item()
          assert.is_true(err <= 1e-20, ("%s: %g apart"):format(name, err))
          compared = compared + 1
        end
      end
      assert.is_true(compared > 60)
      if alone["queue.memory"] then -- of its 48 rows the first 44 are new keys
        local rows = { { 45, 48 } }
        assert.equal(0, alone["queue.memory"][rows]:ne(both["queue.memory"][rows]):sum():item())
      end
    end)
  end
end)
