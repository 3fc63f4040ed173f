--- The values that a recipe passes to run:track and run:score: {name = number, or tensor of one element}.
local core = require "cld.core"
local caller = require "cld.caller"
local sorted_keys = require "cld.sorted_keys"

local figures = {}

local function is_scalar(value)
  if type(value) == "number" then return true end
  local open, count = pcall(function() return core.tensor.is_tensor(value) and value:numel() end)
  return open and count == 1
end

--- Raises at the user's line; `what` is the function that was called.
function figures.check(what, values)
  if type(values) ~= "table" then
    caller.raise("%s: expected a table {name = number or tensor of one element}, got %s", what, caller.shown(values))
  end
  for name, value in pairs(values) do
    if type(name) ~= "string" then
      caller.raise("%s: expected names of values, got %s", what, caller.shown(name))
    end
    if not utf8.len(name) then caller.raise("%s: the name '%s' is not UTF-8 text", what, name) end
    if not is_scalar(value) then
      caller.raise("%s: '%s' must be a number or a tensor of one element, got %s", what, name, caller.shown(value))
    end
  end
end

--- The same values as numbers. Waits for tensors on a device.
function figures.numbers(what, values)
  figures.check(what, values)
  local numbers = {}
  for name, value in pairs(values) do numbers[name] = type(value) == "number" and value or value:item() end
  return numbers
end

--- The values of run:score: at least one.
function figures.scores(values)
  figures.check("run:score", values)
  if not next(values) then caller.raise "run:score: expected at least one score, such as top1" end
  return figures.numbers("run:score", values)
end

--- The name and the value of the main score, which decides which of two epochs is better: top1, or the first name.
function figures.main_score(scores)
  local name = scores.top1 and "top1" or sorted_keys(scores)[1]
  return name, scores[name]
end

--- format:format(value), but a NaN is printed without a sign.
function figures.text(format, value)
  return (format:format(value):gsub("%-nan", "nan"))
end

--- "top1 81.20 %  top5 99.00 %"
function figures.percentages(scores)
  local words = sorted_keys(scores)
  for i, name in ipairs(words) do words[i] = name .. figures.text(" %.2f %%", 100 * scores[name]) end
  return table.concat(words, "  ")
end

return figures
