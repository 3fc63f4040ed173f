--- torchvision's residual blocks and networks, and the heads on them, against PyTorch (fixtures/make_resnets.py); how
-- each kind of parameter is drawn. Names, sizes and settings are in models_spec.lua.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local encoders = require "spec.support.encoders"
local formula = require "spec.support.formula"
local resnet = require "cld.models.resnet"
local heads = require "cld.models.heads"

local path = "spec/fixtures/resnets.safetensors"

-- f64 shows that the mathematics is the same; f32 has seven digits, of which a deep network loses some. Relative to the
-- largest element.
local cases = { { dtype = "f64", tolerance = 1e-11, deep = 1e-10 }, { dtype = "f32", tolerance = 1e-5, deep = 1e-3 } }

local function compare(actual, expected, name, tolerance)
  local scale = expected:abs():amax():item()
  local ok, message = pcall(check.close, actual:detach():to "cpu", expected, { atol = tolerance * scale, rtol = 0 })
  assert(ok, name .. ": " .. tostring(message))
end

-- ---- blocks -------------------------------------------------------------------

local function block(class, input, planes, stride, groups, width_per_group)
  return function()
    return resnet[class](input, planes, {
      stride = stride, groups = groups or 1, width_per_group = width_per_group or 64, shortcut = "downsample",
    })
  end
end

local blocks = {
  basic = block("basic_block", 6, 6, 1),
  basic_projected = block("basic_block", 6, 10, 2),
  bottleneck = block("bottleneck", 12, 3, 1),
  bottleneck_projected = block("bottleneck", 12, 6, 2),
  wide = block("bottleneck", 12, 3, 1, 1, 128),
  grouped = block("bottleneck", 16, 4, 1, 2, 32),
  grouped_projected = block("bottleneck", 16, 8, 2, 4, 16),
}

-- The block in evaluation and training, all its gradients and statistics.
local function check_block(name, dtype, tolerance, device)
  local expected = encoders.entries(cld.load(path), "block." .. name .. ".")
  local one = formula.fill(blocks[name](), dtype):to(device)
  local x = formula.uniform("input", { 2, one.conv1.weight.shape[2], 5, 4 }, dtype):to(device):requires_grad_()
  one:eval()
  compare(cld.no_grad(function() return one(x) end), expected.eval, "evaluation", tolerance)
  one:train()
  local y = one(x)
  compare(y, expected.train, "training", tolerance);
  (y * formula.uniform("weights", y.shape, dtype):to(device)):sum():backward()
  compare(x.grad, expected["grad.input"], "gradient of the input", tolerance)
  for parameter, tensor in one:named_parameters() do
    compare(tensor.grad, expected["grad." .. parameter], "gradient of " .. parameter, tolerance)
  end
  for buffer, tensor in one:named_buffers() do compare(tensor, expected["after." .. buffer], buffer, tolerance) end
end

describe("a residual block", function()
  for name in pairs(blocks) do
    for _, case in ipairs(cases) do
      it(("agrees with torchvision's, %s in %s"):format(name, case.dtype), function()
        check_block(name, case.dtype, case.tolerance, "cpu")
      end)
    end
  end
end)

devices.each("a residual block", function(device)
  for _, name in ipairs { "basic_projected", "bottleneck", "grouped", "grouped_projected" } do
    it("agrees with torchvision's, " .. name, function() check_block(name, "f32", 1e-4, device) end)
  end
end)

-- ---- grouped convolutions -------------------------------------------------------

local widths = { -- channels of the input, the weight's shape, options: ResNeXt's, with few and many channels a group
  { 64, { 64, 2, 3, 3 }, { groups = 32, padding = 1 } },
  { 128, { 128, 4, 3, 3 }, { groups = 32, padding = 1, stride = 2 } },
  { 64, { 64, 16, 3, 3 }, { groups = 4, padding = 1 } },
}

