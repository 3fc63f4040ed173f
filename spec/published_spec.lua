--- Published weights: each layout is recognized by its names, each architecture by its shapes.
local cld = require "cld"
local process = require "spec.support.process"
local published = require "cld.models.published"
local torch_files = require "spec.support.torch_files"

-- ---- state dicts --------------------------------------------------------------------

local blocks = {
  [18] = { 2, 2, 2, 2 }, [34] = { 3, 4, 6, 3 }, [50] = { 3, 4, 6, 3 }, [101] = { 3, 4, 23, 3 }, [152] = { 3, 8, 36, 3 },
}

local function tensor(...) return cld.zeros(1):expand { ... } end

local function add_norm(state, name, channels)
  for _, part in ipairs { "weight", "bias", "running_mean", "running_var" } do
    state[name .. "." .. part] = tensor(channels)
  end
  state[name .. ".num_batches_tracked"] = cld.zeros({ 1 }, "i64"):reshape {}
end

-- torchvision's names. options: prefix, width, groups, width_per_group, kernel, shortcut, channels
local function trunk(depth, options)
  options = options or {}
  local prefix, width = options.prefix or "", options.width or 64
  local groups, per_group = options.groups or 1, options.width_per_group or 64
  local state, kernel, deep = {}, options.kernel or 7, depth >= 50
  local function conv(name, out, into, size, parts)
    state[prefix .. name .. ".weight"] = tensor(out, into // (parts or 1), size, size)
  end
  local function norm(name, channels) add_norm(state, prefix .. name, channels) end
  conv("conv1", width, options.channels or 3, kernel)
  norm("bn1", width)
  local channels = width
  for layer = 1, 4 do
    local planes = width << (layer - 1)
    local inner, out = planes * per_group // 64 * groups, deep and 4 * planes or planes
    for block = 0, blocks[depth][layer] - 1 do
      local at = ("layer%d.%d."):format(layer, block)
      if deep then
        conv(at .. "conv1", inner, channels, 1)
        conv(at .. "conv2", inner, inner, 3, groups)
        conv(at .. "conv3", out, inner, 1)
        norm(at .. "bn3", out)
      else
        conv(at .. "conv1", out, channels, 3)
        conv(at .. "conv2", out, out, 3)
      end
      norm(at .. "bn1", deep and inner or out)
      norm(at .. "bn2", deep and inner or out)
      if channels ~= out then
        conv(at .. (options.shortcut or "downsample") .. ".0", out, channels, 1)
        norm(at .. (options.shortcut or "downsample") .. ".1", out)
      end
      channels = out
    end
  end
  return state
end

local function with(state, shapes)
  for name, shape in pairs(shapes) do state[name] = tensor(table.unpack(shape)) end
  return state
end

-- Linear(2048, out) under the names, or a NormLinear.
local function linear(name, out, into)
  return { [name .. ".weight"] = { out, into or 2048 }, [name .. ".bias"] = { out } }
end
local function norm_linear(name, out, into) return { [name .. ".weight"] = { into or 2048, out } } end
local function merge_tensors(into, from)
  for name, value in pairs(from) do into[name] = value end
  return into
end
local function merge(...)
  local all = {}
  for _, shapes in ipairs { ... } do for name, shape in pairs(shapes) do all[name] = shape end end
  return all
end

local function count(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n
end

describe("published weights", function()
  -- ---- architectures ------------------------------------------------------------

  local architectures = {
    { "resnet18", 18, {} }, { "resnet34", 34, {} }, { "resnet50", 50, {} }, { "resnet101", 101, {} },
    { "resnet152", 152, {} }, { "wide_resnet50_2", 50, { width_per_group = 128 } },
    { "wide_resnet101_2", 101, { width_per_group = 128 } },
    { "resnext50_32x4d", 50, { groups = 32, width_per_group = 4 } },
    { "resnext101_32x8d", 101, { groups = 32, width_per_group = 8 } },
    { "resnext101_64x4d", 101, { groups = 64, width_per_group = 4 } },
    { "resnext152_32x4d", 152, { groups = 32, width_per_group = 4 } },
  }
  for _, case in ipairs(architectures) do
    it("are a " .. case[1] .. " by their shapes", function()
      local state = trunk(case[2], case[3])
      local found = published.recognise(state)
      assert.same({ case[1], case[1] }, { found.arch, found.constructor })
      assert.same({ head = false, width = 64, small = false }, found.settings)
      assert.equal(count(state), count(found.state))
      assert.same({}, found.left_out)
    end)
  end

  it("have a width and a stem of their own", function()
    local found = published.recognise(trunk(50, { width = 16, kernel = 3 }))
    assert.same({ "resnet50", { head = false, width = 16, small = true } }, { found.arch, found.settings })
    assert.equal(32, found.view.size)
    assert.equal(128, published.recognise(trunk(50, { width = 128 })).settings.width)
  end)

  -- ---- layouts ------------------------------------------------------------------

  it("of torchvision leave out the classifier", function()
    local found = published.recognise(with(trunk(50), linear("fc", 1000)))
    assert.same({ "torchvision", "resnet50", { ["fc."] = 2 } }, { found.layout, found.arch, found.left_out })
    assert.is_nil(found.state["fc.weight"])
    assert.equal(318, count(found.state))
    assert.same({ 224, "imagenet" }, { found.view.size, found.view.kind })
  end)

  -- As MoCo's convert-pretrain-to-detectron2.py renames them.
  local function detectron2(state)
    local renamed = {}
    for name, value in pairs(state) do
      if not name:find "layer" then name = "stem." .. name end
      name = name:gsub("layer(%d)", function(layer) return "res" .. math.tointeger(layer + 1) end)
      name = name:gsub("bn(%d)", "conv%1.norm"):gsub("downsample%.0", "shortcut"):gsub("downsample%.1", "shortcut.norm")
      renamed[name] = value
    end
    return renamed
  end

  it("of detectron2 are torchvision's under other names, without heads", function()
    for _, prefix in ipairs { "", "backbone.bottom_up." } do
      local state = {}
      for name, value in pairs(detectron2(with(trunk(50), linear("fc.0", 2048)))) do state[prefix .. name] = value end
      assert.truthy(state[prefix .. "res2.0.shortcut.norm.running_mean"])
      local found = published.recognise { model = state, __author__ = "MOCO", matching_heuristics = true }
      assert.same({ "detectron2", "resnet50", 318 }, { found.layout, found.arch, count(found.state) })
      for name in pairs(trunk(50)) do assert.truthy(found.state[name], name) end
      assert.same({ [prefix .. "stem."] = 2 }, found.left_out)
    end
  end)

  it("of CMC's two networks are none of one that takes RGB", function()
    local state = trunk(50, { prefix = "module.encoder1.", channels = 1, width = 32 })
    merge_tensors(state, trunk(50, { prefix = "module.encoder2.", channels = 2, width = 32 }))
    local found, why = published.recognise { model = state }
    assert.is_nil(found)
    assert.matches("two networks of CMC", why)
  end)

  it("stand behind any prefix, in any part of the file", function()
    for _, prefix in ipairs { "module.", "backbone.", "module.backbone.", "_orig_mod." } do
      for _, place in ipairs { "state_dict", "model", "weights" } do
        local file = { [place] = trunk(18, { prefix = prefix }), optimizer = { state = {} }, epoch = 3 }
        local found = published.recognise(file)
        assert.same({ "state dict", "resnet18", 3, { optimizer = 1 } },
          { found.layout, found.arch, found.epoch, found.left_out })
        assert.same({ 64, 3, 7, 7 }, found.state["conv1.weight"].shape)
      end
    end
  end)

  it("are those of the network itself where its average is there, too", function()
    local file = { model_ema = trunk(34), model = trunk(18, { prefix = "module." }) }
    local found = published.recognise(file)
    assert.same({ "resnet18", { model_ema = 216 } }, { found.arch, found.left_out })
    assert.equal("resnet34", published.recognise({ model_ema = trunk(34) }).arch)
  end)

  it("may be a module that was pickled as a whole", function()
    local function module(modules, parameters)
      local state = { _modules = modules, _parameters = parameters or {} }
      return setmetatable({ class = "M", state = state }, cld.io.record)
    end
    local function tree(state)
      local root = module {}
      for name, value in pairs(state) do
        local at = root.state
        for part in name:gmatch "([^.]+)%." do
          at._modules[part] = at._modules[part] or module {}
          at = at._modules[part].state
        end
        at._parameters[name:match "[^.]+$"] = value
      end
      return root
    end
    local found = published.recognise(tree(trunk(18)))
    assert.same({ "state dict", "resnet18", 120 }, { found.layout, found.arch, count(found.state) })
    assert.equal("resnet18", published.recognise({ model = tree(trunk(18)) }).arch)
    local endless = module {}
    endless.state._modules.again = endless
    assert.is_nil(published.recognise(endless))
  end)

  local function moco(heads, file)
    local state = trunk(50, { prefix = "module.encoder_q." })
    for name in pairs(trunk(50)) do state["module.encoder_k." .. name] = cld.zeros(1) end
    for name, shape in pairs(heads) do
      state["module.encoder_q." .. name] = tensor(table.unpack(shape))
      state["module.encoder_k." .. name] = cld.zeros(1)
    end
    local value = { epoch = 200, arch = "resnet50", state_dict = state }
    for key, part in pairs(file or {}) do value[key] = part end
    return value
  end

  it("of MoCo v2 + CLD, with either head", function()
    local fc = linear("fc.0", 2048)
    local plain = merge(fc, linear("instDis", 128), linear("groupDis", 128))
    local found = published.recognise(moco(plain))
    assert.same({ "MoCo v2 + CLD", "resnet50", 200, 69.2 }, { found.layout, found.arch, found.epoch, found.published })
    local branches = { "instance", "group" }
    assert.same({ head = "mlp", dim = 128, branches = branches, width = 64, small = false }, found.settings)
    for name in pairs(plain) do assert.truthy(found.state[name], name) end
    assert.same({ ["module.encoder_k."] = 324 }, found.left_out)

    found = published.recognise(moco(merge(fc, norm_linear("instDis", 96), norm_linear("groupDis", 96))))
    assert.same({ head = "norm_mlp", dim = 96, branches = branches, width = 64, small = false }, found.settings)
    assert.equal(70.0, found.published)

    found = published.recognise(moco(merge(linear("fc", 128), linear("groupDis", 128))))
    assert.same({ "MoCo v2 + CLD", "linear" }, { found.layout, found.settings.head })
    assert.same({ 128, 2048 }, found.state["fc.weight"].shape)
  end)

  it("of MoCo v1 and v2", function()
    local found = published.recognise(moco(merge(linear("fc.0", 2048), linear("fc.2", 128))))
    assert.same({ "MoCo v2", 67.5, "mlp", 128, { "instance" } },
      { found.layout, found.published, found.settings.head, found.settings.dim, found.settings.branches })
    assert.truthy(found.state["fc.2.bias"])
    found = published.recognise(moco(linear("fc", 128)))
    assert.same({ "MoCo v1", "linear", 128 }, { found.layout, found.settings.head, found.settings.dim })
    assert.equal(60.6, found.published)
    found = published.recognise(moco(merge(linear("fc.0", 2048), linear("fc.2", 128)), { epoch = 800 }))
    assert.equal(71.1, found.published)
  end)

  it("have the queue as rows", function()
    local value = moco(linear("fc", 128))
    value.state_dict["module.queue"] = cld.arange(0, 6):reshape(2, 3)
    value.state_dict["module.queue_ptr"] = cld.tensor({ 1 }, "i64")
    local found = published.recognise(value)
    assert.same({ { 0, 3 }, { 1, 4 }, { 2, 5 } }, found.queue.keys:totable())
    assert.equal(1, found.queue.pointer)
    assert.equal(1, found.left_out["module.queue"])
  end)

  -- As InfoMin + CLD and PyContrast save it: the trunk behind "module.encoder.", heads beside it.
  local function infomin(heads, fields, depth)
    local encoder = trunk(depth or 18, { prefix = "module.encoder.", width = depth and 64 or 8 })
    local value = {
      model = with(encoder, heads), model_ema = trunk(18, { prefix = "encoder." }),
      contrast = { memory = cld.zeros(5, 128) }, optimizer = { state = {}, param_groups = {} },
    }
    for name, field in pairs(fields or {}) do value[name] = field end
    return value
  end

  -- All of them go into our network, by names without "module.".
  local function fits(found, heads)
    for name in pairs(heads) do assert.truthy(found.state[name:gsub("^module%.", "")], name) end
    local net = cld.models[found.constructor](found.settings)
    net:load_state_dict(found.state)
  end

  it("of InfoMin + CLD, with either head and patches", function()
    local jigsaw = merge(linear("module.head_jig.fc1.0", 64, 64), norm_linear("module.head_jig.fc1.2", 128, 64),
      norm_linear("module.head_jig.fc2", 128, 1152))
    local heads = merge(linear("module.head.0", 64, 64), norm_linear("module.proj1.0", 128, 64),
      norm_linear("module.proj2.0", 128, 64), jigsaw)
    assert.equal(71.5, published.recognise(infomin(heads, { epoch = 200 }, 50)).published)
    local found = published.recognise(infomin(heads, { epoch = 200 }))
    assert.same({ "InfoMin + CLD", "resnet18" }, { found.layout, found.arch })
    assert.same({ layout = "infomin", head = "norm_mlp", dim = 128, branches = { "instance", "group" }, width = 8,
      small = false, jigsaw = true }, found.settings)
    assert.same({ contrast = 1, model_ema = 120, optimizer = 1 }, found.left_out)
    assert.same({ { 5, 128 } }, { found.queue.keys.shape, found.queue.pointer })
    fits(found, heads)

    heads = merge(linear("module.proj1.0", 128, 64), linear("module.proj2.0", 128, 64),
      linear("module.head_jig.fc1", 128, 64), linear("module.head_jig.fc2", 128, 1152))
    found = published.recognise(infomin(heads, { epoch = 100 }))
    assert.same({ "InfoMin + CLD", "linear", true }, { found.layout, found.settings.head, found.settings.jigsaw })
    fits(found, heads)
  end)

  it("of PyContrast, with patches and without", function()
    local heads = merge(linear("module.head.0", 64, 64), linear("module.head.2", 128, 64))
    local found = published.recognise(infomin(heads))
    assert.same({ "PyContrast", "infomin", "mlp", { "instance" } },
      { found.layout, found.settings.layout, found.settings.head, found.settings.branches })
    assert.is_nil(found.settings.jigsaw)
    fits(found, heads)
    heads = merge(heads, linear("module.head_jig.fc1.0", 64, 64), linear("module.head_jig.fc1.2", 128, 64),
      linear("module.head_jig.fc2", 128, 1152))
    found = published.recognise(infomin(heads))
    assert.is_true(found.settings.jigsaw)
    fits(found, heads)
    assert.equal("PyContrast", published.recognise({ model = trunk(50, { prefix = "module.encoder." }) }).layout)
    assert.equal("linear", published.recognise(infomin(linear("module.head.0", 128, 64))).settings.head)
  end)

  it("with a head for patches that is not whole leave it out", function()
    local heads = merge(linear("module.head.0", 64, 64), linear("module.head.2", 128, 64))
    local found = published.recognise(infomin(merge(heads, linear("module.head_jig.fc2", 128, 1152))))
    assert.is_nil(found.settings.jigsaw)
    assert.equal(2, found.left_out["module.head_jig."])
  end)

  it("of ours in the layout of InfoMin, and with a stem of its own", function()
    local net = cld.models.resnet18 {
      layout = "infomin", head = "norm_mlp", jigsaw = true, width = 4, stem = 8, dim = 6,
    }
    local found = published.recognise(net:state_dict())
    assert.same(cld.models.description(net).settings, found.settings)
  end)

  it("of PyContrast's CMC, whose first encoder is taken", function()
    local state = merge_tensors(trunk(18, { prefix = "module.encoder1." }), trunk(18, { prefix = "module.encoder2." }))
    local found = published.recognise { model = state }
    assert.same({ "PyContrast", "resnet18" }, { found.layout, found.arch })
    assert.truthy(found.left_out["module.encoder2."])
  end)

  it("with counters that are no integers, as of a state dict that was averaged as a whole", function()
    local state = trunk(18)
    state["bn1.num_batches_tracked"] = cld.tensor(7.0)
    local counter = published.recognise(state).state["bn1.num_batches_tracked"]
    assert.same({ "i64", 7 }, { counter.dtype, counter:item() })
  end)

  it("of CIFAR's MoCo + CLD", function()
    local state = trunk(18, { prefix = "module.", shortcut = "shortcut", kernel = 3 })
    with(state, merge(linear("module.linear", 128, 512), linear("module.groupDis.0", 128, 512)))
    local contrast = { memory = cld.zeros(7, 128) }
    local found = published.recognise { model = state, model_ema = {}, contrast = contrast, epoch = 5 }
    assert.same({ "CIFAR MoCo + CLD", "resnet18_cifar", "cifar" }, { found.layout, found.constructor, found.view.kind })
    assert.same({ stem = "cifar", width = 64, low_dim = 128, norm_linear = false }, found.settings)
  end)

  -- ---- files --------------------------------------------------------------------

  describe("in a file", function()
    local folder = process.temporary_folder()
    local texts = torch_files.all()
    local function load(name)
      process.write(folder .. "/x.pth", texts[name])
      return (cld.load(folder .. "/x.pth"))
    end
    teardown(function() process.remove(folder) end)

    -- The fixture's tensors are the numbers of their entries.
    local function number(t) return t:reshape(-1):narrow(1, 1, 1):item() end

    it("of the authors' MoCo v2 + CLD are read whole", function()
      local found = published.recognise(load "legacy MoCo v2 + CLD")
      assert.same({ "MoCo v2 + CLD", "resnet18", 200, "norm_mlp" },
        { found.layout, found.arch, found.epoch, found.settings.head })
      assert.same({ 0, 120 }, { number(found.state["conv1.weight"]), number(found.state["fc.0.weight"]) })
      assert.same({ 65536, 128 }, found.queue.keys.shape)
      assert.same({ amp = 1, args = 1, optimizer = 1, ["module.encoder_k."] = 124, ["module.queue"] = 1,
        ["module.queue_ptr"] = 1 }, found.left_out)
      assert.is_nil(found.published) -- no ResNet-50
    end)

    it("of the authors' NPID go into our encoder", function()
      local found = published.recognise(load "legacy CIFAR NPID")
      assert.same({ "CIFAR NPID + CLD", "resnet18_cifar", 199 }, { found.layout, found.constructor, found.epoch })
      assert.same({ stem = "cifar", width = 64, low_dim = 128, norm_linear = true }, found.settings)
      local net = cld.models[found.constructor](found.settings)
      net:load_state_dict(found.state)
      local state = net:state_dict()
      assert.equal(count(state), count(found.state))
      for name, value in pairs(found.state) do assert.equal(number(value), number(state[name]), name) end
    end)
  end)

  -- ---- what is none ---------------------------------------------------------------

  it("of anything else are not recognised, and why", function()
    local function why(value)
      local found, reason = published.recognise(value)
      assert.is_nil(found)
      return reason
    end
    local nothing = "it holds no ResNet: no names like conv1.weight and layer1.0.conv1.weight"
    for _, value in ipairs { {}, 5, "text", { state_dict = {} }, cld.io.none } do
      assert.equal(nothing, why(value))
    end
    assert.equal(nothing .. ", and its tensors are a", why { model = { a = cld.zeros(1) } })
    assert.equal(nothing .. ", and its tensors are backbone.0.weight and 1 more",
      why { epoch = 3, state_dict = { ["backbone.0.weight"] = cld.zeros(1), ["backbone.1.bias"] = cld.zeros(1) } })
    assert.equal("its first convolution takes 1 channels; images have 3",
      why { model = trunk(50, { prefix = "module.encoder1.", channels = 1 }) })
    local short = trunk(50)
    for name in pairs(short) do
      if name:find "^layer4%.2%." then short[name] = nil end
    end
    assert.equal("a ResNet with 3,4,6,2 blocks is none of those known", why(short))
    assert.equal("a ResNet-50 whose blocks have 32 / 64 of the width is none of those known",
      why(trunk(50, { width_per_group = 32 })))
    for _, name in ipairs { "layer1.0.conv2.weight", "layer3.0.conv1.weight", "layer4.2.conv1.weight" } do
      local lacking = trunk(50)
      lacking[name] = nil
      assert.equal(("its %s is missing"):format(name), why { state_dict = lacking })
    end
    local headless = trunk(101) -- without a bottleneck's third convolution in the first block
    headless["layer1.0.conv3.weight"] = nil
    assert.equal("its layer1.0.conv3.weight is missing", why(headless))
    local cut = trunk(18)
    for name in pairs(cut) do
      if name:find "^layer[34]%." then cut[name] = nil end
    end
    assert.equal("its layer3.0.conv1.weight is missing", why(cut))
    local flat = trunk(18)
    flat["layer1.0.conv1.weight"] = cld.zeros(3)
    assert.equal("its layer1.0.conv1.weight has no 4 dimensions", why(flat))
  end)
end)
