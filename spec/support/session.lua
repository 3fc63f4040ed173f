--- The interactive session, typed on a pseudo-terminal as a user would.
local process = require "spec.support.process"
local assert = require "luassert"

local typed = {}

local CTRL_D = "\4"

local UNSET = { "XDG_STATE_HOME", "LUA_INIT", "LUA_INIT_5_4", "EDITRC", "LC_ALL", "LC_CTYPE", "ENV" }

local function step_of(step)
  if type(step) == "string" then return { "send", step } end
  if type(step) == "number" then return { "signal", tostring(step) } end
  if step.pause then return { "pause", tostring(step.pause) } end
  return { step[1]:find("> $") and "prompt" or "wait", step[1] }
end

--- Types `steps` at the first prompt of a session whose home folder is `home`, and returns what the terminal showed. A
-- step is a string to send, {text} to wait for, {"> "} or {">> "} to wait for a prompt, a number for a signal, or
-- {pause = seconds}. At the end it waits for a prompt and leaves with Ctrl-D, unless options.leave is false.
function typed.session(home, steps, options)
  options = options or {}
  local script = { { "prompt", "> " } }
  for _, step in ipairs(steps) do script[#script + 1] = step_of(step) end
  if options.leave ~= false then
    script[#script + 1] = { "prompt", "> " }
    script[#script + 1] = { "send", CTRL_D }
  end
  local command = {
    script = script, timeout = 30, env = { HOME = home, TERM = "vt100", LANG = options.lang or "C.UTF-8" },
    unset = UNSET,
  }
  local arguments = options.arguments or {}
  local result = process.terminal(table.move(arguments, 1, #arguments, 1, command))
  assert.are.equal("", result.err, result.plain)
  assert.are.equal(options.code or 0, result.code, result.plain)
  return result.plain
end

--- The same in a shell, which starts cldlua with `command`. Steps are as above and must first wait for the prompt.
function typed.shell(home, arguments, steps)
  local script = {}
  for i, step in ipairs(steps) do script[i] = step_of(step) end
  local result = process.terminal(table.move(arguments, 1, #arguments, 1, {
    script = script, timeout = 30, program = arguments.program, unset = UNSET,
    env = { HOME = home, TERM = "vt100", PS1 = "$ ", CLDLUA = process.absolute(process.cldlua) },
  }))
  assert.are.equal("", result.err, result.plain)
  return result.plain
end

function typed.has(transcript, text)
  assert.is_truthy(transcript:find(text, 1, true), "no '" .. text .. "' in:\n" .. transcript)
end

function typed.has_not(transcript, text)
  assert.is_nil(transcript:find(text, 1, true), "'" .. text .. "' in:\n" .. transcript)
end

return typed
