--- Ranks several runs without labels, by what each has logged at an epoch's end (run/evaluation.lua), and checks how
-- well that agrees with kNN if the runs have it. For recipes/select.lua.
--
-- Criteria, each of which ranks the runs:
--   effective_rank        the higher the better (RankMe: Garrido et al., ICML 2023)
--   alignment             the lower the better, and
--   uniformity            the lower the better (Wang and Isola, ICML 2020); a collapse has the best alignment, so
--   alignment_uniformity  is their sum, which replaces both in the mean
--   group_accuracy        the higher the better: of runs with a group branch, over the epoch's steps
--   nmi                   the higher the better: of the groups of two views
--   mean                  the lower the better: the mean of a run's places by effective_rank, alignment_uniformity,
--                         group_accuracy and nmi, as far as all the runs have them
local core = require "cld.core"
local history = require "cld.run.history"
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"

local selection = {}

-- Whether higher is better.
local criteria = {
  { "effective_rank", true }, { "alignment", false }, { "uniformity", false }, { "alignment_uniformity", false },
  { "group_accuracy", true }, { "nmi", true },
}
local in_mean = { effective_rank = true, alignment_uniformity = true, group_accuracy = true, nmi = true }

--- The criteria's names, "mean" first.
selection.names = { "mean" }
for i, entry in ipairs(criteria) do selection.names[i + 1] = entry[1] end

-- ---- what a run has logged --------------------------------------------------------

local function number(values, name)
  local value = type(values) == "table" and values[name]
  return math.type(value) and value or nil
end

-- {[epoch] = {diagnostics =, means =, score =}}, and the last epoch with diagnostics.
local function epochs_of(events)
  local epochs, last = {}, nil
  for _, event in ipairs(events) do
    local own = epochs[event.epoch] or {}
    epochs[event.epoch] = own
    if event.event == "diagnostics" then own.diagnostics, last = event.values, event.epoch end
    if event.event == "epoch" then own.means = event.means end
    if event.event == "score" then own.score = event.values end
  end
  return epochs, last
end

-- The last kNN score up to an epoch: not every epoch has one.
local function score_at(epochs, epoch)
  for e = epoch, 1, -1 do
    local score = epochs[e] and number(epochs[e].score, "top1")
    if score then return score end
  end
end

-- A value that is not finite is a string in the log.
local function not_finite(diagnostics)
  for _, entry in ipairs(criteria) do
    if type(diagnostics[entry[1]]) == "string" then return true end
  end
  return false
end

--- read(folder, epoch or nil) -> {name, recipe, epoch, epochs, ended, values = {criterion = number}, knn}; or nil and
-- why not. Without an epoch it takes the last one that has diagnostics. The group accuracy covers the epoch's
-- steps; everything else is measured at its end.
function selection.read(folder, epoch)
  local run, why = history.read(folder)
  if not run then return nil, why end
  local epochs, last = epochs_of(run.events)
  if not last then return nil, "its log has no diagnostics: no epoch has ended with run:evaluate or run:diagnose" end
  local at = epoch or last
  local own = epochs[at]
  if not own or type(own.diagnostics) ~= "table" then
    return nil, ("its log has no diagnostics of epoch %d; the last are of epoch %d"):format(at, last)
  elseif not_finite(own.diagnostics) then
    return nil, ("its features were not finite in epoch %d"):format(at)
  end
  local values = { group_accuracy = number(own.means, "group_accuracy") }
  for _, entry in ipairs(criteria) do
    local name = entry[1]
    values[name] = values[name] or number(own.diagnostics, name)
  end
  if values.alignment and values.uniformity then
    values.alignment_uniformity = values.alignment + values.uniformity
  end
  return {
    name = folder, recipe = run.recipe, epoch = at, epochs = math.tointeger(run.options.epochs),
    ended = run.state == "ended", values = values, knn = score_at(epochs, at),
  }
end

-- ---- orders ------------------------------------------------------------------------

