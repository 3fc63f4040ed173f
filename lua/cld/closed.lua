--- Tables of functions in which a missing name is an error: "cld.nn has no 'Linear'; did you mean 'linear'?". Use
-- rawget or pairs to test for a name. cld/init.lua closes everything that `cld` offers, and the tables of functions in
-- it; built.lua closes those of C.
--
-- A table with an __index of its own is left alone: a class, an object, or a registry in which names may be missing.
local core = require "cld.core"
local caller = require "cld.caller"
local user_error = require "cld.user_error"

-- The session must work even if a script has changed these globals.
local getmetatable, ipairs, next, pairs, pcall, rawget, require, setmetatable, type =
  getmetatable, ipairs, next, pairs, pcall, rawget, require, setmetatable, type
local loaded, sort = package.loaded, table.sort

local closed = {}

local DEEPEST = 3 -- levels of tables in tables: cld.nn.functional

-- ---- the nearest name ------------------------------------------------------------

-- Endings of PyTorch names that names here lack.
local endings = { "", "loss", "lr" }

local function letters(word) return (word:lower():gsub("_", "")) end

--- visit(path, table) for each public table of functions that is loaded.
function closed.each_table(visit)
  local cld = loaded["cld"]
  if type(cld) ~= "table" then return end
  visit("cld", cld)
  for name, module in pairs(cld) do
    if type(module) == "table" then
      visit("cld." .. name, module)
      for inner, more in next, module do
        if type(inner) == "string" and type(more) == "table" and not rawget(more, "_name") then
          visit(("cld.%s.%s"):format(name, inner), more)
        end
      end
    end
  end
end

-- Other places where a function or class with these letters exists. A capital marks a class.
local function elsewhere(key, own)
  local best
  for _, ending in ipairs(endings) do
    local stem = letters(key)
    if ending ~= "" and stem:sub(-#ending) == ending then stem = stem:sub(1, -#ending - 1) end
    closed.each_table(function(path, functions)
      if functions == own then return end
      for name, value in next, functions do
        if type(name) == "string" and letters(name) == stem and type(value) ~= "number" then
          local full = path .. "." .. name
          local fits = (type(value) == "table") == (key:find "^%u" ~= nil)
          if not best or fits and not best.fits or fits == best.fits and full < best.full then
            best = { full = full, fits = fits }
          end
        end
      end
    end)
    if best then return best.full end
  end
end

local function hint(key, names, own)
  for _, name in ipairs(names) do
    if letters(name) == letters(key) then return ("; did you mean '%s'?"):format(name) end
  end
  local near = user_error.hint(key, names)
  if near ~= "" and own ~= loaded["cld"] and not key:find "%u" then return near end
  local found, other = pcall(elsewhere, key, own)
  if found and other then return ("; did you mean '%s'?"):format(other) end
  if near ~= "" then return near end
  local loads, pytorch = pcall(require, "cld.help.pytorch")
  return loads and pytorch.hint(key) or ""
end

--- Raises the error for a name that is missing in the table `own`, called `path`. names: what else exists there.
-- Libraries that inspect arbitrary values ask for names that begin with __: those are nil.
function closed.refuse(path, own, key, names)
  if type(key) ~= "string" or key:sub(1, 2) == "__" then return nil end
  names = names or {}
  for name in next, own do
    if type(name) == "string" then names[#names + 1] = name end
  end
  sort(names)
  caller.raise("%s has no '%s'%s", path, key, hint(key, names, own))
end

-- ---- closing -----------------------------------------------------------------------

local function is_callable(value)
  local meta = type(value) == "table" and getmetatable(value)
  return type(value) == "function" or type(meta) == "table" and rawget(meta, "__call") ~= nil
end

local function has_index(value)
  local meta = getmetatable(value)
  return meta ~= nil and (type(meta) ~= "table" or rawget(meta, "__index") ~= nil)
end

--- Whether the value is a table in which functions are found by name.
function closed.is_functions(value)
  if type(value) ~= "table" or core.tensor.is_tensor(value) then return false end
  for key, field in next, value do
    if type(key) == "string" and key:sub(1, 2) ~= "__" and is_callable(field) then return true end
  end
  return false
end

--- Closes the table called `path`, and the tables of functions in it. Returns it.
function closed.close(path, value, depth)
  depth = depth or 1
  if depth > DEEPEST or not closed.is_functions(value) then return value end
  if not has_index(value) then
    local meta = getmetatable(value) or {}
    meta.__index = function(self, key) return closed.refuse(path, self, key) end
    setmetatable(value, meta)
  end
  for name, field in next, value do
    if type(name) == "string" and type(field) == "table" and not rawget(field, "_name") then
      closed.close(path .. "." .. name, field, depth + 1)
    end
  end
  return value
end

return closed
