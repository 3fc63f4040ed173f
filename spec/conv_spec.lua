--- conv2d: shapes, gradients, and oneDNN's paths (blocked, row-major, Winograd) against plain f64 loops.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"
local layers = require "spec.support.layers"
local process = require "spec.support.process"
local nn = cld.nn.functional

-- input shape, weight shape, options; bias where .bias
local odd = {
  { { 2, 3, 5, 4 }, { 4, 3, 3, 3 }, { padding = 1 }, bias = true },
  { { 1, 2, 7, 6 }, { 3, 2, 3, 2 }, { stride = 2, padding = { 1, 0 } } },
  { { 2, 4, 6, 5 }, { 6, 2, 3, 2 }, { stride = { 1, 2 }, padding = 2, groups = 2 }, bias = true },
  { { 1, 3, 7, 7 }, { 2, 3, 3, 3 }, { dilation = 2, padding = 1, stride = 2 } },
  { { 2, 3, 4, 4 }, { 3, 1, 3, 3 }, { groups = 3, padding = 1, dilation = { 1, 2 } } },
  { { 2, 3, 3, 5 }, { 4, 3, 1, 1 }, { stride = 2 }, bias = true },
  { { 2, 3, 4, 3 }, { 5, 3, 4, 3 }, {}, bias = true },
  { { 3, 5, 1, 1 }, { 4, 5, 3, 3 }, { padding = 1 } },
  { { 1, 3, 2, 2 }, { 5, 3, 3, 3 }, { padding = 1, stride = 2 } },
}

-- What ResNets are made of, and shapes that need reorders: channels that do not fill a block, groups, dilation.
local single = {
  { { 2, 3, 12, 12 }, { 16, 3, 3, 3 }, { padding = 1 } },
  { { 2, 16, 9, 7 }, { 32, 16, 3, 3 }, { padding = 1 }, bias = true },
  { { 3, 32, 8, 8 }, { 48, 32, 3, 3 }, { stride = 2, padding = 1 } },
  { { 3, 32, 8, 8 }, { 64, 32, 1, 1 }, { stride = 2 } },
  { { 2, 20, 6, 5 }, { 16, 20, 3, 3 }, { padding = 1 } },
  { { 2, 16, 6, 5 }, { 20, 16, 3, 3 }, { padding = 2, dilation = 2 }, bias = true },
  { { 2, 32, 6, 6 }, { 32, 16, 3, 3 }, { padding = 1, groups = 2 } },
  { { 2, 32, 6, 6 }, { 32, 1, 3, 3 }, { padding = 1, groups = 32 }, bias = true },
  { { 2, 32, 1, 1 }, { 16, 32, 1, 1 }, {} },
  { { 2, 16, 3, 3 }, { 32, 16, 3, 3 }, {} },
}

local function layer(case) return function(t) return nn.conv2d(t.x, t.w, t.b, case[3]) end end
local function shapes(case) return { x = case[1], w = case[2], b = case.bias and { case[2][1] } } end

