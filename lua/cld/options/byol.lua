--- Checks that the options of BYOL + CLD (the groups byol, micro_batches, cld and sgd) fit each other.
local moco_v2 = require "cld.options.moco_v2"
local nn = require "cld.nn"
local user_error = require "cld.user_error"

local byol = {}

--- check(opt, count): the user's error if options do not fit each other or the number of training images; a notice if
-- every row is its own group.
function byol.check(opt, count)
  moco_v2.check_width(opt)
  local most = opt.batch_size // 2
  if opt.accumulate > most then
    user_error.raise("option '--accumulate': expected at most %d, since batch norm needs two images in a micro-batch"
      .. " (--batch-size %d), got %d", most, opt.batch_size, opt.accumulate)
  end
  moco_v2.check_last(opt, count)
  local rows = opt.batch_size // opt.accumulate
  if opt.cld_rows == "block" then rows = nn.blocks(rows, { block = opt.block, groups = rows })[1].count end
  moco_v2.tell_of_clusters(opt, rows)
end

return byol
