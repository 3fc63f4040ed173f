--- Shows a run's curves in the terminal and redraws them while it trains. With several runs, each has a line in every
-- plot.
--
--   cldlua recipes/watch.lua runs/NAME
--   cldlua recipes/watch.lua runs/a runs/b --only loss,top1 --once
--
-- It only reads the runs' logs. It ends when they end, or on Ctrl-C. If a run stops without ending, for example because
-- it was killed, it says how to resume the run.
local cld = require "cld"
local drawn = require "cld.redrawn"
local say = require "cld.say"
local text = require "cld.plot.text"
local watched = require "cld.run.watched"

local opt = cld.options {
  about = "a run's curves in the terminal",
  { "runs",   {}, "folders of runs", value = "arguments" },
  { "every",  5,  "seconds between drawings", above = 0, needs = { "once", false } },
  { "once",   false, "draw once, and leave" },
  { "only",   "", "which curves, separated by commas: loss,top1; empty: as many as there is room for" },
  { "width",  0,  "columns; 0: the terminal's", min = 0, max = 1000, integer = true },
  { "height", 0,  "rows; 0: the terminal's", min = 0, max = 1000, integer = true },
}
cld.dist.first_only()
cld.leave_on_signals()

local runs  = watched.open(opt.runs)
local block = drawn.block()
local is_redrawn = cld.terminal() and not opt.once
repeat
  block:draw(watched.text(runs, {
    only = opt.only, color = text.has_color(), width = opt.width > 0 and opt.width or (cld.terminal() or 80),
    height = opt.height > 0 and opt.height or math.max(cld.terminal_rows() - 1, 1),
    is_limit = is_redrawn or opt.height > 0,
  }))
  local is_over = opt.once or watched.are_over(runs)
  while not is_over do
    cld.sleep(opt.every)
    if watched.renew(runs) then break end
  end
until is_over
for _, line in ipairs(watched.stopped(runs)) do say(line) end
