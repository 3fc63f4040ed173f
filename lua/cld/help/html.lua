--- Help as static HTML pages: one for each module, kind of object and topic, and an index. `make docs` writes them.
local io_ = require "cld.core".io
local data = require "cld.help.data"
local find = require "cld.help.find"
local public = require "cld.help.public"
local pytorch = require "cld.help.pytorch"
local shown = require "cld.help.shown"
local style = require "cld.help.style"
local topics = require "cld.help.topic"

local html = {}

local escapes = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

local function escape(text) return (text:gsub('[&<>"]', escapes)) end

-- ---- where things are -------------------------------------------------------------------------------------------

local function topic_page(topic) return "topic-" .. topic.name:gsub(" ", "-") .. ".html" end

-- The address of an entry: "cld.nn.html#conv2d".
local function address(name)
  if find.is_module(name) or name == "cld" then return name .. ".html" end
  local owner, last = name:match "^(.*)[.:]([%w_]+)$"
  return owner and ("%s.html#%s"):format(owner, last)
end

-- The address of the thing that a word in a text names, if the word is a full name.
local function address_of_word(word)
  local name = word:gsub("^x([.:])", "tensor%1"):gsub("^nn%.", "cld.nn.")
  if data().by_name[name] and name:find "[.:]" then return address(name) end
  local entry = find.of_tensor(name)
  return entry and address(entry.name)
end

local function address_of_name(name)
  local is_whole = data().by_name[name] or find.is_module(name)
  return is_whole and address(name) or address_of_word(name) or address(name)
end

-- ---- text -------------------------------------------------------------------------------------------------------

