--- say(text): prints a line on standard output. Names and settings in it may come from files: characters that a
-- terminal would interpret are escaped, newlines too, so that it stays one line. Text that cannot be written is lost
-- (see run/progress.lua).
local printable_line = require "cld.core".text.printable_line

return function(text) io.stdout:write(printable_line(text), "\n") end
