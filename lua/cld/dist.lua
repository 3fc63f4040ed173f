--- The ranks of a job: processes that a launcher (mpirun, srun) has started and that train together. A recipe needs
-- none of this: the loader, the losses, the optimizers and cld.run know the ranks. runtime/dist/README.md says what
-- they compute. Your own Lua code needs it in two places: a loss whose rows depend on each other gathers them
-- (gather_rows), and an optimizer sums the gradients of all ranks (reduce_gradients).
--
--   print(cld.dist.rank, cld.dist.world)                     -- 0 and 1 without a job
--   cld.dist.all_reduce(x, { op = "mean" })                  -- in place, over all ranks
--   local all = cld.dist.all_gather(x)                       -- the ranks' rows one below the other, differentiable
--
-- Every rank must call these in the same order, with tensors of the same shape (all_gather: of the same row shape).
-- With one rank they return their argument.
local caller = require "cld.caller"
local core = require "cld.core"
local json = require "cld.json"
local user_error = require "cld.user_error"
local functional = core.dist
local ranks = functional.ranks()

local dist = {
  --- cld.dist.rank: this process's number, from 0.
  rank = ranks.rank,
  --- cld.dist.local_rank: its number among those on this machine, from 0.
  local_rank = ranks.local_rank,
  --- cld.dist.world: how many processes there are; 1 without a job.
  world = ranks.world,
  --- cld.dist.alone: true without a job: there are no collectives then (runtime/dist/dist.h).
  alone = ranks.alone,
}

local function is_open(t) return core.tensor.is_tensor(t) and pcall(function() return t.dtype end) end

local function check(name, t, options, fields)
  if not is_open(t) then caller.raise("dist.%s: expected a tensor, got %s", name, caller.shown(t)) end
  if fields then caller.check_fields("dist." .. name, options, fields) end
  return options or {}
end

-- Calls that differ would wait for each other forever, or mix unrelated values.
local function check_same_call(name, t, shape, setting)
  if dist.alone then return end
  local own = ("%s of %s[%s]%s"):format(name, t.dtype, table.concat(shape, ", "), setting)
  for rank, other in ipairs(functional.gather_strings(own)) do
    if other ~= own then
      caller.raise("dist: the ranks call different things: %s on rank %d, %s on rank %d", own, dist.rank, other,
        rank - 1)
    end
  end
end

--- cld.dist.all_reduce(t[, {op = "sum"|"mean"|"max"|"min"}]) -> t: reduces each element over all ranks, in place.
function dist.all_reduce(t, options)
  local op = check("all_reduce", t, options, { "op" }).op or "sum"
  local known = { sum = true, mean = true, max = true, min = true }
  if not known[op] then
    caller.raise("dist.all_reduce: op must be sum, mean, max or min, got %s", caller.shown(op))
  end
  check_same_call("all_reduce", t, t.shape, ", " .. op)
  return caller.call("dist.all_reduce", functional.all_reduce, t, op)
end

