--- K-means as CLD defines it, and the CLD loss on it.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"

local function fixture(prefix, dtype)
  local all = cld.load "spec/fixtures/losses.safetensors"
  return function(name)
    local tensor = all[prefix .. name]
    return tensor.dtype == "f64" and tensor:to(dtype) or tensor
  end
end

describe("kmeans", function()
  for _, dtype in ipairs { "f64", "f32" } do
    it("agrees with PyTorch, " .. dtype, function()
      local entry = fixture("kmeans.", dtype)
      for _, case in ipairs { { 1, 1 }, { 4, 1 }, { 4, 5 }, { 17, 5 }, { 39, 3 } } do
        local labels, centroids = cld.losses.kmeans(entry "x", case[1], case[2])
        local name = ("%d.%d."):format(case[1], case[2])
        assert.equal("i64", labels.dtype)
        check.close(labels, entry(name .. "labels"))
        check.close(centroids, entry(name .. "centroids"))
      end
    end)

    it("gives the first of equal centroids, and zero vectors to empty clusters, " .. dtype, function()
      -- Rows 1 and 2 are equal: both choose cluster 0, and cluster 1 is empty.
      local labels, centroids = cld.losses.kmeans(cld.tensor({ { 3, 4 }, { 3, 4 }, { 5, 0 } }, dtype), 3, 1)
      assert.same({ 0, 0, 2 }, labels:totable())
      check.close(centroids, { { 3, 4 }, { 0, 0 }, { 5, 0 } })
    end)

    it("lets the zero vector of an empty cluster win points back, " .. dtype, function()
      -- Clusters (2, 0), (2, 0), (-2, 0): the second is empty after one iteration; row 4 is then nearest to zero.
      local x = cld.tensor({ { 2, 0 }, { 2, 0 }, { -2, 0 }, { 0.5, 0 } }, dtype)
      local once = cld.losses.kmeans(x, 3, 1)
      assert.same({ 0, 0, 2, 0 }, once:totable())
      local labels, centroids = cld.losses.kmeans(x, 3, 2)
      assert.same({ 0, 0, 2, 1 }, labels:totable())
      check.close(centroids, { { 2, 0 }, { 0.5, 0 }, { -2, 0 } })
    end)

    it("fills up with zero vectors where there are more clusters than rows, " .. dtype, function()
      -- (0.3, 0) is row 1 itself; (0, 0.1) is as far from the zero vectors 3 to 5 as from no other.
      local x = cld.tensor({ { 0.3, 0 }, { 0, 0.1 } }, dtype)
      local labels, centroids = cld.losses.kmeans(x, 5, 3)
      assert.same({ 0, 1 }, labels:totable())
      check.close(centroids, { { 0.3, 0 }, { 0, 0.1 }, { 0, 0 }, { 0, 0 }, { 0, 0 } })
    end)
  end

  it("finds ties in f32 that rounding could hide, at every place in the tiles", function()
    -- Each centroid twice: the second of a pair must never be chosen.
    local half = formula.uniform("pairs", { 37, 128 }, "f32")
    local x = cld.cat({ half, half, formula.uniform("others", { 101, 128 }, "f32") }, 1)
    local labels = cld.losses.kmeans(x, 74, 1):totable()
    for i, label in ipairs(labels) do
      assert(label < 37, ("row %d chose %d, whose twin is %d"):format(i, label, label - 37))
    end
  end)

  it("does not depend on the number of threads", function()
    local threads, x = cld.get_num_threads(), formula.uniform("x", { 257, 33 }, "f32")
    cld.set_num_threads(1)
    local labels, centroids = cld.losses.kmeans(x, 31, 5)
    cld.set_num_threads(3)
    local other_labels, other_centroids = cld.losses.kmeans(x, 31, 5)
    cld.set_num_threads(threads)
    check.close(other_labels, labels)
    check.close(other_centroids, centroids, { atol = 0, rtol = 0 })
  end)

  it("passes gradients through the last mean", function()
    check.gradcheck(function(x) return (select(2, cld.losses.kmeans(x, 4, 3))) end,
      { formula.uniform("x", { 11, 3 }, "f64") })
    check.gradcheck(function(x) return (select(2, cld.losses.kmeans(x, 7, 2))) end,
      { formula.uniform("x", { 5, 2 }, "f64") })
  end)

  it("says what does not fit", function()
    check.fails(function() cld.losses.kmeans(cld.zeros { 3 }, 2, 5) end, "expected x as f32 or f64 .*got f32%[3%]")
    check.fails(function() cld.losses.kmeans(cld.zeros({ 3, 2 }, "i64"), 2, 5) end, "got i64%[3, 2%]")
    check.fails(function() cld.losses.kmeans(cld.zeros { 3, 2 }, 0, 5) end, "0 clusters")
    check.fails(function() cld.losses.kmeans(cld.zeros { 3, 2 }, 2, 0) end,
      "kmeans: 0 iterations; expected 1 to 2147483647")
    check.fails(function() cld.losses.kmeans(cld.zeros { 3, 2 }, 2, 4294967297) end, "kmeans: 4294967297 iterations")
    check.fails(function() cld.losses.kmeans(cld.zeros { 0, 2 }, 2, 1) end, "no rows")
  end)
end)

