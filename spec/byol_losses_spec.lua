--- BYOL's and SimCLR's losses, and the projector: against PyTorch and central differences.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"

local fixture = cld.load "spec/fixtures/byol.safetensors"
local tolerances = { f64 = { atol = 1e-13, rtol = 1e-11 }, f32 = { atol = 1e-5, rtol = 1e-5 } }

local function entries(prefix, dtype)
  return setmetatable({}, { __index = function(_, name) return fixture[prefix .. "." .. name]:to(dtype):clone() end })
end

describe("nt_xent", function()
  for case, temperature in pairs { warm = 0.5, cold = 0.05 } do
    for dtype, tolerance in pairs(tolerances) do
      it(("agrees with PyTorch: %s, %s"):format(case, dtype), function()
        local given = entries("nt_xent." .. case, dtype)
        local z1, z2 = given.z1:requires_grad_(), given.z2:requires_grad_()
        local loss = cld.losses.nt_xent(z1, z2, temperature)
        loss:backward()
        check.close(loss, given.loss, tolerance)
        check.close(z1.grad, given.dz1, tolerance)
        check.close(z2.grad, given.dz2, tolerance)
      end)
    end
  end

  it("agrees with central differences, scaled by what comes after it", function()
    local z1, z2 = formula.uniform("z1", { 4, 5 }, "f64"), formula.uniform("z2", { 4, 5 }, "f64")
    check.gradcheck(function(a, b) return cld.losses.nt_xent(a, b, 0.3) * 3 end, { z1, z2 })
    check.gradcheck(function(a) return cld.losses.nt_xent(a, z2, 0.3) end, { z1 })
    check.gradcheck(function(a) return cld.losses.nt_xent(a, a, 0.3) end, { z1 })
  end)

  it("does not depend on the rows' lengths, nor on the order of the views", function()
    local z1, z2 = formula.uniform("z1", { 6, 5 }, "f64"), formula.uniform("z2", { 6, 5 }, "f64")
    local loss = cld.losses.nt_xent(z1, z2, 0.2)
    check.close(cld.losses.nt_xent(z1 * 7, z2 * 0.1, 0.2), loss, { rtol = 1e-12 })
    check.close(cld.losses.nt_xent(z2, z1, 0.2), loss, { rtol = 1e-12 })
  end)

  it("is log(2 n - 1) where all rows are one, and finite at small temperatures", function()
    local z = cld.ones({ 4, 3 }, "f64")
    check.close(cld.losses.nt_xent(z, z, 0.5):item(), math.log(7), { rtol = 1e-12 })
    local apart = cld.tensor({ { 1, 0 }, { -1, 0 } }, "f32")
    local loss = cld.losses.nt_xent(apart, -apart, 0.01)
    check.close(loss:item(), 200, { rtol = 1e-6 })
  end)

  it("keeps no tape without a gradient", function()
    local z = formula.uniform("z", { 3, 4 }, "f32"):requires_grad_()
    assert.is_false(cld.no_grad(function() return cld.losses.nt_xent(z, z, 0.5) end).requires_grad)
    assert.is_true(cld.losses.nt_xent(z, z:detach(), 0.5).requires_grad)
  end)

  it("names what does not fit", function()
    local z = cld.ones { 4, 3 }
    local function fails(a, b, t, message)
      check.fails(function() cld.losses.nt_xent(a, b, t) end, "nt_xent: " .. message)
    end
    fails(z, cld.ones { 5, 3 }, 0.5, "z1 is f32%[4, 3%], z2 f32%[5, 3%]; expected the same shape")
    fails(z, cld.ones { 4, 2 }, 0.5, "z1 is f32%[4, 3%], z2 f32%[4, 2%]; expected the same dtype and dimension")
    fails(z, z:double(), 0.5, "z1 is f32%[4, 3%], z2 f64%[4, 3%]; expected the same dtype")
    fails(cld.ones { 4 }, z, 0.5, "expected z1 as f32 or f64 %(rows, dim%), got f32%[4%]")
    fails(z[{ { 1, 1 } }], z[{ { 2, 2 } }], 0.5, "z1 is f32%[1, 3%]: one image has no negatives; expected at least 2")
    for _, t in ipairs { 0, -1, 0 / 0, math.huge } do
      fails(z, z, t, "the temperature is .*; expected a number above 0")
    end
  end)
end)

