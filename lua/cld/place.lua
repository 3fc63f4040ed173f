--- Finds where in the user's own code the library was called, and in which layer of a network.
--
-- A call that the user's function returns, `return self.linear(x)`, is a tail call: Lua keeps only the fact that there
-- was one. The frame around it shows which function made the tail call: a library function that calls a user's function
-- has it as an argument (place.keep), and a line of user code names what it calls. In that function we take the line
-- that returns a call, if there is only one, or if only one of them names what was called. Otherwise we take the line
-- of the frame around it.
--
-- Lines are read from the file when an error occurs, as in Python's traceback.
local core = require "cld.core"
local debug, io_open = debug, io.open
local printable_line = core.text.printable_line

local place = {}

local library = debug.getinfo(1, "S").source:match "^(@.*/)place%.lua$" or "" -- the folder; "" if it is unknown

-- ---- the text of the user's code ---------------------------------------------------

--- source -> text, for chunks that are not in a file: code typed in the session.
place.texts = {}

local LARGEST = 1 << 22 -- bytes that are read of a file

local read = {} -- the file that was read last: source, and lines. Dropped soon, since the file may be edited

local function lines_of(source)
  if place.texts[source] == nil and read.source == source then return read.lines end
  local text = place.texts[source]
  if text == nil and source:sub(1, 1) == "@" then
    local path = source:sub(2)
    local file = core.io.exists(path) == "file" and io_open(path, "rb") -- not a pipe: the read would wait
    text = file and file:read(LARGEST)
    if file then file:close() end
  elseif text == nil and source:sub(1, 1) ~= "=" then
    text = source
  end
  local lines = {}
  for line in ((text or "") .. "\n"):gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
  read = { source = source, lines = lines }
  return lines
end

local function line_of(source, number) return lines_of(source)[number] or "" end

--- The text of a line as it is now; "" if unknown.
function place.line(source, number)
  read = {}
  return line_of(source, number)
end

-- ---- values by name ------------------------------------------------------------------

-- The variable of this name in the frame, as Lua would resolve it. level counts from the caller.
local function variable(level, f, name)
  local found, value = false, nil
  for i = 1, math.huge do
    local known, is = debug.getlocal(level + 1, i)
    if not known then break end
    if known == name then found, value = true, is end -- the last of that name hides the others
  end
  if found then return value end
  local environment
  for i = 1, math.huge do
    local known, is = debug.getupvalue(f, i)
    if not known then break end
    if known == name then return is end
    if known == "_ENV" then environment = is end
  end
  return type(environment or _G) == "table" and rawget(environment or _G, name) or nil
end

local function field(value, name) return value[name] end

--- The value of "a.b.c" in the frame at that level of the caller; nil if there is none.
function place.value(level, f, path)
  local value
  for name in path:gmatch "[%a_][%w_]*" do
    if value == nil then
      value = variable(level + 1, f, name)
    else
      local ok, inner = pcall(field, value, name)
      value = ok and inner or nil
    end
    if value == nil then return nil end
  end
  return value
end

-- ---- calls that were returned -----------------------------------------------------------

local keepers = setmetatable({}, { __mode = "k" })

--- Registers f, a library function that calls its argument number `position`, but not as a tail call.
function place.keep(f, position) keepers[f] = position or 1 end

local function returned(...) return ... end

--- f(...), for library functions that call a user's function and do nothing after it.
function place.call(f, ...) return returned(f(...)) end

place.keep(place.call)

