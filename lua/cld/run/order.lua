--- The settings that decide which images the rest of an epoch contains. They cannot change within an epoch, since a
-- resumed run would see some images twice and others never. The batch size is not among them (run/position.lua).
local user_error = require "cld.user_error"

local order = {}

-- The option that changes each field.
local fields = { { "seed", "--seed" }, { "dataset", "--dataset" }, { "images", "--data" }, { "files", "--data" } }

--- of(opt, loader) -> {batch_size, seed, dataset, images, files}, each if known.
function order.of(opt, loader)
  local set = type(loader) == "table" and rawget(loader, "dataset")
  return {
    batch_size = rawget(opt, "batch_size"), seed = rawget(opt, "seed"), dataset = rawget(opt, "dataset"),
    images = set and #set or nil, files = set and rawget(set, "digest") or nil,
  }
end

local names = { images = "the number of images", files = "what the images' files are", dataset = "the data set" }

--- The name of a field of `of` in a sentence.
function order.named(field) return names[field] or "the " .. field:gsub("_", " ") end

-- "--seed (2, was 1)": what differs.
local function change(field, was, now)
  local name, option = table.unpack(field)
  if was[name] == nil or was[name] == now[name] then return nil end
  if name == "files" then return was.images == now.images and option .. " (as many images, but others)" or nil end
  local unit = name == "images" and " images" or ""
  return ("%s (%s%s, was %s)"):format(option, tostring(now[name]), unit, tostring(was[name]))
end

--- check(what checkpoint.load returned, now): the user's error if the checkpoint was written within an epoch and the
-- order has changed since.
function order.check(loaded, now)
  local position, changes = loaded.position, {}
  if position.step_in_epoch == 0 then return end
  for _, field in ipairs(fields) do changes[#changes + 1] = change(field, position.order or {}, now) end
  if #changes == 0 then return end
  user_error.raise("%s was stopped in the middle of epoch %d, where %s cannot change, since the remaining images would "
    .. "differ; resume it unchanged, and change that after an epoch has ended", loaded.path, position.epoch + 1,
    table.concat(changes, ", "))
end

--- "; --data has 45 images ...", for the message that the states do not fit; "" if that cannot be the reason.
function order.explain(loaded, now)
  local was = (loaded.position.order or {}).images
  if not was or not now.images or was == now.images then return "" end
  return ("; --data has %s training images now, but had %s: what is kept for each image, as in a memory bank, needs"
    .. " the same images"):format(tostring(now.images), tostring(was))
end

return order
