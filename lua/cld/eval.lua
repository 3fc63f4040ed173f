--- Evaluation of a frozen encoder. eval/extract.lua has the passes over a data set; the linear classifier on frozen
-- features has its own files (eval/README.md).
local core = require "cld.core"
local dist = require "cld.dist"
local caller = require "cld.caller"
local extract = require "cld.eval.extract"
local neighbours = require "cld.eval.neighbours"
local create, raise = core.tensor, caller.raise

local eval = {}

-- If some features are not finite, all rows would be nearest to the same class, as if nothing had been learnt.
local function check_finite(name, what, x)
  local shape = create.is_tensor(x) and x.shape or {}
  if #shape < 2 or x:numel() == 0 then return end
  local odd = extract.odd_rows(x):item()
  if odd > 0 then raise("%s: %s of %d of %d rows are not finite", name, what, odd, shape[1]) end
end

local function check_labels(name, rows, labels)
  if create.is_tensor(rows) and rows.ndim == 2 and create.is_tensor(labels) and labels.ndim == 1
    and #labels == #rows then return end
  raise("%s: expected rows (n, d) and their labels (n), got %s and %s", name, caller.shown(rows), caller.shown(labels))
end

--- cld.eval.weighted_knn(memory, labels, queries[, {k = 200, temperature = 0.1, classes}]) -> tensor (m, classes):
-- scores of queries (m, d): each of the k most similar rows of the memory (n, d) (dot product), or all rows if there
-- are fewer, votes exp(similarity / temperature) for its label, i64 (n) (Wu et al., CVPR 2018). A value that is not
-- finite is an error.
function eval.weighted_knn(memory, labels, queries, options)
  check_finite("eval.weighted_knn", "the features in the memory", memory)
  check_finite("eval.weighted_knn", "the features of the queries", queries)
  return neighbours.scores("eval.weighted_knn", memory, labels, queries, options)
end

-- The number of rows with NaN scores, and for each k the number of rows whose label is among the k highest scores.
local function count_hits(scores, labels, ks)
  local counts = {}
  for i = 0, #ks do counts[i + 1] = 0 end
  if #scores == 0 then return counts end
  local unknown <close> = scores:isnan()
  local any <close> = unknown:any(2)
  local count <close> = any:sum()
  counts[1] = count:item()
  local truth <close> = labels:unsqueeze(2)
  for i, k in ipairs(ks) do
    local _, best = scores:topk(math.min(caller.integer("eval.accuracy", "k", k), scores.shape[2]), 2)
    local hit <close> = best:eq(truth):float()
    local total <close> = hit:sum()
    best:close()
    counts[i + 1] = total:item()
  end
  return counts
end

-- Their shares of so many rows.
local function shares_of(counts, rows)
  if counts[1] > 0 then
    local problem = ("the scores of %d of %d rows are NaN"):format(counts[1], rows)
    if extract.on_not_finite then extract.on_not_finite(problem) end
    raise("eval.accuracy: %s", problem)
  end
  local shares = {}
  for i = 2, #counts do shares[i - 1] = counts[i] / rows end
  return shares
end

--- cld.eval.accuracy(scores, labels[, ks = {1, 5}]) -> number, ...: for each k the share of rows of scores (m,
-- classes) whose label, i64 (m), is among their k highest. Of equal scores the lower class comes first. NaN scores are
-- an error.
--
--     local scores = cld.tensor { { 0.9, 0.1 }, { 0.2, 0.8 } }
--     print(cld.eval.accuracy(scores, cld.tensor({ 0, 0 }, "i64"), { 1 }))  --> 0.5
function eval.accuracy(scores, labels, ks)
  ks = ks or { 1, 5 }
  if type(ks) ~= "table" then raise("eval.accuracy: ks must be a list such as {1, 5}, got %s", caller.shown(ks)) end
  local shape = create.is_tensor(scores) and scores.shape or {}
  if #shape ~= 2 or not create.is_tensor(labels) or #labels.shape ~= 1 or #labels ~= shape[1] then
    raise("eval.accuracy: expected scores (m, classes) and labels (m), got %s and %s", caller.shown(scores),
      caller.shown(labels))
  end
  return table.unpack(shares_of(count_hits(scores, labels, ks), shape[1]))
end

-- ---- features ---------------------------------------------------------------

--- The names of the options of features, for functions that pass them on.
eval.feature_options = extract.options

