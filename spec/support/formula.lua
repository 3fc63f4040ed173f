--- Tensors from formulas: f64 tensors of a given shape for the specs of ops, and tensors made from their names, the
-- twin of `uniform` and `fill` in spec/fixtures/make_model.py, so that whole networks need not be stored as fixtures.
local cld = require "cld"

local formula = {}

-- Element i is a hash of (i, name) in [-1, 1), times scale, plus offset.
local function values(name, count, scale, offset)
  local key = 0
  for i = 1, #name do key = (key * 31 + name:byte(i)) & 0xffffffff end
  key = key * 2654435761 & 0xffffffff
  local list = {}
  for i = 1, count do
    local h = (i - 1 + key) & 0xffffffff
    h = h * 2246822519 & 0xffffffff
    h = h ~ h >> 15
    h = h * 3266489917 & 0xffffffff
    h = h ~ h >> 13
    list[i] = (h / 0x80000000 - 1) * scale + offset
  end
  return list
end

local function product(shape)
  local count = 1
  for _, extent in ipairs(shape) do count = count * extent end
  return count
end

--- f64 of the shape (...): 1, 2, 3, ... in row-major order.
function formula.counting(...) return (cld.arange(product { ... }):to "f64" + 1):reshape(...) end

--- f64 of the shape (...): fixed values in (-2, 2) without ties or zeros.
function formula.waves(...) return (formula.counting(product { ... }) * 1.7 + 0.3):sin():reshape(...) * 2 end

--- The tensor with this name, uniform in [-1, 1) * scale.
function formula.uniform(name, shape, dtype, scale)
  return cld.tensor(values(name, product(shape), scale or 1, 0), dtype):reshape(shape)
end

--- Fills every parameter and statistic of a network from its name: weights within +-sqrt(3 / fan_in), scales and
-- variances near 1, all others near 0. Returns the network, cast to dtype.
function formula.fill(net, dtype)
  net:to(dtype)
  local state = {}
  for name, tensor in pairs(net:state_dict()) do
    local shape, scale, offset = tensor.shape, 0.1, 0
    if #shape > 1 then
      scale = math.sqrt(3 / (product(shape) // shape[1]))
    elseif name:find "running_var$" or name:find "weight$" then
      scale, offset = 0.2, 1
    end
    if not name:find "num_batches_tracked$" then
      state[name] = cld.tensor(values(name, product(shape), scale, offset), dtype):reshape(shape)
    end
  end
  net:load_state_dict(state)
  return net
end

return formula
