--- Every op in f32 against PyTorch's own results (spec/fixtures/make_ops.py): values, NaN and infinities, dtypes, and
-- the gradient of a weighted sum.
local cld = require "cld"
local check = require "spec.support.check"

-- The same names as in make_ops.py; dimensions count from 1 here.
local cases = {
  ["add"] = function(a, b) return a + b end,
  ["sub"] = function(a, b) return a - b end,
  ["mul"] = function(a, b) return a * b end,
  ["div"] = function(a, b) return a / b end,
  ["pow"] = function(a, b) return a ^ b end,
  ["maximum"] = function(a, b) return a:maximum(b) end,
  ["minimum"] = function(a, b) return a:minimum(b) end,
  ["integer division"] = function(a, b) return a / b end,
  ["byte sum wraps"] = function(a, b) return a + b end,
  ["byte and long"] = function(a, b) return a + b end,
  ["long and float"] = function(a, b) return a * b end,
  ["long power"] = function(a) return a ^ 3 end,
  ["lt with nan"] = function(a, b) return a:lt(b) end,
  ["where"] = function(c, a, b) return cld.where(c, a, b) end,
  ["exp"] = function(a) return a:exp() end,
  ["exp of ordinary"] = function(a) return a:exp() end,
  ["log"] = function(a) return a:log() end,
  ["sqrt"] = function(a) return a:sqrt() end,
  ["rsqrt"] = function(a) return a:rsqrt() end,
  ["tanh"] = function(a) return a:tanh() end,
  ["sigmoid"] = function(a) return a:sigmoid() end,
  ["relu"] = function(a) return a:relu() end,
  ["round"] = function(a) return a:round() end,
  ["sign"] = function(a) return a:sign() end,
  ["clamp"] = function(a) return a:clamp(-1, 2) end,
  ["isfinite"] = function(a) return a:isfinite() end,
  ["sum"] = function(a) return a:sum({ 2, 4 }) end,
  ["mean keepdim"] = function(a) return a:mean({ 1, 3 }, true) end,
  ["var"] = function(a) return a:var({ 1, 3, 4 }) end,
  ["prod with a zero"] = function(a) return a:prod(2) end,
  ["norm"] = function(a) return a:norm(2, 2) end,
  ["amax with ties"] = function(a) return a:amax(2) end,
  ["amax with nan"] = function(a) return a:amax(2) end,
  ["amin of all"] = function(a) return a:amin() end,
  ["argmax"] = function(a) return a:argmax(2) end,
  ["argmin"] = function(a) return a:argmin(2) end,
  ["argmax across"] = function(a) return a:argmax(2) end,
  ["any"] = function(a) return a:any(2) end,
  ["sum of bytes"] = function(a) return a:sum() end,
  ["vector by vector"] = function(a, b) return a:matmul(b) end,
  ["matrix by vector"] = function(a, b) return a:matmul(b) end,
  ["vector by matrix"] = function(a, b) return a:matmul(b) end,
  ["matrix by transposed"] = function(a, b) return a:matmul(b:t()) end,
  ["batches broadcast"] = function(a, b) return a:matmul(b) end,
  ["batch by matrix"] = function(a, b) return a:matmul(b) end,
  ["matrix by batch"] = function(a, b) return a:matmul(b) end,
  ["linear"] = function(a, w, b) return cld.nn.functional.linear(a, w, b) end,
  ["softmax"] = function(a) return a:softmax(2) end,
  ["softmax across"] = function(a) return a:softmax(2) end,
  ["log_softmax"] = function(a) return a:log_softmax(2) end,
  ["softmax of -inf"] = function(a) return a:softmax(2) end,
  ["cross_entropy"] = function(a, labels) return cld.cross_entropy(a, labels) end,
  ["normalize"] = function(a) return a:normalize() end,
  ["normalize across"] = function(a) return a:normalize(2) end,
  ["gather"] = function(a, i) return a:gather(2, i) end,
  ["gather down"] = function(a, i) return a:gather(1, i) end,
  ["index_select"] = function(a, i) return a:index_select(2, i) end,
  ["scatter_add"] = function(a, i, s) return a:scatter_add(2, i, s) end,
  ["index_add"] = function(a, i, s) return a:index_add(1, i, s) end,
  ["index_copy"] = function(a, i, s) return a:index_copy(2, i, s) end,
  ["topk"] = function(a) return a:topk(2, 2) end,
  ["smallest"] = function(a) return a:topk(3, 2, false) end,
  ["sort"] = function(a) return a:sort(2) end,
  ["sort descending"] = function(a) return a:sort(2, true) end,
  ["sort integers"] = function(a) return a:sort(1) end,
}

-- Gradients at a kink or at infinity are a convention; PyTorch's differs from ours, or is NaN, where it says so.
local no_gradient = {
  ["normalize"] = "a zero row: PyTorch's is dy / eps, ours 0",
  ["amax with nan"] = "no element equals a NaN: PyTorch's is NaN, ours 0",
}

local function weights_like(out)
  local count = 1
  for _, extent in ipairs(out.shape) do count = count * extent end
  local values = {}
  for i = 1, count do values[i] = 0.5 + ((i - 1) * 0.6180339887498949) % 1 end
  return cld.tensor(values, out.dtype):reshape(out.shape)
end

describe("against PyTorch", function()
  local function with_fixture(name, body)
    local fixture = cld.load("spec/fixtures/ops.safetensors")
    local inputs = {}
    while fixture[name .. "/" .. #inputs + 1] do
      local input = fixture[name .. "/" .. #inputs + 1]
      inputs[#inputs + 1] = input.dtype == "f32" and input:requires_grad_() or input
    end
    assert(#inputs > 0, "no such case in the fixture")
    body(inputs, function(what) return fixture[name .. "/" .. what] end)
  end

  it("covers every case of the fixture", function()
    for name in pairs(cld.load("spec/fixtures/ops.safetensors")) do
      assert.is_function(cases[name:match("^(.*)/")], name)
    end
  end)

  local names = {}
  for name in pairs(cases) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    it(name, function()
      with_fixture(name, function(inputs, expected)
        local out, index = cases[name](table.unpack(inputs))
        local tolerance = { atol = 1e-6, rtol = 1e-5, nan = true }
        assert.equal(expected "out".dtype, out.dtype)
        assert.same(expected "out".shape, out.shape)
        check.close(out, expected "out", tolerance)
        if expected "index" then check.close(index, expected "index") end
        if not out.requires_grad or no_gradient[name] then return end
        out:backward(weights_like(out))
        for i, input in ipairs(inputs) do
          local gradient = expected("grad" .. i)
          if gradient then check.close(input.grad, gradient, tolerance) end
        end
      end)
    end)
  end
end)
