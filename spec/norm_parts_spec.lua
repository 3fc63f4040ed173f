--- Batch norm over the parts of a batch, against a call for each part: outputs, gradients, running statistics.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"
local process = require "spec.support.process"
local nn = cld.nn.functional

local close = { f64 = { atol = 1e-12, rtol = 1e-12 }, f32 = { atol = 1e-5, rtol = 1e-5 } }

local function same(a, b) return a:ne(b):sum():item() == 0 end

-- As check.close does, of many elements: the largest difference beside 1 + the largest value.
local function near(actual, expected, limits)
  local a, e = actual:to "f64", expected:to "f64"
  local worst = ((a - e):abs():amax() / (1 + e:abs():amax())):item()
  if not (worst <= limits.rtol) then error(("differs by %g of the largest value"):format(worst), 2) end
end

local function uniform(name, shape, dtype, device) return formula.uniform(name, shape, dtype):to(device) end

-- The layer's leaves, and running statistics of its own.
local function layer(shape, dtype, device, residual)
  local vectors = dtype == "f64" and "f64" or "f32"
  local c = shape[2]
  return {
    x = (uniform("x", shape, "f64", device) * 2 + 1):to(dtype):requires_grad_(),
    r = residual and uniform("r", shape, dtype, device):requires_grad_() or nil,
    w = uniform("w", { c }, vectors, device):requires_grad_(),
    b = uniform("b", { c }, vectors, device):requires_grad_(),
    mean = uniform("mean", { c }, vectors, device), var = uniform("var", { c }, vectors, device) + 2,
    count = cld.zeros({}, { dtype = "i64", device = device }),
  }
end

local function call(t, x, r, options)
  options.training, options.momentum, options.eps, options.residual = true, 0.3, 1e-3, r
  options.num_batches_tracked = t.count
  return nn.batch_norm(x, t.w, t.b, t.mean, t.var, options)
end

