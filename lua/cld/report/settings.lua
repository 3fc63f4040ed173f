--- A run's facts and settings as texts, and which settings differ between several runs.
local duration = require "cld.run.progress".duration
local figures = require "cld.run.figures"
local sorted_keys = require "cld.sorted_keys"

local settings = {}

-- These options only say which run is meant: they do not affect the training.
local addresses = { name = true, runs = true, resume = true, report = true }

local function text_of(value)
  if type(value) == "table" then
    local words = {}
    for i, item in ipairs(value) do words[i] = text_of(item) end
    return table.concat(words, " ")
  end
  if math.type(value) == "float" then return ("%.6g"):format(value) end
  return tostring(value)
end

--- differing(list of the runs' options) -> {rows = {{name, values = {text or false}, differs = boolean}}}: every option
-- that a run has, those that differ first, each by name. false: that run has no such option.
function settings.differing(list)
  local names, rows = {}, {}
  for _, options in ipairs(list) do
    for name in pairs(options) do
      if type(name) == "string" and not addresses[name] then names[name] = true end
    end
  end
  for _, name in ipairs(sorted_keys(names)) do
    local row = { name = name, values = {}, differs = false }
    for i, options in ipairs(list) do
      local value = options[name]
      row.values[i] = value ~= nil and text_of(value)
      row.differs = row.differs or row.values[i] ~= row.values[1]
    end
    rows[#rows + 1] = row
  end
  local ordered = {}
  for _, wanted in ipairs { true, false } do
    for _, row in ipairs(rows) do
      if row.differs == wanted then ordered[#ordered + 1] = row end
    end
  end
  return { rows = ordered }
end

local states = {
  ended = "complete", interrupted = "interrupted", running = "still running",
  stopped = "stopped without an end: killed, or an error", unfinished = "unfinished: it goes on, or was killed",
}

-- field(t, "a", "b") is t.a.b, or nil if t or t.a is not a table.
local function field(t, ...)
  for _, name in ipairs { ... } do
    if type(t) ~= "table" then return nil end
    t = t[name]
  end
  return t
end

--- facts(run of cld.run.history) -> {{name, text}}: facts about a run that are not options.
function settings.facts(run)
  local facts, stored, first = {}, run.facts, run.events[1]
  local function add(name, value)
    if value ~= nil and value ~= "" then facts[#facts + 1] = { name, text_of(value) } end
  end
  local total = run.options.epochs
  add("recipe", run.recipe)
  add("state", states[run.state])
  add("epochs", type(total) == "number" and ("%d of %d"):format(run.epochs_done, total) or run.epochs_done)
  local best = run.best
  if best and type(best.value) == "number" and type(best.epoch) == "number" then
    add("best", ("%s %s, epoch %d"):format(text_of(best.name), figures.text("%.2f %%", 100 * best.value), best.epoch))
  end
  if run.seconds then add("training time", duration(run.seconds)) end
  add("begun", first and type(first.date) == "string" and first.date or nil)
  add("cldlua", field(stored, "versions", "cldlua"))
  add("commit", field(stored, "versions", "commit"))
  add("processor", field(stored, "host", "cpu"))
  add("GPU", field(stored, "gpu", "name"))
  add("threads", field(stored, "threads"))
  add("machine", field(stored, "host", "name"))
  add("command", field(stored, "command"))
  add("folder", run.path)
  return facts
end

return settings
