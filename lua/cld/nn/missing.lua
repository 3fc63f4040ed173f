--- The error for a method that a module lacks: "resnet has no method 'paramters'; did you mean 'parameters'?".
--
-- A missing field is nil, as optional members are (`bias`), and net:paramters() reads a field before it calls it. The
-- line of code shows why it was read: it is a call if the line has ":paramters(" and no other use of the name (as in
-- `net.paramters and net:paramters()`). Otherwise the field is nil, and Lua raises its own error.
local place = require "cld.place"
local caller = require "cld.caller"
local module = require "cld.nn.module"
local user_error = require "cld.user_error"

local quiet = {} -- fields that the library itself asks for: {name = true}
local asked = {} -- source -> line -> name -> true: read there as a field

-- The object in that line's call of the method, and how often its name occurs there.
local function call_in(text, key)
  text = text:gsub("%-%-.*$", "")
  local object = text:match("([%a_][%w_.]*)%s*:%s*" .. key .. "%s*[%({\"'%[]")
  local _, count = text:gsub("%f[%w_]" .. key .. "%f[^%w_]", "")
  return object, count, text:find(":%s*" .. key .. "%s*[%({\"'%[]") ~= nil
end

-- The method names of a module, or those of every module.
local function methods(owner)
  local names, level = {}, module.is_module(owner) and module.members_of(owner).class or module.base
  while level do
    for name, value in next, level do
      local hidden = type(name) ~= "string" or name:sub(1, 1) == "_"
      if type(value) == "function" and not hidden then names[#names + 1] = name end
    end
    local meta = getmetatable(level)
    level = meta and meta.__index
    if type(level) ~= "table" then break end
  end
  table.sort(names)
  return names
end

local function note(info, key)
  local lines = asked[info.source] or {}
  asked[info.source] = lines
  lines[info.currentline] = lines[info.currentline] or {}
  lines[info.currentline][key] = true
end

-- __index of the members that all modules share: the last place where a field is looked up.
local function missing(_, key)
  if quiet[key] or type(key) ~= "string" or not key:find "^[%a_][%w_]*$" then return nil end
  local info = debug.getinfo(2, "Slf")
  if info.currentline <= 0 or place.is_library(info.source) then
    quiet[key] = true
    return nil
  end
  local lines = asked[info.source]
  if lines and lines[info.currentline] and lines[info.currentline][key] then return nil end
  local object, count, is_call = call_in(place.line(info.source, info.currentline), key)
  if not is_call or count ~= 1 then return note(info, key) end
  local owner = object and place.value(2, info.func, object)
  local near = require "cld.help.pytorch".hint(key, "Module")
  if near == "" then near = user_error.hint(key, methods(owner)) end
  if near == "" then return note(info, key) end
  caller.raise("%s has no method '%s'%s", module.is_module(owner) and owner._name or "a module", key, near)
end

setmetatable(module.base, { __index = missing })
