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

--- Whether two tensors have the same dtype, shape and content.
function exported.equal(a, b)
  return a.dtype == b.dtype and table.concat(a.shape, "x") == table.concat(b.shape, "x")
    and (a:numel() == 0 or a:eq(b):all():item() == 1)
end

return exported
