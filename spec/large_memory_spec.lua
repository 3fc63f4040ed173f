--- Memories of many rows: what k-means, the losses and kNN allocate does not grow with rows x size of the memory, and
-- their results are right if they cut it into parts.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"

local BATCH, DIM, SIZE = 64, 8, 100000 -- rows x size in f32: 25.6 MB
local MOST = 2 << 20 -- bytes that may be alive beside it; on a device 9 MB, where a chunk of logits has 8

-- The memory of a device, and what each of these loss functions is called on.
local function memory_of(device) return device == "cpu" and cld or cld.cuda end

local function rows(count, device, seed)
  cld.manual_seed(seed)
  return cld.randn(count, DIM):normalize():to(device)
end

local function labels(count, classes, device) return cld.arange(0, count, 1):to "i64":remainder(classes):to(device) end

-- What f() has alive at most beyond what was there before.
local function workspace(device, f)
  local memory = memory_of(device)
  collectgarbage()
  collectgarbage()
  local before = memory.memory().in_use
  memory.reset_peak()
  f()
  return memory.memory().peak - before
end

local methods = {}

function methods.memory_bank(device)
  local bank = cld.losses.memory_bank { size = SIZE, dim = DIM, device = device }
  local f, index = rows(BATCH, device, 1):requires_grad_(), labels(BATCH, SIZE, device)
  return function() bank:loss(f, index):backward() end
end

methods["memory_bank with negatives"] = function(device)
  local bank = cld.losses.memory_bank { size = SIZE, dim = DIM, negatives = 256, device = device }
  local f, index = rows(BATCH, device, 1):requires_grad_(), labels(BATCH, SIZE, device)
  return function() bank:loss(f, index):backward() end
end

function methods.moco_queue(device)
  local queue = cld.losses.moco_queue { size = SIZE, dim = DIM, device = device }
  local f, key = rows(BATCH, device, 1):requires_grad_(), rows(BATCH, device, 2)
  return function()
    queue:loss(f, key):backward()
    queue:enqueue(key)
  end
end

local function check_bounded(device, most)
  for name, method in pairs(methods) do
    it(name .. " has little alive beside its memory", function()
      local step = method(device)
      step() -- the gradient is there
      local bytes = workspace(device, step)
      assert.is_true(bytes <= most, bytes)
    end)
  end
end

describe("a large memory on the cpu:", function()
  local threads
  setup(function()
    threads = cld.get_num_threads()
    cld.set_num_threads(2) -- each has a workspace
  end)
  teardown(function() cld.set_num_threads(threads) end)

  check_bounded("cpu", MOST)

  it("weighted_knn has little alive beside its memory", function()
    local memory, queries, truth = rows(SIZE, "cpu", 3), rows(BATCH, "cpu", 4), labels(SIZE, 10, "cpu")
    local bytes = workspace("cpu", function()
      local _ <close> = cld.eval.weighted_knn(memory, truth, queries, { k = 200, temperature = 0.1, classes = 10 })
    end)
    assert.is_true(bytes <= 4 * MOST, bytes) -- 256 queries x 1024 rows a thread, and their shortlists
  end)

  it("kmeans of many rows has labels and centroids alive", function()
    local x = rows(SIZE, "cpu", 5)
    local bytes = workspace("cpu", function()
      cld.losses.kmeans(x, 120, 2)
    end)
    assert.is_true(bytes <= SIZE * 8 + MOST, bytes)
  end)

  it("a batch of any size is taken some rows at a time", function()
    local count, bank = 10000, cld.losses.memory_bank { size = 3000, dim = DIM }
    local f, index = rows(count, "cpu", 1):requires_grad_(), labels(count, 3000, "cpu")
    local loss
    local bytes = workspace("cpu", function()
      loss = bank:loss(f, index)
      loss:backward()
    end)
    assert.is_true(bytes <= 24 << 20, bytes) -- 4096 rows x 512 logits for each of two threads, not 10,000
  end)
end)

describe("the loss of a batch of many rows", function()
  local SOME, COUNT = 4500, 5000 -- rows of the batch, and of the memory
  local function f64_and_f32(loss_of)
    local results = {}
    for _, dtype in ipairs { "f64", "f32" } do
      local f = rows(SOME, "cpu", 1):to(dtype):requires_grad_()
      local loss = loss_of(f, rows(COUNT, "cpu", 2):to(dtype), dtype)
      loss:backward()
      results[#results + 1] = { loss = loss:detach(), gradient = f.grad }
    end
    local double, single = results[1], results[2]
    check.close(single.loss, double.loss:float(), { rtol = 1e-5 })
    local scale = double.gradient:abs():amax():item()
    check.close(single.gradient, double.gradient:float(), { atol = 1e-5 * scale, rtol = 0 })
  end

  it("is the f64 loops', memory bank", function()
    f64_and_f32(function(f, memory, dtype)
      local bank = cld.losses.memory_bank { size = COUNT, dim = DIM, dtype = dtype }
      bank:load_state_dict { memory = memory }
      return bank:loss(f, labels(SOME, COUNT - 7, "cpu"))
    end)
  end)

  it("is the f64 loops', queue", function()
    f64_and_f32(function(f, memory, dtype)
      local queue = cld.losses.moco_queue { size = COUNT, dim = DIM, dtype = dtype }
      queue:load_state_dict { memory = memory }
      return queue:loss(f, rows(SOME, "cpu", 3):to(dtype))
    end)
  end)
end)

devices.each("a large memory", function(device)
  check_bounded(device, 9 << 20)

  -- kNN takes 2^18 rows of the memory at a time.
  local many = (1 << 18) + 7

  local function same(memory, queries, options)
    devices.same(device, function(m, q, l) return (cld.eval.weighted_knn(m, l, q, options)) end,
      { memory, cld.tensor(queries), labels(many, 10, "cpu") }, { atol = 0, rtol = 1e-6 })
  end

  -- Whole numbers: many rows are equally near, of which the first count, wherever a part ends.
  local function integers()
    cld.manual_seed(6)
    return cld.randn(many, 2):mul(2):round()
  end

  it("cut into parts has the cpu's neighbours, ties among them", function()
    same(integers(), { { 1, -1 }, { 0.5, 2 } }, { k = 50, temperature = 5, classes = 10 })
  end)

  it("has them where a part has fewer rows than are wanted, and of those fewer neighbours", function()
    local memory, far = integers(), (1 << 18) - 3
    memory:narrow(1, 1, far):copy_(cld.tensor { { -3e38, 3e38 } }:expand(far, 2)) -- similar by -infinity: no neighbours
    same(memory, { { 1, -1 }, { 2, -2 } }, { k = 8, temperature = 5, classes = 10 })
    same(memory, { { 1, -1 }, { 2, -2 } }, { k = 20, temperature = 5, classes = 10 }) -- ten are left
  end)
end)
