--- The memory bank: full softmax and NCE, against PyTorch, central differences and the plain f64 loops.
local cld = require "cld"
local core = require "cld.core"
local check = require "spec.support.check"
local formula = require "spec.support.formula"

local function fixture(dtype, prefix)
  local found = {}
  for name, tensor in pairs(cld.load "spec/fixtures/losses.safetensors") do
    if name:sub(1, #prefix) == prefix then
      found[name:sub(#prefix + 1)] = tensor.dtype == "f64" and tensor:to(dtype) or tensor
    end
  end
  return found
end

local function bank_of(memory, options)
  options.size, options.dim, options.dtype = memory.shape[1], memory.shape[2], memory.dtype
  local bank = cld.losses.memory_bank(options)
  bank:load_state_dict { memory = memory }
  return bank
end

local function indices(list) return cld.tensor(list, "i64") end

local tolerances = { f64 = { atol = 1e-12, rtol = 1e-10 }, f32 = { atol = 2e-6, rtol = 1e-5 } }

describe("memory_bank", function()
  for _, dtype in ipairs { "f64", "f32" } do
    it("agrees with PyTorch over two views, then updates view 2's rows and view 1's, " .. dtype, function()
      local x = fixture(dtype, "bank.")
      local bank = bank_of(x.memory, { momentum = 0.5, temperature = 0.1 })
      x.f1:requires_grad_()
      x.f2:requires_grad_()
      local loss = (bank:loss(x.f1, x.index) + bank:loss(x.f2, x.index)) / 2
      check.close(loss, x.loss, tolerances[dtype])
      check.close(bank.memory, x.memory)
      loss:backward()
      check.close(x.f1.grad, x.df1, tolerances[dtype])
      check.close(x.f2.grad, x.df2, tolerances[dtype])
      check.close(bank.memory, x.updated, tolerances[dtype])
    end)

    it("does NCE as PyTorch, with the first batch's Z, " .. dtype, function()
      local x = fixture(dtype, "nce.")
      local z = cld.zeros({ 1 }, dtype)
      for _, batch in ipairs { "1", "2" } do
        local f = x["f" .. batch]:requires_grad_()
        local memory = x.memory + 0 -- its own: backward updates it
        local loss = core.losses.bank_nce_loss(f, memory, x.index, x.negatives, z, 0.1, 0.5)
        check.close(loss, x["loss" .. batch], { atol = 1e-5, rtol = tolerances[dtype].rtol })
        check.close(z, x.z, { rtol = 1e-6 })
        loss:backward()
        check.close(f.grad, x["df" .. batch], { atol = tolerances[dtype].atol * 100, rtol = tolerances[dtype].rtol })
      end
    end)
  end

  it("has the gradient that central differences give", function()
    for _, shape in ipairs { { 1, 1, 1 }, { 3, 5, 7 }, { 4, 2, 600 } } do
      local rows, dim, size = table.unpack(shape)
      local memory = formula.uniform("memory", { size, dim }, "f64")
      local index = {}
      for i = 1, rows do index[i] = i * 7 % size end
      check.gradcheck(function(f)
        return bank_of(memory, { momentum = 0.5, temperature = 0.2 }):loss(f, indices(index))
      end, { formula.uniform("f", { rows, dim }, "f64") })
      local negatives = core.losses.sample_negatives(cld.tensor(3, "i64"), rows, 5, size)
      check.gradcheck(function(f)
        return core.losses.bank_nce_loss(f, memory + 0, indices(index), negatives, cld.full({ 1 }, 2.5, "f64"), 0.2, 1)
      end, { formula.uniform("f", { rows, dim }, "f64") })
    end
  end)

  it("streams f32 over blocks and threads to what the f64 loops give", function()
    local threads = cld.get_num_threads()
    for _, size in ipairs { 1, 511, 512, 513, 1700 } do
      local memory, f = formula.uniform("memory", { size, 19 }, "f64"), formula.uniform("f", { 9, 19 }, "f64")
      local index = {}
      for i = 1, 9 do index[i] = i * i * 37 % size end
      local function both(dtype)
        local g = f:to(dtype):detach():requires_grad_()
        local loss = bank_of(memory:to(dtype), { momentum = 1, temperature = 0.07 }):loss(g, indices(index))
        loss:backward()
        return loss, g.grad
      end
      local loss, gradient = both "f64"
      for _, n in ipairs { 1, 2, 3 } do
        cld.set_num_threads(n)
        local fast_loss, fast_gradient = both "f32"
        check.close(fast_loss, loss, { atol = 1e-5, rtol = 1e-5 })
        check.close(fast_gradient, gradient, { atol = 1e-5, rtol = 1e-5 })
        local again = select(2, both "f32")
        check.close(again, fast_gradient, { atol = 0, rtol = 0 })
      end
    end
    cld.set_num_threads(threads)
  end)

  it("never holds a batch x size matrix", function()
    local bank = cld.losses.memory_bank { size = 100000, dim = 4 }
    local f = formula.uniform("f", { 256, 4 }, "f32"):requires_grad_()
    local index = cld.zeros({ 256 }, "i64")
    local before = cld.memory()
    bank:loss(f, index):backward()
    local matrix = 256 * 100000 * 4
    assert(cld.memory().peak <= math.max(before.peak, before.in_use + matrix // 5))
  end)

  it("updates rows only when a backward has run", function()
    local bank = cld.losses.memory_bank { size = 6, dim = 3, momentum = 0.25 }
    local before = bank.memory:totable()
    local f = formula.uniform("f", { 2, 3 }, "f32")
    bank:loss(f, indices { 1, 4 })
    bank:loss(f:requires_grad_(), indices { 1, 4 })
    cld.no_grad(function() return bank:loss(f, indices { 1, 4 }) end)
    check.close(bank.memory, before, { atol = 0, rtol = 0 })
    bank:loss(f, indices { 1, 4 }):backward()
    local features = f:detach():totable()
    for row, i in pairs { [2] = 1, [5] = 2 } do
      local length = 0
      for d = 1, 3 do
        before[row][d] = 0.25 * before[row][d] + 0.75 * features[i][d]
        length = length + before[row][d] ^ 2
      end
      for d = 1, 3 do before[row][d] = before[row][d] / length ^ 0.5 end
    end
    check.close(bank.memory, before)
  end)

  it("updates a row that occurs twice twice, in order", function()
    local half = 0.5 ^ 0.5 -- normalize(.5 (1, 0) + .5 (0, 1)) = (half, half), then the second
    local x, y = 0.5 * half + 0.5, 0.5 * half
    local length = (x * x + y * y) ^ 0.5
    for _, dtype in ipairs { "f64", "f32" } do
      for _, negatives in ipairs { 0, 2 } do
        local memory = cld.tensor({ { 0.6, 0.8 }, { 1, 0 } }, dtype)
        local bank = bank_of(memory, { momentum = 0.5, temperature = 1, negatives = negatives })
        local f = cld.tensor({ { 0, 1 }, { 1, 0 } }, dtype):requires_grad_()
        bank:loss(f, indices { 1, 1 }):backward()
        check.close(bank.memory, { { 0.6, 0.8 }, { x / length, y / length } })
      end
    end
  end)

  it("starts uniform in +-1/sqrt(dim/3), not normalized", function()
    local bank = cld.losses.memory_bank { size = 500, dim = 12 }
    local bound = 1 / math.sqrt(12 / 3)
    assert(bank.memory:amax():item() <= bound and bank.memory:amax():item() > 0.99 * bound)
    assert(bank.memory:amin():item() >= -bound and bank.memory:amin():item() < -0.99 * bound)
    local mean = bank.memory:mean():item()
    assert(math.abs(mean) < 0.02)
  end)

  it("draws negatives that depend on the draw alone", function()
    local draws = cld.tensor(0, "i64")
    local first = core.losses.sample_negatives(draws, 3, 400, 10):totable()
    assert.are_not.same(first, core.losses.sample_negatives(draws, 3, 400, 10):totable())
    assert.equal(2, draws:item()) -- it has counted
    check.close(core.losses.sample_negatives(draws:zero_(), 3, 400, 10), first)
    local counts = {}
    for _, row in ipairs(first) do
      for _, j in ipairs(row) do counts[j] = (counts[j] or 0) + 1 end
    end
    for j = 0, 9 do
      assert(counts[j] > 70 and counts[j] < 180, ("row %d was drawn %d times of 1200"):format(j, counts[j]))
    end
  end)

  it("goes on bit for bit from its state", function()
    local options = { size = 9, dim = 4, negatives = 6 }
    local one, two = cld.losses.memory_bank(options), cld.losses.memory_bank(options)
    local function step(bank, name)
      local loss = bank:loss(formula.uniform(name, { 3, 4 }, "f32"):requires_grad_(), indices { 8, 0, 3 })
      loss:backward()
      return loss:item()
    end
    step(one, "a")
    assert(one.normalizer:item() > 0)
    two:load_state_dict(one:state_dict())
    assert.equal(step(one, "b"), step(two, "b"))
    check.close(two.memory, one.memory, { atol = 0, rtol = 0 })
    check.close(two.normalizer, one.normalizer, { atol = 0, rtol = 0 })
  end)

  it("measures Z anew once it is reset, of the rows as they are then", function()
    local options = { size = 3, dim = 2, negatives = 2, temperature = 0.5 }
    local bank, alike = cld.losses.memory_bank(options), cld.tensor { { 0.6, 0.8 }, { 0.6, 0.8 }, { 0.6, 0.8 } }
    bank:loss(cld.tensor { { 0.6, 0.8 } }, indices { 1 })
    bank:load_state_dict { memory = alike }
    bank:reset_normalizer()
    bank:loss(cld.tensor { { 0.6, 0.8 } }, indices { 1 })
    check.close(bank.normalizer, { 3 * math.exp(2) }, { rtol = 1e-5 })
    assert.is_nil(cld.losses.memory_bank({ size = 3, dim = 2 }):reset_normalizer())
  end)

  it("takes a memory alone, and goes on with its own Z and draws", function()
    local bank = cld.losses.memory_bank { size = 3, dim = 2, negatives = 2 }
    local memory = cld.tensor { { 1, 0 }, { 0, 1 }, { 0.6, 0.8 } }
    bank:load_state_dict { memory = memory }
    check.close(bank.memory, memory, { atol = 0, rtol = 0 })
    assert.equal(0, bank.draws:item())
    bank:loss(cld.tensor { { 0, 1 } }, indices { 1 })
    local z = bank.normalizer:item()
    bank:load_state_dict { memory = memory }
    assert.equal(1, bank.draws:item())
    assert.equal(z, bank.normalizer:item())
    check.fails(function() bank:load_state_dict { normalizer = bank.normalizer } end, "1 missing: memory")
  end)

  it("keeps its own dtype, whatever that of the state", function()
    local rows = { { 1, 2 }, { 3, 4 }, { 5, 6 } }
    for _, dtype in ipairs { "f32", "f64" } do
      local bank = cld.losses.memory_bank { size = 3, dim = 2, negatives = 1, dtype = dtype }
      for _, given in ipairs { "f64", "f32", "bf16" } do
        bank:load_state_dict { memory = cld.tensor(rows, given), normalizer = cld.tensor({ 2.5 }, given) }
        assert.same({ dtype, dtype }, { bank.memory.dtype, bank.normalizer.dtype })
        assert.same(rows, bank.memory:totable())
        assert.equal(2.5, bank.normalizer:item())
      end
    end
  end)

  it("says what does not fit", function()
    local bank = cld.losses.memory_bank { size = 5, dim = 3 }
    local f = cld.zeros({ 2, 3 })
    check.fails(function() bank:loss(f, indices { 0, 5 }) end,
      "memory_bank_spec.lua:%d+: .*entry 2 of index is 5; expected 0 to 4")
    check.fails(function() bank:loss(f, indices { -1, 0 }) end, "entry 1 of index is %-1")
    check.fails(function() bank:loss(cld.zeros({ 2, 4 }), indices { 0, 1 }) end,
      "memory_bank: features is f32%[2, 4%], memory f32%[5, 3%]")
    check.fails(function() bank:loss(cld.zeros({ 2, 3 }, "f64"), indices { 0, 1 }) end, "f64%[2, 3%], memory f32")
    check.fails(function() bank:loss(f, indices { 0 }) end, "index as i64%[2%].*got i64%[1%]")
    check.fails(function() bank:loss(f, cld.zeros { 2 }) end, "got f32%[2%]")
    check.fails(function() bank:loss(cld.zeros({ 0, 3 }), cld.zeros({ 0 }, "i64")) end, "no rows")
    check.fails(function() cld.losses.memory_bank { size = 5, dims = 3 } end, "'dims'; did you mean 'dim'")
    check.fails(function() cld.losses.memory_bank { size = 5 } end, "dim must be an integer of at least 1, got nil")
    check.fails(function() bank:load_state_dict { memory = cld.zeros({ 5, 2 }) } end,
      "memory %(%[5, 3%] here, %[5, 2%] in the state%)")
    check.fails(function() bank:load_state_dict {} end, "1 missing: memory")
    check.fails(function() bank:load_state_dict { memory = bank.memory, pointer = bank.memory } end,
      "1 unexpected: pointer")
  end)

  it("prints itself in a line", function()
    local settings = { size = 4, dim = 3, temperature = 0.07 }
    assert.equal("memory_bank: 4 rows x 3, temperature 0.07, f32 on cpu; momentum 0.5, all rows",
      tostring(cld.losses.memory_bank(settings)))
    settings.negatives = 2
    assert.equal("memory_bank: 4 rows x 3, temperature 0.07, f32 on cpu; momentum 0.5, 2 negatives",
      tostring(cld.losses.memory_bank(settings)))
  end)

  it("says at once what it cannot be made of", function()
    local function fails(options, pattern)
      local message = check.fails(function() cld.losses.memory_bank(options) end, pattern)
      assert.matches("^spec/memory_bank_spec.lua:%d+: ", message)
    end
    fails(nil, "memory_bank: expected a table of options, got nil")
    fails({ size = 5 }, "memory_bank: dim must be an integer of at least 1, got nil")
    fails({ size = 0, dim = 2 }, "memory_bank: size must be an integer of at least 1, got 0")
    for _, bad in ipairs { 0, -1, 1 / 0, 0 / 0, "x" } do
      fails({ size = 5, dim = 3, temperature = bad }, "memory_bank: temperature is .*; expected a number above 0")
    end
    for _, bad in ipairs { 5, -0.1, 0 / 0 } do
      fails({ size = 5, dim = 3, momentum = bad }, "memory_bank: momentum is .*; expected 0 to 1")
    end
    fails({ size = 5, dim = 3, negatives = -1 }, "memory_bank: negatives must be an integer of at least 0, got %-1")
    fails({ size = 5, dim = 3, dtype = "i64" }, "memory_bank: dtype is i64; expected 'f32' or 'f64'")
  end)
end)
