--- say(text): prints one of our lines on standard output. Names and settings may come from files: characters that a
-- terminal would interpret are escaped, newlines too, so that the line stays one. Text that cannot be written is lost
-- (see run/progress.lua).
local printable_line = require "cld.core".text.printable_line

return function(text) io.stdout:write(printable_line(text), "\n") end
