--- A real Slurm on this machine: its controller, and two nodes with their own names, each of which claims to have 16
-- cores and 8 GPUs. The scripts of recipes/cluster/ run under it, at a small size. Only root can start it. It is
-- configured in the build folder, touches nothing in /etc, and ends with the check.
local jobs = require "spec.ranks.jobs"
local trainings = require "spec.ranks.trainings"

local slurm = {}

local TOLERANCE = 1e-8
local LONG = 900 -- seconds that a run may take at most
local LIMIT = 150 -- seconds in which Slurm must warn of a limit of one minute

-- ---- Slurm --------------------------------------------------------------------------------------------------------

local CONFIGURATION = [[
ClusterName=check
SlurmctldHost=HOST(127.0.0.1)
SlurmctldPort=17817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=DIR/munge.socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation=DIR/state
SlurmdSpoolDir=DIR/spool/%n
SlurmctldPidFile=DIR/slurmctld.pid
SlurmdPidFile=DIR/slurmd-%n.pid
SlurmctldLogFile=DIR/slurmctld.log
SlurmdLogFile=DIR/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
GresTypes=gpu
NodeName=n1 NodeHostname=HOST NodeAddr=127.0.0.1 Port=17821 CPUs=16 CoresPerSocket=16 RealMemory=1000 Gres=gpu:8
NodeName=n2 NodeHostname=HOST NodeAddr=127.0.0.1 Port=17822 CPUs=16 CoresPerSocket=16 RealMemory=1000 Gres=gpu:8
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
]]

-- PMIx's folder for a job has the same name on all nodes, so each node has its own folder there.
local START = [[
cd DIR && mkdir -p state spool/n1 spool/n2 pmix pmix-n1 pmix-n2 && touch gpu0 gpu1 gpu2 gpu3 gpu4 gpu5 gpu6 gpu7
echo 'Name=gpu File=DIR/gpu[0-7]' >gres.conf
echo 'PMIxCliTmpDirBase=DIR/pmix' >mpi.conf
head -c 1024 /dev/urandom >munge.key && chmod 400 munge.key
munged --force --key-file=DIR/munge.key --socket=DIR/munge.socket --log-file=DIR/munged.log --pid-file=DIR/munged.pid \
  --seed-file=DIR/munged.seed >munged.out 2>&1 && slurmctld -c || exit 1
for n in n1 n2; do
  unshare --mount --uts sh -c "hostname $n && mount --bind DIR/pmix-$n DIR/pmix && exec slurmd -N $n" || exit 1
done]]

local STOP = [[scancel --user root 2>/dev/null; sleep 1
kill $(cat DIR/slurmd-n1.pid DIR/slurmd-n2.pid DIR/slurmctld.pid DIR/munged.pid) 2>/dev/null]]

local Slurm = {}
Slurm.__index = Slurm

local function at(folder, text) return (text:gsub("DIR", function() return folder end)) end

-- With PMIx's store in shared memory, one start in sixty failed with two nodes on one machine; with the other store
-- none did.
local ENVIRONMENT = "SLURM_CONF=%s/slurm.conf OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
  .. " PMIX_MCA_gds=hash"

local function bring_up(folder)
  local path = jobs.output("cd " .. folder .. " && pwd -P")
  local self = setmetatable({ folder = path, environment = ENVIRONMENT:format(path) }, Slurm)
  local file = assert(io.open(path .. "/slurm.conf", "w"))
  file:write((at(path, CONFIGURATION):gsub("HOST", (jobs.output "hostname"))))
  file:close()
  jobs.must(("export %s\n%s"):format(self.environment, at(path, START)))
  local up = jobs.wait(20, function() return self:ask "sinfo -h -o '%D %t'" == "2 idle" end)
  if not up then
    self:take_down()
    error("Slurm did not come up; its logs are in " .. path, 0)
  end
  return self
end

function Slurm:ask(command) return jobs.output(("%s %s 2>&1"):format("export " .. self.environment .. ";", command)) end
function Slurm:take_down() self:ask(at(self.folder, STOP)) end

