--- The standard normal distribution: the probability of a lower value, and its inverse.
local normal = {}

local SQRT2, SQRT_PI = math.sqrt(2), math.sqrt(math.pi)

-- The integral of exp(-t^2) from x to infinity, times exp(x^2), for x above 2: Laplace's continued fraction.
local function scaled_tail(x)
  local fraction = x
  for k = 120, 1, -1 do fraction = x + k / 2 / fraction end
  return 1 / (2 * fraction)
end

-- erf by its series, for small x.
local function erf_series(x)
  local term, sum = x, x
  for k = 1, 120 do
    term = -term * x * x / k
    sum = sum + term / (2 * k + 1)
  end
  return 2 / SQRT_PI * sum
end

--- share_below(x) -> P(X <= x), a number.
function normal.share_below(x)
  local y = math.abs(x) / SQRT2
  local tail = y > 2 and math.exp(-y * y) * scaled_tail(y) / SQRT_PI or (1 - erf_series(y)) / 2
  return x < 0 and tail or 1 - tail
end

-- Wichura's algorithm AS 241 (Applied Statistics 37, 1988), PPND16: each pair is a ratio of polynomials, from the
-- highest power to the constant.
local MIDDLE = {
  { 2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457, 13731.693765509461125,
    1971.5909503065514427, 133.14166789178437745, 3.3871328727963666080 },
  { 5226.4952788528545610, 28729.085735721942674, 39307.895800092710610, 21213.794301586595867, 5394.1960214247511077,
    687.18700749205790830, 42.313330701600911252, 1 },
}
local SIDE = {
  { 7.74545014278341407640e-4, 0.0227238449892691845833, 0.241780725177450611770, 1.27045825245236838258,
    3.64784832476320460504, 5.76949722146069140550, 4.63033784615654529590, 1.42343711074968357734 },
  { 1.05075007164441684324e-9, 5.47593808499534494600e-4, 0.0151986665636164571966, 0.148103976427480074590,
    0.689767334985100004550, 1.67638483018380384940, 2.05319162663775882187, 1 },
}
local TAIL = {
  { 2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.00124266094738807843860, 0.0265321895265761230930,
    0.296560571828504891230, 1.78482653991729133580, 5.46378491116411436990, 6.65790464350110377720 },
  { 2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
    0.0148753612908506148525, 0.136929880922735805310, 0.599832206555887937690, 1 },
}

local function polynomial(coefficients, x)
  local sum = x * coefficients[1] + coefficients[2]
  for i = 3, #coefficients do sum = (sum * x):add_(coefficients[i]) end
  return sum
end

local function ratio(pair, x) return polynomial(pair[1], x) / polynomial(pair[2], x) end

--- quantiles(shares of f64, from 0 to 1) -> for each share, the value below which that share of the distribution lies;
-- -inf at 0, inf at 1. Accurate to 15 digits.
function normal.quantiles(shares)
  local q = shares - 0.5
  local low = shares:minimum(1 - shares)
  local r = (-low:log()):sqrt()
  local outer = ratio(SIDE, r:clamp(nil, 5) - 1.6):where(r:le(5), ratio(TAIL, r:clamp(5, 30) - 5))
  local middle = q * ratio(MIDDLE, 0.180625 - q * q)
  local values = middle:where(q:abs():le(0.425), outer * q:sign())
  return (q * math.huge):where(low:le(0), values)
end

return normal
