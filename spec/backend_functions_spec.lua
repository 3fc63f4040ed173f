--- nn.functional's functions without state on a device against the cpu: sizes that leave blocks of threads half full,
-- 16 bits, the device's own layout; and as part of a captured step.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"
local f = cld.nn.functional

local tolerances = {
  f32 = { 2e-5, 2e-4 }, f64 = { 1e-12, 1e-10 }, bf16 = { 0.05, 0.02 }, f16 = { 0.005, 0.005 },
}

local function values(dtype, ...)
  local shape = { ... }
  return function() return formula.uniform("x" .. table.concat(shape, "x"), shape, "f32", 3):to(dtype) end
end

-- {title, f, shapes...}: with gradients, in every dtype; of 16 bits the vectors stay f32.
local function cases(list, dtypes)
  local made = {}
  for _, case in ipairs(list) do
    for _, dtype in ipairs(dtypes or { "f32", "f64", "bf16", "f16" }) do
      local limits, half = tolerances[dtype], dtype == "bf16" or dtype == "f16"
      local entry = { case[2], gradients = true, atol = limits[1] * (case.scale or 1), rtol = limits[2] }
      if half then entry[1] = function(x, ...) return case[2](x:to(dtype), ...) end end
      for i = 3, #case do entry[i - 1] = values(half and "f32" or dtype, table.unpack(case[i])) end
      made[case[1] .. ", " .. dtype] = entry
    end
  end
  return made
end

devices.each("activations", function(device)
  devices.cases(device, cases {
    { "gelu", function(x) return f.gelu(x) end, { 70, 67 } },
    { "gelu's approximation", function(x) return f.gelu(x, { approximate = "tanh" }) end, { 1003 } },
    { "silu of a transposed one", function(x) return f.silu(x:t()) end, { 33, 41 } },
    { "leaky_relu", function(x) return f.leaky_relu(x, 0.2) end, { 3, 5, 7 } },
    { "of a convolution's layout", function(x) return f.gelu(f.max_pool2d(x, 2)) + f.silu(f.avg_pool2d(x, 2)) end,
      { 2, 16, 6, 4 } },
  })
end)

devices.each("norms of each image", function(device)
  local function layer(x, w, b) return f.layer_norm(x, w.shape, w, b) end
  local function group(groups) return function(x, w, b) return f.group_norm(x, groups, w, b) end end
  devices.cases(device, cases {
    { "layer_norm of short lines", layer, { 37, 3 }, { 3 }, { 3 } },
    { "layer_norm of long lines", layer, { 3, 2500 }, { 2500 }, { 2500 } },
    { "layer_norm of many lines", layer, { 700, 33 }, { 33 }, { 33 }, scale = 20 },
    { "layer_norm of one element", layer, { 1, 1 }, { 1 }, { 1 }, scale = 20 }, -- 1 / sqrt(eps) times a rounding
    { "layer_norm over maps", layer, { 5, 3, 4, 6 }, { 4, 6 }, { 4, 6 } },
    { "group_norm of maps", group(4), { 3, 12, 5, 7 }, { 12 }, { 12 }, scale = 4 },
    { "group_norm of large maps", group(2), { 2, 4, 33, 31 }, { 4 }, { 4 }, scale = 20 },
    { "group_norm, one group", group(1), { 5, 6, 3, 1 }, { 6 }, { 6 } },
    { "group_norm, a group for each channel", group(40), { 3, 40, 2, 2 }, { 40 }, { 40 } },
    { "group_norm of rows", group(5), { 130, 35 }, { 35 }, { 35 }, scale = 10 },
    { "group_norm in the device's layout", function(x, w, b) return f.group_norm(f.max_pool2d(x, 1), 4, w, b) end,
      { 2, 16, 4, 3 }, { 16 }, { 16 }, scale = 2 },
  })
end)

