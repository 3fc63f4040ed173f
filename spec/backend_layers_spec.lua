--- Convolution, batch normalization and pooling on a device, against the cpu: widths that are not a multiple of 16
-- bytes, maps of one position, several chunks of rows, unaligned memory; gradients; NaN; 16 bits.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"
local nn = cld.nn.functional

local function uniform(name, shape, dtype, scale)
  return function() return formula.uniform(name, shape, dtype or "f32", scale) end
end

-- ---- convolution --------------------------------------------------------------

local function convolution(options)
  return function(x, w, b) return nn.conv2d(x, w, b, options) end
end

devices.each("conv2d", function(device)
  local x, w = uniform("x", { 2, 6, 7, 5 }), uniform("w", { 4, 6, 3, 3 })
  local limits = { atol = 2e-5, rtol = 1e-4, gradients = true }
  local function case(options, ...)
    local c = { convolution(options), ... }
    for key, value in pairs(limits) do c[key] = value end
    return c
  end
  devices.cases(device, {
    ["plain"] = case({}, x, w, uniform("b", { 4 })),
    ["padded, with a stride"] = case({ stride = { 2, 1 }, padding = { 1, 2 } }, x, w, uniform("b", { 4 })),
    ["dilated, in groups"] = case({ dilation = { 1, 2 }, groups = 2, padding = 2 }, x, uniform("w", { 4, 3, 3, 2 }),
      uniform("b", { 4 })),
    ["of one position"] = case({}, uniform("x", { 3, 8, 1, 1 }), uniform("w", { 5, 8, 1, 1 }), uniform("b", { 5 })),
    ["of one channel"] = case({ padding = 1 }, uniform("x", { 2, 1, 5, 6 }), uniform("w", { 16, 1, 3, 3 }),
      uniform("b", { 16 })),
    ["to many channels"] = case({}, uniform("x", { 2, 3, 4, 4 }), uniform("w", { 150, 3, 1, 1 }),
      uniform("b", { 150 })),
    ["in f64"] = case({ padding = 1 }, uniform("x", { 2, 6, 7, 5 }, "f64"), uniform("w", { 4, 6, 3, 3 }, "f64"),
      uniform("b", { 4 }, "f64")),
    ["of a batch without images"] = case({ padding = 1 }, function() return cld.zeros(0, 6, 7, 5) end, w,
      uniform("b", { 4 })),
    ["of a transposed view"] = case({ padding = 1 },
      function() return formula.uniform("x", { 2, 5, 7, 6 }, "f32"):transpose(2, 4):contiguous() end, w,
      uniform("b", { 4 })),
    ["in bf16"] = { convolution { padding = 1 }, uniform("x", { 2, 6, 7, 5 }, "bf16"),
      uniform("w", { 4, 6, 3, 3 }, "bf16"), uniform("b", { 4 }, "bf16"), atol = 3e-2, rtol = 2e-2 },
  })

  it("without a bias", function()
    devices.same(device, function(t, k) return nn.conv2d(t, k, nil, { padding = 1 }) end, { x(), w() }, limits)
  end)
end)

-- ---- batch normalization --------------------------------------------------------

-- y, and the running statistics and their counter, which a step in training changes.
local function norm(options)
  return function(x, w, b, mean, var, residual)
    local given = { relu = options.relu, training = options.training, momentum = 0.3, eps = 1e-3 }
    if type(residual) ~= "string" then given.residual = residual end
    mean, var = mean + 0, var + 0 -- which the next run must find as they were
    given.num_batches_tracked = cld.full({}, 7, { dtype = "i64", device = x.device })
    return nn.batch_norm(x, w, b, mean, var, given), mean, var, given.num_batches_tracked
  end
end

local function norm_inputs(shape, dtype, residual)
  local c = shape[2]
  local vectors = dtype == "f64" and "f64" or "f32"
  return { uniform("x", shape, dtype), uniform("w", { c }, vectors), uniform("b", { c }, vectors),
    uniform("mean", { c }, vectors, 0.1), function() return formula.uniform("var", { c }, vectors, 0.1) + 1 end,
    residual and uniform("r", shape, dtype) or nil }
end

