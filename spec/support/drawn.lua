--- Draws thousands of views and counts their distributions: for augment_spec.lua and augment_draws_spec.lua.
local drawn = {}

drawn.COUNT = 4000

--- The instructions of `count` views of an image, each drawn for another sample.
function drawn.views(a, count, height, width)
  local views = {}
  for sample = 1, count or drawn.COUNT do
    views[sample] = a:draw({ sample = sample }, height or 40, width or height or 40)[1]
  end
  return views
end

--- The first instruction with that op, or nil.
function drawn.find(view, op)
  for _, instruction in ipairs(view) do
    if instruction.op == op then return instruction end
  end
end

function drawn.has(op) return function(view) return drawn.find(view, op) ~= nil end end

--- The share of the views for which the predicate holds.
function drawn.share(views, predicate)
  local hits = 0
  for _, view in ipairs(views) do if predicate(view) then hits = hits + 1 end end
  return hits / #views
end

--- Raises unless the share is within four standard deviations of a binomial distribution with n draws.
function drawn.near(actual, expected, n)
  local tolerance = 4 * math.sqrt(expected * (1 - expected) / (n or drawn.COUNT))
  if not (math.abs(actual - expected) <= tolerance) then
    error(("%.4f, expected %.4f +- %.4f"):format(actual, expected, tolerance), 2)
  end
end

--- Mean, minimum and maximum of f(view), and for how many views it is a number.
function drawn.spread(views, f)
  local sum, n, least, most = 0, 0, math.huge, -math.huge
  for _, view in ipairs(views) do
    local x = f(view)
    if x then sum, n, least, most = sum + x, n + 1, math.min(least, x), math.max(most, x) end
  end
  return sum / n, least, most, n
end

--- Raises unless f(view) is uniform from low to high: checks its mean, its ends and its middle half.
function drawn.uniform(views, low, high, f)
  local mean, least, most, n = drawn.spread(views, f)
  local width, middle = high - low, (low + high) / 2
  local function claim(ok, what)
    if not ok then error(("%s: mean %g, %g to %g; expected %g to %g"):format(what, mean, least, most, low, high), 3) end
  end
  claim(n >= 100, "too few")
  claim(least >= low - 1e-6 and least <= low + 12 * width / n, "the low end")
  claim(most <= high + 1e-6 and most >= high - 12 * width / n, "the high end")
  claim(math.abs(mean - middle) <= 4 * width / math.sqrt(12 * n), "the mean")
  local _, _, _, inner = drawn.spread(views, function(view)
    local x = f(view)
    return x and math.abs(x - middle) <= width / 4 and x
  end)
  drawn.near(inner / n, 0.5, n)
end

return drawn
