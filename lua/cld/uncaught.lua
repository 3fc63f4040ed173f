--- The text that is printed for an uncaught error: its message, and a traceback with the user's own calls. For an error
-- within the library it has the library's calls too. bindings/repl_call.c calls this at the point of the error.
local class = require "cld.class"
local colon = require "cld.colon"
local missing = require "cld.missing"
local place = require "cld.place"
local python = require "cld.help.python"

-- The session must work even if a script has changed these globals.
local getinfo, traceback = debug.getinfo, debug.traceback
local getmetatable, ipairs, pcall, rawget, type = getmetatable, ipairs, pcall, rawget, type
local concat, move = table.concat, table.move
local find, format, gsub, match, sub = string.find, string.format, string.gsub, string.match, string.sub

local MOST = 200 -- calls; if there are more, Lua's own traceback is printed, which leaves some out
local FIRST, LAST = 10, 11 -- lines that are shown if there are too many

local function is_session(info) return place.is_library(info.source) and find(info.source, "/cld/repl%.lua$") ~= nil end

-- The running calls, from the level of the caller outwards: the tables of debug.getinfo, with `text`, the call as Lua
-- shows it; nil if there are too many. The second result is whether the session made the outermost call; the session's
-- own calls are left out.
local function calls(level)
  local list = {}
  if getinfo(level + MOST, "l") then return nil end
  for at = level + 1, level + MOST do
    local info = getinfo(at, "Slt")
    if not info then return list, false end
    if is_session(info) then
      list[#list] = nil -- terminal.call
      return list, true
    end
    info.text = match(traceback("", at), "traceback:\n([^\n]*)")
    list[#list + 1] = info
  end
end

-- Lua's own traceback, without the session's calls.
local function whole(message, level)
  local text = traceback(message, level + 1)
  local first = find(text, "\n[^\n]*\n[^\n]*cld/repl%.lua:%d")
  return first and sub(text, 1, first - 1) or text
end

-- Whether the message names a line of the library, so that the error is in the library itself.
local function is_internal(message, list)
  for _, info in ipairs(list) do
    if info.what ~= "C" then
      local position = format("%s:%d:", info.short_src, info.currentline)
      return place.is_library(info.source) and sub(message, 1, #position) == position
    end
  end
  return false
end

local function is_users(info) return info.what ~= "C" and not place.is_library(info.source) end

-- Typed code that uses the session's variables is a function (repl/locals.lua): calls it the main chunk all the same.
local function name_chunk(info)
  if info.istailcall then return end -- the typed code itself is no longer on the stack
  info.text = gsub(info.text, "^(%s*stdin:%d+: in )function <stdin:%d+>$", "%1main chunk")
end

local function shortened(lines)
  local skipped = #lines - FIRST - LAST
  if skipped <= 1 then return lines end
  local short = move(lines, 1, FIRST, 1, {})
  short[FIRST + 1] = format("\t...\t(skipping %d calls)", skipped)
  return move(lines, #lines - LAST + 1, #lines, FIRST + 2, short)
end

-- What to write instead, or "" if that is not known. The error arose at that level of the caller.
local function hint(message, level)
  local own = class.hint(message)
  if own == "" then own = missing.of_error(message, level + 1) end
  return own ~= "" and own or python.of_error(message)
end

-- The message; nil if the error prints itself.
local function message_of(problem, level)
  if type(problem) == "string" then return problem .. hint(problem, level + 1) end
  local meta = getmetatable(problem)
  if type(meta) == "table" and rawget(meta, "__tostring") then return nil end
  return type(problem) == "number" and format("%s", problem) or format("(error object is a %s value)", type(problem))
end

--- The text of the error; nil if the error prints itself.
return function(problem)
  local ok, mistake, level = pcall(colon.problem, problem)
  if not ok then mistake = nil end
  local message = mistake or message_of(problem, 3)
  if not message then return nil end
  local from = mistake and level - 1 or 3 -- leaves out the mistaken call
  local list, in_session = calls(from)
  if not list then return whole(message, from) end
  local all = not mistake and is_internal(message, list)
  local lines, last = {}, list[#list]
  if in_session and last then name_chunk(last) end
  for _, info in ipairs(list) do
    if all or is_users(info) then
      lines[#lines + 1] = info.text
      if info.istailcall then lines[#lines + 1] = "\t(...tail calls...)" end
    end
  end
  local only_typed = in_session and last and #lines == 1 and lines[1] == last.text
  if #lines == 0 or only_typed then return message end
  return message .. "\nstack traceback:\n" .. concat(shortened(lines), "\n")
end
