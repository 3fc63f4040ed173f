--- The precision of computation: which ops round their factors and to what, what stays in f32, the copies that weights
-- keep, and a run in bf16 compared with one in fp32.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"
local layers = require "spec.support.layers"
local process = require "spec.support.process"
local nn = cld.nn.functional

-- unit: the largest error of a rounding, as a share of the value
local halves = {
  { precision = "bf16", dtype = "bf16", unit = 2 ^ -8 }, { precision = "fp16", dtype = "f16", unit = 2 ^ -11 },
}

-- f() in the precision; its results and errors pass through.
local function with(precision, f)
  local was = cld.set_precision(precision)
  local results = table.pack(pcall(f))
  cld.set_precision(was)
  if not results[1] then error(results[2], 2) end
  return table.unpack(results, 2, results.n)
end

local function leaf(name, shape, dtype, device)
  return formula.uniform(name, shape, dtype or "f32"):to(device or "cpu"):requires_grad_()
end

-- The factor that a kernel sees, as a leaf in f64 on the cpu.
local function rounded(x, dtype) return x:detach():to("cpu"):to(dtype):to("f64"):detach():requires_grad_() end

-- Backward through y and through what it should be, from the same gradient, whose values both dtypes hold.
local function backward(y, expected, dtype)
  local dy = layers.weights(expected):to(dtype)
  y:backward(dy:to(y.dtype):to(y.device))
  expected:backward(dy:to "f64")
end

-- Of 16 bits: one rounding away from the f64 value. The sums before it may err in f32.
local function one_rounding(actual, expected, half)
  check.close(actual:to("f64"), expected, { rtol = half.unit * 1.001, atol = 2e-6 })
end

-- Rounded before a bias of at most 1 was added, and after.
local function two_roundings(actual, expected, half)
  check.close(actual:to("f64"), expected, { rtol = 2 * half.unit * 1.001, atol = half.unit * 1.001 })
end

local function single(actual, expected)
  assert.equal("f32", actual.dtype)
  assert.is_true(layers.error(actual:detach():to "cpu", expected) <= 2e-6)
end