devices.each("batch_norm", function(device)
  local shapes = {
    ["packs"] = { 5, 32, 6, 7 }, ["single elements"] = { 5, 10, 6, 7 }, ["three channels"] = { 3, 3, 20, 15 },
    ["one position"] = { 9, 32, 1, 1 }, ["two rows"] = { 2, 5, 1, 1 }, ["slices of channels"] = { 4, 264, 2, 1 },
    ["many rows"] = { 4, 4, 33, 35 }, ["one channel"] = { 3, 1, 4, 4 },
  }
  local kinds = {
    ["in training"] = { training = true }, ["with relu"] = { training = true, relu = true },
    ["in evaluation"] = {}, ["with relu, in evaluation"] = { relu = true },
  }
  local cases = {}
  for of, shape in pairs(shapes) do
    for what, options in pairs(kinds) do
      for _, residual in ipairs { false, true } do
        local case = norm_inputs(shape, "f32", residual)
        table.insert(case, 1, norm(options))
        -- mean and var take part in no gradient
        case.atol, case.rtol, case.gradients = 5e-5, 1e-4, false
        cases[("of %s %s%s"):format(of, what, residual and ", added to a residual" or "")] = case
      end
    end
  end
  local wide = norm_inputs({ 3, 6, 5, 4 }, "f64", true)
  table.insert(wide, 1, norm { training = true, relu = true })
  cases["in f64"] = wide
  devices.cases(device, cases)

  it("has the cpu's gradients", function()
    for _, shape in pairs(shapes) do
      for _, options in pairs(kinds) do
        for _, residual in ipairs { false, true } do
          local inputs = {}
          for i, make in ipairs(norm_inputs(shape, "f32", residual)) do inputs[i] = make() end
          local mean, var = inputs[4], inputs[5]
          local function f(x, w, b, r)
            local d = x.device
            return nn.batch_norm(x, w, b, (mean + 0):to(d), (var + 0):to(d), {
              training = options.training, relu = options.relu, residual = type(r) ~= "string" and r or nil,
            })
          end
          devices.same(device, f, { inputs[1], inputs[2], inputs[3], inputs[6] },
            { gradients = true, atol = 2e-4, rtol = 1e-3 })
        end
      end
    end
  end)

  it("needs no weight, bias or running statistics", function()
    devices.same(device, function(x) return nn.batch_norm(x, nil, nil, nil, nil, { training = true, relu = true }) end,
      { formula.uniform("x", { 3, 8, 5, 4 }, "f32") }, { gradients = true, atol = 1e-5, rtol = 1e-4 })
  end)

  it("keeps the digits of values far from zero", function()
    local x = formula.uniform("x", { 8, 16, 6, 6 }, "f32") + 3000
    devices.same(device, function(t) return nn.batch_norm(t, nil, nil, nil, nil, { training = true }) end, { x },
      { atol = 2e-3 })
  end)

  it("takes memory that is not aligned", function()
    local flat = formula.uniform("x", { 73 }, "f32")
    devices.same(device, function(t)
      return nn.batch_norm(t:narrow(1, 2, 72):reshape(9, 8, 1, 1), nil, nil, nil, nil, { training = true, relu = true })
    end, { flat }, { gradients = true, atol = 1e-5, rtol = 1e-4 })
  end)

  -- Gradients of relu(batch_norm(x) + r) for dy; the arrays begin `shifts` elements behind what is aligned.
  local function gated(dtype, shape, shifts, overwrite)
    local count = shape[1] * shape[2] * shape[3] * shape[4]
    local function array(name)
      local shift = shifts[name] or 0
      local flat = cld.zeros({ count + shift }, { dtype = dtype, device = device })
      local part = flat:narrow(1, shift + 1, count)
      part:copy_(formula.uniform(name, { count }, "f64"):to(dtype):to(device))
      return part:reshape(table.unpack(shape))
    end
    local x, r = array("x"):requires_grad_(), array("r"):requires_grad_()
    local y = nn.batch_norm(x, nil, nil, nil, nil, { training = true, relu = true, residual = r })
    if overwrite then y:detach():zero_() end
    y:backward(array "dy")
    return { x.grad:to "f64":to "cpu", r.grad:to "f64":to "cpu" }
  end

  it("has one mask behind a residual, however the arrays lie", function()
    for _, dtype in ipairs { "bf16", "f32", "f64" } do
      for _, shape in ipairs { { 9, 16, 1, 1 }, { 9, 11, 1, 1 } } do -- of one position: taken as they lie
        local aligned = gated(dtype, shape, {})
        assert.is_true(aligned[2]:eq(0):sum():item() > 20)
        for _, shifts in ipairs { { r = 1 }, { dy = 1 }, { x = 1, dy = 1 } } do
          local shifted = gated(dtype, shape, shifts)
          check.close(shifted[2], aligned[2], { atol = 0, rtol = 0 })
          check.close(shifted[1], aligned[1], { atol = dtype == "bf16" and 2e-2 or 1e-5 })
        end
      end
    end
  end)

  it("needs its output no longer, behind a residual", function()
    local shape = { 4, 16, 5, 3 }
    local kept, overwritten = gated("f32", shape, {}), gated("f32", shape, {}, true)
    for i = 1, 2 do check.close(overwritten[i], kept[i], { atol = 0, rtol = 0 }) end
  end)

  it("lets NaN through", function()
    local x = formula.uniform("x", { 2, 8, 3, 3 }, "f32")
    x[1][2][1][1] = 0 / 0
    devices.same(device, function(t) return nn.batch_norm(t, nil, nil, nil, nil, { training = true, relu = true }) end,
      { x }, { atol = 1e-5 })
  end)

  it("in 16 bits is f32's", function()
    for dtype, tolerance in pairs { bf16 = 4e-2, f16 = 4e-3 } do
      for _, shape in ipairs { { 5, 32, 6, 7 }, { 5, 10, 6, 7 } } do
        local inputs = {}
        for i, make in ipairs(norm_inputs(shape, "f32", true)) do inputs[i] = make() end
        inputs[1], inputs[6] = inputs[1]:to(dtype):float(), inputs[6]:to(dtype):float()
        local function run(x, where)
          local moved = devices.to(where, inputs)
          x = x:to(where):requires_grad_()
          local w, b = moved[2]:requires_grad_(), moved[3]:requires_grad_()
          local y = nn.batch_norm(x, w, b, moved[4], moved[5],
            { training = true, relu = true, residual = moved[6]:to(x.dtype) })
          y:float():backward(formula.uniform("dy", shape, "f32"):to(where))
          return { y:detach():float():to "cpu", x.grad:float():to "cpu", w.grad:to "cpu", b.grad:to "cpu" }
        end
        local half, full = run(inputs[1]:to(dtype), device), run(inputs[1], "cpu")
        for i = 1, #full do
          check.close(half[i], full[i], { atol = tolerance * (i > 2 and 20 or 2), rtol = tolerance })
        end
      end
    end
  end)
end)

