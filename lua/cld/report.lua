--- A report of one or several runs: one HTML file that shows the log, the settings, the images that the training saw,
-- and what was learned. It is self-contained and opens offline, in any browser.
--
--   cld.report.write("report.html", { cld.report.of_folder "runs/a", cld.report.of_folder "runs/b" })
--
-- A run writes one into its folder when it ends (run/ending.lua); recipes/report.lua makes one for any run.
local core = require "cld.core"
local caller = require "cld.caller"
local confusion = require "cld.report.confusion"
local curves = require "cld.report.curves"
local groups = require "cld.report.groups"
local lost = require "cld.report.lost"
local map = require "cld.report.map"
local material = require "cld.report.material"
local neighbours = require "cld.report.neighbours"
local page = require "cld.report.page"
local settings = require "cld.report.settings"
local user_error = require "cld.user_error"
local views = require "cld.report.views"

local report = { of_folder = material.of_folder, of_run = material.of_run }

-- The parts that look at the network and at images, in order: the field of the data, the note if it fails, and the
-- function that makes it.
local parts = {
  { "gallery", "The gallery of neighbours could not be made", neighbours.of },
  { "groups", "The groups could not be made", groups.of },
  { "map", "The map could not be made", map.of },
  { "confusion", "The confusion could not be counted", confusion.of },
}

-- The pages of views have pictures of their own.
local function views_of(one, number, pictures)
  local made = one:part("The views could not be made", views.of)
  for i, view in ipairs(made or {}) do
    view.id = ("views-%d-%d"):format(number, i)
    pictures[#pictures + 1] = { view.id, view.bytes }
    view.bytes = nil
  end
  if not made and one.sets and #one.views == 0 then
    one:note "The run's checkpoint does not say what views it was trained on."
  end
  return made
end

local function thumbnails(one, number, pictures)
  local sprite = one:part("The pictures could not be read", function()
    return one.pictures:sprite { bytes = one.limits.bytes, workers = one.workers, deadline = one:by(0.8) }
  end)
  local facts = one.pictures:facts()
  if sprite then
    facts.id, facts.columns, facts.count = ("sprite-%d"):format(number), sprite.columns, sprite.count
    facts.missing = sprite.missing
    pictures[#pictures + 1] = { facts.id, sprite.bytes }
  end
  return facts
end

-- The page's data for one run.
local function data_of(one, number, pictures)
  local told = one.history
  local data = {
    name = told.name, facts = settings.facts(told), curves = curves.of(told.events),
    classes = one:class_names(),
  }
  if not next(data.curves) then one:note "The run has logged no step, so there are no curves." end
  local collapse
  for _, event in ipairs(told.events) do
    if type(event.collapse) == "string" then collapse = ("Epoch %d: %s."):format(event.epoch, event.collapse) end
  end
  if collapse then one:note(collapse) end
  data.views = views_of(one, number, pictures)
  for _, part in ipairs(parts) do data[part[1]] = one:part(part[2], part[3]) end
  data.pictures = thumbnails(one, number, pictures)
  data.notes = one.notes
  return data
end

-- Runs with the same name are distinguished by their folders.
local function name_apart(runs, list)
  local count = {}
  for _, one in ipairs(runs) do count[one.name] = (count[one.name] or 0) + 1 end
  for i, one in ipairs(runs) do
    if count[one.name] > 1 then one.name = list[i].history.path end
  end
end

local function all_names(runs)
  local set = {}
  for _, one in ipairs(runs) do
    for name in pairs(one.curves) do set[name] = true end
  end
  return curves.in_order(set)
end

--- html(list of what of_folder or of_run returned) -> the text of the file.
function report.html(list)
  local _ <close> = core.text.c_locale()
  if type(list) ~= "table" or #list == 0 then
    caller.raise("report.html: expected a list of runs, got %s", caller.shown(list))
  end
  local pictures, runs, options = {}, {}, {}
  for i, one in ipairs(list) do
    runs[i] = data_of(one, i, pictures)
    options[i] = one.history.options
  end
  name_apart(runs, list)
  local names = all_names(runs)
  return page.html({
    made = os.date "!%Y-%m-%d %H:%M UTC", version = core.system.versions().cldlua, runs = runs,
    curves = { names = names, texts = curves.texts(names) }, settings = settings.differing(options),
  }, pictures)
end

-- The user's error if the report at that path shows more of the same runs.
local function check_replaced(path, text)
  local file <close> = core.io.exists(path) == "file" and io.open(path, "rb") or nil
  local missing = lost(file and file:read "a" or "", text)
  if #missing == 0 then return end
  user_error.raise("%s shows what a new report cannot (%s), and stays; --out FILE writes the new one elsewhere", path,
    table.concat(missing, ", "))
end

--- write(path, list of what of_folder or of_run returned[, {keep = true}]) -> the file's size in bytes. An existing
-- file is replaced only when the new one is complete. keep: it is the user's error if the existing
-- report shows more of the same runs.
function report.write(path, list, options)
  if type(path) ~= "string" then caller.raise("report.write: expected a path, got %s", caller.shown(path)) end
  caller.check_fields("report.write", options, { "keep" })
  local text = report.html(list)
  if options and options.keep then check_replaced(path, text) end
  user_error.call(core.io.write_atomic, path, text)
  return #text
end

return report