-- Result and gradients in the precision, against f64 on factors that were rounded as the precision rounds them.
local function check_grouped(width, device, precision, dtype, tolerance)
  local function factor(name, shape) return formula.uniform(name, shape):to(dtype):to "f64" end
  local xs, ws = factor("x", { 2, width[1], 5, 6 }), factor("w", width[2])
  local function run(where, of)
    local function leaf(t) return t:to(of):to(where):detach():requires_grad_() end
    local x, w = leaf(xs), leaf(ws)
    local y = cld.nn.functional.conv2d(x, w, nil, width[3])
    local dy = factor("dy", y.shape):to(of):to(where):to(y.dtype)
    y:backward(dy)
    return { y = y:detach(), x = x.grad, w = w.grad }
  end
  local expected = run("cpu", "f64")
  local was = cld.set_precision(precision)
  local ok, actual = pcall(run, device, "f32")
  cld.set_precision(was)
  assert(ok, actual)
  for name, tensor in pairs(expected) do compare(actual[name]:to "f64", tensor, name, tolerance) end
end

for _, device in ipairs { "cpu", table.unpack(devices.names) } do
  describe("a grouped convolution on " .. device, function()
    for _, precision in ipairs { { "fp32", "f32", 2e-6 }, { "bf16", "bf16", 2 ^ -8 }, { "fp16", "f16", 2 ^ -11 } } do
      it("has f64's result and gradients, in " .. precision[1], function()
        for _, width in ipairs(widths) do check_grouped(width, device, table.unpack(precision)) end
      end)
    end
  end)
end

-- ---- heads ------------------------------------------------------------------------

local Headed = cld.nn.module "headed"
function Headed:build(kind, branches)
  self.head, self.branches = kind, branches
  heads.build(self, 12, { head = kind, dim = 5, branches = branches })
end

describe("heads", function()
  for _, kind in ipairs(heads.names) do
    for _, branches in ipairs { { "instance", "group" }, { "instance" }, { "group" } } do
      for _, case in ipairs(cases) do
        local name = ("%s.%s"):format(kind, table.concat(branches, "+"))
        it(("agree with PyTorch, %s in %s"):format(name, case.dtype), function()
          local expected = encoders.entries(cld.load(path), "head." .. name .. ".")
          local net = formula.fill(Headed(kind, branches), case.dtype)
          local x = formula.uniform("input", { 4, 12 }, case.dtype):requires_grad_()
          local features, total = { heads.forward(net, x) }, 0
          for i, branch in ipairs(branches) do
            compare(features[i], expected[branch], branch, case.tolerance)
            total = total + (features[i] * formula.uniform(branch, features[i].shape, case.dtype)):sum()
          end
          total:backward()
          compare(x.grad, expected["grad.input"], "gradient of the input", case.tolerance)
          for parameter, tensor in net:named_parameters() do
            compare(tensor.grad, expected["grad." .. parameter], "gradient of " .. parameter, case.tolerance)
          end
        end)
      end
    end
  end
end)

-- ---- whole networks ---------------------------------------------------------------

local nets = { resnet18 = 4, resnet50 = 4, resnext50_32x4d = 16 }

