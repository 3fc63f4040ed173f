--- The error for a method that an object lacks: "resnet has no method 'paramters'; did you mean 'parameters'?".
--
-- A missing field is nil, as optional fields are (`bias`), and net:paramters() reads a field before it calls it. The
-- line of code shows why it was read: it is a call if the line has ":paramters(" or ".paramters(" and no other use of
-- the name (as in `net.paramters and net:paramters()`). Otherwise the field is nil. Objects made in C have no such
-- __index: uncaught.lua adds the nearest method to Lua's own error.
local place = require "cld.place"
local caller = require "cld.caller"
local user_error = require "cld.user_error"

local missing = {}

-- The object of the method's call in that line, how often the method's name occurs there, and whether there is a call.
local function call_in(text, key)
  text = text:gsub("%-%-.*$", "")
  local call = "[:.]%s*" .. key .. "%s*[%({\"'%[]"
  local object = text:match("([%a_][%w_.]*)%s*" .. call)
  local _, count = text:gsub("%f[%w_]" .. key .. "%f[^%w_]", "")
  return object, count, text:find(call) ~= nil
end

--- The names of the functions in a class and in its base classes, in alphabetical order.
function missing.methods(class)
  local names, level = {}, class
  while type(level) == "table" do
    for name, value in next, level do
      local hidden = type(name) ~= "string" or name:sub(1, 1) == "_"
      if type(value) == "function" and not hidden then names[#names + 1] = name end
    end
    local meta = getmetatable(level)
    level = meta and rawget(meta, "__index")
  end
  table.sort(names)
  return names
end

--- The __index of a class: the last place where a field is looked up. describe(owner, key) -> the object's name in the
-- message, and the end of the message; owner is the object, or nil if the line does not show it. If there is no end,
-- the field is nil, and Lua raises its own error.
function missing.index(describe)
  local quiet = {} -- fields that the library itself asks for: {name = true}
  local asked = {} -- source -> line -> name -> true: that line reads the name as a field

  local function note(info, key)
    local lines = asked[info.source] or {}
    asked[info.source] = lines
    lines[info.currentline] = lines[info.currentline] or {}
    lines[info.currentline][key] = true
  end

  return function(_, key)
    if quiet[key] or type(key) ~= "string" or not key:find "^[%a_][%w_]*$" or key:sub(1, 2) == "__" then return nil end
    local info = debug.getinfo(2, "Slf")
    if info.currentline <= 0 or place.is_library(info.source) then
      quiet[key] = true
      return nil
    end
    local lines = asked[info.source]
    if lines and lines[info.currentline] and lines[info.currentline][key] then return nil end
    local object, count, is_call = call_in(place.line(info.source, info.currentline), key)
    if not is_call or count ~= 1 then return note(info, key) end
    local name, rest = describe(object and place.value(2, info.func, object), key)
    if not rest then return note(info, key) end
    caller.raise("%s has no method '%s'%s", name, key, rest)
  end
end

-- The methods of an object made in C.
local function methods_in_c(object)
  local meta = type(object) == "userdata" and getmetatable(object)
  if type(meta) ~= "table" then return {} end
  return missing.methods(rawget(meta, "methods") or rawget(meta, "__index"))
end

--- "; did you mean 'remove'?" or "; it has remove", for Lua's error about a missing method of an object made in C, at
-- that level of the caller; "; it is a function" if a function was indexed. "" for any other error.
function missing.of_error(message, level)
  local f = message:match "attempt to index a function value %(%w+ '([%w_]+)'%)$"
  if f then return ("; it is a function: %s(...)"):format(f) end
  local name = message:match "attempt to call a nil value %(%w+ '([%w_]+)'%)$"
  local info = name and debug.getinfo(level + 1, "Slf")
  if not info or info.currentline <= 0 or place.is_library(info.source) then return "" end
  local object = call_in(place.line(info.source, info.currentline), name)
  local names = methods_in_c(object and place.value(level + 1, info.func, object))
  return #names > 0 and missing.hint(name, names) or ""
end

--- "; did you mean 'loss'?", or the list of all names.
function missing.hint(key, names)
  local near = user_error.hint(key, names)
  return near ~= "" and near or "; it has " .. table.concat(names, ", ")
end

return missing
