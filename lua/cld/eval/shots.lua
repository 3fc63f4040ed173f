--- Accuracy by how many training images a class has: in long-tailed sets the mean over all images hides the rare
-- classes. many: at least 100 images; medium: 21 to 99; few: at most 20 (Liu et al., "Large-Scale Long-Tailed
-- Recognition in an Open World", CVPR 2019).
local core = require "cld.core"
local extract = require "cld.eval.extract"
local user_error = require "cld.user_error"
local create = core.tensor

local shots = {}

local LEAST_FOR_TOP5 = 5 -- with fewer, every row has its class among the first five

local function class_shown(set, label)
  local name = set.class_names and set.class_names[label + 1]
  return name and ("'%s' (label %d)"):format(name, label) or ("label %d"):format(label)
end

-- {images of class 0, of class 1, ...}: the sums of `weights` (n) over the labels.
local function sums_by_class(labels, weights, classes)
  local zeros <close> = create.zeros({ classes }, { dtype = "f64", device = labels.device })
  local wide <close> = weights:to "f64"
  local sums <close> = zeros:index_add(1, labels, wide)
  return sums:totable()
end

local function check_labelled(set, what)
  local absent <close> = set.labels:lt(0)
  local count <close> = absent:sum()
  if count:item() > 0 then
    user_error.raise("%s: %d of the %d images of %s have no label", what, count:item(), #set, set.name)
  end
end

--- counts(training set, what) -> {images of class 0, of class 1, ...}. It is the user's error if images have no label,
-- or all have one class; the message begins with `what`, such as "linear evaluation".
function shots.counts(train, what)
  check_labelled(train, what)
  local ones <close> = create.ones({ #train }, "f64")
  local counts, present = sums_by_class(train.labels, ones, train.classes), 0
  for c, count in ipairs(counts) do
    counts[c] = math.tointeger(count)
    if count > 0 then present = present + 1 end
  end
  if present < 2 then
    user_error.raise("%s: the %d images of %s are of one class: there is nothing to tell apart", what, #train,
      train.name)
  end
  return counts
end

--- Raises if the test set has a class without training images.
function shots.check_test(counts, test, what)
  check_labelled(test, what)
  local ones <close> = create.ones({ #test }, "f64")
  for c, count in ipairs(sums_by_class(test.labels, ones, math.max(test.classes, #counts))) do
    if count > 0 and (counts[c] or 0) == 0 then
      user_error.raise("%s: %s has %d images of class %s, and the training set has none of it", what, test.name,
        math.tointeger(count), class_shown(test, c - 1))
    end
  end
end

--- check_every_class(training set, what, advice): raises the user's error if a class has no image.
function shots.check_every_class(set, what, advice)
  check_labelled(set, what)
  local ones <close> = create.ones({ #set }, "f64")
  local counts, absent, first = sums_by_class(set.labels, ones, set.classes), 0, nil
  for c, count in ipairs(counts) do
    if count == 0 then absent, first = absent + 1, first or c - 1 end
  end
  if absent > 0 then
    user_error.raise("%s: %d of the %d classes of %s have no image (the first: %s)%s", what, absent, #counts, set.name,
      class_shown(set, first), advice)
  end
end

local function group_of(count) return count >= 100 and "many" or count > 20 and "medium" or "few" end

-- {many =, medium =, few =}: the mean accuracy of each group's classes; empty if all classes are in one group.
local function by_group(hits, labels, counts)
  local ones <close> = create.ones_like(hits)
  local right, all = sums_by_class(labels, hits, #counts), sums_by_class(labels, ones, #counts)
  local sums, classes, groups = {}, {}, 0
  for c, count in ipairs(counts) do
    if all[c] > 0 then
      local group = group_of(count)
      if not sums[group] then sums[group], classes[group], groups = 0, 0, groups + 1 end
      sums[group], classes[group] = sums[group] + right[c] / all[c], classes[group] + 1
    end
  end
  local means = {}
  for group, sum in pairs(groups > 1 and sums or {}) do means[group] = sum / classes[group] end
  return means
end

--- score(logits (n, classes), labels i64 (n), counts) -> {top1 =, top5 =, many =, medium =, few =}, shares. top1 and
-- top5 are over all images; top5 is missing with fewer than 5 classes; many, medium and few are means over classes,
-- and missing if all classes are in one group. Of equal logits the lower class comes first.
function shots.score(logits, labels, counts)
  local odd = extract.odd_rows(logits):item()
  if odd > 0 then
    local problem = ("the classifier's scores of %d of %d images are not finite"):format(odd, #logits)
    if extract.on_not_finite then extract.on_not_finite(problem) end
    user_error.raise("%s: it has diverged (is the learning rate too high?)", problem)
  end
  local classes = logits.shape[2]
  local _, best = logits:topk(math.min(LEAST_FOR_TOP5, classes), 2)
  local truth <close> = labels:unsqueeze(2)
  local hit <close> = best:eq(truth)
  local first <close> = hit:narrow(2, 1, 1):flatten():to "f64"
  local values = by_group(first, labels, counts)
  values.top1 = first:mean():item()
  if classes >= LEAST_FOR_TOP5 then
    local any <close> = hit:any(2):to "f64"
    values.top5 = any:mean():item()
  end
  best:close()
  return values
end

return shots
