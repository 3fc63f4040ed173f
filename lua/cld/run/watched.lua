--- Curves of running runs as text, for recipes/watch.lua: reads their logs (history.lua) and draws a small plot per
-- curve (cld.plot) in a grid that fits the terminal, with a line for each run.
local core = require "cld.core"
local figures = require "cld.run.figures"
local history = require "cld.run.history"
local letters = require "cld.letters"
local plot = require "cld.plot"
local progress = require "cld.run.progress"
local shell = require "cld.export.usage".shell
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"
local printable_line = core.text.printable_line

local watched = {}

-- The curves in the order in which they are shown while there is room; the others follow by name.
local first = {
  "top1", "loss", "instance", "cld", "jigsaw", "effective_rank", "grad_norm", "lr", "images_per_second", "data_wait",
}

-- The least columns of a plot beside others; one alone takes at least LEAST_PLOT, and all LEAST_HEIGHT rows (cld.plot).
local LEAST_WIDTH, LEAST_PLOT, LEAST_HEIGHT = 38, 24, 8

-- ---- runs ---------------------------------------------------------------------------

local function size_of(path)
  local log = path .. "/log.jsonl"
  local file <close> = core.io.exists(log) == "file" and io.open(log, "rb") or nil
  return file and file:seek "end" or -1
end

--- open(folders) -> a list of {path, run}, where run is what history.read returns. The user's error if one is not a
-- run's folder.
function watched.open(folders)
  if #folders == 0 then user_error.raise "expected the folder of a run, such as runs/NAME" end
  local list = {}
  for i, path in ipairs(folders) do
    local run, why = history.read(path)
    if not run then user_error.raise("%s: %s", path, why) end
    list[i] = { path = path, run = run, size = size_of(path), in_use = core.io.in_use(path) }
  end
  return list
end

--- renew(list) -> whether a run has logged anything since, has stopped or goes on. The user's error if a folder is
-- gone.
function watched.renew(list)
  local is_new = false
  for _, one in ipairs(list) do
    local size, in_use = size_of(one.path), core.io.in_use(one.path)
    if size ~= one.size or in_use ~= one.in_use then
      local run, why = history.read(one.path)
      if not run then user_error.raise("%s: %s any more", one.path, why) end
      one.run, one.size, one.in_use, is_new = run, size, in_use, true
    end
  end
  return is_new
end

--- are_over(list) -> whether every run has ended or stopped. One that was killed counts as still running if its
-- folder's lock cannot tell (cld.io.in_use).
function watched.are_over(list)
  for _, one in ipairs(list) do
    local state = one.run.state
    if state == "unfinished" or state == "running" then return false end
  end
  return true
end

--- stopped(list) -> a list of lines: for each run that stopped before its end, how far it got and what resumes it.
function watched.stopped(list)
  local lines = {}
  for _, one in ipairs(list) do
    local run = one.run
    if run.state == "stopped" then
      local recipe = type(run.facts.recipe) == "string" and run.facts.recipe or "recipes/NAME.lua"
      local where = run.epochs_done > 0 and "after epoch " .. run.epochs_done or "in its first epoch"
      lines[#lines + 1] = printable_line(("%s: the run stopped %s without ending (killed, or an error?); resume it"
        .. " with: cldlua %s --resume %s"):format(one.path, where, shell(recipe), shell(one.path)))
    end
  end
  return lines
end

-- ---- text ---------------------------------------------------------------------------

