--- JSON: Lua values to text, and text to Lua values.
--
-- A table is an array if its keys are 1..n and n > 0, else an object, its keys sorted. Floats are written with the
-- fewest digits that restore them bit for bit; json.null is null. A value that JSON lacks (NaN, functions) is an error.
--
-- A string may hold any bytes, as a path may: a byte 0xNN outside a valid UTF-8 character is written as
-- "\udbff\udeNN", and decode restores the byte. Other readers see one private character, U+10FENN.
local core = require "cld.core"

local quote, c_locale = core.json.quote, core.text.c_locale

--- cld.json.null: stands for JSON's null in what decode returns and encode takes.
local json = { decode = core.json.decode, null = core.json.null }

local deepest = 100 -- levels of nested tables; more are taken for a cycle

local function fail(format, ...) error("json.encode: " .. format:format(...), 0) end

local function encode_number(value)
  if math.type(value) == "integer" then return ("%d"):format(value) end
  if value ~= value or math.abs(value) == math.huge then fail("JSON has no number %g", value) end
  local text
  for digits = 15, 17 do
    text = ("%%.%dg"):format(digits):format(value)
    if tonumber(text) == value then break end
  end
  return text:find "[.e]" and text or text .. ".0" -- a float is read back as a float
end

local encode

-- Items on one line, or each on its own if there is an indent.
local function enclose(open, items, close, indent, depth)
  if #items == 0 then return open .. close end
  if not indent then return open .. table.concat(items, ",") .. close end
  local inner, outer = "\n" .. indent:rep(depth + 1), "\n" .. indent:rep(depth)
  return open .. inner .. table.concat(items, "," .. inner) .. outer .. close
end

local function encode_table(value, indent, depth)
  if depth == deepest then fail("tables lie more than %d deep; is there a cycle?", deepest) end
  local count, keys, items = 0, {}, {}
  for _ in pairs(value) do count = count + 1 end
  if count > 0 and count == #value then
    for i, item in ipairs(value) do items[i] = encode(item, indent, depth + 1) end
    return enclose("[", items, "]", indent, depth)
  end
  for key in pairs(value) do
    if type(key) ~= "string" then fail("an object's keys must be strings, found %s", tostring(key)) end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for i, key in ipairs(keys) do
    items[i] = quote(key) .. (indent and ": " or ":") .. encode(value[key], indent, depth + 1)
  end
  return enclose("{", items, "}", indent, depth)
end

function encode(value, indent, depth)
  local kind = type(value)
  if kind == "table" then return encode_table(value, indent, depth) end
  if kind == "string" then return quote(value) end
  if kind == "number" then return encode_number(value) end
  if kind == "boolean" then return tostring(value) end
  if value == json.null then return "null" end
  fail("a %s has no JSON form", kind)
end

--- cld.json.encode(value[, indent]) -> text: indent: spaces per level; without it everything is on one line. Keys are
-- sorted. A value that JSON lacks (NaN, functions) is an error.
--
--     print(cld.json.encode { b = 1, a = { 1, 2 } })  --> {"a":[1,2],"b":1}
function json.encode(value, indent)
  local _ <close> = c_locale()
  return encode(value, indent and (" "):rep(indent), 0)
end

return json
