--- How far a long job is, on a terminal alone: one line, redrawn in place. Elsewhere nothing is printed.
--
--   local count = counter.new("train", #set)
--   count:step()          -- once for each
--   count:clear()         -- before anything else is printed, and at the end
local core = require "cld.core"
local clock, terminal, printable_line = core.system.clock, core.system.terminal, core.text.printable_line
local duration = require "cld.run.progress".duration

local redraw = 0.25 -- seconds between two drawings

local Counter = {}
Counter.__index = Counter

local counter = {}

function counter.new(what, total)
  local now = clock()
  return setmetatable({ what = what, total = total, done = 0, columns = terminal(), started = now, drawn_at = now },
    Counter)
end

function Counter:step()
  self.done = self.done + 1
  if not self.columns or self.done % 16 ~= 0 or clock() - self.drawn_at < redraw then return end
  self.drawn_at = clock()
  local rate = self.done / math.max(self.drawn_at - self.started, 1e-9)
  local line = printable_line(("%s: %d of %d images, %.0f a second, %s left"):format(self.what, self.done, self.total,
    rate, duration((self.total - self.done) / rate)))
  io.stdout:write("\r\27[K", line:sub(1, (utf8.offset(line, self.columns) or #line + 1) - 1))
  io.stdout:flush()
  self.is_drawn = true
end

function Counter:clear()
  if self.is_drawn then
    io.stdout:write "\r\27[K"
    io.stdout:flush()
  end
  self.is_drawn = false
end

return counter
