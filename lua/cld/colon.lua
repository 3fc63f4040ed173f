--- The error for a method that was called with a dot, "parameters needs ':': write net:parameters()", and for a
-- function that was called with a colon, "zeros needs '.': write cld.zeros(...)". Lua's own error, or the
-- function's error about its arguments, says neither. So the code that reports an error (uncaught.lua) asks here
-- whether one of the calls that were running had such a mistake.
--
-- A method that hands self to another Lua function returns its result in parentheses, `return (chain(x, self))`: a tail
-- call would take the method off the stack.
local class = require "cld.class"
local closed = require "cld.closed"
local place = require "cld.place"
local public = require "cld.help.public"

local getinfo, getlocal = debug.getinfo, debug.getlocal
local getmetatable, ipairs, next, pairs, pcall, rawequal, type =
  getmetatable, ipairs, next, pairs, pcall, rawequal, type
local loaded, sort = package.loaded, table.sort
local find, format, gmatch, gsub, match = string.find, string.format, string.gmatch, string.gsub, string.match

local colon = {}

local DEEPEST = 200 -- the most calls that are examined
local SESSION = "=stdin" -- the source of typed lines

-- Adds the names that the value has in the table, except those of metamethods.
local function keys_of(owner, value, names)
  names = names or {}
  for key, item in next, owner do
    if rawequal(item, value) and type(key) == "string" and not find(key, "^__") then names[#names + 1] = key end
  end
  sort(names)
  return names
end

-- ---- the call --------------------------------------------------------------------------

-- If f is a method of a class made in Lua: its names, the kind of the class's objects, and a test for such an object.
local function lua_method(f)
  for _, Class in ipairs(class.all) do
    local names = keys_of(Class, f)
    if #names > 0 then return names, class.kind(Class), function(value) return getmetatable(value) == Class end end
  end
  local modules = loaded["cld.nn.module"]
  if not modules then return {} end
  local names = keys_of(modules.base, f)
  for Class in pairs(modules.classes) do keys_of(Class, f, names) end
  return names, "module", modules.is_module
end

local function field(value, name) return value[name] end

-- What `name` is called on in the text, "net" in "net.parameters()", and what the parentheses hold: "" or "...".
local function object_in(text, name)
  local object, rest = match(text, "([%a_][%w_.%[%]]*)%." .. name .. "%s*([%({\"'%[].*)$")
  return object, rest and not find(rest, "^%(%s*%)") and "..." or ""
end

local function needs_colon(name, object, arguments)
  return format("%s needs ':': write %s:%s(%s)", name, object, name, arguments)
end

-- The user's line that made the call at that level of the caller, and "recipe.lua:12: ". A typed line that consists of
-- the call alone is not on the stack.
local function user_text(level)
  local line, at = place.user_line(level + 1)
  if line then return place.line(at.source, line), format("%s:%d: ", at.short_src, line) end
  return place.texts[SESSION] or "", ""
end

-- ---- a dot instead of a colon --------------------------------------------------------------

-- In a method that is a Lua function the first parameter is `self`.
local function lua_call(level, info)
  if getlocal(info.func, 1) ~= "self" then return nil end
  local names, kind, is_instance = lua_method(info.func)
  local _, self = getlocal(level + 1, 1)
  if #names == 0 or is_instance(self) then return nil end
  local text, position = user_text(level + 1)
  for _, name in ipairs(names) do
    local object, arguments = object_in(text, name)
    if object then return position .. needs_colon(name, object, arguments) end
  end
  return position .. needs_colon(names[1], kind, "...")
end

-- A method in C that was called without its tensor, from Lua's own message, if the text of the code is not known.
local function c_call_without_text(position, info, self, message)
  local name = match(message, "bad argument #1 to '([%w_]+)' %(cld%.tensor expected")
  local methods = public.userdata().tensor.methods
  if not name or public.kind(self) == "tensor" or not rawequal(methods[name], info.func) then return nil end
  local cld = loaded["cld"]
  if cld and rawequal(cld[name], info.func) then return nil end
  return position .. needs_colon(name, "x", "...")
end

-- A method in C may be a function of cld too: the line shows that it was called as x.sum(), on an object x.
local function c_call(level, info, message)
  local around = getinfo(level + 2, "Slf")
  if not around or around.currentline <= 0 or place.is_library(around.source) then return nil end
  local _, self = getlocal(level + 1, 1)
  local text = gsub(place.line(around.source, around.currentline), "%-%-.*$", "")
  local position = format("%s:%d: ", around.short_src, around.currentline)
  for path, name in gmatch(text, "([%a_][%w_.]*)%.([%a_][%w_]*)%s*[%({\"'%[]") do
    local object = place.value(level + 2, around.func, path)
    if type(object) == "userdata" and not rawequal(object, self) then
      local ok, method = pcall(field, object, name)
      if ok and rawequal(method, info.func) then
        local _, arguments = object_in(text, name)
        return position .. needs_colon(name, path, arguments)
      end
    end
  end
  return c_call_without_text(position, info, self, message)
end

-- ---- a colon instead of a dot --------------------------------------------------------------

-- "cld.zeros" if `value` is a public function or class, and the second argument is its table.
local function path_in(value, functions)
  local found
  if type(functions) ~= "table" then return nil end
  closed.each_table(function(path, listed)
    local name = rawequal(listed, functions) and keys_of(listed, value)[1]
    if name then found = path .. "." .. name end
  end)
  return found
end

-- Argument number i of the call at that level of the caller.
local function argument(level, info, i)
  local fixed = info.what == "C" and i or info.nparams
  local _, value = getlocal(level + 1, i <= fixed and i or fixed - i)
  return value
end

-- The table is the first argument; if a class was called, the second.
local function table_call(level, info)
  local first, second = argument(level + 1, info, 1), argument(level + 1, info, 2)
  local path = path_in(info.func, first) or type(first) == "table" and path_in(first, second)
  if not path then return nil end
  local _, position = user_text(level + 1)
  return format("%s%s needs '.': write %s(...)", position, match(path, "[^.]+$"), path)
end

--- The message if one of the running calls has such a mistake, and the level of that call, 1 being this function's;
-- nil if none has. Of several, the outermost is the one that led to the others. message: the error's, or any value.
function colon.problem(message)
  message = type(message) == "string" and message or ""
  local problem, at
  for level = 2, DEEPEST do
    local info = getinfo(level, "Sfu")
    if not info then break end
    local found = info.what == "C" and c_call(level, info, message) or info.what ~= "C" and lua_call(level, info)
      or table_call(level, info)
    if found then problem, at = found, level end
  end
  return problem, at
end

return colon
