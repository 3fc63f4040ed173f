--- Shows what the training sees: some images, and the views that each of its programs makes of them.
local augment = require "cld.augment"
local core = require "cld.core"
local image = require "cld.image"
local sample = require "cld.report.sample"

local views = {}

views.images = 6    -- of the training set
views.of_each = 7   -- views of an image; patches of one jigsaw are shown together
views.programs = 4  -- at most: the first ones
views.largest = 96  -- pixels of a picture's side

-- u8 (height, width, 3) in a square of `side` pixels: all of a view, or the middle of an image.
local function fitted(picture, side, is_view)
  local list = is_view and { augment.resize { size = { side, side } } }
    or { augment.resize { size = side }, augment.center_crop { size = side } }
  list[#list + 1] = augment.normalize { mean = 0, std = 1 }
  return augment.list(list):views(picture)
end

local function levels(pixels) return (pixels * 255):clamp(0, 255):round():permute(1, 3, 4, 2):to "u8" end

-- Views as the program makes them, as pictures u8 (n, height, width, 3).
local function pictures_of(program, picture, key)
  local mean, std = program:statistics()
  local function channels(values) return core.tensor.tensor(values):reshape(1, 3, 1, 1) end
  return levels(program:views(picture, key) * channels(std) + channels(mean))
end

-- "flip { p = 0.5 }", with numbers of a readable length.
local function text_of(step)
  local text = tostring(step):gsub("^cld%.augment%.", "")
  return (text:gsub("%d+%.%d+", function(number) return ("%.4g"):format(number) end))
end

-- A page for a program: one row per image, starting with the image.
local function page(program, originals)
  local patches = program:images()
  local of_each = patches > 1 and 1 or views.of_each
  local height, width = program:size(originals[1][1].shape[1], originals[1][1].shape[2])
  local side = math.min(views.largest, math.max(height, width))
  local list = {}
  for _, entry in ipairs(originals) do
    list[#list + 1] = levels(fitted(entry[1], side))[1]
    for view = 1, of_each do
      local made = pictures_of(program, entry[1], { seed = 1, epoch = 1, sample = entry[2], view = view })
      for _, one in ipairs(made:unbind()) do
        list[#list + 1] = height == side and width == side and one or levels(fitted(one, side, true))[1]
      end
    end
  end
  local columns = 1 + of_each * patches
  local picture = image.grid(list, { columns = columns, padding = 0 })
  local steps = {}
  for i, step in ipairs(program) do steps[i] = text_of(step) end
  return {
    bytes = core.picture.encode("jpeg", picture, 90), columns = columns, images = #originals, patches = patches,
    side = side, size = { height, width }, steps = steps,
  }
end

-- {{picture u8 (height, width, 3), row from 0}, ...} of the images that can be read.
local function some(set)
  local found, problem = {}, nil
  for _, row in ipairs(sample.spread(#set, 4 * views.images)) do
    local ok, picture = pcall(set.read, set, row + 1)
    if ok then found[#found + 1] = { picture, row } else problem = picture end
    if #found == views.images then break end
  end
  if #found == 0 then error(problem, 0) end
  return found
end

--- of(material) -> a list of {bytes = a JPEG, columns, images, patches, side = pixels of each square, size = {height,
-- width} of a view, steps = texts}, one for each program; nil if there are no images, or the views are not known.
function views.of(material)
  local set = material.sets and material.sets.train
  if not set or #(material.views or {}) == 0 then return nil end
  local originals, made = some(set), {}
  for i = 1, math.min(#material.views, views.programs) do made[i] = page(material.views[i], originals) end
  if #material.views > views.programs then
    material:note(("Of the %d programs of the run's views the first %d are shown."):format(#material.views,
      views.programs))
  end
  return made
end

return views
