--- MoCo's queue: its loss against PyTorch and central differences, and the ring.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"

local function queue_of(memory, temperature)
  local queue = cld.losses.moco_queue {
    size = memory.shape[1], dim = memory.shape[2], temperature = temperature, dtype = memory.dtype,
  }
  queue:load_state_dict { memory = memory }
  return queue
end

-- Rows first, first + 1, ... as (count, 1).
local function keys(first, count)
  local list = {}
  for i = 1, count do list[i] = { first + i - 1 } end
  return cld.tensor(list)
end

local function contents(queue)
  local list = {}
  for i, row in ipairs(queue.memory:totable()) do list[i] = row[1] end
  return list
end

describe("moco_queue", function()
  for _, dtype in ipairs { "f64", "f32" } do
    it("begins with rows of unit length in all directions, or uniform ones, " .. dtype, function()
      cld.manual_seed(5)
      local size, dim = 4000, 12
      local memory = cld.losses.moco_queue { size = size, dim = dim, init = "normal", dtype = dtype }.memory
      check.close(memory:square():sum { 2 }, cld.ones(size), { atol = 1e-6 })
      -- The mean of so many rows is near 0, the mean of a coordinate's fourth power 3 / (d (d + 2)), which of uniform
      -- rows of that length it is not (below 0.014).
      assert.is_true(memory:mean({ 1 }):abs():amax():item() < 0.03)
      check.close((memory ^ 4):mean():item(), 3 / (dim * (dim + 2)), { atol = 5e-4 })
      local bound = 1 / math.sqrt(dim / 3)
      local plain = cld.losses.moco_queue { size = size, dim = dim, dtype = dtype }.memory
      check.close(plain:abs():amax():item(), bound, { rtol = 1e-3 })
    end)
  end

  it("names an init that there is not", function()
    check.fails(function() cld.losses.moco_queue { size = 2, dim = 3, init = "gauss" } end,
      "moco_queue: init is 'gauss'; expected 'uniform' or 'normal'")
  end)

  for dtype, tolerance in pairs { f64 = { atol = 1e-12, rtol = 1e-10 }, f32 = { atol = 1e-5, rtol = 1e-5 } } do
    it("agrees with PyTorch, " .. dtype, function()
      local all = cld.load "spec/fixtures/losses.safetensors"
      local function entry(name) return all["queue." .. name]:to(dtype) end
      local queue, q, k = queue_of(entry "memory", 0.07), entry("q"):requires_grad_(), entry("k"):requires_grad_()
      local loss = queue:loss(q, k)
      check.close(loss, entry "loss", tolerance)
      queue:enqueue(k) -- the gradient is that of the queue before
      loss:backward()
      check.close(q.grad, entry "dq", tolerance)
      assert.is_nil(k.grad)
    end)
  end

  it("has the gradient that central differences give", function()
    for _, shape in ipairs { { 1, 1, 1 }, { 3, 5, 7 }, { 2, 3, 520 } } do
      local rows, dim, size = table.unpack(shape)
      local queue = queue_of(formula.uniform("queue", { size, dim }, "f64"), 0.2)
      local key = formula.uniform("key", { rows, dim }, "f64")
      check.gradcheck(function(q) return queue:loss(q, key) end, { formula.uniform("query", { rows, dim }, "f64") })
    end
  end)

  it("streams f32 over blocks and threads to what the f64 loops give", function()
    local threads = cld.get_num_threads()
    for _, size in ipairs { 511, 512, 1700 } do
      local memory, key = formula.uniform("queue", { size, 19 }, "f64"), formula.uniform("key", { 9, 19 }, "f64")
      local function both(dtype)
        local q = formula.uniform("query", { 9, 19 }, dtype):requires_grad_()
        local loss = queue_of(memory:to(dtype), 0.07):loss(q, key:to(dtype))
        loss:backward()
        return loss, q.grad
      end
      local loss, gradient = both "f64"
      for _, n in ipairs { 1, 3 } do
        cld.set_num_threads(n)
        local fast_loss, fast_gradient = both "f32"
        check.close(fast_loss, loss, { atol = 1e-5, rtol = 1e-5 })
        check.close(fast_gradient, gradient, { atol = 1e-5, rtol = 1e-5 })
      end
    end
    cld.set_num_threads(threads)
  end)

  it("replaces the oldest rows, wraps, and takes batches of any size", function()
    local queue = queue_of(keys(0, 5))
    queue:enqueue(keys(10, 3))
    assert.same({ 10, 11, 12, 3, 4 }, contents(queue))
    queue:enqueue(keys(20, 3))
    assert.same({ 22, 11, 12, 20, 21 }, contents(queue))
    assert.equal(1, queue:state_dict().pointer:item())
    queue:enqueue(keys(30, 5))
    assert.same({ 34, 30, 31, 32, 33 }, contents(queue))
    queue:enqueue(keys(40, 12)) -- as if one by one: 42 to 46 and so on, the last five remain
    local plain = {}
    for i = 0, 11 do plain[(1 + i) % 5 + 1] = 40 + i end
    assert.same(plain, contents(queue))
    assert.equal((1 + 12) % 5, queue.pointer:item())
  end)

  it("stays as it is where the step was not made, and takes its own rows", function()
    local queue = queue_of(keys(0, 3))
    queue:enqueue(keys(10, 2), cld.tensor(0, "u8"))
    assert.same({ 0, 1, 2 }, contents(queue))
    assert.equal(0, queue.pointer:item())
    queue:enqueue(keys(10, 2), cld.tensor(1, "u8"))
    assert.same({ 10, 11, 2 }, contents(queue))
    queue:enqueue(queue.memory:flip(1)) -- 2, 11, 10 from row 2 on
    assert.same({ 11, 10, 2 }, contents(queue))
    queue:enqueue(queue.memory) -- from row 2 on
    assert.same({ 10, 2, 11 }, contents(queue))
    check.fails(function() queue:enqueue(keys(1, 1), true) end, "tensor expected")
  end)

  it("starts uniform in +-1/sqrt(dim/3)", function()
    local queue = cld.losses.moco_queue { size = 300, dim = 12 }
    assert(queue.memory:abs():amax():item() <= 0.5 and queue.memory:abs():amax():item() > 0.49)
  end)

  it("is in its state", function()
    local queue = queue_of(keys(0, 4))
    queue:enqueue(keys(7, 3))
    local other = cld.losses.moco_queue { size = 4, dim = 1 }
    other:load_state_dict(queue:state_dict())
    other:enqueue(keys(1, 2))
    assert.same({ 2, 8, 9, 1 }, contents(other))
  end)

  it("takes a memory alone, in its own dtype, and goes on where it was", function()
    local queue = queue_of(keys(0, 4))
    queue:enqueue(keys(7, 3))
    queue:load_state_dict { memory = keys(20, 4):to "f64" }
    assert.equal("f32", queue.memory.dtype)
    assert.equal(3, queue.pointer:item())
    assert.same({ 20, 21, 22, 23 }, contents(queue))
  end)

  it("is as it was after a state that does not fit", function()
    local queue = queue_of(keys(0, 4))
    check.fails(function()
      queue:load_state_dict { memory = keys(20, 4), pointer = cld.tensor({ 4 }, "i64") }
    end, "moco_queue: the state's pointer is 4; expected 0 to 3")
    check.fails(function() queue:load_state_dict { memory = keys(20, 4), row = cld.ones(1) } end, "1 unexpected: row")
    check.fails(function() queue:load_state_dict { pointer = cld.tensor({ 1 }, "i64") } end, "1 missing: memory")
    check.fails(function() queue:load_state_dict { memory = keys(20, 5) } end, "1 of another shape: memory")
    assert.same({ 0, 1, 2, 3 }, contents(queue))
    assert.equal(0, queue.pointer:item())
  end)

  it("prints itself in a line", function()
    local queue = cld.losses.moco_queue { size = 4, dim = 3, temperature = 0.2, dtype = "f64" }
    assert.equal("moco_queue: 4 keys x 3, temperature 0.2, f64 on cpu", tostring(queue))
  end)

  it("says at once what it cannot be made of", function()
    local function fails(options, pattern)
      local message = check.fails(function() cld.losses.moco_queue(options) end, pattern)
      assert.matches("^spec/moco_queue_spec.lua:%d+: ", message)
    end
    fails(nil, "moco_queue: expected a table of options, got nil")
    fails({ size = 4, dim = 3, temperature = -1 }, "moco_queue: temperature is %-1; expected a number above 0")
    fails({ size = 4, dim = 3.5 }, "moco_queue: dim must be an integer of at least 1, got 3.5")
  end)

  it("says what does not fit", function()
    local queue = cld.losses.moco_queue { size = 4, dim = 3 }
    local q = cld.zeros({ 2, 3 })
    check.fails(function() queue:loss(q, cld.zeros({ 1, 3 })) end, "query is f32%[2, 3%], key f32%[1, 3%]")
    check.fails(function() queue:loss(cld.zeros({ 2, 5 }), q) end, "query is f32%[2, 5%], queue f32%[4, 3%]")
    check.fails(function() queue:enqueue(q, cld.zeros({ 2 })) end, "the condition as one element of u8, got f32%[2%]")
    check.fails(function() queue:enqueue(cld.zeros({ 2, 5 })) end, "keys is f32%[2, 5%], queue f32%[4, 3%]")
  end)
end)
