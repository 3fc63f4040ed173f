--- The material of a report: the record in the run's folder (cld.run.history) and, if available, the run's network and
-- images. A run that ends passes on what it has; for any other run, the checkpoint is loaded.
--
--   queries    the images that are examined: test images if there are any, else training images
--   memory     the training images that are searched for their neighbours
--
-- Both are features of many images, extracted once and within a time limit. Notes tell the reader what is missing and
-- why.
local augment = require "cld.augment"
local checkpoint = require "cld.run.checkpoint"
local core = require "cld.core"
local dataset = require "cld.data.dataset"
local extract = require "cld.eval.extract"
local history = require "cld.run.history"
local neighbours = require "cld.eval.neighbours"
local nn = require "cld.nn"
local pictures = require "cld.report.pictures"
local run_folder = require "cld.run.folder"
local sample = require "cld.report.sample"
local user_error = require "cld.user_error"
local create, clock = core.tensor, core.system.clock

local material = {}

local Material = {}
Material.__index = Material

--- The default limits for a run.
material.limits = {
  points = 10000,  -- images on the map, the queries
  memory = 20000,  -- images that are searched for neighbours
  groups = 2048,   -- images that are grouped
  bytes = 8 << 20, -- of the thumbnails
}

--- note(text): adds a note for the reader.
function Material:note(text)
  self.notes[#self.notes + 1] = text
end

--- A part of the report; if it cannot be made, nil and a note. An interruption still raises an error.
function Material:part(what, make)
  sample.check_signals()
  local ok, value = pcall(make, self)
  if ok then return value end
  sample.check_signals()
  self:note(("%s: %s"):format(what, tostring(value):match "^[^\n]*"))
  return nil
end

--- by(share) -> the deadline (core.system.clock) for a piece of work that may take this share of the remaining time;
-- nil if there is no time limit.
function Material:by(share)
  return self.deadline and clock() + share * math.max(0, self.deadline - clock()) or nil
end

-- ---- features -----------------------------------------------------------------

-- Why there are no features, or nil.
local function lacking(self)
  if not self.net then return "there is no network" end
  if not self.sets or not self.sets.train then return "there are no images" end
  if not self.view then return "it is not known how an image becomes the network's input" end
end

--- can_see() -> whether features of images are available.
function Material:can_see() return self.kept ~= nil or not lacking(self) end

--- features(set, count, branch, share) -> as sample.features, for at most so many images, or nil.
function Material:features(set, count, branch, share)
  local problem = lacking(self)
  if problem then user_error.raise("%s", problem) end
  return sample.features(set, sample.spread(#set, count), {
    net = self.net, branch = branch, view = self.view, device = self.device, workers = self.workers,
    deadline = self:by(share),
  })
end

-- A value that is made at its first use; a failure is reported once.
local function once(self, name, make)
  if self.made[name] == nil then self.made[name] = make() or false end
  return self.made[name] or nil
end

local function branch_of(self) return extract.layer("report", self.net, self.layer or "instance") end

--- queries() -> {set, rows, features (n, d) of length 1, labels}; memory() -> the same. Without test images both are
-- the same.
function Material:queries()
  return once(self, "queries", function()
    if self.kept then return self.kept.queries end
    return self:features(self.sets.test or self.sets.train, self.limits.points, branch_of(self), 0.3)
  end)
end

function Material:memory()
  return once(self, "memory", function()
    if self.kept then return self.kept.memory end
    if not self.sets.test then return self:queries() end
    return self:features(self.sets.memory or self.sets.train, self.limits.memory, branch_of(self), 0.4)
  end)
end

--- has_test() -> whether queries and memory are different images.
function Material:has_test() return self:queries() ~= self:memory() end

--- class_names() -> a list; classes() -> their number, 0 if images have no classes.
function Material:classes() return self.sets and self.sets.train and self.sets.train.classes or 0 end
function Material:class_names()
  local set = self.sets and self.sets.train
  local names = {}
  for label = 1, math.min(self:classes(), 1000) do
    names[label] = set.class_names and set.class_names[label] or ("class %d"):format(label - 1)
  end
  return names
end

local function has_labels(of, classes)
  if classes < 2 then return false end
  for _, label in ipairs(of.labels) do
    if label < 0 or label >= classes then return false end
  end
  return true
end

--- predictions() -> a list with kNN's class of each query, from 0; nil if the images have no classes or there are no
-- test images. k, T and the layer are the run's.
function Material:predictions()
  return once(self, "predictions", function()
    local classes = self:classes()
    local asked, memory = self:queries(), self:memory()
    if not asked or not memory or asked == memory or not has_labels(memory, classes) then return nil end
    if asked.predicted then return asked.predicted end -- the run has them
    local labels = create.tensor(memory.labels, "i64"):to(memory.features.device)
    local scores <close> = neighbours.scores("report", memory.features, labels, asked.features, {
      k = math.min(self.knn.k or 200, #memory.rows), temperature = self.knn.temperature, classes = classes,
    })
    local _, best = scores:topk(1, 2)
    return best:reshape { -1 }:totable()
  end)
end

-- ---- from a run that ends -----------------------------------------------------

local function network_of(states)
  if nn.is_module(states.net) then return states.net end
  return nil
end

local function test_view_of(run, sets)
  if sets.test_view then return sets.test_view end
  local stored = run.described and run.described.test_view
  if stored then return augment.from_table(stored) end
  local ok, view = pcall(extract.view, sets.train, {})
  return ok and view or nil
end

local function new(fields)
  fields.notes, fields.made, fields.pictures = {}, {}, pictures.new()
  fields.limits = setmetatable(fields.limits or {}, { __index = material.limits })
  fields.knn = fields.knn or {}
  return setmetatable(fields, Material)
end

--- of_run(run, seconds) -> the material of a run that ends, for a report within so many seconds.
function material.of_run(run, seconds)
  local told, why = history.read(run:where())
  if not told then user_error.raise("%s", why) end
  local seen, loader, opt = run.seen or {}, run.loader, run.opt
  local set = type(loader) == "table" and rawget(loader, "dataset") or nil
  if set and dataset.learns_labels(set) then set = nil end -- the whole set would be read for its labels
  local sets = seen.sets or set and { train = set } or nil
  local net = seen.net or network_of(run.states)
  return new {
    history = told, sets = sets, kept = seen.kept, net = net, device = net and extract.device(net, {}) or nil,
    layer = run.described and run.described.layer, view = sets and test_view_of(run, sets) or nil,
    views = type(loader) == "table" and rawget(loader, "augmentations") or {},
    knn = { k = rawget(opt, "knn_k"), temperature = rawget(opt, "knn_t") },
    workers = rawget(opt, "workers"), deadline = seconds and clock() + seconds or nil,
  }
end

-- ---- from a folder ------------------------------------------------------------

local function take_up(self, opt)
  local subject = require "cld.eval.subject"
  if not core.io.exists(checkpoint.file(opt.checkpoint)) then
    return self:note "The run has no checkpoint: this is what its log and its settings tell."
  end
  local ok, net, about = pcall(subject.load, opt)
  if not ok then
    return self:note(("The run's checkpoint cannot be read, so there are no pictures: %s"):format(tostring(net)))
  end
  self.net, self.layer, self.knn, self.views = net:to(opt.device), about.layer, about.knn, about.views
  local found, sets = pcall(subject.sets, opt, about)
  if not found then
    return self:note(("The run's images are not there, so there are no pictures (--data names another place): %s")
      :format(tostring(sets)))
  end
  self.sets = sets
  local seen, view = pcall(subject.view, opt, about)
  if seen then self.view = view else self:note(tostring(view)) end
end

-- From the path of a run's folder or of a checkpoint: the run's folder, and the checkpoint's name or nil.
local function parts_of(path)
  if not path:find "%.safetensors$" or core.io.exists(path) ~= "file" then return path, nil end
  local parent, name = path:match "^(.*)/([^/]*)$"
  return parent or ".", name or path
end

--- of_folder(path[, {device, data, dataset, classes, size, require, workers, limits}]) -> of any run, from the path of
-- its folder or of one of its checkpoints, which is then used for the pictures. Any other path is the user's error.
function material.of_folder(path, options)
  options = options or {}
  local parent, file = parts_of(path)
  local told, why = history.read(parent)
  if not told then user_error.raise("%s: %s", path, why) end
  local self = new {
    history = told, views = {}, device = options.device or "cpu", workers = options.workers, limits = options.limits,
  }
  local opt = { checkpoint = file and path or told.path, device = self.device }
  for _, name in ipairs { "data", "dataset", "classes", "size", "require" } do opt[name] = options[name] end
  take_up(self, opt)
  if self.net and file and file ~= run_folder.checkpoint then
    self:note(("The pictures are made with the weights of %s."):format(file))
  end
  return self
end

return material
