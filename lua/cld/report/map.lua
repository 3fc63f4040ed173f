--- The map: the features of images as points by principal components and by t-SNE, each with its image.
local core = require "cld.core"
local eval = require "cld.eval"
local sample = require "cld.report.sample"
local create, clock = core.tensor, core.system.clock

local map = {}

map.perplexity = 30
map.iterations = 1000
map.fewest = 12 -- a map needs so many points

local TRIAL = 2000 -- points of the trial that estimates the time
local TRIAL_STEPS = 25

local GRID = 4095 -- coordinates are integers from 0 to this, finer than a screen

-- Points (n, 2) as two lists of integers, centred, with the same scale for both axes.
local function coordinates(points)
  local low, high = points:amin(1):totable(), points:amax(1):totable()
  local span = math.max(high[1] - low[1], high[2] - low[2], 1e-12)
  local scale = GRID / span
  local begin = create.tensor { (low[1] + high[1] - span) / 2, (low[2] + high[2] - span) / 2 }
  local places = ((points - begin) * scale):round():clamp(0, GRID):to "i64"
  return { x = places:narrow(2, 1, 1):reshape { -1 }:totable(), y = places:narrow(2, 2, 1):reshape { -1 }:totable() }
end

local function perplexity_of(count) return math.max(1, math.min(map.perplexity, (count - 1) // 3)) end

local function rows_of(features, rows) return features:index_select(1, create.tensor(rows, "i64")) end

-- Seconds for so many steps with these rows.
local function time_of(features, steps)
  local began = clock()
  eval.tsne(features, { perplexity = perplexity_of(#features), iterations = steps })
  return clock() - began
end

--- affordable(features, seconds) -> how many of the rows t-SNE can map in so many seconds on this machine at its
-- present load. Finding neighbours takes time in proportion to n squared, a step to n log n.
function map.affordable(features, seconds)
  local count = #features
  if count <= TRIAL // 2 or seconds == math.huge then return count end
  local trial = math.min(count, TRIAL)
  local some = rows_of(features, sample.spread(count, trial))
  local finding = time_of(some, 0)
  local step = math.max(time_of(some, TRIAL_STEPS) - finding, 1e-6) / TRIAL_STEPS
  local points = count
  local function needed()
    local share = points / trial
    return finding * share ^ 2 + map.iterations * step * share * math.log(points) / math.log(trial)
  end
  while points > TRIAL // 2 and needed() > seconds do points = math.floor(points * 0.95) end
  return points
end

--- of(material) -> {slots, labels, predicted (lists with an entry per point), pca = {x, y}, tsne = {x, y, kl,
-- perplexity}, of = the number of images available}; nil if there are no features, or too few.
function map.of(material)
  if not material:can_see() then return nil end
  local asked = material:queries()
  if not asked then return nil end
  if #asked.rows < map.fewest then
    material:note(("A map needs %d images; there %s %d."):format(map.fewest, #asked.rows == 1 and "is" or "are",
      #asked.rows))
    return nil
  end
  local predicted = material:predictions()
  local taken = sample.spread(#asked.rows, material.limits.points)
  local features = rows_of(asked.features:cpu():float(), taken)
  local by = material:by(0.6)
  local count = map.affordable(features, by and math.min(25, by - clock()) or math.huge)
  if count < #features then features = features:narrow(1, 1, count) end
  local made = { slots = {}, labels = {}, predicted = predicted and {} or nil, of = #asked.set, layer = material.layer }
  for i = 1, count do
    local at = taken[i] + 1
    made.slots[i] = material.pictures:add(asked.set, asked.rows[at])
    made.labels[i] = asked.labels[at]
    if predicted then made.predicted[i] = predicted[at] end
  end
  made.is_test = material:has_test()
  if features.shape[2] >= 2 then made.pca = coordinates(eval.pca(features, 2)) end
  local points, kl = eval.tsne(features, { perplexity = perplexity_of(count), iterations = map.iterations })
  made.tsne = coordinates(points)
  made.tsne.kl, made.tsne.perplexity = tonumber(("%.3f"):format(kl)), perplexity_of(count)
  return made
end

return map
