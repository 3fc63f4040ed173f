--- What a person means by help(x): an entry, a module, a kind of object, a topic, by name or by the value itself.
local cld = require "cld"
local core = require "cld.core"
local data = require "cld.help.data"
local public = require "cld.help.public"
local pytorch = require "cld.help.pytorch"

local find = {}

-- What is found is {entry =}, {module = name}, {kind =, object = entry or nil}, {topic =}, {row = of pytorch.lua},
-- {list = {entry, ...}} of several, or {near = {name, ...}} of none.

-- ---- by name ----------------------------------------------------------------------------------------------------

-- Letters alone: "From PyTorch" and "from_pytorch" are one.
local function plain(text) return (text:lower():gsub("[%s_%-]", "")) end

local function topic_named(word)
  for _, topic in ipairs(data().topics) do
    if plain(topic.name) == word then return topic end
    for _, alias in ipairs(topic.aliases) do
      if plain(alias) == word then return topic end
    end
  end
end

-- The entry's own, or that of the table that it is.
local function found_entry(entry)
  return find.is_module(entry.name) and { module = entry.name } or { entry = entry }
end

--- Whether it is the name of a table whose content has texts: cld.nn, cld.nn.functional.
function find.is_module(name)
  local prefix = name .. "."
  for _, entry in ipairs(data().entries) do
    if entry.name:sub(1, #prefix) == prefix then return name:find "^cld" ~= nil end
  end
  return false
end

-- The entries whose last name is the word, and the topic of that name.
local function with_last_name(word)
  local list = {}
  for _, entry in ipairs(data().entries) do
    if entry.name:match "[^.:]+$" == word then list[#list + 1] = entry end
  end
  return list
end

-- How far a name is from the word, for the nearest.
local function distance(word, name)
  local last = name:match "[^.:]+$" or name
  local own = math.min(core.system.edit_distance(word, last), core.system.edit_distance(word, name))
  if #word >= 4 and last:find(word, 1, true) then own = math.min(own, 1) end
  return own
end

local function nearest(word)
  local all = {}
  local function add(name) all[#all + 1] = { name, distance(word, name:lower()) } end
  for _, entry in ipairs(data().entries) do add(entry.name) end
  for _, topic in ipairs(data().topics) do add(topic.name) end
  table.sort(all, function(a, b)
    if a[2] ~= b[2] then return a[2] < b[2] end
    return #a[1] < #b[1] or #a[1] == #b[1] and a[1] < b[1]
  end)
  local names, limit = {}, math.max(2, #word // 2)
  for i = 1, math.min(5, #all) do
    if all[i][2] <= limit then names[#names + 1] = all[i][1] end
  end
  return { near = names }
end

--- What the text names.
function find.by_name(text)
  local word = text:match "^%s*(.-)[%s()]*$"
  local by_name = data().by_name
  if word == "cld" then return { module = "cld" } end
  for _, name in ipairs { word, "cld." .. word, (word:gsub("^x([.:])", "tensor%1")) } do
    if by_name[name] then return found_entry(by_name[name]) end
  end
  local topic = topic_named(plain(word))
  if topic then return { topic = topic } end
  if public.about_kinds[plain(word):gsub("^cld%.", "")] then return { kind = plain(word) } end
  local method = word:match "^cld%.([%w_]+)$"
  if method and by_name["tensor:" .. method] then return { entry = by_name["tensor:" .. method] } end
  local list = with_last_name(word)
  if #list == 1 then return found_entry(list[1]) end
  if #list > 1 then return { list = list } end
  local row = pytorch.find(word)
  if row then return { row = row } end
  return nearest(word:lower())
end

-- ---- by value ---------------------------------------------------------------------------------------------------

local names -- value -> name

local function name_of(value)
  if not names then
    names = {}
    public.each(cld, function(name, item)
      local kind = type(item)
      local is_better = not names[item] or data().by_name[name] and not data().by_name[names[item]]
      if (kind == "function" or kind == "table") and is_better then names[item] = name end
    end)
    names[cld] = "cld"
    for kind, lists in pairs(public.userdata()) do
      for name, method in pairs(lists.methods) do names[method] = kind .. ":" .. name end
    end
    for name, method in pairs(require "cld.nn.module".base) do
      if type(method) == "function" then names[method] = "module:" .. name end
    end
  end
  return names[value]
end

-- The entry of a Lua function, by the place of its code.
local function by_place(value)
  local where = debug.getinfo(value, "S")
  local file = where.source:match "(lua/cld/.*)$" or where.source:match "(cld/.*)$"
  for _, entry in ipairs(data().entries) do
    if file and entry.line == where.linedefined and entry.file:sub(-#file) == file then return entry end
  end
end

--- What the value is; nil if it is nothing of cld's.
function find.by_value(value)
  local kind = public.kind(value)
  if kind == "module" then
    local class = value._name
    local entry = type(class) == "string" and data().by_name["cld.nn." .. class] or nil
    return { kind = kind, object = entry }
  end
  if kind then return { kind = kind } end
  if type(value) ~= "function" and type(value) ~= "table" then return nil end
  local name = name_of(value)
  local entry = name and (data().by_name[name] or data().by_name[name:gsub("^cld%.", "tensor:")])
  if entry then return found_entry(entry) end
  if name and find.is_module(name) then return { module = name } end
  entry = type(value) == "function" and by_place(value)
  return entry and { entry = entry } or nil
end

-- ---- what is in it ----------------------------------------------------------------------------------------------

--- The entries of a module (name) or of a kind of object, in the alphabet's order.
function find.members(name, is_kind)
  local list = {}
  for _, entry in ipairs(data().entries) do
    local owner = entry.name:match(is_kind and "^([%w_]+)[:.][%w_]+$" or "^(.*)%.[%w_]+$")
    if owner == name then list[#list + 1] = entry end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

return find
