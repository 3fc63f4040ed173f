--- The recipes give the same results on several ranks as on one: for each method the first step in f32, and 20 in f64.
local cld = require "cld"
local process = require "spec.support.process"
local ranks = require "spec.support.ranks"
local missing = ranks.missing()

describe("a recipe on several ranks", function()
  if missing then return pending(missing) end
  local folder, toy, photos

  setup(function()
    folder = process.temporary_folder()
    toy, photos = folder .. "/toy", folder .. "/photos"
    local function make(...) return process.run { "recipes/make_toy_data.lua", ... }.code end
    assert.equal(0, make("--out", toy, "--train", "40", "--test", "10"))
    assert.equal(0, make("--out", photos, "--layout", "files", "--train", "40", "--test", "10", "--least-side", "16",
      "--most-side", "24"))
  end)
  teardown(function() process.remove(folder) end)

  local of_a_folder = { "--size", "16", "--augment", "base" }
  local methods = {
    npid = { "folder_npid_cld", of_a_folder },
    ["npid with negatives"] = { "folder_npid_cld", of_a_folder, { "--nce-k", "8", "--fill-epochs", "1",
      "--lr", "0.005" } },
    moco = { "folder_moco_cld", of_a_folder, { "--queue", "16" } },
    ["moco v2"] = { "folder_mocov2_cld", of_a_folder, { "--queue", "16", "--block", "4", "--dim", "8", "--small" } },
    infomin = { "folder_infomin_cld", { "--size", "24", "--augment", "base" },
      { "--queue", "16", "--block", "4", "--dim", "8", "--small" } },
    byol = { "folder_byol_cld", { "--size", "16" }, { "--hidden", "8", "--projection-dim", "6" } },
    simclr = { "cifar10_simclr", {}, { "--hidden", "8", "--projection-dim", "6", "--lr-at", "0" } },
  }

  local count = 0

  -- Trains, in f64 or f32; returns the checkpoint's path. n = "job of one": a rank that goes through all collectives.
  local function train(method, n, is_wide, ...)
    local recipe = methods[method]
    count = count + 1
    local name = "run" .. count
    local words = is_wide and { "-e", "dofile 'spec/support/wide.lua'" } or {}
    for _, list in ipairs { { "recipes/" .. recipe[1] .. ".lua" }, {
      "--data", recipe[1]:find "^cifar" and toy or photos, "--runs", folder, "--name", name, "--batch-size", "8",
      "--lr", "0.02", "--clusters", "4", "--width", "2", "--threads", "1", "--workers", "0", "--knn-every", "0",
      "--warmup-epochs", "0", "--device", "cpu", "--lambda", "0.5",
    }, recipe[2], recipe[3] or {}, { ... } } do
      table.move(list, 1, #list, #words + 1, words)
    end
    local result = n == "job of one" and ranks.of_one(words) or ranks.run(n, words)
    assert.equal(0, result.code, result.err)
    return folder .. "/" .. name .. "/checkpoint.safetensors"
  end

  local function compare(tolerance, a, b)
    local apart, at = ranks.difference(a, b)
    if not (apart <= tolerance) then
      error(("%s is %.2g apart; expected at most %.2g"):format(at, apart, tolerance), 0)
    end
  end

  for _, method in ipairs { "npid", "npid with negatives", "moco", "moco v2", "infomin", "byol", "simclr" } do
    it("is the same after 20 steps: " .. method, function()
      compare(1e-9, train(method, 1, true, "--epochs", "4"), train(method, 2, true, "--epochs", "4"))
    end)
  end

  for _, method in ipairs { "npid", "moco v2" } do
    it("is so if the ranks have different numbers of rows: " .. method, function()
      local uneven = { "--epochs", "2", "--batch-size", "14" } -- 5 + 5 + 4 of them, and at last 4 + 4 + 4
      compare(1e-9, train(method, 1, true, table.unpack(uneven)), train(method, 3, true, table.unpack(uneven)))
    end)
  end

  it("is so with the gradients of several parts", function()
    local parts = { "--epochs", "2", "--accumulate", "2" }
    compare(1e-9, train("moco v2", 1, true, table.unpack(parts)), train("moco v2", 2, true, table.unpack(parts)))
  end)

  it("has the same first step in f32", function()
    for _, method in ipairs { "npid", "moco v2" } do
      local one = { "--epochs", "1", "--batch-size", "40", "--queue", "40", "--no-winograd" }
      if method == "npid" then one = { "--epochs", "1", "--batch-size", "40", "--no-winograd" } end
      compare(1e-5, train(method, 1, false, table.unpack(one)), train(method, 2, false, table.unpack(one)))
    end
  end)

  it("is so on the emulated device, and has the same bits captured and not", function()
    if not os.getenv "CLD_CUDA_PLUGIN" then return pending "there is no emulated device here" end
    local cuda = { "--device", "cuda", "--precision", "fp32", "--epochs", "1" }
    local one = train("moco v2", 1, false, "--batch-size", "40", "--queue", "40", table.unpack(cuda))
    local two = train("moco v2", 2, false, "--batch-size", "40", "--queue", "40", table.unpack(cuda))
    compare(1e-5, one, two)
    compare(0, train("moco v2", 2, false, table.unpack(cuda)), train("moco v2", 2, false, "--no-graph",
      table.unpack(cuda)))
  end)

  -- One batch norm has its sums added up where a block is the whole batch of 8, and not where there are two blocks.
  it("is that of no job, bit for bit, in a job of one rank", function() -- gpu_check_spec.lua: a device
    for _, block in ipairs { "4", "8" } do
      local words = { "--epochs", "1", "--block", block }
      local alone = train("moco v2", 1, false, table.unpack(words))
      compare(0, alone, train("moco v2", "job of one", false, table.unpack(words)))
    end
  end)

  it("goes through all collectives in a job of one rank", function()
    local function collectives(n, block) -- a progress line, which a slow machine prints, has one more
      local path = train("moco v2", n, false, "--epochs", "1", "--block", block, "--print-every", "10000")
      for line in io.lines((path:gsub("[^/]*$", "log.jsonl"))) do
        local event = cld.json.decode(line)
        if event.event == "epoch" then return event.ranks.collectives end
      end
    end
    for _, block in ipairs { "4", "8" } do assert.equal(collectives(2, block), collectives("job of one", block)) end
  end)

  it("has the same bits each time", function()
    local a, b = train("moco v2", 2, false, "--epochs", "2"), train("moco v2", 2, false, "--epochs", "2")
    local state, other = cld.load(a), cld.load(b)
    for name, x in pairs(state) do assert.equal(0, x:ne(other[name]):sum():item(), name) end
  end)
end)
