--- The whole encoder against PyTorch: fixtures/make_model.py ran the same network, in f64, on the same numbers.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"

-- Entries of the fixture under a prefix, as {name = tensor}.
local function entries(fixture, prefix)
  local found = {}
  for name, tensor in pairs(fixture) do
    if name:sub(1, #prefix) == prefix then found[name:sub(#prefix + 1)] = tensor end
  end
  return found
end

-- f64 shows that the mathematics is the same. f32 has seven digits, and loses about one over 18 layers and back;
-- Winograd convolutions cost another. atol is relative to the largest element.
local cases = {
  { dtype = "f64", tolerance = 1e-10 },
  { dtype = "f32", tolerance = 2e-4 },
}

describe("resnet18_cifar", function()
  for _, head in ipairs { "linear", "norm_linear" } do
    for _, case in ipairs(cases) do
      local function compare(actual, expected, name)
        local scale = expected:abs():amax():item()
        local ok, message = pcall(check.close, actual, expected, { atol = case.tolerance * scale, rtol = 0 })
        assert(ok, name .. ": " .. tostring(message))
      end

      it(("agrees with PyTorch, forward and backward, %s heads, %s"):format(head, case.dtype), function()
        local expected = entries(cld.load "spec/fixtures/model.safetensors", head .. ".")
        local net = cld.models.resnet18_cifar { low_dim = 16, width = 16, norm_linear = head == "norm_linear" }
        formula.fill(net, case.dtype)
        local x = formula.uniform("input", { 2, 3, 32, 32 }, case.dtype)

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
        for name, gradient in pairs(entries(expected, "grad.")) do
          compare(net:get_parameter(name).grad, gradient, "gradient of " .. name)
        end
        for name, norm in pairs(entries(expected, "gradnorm.")) do
          compare(net:get_parameter(name).grad:square():sum():sqrt(), norm, "norm of the gradient of " .. name)
          compared = compared + 1
        end
        assert.equal(#net:parameters(), compared)
        local state = net:state_dict()
        for name, statistic in pairs(entries(expected, "after.")) do compare(state[name], statistic, name) end
      end)
    end
  end

  it("has the published checkpoints' parameter names, and no others", function()
    local names = {}
    for name in pairs(cld.load "spec/fixtures/model.safetensors") do
      names[#names + 1] = name:match "^linear%.gradnorm%.(.*)$"
    end
    local ours = {}
    for name in cld.models.resnet18_cifar({ low_dim = 16, width = 16 }):named_parameters() do ours[#ours + 1] = name end
    table.sort(names)
    table.sort(ours)
    assert.same(names, ours)
  end)
end)
