--- A plot as pixels, drawn in C (runtime/plot/canvas.h).
local core = require "cld.core"
local colors = require "cld.plot.colors"
local plot = core.plot

local png = {}

local SIZES = { label = 13, title = 16 }

local function letter(text, role) return plot.text_width(text, SIZES[role]) end

local function cut(text, room)
  if letter(text, "label") <= room then return text end
  local length = utf8.len(text) or 0
  local function shortened() return text:sub(1, (utf8.offset(text, length) or 1) - 1) .. "..." end
  while length > 1 and letter(shortened(), "label") > room do length = length - 1 end
  return shortened()
end

--- page(width, height) -> the units of a page of pixels (figure.lua).
function png.page(width, height)
  return { width = width, height = height, line = 19, title = 24, descent = 5, gap = 8, between = 16, middle = 4.5,
    tick = 5, edge = 18, key = 24, can_turn = true, has_grid = true, tick_every = { 75, 45 }, apart = 0.06,
    letter = letter, cut = cut }
end

local function pen(color, width, opacity, dash)
  return { color = color, width = width, opacity = opacity, on = dash and dash[1], off = dash and dash[2] }
end

local function two_points(x0, y0, x1, y1) return core.tensor.tensor({ { x0, y0 }, { x1, y1 } }, "f64") end

local draw = {}

function draw.line(canvas, mark)
  plot.lines(canvas, mark.points, pen(colors.of(mark.series), 2, 1, colors.dash(mark.series)))
end

function draw.dots(canvas, mark) plot.discs(canvas, mark.points, pen(colors.of(mark.series), 5, 0.75)) end

-- Rounds to whole pixels, so that lines are sharp.
function draw.rule(canvas, mark)
  local x0, y0, x1, y1 = mark.x0 // 1, mark.y0 // 1, mark.x1 // 1, mark.y1 // 1
  plot.rectangle(canvas, x0, y0, x1 + 1, y1 + 1, pen(colors[mark.role]))
end

function draw.bar(canvas, mark)
  plot.rectangle(canvas, mark.x0, mark.y0, mark.x1, mark.y1, pen(colors.of(mark.series)))
end

function draw.text(canvas, mark)
  local size = SIZES[mark.role]
  local width = plot.text_width(mark.text, size)
  local back = mark.anchor == "middle" and width / 2 or mark.anchor == "end" and width or 0
  local x, y = mark.x - (mark.vertical and 0 or back), mark.y + (mark.vertical and back or 0)
  plot.text(canvas, mark.text, x, y, size, mark.vertical, pen(colors.ink))
end

function draw.key(canvas, mark)
  local color = colors.of(mark.series)
  if mark.shape == "bars" then
    plot.rectangle(canvas, mark.x + 6, mark.y - 6, mark.x + 18, mark.y + 6, pen(color))
  elseif mark.shape == "dots" then
    plot.discs(canvas, two_points(mark.x + 12, mark.y, mark.x + 12, mark.y), pen(color, 8))
  else
    plot.lines(canvas, two_points(mark.x, mark.y, mark.x + 24, mark.y), pen(color, 2, 1, colors.dash(mark.series)))
  end
end

--- image(marks, page) -> u8 (height, width, 3).
function png.image(marks, page)
  local canvas = core.tensor.full({ page.height, page.width, 3 }, 255, { dtype = "u8" })
  for _, mark in ipairs(marks) do draw[mark.kind](canvas, mark) end
  return canvas
end

return png
