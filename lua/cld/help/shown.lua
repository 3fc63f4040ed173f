--- Help as lines for a terminal.
local core = require "cld.core"
local data = require "cld.help.data"
local find = require "cld.help.find"
local overview = require "cld.help.overview"
local public = require "cld.help.public"
local pytorch = require "cld.help.pytorch"
local topics = require "cld.help.topic"

local shown = {}

local WIDEST, NARROWEST = 100, 40

local function width() return math.max(NARROWEST, math.min(WIDEST, (core.system.terminal() or WIDEST) - 1)) end

-- ---- text -------------------------------------------------------------------------------------------------------

-- Appends a text as lines that fit, each with the indent, but the first with `first` if that is given.
local function wrap(lines, text, indent, first)
  local line, room = first or indent, width()
  local is_empty = true
  for word in text:gmatch "%S+" do
    if not is_empty and utf8.len(line) + 1 + utf8.len(word) > room then
      lines[#lines + 1], line, is_empty = line, indent, true
    end
    line = is_empty and line .. word or line .. " " .. word
    is_empty = false
  end
  lines[#lines + 1] = line
end

-- The paragraphs of a text; lines that begin with two spaces stay as they are.
local function add_text(lines, text, indent)
  for line in (text .. "\n"):gmatch "(.-)\n" do
    if line == "" then
      lines[#lines + 1] = ""
    elseif line:find "^  " then
      lines[#lines + 1] = indent .. line
    else
      wrap(lines, line, indent)
    end
  end
end

--- The first sentence of a text, or its beginning.
function shown.summary(text)
  local first = text:match "^[^\n]*"
  local sentence = first:match "^(.-[^%.]%.)%s+%u" or first
  sentence = sentence:match "^(.-[^%.]%.)%s+cld%." or sentence
  return sentence:find "%.%.%.?$" and sentence or (sentence:gsub("[.:]$", ""))
end

-- Whether the text begins with code, which is not capitalised: an argument, another function's name, a loop, "u8".
local function begins_with_code(entry)
  local word, following = entry.text:match "^([%w_]+)(.?.?)"
  if not word or entry.text:find "^for [%w_, ]+ in [%w_.]+[:({]" then return true end
  local arguments = (entry.signature:match "[({].*" or ""):gsub("%->.*$", "")
  if arguments:find("%f[%w_]" .. word .. "%f[^%w_]") then return true end
  if #word == 1 and word ~= "a" or following:find "^[.:(]%S" or following:find "^%(" then return true end
  if word:find "_" or word:find "^%l%l?%d+$" then return true end
  local owner, last = entry.name:match "^(.*[.:])([%w_]+)$" -- cld.rand_like: "rand with x's shape"
  return owner and last:sub(1, #word + 1) == word .. "_" and data().by_name[owner .. word] ~= nil
end

--- The entry's text, capitalised unless it begins with code.
function shown.sentence(entry)
  if begins_with_code(entry) then return entry.text end
  return (entry.text:gsub("^%l", string.upper))
end

--- The same for an entry at the start of a line.
function shown.line(entry) return shown.summary(shown.sentence(entry)) end

local function cut(text, room)
  if utf8.len(text) <= room then return text end
  return text:sub(1, utf8.offset(text, room - 3) - 1):gsub("%s+%S*$", "") .. " ..."
end

-- "  name    the first sentence", cut to the terminal.
local function add_rows(lines, rows)
  local widest = 0
  for _, row in ipairs(rows) do widest = math.max(widest, #row[1]) end
  widest = math.min(widest, 34)
  for _, row in ipairs(rows) do
    local left = ("  %-" .. widest .. "s  "):format(row[1])
    lines[#lines + 1] = cut(left .. row[2], width())
  end
end

-- Names side by side.
local function add_names(lines, names)
  wrap(lines, table.concat(names, ", "), "    ")
end

-- ---- the kinds of answers ---------------------------------------------------------------------------------------

function shown.entry(entry)
  local lines = {}
  for signature in (entry.signature .. "\n"):gmatch "(.-)\n" do wrap(lines, signature, "      ", "") end
  if entry.text ~= "" then
    lines[#lines + 1] = ""
    add_text(lines, shown.sentence(entry), "  ")
  end
  if entry.example then
    lines[#lines + 1] = ""
    for line in (entry.example .. "\n"):gmatch "(.-)\n" do lines[#lines + 1] = "      " .. line end
  end
  lines[#lines + 1] = ""
  lines[#lines + 1] = ("  (%s:%d)"):format(entry.file, entry.line)
  return lines
end

local function rows_of(entries)
  local rows = {}
  for i, entry in ipairs(entries) do
    local name = entry.name:match "^[%w_]+:(.*)$"
    rows[i] = { name and ":" .. name or entry.name:match "[^.]+$", shown.line(entry) }
  end
  return rows
end

function shown.module(name)
  local lines = { name, "" }
  local entry = data().by_name[name]
  if entry then
    add_text(lines, shown.sentence(entry), "  ")
    lines[#lines + 1] = ""
  end
  add_rows(lines, rows_of(find.members(name)))
  lines[#lines + 1] = ""
  lines[#lines + 1] = ('  help "%s.NAME" tells more of one.'):format(name)
  return lines
end

-- A tensor's methods, grouped by file.
local GROUPS = {
  { "tensor%.c", "what it is" }, { "tensor_math", "arithmetic, comparison, products, casts" },
  { "tensor_reduce", "along dimensions" }, { "tensor_view", "shape" }, { "tensor_select", "choosing elements" },
  { "tensor_in_place", "in place" }, { "tensor_random", "random numbers, in place" },
  { "tensor_table", "to Lua" }, { "tensor_index", "rows" }, { "autograd", "gradients" },
}

local function add_groups(lines, entries)
  for _, group in ipairs(GROUPS) do
    local names = {}
    for _, entry in ipairs(entries) do
      if entry.file:find(group[1]) then names[#names + 1] = entry.name:match "[^.:]+$" end
    end
    lines[#lines + 1] = "  " .. group[2] .. ":"
    add_names(lines, names)
  end
end

function shown.kind(kind, object)
  local lines = object and shown.entry(object) or { ("%s: %s"):format(kind, public.about_kinds[kind]) }
  local entries = find.members(kind, true)
  lines[#lines + 1] = ""
  if kind == "tensor" then
    add_groups(lines, entries)
    lines[#lines + 1] = ""
    lines[#lines + 1] = '  help "x:sum" or help(x.sum) tells more of one; help "indexing" of x[...].'
    return lines
  end
  if object then lines[#lines + 1] = "  What every module can do:" end
  add_rows(lines, rows_of(entries))
  lines[#lines + 1] = ""
  lines[#lines + 1] = ('  help "%s:NAME" tells more of one.'):format(kind)
  return lines
end

-- The whole list of pytorch.lua.
local function add_pytorch(lines)
  for _, group in ipairs(pytorch.groups) do
    lines[#lines + 1] = ""
    lines[#lines + 1] = group[1] .. ":"
    lines[#lines + 1] = ""
    local rows = {}
    for i = 2, #group do
      local there, here, note = table.unpack(group[i], 1, 3)
      rows[#rows + 1] = { there, here and (note and here .. ": " .. note or here) or note }
    end
    add_rows(lines, rows)
  end
end

function shown.topic(topic, also)
  local lines = { topic.title }
  for _, block in ipairs(topics.blocks(topic.text)) do
    lines[#lines + 1] = ""
    if block.code then
      for line in (block.code .. "\n"):gmatch "(.-)\n" do lines[#lines + 1] = "      " .. line end
    elseif block.items then
      for _, item in ipairs(block.items) do wrap(lines, item, "    ", "  - ") end
    else
      wrap(lines, block.paragraph, "  ")
    end
  end
  if topic.name == "from pytorch" then add_pytorch(lines) end
  if also then
    lines[#lines + 1] = ""
    lines[#lines + 1] = ('  help "%s" tells of the module.'):format(also)
  end
  return lines
end

function shown.row(row)
  local there, here, note = table.unpack(row, 1, 3)
  local lines = {}
  wrap(lines, ("PyTorch's %s is here: %s"):format(there, here or "nothing of the kind"), "  ", "")
  if note then wrap(lines, note, "  ") end
  if here then wrap(lines, ('help "%s" tells more.'):format(here), "  ") end
  lines[#lines + 1] = '  help "from pytorch" has the whole list.'
  return lines
end

function shown.recipe(recipe)
  local lines = {}
  wrap(lines, recipe.usage, "      ", "")
  lines[#lines + 1] = ""
  wrap(lines, (recipe.about:gsub("^%l", string.upper)), "  ")
  lines[#lines + 1] = ""
  wrap(lines, "Options: " .. table.concat(recipe.options, ", "), "    ", "  ")
  lines[#lines + 1] = ""
  lines[#lines + 1] = ('  help "--NAME" tells of an option, cldlua recipes/%s.lua --help of all.'):format(recipe.name)
  return lines
end

-- An option in each of the forms that it has in recipes.
function shown.option(option)
  local lines = {}
  for i, form in ipairs(option.forms) do
    if i > 1 then lines[#lines + 1] = "" end
    wrap(lines, form.value, "      ", "")
    wrap(lines, (form.text:gsub("^%l", string.upper)), "  ")
    lines[#lines + 1] = ""
    wrap(lines, "in " .. table.concat(form.recipes, ", "), "    ", "  ")
  end
  return lines
end

function shown.list(entries)
  local lines, rows = { "Several have this name:", "" }, {}
  for i, entry in ipairs(entries) do rows[i] = { entry.name, shown.line(entry) } end
  add_rows(lines, rows)
  return lines
end

function shown.near(word, names)
  local text = ("help: nothing is called '%s'"):format(word)
  if #names > 0 then text = text .. "; near it: " .. table.concat(names, ", ") end
  return { text }
end

--- What help() prints.
function shown.overview()
  local lines = {
    'help(x) tells of a value, help "name" of a name or a topic:', "",
    "  help(cld.nn.conv2d)   help \"conv2d\"   a function: how it is called, what it does, an example",
    "  help(cld.nn)          a module: what is in it",
    "  help(x)               a tensor, a network, an optimizer, ...: what it can do",
    "  help \"resume\"         a topic",
    "  help \"folder_npid_cld\", help \"--size\"   a recipe, an option of the recipes",
  }
  for _, group in ipairs(overview.modules) do
    local rows = {}
    for i = 2, #group do
      local entry = data().by_name["cld." .. group[i]]
      rows[#rows + 1] = { entry.name, shown.line(entry) }
    end
    lines[#lines + 1] = ""
    lines[#lines + 1] = group[1] .. ":"
    lines[#lines + 1] = ""
    add_rows(lines, rows)
  end
  lines[#lines + 1] = ""
  lines[#lines + 1] = "Functions of cld itself, and every method of a tensor (cld.sum(x) is x:sum()):"
  lines[#lines + 1] = ""
  for _, group in ipairs(overview.functions) do
    wrap(lines, table.concat(group, ", ", 2), "      ", "  " .. group[1] .. ": ")
  end
  lines[#lines + 1] = '  help "cld" lists all of them, and what the library is made of.'
  lines[#lines + 1] = ""
  lines[#lines + 1] = "Kinds of objects:"
  lines[#lines + 1] = ""
  local kinds = {}
  for kind, about in pairs(public.about_kinds) do kinds[#kinds + 1] = { kind, about } end
  table.sort(kinds, function(a, b) return a[1] < b[1] end)
  add_rows(lines, kinds)
  lines[#lines + 1] = ""
  lines[#lines + 1] = "Topics:"
  lines[#lines + 1] = ""
  local rows = {}
  for i, topic in ipairs(data().topics) do rows[i] = { topic.name, topic.title } end
  add_rows(lines, rows)
  return lines
end

--- The lines for a result of find.
function shown.found(found, word)
  if found.overview then return shown.overview() end
  if found.entry then return shown.entry(found.entry) end
  if found.module then return shown.module(found.module) end
  if found.kind then return shown.kind(found.kind, found.object) end
  if found.topic then return shown.topic(found.topic, found.also) end
  if found.row then return shown.row(found.row) end
  if found.recipe then return shown.recipe(found.recipe) end
  if found.option then return shown.option(found.option) end
  if found.list then return shown.list(found.list) end
  return shown.near(word, found.near)
end

return shown
