--- `make compare-methods`: every method with and without CLD on generated images of 32 pixels, several seeds each, at
-- equal time. Prints a table in Markdown of kNN top-1, and fails if a method does not leave its untrained network
-- behind.
--
--   cldlua spec/compare_methods.lua --build build --only BYOL --seeds 1
--
-- The method without CLD trains for as many epochs more as its steps are faster, measured beforehand by a short run of
-- each. A run's folder is build/compare/runs/NAME-SEED; one that ended is not made again.
local cld = require "cld"

local opt = cld.options {
  about = "Every method with and without CLD on generated images, at equal time",
  { "build",  "build", "the build folder", nonempty = true },
  { "seeds",  "1,2,3", "seeds of images and runs", value = "integers" },
  { "only",   "",      "just the methods whose name has this in it" },
  { "epochs", 14,      "of a run with CLD", min = 4, integer = true },
  { "linear", false,   "the accuracy of a linear classifier as well" },
}
local ABOVE_UNTRAINED = 10 -- points

local small = "--width 16 --batch-size 128 --warmup-epochs 2"
local patches = " --size 32 --small --augment base --dim 64 --block 64 --queue 512 --moco-m 0.99 --lr 0.15 --clusters 32"
  .. " --schedule cosine --knn-every 100"

-- Of each: the recipe, what all its runs are given, and what makes it plain. A bank or a queue of random rows upsets so
-- small a run: the bank is filled with the untrained network's features first, the queue is small.
local methods = {
  { "NPID", recipe = "cifar10_npid_cld.lua", options = "--clusters 64 --fill-epochs 1", plain = "--lambda 0" },
  { "MoCo", recipe = "cifar10_moco_cld.lua", options = "--clusters 64 --queue 512 --moco-m 0.99 --augment base"
    .. " --no-erasing --lr 0.1", plain = "--lambda 0" },
  { "MoCo v2", recipe = "folder_mocov2_cld.lua", files = true, options = patches, plain = "--lambda 0 --queries 1" },
}

-- ---- commands ----------------------------------------------------------------------

local cldlua, folder = opt.build .. "/cldlua", opt.build .. "/compare"

