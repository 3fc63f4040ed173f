--- Encoders for images of any size: torchvision's stem (a 7 x 7 convolution and a max-pool, both with stride 2) layer
-- by layer and as a network, how its convolutions are initialized, and what is pooled at the end.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local encoders = require "spec.support.encoders"
local formula = require "spec.support.formula"
local layers = require "spec.support.layers"
local nn = cld.nn.functional

local function convolve(x, w) return nn.conv2d(x, w, nil, { stride = 2, padding = 3 }) end
local function pool(x) return nn.max_pool2d(x, 3, { stride = 2, padding = 1 }) end

local sides = { { 224, 224 }, { 33, 30 }, { 9, 15 } }

describe("the stem's layers", function()
  it("have the gradients of central differences", function()
    check.gradcheck(convolve,
      { formula.uniform("x", { 2, 3, 11, 8 }, "f64"), formula.uniform("w", { 4, 3, 7, 7 }, "f64") })
    check.gradcheck(pool, { formula.uniform("x", { 2, 3, 9, 6 }, "f64") })
  end)

  for _, side in ipairs(sides) do
    it(("in f32 are the f64 loops', %d x %d"):format(side[1], side[2]), function()
      layers.like_f64(function(t) return convolve(t.x, t.w) end,
        { x = { 1, 3, side[1], side[2] }, w = { 16, 3, 7, 7 } }, 1e-5) -- a weight's gradient sums 112 x 112 products
      for _, channels in ipairs { 16, 3 } do
        layers.like_f64(function(t) return pool(t.x) end, { x = { 1, channels, side[1] // 2, side[2] // 2 } }, 1e-6)
      end
    end)
  end
end)

devices.each("the stem", function(device)
  for _, side in ipairs(sides) do
    it(("is the cpu's, %d x %d"):format(side[1], side[2]), function()
      local x, w = formula.uniform("x", { 1, 3, side[1], side[2] }), formula.uniform("w", { 8, 3, 7, 7 }, "f32", 0.1)
      devices.same(device, convolve, { x, w }, { gradients = true, atol = 1e-4, rtol = 1e-3 })
      devices.same(device, pool, { formula.uniform("y", { 1, 8, (side[1] + 1) // 2, (side[2] + 1) // 2 }) },
        { gradients = true, atol = 1e-6, rtol = 1e-5 })
    end)
  end

  it("begins a network that is the cpu's, forward and backward", function()
    local function run(where)
      local net = cld.models.resnet18_cifar { stem = "imagenet", width = 8, low_dim = 16 }
      formula.fill(net, "f32"):to(where)
      local instance, group = net(formula.uniform("x", { 2, 3, 65, 49 }):to(where))
      local weights = formula.uniform("weights", { 2, 16 }):to(where)
      local loss = ((instance + group) * weights):sum()
      loss:backward()
      return { instance:detach(), group:detach(), net.conv1.weight.grad, net.layer1[1].conv1.weight.grad }
    end
    local expected = run "cpu"
    for i, result in ipairs(run(device)) do
      check.close(result:to "cpu", expected[i], { atol = 1e-4 * expected[i]:abs():amax():item(), rtol = 0 })
    end
  end)
end)

describe("resnet18_cifar with torchvision's stem", function()
  for _, size in ipairs { 65, 224 } do
    for _, case in ipairs(encoders.cases) do
      it(("agrees with PyTorch, forward and backward, %d pixels, %s"):format(size, case.dtype), function()
        local expected = encoders.entries(cld.load "spec/fixtures/stem.safetensors", size .. ".")
        local net = cld.models.resnet18_cifar { stem = "imagenet", low_dim = 16, width = 16 }
        encoders.like_pytorch(net, size, expected, case)
      end)
    end
  end

  local function convolutions(net)
    local found = {}
    for name, weight in net:named_parameters() do
      if #weight.shape == 4 then found[name] = weight end
    end
    return found
  end

  it("draws its convolutions with the deviation sqrt(2 / fan_out)", function()
    cld.manual_seed(1)
    for name, weight in pairs(convolutions(cld.models.resnet18_cifar { width = 32, stem = "imagenet" })) do
      local shape = weight.shape
      local wanted = math.sqrt(2 / (shape[1] * shape[3] * shape[4]))
      local error = math.abs(weight:detach():square():mean():sqrt():item() / wanted - 1)
      assert.is_true(error < 4 / math.sqrt(2 * weight:numel()), name .. " is off by " .. error) -- four sigma
      assert.is_true(weight:abs():amax():item() > 2 * wanted) -- a normal, not a uniform distribution
      assert.is_true(weight.requires_grad)
    end
  end)

  it("leaves CIFAR's convolutions to PyTorch's default", function()
    cld.manual_seed(1)
    for name, weight in pairs(convolutions(cld.models.resnet18_cifar { width = 32, stem = "cifar" })) do
      local shape = weight.shape
      local bound = 1 / math.sqrt(shape[2] * shape[3] * shape[4])
      local largest = weight:abs():amax():item()
      assert.is_true(largest <= bound and largest > 0.95 * bound, name)
    end
  end)

  it("has the parameter names that CIFAR's has", function()
    local function names(stem)
      local list = {}
      local net = cld.models.resnet18_cifar { width = 16, stem = stem }
      for name in net:named_parameters() do list[#list + 1] = name end
      return list
    end
    assert.same(names "cifar", names "imagenet")
  end)

  it("refuses another stem", function()
    check.fails(function() cld.models.resnet18_cifar { stem = "vgg" } end,
      "models.resnet18_cifar: stem is 'vgg'; expected 'cifar' or 'imagenet'")
  end)
end)

describe("what an encoder pools", function()
  -- The features of 96-pixel images, and the 12 x 12 maps that they are pooled from.
  local function run(window)
    cld.manual_seed(1)
    local net = cld.models.resnet18_cifar { width = 8, low_dim = 8, pool_window = window }
    return cld.no_grad(function()
      local x = formula.uniform("x", { 2, 3, 96, 96 })
      local maps = net.bn1(net.conv1(x), { relu = true })
      for _, name in ipairs { "layer1", "layer2", "layer3", "layer4" } do maps = net[name](maps) end
      assert.same({ 2, 64, 12, 12 }, maps.shape)
      return net:features(x), maps
    end)
  end

  it("is the whole map", function()
    local features, maps = run()
    check.close(features, maps:mean { 3, 4 }, { atol = 1e-4, rtol = 1e-4 })
  end)

  it("is the corner where a window is given", function()
    local features, maps = run(7)
    check.close(features, maps:narrow(3, 1, 7):narrow(4, 1, 7):mean { 3, 4 }, { atol = 1e-4, rtol = 1e-4 })
  end)

  it("must be one window", function()
    local net = cld.models.resnet18_cifar { width = 8, pool_window = 2 }
    check.fails(function() net(cld.randn(1, 3, 32, 32)) end,
      "pool_window: 2 x 2 windows fit into the 4 x 4 maps; expected one")
  end)
end)

describe("models.from_options", function()
  local function declared(...)
    return cld.options({ cld.options.encoder, cld.options.images, { "seed", 1, "", integer = true } }, { ... })
  end

  it("takes the stem by the size", function()
    assert.is_nil(cld.models.from_options(declared("--width", "16", "--size", "127")).maxpool)
    assert.truthy(cld.models.from_options(declared("--width", "16", "--size", "128")).maxpool)
  end)

  it("takes the stem that is given", function()
    assert.truthy(cld.models.from_options(declared("--width", "16", "--size", "32", "--stem", "imagenet")).maxpool)
    assert.is_nil(cld.models.from_options(declared("--width", "16", "--size", "224", "--stem", "cifar")).maxpool)
  end)

  it("takes CIFAR's where no stem is declared", function()
    local net = cld.models.from_options { arch = "resnet34", width = 16, low_dim = 8, norm_linear = true }
    assert.is_nil(net.maxpool)
    assert.same({ 128, 8 }, net.linear.weight.shape)
    assert.equal(6, #net.layer3)
  end)

  it("pools the corner where that is asked for", function()
    assert.equal(7, cld.models.from_options(declared("--width", "16", "--size", "96", "--pool", "corner")).pool_window)
    assert.is_false(cld.models.from_options(declared("--width", "16", "--size", "96")).pool_window)
  end)

  for _, case in ipairs { { "32", 4, "cifar" }, { "112", 14, "cifar" }, { "192", 6, "imagenet" } } do
    it("refuses a corner of maps that it does not fit once, " .. case[1] .. " pixels", function()
      local opt = declared("--width", "16", "--size", case[1], "--pool", "corner")
      check.fails(function() cld.models.from_options(opt) end,
        ("option '%%-%%-pool': corner is 7 x 7 of maps of 7 to 13 rows; %s pixels make %d with the stem %s"):format(
          case[1], case[2], case[3]))
    end)
  end
end)
