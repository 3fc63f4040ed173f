--- `make compare-methods`: every method with and without CLD on generated images of 32 pixels, several seeds each, for
-- the same time. Prints a Markdown table of kNN top-1, and fails if a method is no better than its untrained network.
-- `make demo-check` uses it to run each CIFAR recipe.
--
--   cldlua spec/compare_methods.lua --build build --only BYOL --seeds 1
--
-- Time is a run's processor time on one thread, which busy neighbours hardly change. The seeds run side by side. The
-- epochs of a method without CLD are faster, so it trains for more of them, as a short run of each before the
-- comparison tells. Runs are kept in build/compare/runs; a finished one is not repeated.
local cld = require "cld"

local opt = cld.options {
  about = "Every method with and without CLD on generated images, at equal time",
  { "build",  "build", "the build folder", nonempty = true },
  { "seeds",  "1,2,3", "seeds of images and runs", value = "integers" },
  { "only",   "",      "just those with this in the method's name or the recipe's" },
  { "plain",  true,    "compare with the method without CLD" },
  { "epochs", 10,      "of a run with CLD", min = 4, integer = true },
  { "linear", false,   "the accuracy of a linear classifier as well" },
}
local ABOVE_UNTRAINED = 10 -- points

local small = "--width 16 --warmup-epochs 2 --augment base --threads 1 --workers 0"
local cifar = "--batch-size 128 --clusters 64"
local byol = "--batch-size 32 --clusters 16 --lr 1.5 --weight-decay 1e-5 --tau 0.9"
local files = "--batch-size 128 --clusters 32 --size 32 --small --dim 64 --block 64 --queue 512 --moco-m 0.99 --lr 0.15"
  .. " --schedule cosine --knn-every 100"

