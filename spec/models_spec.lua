--- The table of encoders: torchvision's ResNets by name, their sizes and settings, and how a net describes how it was
-- made. What they compute is in resnet_spec.lua; the CIFAR encoder is in model_spec.lua and stem_spec.lua.
local cld = require "cld"
local check = require "spec.support.check"
local models = cld.models

-- f() with tensors that nothing is drawn into, so that networks of any size are made at once.
local function undrawn(f)
  local methods = getmetatable(cld.zeros(1)).methods
  local uniform, normal = methods.uniform_, methods.normal_
  methods.uniform_ = function(t) return t end
  methods.normal_ = methods.uniform_
  local results = table.pack(pcall(f))
  methods.uniform_, methods.normal_ = uniform, normal
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

local function names_of(net)
  local names = {}
  for name in net:named_parameters() do names[#names + 1] = name end
  return names
end

local function count(net)
  local total = 0
  for _, parameter in ipairs(net:parameters()) do total = total + parameter:numel() end
  return total
end

-- The last names, which the heads have.
local function head_names(settings)
  local net = models.resnet18(settings)
  local names = {}
  for _, name in ipairs(names_of(net)) do
    if not name:find "^conv1" and not name:find "^bn1" and not name:find "^layer" then
      names[#names + 1] = ("%s %s"):format(name, table.concat(net:get_parameter(name).shape, "x"))
    end
  end
  return names
end

local function shapes(...)
  local list = {}
  for i, tensor in ipairs { ... } do list[i] = table.concat(tensor.shape, "x") end
  return list
end

describe("torchvision's ResNets", function()
  -- Parameters of the trunk, their tensors, and the width of the features.
  local sizes = {
    resnet18 = { 11176512, 60, 512 }, resnet34 = { 21284672, 108, 512 },
    resnet50 = { 23508032, 159, 2048 }, resnet101 = { 42500160, 312, 2048 }, resnet152 = { 58143808, 465, 2048 },
    wide_resnet50_2 = { 66834240, 159, 2048 }, wide_resnet101_2 = { 124837696, 312, 2048 },
    resnext50_32x4d = { 22979904, 159, 2048 }, resnext101_32x8d = { 86742336, 312, 2048 },
    resnext101_64x4d = { 81406272, 312, 2048 },
  }
  for name, expected in pairs(sizes) do
    it("have as many parameters, " .. name, function()
      local net = undrawn(function() return models[name] { head = false } end)
      assert.same(expected, { count(net), #net:parameters(), net.feature_width })
    end)
  end

  it("are the names that an --arch may be", function()
    assert.equal(14, #models.resnets)
    for _, name in ipairs(models.resnets) do assert.equal(models.constructors[name], models[name]) end
  end)

  it("give the branches' features in their order, not normalised", function()
    local net = models.resnet18 { width = 4, dim = 5 }:eval()
    local x = cld.randn(2, 3, 33, 33)
    local instance, group = net(x)
    assert.same({ "2x5", "2x5" }, shapes(instance, group))
    check.close(instance, net.instDis(net.fc(net:features(x))))
    check.close(group, net.groupDis(net.fc(net:features(x))))
    local turned = models.resnet18 { width = 4, dim = 5, branches = { "group", "instance" } }:eval()
    turned:load_state_dict(net:state_dict())
    check.close(turned(x), group)
  end)

  it("without a head give the pooled features", function()
    local net = models.resnet50 { width = 4, head = false }:eval()
    local x = cld.randn(2, 3, 33, 33)
    assert.same({ "2x128" }, shapes(net(x)))
    check.close(net(x), net:features(x))
  end)

  it("run their heads alone", function()
    local net = models.resnet18 { width = 4, dim = 5, head = "norm_mlp" }:eval()
    local x = cld.randn(2, 3, 33, 33)
    local instance, group = net:heads(net:features(x))
    local whole, whole_group = net(x)
    check.close(instance, whole)
    check.close(group, whole_group)
  end)

  it("says of a network without heads neither branches nor their dimension", function()
    local how = models.description(models.resnet18 { width = 4, head = false, dim = 5 })
    assert.same({ width = 4, small = false, head = false }, how.settings)
    assert.same(how, models.description(models.build(how)))
  end)

  it("with the small stem keep the maps' size", function()
    local net = models.resnet18 { width = 4, small = true, head = false }
    assert.same({ 4, 3, 3, 3 }, net.conv1.weight.shape)
    assert.is_nil(net.maxpool)
    assert.same({ "1x4x9x9" }, shapes(net.layer1(net.conv1(cld.randn(1, 3, 9, 9)))))
  end)

  it("put a bottleneck's stride into its 3x3 convolution", function()
    local block = models.resnet50 { width = 4, head = false }.layer2[1]
    assert.same({ 1, 1 }, block.conv1.settings.stride)
    assert.same({ 2, 2 }, block.conv2.settings.stride)
    assert.same({ 2, 2 }, block.downsample[1].settings.stride)
  end)

  it("have bottlenecks whose inner width goes by the groups", function()
    local function inner(name, width)
      local conv = models[name] { width = width, head = false }.layer1[1].conv2
      return { conv.weight.shape[1], conv.weight.shape[2], conv.settings.groups }
    end
    assert.same({ 32, 1, 32 }, inner("resnext50_32x4d", 16))
    assert.same({ 32, 1, 32 }, inner("resnext50_32x4d", 24)) -- int(24 * 4 / 64) = 1
    assert.same({ 16, 16, 1 }, inner("wide_resnet50_2", 8))
  end)

  it("have InfoMin's names, which mean others and a width", function()
    local function described(name, settings)
      local how = models.description(models[name](settings))
      return { how.constructor, how.settings.width, how.settings.stem }
    end
    assert.same({ "resnet50", 8 }, described("resnet50x2", { width = 4, head = false }))
    assert.same({ "resnet50", 16, 64 }, described("resnet50x4", { width = 4, head = false, stem = 64 }))
    assert.same({ "resnext101_32x8d", 8 }, described("resnext101v2", { width = 8, head = false }))
    assert.same({ 8192, 2048 }, { undrawn(function() return models.resnet50x4 { head = false } end).feature_width,
      undrawn(function() return models.resnext50 { head = false } end).feature_width })
    check.fails(function() models.resnet50x2 { width = 1.5 } end,
      "models_spec.lua:%d+: models.resnet50x2: width must be a positive integer, got 1.5")
  end)

  it("have a first convolution of other channels than the first stage", function()
    local net = models.resnet18 { width = 4, stem = 6, head = false }:eval()
    assert.same({ "6x3x7x7", "4x6x3x3", "4x6x1x1" },
      shapes(net.conv1.weight, net.layer1[1].conv1.weight, net.layer1[1].downsample[1].weight))
    assert.same({ 1, 32 }, net(cld.randn(1, 3, 33, 33)).shape)
  end)

  it("say the smallest width of groups", function()
    check.fails(function() models.resnext50_32x4d { width = 15 } end,
      "models_spec.lua:%d+: models.resnext50_32x4d: width 15 leaves a group of the 3x3 convolutions no channel;"
      .. " the smallest width is 16")
    assert.truthy(models.resnext50_32x4d { width = 16, head = false })
  end)

  it("say what is wrong with a setting", function()
    local function fails(settings, expected)
      check.fails(function() models.resnet18(settings) end, "models_spec.lua:%d+: models.resnet18: " .. expected)
    end
    fails({ stem = "cifar" }, "stem must be a positive integer, got 'cifar'")
    fails({ low_dim = 8 }, "unknown field 'low_dim'")
    fails({ layout = "infomim" }, "layout is 'infomim'; expected 'moco' or 'infomin'; did you mean 'infomin'")
    fails({ jigsaw = true }, "only layout 'infomin' has a head for jigsaw patches")
    fails({ layout = "infomin", jigsaw = 1 }, "jigsaw must be true or false, got 1")
    fails({ layout = "infomin", head = false }, "layout 'infomin' has a head; expected head = 'mlp'.*, got false")
    fails({ head = "normmlp" }, "head is 'normmlp'; expected linear, mlp, norm_linear, norm_mlp or false; did you mean")
    fails({ head = true }, "head is true; expected")
    fails({ dim = 0 }, "dim must be a positive integer, got 0")
    fails({ width = 2.5 }, "width must be a positive integer, got 2.5")
    fails({ small = 1 }, "small must be true or false, got 1")
    fails({ branches = "instance" }, "branches must be { 'instance', 'group' } or one of them, got 'instance'")
    fails({ branches = {} }, "branches must be .*, got a table of 0")
    fails({ branches = { "instance", "instance" } }, "branches must be .*, got 'instance' twice")
    fails({ branches = { "class" } }, "branches must be .*, got 'class'")
  end)
end)

describe("heads", function()
  local cases = {
    { "linear", { "instance", "group" }, { "fc.weight 7x16", "fc.bias 7", "groupDis.weight 7x16", "groupDis.bias 7" } },
    { "linear", { "instance" }, { "fc.weight 7x16", "fc.bias 7" } },
    { "linear", { "group" }, { "groupDis.weight 7x16", "groupDis.bias 7" } },
    { "norm_linear", { "instance", "group" }, { "fc.weight 16x7", "groupDis.weight 16x7" } },
    { "mlp", { "instance", "group" }, { "fc.0.weight 16x16", "fc.0.bias 16", "instDis.weight 7x16", "instDis.bias 7",
      "groupDis.weight 7x16", "groupDis.bias 7" } },
    { "mlp", { "instance" }, { "fc.0.weight 16x16", "fc.0.bias 16", "fc.2.weight 7x16", "fc.2.bias 7" } },
    { "mlp", { "group" }, { "fc.0.weight 16x16", "fc.0.bias 16", "groupDis.weight 7x16", "groupDis.bias 7" } },
    { "norm_mlp", { "instance", "group" }, { "fc.0.weight 16x16", "fc.0.bias 16", "instDis.weight 16x7",
      "groupDis.weight 16x7" } },
    { "norm_mlp", { "instance" }, { "fc.0.weight 16x16", "fc.0.bias 16", "fc.2.weight 16x7" } },
  }
  for _, case in ipairs(cases) do
    local head, branches, expected = table.unpack(case)
    it(("have the published names, %s of %s"):format(head, table.concat(branches, " and ")), function()
      local settings = { width = 2, dim = 7, head = head, branches = branches }
      assert.same(expected, head_names(settings))
      assert.equal(#branches, select("#", models.resnet18(settings)(cld.randn(2, 3, 32, 32))))
    end)
  end

  local projector = { hidden = 5, dim = 3 }
  local layers = { "projector.layers.0.weight 5x16", "projector.layers.1.weight 5", "projector.layers.1.bias 5",
    "projector.layers.3.weight 3x5", "projector.layers.3.bias 3" }

  it("have a projector as the instance branch, and beside it the group branch alone", function()
    local function names(more) return table.move(more, 1, #more, #layers + 1, table.move(layers, 1, #layers, 1, {})) end
    for head, group in pairs {
      norm_linear = { "groupDis.weight 16x7" },
      norm_mlp = { "fc.0.weight 16x16", "fc.0.bias 16", "groupDis.weight 16x7" },
    } do
      local settings = { width = 2, dim = 7, head = head, projector = projector }
      assert.same(names(group), head_names(settings))
      settings.branches = { "instance" }
      assert.same(layers, head_names(settings))
      settings.branches = { "group" }
      assert.same(group, head_names(settings))
    end
    local net = models.resnet18_cifar { width = 2, low_dim = 7, projector = projector }
    assert.is_not_nil(net:get_parameter "projector.layers.3.weight")
    assert.is_nil(net:named_parameters()["linear.weight"])
    local alone = models.resnet18_cifar { width = 2, branches = { "instance" } }
    assert.is_nil(alone:named_parameters()["groupDis.0.weight"])
  end)

  it("give a projector's rows as they are, in the order of the branches", function()
    local x = cld.randn(2, 3, 32, 32)
    for _, settings in ipairs { { "resnet18", "dim" }, { "resnet18_cifar", "low_dim" } } do
      local name, dim = table.unpack(settings)
      local net = models[name] { width = 2, [dim] = 7, projector = projector }:eval()
      local other = models[name] { width = 2, [dim] = 7, projector = projector, branches = { "group", "instance" } }
      other:load_state_dict(net:state_dict())
      local instance, group = net(x)
      local second, first = other:eval()(x)
      check.close(instance, net.projector(net:features(x)), { rtol = 1e-6 })
      assert.same({ { 2, 3 }, { 2, 7 } }, { instance.shape, group.shape })
      check.close(first, instance, { atol = 0, rtol = 0 })
      check.close(second, group, { atol = 0, rtol = 0 })
    end
  end)

  it("say what is wrong with a projector", function()
    local function fails(value, message)
      check.fails(function() models.resnet18 { width = 2, projector = value } end, message)
      check.fails(function() models.resnet18_cifar { width = 2, projector = value } end, message)
    end
    fails(256, "projector is 256; expected {hidden =, dim =} or false")
    fails({ hidden = 0, dim = 2 }, "projector: hidden must be a positive integer, got 0")
    fails({ hidden = 2 }, "projector: dim must be a positive integer, got nil")
    fails({ hidden = 2, dims = 2 }, "projector: unknown field 'dims'")
    check.fails(function() models.resnet18 { head = false, projector = projector } end,
      "a projector is the instance branch of a head, and head is false")
    check.fails(function() models.resnet18_cifar { branches = { "instance", "instance" } } end, "'instance' twice")
    check.fails(function() models.from_options({}, { head = "mlp" }) end, "models.from_options: unknown field 'head'")
  end)

  it("of a clone use the clone's own weights", function()
    for _, head in ipairs(cld.models.head_names) do
      local net = models.resnet18 { width = 2, dim = 3, head = head }:eval()
      local copy, x = net:clone(), cld.randn(2, 3, 32, 32)
      local instance, group = copy(x)
      cld.no_grad(function()
        for _, parameter in ipairs(net:parameters()) do parameter:normal_(0, 1) end
      end)
      local after, after_group = copy(x)
      check.close(after, instance, { atol = 0, rtol = 0 })
      check.close(after_group, group, { atol = 0, rtol = 0 })
    end
  end)
end)

describe("models.description", function()
  it("has all settings", function()
    assert.same({
      constructor = "resnet18",
      settings = {
        head = "linear", dim = 128, branches = { "instance", "group" }, projector = false, width = 2, small = false,
      },
    }, models.description(models.resnet18 { head = "linear", width = 2 }))
    assert.same({
      constructor = "resnet18_cifar",
      settings = {
        stem = "cifar", low_dim = 4, branches = { "instance", "group" }, projector = false, width = 2,
        norm_linear = false, pool_window = { 3, 3 },
      },
    }, models.description(models.resnet18_cifar { low_dim = 4, width = 2.0, pool_window = { 3, 3 } }))
  end)

  for _, name in ipairs { "resnet50", "resnet18_cifar" } do
    it("as JSON makes a net of the same names and shapes, " .. name, function()
      local net = models[name] { width = 2 }
      local text = cld.json.encode(models.description(net))
      local other = models.build(cld.json.decode(text))
      assert.same(names_of(net), names_of(other))
      other:load_state_dict(net:state_dict())
      assert.same(models.description(net), models.description(other))
    end)
  end

  it("is a copy", function()
    local net = models.resnet18 { width = 2 }
    models.description(net).settings.branches[1] = "other"
    assert.equal("instance", models.description(net).settings.branches[1])
    assert.equal("instance", net.branches[1])
  end)

  it("is a clone's too", function()
    local net = models.resnet18 { width = 2 }
    assert.same(models.description(net), models.description(net:clone()))
  end)

  it("is not there for a net that was changed, and says why", function()
    local net = models.resnet18 { width = 2, head = "linear" }
    net.fc = cld.nn.linear(16, 10)
    local none, reason = models.description(net)
    assert.is_nil(none)
    assert.equal("its tensors are no longer those that cld.models.resnet18 made", reason)
  end)

  it("is not there for a net that no constructor made", function()
    local none, reason = models.description(cld.nn.linear(2, 2))
    assert.is_nil(none)
    assert.equal("no constructor of cld.models made it", reason)
    check.fails(function() models.description {} end, "models.description: expected a module, got a table")
  end)
end)

describe("models.build", function()
  it("names a constructor that is not there", function()
    check.fails(function() models.build { constructor = "resnet51", settings = {} } end,
      "models_spec.lua:%d+: models.build: there is no constructor 'resnet51'; did you mean 'resnet5?")
    check.fails(function() models.build {} end, "models.build: there is no constructor nil")
    check.fails(function() models.build() end, "models.build: expected a table of options, got nil")
  end)
end)

describe("cld.models", function()
  it("names a constructor that is not there", function()
    check.fails(function() return models.resnet19 end,
      "models_spec.lua:%d+: cld.models has no 'resnet19'; did you mean")
  end)
end)

describe("models.define", function()
  local made = 0

  -- Defines the constructor under a name of its own; returns the name.
  local function define(constructor, defaults)
    made = made + 1
    local name = "spec_model_" .. made
    models.define(name, constructor, defaults)
    return name
  end

  local function linear(settings) return cld.nn.linear(settings.input or 2, 3) end

  it("makes a constructor like the others", function()
    local name = define(linear)
    local net = models[name] { input = 5 }
    assert.same({ constructor = name, settings = { input = 5 } }, models.description(net))
    assert.same({ 3, 5 }, models.build(models.description(net)).weight.shape)
  end)

  it("fills in defaults, and takes no other settings then", function()
    local name = define(linear, { input = 4 })
    assert.same({ input = 4 }, models.description(models[name]()).settings)
    check.fails(function() models[name] { inputs = 4 } end,
      "models_spec.lua:%d+: models." .. name .. ": unknown field 'inputs'; did you mean 'input'?")
  end)

  it("may build on another constructor", function()
    local name = define(function(settings)
      local net = models.resnet18 { width = settings.width, head = false }
      net.fc = cld.nn.linear(net.feature_width, 3)
      settings.width = 0 -- its own copy
      return net
    end)
    local net = models[name] { width = 2 }
    assert.same({ constructor = name, settings = { width = 2 } }, models.description(net))
  end)

  it("refuses settings that are no plain values", function()
    local name = define(linear)
    local function fails(settings, expected)
      check.fails(function() models[name](settings) end, "models_spec.lua:%d+: models." .. name .. ": " .. expected)
    end
    fails({ input = print }, "the setting 'input' holds a function; settings are numbers, strings, booleans and tables")
    fails({ input = cld.zeros(2) }, "the setting 'input' holds f32%[2%]")
    fails({ input = 0 / 0 }, "the setting 'input' holds %-?nan")
    fails({ input = { 1, nil, 3, a = { print } } }, "the setting 'input' holds a function")
    local cycle = {}
    cycle.own = cycle
    fails({ input = cycle }, "the setting 'input' holds tables more than 8 deep")
    fails({ 3 }, "settings need names, got 1")
    fails(3, "expected a table of settings, got 3")
  end)

  it("refuses a constructor that returns no module", function()
    local name = define(function() return {} end)
    check.fails(function() models[name] {} end, "its constructor returned a table; expected a module")
  end)

  it("refuses a name that is taken", function()
    check.fails(function() models.define("resnet50", linear) end,
      "models_spec.lua:%d+: models.define: cld.models.resnet50 exists already")
    check.fails(function() models.define("build", linear) end, "cld.models.build exists already")
    check.fails(function() models.define("", linear) end, "expected a name, got ''")
    check.fails(function() models.define("spec_model", 3) end,
      "the constructor of 'spec_model' must be a function, got 3")
    check.fails(function() models.define("spec_model", linear, 3) end,
      "the defaults of 'spec_model' must be a table, got 3")
  end)
end)
