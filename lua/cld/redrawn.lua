--- One or several lines that are redrawn in place on a terminal; elsewhere each text is written below the last. Text
-- that cannot be written (the reader or the terminal is gone, the disk is full) is lost, and the program continues.
local core = require "cld.core"
local terminal, printable_line = core.system.terminal, core.text.printable_line

local Redrawn = {}
Redrawn.__index = Redrawn

local redrawn = {}

--- Seconds between two drawings on a terminal.
redrawn.every = 0.25

--- new() -> a line; its columns are nil if the output is not a terminal.
function redrawn.new() return setmetatable({ columns = terminal(), drawn = false }, Redrawn) end

local function put(...)
  io.stdout:write(...)
  io.stdout:flush()
end

-- As much of the line as fits the terminal's columns, in whole characters.
local function fit(line, columns)
  return utf8.len(line) <= columns and line or line:sub(1, utf8.offset(line, columns + 1) - 1)
end

--- Replaces the last text by this one.
function Redrawn:draw(text)
  text = printable_line(text)
  if not self.columns then return put(text, "\n") end
  put("\r\27[K", fit(text, self.columns - 1))
  self.drawn = true
end

--- Removes the line from the terminal.
function Redrawn:clear()
  if self.drawn then put "\r\27[K" end
  self.drawn = false
end

--- Prints a line that stays.
function Redrawn:print(text)
  self:clear()
  put(printable_line(text), "\n")
end

-- ---- a block of lines -----------------------------------------------------------

local Block = {}
Block.__index = Block

--- block() -> several lines that are redrawn in place on a terminal; elsewhere each text is written below the last. The
-- text is not checked: the caller must make names printable and keep lines within the terminal's width.
function redrawn.block() return setmetatable({ columns = terminal(), rows = 0 }, Block) end

-- Removes the last text. If the terminal has become narrower, it has wrapped the lines into an unknown number of rows:
-- then the whole screen is cleared.
function Block:erase()
  local columns = terminal() or self.columns
  local up = math.min(self.rows, core.system.terminal_rows() - 1)
  if columns < self.columns then
    put "\27[H\27[J"
  elseif up > 0 then
    put(("\r\27[%dA\27[J"):format(up))
  end
  self.columns = columns
end

--- Replaces the last text by this one; lines that have scrolled off the top of the terminal stay.
function Block:draw(text)
  if not self.columns then return put(text, "\n") end
  local _, newlines = text:gsub("\n", "")
  self:erase()
  put(text, "\n")
  self.rows = newlines + 1
end

return redrawn
