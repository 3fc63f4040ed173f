--- How the session prints values: as print does, but tables with their content, one level deep.
local show = {}

local WIDTH, ENTRIES, STRING = 100, 40, 60

local function is_tensor(value)
  local meta = type(value) == "userdata" and getmetatable(value)
  return type(meta) == "table" and meta.__name == "cld.tensor"
end

local function has_tostring(value)
  local meta = getmetatable(value)
  return type(meta) == "table" and meta.__tostring ~= nil
end

local function one_line(text)
  local first = text:match("^[^\n]*")
  return first == text and text or first .. " ..."
end

-- A value inside a table: short, on one line.
local function brief(value)
  if type(value) == "string" then
    local text = ("%q"):format(value):gsub("\\\n", "\\n")
    return #text > STRING and text:sub(1, STRING) .. '..."' or text
  elseif is_tensor(value) then
    local ok, text = pcall(function() return ("%s[%s]"):format(value.dtype, table.concat(value.shape, ", ")) end)
    return ok and text or "tensor (closed)"
  elseif type(value) == "table" and not has_tostring(value) then
    local count = 0
    for _ in next, value do count = count + 1 end
    return count == 0 and "{}" or ("{%d %s}"):format(count, count == 1 and "entry" or "entries")
  elseif type(value) == "function" then
    return "function"
  end
  return one_line(tostring(value))
end

local function is_name(key) return type(key) == "string" and key:find("^[%a_][%w_]*$") ~= nil end

local function by_name(a, b)
  if type(a) == type(b) and (type(a) == "string" or type(a) == "number") then return a < b end
  return tostring(a) < tostring(b)
end

-- "1, 2, name = value" as a list of texts; the array part first, the rest by name.
local function entries(value)
  local list, length, keys = {}, 0, {}
  while rawget(value, length + 1) ~= nil do
    length = length + 1
    list[length] = length <= ENTRIES and brief(value[length]) or nil
  end
  for key in pairs(value) do
    if not (math.type(key) == "integer" and key >= 1 and key <= length) then keys[#keys + 1] = key end
  end
  table.sort(keys, by_name)
  local total = length + #keys
  for _, key in ipairs(keys) do
    if #list >= ENTRIES then break end
    list[#list + 1] = (is_name(key) and key or "[" .. brief(key) .. "]") .. " = " .. brief(value[key])
  end
  if total > #list then list[#list + 1] = ("... %d more"):format(total - #list) end
  return list, length
end

--- A value as the session prints it.
function show.text(value)
  if type(value) ~= "table" or has_tostring(value) then return tostring(value) end
  local list, length = entries(value)
  local line = "{" .. table.concat(list, ", ") .. "}"
  if #line <= WIDTH then return line end
  if length < #list then return "{\n  " .. table.concat(list, ",\n  ") .. "\n}" end
  local rows, row = {}, " " -- an array: as many to a row as fit
  for i, entry in ipairs(list) do
    if #row + #entry + 2 > WIDTH then rows[#rows + 1], row = row, " " end
    row = row .. " " .. entry .. (i < #list and "," or "")
  end
  rows[#rows + 1] = row
  return "{\n" .. table.concat(rows, "\n") .. "\n}"
end

--- All results of a call, separated as print separates them; tables and tensors on lines of their own.
function show.results(results)
  local texts, separator = {}, "\t"
  for i = 1, results.n do
    texts[i] = show.text(results[i])
    if texts[i]:find("\n") then separator = "\n" end
  end
  return table.concat(texts, separator)
end

return show
