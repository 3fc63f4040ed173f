--- Learning rates over time, against the formulas of the published scripts.
local cld = require "cld"
local check = require "spec.support.check"

describe("schedule", function()
  it("warms up along a straight line and then follows a cosine", function()
    local base, n, epochs = 0.06, 196, 200
    local lr = cld.schedule.warmup_cosine { base = base, steps_per_epoch = n, epochs = epochs, warmup_epochs = 5,
      warmup_factor = 100, minimum = 1e-6 }
    local last = 5 * n
    for _, s in ipairs { 0, 1, 500, 979 } do
      check.close(lr(s), base / 100 * (99 * s / last + 1), { rtol = 1e-14 })
    end
    assert.equal(base, lr(980))
    for _, s in ipairs { 981, 5000, 39199 } do
      local turn = math.pi * (s - last) / (195 * n)
      check.close(lr(s), 1e-6 + (base - 1e-6) * (1 + math.cos(turn)) / 2, { rtol = 1e-14 })
    end
    assert.is_true(lr(981) < base)
    assert.equal(1e-6, lr(200 * n))
    assert.equal(1e-6, lr(300 * n))
  end)

  it("takes the start of the warm-up as a divisor or as a share", function()
    local given = { base = 2, steps_per_epoch = 10, epochs = 20, warmup_factor = 4 }
    assert.equal(0.5, cld.schedule.warmup_cosine(given)(0))
    given.warmup_factor = 0.25
    assert.equal(0.5, cld.schedule.warmup_cosine(given)(0))
    given.warmup_epochs = 0
    assert.equal(2, cld.schedule.warmup_cosine(given)(0))
  end)

  it("has BYOL's rate, from 0, and momentum, up to 1, as DeepMind's code has them", function()
    local fixture = cld.load "spec/fixtures/byol.safetensors"
    local lr = cld.schedule.from_options({
      lr = 0.3, lr_at = 256, batch_size = 4096, epochs = 9, schedule = "cosine", warmup_epochs = 2, warmup_factor = 0,
      lr_min = 0,
    }, 10)
    local tau = cld.schedule.byol_tau { base = 0.996, steps = 90 }
    for step = 0, 90 do
      check.close(lr(step), fixture.rates[step + 1]:item(), { atol = 1e-14, rtol = 1e-13 })
      check.close(tau(step), fixture.taus[step + 1]:item(), { atol = 0, rtol = 1e-14 })
    end
    assert.same({ 0, 0.996, 1, 1 }, { lr(0), tau(0), tau(90), tau(1000) })
    check.fails(function() tau(-1) end, "schedule.byol_tau: .* counted from 0; got %-1")
  end)

  it("lasts when the training ends within the warm-up", function()
    local lr = cld.schedule.warmup_cosine { base = 1, steps_per_epoch = 10, epochs = 2, warmup_epochs = 5 }
    check.close(lr(19), (99 * 19 / 50 + 1) / 100, { rtol = 1e-14 })
  end)

  it("steps down at the milestones", function()
    local lr = cld.schedule.step { base = 1, steps_per_epoch = 10, milestones = { 3, 5 }, gamma = 0.5 }
    assert.same({ 1, 1, 0.5, 0.5, 0.25, 0.25 }, { lr(0), lr(29), lr(30), lr(49), lr(50), lr(1000) })
    local warm = cld.schedule.step { base = 1, steps_per_epoch = 10, milestones = { 3 }, warmup_epochs = 1,
      warmup_factor = 10 }
    assert.same({ 0.1, 1, 1 }, { warm(0), warm(10), warm(29) })
    check.close(warm(30), 0.1)
  end)

  it("is a cosine or a constant", function()
    local lr = cld.schedule.cosine { base = 1, steps_per_epoch = 10, epochs = 10 }
    check.close({ lr(0), lr(50), lr(100) }, { 1, 0.5, 0 })
    assert.equal(3, cld.schedule.constant { base = 3 }(77))
  end)

  it("is a cosine that keeps each epoch's rate, counted from 0 or from 1", function()
    local function rate(epoch) return 0.001 + (0.03 - 0.001) * (1 + math.cos(math.pi * epoch / 200)) / 2 end
    local given = { base = 0.03, minimum = 0.001, epochs = 200, steps_per_epoch = 10 }
    local lr = cld.schedule.cosine_epochs(given)
    assert.same({ 0.03, 0.03 }, { lr(0), lr(9.5) })
    for _, epoch in ipairs { 1, 77, 199 } do
      check.close({ lr(10 * epoch), lr(10 * epoch + 9) }, { rate(epoch), rate(epoch) }, { rtol = 1e-14 })
    end
    check.close(lr(5000), rate(199), { rtol = 1e-14 })
    check.close(lr(10 * (1 - 1e-11)), rate(1), { rtol = 1e-14 }) -- a place in epochs, rounded
    given.first = 1
    local later = cld.schedule.cosine_epochs(given)
    check.close({ later(0), later(1985), later(1990), later(9999) }, { rate(1), rate(199), 0.001, 0.001 },
      { rtol = 1e-14 })
    given.first = 2
    check.fails(function() cld.schedule.cosine_epochs(given) end,
      "schedule.cosine_epochs: 'first' must be 0 or 1, got 2")
    check.fails(function() cld.schedule.cosine_epochs { base = 1, epochs = 0, steps_per_epoch = 1 } end,
      "schedule.cosine_epochs: 'epochs' must be at least 1")
  end)

  -- The rates of all steps as PyContrast's adjust_learning_rate and warmup_learning_rate set them.
  local function published(lr, epochs, n, batch_size)
    local list, eta_min = {}, lr * 0.1 ^ 3
    local warm = batch_size > 256
    local warm_epochs = epochs > 500 and 10 or 5
    local warmup_to = eta_min + (lr - eta_min) * (1 + math.cos(math.pi * warm_epochs / epochs)) / 2
    for epoch = 1, epochs do
      for batch = 0, n - 1 do
        local rate = eta_min + (lr - eta_min) * (1 + math.cos(math.pi * epoch / epochs)) / 2
        if warm and epoch <= warm_epochs then
          local p = (batch + (epoch - 1) * n) / (warm_epochs * n)
          rate = 0.01 + p * (warmup_to - 0.01)
        end
        list[#list + 1] = rate
      end
    end
    return list
  end

  it("is InfoMin's, with the warm-up of large batches", function()
    for _, case in ipairs { { 0.2, 100, 7, 512 }, { 0.03, 200, 3, 256 }, { 0.2, 600, 2, 257 }, { 0.2, 3, 5, 512 } } do
      local lr, epochs, n, batch_size = table.unpack(case)
      local rate = cld.schedule.infomin { base = lr, epochs = epochs, steps_per_epoch = n, batch_size = batch_size }
      local rates = {}
      for step = 0, epochs * n - 1 do rates[step + 1] = rate(step) end
      check.close(rates, published(lr, epochs, n, batch_size), { rtol = 1e-6 })
      if epochs > 10 then assert.equal(rate(epochs * n - 1), rate(epochs * n + 5)) end
    end
    local given = { base = 1, epochs = 0, steps_per_epoch = 1, batch_size = 2 }
    check.fails(function() cld.schedule.infomin(given) end, "schedule.infomin: 'epochs' must be at least 1")
  end)

  it("is InfoMin's by a recipe's options", function()
    local opt = { lr = 0.2, lr_at = 0, batch_size = 512, epochs = 100, schedule = "infomin", warmup_epochs = 5,
      warmup_factor = 100, lr_min = 1e-6 }
    local lr = cld.schedule.from_options(opt, 10)
    check.close({ lr(0), lr(999) }, { 0.01, 0.0002 }, { rtol = 1e-12 })
    opt.batch_size = 256
    check.close(cld.schedule.from_options(opt, 10)(0), published(0.2, 100, 10, 256)[1], { rtol = 1e-12 })
  end)

  it("is made from options with a rate for another batch size, or for any", function()
    local opt = {
      lr = 0.03, batch_size = 64, epochs = 200, schedule = "cosine-epochs", warmup_epochs = 5, warmup_factor = 100,
      lr_min = 0,
    }
    for lr_at, base in pairs { [256] = 0.0075, [0] = 0.03, [128] = 0.015 } do
      opt.lr_at = lr_at
      check.close(cld.schedule.from_options(opt, 10)(9), base, { rtol = 1e-14 })
      opt.schedule = "step"
      opt.milestones = "120,160"
      check.close(cld.schedule.from_options(opt, 10)(60), base, { rtol = 1e-14 })
      opt.schedule = "cosine-epochs"
    end
    opt.lr_at = nil
    check.close(cld.schedule.from_options(opt, 10)(1005), 0.0075, { rtol = 1e-14 })
  end)

  it("is made from a recipe's options", function()
    local opt = { lr = 0.03, batch_size = 256, epochs = 200, schedule = "cosine", warmup_epochs = 5,
      warmup_factor = 100, milestones = "120, 160" }
    assert.equal(0.06, cld.schedule.from_options(opt, 196)(980))
    opt.schedule = "step"
    local lr = cld.schedule.from_options(opt, 196)
    check.close({ lr(0), lr(980), lr(120 * 196), lr(160 * 196) }, { 0.0006, 0.06, 0.006, 0.0006 })
    opt.gamma = 0.5
    check.close(cld.schedule.from_options(opt, 196)(120 * 196), 0.03)
    opt.schedule, opt.lr_min = "cosine", 0.001
    assert.equal(0.001, cld.schedule.from_options(opt, 196)(200 * 196))
    opt.schedule, opt.milestones = "step", "120,soon"
    check.fails(function() cld.schedule.from_options(opt, 196) end,
      "'%-%-milestones': expected ascending integers .* '120,soon'")
  end)

  it("waits at the rate 0 while a memory bank fills", function()
    local opt = {
      lr = 0.03, batch_size = 256, epochs = 200, schedule = "cosine", warmup_epochs = 5, warmup_factor = 100,
    }
    local plain = cld.schedule.from_options(opt, 196)
    opt.epochs, opt.fill_epochs = 201, 1
    local filled = cld.schedule.from_options(opt, 196)
    check.close({ filled(0), filled(195), filled(196), filled(196 + 980) }, { 0, 0, plain(0), plain(980) })
    opt.epochs, opt.fill_epochs = 1, 2
    check.fails(function() cld.schedule.from_options(opt, 196) end,
      "'%-%-fill%-epochs': expected fewer than the 1 of %-%-epochs, got 2")
  end)

  it("names what it was asked for", function()
    local make = cld.schedule
    local given = { base = 1, epochs = 2, steps_per_epoch = 10 }
    local rates = {
      cosine = make.cosine(given), cosine_epochs = make.cosine_epochs(given), warmup_cosine = make.warmup_cosine(given),
      step = make.step { base = 1, steps_per_epoch = 10, milestones = { 1 }, warmup_epochs = 1 },
      delayed = make.delayed(3, make.constant { base = 1 }),
    }
    for name, rate in pairs(rates) do
      for _, step in ipairs { false, "x", 0 / 0, -1 } do
        check.fails(function() rate(step or nil) end,
          "schedule_spec.lua:%d+: schedule%." .. name .. ": the rate of a step")
      end
      assert.is_number(rate(2.5))
    end
    check.fails(function() make.delayed(1.5, rates.cosine) end, "schedule.delayed: the number of steps must be")
    check.fails(function() make.delayed(1) end, "schedule.delayed: expected a schedule to delay, got nil")
  end)

  it("names what is wrong", function()
    local make = cld.schedule
    check.fails(function() make.cosine { base = 1, epochs = 1, steps_per_epoc = 1 } end, "mean 'steps_per_epoch'")
    check.fails(function() make.cosine { base = 1, epochs = 1 } end, "schedule.cosine: the field 'steps_per_epoch'")
    for _, list in ipairs { {}, { 3, 2 }, { 0 }, { "a" }, 3 } do
      check.fails(function() make.step { base = 1, steps_per_epoch = 1, milestones = list } end,
        "'milestones' must be a list of ascending numbers above 0")
    end
    check.fails(function() make.constant { base = -1 } end, "'base' must be a number of at least 0, got %-1")
    check.fails(function() make.constant { base = 0 / 0 } end, "'base' must be")
    check.fails(function() make.warmup_cosine { base = 1, epochs = 1, steps_per_epoch = 1, warmup_factor = -1 } end,
      "'warmup_factor' must be a number of at least 0, got %-1")
    for _, given in ipairs { { base = 1.5, steps = 10 }, { base = 0.99, steps = 0 } } do
      check.fails(function() make.byol_tau(given) end, "schedule.byol_tau: 'base' must be 0 to 1, and 'steps' above 0")
    end
  end)
end)
