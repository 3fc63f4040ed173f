--- Features of some images of a data set within a time limit, for the parts of a report. With several ranks, the
-- calling rank does it alone.
local core = require "cld.core"
local data = require "cld.data"
local dist = require "cld.dist"
local extract = require "cld.eval.extract"
local user_error = require "cld.user_error"
local create, no_grad, clock = core.tensor, core.autograd.no_grad, core.system.clock

local sample = {}

local function common_divisor(a, b)
  while b ~= 0 do a, b = b, a % b end
  return a
end

--- spread(n, count) -> count different rows of n, from 0, as a list. Every beginning of the list, short or long, is
-- spread evenly over all n. The list is always the same.
function sample.spread(n, count)
  local step = math.max(1, math.floor(n * 0.6180339887 + 0.5))
  while common_divisor(step, n) ~= 1 do step = step + 1 end
  local rows = {}
  for i = 0, math.min(count, n) - 1 do rows[i + 1] = i * step % n end
  return rows
end

--- Raises if a signal has asked the program to end, which should not wait for a report.
function sample.check_signals()
  if core.system.interrupted() then user_error.raise "interrupted" end
end

--- batches(set, rows, {views, device, workers, deadline}): `for views, at in ...` iterates over the images of these
-- rows (a list, from 0) in order; at is i64 (n), the positions in `rows`, from 0. Ends at the deadline
-- (core.system.clock). An image that cannot be read is left out; another may come twice.
function sample.batches(set, rows, options)
  local loader = data.loader {
    data.subset { set, indices = create.tensor(rows, "i64") }, views = options.views, shuffle = false,
    drop_single = false, batch_size = options.batch_size or 256, device = options.device or "cpu",
    workers = options.workers, max_bad = 1, strict = false, decode = options.decode, rank = 0, world = 1,
  }
  local next_batch, _, _, closing = loader:epoch(1)
  return function()
    sample.check_signals()
    if clock() > (options.deadline or math.huge) then return nil end
    local batch = next_batch()
    if batch then return batch.views, batch.index end
  end, nil, nil, closing
end

-- Positions that have not come before, as a list, and their places in the batch.
local function fresh(at, seen)
  local kept, positions = {}, {}
  for i, position in ipairs(at:totable()) do
    if not seen[position] then
      seen[position] = true
      kept[#kept + 1], positions[#positions + 1] = i - 1, position
    end
  end
  return kept, positions
end

--- features(set, rows, {branch = function(net, images) -> tensor (n, d), net, view, device, workers, deadline}) ->
-- {set, rows, features (n, d), each row of length 1, labels = list} of the rows that could be read in time, or nil
-- if there are none. Features that are not finite are an error.
function sample.features(set, rows, options)
  local parts, seen, kept = {}, {}, {}
  local _ <close> = dist.whole_batch()
  for views, at in sample.batches(set, rows, {
    views = { options.view }, device = options.device, workers = options.workers, deadline = options.deadline,
    decode = "exact",
  }) do
    local _ <close> = extract.in_eval_mode(options.net)
    local _ <close> = no_grad()
    local made = options.branch(options.net, views[1])
    if not create.is_tensor(made) or made.ndim ~= 2 then user_error.raise "its network makes no rows of features" end
    local places, positions = fresh(at, seen)
    for _, position in ipairs(positions) do kept[#kept + 1] = rows[position + 1] end
    local own = #places == #made and made or made:index_select(1, create.tensor(places, "i64"):to(made.device))
    parts[#parts + 1] = own:float():normalize()
  end
  if #kept == 0 then return nil end
  local all = create.cat(parts, 1)
  local odd = extract.odd_rows(all):item()
  if odd > 0 then user_error.raise("the features of %d of %d images are not finite", odd, #kept) end
  return { set = set, rows = kept, features = all, labels = sample.labels(set, kept) }
end

--- labels(set, rows) -> their labels, a list; -1 for an image without one.
function sample.labels(set, rows)
  return set.labels:index_select(1, create.tensor(rows, "i64")):totable()
end

return sample
