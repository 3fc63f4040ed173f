--- Learning rates over time. Each maker returns a function of the step, counted from 0 over the whole training, like
-- run.step: `sgd:step(loss, { lr = lr(run.step) })`. A schedule has no state, so a resumed run restores nothing: if the
-- number of epochs, the warm-up or the batch size has changed, it follows the new schedule from its position in epochs
-- (run/position.lua). The step may have a fraction.
local caller = require "cld.caller"
local options = require "cld.options"
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"

local schedule = {}

-- The fields of `given`, checked, with defaults; a default of `true` marks a required field.
local function settings(maker, given, defaults)
  local out, names = {}, sorted_keys(defaults)
  caller.require_fields("schedule." .. maker, given, names)
  for _, name in ipairs(names) do
    local value = given[name]
    if value == nil then value = defaults[name] end
    if value == true then caller.raise("schedule.%s: the field '%s' is missing", maker, name) end
    if name ~= "milestones" and not (math.type(value) and value >= 0 and value < math.huge) then
      caller.raise("schedule.%s: '%s' must be a number of at least 0, got %s", maker, name, tostring(value))
    end
    out[name] = value
  end
  return out
end

-- Wraps rate with a check of its argument.
local function of_steps(maker, rate)
  return function(step)
    if not (math.type(step) and step >= 0) then
      caller.raise("schedule.%s: the rate of a step is asked for with its number, counted from 0; got %s", maker,
        caller.shown(step))
    end
    return rate(step)
  end
end

-- base / factor at step 0, then a straight line to base at the last step of the warm-up (Goyal et al., 2017; the
-- published CLD scripts: lr = base / f * ((f - 1) * s / W + 1) for s <= W). Then `after`, whose step 0 is the
-- warm-up's end. A factor below 1 is itself the share of base at step 0: with 0 the rate starts at 0, as in BYOL and
-- SimCLR (Grill et al., Chen et al., 2020).
local function with_warmup(s, after)
  local last = math.floor(s.warmup_epochs * s.steps_per_epoch + 0.5)
  local factor = s.warmup_factor
  return function(step)
    if step >= last then return after(step - last) end
    if factor < 1 then return s.base * (factor + (1 - factor) * step / last) end
    return s.base / factor * ((factor - 1) * step / last + 1)
  end, last
end

local function check_milestones(list)
  local valid, last = type(list) == "table" and #list > 0, 0
  for _, milestone in ipairs(valid and list or {}) do
    valid = valid and type(milestone) == "number" and milestone > last
    last = milestone
  end
  if not valid then caller.raise "schedule.step: 'milestones' must be a list of ascending numbers above 0" end
end

-- From base at step 0 to minimum at step `steps` and later.
local function half_cosine(base, minimum, steps)
  return function(step)
    if step <= 0 then return base end
    return minimum + (base - minimum) * (1 + math.cos(math.pi * math.min(step / steps, 1))) / 2
  end
end

--- cld.schedule.warmup_cosine{base =, steps_per_epoch =, epochs =, warmup_epochs = 5, warmup_factor = 100, minimum
-- = 1e-6} -> rate: a straight line from base / warmup_factor at step 0 to base at the end of the warm-up, then half a
-- cosine to the minimum. rate(step) counts steps from 0 over the whole training.
--
--     local rate = cld.schedule.warmup_cosine { base = 0.1, steps_per_epoch = 10, epochs = 20 }
--     print(rate(0), rate(50))                  --> 0.001 0.1
function schedule.warmup_cosine(given)
  local s = settings("warmup_cosine", given, {
    base = true, steps_per_epoch = true, epochs = true, warmup_epochs = 5, warmup_factor = 100, minimum = 1e-6,
  })
  local steps = math.max((s.epochs - s.warmup_epochs) * s.steps_per_epoch, 1)
  return of_steps("warmup_cosine", (with_warmup(s, half_cosine(s.base, s.minimum, steps))))
end

