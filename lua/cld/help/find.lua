--- Finds what help(x) is about: an entry, a module, a kind of object or a topic, by name or by the value itself.
local cld = require "cld"
local core = require "cld.core"
local data = require "cld.help.data"
local public = require "cld.help.public"
local pytorch = require "cld.help.pytorch"

local find = {}

-- The result is {entry =}, {module = name}, {kind =, object = entry or nil}, {topic =}, {row = of pytorch.lua},
-- {recipe =}, {option =}, {list = {entry, ...}} if there are several, {overview = true} for "", or {near = {name, ...}}
-- if there is none.

-- ---- by name ----------------------------------------------------------------------------------------------------

-- Keeps only the letters: "From PyTorch" and "from_pytorch" are the same.
local function plain(text) return (text:lower():gsub("[%s_%-]", "")) end

-- The topic with that name or alias.
local function topic_named(word, with_aliases)
  for _, topic in ipairs(data().topics) do
    if not with_aliases and plain(topic.name) == word then return topic end
    for _, alias in ipairs(with_aliases and topic.aliases or {}) do
      if plain(alias) == word then return topic end
    end
  end
end

-- A topic, and the module of the same name.
local function found_topic(topic, word)
  local module = "cld." .. word
  return { topic = topic, also = find.is_module(module) and module or nil }
end

-- The entry itself, or the module if the entry names one.
local function found_entry(entry)
  return find.is_module(entry.name) and { module = entry.name } or { entry = entry }
end

local modules -- the names of tables whose fields have texts

--- Whether a name is that of a table whose fields have texts: cld.nn, cld.nn.functional.
function find.is_module(name)
  if not modules then
    modules = {}
    for _, entry in ipairs(data().entries) do
      local owner = entry.name:match "^(cld.*)%.[%w_]+$" or entry.name:match "^(cld)%."
      if owner then modules[owner] = true end
    end
  end
  return modules[name] == true
end

--- The entry for a function that is also a tensor method: cld.sum, cld.nn.functional.softmax.
function find.of_tensor(name)
  local method = name:match "^cld%.([%w_]+)$" or name:match "^cld%.nn%.functional%.([%w_]+)$"
  return method and data().by_name["tensor:" .. method] or nil
end

-- The entries whose name ends with the word.
local function with_last_name(word)
  local list = {}
  for _, entry in ipairs(data().entries) do
    if entry.name:match "[^.:]+$" == word then list[#list + 1] = entry end
  end
  return list
end

-- The edit distance of a name from the word, to find the nearest.
local function distance(word, name)
  local last = name:match "[^.:]+$" or name
  local own = math.min(core.system.edit_distance(word, last), core.system.edit_distance(word, name))
  if #word >= 4 and last:find(word, 1, true) then own = math.min(own, 1) end
  return own
end

-- The names that are nearest to the word, five at most.
local function near(word, of)
  local all = {}
  for i, name in ipairs(of) do all[i] = { name, distance(word, name:lower()) } end
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

local function nearest(word)
  local names = {}
  for _, list in ipairs { data().entries, data().topics, data().recipes } do
    for _, item in ipairs(list) do names[#names + 1] = item.name end
  end
  return near(word, names)
end

-- "folder_npid_cld", "recipes/folder_npid_cld.lua"
local function recipe_named(word)
  local name = word:match "([^/]*)$":gsub("%.lua$", "")
  for _, recipe in ipairs(data().recipes) do
    if recipe.name == name then return { recipe = recipe } end
  end
end

-- An option of the recipes: "--size".
local function found_option(word)
  local names = {}
  for i, option in ipairs(data().options) do
    names[i] = "--" .. option.name
    if names[i] == word or "--no-" .. option.name == word then return { option = option } end
  end
  return near(word, names)
end

--- Finds what the text names. A topic comes before a module with the same name, and a recipe last; NAME.lua names a
-- recipe.
function find.by_name(text)
  local word = text:match "^%s*(.-)[%s()]*$"
  local by_name = data().by_name
  if word == "" then return { overview = true } end
  if word:find "^%-%-" then return found_option(word:match "^[^%s=]*") end
  local recipe = recipe_named(word)
  if recipe and word:find "[/.]" then return recipe end
  if word == "cld" then return { module = "cld" } end
  local topic = topic_named(plain(word))
  if topic then return found_topic(topic, word) end
  for _, name in ipairs { word, "cld." .. word, (word:gsub("^x([.:])", "tensor%1")) } do
    if by_name[name] then return found_entry(by_name[name]) end
  end
  topic = topic_named(plain(word), true)
  if topic then return found_topic(topic, word) end
  local kind = word:lower():gsub("^cld%.", "")
  if public.about_kinds[kind] then return { kind = kind } end
  if find.of_tensor(word) then return { entry = find.of_tensor(word) } end
  local list = with_last_name(word)
  if #list == 1 then return found_entry(list[1]) end
  if #list > 1 then return { list = list } end
  if recipe then return recipe end
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

--- What the value is; nil if it does not belong to cld.
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

--- The entries of a module (name) or of a kind of object, in alphabetical order.
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
