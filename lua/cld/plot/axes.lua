--- Axes: their ranges, round ticks, and the place of a number on an axis.
--
--   local axis = axes.new(least, most, { log = false, room = 0.04 })
--   axis:share(tensor or number)   -- from 0 to 1 along it; not finite if a log axis cannot show it
--   axis:ticks(6)                  -- {{share =, text =}, ...}
local core = require "cld.core"
local is_tensor = core.tensor.is_tensor

local axes = {}

local Axis = {}
Axis.__index = Axis

local LARGEST = 1.7976931348623157e308

local function log10(value)
  if is_tensor(value) then return value:log() / math.log(10) end
  return value > 0 and math.log(value, 10) or -math.huge
end

-- A range of positive length.
local function widened(least, most)
  local size = math.max(math.abs(least), math.abs(most))
  if most - least > 1e-12 * size and most > least then return least, most end
  local room = size > 0 and size / 10 or 0.5
  return math.max(least - room, -LARGEST), math.min(most + room, LARGEST)
end

--- new(least, most, {log = whether it is logarithmic, room = share of its length to leave free at either end}) -> an
-- axis; least and most must be positive if log.
function axes.new(least, most, options)
  if options.log then
    least, most = log10(least), log10(most)
    if most - least < 1e-3 then least, most = least - 0.15, most + 0.15 end
  else
    least, most = widened(least, most)
  end
  local room = math.min((most / 2 - least / 2) * 2, LARGEST) * (options.room or 0)
  return setmetatable({ log = options.log, least = math.max(least - room, -LARGEST),
    most = math.min(most + room, LARGEST) }, Axis)
end

--- axis:share(value): 0 at the start of the axis, 1 at its end. Computed from halves, since the length may overflow.
function Axis:share(value)
  if self.log then value = log10(value) end
  return (value / 2 - self.least / 2) / (self.most / 2 - self.least / 2)
end

-- The next number that is 1, 2 or 5 times a power of ten.
local function round_step(rough)
  local power = 10.0 ^ math.floor(math.log(rough, 10))
  for _, factor in ipairs { 1, 2, 5 } do
    if factor * power >= rough * (1 - 1e-9) then return factor * power end
  end
  return 10 * power
end

-- Writes 2e5 instead of 2e+05.
local function short(value)
  local text = ("%.3g"):format(value)
  return (text:gsub("e([+-])0*(%d)", function(sign, digit) return "e" .. (sign == "-" and "-" or "") .. digit end))
end

local function linear_ticks(least, most, count)
  local rough = (most / 2 - least / 2) / count * 2
  if not (rough > 1e-300 and rough < math.huge) then return {} end
  local step = round_step(rough)
  if step == math.huge then return {} end
  local decimals = math.max(0, -math.floor(math.log(step, 10) + 1e-9))
  local plain = decimals <= 6 and math.max(math.abs(least), math.abs(most)) < 2e6
  local list, first = {}, math.ceil(least / step - 1e-9)
  for i = 0, 2 * count + 2 do
    local value = (first + i) * step
    if value > most + step * 1e-9 or value == math.huge then break end
    if value == 0 then value = 0.0 end -- not -0
    list[#list + 1] = { value, plain and ("%." .. decimals .. "f"):format(value) or short(value) }
  end
  return list
end

-- Whole powers of ten, as many as there is room for, with 2 and 5 between them if there are few.
local function log_ticks(least, most, count)
  local list = {}
  local first, last = math.ceil(least - 1e-9), math.floor(most + 1e-9)
  local every = math.max(1, math.ceil((last - first + 1) / count))
  local factors = last - first < 2 and { 1, 2, 5 } or { 1 }
  local start = every > 1 and (first + every - 1) // every * every or math.floor(least)
  for power = start, last, every do
    for _, factor in ipairs(factors) do
      local value = factor * 10.0 ^ power
      local at = math.log(value, 10)
      if at >= least - 1e-9 and at <= most + 1e-9 then list[#list + 1] = { value, short(value) } end
    end
  end
  if #list >= 2 then return list end
  list = {} -- less than a factor of two: linear ticks
  for _, tick in ipairs(linear_ticks(10.0 ^ least, 10.0 ^ most, math.max(2, count // 2))) do
    if tick[1] > 0 then list[#list + 1] = tick end
  end
  return list
end

--- axis:ticks(count) -> about this many round numbers on it, {{share =, text =}, ...}.
function Axis:ticks(count)
  local list
  for wanted = math.max(count, 1), 2 * math.max(count, 1) do -- a single tick does not show the scale
    list = (self.log and log_ticks or linear_ticks)(self.least, self.most, wanted)
    if #list >= 2 then break end
  end
  for i, tick in ipairs(list) do list[i] = { share = self:share(tick[1]), text = tick[2] } end
  return list
end

return axes
