--- The ranks of a run: checks that all were started alike, and prints for --print-ranks how long each rank's steps
-- took, what they waited for, and which rank is the slowest.
local core = require "cld.core"
local dist = require "cld.dist"
local json = require "cld.json"
local record = require "cld.run.record"
local clock = core.system.clock

local ranks = {}

--- check_alike(opt, sources of record.sources): the user's error if the ranks were started with different programs or
-- command lines, since they would wait for each other forever.
function ranks.check_alike(opt, sources)
  local versions, digests = core.system.versions(), {}
  for name, text in pairs(sources) do digests["the recipe " .. name] = text end
  digests["cldlua's version"] = ("%s (%s)"):format(versions.cldlua, versions.commit)
  dist.check_alike(digests, function(name) return name end)
  local plain = record.plain(opt)
  plain.threads = nil -- a machine may have fewer cores
  dist.check_alike(plain, function(name) return "option --" .. name:gsub("_", "-") end)
end

local Watch = {}
Watch.__index = Watch

--- new(waited): `waited` returns the seconds spent waiting for data so far, or is nil.
function ranks.new(waited)
  local self = setmetatable({ waited = waited or function() return 0 end }, Watch)
  self:begin()
  return self
end

--- Starts measuring.
function Watch:begin() self.start, self.data, self.count = clock(), self.waited(), core.dist.counted() end

--- told(steps) -> what this rank spent on collectives per step, for the log; `steps`: how many it made since begin.
function Watch:told(steps)
  local now = core.dist.counted()
  steps = math.max(steps, 1)
  return {
    world = dist.world, collectives = (now.collectives - self.count.collectives) / steps,
    bytes = (now.bytes - self.count.bytes) / steps, waited = (now.waited - self.count.waited) / steps,
  }
end

local function line(of, steps)
  local own = of.seconds - of.data - of.others
  return ("rank %d on %s  %.3f s a step: %.3f s its own, %.3f s for data, %.3f s for other ranks"):format(of.rank,
    of.host, of.seconds / steps, own / steps, of.data / steps, of.others / steps), own + of.data
end

--- lines(steps) -> a line for each rank about the steps since begin, and one that names the slowest rank. Every rank
-- must call it.
function Watch:lines(steps)
  local own = json.encode {
    rank = dist.rank, host = core.system.host().name, seconds = clock() - self.start,
    data = self.waited() - self.data, others = core.dist.counted().waited - self.count.waited,
  }
  local lines, slowest, most = {}, nil, -1
  for i, text in ipairs(core.dist.gather_strings(own)) do
    local of = json.decode(text)
    local busy
    lines[i], busy = line(of, math.max(steps, 1))
    if busy > most then slowest, most = of, busy end
  end
  lines[#lines + 1] = ("the slowest is rank %d on %s"):format(slowest.rank, slowest.host)
  return lines
end

return ranks