describe("cld", function()
  local options = { clusters = 4, iterations = 5, temperature = 0.2 }

  -- The equation once more, in loops of f64: 80 rows, as the last batch of CIFAR at 256 has, in 128 clusters. All rows
  -- differ, so each is its own cluster from the first iteration on, and 48 clusters stay at zero.
  it("is the plain sum where there are more clusters than rows, f64 and f32", function()
    local rows, dim, clusters, temperature = 80, 8, 128, 0.2
    local g1 = formula.uniform("g1", { rows, dim }, "f64"):normalize()
    local g2 = (g1 + formula.uniform("noise", { rows, dim }, "f64") * 0.3):normalize()
    local a, b = g1:totable(), g2:totable()
    local function entropy(x, centres, i)
      local sum, own = clusters - rows, 0 -- exp(0) for each centroid at zero
      for j = 1, rows do
        local product = 0
        for d = 1, dim do product = product + x[i][d] * centres[j][d] end
        sum = sum + math.exp(product / temperature)
        if j == i then own = product / temperature end
      end
      return math.log(sum) - own
    end
    local expected = 0
    for i = 1, rows do expected = expected + (entropy(a, b, i) + entropy(b, a, i)) / (2 * rows) end
    for dtype, tolerance in pairs { f64 = 1e-12, f32 = 1e-5 } do
      local loss = cld.losses.cld(g1:to(dtype), g2:to(dtype),
        { clusters = clusters, iterations = 5, temperature = temperature })
      check.close(loss:item(), expected, { rtol = tolerance })
    end
  end)

  for dtype, tolerance in pairs { f64 = { atol = 1e-12, rtol = 1e-10 }, f32 = { atol = 1e-5, rtol = 1e-5 } } do
    for mode, detach in pairs { through = false, detached = true } do
      it(("agrees with PyTorch, gradient %s, %s"):format(mode, dtype), function()
        local entry = fixture("cld.", dtype)
        local g1, g2 = entry("g1"):requires_grad_(), entry("g2"):requires_grad_()
        local loss, accuracy = cld.losses.cld(g1, g2,
          { clusters = 4, iterations = 5, temperature = 0.2, detach_centroids = detach })
        check.close(loss, entry "loss", tolerance)
        check.close(accuracy:item(), entry("accuracy"):item(), { rtol = 1e-6 })
        assert.is_false(accuracy.requires_grad)
        loss:backward()
        check.close(g1.grad, entry(mode .. ".dg1"), tolerance)
        check.close(g2.grad, entry(mode .. ".dg2"), tolerance)
      end)
    end
  end

  it("has the gradient that central differences give", function()
    for _, shape in ipairs { { 10, 5 }, { 7, 3 }, { 3, 4 } } do -- the last has more clusters than rows
      check.gradcheck(function(g1, g2) return (cld.losses.cld(g1, g2, options)) end,
        { formula.uniform("g1", shape, "f64"), formula.uniform("g2", shape, "f64") })
    end
  end)

  it("scores 1 where the views agree and the groups are apart", function()
    local g = cld.tensor { { 1, 0 }, { 0, 1 }, { 1, 0 }, { 0, 1 } }
    local _, accuracy = cld.losses.cld(g, g, { clusters = 2 })
    assert.equal(1, accuracy:item())
  end)

  it("finds no row's group by a NaN, with fewer clusters than rows and with more", function()
    local g = cld.full({ 4, 2 }, 0 / 0)
    for _, clusters in ipairs { 2, 8 } do
      local _, accuracy = cld.losses.cld(g, g, { clusters = clusters })
      assert.equal(0, accuracy:item())
    end
  end)

  it("says what does not fit", function()
    local g = cld.zeros { 4, 3 }
    check.fails(function() cld.losses.cld(g, cld.zeros { 5, 3 }, options) end, "g1 is f32%[4, 3%], g2 f32%[5, 3%]")
    check.fails(function() cld.losses.cld(g, g, { cluster = 3 }) end, "'cluster'; did you mean 'clusters'")
    check.fails(function() cld.losses.cld(g, g, { iterations = 4294967297 }) end, "cld: 4294967297 iterations")
    for _, bad in ipairs { -1, 0, 0 / 0, 1 / 0 } do
      check.fails(function() cld.losses.cld(g, g, { temperature = bad }) end, "temperature is .*; expected a number")
    end
  end)
end)
