--- nn.functional's functions without state against PyTorch's, values and gradients, in f64 and f32. And what no fixture
-- shows: gradients against central differences, edges, errors.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local layers = require "spec.support.layers"
local nn, f = cld.nn, cld.nn.functional

-- How a case of functions.safetensors is computed here. Of several, "kind name", the kind gets the name.
local cases = {
  gelu = function(name)
    return function(a) return f.gelu(a, { approximate = name == "tanh" and "tanh" or "none" }) end
  end,
  silu = function() return f.silu end,
  leaky_relu = function(name) return function(a) return f.leaky_relu(a, tonumber(name)) end end,
  layer_norm = function(name)
    local shape = ({ [""] = 7, ["2d"] = { 3, 5 }, plain = 1100, weight = 6 })[name]
    return function(a, b, c) return f.layer_norm(a, shape, b, c, { eps = name == "2d" and 1e-3 or 1e-5 }) end
  end,
  group_norm = function(name)
    local groups = ({ [""] = 3, ["1"] = 1, all = 5, rows = 2, plain = 2 })[name]
    return function(a, b, c) return f.group_norm(a, groups, b, c, name == "1" and { eps = 1e-2 } or nil) end
  end,
  mse_loss = function(name) return function(a, b) return f.mse_loss(a, b, { reduction = name }) end end,
  bce_with_logits = function(name)
    if name == "weighted" then
      return function(a, b, c, d) return f.bce_with_logits(a, b, { weight = c, pos_weight = d }) end
    end
    return function(a, b) return f.bce_with_logits(a, b, { reduction = name }) end
  end,
  kl_div = function(name)
    local reduction = (name == "log" or name == "target") and "sum" or name
    return function(a, b) return f.kl_div(a, b, { reduction = reduction, log_target = name == "log" }) end
  end,
  cross_entropy = function(name)
    local reduced = name == "sum" or name == "none"
    local options = { reduction = reduced and name or "mean", label_smoothing = name == "smooth" and 0.2 or 0 }
    return function(a, b) return f.cross_entropy(a, b, options) end
  end,
  ignored = function(name)
    return function(a, b)
      return f.cross_entropy(a, b, { reduction = name, ignore_index = 2, label_smoothing = 0.1 })
    end
  end,
  cosine_similarity = function(name)
    if name == "maps" then return function(a, b) return f.cosine_similarity(a, b, -1) end end
    return function(a, b) return f.cosine_similarity(a, b, 2, name == "short" and 10 or nil) end
  end,
  pad = function(name)
    local mode, line = name:match "^(%a+) ?(%a*)$"
    if name == "" then return function(a) return f.pad(a, { 1, 2, 0, 3 }) end end
    if name == "value" then return function(a) return f.pad(a, { 2, 0, 1, 1, 0, 1 }, { value = 1.5 }) end end
    if name == "negative" then return function(a) return f.pad(a, { -1, 2, 1, -2 }) end end
    return function(a) return f.pad(a, line == "line" and { 3, 3 } or { 2, 1, 0, 3 }, { mode = mode }) end
  end,
  conv2d = function(name)
    return function(a, b, c)
      local layer = nn.conv2d(2, 3, 3, { padding = { 2, 1 }, dilation = { 1, 2 }, padding_mode = name })
      layer.weight, layer.bias = b, c
      return layer(a)
    end
  end,
}

local sizes = {
  up = { 7, 9 }, down = { 2, 3 }, mixed = { 3, 11 }, one = 1, same = { 4, 5 }, double = { 8, 10 }, far = { 3, 2 },
  even = { 2, 3 }, odd = { 3, 5 },
}
local factors = { ["by 2"] = 2, ["by 0.6"] = 0.6, ["by pair"] = { 1.7, 0.5 } }

local function resized(mode, more)
  return function(name)
    local options = { size = sizes[name], scale_factor = factors[name], mode = mode }
    for key, value in pairs(more or {}) do options[key] = value end
    return function(a) return f.interpolate(a, options) end
  end
end
cases.nearest, cases.bilinear = resized "nearest", resized "bilinear"
cases.corners = resized("bilinear", { align_corners = true })
cases.antialias = resized("bilinear", { antialias = true })
cases.adaptive = function(name) return function(a) return f.adaptive_avg_pool2d(a, sizes[name]) end end

local function fixtures()
  local found = {}
  for key, tensor in pairs(cld.load "spec/fixtures/functions.safetensors") do
    local case, field = key:match "^(.*)/(.*)$"
    found[case] = found[case] or {}
    found[case][field] = tensor
  end
  return found
end

local limits = { f64 = { atol = 1e-11, rtol = 1e-10 }, f32 = { atol = 1e-5, rtol = 1e-4 } }

