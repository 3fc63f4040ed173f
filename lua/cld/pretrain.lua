--- One command without choices (recipes/pretrain.lua): the images in a folder and the machine (pretrain/look.lua)
-- determine the method and its settings. This file has the decisions: `rules`, in order, each with its reason. They
-- are our own; recipes/README.md has the measurements behind them.
local dist = require "cld.dist"
local folder = require "cld.run.folder"
local json = require "cld.json"
local look = require "cld.pretrain.look"
local progress = require "cld.run.progress"
local user_error = require "cld.user_error"

local pretrain = {}

--- The methods to choose from: their names, their recipes, and the cost of an image in views of training.
pretrain.methods = {
  npid   = { name = "NPID + CLD", recipe = "folder_npid_cld.lua", views = 2 },
  mocov2 = { name = "MoCo v2 + CLD", recipe = "folder_mocov2_cld.lua", views = 2.33 }, -- two queries, and a key forward
  byol   = { name = "BYOL + CLD", recipe = "folder_byol_cld.lua", views = 2.67 }, -- two, and both forward in the target
}

local sides = { 224, 192, 160, 128, 96, 64, 48, 32 }
local FEW_EPOCHS = 100 -- larger images are not worth training for fewer epochs than this
local EVALUATIONS = 20 -- by kNN, in a run
local MANY_IMAGES = 200000 -- with so many, a row of NPID's bank is old before its image comes again

-- ---- arithmetic ---------------------------------------------------------------------

local function clamp(value, least, most) return math.max(least, math.min(value, most)) end

