--- A whole encoder against PyTorch: make_model.py's `model_fixture` ran the same network, in f64, on the same numbers.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"

local encoders = {}

--- f64 shows that the mathematics is the same. f32 has seven digits and loses about one over 18 layers forward and
-- backward; Winograd convolutions lose another. The tolerance is relative to the largest element.
encoders.cases = {
  { dtype = "f64", tolerance = 1e-10 },
  { dtype = "f32", tolerance = 2e-4 },
}

--- Entries of the fixture under a prefix, as {name = tensor}.
function encoders.entries(fixture, prefix)
  local found = {}
  for name, tensor in pairs(fixture) do
    if name:sub(1, #prefix) == prefix then found[name:sub(#prefix + 1)] = tensor end
  end
  return found
end

--- Checks the network, filled by its names, on images of size x size: outputs in evaluation and training, the
-- gradients, and the running statistics after a step. expected: a prefix in the fixture. case: one of encoders.cases.
function encoders.like_pytorch(net, size, expected, case)
  local function compare(actual, wanted, name)
    local scale = wanted:abs():amax():item()
    local ok, message = pcall(check.close, actual, wanted, { atol = case.tolerance * scale, rtol = 0 })
    assert(ok, name .. ": " .. tostring(message))
  end

  formula.fill(net, case.dtype)
  local x = formula.uniform("input", { 2, 3, size, size }, case.dtype)
  net:eval()
  cld.no_grad(function()
    local instance, group = net(x)
    compare(instance, expected["eval.instance"], "eval.instance")
    compare(group, expected["eval.group"], "eval.group")
  end)

  net:train()
  local instance, group = net(x)
  compare(instance, expected["train.instance"], "train.instance")
  compare(group, expected["train.group"], "train.group")
  local sum = (instance * formula.uniform("instance", { 2, 16 }, case.dtype)
    + group * formula.uniform("group", { 2, 16 }, case.dtype)):sum()
  sum:backward()

  local compared = 0
  for name, gradient in pairs(encoders.entries(expected, "grad.")) do
    compare(net:get_parameter(name).grad, gradient, "gradient of " .. name)
  end
  for name, norm in pairs(encoders.entries(expected, "gradnorm.")) do
    compare(net:get_parameter(name).grad:square():sum():sqrt(), norm, "norm of the gradient of " .. name)
    compared = compared + 1
  end
  if compared ~= #net:parameters() then error(("%d of %d parameters compared"):format(compared, #net:parameters())) end
  local state = net:state_dict()
  for name, statistic in pairs(encoders.entries(expected, "after.")) do compare(state[name], statistic, name) end
end

return encoders
