--- Initialisation of weights: torch.nn.init's functions. Each fills a tensor (also a parameter) in place with numbers
-- from the global generator (cld.manual_seed), and returns it. A weight is (out, in) or (out, in / groups, rows,
-- columns). fan_in is the number of inputs to an output, fan_out the number of outputs that an input contributes to.
local core = require "cld.core"
local caller = require "cld.caller"
local user_error = require "cld.user_error"
local normal = require "cld.nn.normal"
local create, no_grad = core.tensor, core.autograd.no_grad

local init = {}

-- ---- arguments ------------------------------------------------------------------

local function check_tensor(name, t)
  if not create.is_tensor(t) then caller.raise("%s: expected a tensor, got %s", name, caller.shown(t)) end
end

local function check_number(name, what, value, fallback)
  if value == nil then return fallback end
  if type(value) ~= "number" then caller.raise("%s: %s must be a number, got %s", name, what, caller.shown(value)) end
  return value
end

-- fan_in, fan_out
local function fans(name, t)
  check_tensor(name, t)
  local shape = t.shape
  if #shape < 2 then caller.raise("%s: fans need two dimensions and more, got %s", name, caller.shown(t)) end
  local area = 1
  for d = 3, #shape do area = area * shape[d] end
  return shape[2] * area, shape[1] * area
end

local function fill(name, t, method, ...)
  check_tensor(name, t)
  local _ <close> = no_grad()
  return caller.call(name, t[method], t, ...)
end

-- ---- independent of the fans ------------------------------------------------------

--- cld.nn.init.uniform_(t[, low = 0[, high = 1]]) -> t: uniform numbers in [low, high).
function init.uniform_(t, low, high) return fill("uniform_", t, "uniform_", low, high) end
--- cld.nn.init.normal_(t[, mean = 0[, std = 1]]) -> t: numbers from N(mean, std^2).
function init.normal_(t, mean, std) return fill("normal_", t, "normal_", mean, std) end

--- cld.nn.init.constant_(t, value) -> t: the value everywhere.
--
--     local layer = cld.nn.linear(2, 2)
--     cld.nn.init.constant_(layer.bias, 0.5)
--     print(layer.bias[1]:item())               --> 0.5
function init.constant_(t, value) return fill("constant_", t, "fill_", value) end
--- cld.nn.init.ones_(t) -> t: 1 everywhere.
function init.ones_(t) return fill("ones_", t, "fill_", 1) end
--- cld.nn.init.zeros_(t) -> t: 0 everywhere.
function init.zeros_(t) return fill("zeros_", t, "fill_", 0) end

--- trunc_normal_(t[, mean = 0, std = 1, a = -2, b = 2]): N(mean, std^2), truncated to values from a to b (not multiples
-- of std). Uses the normal quantiles of one uniform number per element, in f64.
function init.trunc_normal_(t, mean, std, a, b)
  check_tensor("trunc_normal_", t)
  mean, std = check_number("trunc_normal_", "mean", mean, 0), check_number("trunc_normal_", "std", std, 1)
  a, b = check_number("trunc_normal_", "a", a, -2), check_number("trunc_normal_", "b", b, 2)
  if not (std > 0 and std < math.huge and b - a > 0) then
    caller.raise("trunc_normal_: std is %g, a %g and b %g; expected std above 0 and a below b", std, a, b)
  end
  local _ <close> = no_grad()
  local drawn = create.empty(t.shape, { dtype = "f64", device = t.device })
  drawn:uniform_(normal.share_below((a - mean) / std), normal.share_below((b - mean) / std))
  local values = normal.quantiles(drawn):mul_(std):add_(mean):clamp_(a, b)
  return caller.call("trunc_normal_", t.copy_, t, values)
end

--- fan_in_uniform_(t, fan_in): uniform in +-1 / sqrt(fan_in), the default of PyTorch's linear and convolutional layers
-- for weights and biases: kaiming_uniform_ with a = sqrt(5).
function init.fan_in_uniform_(t, fan_in)
  local bound = 1 / math.sqrt(caller.integer("fan_in_uniform_", "fan_in", fan_in))
  return fill("fan_in_uniform_", t, "uniform_", -bound, bound)
end

-- ---- from the fans ------------------------------------------------------------------

-- The gains' squares, so that nothing is rounded twice.
local gains = {
  linear = 1, conv1d = 1, conv2d = 1, conv3d = 1, sigmoid = 1, tanh = (5 / 3) ^ 2, relu = 2, selu = (3 / 4) ^ 2,
  leaky_relu = 2, -- divided by 1 + slope^2
}