-- Of each: its name, the recipe, what all its runs are given, and what makes it plain; without that it is the method of
-- another entry, and only --no-plain runs it; `times` as many epochs are for one that is slow to learn without CLD. The
-- settings are for so short a training: a small queue, quick momentum; and a bank, whose random rows would upset it,
-- that is filled with the untrained network's features first.
local methods = {
  { "NPID", "cifar10_npid_cld.lua", cifar .. " --fill-epochs 1", "--lambda 0" },
  { "NPID, 256 negatives", "cifar10_npid_cld.lua", cifar .. " --fill-epochs 1 --nce-k 256 --nce-t 0.2", "--lambda 0" },
  { "MoCo", "cifar10_moco_cld.lua", cifar .. " --no-erasing --queue 512 --moco-m 0.99 --lr 0.1", "--lambda 0" },
  { "BYOL", "cifar10_byol_cld.lua", byol, "--lambda 0", times = 4 },
  { "NPID as for CIFAR-100", "cifar100_npid_cld.lua", cifar .. " --dataset cifar10 --fill-epochs 1" },
  { "MoCo as for CIFAR-100", "cifar100_moco_cld.lua",
    cifar .. " --dataset cifar10 --queue 512 --moco-m 0.99 --lr 0.1" },
  { "BYOL as for CIFAR-100", "cifar100_byol_cld.lua", byol .. " --dataset cifar10" },
  { "SimCLR", "cifar10_simclr.lua", cifar .. " --lambda 0.25", "--lambda 0" },
  { "MoCo v2", "folder_mocov2_cld.lua", files, "--lambda 0 --queries 1" },
  { "InfoMin", "folder_infomin_cld.lua", files, "--lambda 0 --queries 1", times = 1.5 },
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
  local is_files = method[2]:find "^folder" ~= nil
  local path = ("%s/%s-%d"):format(folder, is_files and "files" or "cifar", seed)
  if not cld.io.exists(path) then
    lines_of("rm -rf '%s.new'; '%s' recipes/make_toy_data.lua --out '%s.new' --seed %d --test 500 %s", path, cldlua,
      path, seed, is_files and "--layout files" or "")
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

local function file_name(method, kind)
  return method[1]:lower():gsub("[^a-z0-9]", "") .. "-" .. kind
end

-- Runs the method with all seeds side by side, those that are not done. {folder of seed 1, ...}
local function train(method, kind, seeds, epochs, more)
  local runs, going = {}, {}
  for i, seed in ipairs(seeds) do
    local name = ("%s-%d-epochs-%d"):format(file_name(method, kind), epochs, seed)
    runs[i] = ("%s/runs/%s"):format(folder, name)
    if not ended(runs[i]) then
      os.execute(("rm -rf '%s'"):format(runs[i]))
      local command = ("'%s' recipes/%s --data '%s' --runs '%s/runs' --name '%s' --seed %d --epochs %d %s %s %s")
        :format(cldlua, method[2], data_of(method, seed), folder, name, seed, epochs, small, method[3], more)
      going[#going + 1] = { command, assert(io.popen(("exec 2>&1; %s; code=$?; times; exit $code"):format(command))),
        runs[i] }
    end
  end
  for _, one in ipairs(going) do
    local command, pipe, run = table.unpack(one)
    local lines = {}
    for line in pipe:lines() do lines[#lines + 1] = line end
    if not pipe:close() then
      io.stderr:write(table.concat(lines, "\n"), "\n")
      error("failed: " .. command, 0)
    end
    local minutes, seconds = lines[#lines]:match "^(%d+)m([%d.]+)s" -- the user time of the shell's children
    local file = assert(io.open(run .. "/processor_seconds", "w"))
    file:write(60 * minutes + seconds, "\n")
    assert(file:close())
  end
  return runs
end

-- ---- figures -----------------------------------------------------------------------

local function processor_seconds(run)
  local file = assert(io.open(run .. "/processor_seconds"))
  local seconds = file:read "n"
  file:close()
  return seconds
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
  local lines = lines_of("rm -rf '%s-linear'; '%s' recipes/linear.lua --checkpoint '%s' --epochs 5 --lr 3"
    .. " --runs '%s/runs' --name '%s-linear'", run, cldlua, run, folder, run:match "[^/]+$")
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

local failures, count = {}, 0

local seeds = {}
for seed in opt.seeds:gmatch "%d+" do seeds[#seeds + 1] = math.tointeger(seed) end

-- One kind of run of a method over all seeds.
local function measured(method, kind, epochs, more)
  local result = { knn = {}, untrained = {}, linear = {}, seconds = {} }
  for i, run in ipairs(train(method, kind, seeds, epochs, more)) do
    local top1 = knn(run)
    result.knn[i], result.untrained[i], result.seconds[i] = top1.trained, top1.untrained, processor_seconds(run)
    if opt.linear then result.linear[i] = linear(run) end
    io.stderr:write(("%s, %s, seed %d: %d epochs, %.0f s, kNN %.1f, untrained %.1f\n"):format(method[1], kind, seeds[i],
      epochs, result.seconds[i], top1.trained, top1.untrained))
    count = count + 1
    if not (top1.trained >= top1.untrained + ABOVE_UNTRAINED) then
      table.insert(failures, ("%s, %s, seed %d: kNN %.1f, untrained %.1f"):format(method[1], kind, seeds[i],
        top1.trained, top1.untrained))
    end
  end
  return result
end

local SHORT, LONG = 2, 4 -- epochs, more than those in which only a memory bank is filled

-- The processor seconds of an epoch.
local function epoch_seconds(method, kind, more)
  local short = processor_seconds(train(method, kind, { seeds[1] }, SHORT, more)[1])
  local long = processor_seconds(train(method, kind, { seeds[1] }, LONG, more)[1])
  return (long - short) / (LONG - SHORT)
end

-- As many epochs as the method with CLD has time for in so many of its own.
local function plain_epochs(method, epochs)
  return math.floor(epochs * epoch_seconds(method, "cld", "") / epoch_seconds(method, "plain", method[4]) + 0.5)
end

local function seconds(results)
  local words = {}
  for i, result in ipairs(results) do words[i] = ("%.0f"):format(mean(result.seconds)) end
  return table.concat(words, ", ")
end

local heads = { "method", "recipe", "epochs", "seconds", "untrained", "kNN with CLD" }
local function head(name) heads[#heads + 1] = name end
if opt.plain then head "kNN without" end
if opt.linear then head "linear with CLD" end
if opt.linear and opt.plain then head "linear without" end

local rows = {}
for _, method in ipairs(methods) do
  local is_wanted = (method[1] .. " " .. method[2]):lower():find(opt.only:lower(), 1, true)
  if is_wanted and (method[4] or not opt.plain) then
    local epochs = { math.floor(opt.epochs * (opt.plain and method.times or 1)) }
    local results = { measured(method, "cld", epochs[1], "") }
    if opt.plain then
      epochs[2] = plain_epochs(method, epochs[1])
      results[2] = measured(method, "plain", epochs[2], method[4])
    end
    local row = { method[1], "`" .. method[2] .. "`", table.concat(epochs, ", "), seconds(results),
      shown(results[1].untrained) }
    for _, result in ipairs(results) do row[#row + 1] = shown(result.knn) end
    for _, result in ipairs(opt.linear and results or {}) do row[#row + 1] = shown(result.linear) end
    rows[#rows + 1] = row
  end
end

print("| " .. table.concat(heads, " | ") .. " |")
print("|" .. ("---|"):rep(#heads))
for _, row in ipairs(rows) do print("| " .. table.concat(row, " | ") .. " |") end
for _, failure in ipairs(failures) do print("FAILED: " .. failure) end
print(("%d of %d runs below their untrained network + %d points"):format(#failures, count, ABOVE_UNTRAINED))
os.exit(#failures == 0 and 0 or 1, true)
