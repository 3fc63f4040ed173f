--- What a run sees of its network at an epoch's end: run:evaluate.
--
-- Without labels, every epoch (cld.diagnostics): the effective rank of the pooled features of 512 training images; and
-- of two augmented views of each, and the layer that the run compares, alignment, uniformity and the normalized mutual
-- information of both views' groups. These are there for every method, with or without a group branch, and are what
-- recipes/select.lua compares runs by.
-- With a set for tests, every opt.knn_every epochs: the accuracy of kNN (cld.eval.knn) with opt.knn_k and opt.knn_t.
local diagnostics = require "cld.diagnostics"
local eval = require "cld.eval"

local evaluation = {}

-- Whether kNN is due after so many epochs. Options without knn_every ask for it each time.
local function is_due(opt, epoch)
  local every = rawget(opt, "knn_every") or 1
  return every > 0 and epoch % every == 0
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
  if not sets.test or not is_due(opt, run.epoch) then return end
  run:score(eval.knn {
    net = net, layer = layer, memory = sets.memory or sets.train, queries = sets.test, augment = augment,
    k = rawget(opt, "knn_k"), temperature = rawget(opt, "knn_t"), workers = rawget(opt, "workers"),
  })
end

return evaluation