--- cld.schedule.cosine{base =, steps_per_epoch =, epochs =, minimum = 0} -> rate: half a cosine from base to the
-- minimum, without warm-up.
function schedule.cosine(given)
  local s = settings("cosine", given, { base = true, steps_per_epoch = true, epochs = true, minimum = 0 })
  return of_steps("cosine", half_cosine(s.base, s.minimum, math.max(s.epochs * s.steps_per_epoch, 1)))
end

--- cosine_epochs{base, steps_per_epoch, epochs, minimum = 0, first = 0}: half a cosine that is constant in each epoch,
-- as in MoCo's published scripts (He et al., 2020): minimum + (base - minimum) (1 + cos(pi e / epochs)) / 2 in epoch e,
-- counted from `first`, 0 or 1 (PyContrast's scripts, InfoMin's among them, count from 1). No warm-up.
function schedule.cosine_epochs(given)
  local s = settings("cosine_epochs", given, {
    base = true, steps_per_epoch = true, epochs = true, minimum = 0, first = 0,
  })
  if s.first ~= 0 and s.first ~= 1 then
    caller.raise("schedule.cosine_epochs: 'first' must be 0 or 1, got %s", tostring(s.first))
  end
  if s.epochs < 1 or s.steps_per_epoch == 0 then
    caller.raise "schedule.cosine_epochs: 'epochs' must be at least 1, and 'steps_per_epoch' above 0"
  end
  local rate = half_cosine(s.base, s.minimum, s.epochs)
  return of_steps("cosine_epochs", function(step)
    local epoch = math.floor(step / s.steps_per_epoch + 1e-9) -- a resumed run's step may have a rounded fraction
    return rate(math.min(epoch, s.epochs - 1) + s.first)
  end)
end

--- infomin{base, steps_per_epoch, epochs, batch_size}: the schedule of InfoMin's published script (PyContrast), also
-- used by InfoMin + CLD. Epochs count from 1, and epoch e has the rate eta + (base - eta) (1 + cos(pi e / epochs)) / 2
-- throughout, eta = base / 1000. Batches of more than 256 images warm up: over the first 5 epochs (10 for more than
-- 500 images) the rate rises at every step on a straight line from 0.01 at step 0 to the cosine's value at the 5th
-- (10th) epoch.
function schedule.infomin(given)
  local s = settings("infomin", given, { base = true, steps_per_epoch = true, epochs = true, batch_size = true })
  if s.epochs < 1 or s.steps_per_epoch == 0 then
    caller.raise "schedule.infomin: 'epochs' must be at least 1, and 'steps_per_epoch' above 0"
  end
  local least, start = s.base / 1000, 0.01
  local function of_epoch(e) return least + (s.base - least) * (1 + math.cos(math.pi * e / s.epochs)) / 2 end
  local warm_epochs = s.epochs > 500 and 10 or 5
  local warm_steps = s.batch_size > 256 and warm_epochs * s.steps_per_epoch or 0
  return of_steps("infomin", function(step)
    if step < warm_steps then return start + step / warm_steps * (of_epoch(warm_epochs) - start) end
    local epoch = math.floor(step / s.steps_per_epoch + 1e-9) + 1 -- a resumed run's step may have a rounded fraction
    return of_epoch(math.min(epoch, s.epochs))
  end)
end

--- cld.schedule.step{base =, steps_per_epoch =, milestones =, gamma = 0.1, warmup_epochs = 0, warmup_factor = 100} ->
-- rate: base, multiplied by gamma at each of the milestones {120, 160}, which count completed epochs.
--
--     local rate = cld.schedule.step { base = 1, steps_per_epoch = 2, milestones = { 3 }, gamma = 0.5 }
--     print(rate(5), rate(6))                   --> 1 0.5
function schedule.step(given)
  local s = settings("step", given, {
    base = true, steps_per_epoch = true, milestones = true, gamma = 0.1, warmup_epochs = 0, warmup_factor = 100,
  })
  check_milestones(s.milestones)
  local rate, warmup
  rate, warmup = with_warmup(s, function(after_warmup)
    local value = s.base
    for _, milestone in ipairs(s.milestones) do
      if after_warmup + warmup >= milestone * s.steps_per_epoch then value = value * s.gamma end
    end
    return value
  end)
  return of_steps("step", rate)
end

