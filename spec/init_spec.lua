--- nn.init: the distributions that torch.nn.init documents, from the one generator.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local normal = require "cld.nn.normal"

local init = cld.nn.init

-- mean and deviation of the elements
local function moments(t)
  local x = t:detach():to "f64"
  return x:mean():item(), x:std():item()
end

local function near(t, mean, deviation)
  local m, s = moments(t)
  check.close(m, mean, { atol = 4 * deviation / math.sqrt(t:numel()) })
  check.close(s, deviation, { rtol = 0.02 })
end

-- Uniform in +-bound: all within, and of that deviation.
local function uniform(t, bound)
  near(t, 0, bound / math.sqrt(3))
  assert.is_true(t:detach():abs():max():item() <= bound)
end

describe("nn.init", function()
  before_each(function() cld.manual_seed(7) end)

  it("fills parameters, and returns them", function()
    local w = cld.nn.linear(100, 200).weight
    assert.equal(w, init.constant_(w, 3))
    assert.equal(3, w:detach():min():item())
    assert.equal(1, init.ones_(w):detach():max():item())
    assert.equal(0, init.zeros_(w):detach():max():item())
    near(init.normal_(w, 2, 0.5), 2, 0.5)
    near(init.uniform_(w, 1, 3), 2, 1 / math.sqrt(3))
    assert.is_true(w.requires_grad and w.is_leaf)
  end)

  it("goes by the one generator", function()
    local first = init.normal_(cld.zeros(5)):totable()
    cld.manual_seed(7)
    assert.same(first, cld.zeros(5):normal_():totable())
  end)

  it("goes by the fans, those of convolutions too", function()
    local w = cld.zeros(64, 16, 3, 3) -- fan_in 144, fan_out 576
    near(init.xavier_normal_(w, 2), 0, 2 * math.sqrt(2 / 720))
    uniform(init.xavier_uniform_(w), math.sqrt(6 / 720))
    near(init.kaiming_normal_(w), 0, math.sqrt(2 / 144))
    near(init.kaiming_normal_(w, { mode = "fan_out", nonlinearity = "relu" }), 0, math.sqrt(2 / 576))
    near(init.kaiming_normal_(w, { nonlinearity = "linear" }), 0, math.sqrt(1 / 144))
    uniform(init.kaiming_uniform_(w, { a = 0.5 }), math.sqrt(3 * 2 / 1.25 / 144))
    uniform(init.kaiming_uniform_(w, { a = math.sqrt(5) }), 1 / 12)
    uniform(init.fan_in_uniform_(w, 144), 1 / 12)
  end)

  it("has PyTorch's gains", function()
    check.close(init.calculate_gain "relu", math.sqrt(2))
    check.close(init.calculate_gain "tanh", 5 / 3)
    check.close(init.calculate_gain "selu", 3 / 4)
    check.close(init.calculate_gain "conv2d", 1)
    check.close(init.calculate_gain("leaky_relu", 0.2), math.sqrt(2 / 1.04))
    check.close(init.calculate_gain "leaky_relu", math.sqrt(2 / (1 + 0.01 ^ 2)))
  end)

  it("draws ResNet's convolutions to the bit as normal_ of sqrt(2 / fan_out) does", function()
    local net = cld.models.resnet18 { width = 4, small = true, head = false }
    cld.manual_seed(3)
    require "cld.models.resnet".draw_convolutions(net)
    cld.manual_seed(3)
    for _, w in ipairs(net:parameters()) do
      if w.ndim == 4 then
        local shape = w.shape
        local plain = cld.zeros(shape):normal_(0, math.sqrt(2 / (shape[1] * shape[3] * shape[4])))
        assert.same(plain:totable(), w:detach():totable())
      end
    end
  end)

  it("trunc_normal_ is the normal distribution between its bounds", function()
    local x = init.trunc_normal_(cld.zeros(200, 500))
    near(x, 0, 0.87962566103423978) -- of N(0, 1) within 2 deviations
    assert.is_true(x:abs():max():item() <= 2)
    local y = init.trunc_normal_(cld.zeros(1000, 100), 1, 0.5, 1, 9)
    near(y, 1 + 0.5 * math.sqrt(2 / math.pi), 0.5 * math.sqrt(1 - 2 / math.pi))
    assert.is_true(y:min():item() >= 1)
    local half = x:le(0.5):to("f64"):mean():item()
    check.close(half, (normal.share_below(0.5) - normal.share_below(-2)) / (1 - 2 * normal.share_below(-2)),
      { atol = 0.007 })
  end)

  it("knows the normal distribution: values of torch.special.ndtri and of Python's erfc", function()
    local shares = cld.tensor({ 1e-300, 1e-12, 0.07, 0.075, 0.3, 0.5, 0.999, 0, 1 }, "f64")
    check.close(normal.quantiles(shares), { -37.047096299361201, -7.0344838253011313, -1.4757910281791704,
      -1.4395314709384563, -0.52440051270804089, 0, 3.0902323061678132, -math.huge, math.huge }, { rtol = 1e-14 })
    check.close(normal.share_below(-8), 6.220960574271785e-16, { rtol = 1e-12, atol = 0 })
    check.close(normal.share_below(-2.9), 0.0018658133003840384, { rtol = 1e-13, atol = 0 })
    check.close(normal.share_below(-1), 0.15865525393145702, { rtol = 1e-14, atol = 0 })
    check.close(normal.share_below(3), 0.9986501019683699, { rtol = 1e-15 })
  end)

  it("orthogonal_ makes orthonormal rows or columns", function()
    for _, shape in ipairs { { 70, 70 }, { 40, 90 }, { 90, 40 }, { 8, 3, 3, 3 }, { 1, 5 } } do
      local w = init.orthogonal_(cld.zeros(shape, "f64"), 2):reshape(shape[1], -1)
      local product = w.shape[1] <= w.shape[2] and w:matmul(w:t()) or w:t():matmul(w)
      check.close(product, cld.eye(#product, "f64") * 4, { atol = 1e-13 })
    end
    local signs = init.orthogonal_(cld.zeros(64, 64)):sign():mean():item()
    check.close(signs, 0, { atol = 0.06 })
  end)

  it("says what is wrong", function()
    local w, v = cld.zeros(2, 3), cld.zeros(3)
    check.fails(function() init.xavier_uniform_(v) end, "xavier_uniform_: fans need two dim.*, got f32%[3%]")
    check.fails(function() init.kaiming_normal_(w, { mode = "fan" }) end, "kaiming_normal_: mode must be 'fan_in' or")
    check.fails(function() init.kaiming_normal_(w, { nonlinearity = "rel" }) end, "is 'rel'; .*mean 'relu'")
    check.fails(function() init.kaiming_uniform_(w, { gain = 2 }) end, "unknown field 'gain'")
    check.fails(function() init.trunc_normal_(w, 0, 1, 2, 1) end, "std above 0 and a below b")
    check.fails(function() init.orthogonal_(v) end, "orthogonal_: expected two dimensions and more")
    check.fails(function() init.orthogonal_(cld.zeros({ 2, 2 }, "i64")) end,
      "orthogonal_: expected a floating point tensor, got i64%[2, 2%]")
    check.fails(function() init.fan_in_uniform_(v, 0) end, "fan_in_uniform_: fan_in must be a positive integer, got 0")
    check.fails(function() init.normal_(3) end, "normal_: expected a tensor, got 3")
    check.fails(function() init.uniform_(cld.arange(3)) end, "uniform_: expected a floating point tensor, got i64%[3%]")
    check.fails(function() init.xavier_normal_(w, "2") end, "gain must be a number, got '2'")
    check.fails(function() return init.kaiming end, "cld.nn.init has no 'kaiming'")
  end)
end)

devices.each("nn.init", function(device)
  it("draws the cpu's numbers", function()
    for _, name in ipairs { "kaiming_normal_", "xavier_uniform_", "trunc_normal_", "orthogonal_" } do
      cld.manual_seed(2)
      local here = init[name](cld.zeros(12, 10))
      cld.manual_seed(2)
      check.close(init[name](cld.zeros({ 12, 10 }, { device = device })), here, { atol = 1e-6 })
    end
  end)
end)