devices.each("losses", function(device)
  devices.cases(device, cases({
    { "mse_loss", function(x, y) return f.mse_loss(x, y) end, { 33, 7 }, { 33, 7 } },
    { "bce_with_logits", function(x, y, w)
      return f.bce_with_logits(x * 5, y:sigmoid(), { pos_weight = w:square() })
    end, { 33, 7 }, { 33, 7 }, { 7 } },
    { "kl_div", function(x, y) return f.kl_div(x:log_softmax(2), y:softmax(2), { reduction = "batchmean" }) end,
      { 9, 17 }, { 9, 17 } },
    { "cross_entropy of probabilities", function(x, y)
      return f.cross_entropy(x, y:softmax(2), { label_smoothing = 0.1, reduction = "none" })
    end, { 9, 17, 3 }, { 9, 17, 3 } },
    { "cosine_similarity", function(x, y) return f.cosine_similarity(x, y, -1) end, { 5, 1, 9 }, { 1, 4, 9 } },
  }, { "f32", "f64" }))
end)

devices.each("sizes", function(device)
  local function resized(options) return function(x) return f.interpolate(x, options) end end
  local list = {
    { "nearest", resized { size = { 11, 3 } }, { 2, 3, 5, 7 } },
    { "bilinear", resized { scale_factor = { 2.3, 0.4 }, mode = "bilinear" }, { 2, 3, 5, 9 } },
    { "bilinear, corners", resized { size = { 4, 40 }, mode = "bilinear", align_corners = true }, { 2, 3, 15, 9 } },
    { "antialias", resized { size = { 3, 20 }, mode = "bilinear", antialias = true }, { 2, 3, 25, 11 } },
    { "adaptive_avg_pool2d", function(x) return f.adaptive_avg_pool2d(x, { 3, 9 }) end, { 3, 16, 7, 5 } },
    { "pad", function(x) return f.pad(x, { 3, 1, -2, 4 }, { value = -1 }) end, { 3, 5, 7 } },
  }
  for _, mode in ipairs { "reflect", "replicate", "circular" } do
    list[#list + 1] = { "pad, " .. mode, function(x) return f.pad(x, { 3, 1, 0, 4 }, { mode = mode }) end, { 3, 5, 7 } }
    list[#list + 1] = { "pad in the device's layout, " .. mode, function(x)
      return f.pad(f.max_pool2d(x, 1), { 1, 1, 1, 1 }, { mode = mode })
    end, { 2, 16, 4, 4 } }
  end
  devices.cases(device, cases(list))
end)

devices.each("a captured step of such layers", function(device)
  local nn = cld.nn

  -- Losses and weights of nine steps.
  local function train(enabled)
    cld.manual_seed(4)
    local net = nn.sequential(
      nn.conv2d(3, 8, 3, { padding = 1, padding_mode = "reflect" }), nn.group_norm(4, 8), nn.gelu(),
      nn.adaptive_avg_pool2d { 3, 2 }, nn.silu(), nn.dropout(0.2), nn.flatten(), nn.linear(48, 6), nn.layer_norm(6),
      nn.leaky_relu(0.1)):to(device)
    local sgd = cld.optim.sgd(net:parameters(), { momentum = 0.9 })
    local step = cld.graph(function(x, soft)
      local larger = f.interpolate(x, { scale_factor = 1.5, mode = "bilinear" })
      local y = net(f.dropout(larger, 0.1))
      local loss = f.cross_entropy(y, soft, { label_smoothing = 0.1 }) + f.mse_loss(y, soft) * 0.1 +
        f.bce_with_logits(y, soft) * 0.1 + f.kl_div(y:log_softmax(2), soft, { reduction = "batchmean" }) +
        f.cosine_similarity(y, soft):mean()
      return sgd:step(loss, { lr = 0.05 }), loss
    end, { enabled = enabled, device = device })
    local seen = {}
    for i = 1, 9 do
      local x = formula.uniform("x" .. i, { 4, 3, 5, 7 }, "f32")
      local soft <close> = formula.uniform("y" .. i, { 4, 6 }, "f32", 3):softmax(2)
      local _, loss = step(x:to(device), soft:to(device))
      seen[i] = loss:item()
    end
    return { seen, net:parameters()[1]:detach():cpu():totable() }
  end

  it("trains as the plain step does, bit for bit", function()
    local captured = train(true)
    check.close(captured, train(false), { atol = 0, rtol = 0 })
    assert.is_true(captured[1][9] == captured[1][9] and captured[1][9] ~= captured[1][1])
  end)
end)
