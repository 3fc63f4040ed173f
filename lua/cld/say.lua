--- say(text): a line of ours on standard output. Names and settings may come out of files: what a terminal would obey
-- is escaped, newlines too, so that the line stays one. What cannot be written is lost (see run/progress.lua).
local printable_line = require "cld.core".text.printable_line

return function(text) io.stdout:write(printable_line(text), "\n") end
