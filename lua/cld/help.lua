--- cld.help([x]): prints the help for x: a function, a module, a tensor or another object of cld, or a string with a
-- name or topic. Without x it explains how to ask. For an unknown name it prints the nearest ones. In the session it is
-- the global `help`.
--
--     cld.help "conv2d"
--     cld.help(cld.nn)

-- The texts are the comments that open with three dashes (help/comments.lua), which `make` collects, and the topics in
-- help/topics. help/find.lua finds the text for x, help/shown.lua formats it as lines.
local core = require "cld.core"
local caller = require "cld.caller"
local say = require "cld.say"

local function lines_for(...)
  local find, shown = require "cld.help.find", require "cld.help.shown"
  if select("#", ...) == 0 then return shown.overview() end
  local asked = ...
  if type(asked) == "string" then return shown.found(find.by_name(asked), asked) end
  local found = find.by_value(asked)
  if found then return shown.found(found) end
  return { ("help: there is no text on %s; help() says how to ask"):format(caller.shown(asked)) }
end

local help = {}

local function text_of(...)
  local _ <close> = core.text.c_locale()
  return lines_for(...)
end

return setmetatable(help, {
  __name = "cld.help",
  __call = function(_, ...)
    for _, line in ipairs(text_of(...)) do say(line) end
  end,
  __tostring = function() return table.concat(text_of(), "\n") end, -- typed without parentheses
})
