--- The loader's settings, and the loop over its batches: runtime/data/loader.h does the work.
local augment = require "cld.augment"
local caller = require "cld.caller"
local class = require "cld.class"
local core = require "cld.core"
local dataset = require "cld.data.dataset"
local dist = require "cld.dist"
local say = require "cld.say"
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"

local loader = {}

local Loader = class.new "cld.loader"

local defaults = {
  batch_size = 256,   -- images per step, of all ranks together
  views = 2,          -- of each image, drawn independently; or a list of augmentations, one for each view
  augment = false,    -- for all views, a list of cld.augment; default: augment.none at the images' size
  device = "cpu",     -- the device of the batches
  dtype = "f32",      -- of the views: f32, bf16, f16, or auto, as the precision says; on every device
  resident = true,    -- the device holds the images and makes the views, if it can and they fit; else the host reads
  workers = 1,        -- threads that read and decode; 0: the caller's own. Batches do not depend on it
  prefetch = 3,       -- batches made ahead
  seed = 0,
  shuffle = true,     -- a new order each epoch
  decode = "fast",    -- a JPEG at a smaller scale, if every view shrinks it by more anyway; or exact
  max_bad = 0.01,     -- the share of the images that may be unreadable; others take their places
  strict = false,     -- the first image that cannot be read is an error
  drop_last = false,  -- leave out the last batch of an epoch if it is smaller
  drop_single = true, -- leave it out if it has one image: batch norm cannot train on it; false to evaluate
  block = 0,          -- ranks get whole blocks of at most so many images, if there are enough; 0: no blocks
  rank = dist.rank,   -- of the processes that train together: each takes its part of every batch (cld.dist)
  world = dist.world,
}

local names = sorted_keys(defaults)

local MOST_VIEWS = 16 -- CLD_MAX_VIEWS

--- If set, called when a signal arrives while waiting for a batch: cld.run saves and exits.
loader.on_signal = nil

-- ---- settings -----------------------------------------------------------------

-- The images on the device, or nil. A data set keeps them for its next loader, so training and evaluation share one
-- copy.
local function images_on(set, device)
  local copies = rawget(set, "copies") or {}
  set.copies = copies
  copies[device] = copies[device] or core.loader.resident(set.source, device) or nil
  return copies[device]
end

