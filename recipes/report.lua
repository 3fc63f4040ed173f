--- Makes a report of runs: report.html, one self-contained file that shows their curves, their settings and what they
-- learned. Several runs are shown side by side. A run writes its own report when it ends; this makes one of any run,
-- including one that is still running or was stopped. Without --out it does not replace a report that shows more, for
-- example if the images are no longer there.
--
--   cldlua recipes/report.lua runs/NAME                                  # runs/NAME/report.html
--   cldlua recipes/report.lua runs/a runs/b --out compared.html
--   cldlua recipes/report.lua runs/NAME --data /elsewhere/photos         # if the images have moved
--
-- It looks for the images where the run found them; a relative path starts at the folder in which the run was started.
local cld = require "cld"
local say = require "cld.say"
local subject = require "cld.eval.subject"
local user_error = require "cld.user_error"

local images = {} -- the options of recipes that evaluate a checkpoint, which say where the images are
for _, option in ipairs(cld.options.checkpoint) do
  if option[1] ~= "checkpoint" then images[#images + 1] = option end
end

local opt = cld.options {
  about = "a report of runs: curves, settings, views, neighbours, a map of the features",
  { "runs",   {},    "folders of runs", value = "arguments" },
  { "out",    "",    "the file; empty: report.html, in the run's folder if it is one run" },
  { "points", 10000, "images on the map, at most", min = 10, max = 10000, integer = true },
  { "memory", 20000, "training images among which neighbours are looked for", min = 10, max = 1000000, integer = true },
  images,
  cld.options.machine,
}
cld.dist.first_only()
if #opt.runs == 0 then user_error.raise "expected the folder of a run, or several (--help lists the options)" end
local parent = opt.out:match "^(.*)/[^/]*$"
if parent and parent ~= "" and cld.io.exists(parent) ~= "folder" then
  user_error.raise("option '--out': there is no folder '%s'", parent)
end
if cld.io.exists(opt.out) == "folder" then
  user_error.raise("option '--out': '%s' is a folder; expected the name of a file, such as '%s/report.html'", opt.out,
    (opt.out:gsub("(.)/+$", "%1")))
end
local device = subject.set_up(opt)

-- The second and later runs get less, so that the file stays small enough to send around.
local function limits(number)
  if number == 1 then return { points = opt.points, memory = opt.memory } end
  return { points = math.min(opt.points, 1500), memory = opt.memory, bytes = 3 << 19 } -- 1.5 MB of thumbnails
end

local runs = {}
for i, path in ipairs(opt.runs) do
  runs[i] = cld.report.of_folder(path, {
    device = device, data = opt.data, dataset = opt.dataset, classes = opt.classes, size = opt.size,
    require = opt.require, workers = opt.workers, limits = limits(i),
  })
end
local out = opt.out
if out == "" then out = #runs == 1 and runs[1].history.path .. "/report.html" or "report.html" end
local ok, bytes = pcall(cld.report.write, out, runs, { keep = opt.out == "" })
for _, run in ipairs(runs) do
  for _, note in ipairs(run.notes) do say(("%s: %s"):format(run.history.name, note)) end
end
if not ok then error(bytes, 0) end
say(("%s: %d run%s, %.1f MB"):format(out, #runs, #runs == 1 and "" or "s", bytes / 1e6))
