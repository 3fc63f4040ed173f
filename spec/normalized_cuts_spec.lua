--- Groups by normalized cuts, and the CLD loss on them (fixtures/make_normalized_cuts.py).
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"

local cut = cld.losses.normalized_cuts
local fixture = cld.load "spec/fixtures/normalized_cuts.safetensors"
local close = { f64 = { atol = 1e-12, rtol = 1e-10 }, f32 = { atol = 2e-6, rtol = 1e-5 } }
local group_options = { grouping = "ncut", eigenvectors = 4, clusters = 5, iterations = 5, temperature = 0.2 }

local function with(options, more)
  local all = {}
  for name, value in pairs(options) do all[name] = value end
  for name, value in pairs(more) do all[name] = value end
  return all
end

-- Rows near two lines that are at right angles, on either side of them; the first two lie on opposite sides of one.
local function two_lines(dtype)
  local rows = {}
  for i = 1, 20 do
    local side, off = i % 2 == 0 and 1 or -1, 0.02 * ((i * 7) % 5 - 2)
    rows[i] = (i <= 2 or i % 3 == 0) and { side, off } or { off, side }
  end
  return cld.tensor(rows, dtype)
end

-- Do rows have one label where both lie near one line, and two where not?
local function are_told_apart(x, labels)
  local rows, list = x:totable(), labels:totable()
  local of_first = list[1]
  for i, row in ipairs(rows) do
    if (math.abs(row[1]) > 0.5) ~= (list[i] == of_first) then return false end
  end
  return true
end

