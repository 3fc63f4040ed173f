--- What the specs of exported networks share.
local cld = require "cld"

local exported = {}

--- The bytes of a file of fixtures/export.safetensors.
function exported.fixture(name)
  local bytes = cld.load "spec/fixtures/export.safetensors"
  return string.char(table.unpack(bytes[name]:totable()))
end

--- The network with running statistics, weights and biases that differ from those of a new one.
function exported.lived(net)
  local _ <close> = cld.no_grad()
  for _, tensor in ipairs(net:buffers()) do
    if tensor.dtype == "f32" then tensor:uniform_(0.5, 1.5) else tensor:fill_(300) end
  end
  for _, tensor in ipairs(net:parameters()) do
    if tensor.ndim == 1 then tensor:uniform_(0.2, 0.8) end
  end
  return net
end

--- {name = a function that makes a small network}.
exported.networks = {
  cifar = function() return cld.models.resnet18_cifar { width = 4, low_dim = 8 } end,
  bottleneck = function() return cld.models.resnet50 { width = 4, dim = 8, head = "norm_mlp" } end,
  infomin = function() return cld.models.resnet18 { width = 4, dim = 8, layout = "infomin" } end,
}

-- A module with a convolution to 4 channels, and that forward after it.
local function after_convolution(name, forward, build)
  local Class = cld.nn.module(name)
  function Class:build()
    self.conv = cld.nn.conv2d(3, 4, 3, { stride = 2 })
    if build then build(self) end
  end
  function Class:forward(x) return forward(self.conv(x), self, x) end
  return Class
end

local F = cld.nn.functional

-- A pooled map, (N, 4), which is positive and not the same anywhere.
local function pooled(y) return y:square():mean { 3, 4 } + 0.5 end

--- {what a forward does = a function that makes a network of one's own which does}: for ONNX.
exported.own = {}
for name, forward in pairs {
  ["x:NAME() and operators"] = function(y)
    local z = pooled(y)
    return (z:log() + z:sqrt() - z:rsqrt() * z:reciprocal() / z:exp()) ^ 2 + (2 ^ z):neg():sin() + (z * 9):cos():abs()
      + (z * 3):floor() + (z * 5):ceil() - (z * 7):round() * (z - 0.7):sign()
      + z:square():add(z, 3):sub(1):mul(2):div(3)
  end,
  ["cld.NAME(x)"] = function(y) return cld.relu(cld.exp(y)):mean { 3, 4 } + cld.sqrt(cld.square(pooled(y))) end,
  ["limits"] = function(y)
    local limited = y:clamp(-0.1, 0.1) + y:clamp(nil, 0.2) + y:clip { min = 0 }
    return (limited + y:maximum(y:abs() - 0.5) + cld.minimum(y, 0.3)):mean { 3, 4 }
  end,
  ["cld.cat of maps"] = function(y) return cld.cat({ y, y:relu(), y * 2 }, 2):mean { 3, 4 } end,
  ["cld.cat of rows, by the last dimension"] = function(y) return cld.cat({ pooled(y), y:flatten(2) }, -1) end,
  ["cld.stack"] = function(y) return cld.stack({ pooled(y), y:amax { 3, 4 } }, -1):flatten(2) end,
  ["a product of maps"] = function(y)
    local rows = y:flatten(3)
    return rows:matmul(rows:transpose(2, 3)):flatten(2) + cld.bmm(rows, rows:swapaxes(-1, -2)):flatten(2)
  end,
  ["attention"] = function(y)
    local rows = y:flatten(3):permute(1, 3, 2)
    return (cld.matmul(rows, rows:movedim(2, 3)) / 2):softmax(-1):matmul(rows):mean(2)
  end,
  ["softmax"] = function(y)
    return y:softmax(2):mean { 3, 4 } + cld.log_softmax(pooled(y)) + F.softmax(pooled(y), 2)
  end,
  ["sums"] = function(y) return y:sum { 3, 4 } + y:sum(-1):sum(3) + y:flatten(2):sum(2, true) end,
  ["extremes"] = function(y) return y:amax { 3, 4 } - y:amin({ 3, 4 }, true):flatten(2) + y:max(4):min(3) end,
  ["other reductions"] = function(y)
    return y:logsumexp { 3, 4 } + pooled(y):prod(2, true) + y:var { 3, 4 } + y:std({ 3, 4 }, false)
  end,
  ["norms"] = function(y)
    local rows = y:flatten(3)
    return rows:norm(1, 3) + rows:norm(2, 3) + rows:norm(math.huge, 3) + y:norm(nil, { 3, 4 })
  end,
  ["parts"] = function(y)
    local a, b = table.unpack(y:chunk(2, 2))
    local c, d = table.unpack(y:split({ 1, 3 }, 2))
    return cld.cat({ a * b, c + d:narrow(2, -1, 1), y:unbind(2)[3]:unsqueeze(2) }, 2):mean { 3, 4 }
  end,
  ["indices"] = function(y)
    return y[{ {}, { 2, -1 }, 1 }]:mean(3) + y[{ {}, { 1, 3 } }]:select(3, -1)[{ {}, {}, 1 }]
  end,
  ["shapes"] = function(y)
    local z = pooled(y):unsqueeze(-1):unsqueeze(2)
    return (z:squeeze { 2 } + z:squeeze():view(z:size(1), 4, 1)):expand(-1, -1, 3):flatten(2)
  end,
  ["functions of cld.nn"] = function(y)
    y = F.max_pool2d(F.silu(F.gelu(F.leaky_relu(y, 0.1))), 2)
    return F.normalize(F.dropout(F.adaptive_avg_pool2d(y, 1), 0.5, false):flatten(2))
  end,
} do
  exported.own[name] = after_convolution("Own", forward)
end

exported.own["tensors of the network before what comes from the images"] = after_convolution("Weighted",
  function(y, net) return net.factors * net.weight:matmul(y:flatten(3)):mean(3) + net.factors:add(pooled(y)) end,
  function(net)
    net.weight, net.factors = cld.nn.parameter(cld.randn(4, 4)), cld.nn.parameter(cld.rand(4))
  end)

exported.own["functions of cld.nn with weights"] = after_convolution("Functional",
  function(y, net)
    y = F.conv2d(y, net.weight, net.bias, { padding = 1, stride = { 1, 2 } })
    y = F.group_norm(F.avg_pool2d(y, 2), 2, net.bias, net.bias, { eps = 1e-3 })
    return F.layer_norm(F.linear(y:mean { 3, 4 }, net.square, net.bias), 4, net.bias)
  end,
  function(net)
    net.weight, net.square, net.bias = cld.nn.parameter(cld.randn(4, 4, 3, 3)), cld.nn.parameter(cld.randn(4, 4)),
      cld.nn.parameter(cld.rand(4))
  end)

--- Whether two tensors have the same dtype, shape and content.
function exported.equal(a, b)
  return a.dtype == b.dtype and table.concat(a.shape, "x") == table.concat(b.shape, "x")
    and (a:numel() == 0 or a:eq(b):all():item() == 1)
end

return exported
