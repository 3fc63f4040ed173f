--- The algorithms of a GPU's convolutions are chosen by timing, and different algorithms round differently. So a
-- resumed run uses the algorithms that it had before, on all ranks. They are in the run folder, plans-<chip>.json, one
-- per chip.
local core = require "cld.core"
local dist = require "cld.dist"
local json = require "cld.json"
local of_job = require "cld.plans"
local say = require "cld.say"
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"

local printable_line = core.text.printable_line

local plans = {}

local function file_of(chip) return ("plans-%s.json"):format(chip) end

-- A file's plans and their library, or nil and the problem.
local function decode(text)
  local ok, stored = pcall(json.decode, text)
  if not ok then return nil, "damaged file: " .. tostring(stored) end
  if type(stored) ~= "table" or type(stored.plans) ~= "table" then return nil, "it holds no plans" end
  return stored.plans, tostring(stored.library)
end

-- The plans for this chip: the list, or nil and why they cannot be used.
local function own_plans(files, chip)
  local name = file_of(chip)
  if not files[name] then
    name = next(files) and sorted_keys(files)[1]
    return name, nil, "it is for another chip"
  end
  local list, library = decode(files[name])
  if not list then return name, nil, library end
  local here = core.cuda.plan_library()
  if library == here then return name, list end
  return name, nil, ("it is for %s, and this is %s"):format(library, here)
end

-- Passes the plans for other chips to the job's ranks on those chips.
local function give_others(files, device)
  for name, text in pairs(files) do
    local chip, list, library = name:match "^plans%-(.*)%.json$", decode(text)
    for _, plan in ipairs(list and chip ~= of_job.chip(device) and list or {}) do
      of_job.give(device, of_job.kind(chip, library), plan)
    end
  end
end

--- use(held, device): called on all ranks before a resumed run computes anything; rank 0 reads for all. Prints a line
-- about plans that cannot be used. Returns those that were used, as texts, by their purpose.
function plans.use(held, device)
  local stored = dist.shared(function()
    local files = {}
    for _, name in ipairs(user_error.call(held.list, held)) do
      if name:find "^plans%-.*%.json$" then files[name] = user_error.call(held.read, held, name) end
    end
    return { folder = held:where() or "", files = files }
  end)
  if not of_job.has(device) or not next(stored.files) then return {} end
  give_others(stored.files, device)
  local chip = of_job.chip(device)
  local name, list, problem = own_plans(stored.files, chip)
  local path = ("%s/%s"):format(stored.folder, name)
  if not list then say(("%s is not used, convolutions are chosen anew: %s"):format(path, problem)) end
  local used, failed, first, kind = {}, 0, nil, of_job.kind(chip, core.cuda.plan_library())
  for _, plan in ipairs(list or {}) do
    local ok, message = pcall(of_job.give, device, kind, plan)
    if ok then
      used[of_job.purpose(plan)] = json.encode(plan)
    else
      failed, first = failed + 1, first or tostring(message)
    end
  end
  if failed > 0 then
    say(("%s: %d of %d plans cannot be read (%s)"):format(path, failed, #list, first:gsub("^[^:]*:%d+: ", "")))
  end
  return used
end

-- A failure to write the file does not stop the run.
local function write(held, name, library, lines)
  local text = ('{"library": %s, "plans": [\n%s\n]}\n'):format(json.encode(library), table.concat(lines, ",\n"))
  if text == held:read(name) then return end
  local ok, message = pcall(held.write, held, name, text)
  if not ok then io.stderr:write(printable_line(tostring(message)), "\n") end
end

--- keep(held, device, given): called with each checkpoint, after the ranks have exchanged their plans. Rank 0 writes
-- the chosen plans if the files differ. `given` is what plans.use returned. Returns how many of these plans were
-- replaced.
function plans.keep(held, device, given)
  if not of_job.has(device) or dist.rank > 0 then return 0 end
  local chosen, lines, changed = core.cuda.plans(), {}, 0
  for i, plan in ipairs(chosen.plans) do
    lines[i] = json.encode(plan)
    local before = given[of_job.purpose(plan)]
    if before and before ~= lines[i] then changed = changed + 1 end
  end
  write(held, file_of(of_job.chip(device)), chosen.library, lines)
  for _, other in ipairs(of_job.of_other_chips(device)) do
    write(held, file_of(other.chip), other.library, other.plans)
  end
  return changed
end

return plans
