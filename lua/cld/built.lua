--- That the C side has what these Lua files take from it. A build is older than they are after an update of the sources
-- without `make`: the first file that misses a function says so in one line, most of them when cld is loaded.
local core = require "cld.core"
local user_error = require "cld.user_error"

local built = {}

local library = debug.getinfo(1, "S").source:match "^(@.*/)built%.lua$" -- the folder; nil: not known

-- __index of the C side's table `name`. Whoever asks from outside the library gets nil, as of any table.
local function missing(name)
  return function(_, key)
    if debug.getinfo(2, "S").source:sub(1, #library) ~= library then return nil end
    user_error.raise("the build is of other sources than %s: its C side has no '%s.%s'; run make (and make install)",
      library:sub(2, -2), name, tostring(key))
  end
end

--- Watch over all tables of the C side.
function built.watch()
  if not library then return end
  for name, functions in pairs(core) do setmetatable(functions, { __index = missing("cld.core." .. name) }) end
  setmetatable(core, { __index = missing "cld.core" })
end

return built
