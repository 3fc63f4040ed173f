--- The ranks of a job: processes that a launcher has started (mpirun, srun) and that train together. A recipe needs none of
-- this: the loader, the losses, optimizers and cld.run know the ranks. runtime/dist/README.md says what they compute.
--
--   print(cld.dist.rank, cld.dist.world)                     -- 0 and 1 where there is no job
--   cld.dist.all_reduce(x, { op = "mean" })                  -- in place, of all ranks
--   local all = cld.dist.all_gather(x)                       -- the ranks' rows one below the other, differentiable
--
-- Every rank must call these, in the same order and with tensors of the same shape (all_gather: of the same row).
-- With one rank they give back what they are given.
local caller = require "cld.caller"
local core = require "cld.core"
local functional = core.dist
local ranks = functional.ranks()

local dist = {
  rank = ranks.rank,              -- from 0
  local_rank = ranks.local_rank,  -- among those on this machine, from 0
  world = ranks.world,            -- how many there are
}

local function check(name, t, options, fields)
  if not core.tensor.is_tensor(t) then caller.raise("dist.%s: expected a tensor, got %s", name, caller.shown(t)) end
  if fields then caller.check_fields("dist." .. name, options, fields) end
  return options or {}
end

--- all_reduce(t[, {op = "sum"|"mean"|"max"|"min"}]) -> t, in place: each element over all ranks.
function dist.all_reduce(t, options)
  local op = check("all_reduce", t, options, { "op" }).op or "sum"
  local known = { sum = true, mean = true, max = true, min = true }
  if not known[op] then
    caller.raise("dist.all_reduce: op must be sum, mean, max or min, got %s", caller.shown(op))
  end
  return caller.call("dist.all_reduce", functional.all_reduce, t, op)
end

--- all_gather(t (n, ...)) -> (sum of the ranks' n, ...): rows in the order of the ranks, whose n may differ. The
-- gradient of a rank's rows is the sum of what all ranks have made of them.
function dist.all_gather(t)
  check("all_gather", t)
  return caller.call("dist.all_gather", functional.all_gather, t)
end

--- broadcast(t[, {from = 0}]) -> t, in place: that of the rank `from`.
function dist.broadcast(t, options)
  local from = check("broadcast", t, options, { "from" }).from or 0
  if math.type(from) ~= "integer" or from < 0 or from >= dist.world then
    caller.raise("dist.broadcast: from must be a rank, 0 to %d, got %s", dist.world - 1, caller.shown(from))
  end
  return caller.call("dist.broadcast", functional.broadcast, t, from)
end

--- barrier(): returns when every rank has called it.
function dist.barrier() functional.barrier() end

--- How the batch at hand is split, in a word that is the same on all ranks.
function dist.described()
  if dist.world == 1 then return "" end
  local share = functional.batch()
  return share and ("split %d by %d"):format(share.total, share.block) or "whole"
end

return dist
