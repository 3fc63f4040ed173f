--- Child processes of a check: jobs that run beside it, their ranks by process id, and their output.
--
-- A job's processes are recognized by a variable in their environment, so that none is missed and no other process is
-- matched, whatever started them (mpirun, srun's daemon, a shell on another "host"), and even if their parent has
-- ended.
local cld = require "cld"
local system = require "cld.core".system

local jobs = {}
local MARK = "CLD_RANKS_CHECK"

function jobs.quote(text) return "'" .. tostring(text):gsub("'", "'\\''") .. "'" end

function jobs.read(path)
  local file = io.open(path, "rb")
  if not file then return "" end
  local text = file:read "a"
  file:close()
  return text
end

--- What a shell command prints, without the last newline, and whether it succeeded.
function jobs.output(command)
  local pipe = assert(io.popen(command, "r"))
  local text = pipe:read "a"
  local ok = pipe:close()
  return (text:gsub("\n$", "")), ok == true
end

--- Runs a shell command that must succeed.
function jobs.must(command)
  local text, ok = jobs.output("{ " .. command .. "\n} 2>&1")
  if not ok then error(("failed: %s\n%s"):format(command, text), 0) end
  return text
end

jobs.clock = system.clock
function jobs.sleep(seconds) if seconds > 0 then os.execute(("sleep %.3f"):format(seconds)) end end

--- Waits until f() is true, at most `seconds` seconds; returns what f returned.
function jobs.wait(seconds, f)
  local till = jobs.clock() + seconds
  while true do
    local result = f()
    if result or jobs.clock() >= till then return result end
    jobs.sleep(0.02)
  end
end

local Job = {}
Job.__index = Job
local count = 0
local us = jobs.output "echo $PPID"

--- start{command = shell command, folder = for its output} -> job; .out and .err are its output so far. Runs at low
-- priority, because a check of this kind is long.
function jobs.start(options)
  count = count + 1
  local self = setmetatable({ id = ("%s-%d"):format(us, count), began = jobs.clock() }, Job)
  self.path = ("%s/job-%d"):format(options.folder, count)
  jobs.must(("rm -f %s.*"):format(self.path))
  local inner = ("%s; echo $? >%s.new; mv %s.new %s.code"):format(options.command, self.path, self.path, self.path)
  local line = ("%s=%s nice -n 10 setsid bash -c %s </dev/null >%s.out 2>%s.err & echo $!"):format(MARK, self.id,
    jobs.quote(inner), self.path, self.path)
  self.shell = jobs.output(line)
  return self
end

function Job:out() return jobs.read(self.path .. ".out") end
function Job:err() return jobs.read(self.path .. ".err") end

--- The exit status, or nil while it runs.
function Job:code() return tonumber(jobs.read(self.path .. ".code")) end

local function variable(pid, name)
  return ("\0" .. jobs.read(("/proc/%s/environ"):format(pid))):match("%z" .. name .. "=(%d+)%z")
end

--- The job's cldlua processes that train, {[rank] = process id}; a single one is rank 0.
function Job:ranks(world)
  local found = {}
  local list = jobs.output(("grep -lzsx '%s=%s' /proc/[0-9]*/environ"):format(MARK, self.id))
  for pid in list:gmatch "/proc/(%d+)/" do
    local rank = variable(pid, "OMPI_COMM_WORLD_RANK") or variable(pid, "PMIX_RANK") or world == 1 and "0"
    if rank and jobs.read(("/proc/%s/comm"):format(pid)) == "cldlua\n" then found[tonumber(rank)] = pid end
  end
  return found
end

--- Waits until no rank is left, at most `seconds` seconds; returns whether that happened.
function Job:ranks_gone(seconds, world)
  return jobs.wait(seconds, function() return next(self:ranks(world)) == nil end)
end

--- Kills what is left of it.
function Job:kill()
  local list = jobs.output(("grep -lzsx '%s=%s' /proc/[0-9]*/environ"):format(MARK, self.id))
  for pid in list:gmatch "/proc/(%d+)/" do os.execute(("kill -9 %s 2>/dev/null"):format(pid)) end
end

--- Waits for its end: its exit status, or nil after `seconds` seconds.
function Job:finish(seconds) return jobs.wait(seconds, function() return self:code() end) end

--- Its output, for people.
function Job:told()
  local text = (self:out():sub(-1500) .. self:err():sub(-3000)):gsub("\n", "\n    ")
  return ("  job %s, exit status %s:\n    %s"):format(self.path, self:code() or "none", text)
end

--- An empty folder for a check's files.
function jobs.folder(path)
  jobs.must(("rm -rf %s && mkdir -p %s"):format(jobs.quote(path), jobs.quote(path)))
  return path
end

jobs.exists = cld.io.exists
return jobs