function Slurm:start(command)
  return jobs.start { folder = self.folder, command = ("export %s; %s"):format(self.environment, command) }
end

-- ---- batch jobs ---------------------------------------------------------------------------------------------------

local small = "--ntasks-per-node=2 --gpus-per-node=2 --cpus-per-task=1"

-- Submits recipes/cluster/<script> with the training's settings: {id =, log = path}.
function Slurm:submit(script, training, options)
  local words = {}
  for name, value in pairs(trainings.settings(training, "--print-every 0")) do
    words[#words + 1] = name .. "=" .. jobs.quote(value)
  end
  local log = ("%s/%s.log"):format(self.folder, training.name)
  local answer = self:ask(("env %s sbatch --parsable --job-name=%s --output=%s %s %s recipes/cluster/%s"):format(
    table.concat(words, " "), training.name, log, small, options or "", script))
  local id = answer:match "^%d+$"
  if not id then error(("sbatch %s: %s"):format(script, answer), 0) end
  return { id = id, log = log }
end

function Slurm:state(job) return self:ask(("scontrol show job %s"):format(job.id)):match "JobState=(%S+)" end

local function has(job, words) return jobs.read(job.log):find(words) ~= nil end

-- A problem as text, with the job's log.
local function failed(problem, job)
  return ("%s\n    %s"):format(problem, (jobs.read(job.log):sub(-2500):gsub("\n", "\n    ")))
end

-- SIGUSR1 as Slurm's warning in the middle of the training; the script requeues the job, which continues to the end.
local function warned(self, script, options, signal)
  local t = self.training(script:match "^%w+" .. (options or ""):gsub("%W", ""))
  local job = self:submit(script, t, options)
  if not jobs.wait(LONG, function() return has(job, "epoch 1/") end) then return failed("did not begin", job) end
  self:ask(("scancel --signal=USR1 %s %s"):format(signal, job.id))
  if not jobs.wait(30, function() return has(job, "interrupted %(SIGUSR1%)") end) then
    return failed("did not stop with a checkpoint", job)
  end
  if not jobs.wait(LONG, function() return has(job, "\ndone: ") end) then return failed("did not go on", job) end
  if not has(job, "\nresumed from ") then return failed("was not resumed", job) end
  return self.compare(t)
end

-- ---- what is checked ----------------------------------------------------------------------------------------------

local cases = {
  { "srun --mpi=pmix -n 2 computes what one process does", function(self)
    local t = self.training "pmix"
    local job = self:start(("srun --mpi=pmix -N 1 -n 2 %s"):format(trainings.command(t, 1)))
    if job:finish(LONG) ~= 0 then return "failed\n" .. job:told() end
    return self.compare(t)
  end },

  { "two nodes with two ranks each do", function(self)
    local t = self.training "nodes"
    local job = self:start(("srun --mpi=pmix -N 2 --ntasks-per-node=2 %s"):format(trainings.command(t, 1)))
    if job:finish(LONG) ~= 0 then return "failed\n" .. job:told() end
    if not job:out():find "4 ranks on 2 machines" then return "does not say that these are 4 ranks on 2 machines" end
    return self.compare(t)
  end },

  { "srun without PMIx is told how to start", function(self)
    for _, how in ipairs { "", "--mpi=pmi2" } do
      local job = self:start(("srun %s -N 1 -n 2 %s"):format(how, trainings.command(self.training "none", 1)))
      local code = job:finish(LONG)
      print("  " .. (job:err():match "[^\n]+" or "(nothing)"))
      local words = "^cldlua: srun has started 2 processes .* Start them with `srun %-%-mpi=pmix`"
      if code == 0 or not job:err():find(words) then
        return "the first line of standard error does not say it\n" .. job:told()
      end
    end
  end },

  { "a killed rank ends the step, in a line that names it", function(self)
    local t = self.training "killed"
    local job = self:start(("srun --mpi=pmix -N 2 --ntasks-per-node=2 %s"):format(trainings.command(t, 1)))
    jobs.wait(LONG, function() return job:out():find "epoch 1/" or job:code() end)
    local pid = job:ranks()[3]
    if not pid then return "there is no rank 3\n" .. job:told() end
    os.execute("kill -9 " .. pid)
    local since = jobs.clock()
    if (job:finish(30) or 0) == 0 then return "did not end, or well\n" .. job:told() end
    print(("  %s\n  after %.1f s"):format(job:err():match "cldlua[^\n]*" or "(nothing)", jobs.clock() - since))
    if not job:err():find "cldlua: rank 3 on n2 has died" then return "no line names the rank\n" .. job:told() end
  end },

  { "slurm.sbatch on one node: warned, requeued, to the end", function(self)
    return warned(self, "slurm.sbatch", "--nodes=1", "")
  end },
  { "slurm.sbatch on two", function(self) return warned(self, "slurm.sbatch", "--nodes=2", "") end },
  { "slurm_mpirun.sbatch on one node", function(self)
    return warned(self, "slurm_mpirun.sbatch", "--nodes=1", "--batch")
  end },
  { "slurm_mpirun.sbatch on two", function(self)
    return warned(self, "slurm_mpirun.sbatch", "--nodes=2", "--batch")
  end },

  { "a run that Slurm has warned goes on with another number of ranks", function(self)
    local t = self.training "elastic"
    local job = self:submit("slurm.sbatch", t, "--nodes=1")
    if not jobs.wait(LONG, function() return has(job, "epoch 1/") end) then return failed("did not begin", job) end
    self:ask(("scancel --signal=USR1 %s"):format(job.id))
    if not jobs.wait(30, function() return has(job, "interrupted %(SIGUSR1%)") end) then
      return failed("did not stop", job)
    end
    jobs.wait(10, function() return self:state(job) == "PENDING" end)
    self:ask("scancel " .. job.id)
    job = self:submit("slurm.sbatch", t, "--ntasks-per-node=3")
    if not jobs.wait(LONG, function() return has(job, "\ndone: ") end) then return failed("did not go on", job) end
    return self.compare(t)
  end },

  { "the warning before a time limit comes, and the run goes on", function(self)
    local t = self.training "limit"
    local job = self:submit("slurm.sbatch", t, "--time=1 --signal=USR1@20 --export=ALL,OPTIONS=" .. jobs.quote(
      trainings.settings(t, "--epochs 100000").OPTIONS))
    if not jobs.wait(LIMIT, function() return has(job, "interrupted %(SIGUSR1%)") end) then
      return failed("no warning", job)
    end
    local resumed = jobs.wait(60, function() return has(job, "\nresumed from ") end)
    self:ask("scancel " .. job.id)
    return not resumed and failed("was not resumed", job) or nil
  end },
}

--- run{build =}
function slurm.run(options, report)
  if jobs.output "id -u" ~= "0" then
    return print "skipped  slurm: only root may start it so (sudo make ranks-check)"
  end
  for _, program in ipairs { "munged", "slurmctld", "slurmd", "srun", "sbatch", "mpirun" } do
    if jobs.output("command -v " .. program) == "" then
      return print(("skipped  slurm: there is no %s here (apt install slurm-wlm munge openmpi-bin)"):format(program))
    end
  end
  local self = bring_up(jobs.folder(options.build .. "/ranks/slurm"))
  local _ <close> = setmetatable({}, { __close = function() self:take_down() end })
  if not self:ask "srun --mpi=list":find "pmix" then
    return print "skipped  slurm: this Slurm was built without PMIx"
  end
  local runs = self.folder .. "/runs"
  function self.training(name)
    return { build = options.build, method = "mocov2", wide = true, runs = runs, name = name }
  end
  local alone = jobs.start { folder = self.folder, command = trainings.command(self.training "alone", 1) }
  if alone:finish(LONG) ~= 0 then error(alone:told(), 0) end
  function self.compare(t)
    local path = runs .. "/%s/checkpoint.safetensors"
    return trainings.difference(path:format "alone", path:format(t.name), TOLERANCE)
  end
  for _, case in ipairs(cases) do report("slurm: " .. case[1], case[2](self)) end
end

return slurm
