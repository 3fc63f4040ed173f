--- Ranks runs without labels, by the values logged at the end of an epoch: the effective rank of the features,
-- alignment and uniformity, group accuracy, and the normalized mutual information of two views' groups. If all of the
-- runs have a kNN accuracy, it also shows how well each order agrees with that.
--
--   cldlua recipes/select.lua runs/*
--   cldlua recipes/select.lua runs/a runs/b --epoch 50 --by effective_rank
--
-- recipes/README.md has measurements of how well each order agreed with kNN.
local cld = require "cld"
local say = require "cld.say"
local selection = require "cld.eval.selection"

local opt = cld.options {
  about = "ranks runs without labels",
  { "runs",  {},     "folders of runs", value = "arguments" },
  { "epoch", 0,      "which epoch counts; 0: of each run the last one that it has logged", min = 0, integer = true },
  { "by",    "nmi", "what puts them in order; mean: the mean of the places by effective rank, alignment + uniformity,"
    .. " group accuracy and nmi, of those that all runs have", choices = selection.names },
}
cld.dist.first_only()
local runs, left_out = selection.of_folders(opt.runs, opt.epoch > 0 and opt.epoch or nil, opt.by)
for _, line in ipairs(left_out) do say(line) end
for _, line in ipairs(selection.notices(runs, opt.by)) do say(line) end
for _, line in ipairs(selection.lines(runs, selection.rank(runs), opt.by)) do say(line) end