describe("normalized_cuts", function()
  for dtype, limits in pairs(close) do
    for _, case in ipairs { "lines", "random", "few", "many" } do
      it(("is what its definition gives: %s, %s"):format(case, dtype), function()
        local k = fixture[case .. ".k"]:totable()
        local labels, centroids, values = cut(fixture[case .. ".x"]:to(dtype),
          { eigenvectors = k[1], clusters = k[2], iterations = k[3] })
        assert.equal("i64", labels.dtype)
        check.close(labels, fixture[case .. ".labels"])
        check.close(centroids, fixture[case .. ".centroids"]:to(dtype), limits)
        check.close(values, fixture[case .. ".values"]:to(dtype), limits)
      end)
    end

    it("tells lines apart where k-means from the first rows does not, " .. dtype, function()
      local x = two_lines(dtype)
      assert.is_true(are_told_apart(x, (cut(x, { eigenvectors = 2, clusters = 2, iterations = 10 }))))
      assert.is_false(are_told_apart(x, (cld.losses.kmeans(x, 2, 10))))
    end)
  end

  it("does not depend on the rows' lengths and sides", function()
    local x = fixture["lines.x"]
    local factors = (cld.arange(1, #x + 1):to "f64" * 1.3):sin():unsqueeze(2) * 5
    local options = { eigenvectors = 5, clusters = 4, iterations = 5 }
    local labels, _, values = cut(x * factors, options)
    check.close(labels, fixture["lines.labels"])
    check.close(values, fixture["lines.values"], { atol = 1e-12, rtol = 0 })
  end)

  it("has as many eigenvalues 0 as there are parts that nothing joins", function()
    local x = cld.zeros({ 12, 6 }, "f64")
    for i = 1, 12 do x[{ i, (i - 1) % 3 * 2 + 1 }], x[{ i, (i - 1) % 3 * 2 + 2 }] = 1, i / 10 end
    local labels, _, values = cut(x, { eigenvectors = 3, clusters = 3 })
    check.close(values, { 0, 0, 0 }, { atol = 1e-14 })
    assert.same({ 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2 }, labels:totable())
  end)

  it("takes as many eigenvectors as clusters if none are asked for, and sigma as the authors' code does", function()
    local x = fixture["random.x"]
    local labels, centroids, values = cut(x, { eigenvectors = 7, clusters = 7 })
    for _, options in ipairs { { clusters = 7 }, { clusters = 7, sigma = 0.5 } } do
      local again, means, same = cut(x, options)
      check.close(again, labels)
      check.close(means, centroids, { atol = 0, rtol = 0 })
      check.close(same, values, { atol = 0, rtol = 0 })
    end
  end)

  it("keeps rows that are similar to none together", function()
    local x = cld.cat({ fixture["lines.x"], cld.zeros({ 3, 6 }, "f64") }, 1)
    local labels, centroids, values = cut(x, { eigenvectors = 4, clusters = 5 })
    local list = labels:totable()
    assert.same({ list[25], list[25] }, { list[26], list[27] })
    check.close(values, fixture["lines.values"][{ { 1, 4 } }], { atol = 1e-12 })
    assert.is_true(centroids:isfinite():all():item() == 1)
    local _, _, alone = cut(cld.eye(3, "f64"), { clusters = 2, eigenvectors = 3 })
    check.close(alone, { 1, 1, 1 })
    local _, centre = cut(cld.tensor({ { 3, 4 } }, "f64"), { clusters = 1 })
    check.close(centre, { { 3, 4 } })
  end)

  it("makes NaN of what is not finite, and no error", function()
    for _, bad in ipairs { 0 / 0, math.huge } do
      local x = fixture["lines.x"]:clone()
      x[{ 3, 2 }] = bad
      local labels, _, values = cut(x, { eigenvectors = 2, clusters = 3 })
      assert.equal(0, labels:abs():sum():item())
      assert.is_true(values:isnan():all():item() == 1)
      local loss = cld.losses.cld(x, x, with(group_options, {}))
      assert.is_true(loss:item() ~= loss:item())
    end
  end)

  it("passes gradients through the means alone", function()
    check.gradcheck(function(x) return (select(2, cut(x, { eigenvectors = 3, clusters = 4 }))) end,
      { formula.uniform("x", { 11, 4 }, "f64") })
    local labels, _, values = cut(formula.uniform("x", { 11, 4 }, "f64"):requires_grad_(), { clusters = 4 })
    assert.is_false(labels.requires_grad or values.requires_grad)
  end)

  it("does not depend on the number of threads", function()
    local threads, x = cld.get_num_threads(), formula.uniform("x", { 130, 20 }, "f32")
    cld.set_num_threads(1)
    local labels, centroids, values = cut(x, { eigenvectors = 40, clusters = 20 })
    cld.set_num_threads(3)
    local again, same, others = cut(x, { eigenvectors = 40, clusters = 20 })
    cld.set_num_threads(threads)
    check.close(again, labels)
    check.close(same, centroids, { atol = 0, rtol = 0 })
    check.close(others, values, { atol = 1e-6, rtol = 0 })
  end)

  it("says what does not fit", function()
    local x = cld.ones { 4, 3 }
    check.fails(function() cut(cld.zeros { 3 }, { clusters = 2 }) end, "normalized_cuts: expected x as f32 or f64")
    check.fails(function() cut(cld.zeros { 0, 3 }, { clusters = 2 }) end, "normalized_cuts: x has no rows")
    check.fails(function() cut(x, { clusters = 0 }) end, "normalized_cuts: 0 clusters")
    check.fails(function() cut(x, { iterations = 0 }) end, "normalized_cuts: 0 iterations")
    check.fails(function() cut(x, { eigenvectors = -1 }) end, "normalized_cuts: %-1 eigenvectors; expected at least 1")
    check.fails(function() cut(x, { sigma = 0 }) end, "normalized_cuts: sigma is 0; expected a number above 0")
    check.fails(function() cut(x, { eigenvector = 2 }) end, "did you mean 'eigenvectors'")
  end)
end)

describe("cld with normalized cuts", function()
  for dtype, limits in pairs(close) do
    for name, more in pairs { cld = {}, blocks = { eigenvectors = 7, block = 7 } } do
      it(("agrees with PyTorch: %s, %s"):format(name, dtype), function()
        local g1 = fixture["cld.g1"]:clone():to(dtype):requires_grad_()
        local g2 = fixture["cld.g2"]:clone():to(dtype):requires_grad_()
        local loss = cld.losses.cld(g1, g2, with(group_options, more))
        check.close(loss, fixture[name .. ".loss"]:to(dtype), limits)
        loss:backward()
        check.close(g1.grad, fixture[name .. ".dg1"]:to(dtype), limits)
        check.close(g2.grad, fixture[name .. ".dg2"]:to(dtype), limits)
      end)
    end
  end

  it("has the gradient that central differences give", function()
    check.gradcheck(function(g1, g2) return (cld.losses.cld(g1, g2, group_options)) end,
      { fixture["cld.g1"], fixture["cld.g2"] })
  end)

  it("counts groups without a row, and takes detached centroids", function()
    local g = fixture["cld.g1"]
    local _, accuracy, empty = cld.losses.cld(g, g, with(group_options, { detach_centroids = true, clusters = 30 }))
    check.close(empty:item(), 0, { atol = 1e-6 })
    assert.equal(1, accuracy:item())
  end)

  it("says what does not fit", function()
    local g = cld.ones { 4, 3 }
    check.fails(function() cld.losses.cld(g, g, { grouping = "cuts" }) end,
      "cld: grouping must be 'kmeans' or 'ncut', got 'cuts'")
    check.fails(function() cld.losses.cld(g, g, { eigenvectors = -2 }) end,
      "cld: %-2 eigenvectors; expected at least 1")
  end)
end)
