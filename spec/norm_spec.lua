--- batch_norm, alone and fused with relu and a residual; the rebuilt output; running statistics.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"
local layers = require "spec.support.layers"
local nn = cld.nn.functional

-- All eight: training or not, relu or not, residual or not.
local function each_kind(body)
  for bits = 0, 7 do body(bits & 1 ~= 0, bits & 2 ~= 0, bits & 4 ~= 0) end
end

-- The layer as a function of its leaves x, w, b, r; the running statistics are constants.
local function layer(training, relu, channels, dtype)
  return function(t)
    local mean = formula.uniform("mean", { channels }, dtype or t.x.dtype, 0.1)
    local var = formula.uniform("var", { channels }, dtype or t.x.dtype, 0.1) + 1
    return nn.batch_norm(t.x, t.w, t.b, mean, var, { training = training, relu = relu, residual = t.r })
  end
end

local function shapes(x, residual) return { x = x, w = { x[2] }, b = { x[2] }, r = residual and x or nil } end

describe("batch_norm", function()
  it("has the gradients of central differences", function()
    each_kind(function(training, relu, residual)
      local shape = { 3, 2, 3, 2 }
      local f = layer(training, relu, 2)
      local inputs = { formula.uniform("x", shape, "f64"), formula.uniform("w", { 2 }, "f64"),
        formula.uniform("b", { 2 }, "f64"), residual and formula.uniform("r", shape, "f64") or nil }
      check.gradcheck(function(x, w, b, r) return f { x = x, w = w, b = b, r = r } end, inputs, { atol = 1e-6 })
    end)
    check.gradcheck(function(x) return nn.batch_norm(x, nil, nil, nil, nil, { training = true }) end,
      { formula.uniform("x", { 3, 2, 3, 2 }, "f64") }, { atol = 1e-6 })
  end)

  it("is PyTorch's, running statistics included", function()
    for name, channels in pairs { ["norm"] = 3, ["norm of blocks"] = 16 } do
      local mean, var = cld.zeros(channels), cld.ones(channels)
      for step = 1, 2 do
        local case = ("%s %d"):format(name, step)
        layers.like_pytorch(case, function(t)
          return nn.batch_norm(t.x, t.w, t.b, mean, var,
            { training = true, momentum = 0.3, eps = 1e-3, relu = true, residual = t.r })
        end)
        local fixture = layers.fixture(case)
        check.close(mean, fixture.running_mean)
        check.close(var, fixture.running_var)
      end
      layers.like_pytorch(name .. " in evaluation", function(t)
        return nn.batch_norm(t.x, t.w, t.b, mean, var, { momentum = 0.3, eps = 1e-3, relu = true })
      end)
    end
  end)

  -- Blocked and row-major, maps that are no whole vector, several chunks, one position.
  it("in f32 is the f64 loops' to 2e-5 of the largest value", function()
    local cases = { { 5, 32, 6, 7 }, { 5, 10, 6, 7 }, { 3, 3, 80, 75 }, { 20, 16, 10, 9 }, { 9, 32, 1, 1 },
      { 9, 5, 1, 1 } }
    for _, x in ipairs(cases) do
      each_kind(function(training, relu, residual)
        layers.like_f64(layer(training, relu, x[2]), shapes(x, residual), 2e-5)
      end)
    end
  end)

  it("keeps the variance of values far from zero", function()
    local x = formula.uniform("x", { 8, 16, 8, 8 }) + 1000
    local y = nn.batch_norm(x, nil, nil, nil, nil, { training = true })
    assert.is_true(layers.error(y, nn.batch_norm(x:to("f64"), nil, nil, nil, nil, { training = true })) < 1e-3)
  end)

  it("fused gives what the separate ops give", function()
    for _, channels in ipairs { 6, 32 } do
      local x = { 4, channels, 5, 6 }
      for _, residual in ipairs { false, true } do
        local fused = layers.run(layer(true, true, channels), shapes(x, residual), "f32")
        local apart = layers.run(function(t)
          local y = layer(true, false, channels) { x = t.x, w = t.w, b = t.b }
          if t.r then y = y + t.r end
          return y:relu()
        end, shapes(x, residual), "f32")
        for name, tensor in pairs(apart) do
          local err = layers.error(fused[name], tensor)
          assert.is_true(err <= 2e-5, name .. ": " .. err)
        end
      end
    end
  end)

  -- A convolution after the layer keeps no copy of its input: backward computes it again.
  it("gives a following convolution the same gradients, rebuilt or kept", function()
    for _, dtype in ipairs { "f32", "f64" } do
      local function chain(kept)
        return function(t)
          local y = nn.batch_norm(t.x, t.w, t.b, nil, nil, { training = true, relu = true })
          if kept then y = y:mul(1) end -- another op's output: kept
          return nn.conv2d(y, t.k, nil, { padding = 1 })
        end
      end
      local all = { x = { 3, 16, 5, 4 }, w = { 16 }, b = { 16 }, k = { 16, 16, 3, 3 } }
      local rebuilt, kept = layers.run(chain(false), all, dtype), layers.run(chain(true), all, dtype)
      for name, tensor in pairs(kept) do check.close(rebuilt[name], tensor, { atol = 0, rtol = 0 }) end
    end
  end)

  it("may run backward twice where the graph is retained", function()
    local t = { x = formula.uniform("x", { 4, 16, 4, 4 }):requires_grad_(), w = cld.ones(16):requires_grad_() }
    local r = formula.uniform("r", { 4, 16, 4, 4 }):requires_grad_()
    local y = nn.batch_norm(t.x, t.w, nil, nil, nil, { training = true, relu = true, residual = r })
    local z = (nn.conv2d(y, cld.ones(16, 16, 1, 1), nil, {}) * y):sum()
    z:backward { retain_graph = true }
    local first = { t.x.grad:clone(), t.w.grad:clone(), r.grad:clone() }
    z:backward()
    for i, gradient in ipairs { t.x.grad, t.w.grad, r.grad } do
      check.close(gradient, first[i] * 2, { atol = 1e-5, rtol = 1e-5 })
    end
  end)

  it("leaves the caller's gradient as it was", function()
    local x, r = formula.uniform("x", { 4, 16, 4, 4 }):requires_grad_(), cld.zeros(4, 16, 4, 4):requires_grad_()
    local y = nn.batch_norm(x, nil, nil, nil, nil, { training = true, relu = true, residual = r })
    local gradient = layers.weights(y)
    local before = gradient:clone()
    y:backward(gradient)
    check.close(gradient, before, { atol = 0, rtol = 0 })
  end)

  it("passes NaN on, through relu too", function()
    local x = cld.ones(2, 16, 2, 2)
    x[{ 1, 1, 1, 1 }] = 0 / 0
    local y = nn.batch_norm(x, nil, nil, nil, nil, { training = true, relu = true })
    local value = y[{ 2, 1, 1, 1 }]:item()
    assert.is_true(value ~= value)
    assert.equal(0, y[{ 2, 2, 1, 1 }]:item())
  end)

  it("notices writes into an output that a following op would have rebuilt", function()
    local x, w = formula.uniform("x", { 2, 16, 4, 4 }):requires_grad_(), formula.uniform("w", { 16, 16, 1, 1 })
    local function normed() return nn.batch_norm(x, nil, nil, nil, nil, { training = true }) end
    local function gradient(write_before, write_after)
      local y, weight = normed(), w:clone():requires_grad_()
      if write_before then cld.no_grad(function() y:mul_(2) end) end
      local z = nn.conv2d(y, weight)
      if write_after then cld.no_grad(function() y:mul_(2) end) end;
      (z * z):sum():backward()
      return weight.grad
    end
    check.close(gradient(true), gradient() * 4, { rtol = 1e-4, atol = 1e-4 })
    check.fails(function() gradient(false, true) end,
      "%[2, 16, 4, 4%], which conv2d saved for backward, was changed in place")
    check.fails(function() gradient(true, true) end, "changed in place")
    local y = normed()
    local z = y * y
    cld.no_grad(function() y:zero_() end)
    check.fails(function() z:sum():backward() end, "which mul saved for backward, was changed in place")
  end)

  it("normalizes half precision in f32", function()
    local x = formula.uniform("x", { 4, 16, 4, 4 })
    local mean, var = cld.zeros(16), cld.ones(16)
    local half = x:to("bf16"):detach():requires_grad_()
    local y = nn.batch_norm(half, cld.ones(16), nil, mean, var, { training = true, relu = true })
    assert.equal("bf16", y.dtype)
    assert.is_true(layers.error(y, nn.batch_norm(x, nil, nil, nil, nil, { training = true, relu = true })) < 2e-2)
    y:backward(layers.weights(y))
    assert.equal("bf16", half.grad.dtype)
    assert.is_true(mean:abs():amax():item() > 0)
  end)

  it("says what does not fit", function()
    local x, three = cld.zeros(2, 3, 4, 4), cld.zeros(3)
    local function fails(pattern, input, w, b, mean, var, options)
      check.fails(function() nn.batch_norm(input, w, b, mean, var, options) end, pattern)
    end
    fails("batch_norm: x has 3 channels, the weight 4 %(x is f32%[2, 3, 4, 4%]%)", x, cld.zeros(4), three, three, three)
    fails("running_var of f32%[3%], got f64%[3%]", x, three, three, three, cld.zeros({ 3 }, "f64"))
    fails("evaluation needs running_mean and running_var", x, three, three)
    for _, count in ipairs { cld.zeros { 1 }, cld.zeros({ 2 }, "i64") } do
      fails("num_batches_tracked must be one i64 element, got", x, three, three, three, three,
        { num_batches_tracked = count })
    end
    fails("more than one value per channel", cld.zeros(1, 3, 1, 1), nil, nil, nil, nil, { training = true })
    fails("the residual is f32%[2, 3, 4, 1%], the input f32%[2, 3, 4, 4%]", x, nil, nil, three, three,
      { residual = cld.zeros(2, 3, 4, 1) })
    fails("4%-d input", cld.zeros(2, 3), nil, nil, three, three)
    fails("eps must be positive", x, nil, nil, three, three, { eps = 0 })
    fails("momentum must be from 0 to 1", x, nil, nil, three, three, { momentum = 2 })
  end)
end)
