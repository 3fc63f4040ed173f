--- Programs as a user runs them: a child process with its output and exit code, or a session on a terminal.
local process = {}

-- The interpreter that runs these specs, so that `make asan` tests its own.
local function interpreter()
  local i = 0
  while arg[i - 1] do i = i - 1 end
  return arg[i]
end

process.cldlua = interpreter()
process.build = process.cldlua:match("^(.*)/[^/]*$") or "build"

-- Under the sanitizers everything takes several times as long.
local slower = process.build:find "asan" and 4 or 1
local function seconds(options) return slower * (options.timeout or 60) end

--- An absolute path.
function process.absolute(path)
  return path:sub(1, 1) == "/" and path or os.getenv("PWD") .. "/" .. path
end

-- Seconds of processor time that a program, and each program that it starts, may use per second of its time-out: all
-- threads of a large machine may be busy.
local most_cpu = 20

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

local function read_and_remove(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  os.remove(path)
  return text
end

--- What a stock Lua must preload: with AddressSanitizer the sanitizer's runtime must be loaded before the module.
function process.sanitizer()
  local pipe = assert(io.popen(("ldd '%s' | sed -n 's/.*=> \\(.*libasan[^ ]*\\).*/\\1/p'"):format(process.cldlua)))
  local path = pipe:read("l")
  pipe:close()
  return path
end

--- A new folder; remove it with process.remove.
function process.temporary_folder()
  local pipe = assert(io.popen("mktemp -d /tmp/cld-spec.XXXXXX"))
  local path = pipe:read("l")
  pipe:close()
  return assert(path, "mktemp made no folder")
end

function process.remove(path)
  assert(path:match("^/tmp/cld%-spec%.%w+$"), "not a folder of ours: " .. path)
  os.execute("rm -rf " .. quote(path))
end

function process.write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

function process.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

-- The command line for `options`; `wrapper` goes in front of the program. A program that treats SIGTERM as a request is
-- killed, and any process that it leaves behind ends when its processor time is used up.
local function command_line(options, wrapper)
  local timeout = seconds(options)
  local words = { "env --default-signal" } -- whatever the specs themselves were started with
  for _, name in ipairs(options.unset or {}) do words[#words + 1] = "-u " .. name end
  for name, value in pairs(options.env or {}) do words[#words + 1] = name .. "=" .. quote(value) end
  words[#words + 1] = ("timeout --foreground --kill-after=2 %g"):format(timeout)
  words[#words + 1] = wrapper
  words[#words + 1] = quote(options.program or process.cldlua)
  for _, argument in ipairs(options) do words[#words + 1] = quote(argument) end
  local line = ("ulimit -t %d 2>/dev/null; %s"):format(most_cpu * timeout // 1, table.concat(words, " "))
  return options.directory and ("cd %s && { %s; }"):format(quote(options.directory), line) or line
end

local function execute(line, input)
  local stdin, out, err = os.tmpname(), os.tmpname(), os.tmpname()
  process.write(stdin, input)
  local _, how, code = os.execute(("{ %s; } <%s >%s 2>%s"):format(line, stdin, out, err))
  os.remove(stdin)
  return { code = how == "signal" and 128 + code or code, out = read_and_remove(out), err = read_and_remove(err) }
end

--- The environment of a program with the file system of failing_files.c: `orders` are the variables that control it.
function process.failing_files(orders)
  local env = { LD_PRELOAD = process.absolute(process.build .. "/spec/failing_files.so") }
  for name, value in pairs(orders) do env[name] = value end
  -- AddressSanitizer must be the first library that is loaded; this turns that check off.
  env.ASAN_OPTIONS = (os.getenv "ASAN_OPTIONS" or "") .. ":verify_asan_link_order=0"
  return env
end

--- Runs {arguments..., program =, env = {}, unset = {}, stdin = "", directory =, timeout = 60 seconds}. Returns {code,
-- out, err}. If killed by a signal, the code is 128 + signal, as in a shell; 124 on time-out, 137 if it did not end
-- even then.
function process.run(options) return execute(command_line(options), options.stdin or "") end

--- Runs the same on a pseudo-terminal (see pty.c), with TERM=xterm unless env sets another; `script` is a list of its
-- steps as { kind, text }. Returns {code, out, err, plain}: out as the terminal received it, plain without control
-- sequences; err says which step failed.
function process.terminal(options)
  local script = {}
  for i, step in ipairs(options.script) do
    script[i] = step[1] .. " " .. step[2]:gsub("[%c\\]", function(c) return ("\\x%02x"):format(c:byte()) end)
  end
  options.env = options.env or {}
  options.env.TERM = options.env.TERM or "xterm"
  local pty = ("%s -t %g"):format(quote(process.build .. "/spec/pty"), seconds(options) - 1)
  local result = execute(command_line(options, pty), table.concat(script, "\n") .. "\n")
  result.plain = result.out:gsub("\27%[[%d;?]*%a", ""):gsub("\27[()=>]%w?", ""):gsub("[\r\0]", "")
  return result
end

return process