-- {first row, rows} of every part.
local function cuts(parts, rows)
  local list = {}
  for part = 0, (parts.views or 1) * (parts.blocks or 1) - 1 do
    local from = nn.part_begin(parts, rows, part)
    list[#list + 1] = { from + 1, nn.part_begin(parts, rows, part + 1) - from }
  end
  return list
end

-- What one call with parts gives, and what a call for each part does; these move no running statistics.
local function together(t, parts, relu)
  local y = call(t, t.x, t.r, { relu = relu, parts = parts })
  y:backward(formula.uniform("dy", t.x.shape, "f64"):to(t.x.dtype):to(t.x.device))
  return { y:detach(), t.x.grad, t.w.grad, t.b.grad, t.r and t.r.grad }
end

local function apart(t, parts, relu)
  local list = {}
  for i, cut in ipairs(cuts(parts, t.x.shape[1])) do
    local r = t.r and t.r:narrow(1, cut[1], cut[2])
    list[i] = nn.batch_norm(t.x:narrow(1, cut[1], cut[2]), t.w, t.b, nil, nil,
      { training = true, eps = 1e-3, relu = relu, residual = r })
  end
  local y = cld.cat(list, 1)
  y:backward(formula.uniform("dy", t.x.shape, "f64"):to(t.x.dtype):to(t.x.device))
  return { y:detach(), t.x.grad, t.w.grad, t.b.grad, t.r and t.r.grad }
end

-- The running statistics and counter after a call for each view, by the blocks' means.
local function moved(t, parts)
  local rows, count = t.x.shape[1], t.x.shape[3] * t.x.shape[4]
  local of_view = rows // (parts.views or 1)
  local mean, var, view_mean, view_var = t.mean:to "f64", t.var:to "f64", 0, 0
  for i, cut in ipairs(cuts(parts, rows)) do
    local x = t.x:detach():to("f64"):narrow(1, cut[1], cut[2])
    local m = x:mean { 1, 3, 4 }
    local n = cut[2] * count
    local v = ((x * x):mean { 1, 3, 4 } - m * m) * (n / (n - 1))
    view_mean, view_var = view_mean + m * (cut[2] / of_view), view_var + v * (cut[2] / of_view)
    if i % (parts.blocks or 1) == 0 then
      mean, var, view_mean, view_var = mean * 0.7 + view_mean * 0.3, var * 0.7 + view_var * 0.3, 0, 0
    end
  end
  return mean, var
end

-- Blocked and row-major layouts on the cpu, maps that are no whole vector, several chunks, one position, blocks that
-- differ.
local cases = {
  { shape = { 4, 3, 3, 5 },    parts = { views = 2 } },
  { shape = { 14, 32, 4, 3 },  parts = { views = 2, blocks = 3 } },
  { shape = { 10, 5, 1, 1 },   parts = { views = 1, blocks = 4 } },
  { shape = { 9, 16, 24, 25 },  parts = { views = 3, blocks = 2 } },
  { shape = { 20, 40, 3, 3 },  parts = { views = 2, blocks = 2, unit = 2 } },
}

for _, device in ipairs { "cpu", table.unpack(devices.names) } do
  describe("batch norm by parts on " .. device, function()
    for dtype, limits in pairs(close) do
      for _, case in ipairs(cases) do
        local p = case.parts
        local shape = table.concat(case.shape, "x")
        local title = ("%s, %s, of %d views, %d blocks"):format(shape, dtype, p.views, p.blocks or 1)
        it("is a call for each part: " .. title, function()
          for bits = 0, 3 do
            local relu, residual = bits & 1 ~= 0, bits & 2 ~= 0
            local one = together(layer(case.shape, dtype, device, residual), p, relu)
            local each = apart(layer(case.shape, dtype, device, residual), p, relu)
            for i, expected in ipairs(each) do near(one[i], expected, limits) end
          end
        end)

        it("moves the running statistics once for each view: " .. title, function()
          local t = layer(case.shape, dtype, device)
          local mean, var = moved(t, p)
          together(t, p, false)
          check.close(t.mean, mean, limits)
          check.close(t.var, var, limits)
          assert.equal(p.views, t.count:item())
        end)
      end
    end

    -- 520 groups, and 514 slices of channels in two parts: CUDA has 512 tickets (kernels/cuda/ticket.cuh).
    for what, case in pairs {
      ["more parts"] = { shape = { 262, 100, 1, 1 }, parts = { views = 2, blocks = 65 } },
      ["more channels"] = { shape = { 5, 16420, 1, 1 }, parts = { views = 1, blocks = 2 } },
    } do
      it("is a call for each part, of " .. what .. " than there are tickets", function()
        local one, each = layer(case.shape, "f32", device), layer(case.shape, "f32", device)
        local mean, var = moved(one, case.parts)
        local expected = apart(each, case.parts, true)
        for i, actual in ipairs(together(one, case.parts, true)) do near(actual, expected[i], close.f32) end
        near(one.mean, mean, close.f32)
        near(one.var, var, close.f32)
      end)
    end

    it("of 16 bits is that of f32, rounded", function()
      for _, dtype in ipairs { "bf16", "f16" } do
        local parts = { views = 2, blocks = 3 }
        local narrow, wide = layer({ 14, 32, 4, 3 }, dtype, device, true), layer({ 14, 32, 4, 3 }, "f32", device, true)
        cld.no_grad(function()
          wide.x:copy_(narrow.x)
          wide.r:copy_(narrow.r)
        end)
        local limits = dtype == "bf16" and { atol = 5e-2, rtol = 2e-2 } or { atol = 5e-3, rtol = 2e-3 }
        local one, expected = together(narrow, parts, true), together(wide, parts, true)
        check.close(one[1]:to "f32", expected[1], limits)
        check.close(one[3], expected[3], limits)
        check.close(narrow.mean, wide.mean, { atol = 1e-5, rtol = 1e-5 })
      end
    end)

    it("of one part has not one bit changed", function()
      for _, parts in ipairs { { views = 1, blocks = 1, unit = 1 }, { unit = 2 } } do
        local with, without = layer({ 6, 32, 7, 5 }, "f32", device, true), layer({ 6, 32, 7, 5 }, "f32", device, true)
        local a, b = together(with, parts, true), together(without, nil, true)
        for i, expected in ipairs(b) do assert.is_true(same(a[i], expected)) end
        assert.is_true(same(with.mean, without.mean) and same(with.var, without.var))
      end
    end)

    it("rebuilds its output by the parts", function()
      local parts = { views = 2, blocks = 2 }
      local t, other = layer({ 8, 16, 4, 4 }, "f32", device), layer({ 8, 16, 4, 4 }, "f32", device)
      local weight = uniform("k", { 16, 16, 1, 1 }, "f32", device):requires_grad_()
      nn.conv2d(call(t, t.x, nil, { relu = true, parts = parts }), weight):square():sum():backward()
      local first = weight.grad
      weight.grad = nil
      local list = {}
      for i = 1, 4 do list[i] = call(other, other.x:narrow(1, 2 * i - 1, 2), nil, { relu = true }) end
      nn.conv2d(cld.cat(list, 1), weight):square():sum():backward()
      check.close(first, weight.grad, { atol = 1e-4, rtol = 1e-4 })
      check.close(t.x.grad, other.x.grad, { atol = 1e-4, rtol = 1e-4 })
    end)

    it("knows no parts in evaluation", function()
      local t = layer({ 6, 3, 2, 2 }, "f32", device)
      local y = nn.batch_norm(t.x, t.w, t.b, t.mean, t.var, { parts = { views = 2, blocks = 5 } })
      assert.is_true(same(y, nn.batch_norm(t.x, t.w, t.b, t.mean, t.var, {})))
    end)

    it("moves by the finite views alone", function()
      local t, finite = layer({ 8, 3, 2, 2 }, "f32", device), layer({ 8, 3, 2, 2 }, "f32", device)
      cld.no_grad(function() t.x[{ 3, 2, 1, 1 }] = 0 / 0 end) -- of view 1's second block
      together(t, { views = 2, blocks = 2 }, false)
      call(finite, finite.x:narrow(1, 5, 4), nil, { parts = { blocks = 2 } })
      check.close(t.mean, finite.mean)
      check.close(t.var, finite.var)
      assert.equal(1, t.count:item())
    end)

    for dtype, limits in pairs(close) do
      it("moves by groups of blocks as by all of them, " .. dtype, function()
        local rows = 14 -- of each of two views: blocks of 5, 5, 4
        local all, grouped = layer({ 2 * rows, 8, 3, 3 }, dtype, device), layer({ 2 * rows, 8, 3, 3 }, dtype, device)
        call(all, all.x, nil, { parts = { views = 2, blocks = 3 } })
        for _, group in ipairs(cld.nn.blocks(rows, { block = 5, groups = 2 })) do
          local x = cld.cat({ grouped.x:narrow(1, group.first, group.count),
            grouped.x:narrow(1, rows + group.first, group.count) }, 1)
          call(grouped, x, nil, { parts = {
            views = 2, blocks = group.blocks, done = group.done, rows = group.count, total = group.total,
          } })
        end
        check.close(grouped.mean, all.mean, limits)
        check.close(grouped.var, all.var, limits)
        assert.equal(2, grouped.count:item())
      end)
    end

    it("is not moved by a group that is not finite", function()
      local t = layer({ 4, 3, 2, 2 }, "f32", device)
      local mean = t.mean:clone()
      call(t, t.x * (0 / 0), nil, { parts = { views = 2, done = 0, rows = 2, total = 4 } })
      assert.is_true(same(mean, t.mean))
      assert.equal(0, t.count:item())
    end)
  end)
end

describe("batch norm by parts", function()
  it("has the gradients of central differences", function()
    for _, parts in ipairs { { views = 2, blocks = 2 }, { blocks = 3, unit = 2 } } do
      check.gradcheck(function(x, w, b, r)
        return nn.batch_norm(x, w, b, nil, nil, { training = true, relu = true, residual = r, parts = parts })
      end, { formula.uniform("x", { 12, 2, 2, 1 }, "f64"), formula.uniform("w", { 2 }, "f64"),
        formula.uniform("b", { 2 }, "f64"), formula.uniform("r", { 12, 2, 2, 1 }, "f64") }, { atol = 1e-6 })
    end
  end)

  it("says which rows make no parts", function()
    local function norm(rows, parts, size)
      return function()
        nn.batch_norm(cld.randn { rows, 3, size or 2, 2 }, nil, nil, nil, nil, { training = true, parts = parts })
      end
    end
    check.fails(norm(7, { views = 2 }), "batch_norm: 7 rows are not 2 views of images of 1 rows, in 1 blocks")
    check.fails(norm(6, { views = 2, unit = 2 }), "6 rows are not 2 views of images of 2 rows")
    check.fails(norm(6, { views = 2, blocks = 4 }), "in 4 blocks of at least one image each")
    check.fails(norm(6, { views = 0 }), "parts: views must be an integer of at least 1, got 0")
    check.fails(norm(6, { block = 2 }), "parts.*block")
    check.fails(norm(6, { done = 2, rows = 3, total = 4 }), "3 of a view's images after 2 others are not a part of 4")
    check.fails(function()
      nn.batch_norm(cld.randn { 3, 3, 1, 1 }, nil, nil, nil, nil, { training = true, parts = { blocks = 2 } })
    end, "more than one value per channel, and block 2 of 2 of 3 images has one")
  end)
end)

if cld.cuda.is_emulated() then
  describe("batch norm by parts on the emulated device", function()
    it("takes as many launches as without", function()
      local folder = process.temporary_folder()
      local script = process.write(folder .. "/norm.lua", [==[
        local cld = require "cld"
        local bn = cld.nn.batch_norm2d(16):to "cuda"
        local x = cld.randn({ 32, 16, 3, 3 }, { device = "cuda" }):requires_grad_()
        local y = cld.nn.with_parts({ views = 2, blocks = tonumber(arg[1]) }, bn, x, { relu = true })
        y:backward(y:detach())
        cld.cuda.synchronize()
      ]==])
      local function launches(blocks)
        local path = folder .. "/" .. blocks
        process.run { script, tostring(blocks), env = { CLD_HOST_LAUNCHES = path } }
        local _, count = process.read(path):gsub("\n", "\n")
        return count
      end
      local one = launches(1)
      assert.is_true(one >= 6) -- three forward, three backward
      assert.equal(one, launches(8))
      process.remove(folder)
    end)
  end)
end
