--- The layout of a plot: a list of marks that every back end can draw.
--
--   {kind = "line", points = f64 (n, 2), series = i}         a line through points; one that is not finite is a gap
--   {kind = "dots", points = f64 (n, 2), series = i}         a disc on every point
--   {kind = "rule", x0, y0, x1, y1, role}                    a straight line: "grid" or "frame"
--   {kind = "bar", x0, y0, x1, y1, series = i}               a filled rectangle
--   {kind = "text", text, x, y, anchor, role, vertical}      anchor "start", "middle" or "end"; y is the baseline; role
--                                                            "title" or "label"
--   {kind = "key", x, y, series = i, shape}                  a sample for the legend: "line", "dots" or "bars"
--
-- A page defines its units: {width, height, line, title = a text line's height, letter = function(text, role) ->
-- width, cut = function(text, width) -> text, descent = a line's part below the baseline, middle = half a capital, gap,
-- between = entries of the legend, key = a sample's width, tick = its length, tick_every = {x, y}: the least units
-- between two, edge = space at the right, apart = space between bars as a share of their width, can_turn = whether text
-- may be vertical, has_grid}.
local core = require "cld.core"
local caller = require "cld.caller"
local axes = require "cld.plot.axes"

local figure = {}

-- The range of a field over all series; an error that describes the data if there is none.
local function range(name, list, field, options)
  local other = field == "x" and "y" or "x"
  local least, most
  for _, one in ipairs(list) do
    local low, high = core.plot.range(one[field], one[other], options["log" .. field], options["log" .. other])
    if low then least, most = math.min(least or low, low), math.max(most or high, high) end
  end
  if least then return least, most end
  caller.raise("%s: there is nothing to plot: no point is finite%s", name,
    (options.logx or options.logy) and ", and above 0 on an axis of logarithms" or "")
end

