--- The position of a run: epochs done, and images seen in the current epoch. run.step follows from these, so a run that
-- is resumed with another batch size, or on a data set that has grown, keeps its place in the schedule: run.step is
-- counted as if every epoch had had as many steps as one has now. Within an epoch, the images seen may not correspond
-- to a whole number of steps (20 of 50 images, at 3 steps an epoch: 1.2); run.step then has a fraction until that epoch
-- ends. If nothing changed, run.step is the same, bit for bit.
--
-- The functions take the run: epochs_done, step, step_in_epoch, images_seen (the last two for the current epoch).
local position = {}

local function whole(number) return math.tointeger(number) or number end

-- ---- an epoch's shape -------------------------------------------------------

local function field(loader, name)
  local ok, value = pcall(function() return loader[name] end)
  return ok and value or nil
end

local function size_of_batch(loader, opt)
  if not loader then return nil end
  local size = field(loader, "batch_size") or rawget(opt, "batch_size")
  return math.type(size) == "integer" and size > 0 and size or nil
end

--- shape(loader, opt) -> {batch_size, images, steps, rest} of an epoch, each if known. `images` is the number in its
-- order; rest(image) returns the number of steps from that image on, and of the images in them. A loader from the
-- recipe has #loader, and batch_size if that differs from the option; without either, a step is one image.
function position.shape(loader, opt)
  local ok, steps = pcall(function() return #loader end)
  steps = ok and steps > 0 and steps or nil
  local batch_size = size_of_batch(loader, opt)
  local size = batch_size or 1
  local set = field(loader, "rest") and field(loader, "dataset")
  local images = set and #set or steps and steps * size
  local function rest(image)
    if set then return loader:rest(image) end
    return (images - image + size - 1) // size, images - image
  end
  return { batch_size = batch_size, images = images, steps = steps, rest = rest }
end

-- ---- the current epoch ------------------------------------------------------

-- Ends the epoch's steps: run.step is whole again.
local function finish(run)
  run.step_in_epoch = run.shape.steps
  run.step = run.epoch_start + run.step_in_epoch
end

--- Begins an epoch, or continues it at image run.images_seen.
function position.begin_epoch(run)
  if run.step_in_epoch == 0 then
    run.step = math.ceil(run.step)
    run.epoch_start = run.step
  end
  if run.loader then run.loader.first_image = run.images_seen end
  if not run.shape.steps then return end
  local steps, images = run.shape.rest(run.images_seen)
  run.images_in_epoch = run.images_seen + images
  if steps == 0 and run.step_in_epoch < run.shape.steps then finish(run) end
end

--- Counts a step: returns its images, and their share of a full batch. Steps beyond the end of the epoch, in a recipe
-- that iterates over the loader twice, count as full batches.
function position.advance(run)
  local size = run.shape.batch_size or 1
  run.step, run.step_in_epoch = run.step + 1, run.step_in_epoch + 1
  local left = run.images_in_epoch and run.images_in_epoch - run.images_seen or size
  if left <= 0 then return size, 1 end
  local images = math.min(size, left)
  run.images_seen = run.images_seen + images
  if run.images_seen == run.images_in_epoch then finish(run) end
  return images, images / size
end

function position.end_epoch(run)
  run.epochs_done, run.step_in_epoch, run.images_seen, run.images_in_epoch = run.epoch, 0, 0, nil
end

--- How far the run is: "epoch 3", "step 2 of epoch 4", or "24 of 40 images of epoch 4".
function position.describe(run)
  if run.step_in_epoch == 0 then return ("epoch %d"):format(run.epochs_done) end
  if math.type(run.step_in_epoch) == "integer" or not run.shape.images then
    return ("step %d of epoch %d"):format(math.floor(run.step_in_epoch), run.epochs_done + 1)
  end
  return ("%d of %d images of epoch %d"):format(run.images_seen, run.shape.images, run.epochs_done + 1)
end

-- ---- in a checkpoint --------------------------------------------------------

--- The position as stored in a checkpoint.
function position.store(run)
  return {
    epoch = run.epochs_done, step = run.step, step_in_epoch = run.step_in_epoch,
    seen = run.shape.steps and {
      images = run.images_seen, of = run.images_in_epoch, batch_size = run.shape.batch_size or 1,
      steps_per_epoch = run.shape.steps,
    } or nil,
  }
end

local function is_count(value) return math.type(value) == "integer" and value >= 0 end

--- Whether `seen` is as store writes it, or nil, as in checkpoints that only count steps.
function position.is_seen(seen)
  return seen == nil or type(seen) == "table" and is_count(seen.images) and is_count(seen.batch_size)
    and seen.batch_size > 0 and is_count(seen.steps_per_epoch) and seen.steps_per_epoch > 0
    and (seen.of == nil and seen.images == 0 or is_count(seen.of) and seen.images <= seen.of)
end

local function count_or_nil(value) return is_count(value) and value > 0 and value or nil end

-- The same for a checkpoint that only counts steps, all of the same size.
local function seen_in_steps(stored, shape)
  local order = stored.order or {}
  local size = count_or_nil(order.batch_size) or shape.batch_size or 1
  local steps = stored.epoch > 0 and (stored.step - stored.step_in_epoch) / stored.epoch or nil
  local images = math.floor(stored.step_in_epoch) * size
  local of = count_or_nil(order.images) or steps and math.floor(steps * size)
  return {
    images = math.min(images, of or images), of = stored.step_in_epoch > 0 and of or nil, batch_size = size,
    steps_per_epoch = steps,
  }
end

--- Continues from the position in a checkpoint. Returns the checkpoint's batch size divided by the present one.
function position.resume(run, stored)
  local shape, seen = run.shape, stored.seen or seen_in_steps(stored, run.shape)
  local size = shape.batch_size or 1
  run.epochs_done, run.step_in_epoch = stored.epoch, stored.step_in_epoch
  run.images_seen = math.min(seen.images, shape.images or seen.images)
  run.epoch_start = math.floor(stored.step - stored.step_in_epoch + 0.5)
  local is_same = seen.batch_size == size and (seen.steps_per_epoch or shape.steps) == shape.steps
  if shape.steps and not is_same then
    run.epoch_start = stored.epoch * shape.steps
    local of = seen.of or shape.images
    if seen.images > 0 and seen.images == of then
      run.step_in_epoch, run.images_seen = shape.steps, shape.images
    elseif seen.images > 0 and seen.batch_size ~= size then
      run.step_in_epoch = whole(shape.steps * seen.images / of)
    end
  end
  run.step = whole(run.epoch_start + run.step_in_epoch)
  return seen.batch_size / size
end

return position