--- cld.schedule.byol_tau{base =, steps =} -> tau: the momentum of BYOL's target over that many steps, rising from base
-- to 1: 1 - (1 - base) (1 + cos(pi k / steps)) / 2 at step k (Grill et al., 2020). For cld.optim.ema.
function schedule.byol_tau(given)
  local s = settings("byol_tau", given, { base = true, steps = true })
  if s.base > 1 or s.steps == 0 then
    caller.raise("schedule.byol_tau: 'base' must be 0 to 1, and 'steps' above 0; got %s and %s", tostring(s.base),
      tostring(s.steps))
  end
  return of_steps("byol_tau", half_cosine(s.base, 1, s.steps))
end

--- cld.schedule.constant{base =} -> rate: a function of the step that always returns base.
--
--     print(cld.schedule.constant { base = 0.1 }(1000))  --> 0.1
function schedule.constant(given)
  local s = settings("constant", given, { base = true })
  return function() return s.base end
end

local function milestones(text)
  return options.integers(text)
    or user_error.raise("option '--milestones': expected ascending integers of at least 1, such as 120,160, got '%s'",
      text)
end

--- cld.schedule.delayed(steps, rate) -> rate: 0 for that many steps, then the schedule `rate` from its start.
function schedule.delayed(steps, rate)
  steps = caller.integer("schedule.delayed", "the number of steps", steps, 0)
  if type(rate) ~= "function" then
    caller.raise("schedule.delayed: expected a schedule to delay, got %s", caller.shown(rate))
  end
  return of_steps("delayed", function(step) return step < steps and 0 or rate(step - steps) end)
end

-- Raises if the user asked for a warm-up that the schedule does not have.
local function check_warmup(opt)
  local details = options.details(opt)
  if details and details.given.warmup_epochs and opt.warmup_epochs > 0
    and (opt.schedule == "infomin" or opt.schedule == "cosine-epochs") then
    user_error.raise("option '--warmup-epochs': the schedule %s has %s; expected 0, or --schedule cosine or step, got"
      .. " %d", opt.schedule, opt.schedule == "infomin" and "its own warm-up" or "no warm-up", opt.warmup_epochs)
  end
end

--- from_options(opt, steps_per_epoch): the schedule of a recipe's options lr, batch_size, epochs, schedule ("cosine",
-- "cosine-epochs", which has no warm-up, "infomin", which has its own, or "step"), warmup_epochs, warmup_factor,
-- milestones; and if declared lr_min, gamma, lr_at, and fill_epochs: these come first, at rate 0 (milestones are
-- counted from their end). The base is lr * batch_size / lr_at (Goyal et al.'s linear scaling); with lr_at = 0 it is
-- lr; if lr_at is not declared, it is 128.
function schedule.from_options(opt, steps_per_epoch)
  check_warmup(opt)
  local fill, lr_at = rawget(opt, "fill_epochs") or 0, rawget(opt, "lr_at") or 128
  local given = {
    base = lr_at > 0 and opt.lr * opt.batch_size / lr_at or opt.lr, steps_per_epoch = steps_per_epoch,
    warmup_epochs = opt.warmup_epochs, warmup_factor = opt.warmup_factor,
  }
  if fill > 0 and fill >= opt.epochs then
    user_error.raise("option '--fill-epochs': expected fewer than the %d of --epochs, got %d", opt.epochs, fill)
  end
  local rate
  if opt.schedule == "step" then
    given.milestones, given.gamma = milestones(opt.milestones), rawget(opt, "gamma")
    rate = schedule.step(given)
  else
    given.epochs = opt.epochs - fill
    if opt.schedule ~= "cosine" then given.warmup_epochs, given.warmup_factor = nil, nil end
    if opt.schedule == "infomin" then
      given.batch_size = opt.batch_size
      rate = schedule.infomin(given)
    else
      given.minimum = rawget(opt, "lr_min")
      rate = opt.schedule == "cosine" and schedule.warmup_cosine(given) or schedule.cosine_epochs(given)
    end
  end
  return fill > 0 and schedule.delayed(fill * steps_per_epoch, rate) or rate
end

return schedule
