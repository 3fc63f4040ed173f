--- Tab: completes globals, the session's local variables, fields, methods and keywords from what is before the cursor.
-- It only looks: tables and metatables' __index tables are read raw, and no user function is called. The one exception
-- is `cld` itself, whose modules load when they are looked at.
local locals = require "cld.repl.locals"

local complete = {}

local _G, ipairs, next, pairs, pcall, rawget, require, tonumber, type =
  _G, ipairs, next, pairs, pcall, rawget, require, tonumber, type
local getmetatable = debug.getmetatable -- works for any value, even a protected one
local concat, sort = table.concat, table.sort
local byte, find, gsub, match, rep, sub = string.byte, string.find, string.gsub, string.match, string.rep, string.sub
local ceil, max = math.ceil, math.max
local loaded = package.loaded
local c_locale = require "cld.core".text.c_locale

local KEYWORDS = { "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
  "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while" }
local DEPTH = 16 -- the longest chain of __index that is followed
local WIDTH = 100

local function is_cld(value) return value == loaded.cld end

-- The tables to search for a field of value, in order.
local function places(value)
  local list = {}
  for _ = 1, DEPTH do
    if type(value) == "table" then list[#list + 1] = value end
    local meta = getmetatable(value)
    if type(meta) ~= "table" then break end
    -- A userdata with computed fields lists them in its metatable.
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

-- The fields of value by name. Properties of a userdata count as values, not as the functions that compute them.
local function fields(value)
  local all = {}
  if is_cld(value) then pcall(function() for key in pairs(value) do all[key] = value[key] end end) end
  local meta = getmetatable(value)
  local properties = type(value) == "userdata" and type(meta) == "table" and rawget(meta, "properties")
  for _, place in ipairs(places(value)) do
    for key, field in next, place do
      if type(key) == "string" and all[key] == nil then all[key] = place == properties or field end
    end
  end
  return all
end

-- The last step of "a.b[1]['c'].d": the text before it, its key, and whether that is a name (not in brackets).
local function last_step(text)
  local before, key = match(text, "^(.*)%[%s*(%d+)%s*%]$")
  if key then return before, tonumber(key), false end
  local quote
  before, quote, key = match(text, "^(.*)%[%s*(['\"])([^'\"\\]*)%2%s*%]$")
  if quote then return before, key, false end
  before, key = match(text, "^(.-)([%a_][%w_]*)$")
  if key and not find(before, "[%w_]$") then return before, key, true end
end

-- The value of such a text; nil if it cannot be found by only reading tables, such as a call or a literal.
local function value_of(text)
  local before, key, is_name = last_step(text)
  if not before then return nil end
  if not is_name then return lookup(value_of(before), key) end
  if find(before, "[:)%]'\"]$") then return nil end
  local owner = match(before, "^(.*[^.])%.$")
  if owner then return lookup(value_of(owner), key) end
  local is_local, value = locals.get(key)
  if is_local then return value end
  return lookup(_G, key)
end

-- "a.b:c" before the cursor: the value of a.b, ":" and "c"; nil if there is nothing to complete.
local function parse(text)
  local before, stem = match(text, "^(.-)([%w_]*)$")
  if find(stem, "^%d") then return nil end
  local owner, separator = match(before, "^(.-)([.:]?)$")
  if separator == "" or find(before, "%.%.$") then return _G, "", stem end
  return value_of(owner), separator, stem
end

local function candidates(value, separator, stem)
  local all = fields(value)
  if separator == "" then
    for _, name in ipairs(locals.names()) do
      local _, variable = locals.get(name)
      all[name] = variable == nil and true or variable
    end
    for _, word in ipairs(KEYWORDS) do all[word] = all[word] or true end
  end
  local list = {}
  for name, field in pairs(all) do
    local fits = sub(name, 1, #stem) == stem and find(name, "^[%a_][%w_]*$")
    local hidden = sub(name, 1, 1) == "_" and sub(stem, 1, 1) ~= "_"
    if fits and not hidden and (separator ~= ":" or type(field) == "function") then list[#list + 1] = name end
  end
  sort(list)
  return list, all
end

local function common_prefix(list)
  local first, last = list[1], list[#list] -- sorted: a prefix of these two is one of all
  local length = 0
  while length < #first and byte(first, length + 1) == byte(last, length + 1) do length = length + 1 end
  return sub(first, 1, length)
end

local function columns(list)
  local widest = 0
  for _, name in ipairs(list) do widest = max(widest, #name + 2) end
  local per_row = max(1, WIDTH // widest)
  local rows = ceil(#list / per_row)
  local lines = {}
  for row = 1, rows do
    local line = {}
    for i = row, #list, rows do line[#line + 1] = list[i] .. rep(" ", widest - #list[i]) end
    lines[row] = gsub(concat(line), "%s+$", "")
  end
  return concat(lines, "\n")
end

-- Within help "...": topics, and names up to their next dot.
local function help_names(stem)
  local texts, seen, list = require "cld.help.data"(), {}, {}
  local function add(name)
    if sub(name, 1, #stem) == stem and not seen[name] then seen[name], list[#list + 1] = true, name end
  end
  for _, topic in ipairs(texts.topics) do add(topic.name) end
  for _, entry in ipairs(texts.entries) do
    local before, after = sub(entry.name, 1, #stem), sub(entry.name, #stem + 1)
    add(before .. (match(after, "^[.:]?[%w_]*") or ""))
  end
  sort(list)
  return list
end

--- What to insert at the cursor and what to list below the line; either may be nil.
function complete.at(text)
  local _ <close> = c_locale() -- names consist of ASCII letters
  if find(text, "^%s*$") then return "  " end
  local word = match(text, "%f[%w_]help%s*%(?%s*[\"']([^\"']*)$")
  if word then
    local ok, names = pcall(help_names, word)
    if not ok or #names == 0 then return nil end
    local rest = sub(common_prefix(names), #word + 1)
    if rest ~= "" then return rest end
    return nil, #names > 1 and columns(names) or nil
  end
  local value, separator, stem = parse(text)
  if value == nil then return nil end
  local list, all = candidates(value, separator, stem)
  if #list == 0 then return nil end
  local insert = sub(common_prefix(list), #stem + 1)
  if #list == 1 and type(all[list[1]]) == "function" then insert = insert .. "(" end
  if insert ~= "" then return insert end
  return nil, #list > 1 and columns(list) or nil
end

return complete