local function joined(list)
  local names = {}
  for name in list do names[#names + 1] = name end
  return table.concat(names, "\n")
end

local function norms(list)
  local values = {}
  for i, tensor in ipairs(list) do values[i] = tensor:to "f64":square():sum():sqrt():item() end
  return cld.tensor(values, "f64")
end

local function gradients(net)
  local list = {}
  for i, parameter in ipairs(net:parameters()) do list[i] = parameter.grad end
  return list
end

describe("a ResNet", function()
  for name, width in pairs(nets) do
    it("has torchvision's names in torchvision's order, " .. name, function()
      local _, names = cld.load(path)
      local net = cld.models[name] { width = width, head = false }
      assert.equal(names[name .. ".parameters"], joined(net:named_parameters()))
      assert.equal(names[name .. ".buffers"], joined(net:named_buffers()))
    end)

    for _, case in ipairs(cases) do
      it(("agrees with torchvision's, %s in %s"):format(name, case.dtype), function()
        local expected = encoders.entries(cld.load(path), "net." .. name .. ".")
        local net = formula.fill(cld.models[name] { width = width, head = false }, case.dtype)
        local x = formula.uniform("input", { 4, 3, 65, 49 }, case.dtype)
        net:eval()
        compare(cld.no_grad(function() return net(x) end), expected.eval, "evaluation", case.deep)
        net:train()
        local y = net(x)
        compare(y, expected.train, "training", case.deep);
        (y * formula.uniform("weights", y.shape, case.dtype)):sum():backward()
        compare(norms(gradients(net)), expected.gradients, "norms of the gradients", case.deep)
        compare(norms(net:buffers()), expected.statistics, "norms of the statistics", case.deep)
      end)
    end
  end
end)

-- ---- initialisation ---------------------------------------------------------------

describe("the initialisation of a ResNet", function()
  local function each_parameter(f)
    cld.manual_seed(3)
    local net = cld.models.resnext50_32x4d { width = 16, head = "norm_mlp" }
    for name, tensor in net:named_parameters() do f(name, tensor:detach(), tensor.shape) end
    return net
  end

  -- The root of the mean square is `deviation`, to four of its own standard deviations.
  local function has_deviation(name, tensor, deviation)
    local share = tensor:square():mean():sqrt():item() / deviation
    assert(math.abs(share - 1) < 4 / math.sqrt(2 * tensor:numel()), ("%s: %g of what it should be"):format(name, share))
    local mean = math.abs(tensor:mean():item()) / deviation
    assert(mean < 5 / math.sqrt(tensor:numel()), ("%s: the mean is %g deviations off 0"):format(name, mean))
  end

  local function is_uniform(name, tensor, bound)
    local largest = tensor:abs():amax():item()
    assert(largest <= bound and largest > 0.95 * bound, ("%s: the largest is %g of %g"):format(name, largest, bound))
    has_deviation(name, tensor, bound / math.sqrt(3))
  end

  it("draws convolutions from N(0, sqrt(2 / fan_out)), fan_out without regard to groups", function()
    each_parameter(function(name, tensor, shape)
      if #shape ~= 4 then return end
      local deviation = math.sqrt(2 / (shape[1] * shape[3] * shape[4]))
      has_deviation(name, tensor, deviation)
      assert.is_true(tensor:abs():amax():item() > 2 * deviation) -- a normal, not a uniform distribution
    end)
  end)

  it("makes norms the identity, the last of a block too", function()
    local count = 0
    local net = each_parameter(function(name, tensor)
      if not name:find "bn%d" and not name:find "downsample.1" then return end
      count = count + 1
      check.close(tensor, name:find "weight$" and cld.ones(tensor.shape) or cld.zeros(tensor.shape))
    end)
    assert.equal(2 * (1 + 3 * 16 + 4), count)
    for name, buffer in net:named_buffers() do
      check.close(buffer, name:find "running_var$" and cld.ones(buffer.shape) or cld.zeros(buffer.shape, buffer.dtype))
    end
  end)

  it("draws a Linear's weight and bias from U(-1/sqrt(in), 1/sqrt(in))", function()
    each_parameter(function(name, tensor, shape)
      if name:find "^fc%.0" then is_uniform(name, tensor, 1 / math.sqrt(512)) end
      if name == "fc.0.weight" then assert.same({ 512, 512 }, shape) end
    end)
  end)

  it("draws a NormLinear's columns of unit length and every direction", function()
    each_parameter(function(name, tensor, shape)
      if not name:find "Dis%.weight$" then return end
      check.close(tensor:square():sum(1), cld.ones(shape[2]), { atol = 1e-5 })
      has_deviation(name, tensor, 1 / math.sqrt(shape[1]))
      local columns = tensor:t():matmul(tensor) - cld.eye(shape[2])
      assert.is_true(columns:abs():amax():item() < 0.3)
    end)
  end)

  it("follows the generator's seed", function()
    local function draw()
      cld.manual_seed(11)
      return cld.models.resnet18 { width = 4 }
    end
    local one, other = draw(), draw()
    for name, tensor in one:named_parameters() do
      check.close(tensor, other:get_parameter(name), { atol = 0, rtol = 0 })
    end
  end)
end)
