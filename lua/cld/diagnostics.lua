--- What can be seen of a training without labels: whether two views of an image come to lie together and images apart,
-- and whether the features still use their dimensions.
--
--   local seen = cld.diagnostics.views(q1, q2)               -- {alignment =, uniformity =}, tensors without dimensions
--   local rank = cld.diagnostics.rank(net, batch.views[1])   -- a number, at the end of an epoch
--   run:diagnose { effective_rank = rank }                   -- printed, logged, and told where it shows a collapse
--
-- alignment and uniformity belong into a step: some small launches, nothing read back. The rank is computed on the host
-- and waits for the device.
local caller = require "cld.caller"
local core = require "cld.core"
local nn = require "cld.nn"
local create, no_grad = core.tensor, core.autograd.no_grad

local diagnostics = {}

local function check_rows(what, x)
  if not create.is_tensor(x) or x.ndim ~= 2 then
    caller.raise("%s: expected features (images, dim), got %s", what, caller.shown(x))
  end
end

--- alignment(a (n, d), b (n, d)) -> the mean over rows of |a - b|^2, of rows of unit length from 0 (two views of an
-- image lie together) to 4 (Wang and Isola, ICML 2020, with alpha = 2). A tensor without dimensions and off the tape.
function diagnostics.alignment(a, b)
  check_rows("diagnostics.alignment", a)
  check_rows("diagnostics.alignment", b)
  local _ <close> = no_grad()
  local apart <close> = a - b
  local squares <close> = apart * apart
  local sum <close> = squares:sum()
  return sum / #a
end

--- uniformity(x (n, d), rows of unit length) -> log of the mean over all pairs of rows of exp(-2 |x_i - x_j|^2), from 0
-- (all rows are equal) down to about -4 (they are spread over the sphere; Wang and Isola, ICML 2020, with t = 2). A
-- tensor without dimensions and off the tape; of a single row it is NaN.
function diagnostics.uniformity(x)
  check_rows("diagnostics.uniformity", x)
  local _ <close> = no_grad()
  local n = #x
  local turned <close> = x:t()
  local products <close> = x:matmul(turned)
  local exponents <close> = products:mul_(4):sub_(4) -- -2 |x - y|^2 = 4 x.y - 4
  local values <close> = exponents:exp()
  local sum <close> = values:sum()
  local pairs_twice <close> = sum:sub_(n) -- without each row's own, exp(0)
  local mean <close> = pairs_twice:div_(n * (n - 1))
  return mean:log()
end

--- views(q1 (n, d), q2 (n, d)) -> {alignment =, uniformity =} of the features of two views, rows of unit length: for
-- run:track. The uniformity is that of q1.
function diagnostics.views(q1, q2)
  return { alignment = diagnostics.alignment(q1, q2), uniformity = diagnostics.uniformity(q1) }
end

-- ---- effective rank ---------------------------------------------------------

local MOST = 512 -- rows of the matrix whose eigenvalues are sought: 0.05 s

--- effective_rank(x (n, d)) -> exp of the entropy of x's singular values, taken as shares of their sum (Roy and
-- Vetterli, 2007; as a measure of pretrained features RankMe: Garrido et al., ICML 2023): from 1 (all rows are
-- multiples of one) to the smaller of n and d. Not centred. Of more than 512 rows and dimensions the first 512 rows
-- count. 0 where x is zero, NaN where it is not finite.
function diagnostics.effective_rank(x)
  check_rows("diagnostics.effective_rank", x)
  local _ <close> = no_grad()
  local rows <close> = x[{ { 1, math.min(#x, x.shape[2] <= MOST and #x or MOST) } }]
  local all <close> = rows:to "cpu":double()
  if all:isfinite():all():item() == 0 then return 0 / 0 end
  local turned <close> = all:t()
  local gram <close> = #all <= all.shape[2] and all:matmul(turned) or turned:matmul(all)
  local values = gram:eigvalsh():totable()
  local sum, entropy = 0, 0
  for i, value in ipairs(values) do
    -- Where a value is zero, its square root would be the square root of a rounding.
    values[i] = value > values[#values] * 1e-14 * #values and math.sqrt(value) or 0
    sum = sum + values[i]
  end
  if sum == 0 then return 0 end
  for _, value in ipairs(values) do
    local share = value / sum
    if share > 0 then entropy = entropy - share * math.log(share) end
  end
  return math.exp(entropy)
end

-- Evaluation mode until the guard is closed.
local function in_eval_mode(net)
  if not nn.is_module(net) then return nil end
  local was = {}
  for _, module in ipairs(net:modules()) do was[module] = module.training end
  net:eval()
  return setmetatable({}, {
    __close = function()
      for module, training in pairs(was) do module.training = training end
    end,
  })
end

-- In runs of so many images: no more memory than a block of the training step takes.
local function pooled(net, images, most)
  local parts, n = {}, math.min(#images, MOST)
  for first = 1, n, most do
    local part <close> = images[{ { first, math.min(first + most - 1, n) } }]
    local features <close> = net:features(part)
    parts[#parts + 1] = features:float()
  end
  return create.cat(parts, 1)
end

--- rank(net, images (n, ...)[, {rows = 64}]) -> effective_rank of net:features(images), the pooled features, of at most
-- 512 images; in evaluation mode, so many rows at a time. The network stays as it is.
function diagnostics.rank(net, images, options)
  caller.check_fields("diagnostics.rank", options, { "rows" })
  local rows = caller.integer("diagnostics.rank", "rows", options and options.rows or 64, 1)
  local _ <close> = in_eval_mode(net)
  local _ <close> = no_grad()
  local features <close> = pooled(net, images, rows)
  return diagnostics.effective_rank(features)
end

-- ---- collapse ---------------------------------------------------------------

--- collapse{effective_rank =, alignment =, uniformity =}, each a number or nil -> what shows that the network makes the
-- same features of all images, or nil: an effective rank below 1.5, or views and images all in one place.
function diagnostics.collapse(seen)
  local rank, alignment, uniformity = seen.effective_rank, seen.alignment, seen.uniformity
  if rank and rank < 1.5 then
    return ("the features have collapsed: all images have the same direction (effective rank %.2f)"):format(rank)
  end
  if alignment and uniformity and alignment < 1e-4 and uniformity > -0.01 then
    return ("the features have collapsed: all views lie in one place (alignment %.1e, uniformity %.1e)"):format(
      alignment, uniformity)
  end
  return nil
end

return diagnostics
