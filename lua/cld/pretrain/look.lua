--- The facts on which recipes/pretrain.lua bases its choices: the images, the machine, and the cost of a view on it.
local core = require "cld.core"
local counter = require "cld.counter"
local models = require "cld.models"
local sets = require "cld.data.sets"
local splits = require "cld.data.splits"
local sweep = require "cld.data.sweep"
local user_error = require "cld.user_error"

local look = {}

local LOOKED_AT = 500 -- images, evenly spread over the set
local LEAST_IMAGES = 16
local MOST_BAD = 0.2
local MINUTES = 480 -- a night

-- ---- images -------------------------------------------------------------------------

local function spread(set)
  if #set <= LOOKED_AT then return set end
  local rows = {}
  for i = 0, LOOKED_AT - 1 do rows[i + 1] = i * #set // LOOKED_AT end
  return sets.subset { set, indices = core.tensor.tensor(rows, "i64") }
end

-- {side = median of the shorter sides, looked = images examined, bad = share that cannot be read, first_bad, reading =
-- seconds per image, with all workers}. Images are decoded at full size; training may read JPEG files smaller, and
-- faster.
local function look_at(set, workers)
  local part, shorter, problems, began = spread(set), {}, {}, core.system.clock()
  local count = counter.new("looking", #part)
  for item in sweep { part, workers = workers } do
    if item.problem then
      problems[#problems + 1] = ("%s: %s"):format(part.source:describe(item.row - 1), item.problem)
    else
      shorter[#shorter + 1] = math.min(item.height, item.width)
    end
    count:step()
  end
  count:clear()
  if #shorter == 0 then
    user_error.raise("%s: none of the %d images looked at can be read, such as %s", set.name, #part, problems[1])
  end
  table.sort(shorter)
  return {
    side = shorter[(#shorter + 1) // 2], looked = #part, bad = #problems / #part, first_bad = problems[1],
    reading = (core.system.clock() - began) / #part,
  }
end

-- ---- the cost of a view ---------------------------------------------------------------

-- Seconds and bytes for one view, forward and backward, through an encoder at some size, measured in the second of two
-- steps.
local function measure(arch, stem, size, width, device)
  local on_gpu = device ~= "cpu"
  local views = on_gpu and 64 or 16
  local memory, reset_peak = core.system.memory, core.system.reset_peak
  if on_gpu then memory, reset_peak = core.cuda.memory, core.cuda.reset_peak end
  local net = models[arch] { small = stem == "cifar", width = width, branches = { "instance" } }:to(device)
  local images = core.tensor.randn(views, 3, size, size, { device = device })
  local seconds, bytes
  for _ = 1, 2 do
    reset_peak()
    local before, began = memory().in_use, core.system.clock()
    local loss = net(images):square():mean()
    loss:backward()
    loss:item() -- waits for a GPU
    seconds, bytes = core.system.clock() - began, memory().peak - before
    loss:close()
  end
  return seconds / views, bytes / views
end

-- Returns cost(arch, stem, size) -> {seconds =, bytes =} for a view: measured at one size for each encoder, and scaled
-- by the number of pixels for other sizes.
local function costs(width, device)
  local known = {}
  return function(arch, stem, size)
    local name, of = arch .. stem, stem == "cifar" and 32 or 96
    if not known[name] then
      local seconds, bytes = measure(arch, stem, of, width, device)
      known[name] = { seconds = seconds, bytes = bytes }
    end
    local pixels = (size / of) ^ 2
    return { seconds = known[name].seconds * pixels, bytes = known[name].bytes * pixels }
  end
end

-- held: the images that were kept out of training for tests, or nil.
local function check_enough(data, train, held)
  if #train >= LEAST_IMAGES then return end
  user_error.raise("%s: %d image%s to train on%s; expected %d or more (folder_npid_cld.lua takes two)", data, #train,
    #train == 1 and "" or "s", held and (", as --holdout keeps %d of %d from training"):format(#held,
      #train + #held) or "", LEAST_IMAGES)
end

-- ---- together -----------------------------------------------------------------------

--- facts(asked) -> {data, images (to train on), classes (0: no labels), test (images to score by), side, looked, bad,
-- first_bad, reading (seconds for an image), gpu (its name, or nil), cores, memory (bytes), ranks, minutes,
-- linear_epochs, cost(arch, stem, size)}. A user error if the images cannot be trained on.
function look.facts(asked)
  local train, test, note = splits.folder(asked)
  check_enough(asked.data, train, note and test)
  local host = core.system.host()
  local facts = look_at(train, math.max(math.min(host.cores - 1, 8), 1)) -- as many as training will use
  if facts.bad > MOST_BAD then
    user_error.raise("%s: %.0f %% of the images looked at cannot be read, such as %s; check_data.lua lists them",
      asked.data, 100 * facts.bad, facts.first_bad)
  end
  if asked.threads > 0 then user_error.call(core.system.set_num_threads, asked.threads) end
  local device = user_error.call(core.cuda.resolve, asked.device)
  local ranks = core.dist.ranks()
  facts.data, facts.images = asked.data, #train
  facts.classes, facts.test = test and train.classes or 0, test and #test or 0
  facts.gpu = device ~= "cpu" and core.cuda.devices()[device:match "%d+$" + 1].name or nil
  facts.cores, facts.ranks = host.cores, ranks.alone and 1 or ranks.world
  facts.memory = (device == "cpu" and core.system.memory or core.cuda.memory)().limit
  facts.minutes = asked.minutes > 0 and asked.minutes or MINUTES
  facts.linear_epochs = asked.linear_epochs
  facts.cost = costs(asked.width, device)
  return facts
end

--- The facts in a line: "photos: 1,000 images, ...".
function look.text(f)
  local classes = f.classes > 0 and (" of %d classes, %d more to test by"):format(f.classes, f.test) or ", no classes"
  local looked = f.looked < f.images and (" (of %d looked at)"):format(f.looked) or ""
  return ("%s: %d images to train on%s; median shorter side %d pixel%s%s; %s"):format(f.data, f.images, classes, f.side,
    f.side == 1 and "" or "s", looked, f.gpu or ("%d core%s and no GPU"):format(f.cores, f.cores == 1 and "" or "s"))
end

return look
