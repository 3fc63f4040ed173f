--- The curves of a report: everything that a run has logged, in the order in which a reader looks at it, with a short
-- description of each and as many points as a page can draw.
local history = require "cld.run.history"
local json = require "cld.json"
local sorted_keys = require "cld.sorted_keys"

local curves = {}

--- The approximate total of points for all curves of a run; longer curves keep the lowest and highest of each stretch.
curves.most_points = 24000

-- Names that recipes and runs log, in order; others, a recipe's own losses, come after the first group.
local known = {
  { "top1", "kNN accuracy on the test images", unit = "share" },
  { "top5", "kNN accuracy, label among the five best", unit = "share" },
  false, -- all others
  { "instance", "loss of the instance branch" },
  { "cld", "cross-level loss of the group branch" },
  { "group_accuracy", "rows that found their group in the other view", unit = "share" },
  { "empty_groups", "groups without a row", unit = "share" },
  { "alignment", "mean squared distance of two views of an image" },
  { "alignment_evaluated", "the same at the epoch's end, of the same images" },
  { "uniformity", "of features on the sphere; lower is more even" },
  { "uniformity_evaluated", "the same at the epoch's end, of the same images" },
  { "effective_rank", "directions that the features use" },
  { "nmi", "how much the groups of two views tell of each other" },
  { "lr", "learning rate" },
  { "grad_norm", "length of the gradient" },
  { "images_per_second", "images a second" },
  { "data_wait", "share of the time spent waiting for images", unit = "share" },
}

local place, about = {}, {}
for i, entry in ipairs(known) do
  if entry then place[entry[1]], about[entry[1]] = i, entry end
end

--- in_order({name = anything}) -> the names, as a list.
function curves.in_order(set)
  local names = sorted_keys(set)
  local others, rank = 3, {}
  for i, name in ipairs(names) do rank[name] = (place[name] or others) * 10000 + i end
  table.sort(names, function(a, b) return rank[a] < rank[b] end)
  return names
end

-- A screen shows fewer than six digits; JSON has no NaN.
local function figure(value)
  if not value or value ~= value or math.abs(value) == math.huge then return json.null end
  return tonumber(("%.6g"):format(value))
end

local function is_finite(point) return point.value == point.value and math.abs(point.value) < math.huge end

-- At most about `most` points: the lowest and highest of each stretch, and the first and last of all.
local function thinned(points, most)
  if #points <= most then return points end
  local kept, stretch = { points[1] }, 2 * (#points - 2) / (most - 2)
  local first = 2
  while first < #points do
    local last = math.min(#points - 1, math.max(first, math.floor(first + stretch - 1)))
    local low, high = first, first
    for i = first, last do
      if is_finite(points[i]) then
        if not is_finite(points[low]) or points[i].value < points[low].value then low = i end
        if not is_finite(points[high]) or points[i].value > points[high].value then high = i end
      end
    end
    kept[#kept + 1] = points[math.min(low, high)]
    if low ~= high then kept[#kept + 1] = points[math.max(low, high)] end
    first = last + 1
  end
  kept[#kept + 1] = points[#points]
  return kept
end

--- of(events of cld.run.history) -> {name = {epoch = {}, step = {}, seconds = {}, value = {}}}: lists; a value that is
-- not finite is null.
function curves.of(events)
  local logged, made, count = history.curves(events), {}, 0
  for _ in pairs(logged) do count = count + 1 end
  local most = math.max(50, curves.most_points // math.max(count, 1))
  for name, points in pairs(logged) do
    local one = { epoch = {}, step = {}, seconds = {}, value = {} }
    for i, point in ipairs(thinned(points, most)) do
      one.epoch[i], one.step[i] = figure(point.epoch), figure(point.step)
      one.seconds[i], one.value[i] = figure(point.seconds), figure(point.value)
    end
    made[name] = one
  end
  return made
end

--- texts(names) -> {name = {text = what it is, unit = "share" or nil}} for the known names.
function curves.texts(names)
  local texts = {}
  for _, name in ipairs(names) do
    if about[name] then texts[name] = { text = about[name][2], unit = about[name].unit } end
  end
  return texts
end

return curves
