--- Checks at the end of each epoch that all ranks of a job hold the same state, bit for bit, so that a difference is
-- found at once and not after a hundred epochs of diverging trainings.
local core = require "cld.core"
local dist = require "cld.dist"
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"

local replicas = {}

local OWN = { meters = true } -- each rank has its own

-- The names of all tensors in order, and their checksums as a string of eight bytes each.
local function checksums(states)
  local names, sums = {}, {}
  for _, object in ipairs(sorted_keys(states)) do
    local tensors = OWN[object] and {} or states[object]:state_dict()
    for _, name in ipairs(sorted_keys(tensors)) do
      names[#names + 1] = object .. "." .. name
      sums[#sums + 1] = ("<i8"):pack(core.dist.checksum(tensors[name]))
    end
  end
  return names, table.concat(sums)
end

-- "ranks 1, 4": the ranks whose checksum i differs from rank 0's; nil if there are none.
local function others(texts, i)
  local function sum(text) return text:sub(8 * i - 7, 8 * i) end
  local ranks = {}
  for r = 2, #texts do
    if sum(texts[r]) ~= sum(texts[1]) then ranks[#ranks + 1] = r - 1 end
  end
  if #ranks == 0 then return nil end
  local more = #ranks > 8 and (" and %d more"):format(#ranks - 8) or ""
  return (#ranks == 1 and "rank " or "ranks ") .. table.concat(ranks, ", ", 1, math.min(#ranks, 8)) .. more
end

--- check({name = object with a state_dict}): the user's error if a tensor differs between ranks; it names the first
-- such tensor and the ranks. Every rank must call it.
function replicas.check(states)
  if dist.alone then return end
  local _ <close> = dist.whole_batch() -- nothing is pending
  local names, own = checksums(states)
  local texts = core.dist.gather_strings(own)
  for r, text in ipairs(texts) do
    if #text ~= #texts[1] then
      user_error.raise("the ranks hold different states: %d tensors on rank 0, and %d on rank %d", #texts[1] // 8,
        #text // 8, r - 1)
    end
  end
  for i, name in ipairs(names) do
    local ranks = others(texts, i)
    if ranks then
      user_error.raise("'%s' of %s differs from rank 0's: the ranks no longer train the same network (does the recipe"
        .. " do something on one rank only?); --resume goes on from the last checkpoint", name, ranks)
    end
  end
end

return replicas
