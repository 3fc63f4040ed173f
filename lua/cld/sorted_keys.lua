--- sorted_keys(t) -> a list of t's keys, all strings or all numbers, in order: for messages and files that should not
-- change from one run to the next.
return function(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end
