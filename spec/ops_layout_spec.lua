--- Ops on activations in the device's own layout (as a convolution returns them) against the same values in row-major
-- memory: every op must give the same, whichever of its inputs have which layout.
local cld = require "cld"
local check = require "spec.support.check"
local nn = cld.nn.functional

-- The same values twice: row-major, and as a 1x1 convolution with the identity left them.
local function both(n, channels, height, width)
  local plain = cld.arange(0, n * channels * height * width, 1):reshape(n, channels, height, width)
  plain = (plain * 0.37):sin()
  local identity = cld.zeros(channels, channels)
  for c = 1, channels do identity[{ c, c }] = 1 end
  return plain, nn.conv2d(plain, identity:reshape(channels, channels, 1, 1), nil, {})
end

local shapes = { { 2, 16, 3, 5 }, { 1, 32, 1, 1 }, { 3, 48, 7, 2 }, { 16, 64, 8, 8 } }

local function same(a, b) check.close(a, b, { atol = 1e-6, rtol = 1e-5 }) end

it("unary and binary, alone and mixed with row-major, broadcast and 0-d inputs", function()
  for _, shape in ipairs(shapes) do
    local x, y = both(table.unpack(shape))
    local channel = cld.arange(0, shape[2], 1):reshape(1, shape[2], 1, 1)
    local columns = cld.arange(0, shape[4], 1)
    same(y, x)
    same(y:relu(), x:relu())
    same(y * 2 + 1, x * 2 + 1)
    same(y + y, x + x)
    same(y + y:relu(), x + x:relu())
    same(y * x, x * x)
    same(x - y * 2, -x)
    same(y * channel, x * channel)
    same(columns - y, columns - x)
    same(y * cld.tensor(3.0), x * 3)
    same(y:gt(0), x:gt(0))
    same(cld.where(y:gt(0), y, x * 0), x:relu())
    same(cld.where(y:gt(0), y, y * 0), x:relu())
    same(y:to("f64"), x:to("f64"))
    same(y:to("bf16"):to("f32"), x:to("bf16"):to("f32"))
    same(y:to("i64"), x:to("i64"))
  end
end)

it("copies in every direction, fill, in place", function()
  for _, shape in ipairs(shapes) do
    local x, y = both(table.unpack(shape))
    local sum = y + y
    sum:add_(x)
    sum:add_(y)
    same(sum, x * 4)
    local target = cld.zeros(shape)
    target:add_(y)
    same(target, x)
    target:copy_(y:relu())
    same(target, x:relu())
    local blocked = y * 0
    blocked:copy_(x)
    same(blocked, x)
    blocked:copy_(x:permute(4, 3, 2, 1):contiguous():permute(4, 3, 2, 1))
    same(blocked, x)
    blocked:fill_(3)
    same(blocked, x * 0 + 3)
  end
end)

it("what walks strides: reductions, softmax, normalize, views, products, indexing, sorting", function()
  local x, y = both(2, 16, 3, 5)
  same(y:sum(), x:sum())
  same(y:sum({ 1, 3 }), x:sum({ 1, 3 }))
  same(y:amax(2), x:amax(2))
  same(y:argmax(2), x:argmax(2))
  same(y:softmax(2), x:softmax(2))
  same(y:normalize(2), x:normalize(2))
  same(y:norm(), x:norm())
  same(y:reshape(2, 240), x:reshape(2, 240))
  same(y:permute(1, 3, 4, 2), x:permute(1, 3, 4, 2))
  same(y:matmul(cld.ones(5, 2)), x:matmul(cld.ones(5, 2)))
  same(nn.linear(y, cld.ones(2, 5)), nn.linear(x, cld.ones(2, 5)))
  local index = cld.tensor({ 1, 0, 1 }, "i64")
  same(y:index_select(1, index), x:index_select(1, index))
  local source = cld.ones(3, 16, 3, 5)
  same(y:index_add(1, index, source), x:index_add(1, index, source))
  same((y:sort(3)), (x:sort(3)))
  same((y:topk(3, 2)), (x:topk(3, 2)))
end)

it("gradients, summed over two uses", function()
  local function gradient(f, blocked)
    local x = both(2, 16, 3, 5)
    x:requires_grad_()
    local identity = cld.zeros(16, 16)
    for c = 1, 16 do identity[{ c, c }] = 1 end
    local y = blocked and nn.conv2d(x, identity:reshape(16, 16, 1, 1), nil, {}) or x * 1
    f(y):backward()
    return x.grad
  end
  for _, f in ipairs {
    function(y) return (y:relu() + y * 3):sum() end,
    function(y) return (y * y + y:exp()):mean() end,
    function(y) return (y:mean({ 3, 4 }) * y:amax({ 3, 4 })):sum() end,
    function(y) return (y:softmax(2) * y):sum() end,
    function(y) return (y * cld.arange(0, 5, 1)):maximum(y):sum() end,
  } do
    same(gradient(f, true), gradient(f, false))
  end
end)

describe("writes through views of an activation in the device's own layout", function()
  it("reach it", function()
    for _, write in ipairs {
      function(y) y[1] = 5 end,
      function(y) y[{ { 1, 1 } }] = cld.tensor(5) end,
      function(y) y[cld.tensor({ 0 }, "i64")] = 5 end,
      function(y) y:narrow(1, 1, 1):fill_(5) end,
      function(y) y:detach():narrow(1, 1, 1):fill_(5) end,
      function(y) y:reshape(2, -1):select(1, 1):fill_(5) end,
      function(y) y:permute(2, 1, 3, 4):select(2, 1):copy_(cld.tensor(5)) end,
    } do
      for _, channels in ipairs { 16, 64 } do
        local plain, y = both(2, channels, 8, 8)
        write(y)
        check.close(y[1], cld.full({ channels, 8, 8 }, 5))
        check.close(y[2], plain[2])
      end
    end
  end)
  it("leave right what backward had saved, or are noticed", function()
    local x, w = cld.randn(2, 16, 8, 8):requires_grad_(), cld.randn(16, 16, 3, 3)
    local function gradient(write)
      local y = nn.conv2d(x, w, nil, { padding = 1 })
      local z = (y * y):sum()
      x.grad = nil
      if write then cld.no_grad(function() y[1] = 0 end) end
      local ok, message = pcall(z.backward, z)
      return ok and x.grad or message
    end
    local expected, found = gradient(false), gradient(true)
    if type(found) == "string" then
      assert.truthy(found:find "changed in place")
    else
      check.close(found, expected, { rtol = 1e-4, atol = 1e-4 })
    end
  end)
end)
