--- The published number that a linear evaluation is compared with: only for a network with the published settings,
-- which are the recipe's defaults, and for no other.
local cld = require "cld"
local process = require "spec.support.process"
local reported = require "cld.eval.reported"

describe("the reported accuracy", function()
  local folder, runs = nil, 0
  setup(function() folder = process.temporary_folder() end)
  teardown(function() process.remove(folder) end)

  -- What a run of the recipe keeps of its options; it ends before it looks for images.
  local function options_of_recipe(recipe, ...)
    local init = process.write(folder .. "/init.lua", [[
      local cld = require "cld"
      local function tell(opt)
        local plain = {}
        for name, value in pairs(opt) do plain[name] = value end
        print("OPTIONS " .. cld.json.encode(plain))
        os.exit(0)
      end
      cld.options.check_moco_v2, cld.options.check_infomin = tell, tell]])
    runs = runs + 1
    local result = process.run { "recipes/" .. recipe .. ".lua", env = { LUA_INIT = "@" .. init }, "--runs", folder,
      "--name", "run" .. runs, "--device", "cpu", ... }
    assert.equal(0, result.code, result.err)
    return cld.json.decode(result.out:match "OPTIONS ([^\n]+)")
  end

  local function options_of(...) return options_of_recipe("imagenet_mocov2_cld", ...) end

  local function network(opt, settings)
    local all = { head = opt.head, dim = opt.dim, width = opt.width, small = opt.small,
      branches = opt.lambda > 0 and { "instance", "group" } or { "instance" } }
    for name, value in pairs(settings or {}) do all[name] = value end
    return { constructor = opt.arch, settings = all }
  end

  it("is the paper's for the recipe's defaults and each head", function()
    local opt = options_of()
    assert.equal(70.0, reported.of(network(opt), opt, 200))
    assert.equal(69.2, reported.of(network(opt, { head = "mlp" }), opt, 200))
    assert.is_nil(reported.of(network(opt, { head = "linear" }), opt, 200))
  end)

  it("is MoCo v2's for its settings", function()
    local opt = options_of("--lambda", "0", "--queries", "1", "--head", "mlp", "--batch-size", "256", "--block", "32",
      "--lr", "0.03")
    assert.equal(67.5, reported.of(network(opt), opt, 200))
  end)

  it("is that of InfoMin + CLD where the keys are enqueued twice, and InfoMin's", function()
    local layout = { layout = "infomin", jigsaw = true }
    local function of(opt, epochs, head)
      return reported.of(network(opt, { layout = "infomin", jigsaw = true, head = head }), opt, epochs)
    end
    local opt = options_of_recipe("imagenet_infomin_cld", "--double-enqueue")
    assert.same({ 70.1, 69.5 }, { of(opt, 100), of(opt, 100, "mlp") })
    assert.is_nil(reported.of(network(opt), opt, 100))
    assert.is_nil(of(opt, 99))
    opt = options_of_recipe("imagenet_infomin_cld", "--double-enqueue", "--epochs", "200")
    assert.same({ 71.5, 70.6 }, { of(opt, 200), of(opt, 200, "mlp") })
    opt = options_of_recipe "imagenet_infomin_cld"
    assert.is_nil(of(opt, 100))
    opt = options_of_recipe("imagenet_infomin_cld", "--lambda", "0", "--queries", "1", "--head", "mlp", "--batch-size",
      "256", "--block", "32", "--lr", "0.03")
    assert.equal(67.4, reported.of(network(opt, layout), opt, 100))
  end)

  it("is none where the network differs, or is not trained to the end", function()
    local opt = options_of()
    for _, settings in ipairs { { width = 32 }, { dim = 64 }, { small = true } } do
      assert.is_nil(reported.of(network(opt, settings), opt, 200))
    end
    assert.is_nil(reported.of(network(opt), opt, 199))
    assert.is_nil(reported.of(nil, opt, 200))
    assert.is_nil(reported.of({ constructor = "resnet18", settings = network(opt).settings }, opt, 200))
  end)

  it("is none where an option of the training differs: groups of the whole batch, for one", function()
    local opt = options_of()
    local others = { cld_rows = "batch", block = 32, batch_size = 256, lr = 0.1, clusters = 32, cld_t = 0.2, lambda = 1,
      queue = 4096, epochs = 100, classes = "imagenet100", moco_m = 0.99, size = 112, detach_centroids = true,
      grouping = "ncut" }
    for name, value in pairs(others) do
      local was = opt[name]
      assert(was ~= nil and was ~= value, name)
      opt[name] = value
      assert.is_nil(reported.of(network(opt), opt, 200), name)
      opt[name] = was
    end
    assert.equal(70.0, reported.of(network(opt), opt, 200))
  end)
end)
