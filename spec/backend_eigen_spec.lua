--- Eigenvectors, normalized cuts and CLD on them on a device, against the cpu, and in a captured step.
local cld = require "cld"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"
local check = require "spec.support.check"

local tolerances = { f64 = 1e-12, f32 = 2e-5 }

local function symmetric(n, dtype)
  local x = formula.uniform("eigh", { n, n }, "f64")
  return (x + x:t()):to(dtype)
end

-- Rows near six lines through the origin: labels that no rounding changes.
local function lines(name, rows, dtype)
  local ends = formula.uniform("ends", { 6, 12 }, "f64")
  return (ends[cld.arange(rows) % 6] + formula.uniform(name, { rows, 12 }, "f64") * 0.1):to(dtype)
end

devices.each("eigh", function(device)
  for dtype, tolerance in pairs(tolerances) do
    it("as on the cpu, " .. dtype, function()
      for _, n in ipairs { 1, 2, 3, 8, 21, 33 } do
        devices.same(device, function(a)
          local values, v = a:eigh()
          return values, a:matmul(v) - v * values:unsqueeze(1), v:t():matmul(v), v:abs():amax(1) - v:amax(1)
        end, { symmetric(n, dtype) }, { atol = 5 * tolerance, rtol = 0 })
      end
    end)

    it("of several matrices the k smallest, " .. dtype, function()
      local a = cld.stack({ symmetric(7, dtype), symmetric(7, dtype) * -0.5, symmetric(7, dtype) * 1e-3 }, 1)
      devices.same(device, function(x) return x:eigh(3) end, { a }, { atol = 10 * tolerance, rtol = 0 })
    end)

    it("of equal eigenvalues, and of any scale, " .. dtype, function()
      for _, a in ipairs { cld.zeros({ 4, 4 }, dtype), cld.eye(5, dtype) * 3, cld.ones({ 6, 6 }, dtype),
        symmetric(6, dtype) * 1e-30, symmetric(6, dtype) * 1e35 } do
        local scale = a:abs():amax():item()
        scale = scale == 0 and 1 or scale
        local values, v = a:to(device):eigh()
        check.close(values:cpu() / scale, a:double():eigvalsh():to(dtype) / scale, { atol = 4 * tolerance, rtol = 0 })
        check.close(v:t():matmul(v):cpu(), cld.eye(#a, dtype), { atol = 4 * tolerance, rtol = 0 })
        local unit = a:to(device) / scale
        check.close(unit:matmul(v):cpu(), (v * (values / scale):unsqueeze(1)):cpu(), { atol = 4 * tolerance, rtol = 0 })
      end
    end)
  end

  it("gives NaN where a value is not finite, in that matrix alone", function()
    local a = cld.stack({ symmetric(4, "f32"), symmetric(4, "f32"), symmetric(4, "f32") }, 1)
    a[{ 1, 3, 2 }], a[{ 3, 2, 2 }] = 0 / 0, math.huge
    devices.same(device, function(x) return x:eigh() end, { a }, { atol = 1e-5, rtol = 0 })
  end)
end)

devices.each("normalized_cuts", function(device)
  for dtype, tolerance in pairs(tolerances) do
    it("as on the cpu, " .. dtype, function()
      for _, case in ipairs { { 24, 6, 6 }, { 31, 6, 40 }, { 5, 9, 3 } } do
        local rows, clusters, eigenvectors = table.unpack(case)
        devices.same(device, function(x)
          return cld.losses.normalized_cuts(x, { clusters = clusters, eigenvectors = eigenvectors })
        end, { lines("x", rows, dtype) }, { atol = tolerance, rtol = 0 })
      end
    end)
  end

  it("and the loss made of it, in one block and in several", function()
    for _, block in ipairs { 0, 9 } do
      devices.same(device, function(a, b)
        return (cld.losses.cld(a, b, { clusters = 5, eigenvectors = 6, grouping = "ncut", block = block }))
      end, { lines("a", 26, "f32"), lines("b", 26, "f32") }, { gradients = true, atol = 1e-5, rtol = 1e-4 })
    end
  end)

  it("in a captured step reads nothing back, and does what the plain one does", function()
    local function steps(enabled)
      local step = cld.graph(function(a, b)
        return (cld.losses.cld(a, b, { clusters = 4, eigenvectors = 5, grouping = "ncut", block = 7 }))
      end, { enabled = enabled })
      local losses = {}
      for i = 1, 5 do
        local loss = step(lines("a" .. i, 14, "f32"):to(device), lines("b" .. i, 14, "f32"):to(device))
        losses[i] = loss:item()
      end
      return losses
    end
    assert.same(steps(false), steps(true))
  end)
end)
