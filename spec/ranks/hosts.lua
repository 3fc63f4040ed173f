--- Two machines made of namespaces, each with its own network, name and two ranks, connected by one link. mpirun starts
-- its daemon on the other one with our own agent instead of ssh. Only root can make them.
local jobs = require "spec.ranks.jobs"
local trainings = require "spec.ranks.trainings"

local hosts = {}

local TOLERANCE = 1e-8
local SILENCE = 30  -- seconds after which a rank that is not heard is given up, unless --timeout is shorter
local TIMEOUT = 5   -- seconds, if that option is given
local SOON = 40     -- seconds beyond these in which a broken job must be over, including mpirun's delay
local LONG = 900    -- seconds that a run may take at most

-- ---- the machines -------------------------------------------------------------------------------------------------

-- A machine lives as long as its first process, which sleeps.
local HOLDER = [[unshare --net --uts sh -c 'hostname %s && ip link set lo up && echo $$ >%s/%s.new && mv %s/%s.new %s/%s
exec sleep 100000' </dev/null >/dev/null 2>&1 &]]

local AGENT = [[#!/bin/sh
# agent HOST COMMAND...: as ssh, on a machine of namespaces
host=$1
shift
exec nsenter -t "$(cat %s/$host)" --net --uts sh -c "$*"
]]

local Hosts = {}
Hosts.__index = Hosts

local function bring_up(folder)
  local self = setmetatable({ folder = folder, pids = {} }, Hosts)
  for i, name in ipairs { "cld-one", "cld-two" } do
    os.execute(HOLDER:format(name, folder, name, folder, name, folder, name))
    local pid = jobs.wait(5, function() return jobs.read(folder .. "/" .. name):match "%d+" end)
    if not pid then error("no new namespaces here", 0) end
    self.pids[i] = pid
  end
  local one, two = table.unpack(self.pids)
  jobs.must(("nsenter -t %s --net ip link add wire type veth peer name wire netns %s"):format(one, two))
  for i, pid in ipairs(self.pids) do
    jobs.must(("nsenter -t %s --net sh -c 'ip addr add 10.77.0.%d/24 dev wire && ip link set wire up'"):format(pid, i))
  end
  local agent = assert(io.open(folder .. "/agent", "w"))
  agent:write(AGENT:format(folder))
  agent:close()
  jobs.must(("chmod +x %s/agent && printf 'cld-one slots=2\\ncld-two slots=2\\n' >%s/hostfile"):format(folder, folder))
  return self
end

function Hosts:on(i, command)
  return jobs.must(("nsenter -t %s --net --uts sh -c %s"):format(self.pids[i], jobs.quote(command)))
end

-- The processes of a machine, except its first one.
function Hosts:processes(i)
  local list = jobs.output(([[for p in /proc/[0-9]*; do
    [ "$(readlink $p/ns/net)" = "$(readlink /proc/%s/ns/net)" ] && echo ${p#/proc/}; done 2>/dev/null]]):format(
    self.pids[i]))
  local others = {}
  for pid in list:gmatch "%d+" do if pid ~= self.pids[i] then others[#others + 1] = pid end end
  return others
end

function Hosts:kill_all(i)
  for _, pid in ipairs(self:processes(i)) do os.execute(("kill -9 %s 2>/dev/null"):format(pid)) end
end

function Hosts:take_down()
  for i, pid in ipairs(self.pids) do
    self:kill_all(i)
    os.execute(("kill -9 %s 2>/dev/null"):format(pid))
  end
end

-- By recipes/cluster/mpirun.sh, unchanged.
function Hosts:start(training, more)
  local settings = {
    HOSTFILE = self.folder .. "/hostfile", OMPI_MCA_plm_rsh_agent = self.folder .. "/agent", OMPI_ALLOW_RUN_AS_ROOT = 1,
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM = 1,
  }
  for name, value in pairs(trainings.settings(training, more)) do settings[name] = value end
  local words = {}
  for name, value in pairs(settings) do words[#words + 1] = name .. "=" .. jobs.quote(value) end
  local command = ("nsenter -t %s --net --uts env %s sh recipes/cluster/mpirun.sh"):format(self.pids[1],
    table.concat(words, " "))
  return jobs.start { folder = self.folder, command = command }
end

-- ---- what is checked ----------------------------------------------------------------------------------------------

local function failed(problem, job) return problem .. "\n" .. job:told() end

-- Waits until the training is under way on the two machines.
local function wait_for_steps(job)
  return jobs.wait(LONG, function() return job:code() or job:out():find "\n[^\n]*epoch 1/" end) and not job:code()
end

-- The job ends soon, with an error, and one line names a rank of the second machine. Its run continues on one machine.
local function ends(self, training, job, words, wait)
  local since = jobs.clock()
  if not job:ranks_gone(wait + SOON) then return failed("ranks are left", job) end
  local left = jobs.clock() - since
  local code = job:finish(wait + SOON)
  if not code then return failed("mpirun has not ended", job) end
  if code == 0 then return failed("exit status 0", job) end
  local lines = {}
  for line in job:err():gmatch "[^\r\n]+" do if line:find "^cldlua" then lines[#lines + 1] = line end end
  if #lines ~= 1 or not lines[1]:find(words) then return failed("expected one line that names the rank", job) end
  print(("  %s\n  the ranks had left after %.1f s, mpirun after %.1f s"):format(lines[1], left, jobs.clock() - since))
  local last = jobs.start { folder = self.folder, command = trainings.command(training, 2) .. " --resume" }
  if last:finish(LONG) ~= 0 then return failed("the run that was to go on failed", last) end
  return self.compare(training)
end

local cases = {}

cases["two machines compute what one process does"] = function(self, training)
  local job = self:start(training)
  if job:finish(LONG) ~= 0 then return failed("failed", job) end
  if not job:out():find "4 ranks on 2 machines" then print "  (no line says that these are 4 ranks on 2 machines)" end
  return self.compare(training)
end

cases["a machine's processes are killed"] = function(self, training)
  local job = self:start(training)
  if not wait_for_steps(job) then return failed("did not begin", job) end
  self:kill_all(2)
  return ends(self, training, job, "^cldlua: rank [23] on cld%-two has died", 0)
end

cases["a machine is cut off"] = function(self, training)
  local job = self:start(training)
  if not wait_for_steps(job) then return failed("did not begin", job) end
  self:on(2, "ip link set wire down")
  local problem = ends(self, training, job, "^cldlua: rank [23] on cld%-two has not been heard from", SILENCE)
  self:on(2, "ip link set wire up")
  self:kill_all(2) -- mpirun's daemon there
  return problem
end

cases["a machine stands still"] = function(self, training)
  local job = self:start(training, "--timeout " .. TIMEOUT)
  if not wait_for_steps(job) then return failed("did not begin", job) end
  local stopped = self:processes(2)
  for _, pid in ipairs(stopped) do os.execute(("kill -STOP %s"):format(pid)) end
  jobs.sleep(TIMEOUT + 5)
  for _, pid in ipairs(stopped) do os.execute(("kill -CONT %s 2>/dev/null"):format(pid)) end
  return ends(self, training, job, "^cldlua: rank [23] on cld%-two has not been heard from", 0)
end

-- netem is not in every kernel, so the link is made narrow.
cases["a machine is slow to reach"] = function(self, training)
  local job = self:start(training)
  if not wait_for_steps(job) then return failed("did not begin", job) end
  local since = jobs.clock()
  self:on(2, "tc qdisc add dev wire root netem delay 10ms 2>/dev/null"
    .. " || tc qdisc add dev wire root tbf rate 8mbit burst 16kbit latency 200ms")
  local code = job:finish(LONG)
  local queue = self:on(2, "tc qdisc show dev wire"):match "qdisc (.*%S)"
  print(("  %s; went on for %.1f s"):format(queue, jobs.clock() - since))
  self:on(2, "tc qdisc del dev wire root")
  if code ~= 0 then return failed("did not go on to its end", job) end
  return self.compare(training)
end

local order = { "two machines compute what one process does", "a machine is slow to reach",
  "a machine's processes are killed", "a machine stands still", "a machine is cut off" }

--- run{build =}
function hosts.run(options, report)
  if jobs.output "id -u" ~= "0" then
    return print "skipped  hosts: only root may make network namespaces (sudo make ranks-check)"
  end
  for _, program in ipairs { "mpirun", "unshare", "nsenter", "ip", "tc" } do
    if jobs.output("command -v " .. program) == "" then
      local packages = "openmpi-bin util-linux iproute2"
      return print(("skipped  hosts: there is no %s here (apt install %s)"):format(program, packages))
    end
  end
  local self = bring_up(jobs.folder(options.build .. "/ranks/hosts"))
  local _ <close> = setmetatable({}, { __close = function() self:take_down() end })
  local runs = self.folder .. "/runs"
  local function training(name)
    return { build = options.build, method = "mocov2", wide = true, runs = runs, name = name }
  end
  local alone = jobs.start { folder = self.folder, command = trainings.command(training "alone", 1) }
  if alone:finish(LONG) ~= 0 then error(alone:told(), 0) end
  function self.compare(t)
    local path = runs .. "/%s/checkpoint.safetensors"
    return trainings.difference(path:format "alone", path:format(t.name), TOLERANCE)
  end
  for i, name in ipairs(order) do report("hosts: " .. name, cases[name](self, training("case-" .. i))) end
end

return hosts
