--- What a checkpoint says about its networks: run:describe, augmentations as plain tables, cld.models.load. The recipes
-- that use it are in evaluation_recipes_spec.
local cld = require "cld"
local check = require "spec.support.check"
local description = require "cld.run.description"
local process = require "spec.support.process"

describe("an augmentation as a plain table", function()
  for _, preset in ipairs { "none", "base", "plus", "infomin", "infomin_jigsaw", "byol_1", "byol_2", "crop_flip",
    "center" } do
    it("goes through JSON and back: " .. preset, function()
      local list = cld.augment[preset]()
      local text = cld.json.encode(list:to_table())
      local back = cld.augment.from_table(cld.json.decode(text))
      assert.is_true(cld.augment.is_list(back))
      assert.equal(tostring(list), tostring(back))
    end)
  end

  it("is a copy", function()
    local list = cld.augment.none()
    list:to_table()[1].size[1] = 7
    assert.same({ 32, 32 }, list[1].size)
  end)

  it("that is none is an error which names the step", function()
    check.fails(function() cld.augment.from_table(3) end, "described_spec.lua:%d+: .*expected a list of steps, got 3")
    check.fails(function() cld.augment.from_table { { op = "flip" }, { op = "flop" } } end,
      "step 2 is of the kind 'flop'; expected {op = its kind, settings}")
    check.fails(function() cld.augment.from_table { 4 } end, "step 1 is 4; expected")
    check.fails(function() cld.augment.from_table { { op = "flip", q = 1 } } end, "augment.flip: .*'q'")
  end)
end)

describe("run:describe", function()
  it("refuses what it does not know", function()
    check.fails(function() description.fields { view = 1 } end, "run:describe: unknown field 'view'")
    check.fails(function() description.fields { layer = "fc" } end, "layer must be 'instance' or 'features', got 'fc'")
    check.fails(function() description.fields { test_view = {} } end, "test_view must be an augmentation of cld.aug")
    check.fails(function() description.fields { knn = { T = 1 } } end, "run:describe: knn: unknown field 'T'")
  end)

  it("comes before run:epochs", function()
    local folder = process.temporary_folder()
    local script = process.write(folder .. "/late.lua", [[
      local cld = require "cld"
      local run = cld.run(cld.options { about = "late",
      { "epochs", 1, "epochs", integer = true }, cld.options.training })
      for _ in run:epochs { w = cld.zeros(1) } do run:describe {} end]])
    local result = process.run { script, "--runs", folder .. "/runs" }
    assert.equal(1, result.code)
    assert.matches("late.lua:4: run:describe: call it before run:epochs", result.err)
    process.remove(folder)
  end)
end)

