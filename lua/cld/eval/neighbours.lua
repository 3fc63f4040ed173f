--- Weighted k nearest neighbours (Wu et al., CVPR 2018), in one process or over all ranks of a job.
--
-- When shared, the memory's rows are divided among the ranks in order, and each rank has its own queries. The ranks
-- gather some queries at a time, and each rank lists the k nearest rows of its part for all of them. The lists go back
-- to the rank that asked, which selects the k nearest from the lists of all parts. A similarity depends only on its
-- two rows, and lists are in the order of the rows: the scores equal those of one process, to the last bit.
local caller = require "cld.caller"
local core = require "cld.core"
local dist = require "cld.dist"
local create, losses, no_grad = core.tensor, core.losses, core.autograd.no_grad
local gather = core.dist.all_gather

local neighbours = {}

--- The memory for lists at a time, in bytes; it limits how many queries are processed together.
neighbours.list_bytes = 128 << 20

local ENTRY_BYTES = 20 -- per list entry: its similarity, f32, its row and its label

-- ---- the arguments --------------------------------------------------------------

--- Error messages begin with `name`.
function neighbours.check(name, memory, labels, queries, options)
  caller.check_fields(name, options, { "k", "temperature", "classes" })
  for _, one in ipairs { { "memory", memory }, { "queries", queries } } do
    local x = one[2]
    if not create.is_tensor(x) or x.ndim ~= 2 or x.dtype ~= "f32" and x.dtype ~= "f64" then
      caller.raise("%s: expected %s as f32 or f64 (rows, dim), got %s", name, one[1], caller.shown(x))
    end
  end
  if memory.dtype ~= queries.dtype or memory.shape[2] ~= queries.shape[2] then
    caller.raise("%s: memory is %s, queries %s; expected the same dtype and dimension", name, caller.shown(memory),
      caller.shown(queries))
  elseif memory.device ~= queries.device then
    caller.raise("%s: memory is on %s, queries on %s", name, memory.device, queries.device)
  end
  if not create.is_tensor(labels) or labels.dtype ~= "i64" or labels.ndim ~= 1 or #labels ~= #memory then
    caller.raise("%s: expected labels as i64[%d], one per row of %s, got %s", name, #memory, caller.shown(memory),
      caller.shown(labels))
  end
  if labels.device ~= memory.device then
    caller.raise("%s: labels are on %s, memory on %s", name, labels.device, memory.device)
  end
end

