--- The weighted nearest-neighbour score: against PyTorch and brute force, its tie rule, its two steps, a memory in
-- parts.
local cld = require "cld"
local core = require "cld.core"
local check = require "spec.support.check"
local formula = require "spec.support.formula"

local functional, neighbours = core.losses, require "cld.eval.neighbours"

local function knn(...) return neighbours.scores("weighted_knn", ...) end

-- Plain Lua.
local function brute_force(memory, labels, queries, k, temperature, classes)
  local scores = {}
  for q, query in ipairs(queries) do
    local all = {}
    for row, m in ipairs(memory) do
      local similarity = 0
      for d = 1, #m do similarity = similarity + query[d] * m[d] end
      all[row] = { similarity = similarity, row = row }
    end
    table.sort(all, function(a, b)
      if a.similarity ~= b.similarity then return a.similarity > b.similarity end
      return a.row < b.row
    end)
    scores[q] = {}
    for c = 1, classes do scores[q][c] = 0 end
    for i = 1, math.min(k, #all) do
      local class = labels[all[i].row] + 1
      scores[q][class] = scores[q][class] + math.exp(all[i].similarity / temperature)
    end
  end
  return scores
end

-- Multiples of 1/8: products and sums are exact in f32, so that ties are ties.
local function grid(name, shape, dtype) return ((formula.uniform(name, shape, "f64") * 8):floor() / 8):to(dtype) end

describe("weighted_knn", function()
  for dtype, rtol in pairs { f64 = 1e-10, f32 = 1e-5 } do
    it("agrees with PyTorch, " .. dtype, function()
      local all = cld.load "spec/fixtures/losses.safetensors"
      local function entry(name) return all["knn." .. name]:to(dtype) end
      local scores = knn(entry "memory", all["knn.labels"], entry "queries", { k = 7, temperature = 0.1, classes = 3 })
      check.close(scores, entry "scores", { rtol = rtol })
    end)

    it("takes the first of equally similar rows, across blocks, " .. dtype, function()
      for _, case in ipairs { { 2500, 3, 40 }, { 1024, 2, 1 }, { 33, 3, 33 }, { 5, 3, 200 }, { 1025, 1, 1024 } } do
        local size, dim, k = table.unpack(case)
        local memory, queries = grid("memory", { size, dim }, dtype), grid("queries", { 6, dim }, dtype)
        local labels = {}
        for i = 1, size do labels[i] = (i * i) % 7 end
        local scores = knn(memory, cld.tensor(labels, "i64"), queries, { k = k, temperature = 0.5, classes = 7 })
        check.close(scores, brute_force(memory:totable(), labels, queries:totable(), k, 0.5, 7), { rtol = rtol })
      end
    end)
  end

  it("scores more queries than a block, the same on any number of threads", function()
    local memory, queries = grid("memory", { 90, 3 }, "f32"), grid("queries", { 700, 3 }, "f32")
    local labels, threads = {}, cld.get_num_threads()
    for i = 1, 90 do labels[i] = i % 4 end
    local expected = brute_force(memory:totable(), labels, queries:totable(), 9, 1, 4)
    for _, n in ipairs { 1, 2, 5 } do
      cld.set_num_threads(n)
      check.close(knn(memory, cld.tensor(labels, "i64"), queries, { k = 9, temperature = 1, classes = 4 }), expected,
        { rtol = 1e-5 })
    end
    cld.set_num_threads(threads)
  end)

  it("takes the first of equal rows, wherever in the blocks they lie", function()
    for _, case in ipairs { { 300, 64 }, { 1500, 33 }, { 700, 128 } } do
      local rows, dim = table.unpack(case)
      local half = formula.uniform("unit", { rows, dim }, "f32"):normalize()
      local labels = cld.cat({ cld.zeros({ rows }, "i64"), cld.ones({ rows }, "i64") }, 1)
      local memory = cld.cat({ half, half }, 1)
      for _, k in ipairs { 1, 3, 7 } do -- the nearest, its twin, the next one, ...: the last one's twin stays outside
        local scores = knn(memory, labels, half, { k = k, temperature = 0.1, classes = 2 })
        local first, second = scores:narrow(2, 1, 1), scores:narrow(2, 2, 1)
        assert.equal(rows, first:gt(second):sum():item())
      end
      local pairs_of = knn(memory, labels, half, { k = 8, temperature = 0.1, classes = 2 })
      check.close(pairs_of:narrow(2, 1, 1), pairs_of:narrow(2, 2, 1), { atol = 0, rtol = 0 })
    end
  end)

  it("takes the first rows of a memory that is all alike", function()
    local row = formula.uniform("row", { 1, 37 }, "f32")
    local memory, labels = row:expand(5000, 37), cld.ones({ 5000 }, "i64")
    labels:narrow(1, 1, 10):fill_(0)
    local scores = knn(memory, labels, row, { k = 10, temperature = 1, classes = 2 })
    assert(scores[1][1]:item() > 0)
    assert.equal(0, scores[1][2]:item())
  end)

  it("keeps the order of the classes at any temperature", function()
    for _, dtype in ipairs { "f32", "f64" } do
      local memory = cld.tensor({ { 1, 0 }, { 0.8, 0.6 }, { 0.8, -0.6 }, { -1, 0 } }, dtype)
      local queries = cld.tensor({ { 1, 0 }, { -1, 0 }, { 0, 1 } }, dtype)
      local labels = cld.tensor({ 0, 1, 1, 2 }, "i64")
      for _, t in ipairs { 0.012, 0.011, 1e-3, 1e-6, 1e-300 } do
        local scores = knn(memory, labels, queries, { k = 4, temperature = t, classes = 3 })
        assert.equal(6 + 3, scores:isfinite():sum():item())
        assert.same({ 0, 2, 1 }, scores:argmax(2):totable())
        assert(scores:amax(2):amin():item() >= 1)
      end
      -- All far away: without a scale each score would be 0.
      local scores = knn(memory:narrow(1, 1, 3), labels:narrow(1, 1, 3), queries:narrow(1, 2, 1),
        { k = 3, temperature = 1e-3, classes = 2 })
      assert.same({ 1 }, scores:argmax(2):totable())
    end
  end)

  it("counts the classes where none are given", function()
    local scores = knn(cld.ones { 3, 2 }, cld.tensor({ 0, 4, 2 }, "i64"), cld.ones { 1, 2 }, {})
    assert.same({ 1, 5 }, scores.shape)
  end)

  it("needs memory for blocks, not for all similarities", function()
    local memory, queries = formula.uniform("m", { 20000, 4 }, "f32"), formula.uniform("q", { 2000, 4 }, "f32")
    local labels = cld.zeros({ 20000 }, "i64")
    local before = cld.memory()
    knn(memory, labels, queries, { k = 200, temperature = 0.1, classes = 2 })
    local matrix = 20000 * 2000 * 4
    assert(cld.memory().peak <= math.max(before.peak, before.in_use + matrix // 5))
  end)

  it("says what does not fit", function()
    local memory, labels = cld.ones { 3, 2 }, cld.tensor({ 0, 1, 2 }, "i64")
    check.fails(function() knn(memory, labels, cld.ones { 2, 4 }, {}) end,
      "weighted_knn: memory is f32%[3, 2%], queries f32%[2, 4%]")
    check.fails(function() knn(memory, cld.zeros({ 2 }, "i64"), memory, {}) end,
      "weighted_knn: expected labels as i64%[3%].*got i64%[2%]")
    check.fails(function() knn(memory, labels, memory, { classes = 2 }) end,
      "label 2 is none of 2 classes; expected 0 to 1")
    check.fails(function() knn(memory, labels, memory, { k = 0 }) end, "k must be a positive integer, got 0")
    check.fails(function() knn(memory, cld.tensor({ 0, 1, math.maxinteger }, "i64"), memory, {}) end,
      "the largest label is 9223372036854775807")
    check.fails(function() knn(memory, labels, memory, { temperature = 0 }) end, "the temperature is 0")
    check.fails(function() knn(cld.zeros { 0, 2 }, cld.zeros({ 0 }, "i64"), memory, {}) end, "the memory has no rows")
    check.fails(function() knn(memory, labels, cld.zeros { 0, 2 }, {}) end, "there are no queries")
  end)
end)

describe("nearest", function()
  local inf, nan = math.huge, 0 / 0

  -- Plain Lua: the rows of the k largest, of equal ones the first, in their order; then -inf and row 0.
  local function reference(memory, queries, k)
    local values, rows = {}, {}
    for q, query in ipairs(queries) do
      local all = {}
      for row, m in ipairs(memory) do
        local similarity = 0
        for d = 1, #m do similarity = similarity + query[d] * m[d] end
        if similarity > -inf then all[#all + 1] = { similarity = similarity, row = row - 1 } end
      end
      table.sort(all, function(a, b)
        if a.similarity ~= b.similarity then return a.similarity > b.similarity end
        return a.row < b.row
      end)
      local best = table.move(all, 1, math.min(k, #all), 1, {})
      table.sort(best, function(a, b) return a.row < b.row end)
      values[q], rows[q] = {}, {}
      for i = 1, k do
        values[q][i], rows[q][i] = best[i] and best[i].similarity or -inf, best[i] and best[i].row or 0
      end
    end
    return values, rows
  end

  local function check_same(memory, queries, k)
    local values, rows = functional.nearest(memory, queries, k)
    local expected, expected_rows = reference(memory:totable(), queries:totable(), k)
    assert.same(expected_rows, rows:totable())
    check.close(values, expected, { atol = 0, rtol = 0 })
  end

  for _, dtype in ipairs { "f32", "f64" } do
    it("lists the k nearest in the order of the rows, the first of equals, " .. dtype, function()
      for _, case in ipairs { { 1500, 3, 40 }, { 1030, 1, 1 }, { 33, 2, 33 }, { 700, 1, 650 }, { 1, 1, 1 } } do
        local size, dim, k = table.unpack(case)
        check_same(grid("memory", { size, dim }, dtype), grid("queries", { 5, dim }, dtype), k)
      end
    end)

    it("has no neighbour by NaN or -infinity, and fills up, " .. dtype, function()
      local memory, queries = grid("memory", { 30, 3 }, dtype), cld.tensor({ { 0.5, 1, 2 }, { nan, 1, 1 } }, dtype)
      memory[2][1], memory[5][3], memory[9][2] = nan, -inf, inf
      for _, k in ipairs { 1, 4, 28, 29, 30 } do check_same(memory, queries, k) end
    end)

    it("takes 0 and -0 as equal, " .. dtype, function()
      local _, rows = functional.nearest(cld.tensor({ { -1 }, { 1 }, { -1 } }, dtype), cld.tensor({ { 0 } }, dtype), 1)
      assert.same({ { 0 } }, rows:totable())
    end)
  end

  it("says what does not fit", function()
    local x = cld.ones(3, 2)
    for _, k in ipairs { 0, 4 } do
      check.fails(function() functional.nearest(x, x, k) end, "k is " .. k .. "; expected 1 to 3")
    end
  end)
end)

describe("the vote", function()
  local nan, inf = 0 / 0, math.huge

  for _, dtype in ipairs { "f32", "f64" } do
    it("is of the k largest of a list, the first of equals, " .. dtype, function()
      local similarities = cld.tensor({ { 1, 2, 1, 3, 1, nan, -inf }, { nan, 0, -inf, nan, nan, nan, 0 } }, dtype)
      local labels = cld.tensor({ { 0, 1, 1, 2, 2, 0, 0 }, { 0, 1, 1, 2, 2, 0, 2 } }, "i64")
      local e = math.exp
      for k, expected in pairs {
        { { 0, 0, e(3) }, { 0, 1, 0 } },
        { { 0, e(2), e(3) }, { 0, 1, 1 } },
        { { e(1), e(2), e(3) }, { 0, 1, 1 } },
        { { e(1), e(2) + e(1), e(3) }, { 0, 1, 1 } },
        [7] = { { e(1), e(2) + e(1), e(3) + e(1) }, { 0, 1, 1 } },
      } do
        local scores = functional.vote(similarities, labels, { k = k, classes = 3, temperature = 1 })
        check.close(scores, expected, { atol = 0, rtol = dtype == "f32" and 1e-6 or 1e-12 })
      end
    end)

    it("of the lists of a memory's parts is that of the whole, to the last bit, " .. dtype, function()
      for _, make in ipairs { grid, formula.uniform } do
        local memory, queries = make("memory", { 301, 4 }, dtype), make("queries", { 9, 4 }, dtype)
        local labels = cld.arange(0, 301, 1):to "i64":remainder(5)
        for _, k in ipairs { 1, 20, 90 } do
          local lists, of, begin = {}, {}, 0
          for i, rows in ipairs { 100, 90, 111 } do
            local index
            lists[i], index = functional.nearest(memory:narrow(1, begin + 1, rows), queries, k)
            of[i] = labels:index_select(1, (index + begin):flatten()):reshape(index.shape)
            begin = begin + rows
          end
          local scores = functional.vote(cld.cat(lists, 2), cld.cat(of, 2), { k = k, classes = 5, temperature = 0.1 })
          assert.same(knn(memory, labels, queries, { k = k, classes = 5 }):totable(), scores:totable())
        end
      end
    end)
  end

  it("says what does not fit", function()
    local s, labels, good = cld.ones(2, 3), cld.zeros({ 2, 3 }, "i64"), { k = 3, classes = 2, temperature = 1 }
    assert.same({ 2, 2 }, functional.vote(s, labels, good).shape)
    check.fails(function() functional.vote(s, labels, { k = 1, classes = 2 }) end, "the temperature is 0")
    check.fails(function() functional.vote(s, labels, { k = 4, classes = 2, temperature = 1 }) end,
      "k is 4 for 3 similarities")
    check.fails(function() functional.vote(s, labels + 2, good) end, "entry 1 of labels is 2; expected 0 to 1")
    check.fails(function() functional.vote(s, cld.zeros({ 2 }, "i64"), good) end, "expected i64 labels.*got i64%[2%]")
  end)
end)