describe("models.load", function()
  local folder
  before_each(function() folder = process.temporary_folder() end)
  after_each(function() process.remove(folder) end)

  -- A checkpoint of these networks and options, as a run would write it.
  local function written(networks, options, fields)
    local tensors, models = {}, {}
    for name, net in pairs(networks) do
      models[name] = cld.models.description(net)
      for key, tensor in pairs(net:state_dict()) do tensors[name .. "." .. key] = tensor end
    end
    local said = { models = models }
    for key, value in pairs(fields or {}) do said[key] = value end
    local path = folder .. "/checkpoint.safetensors"
    cld.save(path, tensors, {
      format = "cldlua checkpoint 1", options = cld.json.encode(options or { epochs = 1 }),
      position = cld.json.encode { epoch = 3, step = 9, step_in_epoch = 0, seconds = 1.5,
        rng = { seed = 1, position = 2 } },
      description = fields ~= false and cld.json.encode(said) or nil,
    })
    return path
  end

  local function small() return cld.models.resnet18 { width = 4, dim = 8 } end

  it("is the network bit for bit, by the file or its folder", function()
    local net = small()
    written { net = net }
    for _, path in ipairs { folder, folder .. "/checkpoint.safetensors" } do
      local loaded, about = cld.models.load(path)
      assert.same({ "cldlua", "resnet18", 3 }, { about.layout, about.arch, about.epoch })
      for name, tensor in pairs(net:state_dict()) do
        assert.equal(0, loaded:state_dict()[name]:ne(tensor):any():item(), name)
      end
    end
  end)

  it("takes `net`, or the only network that there is, or the one that is named", function()
    local path = written { net = small(), keys = cld.models.resnet18 { width = 4, dim = 9 } }
    assert.equal(8, select(2, cld.models.load(path)).description.settings.dim)
    assert.equal(9, select(2, cld.models.load(path, { object = "keys" })).description.settings.dim)
    check.fails(function() cld.models.load(path, { object = "target" }) end,
      "it has no object 'target'; it holds [%a, ]*net")
    assert.equal("online", select(2, cld.models.load(written { online = small() })).object)
    check.fails(function() cld.models.load(written { online = small(), target = small() }) end,
      "it has no object 'net'; give one of its networks as object: online, target")
  end)

  it("knows the images of a run that did not say how they are prepared, by its data set", function()
    local function view(options) return select(2, cld.models.load(written({ net = small() }, options))).test_view end
    assert.equal(tostring(cld.augment.none()), tostring(view { dataset = "cifar10" }))
    assert.equal(tostring(cld.augment.center { size = 64 }), tostring(view { dataset = "folder", size = 64 }))
    assert.is_nil(view { dataset = "mine", size = 64 })
    assert.is_nil(view {})
  end)

  it("of a checkpoint without a description goes by the encoder's options, or says that it cannot", function()
    local net = cld.models.resnet18_cifar { width = 4, low_dim = 8 }
    local options = { arch = "resnet18", width = 4, low_dim = 8, norm_linear = false, knn_k = 9, knn_t = 0.5 }
    local _, about = cld.models.load(written({ net = net }, options, false))
    assert.same({ "resnet18_cifar", 9, 0.5 }, { about.arch, about.knn.k, about.knn.temperature })
    check.fails(function() cld.models.load(written({ net = net }, {}, false)) end,
      "does not say how its 'net' is made: it is older than that, or no constructor of cld.models made the network")
  end)

  it("says so where a described checkpoint does not describe what is asked for, whatever its options", function()
    local net = small()
    net.extra = cld.nn.linear(2, 2)
    local path = written({ net = net, other = small() }, { arch = "resnet18", width = 4 })
    check.fails(function() cld.models.load(path) end,
      "does not say how its 'net' is made: it is no network, or no constructor .* or it was changed since")
  end)

  it("reads a plain state dict as the layout that its names tell", function()
    local net = cld.models.resnet18 { width = 4, dim = 8, branches = { "instance" } }
    local state = {}
    for name, tensor in pairs(net:state_dict()) do state["module.encoder_q." .. name] = tensor end
    cld.save(folder .. "/moco.safetensors", state)
    local loaded, about = cld.models.load(folder .. "/moco.safetensors")
    assert.same({ "MoCo v2", "resnet18", "features" }, { about.layout, about.arch, about.layer })
    assert.equal(tostring(cld.augment.center { size = 224 }), tostring(about.test_view))
    assert.equal(0, loaded.fc[2 + 1].weight:ne(net.fc[2 + 1].weight):any():item())
  end)

  it("says which tensor of a network that it knows is of another shape, and names no line of a program", function()
    local state = cld.models.resnet18 { width = 4, head = false }:state_dict()
    state["layer3.0.conv1.weight"] = cld.zeros(5, 5, 3, 3)
    cld.save(folder .. "/odd.safetensors", state)
    check.fails(function() cld.models.load(folder .. "/odd.safetensors") end,
      "odd.safetensors: resnet18 {[^}]*}, as which it was recognised %([^)]*%), does not fit: resnet: the state does"
      .. " not fit: 1 of another shape: layer3.0.conv1.weight")
  end)

  it("says of a file without a network what would be one", function()
    cld.save(folder .. "/x.safetensors", { a = cld.zeros(1) })
    check.fails(function() cld.models.load(folder .. "/x.safetensors") end,
      "x.safetensors: it holds no ResNet: .*; expected a checkpoint of a run, of MoCo v2 %+ CLD, ")
    check.fails(function() cld.models.load(folder .. "/none") end, "none'?: No such file")
    check.fails(function() cld.models.load(3) end, "described_spec.lua:%d+: models.load: expected a path, got 3")
  end)
end)