--- cld.dist.all_gather(t) -> tensor: the rows of all ranks, t (n, ...), in the order of the ranks; n may differ
-- between ranks. The gradient of a rank's rows is the sum of the gradients from all ranks.
function dist.all_gather(t)
  check("all_gather", t)
  check_same_call("all_gather", t, table.move(t.shape, 2, #t.shape, 1, {}), " rows")
  return caller.call("dist.all_gather", functional.all_gather, t)
end

--- cld.dist.gather_rows(t) -> tensor: the rows of the whole current batch, in its order, gathered from the rows that
-- each rank computed for its images; differentiable. t itself if every rank has the whole batch.
function dist.gather_rows(t)
  check("gather_rows", t)
  return caller.call("dist.gather_rows", functional.gather_rows, t)
end

--- cld.dist.reduce_gradients(params): call it after backward: each parameter's .grad becomes the sum over the ranks,
-- the gradient of the whole batch's loss. For your own optimizer: those of cld.optim call it. params: a list of
-- tensors, or a module.
function dist.reduce_gradients(params)
  if type(params) == "table" and params.named_parameters then params = params:parameters() end
  caller.call("dist.reduce_gradients", functional.reduce_gradients, params)
end

--- cld.dist.broadcast(t[, {from = 0}]) -> t: copies the values of the rank `from` into t on every rank.
function dist.broadcast(t, options)
  local from = check("broadcast", t, options, { "from" }).from or 0
  if math.type(from) ~= "integer" or from < 0 or from >= dist.world then
    caller.raise("dist.broadcast: from must be a rank, 0 to %d, got %s", dist.world - 1, caller.shown(from))
  end
  check_same_call("broadcast", t, t.shape, ", from rank " .. from)
  return caller.call("dist.broadcast", functional.broadcast, t, from)
end

--- cld.dist.barrier(): returns when every rank has called it.
function dist.barrier() functional.barrier() end

--- first_only(): from here on only rank 0 runs, and the others wait until it ends. For what several processes cannot
-- share, such as a script that writes files.
function dist.first_only()
  if dist.alone then return end
  functional.set_timeout(0)
  if dist.rank > 0 then os.exit(true, true) end -- exiting waits for all ranks
  dist.world, dist.alone = 1, true
end

--- cld.dist.draw_rows(n, draw) -> tensor: this rank's n rows of draw(m), which returns random numbers for the m rows
-- of the whole current batch; m = n if every rank has the whole batch. So the ranks together draw the numbers that one
-- process would, and their generators stay equal, whatever each rank's share.
--
--     local noise = cld.dist.draw_rows(4, function(m) return cld.randn(m, 8) end)
--     print(#noise)                             --> 4
function dist.draw_rows(n, draw)
  n = caller.integer("dist.draw_rows", "n", n)
  local batch = functional.batch()
  if not batch then return draw(n) end
  local unit = n % batch.rows == 0 and n // batch.rows or 1
  local share = caller.call("dist.draw_rows", functional.images, "draw_rows", n // unit)
  local all <close> = draw(share.total * unit)
  if not core.tensor.is_tensor(all) or all.shape[1] ~= share.total * unit then
    caller.raise("dist.draw_rows: expected a tensor of %d rows, got %s", share.total * unit, caller.shown(all))
  end
  return all:narrow(1, share.begin * unit + 1, share.rows * unit)
end

-- Raises the user's error, the same on all ranks: the generators' positions differ.
local function raise_apart(own)
  local texts, other, others = functional.gather_strings(json.encode(own)), nil, {}
  for i, text in ipairs(texts) do
    other = other or text ~= texts[1] and text
    if text == other then others[#others + 1] = i - 1 end
  end
  local first, there = json.decode(texts[1]), json.decode(other)
  local what = first.seed ~= there.seed and "seed" or "position"
  user_error.raise("the random numbers of rank 0 are at %s %d, those of rank%s %s at %d: from here on the ranks would"
    .. " draw different ones. What a recipe draws for each of its rows goes through cld.dist.draw_rows, and all else"
    .. " all ranks draw alike", what, first[what], #others > 1 and "s" or "", table.concat(others, ", "), there[what])
end

-- The generator's position as a number of 62 bits.
local function place(state) return (state.position ~ state.seed * 0x9E3779B97F4A7C15) & (1 << 62) - 1 end

local last_place -- the generator's state at the last call of agree

--- cld.dist.agree(a, b) -> a, b: the maximum over the ranks of the integers a, and of b, that were given at the
-- previous call; without a job, those given now. It also checks that the ranks' generators were then at the same
-- position: if not, it is the user's error. Every rank calls it, at the same steps.
function dist.agree(a, b)
  if dist.alone then return a, b end
  local state = core.tensor.get_rng_state()
  local at = place(state)
  local agreed = functional.agree { a, b, at, -at }
  if agreed[3] ~= -agreed[4] then raise_apart(last_place) end
  last_place = state
  return agreed[1], agreed[2]
end

--- cld.dist.interrupted() -> name, number, or nil: a signal that any rank has received while signals are caught
-- (cld.catch_signals), the same on all ranks. With several ranks, all learn of it at the next call.
function dist.interrupted()
  local _, number = core.system.interrupted()
  number = dist.agree(number or 0, 0)
  if number > 0 then return core.system.signal_name(number), number end
end

--- cld.dist.whole_batch() -> guard: until it is closed, computations are on rows that all ranks have alike, whichever
-- batch of a loader is current. For the forward of your own tensor between batches.
function dist.whole_batch()
  if dist.alone then return nil end
  local before = functional.set_batch(nil)
  return setmetatable({}, { __close = function() functional.set_batch(before) end })
end

-- ---- for cld's own files ---------------------------------------------------------

--- cld.dist.shared(f, ...) -> value: what f(...) returns on rank 0, the only rank that calls it; JSON must be able to
-- hold it. If f fails, every rank raises its error.
function dist.shared(f, ...)
  if dist.alone then return f(...) end
  local told = {}
  if dist.rank == 0 then
    local ok, value = pcall(f, ...)
    told = ok and { value = value } or { problem = tostring(value) }
    if not ok then told.is_users = user_error.is(value) end
  end
  told = json.decode(functional.broadcast_string(json.encode(told)))
  if not told.problem then return told.value end
  if told.is_users then user_error.raise("%s", told.problem) end
  error(told.problem, 0)
end

--- cld.dist.without_timeout() -> guard: until it is closed, a rank may keep the others waiting without limit, for work
-- that one rank does for all, such as a download.
function dist.without_timeout()
  local before = functional.set_timeout(0)
  return setmetatable({}, { __close = function() functional.set_timeout(before) end })
end

--- cld.dist.tensors({tensor, ...}) -> {tensor, ...}: rank 0's tensors on every rank; the others pass nil.
function dist.tensors(list)
  if dist.alone then return list end
  local facts = {}
  for i, tensor in ipairs(list or {}) do facts[i] = { dtype = tensor.dtype, shape = tensor.shape } end
  facts = json.decode(functional.broadcast_string(json.encode(facts)))
  local all = {}
  for i, fact in ipairs(facts) do
    all[i] = dist.rank == 0 and list[i] or core.tensor.empty(fact.shape, { dtype = fact.dtype })
    if all[i]:numel() > 0 then functional.broadcast(all[i], 0) end
  end
  return all
end

local function shown(value, long)
  if type(value) == "string" and #value > 80 then return long end
  return tostring(value)
end

--- check_alike(values, named): raises the user's error if {name = value} (of JSON) differs between ranks. It names the
-- first value that differs, and the rank. `named(name)` is its name in that message.
function dist.check_alike(values, named)
  if dist.alone then return end
  local texts = functional.gather_strings(json.encode { host = core.system.host().name, values = values })
  local first = json.decode(texts[1])
  for rank = 1, dist.world - 1 do
    local other = json.decode(texts[rank + 1])
    local names = {}
    for name in pairs(first.values) do names[name] = true end
    for name in pairs(other.values) do names[name] = true end
    for _, name in ipairs(require "cld.sorted_keys" (names)) do
      local a, b = first.values[name], other.values[name]
      if json.encode(a) ~= json.encode(b) then
        user_error.raise("%s differs between the ranks: %s on rank 0 (%s), %s on rank %d (%s); all ranks run the same"
          .. " recipe, on the same data, with the same options", named(name), shown(a, "one"), first.host,
          shown(b, "another"), rank, other.host)
      end
    end
  end
end

--- cld.dist.described() -> text: how the current batch is split, in a word that is the same on all ranks.
function dist.described()
  if dist.alone then return "" end
  local share = functional.batch()
  return share and ("split %d by %d"):format(share.total, share.block) or "whole"
end

return dist
