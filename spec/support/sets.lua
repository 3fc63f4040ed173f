--- Small data sets for the specs, and the content of a set: from set:read, and from the batches of an epoch.
local cld = require "cld"
local files = require "spec.support.data_files"

local sets = {}

function sets.i64(list) return cld.tensor(list, "i64") end

--- An image of one pixel, {10 i, 0, 0}, for each label in the list, with i from 0.
function sets.pixels(labels, more)
  local options = { images = files.images(#labels, 1, 1), labels = sets.i64(labels) }
  for name, value in pairs(more or {}) do options[name] = value end
  return cld.data.tensors(options)
end

--- A folder with classes a (2 images) and b (1), in the colours {10, 0, 0}, {20, 0, 0}, {30, 0, 0}.
function sets.folder(path)
  for i, name in ipairs { "a/1.png", "a/2.jpg", "b/1.ppm" } do
    files.write(path .. "/" .. name, files.ppm(2, 3, { 10 * i, 0, 0 }))
  end
  return cld.data.folder { root = path }
end

--- The first red value of each image.
function sets.reds(set)
  local found = {}
  for i = 1, #set do found[i] = files.colour((set:read(i)))[1] end
  return found
end

function sets.labels_read(set)
  local found = {}
  for i = 1, #set do found[i] = select(2, set:read(i)) end
  return found
end

--- {labels =, index =, red =} of the images of an epoch in order, and the bad images. more: the loader's settings.
function sets.epoch(set, more)
  local options = { set, batch_size = 64, views = 1, shuffle = false, drop_single = false,
    augment = cld.augment.list { cld.augment.center_crop { size = 1 } } }
  for name, value in pairs(more or {}) do options[name] = value end
  local loader, found = cld.data.loader(options), { labels = {}, index = {}, red = {} }
  for batch in loader:epoch(1) do
    for k, label in ipairs(batch.labels:totable()) do
      table.insert(found.labels, label)
      table.insert(found.index, batch.index[k]:item())
      table.insert(found.red, math.floor(batch.views[1][k][1][1][1]:item() * 255 + 0.5))
    end
  end
  return found, loader:unreadable()
end

return sets
