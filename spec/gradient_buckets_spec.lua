--- Gradients that are summed over the ranks in buckets during backward: two ranks must end with the same as one. The
-- cases are in support/gradient_buckets.lua.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local process = require "spec.support.process"
local jobs = require "spec.support.ranks"

-- Another job that waits for the processors makes this take longer.
local function run(folder, ranks, device)
  local result = process.run { "--ranks", tostring(ranks), "spec/support/gradient_buckets.lua", folder, device,
    timeout = 120, env = jobs.environment() }
  assert.same({ 0, "" }, { result.code, result.err })
end

-- What one process is left with, and each of two ranks: {tensors by name, of each}.
local function trained(device)
  local folder, left = process.temporary_folder(), {}
  for ranks = 1, 2 do run(folder, ranks, device) end
  for i, name in ipairs { "0-of-1", "0-of-2", "1-of-2" } do left[i] = cld.load(folder .. "/" .. name) end
  process.remove(folder)
  return left[1], left[2], left[3]
end

-- {begun, early, {{numbers of the parameters in a bucket}, ...}}, the buckets of the last step.
local function figures(of, case)
  local list = of[case .. ".figures"]:totable()
  local buckets = {}
  for i = 3, #list do
    local bucket, place = list[i] // 100, list[i] % 100
    buckets[bucket] = buckets[bucket] or {}
    buckets[bucket][place] = i - 2
  end
  buckets[0] = nil
  return { list[1], list[2], buckets }
end

-- Calls visit(name) for each tensor of the case, but for the figures.
local function each_tensor(of, case, visit)
  local any = false
  for name in pairs(of) do
    if name:match "^(.*)%.%w+$" == case and not name:find "figures" then any = visit(name) or true end
  end
  assert.is_true(any, case)
end

local function same_bits(a, b, case, other)
  each_tensor(a, case, function(name)
    local x, y = a[name], b[(other or case) .. name:sub(#case + 1)]
    check.close(x, y, { atol = 0, rtol = 0, nan = true })
  end)
end

local function reason()
  if not os.execute "command -v mpirun >/dev/null" then return "mpirun is not installed: no real ranks were started" end
  local library = io.open(process.build .. "/libcld_mpi.so")
  if not library then return "this was built without MPI: there are no ranks" end
  library:close()
end

local why = reason()
if why then
  describe("gradients of two ranks", function() pending(why) end)
  return
end

describe("gradients of two ranks", function()
  local one, first, second

  lazy_setup(function() one, first, second = trained() end)

  local function is_ones(case)
    local limits = { atol = 1e-13, rtol = 1e-12, nan = true }
    each_tensor(one, case, function(name) check.close(first[name], one[name], limits) end)
    same_bits(first, second, case)
  end

  for _, case in ipairs { "single", "pairs", "one", "odd sizes" } do
    it("are one's, in buckets: " .. case, function() is_ones(case) end)
  end

  it("have the same bits each time", function() same_bits(first, first, "single", "again") end)

  it("travel in the order in which they are complete, the last layer's first", function()
    -- the first of four steps notes the order, the others begin all buckets early
    assert.same({ 24, 18, { { 6 }, { 5 }, { 4 }, { 3 }, { 2 }, { 1 } } }, figures(first, "single"))
  end)

  it("share a bucket until that is full", function()
    assert.same({ 12, 9, { { 6, 5 }, { 4, 3 }, { 2, 1 } } }, figures(first, "pairs"))
    assert.same({ 4, 3, { { 6, 5, 4, 3, 2, 1 } } }, figures(first, "one"))
  end)

  it("are in no bucket if there is one rank", function() assert.same({ 0, 0, {} }, figures(one, "single")) end)

  it("of a leaf with a hook are complete when backward is", function()
    is_ones "hook"
    assert.same({ 24, 15, { { 6 }, { 5 }, { 3 }, { 2 }, { 1 }, { 4 } } }, figures(first, "hook"))
  end)

  it("of several losses are summed up while the last is followed", function()
    is_ones "accumulated"
    assert.same({ 24, 18, { { 4 }, { 3 }, { 2 }, { 1 }, { 6 }, { 5 } } }, figures(first, "accumulated"))
  end)

  it("of several losses, none of which is the last, are summed up in finish", function()
    is_ones "finished"
    assert.same({ 24, 0, {} }, figures(first, "finished"))
  end)

  it("count as zeros where a rank has none, and stay away where all have none", function()
    is_ones "unused"
    for _, i in ipairs { 9, 10 } do assert.same({}, first["unused.g" .. i].shape) end -- gone, never
    for _, i in ipairs { 7, 8, 11 } do assert.same({ 8 }, first["unused.g" .. i].shape) end
  end)

  it("wait for the end of backward if the ranks do not walk the same", function()
    -- 9, 9, 9, 10 (one for the first time), 9, and twice 9 of steps that are the same on both: these alone are early
    local last = { { 6 }, { 5 }, { 4 }, { 11 }, { 3 }, { 2 }, { 1 }, { 8 }, { 7 } }
    assert.same({ 64, 18, last }, figures(first, "unused"))
  end)
end)

-- Two ranks need two devices; of the emulated ones each process has its own.
for _, device in ipairs(cld.cuda.is_emulated() and devices.names or {}) do
  describe("gradients of two ranks on " .. device, function()
    local one, first, second

    lazy_setup(function() one, first, second = trained(device) end)

    for precision, limit in pairs { fp32 = 1e-5, bf16 = 1e-2, fp16 = 1e-2 } do
      it("are one's, in a captured step, " .. precision, function()
        local case = precision .. " captured"
        each_tensor(one, case, function(name) check.close(first[name], one[name], { atol = limit, rtol = limit }) end)
        same_bits(first, second, case)
        same_bits(first, first, case, precision .. " plain")
      end)

      it("travel early, in a captured step too, " .. precision, function()
        local early, captured = figures(first, precision .. " plain"), figures(first, precision .. " captured")
        assert.same({ 18, 15 }, { early[1], early[2] }) -- three in each of six steps
        assert.same({ 9, 6 }, { captured[1], captured[2] }) -- and once for all replays
      end)
    end
  end)
end

describe("add", function()
  it("refuses a loss behind the last", function()
    local w = cld.ones(2):requires_grad_()
    local sgd = cld.optim.sgd({ w }, { lr = 0.1 })
    sgd:begin()
    sgd:add(w:sum(), 1, { last = true })
    check.fails(function() sgd:add(w:sum()) end, "sgd: add was called after the last loss; expected finish")
    check.fails(function() sgd:finish() end, "finish was called without begin")
  end)

  it("takes no other option", function()
    local w = cld.ones(2):requires_grad_()
    local sgd = cld.optim.sgd({ w }, { lr = 0.1 })
    sgd:begin()
    check.fails(function() sgd:add(w:sum(), 1, { final = true }) end, "sgd:add: unknown field 'final'")
  end)
end)