-- ---- pooling ----------------------------------------------------------------------

devices.each("pooling", function(device)
  local windows = {
    ["2 x 2"] = { 2, {} }, ["overlapping, padded"] = { 3, { stride = 2, padding = 1 } },
    ["uneven"] = { { 2, 3 }, { stride = { 3, 1 }, padding = { 1, 0 } } }, ["dense"] = { 3, { stride = 1 } },
  }
  local cases = {}
  for of, window in pairs(windows) do
    for name, pool in pairs { max = nn.max_pool2d, average = nn.avg_pool2d } do
      for _, c in ipairs { 1, 5, 16 } do
        cases[("%s, %s of %d channels"):format(name, of, c)] = {
          function(x) return pool(x, window[1], window[2]) end, uniform("x", { 3, c, 7, 6 }), gradients = true,
        }
      end
      cases[("%s, %s in f64"):format(name, of)] = {
        function(x) return pool(x, window[1], window[2]) end, uniform("x", { 2, 3, 7, 6 }, "f64"), gradients = true,
      }
      cases[("%s, %s in bf16"):format(name, of)] = {
        function(x) return pool(x, window[1], window[2]) end, uniform("x", { 2, 16, 7, 6 }, "bf16"),
      }
    end
  end
  cases["global average"] = { function(x) return nn.adaptive_avg_pool2d(x, 1) end, uniform("x", { 3, 20, 4, 4 }),
    gradients = true }
  cases["flattened after a global average"] = {
    function(x) return nn.adaptive_avg_pool2d(x, 1):flatten(2, -1) end, uniform("x", { 3, 20, 4, 4 }), gradients = true,
  }
  cases["maximum of equals"] = { function(x) return nn.max_pool2d(x, 2) end, function() return cld.ones(2, 8, 4, 4) end,
    gradients = true }
  cases["maximum with NaN and infinity"] = {
    function(x) return nn.max_pool2d(x, 2) end,
    function()
      local x = formula.uniform("x", { 2, 8, 4, 4 }, "f32")
      x[1][2][1][1], x[2][3][2][2] = 0 / 0, math.huge
      x[1][3][1][2], x[1][3][2][2] = 0 / 0, 0 / 0 -- two in a window: its gradient goes to the first
      x[2][4] = -math.huge
      return x
    end,
    gradients = true,
  }
  cases["of no images"] = { function(x) return nn.max_pool2d(x, 2) end, function() return cld.zeros(0, 8, 4, 4) end }
  devices.cases(device, cases)
end)
