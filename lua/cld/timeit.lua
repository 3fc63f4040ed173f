--- Measures how long a function takes.
local core = require "cld.core"
local caller = require "cld.caller"
local collect = collectgarbage

local FEWEST, MOST = 3, 1000 -- runs
local SHARE = 50 -- a run takes 1 / SHARE of the given time

local Record = { __name = "cld.timeit" }

-- "1.23 ms"
local function shown(seconds)
  local _ <close> = core.text.c_locale()
  for _, unit in ipairs { { 1, "s" }, { 1e-3, "ms" }, { 1e-6, "us" } } do
    if seconds >= unit[1] then return ("%.3g %s"):format(seconds / unit[1], unit[2]) end
  end
  return ("%.3g ns"):format(seconds * 1e9)
end

function Record:__tostring()
  return ("%s a call, the middle half %s to %s (%d runs of %d %s)"):format(shown(self.seconds), shown(self.low),
    shown(self.high), self.runs, self.calls, self.calls == 1 and "call" or "calls")
end

-- Work queued on a GPU is part of the call that queued it.
local function wait()
  if core.cuda.is_open() then core.cuda.synchronize() end
end

-- Times that many calls, in seconds.
local function measure(f, calls)
  local start = core.system.clock()
  for _ = 1, calls do f() end
  wait()
  return core.system.clock() - start
end

-- The quantile of ordered values for that share, by linear interpolation between two of them.
local function quantile(ordered, share)
  local at = 1 + share * (#ordered - 1)
  local below = math.floor(at)
  local above = math.min(below + 1, #ordered)
  return ordered[below] + (at - below) * (ordered[above] - ordered[below])
end

--- cld.timeit(f[, {seconds = 1}]) -> record: measures how long a call of f() takes; the record prints itself. f is
-- called once first. Then it is called in runs, each with as many calls as take a fiftieth of `seconds`, until that
-- time is over, but in at least three runs. A run ends when a GPU that is in use has finished its queued work. The
-- garbage collector runs as in a training. Fields, in seconds per call: seconds, the median; low and high, the limits
-- of the middle half of the runs; least, most; and the numbers runs and calls (per run). An error in f ends it.
--
--     local x = cld.randn(256, 512)
--     print(cld.timeit(function() return x:matmul(x:t()) end, { seconds = 0.1 }))
local function timeit(f, options)
  local meta = getmetatable(f)
  if type(f) ~= "function" and not (type(meta) == "table" and meta.__call) then
    caller.raise("timeit: expected a function, got %s", caller.shown(f))
  end
  caller.check_fields("timeit", options, { "seconds" })
  local seconds = options and options.seconds or 1
  if type(seconds) ~= "number" or not (seconds > 0 and seconds < math.huge) then
    caller.raise("timeit: seconds must be a number above 0, got %s", caller.shown(seconds))
  end
  caller.user(f)
  wait()
  collect()
  local calls, took, spent = 1, nil, 0
  repeat -- finds the number of calls in a run; the last of these attempts counts as the first run
    if took then calls = math.max(calls + 1, math.min(10 * calls, math.ceil(calls * 1.1 * seconds / SHARE / took))) end
    took = measure(f, calls)
    spent = spent + took
  until took >= seconds / SHARE
  local each = { took / calls }
  while #each < FEWEST or spent < seconds and #each < MOST do
    took = measure(f, calls)
    spent = spent + took
    each[#each + 1] = took / calls
  end
  table.sort(each)
  return setmetatable({
    seconds = quantile(each, 0.5), low = quantile(each, 0.25), high = quantile(each, 0.75), least = each[1],
    most = each[#each], runs = #each, calls = calls,
  }, Record)
end

return timeit
