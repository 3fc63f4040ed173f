--- The single kernels of the table: k-means and normalized cuts in ms, weighted kNN and its matrix product in s.
-- Prints one JSON line.
local cld = require "cld"
local median = require "spec.bench.median"

local opt = cld.options {
  about = "Part of the benchmark: k-means, normalized cuts and kNN",
  { "memory",  50000, "rows of the kNN memory", min = 1 },
  { "queries", 10000, "kNN queries", min = 1 },
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

local memory, queries = features(opt.memory), features(opt.queries)
local labels = cld.randint(0, 10, { opt.memory })
local knn_s = measure(3, function()
  cld.eval.weighted_knn(memory, labels, queries, { k = 200, temperature = 0.1, classes = 10 })
end)

-- The product alone, in blocks of 256 queries: nobody would hold all of its 2 GB.
local transposed = memory:t()
local product_s = measure(3, function()
  for first = 1, opt.queries, 256 do
    local block <close> = queries:narrow(1, first, math.min(256, opt.queries - first + 1))
    block:matmul(transposed):close()
  end
end)

print(cld.json.encode { kmeans_ms = kmeans_s * 1e3, cut_ms = cut_s * 1e3, knn_s = knn_s, product_s = product_s })
