--- `make demo-check`: checks that a demo learns. Runs `make demo`, or another, with three seeds and reads its table of
-- kNN accuracies: the trained network's must be at least 20 points above that of raw pixels and 10 above the untrained
-- network's.
--
--   cldlua spec/demo_check.lua make demo        -- the command; SEED=<n> is appended
local command = table.concat(arg, " ")
local SEEDS, ABOVE_PIXELS, ABOVE_UNTRAINED = { 1, 2, 3 }, 20, 10

-- The rows of the table (see recipes/knn.lua), and how each begins.
local rows = { pixels = "^raw pixels", untrained = "^untrained network", trained = "^after %d+ epochs" }

-- Runs the demo, its output shown as it comes; top-1 in percent by row.
local function demo(seed)
  local line_command = ("%s SEED=%d"):format(command, seed)
  local pipe = assert(io.popen(line_command .. " 2>&1"))
  local top1 = {}
  for line in pipe:lines() do
    print(line)
    for row, beginning in pairs(rows) do
      if line:find(beginning) then top1[row] = tonumber(line:match "top%-1%s+([%d.]+)") end
    end
  end
  if not pipe:close() then error(line_command .. " failed", 0) end
  for row in pairs(rows) do
    if not top1[row] then error(("%s printed no row '%s' with a top-1"):format(line_command, row), 0) end
  end
  return top1
end

local failed = 0
local summary = {}
for i, seed in ipairs(SEEDS) do
  local t = demo(seed)
  local learned = t.trained - t.pixels >= ABOVE_PIXELS and t.trained - t.untrained >= ABOVE_UNTRAINED
  if not learned then failed = failed + 1 end
  summary[i] = ("seed %d: raw pixels %.1f, untrained %.1f, trained %.1f: %s"):format(seed, t.pixels, t.untrained,
    t.trained, learned and "ok" or "FAILED")
end

print(("\ntrained must be >= raw pixels + %d and >= untrained + %d"):format(ABOVE_PIXELS, ABOVE_UNTRAINED))
print(table.concat(summary, "\n"))
print(("%d passed, %d failed"):format(#SEEDS - failed, failed))
os.exit(failed == 0 and 0 or 1, true)
