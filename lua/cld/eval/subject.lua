--- The inputs of a recipe that evaluates a checkpoint: the network, its images and their preparation, from the options
-- of cld.options.checkpoint. Unless an option says otherwise, all come from the run.
local augment = require "cld.augment"
local core = require "cld.core"
local checkpoint = require "cld.run.checkpoint"
local extract = require "cld.eval.extract"
local models = require "cld.models"
local published = require "cld.models.load"
local ranks = require "cld.run.ranks"
local record = require "cld.run.record"
local say = require "cld.say"
local splits = require "cld.data.splits"
local user_error = require "cld.user_error"

local subject = {}

local function given(opt, name, absent)
  local value = rawget(opt, name)
  return value ~= absent and value or nil
end

--- Sets the device, the precision and the threads for a recipe that is not a run, from cld.options.machine; Ctrl-C
-- ends it without a traceback. Returns the device.
function subject.set_up(opt)
  core.system.leave_on_signals()
  ranks.check_alike(opt, record.sources())
  local device = user_error.call(core.cuda.resolve, opt.device)
  core.autograd.set_precision(opt.precision)
  if opt.threads > 0 then user_error.call(core.system.set_num_threads, opt.threads) end
  return device
end

-- Checks that the path of --checkpoint exists.
local function check_path(path)
  local kind = core.io.exists(path)
  if not kind then
    user_error.raise("option '--checkpoint': there is no '%s'; expected a run's folder or checkpoint, or published"
      .. " weights", path)
  elseif kind == "folder" and not core.io.exists(checkpoint.file(path)) then
    user_error.raise("option '--checkpoint': the folder '%s' holds no checkpoint.safetensors; expected that of a run,"
      .. " after its first epoch", path)
  end
end

--- load(opt[, path[, encoder]]) -> net, about: loads opt.checkpoint, or another path; prints a line about its content.
-- encoder: "query" or "key", as in cld.models.load.
function subject.load(opt, path, encoder)
  if not path then check_path(opt.checkpoint) end
  local net, about = models.load(path or opt.checkpoint, { models_file = given(opt, "require", ""), encoder = encoder })
  say(published.text(about))
  return net, about
end

-- A view with another size: cropped at the centre if the view crops, else the whole image.
local function resized(view, size)
  local mean, std = view:statistics()
  local make = augment.none
  for _, step in ipairs(view) do
    if step.op == "center_crop" then make = augment.center end
  end
  return make { size = size, mean = mean, std = std }
end

--- view(opt, about) -> how an image becomes the network's input: as the checkpoint says, at --size if given.
function subject.view(opt, about)
  local size, known = given(opt, "size", 0), about.test_view
  if known then return size and resized(known, size) or known end
  if not size then
    user_error.raise("%s does not say how images are prepared for its network: give --size", about.path)
  end
  return augment.center { size = size }
end

--- layer(opt, net, about[, usual]) -> --layer; if that is auto, `usual`; else the input of the heads if the network
-- defines it, or its first output if not.
function subject.layer(opt, net, about, usual)
  local last = extract.last_layer(net)
  local layer = given(opt, "layer", "auto") or usual or last
  if layer == "features" and last ~= "features" then
    user_error.raise("option '--layer': %s has a network without a method 'features'; expected instance, its output",
      about.path)
  end
  return layer
end

--- sets(opt, about) -> {train =, memory =, test =, test_view =} and the options of that data set (cld.data.splits).
function subject.sets(opt, about)
  local stored = about.source and about.source.data or about.options
  return splits.of_run(about.path, stored, {
    dataset = given(opt, "dataset", "own"), data = given(opt, "data", ""), size = given(opt, "size", 0),
    classes = given(opt, "classes", "own"), started_in = about.folder,
  })
end

--- Describes the weights in two words: "after 3 epochs", "fine-tuned", "these weights".
subject.weights_text = published.weights_text

--- "resize { size = 256 }, center_crop { size = 224 }, normalize { ... }"
function subject.view_text(view)
  local words = {}
  for i, step in ipairs(view) do words[i] = tostring(step):gsub("^cld%.augment%.", "") end
  return table.concat(words, ", ")
end

return subject
