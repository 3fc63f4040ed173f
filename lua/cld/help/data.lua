--- The texts that `make` has collected (write.lua): beside the Lua files in an installation, in the build folder in a
-- source tree.
local core = require "cld.core"
local user_error = require "cld.user_error"

-- cld/help/text.lua in a folder of package.path, or in the folder of the C library that a stock Lua has loaded.
local function find()
  local path = package.searchpath("cld.help.text", package.path)
  if path then return path end
  local library = package.searchpath("cld.core", package.cpath)
  local folder = library and library:match "^(.*/)cld/core%.so$"
  return folder and package.searchpath("cld.help.text", folder .. "lua/?.lua") or nil
end

local loaded

--- () -> {entries = {{name, signature, text, example, file, line}, ...}, topics = {{name, title, aliases, text}, ...},
-- recipes and options (recipes.lua), by_name = {name = entry}}.
return function()
  if loaded then return loaded end
  local path = find()
  if not path then
    user_error.raise "help: its texts are not there; `make` gathers them (build/lua/cld/help/text.lua)"
  end
  local _ <close> = core.text.c_locale()
  local data = assert(loadfile(path, "t", {}))()
  data.by_name = {}
  for _, entry in ipairs(data.entries) do data.by_name[entry.name] = entry end
  loaded = data
  return data
end
