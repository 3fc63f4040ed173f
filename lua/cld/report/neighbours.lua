--- The gallery: some images and their nearest neighbours according to the network.
local core = require "cld.core"
local sample = require "cld.report.sample"
local create, losses = core.tensor, core.losses

local neighbours = {}

neighbours.queries = 20 -- images
neighbours.shown = 10   -- neighbours of each

-- Positions of queries, from 1: about equally many of every class.
local function chosen(asked, classes)
  local most = classes > 0 and math.max(1, math.ceil(neighbours.queries / classes)) or neighbours.queries
  local taken, positions, rest = {}, {}, {}
  for _, at in ipairs(sample.spread(#asked.rows, #asked.rows)) do
    local label = asked.labels[at + 1]
    if label < 0 or (taken[label] or 0) < most then
      taken[label] = (taken[label] or 0) + 1
      positions[#positions + 1] = at + 1
    else
      rest[#rest + 1] = at + 1
    end
    if #positions == neighbours.queries then return positions end
  end
  table.move(rest, 1, neighbours.queries - #positions, #positions + 1, positions)
  return positions
end

-- {{row of the memory from 1, similarity}, ...}, nearest first, without the query itself.
local function nearest_of(similarities, index, own, count)
  local list = {}
  for i, similarity in ipairs(similarities) do
    if index[i] ~= own then list[#list + 1] = { index[i] + 1, similarity } end
  end
  table.sort(list, function(a, b) return a[2] > b[2] or a[2] == b[2] and a[1] < b[1] end)
  return table.move(list, 1, count, 1, {})
end

--- of(material) -> {layer, memory = images, queries = {{slot, label, predicted, neighbours = {{slot, label,
-- similarity}}}}}: labels from 0, -1 or nil if there is none. nil if there are no features.
function neighbours.of(material)
  if not material:can_see() then return nil end
  local asked, memory = material:queries(), material:memory()
  if not asked or not memory then return nil end
  local predicted, is_same = material:predictions(), asked == memory
  local positions, rows = chosen(asked, material:classes()), {}
  for i, position in ipairs(positions) do rows[i] = position - 1 end
  local count = math.min(neighbours.shown, #memory.rows - (is_same and 1 or 0))
  if count < 1 then return nil end
  local queries = asked.features:index_select(1, create.tensor(rows, "i64"):to(asked.features.device))
  local similarities, index = losses.nearest(memory.features, queries, math.min(count + (is_same and 1 or 0),
    #memory.rows))
  similarities, index = similarities:totable(), index:totable()
  local made = { layer = material.layer or "instance", memory = #memory.rows, queries = {} }
  for i, position in ipairs(positions) do
    local query = {
      slot = material.pictures:add(asked.set, asked.rows[position]), label = asked.labels[position],
      predicted = predicted and predicted[position], neighbours = {},
    }
    for n, near in ipairs(nearest_of(similarities[i], index[i], is_same and position - 1 or nil, count)) do
      query.neighbours[n] = {
        slot = material.pictures:add(memory.set, memory.rows[near[1]]), label = memory.labels[near[1]],
        similarity = tonumber(("%.3f"):format(near[2])),
      }
    end
    made.queries[i] = query
  end
  return made
end

return neighbours
