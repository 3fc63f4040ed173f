--- What a run does when it is complete: after the last epoch's checkpoint and the log's "end", on rank 0 alone, and not
-- after a signal. Nothing here can fail the run: if something cannot be made, one line says so.
local core = require "cld.core"
local dist = require "cld.dist"
local models = require "cld.models"
local nn = require "cld.nn"
local projector = require "cld.run.projector"
local settings = require "cld.run.settings"
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"

local ending = {}

--- Seconds that the report may take. If the time is short, less is done and the report says so.
ending.report_seconds = 55

-- One HTML file in the run's folder (cld.report).
local function write_report(run)
  if not settings.get(run.opt, "report") then return end
  local began, report = core.system.clock(), require "cld.report"
  local text = report.html { report.of_run(run, ending.report_seconds) }
  user_error.call(run.held.write, run.held, "report.html", text)
  run.line:print(("report: %s/report.html (%.1f MB, made in %.0f s; --report false leaves it out)"):format(run:where(),
    #text / 1e6, math.ceil(core.system.clock() - began)))
end

-- The network that the run has trained, and its name: `net`, or the only one.
local function network(run)
  local names = {}
  for _, name in ipairs(sorted_keys(run.states)) do
    if nn.is_module(run.states[name]) then names[#names + 1] = name end
  end
  local name = nn.is_module(run.states.net) and "net" or #names == 1 and names[1] or nil
  return name and run.states[name], name
end

-- How to use the trained network in PyTorch, torchvision and here. Training a classifier on a frozen network does not
-- change that network.
local function tell_usage(run)
  local net, object = network(run)
  local source = run.described and run.described.source
  if not net or source and not source.fine_tuned then return end
  local how, why = models.description(net)
  local view = run.described and run.described.test_view
  local lines, notes = require "cld.export.usage".of_run {
    net = net, object = object, folder = run:where(), undescribed = why, models_file = how and models.own_file(how),
    view = view and require "cld.augment".from_table(view) or nil,
  }
  run.line:print "how to use the weights, elsewhere and here:"
  for _, line in ipairs(lines) do run.line:print("  " .. line) end
  for _, note in ipairs(notes) do run.line:print(note) end
end

-- {the line if it fails, the part}
local parts = {
  { "the report was not written (recipes/report.lua makes one of any run)", write_report },
  { "TensorBoard's embedding was not written", projector.write },
  { "cannot say how to use the weights", tell_usage },
}

--- of(run): does all of it; each part may fail on its own.
function ending.of(run)
  local _ <close> = dist.without_timeout() -- the others wait at the end of the loop
  for _, part in ipairs(parts) do
    local ok, problem = pcall(part[2], run)
    if not ok then run.line:print(("%s: %s"):format(part[1], tostring(problem):match "^[^\n]*")) end
  end
end

return ending
