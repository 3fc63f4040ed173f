--- A run's settings, and which of its original settings a resumed run keeps.
local core = require "cld.core"
local dist = require "cld.dist"
local idle_gpu = require "cld.run.gpu"
local options = require "cld.options"
local say = require "cld.say"
local user_error = require "cld.user_error"
local system = core.system

local settings = {}

-- Defaults for an opt that is a recipe's own table; cld.options.training declares the same.
local defaults = {
  runs = "runs", name = "", resume = false, save_every = 1, keep_checkpoints = 0, print_every = 10, seed = 1,
  threads = 0, device = "cpu", print_ranks = false, timeout = 600, report = true, tensorboard = false,
}

-- These options only say which run is meant: they are not among its settings.
local addresses = { runs = true, name = true, resume = true }

--- opt's value, or the default.
function settings.get(opt, name)
  local value = rawget(opt, name)
  if value == nil then value = defaults[name] end
  return value
end

-- threads: replaces 0 with the number that it stands for.
local function resolve_threads(opt)
  if settings.get(opt, "threads") == 0 then opt.threads = system.get_num_threads() end
end

-- With a different number of ranks, each gets a different share of a machine.
local function adopt_threads(where, opt, stored, ranks)
  local details = options.details(opt)
  local given = details and details.given.threads or settings.get(opt, "threads") > 0
  if given or not stored.threads or ranks ~= dist.world then return resolve_threads(opt) end
  options.check(where, { { "threads", 1, "of the kernels", min = 1, integer = true } }, stored)
  opt.threads = stored.threads
  local cores = system.host().cores
  if opt.threads > cores then
    say(("%d threads as before, for the same results, on %d cores: --threads %d is faster"):format(opt.threads, cores,
      cores))
  end
end

-- {field = declaration} of the options that the user has not given again. Giving a fixed one again is the user's error.
local function adoptable(where, opt, stored)
  local by_field, details = {}, options.details(opt)
  for _, d in ipairs(details and details.declarations or {}) do
    local was = stored[d.field]
    if not details.given[d.field] then
      by_field[d.field] = d
    elseif d.fixed and was ~= nil and was ~= opt[d.field] then
      local own = d.kind == "boolean" and (was and "--" or "--no-") .. d[1] or ("--%s %s"):format(d[1], tostring(was))
      user_error.raise("option '--%s': %s goes on with %s, %s; without --resume it is a new run", d[1], where,
        own, d.fixed)
    end
  end
  return by_field
end

-- The path option of a run that was started in the folder started_in: a relative path is looked up there first.
local function path_from(started_in, path)
  if type(path) ~= "string" or path == "" or path:find "^/" then return path end
  if type(started_in) ~= "string" or started_in == core.io.working_folder() then return path end
  local whole = started_in .. "/" .. path
  return core.io.exists(whole) and whole or path
end

--- adopt(where, opt, stored[, ranks = 1[, started_in]]): a resumed run keeps the settings that it was started with,
-- except those that the user gives again. Returns a list of the latter, as text. A setting that is declared as fixed
-- (cld.options) cannot be given again. `stored`: the settings in the file `where`; ranks and started_in: the number of
-- ranks and the folder that the run was started with.
function settings.adopt(where, opt, stored, ranks, started_in)
  adopt_threads(where, opt, stored, ranks or 1)
  local changed, by_field = {}, adoptable(where, opt, stored)
  local others = (ranks or 1) ~= dist.world
  for name, value in pairs(stored) do
    local own, d = rawget(opt, name), by_field[name]
    local is_settled = addresses[name] or name == "threads" and others
    if is_settled or own == nil then goto continue end
    if d then
      options.check(where, { d }, stored)
      opt[name] = value
      if d.path then opt[name] = path_from(started_in, value) end
    elseif own ~= value then
      changed[#changed + 1] = ("%s %s (was %s)"):format(name, tostring(own), tostring(value))
    end
    ::continue::
  end
  table.sort(changed)
  return changed
end

local asked = setmetatable({}, { __mode = "k" }) -- opt.device as given, if it was replaced by a device's name

--- opt.device before set_up_process: "auto" is stored as "auto", so that a resumed run finds the device of its machine.
function settings.asked_device(opt) return asked[opt] or rawget(opt, "device") end

-- A rank uses the GPU with the rank's number on the machine, or the only GPU that it can see.
local function own_gpu(device)
  if dist.world == 1 or device == "cpu" then return device end
  if device:find "^cuda:" then
    user_error.raise("option '--device': %s for each of %d ranks; expected cuda: each rank takes a GPU of its own",
      device, dist.world)
  end
  local ok, gpus = pcall(core.cuda.devices)
  local count = ok and #gpus or 0
  if count == 1 and device == "cuda" or count == 0 then return device end
  if count > 1 and dist.local_rank >= count then
    user_error.raise("rank %d is number %d on its machine, which has %d GPUs: start at most %d ranks a machine",
      dist.rank, dist.local_rank + 1, count, count)
  end
  return device == "auto" and count == 1 and device or "cuda:" .. dist.local_rank
end

local function resolve_device(opt)
  local name, reason = user_error.call(core.cuda.resolve, own_gpu(settings.get(opt, "device")))
  if rawget(opt, "device") == nil then return end
  asked[opt] = opt.device
  opt.device = name
  local note = idle_gpu.note(reason)
  if note then say(note) end
end

-- GPUs multiply in bf16 from compute capability 8.0 on.
local function best_precision(device)
  local gpu = device:find "^cuda" and core.cuda.devices()[device:match "%d+$" + 1]
  return gpu and tonumber(gpu.capability) >= 8 and "bf16" or "fp32"
end

-- precision: the resolved value of auto is stored, as with threads, so that a resumed run keeps its precision.
local function set_precision(opt)
  local precision = rawget(opt, "precision")
  if precision == nil then return end
  if precision == "auto" then opt.precision = best_precision(settings.get(opt, "device")) end
  user_error.call(core.autograd.set_precision, opt.precision)
end

--- Applies the settings that belong to the process rather than the run.
function settings.set_up_process(opt)
  resolve_threads(opt)
  resolve_device(opt)
  set_precision(opt)
  user_error.call(system.set_num_threads, opt.threads)
  core.dist.set_timeout(settings.get(opt, "timeout"))
  core.tensor.manual_seed(settings.get(opt, "seed"))
  local winograd = rawget(opt, "winograd")
  if winograd ~= nil then core.nn.set_winograd(winograd) end
end

return settings
