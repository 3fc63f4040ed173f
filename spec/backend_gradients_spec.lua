--- Gradients on a device against central differences on it, in f64: layers, losses and their parts. The other backend_*
-- specs compare them with the cpu's, in f32 and on larger shapes.
local cld = require "cld"
local core = require "cld.core"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"

local nn, losses = cld.nn.functional, core.losses

local function x(name, ...) return formula.uniform(name, { ... }, "f64") end
local function indices(...) return cld.tensor({ ... }, "i64") end

devices.each("gradients", function(device)
  local function gradients(name, f, ...)
    local make = table.pack(...) -- functions: no tensor lives between tests
    it("of " .. name, function()
      local inputs = {}
      for i = 1, make.n do inputs[i] = make[i]() end
      check.gradcheck(f, inputs, { device = device })
    end)
  end

  gradients("conv2d, with a stride, padded, and its bias",
    function(t, w, b) return nn.conv2d(t, w, b, { stride = { 2, 1 }, padding = { 1, 2 } }) end,
    function() return x("x", 2, 3, 5, 4) end, function() return x("w", 4, 3, 3, 2) end, function() return x("b", 4) end)
  gradients("conv2d, dilated, in groups",
    function(t, w) return nn.conv2d(t, w, nil, { dilation = { 1, 2 }, groups = 2 }) end,
    function() return x("x", 2, 4, 4, 5) end, function() return x("w", 4, 2, 2, 2) end)
  gradients("batch_norm", function(t, w, b) return nn.batch_norm(t, w, b, nil, nil, { training = true }) end,
    function() return x("x", 4, 3, 2, 2) end, function() return x("w", 3) end, function() return x("b", 3) end)
  gradients("batch_norm, added to a residual, and relu",
    function(t, w, b, r) return nn.batch_norm(t, w, b, nil, nil, { training = true, relu = true, residual = r }) end,
    function() return x("x", 4, 3, 2, 2) end, function() return x("w", 3) end, function() return x("b", 3) end,
    function() return x("r", 4, 3, 2, 2) end)
  gradients("max_pool2d, overlapping", function(t) return nn.max_pool2d(t, 3, { stride = 2, padding = 1 }) end,
    function() return x("x", 2, 3, 5, 4) end)
  gradients("avg_pool2d, padded", function(t) return nn.avg_pool2d(t, { 2, 3 }, { stride = 2, padding = { 1, 0 } }) end,
    function() return x("x", 2, 3, 5, 6) end)
  gradients("linear", nn.linear, function() return x("x", 5, 4) end, function() return x("w", 3, 4) end,
    function() return x("b", 3) end)
  gradients("normalize", function(t) return t:normalize(2) end, function() return x("x", 5, 4) end)
  gradients("softmax and log_softmax", function(t) return t:softmax(2) * t:log_softmax(1) end,
    function() return x("x", 4, 5) end)
  gradients("cross_entropy", function(t, at) return t:cross_entropy(at) end,
    function() return x("x", 4, 6) end, function() return indices(0, 5, 2, 2) end)
  gradients("sums, means and products that broadcast",
    function(a, b) return (a * b + a:sum(1)):mean(2) / (b * b + 1):sum() end,
    function() return x("a", 3, 4) end, function() return x("b", 1, 4) end)
  gradients("matmul, of batches", function(a, b) return a:matmul(b):tanh() end,
    function() return x("a", 2, 3, 4) end, function() return x("b", 2, 4, 2) end)
  gradients("gather and index_select",
    function(t, at, line) return t:gather(2, at):sum(2) + t:index_select(2, line):exp():sum(2) end,
    function() return x("x", 3, 5) end, function() return cld.tensor({ { 0, 4 }, { 1, 1 }, { 3, 2 } }, "i64") end,
    function() return indices(4, 0, 0) end)

  -- The memories stay as they are: in f's own copies.
  gradients("the memory bank's softmax",
    function(f, memory, at) return losses.bank_loss(f, memory:to "f64", at, 0.3, 0.5) end,
    function() return x("f", 3, 4) end, function() return x("m", 7, 4):float() end,
    function() return indices(6, 0, 3) end)
  gradients("the queue's softmax",
    function(f, key, memory) return losses.queue_loss(f, key:to "f64", memory:to "f64", 0.3) end,
    function() return x("f", 3, 4) end, function() return x("k", 3, 4):float() end,
    function() return x("m", 7, 4):float() end)
  gradients("k-means' centroids and CLD's two cross entropies",
    function(g1, g2) return (losses.cld(g1:normalize(2), g2:normalize(2),
      { clusters = 3, iterations = 3, temperature = 0.5 })) end,
    function() return x("g1", 8, 4) end, function() return x("g2", 8, 4) end)
end)
