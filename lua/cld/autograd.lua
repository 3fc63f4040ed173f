--- Gradients of results with respect to inputs, and the check against central differences. The functions in C, such as
-- no_grad and Function, are here and in cld (bindings/autograd.c, bindings/autograd_grad.c).
local core = require "cld.core"
local caller = require "cld.caller"
local is_tensor, create = core.tensor.is_tensor, core.tensor

local autograd = {}
for name, f in pairs(core.autograd) do autograd[name] = f end

-- ---- gradcheck ----------------------------------------------------------------

-- Fixed weights without symmetry, so that a gradient that is right only for a plain sum is caught.
local function weights_like(y)
  local count <close> = create.arange(y:numel())
  local steps <close> = count:to "f64"
  local weights = (steps * 0.6180339887498949 + 0.6180339887498949) % 1 + 0.5
  return weights:reshape(y.shape):to(y.device)
end

-- f's results as table.pack makes them; the first must be f64.
local function results_of(f, arguments)
  local results = table.pack(f(table.unpack(arguments, 1, arguments.n)))
  if not is_tensor(results[1]) or results[1].dtype ~= "f64" then
    caller.raise("gradcheck: f returned %s; expected a tensor of f64", caller.shown(results[1]))
  end
  return results
end

-- The weighted sum of all elements of f's results.
local function total(results, weights)
  local sum = 0
  for i, weight in pairs(weights) do sum = sum + (results[i]:detach() * weight):sum():item() end
  return sum
end

local function setting(options, field, default)
  local value = options and options[field]
  if value == nil then return default end
  if type(value) == "number" and value >= 0 and value < math.huge then return value end
  caller.raise("gradcheck: %s must be a number of at least 0, got %s", field, caller.shown(value))
end

local function placed(x, device) return is_tensor(x) and (device and x:to(device) or x):detach() or x end

-- The arguments for f; f64 inputs become new leaves. Returns the arguments, and the leaves by the input's number.
local function arguments_of(inputs, device)
  local arguments, leaves = { n = inputs.n or #inputs }, {}
  for i = 1, arguments.n do
    local x = placed(inputs[i], device)
    if is_tensor(x) and x.dtype == "f64" then
      x = x:clone():requires_grad_()
      leaves[i] = x
    end
    arguments[i] = x
  end
  if next(leaves) == nil then caller.raise "gradcheck: no input is a tensor of f64" end
  return arguments, leaves
end

-- Runs backward. Returns the gradients by the input's number, false if there is none, and the weights by the result's.
local function analytic_gradients(results, leaves)
  local tracked, seeds, weights, inputs, numbers = {}, {}, {}, {}, {}
  for i = 1, results.n do
    local y = results[i]
    if is_tensor(y) and y.dtype == "f64" and y.requires_grad then
      weights[i] = weights_like(y)
      tracked[#tracked + 1], seeds[#seeds + 1] = y, weights[i]
    end
  end
  for number, x in pairs(leaves) do
    inputs[#inputs + 1], numbers[#numbers + 1] = x, number
  end
  local gradients, list = {}, #tracked > 0
    and caller.call("gradcheck", core.autograd.grad, tracked, inputs, { grad_outputs = seeds, allow_unused = true })
  for k, number in ipairs(numbers) do gradients[number] = list and list[k] end
  return gradients, weights
end

--- cld.autograd.gradcheck(f, inputs[, {eps = 1e-5, atol = 1e-7, rtol = 1e-5, device}]) -> true: compares the gradients
-- of f(table.unpack(inputs)) with central differences of step eps, in f64: |backward - difference| <= atol + rtol
-- |difference|, which NaN fails. If they differ, an error names the input, the element and both values.
--
-- f returns one or more tensors of any shape, the first in f64. All f64 results that depend on the inputs are checked,
-- and each element has its own weight. Every f64 input is checked; others (indices, masks, numbers) pass through.
-- device: where f gets its inputs; by default where they are. No .grad changes. f is called twice per element, so use
-- small inputs, and f must return the same each time.
--
--     local x = cld.randn({ 2, 3 }, { dtype = "f64", requires_grad = true })
--     print(cld.autograd.gradcheck(function(t) return t:sigmoid() end, { x }))  --> true
function autograd.gradcheck(f, inputs, options)
  if type(f) ~= "function" then caller.raise("gradcheck: expected a function, got %s", caller.shown(f)) end
  if type(inputs) ~= "table" then
    caller.raise("gradcheck: expected a list of inputs, got %s", caller.shown(inputs))
  end
  caller.check_fields("gradcheck", options, { "eps", "atol", "rtol", "device" })
  local eps, atol = setting(options, "eps", 1e-5), setting(options, "atol", 1e-7)
  local rtol = setting(options, "rtol", 1e-5)
  if eps == 0 then caller.raise "gradcheck: eps must be above 0, got 0" end
  local arguments, leaves = arguments_of(inputs, options and options.device)
  local gradients, weights = analytic_gradients(results_of(f, arguments), leaves)
  local _ <close> = core.autograd.no_grad()
  for i = 1, arguments.n do
    if leaves[i] and not gradients[i] then caller.raise("gradcheck: input %d got no gradient", i) end
    local analytic = leaves[i] and gradients[i]:reshape(-1):totable() or {}
    local elements = leaves[i] and leaves[i]:reshape(-1)
    for j, slope in ipairs(analytic) do
      local value = elements[j]:item()
      elements[j] = value + eps
      local above = total(results_of(f, arguments), weights)
      elements[j] = value - eps
      local numeric = (above - total(results_of(f, arguments), weights)) / (2 * eps)
      elements[j] = value
      local err = math.abs(slope - numeric)
      local agrees = err <= atol + rtol * math.abs(numeric)
      if not agrees then
        caller.raise("gradcheck: input %d, element %d (row-major): backward %.9g, central difference %.9g, error %.3g",
          i, j, slope, numeric, err)
      end
    end
  end
  return true
end

return autograd
