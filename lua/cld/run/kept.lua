--- The checkpoints that a run keeps beside the one that it resumes from (--keep-checkpoints N):
--
--   checkpoint-EPOCH.safetensors   of the last N epochs at whose end a checkpoint was written
--   best.safetensors               of the epoch with the best main score (run.best), if N > 0 and the run has scores;
--                                  that epoch's checkpoint is written whatever --save-every says
--
-- They are further names of the file that is written anyway (runtime/io/keep.h): nothing is written twice, a partial
-- file never has such a name, and an old one is removed only after the new one is in place.
--
-- If a run is resumed from one of them, it continues from that epoch, and that file becomes checkpoint.safetensors at
-- once, as the log continues there too (history.lua). The later checkpoints are superseded, but stay until the first
-- new one is written, in case the wrong file was named. A run that is resumed with a smaller N keeps no more
-- than N from then on, even if it is complete. With N = 0 no checkpoints are kept, and existing ones stay.
local core = require "cld.core"
local folder = require "cld.run.folder"
local json = require "cld.json"
local say = require "cld.say"
local user_error = require "cld.user_error"

local kept = {}

local best_file, current = folder.best, folder.checkpoint

local function name(epoch) return ("checkpoint-%d.safetensors"):format(epoch) end

local function keep(held, file, as) user_error.call(held.keep, held, file, as) end
local function remove(held, file) user_error.call(held.remove, held, file) end

-- The epochs whose checkpoints are in the folder, ascending.
local function epochs_in(held)
  local epochs = {}
  for _, file in ipairs(user_error.call(held.list, held)) do
    epochs[#epochs + 1] = held:exists(file) == "file" and folder.epoch_of(file) or nil
  end
  table.sort(epochs)
  return epochs
end

-- The epoch at whose end the checkpoint `file` was written; nil if there is no such file, it cannot be read, or it was
-- written within an epoch.
local function epoch_at(held, file)
  local where = held:where()
  if not where or held:exists(file) ~= "file" then return nil end
  local ok, metadata = pcall(core.io.load_metadata, where .. "/" .. file)
  local known, position = pcall(json.decode, ok and metadata.position or "")
  if not known or type(position) ~= "table" or position.step_in_epoch ~= 0 then return nil end
  return math.type(position.epoch) == "integer" and position.epoch or nil
end

-- Links best.safetensors to the checkpoint of the epoch `best`, if there is one. Returns whether there is.
local function settle_best(held, best, here)
  if not best then return false end
  if epoch_at(held, best_file) == best then return true end
  local file = here == best and current or name(best)
  if epoch_at(held, file) ~= best then return false end
  keep(held, file, best_file)
  return true
end

-- Of the checkpoints of epochs up to `epoch`, removes all but the last `count`, or none if count is 0.
local function prune(held, epoch, count)
  local epochs = {}
  for _, other in ipairs(epochs_in(held)) do
    if other <= epoch then epochs[#epochs + 1] = other end
  end
  for i = 1, count > 0 and #epochs - count or 0 do remove(held, name(epochs[i])) end
end

--- go_on(held, file, position, count): called when a run has resumed from `file`, a checkpoint in its folder at this
-- position, and keeps the last `count`. Completes the work that a killed run left undone and says what is superseded.
function kept.go_on(held, file, position, count)
  local here = position.step_in_epoch == 0 and position.epoch or nil
  local best = position.best and position.best.epoch
  if file ~= current then
    local later = epochs_in(held)
    local last = math.max(later[#later] or 0, epoch_at(held, current) or 0, epoch_at(held, best_file) or 0)
    keep(held, file, current)
    if last > position.epoch then
      say(("what the run wrote after epoch %d is superseded: its log's later lines now, and later checkpoints once"
        .. " the next one is written"):format(position.epoch))
    end
  end
  if count > 0 and here and here > 0 and not held:exists(name(here)) then keep(held, current, name(here)) end
  if held:exists(best_file) or count > 0 then settle_best(held, best, here) end
  if file == current then prune(held, position.epoch, count) end -- there may be no further epoch
end

--- after(held, epoch, best, count, since): called when checkpoint.safetensors was just written at the end of `epoch`.
-- `best` is the epoch with the best score, or nil, and `since` the last earlier epoch that counts.
function kept.after(held, epoch, best, count, since)
  if count > 0 then
    keep(held, current, name(epoch))
    if best == epoch then keep(held, current, best_file) end
  end
  for _, other in ipairs(epochs_in(held)) do
    local is_superseded = other > since and other ~= epoch
    if is_superseded then remove(held, name(other)) end
  end
  prune(held, epoch, count)
  local of_best = epoch_at(held, best_file)
  if of_best and of_best > since and of_best ~= best then remove(held, best_file) end
end

return kept
