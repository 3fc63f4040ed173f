--- --print-ranks: what each rank's steps took, what they waited for, and which rank the others wait for.
local core = require "cld.core"
local dist = require "cld.dist"
local json = require "cld.json"
local clock = core.system.clock

local ranks = {}

local Watch = {}
Watch.__index = Watch

--- new(waited): `waited` returns the seconds for which data were waited for so far, or is nil.
function ranks.new(waited)
  local self = setmetatable({ waited = waited or function() return 0 end }, Watch)
  self:begin()
  return self
end

--- From here on.
function Watch:begin() self.start, self.data, self.count = clock(), self.waited(), core.dist.counted() end

--- told(steps) -> what this rank gave to collectives in a step, of so many since begin: for the log.
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

--- lines(steps) -> a line for each rank, of so many steps since begin, and one that names the slowest. Every rank
-- calls it.
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
