--- The single kernels of the table: k-means and normalized cuts, weighted kNN and NT-Xent with their matrix products.
-- Prints one JSON line.
local cld = require "cld"
local median = require "spec.bench.median"

local opt = cld.options {
  about = "Part of the benchmark: k-means, normalized cuts and kNN",
  { "memory",  50000, "rows of the kNN memory", min = 1, integer = true },
  { "queries", 10000, "kNN queries", min = 1, integer = true },
}

-- The median time of f(), after one call for warm-up.
local function measure(repeats, f)
  f()
  local seconds = {}
  for i = 1, repeats do
    local start = cld.clock()
    f()
    seconds[i] = cld.clock() - start
  end
  return median(seconds)
end

local function features(rows) return cld.randn(rows, 128):normalize() end

local x = features(256)
local kmeans_s = measure(51, function() cld.losses.kmeans(x, 128, 5) end)
local cut_s = measure(51, function()
  cld.losses.normalized_cuts(x, { eigenvectors = 100, clusters = 128, iterations = 5 })
end)

-- NT-Xent, forward and backward, and its matrix products alone: all rows with each other, and the gradient and its
-- transpose with the rows.
local z1, z2 = cld.randn(512, 128):requires_grad_(), cld.randn(512, 128):requires_grad_()
local nt_xent_s = measure(51, function()
  z1.grad, z2.grad = nil, nil
  local loss <close> = cld.losses.nt_xent(z1, z2, 0.5)
  loss:backward()
end)
local rows, pairs_gradient = features(1024), cld.randn(1024, 1024)
local rows_t, gradient_t = rows:t(), pairs_gradient:t()
local nt_xent_products_s = measure(51, function()
  rows:matmul(rows_t):close()
  pairs_gradient:matmul(rows):close()
  gradient_t:matmul(rows):close()
end)

local memory, queries = features(opt.memory), features(opt.queries)
local labels = cld.randint(0, 10, { opt.memory })
local knn_s = measure(3, function()
  cld.eval.weighted_knn(memory, labels, queries, { k = 200, temperature = 0.1, classes = 10 })
end)

-- The product alone, in blocks of 256 queries, because nobody would keep the whole result, which takes 2 GB.
local transposed = memory:t()
local product_s = measure(3, function()
  for first = 1, opt.queries, 256 do
    local block <close> = queries:narrow(1, first, math.min(256, opt.queries - first + 1))
    block:matmul(transposed):close()
  end
end)

print(cld.json.encode {
  kmeans_ms = kmeans_s * 1e3, cut_ms = cut_s * 1e3, knn_s = knn_s, product_s = product_s, nt_xent_ms = nt_xent_s * 1e3,
  nt_xent_products_ms = nt_xent_products_s * 1e3,
})
