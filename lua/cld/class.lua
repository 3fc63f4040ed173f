--- Classes of the objects that cld makes in Lua: memory banks, loaders, runs. A class is the metatable of its objects
-- and has their methods:
--
--   local Loader = class.new "cld.loader"
--   function Loader:steps() ... end
--   local loader = setmetatable({ ... }, Loader)
--
-- A call of a method that the class lacks raises an error that names the nearest (missing.lua); any other missing field
-- is nil. colon.lua finds the methods here.
local missing = require "cld.missing"
local public = require "cld.help.public"

local class = {}

class.all = {} -- a list

--- A new class. `name` is that of the metatable; public.lua may translate it into the kind of object.
function class.new(name)
  local Class = { __name = name }
  Class.__index = Class
  class.all[#class.all + 1] = Class
  return setmetatable(Class, { __index = missing.index(function(_, key)
    return class.kind(Class), missing.hint(key, missing.methods(Class))
  end) })
end

--- What an object of the class is called: "memory_bank".
function class.kind(Class) return public.kinds[Class.__name] or Class.__name:gsub("^cld%.", "") end

--- "; it has epoch, steps", for Lua's error that an object of a class was called; "" for any other error.
function class.hint(message)
  local name = message:match "attempt to call a ([%w_.]+) value %("
  for _, Class in ipairs(class.all) do
    if Class.__name == name then return "; it has " .. table.concat(missing.methods(Class), ", ") end
  end
  return ""
end

--- The class's field, for a class with an __index of its own, which ends with `return class.field(Class, object, key)`.
function class.field(Class, object, key)
  local value = rawget(Class, key)
  if value ~= nil then return value end
  return getmetatable(Class).__index(object, key)
end

return class
