--- A line, or several, redrawn in place on a terminal, and elsewhere written anew below the last. What cannot be
-- written (the reader or the terminal is gone, the disk is full) is lost, and the program goes on.
local core = require "cld.core"
local terminal, printable_line = core.system.terminal, core.text.printable_line

local Redrawn = {}
Redrawn.__index = Redrawn

local redrawn = {}

--- Seconds between two drawings on a terminal.
redrawn.every = 0.25

--- new() -> a line; its columns are nil if there is no terminal.
function redrawn.new() return setmetatable({ columns = terminal(), drawn = false }, Redrawn) end

local function put(...)
  io.stdout:write(...)
  io.stdout:flush()
end

-- As much of the line as the terminal has columns, whole characters.
local function fit(line, columns)
  return utf8.len(line) <= columns and line or line:sub(1, utf8.offset(line, columns + 1) - 1)
end

--- Put this text in the place of the last.
function Redrawn:draw(text)
  text = printable_line(text)
  if not self.columns then return put(text, "\n") end
  put("\r\27[K", fit(text, self.columns - 1))
  self.drawn = true
end

--- Nothing of it stays on a terminal.
function Redrawn:clear()
  if self.drawn then put "\r\27[K" end
  self.drawn = false
end

--- A line that stays.
function Redrawn:print(text)
  self:clear()
  put(printable_line(text), "\n")
end

-- ---- a block of lines -----------------------------------------------------------

local Block = {}
Block.__index = Block

--- block() -> several lines that are drawn in place of the last ones, and elsewhere than on a terminal below them.
-- Their text is taken as it is: whoever makes it makes names printable, and no line wider than the terminal.
function redrawn.block() return setmetatable({ columns = terminal(), rows = 0 }, Block) end

--- Put this text in the place of the last, of which what has left the top of the terminal stays.
function Block:draw(text)
  local _, newlines = text:gsub("\n", "")
  if not self.columns then return put(text, "\n") end
  local up = math.min(self.rows, core.system.terminal_rows() - 1)
  put(up > 0 and ("\r\27[%dA\27[J"):format(up) or "", text, "\n")
  self.rows = newlines + 1
end

return redrawn
