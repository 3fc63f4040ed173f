--- sorted_keys(t) -> a list of t's keys, all strings or all numbers, in order; strings are ordered by their bytes in
-- every locale. For messages and files that should not change from run to run.
local c_locale = require "cld.core".text.c_locale

return function(t)
  local _ <close> = c_locale()
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end
