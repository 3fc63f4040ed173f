--- The checkpoints that a run keeps beside the one that it resumes from (--keep-checkpoints N):
--
--   checkpoint-EPOCH.safetensors   of the last N epochs at whose end a checkpoint was written
--   best.safetensors               of the epoch with the best main score (run.best), if N > 0 and the run has scores;
--                                  that epoch's checkpoint is written whatever --save-every says
--
-- They are further names of the file that is written anyway (runtime/io/keep.h): nothing is written twice, no half file
-- ever has such a name, and an old one goes only when the new one stands.
--
-- A run that is resumed from one of them goes on from that epoch, and checkpoint.safetensors is that one again at once,
-- as the log goes on there (history.lua). What it had made after that epoch is superseded: those checkpoints stay until
-- the first new one stands, for whoever has named the wrong file. With N = 0 nothing is kept, and what is there stays.
local core = require "cld.core"
local folder = require "cld.run.folder"
local json = require "cld.json"
local say = require "cld.say"

local kept = {}

local best_file, current = folder.best, folder.checkpoint

local function name(epoch) return ("checkpoint-%d.safetensors"):format(epoch) end

-- The epochs of those in the folder, ascending.
local function epochs_in(held)
  local epochs = {}
  for _, file in ipairs(held:list()) do epochs[#epochs + 1] = folder.epoch_of(file) end
  table.sort(epochs)
  return epochs
end

-- Of which epoch's end the checkpoint `file` is; nil if there is none, it cannot be read, or it is of no epoch's end.
local function epoch_at(held, file)
  local where = held:where()
  if not where or held:exists(file) ~= "file" then return nil end
  local ok, metadata = pcall(core.io.load_metadata, where .. "/" .. file)
  local known, position = pcall(json.decode, ok and metadata.position or "")
  if not known or type(position) ~= "table" or position.step_in_epoch ~= 0 then return nil end
  return math.type(position.epoch) == "integer" and position.epoch or nil
end

-- best.safetensors is that of the epoch `best`, if that has a checkpoint: whether it is now.
local function settle_best(held, best, here)
  if not best then return false end
  if epoch_at(held, best_file) == best then return true end
  local file = here == best and current or name(best)
  if epoch_at(held, file) ~= best then return false end
  held:keep(file, best_file)
  return true
end

--- go_on(held, file, position, count): a run has taken up `file`, a checkpoint of its folder at this position, and
-- keeps the last `count`. What a run that was killed had no time for is made up; says what is superseded.
function kept.go_on(held, file, position, count)
  local here = position.step_in_epoch == 0 and position.epoch or nil
  local best = position.best and position.best.epoch
  if file ~= current then
    local later = epochs_in(held)
    local last = math.max(later[#later] or 0, epoch_at(held, current) or 0, epoch_at(held, best_file) or 0)
    held:keep(file, current)
    if last > position.epoch then
      say(("what the run has made after epoch %d is superseded: its log's later lines, and later checkpoints once the"
        .. " next is written"):format(position.epoch))
    end
  end
  if count > 0 and here and here > 0 and not held:exists(name(here)) then held:keep(current, name(here)) end
  if held:exists(best_file) or count > 0 then settle_best(held, best, here) end
end

--- after(held, epoch, best, count, since): checkpoint.safetensors was just written at the end of `epoch`; `best` is
-- the epoch with the best score, or nil, and `since` the last one that counts of those before.
function kept.after(held, epoch, best, count, since)
  if count > 0 then
    held:keep(current, name(epoch))
    if best == epoch then held:keep(current, best_file) end
  end
  local epochs = {}
  for _, other in ipairs(epochs_in(held)) do
    local is_superseded = other > since and other ~= epoch
    if is_superseded then held:remove(name(other)) else epochs[#epochs + 1] = other end
  end
  for i = 1, count > 0 and #epochs - count or 0 do held:remove(name(epochs[i])) end
  local of_best = epoch_at(held, best_file)
  if of_best and of_best > since and of_best ~= best then held:remove(best_file) end
end

return kept
