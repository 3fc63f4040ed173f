--- max_pool2d, avg_pool2d, adaptive_avg_pool2d.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"
local layers = require "spec.support.layers"
local nn = cld.nn.functional

local windows = {
  { 2, {} },
  { 3, { stride = 2, padding = 1 } },
  { { 2, 3 }, { stride = { 3, 1 }, padding = { 1, 0 } } },
  { 3, { stride = 1 } },
}

describe("pooling", function()
  it("has the gradients of central differences", function()
    local x = formula.uniform("x", { 2, 3, 7, 5 }, "f64")
    for _, window in ipairs(windows) do
      check.gradcheck(function(t) return nn.max_pool2d(t, window[1], window[2]) end, { x })
      check.gradcheck(function(t) return nn.avg_pool2d(t, window[1], window[2]) end, { x })
    end
    check.gradcheck(function(t) return nn.adaptive_avg_pool2d(t, 1) end, { x })
  end)

  it("is PyTorch's, overlapping and padded", function()
    layers.like_pytorch("max_pool", function(t) return nn.max_pool2d(t.x, 3, { stride = 2, padding = 1 }) end)
    layers.like_pytorch("avg_pool", function(t)
      return nn.avg_pool2d(t.x, { 3, 2 }, { stride = { 2, 1 }, padding = 1 })
    end)
  end)

  it("in f32, row-major and blocked, is f64's", function()
    for _, channels in ipairs { 5, 32 } do
      for _, window in ipairs(windows) do
        for _, pool in ipairs { nn.max_pool2d, nn.avg_pool2d } do
          layers.like_f64(function(t) return pool(t.x, window[1], window[2]) end, { x = { 3, channels, 7, 6 } }, 1e-6)
        end
      end
      layers.like_f64(function(t) return nn.adaptive_avg_pool2d(t.x, 1) end, { x = { 3, channels, 4, 4 } }, 1e-6)
      layers.like_f64(function(t) return nn.max_pool2d(t.x, { 4, 5 }) end, { x = { 3, channels, 4, 5 } }, 1e-6)
    end
  end)

  it("rounds half precision from f32", function()
    local x = formula.uniform("x", { 2, 16, 4, 4 })
    for dtype, tolerance in pairs { bf16 = 1e-2, f16 = 1e-3 } do
      local half = x:to(dtype)
      assert.equal(dtype, nn.max_pool2d(half, 2).dtype)
      assert.is_true(layers.error(nn.max_pool2d(half, 2), nn.max_pool2d(x, 2)) < tolerance)
      assert.is_true(layers.error(nn.avg_pool2d(half, 2), nn.avg_pool2d(x, 2)) < tolerance)
    end
  end)

  it("passes NaN on", function()
    local x = cld.zeros(1, 16, 4, 4)
    x[{ 1, 3, 2, 2 }] = 0 / 0
    local y = nn.max_pool2d(x, 2)
    local found = y[{ 1, 3, 1, 1 }]:item()
    assert.is_true(found ~= found)
    assert.equal(0, y[{ 1, 3, 2, 2 }]:item())
  end)

  it("lays a global average out so that flatten shares its memory", function()
    local y = nn.adaptive_avg_pool2d(formula.uniform("x", { 2, 32, 4, 4 }), 1)
    assert.same({ 2, 32, 1, 1 }, y.shape)
    assert.is_true(y:is_contiguous())
  end)

  it("says what does not fit", function()
    local x = cld.zeros(1, 3, 4, 4)
    check.fails(function() nn.max_pool2d(x, 5) end,
      "max_pool2d: the kernel has 5 rows, but input f32%[1, 3, 4, 4%] has only 4")
    check.fails(function() nn.avg_pool2d(x, 2, { padding = 2 }) end, "padding must be from 0 to half the kernel %(1%)")
    check.fails(function() nn.avg_pool2d(cld.zeros(3), 2) end, "4%-d input")
    check.fails(function() nn.max_pool2d(x, 0) end, "at least 1")
    check.fails(function() nn.adaptive_avg_pool2d(x, 0) end, "the output would have 0 rows and 0 columns")
    check.fails(function() nn.adaptive_avg_pool2d(cld.zeros(3, 4), 2) end, "floating%-point input %(N, C, H, W%)")
  end)
end)