-- The largest power of two that is not above a number of at least 1.
local function power_below(number) return 1 << math.tointeger(math.log(number, 2) // 1) end

local function stem_of(size, gpu) return size <= (gpu and 64 or 48) and "cifar" or "imagenet" end

-- Seconds per image: its views, and reading it. On a GPU reading runs in parallel with the views, on a CPU both share
-- the same cores.
local function image_seconds(f, view, views)
  local reading = f.reading or 0
  return f.gpu and math.max(views * view, reading) or views * view + reading
end

-- How many epochs fit into nine tenths of the time, less the time of a linear classifier: it sees each image once an
-- epoch, forward only, at a third of the cost of a view. At least half of the time is for training and for kNN, which
-- reads its images after each epoch, or twenty times in a longer run.
local function epochs_in_time(f, c, size, views)
  local view = f.cost(c.arch, stem_of(size, f.gpu), size).seconds / f.ranks
  local scored = f.classes > 0 and f.images + f.test or 0
  local linear, evaluation = f.linear_epochs * scored * image_seconds(f, view, 1 / 3), scored * (f.reading or 0)
  local seconds = math.max(0.9 * 60 * f.minutes - linear, 30 * f.minutes)
  local epoch = f.images * image_seconds(f, view, views)
  local few = seconds // (epoch + evaluation)
  if few <= EVALUATIONS then return math.max(few, 1) end
  return math.max((seconds - EVALUATIONS * evaluation) // epoch, EVALUATIONS)
end

-- ---- the rules ----------------------------------------------------------------------

-- Each rule: the setting, and a function of the facts (pretrain/look.lua) and of the earlier choices -> a value, why.
-- Rules for options given on the command line, and for settings that the method's recipe lacks, are skipped.
pretrain.rules = {
  { "arch", function(f)
    if f.gpu and f.images >= 50000 then return "resnet50", "there is a GPU, and many images" end
    return "resnet18", f.gpu and "for fewer than 50,000 images" or "there is no GPU"
  end },

  { "size", function(f, c)
    local best = sides[#sides]
    for i = #sides, 1, -1 do
      local size = sides[i]
      if size > f.side then break end
      if size > 64 and epochs_in_time(f, c, size, 2) < FEW_EPOCHS then
        return best, ("more pixels would leave time for fewer than %d epochs"):format(FEW_EPOCHS)
      end
      best = size
    end
    return best, best == sides[1] and "what networks are usually trained at" or "as large as most of the images"
  end },

  { "method", function(f) -- BYOL + CLD only if the user asks for it: NPID + CLD gets as far in half the time
    if f.images >= MANY_IMAGES then
      return "mocov2", "what is published for a million images: its queue does not grow with them"
    end
    return "npid", "learns the most in a short time: two views, one network, all other images as negatives"
  end },

  { "epochs", function(f, c)
    local wanted = math.tointeger(clamp(4000000 // f.images, 200, 800))
    local possible = math.tointeger(epochs_in_time(f, c, c.size, pretrain.methods[c.method].views))
    if possible >= wanted then return wanted, "as many as help" end
    return possible, ("as many as fit into %g minute%s; %d would help"):format(f.minutes,
      f.minutes == 1 and "" or "s", wanted)
  end },

  { "batch_size", function(f, c)
    local cost = f.cost(c.arch, stem_of(c.size, f.gpu), c.size)
    local in_memory = 0.4 * f.memory * f.ranks / (3 * cost.bytes) -- three views of an image
    local batch = clamp(power_below(math.max(math.min(f.images / 8, in_memory), 8)), 8, f.gpu and 512 or 256)
    if batch <= in_memory / 2 or batch >= 256 then return batch, "eight steps an epoch, or more" end
    return batch, "what fits into memory"
  end },

  { "stem", function(f, c) return stem_of(c.size, f.gpu) end },
  { "small", function(f, c) return stem_of(c.size, f.gpu) == "cifar" end },
  { "clusters", function(_, c) return (c.method == "mocov2" and math.min(c.batch_size, 32) or c.batch_size) // 2 end },
  { "block", function(_, c) return math.min(c.batch_size, 32) end },
  { "queue", function(f, c) return clamp(power_below(f.images), c.batch_size, 65536) end },
  { "warmup_epochs", function(_, c) return c.method ~= "mocov2" and math.min(5, c.epochs // 10) or 0 end },
  { "knn_k", function(f) return math.tointeger(clamp(f.images // math.max(2 * f.classes, 1), 5, 200)) end },
  { "knn_every", function(_, c) return math.max(c.epochs // EVALUATIONS, 1) end },
  { "workers", function(f) return clamp(f.cores - 1, 1, 8) end },
  { "max_bad", function(f) return f.bad > 0 and math.min(2 * f.bad + 0.01, 0.5) or 0.01 end },
}

-- The settings that only one method's recipe has.
local only = {
  stem = { npid = true, byol = true }, small = { mocov2 = true }, block = { mocov2 = true }, queue = { mocov2 = true },
}

--- {option's field = the text that --help has in place of a default}: for options that the rules choose, and for those
-- whose defaults differ between the methods' recipes.
pretrain.default_texts = {
  lr = "the recipe's", lr_at = "the recipe's", weight_decay = "the recipe's", schedule = "the recipe's",
  lr_min = "the recipe's",
}
for _, rule in ipairs(pretrain.rules) do
  if rule[1] ~= "method" then pretrain.default_texts[rule[1]] = "chosen from the images and the machine" end
end

-- ---- choosing -----------------------------------------------------------------------

--- choose(facts, {name = value given}) -> {method, settings = {name = value}, why = {name = text}}: applies the rules
-- in order.
function pretrain.choose(facts, given)
  local chosen, settings, why = {}, {}, {}
  for _, rule in ipairs(pretrain.rules) do
    local name, value, reason = rule[1], given[rule[1]], nil
    if value == nil then value, reason = rule[2](facts, chosen) end
    chosen[name], why[name] = value, reason or "as given"
    if not only[name] or only[name][chosen.method] then settings[name] = value end
  end
  settings.minutes = facts.minutes
  return { method = chosen.method, settings = settings, why = why }
end

local function pad(text, width) return text .. (" "):rep(width - #text) end

-- The lines for the user: the facts, then the main choices, each with its reason.
local function told(facts, choice)
  local s, why = choice.settings, choice.why
  local cost = facts.cost(s.arch, stem_of(s.size, facts.gpu), s.size)
  local views = pretrain.methods[choice.method].views
  local seconds = s.epochs * facts.images * image_seconds(facts, cost.seconds / facts.ranks, views)
  local rows = {
    { "method", pretrain.methods[choice.method].name, why.method },
    { "encoder", s.arch, why.arch },
    { "size", ("%d pixels"):format(s.size), why.size },
    { "epochs", ("%d, about %s"):format(s.epochs, progress.duration(seconds)), why.epochs },
    { "batch", ("%d images"):format(s.batch_size), why.batch_size },
  }
  local lines = { look.text(facts) }
  for _, row in ipairs(rows) do
    lines[#lines + 1] = ("  %s  %s  %s"):format(pad(row[1], 8), pad(row[2], 22), row[3])
  end
  if facts.bad > 0 then
    lines[#lines + 1] = ("  max-bad   %-22g  %.1f %% of the images looked at cannot be read, such as %s"):format(
      s.max_bad, 100 * facts.bad, facts.first_bad)
  end
  return lines
end

-- A resumed run has its settings already.
local function of_resumed(asked)
  local path = folder.to_resume(asked)
  local file = io.open(path .. "/options.json")
  if not file then return nil end
  local ok, stored = pcall(json.decode, file:read "a")
  file:close()
  local method = ok and type(stored) == "table" and pretrain.methods[stored.method]
  if not method then user_error.raise("%s: no run of pretrain.lua, which its options.json would say", path) end
  return { method = stored.method, settings = { method = stored.method }, lines = {} }
end

-- f(), or a user error if Ctrl-C stopped it: measuring takes seconds, and a traceback would not help.
local function or_interrupted(f)
  local ok, result = pcall(f)
  if ok then return result end
  if type(result) == "string" and result:find "interrupted!$" then
    user_error.raise "interrupted while looking at the images and the machine; no run was begun"
  end
  error(result, 0)
end

--- plan(asked, given) -> {recipe, settings, lines}: the recipe to run, its defaults, and the lines to print about it.
-- asked, given: the results of cld.options.peek for the groups folder, view, resnet, sgd, schedule, knn and training,
-- and for minutes and method.
function pretrain.plan(asked, given)
  local plan = dist.shared(function()
    local resumed = asked.resume and of_resumed(asked)
    if resumed then return resumed end
    local _ <close> = dist.without_timeout()
    return or_interrupted(function()
      local facts, values = look.facts(asked), {}
      for name in pairs(given) do values[name] = asked[name] end
      if asked.method == "auto" then values.method = nil end
      local choice = pretrain.choose(facts, values)
      choice.lines = told(facts, choice)
      return choice
    end)
  end)
  plan.recipe = pretrain.methods[plan.method].recipe
  return plan
end

local after = require "cld.pretrain.after"
pretrain.evaluate, pretrain.export = after.evaluate, after.export

return pretrain
