--- The layers as modules: what their constructors check, batch_norm1d, dropout, functions as layers, and models whose
-- layers were replaced. The mathematics is in conv_spec, norm_spec, pool_spec and ops_*_spec.
local cld = require "cld"
local check = require "spec.support.check"
local nn = cld.nn

local function fails(f, pattern) check.fails(f, "layers_spec.lua:%d+: " .. pattern) end

describe("constructors", function()
  it("name a class that is not called", function()
    check.fails(function() nn.sequential(nn.relu) end,
      "layers_spec.lua:%d+: sequential: entry 1 is the class relu, not relu%(%); expected a module")
  end)

  it("name the kind of an object that is no module", function()
    check.fails(function() nn.sequential(cld.augment.base()) end,
      "sequential: entry 1 is an augmentation; expected a module")
  end)

  it("say what is wrong", function()
    fails(function() nn.conv2d(3, 4) end, "conv2d: kernel must be a positive integer, got nil")
    fails(function() nn.conv2d(3, 4, { 3 }) end, "conv2d: kernel must be an integer or a pair of integers")
    fails(function() nn.conv2d(0, 4, 3) end, "conv2d: in_channels must be a positive integer, got 0")
    fails(function() nn.conv2d(3, 2.5, 3) end, "conv2d: out_channels must be a positive integer, got 2.5")
    fails(function() nn.conv2d(3, 4, 3, { groups = 2 }) end, "conv2d: 2 groups do not divide 3 input and 4 output")
    fails(function() nn.conv2d(3, 4, 3, { strid = 2 }) end, "conv2d: unknown field 'strid'; did you mean 'stride'?")
    fails(function() nn.conv2d(3, 4, 3, { stride = 0 }) end, "conv2d: stride must be .*, got 0")
    fails(function() nn.conv2d(3, 4, 3, { bias = 0 }) end, "conv2d: bias must be a boolean, got 0")
    fails(function() nn.conv2d(3, 4, 3, 2) end, "conv2d: expected a table of options, got 2")
    fails(function() nn.linear("a", 2) end, "linear: in_features must be a positive integer, got 'a'")
    fails(function() nn.linear(2, 2, { biased = false }) end, "linear: unknown field 'biased'; did you mean 'bias'?")
    fails(function() nn.norm_linear(2) end, "norm_linear: out_features must be a positive integer, got nil")
    fails(function() nn.batch_norm2d {} end, "batch_norm2d: channels must be a positive integer, got a table")
    fails(function() nn.batch_norm2d(3, { eps = "1" }) end, "batch_norm2d: eps must be a number, got '1'")
    fails(function() nn.max_pool2d() end, "max_pool2d: kernel must be a positive integer, got nil")
    fails(function() nn.avg_pool2d(2, { strides = 2 }) end, "avg_pool2d: unknown field 'strides'")
    fails(function() nn.adaptive_avg_pool2d(0) end, "adaptive_avg_pool2d: the output size must be a positive .*, got 0")
    fails(function() nn.conv2d(3, 4, 3, { padding_mode = "mirror" }) end, "conv2d: padding_mode must be 'zeros', 'refl")
    fails(function() nn.layer_norm() end, "layer_norm: shape must be a positive integer, got nil")
    fails(function() nn.layer_norm { 3, 0 } end, "layer_norm: shape must be a positive integer, got 0")
    fails(function() nn.layer_norm(3, { eps = -1 }) end, "layer_norm: eps must be above 0, got %-1")
    fails(function() nn.layer_norm(3)(cld.ones(2, 4)) end,
      "layer_norm: x has 4 features, the shape takes 3 %(x is f32%[2, 4%]%)")
    fails(function() nn.group_norm(3, 4) end, "group_norm: 3 groups do not divide 4 channels")
    fails(function() nn.group_norm(2, 4)(cld.ones(2, 6, 1, 1)) end,
      "group_norm: x has 6 channels, the layer takes 4 %(x is")
    fails(function() nn.gelu "tanh" end, "gelu: expected a table of options, got 'tanh'")
    fails(function() nn.gelu { approximate = "tan" } end, "gelu: approximate must be 'none' or 'tanh', got 'tan'")
    fails(function() nn.leaky_relu "a" end, "leaky_relu: negative_slope must be a number, got 'a'")
    fails(function() nn.silu(2) end, "silu takes no arguments, got 2")
    fails(function() nn.dropout(1.5) end, "dropout: p must be a number from 0 to 1, got 1.5")
    fails(function() nn.relu { inplace = true } end, "relu takes no arguments, got a table")
  end)

  it("take whole numbers that a division made", function()
    assert.same({ 2, 8 }, nn.linear(16 / 2, 4 / 2).weight.shape)
  end)
end)