local function like_pytorch(case, fixture, dtype, device)
  local kind, name = case:match "^(%S+) ?(.*)$"
  local function placed(x) return (x.dtype == "f64" and x:to(dtype) or x):to(device):detach() end
  local inputs, count = {}, 0
  for i, key in ipairs { "a", "b", "c", "d" } do
    if fixture[key] then
      inputs[i], count = placed(fixture[key]), i
      if fixture["d" .. key] then inputs[i]:requires_grad_() end
    end
  end
  local out = cases[kind](name)(table.unpack(inputs, 1, count))
  check.close(out:detach():cpu(), fixture.out, limits[dtype])
  if fixture.da then out:backward(layers.weights(out):to(device)) end
  for i, key in ipairs { "a", "b", "c", "d" } do
    if fixture["d" .. key] then check.close(inputs[i].grad:cpu(), fixture["d" .. key], limits[dtype]) end
  end
end

local names = {}
for key in pairs(cld.load "spec/fixtures/functions.safetensors") do
  local case, field = key:match "^(.*)/(.*)$"
  if field == "out" then names[#names + 1] = case end
end
table.sort(names)

for _, device in ipairs { "cpu", table.unpack(devices.names) } do
  describe("as PyTorch on " .. device, function()
    local found
    setup(function() found = fixtures() end)
    teardown(function() found = nil end)

    for _, case in ipairs(names) do
      it(case, function()
        for _, dtype in ipairs { "f64", "f32" } do like_pytorch(case, found[case], dtype, device) end
      end)
    end
  end)
end

-- ---- gradients and edges ------------------------------------------------------------------------------------------

for _, device in ipairs { "cpu", table.unpack(devices.names) } do
  describe("functions on " .. device, function()
    local function gradient(title, g, make)
      it("gradient of " .. title, function()
        cld.manual_seed(3)
        check.gradcheck(g, make(), { device = device })
      end)
    end
    local function of(...)
      local shapes = { ... }
      return function()
        local list = {}
        for i, shape in ipairs(shapes) do list[i] = cld.randn(shape, "f64") end
        return list
      end
    end

    gradient("gelu", f.gelu, of { 9 })
    gradient("gelu's approximation", function(x) return f.gelu(x * 3, { approximate = "tanh" }) end, of { 9 })
    gradient("silu", function(x) return f.silu(x * 3) end, of { 9 })
    gradient("leaky_relu", function(x) return f.leaky_relu(x, -0.5) end, of { 9 })
    gradient("layer_norm", function(x, w, b) return f.layer_norm(x, { 2, 3 }, w, b) end,
      of({ 4, 2, 3 }, { 2, 3 }, { 2, 3 }))
    local function in_two(x, w, b) return f.group_norm(x, 2, w, b) end
    gradient("group_norm of maps", in_two, of({ 3, 4, 2, 3 }, { 4 }, { 4 }))
    gradient("group_norm of rows", in_two, of({ 70, 4 }, { 4 }, { 4 }))
    gradient("group_norm with a bias alone", function(x, b) return in_two(x, nil, b) end, of({ 2, 4, 3 }, { 4 }))
    gradient("mse_loss", f.mse_loss, of({ 3, 4 }, { 3, 4 }))
    gradient("bce_with_logits", function(x, y, w, p)
      return f.bce_with_logits(x, y:sigmoid(), { weight = w:square(), pos_weight = p:exp() })
    end, of({ 3, 4 }, { 3, 4 }, { 4 }, { 3, 1 }))
    gradient("kl_div", function(x, y) return f.kl_div(x, y:softmax(2), { reduction = "batchmean" }) end,
      of({ 3, 4 }, { 3, 4 }))
    gradient("cross_entropy with probabilities", function(x, y)
      return f.cross_entropy(x, y:softmax(2), { label_smoothing = 0.1, temperature = 0.5 })
    end, of({ 3, 4 }, { 3, 4 }))
    gradient("cosine_similarity", f.cosine_similarity, of({ 3, 4 }, { 3, 4 }))
    gradient("cosine_similarity below eps", function(x, y) return f.cosine_similarity(x, y, 2, 3) end,
      of({ 3, 4 }, { 1, 4 }))
    for _, mode in ipairs { "constant", "reflect", "replicate", "circular" } do
      gradient("pad, " .. mode, function(x) return f.pad(x, { 2, 1, 1, 2 }, { mode = mode }) end, of { 2, 3, 4 })
    end
    for _, mode in ipairs { "nearest", "bilinear" } do
      gradient("interpolate, " .. mode, function(x)
        return f.interpolate(x, { size = { 3, 9 }, mode = mode })
      end, of { 1, 2, 5, 4 })
    end
    gradient("interpolate, antialias", function(x)
      return f.interpolate(x, { size = { 2, 9 }, mode = "bilinear", antialias = true })
    end, of { 1, 2, 7, 4 })
    gradient("adaptive_avg_pool2d", function(x) return f.adaptive_avg_pool2d(x, { 3, 2 }) end, of { 2, 1, 5, 3 })
    gradient("dropout", function(x)
      cld.manual_seed(7)
      return f.dropout(x, 0.3)
    end, of { 4, 5 })

    it("NaN and infinities come through", function()
      local x = cld.tensor({ 0 / 0, math.huge, -math.huge, -0.0 }, { dtype = "f32", device = device })
      local function shown(y) return table.concat(y:cpu():totable(), " "):gsub("-nan", "nan"):gsub("%-0%.0", "0.0") end
      assert.equal("nan inf nan 0.0", shown(f.gelu(x)))
      assert.equal("nan inf nan 0.0", shown(f.silu(x)))
      assert.equal("nan inf -inf 0.0", shown(f.leaky_relu(x, 0.5)))
    end)

    it("a NaN in one row of layer_norm stays in that row", function()
      local x = cld.ones({ 2, 3 }, { device = device })
      x:narrow(1, 1, 1):fill_(0 / 0)
      local y = f.layer_norm(x, 3):cpu():totable()
      assert.same({ 0, 0, 0 }, y[2])
      assert.is_true(y[1][1] ~= y[1][1])
    end)

    it("layer_norm of values far from 0", function()
      local x = cld.tensor({ { 10000, 10001, 10002, 10003 } }, { dtype = "f32", device = device })
      local side = 1 / math.sqrt(1.25 + 1e-5)
      check.close(f.layer_norm(x, 4):cpu(), { { -1.5 * side, -0.5 * side, 0.5 * side, 1.5 * side } }, { atol = 1e-6 })
    end)

    it("16 bits stay 16 bits in norms, pads and sizes, beside weights of f32", function()
      for _, dtype in ipairs { "bf16", "f16" } do
        local x = cld.randn({ 2, 4, 3, 5 }, { device = device })
        local w = cld.randn({ 4 }, { device = device }):requires_grad_()
        local half = x:to(dtype):requires_grad_()
        for name, g in pairs {
          group_norm = function(a) return f.group_norm(a, 2, w, w) end,
          layer_norm = function(a) return f.layer_norm(a, 5) end,
          pad = function(a) return f.pad(a, { 1, 2 }, { mode = "reflect" }) end,
          interpolate = function(a) return f.interpolate(a, { size = 7, mode = "bilinear" }) end,
          pool = function(a) return f.adaptive_avg_pool2d(a, 2) end,
          gelu = function(a) return f.gelu(a) end,
          silu = function(a) return f.silu(a) end,
        } do
          local y = g(half)
          assert.equal(dtype, y.dtype, name)
          check.close(y:detach():float():cpu(), g(x):detach():cpu(), { atol = 0.05, rtol = 0.02 })
          y:float():sum():backward()
          assert.equal(dtype, half.grad.dtype)
        end
        assert.equal("f32", w.grad.dtype)
      end
    end)

    it("empty batches give empty results, and vectors a gradient of 0", function()
      local x = cld.zeros({ 0, 4, 3, 3 }, { device = device })
      local w = cld.ones({ 4 }, { device = device }):requires_grad_()
      assert.same({ 0, 4, 3, 3 }, f.group_norm(x, 2, w, w).shape)
      f.group_norm(x, 2, w, w):sum():backward()
      assert.same({ 0, 0, 0, 0 }, w.grad:cpu():totable())
      assert.same({ 0, 4, 2, 5 }, f.interpolate(x, { size = { 2, 5 }, mode = "bilinear" }).shape)
      assert.same({ 0, 4, 2, 2 }, f.adaptive_avg_pool2d(x, 2).shape)
      assert.same({ 0, 4, 4, 6 }, f.pad(x, { 1, 2, 0, 1 }, { mode = "replicate" }).shape)
    end)

    it("a NaN goes no further than the windows that hold it", function()
      local x = cld.ones({ 1, 1, 1, 6 }, { device = device })
      x:narrow(4, 6, 1):fill_(0 / 0)
      local y = f.adaptive_avg_pool2d(x, { 1, 4 }):cpu():totable()[1][1][1]
      assert.same({ 1, 1, 1 }, { y[1], y[2], y[3] })
      assert.is_true(y[4] ~= y[4])
    end)

    it("kl_div and bce_with_logits at their ends are finite, and so are their gradients", function()
      local function tensor(list) return cld.tensor(list, { dtype = "f32", device = device }) end
      local x = tensor { 200, -200, 0 }:requires_grad_()
      f.bce_with_logits(x, tensor { 0, 1, 1 }, { reduction = "sum" }):backward()
      check.close(x.grad:cpu(), { 1, -1, -0.5 })
      local q = tensor { 0, 1 }:requires_grad_()
      local loss = f.kl_div(tensor { -3, -0.5 }, q, { reduction = "sum" })
      loss:backward()
      check.close(loss:item(), 0.5)
      check.close(q.grad:cpu(), { 3, 1.5 })
    end)

    it("dropout out of training is the input; with p 1 nothing is left", function()
      local x = cld.ones({ 3 }, { device = device })
      assert.is_true(rawequal(x, f.dropout(x, 0.5, false)))
      assert.same({ 0, 0, 0 }, f.dropout(x, 1):cpu():totable())
      assert.same({ 1, 1, 1 }, f.dropout(x, 0):cpu():totable())
    end)
  end)
end
