--- Reads a run folder during or after the run: its settings, and everything that it has logged, as curves. Used by
-- recipes/select.lua, reports, recipes/watch.lua and TensorBoard.
--
--   local history = require "cld.run.history"
--   local run, why = history.read "runs/NAME"       -- nil and the reason if it is not a run's folder
--   for name, curve in pairs(run.curves) do         -- curve[i] = {epoch = 1.5, step = 300, seconds = 61, value = 0.3}
--     print(name, curve[#curve].value)
--   end
--
-- A run that was killed and resumed has logged some steps twice. Whatever it had logged after the point where it
-- resumed is left out here, so that the steps of a curve only grow.
local core = require "cld.core"
local json = require "cld.json"

local history = {}

local function decoded(text)
  local ok, value = pcall(json.decode, text or "")
  return ok and type(value) == "table" and value or nil
end

-- The text of a file in the folder; or nil and, if it cannot be read, why. Nil for anything but a file: reading from a
-- pipe could wait forever.
local function read(folder, name)
  local path = folder .. "/" .. name
  if core.io.exists(path) ~= "file" then return nil end
  local file <close>, why = io.open(path, "rb")
  if not file then return nil, ("its %s cannot be read: %s"):format(name, why:match "[^:]*$":gsub("^ ", "")) end
  return file:read "a"
end

-- ---- events -------------------------------------------------------------------------

-- Whether an event lies after the point (epochs done, step) where a run resumed. A run that was stopped during the
-- evaluation at the end of an epoch repeats the evaluation, but not the epoch's steps.
local function is_undone(event, start)
  if event.epoch <= start.epoch then return false end
  local is_of_steps = event.event == "epoch" or event.event == "progress"
  local step, at = event.step or 0, start.step or 0
  return event.epoch > start.epoch + 1 or step > at or step == at and not is_of_steps
end

--- events(text of a log.jsonl) -> its events in order, without those that a resumed run has repeated. A line that is
-- not a complete JSON object, because the disk was full or the run is just writing it, is left out.
function history.events(text)
  local events = {}
  for line in text:gmatch "[^\n]+" do
    local event = decoded(line)
    if event and math.type(event.epoch) == "integer" and type(event.event) == "string" then
      event.step = math.type(event.step) and event.step or nil
      while event.event == "start" and #events > 0 and is_undone(events[#events], event) do
        events[#events] = nil
      end
      events[#events + 1] = event
    end
  end
  return events
end

-- ---- curves -------------------------------------------------------------------------

-- A number that is not finite is a string in the log.
local odd = { nan = 0 / 0, inf = math.huge, ["-inf"] = -math.huge }

local function number(value) return math.type(value) and value or odd[value] end

-- A number above 0, or nil.
local function positive(value) return math.type(value) and value > 0 and value or nil end

--- each_value(event, f): f(name, number, part) for all values of an event; part is "means", "now" or "values", or nil.
-- `skipped`, the number of skipped steps, is included once it is above 0.
function history.each_value(event, f)
  local function tell(name, value, part)
    if number(value) then f(name, number(value), part) end
  end
  for _, part in ipairs { "means", "now", "values" } do
    for name, value in pairs(type(event[part]) == "table" and event[part] or {}) do
      if type(name) == "string" then tell(name, value, part) end
    end
  end
  tell("images_per_second", event.images_per_second)
  tell("data_wait", event.data_wait)
  if event.skipped ~= 0 then tell("skipped", event.skipped, "now") end
end

--- walk(events, f): f(event, epoch, steps_per_epoch) for each. epoch is how many were done then, with a fraction within
-- an epoch if the session's steps_per_epoch is in the log.
function history.walk(events, f)
  local steps_per_epoch
  for _, event in ipairs(events) do
    if event.event == "start" then steps_per_epoch = positive(event.steps_per_epoch) end
    local epoch = event.epoch
    if event.event == "progress" and steps_per_epoch and number(event.step_in_epoch) then
      epoch = epoch - 1 + event.step_in_epoch / steps_per_epoch
    end
    f(event, epoch, steps_per_epoch)
  end
end

--- curves(events) -> {name = {{epoch =, step =, seconds =, value =}, ...}}: `epoch` is how many were done, with a
-- fraction within an epoch if `steps_per_epoch` is in the log. Means are taken over the epoch so far. If both the steps
-- and the evaluation at the end of an epoch log a name, for different images or in another mode, it becomes two curves:
-- that of the evaluation is NAME_evaluated.
function history.curves(events)
  local curves, of_steps = {}, {}
  for _, event in ipairs(events) do
    history.each_value(event, function(name, _, part) of_steps[name] = of_steps[name] or part == "means" end)
  end
  history.walk(events, function(event, epoch)
    history.each_value(event, function(name, value, part)
      if part == "values" and of_steps[name] then name = name .. "_evaluated" end
      curves[name] = curves[name] or {}
      table.insert(curves[name], { epoch = epoch, step = event.step, seconds = number(event.seconds), value = value })
    end)
  end)
  return curves
end

-- ---- a folder -----------------------------------------------------------------------

local function recipe_of(facts) return type(facts.recipe) == "string" and facts.recipe:match "[^/]*$" or nil end

-- "ended", "interrupted" or "unfinished", according to the log.
local function logged_state(events)
  local last = events[#events]
  for i = #events, 1, -1 do
    if events[i].event == "end" then return "ended" end
    if events[i].event == "start" then break end
  end
  return last and last.event == "interrupted" and "interrupted" or "unfinished"
end

-- A run holds its folder while it is going. If the folder is not held, before and after its log is read, and the log
-- has no end, the run was killed or ended by an error.
local function state(events, folder, was_in_use)
  local logged = logged_state(events)
  if logged ~= "unfinished" or was_in_use == nil then return logged end
  return (was_in_use or core.io.in_use(folder)) and "running" or "stopped"
end

-- The last part of the folder's path; for ".", of the current folder's path.
local function name_of(folder)
  local path = folder == "." and core.io.working_folder() or folder
  return path:match "[^/]*$"
end

local MOST_SECONDS = 1e10 -- the longest time of a run that is believed: three hundred years

--- read(folder) -> {path, name, recipe, options, facts (versions.json), events, curves, epochs_done, state, best =
-- {epoch, name, value} or nil, seconds}; or nil and why not. A run without steps has no curves. The state is "ended",
-- "interrupted" (by a signal), "running", "stopped" (killed, or ended by an error), or "unfinished" if it is unknown
-- which of the last two it is.
function history.read(folder)
  folder = folder:gsub("(.)/+$", "%1")
  local was_in_use = core.io.in_use(folder) -- before the log is read
  if not core.io.exists(folder) then return nil, "there is no such folder" end
  local log, unread = read(folder, "log.jsonl")
  local settings, also_unread = read(folder, "options.json")
  if not log or not settings then
    return nil, unread or also_unread or "not a run's folder (it lacks log.jsonl or options.json)"
  end
  local options = decoded(settings)
  if not options then return nil, "its options.json is damaged: not a JSON object" end
  local facts, events = decoded(read(folder, "versions.json")) or {}, history.events(log)
  local run = {
    path = folder, name = name_of(folder), recipe = recipe_of(facts), options = options, facts = facts,
    events = events, curves = history.curves(events), epochs_done = 0, state = state(events, folder, was_in_use),
  }
  for _, event in ipairs(events) do
    if event.event == "epoch" or event.event == "start" then run.epochs_done = event.epoch end
    if type(event.best) == "table" then run.best = event.best end
    local seconds = number(event.seconds)
    if seconds and seconds >= 0 and seconds < MOST_SECONDS then run.seconds = seconds end
  end
  return run
end

return history