--- places({number or nil, ...}, n, more is better) -> {place, ...}, from 1; equal values share the mean of their
-- places, and missing values share the last ones.
function selection.places(values, n, more)
  local keys, places = {}, {}
  for i = 1, n do
    local value = values[i]
    keys[i] = (not value or value ~= value) and math.huge or more and -value or value
  end
  for i = 1, n do
    local before, equal = 0, 0
    for j = 1, n do
      before, equal = before + (keys[j] < keys[i] and 1 or 0), equal + (keys[j] == keys[i] and 1 or 0)
    end
    places[i] = before + (equal + 1) / 2
  end
  return places
end

--- spearman(places, other places) -> Spearman's rho: the correlation of the two; nil if one of them is constant.
function selection.spearman(a, b)
  local n, mean = #a, (#a + 1) / 2
  local ab, aa, bb = 0, 0, 0
  for i = 1, n do
    ab, aa, bb = ab + (a[i] - mean) * (b[i] - mean), aa + (a[i] - mean) ^ 2, bb + (b[i] - mean) ^ 2
  end
  return aa > 0 and bb > 0 and ab / math.sqrt(aa * bb) or nil
end

local function column(runs, name)
  local values, all = {}, true
  for i, run in ipairs(runs) do
    values[i] = run.values[name]
    all = all and values[i] ~= nil
  end
  return values, all
end