describe("byol", function()
  for dtype, tolerance in pairs(tolerances) do
    it("agrees with PyTorch, " .. dtype, function()
      local given = entries("byol", dtype)
      local p1, p2 = given.p1:requires_grad_(), given.p2:requires_grad_()
      local t1, t2 = given.t1:requires_grad_(), given.t2:requires_grad_()
      local loss = cld.losses.byol(p1, p2, t1, t2, 4)
      loss:backward()
      check.close(loss, given.loss, tolerance)
      check.close(p1.grad, given.dp1, tolerance)
      check.close(p2.grad, given.dp2, tolerance)
      assert.is_nil(t1.grad)
      assert.is_nil(t2.grad)
    end)
  end

  it("agrees with central differences", function()
    local rows = {}
    for i, name in ipairs { "p1", "p2", "t1", "t2" } do rows[i] = formula.uniform(name, { 3, 4 }, "f64") end
    check.gradcheck(function(a, b) return cld.losses.byol(a, b, rows[3], rows[4], 2.5) end, { rows[1], rows[2] })
  end)

  it("is 0 where predictions meet the other view's projections, twice its scale where they are opposite", function()
    local a, b = formula.uniform("a", { 5, 4 }, "f64"), formula.uniform("b", { 5, 4 }, "f64")
    check.close(cld.losses.byol(a * 2, b, b * 3, a):item(), 0, { atol = 1e-12 })
    check.close(cld.losses.byol(a, b, -b, -a, 4):item(), 8, { rtol = 1e-12 })
    check.close(cld.losses.byol(a, b, -b, -a):item(), 2, { rtol = 1e-12 }) -- the scale is 1
  end)

  it("names what does not fit", function()
    local x = cld.ones { 4, 3 }
    local function fails(message, ...)
      local given = table.pack(...)
      check.fails(function() cld.losses.byol(table.unpack(given, 1, given.n)) end, message)
    end
    fails("byol: p1 is f32%[4, 3%].*, t2 f32%[4, 2%].*; expected the same dtype and shape", x, x, x, cld.ones { 4, 2 })
    fails("byol: p1 is f32%[4, 3%].*, p2 f32%[5, 3%].*; expected the same", x, cld.ones { 5, 3 }, x, x, 1)
    fails("byol: p1 is f32%[4, 3%].*, t1 f64%[4, 3%]", x, x, x:double(), x, 1)
    fails("byol: p1 is f32%[4%].*; expected features %(n, dim%)", cld.ones { 4 }, x, x, x, 1)
    fails("byol: t1 is nil; expected features", x, x)
    for _, scale in ipairs { 0, -1, "2", 0 / 0 } do
      fails("byol: scale is .*; expected a number above 0", x, x, x, x, scale)
    end
  end)
end)

describe("projector", function()
  it("has BYOL's layers under their names", function()
    local net, names = cld.nn.projector(3, 5, 2), {}
    for name, tensor in net:named_parameters() do names[#names + 1] = name .. " " .. table.concat(tensor.shape, "x") end
    assert.same({ "layers.0.weight 5x3", "layers.1.weight 5", "layers.1.bias 5", "layers.3.weight 2x5",
      "layers.3.bias 2" }, names)
  end)

  it("is linear, batch norm, relu, linear", function()
    local net = formula.fill(cld.nn.projector(3, 5, 2), "f64")
    local x = formula.uniform("x", { 7, 3 }, "f64")
    local state, hidden = net:state_dict(), x:matmul(net:get_parameter "layers.0.weight":t())
    local mean, var = hidden:mean({ 1 }, true), hidden:var({ 1 }, false, true)
    local normed = (hidden - mean) / (var + 1e-5):sqrt() * state["layers.1.weight"] + state["layers.1.bias"]
    local expected = normed:relu():matmul(state["layers.3.weight"]:t()) + state["layers.3.bias"]
    check.close(net(x), expected, { atol = 1e-12 })
  end)

  it("refuses to train on one row, and widths that are none", function()
    local net = cld.nn.projector(3, 5, 2)
    check.fails(function() net(cld.ones { 1, 3 }) end, "batch_norm1d: training needs more than one value per feature")
    assert.same({ 1, 2 }, net:eval()(cld.ones { 1, 3 }).shape)
    check.fails(function() cld.nn.projector(3, 0, 2) end, "projector: hidden must be a positive integer, got 0")
  end)
end)
