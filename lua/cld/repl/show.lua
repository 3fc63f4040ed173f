--- How the session prints values: like print, but tables with their content, and short tables inside them too.
local show = {}

local getmetatable, ipairs, next, pairs, pcall, rawget, tostring, type =
  getmetatable, ipairs, next, pairs, pcall, rawget, tostring, type
local concat, move, pack, sort = table.concat, table.move, table.pack, table.sort
local find, format, gsub, match, sub = string.find, string.format, string.gsub, string.match, string.sub
local number_type = math.type
local offset, utf8_length = utf8.offset, utf8.len
local core = require "cld.core"
local c_locale, printable_line = core.text.c_locale, core.text.printable_line

local WIDTH, ENTRIES, STRING = 100, 40, 60
local SHORT, DEPTH = 10, 3 -- the most entries of an inner table that is shown whole; how deep

local function is_tensor(value)
  local meta = type(value) == "userdata" and getmetatable(value)
  return type(meta) == "table" and meta.__name == "cld.tensor"
end

local function has_tostring(value)
  local meta = getmetatable(value)
  return type(meta) == "table" and meta.__tostring ~= nil
end

local function one_line(text)
  local first = match(text, "^[^\n]*")
  return first == text and text or first .. " ..."
end

local content

-- A table inside a table: its content if that is short, else the number of its entries.
local function brief_table(value, depth)
  local count = 0
  for _ in next, value do count = count + 1 end
  if count <= SHORT and depth < DEPTH then
    local texts = {}
    for _, list in ipairs(pack(content(value, depth + 1))) do move(list, 1, #list, #texts + 1, texts) end
    local text = "{" .. concat(texts, ", ") .. "}"
    if #text <= STRING then return text end
  end
  return count == 0 and "{}" or format("{%d %s}", count, count == 1 and "entry" or "entries")
end

-- A value inside a table: short, on one line.
local function brief(value, depth)
  if type(value) == "string" then
    local text = printable_line(gsub(format("%q", value), "\\\n", "\\n"))
    return utf8_length(text) > STRING and sub(text, 1, offset(text, STRING + 1) - 1) .. '..."' or text
  elseif is_tensor(value) then
    local ok, text = pcall(function() return format("%s[%s]", value.dtype, concat(value.shape, ", ")) end)
    return ok and text or "tensor (closed)"
  elseif type(value) == "table" and not has_tostring(value) then
    return brief_table(value, depth)
  elseif type(value) == "function" then
    return "function"
  end
  return one_line(tostring(value))
end

local function is_name(key) return type(key) == "string" and find(key, "^[%a_][%w_]*$") ~= nil end

local function by_name(a, b)
  if type(a) == type(b) and (type(a) == "string" or type(a) == "number") then return a < b end
  return tostring(a) < tostring(b)
end

-- The content of a table as texts: its array part, its fields "name = value" by name, its functions "name()".
function content(value, depth)
  local array, fields, functions, length, keys = {}, {}, {}, 0, {}
  while rawget(value, length + 1) ~= nil do
    length = length + 1
    array[length] = length <= ENTRIES and brief(value[length], depth) or nil
  end
  for key in pairs(value) do
    if not (number_type(key) == "integer" and key >= 1 and key <= length) then keys[#keys + 1] = key end
  end
  sort(keys, by_name)
  for _, key in ipairs(keys) do
    local field = value[key]
    if is_name(key) and type(field) == "function" then
      functions[#functions + 1] = key .. "()"
    else
      fields[#fields + 1] = (is_name(key) and key or "[" .. brief(key, DEPTH) .. "]") .. " = " .. brief(field, depth)
    end
  end
  if length > ENTRIES then array[ENTRIES + 1] = format("... %d more", length - ENTRIES) end
  if #fields > ENTRIES then
    local cut = format("... %d more", #fields - ENTRIES)
    fields = move(fields, 1, ENTRIES, 1, {})
    fields[ENTRIES + 1] = cut
  end
  return array, fields, functions
end

-- Puts as many texts in a row as fit.
local function rows_of(texts)
  local rows, row = {}, ""
  for _, text in ipairs(texts) do
    if row ~= "" and #row + #text + 4 > WIDTH then rows[#rows + 1], row = row, "" end
    row = row == "" and text or row .. ", " .. text
  end
  if row ~= "" then rows[#rows + 1] = row end
  return rows
end

--- A value as the session prints it.
function show.text(value)
  if type(value) ~= "table" or has_tostring(value) then return tostring(value) end
  local lists = pack(content(value, 1))
  local all = {}
  for _, list in ipairs(lists) do move(list, 1, #list, #all + 1, all) end
  local line = "{" .. concat(all, ", ") .. "}"
  if #line <= WIDTH then return line end
  local rows = rows_of(lists[1])
  move(lists[2], 1, #lists[2], #rows + 1, rows)
  local functions = rows_of(lists[3])
  move(functions, 1, #functions, #rows + 1, rows)
  return "{\n  " .. concat(rows, ",\n  ") .. "\n}"
end

--- All results of a call, separated as by print; tables and tensors on separate lines.
function show.results(results)
  local _ <close> = c_locale()
  local texts, separator = {}, "\t"
  for i = 1, results.n do
    texts[i] = show.text(results[i])
    if find(texts[i], "\n") then separator = "\n" end
  end
  return concat(texts, separator)
end

return show
