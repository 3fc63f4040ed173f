--- Evaluation: what a frozen encoder is worth.
local core = require "cld.core"
local data = require "cld.data"
local augment = require "cld.augment"
local caller = require "cld.caller"
local nn = require "cld.nn"
local user_error = require "cld.user_error"
local create, raise = core.tensor, caller.raise

local eval = {}

-- How many rows of a tensor hold something that is not finite. Waits for the device.
local function odd_rows(x)
  local _ <close> = core.autograd.no_grad()
  local rows <close> = x:flatten(2, -1)
  local finite <close> = rows:isfinite()
  local whole <close> = finite:all(2)
  local count <close> = whole:sum()
  return #x - count:item()
end

-- Rows of features of which some are not finite would all be nearest to the same class, as if nothing had been learnt.
local function check_finite(name, what, x)
  local shape = create.is_tensor(x) and x.shape or {}
  if #shape < 2 or x:numel() == 0 then return end
  local odd = odd_rows(x)
  if odd > 0 then raise("%s: %s of %d of %d rows are not finite", name, what, odd, shape[1]) end
end

--- weighted_knn(memory (n, d), labels i64 (n), queries (m, d), {k = 200, temperature = 0.1, classes}) ->
-- class scores (m, classes): each of the k most similar memory rows (dot product) votes exp(similarity / temperature)
-- for its class (Wu et al., CVPR 2018). What is not finite is an error.
function eval.weighted_knn(memory, labels, queries, options)
  check_finite("eval.weighted_knn", "the features in the memory", memory)
  check_finite("eval.weighted_knn", "the features of the queries", queries)
  return caller.call("eval.weighted_knn", core.losses.weighted_knn, memory, labels, queries, options)
end

--- accuracy(scores (m, classes), labels i64 (m), ks = {1, 5}) -> the shares of rows whose label is among their k
-- highest scores, one per k; of equal scores the lower class comes first. Scores that are NaN are an error.
function eval.accuracy(scores, labels, ks)
  ks = ks or { 1, 5 }
  if type(ks) ~= "table" then raise("eval.accuracy: ks must be a list such as {1, 5}, got %s", caller.shown(ks)) end
  local shape = create.is_tensor(scores) and scores.shape or {}
  if #shape ~= 2 or not create.is_tensor(labels) or #labels.shape ~= 1 or #labels ~= shape[1] then
    raise("eval.accuracy: expected scores (m, classes) and labels (m), got %s and %s", caller.shown(scores),
      caller.shown(labels))
  end
  local unknown <close> = scores:isnan()
  local any <close> = unknown:any(2)
  local count <close> = any:sum()
  if count:item() > 0 then raise("eval.accuracy: the scores of %d of %d rows are NaN", count:item(), shape[1]) end
  local shares = {}
  local truth <close> = labels:unsqueeze(2)
  for i, k in ipairs(ks) do
    local _, best = scores:topk(math.min(caller.integer("eval.accuracy", "k", k), shape[2]), 2)
    local hit <close> = best:eq(truth):float()
    local total <close> = hit:sum()
    best:close()
    shares[i] = total:item() / shape[1]
  end
  return table.unpack(shares)
end

--- If set, a function that features calls before each batch: from there cld.run heeds signals, for
-- which a pass over a large data set is too long to wait.
eval.on_batch = nil

--- If set, a function that is told of features that are not finite, before that is an error: cld.run ends the
-- training, whose checkpoint is not the one that has diverged.
eval.on_not_finite = nil

-- ---- features ---------------------------------------------------------------

-- Evaluation mode until the guard is closed, which sets every module back to what it was.
local function in_eval_mode(net)
  if not nn.is_module(net) then return nil end
  local was = {}
  for _, module in ipairs(net:modules()) do was[module] = module.training end
  net:eval()
  return setmetatable({}, {
    __close = function()
      for module, training in pairs(was) do module.training = training end
    end,
  })
end

local feature_options = {
  "batch_size", "augment", "branch", "mean", "std", "device", "dtype", "workers", "max_bad", "strict",
}

local function check_encoder(name, net, dataset, what)
  local meta = getmetatable(net)
  if type(net) ~= "function" and not (type(net) == "table" and meta and meta.__call) then
    raise("%s: net must be a module or a function, got %s", name, caller.shown(net))
  elseif not data.is_dataset(dataset) then
    raise("%s: %s must be a data set of cld.data, got %s", name, what, caller.shown(dataset))
  end
end