describe("conv2d", function()
  it("has the gradients of central differences", function()
    for _, case in ipairs(odd) do
      local inputs = { formula.uniform("x", case[1], "f64"), formula.uniform("w", case[2], "f64"), n = 3 }
      if case.bias then inputs[3] = formula.uniform("b", { case[2][1] }, "f64") end
      check.gradcheck(function(x, w, b) return nn.conv2d(x, w, b, case[3]) end, inputs)
    end
  end)

  it("is PyTorch's", function()
    layers.like_pytorch("conv", function(t)
      return nn.conv2d(t.x, t.w, t.b, { stride = { 2, 1 }, padding = { 1, 2 }, dilation = { 1, 2 }, groups = 2 })
    end)
  end)

  it("in f32 is the f64 loops' to 2e-6 of the largest value", function()
    for _, cases in ipairs { odd, single } do
      for _, case in ipairs(cases) do layers.like_f64(layer(case), shapes(case), 2e-6) end
    end
  end)

  -- oneDNN takes Winograd's algorithm in training from 17 images on, ours from 64 tiles on, with AVX-512 if there
  -- are 4 tiles to a channel (the last three): maps that are no multiple of a tile's 4 x 4, every padding, more and
  -- fewer channels out than in.
  local winograd = {
    { { 20, 32, 7, 8 }, { 32, 32, 3, 3 }, { padding = 1 } },
    { { 17, 16, 11, 14 }, { 48, 16, 3, 3 }, { padding = 0 } },
    { { 18, 48, 5, 9 }, { 16, 48, 3, 3 }, { padding = 2 } },
    { { 70, 16, 2, 3 }, { 32, 16, 3, 3 }, { padding = { 1, 0 } } },
    { { 7, 32, 21, 14 }, { 32, 32, 3, 3 }, { padding = 1 } },
    { { 16, 16, 15, 14 }, { 48, 16, 3, 3 }, { padding = 0 } },
    { { 25, 48, 9, 9 }, { 16, 48, 3, 3 }, { padding = 2 } },
  }
  local ours = winograd[5]
  it("by Winograd's algorithm is the f64 loops' to 5e-5, and switched off to 2e-6", function()
    local case = winograd[1]
    for _, c in ipairs(winograd) do layers.like_f64(layer(c), shapes(c), 5e-5) end
    assert.is_true(nn.set_winograd(false))
    local ok, message = pcall(layers.like_f64, layer(case), shapes(case), 2e-6)
    assert.is_false(nn.set_winograd(true))
    assert(ok, message)
  end)

  -- Products of matrices, one for each pair of an output and an input pixel that a tap joins: on single pixels for any
  -- number of channels and images, else from 2^22 multiplications on. Row-major and blocked, and with taps, inputs or
  -- outputs that no pair has.
  local tiny = {
    ["a single pixel"] = {
      { { 5, 20, 1, 1 }, { 13, 20, 3, 3 }, { padding = 1 } },
      { { 1, 32, 1, 1 }, { 48, 32, 3, 3 }, { padding = 1 } },
      { { 1, 7, 1, 1 }, { 16, 7, 5, 3 }, { padding = { 2, 1 }, stride = 2 } },
      { { 288, 64, 1, 1 }, { 96, 64, 1, 1 }, {} },
    },
    ["a few"] = {
      { { 180, 160, 2, 2 }, { 160, 160, 3, 3 }, { padding = 1 } },
      { { 130, 181, 2, 2 }, { 182, 181, 3, 3 }, { padding = 1 } },
      { { 140, 176, 3, 3 }, { 181, 176, 3, 3 }, { padding = 1, stride = 2 } },
      { { 1100, 64, 1, 1 }, { 64, 64, 1, 1 }, { padding = 4, stride = 4 } },
      { { 130, 181, 5, 4 }, { 182, 181, 1, 1 }, { stride = 2 } },
    },
  }
  for size, cases in pairs(tiny) do
    it("on maps of " .. size .. " is the f64 loops' to 2e-6 of the largest value", function()
      for _, case in ipairs(cases) do layers.like_f64(layer(case), shapes(case), 2e-6) end
    end)
  end

  it("on maps of a few pixels adds to the gradients that are there", function()
    for _, case in ipairs { tiny["a single pixel"][1], tiny["a few"][1], tiny["a few"][5] } do
      local x, w = formula.uniform("x", case[1]):requires_grad_(), formula.uniform("w", case[2]):requires_grad_()
      nn.conv2d(x, w, nil, case[3]):sum():backward()
      local once = { x.grad:clone(), w.grad:clone() }
      nn.conv2d(x, w, nil, case[3]):sum():backward()
      check.close(x.grad, once[1] * 2, { atol = 0, rtol = 1e-6 })
      check.close(w.grad, once[2] * 2, { atol = 0, rtol = 1e-6 })
    end
  end)

  -- A batch norm that follows keeps its input, unless the input is cheap to compute again: larger than what the
  -- convolution reads, and of few products.
  describe("whose output backward computes again", function()
    local shape, widening = { 3, 16, 6, 5 }, { 64, 16, 1, 1 }

    -- conv2d and batch_norm; `kept`: with an op between, whose output is kept.
    local function chain(kept)
      return function(t)
        local y = nn.batch_norm(t.x, nil, nil, nil, nil, { training = true, relu = true })
        local z = nn.conv2d(y, t.w, nil, {})
        return nn.batch_norm(kept and z:mul(1) or z, nil, nil, nil, nil, { training = true })
      end
    end

    it("gives the same bits as one that is kept", function()
      for _, dtype in ipairs { "f32", "f64" } do
        local all = { x = shape, w = widening }
        local again, kept = layers.run(chain(false), all, dtype), layers.run(chain(true), all, dtype)
        for name, tensor in pairs(kept) do check.close(again[name], tensor, { atol = 0, rtol = 0 }) end
      end
    end)

    -- Bytes that are free once only backward still knows the convolution's output.
    local function freed(weight, trained)
      local t = { x = formula.uniform("x", { 16, 16, 32, 32 }):requires_grad_(), w = formula.uniform("w", weight) }
      if trained then t.w:requires_grad_() end
      local z = nn.conv2d(t.x, t.w, nil, {})
      local y = nn.batch_norm(z, nil, nil, nil, nil, { training = true })
      local before = cld.memory().in_use
      z:close()
      return before - cld.memory().in_use, y
    end

    it("is not in memory until then, if it is larger than the input", function()
      assert.equal(16 * 64 * 32 * 32 * 4, (freed({ 64, 16, 1, 1 }, true)))
      assert.equal(0, (freed({ 16, 16, 1, 1 }, true)))
    end)

    it("is in memory where the weight is not trained, which keeps no input", function()
      assert.equal(0, (freed({ 64, 16, 1, 1 }, false)))
    end)

    it("is computed again as often as a retained graph asks", function()
      local x, w = formula.uniform("x", shape):requires_grad_(), formula.uniform("w", widening):requires_grad_()
      local y = chain(false) { x = x, w = w }
      local total = (y * layers.weights(y)):sum()
      total:backward { retain_graph = true }
      local first = { x.grad:clone(), w.grad:clone() }
      total:backward()
      check.close(x.grad, first[1] * 2, { atol = 1e-6, rtol = 1e-6 })
      check.close(w.grad, first[2] * 2, { atol = 1e-6, rtol = 1e-6 })
    end)

    it("notices writes into the output, and into the weight", function()
      local function changed(what)
        local x, w = formula.uniform("x", shape):requires_grad_(), formula.uniform("w", widening):requires_grad_()
        local z = nn.conv2d(x, w, nil, {})
        local y = nn.batch_norm(z, nil, nil, nil, nil, { training = true })
        cld.no_grad(function() (what == "output" and z or w):mul_(2) end)
        y:sum():backward()
      end
      check.fails(function() changed "output" end, "which batch_norm saved for backward, was changed in place")
      check.fails(function() changed "weight" end, "which conv2d saved for backward, was changed in place")
    end)
  end)

  it("gives the same bits every time", function()
    local case = { { 20, 32, 8, 8 }, { 32, 32, 3, 3 }, { padding = 1 } }
    local first, second = layers.run(layer(case), shapes(case), "f32"), layers.run(layer(case), shapes(case), "f32")
    for name, tensor in pairs(first) do check.close(second[name], tensor, { atol = 0, rtol = 0 }) end
  end)

  it("by our own Winograd gives the same bits with one thread and with three", function() -- oneDNN may cut a sum
    local threads = cld.get_num_threads()
    local results = {}
    for i, count in ipairs { 1, 3 } do
      cld.set_num_threads(count)
      results[i] = layers.run(layer(ours), shapes(ours), "f32")
    end
    cld.set_num_threads(threads)
    for name, tensor in pairs(results[1]) do
      check.close(results[2][name], tensor, { atol = 0, rtol = 0 })
    end
  end)

  -- With AVX-512 all of the above ran on kernels for it; here once more as on a processor without.
  it("does all this on a processor with AVX2 alone", function()
    if os.getenv "DNNL_MAX_CPU_ISA" then return end
    local result = process.run { "/usr/bin/busted", "spec/conv_spec.lua", env = { DNNL_MAX_CPU_ISA = "AVX2" } }
    assert.equal(0, result.code, result.out .. result.err)
  end)

  it("in bf16 and f16 rounds what f32 gives", function()
    local x, w = formula.uniform("x", { 2, 16, 5, 5 }), formula.uniform("w", { 16, 16, 3, 3 })
    for dtype, tolerance in pairs { bf16 = 2e-2, f16 = 2e-3 } do
      local xh, wh = x:to(dtype):detach():requires_grad_(), w:to(dtype):detach():requires_grad_()
      local y = nn.conv2d(xh, wh, nil, { padding = 1 })
      assert.equal(dtype, y.dtype)
      assert.is_true(layers.error(y, nn.conv2d(x, w, nil, { padding = 1 })) < tolerance)
      y:backward(layers.weights(y))
      assert.equal(dtype, wh.grad.dtype)
      assert.same(x.shape, xh.grad.shape)
    end
  end)

  it("takes views and an empty batch", function()
    local x, w = formula.uniform("x", { 16, 5, 2, 4 }), formula.uniform("w", { 8, 3, 3, 16 })
    local xt, wt = x:permute(3, 1, 4, 2), w:permute(1, 4, 2, 3)
    check.close(nn.conv2d(xt, wt, nil, {}), nn.conv2d(xt:contiguous(), wt:contiguous(), nil, {}), { atol = 0 })
    local weight = cld.ones(4, 3, 3, 3):requires_grad_()
    local y = nn.conv2d(cld.zeros(0, 3, 5, 5), weight, nil, {})
    assert.same({ 0, 4, 3, 3 }, y.shape)
    y:backward(cld.zeros(0, 4, 3, 3))
    check.close(weight.grad, cld.zeros(4, 3, 3, 3))
  end)

  it("computes only the gradients that are asked for", function()
    local x, w = formula.uniform("x", { 2, 3, 5, 5 }), formula.uniform("w", { 4, 3, 3, 3 })
    local b = cld.zeros(4):requires_grad_()
    nn.conv2d(x, w, b, {}):sum():backward()
    check.close(b.grad, { 18, 18, 18, 18 })
    assert.is_nil(w.grad)
    local leaf = x:clone():requires_grad_()
    nn.conv2d(leaf, w, nil, {}):sum():backward()
    assert.same(x.shape, leaf.grad.shape)
  end)

  it("says what does not fit", function()
    local x = cld.zeros(2, 3, 32, 32)
    local function fails(pattern, ...)
      local arguments = table.pack(...)
      check.fails(function() nn.conv2d(table.unpack(arguments, 1, arguments.n)) end, pattern)
    end
    fails("conv2d: x has 3 channels, the weight takes 16 %(x is f32%[2, 3, 32, 32%], the weight f32%[64, 16, 3, 3%]%)",
      x, cld.zeros(64, 16, 3, 3))
    fails("conv2d: x has 3 channels, the weight in 2 groups takes 4 %(x is", x, cld.zeros(64, 2, 3, 3), nil,
      { groups = 2 })
    fails("4%-d input %(N, C, H, W%), got f32%[3, 3%]", cld.zeros(3, 3), cld.zeros(1, 3, 1, 1))
    fails("share a floating%-point dtype", x, cld.zeros({ 1, 3, 1, 1 }, "f64"))
    fails("share a floating%-point dtype", cld.zeros({ 1, 3, 1, 1 }, "i64"), cld.zeros({ 1, 3, 1, 1 }, "i64"))
    fails("spans 5 rows.*has only 4", cld.zeros(1, 3, 4, 9), cld.zeros(1, 3, 5, 5))
    fails("cannot be split into 3 groups", x, cld.zeros(4, 1, 1, 1), nil, { groups = 3 })
    fails("bias f32%[3%] must have one element for each output channel", x, cld.zeros(4, 3, 1, 1), cld.zeros(3))
    fails("stride must be at least 1", x, cld.zeros(4, 3, 1, 1), nil, { stride = 0 })
    fails("padding must be an integer or a pair", x, cld.zeros(4, 3, 1, 1), nil, { padding = "same" })
    fails("did you mean 'padding'", x, cld.zeros(4, 3, 1, 1), nil, { paddin = 1 })
  end)
end)
