--- The interactive session: read, compile, call, print. Returns a function that the interpreter calls with a function
-- that opens the terminal (bindings/repl.c). An error or Ctrl-C ends the running code, never the session. Assigning to
-- a global does not end it either: the session has its own copies of the functions that it uses, here and in repl/.
local complete = require "cld.repl.complete"
local locals = require "cld.repl.locals"
local place = require "cld.place"
local python = require "cld.help.python"
local show = require "cld.repl.show"
local core = require "cld.core"
require "cld.closed" -- now: when cld is made, a script may have removed what this needs
local write_atomic, c_locale, printable = core.io.write_atomic, core.text.c_locale, core.text.printable

local _G, ipairs, pcall, print, rawget, rawset, require, tostring =
  _G, ipairs, pcall, print, rawget, rawset, require, tostring
local concat, move, pack, unpack = table.concat, table.move, table.pack, table.unpack
local find, format, gsub, sub = string.find, string.format, string.gsub, string.sub
local getenv, max, open, stderr, stdout = os.getenv, math.max, io.open, io.stderr, io.stdout

local HISTORY_LINES = 1000
local FAILURES = 3 -- of the session itself in a row, after which it ends

local function complain(message) stderr:write("cldlua: ", printable(message), "\n") end

-- ---- history: a text file, a line for each chunk typed ---------------------------------------------------------

local NEWLINE = "\v" -- in the file, between the lines of a chunk: a vertical tab, which cannot be typed

local function history_path(terminal)
  local state, home = getenv "XDG_STATE_HOME", getenv "HOME"
  if not state or state == "" then state = home and home ~= "" and home .. "/.local/state" end
  local folder = state and state .. "/cldlua"
  local path = folder and terminal.make_folder(folder) and folder .. "/history"
  return path and terminal.make_file(path) and path or nil
end

-- Reads what earlier sessions left. The file is cut to its last lines once it has twice as many as we keep.
local function load_history(terminal, path)
  local file = path and open(path)
  if not file then return end
  local lines = {}
  for line in file:lines() do lines[#lines + 1] = line end
  file:close()
  local kept = move(lines, max(1, #lines - HISTORY_LINES + 1), #lines, 1, {})
  for _, line in ipairs(kept) do terminal.remember((gsub(line, NEWLINE, "\n"))) end
  if #lines > 2 * HISTORY_LINES and pcall(write_atomic, path, concat(kept, "\n") .. "\n") then
    terminal.make_file(path)
  end
end

local function remember(terminal, path, text)
  if not find(text, "%S") then return end
  terminal.remember(text)
  local file = path and open(path, "a")
  if not file then return end
  file:write(gsub(gsub(text, NEWLINE, " "), "\n", NEWLINE), "\n")
  file:close()
end

-- ---- a chunk from one or more lines ----------------------------------------------------------------------------

local CHUNK = "=stdin"

local function is_incomplete(message) return sub(message, -5) == "<eof>" end

-- The text as a function; or nil, whether more lines could complete it, and the message.
local function compile(text)
  local f, expression_message, refused = locals.load("return " .. text, CHUNK)
  if f then return f end
  if refused then return nil, false, expression_message end
  local statement, message = locals.load(text, CHUNK)
  if statement then return statement end
  local hint, is_python = python.of_code(text, message)
  local incomplete = is_incomplete(message) or is_incomplete(expression_message)
  return nil, incomplete and not is_python, message .. hint
end

local function prompt(name, default)
  local value = rawget(_G, name)
  if value == nil then return default end
  local ok, text = pcall(tostring, value)
  return ok and text or default
end

-- The next chunk; false if it has an error or was abandoned; nil at the end of the input. All of its lines are one
-- entry of the history.
local function read_chunk(terminal, path)
  local line = terminal.read(prompt("_PROMPT", "> "))
  local text = line and sub(line, 1, 1) == "=" and "return " .. sub(line, 2) or line -- as lua takes it since 5.0
  local typed = line or ""
  while line do
    local f, incomplete, message = compile(text)
    if f or not incomplete then
      remember(terminal, path, typed)
      if f then return f, text end
      complain(message)
      return false
    end
    line = terminal.read(prompt("_PROMPT2", ">> "))
    text, typed = line and text .. "\n" .. line, line and typed .. "\n" .. line or typed
    if line == nil then complain(message) end
  end
  remember(terminal, path, typed)
  return line
end

-- ---- calling and printing --------------------------------------------------------------------------------------

local function print_results(...)
  local results = pack(...)
  rawset(_G, "_", results[1])
  print(printable(show.results(results)))
end

-- Whether there was no error.
local function evaluate(terminal, f)
  local outcome = pack(terminal.call(f))
  if outcome[1] and outcome.n > 1 then
    outcome = pack(terminal.call(print_results, unpack(outcome, 2, outcome.n)))
  end
  if not outcome[1] then
    stdout:flush()
    complain(outcome[2])
  end
  return outcome[1]
end

-- ---- the session -----------------------------------------------------------------------------------------------

-- cld as a global, and a line about the device; the interpreter has printed the version.
local function load_cld()
  local _ <close> = c_locale()
  local cld = require "cld"
  rawset(_G, "cld", cld)
  rawset(_G, "help", cld.help)
  local threads = cld.get_num_threads()
  print(printable(format("cpu: %s, %d %s", cld.host().cpu, threads, threads == 1 and "thread" or "threads")))
  for i, gpu in ipairs(cld.cuda.is_emulated() and {} or cld.cuda.devices() or {}) do
    print(format("cuda:%d: %s, %.0f GiB", i - 1, gpu.name, gpu.memory / 2^30))
  end
end

local told = {}

-- Tells the user about a chunk's own variables that do not outlive it.
local function tell_about_locals(kind)
  if kind ~= "closed" then return print(printable(format("(its local variables end with it: %s)", kind))) end
  if not told.closed then print "(a <close> variable is closed at the end of what it is typed in)" end
  told.closed = true
end

-- Reads and runs one chunk; false at the end of the input.
local function turn(terminal, path)
  local note
  locals.told = function(kind) note = kind end
  local f, text = read_chunk(terminal, path)
  if f then
    place.texts[CHUNK] = text
    if evaluate(terminal, f) and note then tell_about_locals(note) end
  end
  return f ~= nil
end

return function(open_terminal)
  local terminal = open_terminal(complete.at)
  local path = terminal.editing and history_path(terminal) or nil
  local is_loaded, problem = pcall(load_cld)
  if not is_loaded then pcall(complain, tostring(problem)) end
  pcall(load_history, terminal, path)
  local failures = 0
  repeat
    local ok, going_on = pcall(turn, terminal, path)
    failures = ok and 0 or failures + 1
    if not ok then pcall(complain, tostring(going_on)) end
  until ok and not going_on or failures == FAILURES
  print()
end
