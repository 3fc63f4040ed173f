--- Lines as text: a plot for a terminal, in braille characters, each of which is two by four dots.
--
--   local terminal = require "cld.plot.terminal"
--   print(terminal.lines({ { name = "loss", x = { 1, 2, 3 }, y = { 3, 1, 2 } } }, { width = 60, height = 12 }))
--
-- What is no finite number is left out, and the line has a gap there. With colour each line has one, and without it a
-- pattern of its own, which the legend shows.
local caller = require "cld.caller"
local core = require "cld.core"
local printable_line = core.text.printable_line

local terminal = {}

-- ANSI's colours that are read on dark and light, and the patterns that stand for them: dots drawn and left out.
local COLORS = { 36, 33, 32, 35, 34, 31 }
local PATTERNS = { { 1, 0 }, { 2, 2 }, { 1, 2 }, { 5, 2 }, { 1, 4 }, { 5, 5 } }

-- The bit of the dot in column x (0, 1) and row y (0 to 3) of a braille character.
local BITS = { [0] = { [0] = 0x01, 0x02, 0x04, 0x40 }, { [0] = 0x08, 0x10, 0x20, 0x80 } }

local LARGEST = 1.7976931348623157e308

local function is_finite(value) return value == value and math.abs(value) < math.huge end