local function lines_of(format, ...)
  local command = format:format(...)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local lines = {}
  for line in pipe:lines() do lines[#lines + 1] = line end
  if not pipe:close() then
    io.stderr:write(table.concat(lines, "\n"), "\n")
    error("failed: " .. command, 0)
  end
  return lines
end

local function data_of(method, seed)
  local path = ("%s/%s-%d"):format(folder, method.files and "files" or "cifar", seed)
  if not cld.io.exists(path) then
    lines_of("rm -rf '%s.new'; '%s' recipes/make_toy_data.lua --out '%s.new' --seed %d --test 500 %s", path, cldlua, path,
      seed, method.files and "--layout files" or "")
    assert(os.rename(path .. ".new", path))
  end
  return path
end

-- The events of a run's log.
local function log_of(run)
  local events = {}
  local file = io.open(run .. "/log.jsonl")
  if not file then return events end
  for line in file:lines() do events[#events + 1] = cld.json.decode(line) end
  file:close()
  return events
end

local function ended(run)
  local events = log_of(run)
  return #events > 0 and events[#events].event == "end"
end

-- Runs the method unless that is done; the run's folder.
local function trained(method, name, seed, epochs, more)
  local run = ("%s/runs/%s-%d"):format(folder, name, seed)
  if not ended(run) then
    os.execute(("rm -rf '%s'"):format(run))
    lines_of("'%s' recipes/%s --data '%s' %s %s %s --epochs %d --seed %d --runs '%s/runs' --name '%s-%d'", cldlua,
      method.recipe, data_of(method, seed), small, method.options, more, epochs, seed, folder, name, seed)
  end
  return run
end

-- ---- figures -----------------------------------------------------------------------

-- Images a second of the last epoch, and training's seconds.
local function speed(run)
  local events, images = log_of(run), nil
  for _, event in ipairs(events) do
    if event.event == "epoch" then images = event.images_per_second end
  end
  return images, events[#events].seconds
end

-- top-1 in percent of the rows that knn.lua prints.
local function knn(run)
  local top1 = {}
  for _, line in ipairs(lines_of("'%s' recipes/knn.lua --checkpoint '%s' --baselines", cldlua, run)) do
    local value = tonumber(line:match "top%-1%s+([%d.]+)")
    if value then top1[line:match "^after" and "trained" or line:match "^%a+"] = value end
  end
  if not (top1.trained and top1.untrained) then error(run .. ": knn.lua printed no top-1", 0) end
  return top1
end

local function linear(run)
  local lines = lines_of("rm -rf '%s-linear'; '%s' recipes/linear.lua --checkpoint '%s' --epochs 5 --lr 3 --runs '%s/runs'"
    .. " --name '%s-linear'", run, cldlua, run, folder, run:match "[^/]+$")
  local best
  for _, line in ipairs(lines) do best = tonumber(line:match "top1 ([%d.]+) %%") or best end
  return best or error(run .. ": linear.lua printed no top1", 0)
end

local function mean(list)
  local sum = 0
  for _, value in ipairs(list) do sum = sum + value end
  return sum / #list
end

-- "97.2 (96.9, 97.0, 97.7)"
local function shown(list)
  local words = {}
  for i, value in ipairs(list) do words[i] = ("%.1f"):format(value) end
  return #list == 1 and words[1] or ("%.1f (%s)"):format(mean(list), table.concat(words, ", "))
end

-- ---- the comparison ----------------------------------------------------------------

local failures = {}

-- One kind of run of a method over all seeds.
local function measured(method, kind, epochs, more)
  local result = { knn = {}, untrained = {}, linear = {}, seconds = {} }
  for seed in opt.seeds:gmatch "%d+" do
    seed = math.tointeger(seed)
    local name = ("%s-%s"):format(method[1]:lower():gsub(" ", ""), kind)
    local run = trained(method, name, seed, epochs, more)
    local top1 = knn(run)
    table.insert(result.knn, top1.trained)
    table.insert(result.untrained, top1.untrained)
    table.insert(result.seconds, (select(2, speed(run))))
    if opt.linear then table.insert(result.linear, linear(run)) end
    io.stderr:write(("%s, %s, seed %d: %d epochs, %.0f s, kNN %.1f, untrained %.1f\n"):format(method[1], kind, seed,
      epochs, result.seconds[#result.seconds], top1.trained, top1.untrained))
    if not (top1.trained >= top1.untrained + ABOVE_UNTRAINED) then
      table.insert(failures, ("%s, %s, seed %d: kNN %.1f, untrained %.1f"):format(method[1], kind, seed, top1.trained,
        top1.untrained))
    end
  end
  return result
end

-- As many epochs as the method with CLD has time for.
local function plain_epochs(method)
  local name = method[1]:lower():gsub(" ", "")
  local with_cld = speed(trained(method, name .. "-probe-cld", 1, 3, ""))
  local plain = speed(trained(method, name .. "-probe-plain", 1, 3, method.plain))
  return math.floor(opt.epochs * plain / with_cld + 0.5)
end

local rows = {}
for _, method in ipairs(methods) do
  if method[1]:lower():find(opt.only:lower(), 1, true) then
    local epochs = plain_epochs(method)
    local with_cld = measured(method, "cld", opt.epochs, "")
    local plain = measured(method, "plain", epochs, method.plain)
    table.insert(rows, { method[1], shown(with_cld.knn), shown(plain.knn), shown(plain.untrained),
      ("%d, %d"):format(opt.epochs, epochs), ("%.0f, %.0f"):format(mean(with_cld.seconds), mean(plain.seconds)),
      opt.linear and shown(with_cld.linear) or nil, opt.linear and shown(plain.linear) or nil })
  end
end

local heads = { "method", "kNN with CLD", "without", "untrained", "epochs", "seconds" }
if opt.linear then table.move({ "linear with CLD", "without" }, 1, 2, #heads + 1, heads) end
print("| " .. table.concat(heads, " | ") .. " |")
print("|" .. ("---|"):rep(#heads))
for _, row in ipairs(rows) do print("| " .. table.concat(row, " | ") .. " |") end
for _, failure in ipairs(failures) do print("FAILED: " .. failure) end
print(("%d runs below their untrained network + %d points"):format(#failures, ABOVE_UNTRAINED))
os.exit(#failures == 0 and 0 or 1, true)
