--- A plot as an SVG: text as text elements, shapes as paths.
local core = require "cld.core"
local colors = require "cld.plot.colors"
local printable_line = core.text.printable_line

local svg = {}

local SIZES = { label = 13, title = 16 }

-- No font is available to measure; the letters of a sans-serif font are about this wide.
local function letter(text, role) return (utf8.len(text) or #text) * 0.56 * SIZES[role] end

local function cut(text, room)
  local most = math.max(1, math.floor(room / (0.56 * SIZES.label)))
  if (utf8.len(text) or 0) <= most then return text end
  return text:sub(1, utf8.offset(text, most) - 1) .. "…"
end

--- page(width, height) -> the units of a page of pixels (figure.lua).
function svg.page(width, height)
  return { width = width, height = height, line = 19, title = 24, descent = 5, gap = 8, between = 16, middle = 4.5,
    tick = 5, edge = 18, key = 24, can_turn = true, has_grid = true, tick_every = { 75, 45 }, apart = 0.06,
    letter = letter, cut = cut }
end

local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

-- Escapes any text for XML.
local function escaped(text) return (printable_line(text):gsub("[&<>\"']", entities)) end

local function hex(color) return ("#%02x%02x%02x"):format(table.unpack(color)) end

local function number(value) return (("%.1f"):format(value):gsub("%.0$", "")) end

local function dash_of(i)
  local dash = colors.dash(i)
  return dash and (' stroke-dasharray="%d %d"'):format(dash[1], dash[2]) or ""
end

local draw = {}

function draw.line(mark)
  return ('<path class="line" d="%s" stroke="%s" stroke-width="2"%s/>'):format(core.plot.path(mark.points, "lines"),
    hex(colors.of(mark.series)), dash_of(mark.series))
end

function draw.dots(mark)
  return ('<path class="dots" d="%s" stroke="%s" stroke-width="5" stroke-opacity="0.75"/>'):format(
    core.plot.path(mark.points, "discs"), hex(colors.of(mark.series)))
end

function draw.rule(mark)
  return ('<path d="M%s %sL%s %s" stroke="%s"/>'):format(number(mark.x0), number(mark.y0), number(mark.x1),
    number(mark.y1), hex(colors[mark.role]))
end

function draw.bar(mark)
  return ('<rect class="bar" x="%s" y="%s" width="%s" height="%s" fill="%s"/>'):format(number(mark.x0), number(mark.y0),
    number(mark.x1 - mark.x0), number(mark.y1 - mark.y0), hex(colors.of(mark.series)))
end

function draw.text(mark)
  local x, y = number(mark.x), number(mark.y)
  return ('<text x="%s" y="%s" font-size="%d" text-anchor="%s" fill="%s"%s>%s</text>'):format(x, y, SIZES[mark.role],
    mark.anchor, hex(colors.ink), mark.vertical and (' transform="rotate(-90 %s %s)"'):format(x, y) or "",
    escaped(mark.text))
end

function draw.key(mark)
  local color, y = hex(colors.of(mark.series)), number(mark.y)
  if mark.shape == "bars" then
    return ('<rect x="%s" y="%s" width="12" height="12" fill="%s"/>'):format(number(mark.x + 6), number(mark.y - 6),
      color)
  end
  if mark.shape == "dots" then
    return ('<path d="M%s %sh0" stroke="%s" stroke-width="8"/>'):format(number(mark.x + 12), y, color)
  end
  return ('<path d="M%s %sh24" stroke="%s" stroke-width="2"%s/>'):format(number(mark.x), y, color, dash_of(mark.series))
end

--- text(marks, page, title) -> an SVG file's text.
function svg.text(marks, page, title)
  local parts = {
    ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" ')
      :format(page.width, page.height, page.width, page.height)
      .. 'font-family="Helvetica, Arial, \'DejaVu Sans\', sans-serif" fill="none" stroke-linecap="round" '
      .. 'stroke-linejoin="round">',
  }
  if title then parts[2] = ("<title>%s</title>"):format(escaped(title)) end
  parts[#parts + 1] = ('<rect width="%d" height="%d" fill="%s"/>'):format(page.width, page.height, hex(colors.ground))
  for _, mark in ipairs(marks) do parts[#parts + 1] = draw[mark.kind](mark) end
  parts[#parts + 1] = "</svg>\n"
  return table.concat(parts, "\n")
end

return svg
