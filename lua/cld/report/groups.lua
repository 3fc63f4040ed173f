--- The sizes of the groups that k-means makes of training images. It uses the features of the group branch if the
-- network has one, since CLD groups these, and otherwise the features that the run compares.
local core = require "cld.core"
local sample = require "cld.report.sample"
local create, losses = core.tensor, core.losses

local groups = {}

groups.usual = 32       -- the number of groups if the run has none
groups.iterations = 10
groups.pictured = 12    -- so many of the largest groups have pictures
groups.pictures = 8     -- so many in each

local ROWS_EACH = 8 -- images per group, at least

-- (net, images) -> the features of the net's group branch; nil if it has none.
local function group_branch(net)
  local branches = type(net) == "table" and type(net.branches) == "table" and net.branches or {}
  for place, name in ipairs(branches) do
    if name == "group" and #branches > 1 then
      return function(own, images) return (select(place, own(images))) end
    end
  end
end

local function features_of(material)
  local net = material.net
  local branch = net and material.sets and material.view and group_branch(net)
  if not branch then return material:memory(), "the features that are compared" end
  local set = material.sets.train
  return material:features(set, material.limits.groups, branch, 0.3), "the group branch"
end

-- The most common class of the members and how many have it.
local function majority(members, labels)
  local counts, best = {}, nil
  for _, at in ipairs(members) do
    local label = labels[at]
    if label >= 0 then
      counts[label] = (counts[label] or 0) + 1
      local more = best and counts[label] - counts[best] or 1
      if more > 0 or more == 0 and label < best then best = label end
    end
  end
  return best, best and counts[best]
end

--- of(material) -> {by = which features, rows = images, empty = groups without images, groups = {{size, label, share =
-- of the members with that class, slots}}}, the largest first; nil if there are no features, or too few.
function groups.of(material)
  if not material:can_see() then return nil end
  local found, by = features_of(material)
  if not found then return nil end
  local rows = math.min(#found.rows, material.limits.groups)
  local wanted = material.history.options.clusters
  local count = math.min(math.type(wanted) == "integer" and wanted > 1 and wanted or groups.usual, rows // ROWS_EACH)
  if count < 2 then return nil end
  local taken = sample.spread(#found.rows, rows)
  local features = found.features:index_select(1, create.tensor(taken, "i64"):to(found.features.device))
  local of = losses.kmeans(features, count, groups.iterations):totable()
  local members = {}
  for i, group in ipairs(of) do
    members[group] = members[group] or {}
    table.insert(members[group], taken[i] + 1)
  end
  local made = { by = by, rows = rows, empty = 0, groups = {} }
  for group = 0, count - 1 do
    local own = members[group]
    if own then
      local label, share = majority(own, found.labels)
      table.insert(made.groups, { size = #own, label = label, share = share, members = own, number = group })
    else
      made.empty = made.empty + 1
    end
  end
  table.sort(made.groups, function(a, b) return a.size > b.size or a.size == b.size and a.number < b.number end)
  for place, group in ipairs(made.groups) do
    group.slots = {}
    for i = 1, place <= groups.pictured and math.min(groups.pictures, #group.members) or 0 do
      group.slots[i] = material.pictures:add(found.set, found.rows[group.members[i]])
    end
    group.members, group.number = nil, nil
  end
  return made
end

return groups
