--- The median of a list of numbers, which it sorts.
return function(list)
  table.sort(list)
  return (list[(#list + 1) // 2] + list[#list // 2 + 1]) / 2
end
