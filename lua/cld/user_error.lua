--- Errors that the user can fix (an option, a run folder, a checkpoint that does not fit): one line, no traceback. The
-- error value is a table with __tostring; `cldlua` and `lua` print it and exit with status 1.
local core = require "cld.core"
local c_locale, printable_line = core.text.c_locale, core.text.printable_line

local UserError = { __name = "cld.user_error" }
function UserError:__tostring() return self.message end

local user_error = {}

--- Raises a user error; the arguments are string.format's. The message stays on one line, whatever names from files it
-- contains.
function user_error.raise(format, ...)
  local _ <close> = c_locale()
  local message = select("#", ...) > 0 and format:format(...) or format
  error(setmetatable({ message = printable_line(message) }, UserError), 0)
end

--- Whether an error value is a user error.
function user_error.is(value) return getmetatable(value) == UserError end

local shortages = { "not enough memory", "out of memory", "Cannot allocate memory" } -- Lua's, ours, the C library's

--- For callers that turn an error from a pcall into their own: raises "<what>: <problem>" if memory ran out, since that
-- is no fault of the data that was read.
function user_error.check_memory(what, problem)
  problem = tostring(problem)
  for _, shortage in ipairs(shortages) do
    if problem:find(shortage, 1, true) then user_error.raise("%s: %s", what, problem) end
  end
end

--- f(...), with its errors raised as user errors.
function user_error.call(f, ...)
  local results = table.pack(pcall(f, ...))
  if results[1] then return table.unpack(results, 2, results.n) end
  user_error.raise("%s", tostring(results[2]))
end

local function bare(word) return (word:gsub("^%-+", "")) end

local function letters(word) return (word:lower():gsub("[-_]", "")) end

-- The edit distance; 0 if the name begins with the word; at most 1 if one contains the other, and smaller for a longer
-- match. Leading dashes are ignored in both.
local function distance(word, name)
  word, name = bare(word), bare(name)
  if #word >= 3 and name:sub(1, #word) == word then return 0 end
  local a, b = letters(word), letters(name)
  local shared = math.min(#a, #b)
  if shared >= 4 and (a:find(b, 1, true) or b:find(a, 1, true)) then return 1 / shared end
  return core.system.edit_distance(word, name)
end

--- "; did you mean 'epochs'?", or nothing if no name is near.
function user_error.hint(word, names)
  local best, least = nil, math.huge
  for _, name in ipairs(names) do
    local apart = distance(word, name)
    if apart < least or apart == least and #name < #best then best, least = name, apart end
  end
  local length = #bare(word)
  return least <= math.max(2, length // 2) and least < length and ("; did you mean '%s'?"):format(best) or ""
end

return user_error
