--- How well each ranking of recipes/select.lua agrees with kNN: runs of cifar10_npid_cld on toy images, over
-- temperatures, weights of CLD and numbers of groups, two at a time; then the table and Spearman's rho. Not a spec:
-- `make select-check`. An existing run is not repeated, so a stopped check can be continued.
--
--   cldlua spec/select_check.lua --build build
local cld = require "cld"
local selection = require "cld.eval.selection"

local opt = cld.options {
  about = "agreement of the label-free orders of runs with kNN",
  { "build",    "build",        "folder of the program and of what is made" },
  { "nce-t",    "0.05,0.1,0.3", "temperatures", value = "numbers", above = 0 },
  { "lambda",   "0.25,1",       "weights of CLD", value = "numbers", above = 0 },
  { "clusters", "8,32",         "groups", value = "integers" },
  { "epochs",   6,              "epochs of each run", min = 1, integer = true },
  { "train",    1000,           "training images", min = 100, integer = true },
  { "test",     500,            "test images", min = 100, integer = true },
  { "seed",     1,              "of the images and of the runs", integer = true },
  { "at-once",  2,              "runs at a time", min = 1, max = 64, integer = true },
}
local program = opt.build .. "/cldlua"
local toy, runs = ("%s/select-toy-%d"):format(opt.build, opt.seed), opt.build .. "/runs"

local function make(command) assert(os.execute(command), command) end

if not cld.io.exists(toy) then
  make(("%s recipes/make_toy_data.lua --out %s.new --train %d --test %d --seed %d >/dev/null && mv %s.new %s"):format(
    program, toy, opt.train, opt.test, opt.seed, toy, toy))
end

-- {name =, options =}: the grid, and NPID without CLD.
local list = {}
for _, t in ipairs(cld.options.numbers(opt.nce_t)) do
  local function add(lambda, clusters)
    local name = ("select-%d-t%g-l%g%s"):format(opt.seed, t, lambda, clusters and "-k" .. clusters or "")
    local options = ("--nce-t %g --lambda %g --clusters %d"):format(t, lambda, clusters or 8)
    list[#list + 1] = { name = name, options = options }
  end
  add(0)
  for _, lambda in ipairs(cld.options.numbers(opt.lambda)) do
    for _, clusters in ipairs(cld.options.integers(opt.clusters)) do add(lambda, clusters) end
  end
end

-- The shells' commands, each with its part of the list.
local parts = {}
for i, run in ipairs(list) do
  local p = (i - 1) % opt.at_once + 1
  parts[p] = (parts[p] or "true") .. (" && %s recipes/cifar10_npid_cld.lua --data %s --width 16 --batch-size 128"
    .. " --warmup-epochs 1 --fill-epochs 1 --epochs %d --threads 1 --workers 0 --seed %d %s --runs %s"
    .. " --name %s --resume >/dev/null"):format(program, toy, opt.epochs, opt.seed, run.options, runs,
    run.name)
end
local shells = {}
for p, part in ipairs(parts) do shells[p] = assert(io.popen(part)) end
for _, shell in ipairs(shells) do assert(shell:close(), "a run has failed") end

local function ranked(what, names)
  local all = selection.of_folders(names, nil, "nmi")
  for _, run in ipairs(all) do run.name = run.name:match "[^/]*$" end
  print(what)
  for _, line in ipairs(selection.lines(all, selection.rank(all), "nmi")) do print(line) end
end
local every, grouped = {}, {}
for _, run in ipairs(list) do
  every[#every + 1] = runs .. "/" .. run.name
  if not run.name:find "%-l0$" then grouped[#grouped + 1] = runs .. "/" .. run.name end
end
ranked(("%d runs:"):format(#every), every)
ranked(("the %d of them with CLD:"):format(#grouped), grouped)
