--- Tab: completes globals, fields, methods and keywords from what is before the cursor.
-- It only looks: tables and metatables' __index tables are read raw, no function of the user's is called. The one
-- exception is `cld` itself, whose modules load when they are looked at.
local complete = {}

local KEYWORDS = { "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
  "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while" }
local DEPTH = 16 -- of __index chains
local WIDTH = 100

local function is_cld(value) return value == package.loaded.cld end

-- The tables in which a field of value may be found, first match first.
local function places(value)
  local list = {}
  for _ = 1, DEPTH do
    if type(value) == "table" then list[#list + 1] = value end
    local meta = debug.getmetatable(value)
    if type(meta) ~= "table" then break end
    -- A userdata with computed fields says in its metatable what there is.
    for _, key in ipairs { "methods", "properties" } do
      local names = type(value) == "userdata" and rawget(meta, key)
      if type(names) == "table" then list[#list + 1] = names end
    end
    value = rawget(meta, "__index")
    if type(value) ~= "table" then break end
  end
  return list
end

local function lookup(value, key)
  for _, place in ipairs(places(value)) do
    local found = rawget(place, key)
    if found ~= nil then return found end
  end
  if is_cld(value) then
    local ok, found = pcall(function() return value[key] end)
    return ok and found or nil
  end
end

-- The fields of value by name; of a userdata's, properties count as values, not as the functions that compute them.
local function fields(value)
  local all = {}
  if is_cld(value) then pcall(function() for key in pairs(value) do all[key] = value[key] end end) end
  local meta = debug.getmetatable(value)
  local properties = type(value) == "userdata" and type(meta) == "table" and rawget(meta, "properties")
  for _, place in ipairs(places(value)) do
    for key, field in next, place do
      if type(key) == "string" and all[key] == nil then all[key] = place == properties or field end
    end
  end
  return all
end

-- "a.b:c" before the cursor: the value of a.b, ":" and "c"; nil where a.b is nothing that can be looked at.
local function parse(text)
  local chain = text:match("[%w_.:]*$")
  local owner, separator, stem = chain:match("^(.-)([.:]?)([%a_]?[%w_]*)$")
  if not owner then return nil end
  if separator == "" then return owner == "" and _G or nil, "", stem end
  local value = _G
  if not (owner .. "."):find("^[%a_][%w_]*[%.]") then return nil end
  for name in owner:gmatch("[^.]+") do
    value = lookup(value, name)
    if value == nil then return nil end
  end
  return value, separator, stem
end

local function candidates(value, separator, stem)
  local all = fields(value)
  if separator == "" then
    for _, word in ipairs(KEYWORDS) do all[word] = all[word] or true end
  end
  local list = {}
  for name, field in pairs(all) do
    local fits = name:sub(1, #stem) == stem and name:find("^[%a_][%w_]*$")
    local hidden = name:sub(1, 1) == "_" and stem:sub(1, 1) ~= "_"
    if fits and not hidden and (separator ~= ":" or type(field) == "function") then list[#list + 1] = name end
  end
  table.sort(list)
  return list, all
end

local function common_prefix(list)
  local first, last = list[1], list[#list] -- sorted: what these two share, all share
  local length = 0
  while length < #first and first:byte(length + 1) == last:byte(length + 1) do length = length + 1 end
  return first:sub(1, length)
end

local function columns(list)
  local widest = 0
  for _, name in ipairs(list) do widest = math.max(widest, #name + 2) end
  local per_row = math.max(1, WIDTH // widest)
  local rows = math.ceil(#list / per_row)
  local lines = {}
  for row = 1, rows do
    local line = {}
    for i = row, #list, rows do line[#line + 1] = list[i] .. (" "):rep(widest - #list[i]) end
    lines[row] = table.concat(line):gsub("%s+$", "")
  end
  return table.concat(lines, "\n")
end

--- What to insert at the cursor and what to list below the line; either may be nil.
function complete.at(text)
  if text:find("^%s*$") then return "  " end
  local value, separator, stem = parse(text)
  if value == nil then return nil end
  local list, all = candidates(value, separator, stem)
  if #list == 0 then return nil end
  local insert = common_prefix(list):sub(#stem + 1)
  if #list == 1 and type(all[list[1]]) == "function" then insert = insert .. "(" end
  if insert ~= "" then return insert end
  return nil, #list > 1 and columns(list) or nil
end

return complete
