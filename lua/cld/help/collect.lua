--- Collects the data of help for `make`: the texts of all public names, from the sources and `cld` itself, and topics.
local cld = require "cld"
local comments = require "cld.help.comments"
local public = require "cld.help.public"
local sorted_keys = require "cld.sorted_keys"

local collect = {}

-- If several comments claim a name, the one above the function wins, then one in its file, then the table's own.
local function fit(entry, value)
  local own = entry.file:match "lua/cld/[^/]+%.lua$" and 1 or entry.file:find "%.c$" and 0 or -1
  if type(value) ~= "function" then return own end
  if entry.signature:find "[({]" then own = own + 1 end -- not the start of a file
  local where = debug.getinfo(value, "S")
  local same_file = where.source:match "lua/cld/.*$" == entry.file:match "lua/cld/.*$"
  if where.what == "C" then return own end
  return own + (same_file and 2 or 0) + (same_file and where.linedefined == entry.line and 4 or 0)
end

-- The value of a public name; nil for an object's method; false if it does not exist.
local function values()
  local all = { cld = cld }
  public.each(cld, function(name, value) if value ~= nil then all[name] = value end end)
  for kind, lists in pairs(public.userdata()) do
    for name, method in pairs(lists.methods) do all[kind .. ":" .. name] = method end
    for name in pairs(lists.properties) do all[kind .. "." .. name] = true end
  end
  return all
end

-- Names of C functions by their last part: {name = {whole name, ...}}.
local function by_last_name(all)
  local names = {}
  for _, name in ipairs(sorted_keys(all)) do
    local last = type(all[name]) == "function" and debug.getinfo(all[name], "S").what == "C" and name:match "[^.:]+$"
    if last then
      names[last] = names[last] or {}
      table.insert(names[last], name)
    end
  end
  return names
end

-- The full name of "?.name" in a C file: in the table named like the file, or in the only table that has it.
local function whole_name(entry, names)
  local last = entry.name:match "^%?%.(.+)$"
  if not last then return entry.name end
  local own = "cld." .. (entry.file:match "([%w_]+)%.c$" or "") .. "." .. last
  for _, name in ipairs(names[last] or {}) do
    if name == own then return name end
  end
  return names[last] and #names[last] == 1 and names[last][1] or entry.name
end

-- The kinds whose methods are known only from their texts.
local function is_of_kind(name)
  local kind = name:match "^([%l_]+)[:.]"
  return kind and kind ~= "cld" and kind ~= "tensor" and kind ~= "optimizer" and public.about_kinds[kind]
    and not name:find "[:.]__"
end

-- The options of a group as lines, with their defaults.
local function declared(group)
  local lines, widest = {}, 0
  for i, declaration in ipairs(group) do
    local default = declaration[2]
    lines[i] = ("  --%s %s"):format(declaration[1], type(default) == "string" and ("%q"):format(default) or default)
    widest = math.max(widest, #lines[i])
  end
  for i, declaration in ipairs(group) do
    lines[i] = ("%-" .. widest .. "s  %s"):format(lines[i], declaration[3])
  end
  return table.concat(lines, "\n")
end

--- The entries (comments.lua) of public names in these files, one per name, in the order of the files.
function collect.entries(files)
  local all, chosen, order = values(), {}, {}
  local last_names = by_last_name(all)
  for _, entry in ipairs(comments.of_files(files)) do
    local bare = entry.name
    entry.name = whole_name(entry, last_names)
    if entry.name ~= bare then entry.signature = entry.name .. entry.signature:sub(#bare + 1) end
    local name, value = entry.name, all[entry.name]
    if value ~= nil or is_of_kind(name) then
      local score = fit(entry, value)
      if not chosen[name] then order[#order + 1] = name end
      if not chosen[name] or score > chosen[name].score then chosen[name] = { score = score, entry = entry } end
    end
  end
  local entries = {}
  for i, name in ipairs(order) do
    entries[i] = chosen[name].entry
    local group = name:match "^cld%.options%.[%w_]+$" and all[name]
    if type(group) == "table" then entries[i].text = entries[i].text .. "\n\n" .. declared(group) end
  end
  return entries
end

--- The public names without an entry there: a list of names, including those of userdata objects.
function collect.missing(entries)
  local has, missing = {}, {}
  for _, entry in ipairs(entries) do has[entry.name] = entry.text ~= "" end
  public.each(cld, function(name, value)
    local alias = name:match "^cld%.([%w_]+)$"
    if has[name] or alias and public.is_core_function(name, value) and has["tensor:" .. alias] then return end
    local functional = name:match "^cld%.nn%.functional%.([%w_]+)$" or name:match "^cld%.autograd%.([%w_]+)$"
    if functional and rawequal(value, rawget(cld, functional)) then return end
    missing[#missing + 1] = name
  end)
  for kind, lists in pairs(public.userdata()) do
    for name in pairs(lists.methods) do
      local is_function = kind == "tensor" and has["cld." .. name]
      if not is_function and not has[kind .. ":" .. name] then missing[#missing + 1] = kind .. ":" .. name end
    end
    for name in pairs(lists.properties) do
      if not has[kind .. "." .. name] then missing[#missing + 1] = kind .. "." .. name end
    end
  end
  table.sort(missing)
  return missing
end

-- The file names that a command prints, in order.
local function lines_of(command)
  local lines = {}
  local list = assert(io.popen(command))
  for line in list:lines() do lines[#lines + 1] = line end
  list:close()
  return lines
end

--- The sources that have texts, of a source tree at `root`.
function collect.files(root)
  return lines_of(("cd '%s' && find lua/cld bindings -name '*.lua' -o -name '*.c' | LC_ALL=C sort"):format(root))
end

--- The recipes of a source tree, and their options (recipes.lua).
function collect.recipes(root)
  return require "cld.help.recipes"(lines_of(("ls '%s'/recipes/*.lua | LC_ALL=C sort"):format(root)))
end

-- {name, title, aliases, text} from a topic's file: "# title", "aliases: a, b", and paragraphs.
local function topic(path)
  local handle = assert(io.open(path))
  local source = handle:read "a"
  handle:close()
  local title, rest = source:match "^# ([^\n]+)\n(.*)$"
  assert(title, path .. ": a topic begins with '# its title'")
  local aliases, text = {}, rest:match "^%s*(.*)$"
  local listed = text:match "^aliases: ([^\n]*)\n"
  if listed then
    for alias in listed:gmatch "[^,]+" do aliases[#aliases + 1] = alias:match "^%s*(.-)%s*$" end
    text = text:gsub("^[^\n]*\n", "", 1)
  end
  return { name = path:match "([^/]+)%.md$":gsub("_", " "), title = title, aliases = aliases,
    text = text:match "^\n*(.-)%s*$" }
end

--- The topics, lua/cld/help/topics/*.md, by name.
function collect.topics(root)
  local topics = {}
  for i, path in ipairs(lines_of(("ls '%s'/lua/cld/help/topics/*.md | LC_ALL=C sort"):format(root))) do
    topics[i] = topic(path)
  end
  return topics
end

return collect
