--- What the options of MoCo v2 + CLD (the groups moco_v2, blocks, cld and sgd) must agree on, once a run has taken over
-- those that it was started with.
local nn = require "cld.nn"
local say = require "cld.say"
local user_error = require "cld.user_error"

local function check_accumulate(opt)
  local blocks = nn.blocks(opt.batch_size, { block = opt.block })[1].blocks
  if opt.accumulate > 1 and opt.cld_rows == "batch" then
    user_error.raise("option '--accumulate': expected 1 with --cld-rows batch, which groups all rows of a batch at"
      .. " once, got %d", opt.accumulate)
  elseif opt.accumulate > blocks then
    user_error.raise("option '--accumulate': expected at most %d, the blocks of a batch (--batch-size %d, --block %d),"
      .. " got %d", blocks, opt.batch_size, opt.block, opt.accumulate)
  end
  return blocks
end

local function tell_of_clusters(opt, blocks)
  local rows = opt.cld_rows == "batch" and opt.batch_size or (opt.batch_size + blocks - 1) // blocks
  if opt.lambda == 0 or opt.clusters < rows then return end
  say(("--clusters %d, and CLD sees %d rows at a time: each is a group of its own, as published for ImageNet%s"):format(
    opt.clusters, rows, rows < opt.batch_size and "; --cld-rows batch, or fewer clusters, make groups" or ""))
end

--- check(opt): what does not fit is the user's error; a notice where every row is a group of its own.
return function(opt)
  if opt.queries == 1 and opt.lambda > 0 then
    user_error.raise("option '--queries': 1 leaves CLD (--lambda %g) no second view; expected 2, or --lambda 0",
      opt.lambda)
  elseif opt.queue < opt.batch_size then
    user_error.raise("option '--queue': expected at least the %d of --batch-size, got %d", opt.batch_size, opt.queue)
  end
  tell_of_clusters(opt, check_accumulate(opt))
end
