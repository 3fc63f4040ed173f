--- The description of a checkpoint's networks, for readers without the recipe: cld.models.load and the recipes that
-- evaluate. It is JSON in the checkpoint's metadata, "description":
--
--   models     {net = {constructor = "resnet50", settings = {...}}, ...}: how the networks are made (cld.models)
--   test_view  the steps that turn an image into the network's input, if the recipe gave them
--   views      the lists of steps that made the training views, each distinct one once, if the loader is one of ours
--   layer      "instance" or "features": what the recipe compares (cld.eval.knn)
--   knn        {k =, temperature =}: the settings of that comparison
--   folder     where the run was started or resumed: the folder that the paths among its options are relative to
--   source     the origin of the network if it is from another run: {path, layout, epoch, published, data = the
--              options that name its images}, and fine_tuned if it has been trained further
local augment = require "cld.augment"
local caller = require "cld.caller"
local core = require "cld.core"
local models = require "cld.models"
local nn = require "cld.nn"
local say = require "cld.say"
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"

local description = {}

local function check_knn(name, knn)
  caller.check_fields(name .. ": knn", knn, { "k", "temperature" })
  return knn
end

--- The fields given to run:describe, checked, as plain values.
function description.fields(given)
  local name = "run:describe"
  caller.require_fields(name, given, { "test_view", "layer", "knn", "source" })
  local layer = given.layer
  if layer ~= nil and layer ~= "instance" and layer ~= "features" then
    caller.raise("%s: layer must be 'instance' or 'features', got %s", name, caller.shown(layer))
  end
  if given.test_view ~= nil and not augment.is_list(given.test_view) then
    caller.raise("%s: test_view must be an augmentation of cld.augment, got %s", name, caller.shown(given.test_view))
  end
  return {
    layer = layer, test_view = given.test_view and given.test_view:to_table(), knn = check_knn(name, given.knn),
    source = given.source,
  }
end

-- How each network is made. Warns if a network's tensors have changed: its constructor then cannot rebuild it.
local function models_of(objects)
  local found = {}
  for _, name in ipairs(sorted_keys(objects)) do
    if nn.is_module(objects[name]) then
      local how, reason = models.description(objects[name])
      found[name] = how
      if not how and reason:find "no longer" then
        say(("the checkpoint will not say how '%s' is made: %s"):format(name, reason))
      end
    end
  end
  return found
end

-- The different augmentations of the loader's views, or nil.
local function views_of(loader)
  local views = {}
  for i, list in ipairs(type(loader) == "table" and rawget(loader, "augmentations") or {}) do
    views[i] = augment.is_list(list) and list:to_table() or nil
  end
  return #views > 0 and views or nil
end

-- The folder that relative paths start from, if JSON can hold its name.
local function working_folder()
  local path = core.io.working_folder()
  return path and utf8.len(path) and path or nil
end

--- of(objects of run:epochs, what `fields` returned or nil, opt) -> the description. If the recipe gave no knn, it is
-- taken from opt (cld.options.knn).
function description.of(objects, fields, opt)
  fields = fields or {}
  local k, temperature = rawget(opt, "knn_k"), rawget(opt, "knn_t")
  local own = (k or temperature) and { k = k, temperature = temperature } or nil
  return {
    models = models_of(objects), layer = fields.layer, test_view = fields.test_view, knn = fields.knn or own,
    source = fields.source, views = views_of(objects.loader), folder = working_folder(),
  }
end

-- ---- read -----------------------------------------------------------------------

local function damaged(path, what, value)
  user_error.raise("%s: damaged checkpoint: its description's %s is %s", path, what, caller.shown(value))
end

local function optional(path, what, value, kind)
  if value ~= nil and type(value) ~= kind then damaged(path, what, value) end
  return value
end

--- read(path, description of a checkpoint or nil) -> {models, test_view = a list of cld.augment, views = {such lists},
-- layer, knn, folder, source}: every field except models may be missing. `path` is for messages.
function description.read(path, stored)
  if not stored then return { models = {}, knn = {}, views = {} } end
  local made = { models = optional(path, "models", stored.models, "table") or {} }
  for name, how in pairs(made.models) do
    if type(how) ~= "table" or type(how.constructor) ~= "string" or type(how.settings) ~= "table" then
      damaged(path, "model '" .. tostring(name) .. "'", how)
    end
  end
  made.layer = optional(path, "layer", stored.layer, "string")
  made.folder = optional(path, "folder", stored.folder, "string")
  made.source = optional(path, "source", stored.source, "table")
  if made.source then
    optional(path, "source's epoch", made.source.epoch, "number")
    optional(path, "source's data", made.source.data, "table")
  end
  local knn = optional(path, "knn", stored.knn, "table") or {}
  made.knn = {
    k = math.tointeger(optional(path, "k", knn.k, "number")),
    temperature = optional(path, "temperature", knn.temperature, "number"),
  }
  local function list_of(what, steps)
    local ok, list = pcall(augment.from_table, steps)
    if not ok then user_error.raise("%s: damaged checkpoint: its %s: %s", path, what, tostring(list)) end
    return list
  end
  if stored.test_view ~= nil then made.test_view = list_of("test view", stored.test_view) end
  made.views = {}
  for i, steps in ipairs(optional(path, "views", stored.views, "table") or {}) do
    made.views[i] = list_of("views", steps)
  end
  return made
end

return description
