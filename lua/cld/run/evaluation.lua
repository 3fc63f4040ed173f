--- The evaluation of a run's network at the end of an epoch: run:evaluate.
--
-- Without labels, every epoch (cld.diagnostics): the effective rank of the pooled features of 512 training images; and,
-- from two augmented views of each in the layer that the run compares, alignment, uniformity and the normalized mutual
-- information of both views' groups. Every method has these, with or without a group branch, and recipes/select.lua
-- compares runs by them.
-- With a test set, every opt.knn_every epochs: the accuracy of kNN (cld.eval.knn) with opt.knn_k and opt.knn_t.
--
-- A run keeps the network, the sets and, with a single rank, the features that kNN compared from its last evaluation,
-- for its report (run/ending.lua).
local core = require "cld.core"
local diagnostics = require "cld.diagnostics"
local dist = require "cld.dist"
local eval = require "cld.eval"
local settings = require "cld.run.settings"

local evaluation = {}

-- Whether kNN is due after this many epochs. Without opt.knn_every it always is.
local function is_due(opt, epoch)
  local every = rawget(opt, "knn_every") or 1
  return every > 0 and epoch % every == 0
end

local MOST_ROWS, MOST_BYTES = 50000, 256 << 20 -- limits of the features kept for a report

-- Some rows, evenly spread over all: {set, rows, features, labels, predicted}.
local function kept(set, features, labels, predicted)
  local most = math.min(MOST_ROWS, MOST_BYTES // (4 * features.shape[2]))
  local rows, count = {}, math.min(#set, math.max(1, most))
  for i = 0, count - 1 do rows[i + 1] = i * #set // count end
  local index = core.tensor.tensor(rows, "i64")
  local function some(list) return list:cpu():index_select(1, index):totable() end
  return {
    set = set, rows = rows, features = features:index_select(1, index:to(features.device)), labels = some(labels),
    predicted = predicted and some(predicted),
  }
end

-- The function that receives the features of the last kNN, or nil.
local function keeper(run, sets)
  if not dist.alone then return nil end
  return function(seen)
    local _, best = seen.scores:topk(1, 2)
    run.seen.kept = {
      memory = kept(sets.memory or sets.train, seen.memory, seen.labels),
      queries = kept(sets.test, seen.queries, seen.truth, best:reshape { -1 }),
    }
  end
end

--- of(run, net, sets, layer): layer is the output that kNN compares.
function evaluation.of(run, net, sets, layer)
  local opt, augment = run.opt, sets.test_view
  local workers, block = rawget(opt, "workers"), rawget(opt, "block")
  local seen = sets.views and diagnostics.two_views {
    net = net, set = sets.train, views = sets.views, layer = layer, workers = workers, batch_size = block,
  } or {}
  seen.effective_rank = diagnostics.rank {
    net = net, set = sets.train, augment = augment, workers = workers, batch_size = block,
  }
  run:diagnose(seen)
  local is_last = run.epoch == run.opt.epochs * run.rounds
  if is_last then run.seen = { net = net, sets = sets } end
  if not sets.test or not is_due(opt, run.epoch) then return end
  run:score(eval.knn {
    net = net, layer = layer, memory = sets.memory or sets.train, queries = sets.test, augment = augment,
    k = rawget(opt, "knn_k"), temperature = rawget(opt, "knn_t"), workers = rawget(opt, "workers"),
    seen = is_last and settings.get(opt, "report") and keeper(run, sets) or nil,
  })
end

return evaluation