--- rank(runs) -> {places = {criterion = {place of each run}}, shared = names that all have, rho = {criterion =
-- Spearman's rho with kNN} or nil}. rho needs at least three runs, all with a kNN accuracy, and covers the criteria
-- that all have.
function selection.rank(runs)
  local places, shared, sums, count = {}, {}, {}, 0
  for i = 1, #runs do sums[i] = 0 end
  for _, entry in ipairs(criteria) do
    local name = entry[1]
    local values, all = column(runs, name)
    places[name] = selection.places(values, #runs, entry[2])
    if all then shared[#shared + 1] = name end
    if all and in_mean[name] then
      count = count + 1
      for i, place in ipairs(places[name]) do sums[i] = sums[i] + place end
    end
  end
  for i, sum in ipairs(sums) do sums[i] = count > 0 and sum / count or 1 end -- all equal, if nothing is shared
  places.mean = sums
  if count > 0 then table.insert(shared, 1, "mean") end
  local knn, rho = {}, {}
  for i, run in ipairs(runs) do knn[i] = run.knn or 0 / 0 end
  for _, value in ipairs(knn) do
    if value ~= value then rho = nil end
  end
  if #runs < 3 then rho = nil end
  if rho then
    local by_knn = selection.places(knn, #runs, true)
    for _, name in ipairs(shared) do
      local own = places[name]
      if name == "mean" then own = selection.places(own, #runs, false) end
      rho[name] = selection.spearman(own, by_knn)
    end
  end
  return { places = places, shared = shared, rho = rho }
end

-- ---- text --------------------------------------------------------------------------

local titles = {
  { "effective_rank", "rank", "%.1f" }, { "alignment", "align", "%.3f" }, { "uniformity", "uniform", "%.3f" },
  { "alignment_uniformity", "sum", "%.3f" }, { "group_accuracy", "group", "%.3f" }, { "nmi", "nmi", "%.3f" },
}

local function place_text(place) return (place % 1 == 0 and "%d" or "%.1f"):format(place) end

-- Joins words in columns as wide as their widest word.
local function table_lines(rows)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for c, word in ipairs(row) do widths[c] = math.max(widths[c] or 0, #word) end
  end
  for r, row in ipairs(rows) do
    local words = {}
    for c = 1, #row do words[c] = (c == 1 and "%-" or "%") .. widths[c] .. "s" end
    lines[r] = (table.concat(words, "  ")):format(table.unpack(row))
  end
  return lines
end

--- lines(runs, ranked, by) -> a table: a row for each run, the best by the criterion `by` first; each value with the
-- run's place; then Spearman's rho with kNN.
function selection.lines(runs, ranked, by)
  local _ <close> = core.text.c_locale()
  local order = {}
  for i = 1, #runs do order[i] = i end
  local places = ranked.places[by]
  table.sort(order, function(a, b)
    if places[a] ~= places[b] then return places[a] < places[b] end
    return a < b
  end)
  local rows = { { "run", "epoch" } }
  for _, title in ipairs(titles) do table.insert(rows[1], title[2]) end
  table.insert(rows[1], "mean place")
  table.insert(rows[1], "kNN")
  for _, i in ipairs(order) do
    local run = runs[i]
    local row = { run.name, tostring(run.epoch) }
    for _, title in ipairs(titles) do
      local value = run.values[title[1]]
      row[#row + 1] = value and (title[3] .. " (%s)"):format(value, place_text(ranked.places[title[1]][i])) or "-"
    end
    row[#row + 1] = ranked.shared[1] == "mean" and ("%.2f"):format(ranked.places.mean[i]) or "-"
    row[#row + 1] = run.knn and ("%.2f %%"):format(100 * run.knn) or "-"
    rows[#rows + 1] = row
  end
  local lines = table_lines(rows)
  if ranked.rho then
    local words = {}
    for _, name in ipairs(ranked.shared) do
      words[#words + 1] = ("%s %s"):format(name, ranked.rho[name] and ("%.2f"):format(ranked.rho[name]) or "-")
    end
    lines[#lines + 1] = ("Spearman's rho with kNN over %d runs: %s"):format(#runs, table.concat(words, ", "))
  end
  return lines
end

--- notices(runs, by) -> lines: what the reader should know before comparing the runs by a criterion.
function selection.notices(runs, by)
  local lines, recipes, names = {}, {}, {}
  for _, run in ipairs(runs) do
    if by ~= "mean" and not run.values[by] then
      lines[#lines + 1] = ("%s: it has logged no %s, and comes last"):format(run.name, by)
    end
    if not run.ended then
      lines[#lines + 1] = ("%s: unfinished: epoch %d%s counts"):format(run.name, run.epoch,
        run.epochs and (" of %d"):format(run.epochs) or "")
    end
    local recipe = run.recipe or "an unknown recipe"
    if not recipes[recipe] then names[#names + 1], recipes[recipe] = recipe, true end
  end
  if #names > 1 then
    lines[#lines + 1] = ("runs of %d recipes (%s): other heads and losses give other figures, whatever the features"
      .. " are worth"):format(#names, table.concat(names, ", "))
  end
  return lines
end

-- Raises if no run has the criterion.
local function check_criterion(runs, by)
  local known = {}
  for _, run in ipairs(runs) do
    if by == "mean" or run.values[by] then return end
    for name in pairs(run.values) do known[name] = true end
  end
  user_error.raise("option '--by': none of these runs has logged %s; they have %s", by,
    table.concat(sorted_keys(known), ", "))
end

--- of_folders(folders, epoch or nil, by) -> runs, and lines that say which were left out and why. It is the user's
-- error if none is left, or if none has the criterion `by`.
function selection.of_folders(folders, epoch, by)
  if #folders == 0 then
    user_error.raise "expected folders of runs: cldlua recipes/select.lua runs/a runs/b (--help lists the options)"
  end
  local runs, left_out, seen = {}, {}, {}
  for _, folder in ipairs(folders) do
    folder = folder:gsub("(.)/+$", "%1")
    local run, why = nil, "it was given before"
    if not seen[folder] then run, why = selection.read(folder, epoch) end
    runs[#runs + 1], seen[folder] = run, true
    if not run then left_out[#left_out + 1] = ("%s: left out: %s"):format(folder, why) end
  end
  if #runs == 0 then
    user_error.raise("none of these can be ranked: %s%s", left_out[1],
      #left_out > 1 and ("; and %d more"):format(#left_out - 1) or "")
  end
  check_criterion(runs, by)
  return runs, left_out
end

return selection
