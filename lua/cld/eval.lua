--- Evaluation: what a frozen encoder is worth.
local core = require "cld.core"
local data = require "cld.data"
local augment = require "cld.augment"

local eval = {}

--- weighted_knn(memory (n, d), labels i64 (n), queries (m, d), {k = 200, temperature = 0.1, classes}) ->
-- class scores (m, classes): each of the k most similar memory rows (dot product) votes exp(similarity / temperature)
-- for its class (Wu et al., CVPR 2018).
eval.weighted_knn = core.losses.weighted_knn

--- accuracy(scores (m, classes), labels i64 (m), {1, 5}) -> the shares of rows whose label is among their k highest
-- scores, one per k; of equal scores the lower class comes first.
function eval.accuracy(scores, labels, ks)
  local classes = scores.shape[2]
  local shares = {}
  local truth <close> = labels:unsqueeze(2)
  for i, k in ipairs(ks) do
    local _, best = scores:topk(math.min(k, classes), 2)
    local hit <close> = best:eq(truth):float()
    local total <close> = hit:sum()
    best:close()
    shares[i] = total:item() / #labels
  end
  return table.unpack(shares)
end

--- Where it is set, a function that features calls before each batch: from there cld.run heeds SIGINT and SIGTERM, for
-- which a pass over a large data set is too long to wait.
eval.on_batch = nil

--- features(net, dataset, {batch_size = 256, augment, branch}) -> features (n, d) and labels i64 (n), in the data set's
-- order, un-augmented, in eval mode. `branch(net, images)` picks what is compared; default: the instance features.
function eval.features(net, dataset, options)
  options = options or {}
  local branch = options.branch or function(encoder, images)
    local instance, group = encoder(images)
    group:close()
    return instance
  end
  local was_training = net.training
  net:eval()
  local _ <close> = core.autograd.no_grad()
  local loader = data.loader {
    dataset, batch_size = options.batch_size or 256, views = 1, shuffle = false, drop_last = false,
    augment = options.augment or augment.none { size = dataset.images.shape[2] },
  }
  local parts = {}
  for batch in loader:epoch(1) do
    if eval.on_batch then eval.on_batch() end
    parts[#parts + 1] = branch(net, batch.views[1])
  end
  net:train(was_training)
  local all = core.tensor.cat(parts, 1)
  for _, part in ipairs(parts) do part:close() end
  return all, dataset.labels
end

--- knn{net=, memory=, queries=, k = 200, temperature = 0.1} -> {top1 =, top5 =} as shares: the training images'
-- features (recomputed, un-augmented) are the memory, the test images the queries.
function eval.knn(options)
  local memory <close>, labels = eval.features(options.net, options.memory, options)
  local queries <close>, truth = eval.features(options.net, options.queries, options)
  return eval.score(memory, labels, queries, truth, options)
end

--- As knn, on features at hand.
function eval.score(memory, labels, queries, truth, options)
  local classes = options.classes or options.memory.classes
  local scores <close> = eval.weighted_knn(memory, labels, queries,
    { k = options.k or 200, temperature = options.temperature or 0.1, classes = classes })
  local top1, top5 = eval.accuracy(scores, truth, { 1, 5 })
  return { top1 = top1, top5 = top5 }
end

return eval