local function squared_gain(name, nonlinearity, slope)
  local gain = gains[nonlinearity]
  if not gain then
    local names = {}
    for known in pairs(gains) do names[#names + 1] = known end
    table.sort(names)
    caller.raise("%s: nonlinearity is %s; expected one of %s%s", name, caller.shown(nonlinearity),
      table.concat(names, ", "), type(nonlinearity) == "string" and user_error.hint(nonlinearity, names) or "")
  end
  return nonlinearity == "leaky_relu" and gain / (1 + slope * slope) or gain
end

--- cld.nn.init.calculate_gain(nonlinearity[, slope = 0.01]) -> number: the factor for the weights of the layer before
-- that nonlinearity ("relu", "tanh", "leaky_relu", ...); the slope is leaky_relu's.
function init.calculate_gain(nonlinearity, slope)
  return math.sqrt(squared_gain("calculate_gain", nonlinearity, check_number("calculate_gain", "slope", slope, 0.01)))
end

--- xavier_uniform_(t[, gain = 1]), xavier_normal_(t[, gain = 1]): with variance 2 gain^2 / (fan_in + fan_out) (Glorot
-- and Bengio 2010).
function init.xavier_uniform_(t, gain)
  local fan_in, fan_out = fans("xavier_uniform_", t)
  local bound = check_number("xavier_uniform_", "gain", gain, 1) * math.sqrt(6 / (fan_in + fan_out))
  return fill("xavier_uniform_", t, "uniform_", -bound, bound)
end

function init.xavier_normal_(t, gain)
  local fan_in, fan_out = fans("xavier_normal_", t)
  return fill("xavier_normal_", t, "normal_", 0,
    check_number("xavier_normal_", "gain", gain, 1) * math.sqrt(2 / (fan_in + fan_out)))
end

local function kaiming_variance(name, t, options)
  caller.check_fields(name, options, { "a", "mode", "nonlinearity" })
  options = options or {}
  local fan_in, fan_out = fans(name, t)
  local mode = options.mode or "fan_in"
  if mode ~= "fan_in" and mode ~= "fan_out" then
    caller.raise("%s: mode must be 'fan_in' or 'fan_out', got %s", name, caller.shown(mode))
  end
  local gain = squared_gain(name, options.nonlinearity or "leaky_relu", check_number(name, "a", options.a, 0))
  return gain / (mode == "fan_in" and fan_in or fan_out)
end

--- kaiming_uniform_(t[, {a = 0, mode = "fan_in"|"fan_out", nonlinearity = "leaky_relu"}]), kaiming_normal_(t[,
-- {...}]): with variance gain^2 / fan (He et al. 2015). a: leaky_relu's slope.
function init.kaiming_uniform_(t, options)
  local bound = math.sqrt(3 * kaiming_variance("kaiming_uniform_", t, options))
  return fill("kaiming_uniform_", t, "uniform_", -bound, bound)
end

function init.kaiming_normal_(t, options)
  return fill("kaiming_normal_", t, "normal_", 0, math.sqrt(kaiming_variance("kaiming_normal_", t, options)))
end

-- ---- orthogonal -----------------------------------------------------------------------

local BLOCK = 32 -- this many rows at a time are made orthogonal to all earlier ones, by one product

-- Subtracts from rows their projection on others, which are orthonormal. f64 products are faster on rows as stored.
local function free_of(rows, others) rows:sub_(rows:matmul(others:t():contiguous()):matmul(others)) end

-- Makes the rows of a (n, m), n <= m, orthonormal in place, each against those before it (Gram and Schmidt).
local function make_orthonormal(a)
  for first = 1, #a, BLOCK do
    local block = a:narrow(1, first, math.min(BLOCK, #a - first + 1))
    if first > 1 then free_of(block, a:narrow(1, 1, first - 1)) end
    for i = 1, #block do
      local row = block:narrow(1, i, 1)
      for _ = 1, i > 1 and 2 or 0 do free_of(row, block:narrow(1, 1, i - 1)) end
      row:div_(row:norm())
    end
  end
end

--- orthogonal_(t[, gain = 1]): takes t as a matrix (the first dimension by all others) and gives it orthonormal rows or
-- columns, whichever are fewer, times gain. It is drawn uniformly from all such matrices (Saxe et al. 2013), in f64 on
-- the host.
function init.orthogonal_(t, gain)
  check_tensor("orthogonal_", t)
  gain = check_number("orthogonal_", "gain", gain, 1)
  if not t.dtype:find "f" then
    caller.raise("orthogonal_: expected a floating point tensor, got %s", caller.shown(t))
  elseif #t.shape < 2 or t:numel() == 0 then
    caller.raise("orthogonal_: expected two dimensions and more, none of them 0, got %s", caller.shown(t))
  end
  local _ <close> = no_grad()
  local rows = t.shape[1]
  local drawn = create.randn(rows, t:numel() // rows, "f64")
  local matrix = rows > drawn.shape[2] and drawn:t():contiguous() or drawn
  make_orthonormal(matrix)
  if matrix ~= drawn then matrix = matrix:t() end
  return caller.call("orthogonal_", t.copy_, t, matrix:mul(gain):reshape(t.shape))
end

return init
