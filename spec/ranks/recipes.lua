--- Every recipe of recipes/ on 1 to 4 ranks, tiny, on generated images, in f64: ten steps of training give the same as
-- in one process, and evaluations give the same figures. All recipes in the folders are tested; one that this file
-- cannot start is a failure.
local cld = require "cld"
local files = require "spec.support.data_files"
local jobs = require "spec.ranks.jobs"
local json = require "cld.json"
local trainings = require "spec.ranks.trainings"

local recipes = {}

local TOLERANCE = 1e-9 -- for tensors in f64
local COARSE = 3e-5    -- for tensors in f32, and for figures, which are means in f32 or printed as such
local LONG = 300 -- seconds that a run may take at most
local MOST_RANKS = 4

-- ---- the images ---------------------------------------------------------------------------------------------------

local function toy(self, name, more)
  local path = self.folder .. "/" .. name
  jobs.must(("%s/cldlua recipes/make_toy_data.lua --out %s %s"):format(self.build, path, more))
  return path
end

-- Classes with these names, with the photos' images in turn: one each for training, one for testing.
local function imagenet(self, name, wnids)
  local root, photos, lines = self.folder .. "/" .. name, {}, {}
  local listed = jobs.output(("ls %s/train/*/*.jpg"):format(self.data.folder))
  for path in listed:gmatch "%S+" do photos[#photos + 1] = path end
  for i, wnid in ipairs(wnids) do
    for _, split in ipairs { "train", "val" } do
      lines[#lines + 1] = ("mkdir -p %s/%s/%s && cp %s %s/%s/%s/%d.JPEG"):format(root, split, wnid,
        photos[i % #photos + 1], root, split, wnid, i)
    end
  end
  jobs.must(table.concat(lines, "\n"))
  return root
end

local function labels(count)
  local list = {}
  for i = 1, count do list[i] = i % 10 + 1 end
  return list
end

-- {a recipe's name, or its first word = its --data}.
local function make_data(self)
  self.data = {}
  self.data.cifar10 = toy(self, "toy", "--train 40 --test 10")
  self.data.cifar100 = self.data.cifar10
  self.data.folder = toy(self, "photos", "--layout files --train 40 --test 10 --least-side 16 --most-side 24")
  self.data["examples/own_images"] = self.data.folder .. "/train"
  self.data.kitchen = self.folder .. "/kitchen"
  jobs.must(("mkdir %s && cp -r %s %s/Kitchen-HC"):format(self.data.kitchen, self.data.folder, self.data.kitchen))
  self.data.stl10 = self.folder .. "/stl10"
  files.stl10(self.data.stl10, { train = labels(40), test = labels(10), unlabeled = 4 })
  local wnids = {}
  for i = 1, 40 do wnids[i] = ("n%08d"):format(i) end
  self.data.imagenet = imagenet(self, "imagenet", wnids)
  self.data.imagenet100 = imagenet(self, "imagenet100", table.move(require "cld.data.imagenet100", 1, 100, 1, {}))
end

-- ---- options ------------------------------------------------------------------------------------------------------

-- Each option is given to the recipes that have it. Networks this small are chaotic: with a larger rate, a smaller
-- width or more steps, a rounding grows beyond the tolerance, in one process too.
local settings = {
  { "width", 4 }, { "small" }, { "arch", "resnet18" }, { "dim", 8 }, { "low-dim", 8 }, { "hidden", 16 },
  { "projection-dim", 8 }, { "queue", 24 }, { "block", 4 }, { "clusters", 4 }, { "lambda", 0.5 }, { "batch-size", 8 },
  { "lr", 0.005 }, { "lr-at", 0 }, { "epochs", 2 }, { "warmup-epochs", 0 }, { "knn-every", 0 }, { "threads", 1 },
  { "workers", 0 }, { "device", "cpu" }, { "print-every", 0 }, { "size", 16 }, { "no-winograd" },
}

-- Differences: for a recipe, or for all whose name contains the word.
local own = {
  { "infomin", { ["size"] = 24 } },             -- the jigsaw's pieces are a third of it
  { "imagenet100", { ["batch-size"] = 20, ["block"] = 5 } },
  { "stl10", { ["epochs"] = 1 } },              -- its images are formulas, all much alike
  { "cifar100", { ["dataset"] = "cifar10" } },  -- the toy images are CIFAR-10's
  { "examples/", { ["lr"] = 0.001 } },
  { "examples/byol", { ["lr"] = 1e-4 } },       -- AdamW turns the rounding of a zero gradient into a step
  { "examples/classifier", { ["epochs"] = 1, ["batch-size"] = 40 } },
}

-- These require f32 themselves: one step of them.
local in_f32 = { ["examples/classifier"] = true, linear = true }

-- The options that `--help` lists, as a set.
local function options_of(self, recipe)
  local set = {}
  local help = jobs.must(("%s/cldlua recipes/%s.lua --help"):format(self.build, recipe))
  for name in help:gmatch "\n +%-%-([%w-]+)" do set[name] = true end
  return set
end

local function settings_of(self, recipe)
  local has, words, changed = options_of(self, recipe), {}, {}
  for _, entry in ipairs(own) do
    if recipe:find(entry[1], 1, true) then for name, value in pairs(entry[2]) do changed[name] = value end end
  end
  for _, setting in ipairs(settings) do
    local name, value = setting[1], setting[2]
    if changed[name] ~= nil then value = changed[name] end
    changed[name] = nil
    if has[name] then words[#words + 1] = ("--%s %s"):format(name, value or "") end
  end
  for name, value in pairs(changed) do if has[name] then words[#words + 1] = ("--%s %s"):format(name, value) end end
  return table.concat(words, " ")
end

-- Runs it on `ranks` ranks, in f64 if it can; returns its output. A failure is raised.
local function start(self, recipe, ranks, arguments)
  local program = self.build .. "/cldlua" .. (ranks > 1 and " --ranks " .. ranks or "")
  local hook = in_f32[recipe] and "" or "-e 'dofile [[spec/support/wide.lua]]'"
  local command = ("%s %s recipes/%s.lua %s"):format(program, hook, recipe, arguments)
  local job = jobs.start { folder = self.folder, command = command }
  if job:finish(LONG) ~= 0 then
    job:kill()
    error(("%d ranks failed\n%s"):format(ranks, job:told()), 0)
  end
  return job:out()
end

-- ---- trainings ----------------------------------------------------------------------------------------------------

local function tolerance(recipe) return in_f32[recipe] and COARSE or TOLERANCE end
local function name_of(recipe, ranks) return ("%s-%d"):format(recipe:gsub("/", "-"), ranks) end
local function checkpoint(self, name) return ("%s/%s/checkpoint.safetensors"):format(self.runs, name) end

-- A problem, or nil and the largest difference between the checkpoints.
local function train(self, recipe)
  local data = self.data[recipe] or self.data[recipe:find "^examples/" and "cifar10" or recipe:match "^%w+"]
  local arguments, worst = settings_of(self, recipe), 0
  for ranks = 1, MOST_RANKS do
    local name = name_of(recipe, ranks)
    start(self, recipe, ranks, ("--data %s --runs %s --name %s %s"):format(data, self.runs, name, arguments))
    local one, other = checkpoint(self, name_of(recipe, 1)), checkpoint(self, name)
    local difference = trainings.difference(one, other, tolerance(recipe))
    if difference then return ("%d ranks: %s"):format(ranks, difference) end
    worst = math.max(worst, (trainings.farthest(one, other)))
  end
  return nil, worst
end

-- ---- evaluations --------------------------------------------------------------------------------------------------

-- The numbers in a run's log, in order: {name, value}.
local function logged(self, name)
  local list = {}
  for line in io.lines(("%s/%s/log.jsonl"):format(self.runs, name)) do
    local event = json.decode(line)
    local values = event.event == "epoch" and event.means or event.event == "score" and event.values or {}
    for _, key in ipairs(require "cld.sorted_keys" (values)) do list[#list + 1] = { key, values[key] } end
  end
  return list
end

-- The largest difference between two such lists; infinite if their figures have different names.
local function apart(a, b)
  if #a ~= #b or #a == 0 then return math.huge end
  local worst = 0
  for i, figure in ipairs(a) do
    local d = math.abs(figure[2] - b[i][2]) / math.max(1, math.abs(figure[2]))
    if figure[1] ~= b[i][1] or d ~= d then return math.huge end
    worst = math.max(worst, d)
  end
  return worst
end

-- Each: evaluations.name(self, ranks) -> a list like that of a log, and its run's name, if it has one.
local evaluations = {}

-- The subject of an evaluation: a training of this check.
local function judged(self, recipe, ranks, more)
  return start(self, recipe, ranks, ("--checkpoint %s --data %s --dataset cifar10 --threads 1 --workers 0 %s"):format(
    self.subject, self.data.cifar10, more))
end

function evaluations.knn(self, ranks)
  local list = {}
  for what, top1 in judged(self, "knn", ranks, "--baselines"):gmatch "\n([%w ]-) +top%-1 +([%d.]+) %%" do
    list[#list + 1] = { what, tonumber(top1) }
  end
  return list
end

function evaluations.features(self, ranks)
  local out = ("%s/%s"):format(self.folder, name_of("features", ranks))
  judged(self, "features", ranks, "--batch-size 7 --split train --out " .. out)
  local list = {}
  for i, x in ipairs(cld.io.load_npy(out .. ".npy"):flatten():totable()) do list[i] = { i, x } end
  return list
end

local function train_on(recipe, more)
  return function(self, ranks)
    local name = name_of(recipe, ranks)
    judged(self, recipe, ranks, ("--epochs 2 --batch-size 15 --runs %s --name %s %s"):format(self.runs, name, more))
    return logged(self, name), name
  end
end
evaluations.linear   = train_on("linear", "--lr 1")
evaluations.finetune = train_on("finetune", "--lr 0.01,0.001 --head-lr 1")

-- A problem, or nil and the largest difference between the trained tensors, or else between the figures.
local function judge(self, recipe)
  local one, run = evaluations[recipe](self, 1)
  local worst = 0
  for ranks = 2, MOST_RANKS do
    local other, others_run = evaluations[recipe](self, ranks)
    local d = apart(one, other)
    if not (d <= COARSE) then return ("%d ranks: a figure differs by %.3g"):format(ranks, d) end
    local a, b = run and checkpoint(self, run), run and checkpoint(self, others_run)
    local difference = run and trainings.difference(a, b, tolerance(recipe))
    if difference then return ("%d ranks: %s"):format(ranks, difference) end
    worst = math.max(worst, run and (trainings.farthest(a, b)) or d)
  end
  return nil, worst
end

-- ---- all of them --------------------------------------------------------------------------------------------------

-- These write data, or read no image, on rank 0 alone: spec/ranks_evaluation_spec.lua.
local alone = { check_data = true, download = true, make_toy_data = true, pack = true, select = true, valprep = true,
  views = true }

local function found()
  local list = {}
  for path in jobs.output "ls recipes/*.lua recipes/examples/*.lua":gmatch "recipes/(%S+)%.lua" do
    if not alone[path] then list[#list + 1] = path end
  end
  return list
end

-- The function that checks it; nil: unknown.
local function kind_of(self, recipe)
  if evaluations[recipe] then return judge end
  local has_data = recipe:find "^examples/" or self.data[recipe:match "^%w+"]
  return has_data and jobs.read(("recipes/%s.lua"):format(recipe)):find "cld%.run[%.( ]" and train or nil
end

--- run({build =, recipe = only these, or ""}, report)
function recipes.run(options, report)
  if jobs.output "command -v mpirun" == "" then return print "skipped  recipes: there is no mpirun (openmpi-bin)" end
  local folder = jobs.folder(options.build .. "/ranks/recipes")
  local self = { build = options.build, folder = folder, runs = folder .. "/runs", data = {} }
  make_data(self)
  local wanted = {}
  for name in options.recipe:gmatch "[^,]+" do wanted[name] = true end
  self.subject = checkpoint(self, "subject")
  start(self, "cifar10_npid_cld", 1, ("--data %s --runs %s --name subject %s"):format(self.data.cifar10, self.runs,
    settings_of(self, "cifar10_npid_cld")))
  for _, recipe in ipairs(found()) do
    if options.recipe == "" or wanted[recipe] then
      local kind, since = kind_of(self, recipe), jobs.clock()
      local ok, problem, worst = pcall(kind or function() return "spec/ranks/recipes.lua does not know it" end, self,
        recipe)
      local told = ok and worst and (": %.2g apart, %.0f s"):format(worst, jobs.clock() - since) or ""
      report(("recipes, 1 to %d ranks, %s%s"):format(MOST_RANKS, recipe, told), problem or not ok and "failed" or nil)
    end
    wanted[recipe] = nil
  end
  if next(wanted) then error("there is no recipe '" .. next(wanted) .. "' to run on several ranks", 0) end
end

return recipes
