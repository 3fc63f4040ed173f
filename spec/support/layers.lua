--- Shared by the specs of conv2d, batch_norm and the pools: PyTorch's fixtures, and a layer run twice, in f64 with
-- plain loops and in f32 as in training.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"

local layers = {}

--- Weights without symmetry, in the shape of out: the twin of `weights` in make_layers.py.
function layers.weights(out)
  local count, values = 1, {}
  for _, extent in ipairs(out.shape) do count = count * extent end
  for i = 1, count do values[i] = 0.5 + ((i - 1) * 0.6180339887498949) % 1 end
  return cld.tensor(values, out.dtype):reshape(out.shape)
end

--- The tensors of one case of layers.safetensors, by their short names.
function layers.fixture(case)
  local found = {}
  for name, tensor in pairs(cld.load("spec/fixtures/layers.safetensors")) do
    local owner, field = name:match("^(.*)/(.*)$")
    if owner == case then found[field] = tensor end
  end
  assert(found.x, "no such case in the fixture")
  return found
end

--- Compares f(leaves) with a case of the fixture: the output, and the gradient of every input.
function layers.like_pytorch(case, f)
  local fixture, leaves = layers.fixture(case), {}
  for _, name in ipairs { "x", "w", "b", "r" } do
    leaves[name] = fixture[name] and fixture[name]:clone():requires_grad_()
  end
  local out = f(leaves)
  check.close(out, fixture.out, { atol = 2e-6, rtol = 2e-5 })
  out:backward(layers.weights(out))
  for name, leaf in pairs(leaves) do
    check.close(leaf.grad, fixture["d" .. name], { atol = 1e-5, rtol = 1e-4 })
  end
end

--- Output and gradients of f(leaves), with leaves made from shapes by name: {out = , x = , w = ...}.
function layers.run(f, shapes, dtype)
  local leaves, results = {}, {}
  for name, shape in pairs(shapes) do
    leaves[name] = formula.uniform(name, shape, "f32", 1):to(dtype):detach():requires_grad_()
  end
  local out = f(leaves)
  out:backward(layers.weights(out))
  results.out = out:detach()
  for name, leaf in pairs(leaves) do results[name] = leaf.grad end
  return results
end

--- Largest |a - b| over all elements, relative to the largest |b|.
function layers.error(a, b)
  a, b = a:to("f64"), b:to("f64")
  return ((a - b):abs():amax() / b:abs():amax()):item()
end

--- Compares every result of f in f32 with f64: the largest error relative to the largest value is at most tolerance.
function layers.like_f64(f, shapes, tolerance)
  local single, double = layers.run(f, shapes, "f32"), layers.run(f, shapes, "f64")
  for name, expected in pairs(double) do
    local err = layers.error(single[name], expected)
    if not (err <= tolerance) then error(("%s: error %.3g, tolerance %.3g"):format(name, err, tolerance), 2) end
  end
end

return layers