--- has_color() -> whether standard output is a terminal that shows colours: TERM is none of those without, and nobody
-- asks for none (https://no-color.org).
function terminal.has_color()
  return core.system.terminal() ~= nil and (os.getenv "NO_COLOR" or "") == ""
end

-- ---- axes ---------------------------------------------------------------------------

-- The least and the largest finite value of all lines' field, apart from each other; nil if there is none.
local function range(lines, field)
  local least, most
  for _, line in ipairs(lines) do
    for i, value in ipairs(line[field]) do
      value = value + 0.0 -- the difference of two integers may be none
      if is_finite(value) and is_finite(line[field == "x" and "y" or "x"][i]) then
        least, most = math.min(least or value, value), math.max(most or value, value)
      end
    end
  end
  if not least then return nil end
  local size = math.max(math.abs(least), math.abs(most))
  if most - least <= math.max(1e-12 * size, 1e-300) then
    local room = size > 1e-290 and size / 10 or size > 0 and 1e-290 or 1
    least, most = math.max(least - room, -LARGEST), math.min(most + room, LARGEST)
  end
  return { least, most }
end

-- Where a value lies in the range, as a share. In halves: the range itself may be too large for a number.
local function share(r, value) return (value / 2 - r[1] / 2) / (r[2] / 2 - r[1] / 2) end

-- Round values in the range, at most so many: {{value, text}, ...}.
local function ticks(r, most)
  local rough = (r[2] / 2 - r[1] / 2) / math.max(most, 1) * 2
  if not is_finite(rough) or rough < 1e-300 then return {} end
  local power = 10.0 ^ math.floor(math.log(rough, 10))
  local step = 10 * power
  for _, factor in ipairs { 5, 2, 1 } do
    if factor * power >= rough * (1 - 1e-9) then step = factor * power end
  end
  if not is_finite(step) then return {} end
  local decimals = math.max(0, -math.floor(math.log(step, 10) + 1e-9))
  local is_plain = decimals <= 5 and math.max(math.abs(r[1]), math.abs(r[2])) < 1e6
  local list = {}
  local first = math.ceil(r[1] / step - 1e-9)
  for i = 0, most do
    local value = (first + i) * step
    if value > r[2] + step * 1e-9 then break end
    if value == 0 then value = 0.0 end -- and not -0
    list[#list + 1] = { value, (is_plain and "%." .. decimals .. "f" or "%.3g"):format(value) }
  end
  return list
end

-- ---- dots ---------------------------------------------------------------------------

-- A canvas of so many characters: bits and the last line's number of each, by its place.
local function new_canvas(columns, rows)
  return { columns = columns, rows = rows, bits = {}, owner = {} }
end

local function dot(canvas, x, y, owner)
  local place = (y // 4) * canvas.columns + x // 2
  canvas.bits[place] = (canvas.bits[place] or 0) | BITS[x % 2][y % 4]
  canvas.owner[place] = owner
end

-- Bresenham's line, from and to whole dots; `count` of the dots before it goes on through the pattern. The first dot is
-- the end of the line before, if there is one.
local function stroke(canvas, x0, y0, x1, y1, owner, pattern, count)
  local dx, dy = math.abs(x1 - x0), -math.abs(y1 - y0)
  local sx, sy, err = x0 < x1 and 1 or -1, y0 < y1 and 1 or -1, dx + dy
  while true do
    if count % (pattern[1] + pattern[2]) < pattern[1] then dot(canvas, x0, y0, owner) end
    if x0 == x1 and y0 == y1 then return count end
    count = count + 1
    local twice = 2 * err
    if twice >= dy then err, x0 = err + dy, x0 + sx end
    if twice <= dx then err, y0 = err + dx, y0 + sy end
  end
end

local function draw(canvas, line, owner, x_range, y_range, pattern)
  local width, height = 2 * canvas.columns - 1, 4 * canvas.rows - 1
  local last_x, last_y
  local count = 0
  for i, x in ipairs(line.x) do
    local y = line.y[i]
    if is_finite(x) and is_finite(y) then
      local to_x = math.floor(share(x_range, x) * width + 0.5)
      local to_y = math.floor((1 - share(y_range, y)) * height + 0.5)
      if last_x then
        count = stroke(canvas, last_x, last_y, to_x, to_y, owner, pattern, count)
      else
        dot(canvas, to_x, to_y, owner)
      end
      last_x, last_y = to_x, to_y
    else
      last_x = nil
    end
  end
end

-- ---- text ---------------------------------------------------------------------------

local function painted(text, owner, color)
  return color and ("\27[%dm%s\27[0m"):format(COLORS[(owner - 1) % #COLORS + 1], text) or text
end

local function cut(text, columns)
  if utf8.len(text) <= columns then return text end
  return text:sub(1, utf8.offset(text, math.max(columns, 1)) - 1) .. "…"
end

-- A row of the canvas as text; neighbours of one colour are painted together.
local function row_text(canvas, row, color)
  local parts, run, owner = {}, {}, nil
  local function flush()
    if #run > 0 then parts[#parts + 1] = owner and painted(table.concat(run), owner, color) or table.concat(run) end
    run = {}
  end
  for column = 0, canvas.columns - 1 do
    local place = row * canvas.columns + column
    local bits = canvas.bits[place]
    local own = bits and canvas.owner[place] or nil
    if own ~= owner then flush() end
    owner = own
    run[#run + 1] = bits and utf8.char(0x2800 + bits) or " "
  end
  if owner then flush() end -- blanks at the end are left out
  return table.concat(parts)
end

-- A sample of a pattern, for the legend: three characters of a line in their middle.
local function sample(i, color)
  local canvas = new_canvas(3, 1)
  stroke(canvas, 0, 2, 5, 2, i, color and PATTERNS[1] or PATTERNS[(i - 1) % #PATTERNS + 1], 0)
  local text = row_text(canvas, 0, color)
  return text
end

-- The names behind samples of their lines, as many in a row of text as fit.
local function legend(lines, width, color)
  local rows, row, used = {}, {}, 0
  for i, line in ipairs(lines) do
    local name = cut(line.name, width - 4)
    local length = utf8.len(name) + 4
    if used > 0 and used + 2 + length > width then
      rows[#rows + 1], row, used = table.concat(row, "  "), {}, 0
    end
    row[#row + 1] = sample(i, color) .. " " .. name
    used = used + length + (used > 0 and 2 or 0)
  end
  if #row > 0 then rows[#rows + 1] = table.concat(row, "  ") end
  return rows
end

-- The labels below the x axis, each in the middle below its tick if there is room; `x_label` at the right end.
local function x_labels(marks, canvas, x_range, left, x_label)
  local cells, width = {}, left + 1 + canvas.columns
  local function put(text, at)
    at = math.max(1, math.min(at, width - utf8.len(text) + 1))
    for i = math.max(at - 2, 1), at + utf8.len(text) do
      if cells[i] then return end
    end
    local i = at
    for _, code in utf8.codes(text) do
      cells[i] = utf8.char(code)
      i = i + 1
    end
  end
  if x_label then put(x_label, width) end
  for _, mark in ipairs(marks) do
    local column = left + 2 + math.floor(share(x_range, mark[1]) * (canvas.columns - 1) + 0.5)
    put(mark[2], column - utf8.len(mark[2]) // 2)
  end
  local text, last = {}, 0
  for i in pairs(cells) do last = math.max(last, i) end
  for i = 1, last do text[i] = cells[i] or " " end
  return table.concat(text)
end

-- ---- the plot -----------------------------------------------------------------------

-- Lines whose names are safe to show; raises if they are none.
local function checked(lines)
  if type(lines) ~= "table" then
    caller.raise("plot.lines: expected a list of {name =, x = {}, y = {}}, got %s", caller.shown(lines))
  end
  local own = {}
  for i, line in ipairs(lines) do
    if type(line) ~= "table" or type(line.x) ~= "table" or type(line.y) ~= "table" then
      caller.raise("plot.lines: line %d: expected {name =, x = {}, y = {}}, got %s", i, caller.shown(line))
    end
    if #line.x ~= #line.y then caller.raise("plot.lines: line %d: %d x and %d y", i, #line.x, #line.y) end
    for at = 1, #line.x do
      if type(line.x[at]) ~= "number" or type(line.y[at]) ~= "number" then
        caller.raise("plot.lines: line %d: expected numbers, got %s and %s", i, caller.shown(line.x[at]),
          caller.shown(line.y[at]))
      end
    end
    own[i] = { x = line.x, y = line.y, name = line.name ~= nil and printable_line(tostring(line.name)) or nil }
  end
  return own
end

local function size(options, field, default, least)
  local value = options[field] or default
  if math.type(value) ~= "integer" or value < 1 then
    caller.raise("plot.lines: %s is %s; expected a number of characters", field, caller.shown(value))
  end
  return math.max(value, least)
end

-- The canvas with its axes, as rows of text.
local function plotted(lines, x_range, y_range, width, rows, options)
  local y_marks = ticks(y_range, math.max(rows // 3, 2))
  local left = 0
  for _, mark in ipairs(y_marks) do left = math.max(left, #mark[2]) end
  local canvas = new_canvas(math.max(width - left - 1, 4), rows)
  for i, line in ipairs(lines) do
    draw(canvas, line, i, x_range, y_range, options.color and PATTERNS[1] or PATTERNS[(i - 1) % #PATTERNS + 1])
  end
  local text, labels = {}, {}
  for _, mark in ipairs(y_marks) do
    labels[math.floor((1 - share(y_range, mark[1])) * (4 * rows - 1) + 0.5) // 4] = mark[2]
  end
  for row = 0, rows - 1 do
    local label = labels[row]
    text[#text + 1] = (label and (" "):rep(left - #label) .. label .. "┤" or (" "):rep(left) .. "│")
      .. row_text(canvas, row, options.color)
  end
  local x_marks, axis = ticks(x_range, math.max(canvas.columns // 12, 1)), {}
  for column = 1, canvas.columns do axis[column] = "─" end
  for _, mark in ipairs(x_marks) do axis[math.floor(share(x_range, mark[1]) * (canvas.columns - 1) + 0.5) + 1] = "┬" end
  text[#text + 1] = (" "):rep(left) .. "└" .. table.concat(axis)
  text[#text + 1] = x_labels(x_marks, canvas, x_range, left,
    options.x_label and cut(printable_line(options.x_label), width // 2))
  return text
end

--- lines({{name =, x = {numbers}, y = {numbers}}, ...}[, {width = 80, height = 20, title =, x_label =, color = false}])
-- -> the plot of the lines over a common pair of axes as text: so many columns and rows at most (20 by 6 at least), no
-- newline at the end. color: with ANSI's escape sequences; without them there are none in it, whatever the names hold.
function terminal.lines(lines, options)
  local _ <close> = core.text.c_locale()
  caller.check_fields("plot.lines", options, { "width", "height", "title", "x_label", "color" })
  options = options or {}
  lines = checked(lines)
  local width, height = size(options, "width", 80, 20), size(options, "height", 20, 6)
  local named = {}
  for i, line in ipairs(lines) do named[i] = { name = line.name or "line " .. i } end
  local below = (#lines > 1 or lines[1] and lines[1].name) and legend(named, width, options.color) or {}
  local text = {}
  if options.title then text[1] = cut(printable_line(options.title), width) end
  local x_range, y_range = range(lines, "x"), range(lines, "y")
  if x_range then
    local rows = math.max(height - #text - #below - 2, 3)
    table.move(plotted(lines, x_range, y_range, width, rows, options), 1, rows + 2, #text + 1, text)
  else
    text[#text + 1] = "(nothing to draw yet)"
  end
  return table.concat(table.move(below, 1, #below, #text + 1, text), "\n")
end

return terminal
