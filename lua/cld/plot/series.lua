--- Converts the user's data for a plot to a list of series {x = f64 (n), y = f64 (n), label = text or nil}.
--
--   y                                    a table of numbers or a 1-d tensor; x is 1, 2, 3, ...
--   { { x, y, label = "a" }, ... }       several, each {x, y} or {y}, or a plain y
--   { a = y, b = { x, y } }              the same, with their labels as keys
local core = require "cld.core"
local caller = require "cld.caller"
local sorted_keys = require "cld.sorted_keys"
local is_tensor = core.tensor.is_tensor

local series = {}

-- A table of numbers or a tensor as f64 (n), on the cpu and detached.
local function numbers(name, what, value)
  if is_tensor(value) then
    if value.ndim ~= 1 then caller.raise("%s: %s: expected a 1-d tensor, got %s", name, what, caller.shown(value)) end
    return value:detach():cpu():to("f64")
  end
  if type(value) ~= "table" then
    caller.raise("%s: %s: expected numbers, a table or a 1-d tensor, got %s", name, what, caller.shown(value))
  end
  for i, one in ipairs(value) do
    if type(one) ~= "number" then caller.raise("%s: %s: entry %d is %s", name, what, i, caller.shown(one)) end
  end
  if #value == 0 then return core.tensor.zeros({ 0 }, "f64") end
  return core.tensor.tensor(value, "f64")
end

local function is_numbers(value) return is_tensor(value) or type(value) == "table" and type(value[1]) == "number" end

local function one_of(name, what, value, label)
  local given = value
  if is_tensor(value) and value.ndim == 2 and value.shape[2] == 2 then
    given = { value:select(2, 1), value:select(2, 2) }
  elseif is_numbers(value) then
    given = { value }
  end
  if type(given) ~= "table" or given[1] == nil or #given > 2 then
    caller.raise("%s: %s: expected y or {x, y, label = }, got %s", name, what,
      type(value) == "table" and next(value) == nil and "an empty table" or caller.shown(value))
  end
  if label == nil then label = given.label end
  if label ~= nil and type(label) ~= "string" then
    caller.raise("%s: %s: label is %s; expected text", name, what, caller.shown(label))
  end
  if #given == 1 then
    local y = numbers(name, what, given[1])
    return { x = core.tensor.arange(1, y.shape[1] + 1, 1, { dtype = "f64" }), y = y, label = label }
  end
  local x, y = numbers(name, what .. ", x", given[1]), numbers(name, what .. ", y", given[2])
  if x.shape[1] ~= y.shape[1] then
    caller.raise("%s: %s: %d x and %d y", name, what, x.shape[1], y.shape[1])
  end
  return { x = x, y = y, label = label }
end

local DIGITS = 20

-- Pads whole numbers with zeros, so that "run 10" comes after "run 9"; digits after a decimal point stay.
local function padded(key)
  return (key:gsub("%f[%d.]%d+", function(digits) return ("0"):rep(DIGITS - #digits) .. digits end))
end

-- The keys, sorted in the order that a person expects.
local function ordered_keys(data)
  local keys = sorted_keys(data)
  local places, order = {}, {}
  for i, key in ipairs(keys) do places[key], order[key] = i, padded(key) end
  local _ <close> = core.text.c_locale()
  table.sort(keys, function(a, b)
    if order[a] ~= order[b] then return order[a] < order[b] end
    return places[a] < places[b]
  end)
  return keys
end

-- Calls each(what, value, label) for every series that is given.
local function walk(name, data, each)
  if is_numbers(data) then return each("y", data) end
  if type(data) ~= "table" then
    caller.raise("%s: expected numbers, a list of {x, y, label = } or a table {label = y}, got %s", name,
      caller.shown(data))
  end
  if next(data) == nil then caller.raise("%s: there is nothing to plot: the table is empty", name) end
  if data[1] ~= nil then
    for i, one in ipairs(data) do each("series " .. i, one) end
    return
  end
  for key in pairs(data) do
    if type(key) ~= "string" then
      caller.raise("%s: series have names, or positions from 1 on, got %s", name, caller.shown(key))
    end
  end
  for _, key in ipairs(ordered_keys(data)) do each(("series '%s'"):format(key), data[key], key) end
end

--- of(name, data) -> the series of data. Errors begin with `name`, the function that was called.
function series.of(name, data)
  local list = {}
  walk(name, data, function(what, value, label) list[#list + 1] = one_of(name, what, value, label) end)
  return list
end

--- values(name, data) -> {{values = f64 (n), label}, ...}: for histograms; a tensor may have any shape.
function series.values(name, data)
  local list = {}
  walk(name, data, function(what, value, label)
    if type(value) == "table" and not is_numbers(value) and value[1] ~= nil then
      label = label or value.label
      value = value[1]
    end
    if label ~= nil and type(label) ~= "string" then
      caller.raise("%s: %s: label is %s; expected text", name, what, caller.shown(label))
    end
    if is_tensor(value) then value = value:detach():reshape(-1) end
    list[#list + 1] = { values = numbers(name, what, value), label = label }
  end)
  return list
end

return series
