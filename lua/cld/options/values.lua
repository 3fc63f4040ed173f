--- The value of one option: what is expected, and how to convert text from the command line to the declared type.
local core = require "cld.core"

local values = {}

local function shown(number) return tostring(math.tointeger(number) or number) end

--- The kind of a declaration's values: its field `value`, or the type of its default. For numbers, it is "integer" if
-- the field `integer` is true, else "number".
function values.kind(declaration)
  local kind = declaration.value or type(declaration[2])
  return kind == "number" and declaration.integer and "integer" or kind
end

--- Whether it is a positional argument.
function values.is_beside(d) return d.kind == "arguments" or d.kind == "argument" end

--- Whether each value is a single number.
function values.is_number(d) return d.kind == "integer" or d.kind == "number" end

--- "from 1 to 10", "at least 1", "above 0"; "" if any number will do.
function values.range(d)
  if d.min and d.max then return ("from %s to %s"):format(shown(d.min), shown(d.max)) end
  if d.min then return "at least " .. shown(d.min) end
  local words = {}
  if d.above then words[#words + 1] = "above " .. shown(d.above) end
  if d.max then words[#words + 1] = "at most " .. shown(d.max) end
  return table.concat(words, " and ")
end

--- "an integer from 1 to 10", "a number above 0", "one of a, b"
function values.expected(d)
  if d.choices then return "one of " .. table.concat(d.choices, ", ") end
  if d.kind == "boolean" then return "true or false" end
  if d.kind == "device" then return "auto, cpu, cuda or cuda:N" end
  if d.kind == "integers" then return "ascending integers of at least 1, such as 120,160" end
  if d.kind == "arguments" then return "texts" end
  if d.kind == "numbers" then
    local range = values.range(d)
    return ("different numbers%s, separated by commas"):format(range ~= "" and ", each " .. range or "")
  end
  if not values.is_number(d) then return d.nonempty and "a text that is not empty" or "a text" end
  local text, range = d.kind == "integer" and "an integer" or "a number", values.range(d)
  if range == "" then return text end
  return text .. (range:find "^at" and " of " or " ") .. range
end

--- "120, 160" -> {120, 160}; nil unless they are positive, ascending integers, at least one.
function values.integers(text)
  local list = {}
  for word in (text .. ","):gmatch "%s*(.-)%s*," do
    local number = math.tointeger(tonumber(word))
    if not number or number <= (list[#list] or 0) then return nil end
    list[#list + 1] = number
  end
  return list
end

local function in_range(d, number)
  return number == number and math.abs(number) ~= math.huge and not (d.min and number < d.min)
    and not (d.max and number > d.max) and not (d.above and number <= d.above)
end

--- "0.1, 1" -> {0.1, 1.0}; nil unless they are distinct numbers in the range of the declaration `d`, at least one.
function values.numbers(text, d)
  local list, seen = {}, {}
  for word in (text .. ","):gmatch "%s*(.-)%s*," do
    local number = tonumber(word)
    if not number or seen[number] or not in_range(d or {}, number) then return nil end
    list[#list + 1], seen[number] = number + 0.0, true
  end
  return list
end

local function is_choice(d, value)
  for _, choice in ipairs(d.choices or { value }) do
    if choice == value then return true end
  end
  return false
end

local function convert_text(d, value)
  if d.kind == "numbers" and type(value) == "number" then value = shown(value) end
  if type(value) ~= "string" or d.nonempty and value == "" then return nil end
  if d.kind == "numbers" and value == "" and d[2] == "" then return value end -- no numbers, if the default has none
  if d.kind == "integers" and not values.integers(value) then return nil end
  if d.kind == "numbers" and not values.numbers(value, d) then return nil end
  if d.kind == "device" and value ~= "auto" and not core.cuda.is_name(value) then return nil end
  return is_choice(d, value) and value or nil
end

--- The value as the declared type, or nil. Command line arguments are strings; other callers may pass the type itself.
function values.convert(d, value)
  if d.kind == "optional" then return value end
  if d.kind == "boolean" then
    if type(value) == "boolean" then return value end
    return nil
  end
  if d.kind == "arguments" then return type(value) == "table" and value or nil end
  if not values.is_number(d) then return convert_text(d, value) end
  local number = tonumber(value)
  if number and d.kind == "integer" then number = math.tointeger(number) end
  if not number or not in_range(d, number) or not is_choice(d, number) then return nil end
  if math.type(d[2]) == "float" then return number + 0.0 end
  return math.tointeger(number) or number -- the default too: `1` and `1.0` are the same value
end

local FIELDS = { "min", "max", "above", "integer", "choices", "nonempty", "value", "fixed", "needs", "path" }
local known = { true, true, true } -- the name, the default, the help
for _, name in ipairs(FIELDS) do known[name] = true end

--- Why a declaration itself is wrong, or nil.
function values.fault(declaration)
  for name in pairs(declaration) do
    if not known[name] then
      return ("unknown field '%s'; known fields: %s"):format(tostring(name), table.concat(FIELDS, ", "))
    end
  end
  local kind, default = values.kind(declaration), declaration[2]
  if declaration.integer and kind ~= "integer" then return "integer = true is of numbers" end
  if kind == "integer" and not math.tointeger(default) then
    return ("integer = true, and the default is %s"):format(tostring(default))
  end
  local d = setmetatable({ kind = kind }, { __index = declaration })
  if (values.is_number(d) or d.choices) and values.convert(d, default) == nil then
    return ("the default is %s; expected %s"):format(tostring(default), values.expected(d))
  end
  return nil
end

return values
