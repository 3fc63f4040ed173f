--- Thumbnails: all images of a run that a report shows, each once, in one JPEG of squares of 32 pixels.
--
--   local pictures = pictures.new()
--   local slot = pictures:add(set, row)      -- from 0; the same slot if the image was added before
--   pictures:sprite { ... }                  -- once all are added
local augment = require "cld.augment"
local core = require "cld.core"
local image = require "cld.image"
local sample = require "cld.report.sample"
local create = core.tensor

local pictures = {}

--- Pixels of a thumbnail's side. A JPEG with halved colours is coded in squares of 16 pixels, so thumbnails do not
-- bleed into each other.
pictures.side = 32

local Pictures = {}
Pictures.__index = Pictures

function pictures.new() return setmetatable({ list = {}, slots = {} }, Pictures) end

--- add(set, row) -> the slot of image `row`, from 0, of a data set.
function Pictures:add(set, row)
  local of_set = self.slots[set] or {}
  self.slots[set] = of_set
  if not of_set[row] then
    of_set[row] = #self.list
    self.list[#self.list + 1] = { set, row }
  end
  return of_set[row]
end

-- The largest square in the middle of the image.
local function thumbnail_view()
  return augment.list {
    augment.resize { size = pictures.side }, augment.center_crop { size = pictures.side },
    augment.normalize { mean = 0, std = 1 },
  }
end

-- {slot = u8 (32, 32, 3)} of the images that can be read in time, in the order in which they were added.
local function read(self, options)
  local found, view, by_set, order = {}, thumbnail_view(), {}, {}
  for slot, entry in ipairs(self.list) do
    local set, row = entry[1], entry[2]
    if not by_set[set] then
      by_set[set] = { rows = {}, slots = {} }
      order[#order + 1] = set
    end
    table.insert(by_set[set].rows, row)
    table.insert(by_set[set].slots, slot)
  end
  for _, set in ipairs(order) do
    local own = by_set[set]
    for views, at in sample.batches(set, own.rows, {
      views = { view }, workers = options.workers, deadline = options.deadline,
    }) do
      local levels = (views[1] * 255):clamp(0, 255):round():permute(1, 3, 4, 2):to "u8":unbind()
      for i, position in ipairs(at:totable()) do found[own.slots[position + 1]] = levels[i] end
    end
  end
  return found
end

local function page_of(found, columns, count)
  local list, empty = {}, create.full({ pictures.side, pictures.side, 3 }, 128, { dtype = "u8" })
  for slot = 1, count do list[slot] = found[slot] or empty end
  return image.grid(list, { columns = columns, padding = 0 })
end

--- sprite{bytes = at most so many, workers, deadline} -> {bytes = u8 (n), a JPEG, columns, count, missing = list of
-- slots without a picture}; nil if there is no picture at all. If there is not enough room, it holds the first ones.
function Pictures:sprite(options)
  if #self.list == 0 then return nil end
  local found = read(self, options)
  if not next(found) then return nil end
  local count, quality = #self.list, 80
  while true do
    local columns = math.min(count, math.max(1, math.ceil(math.sqrt(count))))
    local bytes = core.picture.encode("jpeg", page_of(found, columns, count), quality)
    if #bytes <= options.bytes or count == 1 then
      local missing = {}
      for slot = 1, #self.list do
        if slot > count or not found[slot] then missing[#missing + 1] = slot - 1 end
      end
      return { bytes = bytes, columns = columns, count = count, missing = missing }
    end
    if quality > 60 then
      quality = quality - 10
    else
      count = math.max(1, math.min(count - 1, math.floor(count * options.bytes / #bytes * 0.97)))
    end
  end
end

-- The last two names of a path: a class's folder, and the file in it.
local function short(path) return path:match "[^/]+/[^/]+$" or path end

--- facts() -> {sets = {name}, set = {index from 0}, row = {}, name = {text or ""}}: lists with one entry per
-- slot.
function Pictures:facts()
  local facts = { sets = {}, set = {}, row = {}, name = {} }
  local known = {}
  for slot, entry in ipairs(self.list) do
    local set, row = entry[1], entry[2]
    if not known[set] then
      facts.sets[#facts.sets + 1] = set.name
      known[set] = #facts.sets
    end
    local path_of = rawget(set, "path_of")
    facts.set[slot], facts.row[slot] = known[set] - 1, row
    facts.name[slot] = path_of and short(path_of(row + 1)):sub(-80) or ""
  end
  return facts
end

return pictures
