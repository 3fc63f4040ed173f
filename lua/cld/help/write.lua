--- The program by which `make` writes the texts of help:
--
--   cldlua lua/cld/help/write.lua text FILE      all texts, as a Lua file
--   cldlua lua/cld/help/write.lua docs FOLDER    HTML pages
--   cldlua lua/cld/help/write.lua man FILE       the man page, from the output of `cldlua --help` on standard input
--
-- in the folder of the sources.
local cld = require "cld"
local collect = require "cld.help.collect"

-- A value as Lua source; strings, integers and tables of them.
local function written(value, indent)
  if type(value) ~= "table" then return ("%q"):format(value) end
  local parts = {}
  for _, item in ipairs(value) do parts[#parts + 1] = written(item, indent .. " ") end
  local keys = {}
  for key in pairs(value) do
    if type(key) == "string" then keys[#keys + 1] = key end
  end
  table.sort(keys)
  for _, key in ipairs(keys) do parts[#parts + 1] = key .. " = " .. written(value[key], indent .. " ") end
  return "{ " .. table.concat(parts, ",\n" .. indent) .. " }"
end

local function gathered()
  local recipes, options = collect.recipes "."
  return { entries = collect.entries(collect.files "."), topics = collect.topics ".", recipes = recipes,
    options = options }
end

local kind, out = ...
if kind == "text" then
  cld.io.write_atomic(out, "-- Written by make (lua/cld/help/write.lua).\nreturn " .. written(gathered(), " ") .. "\n")
elseif kind == "docs" then
  require "cld.help.html".write(out)
elseif kind == "man" then
  cld.io.write_atomic(out, require "cld.help.man".page(io.read "a", cld.versions()))
else
  error("expected text, docs or man", 0)
end
