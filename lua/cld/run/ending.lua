--- What happens when a run has ended as it was meant to: after the last epoch's checkpoint and the log's "end", on rank
-- 0 alone. Not after a signal. Nothing here can fail the run: what cannot be made is told in one line.
local core = require "cld.core"
local dist = require "cld.dist"
local settings = require "cld.run.settings"

local ending = {}

--- Seconds that the report may take. Less is done if there is less time, and the report says so.
ending.report_seconds = 55

-- One HTML file in the run's folder (cld.report).
local function write_report(run)
  if not settings.get(run.opt, "report") then return end
  local began, report = core.system.clock(), require "cld.report"
  local text = report.html { report.of_run(run, ending.report_seconds) }
  run.held:write("report.html", text)
  run.line:print(("report: %s/report.html (%.1f MB, made in %.0f s; --report false leaves it out)"):format(run:where(),
    #text / 1e6, math.ceil(core.system.clock() - began)))
end

local parts = { { "the report was not written", write_report } }

--- of(run): all of it, each part by itself.
function ending.of(run)
  local _ <close> = dist.without_timeout() -- the others wait at the end of the loop
  for _, part in ipairs(parts) do
    local ok, problem = pcall(part[2], run)
    if not ok then run.line:print(("%s: %s"):format(part[1], tostring(problem):match "^[^\n]*")) end
  end
end

return ending
