--- Optimizers on a device, against the cpu: tensors of all sizes in one launch and in several, unaligned memory, rates
-- and conditions on the device, skipped steps.
local cld = require "cld"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"

local close = { f32 = { atol = 1e-6, rtol = 1e-5 }, f64 = { atol = 1e-14, rtol = 1e-12 } }

-- Fresh parameters of these lengths, each with a gradient; those with an odd number start in the middle of 16 bytes.
local function parameters(device, lengths, dtype)
  local list = {}
  for i, n in ipairs(lengths) do
    local whole = formula.uniform("w" .. i, { n + 1 }, dtype):to(device)
    list[i] = whole:narrow(1, 1 + i % 2, n):detach():requires_grad_()
    list[i].grad = formula.uniform("g" .. i, { n }, dtype):to(device)
  end
  return list
end

local function values(list)
  local out = {}
  for i, p in ipairs(list) do out[i] = p:detach() end
  return table.unpack(out)
end

devices.each("sgd", function(device)
  local lengths = { 1, 9000, 3, 15, 16, 0, 17, 4096, 4097, 2 }
  for dtype, limits in pairs(close) do
    for name, options in pairs {
      ["plain"] = { lr = 0.1 }, ["with weight decay"] = { lr = 0.1, weight_decay = 0.05 },
      ["with momentum"] = { lr = 0.1, momentum = 0.9, weight_decay = 0.05 },
      ["of Nesterov"] = { lr = 0.1, momentum = 0.9, weight_decay = 0.05, nesterov = true },
      ["dampened"] = { lr = 0.1, momentum = 0.9, dampening = 0.3 },
    } do
      it(name .. ", " .. dtype, function()
        devices.same(device, function(_, where)
          local list = parameters(where, lengths, dtype)
          local sgd = cld.optim.sgd(list, options)
          sgd:step()
          sgd:step()
          sgd:step { lr = 0.05 }
          sgd:step { lr = cld.tensor(0.01, "f64"):to(where) }
          return values(list)
        end, { cld.zeros(1) }, limits)
      end)
    end
  end

  it("of more tensors than one launch takes, of both dtypes", function()
    local many = {}
    for i = 1, 830 do many[i] = 1 + i % 3 end
    devices.same(device, function(_, where)
      local list = parameters(where, many, "f32")
      table.move(parameters(where, { 5, 2050 }, "f64"), 1, 2, 3, list)
      cld.optim.sgd(list, { lr = 0.1, momentum = 0.9 }):step()
      return values(list)
    end, { cld.zeros(1) }, close.f32)
  end)

  it("makes a step of a loss that is finite, and no other; what goes by it neither", function()
    devices.same(device, function(_, where)
      local w = formula.uniform("w", { 33 }, "f32"):to(where):requires_grad_()
      local slow = cld.zeros({ 33 }, { device = where })
      local sgd = cld.optim.sgd({ w }, { lr = 0.1, momentum = 0.9 })
      local results = {}
      for i, factor in ipairs { 1, 0 / 0, 2, math.huge, 0.5 } do
        local made = sgd:step((w * w):sum() * factor)
        cld.optim.ema({ slow }, { w:detach() }, 0.7, made)
        table.move({ made, w:detach() + 0, slow + 0 }, 1, 3, 3 * i - 2, results)
      end
      results[#results + 1] = sgd.skipped
      return table.unpack(results)
    end, { cld.zeros(1) }, close.f32)
  end)
end)

devices.each("the rule", function(device)
  local lengths = { 1, 9000, 3, 15, 16, 0, 17, 4096, 4097, 2 }
  local function halves(list, second)
    local groups = { { params = {} }, { params = {}, lr_factor = 0.3 } }
    for key, value in pairs(second) do groups[2][key] = value end
    for i, p in ipairs(list) do table.insert(groups[i % 2 + 1].params, p) end
    return groups
  end
  for dtype, limits in pairs(close) do
    for name, case in pairs {
      lars = { "lars", { lr = 0.1, eta = 0.02, weight_decay = 0.05 }, { adapt = false } },
      ["lars without momentum"] = { "lars", { lr = 0.1, eta = 0.02, weight_decay = 0.05, momentum = 0 }, {} },
      adamw = { "adamw", { lr = 0.01, eps = 1e-3 }, { betas = { 0.5, 0.6 } } },
      adam = { "adam", { lr = 0.01, eps = 1e-3, weight_decay = 0.1 }, { weight_decay = 0 } },
      ["sgd with and without momentum"] = { "sgd", { lr = 0.1, momentum = 0.9 }, { momentum = 0 } },
    } do
      it(name .. ", " .. dtype, function()
        devices.same(device, function(_, where)
          local list = parameters(where, lengths, dtype)
          local optimizer = cld.optim[case[1]](halves(list, case[3]), case[2])
          optimizer:step { grad_norm = true }
          optimizer:step { clip = 10 }
          optimizer:step { lr = 0.05, clip = 1000 }
          optimizer:step { lr = cld.tensor(0.01, "f64"):to(where) }
          list[#list + 1] = optimizer.grad_norm
          return values(list)
        end, { cld.zeros(1) }, limits)
      end)
    end
  end

  -- {rule, tensors, groups, clip}
  for _, case in ipairs { { "lars", 670, 2 }, { "adamw", 570, 2 }, { "adamw", 20, 20, 0.5 } } do
    it(("%s, of %d tensors in %d groups and both dtypes, in several launches"):format(table.unpack(case)), function()
      devices.same(device, function(_, where)
        local many, groups = {}, {}
        for i = 1, case[2] do many[i] = 1 + i % 3 end
        local list = parameters(where, many, "f32")
        table.move(parameters(where, { 5, 2050, 9 }, "f64"), 1, 3, 3, list)
        for i, p in ipairs(list) do
          local g = math.min(i, case[3])
          groups[g] = groups[g] or { params = {}, lr = 0.01 * g, weight_decay = 0.01 * g }
          table.insert(groups[g].params, p)
        end
        cld.optim[case[1]](groups, {}):step { clip = case[4] }
        return values(list)
      end, { cld.zeros(1) }, { atol = 2e-6, rtol = 1e-5 })
    end)
  end
end)

devices.each("clip_grad_norm", function(device)
  for dtype, limits in pairs(close) do
    it("scales gradients of all sizes, " .. dtype, function()
      for _, most in ipairs { 0.5, 1e9 } do
        devices.same(device, function(_, where)
          local list = parameters(where, { 1, 9000, 3, 0, 4097 }, dtype)
          local norm = cld.optim.clip_grad_norm(list, most)
          for i, p in ipairs(list) do list[i] = p.grad end
          return norm, table.unpack(list)
        end, { cld.zeros(1) }, limits)
      end
    end)
  end

  it("of gradients of both dtypes has a norm of f32", function()
    devices.same(device, function(_, where)
      local list = parameters(where, { 7, 4100 }, "f32")
      table.move(parameters(where, { 3000 }, "f64"), 1, 1, 3, list)
      return cld.optim.clip_grad_norm(list, 1), list[1].grad, list[3].grad
    end, { cld.zeros(1) }, close.f32)
  end)
end)

devices.each("ema", function(device)
  for dtype, limits in pairs(close) do
    it("of tensors of all sizes, " .. dtype, function()
      devices.same(device, function(_, where)
        local targets, sources = {}, {}
        for i, n in ipairs { 1, 5000, 7, 4096, 16 } do
          targets[i] = formula.uniform("t" .. i, { n + 1 }, dtype):to(where):narrow(1, 1 + i % 2, n)
          sources[i] = formula.uniform("s" .. i, { n }, dtype):to(where)
        end
        cld.optim.ema(targets, sources, 0.99)
        cld.optim.ema(targets, sources, cld.tensor({ 0.5 }, dtype):to(where))
        return table.unpack(targets)
      end, { cld.zeros(1) }, limits)
    end)
  end
end)