local function is_library(source) return source:sub(1, #library) == library end

-- "users" or "library" for a callable written in Lua; nil for anything else: C functions stay on the stack.
local function owner_of(f)
  if type(f) ~= "function" then
    local meta = type(f) == "table" and getmetatable(f)
    return type(meta) == "table" and rawget(meta, "__call") and "library" or nil
  end
  local info = debug.getinfo(f, "S")
  return info.what ~= "C" and (is_library(info.source) and "library" or "users") or nil
end

local CALL = "[%w_%]%)]%s*[%({\"'%[]"

-- The user's function that the frame called, directly or through a C function (pcall); nil if that is not clear. level
-- is that of the caller.
local function called_from(level, info, through_c)
  local position = keepers[info.func]
  if position then
    local _, f = debug.getlocal(level + 1, position)
    return owner_of(f) == "users" and f or nil
  end
  if info.currentline <= 0 or is_library(info.source) then return nil end
  local text = line_of(info.source, info.currentline):gsub("%-%-.*$", "")
  if text:find "[%)%]]%s*[%({\"']" then return nil end -- a call of another call's result
  local only
  for path in text:gmatch(through_c and "([%a_][%w_.:]*)" or "([%a_][%w_.:]*)%s*[%({\"']") do
    local f = place.value(level + 1, info.func, path)
    local owner = owner_of(f)
    if owner == "library" or owner and only and f ~= only then return nil end -- not clear which one was called
    if owner then only = f end
  end
  return only
end

-- The line of f that returned a call to one of `names`, nil if that is not clear; and f's source, as debug.getinfo
-- gives it.
local function returning(f, names)
  local info = debug.getinfo(f, "SL")
  local all, named = {}, {}
  for number in pairs(info.activelines or {}) do
    local text = line_of(info.source, number):gsub("%-%-.*$", "")
    local before, value = text:match "^(.-)%f[%w_]return%f[^%w_](.*)$"
    local inner = before and before:find "%f[%w_]function%f[^%w_]" and number ~= info.linedefined
    if value and not inner and value:find(CALL) then
      all[#all + 1] = number
      for _, name in ipairs(names) do
        if value:find("%f[%w_]" .. name:gsub("%p", "%%%0") .. "%f[^%w_]") then
          named[#named + 1] = number
          break
        end
      end
    end
  end
  return #all == 1 and all[1] or #named == 1 and named[1] or nil, info
end

-- ---- modules ---------------------------------------------------------------------------------

--- Set by nn: names_of(module, held) -> a list of the module's fields that hold the other module. path_of(root,
-- module) -> its dotted name in the root's tree, "" for the root itself, nil if it is not there.
place.names_of, place.path_of = nil, nil

local module_calls = setmetatable({}, { __mode = "k" })

--- Registers f, which runs when a module is called: its first argument is the module, and it makes no tail calls.
function place.call_of_modules(f) module_calls[f] = true end

-- ---- the beginning of an error's message ---------------------------------------------------

-- The module that runs in the frame at that level of the caller, or in the nearest frame outside it.
local function module_around(level)
  for at = level + 1, math.huge do
    local info = debug.getinfo(at, "f")
    if not info then return nil end
    if module_calls[info.func] then
      local _, module = debug.getlocal(at, 1)
      return module
    end
  end
end

--- The line of the user's code that called, directly or through other calls of the library, the function that runs at
-- that level of the caller; and its source as debug.getinfo gives it (source, short_src). Nil if there is none.
function place.user_line(from)
  read = {}
  local returned_call, called = false, nil -- the frame before was entered by a tail call; the module that it called
  local through_c = false
  for level = from + 1, math.huge do
    local info = debug.getinfo(level, "Slft")
    if not info then return nil end
    local lost = returned_call and called_from(level, info, through_c)
    local holder = lost and called and module_around(level)
    local line, at = nil, nil
    if lost then line, at = returning(lost, holder and place.names_of(holder, called) or {}) end
    if line then return line, at end
    local is_users = info.currentline > 0 and not is_library(info.source)
    if is_users and level > from + 1 then return info.currentline, info end
    through_c = info.what == "C" and returned_call
    returned_call = through_c or info.istailcall
    if module_calls[info.func] then
      local _, module = debug.getlocal(level, 1)
      called = module
    end
  end
end

--- "recipe.lua:12: ": the place in the user's code, or "".
function place.position()
  local line, at = place.user_line(2)
  return line and ("%s:%d: "):format(at.short_src, line) or ""
end

--- "sequential: layer 2 (linear): " if a layer of a network called the library, or "". It names the largest running
-- network that has the layer; except in a plain sequential, the layer's name is that of net:named_modules().
function place.layer()
  local running = {} -- modules, from the innermost on
  for level = 2, math.huge do
    local info = debug.getinfo(level, "f")
    if not info then break end
    if module_calls[info.func] then
      local _, module = debug.getlocal(level, 1)
      running[#running + 1] = module
    end
  end
  for i = #running, 2, -1 do
    local root, layer = running[i], running[1]
    local path = place.path_of(root, layer)
    if path and path ~= "" then
      local number = root.is_list and path:find "^%d+$" and tonumber(path)
      return printable_line(number and ("%s: layer %d (%s): "):format(root._name, number + 1, layer._name)
        or ("%s: %s (%s): "):format(root._name, path, layer._name))
    end
  end
  return ""
end

--- Whether source, as debug.getinfo returns it, is a file of the library.
place.is_library = is_library

return place
