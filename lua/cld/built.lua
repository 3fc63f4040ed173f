--- Checks that the C side has what these Lua files need. After an update of the sources without `make` the build is
-- older than the Lua files. The first file that lacks a function then reports this in one line, usually when cld is
-- loaded.
local core = require "cld.core"
local user_error = require "cld.user_error"

local built = {}

local library = debug.getinfo(1, "S").source:match "^(@.*/)built%.lua$" -- the folder; nil if unknown

-- What the C side's tables are called in `cld`, if not cld.NAME.
local public = {
  nn = "cld.nn.functional", picture = "cld.core.picture", scope = "cld.core.scope", tensor = "cld", system = "cld",
  core = "cld.core",
}

-- __index of the C side's table `name`. Outside the library a missing name is a typo.
local function missing(name)
  return function(self, key)
    if debug.getinfo(2, "S").source:sub(1, #library) ~= library then
      return require "cld.closed".refuse(public[name] or "cld." .. name, self, key)
    end
    user_error.raise("the build is of other sources than %s: its C side has no '%s.%s'; run make (and make install)",
      library:sub(2, -2), name == "core" and "cld.core" or "cld.core." .. name, tostring(key))
  end
end

--- Watches all tables of the C side.
function built.watch()
  if not library then return end
  for name, functions in pairs(core) do setmetatable(functions, { __index = missing(name) }) end
  setmetatable(core, { __index = missing "core" })
end

return built
