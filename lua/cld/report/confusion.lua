--- Which classes kNN confuses: counts over all test images that were examined.
local confusion = {}

--- of(material) -> {classes, images, right, k, cells = {{class, predicted, images}}}, with classes from 0 and only the
-- cells that are not empty; nil if there are no classes or no test images.
function confusion.of(material)
  if not material:can_see() then return nil end
  local predicted = material:predictions()
  if not predicted then return nil end
  local asked, classes = material:queries(), material:classes()
  local counts, made = {}, { classes = classes, images = 0, right = 0, cells = {} }
  for i, label in ipairs(asked.labels) do
    if label >= 0 and label < classes then
      local key = label * classes + predicted[i]
      counts[key] = (counts[key] or 0) + 1
      made.images, made.right = made.images + 1, made.right + (label == predicted[i] and 1 or 0)
    end
  end
  local keys = {}
  for key in pairs(counts) do keys[#keys + 1] = key end
  table.sort(keys)
  for i, key in ipairs(keys) do made.cells[i] = { key // classes, key % classes, counts[key] } end
  made.k, made.memory = math.min(material.knn.k or 200, #material:memory().rows), #material:memory().rows
  return made.images > 0 and made or nil
end

return confusion
