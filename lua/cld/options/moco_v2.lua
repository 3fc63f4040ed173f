--- Checks that the options of MoCo v2 + CLD (the groups resnet, moco_v2, blocks, cld and sgd) fit each other. A resumed
-- run calls these once it has its stored options.
local nn = require "cld.nn"
local resnet = require "cld.models.resnet"
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

local moco_v2 = {}

--- tell_of_clusters(opt, rows): a notice if CLD sees so few rows at a time that each is its own group.
function moco_v2.tell_of_clusters(opt, rows)
  if opt.lambda == 0 or opt.clusters < rows then return end
  say(("--clusters %d, and CLD sees %d rows at a time: each is a group of its own, as in the published settings of"
    .. " ImageNet; fewer clusters%s make groups"):format(opt.clusters, rows,
    rows < opt.batch_size and ", or --cld-rows batch," or ""))
end

--- check_width(opt): checks that the encoder has enough channels.
function moco_v2.check_width(opt)
  local least = resnet.least_width(opt.arch)
  if opt.width < least then
    user_error.raise("option '--width': expected at least %d with --arch %s, got %d", least, opt.arch, opt.width)
  end
end

--- check_queue(opt): checks that a batch's keys fit into the queue.
function moco_v2.check_queue(opt)
  if opt.queue < opt.batch_size then
    user_error.raise("option '--queue': expected at least the %d of --batch-size, got %d", opt.batch_size, opt.queue)
  end
end

--- check(opt): the user's error if options do not fit each other; a notice if every row is its own group.
function moco_v2.check(opt)
  moco_v2.check_width(opt)
  if opt.queries == 1 and opt.lambda > 0 then
    user_error.raise("option '--queries': 1 leaves CLD (--lambda %g) no second view; expected 2, or --lambda 0",
      opt.lambda)
  end
  moco_v2.check_queue(opt)
  local blocks = check_accumulate(opt)
  moco_v2.tell_of_clusters(opt, opt.cld_rows == "batch" and opt.batch_size or (opt.batch_size + blocks - 1) // blocks)
end

--- tell_of_queue(opt, count): a notice if the queue holds more keys than there are training images.
function moco_v2.tell_of_queue(opt, count)
  if opt.queue > count then
    say(("--queue %d is more than the %d images: it holds old keys of every image as negatives"):format(opt.queue,
      count))
  end
end

local FEWEST_STEPS = 100 -- shorter runs are trials and get no notice

-- A notice if the run is so short that a tenth or more of the key encoder's weights are still the initial ones.
local function tell_of_momentum(opt, count)
  local steps = opt.epochs * ((count + (opt.last == "drop" and 0 or opt.batch_size - 1)) // opt.batch_size)
  local rest = opt.moco_m ^ steps
  if steps < FEWEST_STEPS or rest < 0.1 then return end
  say(("--moco-m %g is for longer runs: after %d steps %.0f %% of the key encoder are the weights that it began with;"
    .. " with --moco-m %.3g, 1 %%"):format(opt.moco_m, steps, 100 * rest, 0.01 ^ (1 / steps)))
end

--- check_last(opt, count): checks that an epoch of so many images has a batch.
function moco_v2.check_last(opt, count)
  if rawget(opt, "last") == "drop" and opt.batch_size > count then
    user_error.raise("option '--batch-size': expected at most the %d training images, since --last drop leaves a"
      .. " smaller batch out, got %d; --last keep trains on it", count, opt.batch_size)
  end
end

--- check_images(opt, count): the user's error if options do not fit the number of training images; tell_of_queue; and a
-- notice if the key encoder hardly moves in so few steps.
function moco_v2.check_images(opt, count)
  moco_v2.check_last(opt, count)
  moco_v2.tell_of_queue(opt, count)
  tell_of_momentum(opt, count)
end

return moco_v2
