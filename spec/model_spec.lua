--- The CIFAR encoder against PyTorch: fixtures/make_model.py. The other stem is in stem_spec.lua.
local cld = require "cld"
local encoders = require "spec.support.encoders"

describe("resnet18_cifar", function()
  for _, head in ipairs { "linear", "norm_linear" } do
    for _, case in ipairs(encoders.cases) do
      it(("agrees with PyTorch, forward and backward, %s heads, %s"):format(head, case.dtype), function()
        local expected = encoders.entries(cld.load "spec/fixtures/model.safetensors", head .. ".")
        local net = cld.models.resnet18_cifar { low_dim = 16, width = 16, norm_linear = head == "norm_linear" }
        encoders.like_pytorch(net, 32, expected, case)
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
