--- cld.eval.pca and cld.eval.tsne: against scikit-learn, and the gradient against central differences.
local cld = require "cld"
local check = require "spec.support.check"
local embed = require "cld.core".embed

local fixture = cld.load "spec/fixtures/embed.safetensors"

describe("pca", function()
  for _, name in ipairs { "tall", "wide" } do
    it("has scikit-learn's components of " .. name .. " features", function()
      check.close(cld.eval.pca(fixture[name], 3), fixture[name .. ".pca"], { atol = 2e-4, rtol = 0 })
    end)
  end

  it("takes features of either precision", function()
    local two = fixture["tall.pca"][{ {}, { 1, 2 } }]
    check.close(cld.eval.pca(fixture.tall:double(), 2), two, { atol = 2e-4, rtol = 0 })
  end)

  it("of many dimensions has orthogonal components of the largest variance", function()
    cld.manual_seed(4)
    local scales = cld.cat({ cld.tensor { 9, 6, 4 }, cld.ones(597) }, 1)
    local x = cld.randn(900, 600) * scales
    local mine = cld.eval.pca(x, 3)
    local centred = x - x:mean(1, true)
    local values = centred:t():matmul(centred):double():eigvalsh()
    local gram = mine:t():matmul(mine):double()
    for i = 1, 3 do
      local variance = values[601 - i]:item()
      assert.is_true(math.abs(gram[i][i]:item() - variance) <= 1e-4 * variance)
      for j = 1, i - 1 do assert.is_true(math.abs(gram[i][j]:item()) <= 1e-3 * variance) end
    end
  end)

  it("has as many components as rows or columns at most", function()
    check.fails(function() cld.eval.pca(fixture.wide, 21) end, "pca: 21 components of f32%[20, 30%]")
  end)
end)

describe("tsne", function()
  -- The divergence of points (n, 2) for these features, all pairs taken.
  local function divergence(features, points, perplexity)
    return select(2, embed.tsne_gradient(features, points, { perplexity = perplexity, angle = 0 }))
  end

  it("leaves at most 1.05 times scikit-learn's divergence", function()
    local points, kl = cld.eval.tsne(fixture.tall, { perplexity = 20 })
    local theirs = divergence(fixture.tall, fixture["tall.tsne"], 20)
    assert.is_true(kl <= 1.05 * theirs, ("%g, scikit-learn %g"):format(kl, theirs))
    assert.is_true(math.abs(kl - divergence(fixture.tall, points, 20)) <= 1e-4)
  end)

  it("steps by the gradient of the divergence", function()
    cld.manual_seed(2)
    local features, points, step = cld.randn(30, 5), cld.randn(30, 2, "f64"), 1e-5
    local gradient = embed.tsne_gradient(features, points, { perplexity = 6, angle = 0 })
    for i = 1, 30, 5 do
      for axis = 1, 2 do
        local function at(change)
          local moved = points:clone()
          moved:narrow(1, i, 1):narrow(2, axis, 1):add_(change)
          return divergence(features, moved, 6)
        end
        local measured = (at(step) - at(-step)) / (2 * step)
        assert.is_true(math.abs(gradient[i][axis]:item() - measured) <= 1e-8)
      end
    end
  end)

  it("has nearly the same gradient by the tree", function()
    cld.manual_seed(3)
    local features, points = cld.randn(200, 5), cld.randn(200, 2, "f64") * 20
    local exact = embed.tsne_gradient(features, points, { perplexity = 10, angle = 0 })
    local by_tree = embed.tsne_gradient(features, points, { perplexity = 10, angle = 0.5 })
    local share = ((by_tree - exact):norm() / exact:norm()):item()
    assert.is_true(share > 0 and share <= 0.02, tostring(share))
  end)

  it("does not depend on the number of threads", function()
    local threads, results = cld.get_num_threads(), {}
    for _, count in ipairs { 1, 3 } do
      cld.set_num_threads(count)
      results[#results + 1] = cld.eval.tsne(fixture.tall, { perplexity = 20, iterations = 60 })
    end
    cld.set_num_threads(threads)
    check.close(results[1], results[2], { atol = 0, rtol = 0 })
  end)

  it("parts rows that are equal, and leaves nothing that is not finite", function()
    local points, kl = cld.eval.tsne(cld.ones(20, 3), { perplexity = 5, iterations = 50 })
    assert.is_true(points:isfinite():all():item() == 1 and kl == kl)
    assert.is_true(points:std(1):min():item() > 0)
  end)

  it("keeps apart what is apart", function()
    local points = cld.eval.tsne(fixture.tall, { perplexity = 20, iterations = 300 })
    local distances = cld.cdist(points, points) + cld.eye(240) * 1e6
    local nearest = select(2, distances:min(2)):reshape { -1 }:totable()
    local same = 0
    for i, j in ipairs(nearest) do same = same + ((i - 1) % 4 == j % 4 and 1 or 0) end
    assert.is_true(same >= 220, tostring(same))
  end)

  local refused = {
    { { perplexity = 240 }, "perplexity of 240 for 240 points" }, { { angle = 1 }, "the angle is 1" },
    { { perplexity = 0 / 0 }, "perplexity of %-?nan" }, { { iterations = -1 }, "%-1 iterations" },
    { { steps = 3 }, "steps" },
  }
  for _, case in ipairs(refused) do
    it("refuses " .. case[2]:gsub("%%", ""), function()
      check.fails(function() cld.eval.tsne(fixture.tall, case[1]) end, case[2])
    end)
  end

  it("refuses rows that are not finite", function()
    local features = fixture.tall:clone()
    features:narrow(1, 7, 1):fill_(0 / 0)
    check.fails(function() cld.eval.tsne(features) end, "tsne: the rows have values that are not finite")
  end)

  it("refuses rows whose distances are no numbers", function()
    check.fails(function() cld.eval.tsne(fixture.tall * 1e30) end, "are the rows too large%?")
  end)

  it("refuses what is no list of rows", function()
    check.fails(function() cld.eval.tsne(cld.zeros(5)) end, "expected at least 4 rows %(n, d%), .* got f32%[5%]")
  end)
end)