local function last(run, name)
  local curve = run.curves[name]
  return curve and curve[#curve].value
end

-- A line, cut to the columns of the terminal.
local function cut(text, columns) return letters.cut(letters.shown(text), columns) end

local states = {
  ended = "ended", interrupted = "stopped by a signal", running = "running", stopped = "stopped without ending",
  unfinished = "running, or killed",
}

-- "runs/npid: running, 12 of 200 epochs, 0:31, best top1 81.20 % (epoch 10), last line at 2030-01-31T..."
local function header(one)
  local run = one.run
  local words = { ("%s: %s"):format(one.path, states[run.state]) }
  local total = math.type(run.options.epochs) == "integer" and run.options.epochs or nil
  words[#words + 1] = ("%d%s epoch%s"):format(run.epochs_done, total and " of " .. total or "",
    (total or run.epochs_done) == 1 and "" or "s")
  if run.seconds then words[#words + 1] = progress.duration(run.seconds) end
  local best = run.best
  if best and type(best.name) == "string" and math.type(best.value) and math.type(best.epoch) == "integer" then
    words[#words + 1] = ("best %s %.2f %% (epoch %d)"):format(best.name, 100 * best.value, best.epoch)
  end
  local event = run.events[#run.events]
  local has_no_end = run.state ~= "ended" and run.state ~= "interrupted"
  if has_no_end and event and type(event.date) == "string" then
    words[#words + 1] = "last line at " .. event.date
  end
  return printable_line(table.concat(words, ", "))
end

local function exists(list, name)
  for _, one in ipairs(list) do
    if one.run.curves[name] then return true end
  end
  return false
end

-- The names of all curves of all runs, in the order in which they are shown.
local function ordered(list)
  local names, known = {}, {}
  for _, name in ipairs(first) do
    if exists(list, name) then names[#names + 1], known[name] = name, true end
  end
  local rest = {}
  for _, one in ipairs(list) do
    for name in pairs(one.run.curves) do
      if not known[name] then rest[name] = true end
    end
  end
  for _, name in ipairs(sorted_keys(rest)) do names[#names + 1] = name end
  return names
end

-- The curves named by --only that exist so far. If there are curves, a name that no run has is the user's error.
local function chosen(list, only)
  local names, all = {}, ordered(list)
  if not only:find "[^,%s]" then
    user_error.raise("option '--only': expected names of curves, separated by commas, got '%s'", only)
  end
  for name in only:gmatch "[^,%s]+" do
    if exists(list, name) then
      names[#names + 1] = name
    elseif #all > 0 then
      user_error.raise("option '--only': no run has logged '%s'%s; known curves: %s", name, user_error.hint(name, all),
        table.concat(all, ", "))
    end
  end
  return names
end

-- {x, y, label}, and whether any of it is visible.
local function line_of(one, name, is_alone)
  local x, y, is_seen = {}, {}, false
  for i, point in ipairs(one.run.curves[name] or {}) do
    x[i], y[i] = point.epoch, point.value
    is_seen = is_seen or point.value - point.value == 0 and point.epoch - point.epoch == 0
  end
  return { x, y, label = not is_alone and one.run.name or nil }, is_seen
end

-- The columns that text takes on a terminal, not counting colour codes.
local function columns_of(text) return utf8.len((text:gsub("\27%[[%d;]*m", ""))) end

-- Blocks of text side by side, each as wide as `width`.
local function beside(blocks, width)
  local rows, height = {}, 0
  for i, block in ipairs(blocks) do
    local row = 0
    for line in (block .. "\n"):gmatch "([^\n]*)\n" do
      row = row + 1
      rows[row] = rows[row] or {}
      rows[row][i] = line
    end
    height = math.max(height, row)
  end
  for row = 1, height do
    local parts = {}
    for i = 1, #blocks do
      local line = rows[row] and rows[row][i] or ""
      parts[i] = i < #blocks and line .. (" "):rep(width - columns_of(line)) or line
    end
    rows[row] = table.concat(parts, "  "):gsub("%s+$", "")
  end
  return table.concat(rows, "\n")
end

-- A curve's name and its last value in each run, as one line.
local function value_line(list, name)
  local values = {}
  for i, one in ipairs(list) do
    local value = last(one.run, name)
    values[i] = value and figures.text("%.4g", value) or "-"
  end
  return printable_line(name .. "  " .. table.concat(values, "  "))
end

local function plotted(list, name, width, height, color)
  local lines, is_any = {}, false
  for i, one in ipairs(list) do
    local is_seen
    lines[i], is_seen = line_of(one, name, #list == 1)
    is_any = is_any or is_seen
  end
  local title = value_line(list, name)
  if not is_any then return cut(title, width) .. "\n(nothing to draw yet)" end
  return (plot.text(lines, { width = width, height = height, color = color, title = title }):gsub("\n$", ""))
end

-- How the curves are laid out in so many rows of text: {per_row, rows = rows of plots, width and height of a plot,
-- has_rest = whether a line is left for the values of the other curves}.
local function layout(list, names, room, options)
  local per_row = math.max(1, math.min(options.width // (LEAST_WIDTH + 2), #names))
  local rows = (#names + per_row - 1) // per_row
  local has_rest = false
  if options.only == "" or options.is_limit then
    has_rest = #list == 1 and rows > room // LEAST_HEIGHT and room > LEAST_HEIGHT
    if has_rest then room = room - 1 end
    rows = math.min(room // LEAST_HEIGHT, rows)
  end
  return { per_row = per_row, rows = rows, width = (options.width - 2 * (per_row - 1)) // per_row,
    height = math.min(math.max(room // rows, LEAST_HEIGHT), 24), has_rest = has_rest }
end

-- The curves as plots, LEAST_HEIGHT rows or more.
local function add_plots(parts, list, names, room, options)
  local how = layout(list, names, room, options)
  local shown = math.min(#names, how.rows * how.per_row)
  for at = 1, shown, how.per_row do
    local blocks = {}
    for i = at, math.min(at + how.per_row - 1, shown) do
      blocks[#blocks + 1] = plotted(list, names[i], how.width, how.height, options.color)
    end
    parts[#parts + 1] = beside(blocks, how.width)
  end
  if not how.has_rest or shown == #names then return end
  local rest = {}
  for i = shown + 1, #names do rest[#rest + 1] = value_line(list, names[i]) end
  parts[#parts + 1] = cut(table.concat(rest, "  "), options.width)
end

-- The runs' headers, in so many rows.
local function headers(list, width, room)
  local parts = {}
  for i, one in ipairs(list) do
    if i == room and i < #list then
      parts[i] = cut(("... and %d more runs"):format(#list - i + 1), width)
      break
    end
    parts[i] = cut(header(one), width)
  end
  return parts
end

--- text(list, {width =, height =, is_limit =, only = "" or names separated by commas, color =}) -> the runs' curves as
-- text of so many columns and rows. It has more rows if it needs them, unless is_limit is true. If there is no room
-- for a plot, the curves' last values are shown.
function watched.text(list, options)
  local _ <close> = core.text.c_locale()
  local width, is_limit = options.width, options.is_limit
  local parts = headers(list, width, is_limit and options.height or math.huge)
  local room = options.height - #parts
  if not is_limit then room = math.max(room, LEAST_HEIGHT) end
  local names = options.only ~= "" and chosen(list, options.only) or ordered(list)
  if #names == 0 then
    parts[#parts + 1] = room > 0 and cut("nothing is logged yet", width) or nil
  elseif width >= LEAST_PLOT and room >= LEAST_HEIGHT then
    add_plots(parts, list, names, room, options)
  else
    for i = 1, math.min(#names, room) do parts[#parts + 1] = cut(value_line(list, names[i]), width) end
  end
  return table.concat(parts, "\n")
end

return watched