local function transform(dataset, options)
  if not options.augment then
    local height, width = dataset:size()
    if not height then
      raise("eval: the images of %s have sizes of their own: give an augment, such as cld.augment.center { size = 224 }"
        , dataset.name)
    end
    return augment.none { size = { height, width }, mean = options.mean, std = options.std }
  elseif options.mean or options.std then
    raise "eval: mean and std are settings of the augmentation: give it or them"
  end
  return options.augment
end

local function first_output(net, images) return (net(images)) end

-- Where the network computes: options.device, or its parameters', else the cpu.
local function device_of(net, options)
  if options.device then return options.device end
  local first = nn.is_module(net) and net:parameters()[1]
  return first and first.device or "cpu"
end

local function extract(net, dataset, options)
  local branch = options.branch or first_output
  local loader = data.loader {
    dataset, batch_size = options.batch_size or 256, views = 1, shuffle = false, drop_single = false,
    augment = transform(dataset, options), device = device_of(net, options), dtype = options.dtype, decode = "exact",
    workers = options.workers, max_bad = options.max_bad, strict = options.strict,
  }
  local _ <close> = in_eval_mode(net)
  local _ <close> = core.autograd.no_grad()
  local parts, labels = {}, {}
  for batch in loader:epoch(1) do
    if eval.on_batch then eval.on_batch() end
    local features = branch(net, batch.views[1])
    if not create.is_tensor(features) then
      raise("eval.features: expected the network (or `branch`) to return a tensor, got %s", caller.shown(features))
    end
    local is_half = features.dtype == "bf16" or features.dtype == "f16"
    parts[#parts + 1] = is_half and features:float() or features -- to be compared in f32
    labels[#labels + 1] = batch.labels
  end
  local features = caller.call("eval.features", create.cat, parts, 1)
  return features, create.cat(labels, 1):to(features.device)
end

-- For what is made of them: the features of a data set, all of them finite.
local function finite_features(net, dataset, options)
  local features, labels = extract(net, dataset, options)
  if features.ndim ~= 2 then
    raise("eval.knn: the network must make features (images, dim), got %s", caller.shown(features))
  end
  local odd = odd_rows(features)
  if odd > 0 then
    local problem = ("the network's features of %d of %d images are not finite"):format(odd, #features)
    if eval.on_not_finite then eval.on_not_finite(problem) end
    user_error.raise("%s: the checkpoint has diverged, or the precision is too low", problem)
  end
  return features, labels
end

--- features(net, dataset, {batch_size = 256, branch, mean, std, augment, device, dtype}) -> features (n, d), labels
-- i64 (n), in the data set's order, un-augmented, in eval mode. net is a module or a function of the images; what is
-- compared is its first output, or what `branch(net, images)` returns. Images keep their size and are normalized by
-- mean and std (per channel, default CIFAR's), unless an augmentation is given. All happens on the device, by default
-- that of the module's parameters, or the cpu: there are the features and the labels. dtype is the images', as the
-- loader's: f32.
function eval.features(net, dataset, options)
  caller.check_fields("eval.features", options, feature_options)
  check_encoder("eval.features", net, dataset, "the second argument")
  return extract(net, dataset, options or {})
end

-- ---- nearest neighbours -----------------------------------------------------

--- score(memory (n, d), labels i64 (n), queries (m, d), truth i64 (m), {k = 200, temperature = 0.1, classes}) ->
-- {top1 =, top5 =} as shares.
function eval.score(memory, labels, queries, truth, options)
  local scores <close> = eval.weighted_knn(memory, labels, queries, options)
  local top1, top5 = eval.accuracy(scores, truth)
  return { top1 = top1, top5 = top5 }
end

--- knn{net =, memory =, queries =, k = 200, temperature = 0.1, classes, and the options of features} ->
-- {top1 =, top5 =} as shares: the training images' features (recomputed, un-augmented) are the memory, the test images
-- the queries.
function eval.knn(options)
  caller.require_fields("eval.knn", options,
    { "net", "memory", "queries", "k", "temperature", "classes", table.unpack(feature_options) })
  check_encoder("eval.knn", options.net, options.memory, "memory")
  check_encoder("eval.knn", options.net, options.queries, "queries")
  local memory <close>, labels = finite_features(options.net, options.memory, options)
  local queries <close>, truth = finite_features(options.net, options.queries, options)
  return eval.score(memory, labels, queries, truth, {
    k = options.k, temperature = options.temperature, classes = options.classes or options.memory.classes,
  })
end

return eval
