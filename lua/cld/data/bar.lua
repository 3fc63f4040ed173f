--- How far a file is: on a terminal a bar redrawn in place, elsewhere a line every few seconds, and none for what is
-- done sooner.
--
--   fetching stl10_binary.tar.gz [########------------]  41 %  1082.6 of 2640.4 MB  12.3 MB/s  2:07
local core = require "cld.core"
local progress = require "cld.run.progress"
local clock, terminal, printable_line = core.system.clock, core.system.terminal, core.text.printable_line

local bar = {}
bar.__index = bar

local redraw = 0.25 -- seconds between two drawings on a terminal
local width = 20    -- of the bar

--- new{what =, bytes = of the whole or nil, have = at the start, every = seconds between lines if there is no terminal,
-- quiet =}
function bar.new(settings)
  local now = clock()
  return setmetatable({
    what = settings.what, bytes = settings.bytes, columns = terminal(), every = settings.every or 10,
    quiet = settings.quiet, started = now, first = settings.have or 0, shown = now, drawn = false,
  }, bar)
end

--- "170.5 MB", a million bytes each, or "12 bytes".
function bar.size(bytes)
  if bytes < 100000 then return ("%d bytes"):format(bytes) end
  return ("%.1f MB"):format(bytes / 1e6)
end

local function put(...)
  io.stdout:write(...)
  io.stdout:flush()
end

local function fit(line, columns)
  return utf8.len(line) <= columns and line or line:sub(1, utf8.offset(line, columns + 1) - 1)
end

function bar:line(have, now)
  local parts = { self.what }
  local seconds = math.max(now - self.started, 1e-9)
  local rate = math.max(have - self.first, 0) / seconds
  if self.bytes and self.bytes > 0 then
    local share = math.min(have / self.bytes, 1)
    if self.columns then
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
  return printable_line(table.concat(parts, "  "))
end

--- So many bytes are there now; draws if it is time.
function bar:draw(have)
  local now = clock()
  if self.quiet or now - self.shown < (self.columns and redraw or self.every) then return end
  local _ <close> = core.text.c_locale()
  local line = self:line(have, now)
  self.shown = now
  if self.columns then
    put("\r\27[K", fit(line, self.columns - 1))
    self.drawn = true
  else
    put(line, "\n")
  end
end

--- Nothing of it stays on a terminal.
function bar:clear()
  if self.drawn then put "\r\27[K" end
  self.drawn = false
end
bar.__close = bar.clear

return bar
