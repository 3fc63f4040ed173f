--- Checks that the options of InfoMin + CLD (the groups resnet, infomin, blocks, cld and sgd) fit each other. A resumed
-- run calls this once it has its stored options.
local moco_v2 = require "cld.options.moco_v2"
local user_error = require "cld.user_error"

local infomin = {}

--- check(opt): the user's error if options do not fit each other; otherwise as moco_v2.check.
function infomin.check(opt)
  if opt.double_enqueue and opt.accumulate > 1 then
    user_error.raise("option '--accumulate': expected 1 with --double-enqueue, whose second call needs all keys of a"
      .. " batch in the queue, got %d", opt.accumulate)
  elseif opt.double_enqueue and opt.queries == 1 then
    user_error.raise "option '--double-enqueue': with --queries 1 there is no second call; expected 2, or leave it out"
  end
  moco_v2.check(opt)
  if opt.double_enqueue and opt.queue < 2 * opt.batch_size then
    user_error.raise("option '--queue': expected at least %d with --double-enqueue, twice the %d of --batch-size, got"
      .. " %d", 2 * opt.batch_size, opt.batch_size, opt.queue)
  end
end

return infomin
