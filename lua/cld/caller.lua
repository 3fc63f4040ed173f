--- Raises errors at the line of the user's own code, however many library frames lie between: "recipe.lua:12: conv2d:
-- expected ...". In a layer of a network the message names the layer: "recipe.lua:12: sequential: layer 2 (linear):
-- ...".
local core = require "cld.core"
local place = require "cld.place"
local public = require "cld.help.public"
local c_locale, printable_line = core.text.c_locale, core.text.printable_line

local caller = {}

--- The arguments are string.format's.
function caller.raise(format, ...)
  local _ <close> = c_locale()
  error(place.position() .. place.layer() .. printable_line(format:format(...)), 0)
end

--- The text of an error that a pcall has caught, without the place (file:line) at its beginning.
function caller.without_place(problem)
  local message, line = tostring(problem), place.position()
  if line ~= "" and message:sub(1, #line) == line then return message:sub(#line + 1) end
  return (message:gsub("^[^:%s]*:%d+: ", ""))
end

local function settle(name, ok, ...)
  if ok then return ... end
  local message = ...
  if type(message) == "string" then
    message = message:gsub("^[^\n]-cld/[%w_/]+%.lua:%d+: ", ""):gsub("^field '", name .. ": %0")
    message = message:gsub("^(bad argument #%d+ to) '%?'", "%1 '" .. name .. "'")
    local module, own = name:match "^(.*%.)(.*)$"
    if own and message:sub(1, #own + 2) == own .. ": " then message = module .. message end
    message = place.position() .. place.layer() .. message
  end
  error(message, 0)
end

--- Calls the library's f(...) and raises its errors at the user's line. `name` is what an error about an argument's
-- type calls f. The traceback stays complete, since f is C, or calls only C.
function caller.call(name, f, ...) return settle(name, pcall(f, ...)) end

local function tensor_shown(t) return ("%s[%s]"):format(t.dtype, table.concat(t.shape, ", ")) end

--- Calls the user's f(...), whose results the library uses. If f returns a call, an error in that call names f's line.
caller.user = place.call

-- "a loader", "the class relu, not relu()", "a table"
local function table_shown(value)
  local kind, class = public.kind(value) or "table", rawget(value, "_name")
  if kind == "table" and type(class) == "string" then return ("the class %s, not %s()"):format(class, class) end
  return (kind:find "^[aeiou]" and "an " or "a ") .. kind
end

--- A value as an error message shows it.
function caller.shown(value)
  local kind = type(value)
  if kind == "string" then return ("'%s'"):format(value) end
  if kind == "table" then return table_shown(value) end
  if kind == "function" then return "a function" end
  local _ <close> = c_locale()
  if not core.tensor.is_tensor(value) then return tostring(value) end
  local open, text = pcall(tensor_shown, value)
  return open and text or "a closed tensor"
end

--- Raises if options (a table or nil) have a field that is not in the list `names`.
function caller.check_fields(name, options, names)
  if options ~= nil and type(options) ~= "table" or public.kind(options) then
    caller.raise("%s: expected a table of options, got %s", name, caller.shown(options))
  end
  caller.call(name, core.system.check_fields, name, options, names)
end

--- Like check_fields, but the table is required.
function caller.require_fields(name, options, names)
  if options == nil then caller.raise("%s: expected a table of options, got nil", name) end
  caller.check_fields(name, options, names)
end

--- Returns value as an integer if it is one and at least `least` (default 1).
function caller.integer(name, what, value, least)
  local integer = type(value) == "number" and math.tointeger(value)
  if integer and integer >= (least or 1) then return integer end
  caller.raise("%s: %s must be %s, got %s", name, what,
    least and ("an integer of at least %d"):format(least) or "a positive integer", caller.shown(value))
end

return caller