-- Images that could not be read, named once for all loaders of a set with the same tolerance.
local function bad_images_of(set, settings)
  local key = ("%s %s"):format(settings.max_bad, settings.strict)
  local all = rawget(set, "bad_images") or {}
  set.bad_images = all
  all[key] = all[key] or {
    found = user_error.call(core.loader.bad_images, #set, settings.max_bad, settings.strict), told = 0, shared = 0,
  }
  return all[key]
end

-- One compiled program per view, and the distinct augmentations, in order.
local function programs(set, options, settings)
  local views = settings.views
  if type(views) == "table" and getmetatable(views) == nil then
    if options.augment then caller.raise "data.loader: views is a list of augmentations already: leave out augment" end
    if #views == 0 then caller.raise "data.loader: views is an empty list" end
  else
    local one = settings.augment
    if not one then
      local height, width = set:size()
      if not height then
        caller.raise("data.loader: the images of %s differ in size: give an augment, such as"
          .. " cld.augment.center { size = 224 }", set.name)
      end
      one = augment.none { size = { height, width } }
    end
    local count = math.type(views) == "integer" and views or 0
    if count < 1 or count > MOST_VIEWS then
      caller.raise("data.loader: views must be 1 to %d, got %s", MOST_VIEWS, caller.shown(views))
    end
    views = {}
    for v = 1, count do views[v] = one end
  end
  local compiled, list, different = {}, {}, {}
  for v = 1, #views do
    local program = views[v]
    if not augment.is_list(program) then
      caller.raise("data.loader: view %d must be an augmentation of cld.augment, got %s", v, caller.shown(program))
    end
    if not compiled[program] then
      compiled[program] = program:program()
      different[#different + 1] = program:copy()
    end
    list[v] = compiled[program]
  end
  return list, different
end

local function choice(settings, field, ...)
  for _, one in ipairs { ... } do
    if settings[field] == one then return one end
  end
  caller.raise("data.loader: %s must be one of %s, got %s", field, table.concat({ ... }, ", "),
    caller.shown(settings[field]))
end

-- A set that finds its labels while reading need not be read twice.
local function labels_of(set)
  return dataset.learns_labels(set) and core.tensor.full({ #set }, -1, "i64") or set.labels
end

--- cld.data.loader{dataset, batch_size = 256, views = 2, augment = list, ...} -> loader: batches of views of a data
-- set's images. views is a number of views drawn independently by `augment`, or a list of augmentations, one for each
-- view; without either, they are made by cld.augment.none at the images' size. #loader: steps per epoch;
-- loader.augmentations: the distinct ones of its views.
-- Settings that do not fit the data are the user's error. Further settings:
--   device = "cpu"      the device of the batches
--   dtype = "f32"       of the views: f32, bf16, f16, or auto, as the precision says
--   resident = true     the device holds the images and makes the views, if it can and they fit
--   workers = 1         threads that read and decode; 0: the caller's own. Batches do not depend on it
--   prefetch = 3        batches made ahead
--   seed = 0, shuffle = true
--   decode = "fast"     a JPEG at a smaller scale, if every view shrinks it by more anyway; or exact
--   max_bad = 0.01      the share of images that may be unreadable; strict = true: none
--   drop_last = false   leaves out the last batch of an epoch if it is smaller
--   drop_single = true  leaves it out if it has one image: batch norm cannot train on it
--   block = 0           ranks get whole blocks of at most so many images; rank, world: cld.dist's
--
--     local set = cld.data.tensors { images = cld.zeros({ 10, 32, 32, 3 }, "u8") }
--     local loader = cld.data.loader { set, batch_size = 4, augment = cld.augment.base() }
--     for batch in loader:epoch(1) do
--       print(#batch.views, batch.views[1].shape[1], batch.index.dtype)
--       break
--     end                                       --> 2 4 i64
function loader.new(options)
  caller.require_fields("data.loader", options, names)
  local set = options[1]
  if not dataset.is(set) then
    caller.raise("data.loader: the first entry must be a data set of cld.data, got %s", caller.shown(set))
  end
  local settings = { set = set.source, labels = labels_of(set) }
  local reading = rawget(set, "reading") or {}
  for key, default in pairs(defaults) do
    if options[key] ~= nil then
      settings[key] = options[key]
    elseif reading[key] ~= nil then
      settings[key] = reading[key]
    else
      settings[key] = default
    end
  end
  local augmentations
  settings.programs, augmentations = programs(set, options, settings)
  if type(settings.device) ~= "string" or not core.cuda.is_name(settings.device) then
    caller.raise("data.loader: device must be cpu, cuda or cuda:N, got %s", caller.shown(settings.device))
  end
  settings.device = user_error.call(core.cuda.resolve, settings.device)
  choice(settings, "dtype", "f32", "bf16", "f16", "auto")
  settings.fast = choice(settings, "decode", "fast", "exact") == "fast"
  local bad = bad_images_of(set, settings)
  settings.bad = bad.found
  local step_count = user_error.call(core.loader.rest, settings, 0)
  if settings.resident and settings.device ~= "cpu" then
    settings.resident_images = user_error.call(images_on, set, settings.device)
  end
  return setmetatable({
    settings = settings, dataset = set, batch_size = settings.batch_size, step_count = step_count, bad = bad,
    waited = 0, augmentations = augmentations,
  }, Loader)
end

--- loader:steps() -> integer: batches of an epoch; #loader is the same.
function Loader:steps() return self.step_count end
Loader.__len = Loader.steps

--- "loader: 196 batches of 256, 2 views, f32 on cpu, of cifar10 train: 50000 images of 32 x 32, 10 classes"
function Loader:__tostring()
  local settings = self.settings
  local views = #settings.programs
  return ("loader: %d batch%s of %d, %d view%s, %s on %s, of %s"):format(self.step_count,
    self.step_count == 1 and "" or "es", self.batch_size, views, views == 1 and "" or "s",
    settings.dtype == "auto" and "dtype auto" or settings.dtype, settings.device, tostring(self.dataset))
end

--- loader:rest(first_image) -> steps, images: the rest of an epoch, from its image first_image (counted from 0) on.
function Loader:rest(first_image)
  if math.type(first_image) ~= "integer" then
    caller.raise("loader:rest: the first image must be an integer, counted from 0, got %s", caller.shown(first_image))
  end
  return core.loader.rest(self.settings, first_image)
end

-- ---- the loop -----------------------------------------------------------------

-- Reports each image that cannot be read, once.
local function tell_bad(self)
  local bad = self.bad
  while bad.told < #bad.found do
    bad.told = bad.told + 1
    say(("cannot read an image, another takes its place (%d of %d so far): %s"):format(bad.told, #self.dataset,
      (bad.found:reason(bad.told))))
  end
end

--- loader:unreadable() -> {line, ...}: the images that could not be read so far, with the reasons.
function Loader:unreadable()
  local list, found = {}, self.bad.found
  for i = 1, #found do list[i] = (found:reason(i)) end
  return list
end

-- Each rank notes the unreadable images among its own rows. At an epoch's end all ranks learn of all: rank 0 names
-- them, and if the job has too many, it is one error on all ranks.
local function share_bad(self)
  local bad, own = self.bad, {}
  for i = bad.shared + 1, #bad.found do
    local reason, row = bad.found:reason(i)
    own[#own + 1] = ("<i8s4"):pack(row, reason)
  end
  local all, at, problem = table.concat(core.dist.gather_strings(table.concat(own))), 1, nil
  if all == "" then return end
  while at <= #all do
    local row, reason, after = ("<i8s4"):unpack(all, at)
    local ok, message = pcall(bad.found.add, bad.found, row, reason)
    if not ok then problem = tostring(message) end
    at = after
  end
  bad.shared = #bad.found
  tell_bad(self)
  problem = dist.shared(function() return problem end)
  if problem then user_error.raise("%s", problem) end
end

local Epoch = { __name = "cld.epoch" }
Epoch.__index = Epoch

-- The next batch; nil after the last.
function Epoch:__call()
  local ok, batch
  repeat
    ok, batch = pcall(self.batches)
    tell_bad(self.loader)
    if not ok then user_error.raise("%s", tostring(batch)) end
    self.loader.waited = self.waited_before + self.batches:waited()
    if batch == false then
      if not loader.on_signal then user_error.raise "interrupted while waiting for a batch" end
      loader.on_signal(self.loader)
    end
  until batch ~= false
  if batch then
    self:be_at_hand(batch.share)
  elseif not self.ended then
    self:leave()
    if self:is_of_job() then share_bad(self.loader) end
  end
  return batch
end

-- A loader whose parts are not the job's ranks is independent of the ranks.
function Epoch:is_of_job() return not dist.alone and self.loader.settings.world == dist.world end

local function same(a, b)
  return a and b and a.total == b.total and a.begin == b.begin and a.rows == b.rows
end

-- Makes this batch the current one for cld.dist. A loader whose parts are not the job's ranks changes nothing.
function Epoch:be_at_hand(share)
  if dist.alone or self.loader.settings.world ~= dist.world then return end
  if self.begun and self.share.split and not same(core.dist.batch(), self.share) then
    user_error.raise("loader: the current batch is another loader's, and has other rows: on several ranks a step uses"
      .. " the batch of one loader, or of several loaders whose batches have one size")
  end
  local before = core.dist.set_batch(share)
  if not self.begun then self.begun, self.before = true, before end
  self.share = share
end

-- Restores the batch that was current before the first one. After a break the batch stays current, if there was none
-- before: the script may continue with it.
function Epoch:leave(is_break)
  if self.begun and not self.ended and not (is_break and not self.before) then core.dist.set_batch(self.before) end
  self.ended = true
end

function Epoch:__close()
  self:leave(true)
  getmetatable(self.batches).__close(self.batches)
end

local rounded = { bf16 = "bf16", fp16 = "f16" } -- {precision = dtype}

--- loader:epoch(epoch[, first_image = 0]) -> iterator: for batch in loader:epoch(e) do: the batches of epoch e, from
-- 1, in an order that depends on (seed, epoch); first_image, from 0 in that order, is where a resumed epoch begins.
-- batch.views is a list of (N, 3, H, W), one for each view; batch.labels and batch.index, the images' positions from
-- 0, are i64 (N).
function Loader:epoch(epoch, first_image)
  local dtype = self.settings.dtype
  if dtype == "auto" then dtype = rounded[core.autograd.precision()] or "f32" end
  if math.type(epoch) ~= "integer" or epoch < 0 then
    caller.raise("loader:epoch: expected the number of an epoch, an integer of at least 0, got %s", caller.shown(epoch))
  end
  local batches = setmetatable({
    batches = user_error.call(core.loader.epoch, self.settings, epoch, first_image or self.first_image or 0, dtype),
    loader = self, waited_before = self.waited,
  }, Epoch)
  return batches, nil, nil, batches
end

return loader
