--- Run by gradient_buckets_spec.lua, on one rank and on two: `gradient_buckets.lua FOLDER [DEVICE]`. A single rank
-- plays both. Each writes FOLDER/<its number>-of-<ranks>: the results of training, for each case.
local cld = require "cld"
local core = require "cld.core"
local formula = require "spec.support.formula"
local rank, world = cld.dist.rank, cld.dist.world
local device = arg[2] or "cpu"

local here = world == 1 and { 0, 1 } or { rank } -- those of the two ranks that this process plays
local weight = world == 1 and 0.5 or 1           -- the weight of a rank's loss in this process's loss
local saved = {}

local function weights(sizes)
  local list = {}
  for i = 1, #sizes - 1 do
    list[i] = formula.uniform("w" .. i, { sizes[i], sizes[i + 1] }, "f64", 0.7):requires_grad_()
  end
  return list
end

local function rows(step, of, width) return formula.uniform(("x%d.%d"):format(step, of), { 4, width }, "f64") end

local function chain(x, list)
  for _, w in ipairs(list) do x = x:matmul(w):tanh() end
  return x
end

-- The results of a case: parameters, gradients (a number if there is none), their norm, and figures about the buckets:
-- how many were started, how many of them early, and each parameter's bucket.
local function keep(name, params, sgd, before)
  local now = core.dist.buckets()
  for i, p in ipairs(params) do
    saved[("%s.w%d"):format(name, i)] = p:detach():to "cpu"
    saved[("%s.g%d"):format(name, i)] = p.grad and p.grad:to "cpu" or cld.zeros {}
  end
  saved[name .. ".norm"] = sgd.grad_norm:to "cpu"
  local of = {}
  for i in ipairs(params) do of[i] = 0 end
  for number, bucket in ipairs(sgd.buckets or {}) do
    for place, i in ipairs(bucket) do of[i] = number * 100 + place end
  end
  local figures = { now.begun - before.begun, now.early - before.early, table.unpack(of) }
  saved[name .. ".figures"] = cld.tensor(figures, "i64")
end

-- case(name, {bytes = of a bucket, sizes = of the chain, steps =, more = parameters, step = its options}, loss_of(step,
-- params, sgd) -> a loss, or nil if it was added)
local function case(name, options, loss_of)
  core.dist.set_bucket_bytes(options.bytes)
  local params = weights(options.sizes or { 8, 8, 8, 8, 8, 8, 8 })
  for _, more in ipairs(options.more or {}) do params[#params + 1] = more end
  local sgd = cld.optim.sgd(params, { lr = 0.1, momentum = 0.9, weight_decay = 0.1 })
  local before = core.dist.buckets()
  for step = 1, options.steps or 4 do
    local loss = loss_of(step, params, sgd)
    if loss then
      sgd:step(loss, options.step)
    else
      sgd:finish(options.step)
    end
  end
  keep(name, params, sgd, before)
end

local function mean_loss(step, params)
  local sum = 0
  for _, r in ipairs(here) do sum = sum + chain(rows(step, r, params[1].shape[1]), params):square():mean() * weight end
  return sum
end

local function cases()
  case("single", { bytes = 512, step = { clip = 0.01 } }, mean_loss)
  case("again", { bytes = 512, step = { clip = 0.01 } }, mean_loss)
  case("pairs", { bytes = 600 }, mean_loss)
  case("one", { bytes = 25 << 20 }, mean_loss)
  case("odd sizes", { bytes = 200, sizes = { 3, 5, 1, 7, 3, 3, 2 } }, mean_loss)

  case("hook", { bytes = 512 }, function(step, params)
    if step == 1 then params[4]:register_hook(function(g) return g * 0.5 end) end
    return mean_loss(step, params)
  end)

  for _, last in ipairs { true, false } do
    case(last and "accumulated" or "finished", { bytes = 512 }, function(step, params, sgd)
      sgd:begin()
      sgd:add(mean_loss(2 * step, params), 0.25)
      local fewer = { table.unpack(params, 1, 4) } -- the others have the gradient of the first loss
      sgd:add(mean_loss(2 * step + 1, fewer), 0.75, { last = last })
    end)
  end
end

-- Parameters that one rank uses, and both ranks from step 6 on; parameters that are used from some step on, until some
-- step, or never. Backward has its own collective. On rank 1, which does not use `other`, its gradient is complete
-- before that.
local function unused()
  local function vector(name) return formula.uniform(name, { 8 }, "f64"):requires_grad_() end
  local alone, late, gone, never, other = vector "alone", vector "late", vector "gone", vector "never", vector "other"
  case("unused", { bytes = 64, steps = 7, more = { alone, late, gone, never, other } }, function(step, params)
    local features, more = {}, 0
    for i, r in ipairs(here) do
      local x = rows(step, r, 8)
      if r == 1 or step >= 6 then
        x = x * alone
        if step >= 4 then x = x + late end
      end
      if step <= 2 then x = x + gone end
      features[i] = chain(x, { table.unpack(params, 1, 3) })
      if r == 0 or step >= 6 then features[i] = features[i] * other end
      more = more + features[i]:mean() * weight
    end
    local all = world == 1 and cld.cat(features, 1) or cld.dist.all_gather(features[1])
    return chain(all, { table.unpack(params, 4, 6) }):square():mean() + more
  end)
end

-- ---- a captured step ---------------------------------------------------------

local function network()
  local net = cld.nn.sequential(cld.nn.conv2d(3, 8, 3, { bias = false }), cld.nn.relu(), cld.nn.conv2d(8, 8, 3),
    cld.nn.flatten(), cld.nn.linear(128, 5))
  cld.no_grad(function()
    for i, p in ipairs(net:parameters()) do p:copy_(formula.uniform("p" .. i, p.shape, "f32", 0.2)) end
  end)
  return net:to(device)
end

local function captured(name, precision, enabled)
  core.dist.set_bucket_bytes(1000)
  cld.set_precision(precision)
  local net = network()
  local sgd = cld.optim.sgd(net, { lr = 0.1, momentum = 0.9, weight_decay = 0.01 })
  local before = core.dist.buckets()
  local step = cld.graph(function(x)
    local sum = 0
    for i in ipairs(here) do sum = sum + net(x[i]):square():mean() * weight end
    sgd:step(sum, { grad_norm = true })
    return sum
  end, { enabled = enabled, device = device })
  for number = 1, 6 do
    local x = {}
    for i, r in ipairs(here) do x[i] = formula.uniform(("i%d.%d"):format(number, r), { 2, 3, 8, 8 }, "f32") end
    step(x)
  end
  cld.set_precision "fp32"
  keep(name, net:parameters(), sgd, before)
end

if device == "cpu" then
  cases()
  unused()
else
  for _, precision in ipairs { "fp32", "bf16", "fp16" } do
    captured(precision .. " plain", precision, false)
    captured(precision .. " captured", precision, true)
  end
end
cld.save(("%s/%d-of-%d"):format(arg[1], rank, world), saved)
