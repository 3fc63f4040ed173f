--- That the C side has what these Lua files take from it. A build is older than they are after an update of the sources
-- without `make`: the first file that misses a function says so in one line, most of them when cld is loaded.
local core = require "cld.core"
local user_error = require "cld.user_error"

local built = {}

local library = debug.getinfo(1, "S").source:match "^(@.*/)built%.lua$" -- the folder; nil: not known

-- What the C side's tables are called in `cld`, if not cld.NAME.
local public = {
  nn = "cld.nn.functional", picture = "cld.core.picture", scope = "cld.core.scope", tensor = "cld", system = "cld",
  core = "cld.core",
}

-- __index of the C side's table `name`. Whoever asks from outside the library has mistyped a name.
local function missing(name)
  return function(self, key)
    if debug.getinfo(2, "S").source:sub(1, #library) ~= library then
      return require "cld.closed".refuse(public[name] or "cld." .. name, self, key)
    end
    user_error.raise("the build is of other sources than %s: its C side has no '%s.%s'; run make (and make install)",
      library:sub(2, -2), name == "core" and "cld.core" or "cld.core." .. name, tostring(key))
  end
end

--- Watch over all tables of the C side.
function built.watch()
  if not library then return end
  for name, functions in pairs(core) do setmetatable(functions, { __index = missing(name) }) end
  setmetatable(core, { __index = missing "core" })
end

return built
