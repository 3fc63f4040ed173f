--- The interactive session: read, compile, call, print. Returns a function that the interpreter calls with what opens
-- the terminal (bindings/repl.c). An error or Ctrl-C ends what runs, never the session; nor does what a person assigns
-- to a global: the session has its own copies of the functions that it uses, here and in repl/.
local complete = require "cld.repl.complete"
local show = require "cld.repl.show"
local core = require "cld.core"
local write_atomic, c_locale, printable = core.io.write_atomic, core.text.c_locale, core.text.printable

local _G, ipairs, load, pcall, print, rawget, rawset, require, tostring =
  _G, ipairs, load, pcall, print, rawget, rawset, require, tostring
local concat, move, pack, unpack = table.concat, table.move, table.pack, table.unpack
local find, format, gmatch, match, sub = string.find, string.format, string.gmatch, string.match, string.sub
local getenv, max, open, stderr, stdout = os.getenv, math.max, io.open, io.stderr, io.stdout

local HISTORY_LINES = 1000
local FAILURES = 3 -- in a row, of the session itself: then it ends

local function complain(message) stderr:write("cldlua: ", printable(message), "\n") end

-- ---- history: a text file, a line for each line typed ----------------------------------------------------------

local function history_path(terminal)
  local state, home = getenv "XDG_STATE_HOME", getenv "HOME"
  if not state or state == "" then state = home and home ~= "" and home .. "/.local/state" end
  local folder = state and state .. "/cldlua"
  local path = folder and terminal.make_folder(folder) and folder .. "/history"
  return path and terminal.make_file(path) and path or nil
end

-- Read what earlier sessions left; the file is cut to its last lines when it has grown to twice what is kept.
local function load_history(terminal, path)
  local file = path and open(path)
  if not file then return end
  local lines = {}
  for line in file:lines() do lines[#lines + 1] = line end
  file:close()
  local kept = move(lines, max(1, #lines - HISTORY_LINES + 1), #lines, 1, {})
  for _, line in ipairs(kept) do terminal.remember(line) end
  if #lines > 2 * HISTORY_LINES and pcall(write_atomic, path, concat(kept, "\n") .. "\n") then
    terminal.make_file(path)
  end
end

local function remember(terminal, path, line)
  if not find(line, "%S") then return end
  terminal.remember(line)
  local file = path and open(path, "a")
  if not file then return end
  file:write(line, "\n")
  file:close()
end

-- ---- a chunk from one or more lines ----------------------------------------------------------------------------

local function is_incomplete(message) return sub(message, -5) == "<eof>" end

-- A function, or nil and whether more lines could make it one, and the message.
local function compile(text)
  local f, expression_message = load("return " .. text, "=stdin", "t")
  if f then return f end
  local statement, message = load(text, "=stdin", "t")
  if statement then return statement end
  return nil, is_incomplete(message) or is_incomplete(expression_message), message
end

local function prompt(name, default)
  local value = rawget(_G, name)
  if value == nil then return default end
  local ok, text = pcall(tostring, value)
  return ok and text or default
end

-- The next chunk; false if it has an error or was given up; nil at the end of the input.
local function read_chunk(terminal, path)
  local line = terminal.read(prompt("_PROMPT", "> "))
  local text = line and sub(line, 1, 1) == "=" and "return " .. sub(line, 2) or line -- as lua takes it since 5.0
  while line do
    remember(terminal, path, line)
    local f, incomplete, message = compile(text)
    if f then return f, text end
    if not incomplete then
      complain(message)
      return false
    end
    line = terminal.read(prompt("_PROMPT2", ">> "))
    text = line and text .. "\n" .. line
    if line == nil then complain(message) end
  end
  return line
end

-- ---- calling and printing --------------------------------------------------------------------------------------

-- A frame that tells a person nothing: C's, the typed chunk's, and the library's where its error is not in itself.
local function is_plain(frame, within_library)
  return find(frame, "^%s*%[C%]") or find(frame, "stdin:%d+: in main chunk")
    or not within_library and (find(frame, "/cld/[%w_/]+%.lua:%d") or find(frame, "^%s*%(%.%.%.tail calls"))
end

-- The traceback without the session's own frames, and without any if none of the others is a person's.
local function trim(message)
  local head, trace = match(message, "^(.-)\nstack traceback:\n(.*)$")
  if not head then return message end
  local frames = {}
  for frame in gmatch(trace, "[^\n]+") do
    if find(frame, "cld/repl%.lua:%d") then break end
    frames[#frames + 1] = frame
  end
  if #frames > 0 and find(frames[#frames], "^%s*%[C%]") then frames[#frames] = nil end -- terminal.call
  local plain, within_library = true, find(head, "^[^:]*/cld/[%w_/]+%.lua:%d")
  for _, frame in ipairs(frames) do plain = plain and is_plain(frame, within_library) end
  return plain and head or head .. "\nstack traceback:\n" .. concat(frames, "\n")
end

local function print_results(...)
  local results = pack(...)
  rawset(_G, "_", results[1])
  print(printable(show.results(results)))
end

local function evaluate(terminal, f)
  local outcome = pack(terminal.call(f))
  if outcome[1] and outcome.n > 1 then
    outcome = pack(terminal.call(print_results, unpack(outcome, 2, outcome.n)))
  end
  if not outcome[1] then
    stdout:flush()
    complain(trim(outcome[2]))
  end
end

-- ---- the session -----------------------------------------------------------------------------------------------

-- cld as a global, and a line about the device; the interpreter has printed the version.
local function load_cld()
  local _ <close> = c_locale()
  local ok, cld = pcall(require, "cld")
  if not ok then return complain(tostring(cld)) end
  rawset(_G, "cld", cld)
  rawset(_G, "help", cld.help)
  local threads = cld.get_num_threads()
  print(printable(format("cpu: %s, %d %s", cld.host().cpu, threads, threads == 1 and "thread" or "threads")))
  for i, gpu in ipairs(cld.cuda.is_emulated() and {} or cld.cuda.devices() or {}) do
    print(format("cuda:%d: %s, %.0f GiB", i - 1, gpu.name, gpu.memory / 2^30))
  end
end

local told_about_locals = false

local function tell_about_locals(text)
  if told_about_locals or not find(text, "^%s*local%s") or find(text, "\n") then return end
  told_about_locals = true
  print("(a local lives as long as the line it is typed in; without `local` the value stays)")
end

-- From one prompt to the next; false at the end of the input.
local function turn(terminal, path)
  local f, text = read_chunk(terminal, path)
  if f then
    evaluate(terminal, f)
    tell_about_locals(text)
  end
  return f ~= nil
end

return function(open_terminal)
  local terminal = open_terminal(complete.at)
  local path = terminal.editing and history_path(terminal) or nil
  load_cld()
  pcall(load_history, terminal, path)
  local failures = 0
  repeat
    local ok, going_on = pcall(turn, terminal, path)
    failures = ok and 0 or failures + 1
    if not ok then pcall(complain, tostring(going_on)) end
  until ok and not going_on or failures == FAILURES
  print()
end