--- cld.eval.features(net, dataset[, {batch_size = 256, layer = "instance", branch, mean, std, augment, device,
-- dtype}]) -> features (n, d), labels i64 (n): in the data set's order, un-augmented, in evaluation mode. net is a
-- module or a function of the images. layer: "instance", its first output, or "features", what net:features(images)
-- returns: the input of the heads. Instead, branch can be a function (net, images) that returns the features. Images
-- keep their size and are normalized by mean and std (per channel, default CIFAR's), unless an augmentation is given.
-- All computation is on the device, by default that of the module's parameters, or the cpu; the results are there too.
-- dtype is that of the images, as in the loader: f32.
function eval.features(net, dataset, options)
  caller.check_fields("eval.features", options, extract.options)
  extract.check("eval.features", net, dataset, "the second argument")
  return extract.all("eval.features", net, dataset, options or {})
end

-- ---- nearest neighbours -----------------------------------------------------

-- Scores some queries of each rank against this rank's part of the memory; one rank scores all against all.
local function score(name, memory, labels, queries, truth, options, seen)
  local is_shared = not dist.alone
  local scores <close> = neighbours.scores(name, memory, labels, queries, options, is_shared)
  if seen then seen { memory = memory, labels = labels, queries = queries, truth = truth, scores = scores } end
  local counts = count_hits(scores, truth, scores.shape[2] < 5 and { 1 } or { 1, 5 })
  counts[#counts + 1] = #queries
  if is_shared then counts = core.dist.all_reduce(create.tensor(counts, "f64"), "sum"):totable() end
  local shares = shares_of(counts, table.remove(counts))
  return { top1 = shares[1], top5 = shares[2] }
end

--- cld.eval.score(memory, labels, queries, truth[, {k = 200, temperature = 0.1, classes}]) -> {top1 =, top5 =}: the
-- shares of queries (m, d), with the classes truth i64 (m), that weighted_knn gets right; without top5 if there are
-- fewer than 5 classes. With several ranks, each has all rows, and they share the work.
function eval.score(memory, labels, queries, truth, options)
  neighbours.check("eval.score", memory, labels, queries, options)
  check_labels("eval.score", queries, truth)
  check_finite("eval.score", "the features in the memory", memory)
  check_finite("eval.score", "the features of the queries", queries)
  local own = {}
  for i, x in ipairs { memory, labels, queries, truth } do
    local begin, count = extract.part(#x)
    own[i] = x:narrow(1, begin + 1, count)
  end
  return score("eval.score", own[1], own[2], own[3], own[4], options)
end

--- cld.eval.knn{net =, memory =, queries =, k = 200, temperature = 0.1, classes, seen, and the options of features} ->
-- {top1 =, top5 =}: the accuracy, as shares. The features of one data set (recomputed, un-augmented) are the memory,
-- those of the other the queries. Features are compared by cosine: each row is scaled to unit length. With several
-- ranks, each holds its part of both. seen, a function, is called with {memory (n, d), labels i64 (n), queries (m, d),
-- truth i64 (m), scores (m, classes)}, which are valid only during that call. help "knn" has an example.
function eval.knn(options)
  caller.require_fields("eval.knn", options,
    { "net", "memory", "queries", "k", "temperature", "classes", "seen", table.unpack(extract.options) })
  extract.check("eval.knn", options.net, options.memory, "memory")
  extract.check("eval.knn", options.net, options.queries, "queries")
  local memory <close>, labels = extract.all("eval.knn", options.net, options.memory, options, "unit", "part")
  local queries <close>, truth = extract.all("eval.knn", options.net, options.queries, options, "unit", "part")
  return score("eval.knn", memory, labels, queries, truth, {
    k = options.k, temperature = options.temperature, classes = options.classes or options.memory.classes,
  }, options.seen)
end

-- ---- maps ---------------------------------------------------------------------

--- pca(features (n, d), dims) -> f32 (n, dims): the centred rows along the `dims` directions of the largest variance,
-- largest first. The sign of an axis makes the largest entry of its direction positive.
function eval.pca(features, dims)
  return caller.call("eval.pca", core.embed.pca, features, caller.integer("eval.pca", "dims", dims))
end

--- tsne(features (n, d)[, {perplexity = 30, iterations = 1000, angle = 0.3, seed = 0}]) -> f32 (n, 2), kl: points in
-- the plane, close together if their rows are, by t-SNE with the Barnes-Hut tree (van der Maaten, 2014). kl is the
-- remaining Kullback-Leibler divergence. The result does not depend on the number of threads. It runs on the cpu.
--
--   local points, kl = cld.eval.tsne(cld.randn(100, 16), { perplexity = 10 })
function eval.tsne(features, options) return caller.call("eval.tsne", core.embed.tsne, features, options) end

-- ---- a linear classifier ------------------------------------------------------

--- cld.eval.linear_probe{...} -> probe: a linear classifier on frozen features, trained step by step
-- (lua/cld/eval/linear_probe.lua lists its settings).
eval.linear_probe = require "cld.eval.linear_probe"
eval.linear = require "cld.eval.linear".evaluate
-- finetuning{...}: trains all layers and a new classification layer, over a grid of rates (eval/finetune.lua).
eval.finetuning = require "cld.eval.finetune"
--- cld.eval.protocols: the published protocols of linear evaluation by name, moco and infomin: their epochs, rates
-- and schedules (help "cld.eval.linear").
eval.protocols = require "cld.eval.protocols".named

return eval
