--- `make ranks-check`: long checks of jobs of several ranks. Not a spec. Ends with "N passed, N failed".
--
--   cldlua spec/ranks/check.lua --build build --only kills --count 20 --seed 7
local cld = require "cld"

local opt = cld.options {
  about = "jobs of several ranks: every recipe, killed at random, on two machines, under Slurm",
  { "build",   "build", "the build folder", nonempty = true },
  { "only",    "",      "just these parts, of recipes, kills, hosts, slurm: kills,slurm" },
  { "recipe",  "",      "of recipes: just these: cifar10_simclr,knn" },
  { "count",   200,     "of kills: how many ranks are killed", min = 1, integer = true },
  { "seed",    1,       "of kills: the first trial's; the others count on from it", min = 0, integer = true },
  { "elastic", 0.25,    "of kills: the share of trials that are resumed on other numbers of ranks", min = 0, max = 1 },
}

local passed, failed = 0, 0
local function report(what, problem)
  if problem then failed = failed + 1 else passed = passed + 1 end
  print((problem and "FAILED  " or "ok      ") .. what .. (problem and "\n  " .. problem or ""))
  io.stdout:flush()
end

local parts = { "recipes", "kills", "hosts", "slurm" }
local wanted = {}
for name in opt.only:gmatch "[^,]+" do wanted[name] = true end
for _, name in ipairs(parts) do
  if opt.only == "" or wanted[name] then require("spec.ranks." .. name).run(opt, report) end
  wanted[name] = nil
end
if next(wanted) then error("there is no part '" .. next(wanted) .. "': recipes, kills, hosts or slurm", 0) end

print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and 0 or 1, true)
