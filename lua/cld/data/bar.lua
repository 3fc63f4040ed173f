--- Shows the progress of a file: on a terminal a bar redrawn in place, elsewhere a line every few seconds, and nothing
-- if the file is done sooner.
--
--   fetching stl10_binary.tar.gz [########------------]  41 %  1082.6 of 2640.4 MB  12.3 MB/s  2:07
local core = require "cld.core"
local progress = require "cld.run.progress"
local redrawn = require "cld.redrawn"
local clock = core.system.clock

local bar = {}
bar.__index = bar

local width = 20 -- of the bar

--- new{what =, bytes = in all or nil, have = at the start, every = seconds between lines if there is no terminal,
-- quiet =}
function bar.new(settings)
  local now = clock()
  return setmetatable({
    what = settings.what, bytes = settings.bytes, text = redrawn.new(), every = settings.every or 10,
    quiet = settings.quiet, started = now, first = settings.have or 0, shown = now,
  }, bar)
end

--- "170.5 MB", a million bytes each, or "12 bytes".
function bar.size(bytes)
  if bytes < 100000 then return ("%d bytes"):format(bytes) end
  return ("%.1f MB"):format(bytes / 1e6)
end

function bar:line(have, now)
  local parts = { self.what }
  local seconds = math.max(now - self.started, 1e-9)
  local rate = math.max(have - self.first, 0) / seconds
  if self.bytes and self.bytes > 0 then
    local share = math.min(have / self.bytes, 1)
    if self.text.columns then
      local full = math.floor(share * width)
      parts[1] = ("%s [%s%s]"):format(self.what, ("#"):rep(full), ("-"):rep(width - full))
    end
    parts[#parts + 1] = ("%3d %%"):format(math.floor(share * 100))
    parts[#parts + 1] = ("%.1f of %.1f MB"):format(have / 1e6, self.bytes / 1e6)
  else
    parts[#parts + 1] = bar.size(have)
  end
  parts[#parts + 1] = ("%.1f MB/s"):format(rate / 1e6)
  if self.bytes and rate > 0 then parts[#parts + 1] = progress.duration(math.max(self.bytes - have, 0) / rate) end
  return table.concat(parts, "  ")
end

--- Sets the number of bytes so far; draws if it is time.
function bar:draw(have)
  local now = clock()
  if self.quiet or now - self.shown < (self.text.columns and redrawn.every or self.every) then return end
  local _ <close> = core.text.c_locale()
  self.shown = now
  self.text:draw(self:line(have, now))
end

--- Removes the bar from the terminal.
function bar:clear() self.text:clear() end
bar.__close = bar.clear

return bar
