--- The interactive session: read, compile, call, print. Returns a function that the interpreter calls with what opens
-- the terminal (bindings/repl.c). An error or Ctrl-C ends what runs, never the session.
local complete = require "cld.repl.complete"
local show = require "cld.repl.show"

local HISTORY_LINES = 1000

local function complain(message) io.stderr:write("cldlua: ", tostring(message), "\n") end

-- ---- history: a text file, a line for each line typed ----------------------------------------------------------

local function history_path(terminal)
  local state, home = os.getenv("XDG_STATE_HOME"), os.getenv("HOME")
  if not state or state == "" then state = home and home ~= "" and home .. "/.local/state" end
  local folder = state and state .. "/cldlua"
  return folder and terminal.make_folder(folder) and folder .. "/history" or nil
end

-- Read what earlier sessions left; the file is cut to its last lines where it has grown to twice what is kept.
local function load_history(terminal, path)
  local file = path and io.open(path)
  if not file then return end
  local lines = {}
  for line in file:lines() do lines[#lines + 1] = line end
  file:close()
  local kept = table.move(lines, math.max(1, #lines - HISTORY_LINES + 1), #lines, 1, {})
  for _, line in ipairs(kept) do terminal.remember(line) end
  if #lines > 2 * HISTORY_LINES then
    pcall(require "cld.core".io.write_atomic, path, table.concat(kept, "\n") .. "\n")
  end
end

local function remember(terminal, path, line)
  if not line:find("%S") then return end
  terminal.remember(line)
  local file = path and io.open(path, "a")
  if not file then return end
  file:write(line, "\n")
  file:close()
end

-- ---- a chunk from one or more lines ----------------------------------------------------------------------------

local function is_incomplete(message) return message:sub(-5) == "<eof>" end

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
  return value == nil and default or tostring(value)
end

-- The next chunk; false where it has an error or was given up; nil at the end of the input.
local function read_chunk(terminal, path)
  local line = terminal.read(prompt("_PROMPT", "> "))
  local text = line
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

-- The traceback without the session's own frames, and without any where only the typed chunk itself is left.
local function trim(message)
  local head, trace = message:match("^(.-)\nstack traceback:\n(.*)$")
  if not head then return message end
  local frames = {}
  for frame in trace:gmatch("[^\n]+") do
    if frame:find("cld/repl%.lua:%d") then break end
    frames[#frames + 1] = frame
  end
  if #frames > 0 and frames[#frames]:find("^%s*%[C%]") then frames[#frames] = nil end -- terminal.call
  local plain = true
  for _, frame in ipairs(frames) do
    plain = plain and (frame:find("^%s*%[C%]") or frame:find("stdin:%d+: in main chunk")) ~= nil
  end
  return plain and head or head .. "\nstack traceback:\n" .. table.concat(frames, "\n")
end

local function print_results(...)
  local results = table.pack(...)
  _G._ = results[1]
  print(show.results(results))
end

local function evaluate(terminal, f)
  local outcome = table.pack(terminal.call(f))
  if outcome[1] and outcome.n > 1 then
    outcome = table.pack(terminal.call(print_results, table.unpack(outcome, 2, outcome.n)))
  end
  if not outcome[1] then
    io.stdout:flush()
    complain(trim(outcome[2]))
  end
end

-- ---- the session -----------------------------------------------------------------------------------------------

-- cld as a global, and a line about the device; the interpreter has printed the version.
local function load_cld()
  local ok, cld = pcall(require, "cld")
  if not ok then return complain(cld) end
  _G.cld = cld
  local threads = cld.get_num_threads()
  print(("cpu: %s, %d %s"):format(cld.host().cpu, threads, threads == 1 and "thread" or "threads"))
end

return function(open_terminal)
  local terminal = open_terminal(complete.at)
  local path = terminal.editing and history_path(terminal) or nil
  load_cld()
  load_history(terminal, path)
  local told_about_locals = false
  while true do
    local f, text = read_chunk(terminal, path)
    if f == nil then break end
    if f then
      evaluate(terminal, f)
      if not told_about_locals and text:find("^%s*local%s") and not text:find("\n") then
        told_about_locals = true
        print("(a local lives as long as the line it is typed in; without `local` the value stays)")
      end
    end
  end
  print()
end
