--- A plot as characters of a terminal: lines, dots and bars in braille, two by four dots per character, with text
-- between them. A page's units are dots. If only ASCII can be shown (letters.lua), each character is the one most like
-- its dots.
local core = require "cld.core"
local colors = require "cld.plot.colors"
local letters = require "cld.letters"
local plot = core.plot

local text = {}

local FRAME = 255 -- the axes' number. A series has a lower number, and its colour wins if both have dots in a character

local function letter(words) return 2 * (utf8.len(words) or #words) end

local function cut(words, room) return letters.cut(words, math.max(1, room // 2)) end

--- page(columns, rows) -> the units of a page of this many characters (figure.lua).
function text.page(columns, rows)
  return { width = 2 * columns, height = 4 * rows, line = 4, title = 4, descent = 1, gap = 0, between = 4,
    middle = -0.5, tick = 0, edge = 2, key = 6, can_turn = false, has_grid = false,
    tick_every = { 24, 12 }, apart = 0, letter = letter, cut = cut }
end

local draw = {}

local function pen(number, width) return { color = { number }, width = width or 1 } end

-- Without colours, dashes distinguish the lines: {dots drawn, dots left out}.
local dashes = { nil, { 2, 2 }, { 5, 2 }, { 1, 4 }, { 5, 5 }, { 1, 2 } }

local function line_pen(page, series)
  local own = pen(series)
  local dash = not page.has_color and dashes[(series - 1) % 6 + 1]
  if dash then own.on, own.off = dash[1], dash[2] end
  return own
end

function draw.line(page, mark) plot.lines(page.dots, mark.points, line_pen(page, mark.series)) end

function draw.dots(page, mark) plot.discs(page.dots, mark.points, pen(mark.series)) end

function draw.bar(page, mark)
  plot.rectangle(page.dots, mark.x0, mark.y0, mark.x1, mark.y1, pen(mark.series))
end

-- A horizontal axis is drawn in the last row of dots above its position, so that text in the next row does not cover
-- it.
function draw.rule(page, mark)
  local is_level = mark.y0 == mark.y1
  if is_level and mark.x0 == mark.x1 then return end
  local top, bottom = mark.y0 // 1 - (is_level and 1 or 0), mark.y1 // 1
  plot.rectangle(page.dots, mark.x0 // 1, top, mark.x1 // 1 + 1, bottom, pen(FRAME))
end

-- Text covers the drawing: cells[row][column] = a character.
function draw.text(page, mark)
  local length = utf8.len(mark.text) or 0
  local back = mark.anchor == "middle" and length // 2 or mark.anchor == "end" and length or 0
  local row = math.floor(mark.y / 4)
  local column = math.max(0, math.floor(mark.x / 2) - back)
  local cells = page.cells[row] or {}
  page.cells[row] = cells
  for _, code in utf8.codes(letters.shown(mark.text)) do
    cells[column] = { utf8.char(code) }
    column = column + 1
  end
end

local samples = { dots = " \u{2022}", bars = " \u{2588}" }
local ascii_samples = { dots = " *", bars = " #" }

function draw.key(page, mark)
  if mark.shape == "line" then
    local y = math.floor(mark.y / 4) * 4 + 2
    local points = core.tensor.tensor({ { mark.x, y }, { mark.x + page.key - 3, y } }, "f64")
    return plot.lines(page.dots, points, line_pen(page, mark.series))
  end
  local row, column = math.floor(mark.y / 4), mark.x // 2
  local cells = page.cells[row] or {}
  page.cells[row] = cells
  for _, code in utf8.codes((page.is_unicode and samples or ascii_samples)[mark.shape] .. " ") do
    cells[math.tointeger(column)] = { utf8.char(code), mark.series }
    column = column + 1
  end
end

-- ---- characters --------------------------------------------------------------------

-- The bits of a character's dots (U+2800), from the top row to the bottom row: left, right.
local BITS = { { 1, 8 }, { 2, 16 }, { 4, 32 }, { 64, 128 } }
local LEVEL = { "'", "-", "-", "_" } -- dots in one row

-- How many dots a column has, and the sum of their rows.
local function column_of(bits, side)
  local count, sum = 0, 0
  for row, pair in ipairs(BITS) do
    if bits & pair[side] ~= 0 then count, sum = count + 1, sum + row end
  end
  return count, sum
end

-- The ASCII character most like the dots.
local function ascii_of(bits)
  local left, left_sum = column_of(bits, 1)
  local right, right_sum = column_of(bits, 2)
  local count, mean = left + right, (left_sum + right_sum) / (left + right)
  if count >= 6 then return "#" end
  if left == 4 or right == 4 then return "|" end
  if left == 0 or right == 0 then return count >= 3 and "|" or mean <= 1.5 and "'" or mean >= 3 and "." or "-" end
  local slope = left_sum / left - right_sum / right -- rows that the dots rise from left to right
  if slope >= 1 then return "/" end
  if slope <= -1 then return "\\" end
  if left == 1 and right == 1 then return LEVEL[math.floor(mean + 0.5)] end
  return count == 4 and mean > 3 and "=" or mean < 2 and "'" or mean > 3 and "_" or "+"
end

local function character_of(bits, is_unicode) return is_unicode and utf8.char(0x2800 + bits) or ascii_of(bits) end

local function painted(words, series, color)
  if not color or not series then return words end
  return ("\27[38;5;%dm%s\27[0m"):format(colors.terminal_of(series), words)
end

-- The characters of a row, grouped by colour, without trailing blanks.
local function row_text(drawn, cells, page, color)
  local parts, run, owner, blanks = {}, {}, nil, 0
  local function flush()
    if #run > 0 then parts[#parts + 1] = painted(table.concat(run), owner, color) end
    run = {}
  end
  for column = 0, page.width // 2 - 1 do
    local cell, value = cells[column], drawn[column + 1]
    local character, series = " ", nil
    if cell then
      character, series = cell[1], cell[2]
    elseif value ~= 0 then
      local number = value >> 8
      character, series = character_of(value & 255, page.is_unicode), number ~= FRAME and number or nil
    end
    if character == " " then
      blanks = blanks + 1
    else
      if blanks > 0 or series ~= owner then
        flush()
        if blanks > 0 then parts[#parts + 1] = (" "):rep(blanks) end
        blanks = 0
      end
      owner = series
      run[#run + 1] = character
    end
  end
  flush()
  return table.concat(parts)
end

--- has_color() -> whether standard output is a terminal that shows colours: TERM names one with colours, and NO_COLOR
-- is not set (https://no-color.org).
function text.has_color() return core.system.terminal() ~= nil and (os.getenv "NO_COLOR" or "") == "" end

--- text(marks, page, color) -> rows of characters, each with a newline; with ANSI colours if color is true.
function text.text(marks, page, color)
  page.dots = core.tensor.zeros({ page.height, page.width }, "u8")
  page.cells, page.has_color, page.is_unicode = {}, color, letters.are_unicode()
  for _, mark in ipairs(marks) do draw[mark.kind](page, mark) end
  local rows = {}
  for row, drawn in ipairs(plot.braille(page.dots):totable()) do
    rows[row] = row_text(drawn, page.cells[row - 1] or {}, page, color) .. "\n"
  end
  return table.concat(rows)
end

return text
