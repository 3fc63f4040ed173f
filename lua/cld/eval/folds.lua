--- Several loaders as one, for the folds of a data set: an epoch has the steps of all of them in sequence. run:epochs
-- takes it as a loader, so that a run stopped in the middle of an epoch continues in its fold.
local caller = require "cld.caller"

local folds = {}

local Folds = { __name = "cld.folds" }
Folds.__index = Folds

--- loader(list of loaders of equally many steps). Its batch_size is the mean over the steps of a fold, so that images
-- are counted correctly: the last batch of each fold is shorter. .waited is that of all loaders together.
function folds.loader(list)
  for i, loader in ipairs(list) do
    if #loader ~= #list[1] then
      caller.raise("eval.folds: fold %d has %d steps, and fold 1 has %d", i, #loader, #list[1])
    end
  end
  local steps, images = list[1]:rest(0)
  return setmetatable({ list = list, batch_size = math.max(1, math.ceil(images / math.max(1, steps))), waited = 0 },
    Folds)
end

function Folds:__tostring() return ("folds: %d of them; the first: %s"):format(#self.list, tostring(self.list[1])) end

function Folds:__len() return #self.list * #self.list[1] end

--- `for batch, fold in loader:epoch(epoch) do`: fold counts from 1. Begins at the image first_image, counted from 0 as
-- if each batch had batch_size images.
function Folds:epoch(epoch)
  local step = (self.first_image or 0) // self.batch_size
  local fold = step // #self.list[1] + 1
  local first = step % #self.list[1] * self.list[1].batch_size
  local batches, closing
  return function()
    while fold <= #self.list do
      if not batches then
        local made, _, _, to_close = self.list[fold]:epoch(epoch, first)
        batches, closing = made, to_close
      end
      local before = self.list[fold].waited
      local batch = batches()
      self.waited = self.waited + self.list[fold].waited - before
      if batch then return batch, fold end
      fold, first, batches, closing = fold + 1, 0, nil, nil
    end
  end, nil, nil, setmetatable({}, { __close = function()
    if closing then getmetatable(closing).__close(closing) end
  end })
end

--- {top1 =, top1_deviation =, ...}: the mean of each score over the folds, and the sample standard deviation of top1.
function folds.mean(scores)
  local means, squares = {}, 0
  for name in pairs(scores[1]) do
    local sum = 0
    for _, values in ipairs(scores) do sum = sum + (values[name] or 0 / 0) end -- NaN if a fold lacks it
    means[name] = sum == sum and sum / #scores or nil
  end
  for _, values in ipairs(scores) do squares = squares + (values.top1 - means.top1) ^ 2 end
  if #scores > 1 then means.top1_deviation = math.sqrt(squares / (#scores - 1)) end
  return means
end

return folds
