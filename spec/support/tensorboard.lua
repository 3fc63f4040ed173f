--- Reads a folder of event files as TensorBoard does (plugin_event_accumulator.py): files in the order of their names;
-- the first session start is the beginning, and each later one drops what was read of its step and later ones.
-- spec/interop/tensorboard.lua asserts that TensorBoard itself sees the same.
local cld = require "cld"

local tensorboard = {}

--- read(folder) -> {tag = {{step, value}, ...}} for scalars, {tag = {{step, bytes}, ...}} for images
function tensorboard.read(folder)
  local scalars, images, has_started = {}, {}, false
  local function drop(from)
    for _, all in ipairs { scalars, images } do
      for tag, points in pairs(all) do
        local kept = {}
        for _, point in ipairs(points) do
          if point[1] < from then kept[#kept + 1] = point end
        end
        all[tag] = kept
      end
    end
  end
  local function keep(all, tag, point)
    all[tag] = all[tag] or {}
    table.insert(all[tag], point)
  end
  for _, name in ipairs(cld.io.list(folder)) do
    for _, event in ipairs(name:find "tfevents" and cld.io.read_events(folder .. "/" .. name) or {}) do
      if event.session == "start" then
        if has_started then drop(event.step) end
        has_started = true
      end
      for _, value in ipairs(event.values or {}) do
        if value.scalar then keep(scalars, value.tag, { event.step, value.scalar }) end
        if value.image then keep(images, value.tag, { event.step, value.image.bytes }) end
      end
    end
  end
  return scalars, images
end

return tensorboard