describe("batch_norm", function()
  it("works without affine parameters or running statistics", function()
    local x = cld.randn(4, 3, 2, 2)
    local plain = nn.batch_norm2d(3, { affine = false })
    check.close(plain(x), nn.batch_norm2d(3)(x))
    assert.equal(0, #plain:parameters())
    local untracked = nn.batch_norm2d(3, { track_running_stats = false })
    assert.equal(0, #untracked:buffers())
    local trained = untracked(x)
    check.close(untracked:eval()(x), trained)
  end)

  it("1d is 2d over maps of one column", function()
    for _, shape in ipairs { { 5, 3 }, { 2, 3, 4 } } do
      local one, two = nn.batch_norm1d(3), nn.batch_norm2d(3)
      local x = cld.randn(shape):requires_grad_()
      local maps = x:detach():reshape { shape[1], shape[2], shape[3] or 1, 1 }:requires_grad_()
      local y, z = one(x), two(maps)
      assert.same(shape, y.shape)
      check.close(y, z:reshape(shape))
      check.close(one.running_var, two.running_var)
      y:pow(3):sum():backward()
      z:pow(3):sum():backward()
      check.close(x.grad, maps.grad:reshape(shape), { atol = 1e-4, rtol = 1e-4 })
      assert.equal(1, one.num_batches_tracked:item())
      check.close(one:eval()(x), two:eval()(maps):reshape(shape))
      assert.equal(1, one.num_batches_tracked:item())
      assert.same({ "bias", "num_batches_tracked", "running_mean", "running_var", "weight" }, (function()
        local keys = {}
        for key in pairs(one:state_dict()) do keys[#keys + 1] = key end
        table.sort(keys)
        return keys
      end)())
    end
    fails(function() nn.batch_norm1d(3)(cld.ones(2, 3, 4, 5)) end,
      "batch_norm1d: expected a tensor %(N, C%) or %(N, C, L%), got f32%[2, 3, 4, 5%]")
    fails(function() nn.batch_norm1d(3)(cld.ones(2, 4)) end,
      "batch_norm1d: x has 4 features, the layer takes 3 %(x is f32%[2, 4%]%)")
    fails(function() nn.batch_norm2d(3)(cld.ones(2, 4, 1, 1)) end, "batch_norm2d: x has 4 channels, the layer takes 3")
    fails(function() nn.batch_norm2d(3)(cld.ones(2, 3)) end, "batch_norm2d: expected a 4%-d input")
    fails(function() nn.norm_linear(3, 2)(cld.ones(2, 4)) end, "norm_linear: x has 4 features, the weight takes 3$")
  end)
end)

describe("functions as layers", function()
  it("do what the tensor's methods do", function()
    local x = cld.randn(2, 3)
    check.close(nn.relu()(x), x:relu())
    check.close(nn.tanh()(x), x:tanh())
    check.close(nn.sigmoid()(x), x:sigmoid())
    check.close(nn.normalize()(x), x:normalize())
    assert.is_true(rawequal(x, nn.identity()(x)))
    assert.same({ 2, 6 }, nn.flatten()(cld.ones(2, 3, 2)).shape)
    assert.same({ 1, 2, 2, 2 }, nn.max_pool2d(2)(cld.ones(1, 2, 4, 4)).shape)
    assert.same({ 1, 2, 3, 3 }, nn.avg_pool2d({ 2, 2 }, { stride = 1 })(cld.ones(1, 2, 4, 4)).shape)
    for _, name in ipairs { "relu", "sigmoid", "tanh", "softmax", "log_softmax", "normalize", "cross_entropy" } do
      assert.equal("function", type(nn.functional[name]), name)
    end
    check.close(nn.functional.softmax(x, 2), x:softmax(2))
    fails(function() nn.relu()(3) end, "relu: expected a tensor, got 3")
  end)

  it("that have settings hand them on", function()
    local f, x = nn.functional, cld.randn(2, 4, 5, 3)
    check.close(nn.gelu()(x), f.gelu(x))
    check.close(nn.gelu { approximate = "tanh" }(x), f.gelu(x, { approximate = "tanh" }))
    check.close(nn.silu()(x), f.silu(x))
    check.close(nn.leaky_relu()(x), f.leaky_relu(x, 0.01))
    check.close(nn.leaky_relu(0.3)(x), f.leaky_relu(x, 0.3))
    check.close(nn.adaptive_avg_pool2d { 2, 3 }(x), f.adaptive_avg_pool2d(x, { 2, 3 }))
    check.close(nn.layer_norm({ 5, 3 }, { eps = 0.1 })(x), f.layer_norm(x, { 5, 3 }, nil, nil, { eps = 0.1 }))
    check.close(nn.group_norm(2, 4, { eps = 0.1 })(x), f.group_norm(x, 2, nil, nil, { eps = 0.1 }))
  end)

  it("a convolution that pads from its input says in its own name what does not fit", function()
    local function conv(padding) return nn.conv2d(3, 4, 3, { padding = padding, padding_mode = "reflect" }) end
    fails(function() conv(5)(cld.ones(1, 3, 4, 4)) end, "conv2d: padding_mode 'reflect' adds at most 3 to each end of")
    fails(function() conv(1)(cld.ones(3, 4)) end, "conv2d: expected a 4%-d input %(N, C, H, W%), got f32%[3, 4%]")
    fails(function() conv(1)(cld.ones(1, 2, 4, 4)) end, "conv2d: x has 2 channels")
    local layer, x = conv(1), cld.randn(1, 3, 5, 5)
    check.close(layer:clone()(x), layer(x))
  end)

  it("norms of each image have weights that are trained, or none", function()
    for _, layer in ipairs { nn.layer_norm(3), nn.group_norm(2, 4) } do
      local y = layer(cld.randn(2, 4, 5, 3))
      y:square():sum():backward()
      assert.is_true(layer.weight.grad:abs():sum():item() > 0)
      assert.same({ "bias", "weight" }, (function()
        local keys = {}
        for key in pairs(layer:state_dict()) do keys[#keys + 1] = key end
        table.sort(keys)
        return keys
      end)())
    end
    assert.equal(0, #nn.layer_norm(3, { affine = false }):parameters())
    assert.equal(0, #nn.group_norm(2, 4, { affine = false }):parameters())
  end)

  it("show their settings", function()
    assert.equal("layer_norm(3x4)", tostring(nn.layer_norm { 3, 4 }):match "^layer_norm%b()")
    local group = nn.group_norm(2, 4, { affine = false })
    assert.equal("group_norm(2 groups of 4, not affine)", tostring(group):match "^%g+%b()")
    assert.equal("adaptive_avg_pool2d(2x3)", tostring(nn.adaptive_avg_pool2d { 2, 3 }):match "^%g+%b()")
    local conv = nn.conv2d(3, 4, 3, { padding = 1, padding_mode = "circular" })
    assert.equal("conv2d(3 -> 4, 3x3, padding 1, circular)", tostring(conv):match "^%g+%b()")
  end)

  it("dropout of everything gives 0, and no gradient", function()
    local x = cld.ones(2, 3):requires_grad_()
    local y = nn.dropout(1)(x)
    y:sum():backward()
    assert.same({ { 0, 0, 0 }, { 0, 0, 0 } }, y:totable())
    assert.same({ { 0, 0, 0 }, { 0, 0, 0 } }, x.grad:totable())
  end)

  it("dropout keeps the mean in training and the input in evaluation", function()
    cld.manual_seed(1)
    local layer, x = nn.dropout(0.25), cld.ones(100, 100):requires_grad_()
    local y = layer(x)
    local zeros = y:eq(0):float():mean():item()
    assert.is_true(math.abs(zeros - 0.25) < 0.02, zeros)
    check.close(y:amax(), cld.tensor { 4 / 3 }:reshape {})
    y:sum():backward()
    check.close(x.grad, y:detach())
    assert.is_true(rawequal(x, layer:eval()(x)))
    assert.equal("f64", nn.dropout()(cld.ones({ 2 }, "f64")).dtype)
  end)
end)

describe("a model whose layers were exchanged", function()
  it("closes neither its input nor its outputs", function()
    local net = cld.models.resnet18_cifar { low_dim = 4, width = 16 }
    local x = cld.randn(2, 16, 8, 8)
    net.conv1, net.groupDis = nn.identity(), nn.identity()
    local Kept = nn.module("kept", nn.conv2d)
    function Kept:forward(input)
      self.seen = input
      return nn.conv2d.forward(self, input)
    end
    local kept = Kept(16, 16, 3, { padding = 1 })
    net.layer1[2].conv2 = kept
    local instance, group = net(x)
    assert.same({ 2, 16, 8, 8 }, x.shape)
    assert.same({ 2, 4 }, instance.shape)
    assert.same({ 2, 128 }, group.shape)
    assert.same({ 2, 16, 8, 8 }, kept.seen.shape)
  end)

  it("names unknown options", function()
    fails(function() cld.models.resnet18_cifar { lowdim = 4 } end,
      "models.resnet18_cifar: unknown field 'lowdim'; did you mean 'low_dim'?")
    fails(function() cld.models.resnet18_cifar { width = 0 } end,
      "models.resnet18_cifar: width must be a positive integer, got 0")
  end)
end)
