--- Writes RUN/tensorboard for --tensorboard (`tensorboard --logdir runs`): scalars of everything that is logged, with
-- the step and time of the log line; at the start, images of the views that each training augmentation makes; at the
-- end, the data of the projector (ending.lua).
--
-- The log is authoritative. A resumed session makes TensorBoard discard all scalars of the folder (SessionLog.START at
-- step 1, runtime/io/event.proto) and rewrites them from the log, without lines that the resumed run repeats
-- (history.lua) and with steps as they are counted now. So no step appears twice, even after kill -9 or with another
-- batch size, and none is missing if an earlier session ran without --tensorboard. The images belong to step 0 and are
-- kept.
local core = require "cld.core"
local history = require "cld.run.history"
local image = require "cld.image"
local settings = require "cld.run.settings"
local user_error = require "cld.user_error"

local board = {}

local IMAGES, VIEWS, MOST_PROGRAMS = 6, 5, 8 -- images on a page, views of each image, pages

local Board = {}
Board.__index = Board

--- check(opt): the user's error if opt asks for what this build cannot do.
function board.check(opt)
  if not settings.get(opt, "tensorboard") then return end
  local ok, why = require "cld.tensorboard".is_supported()
  if not ok then user_error.raise("option '--tensorboard': %s", why) end
end

-- ---- scalars ----------------------------------------------------------------------

-- Seconds since 1970 of a date in the log, "2030-01-31T12:00:00Z"; nil if it is not a date. Days are counted as in
-- Hinnant, "chrono-compatible low-level date algorithms": years begin in March.
local function seconds_of(date)
  local numbers = { tostring(date):match "^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d)Z$" }
  for i, digits in ipairs(numbers) do numbers[i] = math.tointeger(tonumber(digits)) end
  local year, month, day, hour, minute, second = table.unpack(numbers)
  if not year then return nil end
  if month <= 2 then year = year - 1 end
  local day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
  local days = 365 * year + year // 4 - year // 100 + year // 400 + day_of_year - 719468
  return 86400 * days + 3600 * hour + 60 * minute + second
end

-- "train/loss", "score/top1", "diagnostics/nmi", "speed/data_wait".
local function tag_of(event, name, part)
  local group = part == "values" and tostring(event.event) or part and "train" or "speed"
  local tag = group .. "/" .. name
  return utf8.len(tag) and not tag:find "%z" and tag or nil
end

-- Each tag is written once per step; repeated values, such as those of recounted steps, are left out.
function Board:write(event, step)
  local time = seconds_of(event.date) or os.time()
  step = step and math.tointeger(step)
  if not step or step < 0 then return end
  history.each_value(event, function(name, value, part)
    local tag = tag_of(event, name, part)
    if not tag or step <= (self.last[tag] or -1) then return end
    self.writer:scalar(tag, value, step, time)
    self.last[tag] = step
  end)
end

-- Calls f(self, ...). A failure (a full disk) is reported once and does not stop the training.
local function try(self, f, ...)
  local ok, problem = pcall(f, self, ...)
  if ok or self.has_failed then return end
  self.has_failed = true
  io.stderr:write(core.text.printable_line(tostring(problem)),
    "; the training goes on, and TensorBoard's files lack what cannot be written\n")
end

--- log(fields): writes a line of the log.
function Board:log(fields) try(self, Board.write, fields, math.floor(fields.step)) end

-- Writes the log so far, with steps as they are counted now.
local function write_history(self, events, steps_per_epoch)
  history.walk(events, function(event, epoch, then_per_epoch)
    local step = event.step and math.floor(event.step)
    if steps_per_epoch and then_per_epoch and then_per_epoch ~= steps_per_epoch then
      step = math.floor(epoch * steps_per_epoch + 0.5)
    end
    self:write(event, step)
  end)
end

-- ---- images -----------------------------------------------------------------------

-- A page of views: one row per image, starting with the image itself.
local function page(program, originals, seed)
  local mean, std = program:statistics()
  local list = {}
  local function add(views)
    for i = 1, #views do
      list[#list + 1] = image.grid(views:narrow(1, i, 1), { mean = mean, std = std, padding = 0 })
    end
  end
  local augment = require "cld.augment"
  local count = program:images() > 1 and 1 or VIEWS
  for _, entry in ipairs(originals) do
    local height, width = program:size(entry[1].shape[1], entry[1].shape[2])
    add(augment.none { size = { height, width }, mean = mean, std = std }:views(entry[1]))
    for view = 1, count do
      add(program:views(entry[1], { seed = seed, epoch = 1, sample = entry[2], view = view }))
    end
  end
  return image.grid(list, { columns = 1 + count * program:images() })
end

-- The first images of a set that can be read: {{u8 (height, width, 3), row from 0}, ...}.
local function some_of(set)
  local found = {}
  for i = 1, math.min(#set, 4 * IMAGES) do
    local ok, picture = pcall(set.read, set, i)
    if ok then found[#found + 1] = { picture, i - 1 } end
    if #found == IMAGES then break end
  end
  return found
end

local function write_views(self, loader, seed)
  local programs = type(loader) == "table" and rawget(loader, "augmentations") or {}
  local originals = #programs > 0 and some_of(loader.dataset) or {}
  for i = 1, math.min(#originals > 0 and #programs or 0, MOST_PROGRAMS) do
    self.writer:image(#programs > 1 and "views/" .. i or "views", page(programs[i], originals, seed), 0)
  end
end

-- ---- a session --------------------------------------------------------------------

local function has_events(folder)
  for _, name in ipairs(core.io.exists(folder) == "folder" and core.io.list(folder) or {}) do
    if name:find("tfevents", 1, true) then return true end
  end
  return false
end

--- open(run) -> a second target for the run's log, once its "start" is logged; nil without --tensorboard.
function board.open(run)
  if not settings.get(run.opt, "tensorboard") then return nil end
  local folder = run:where() .. "/tensorboard"
  local is_new = not has_events(folder)
  local self = setmetatable({ last = {} }, Board)
  self.writer = require "cld.tensorboard".writer(folder, { step = is_new and 0 or 1 })
  if is_new then try(self, write_views, run.loader, settings.get(run.opt, "seed")) end
  local log = user_error.call(run.held.read, run.held, "log.jsonl")
  try(self, write_history, history.events(log or ""), run.steps_per_epoch)
  return self
end

function Board:close() self.writer:close() end

return board
