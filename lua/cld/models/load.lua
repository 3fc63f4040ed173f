--- Loads a network from a file: a checkpoint of any recipe, which records how it was made, or a published file.
local augment = require "cld.augment"
local caller = require "cld.caller"
local checkpoint = require "cld.run.checkpoint"
local core = require "cld.core"
local described = require "cld.models.description"
local description = require "cld.run.description"
local options = require "cld.options"
local published = require "cld.models.published"
local splits = require "cld.data.splits"
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"

local load = {}

local ran = {} -- the paths of models_file that have run: each runs once

-- A recipe that defines its network itself cannot serve as this file: running it would train.
local function run_file(path)
  if ran[path] then return end
  local chunk, problem = loadfile(path)
  if not chunk then user_error.raise("cannot load the file of models: %s", problem) end
  options.refusal = ("cannot load the file of models: %s is a recipe, with options of its own; expected a file that"
    .. " calls cld.models.define and no more, which the recipe can require as well"):format(path)
  local ok, failure = pcall(user_error.call, chunk)
  options.refusal = false
  if not ok then error(failure, 0) end
  ran[path] = true
end

-- ---- our own checkpoints ----------------------------------------------------------

-- The recipes' names for the network that follows `net`: MoCo's key encoder, BYOL's target.
local KEY_NAMES = { "keys", "target", "key", "teacher", "ema" }

local function key_name(loaded)
  for _, name in ipairs(KEY_NAMES) do
    if loaded.states[name] then return name end
  end
  user_error.raise("%s: it has no key encoder (no object 'keys' or 'target'); it holds %s", loaded.path,
    table.concat(sorted_keys(loaded.states), ", "))
end

-- The name of the network: the requested one, `net`, or the only one whose construction the checkpoint records.
local function name_of(loaded, models, wanted)
  if wanted or loaded.states.net then return wanted or "net" end
  local names = sorted_keys(models)
  if #names == 1 then return names[1] end
  user_error.raise("%s: it has no object 'net'%s", loaded.path, #names > 0
    and "; give one of its networks as object: " .. table.concat(names, ", ")
    or "; it holds " .. table.concat(sorted_keys(loaded.states), ", "))
end

-- For a checkpoint without such a record: uses the options of cld.options.encoder.
local function from_old_options(models, loaded, name)
  local stored = loaded.options
  if loaded.description then
    user_error.raise("%s does not say how its '%s' is made: it is no network, or no constructor of cld.models made it,"
      .. " or it was changed since (cld.models.define makes one's own known)", loaded.path, name)
  elseif stored.arch == nil then
    user_error.raise("%s does not say how its '%s' is made: it is older than that, or no constructor of cld.models made"
      .. " the network (cld.models.define makes one's own known)", loaded.path, name)
  end
  options.check(loaded.path, { options.encoder }, stored)
  if stored.size ~= nil or stored.stem ~= nil then options.check(loaded.path, { options.images }, stored) end
  return models.from_options(stored)
end

local function build(models, loaded, how, name)
  if not how then return from_old_options(models, loaded, name) end
  if not models.constructors[how.constructor] then
    user_error.raise("%s: its '%s' is a %s, which is not defined here: --require FILE.lua, of the file that calls"
      .. " cld.models.define", loaded.path, name, how.constructor)
  end
  return user_error.call(models.build, how)
end

-- For a checkpoint without a description: uses the options of cld.options.knn.
local function old_knn(stored)
  local t = stored.knn_t
  return { k = math.type(stored.knn_k) == "integer" and stored.knn_k or nil, temperature = math.type(t) and t or nil }
end

local function of_checkpoint(models, loaded, wanted, encoder)
  local said = description.read(loaded.path, loaded.description)
  if encoder == "key" then wanted = key_name(loaded) end
  local name = name_of(loaded, said.models, wanted)
  if not loaded.states[name] then
    user_error.raise("%s: it has no object '%s'; it holds %s", loaded.path, name,
      table.concat(sorted_keys(loaded.states), ", "))
  end
  local net = build(models, loaded, said.models[name], name)
  checkpoint.restore(loaded, { [name] = net }, true)
  local how = models.description(net)
  local epoch = said.source and said.source.epoch or not said.source and loaded.position.epoch or nil
  return net, {
    path = loaded.path, layout = "cldlua", object = name, arch = how and how.constructor, epoch = epoch,
    description = how, test_view = said.test_view or splits.test_view(loaded.options), views = said.views,
    layer = said.layer or "instance",
    knn = loaded.description and said.knn or old_knn(loaded.options),
    options = loaded.options, folder = said.folder, source = said.source, left_out = {},
    fine_tuned = said.source and said.source.fine_tuned,
  }
