--- Shows the progress of a long job as one line, redrawn in place, if the output is a terminal. Otherwise prints
-- nothing.
--
--   local count = counter.new("train", #set)
--   count:step()          -- once for each; or count:step(64), of so many at once
--   count:clear()         -- before anything else is printed, and at the end
local clock = require "cld.core".system.clock
local duration = require "cld.run.progress".duration
local redrawn = require "cld.redrawn"

local Counter = {}
Counter.__index = Counter

local counter = {}

function counter.new(what, total)
  local now = clock()
  return setmetatable({ what = what, total = total, done = 0, line = redrawn.new(), started = now, drawn_at = now },
    Counter)
end

function Counter:step(count)
  local before = self.done
  self.done = before + (count or 1)
  if not self.line.columns or self.done // 16 == before // 16 or clock() - self.drawn_at < redrawn.every then return end
  self.drawn_at = clock()
  local rate = self.done / math.max(self.drawn_at - self.started, 1e-9)
  self.line:draw(("%s: %d of %d images, %.0f a second, %s left"):format(self.what, self.done, self.total, rate,
    duration((self.total - self.done) / rate)))
end

function Counter:clear() self.line:clear() end

return counter
