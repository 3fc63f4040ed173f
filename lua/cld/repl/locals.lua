--- The local variables of the session: those that a typed line declares outside of blocks outlive the line.
--
-- A chunk is compiled as a function within a function that declares the variables that it uses,
--     local keep, n, limit <const> = ... return function(...) CHUNK end
-- and debug.upvaluejoin makes its n the same variable that an earlier chunk declared, so assignments and functions
-- share it. Each local statement outside of blocks is followed, on the same line, by keep(i, function() return x, y
-- end). That function has the new variables as its upvalues, through which later chunks find them. So they are kept
-- even if the chunk later returns or ends with an error. Lua still refuses what it would refuse otherwise (an
-- assignment to <const>). A <close> variable is closed at the end of its chunk, and not kept.
local core = require "cld.core"
local tokens = require "cld.repl.tokens"

local ipairs, load, loadfile, pairs, select, tostring = ipairs, load, loadfile, pairs, select, tostring
local getupvalue, upvaluejoin = debug.getupvalue, debug.upvaluejoin
local concat, sort = table.concat, table.sort
local find, format, gsub, sub = string.find, string.format, string.gsub, string.sub
local huge, open = math.huge, io.open
local exists = core.io.exists

local locals = {}

-- Name -> {f, index of the upvalue of f that holds the variable, attribute}.
local cells = {}

--- Set by the session. told(what): "closed", or the reason why none of a chunk's variables is kept.
locals.told = nil

-- ---- variables ---------------------------------------------------------------------------

local function upvalue_named(f, name)
  for index = 1, huge do
    local found = getupvalue(f, index)
    if not found then return nil end
    if found == name then return index end
  end
end

local function holder(value) return function() return value end end

-- A new variable of f, which returns it as result number `position`. A constant is part of f's code.
local function remember(name, attribute, f, position)
  local index = upvalue_named(f, name)
  cells[name] = index and { f, index, attribute } or { holder((select(position, f()))), 1, attribute }
end

--- Whether there is a variable of this name, and its value.
function locals.get(name)
  local cell = cells[name]
  if not cell then return false end
  local _, value = getupvalue(cell[1], cell[2])
  return true, value
end

--- The names of all variables in alphabetical order.
function locals.names()
  local names = {}
  for name in pairs(cells) do names[#names + 1] = name end
  sort(names)
  return names
end

-- ---- chunks ------------------------------------------------------------------------------

-- The names that occur in the chunk.
local function names_in(list)
  local names = {}
  for _, token in ipairs(list) do
    if token.kind == "name" then names[token.text] = true end
  end
  return names
end

-- A name that does not occur in it.
local function unused(names)
  local name, number = "keep", 0
  while names[name] or cells[name] do
    number = number + 1
    name = format("keep%d", number)
  end
  return name
end

-- The text with a call of `keep` after each declaration.
local function with_calls(text, declarations, keep)
  local pieces, from = {}, 1
  for i, declared in ipairs(declarations) do
    local names = {}
    for _, variable in ipairs(declared) do names[#names + 1] = variable.name end
    pieces[#pieces + 1] = sub(text, from, declared.last)
    pieces[#pieces + 1] = format(" ;%s(%d,function() return %s end);", keep, i, concat(names, ","))
    from = declared.last + 1
  end
  pieces[#pieces + 1] = sub(text, from)
  return concat(pieces)
end

-- The function `keep` that the declarations call with (i, f).
local function keeper(declarations)
  return function(i, f)
    for position, variable in ipairs(declarations[i]) do
      if variable.attribute ~= "close" then remember(variable.name, variable.attribute, f, position) end
    end
  end
end

local function has_close(declarations)
  for _, declared in ipairs(declarations) do
    for _, variable in ipairs(declared) do
      if variable.attribute == "close" then return true end
    end
  end
  return false
end

-- A local _ENV is not kept, since all later lines would lose their globals.
local function without_environment(declarations)
  local kept = {}
  for _, declared in ipairs(declarations) do
    local is_environment = false
    for _, variable in ipairs(declared) do is_environment = is_environment or variable.name == "_ENV" end
    if not is_environment then kept[#kept + 1] = declared end
  end
  return kept
end

-- The chunk with the variables; nil if it needs none; or nil, why Lua refuses it, and how many earlier ones it uses.
-- is_file: it does not see earlier variables, as a file does not.
local function joined(text, name, is_file)
  local list = tokens.of(text)
  local names, declarations, used = names_in(list), without_environment(tokens.declarations(list)), {}
  local earlier = is_file and {} or cells
  for variable, cell in pairs(earlier) do
    if names[variable] then used[#used + 1] = variable .. (cell[3] and format(" <%s>", cell[3]) or "") end
  end
  if #used == 0 and #declarations == 0 then return nil end
  sort(used)
  local keep = unused(names)
  local count = #used
  local others = count > 0 and "," .. concat(used, ",") or ""
  local head = format("local %s%s = ... return function(...) ", keep, others)
  local outer, message = load(head .. with_calls(text, declarations, keep) .. "\nend", name, "t")
  if not outer then return nil, message, count end
  local f = outer(keeper(declarations))
  for index = 1, huge do
    local upvalue = getupvalue(f, index)
    if not upvalue then break end
    local cell = upvalue ~= keep and earlier[upvalue]
    if cell then upvaluejoin(f, index, cell[1], cell[2]) end
  end
  if has_close(declarations) and locals.told then locals.told "closed" end
  return f
end

-- Lua's limits, which a chunk may exceed only because of the added variables.
local function is_limit(message) return find(message, "limit is", 1, true) or find(message, "too many", 1, true) end

local function with_variables(plain, text, name, is_file)
  local f, message, count = joined(text, name, is_file)
  if not message then return f or plain end
  if not is_limit(message) then return nil, message end
  if count > 0 then
    message = format("it uses %d of the session's local variables, which are too many for one line: %s", count, message)
    return nil, message
  end
  if locals.told then locals.told(message) end
  return plain
end

--- As load(text, name, "t"), with the variables. The third result is true if the text is valid Lua and only its use of
-- the variables is refused.
function locals.load(text, name)
  local plain, message = load(text, name, "t")
  if not plain then return nil, message, false end
  local f, refusal = with_variables(plain, text, name)
  return f, refusal, f == nil
end

--- As loadfile(path): the script's own variables stay in the session. The script does not see earlier ones.
function locals.load_file(path)
  local plain, message = loadfile(path)
  if not plain then return nil, message end
  local file = exists(path) == "file" and open(path, "rb") -- not a pipe, which would block
  local text = file and file:read "a"
  if file then file:close() end
  if not text or find(text, "^\27") then return plain end
  text = gsub(gsub(text, "^\xEF\xBB\xBF", ""), "^#[^\n]*", "")
  return with_variables(plain, text, "@" .. tostring(path), true)
end

return locals