end

-- ---- published files --------------------------------------------------------------

-- The test preparation of images for a published network.
local function view_of(view)
  local make = view.kind == "cifar" and augment.none or augment.center
  return make { size = view.size, mean = view.mean, std = view.std }
end

local function of_published(models, path, value)
  local found, why = published.recognise(value)
  if not found then
    user_error.raise("%s: %s; expected a checkpoint of a run, of MoCo v2 + CLD, InfoMin + CLD, CIFAR's NPID or MoCo, of"
      .. " moco, PyContrast, detectron2 or torchvision", path, why)
  end
  local net = user_error.call(models.build, { constructor = found.constructor, settings = found.settings })
  local ok, problem = pcall(net.load_state_dict, net, found.state)
  if not ok then
    user_error.raise("%s: %s, as which it was recognised (%s), does not fit: %s", path,
      described.text { constructor = found.constructor, settings = found.settings }, found.layout,
      caller.without_place(problem))
  end
  return net, {
    path = path, layout = found.layout, arch = found.arch, epoch = found.epoch, description = models.description(net),
    views = {},
    test_view = view_of(found.view), layer = found.constructor:find "_cifar$" and "instance" or "features", knn = {},
    options = {}, left_out = found.left_out,
    published = found.published,
  }
end

-- ---- any file ---------------------------------------------------------------------

local function check_given(given)
  caller.check_fields("models.load", given, { "models_file", "object", "encoder" })
  given = given or {}
  local encoder = given.encoder
  if encoder ~= nil and encoder ~= "query" and encoder ~= "key" then
    caller.raise("models.load: encoder must be 'query' or 'key', got %s", caller.shown(encoder))
  elseif encoder == "key" and given.object then
    caller.raise("models.load: give either object or encoder = 'key'")
  end
  return given
end

--- load(models, path[, {models_file, object, encoder}]): see cld.models.load.
function load.from(models, path, given)
  if type(path) ~= "string" then caller.raise("models.load: expected a path, got %s", caller.shown(path)) end
  given = check_given(given)
  if given.models_file then run_file(given.models_file) end
  path = checkpoint.file(path)
  local value, facts, unread = user_error.call(core.io.load, path)
  if checkpoint.is_ours(facts or {}) then
    return of_checkpoint(models, checkpoint.read(path, value, facts, unread), given.object, given.encoder)
  end
  if given.encoder == "key" then
    user_error.raise("%s: published weights, of which only the query encoder is read", path)
  end
  return of_published(models, path, value)
end

local function epochs_text(about)
  return about.epoch == 1 and "after 1 epoch" or about.epoch and ("after %d epochs"):format(about.epoch)
end

--- As subject.weights_text.
function load.weights_text(about) return about.fine_tuned and "fine-tuned" or epochs_text(about) or "these weights" end

--- The file, in words: "runs/a/checkpoint.safetensors: resnet18_cifar { ... }, after 3 epochs", "v2.pth.tar: layout
-- MoCo v2, resnet50 { ... }, after 200 epochs; left out: optimizer (161)".
function load.text(about)
  local words = { about.path, ": ", about.layout ~= "cldlua" and ("layout %s, "):format(about.layout) or "",
    about.description and described.text(about.description) or tostring(about.arch) }
  local source = about.source
  if source and source.path then words[#words + 1] = ", that of " .. tostring(source.path) end
  if about.epoch then words[#words + 1] = ", " .. epochs_text(about) end
  if about.fine_tuned then words[#words + 1] = ", fine-tuned" end
  local left = {}
  for _, name in ipairs(sorted_keys(about.left_out)) do
    left[#left + 1] = ("%s (%s)"):format(name, tostring(about.left_out[name]))
  end
  if #left > 0 then words[#words + 1] = "; left out: " .. table.concat(left, ", ") end
  if about.layout == "detectron2" then -- its own networks are trained on BGR by default
    words[#words + 1] = "; taken to see RGB, as what MoCo's and torchvision's converters write does"
  end
  return table.concat(words)
end

return load