describe("precision", function()
  before_each(function() assert.equal("fp32", cld.precision()) end)
  after_each(function() cld.set_precision "fp32" end)

  it("is set by name, and says what it was", function()
    for _, name in ipairs { "tf32", "bf16", "fp16" } do
      assert.equal("fp32", cld.set_precision(name))
      assert.equal(name, cld.precision())
      assert.equal(name, cld.set_precision "fp32")
    end
    check.fails(function() cld.set_precision "int8" end, "no precision 'int8'; expected fp32, tf32, bf16 or fp16")
    check.fails(function() cld.set_precision "" end, "no precision ''")
  end)

  it("of tf32 is fp32 on the cpu", function()
    local x, w = leaf("x", { 2, 3, 5, 5 }), leaf("w", { 4, 3, 3, 3 })
    local expected = nn.conv2d(x, w)
    local y = with("tf32", function() return nn.conv2d(x, w) end)
    check.close(y, expected, { atol = 0, rtol = 0 })
  end)

  local function describe_half(half, device)
    local dtype = half.dtype
    local function leaf_of(name, shape, of) return leaf(name, shape, of, device) end

    describe(("of %s on %s"):format(half.precision, device), function()
      it("rounds conv2d's factors and its result; the gradients of weight and bias are f32", function()
        for _, case in ipairs {
          { { 2, 3, 6, 5 }, { 8, 3, 3, 3 }, { padding = 1 } },
          { { 2, 16, 7, 7 }, { 32, 16, 3, 3 }, { padding = 1, stride = 2 } },
          { { 2, 4, 6, 5 }, { 6, 2, 3, 2 }, { stride = { 1, 2 }, padding = 2, groups = 2 } },
        } do
          local x, w, b = leaf_of("x", case[1]), leaf_of("w", case[2]), leaf_of("b", { case[2][1] })
          local y = with(half.precision, function() return nn.conv2d(x, w, b, case[3]) end)
          local rx, rw, rb = rounded(x, dtype), rounded(w, dtype), rounded(b, "f32")
          local expected = nn.conv2d(rx, rw, rb, case[3])
          assert.equal(dtype, y.dtype)
          local is_near = device == "cpu" and one_rounding or two_roundings
          is_near(y, expected, half)
          backward(y, expected, dtype)
          assert.equal("f32", x.grad.dtype)
          one_rounding(x.grad, rx.grad, half)
          assert.equal("f32", w.grad.dtype)
          if device == "cpu" then single(w.grad, rw.grad) else one_rounding(w.grad, rw.grad, half) end
          single(b.grad, rb.grad)
        end
      end)

      it("normalizes 16 bits with f32 statistics and weights", function()
        local x, r = leaf_of("x", { 4, 16, 5, 5 }, dtype), leaf_of("r", { 4, 16, 5, 5 }, dtype)
        local w, b = leaf_of("w", { 16 }), leaf_of("b", { 16 })
        local mean, var = cld.zeros(16):to(device), cld.ones(16):to(device)
        local y = nn.batch_norm(x, w, b, mean, var, { training = true, relu = true, residual = r })
        local rx, rr, rw, rb = rounded(x, dtype), rounded(r, dtype), rounded(w, "f32"), rounded(b, "f32")
        local wide_mean, wide_var = cld.zeros({ 16 }, "f64"), cld.ones({ 16 }, "f64")
        local expected = nn.batch_norm(rx, rw, rb, wide_mean, wide_var, { training = true, relu = true, residual = rr })
        assert.equal(dtype, y.dtype)
        one_rounding(y, expected, half)
        single(mean, wide_mean)
        single(var, wide_var)
        backward(y, expected, dtype)
        assert.equal(dtype, x.grad.dtype)
        one_rounding(x.grad, rx.grad, half)
        check.close(r.grad:to "f64", rr.grad, { atol = 0, rtol = 0 })
        single(w.grad, rw.grad)
        single(b.grad, rb.grad)
        check.fails(function() nn.batch_norm(x, w:to(dtype), b, mean, var) end, "needs a weight of f32%[16%]")
      end)

      it("pools 16 bits", function()
        local x = leaf_of("x", { 2, 16, 6, 6 }, dtype)
        local wide = rounded(x, dtype)
        for _, pool in ipairs { nn.max_pool2d, nn.avg_pool2d } do
          local y, expected = pool(x, 3, { stride = 2, padding = 1 }), pool(wide, 3, { stride = 2, padding = 1 })
          assert.equal(dtype, y.dtype)
          one_rounding(y, expected, half)
        end
      end)

      it("gives the average of a whole map in f32, not rounded", function()
        for _, channels in ipairs { 16, 5 } do
          local x = leaf_of("x", { 2, channels, 6, 5 }, dtype)
          local r = rounded(x, dtype)
          local y = with(half.precision, function() return nn.adaptive_avg_pool2d(x, 1) end)
          local expected = nn.adaptive_avg_pool2d(r, 1)
          single(y, expected)
          assert.is_true(layers.error(y:detach():to("cpu"):to(dtype), expected) > 1e-4) -- rounding would be seen
          local dy = layers.weights(expected)
          y:backward(dy:to "f32":to(device))
          expected:backward(dy)
          assert.equal(dtype, x.grad.dtype)
          one_rounding(x.grad, r.grad, half)
          assert.equal(dtype, nn.adaptive_avg_pool2d(x, 1).dtype) -- one's own choice, without the precision
          assert.equal(dtype, with(half.precision, function() return nn.avg_pool2d(x, 3) end).dtype) -- still maps
        end
      end)

      it("has losses of two tensors give f32, and norms of each image 16 bits", function()
        local x, t = leaf_of("x", { 3, 4 }, dtype), leaf_of("t", { 3, 4 }, dtype)
        local share = t:detach():float():softmax(2):to(dtype)
        for name, f in pairs {
          mse_loss = function(a) return nn.mse_loss(a, share:to(a.dtype)) end,
          bce_with_logits = function(a) return nn.bce_with_logits(a, share:to(a.dtype)) end,
          kl_div = function(a) return nn.kl_div(a, share:to(a.dtype), { reduction = "sum" }) end,
          cosine_similarity = function(a) return nn.cosine_similarity(a, share:to(a.dtype)) end,
          cross_entropy = function(a) return nn.cross_entropy(a, share:to(a.dtype)) end,
        } do
          local y = with(half.precision, function() return f(x) end)
          assert.equal("f32", y.dtype, name)
          check.close(y:detach():cpu(), f(x:detach():to "f32"):cpu(), { atol = 1e-2, rtol = 1e-2 })
          y:sum():backward()
          assert.equal(dtype, x.grad.dtype)
        end
        assert.equal(dtype, with(half.precision, function() return nn.layer_norm(x, 4) end).dtype)
        assert.equal(dtype, with(half.precision, function() return nn.group_norm(x, 2) end).dtype)
      end)

      it("has linear round the weight as its input is, and give f32", function()
        for _, given in ipairs { "f32", dtype } do
          local x, w, b = leaf_of("x", { 2, 5, 12 }, given), leaf_of("w", { 7, 12 }), leaf_of("b", { 7 })
          local y = with(half.precision, function() return nn.linear(x, w, b) end)
          local rx, rw, rb = rounded(x, given), rounded(w, given), rounded(b, "f32")
          local expected = nn.linear(rx, rw, rb)
          local near = 2e-6
          if given == "f32" and device ~= "cpu" then near = 2e-3 end -- tf32 is allowed there
          local function close(actual, wanted)
            assert.equal("f32", actual.dtype)
            assert.is_true(layers.error(actual:detach():to "cpu", wanted) <= near)
          end
          close(y, expected)
          backward(y, expected, dtype)
          assert.equal(given, x.grad.dtype)
          if given == "f32" then close(x.grad, rx.grad) else one_rounding(x.grad, rx.grad, half) end
          close(w.grad, rw.grad)
          single(b.grad, rb.grad)
        end
      end)

      it("is what a 16-bit input beside f32 weights means without being set", function()
        local x, w, b = leaf_of("x", { 2, 3, 6, 5 }), leaf_of("w", { 8, 3, 3, 3 }), leaf_of("b", { 8 })
        local exactly = { atol = 0, rtol = 0 }
        local y = with(half.precision, function() return nn.conv2d(x, w, b) end)
        check.close(nn.conv2d(x:to(dtype), w, b), y, exactly)
        local v = leaf_of("v", { 4, 5 })
        y = with(half.precision, function() return nn.linear(x:to(dtype), v) end)
        check.close(nn.linear(x:to(dtype), v), y, exactly)
        check.fails(function() nn.conv2d(x, w:to(dtype)) end, "must share a floating%-point dtype")
        check.fails(function() nn.linear(x, v:to(dtype)) end, "of one dtype")
        check.fails(function() nn.conv2d(x:to(dtype), w:to "f64") end, "must share a floating%-point dtype")
      end)

      it("leaves to f32 what is made of features", function()
        local x, labels = leaf_of("x", { 4, 6 }, dtype), cld.arange(4):to(device)
        with(half.precision, function()
          local unit = x:normalize()
          assert.equal("f32", unit.dtype)
          check.close(unit:to "f64", rounded(x, dtype):normalize(), { atol = 1e-6 })
          assert.equal("f32", x:softmax(2).dtype)
          assert.equal("f32", x:log_softmax(2).dtype)
          assert.equal("f32", x:cross_entropy(labels).dtype)
          assert.equal("f32", cld.nn.norm_linear(6, 3):to(device)(x).dtype)
          local product, wide = x:float():matmul(x:float():t()), rounded(x, dtype)
          assert.equal("f32", product.dtype)
          if device == "cpu" then check.close(product, wide:matmul(wide:t()), { atol = 1e-6 }) end -- else perhaps tf32
        end)
        assert.equal(dtype, x:normalize().dtype) -- one's own choice, without the precision
      end)
    end)
  end
  for _, device in ipairs { "cpu", table.unpack(devices.names) } do
    for _, half in ipairs(halves) do describe_half(half, device) end
  end

  it("in f64 and of 16-bit weights rounds nothing more", function()
    local x, w = leaf("x", { 2, 3, 5, 5 }, "f64"), leaf("w", { 4, 3, 3, 3 }, "f64")
    local expected = nn.conv2d(x, w)
    with("bf16", function()
      check.close(nn.conv2d(x, w), expected, { atol = 0, rtol = 0 })
      local y = nn.linear(leaf("a", { 2, 3 }, "bf16"), leaf("v", { 4, 3 }, "bf16"))
      assert.equal("bf16", y.dtype)
    end)
  end)

  describe("keeps the rounded copy of a weight", function()
    local function alive()
      collectgarbage()
      collectgarbage()
      return cld.tensors_alive()
    end

    local function probe(f, shape, x)
      local before = alive()
      do
        local w <close> = leaf("w", shape)
        local first <close> = cld.no_grad(f, x, w)
        local one = alive()
        local second <close> = cld.no_grad(f, x, w)
        assert.equal(one + 1, alive()) -- the result alone: the copy is shared
        check.close(second, first, { atol = 0, rtol = 0 })
        cld.no_grad(function() w:mul_(2) end)
        local third <close> = cld.no_grad(f, x, w)
        check.close(third, first * 2, { atol = 0, rtol = 0 })
        assert.equal(one + 2, alive())
        f(x, w):sum():backward()
        local gradient <close> = w.grad
        assert.same(shape, gradient.shape)
      end
      assert.equal(before, alive())
    end

    it("until it is written to, or gone", function()
      with("bf16", function()
        local x <close> = formula.uniform("x", { 2, 16, 5, 5 })
        local rows <close> = formula.uniform("x", { 6, 8 })
        probe(function(a, w) return nn.conv2d(a, w) end, { 16, 16, 3, 3 }, x)
        probe(function(a, w) return nn.linear(a, w) end, { 3, 8 }, rows:to "bf16")
      end)
    end)

    it("of the precision that is asked for", function()
      local x, w = formula.uniform("x", { 1, 3, 5, 5 }), formula.uniform("w", { 4, 3, 3, 3 })
      local function y(precision) return with(precision, function() return nn.conv2d(x, w):double() end) end
      local exactly = { atol = 0, rtol = 0 }
      local bf16, fp16, fp32 = y "bf16", y "fp16", y "fp32"
      assert.is_true(layers.error(bf16, fp32) > 4 * layers.error(fp16, fp32))
      check.close(y "bf16", bf16, exactly)
      check.close(y "fp32", fp32, exactly)
    end)

    it("renews it after a step of the optimizer", function()
      with("bf16", function()
        local x, layer = formula.uniform("x", { 4, 6 }):to "bf16", cld.nn.linear(6, 3)
        local sgd = cld.optim.sgd(layer:parameters(), { lr = 0.5 })
        for _ = 1, 2 do
          local before = layer(x):detach()
          sgd:step(layer(x):square():sum())
          local weight = layer.weight:detach():to "bf16"
          local expected = nn.linear(x:to "f64", weight:to "f64", layer.bias:to "f64")
          check.close(layer(x):to "f64", expected, { atol = 1e-5 })
          assert.is_true(layers.error(before, expected) > 0.01)
        end
      end)
    end)
  end)

  -- ---- the loss scale of fp16 -----------------------------------------------

  -- A parameter {1, 2}, its optimizer, and the step down a loss of gradient {factor, factor}.
  local function descent(device)
    local w = cld.tensor({ 1, 2 }):to(device):requires_grad_()
    local sgd = cld.optim.sgd({ w }, { lr = 0.25, momentum = 0.5 })
    return w, sgd, function(factor) return sgd:step((w * factor):sum()):item() end
  end

  local function describe_loss_scale(device)
    describe("of fp16 on " .. device .. " scales the loss", function()
      it("and unscales the step, which is that of fp32", function()
        local w, sgd, step = descent(device)
        assert.is_nil(sgd.loss_scale)
        local plain, _, plain_step = descent(device)
        for _ = 1, 3 do
          with("fp16", function() assert.equal(1, step(0.1)) end)
          plain_step(0.1)
          check.close(w, plain, { atol = 0, rtol = 0 })
          check.close(w.grad:detach():to "cpu", plain.grad:detach():to "cpu" * 65536, { atol = 0, rtol = 0 })
        end
        assert.equal(65536, sgd.loss_scale)
        step(0.1) -- in fp32 it is left alone
        plain_step(0.1)
        check.close(w, plain, { atol = 0, rtol = 0 })
      end)

      it("which halves where a gradient is not finite, and the step is not made", function()
        local w, sgd, step = descent(device)
        with("fp16", function()
          assert.equal(0, step(1e34)) -- times 65536 no f32
          assert.same({ 32768, 1 }, { sgd.loss_scale, sgd.skipped })
          check.close(w, { 1, 2 })
          assert.equal(1, step(1e34))
          assert.same({ 32768, 1 }, { sgd.loss_scale, sgd.skipped })
          assert.equal(0, step(0 / 0))
          assert.same({ 16384, 2 }, { sgd.loss_scale, sgd.skipped })
          assert.equal(0, sgd:state_dict().good_steps:item())
        end)
      end)

      it("which doubles after 2000 steps, and goes with the state", function()
        local w, sgd, step = descent(device)
        local fresh = sgd:state_dict()
        assert.is_nil(fresh.loss_scale)
        with("fp16", function()
          step(0.1)
          local state = sgd:state_dict()
          assert.same({ "f32", 65536, "i32", 1 }, { state.loss_scale.dtype, state.loss_scale:item(),
            state.good_steps.dtype, state.good_steps:item() })
          state.good_steps = cld.tensor(1999, "i32")
          state.loss_scale = cld.tensor { 1024 }
          local _, other, other_step = descent(device)
          other:load_state_dict(state)
          assert.equal(1024, other.loss_scale)
          other_step(0.1)
          assert.same({ 2048, 0 }, { other.loss_scale, other:state_dict().good_steps:item() })
          state.loss_scale = cld.tensor { 2 ^ 127 } -- not to infinity
          other:load_state_dict(state)
          other_step(1e-30)
          assert.same({ 2 ^ 127, 0 }, { other.loss_scale, other:state_dict().good_steps:item() })
          other:load_state_dict(fresh) -- of a run in another precision
          assert.equal(65536, other.loss_scale)
          state.good_steps = nil
          check.fails(function() other:load_state_dict(state) end, "the state has only one of")
          state.good_steps = cld.ones(2)
          check.fails(function() other:load_state_dict(state) end, "expected a number and an integer")
        end)
        assert.is_true(w:isfinite():all():item() == 1)
      end)
    end)
  end

  for _, device in ipairs { "cpu", table.unpack(devices.names) } do describe_loss_scale(device) end

  -- ---- captured steps -------------------------------------------------------

  -- A graph's replays write to the weights unseen: the copies that are kept for the evaluation between them must not
  -- be taken for those of the weights as they were.
  local function losses_of_steps(device, precision, capture)
    return with(precision, function()
      cld.manual_seed(3)
      local net = cld.nn.sequential(cld.nn.conv2d(3, 8, 3), cld.nn.batch_norm2d(8), cld.nn.relu(), cld.nn.flatten(),
        cld.nn.linear(8 * 4 * 4, 5)):to(device)
      local sgd = cld.optim.sgd(net:parameters(), { lr = 0.05, momentum = 0.9 })
      local function step(x)
        local loss = net(x):square():mean()
        sgd:step(loss)
        return loss:detach()
      end
      if capture then step = cld.graph(step) end
      local losses, fixed = {}, formula.uniform("fixed", { 4, 3, 6, 6 }):to(device)
      for i = 1, 6 do
        local loss = step(formula.uniform("x" .. i, { 4, 3, 6, 6 }):to(device)):item()
        net:eval()
        losses[i] = { loss, cld.no_grad(function() return net(fixed) end):sum():item() }
        net:train()
      end
      return losses
    end)
  end

  for _, device in ipairs(devices.names) do
    it("of 16 bits gives captured steps, and evaluations between them, the same bits on " .. device, function()
      for _, half in ipairs(halves) do
        local expected = losses_of_steps(device, half.precision, false)
        assert.same(expected, losses_of_steps(device, half.precision, true))
        for i = 2, 6 do assert.is_true(math.abs(expected[i][2] - expected[i - 1][2]) > 0.01) end
      end
    end)
  end

  -- ---- networks -------------------------------------------------------------

  -- {"conv2d bf16", ...}: what each layer's function returned while f ran.
  local function dtypes_of(f)
    local seen, originals = {}, {}
    for _, name in ipairs { "conv2d", "batch_norm", "avg_pool2d", "linear" } do
      originals[name] = nn[name]
      nn[name] = function(...)
        local y = originals[name](...)
        seen[#seen + 1] = name .. " " .. y.dtype
        return y
      end
    end
    local ok, message = pcall(f)
    for name, original in pairs(originals) do nn[name] = original end
    if not ok then error(message, 2) end
    return seen
  end

  it("of bf16 gives a ResNet bf16 activations, f32 features and f32 gradients", function()
    local net = cld.models.resnet18_cifar { width = 8, low_dim = 16 }
    local seen = with("bf16", function()
      return dtypes_of(function()
        local f, g = net(formula.uniform("x", { 4, 3, 16, 16 }))
        assert.same({ "f32", "f32" }, { f.dtype, g.dtype });
        (f:sum() + g:sum()):backward()
      end)
    end)
    assert.equal(20 + 20 + 1 + 2, #seen)
    for _, what in ipairs(seen) do
      assert.matches((what:find "^linear" or what:find "^avg_pool") and " f32$" or " bf16$", what)
    end
    for name, p in pairs(net:named_parameters()) do
      assert.same({ name, "f32", "f32" }, { name, p.dtype, p.grad and p.grad.dtype })
    end
    for _, tensor in pairs(net:state_dict()) do assert.is_true(tensor.dtype == "f32" or tensor.dtype == "i64") end
  end)

  local function losses_in(precision)
    return with(precision, function()
      local net = formula.fill(cld.models.resnet18_cifar { width = 4, low_dim = 16 }, "f32")
      local bank = cld.losses.memory_bank { size = 32, dim = 16, momentum = 0.5, temperature = 0.1 }
      bank:load_state_dict { memory = formula.uniform("memory", { 32, 16 }):normalize() }
      local sgd = cld.optim.sgd(net:parameters(), { lr = 0.001, momentum = 0.9, weight_decay = 7e-4 })
      local losses = {}
      for step = 1, 3 do
        local index = cld.arange(16)
        local function view(i)
          local colour = formula.uniform("step" .. step, { 16, 3, 1, 1 }, "f32", 2)
          return formula.uniform("view" .. i, { 16, 3, 16, 16 }) + colour
        end
        local f1, g1 = net(view(1))
        local f2, g2 = net(view(2))
        local instance = (bank:loss(f1, index) + bank:loss(f2, index)) / 2
        local group = cld.losses.cld(g1, g2, { clusters = 4, iterations = 5, temperature = 0.2 })
        losses[step] = { instance:item(), group:item() }
        sgd:step(instance + group)
      end
      return losses
    end)
  end

  it("of bf16 trains NPID + CLD with the losses of fp32, within a few percent", function()
    local fp32, bf16 = losses_in "fp32", losses_in "bf16"
    for step, pair in ipairs(fp32) do
      check.close(bf16[step][1], pair[1], { rtol = 0.05, atol = 0 })
      check.close(bf16[step][2], pair[2], { rtol = 0.05, atol = 0 })
    end
    assert.is_true(bf16[1][1] ~= fp32[1][1])
  end)

  it("of bf16 gives evaluation f32 features, whatever the branch", function()
    local net = cld.models.resnet18_cifar { width = 4, low_dim = 8 }
    local set = cld.data.tensors { images = cld.zeros({ 3, 8, 8, 3 }, "u8"), labels = cld.zeros({ 3 }, "i64") }
    with("bf16", function()
      assert.equal("f32", (cld.eval.features(net, set)).dtype)
      local features = cld.eval.features(net, set, { branch = function(n, images) return n:features(images) end })
      assert.same({ "f32", 3, 32 }, { features.dtype, table.unpack(features.shape) })
    end)
  end)

  -- ---- runs -----------------------------------------------------------------

  describe("of a run", function()
    local folder
    setup(function()
      folder = process.temporary_folder()
      assert.equal(0, process.run { "recipes/make_toy_data.lua", "--out", folder .. "/toy", "--train", "32", "--test",
        "10" }.code)
    end)
    teardown(function() process.remove(folder) end)

    -- Two epochs of two steps; `code` runs before the recipe.
    local function train(name, run, code, ...)
      local init = process.write(folder .. "/init.lua", "local cld = require 'cld'\n" .. (code or ""))
      return process.run { "recipes/" .. name .. ".lua", "--data", folder .. "/toy", "--runs", folder, "--name", run,
        "--epochs", "2", "--batch-size", "16", "--width", "4", "--low-dim", "8", "--clusters", "4", "--warmup-epochs",
        "1", "--threads", "1", "--knn-k", "5", env = { LUA_INIT = "@" .. init }, ... }
    end
    local function option(run)
      return cld.json.decode(process.read(folder .. "/" .. run .. "/options.json")).precision
    end
    local function state(run) return cld.load(folder .. "/" .. run .. "/checkpoint.safetensors") end

    local stop = [[
      local count, loss = 0, cld.losses.cld
      function cld.losses.cld(...)
        count = count + 1
        if count == 3 then io.popen("kill -TERM " .. cld.host().pid):close() end
        return loss(...)
      end]]

    it("is that of the device where it is auto, and stored as that", function()
      local result = train("cifar10_npid_cld", "auto", nil, "--epochs", "1", "--device", "cpu")
      assert.equal(0, result.code, result.err)
      assert.matches("precision +fp32\n", result.out)
      assert.equal("fp32", option "auto")
    end)

    for name, precision in pairs { cifar10_npid_cld = "bf16", cifar10_moco_cld = "fp16" } do
      it(("of %s is kept on resume, to the last bit: %s"):format(precision, name), function()
        local whole, parts = name, name .. "-parts"
        assert.equal(0, train(name, whole, nil, "--device", "cpu", "--precision", precision).code)
        assert.equal(143, train(name, parts, stop, "--device", "cpu", "--precision", precision).code)
        local result = train(name, parts, nil, "--resume")
        assert.equal(0, result.code, result.err)
        assert.matches("precision +" .. precision .. "\n", result.out)
        assert.equal(precision, option(parts))
        local expected, actual = state(whole), state(parts)
        for key, tensor in pairs(expected) do assert.equal(0, tensor:ne(actual[key]):any():item(), key) end
        assert.equal(precision == "fp16", expected["sgd.loss_scale"] ~= nil)
      end)
    end

    it("is refused in one line where there is none such", function()
      for _, recipe in ipairs { "cifar10_npid_cld", "knn" } do
        local result = process.run { "recipes/" .. recipe .. ".lua", "--precision", "fp8" }
        assert.equal(1, result.code)
        assert.matches("^cldlua: option '%-%-precision': expected one of [%w, ]+, got 'fp8'\n$", result.err)
      end
    end)
  end)
end)
