--- Trainings of 2 and 3 ranks that are killed at random: kill -9 of a random rank at a random moment, or a signal that
-- asks the run to stop. Then they are resumed, perhaps disturbed again, until they are finished. Their last checkpoint
-- must equal that of an undisturbed training: to the bit with the same number of ranks, and in f64 to 1e-8 if resumed
-- with another number.
--
-- The random choices follow from a trial's seed; the moments are fractions of the time that the undisturbed run took.
local jobs = require "spec.ranks.jobs"
local trainings = require "spec.ranks.trainings"

local kills = {}

local TOLERANCE = 1e-8
local SOON = 10     -- seconds in which all ranks must leave after one is killed
local LONG = 900    -- seconds that a run may take at most
local MOST = 6      -- disturbances per training

-- ---- random choices -----------------------------------------------------------------------------------------------

local function pick(list) return list[math.random(#list)] end

local function draw_disturbance(world, elastic)
  local stop = math.random() < 0.25
  return {
    share = 1.02 * math.random(), rank = math.random(0, world - 1),
    signal = stop and pick { "USR1", "TERM", "INT" } or nil,
    to = stop and pick { "rank", "launcher" } or "rank",
    next_world = elastic and math.random(1, 3) or world, again = math.random() < 0.65,
  }
end

local function draw(seed, options)
  math.randomseed(seed)
  local elastic = math.random() < options.elastic
  local trial = {
    seed = seed, method = pick(trainings.names), wide = elastic, world = math.random(2, 3), workers = math.random(0, 1),
    by_mpirun = math.random() < 0.3, disturbances = {},
  }
  local world = trial.world
  for i = 1, MOST do
    local d = draw_disturbance(world, elastic)
    trial.disturbances[i] = d
    world = d.next_world
    if not d.again then break end
  end
  return trial
end

-- ---- runs ---------------------------------------------------------------------------------------------------------

local function training_of(trial, self, name)
  return { build = self.build, method = trial.method, wide = trial.wide, workers = trial.workers, runs = self.runs,
    name = name, epochs = trial.wide and 4 or 10 }
end

local function start(self, training, world, by_mpirun, resume)
  local command = trainings.command(training, world, by_mpirun) .. (resume and " --resume" or "")
  return jobs.start { command = command, folder = self.folder }
end

-- The checkpoint of an undisturbed training, and how long it takes.
local function reference(self, trial)
  local name = ("%s-%d%s"):format(trial.method, trial.world, trial.wide and "-f64" or "")
  if not self.references[name] then
    local job = start(self, training_of(trial, self, name), trial.world, false)
    if job:finish(LONG) ~= 0 then error("a training that nobody disturbed failed\n" .. job:told(), 0) end
    local path = ("%s/%s/checkpoint.safetensors"):format(self.runs, name)
    self.references[name] = { seconds = jobs.clock() - job.began, path = path }
  end
  return self.references[name]
end

-- ---- messages -----------------------------------------------------------------------------------------------------

-- The lines of cldlua itself.
local function lines_of(job)
  local lines = {}
  for line in job:err():gmatch "[^\r\n]+" do
    if line:find "^cldlua" then lines[#lines + 1] = line end
  end
  return lines
end

local function count(self, what)
  self.told[what] = (self.told[what] or 0) + 1
end

-- Lines that differ only by rank or host count as the same.
local function kind_of(line)
  return (line:gsub("rank %d", "rank R"):gsub(" on %S+ ([hw]a)", " on HOST %1"):gsub("%f[%d]%d%d+%f[%D]", "N"))
end

-- After a kill -9, a job that had begun to train must print one line, which names the rank. mpirun may pass it on a
-- moment after the ranks have left.
local function check_words(self, job, rank, had_begun)
  jobs.wait(SOON, function() return #lines_of(job) > 0 or job:code() end)
  local lines = lines_of(job)
  for _, line in ipairs(lines) do count(self, kind_of(line)) end
  local out = job:out()
  local through = (out:find "\ndone: " or out:find "nothing is left to do") ~= nil
  if #lines == 0 then
    count(self, not had_begun and "(nothing, before its first line)" or through and "(nothing, at its end)"
      or "(nothing)")
  end
  if not had_begun or through then return nil end
  if #lines ~= 1 or not lines[1]:find(("^cldlua: rank %d on %%S+ has died"):format(rank)) then
    return ("killed rank %d: expected one line that names it, got %d"):format(rank, #lines)
  end
end

-- ---- a trial ------------------------------------------------------------------------------------------------------

-- Disturbs a job. Returns nil if it came too late, else the kind; and a problem.
local function disturb(self, job, d, world, seconds)
  jobs.sleep(job.began + d.share * seconds - jobs.clock())
  local ranks = job:ranks(world)
  local pid = ranks[d.rank]
  if not pid or job:code() then return nil end
  local had_begun = job:out() ~= "" -- rank 0 has printed the settings
  if d.to == "launcher" then pid = jobs.output("pgrep -P " .. job.shell) end
  if pid == "" then return nil end
  if not select(2, jobs.output(("kill -%s %s 2>&1"):format(d.signal or "9", pid))) then return nil end
  local since = jobs.clock()
  if not job:ranks_gone(d.signal and LONG or SOON, world) then
    return "stuck", ("after SIG%s ranks are left after %.0f s"):format(d.signal or "KILL", jobs.clock() - since)
  end
  self.slowest = math.max(self.slowest, d.signal and 0 or jobs.clock() - since)
  if not d.signal then return "kill", world > 1 and check_words(self, job, d.rank, had_begun) or nil end
  jobs.wait(SOON, function() return job:out():find "interrupted" or job:code() end)
  local line = job:out():match "interrupted %(SIG%w+%)"
  line = line or lines_of(job)[1]
  count(self, ("SIG%s to the %s: %s"):format(d.signal, d.to, line and kind_of(line) or "(nothing)"))
  return "stop"
end

local function shown(trial)
  local words = { trial.method .. (trial.wide and " in f64" or ""), ("%d ranks"):format(trial.world) }
  for _, d in ipairs(trial.disturbances) do
    if d.came then
      local to = d.to == "rank" and "rank " .. d.rank or "the launcher"
      words[#words + 1] = ("SIG%s to %s at %.0f %%"):format(d.signal or "KILL", to, 100 * d.share)
      if d.next_world ~= trial.world then words[#words + 1] = ("then %d ranks"):format(d.next_world) end
    end
  end
  return table.concat(words, ", ")
end

-- A problem as text and the job that had it, or nil.
local function try(self, trial)
  local wanted = reference(self, trial)
  local name = ("trial-%d"):format(trial.seed)
  local training = training_of(trial, self, name)
  jobs.must(("rm -rf %s/%s"):format(self.runs, name))
  local world, begun = trial.world, false
  for _, d in ipairs(trial.disturbances) do
    local job = start(self, training, world, trial.by_mpirun, begun)
    local how, problem = disturb(self, job, d, world, wanted.seconds)
    if problem then job:kill() return problem, job end
    if how == "kill" then self.kills = self.kills + 1 end
    if how == "stop" then self.stops = self.stops + 1 end
    d.came = how ~= nil
    if not how and job:finish(LONG) ~= 0 then return "a run that was not disturbed failed", job end
    begun, world = true, d.next_world
  end
  local last = start(self, training, world, trial.by_mpirun, true)
  if last:finish(LONG) ~= 0 then return "the run that was to go on failed", last end
  local out = last:out()
  if out:find "\nresumed from " and not out:find "nothing is left to do" then self.resumed = self.resumed + 1 end
  local path = ("%s/%s/checkpoint.safetensors"):format(self.runs, name)
  local difference = trainings.difference(wanted.path, path, trial.wide and TOLERANCE or nil)
  if difference then return "the result is another: " .. difference, last end
  jobs.must(("rm -rf %s/%s"):format(self.runs, name))
end

--- run({build =, count = kills, seed =, elastic = share of trials that change the number of ranks}, report)
function kills.run(options, report)
  local folder = jobs.folder(options.build .. "/ranks/kills")
  local self = { build = options.build, folder = folder, runs = folder .. "/runs", references = {}, told = {},
    trials = 0, kills = 0, stops = 0, resumed = 0, slowest = 0 }
  local seed = options.seed
  while self.kills < options.count do
    local trial = draw(seed, options)
    local problem, job = try(self, trial)
    local again = ("again: --only kills --count 1 --seed %d"):format(seed)
    report(("kills, seed %d: %s"):format(seed, shown(trial)),
      problem and ("%s\n%s\n  %s"):format(problem, job and job:told() or "", again))
    seed, self.trials = seed + 1, self.trials + 1
  end
  print(("%d trainings, %d kills, %d stops; the last run of %d went on from a checkpoint; after a kill all ranks had"
    .. " left within %.1f s"):format(self.trials, self.kills, self.stops, self.resumed, self.slowest))
  for what, times in pairs(self.told) do print(("  %4d times: %s"):format(times, what)) end
end

return kills