-- The rows of the legend, lists of {series =, text =, width =}, with as many entries per row as fit.
local function legend_rows(list, page, room)
  local rows, row, used = {}, {}, 0
  for i, one in ipairs(list) do
    if one.label then
      local text = page.cut(one.label, room - page.key - page.gap)
      local width = page.key + page.gap + page.letter(text, "label")
      if #row > 0 and used + width > room then rows[#rows + 1], row, used = row, {}, 0 end
      row[#row + 1] = { series = i, text = text, width = width }
      used = used + width + page.between
    end
  end
  if #row > 0 then rows[#rows + 1] = row end
  return rows
end

-- The marks around the rectangle of the axes, and that rectangle.
local function surround(marks, list, page, options, x_axis, y_axis)
  local top, left, bottom = page.gap, page.gap, page.height - page.gap
  local function text(words, x, y, anchor, role, vertical)
    marks[#marks + 1] = { kind = "text", text = words, x = x, y = y, anchor = anchor, role = role, vertical = vertical }
  end
  if options.title then
    top = top + page.title
    text(page.cut(options.title, page.width - 2 * page.gap), page.width / 2, top - page.descent, "middle", "title")
  end
  for _, row in ipairs(legend_rows(list, page, page.width - 2 * page.gap)) do
    local x = page.gap
    top = top + page.line
    for _, entry in ipairs(row) do
      marks[#marks + 1] = { kind = "key", x = x, y = top - page.line / 2, series = entry.series,
        shape = options.shape }
      text(entry.text, x + page.key + page.gap, top - page.descent, "start", "label")
      x = x + entry.width + page.between
    end
  end
  if options.ylabel and not page.can_turn then
    top = top + page.line
    text(page.cut(options.ylabel, page.width - 2 * page.gap), page.gap, top - page.descent, "start", "label")
  end
  top = top + page.gap
  if options.xlabel then
    text(page.cut(options.xlabel, page.width), page.width / 2, bottom - page.descent, "middle", "label")
    bottom = bottom - page.line
  end
  bottom = bottom - page.line - page.tick
  if bottom - top < 2 * page.line then bottom = top + 2 * page.line end
  local y_ticks = y_axis:ticks(math.max(2, (bottom - top) // page.tick_every[2]))
  local widest = 0
  for _, tick in ipairs(y_ticks) do widest = math.max(widest, page.letter(tick.text, "label")) end
  if options.ylabel and page.can_turn then
    left = left + page.line
    text(options.ylabel, left - page.descent, (top + bottom) / 2, "middle", "label", true)
  end
  left = left + widest + page.tick + page.gap
  local right = page.width - page.edge
  local x_ticks = x_axis:ticks(math.max(2, (right - left) // page.tick_every[1]))
  return { top = top, left = left, bottom = bottom, right = right }, x_ticks, y_ticks
end

local function draw_axes(marks, box, page, x_ticks, y_ticks)
  local function rule(role, x0, y0, x1, y1)
    marks[#marks + 1] = { kind = "rule", role = role, x0 = x0, y0 = y0, x1 = x1, y1 = y1 }
  end
  local free = -math.huge -- the next label below the axis may begin here
  for _, tick in ipairs(x_ticks) do
    local x = box.left + tick.share * (box.right - box.left)
    if page.has_grid then rule("grid", x, box.top, x, box.bottom) end
    rule("frame", x, box.bottom, x, box.bottom + page.tick)
    local half = page.letter(tick.text, "label") / 2
    x = math.min(x, page.width - half)
    if x - half >= free then
      marks[#marks + 1] = { kind = "text", text = tick.text, x = x, anchor = "middle", role = "label",
        y = box.bottom + page.tick + page.line - page.descent }
      free = x + half + page.gap
    end
  end
  for _, tick in ipairs(y_ticks) do
    local y = box.bottom - tick.share * (box.bottom - box.top)
    if page.has_grid then rule("grid", box.left, y, box.right, y) end
    rule("frame", box.left - page.tick, y, box.left, y)
    marks[#marks + 1] = { kind = "text", text = tick.text, x = box.left - page.tick - page.gap / 2, y = y + page.middle,
      anchor = "end", role = "label" }
  end
  rule("frame", box.left, box.top, box.left, box.bottom)
  rule("frame", box.left, box.bottom, box.right, box.bottom)
end

--- points(name, list, page, options) -> marks of a plot of lines or dots (options.shape) of the series.
function figure.points(name, list, page, options)
  local marks = {}
  local x_least, x_most = range(name, list, "x", options)
  local y_least, y_most = range(name, list, "y", options)
  local x_axis = axes.new(x_least, x_most, { log = options.logx, room = options.shape == "dots" and 0.03 or 0.01 })
  local y_axis = axes.new(y_least, y_most, { log = options.logy, room = 0.04 })
  local box, x_ticks, y_ticks = surround(marks, list, page, options, x_axis, y_axis)
  draw_axes(marks, box, page, x_ticks, y_ticks)
  for i, one in ipairs(list) do
    local x = x_axis:share(one.x) * (box.right - box.left) + box.left
    local y = y_axis:share(one.y) * (box.top - box.bottom) + box.bottom
    local points = core.tensor.stack({ x, y }, 2)
    local is_line = options.shape == "line"
    marks[#marks + 1] = { kind = is_line and "line" or "dots", series = i,
      points = is_line and core.plot.thinned(points) or points }
  end
  return marks
end

--- bars(name, list, page, options) -> marks of a histogram of each series' values, in options.bins parts.
function figure.bars(name, list, page, options)
  local marks, least, most = {}, nil, nil
  for _, one in ipairs(list) do
    local low, high = core.plot.range(one.values)
    if low then least, most = math.min(least or low, low), math.max(most or high, high) end
  end
  if not least then caller.raise("%s: there is nothing to plot: no value is finite", name) end
  local x_axis = axes.new(least, most, { room = 0 })
  least, most = x_axis.least, x_axis.most
  local counts, tallest = {}, 0
  for i, one in ipairs(list) do
    counts[i] = core.plot.histogram(one.values, least, most, options.bins):totable()
    for _, count in ipairs(counts[i]) do tallest = math.max(tallest, count) end
  end
  if options.logy then
    if tallest <= 1 then tallest = 10 end
  end
  local y_axis = options.logy and axes.new(0.5, tallest * 1.3, { log = true }) or axes.new(0, tallest * 1.05, {})
  local box, x_ticks, y_ticks = surround(marks, list, page, options, x_axis, y_axis)
  draw_axes(marks, box, page, x_ticks, y_ticks)
  local width = (box.right - box.left) / options.bins
  for i in ipairs(list) do
    for bin, count in ipairs(counts[i]) do
      if count > 0 then
        local left = box.left + (bin - 1) * width + (i - 1) * width / #list
        marks[#marks + 1] = { kind = "bar", series = i, x0 = left + page.apart * width, x1 = left + width / #list,
          y0 = box.bottom - y_axis:share(count) * (box.bottom - box.top), y1 = box.bottom }
      end
    end
  end
  return marks
end

return figure
