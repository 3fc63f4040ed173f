--- Reads every image of a data set once, in order, decoded in full by worker threads (runtime/data/sweep.h), to
-- inspect a set or to convert it. Nothing is replaced: an image that cannot be read is returned too, with the reason.
--
--   for item in cld.data.sweep { set, workers = 4 } do
--     -- item.row: from 1. item.problem: why it cannot be read, or nil
--     -- item.height, item.width, if it can be opened
--     -- of files: item.file_bytes, item.digest: an integer, the same for the same bytes; and if there is no problem
--     -- item.kind: JPEG, PNG or PPM, item.channels: 1, 3 or 4 (CMYK), item.bits, item.alpha, item.orientation: EXIF's
--   end
--
-- With make = "jpeg", item.made is a JPEG's bytes, its shorter side at most `side` pixels (0: any), of `quality`; a
-- file that is such a JPEG already is returned as it is, and item.is_copy says so. With make = "square" it is side x
-- side x 3 bytes: the image is resized so that its shorter side fits, then cropped at the centre. Memory does not grow
-- with the number of images.
local caller = require "cld.caller"
local core = require "cld.core"
local dataset = require "cld.data.dataset"
local user_error = require "cld.user_error"

local makes = { nothing = true, jpeg = true, square = true }

--- cld.data.sweep{set, make = "nothing"|"jpeg"|"square", side, quality = 90, workers = 1, on_signal} -> iterator:
-- every image of a data set once, in order, decoded by that many threads: for item in cld.data.sweep { set } do. With
-- make = "jpeg" item.made is a JPEG's bytes, its shorter side at most `side` pixels; with "square" side x side x 3
-- bytes. on_signal is called when a signal arrives; if it returns or is missing, an error reports the signal. Leaving
-- the loop stops the workers.
return function(options)
  caller.require_fields("data.sweep", options, { "make", "on_signal", "quality", "side", "workers" })
  local set = dataset.check("data.sweep", options[1])
  local make = options.make or "nothing"
  if not makes[make] then
    caller.raise("data.sweep: make must be nothing, jpeg or square, got %s", caller.shown(make))
  end
  local numbers = { side = 0, quality = 90, workers = 1 }
  for name, default in pairs(numbers) do
    numbers[name] = caller.integer("data.sweep", name, options[name] or default, 0)
  end
  local items = user_error.call(core.dataset.sweep, set.source, make, numbers.side, numbers.quality, numbers.workers)
  return function()
    local item = user_error.call(items)
    if item == false then
      if options.on_signal then options.on_signal() end
      user_error.raise "interrupted"
    end
    return item
  end, nil, nil, items
end
