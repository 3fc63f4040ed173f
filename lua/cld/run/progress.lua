--- The progress display of a training: one line redrawn in place on a terminal, elsewhere a line every few seconds; at
-- the end of an epoch, a line that stays.
local figures = require "cld.run.figures"
local redrawn = require "cld.redrawn"
local sorted_keys = require "cld.sorted_keys"
local clock = require "cld.core".system.clock

local progress = {}

local function duration(seconds)
  seconds = math.floor(seconds + 0.5)
  if seconds < 3600 then return ("%d:%02d"):format(seconds // 60, seconds % 60) end
  return ("%d:%02d:%02d"):format(seconds // 3600, seconds // 60 % 60, seconds % 60)
end
progress.duration = duration

--- "cld 2.013  instance 9.120": names in order.
function progress.values(means)
  local words = {}
  for i, name in ipairs(sorted_keys(means)) do words[i] = name .. figures.text(" %.4g", means[name]) end
  return table.concat(words, "  ")
end

local Line = {}
Line.__index = Line

--- new{epochs =, steps_per_epoch =, every = seconds between lines if there is no terminal, waited = a function that
-- returns the seconds spent waiting for data so far, if known}
function progress.new(settings)
  local now = clock()
  return setmetatable({
    waited = settings.waited, window_waited = 0, epoch_waited = 0,
    epochs = settings.epochs, steps_per_epoch = settings.steps_per_epoch,
    every = settings.every, shown = redrawn.new(), started = now, steps = 0,
    window_start = now, window_images = 0, epoch_start = now, epoch_images = 0, epoch_steps = 0,
  }, Line)
end

--- Counts a step of so many images (0 if unknown); true when it is time to print.
function Line:step(images)
  self.steps, self.epoch_steps = self.steps + 1, self.epoch_steps + 1
  self.window_images, self.epoch_images = self.window_images + images, self.epoch_images + images
  return clock() - self.window_start >= (self.shown.columns and redrawn.every or self.every)
end

function Line:start_epoch()
  self.epoch_start, self.epoch_steps, self.epoch_images = clock(), 0, 0
  self.epoch_waited = self.waited and self.waited() or 0
end

-- The share of the time since `start` spent waiting for data; nil if unknown.
local function share(self, waited_before, start)
  if not self.waited then return nil end
  return math.max(0, math.min(1, (self.waited() - waited_before) / math.max(clock() - start, 1e-9)))
end

--- The same for the steps of the current epoch so far.
function Line:data_share() return share(self, self.epoch_waited, self.epoch_start) end

local function data(share_waited) return share_waited and ("  data %.0f %%"):format(100 * share_waited) or "" end

--- Seconds until the end, from the mean over all steps of this session (evaluation included); nil if unknown.
function Line:eta(steps_done)
  if not self.steps_per_epoch or self.steps == 0 then return nil end
  return (clock() - self.started) / self.steps * math.max(self.epochs * self.steps_per_epoch - steps_done, 0)
end

-- Images per second; nil if their number is unknown.
local function speed(images, since) return images > 0 and images / math.max(clock() - since, 1e-9) or nil end

--- Images per second since the last line was drawn; nil if unknown.
function Line:speed() return speed(self.window_images, self.window_start) end

--- Images per second in the current epoch.
function Line:epoch_speed() return speed(self.epoch_images, self.epoch_start) end

local function rate(value) return value and ("  %.0f images/s"):format(value) or "" end

--- Draws the state of the current epoch. position: {epoch, step_in_epoch, step}.
function Line:draw(position, text)
  local eta = self:eta(position.step)
  local line = ("epoch %d/%d  step %d%s  %s%s%s%s"):format(position.epoch, self.epochs,
    math.floor(position.step_in_epoch), self.steps_per_epoch and "/" .. self.steps_per_epoch or "", text,
    rate(self:speed()), data(share(self, self.window_waited, self.window_start)),
    eta and "  ETA " .. duration(eta) or "")
  self.window_start, self.window_images = clock(), 0
  self.window_waited = self.waited and self.waited() or 0
  self.shown:draw(line)
end

function Line:clear() self.shown:clear() end

--- Prints a line that stays.
function Line:print(text) self.shown:print(text) end

function Line:finish_epoch(epoch, text)
  local seconds = clock() - self.epoch_start
  self:print(("epoch %d/%d  %s%s%s  %s"):format(epoch, self.epochs, text, rate(self:epoch_speed()),
    data(self:data_share()), duration(seconds)))
end

return progress