-- What the ranks must know about each other, one table per rank: rows, queries, and the smallest and largest label.
local function facts_of(memory, labels, queries, shared)
  local own = { rows = #memory, queries = #queries, largest = -1, smallest = 0 }
  if own.rows > 0 then own.largest, own.smallest = labels:amax():item(), labels:amin():item() end
  if not shared then return { own } end
  local all = gather(create.tensor({ { own.rows, own.queries, own.largest, own.smallest } }, "i64")):totable()
  for rank, one in ipairs(all) do
    all[rank] = { rows = one[1], queries = one[2], largest = one[3], smallest = one[4] }
  end
  return all
end

local function most(facts, field)
  local largest = facts[1][field]
  for _, one in ipairs(facts) do largest = math.max(largest, one[field]) end
  return largest
end

-- Fills in the defaults of the settings; they depend on the memory of all ranks.
local function settled(name, options, facts)
  local k, rows, smallest = caller.integer(name, "k", options.k or 200), 0, 0
  local temperature = options.temperature or 0.1
  if type(temperature) ~= "number" or not (temperature > 0 and temperature < math.huge) then
    caller.raise("%s: the temperature is %s; expected a number above 0", name, caller.shown(temperature))
  end
  for _, one in ipairs(facts) do rows, smallest = rows + one.rows, math.min(smallest, one.smallest) end
  if rows == 0 then caller.raise("%s: the memory has no rows", name) end
  if most(facts, "queries") == 0 then caller.raise("%s: there are no queries", name) end
  local largest = most(facts, "largest")
  if not options.classes and largest >= (1 << 31) - 1 then
    caller.raise("%s: the largest label is %d; labels are classes from 0 on", name, largest)
  end
  local classes = options.classes and caller.integer(name, "classes", options.classes) or largest + 1
  if smallest < 0 or largest >= classes then
    caller.raise("%s: label %d is none of %d classes; expected 0 to %d", name, smallest < 0 and smallest or largest,
      classes, classes - 1)
  end
  return { k = math.min(k, rows), temperature = temperature, classes = classes }
end

-- ---- lists of neighbours ----------------------------------------------------------

-- Pads x (queries, n) with `value` to (queries, length).
local function padded(x, length, value)
  if x.shape[2] == length then return x end
  local _ <close> = x
  local rest <close> = create.full({ #x, length - x.shape[2] }, value, { dtype = x.dtype, device = x.device })
  return create.cat({ x, rest }, 2)
end

-- The nearest rows of this memory: similarities and labels (queries, length). Missing rows are -inf, with label 0.
local function listed(name, memory, labels, queries, length)
  local like = { dtype = queries.dtype, device = queries.device }
  if #memory == 0 then
    return create.full({ #queries, length }, -math.huge, like),
      create.zeros({ #queries, length }, { dtype = "i64", device = queries.device })
  end
  local found = math.min(length, #memory)
  local similarities, index = caller.call(name, losses.nearest, memory, queries, found)
  local _ <close> = index
  local flat <close> = index:reshape { -1 }
  local chosen <close> = labels:gather(1, flat)
  return padded(similarities, length, -math.huge), padded(chosen:reshape { #queries, found }, length, 0)
end

-- Sends the lists (queries of all ranks, length) to the ranks that asked, asked[r] of them to rank r. Returns the lists
-- of all ranks for this rank's `count` queries, side by side: (count, world * length). Closes x.
local function handed_back(x, asked, count)
  local _ <close> = x
  local from, length = {}, x.shape[2]
  for rank = 1, dist.world do from[rank] = count end
  local all <close> = core.dist.all_to_all(x, asked, from)
  local by_rank <close> = all:reshape { dist.world, count, length }
  local turned <close> = by_rank:permute(2, 1, 3)
  return turned:reshape { count, dist.world * length }
end

-- The number of a rank's queries from `first` on, at most `step`.
local function taken(one, first, step) return math.max(0, math.min(one.queries - first, step)) end

-- Lists the neighbours of this rank's queries `own` in all ranks' memories. All ranks ask at once.
local function listed_by_all(name, memory, labels, own, length, facts, first, step)
  local asked = {}
  for rank, one in ipairs(facts) do asked[rank] = taken(one, first, step) end
  local queries <close> = gather(own)
  local similarities, of = listed(name, memory, labels, queries, length)
  local _ <close> = of
  local small = of:to "i32" -- for the transfer
  similarities, small = handed_back(similarities, asked, #own), handed_back(small, asked, #own)
  local _ <close> = small
  return similarities, small:to "i64"
end

--- scores(name, memory (n, d), labels i64 (n), queries (m, d), {k = 200, temperature = 0.1, classes}[, shared]) ->
-- scores (m, classes) of these queries. With `shared` every rank calls it with its part of the memory, in the order of
-- the ranks, and with its own queries; a rank may have none of either. Errors begin with the name.
function neighbours.scores(name, memory, labels, queries, options, shared)
  neighbours.check(name, memory, labels, queries, options)
  local _ <close> = no_grad()
  local facts = facts_of(memory, labels, queries, shared)
  local settings = settled(name, options or {}, facts)
  local length = math.min(settings.k, most(facts, "rows"))
  local step = math.max(1, neighbours.list_bytes // ((shared and 2 or 1) * #facts * length * ENTRY_BYTES))
  local scores = create.empty({ #queries, settings.classes }, { dtype = queries.dtype, device = queries.device })
  for first = 0, most(facts, "queries") - 1, step do
    local count = taken({ queries = #queries }, first, step)
    local own <close> = queries:narrow(1, math.min(first, #queries) + 1, count)
    local similarities, of
    if shared then
      similarities, of = listed_by_all(name, memory, labels, own, length, facts, first, step)
    else
      similarities, of = listed(name, memory, labels, own, length)
    end
    local _ <close> = similarities
    local _ <close> = of
    if count > 0 then
      local part <close> = caller.call(name, losses.vote, similarities, of, settings)
      local place <close> = scores:narrow(1, first + 1, count)
      place:copy_(part)
    end
  end
  return scores
end

return neighbours