-- Escapes a text and turns names into links.
local function linked(text, here)
  local parts = {}
  for between, word in text:gmatch "([^%w_]*)([%w_.:]*)" do
    local name, rest = word:match "^(.-)([.:]*)$"
    local target = name ~= here and address_of_word(name)
    parts[#parts + 1] = escape(between)
    parts[#parts + 1] = target and ('<a href="%s">%s</a>'):format(target, escape(name)) or escape(name)
    parts[#parts + 1] = rest
  end
  return table.concat(parts)
end

-- The same, with `code`.
local function rich(text, here)
  local parts, is_code = {}, false
  for piece in (text .. "`"):gmatch "(.-)`" do
    parts[#parts + 1] = is_code and "<code>" .. linked(piece, here) .. "</code>" or linked(piece, here)
    is_code = not is_code
  end
  return table.concat(parts)
end

local function code(text) return "<pre><code>" .. escape(text) .. "</code></pre>\n" end

-- An entry's text: paragraphs, and blocks whose lines are kept.
local function paragraphs(text, here)
  local out, lines = {}, {}
  local function flush()
    if #lines > 0 then out[#out + 1] = code(table.concat(lines, "\n"):gsub("%s+$", "") .. "") end
    lines = {}
  end
  for line in (text .. "\n"):gmatch "(.-)\n" do
    if line:find "^  " then
      lines[#lines + 1] = line:sub(3)
    elseif line ~= "" then
      flush()
      out[#out + 1] = "<p>" .. rich(line, here) .. "</p>\n"
    end
  end
  flush()
  return table.concat(out)
end

-- ---- pages ------------------------------------------------------------------------------------------------------

local function navigation(names)
  local parts = { '<nav>\n<p><a href="index.html">cldlua</a></p>\n',
    '<input id="search" type="search" placeholder="Search" aria-label="Search names">\n<ul id="found"></ul>\n' }
  for _, group in ipairs(names) do
    parts[#parts + 1] = ("<h2>%s</h2>\n<ul>\n"):format(group[1])
    for i = 2, #group do
      parts[#parts + 1] = ('<li><a href="%s">%s</a></li>\n'):format(group[i][2], escape(group[i][1]))
    end
    parts[#parts + 1] = "</ul>\n"
  end
  parts[#parts + 1] = "</nav>\n"
  return table.concat(parts)
end

local function page(title, nav, body)
  return table.concat {
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n', "<title>", escape(title),
    " - cldlua</title>\n", '<link rel="stylesheet" href="style.css">\n</head>\n<body>\n', nav, "<main>\n", body,
    '</main>\n<script src="search.js"></script>\n</body>\n</html>\n',
  }
end

local function entry_section(entry)
  local last = entry.name:match "[^.:]+$"
  local parts = { ('<section id="%s">\n'):format(last) }
  for signature in (entry.signature .. "\n"):gmatch "(.-)\n" do
    parts[#parts + 1] = ("<h3><code>%s</code></h3>\n"):format(escape(signature))
  end
  parts[#parts + 1] = paragraphs(shown.sentence(entry), entry.name)
  if entry.example then parts[#parts + 1] = code(entry.example) end
  parts[#parts + 1] = ('<p class="place">%s:%d</p>\n</section>\n'):format(escape(entry.file), entry.line)
  return table.concat(parts)
end

-- A table of contents, then the content of the page.
local function sections(entries)
  local parts = { "<table class=\"contents\">\n" }
  for _, entry in ipairs(entries) do
    parts[#parts + 1] = ('<tr><td><a href="%s">%s</a></td><td>%s</td></tr>\n'):format(address(entry.name),
      escape(entry.name:match "[^.:]+$"), escape(shown.line(entry)))
  end
  parts[#parts + 1] = "</table>\n"
  for _, entry in ipairs(entries) do
    if not find.is_module(entry.name) then parts[#parts + 1] = entry_section(entry) end
  end
  return table.concat(parts)
end

local function module_body(name)
  local entry = data().by_name[name]
  local intro = entry and paragraphs(shown.sentence(entry), name) or "<p>What every program begins with:"
    .. " <code>local cld = require &quot;cld&quot;</code>. Each method of a tensor is a function here too:"
    .. ' <code>cld.sum(x)</code> is <a href="tensor.html#sum">x:sum()</a>.</p>\n'
  local signature = entry and entry.signature ~= name and ("<h3><code>%s</code></h3>\n"):format(escape(entry.signature))
  return ("<h1>%s</h1>\n"):format(name) .. (signature or "") .. intro
    .. (entry and entry.example and code(entry.example) or "") .. sections(find.members(name))
end

local function kind_body(kind)
  local head = ("<h1>%s</h1>\n<p>%s.</p>\n"):format(kind, rich(public.about_kinds[kind]))
  return head .. sections(find.members(kind, true))
end

local function pytorch_tables()
  local parts = {}
  for _, group in ipairs(pytorch.groups) do
    parts[#parts + 1] = ("<h2>%s</h2>\n"):format(group[1])
      .. '<table class="names">\n<tr><th>PyTorch</th><th>here</th><th></th></tr>\n'
    for i = 2, #group do
      local there, here, note = table.unpack(group[i], 1, 3)
      parts[#parts + 1] = ("<tr><td><code>%s</code></td><td>%s</td><td>%s</td></tr>\n"):format(escape(there),
        here and ('<a href="%s"><code>%s</code></a>'):format(address_of_name(here), escape(here)) or "",
        note and rich(note) or "")
    end
    parts[#parts + 1] = "</table>\n"
  end
  return table.concat(parts)
end

local function topic_body(topic)
  local parts = { ("<h1>%s</h1>\n"):format(escape(topic.title)) }
  for _, block in ipairs(topics.blocks(topic.text)) do
    if block.code then
      parts[#parts + 1] = code(block.code)
    elseif block.items then
      parts[#parts + 1] = "<ul>\n"
      for _, item in ipairs(block.items) do parts[#parts + 1] = "<li>" .. rich(item) .. "</li>\n" end
      parts[#parts + 1] = "</ul>\n"
    else
      parts[#parts + 1] = "<p>" .. rich(block.paragraph) .. "</p>\n"
    end
  end
  if topic.name == "from pytorch" then parts[#parts + 1] = pytorch_tables() end
  return table.concat(parts)
end

-- ---- all of it --------------------------------------------------------------------------------------------------

-- {{title, {name, address}, ...}, ...}: modules, kinds, topics.
local function contents()
  local modules, kinds, list = { "Modules", { "cld", "cld.html" } }, { "Objects" }, { "Topics" }
  local names = {}
  for _, entry in ipairs(data().entries) do
    if find.is_module(entry.name) and entry.name ~= "cld" then names[#names + 1] = entry.name end
  end
  table.sort(names)
  for _, name in ipairs(names) do modules[#modules + 1] = { name, name .. ".html" } end
  names = {}
  for kind in pairs(public.about_kinds) do names[#names + 1] = kind end
  table.sort(names)
  for _, kind in ipairs(names) do kinds[#kinds + 1] = { kind, kind .. ".html" } end
  for _, topic in ipairs(data().topics) do list[#list + 1] = { topic.name, topic_page(topic) } end
  return { list, modules, kinds }
end

local function index_body()
  local parts = { "<h1>cldlua</h1>\n<p>A C runtime with an embedded Lua that trains self-supervised image encoders."
    .. " At the prompt <code>help()</code> shows the same texts.</p>\n<h2>Topics</h2>\n<table class=\"contents\">\n" }
  for _, topic in ipairs(data().topics) do
    parts[#parts + 1] = ('<tr><td><a href="%s">%s</a></td><td>%s</td></tr>\n'):format(topic_page(topic),
      escape(topic.name), escape(topic.title))
  end
  parts[#parts + 1] = '</table>\n<h2>Modules</h2>\n<table class="contents">\n<tr><td><a href="cld.html">cld</a></td>'
    .. "<td>Tensors, gradients, files, the process</td></tr>\n"
  for _, entry in ipairs(find.members "cld") do
    if find.is_module(entry.name) then
      parts[#parts + 1] = ('<tr><td><a href="%s">%s</a></td><td>%s</td></tr>\n'):format(address(entry.name),
        escape(entry.name), escape(shown.line(entry)))
    end
  end
  parts[#parts + 1] = "</table>\n<h2>Objects</h2>\n<table class=\"contents\">\n"
  for _, kind in ipairs(contents()[3]) do
    if type(kind) == "table" then
      parts[#parts + 1] = ('<tr><td><a href="%s">%s</a></td><td>%s</td></tr>\n'):format(kind[2], kind[1],
        escape(public.about_kinds[kind[1]]))
    end
  end
  return table.concat(parts) .. "</table>\n"
end

-- [["cld.nn.conv2d","cld.nn.html#conv2d"],...]
local function search_names()
  local rows = {}
  for _, entry in ipairs(data().entries) do
    rows[#rows + 1] = ('["%s","%s"]'):format(entry.name, address(entry.name))
  end
  for _, topic in ipairs(data().topics) do
    rows[#rows + 1] = ('["%s","%s"]'):format(topic.name, topic_page(topic))
    for _, alias in ipairs(topic.aliases) do rows[#rows + 1] = ('["%s","%s"]'):format(alias, topic_page(topic)) end
  end
  return "[" .. table.concat(rows, ",\n") .. "]"
end

--- Writes all pages into the folder, which it makes.
function html.write(folder)
  local all = contents()
  local nav = navigation(all)
  io_.mkdir(folder)
  local function put(file, title, body) io_.write_atomic(folder .. "/" .. file, page(title, nav, body)) end
  put("index.html", "Index", index_body())
  for i = 2, #all[2] do put(all[2][i][2], all[2][i][1], module_body(all[2][i][1])) end
  for i = 2, #all[3] do put(all[3][i][2], all[3][i][1], kind_body(all[3][i][1])) end
  for _, topic in ipairs(data().topics) do put(topic_page(topic), topic.title, topic_body(topic)) end
  io_.write_atomic(folder .. "/style.css", style.css)
  io_.write_atomic(folder .. "/search.js", style.search:format(search_names()))
end

return html
