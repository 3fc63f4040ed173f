--- Plots of tensors and tables of numbers: in the terminal, or as an SVG or PNG.
--
--   cld.plot.line(losses)                                                     -- a table or a 1-d tensor
--   cld.plot.line({ train = a, test = b }, { title = "loss", xlabel = "epoch", logy = true, file = "loss.svg" })
--   cld.plot.scatter({ { x, y, label = "cats" }, { u, v, label = "dogs" } }, { file = "map.png" })
--   cld.plot.hist(features, { bins = 50 })
local core = require "cld.core"
local caller = require "cld.caller"
local figure = require "cld.plot.figure"
local series = require "cld.plot.series"
local user_error = require "cld.user_error"
local printable_line = core.text.printable_line

local plot = {}

local names = { "title", "xlabel", "ylabel", "logx", "logy", "width", "height", "file" }
local MOST = 10000 -- pixels or characters

local function check(name, options, more)
  caller.check_fields(name, options, table.move(more, 1, #more, #names + 1, { table.unpack(names) }))
  local settings = {}
  for key, value in pairs(options or {}) do settings[key] = value end
  for _, key in ipairs { "title", "xlabel", "ylabel", "file" } do
    local value = settings[key]
    if value ~= nil and type(value) ~= "string" then
      caller.raise("%s: %s is %s; expected text", name, key, caller.shown(value))
    end
  end
  for _, key in ipairs { "title", "xlabel", "ylabel" } do
    if settings[key] then settings[key] = printable_line(settings[key]) end
  end
  for _, key in ipairs { "width", "height" } do
    if settings[key] ~= nil and caller.integer(name, key, settings[key]) > MOST then
      caller.raise("%s: %s is %d; at most %d", name, key, settings[key], MOST)
    end
  end
  return settings
end

local function kind_of(name, file)
  local kind = file:lower():match "%.([^./]+)$"
  if kind ~= "svg" and kind ~= "png" then
    caller.raise("%s: the name of a file to write ends in .svg or .png, got '%s'", name, file)
  end
  return kind
end

-- The series as rows of characters, laid out by layout(name, list, page, settings).
local function as_text(name, list, settings, layout)
  local back = require "cld.plot.text"
  local columns = math.min(settings.width or math.min(core.screen.facts().columns, 100), 1000)
  local page = back.page(math.max(columns, 24), math.max(math.min(settings.height or 20, 1000), 8))
  local color = settings.color
  if color == nil then color = back.has_color() end
  return back.text(layout(name, list, page, settings), page, color)
end

-- Draws the series into a file or on the terminal, as the settings say.
local function draw(name, list, settings, layout)
  local _ <close> = core.text.c_locale()
  for _, one in ipairs(list) do one.label = one.label and printable_line(one.label) end
  if settings.file then
    local kind = kind_of(name, settings.file)
    local back = require("cld.plot." .. kind)
    local page = back.page(math.max(settings.width or 800, 160), math.max(settings.height or 500, 120))
    local marks = layout(name, list, page, settings)
    if kind == "svg" then
      user_error.call(core.io.write_atomic, settings.file, back.text(marks, page, settings.title))
    else
      user_error.call(core.picture.write, settings.file, "png", back.image(marks, page), 75)
    end
    return settings.file
  end
  io.stdout:write(as_text(name, list, settings, layout))
  io.stdout:flush()
end

--- cld.plot.line(data[, {title, xlabel, ylabel, logx = false, logy = false, width, height, file}]) -> file: draws
-- lines through points. data is y (a table of numbers or a 1-d tensor; x is then 1, 2, 3, ...), a list of {x, y, label
-- = "a"}, {y} or y, or a table {a = y, b = {x, y}} whose keys are the labels. A value that is not finite leaves a gap,
-- and so does one that is not above 0 on a logarithmic axis. file: an .svg or .png of width by height pixels (800 by
-- 500), whose name is returned. A .png has a box in place of a letter that is not ASCII; an .svg has all letters.
-- Without file the plot goes to the terminal, width by height characters (the terminal's, 20), in braille, or in ASCII
-- if the locale is not UTF-8 (LANG=C).
--
--     cld.plot.line({ 3, 2, 1.5, 1.2 }, { title = "loss" })
function plot.line(data, options)
  local settings = check("plot.line", options, {})
  settings.shape = "line"
  return draw("plot.line", series.of("plot.line", data), settings, figure.points)
end

--- cld.plot.text(data[, {color, and line's without file}]) -> text: line's plot as rows of characters, each with a
-- newline, for a program that displays it itself. color: whether lines differ by ANSI colours, or by dashes; by
-- default as standard output supports.
--
--     print((cld.plot.text({ 1, 2, 3 }, { width = 24, height = 8 }):gsub("\n", "")) ~= "")  --> true
function plot.text(data, options)
  local settings = check("plot.text", options, { "color" })
  if settings.file then caller.raise "plot.text: it writes no file; cld.plot.line does" end
  settings.shape = "line"
  local _ <close> = core.text.c_locale()
  local list = series.of("plot.text", data)
  for _, one in ipairs(list) do one.label = one.label and printable_line(one.label) end
  return as_text("plot.text", list, settings, figure.points)
end

--- cld.plot.scatter(data[, options]) -> file: draws a dot at every point; data and options as line's. A tensor (n, 2)
-- holds x and y of n points. A .png has a box in place of a letter that is not ASCII; an .svg has all letters.
--
--     cld.plot.scatter({ { { 1, 2, 3 }, { 2, 4, 3 } } }, { width = 40, height = 10 })
function plot.scatter(data, options)
  local settings = check("plot.scatter", options, {})
  settings.shape = "dots"
  return draw("plot.scatter", series.of("plot.scatter", data), settings, figure.points)
end

--- cld.plot.hist(data[, {bins = 30, and line's without logx}]) -> file: draws the number of values in each of `bins`
-- equal parts of their range, as numpy.histogram counts. data: values (a table of numbers or a tensor of any shape),
-- or a list or table {label = values} of these, whose bars stand side by side. A .png has a box in place of a letter
-- that is not ASCII; an .svg has all letters.
--
--     cld.plot.hist({ 1, 2, 2, 3, 3, 3 }, { bins = 3 })
function plot.hist(data, options)
  local settings = check("plot.hist", options, { "bins" })
  settings.shape = "bars"
  settings.bins = caller.integer("plot.hist", "bins", settings.bins or 30)
  if settings.bins > 1000 then caller.raise("plot.hist: bins is %d; at most 1000", settings.bins) end
  if settings.logx then caller.raise "plot.hist: its x axis is none of logarithms; plot the values' logarithms" end
  return draw("plot.hist", series.values("plot.hist", data), settings, figure.bars)
end

return plot
