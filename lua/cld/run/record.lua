--- The record in a run folder: options.json, versions.json, the recipe's source, and log.jsonl, one JSON object per
-- line. All files are written through `held`, the folder itself (see folder.lua).
local core = require "cld.core"
local json = require "cld.json"
local user_error = require "cld.user_error"
local figures = require "cld.run.figures"
local folder = require "cld.run.folder"
local options = require "cld.options"
local say = require "cld.say"
local settings = require "cld.run.settings"

local printable_line = core.text.printable_line

local record = {}

-- ---- the recipe's source ----------------------------------------------------

local sources = {} -- sources of recipes that the script runs

--- Adds another file that belongs to the recipe (see run.recipe).
function record.add_source(path) sources[#sources + 1] = path end

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read "a"
  if file then file:close() end
  return text
end

--- {file name = text} of the script that was started (arg[0], if there is one) and those that it runs. They are read
-- before the recipe continues, since it may change the working directory.
function record.sources()
  local texts = {}
  local paths = table.move(sources, 1, #sources, 2, { folder.recipe() })
  for _, path in pairs(paths) do texts[path:match "[^/]*$"] = read(path) end
  return texts
end

-- ---- files ------------------------------------------------------------------

local function write(held, name, text) user_error.call(held.write, held, name, text) end

--- The values of opt, without those that only say which run is meant.
function record.plain(opt)
  local values = {}
  for name, value in pairs(opt) do values[name] = value end
  values.resume, values.device = nil, settings.asked_device(opt)
  return values
end

local function write_options(held, opt)
  write(held, "options.json", json.encode(record.plain(opt), 2) .. "\n")
end

--- `path` is the file's, for messages.
function record.read_options(held, path)
  local text = user_error.call(held.read, held, "options.json") or user_error.raise("cannot read '%s'", path)
  local ok, values = pcall(json.decode, text)
  if not ok then user_error.check_memory(path, values) end
  if not ok or type(values) ~= "table" then user_error.raise("%s: damaged file: %s", path, tostring(values)) end
  return values
end

--- check_recipe(held, path): a run must be resumed by the recipe that started it. If both are known, it is the user's
-- error if their file names differ. `path` is the folder's, for messages.
function record.check_recipe(held, path)
  local own, text = folder.recipe(), user_error.call(held.read, held, "versions.json")
  local ok, facts = pcall(json.decode, text or "{}")
  local began = ok and type(facts) == "table" and facts.recipe
  if not own or type(began) ~= "string" or began:match "[^/]*$" == own:match "[^/]*$" then return end
  user_error.raise("%s is a run of %s, not of %s: resume it with %s", path, began:match "[^/]*$", own:match "[^/]*$",
    began)
end

--- Writes a fresh run's files; `texts` is what record.sources returned.
function record.write(held, opt, texts)
  write_options(held, opt)
  local command = { arg and arg[0] }
  for i, word in ipairs(arg or {}) do command[i + 1] = word end
  local device = rawget(opt, "device")
  local gpu = device and device ~= "cpu" and record.gpu(device) or nil
  local facts = {
    versions = core.system.versions(), host = core.system.host(), threads = core.system.get_num_threads(),
    gpu = gpu, cuda_library = gpu and core.cuda.library(), command = command, recipe = folder.recipe(),
  }
  write(held, "versions.json", json.encode(facts, 2) .. "\n")
  for name, text in pairs(texts) do write(held, name, text) end
end

--- Writes a resumed run's files: changed options, and a changed recipe beside the first.
function record.update(held, opt, texts, epoch)
  write_options(held, opt)
  for name, text in pairs(texts) do
    if user_error.call(held.read, held, name) ~= text then
      write(held, ("%s-from-epoch-%d.lua"):format(name:gsub("%.lua$", ""), epoch + 1), text)
    end
  end
end

-- ---- the log ----------------------------------------------------------------

-- JSON has no NaN and no infinity.
local function sayable(value)
  if type(value) == "table" then
    local out = {}
    for key, item in pairs(value) do out[key] = sayable(item) end
    return out
  end
  if type(value) == "number" and (value ~= value or math.abs(value) == math.huge) then
    return figures.text("%g", value)
  end
  return value
end

--- open_log(held) -> function(table): appends a line with the date. If the log cannot be written, this is reported once
-- and does not stop the training; the lines of that time are missing. (The run reports a folder that is gone.)
function record.open_log(held)
  user_error.call(held.append, held, "log.jsonl", "")
  local told = false
  return function(fields)
    fields.date = os.date "!%Y-%m-%dT%H:%M:%SZ"
    local ok, message = pcall(held.append, held, "log.jsonl", json.encode(sayable(fields)))
    if not ok and not told and held:where() then
      told = true
      io.stderr:write(printable_line(message),
        "; the training goes on, and this log lacks what cannot be written\n")
    end
  end
end

-- ---- the settings, printed --------------------------------------------------

-- Names and values in the order of declaration; the others sorted.
local function ordered(opt)
  local names, seen = {}, {}
  local details = options.details(opt)
  for _, d in ipairs(details and details.declarations or {}) do
    names[#names + 1] = d.field
    seen[d.field] = true
  end
  local rest = {}
  for name in pairs(opt) do
    if not seen[name] then rest[#rest + 1] = name end
  end
  table.sort(rest)
  return table.move(rest, 1, #rest, #names + 1, names)
end

--- The entry of cld.cuda.devices for "cuda:N".
function record.gpu(device) return core.cuda.devices()[device:match "%d+$" + 1] end

--- The path of the run's folder and its settings, in columns.
function record.print(path, opt)
  local versions, host = core.system.versions(), core.system.host()
  local threads = core.system.get_num_threads()
  say(("%s  (cldlua %s %s, %s, %d thread%s on %s)"):format(path, versions.cldlua, versions.commit, versions.cpu_library,
    threads, threads == 1 and "" or "s", host.cpu))
  local device, ranks = rawget(opt, "device"), core.dist.ranks()
  if not ranks.alone then
    say(("%d rank%s on %d machine%s, %s"):format(ranks.world, ranks.world == 1 and "" or "s", ranks.machines,
      ranks.machines == 1 and "" or "s", ranks.library))
  end
  if device and device ~= "cpu" and not ranks.alone then
    local own = ("rank %d: %s of %s, %s (%s; tensors by NCCL)"):format(ranks.rank, device, host.name,
      record.gpu(device).name, core.cuda.library())
    for _, line in ipairs(core.dist.gather_strings(own)) do say(line) end
  elseif device and device ~= "cpu" then
    say(("%s: %s (%s)"):format(device, record.gpu(device).name, core.cuda.library()))
  end
  local cells, widest = {}, 0
  for i, name in ipairs(ordered(opt)) do
    cells[i] = printable_line(("%-17s %s"):format(name, tostring(opt[name])))
    widest = math.max(widest, utf8.len(cells[i]))
  end
  local columns = math.max((core.system.terminal() or 110) // (widest + 2), 1)
  local rows = (#cells + columns - 1) // columns
  for row = 1, rows do
    local line = ""
    for i = row, #cells, rows do line = line .. "  " .. cells[i] .. (" "):rep(widest - utf8.len(cells[i])) end
    say((line:gsub("%s+$", "")))
  end
end

return record
