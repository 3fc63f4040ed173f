--- Which algorithms a GPU's convolutions have is found out by timing them, and others round otherwise: a resumed run
-- takes those that the run had. They lie in the run folder, plans-<chip>.json, one file for each chip.
local core = require "cld.core"
local json = require "cld.json"
local say = require "cld.say"

local printable_line = core.text.printable_line

local plans = {}

local function file_of(device)
  local gpu = core.cuda.devices()[device:match "%d+$" + 1]
  return ("plans-%s.json"):format((gpu.name:lower():gsub("%W+", "-")))
end

local function has_plans(device) return device and device ~= "cpu" and core.cuda.plans() ~= nil end

-- The plans that a file's text holds, or nil and why they cannot be used.
local function decode(text)
  local ok, stored = pcall(json.decode, text)
  if not ok then return nil, "damaged file: " .. tostring(stored) end
  if type(stored) ~= "table" or type(stored.plans) ~= "table" then return nil, "it holds no plans" end
  local library = core.cuda.plans().library
  if stored.library == library then return stored.plans end
  return nil, ("it is of %s, here is %s"):format(tostring(stored.library), library)
end

-- What a plan is for, as text: all of it but what was chosen.
local function purpose(plan)
  local fields = {}
  for name, value in pairs(plan) do
    if name ~= "engine" and name ~= "knobs" then fields[name] = value end
  end
  return json.encode(fields)
end

local function other_chips_file(held)
  for _, name in ipairs(held:list()) do
    if name:find "^plans%-.*%.json$" then return name end
  end
end

--- use(held, device): before a resumed run computes anything. Says in a line what cannot be used. Returns the
-- plans that were, as texts, by what they are for.
function plans.use(held, device)
  if not has_plans(device) then return {} end
  local name = file_of(device)
  local text = held:read(name)
  if not text then name = other_chips_file(held) end
  if not name then return {} end
  local stored, problem = nil, "it is another chip's"
  if text then stored, problem = decode(text) end
  local path = ("%s/%s"):format(held:where() or "", name)
  if not stored then say(("%s is not used, convolutions are chosen anew: %s"):format(path, problem)) end
  local used, failed, first = {}, 0, nil
  for _, plan in ipairs(stored or {}) do
    local ok, message = pcall(core.cuda.use_plan, plan)
    if ok then
      used[purpose(plan)] = json.encode(plan)
    else
      failed, first = failed + 1, first or tostring(message)
    end
  end
  if failed > 0 then
    say(("%s: %d of %d plans cannot be read (%s)"):format(path, failed, #stored, first:gsub("^[^:]*:%d+: ", "")))
  end
  return used
end

--- keep(held, device, given): with each checkpoint. Writes what was chosen, if the file does not say so; a run goes on
-- without it. Returns how many of those that it was given (what plans.use returned) could not be made.
function plans.keep(held, device, given)
  if not has_plans(device) then return 0 end
  local chosen, name = core.cuda.plans(), file_of(device)
  local lines, changed = {}, 0
  for i, plan in ipairs(chosen.plans) do
    lines[i] = json.encode(plan)
    local before = given[purpose(plan)]
    if before and before ~= lines[i] then changed = changed + 1 end
  end
  local text = ('{"library": %s, "plans": [\n%s\n]}\n'):format(json.encode(chosen.library),
    table.concat(lines, ",\n"))
  if text == held:read(name) then return 0 end
  local ok, message = pcall(held.write, held, name, text)
  if not ok then io.stderr:write(printable_line(tostring(message)), "\n") end
  return changed
end

return plans
