--- Encoders by name. Every one takes images (N, 3, H, W) of any size:
--
--   local net = cld.models.resnet50 { head = "mlp", dim = 128, branches = { "instance", "group" } }
--   local instance, group = net(images)                  -- (N, 128) each, not normalised
--   local features = net:features(images)                -- (N, 2048), the pooled features
--
-- torchvision's ResNets (models/resnet.lua), with its parameter names and its initialisation: resnet18, 34, 50, 101,
-- 152, wide_resnet50_2, wide_resnet101_2, resnext50_32x4d, resnext101_32x4d, _32x8d, _64x4d, and resnext152 with the
-- same three. Some have InfoMin's names too: resnet50x2 and x4 (width times 2 and 4), resnext50 (32x4d), resnext101v1,
-- v2 and v3 (32x4d, 32x8d, 64x4d), and resnext152v1 to v3 likewise.
-- Settings:
--   head      "mlp" (the default), "norm_mlp", "linear", "norm_linear" (models/heads.lua), or false: net(images) is
--             then the pooled features
--   dim       dimension of each branch's features (128)
--   branches  { "instance", "group" } or one of them; net(images) gives their features in this order
--   projector {hidden =, dim =}: the instance branch is an nn.projector of these widths (BYOL, SimCLR) (false)
--   width     channels of the first stage's blocks (64); all others are proportional
--   stem      channels of the first convolution (false: as many as `width`; InfoMin's are at least 64)
--   layout    "moco" (models/heads.lua, the default), or "infomin" (models/infomin.lua): other names, outputs of unit
--             length
--   jigsaw    with layout "infomin": a head for jigsaw patches, net:jigsaw(patches, order) (false)
--   small     for small images: a 3x3 stem of stride 1 without max-pool, so that maps keep their size (false)
--
-- resnet18_cifar, 34, 50 (models/cifar.lua): the published CIFAR encoder with its names and rows of unit length.
-- Settings: stem = "cifar" or "imagenet", low_dim = 128, width = 64, norm_linear = false, pool_window = false, and
-- branches and projector as above; a projector's rows are not normalised.
--
-- classifier (models/classifier.lua): an encoder with a classification layer `fc`: { encoder = a description of a
-- network, classes, dim = that of its features, layer = "features" }; net(images) gives the logits.
--
-- A network records how it was made: cld.models.build(cld.models.description(net)) makes another with the same names
-- and shapes.
local caller = require "cld.caller"
local closed = require "cld.closed"
local cifar = require "cld.models.cifar"
local classifier = require "cld.models.classifier"
local described = require "cld.models.description"
local heads = require "cld.models.heads"
local nn = require "cld.nn"
local resnet = require "cld.models.resnet"
require "cld.models.infomin" -- one of its layouts
require "cld.models.take" -- net:load_published
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"

local models = {}

--- {name = function(settings) -> net} for every name that cld.models[name] finds.
models.constructors = setmetatable({}, { __index = function() return nil end }) -- a registry: not closed

local users = {} -- {name = the file that called models.define for it}
local by_name = {} -- all constructors, for cld.models[name]

-- Fills in the defaults. Without a table of defaults any setting is accepted.
local function filled(name, settings, defaults)
  if defaults then
    caller.check_fields(name, settings, sorted_keys(defaults))
  elseif settings ~= nil and type(settings) ~= "table" then
    caller.raise("%s: expected a table of settings, got %s", name, caller.shown(settings))
  end
  local all = {}
  for _, source in ipairs { defaults or {}, settings or {} } do
    for key, value in pairs(source) do all[key] = value end
  end
  return described.plain(name, all)
end

-- make(settings) -> a module. check(full name, settings), if given, raises, or puts settings into their usual form.
local function register(name, make, defaults, check)
  local full = "models." .. name
  local function constructor(settings)
    local all = filled(full, settings, defaults)
    if check then check(full, all) end
    local net = make(described.plain(full, all)) -- a copy, which the constructor may change
    if not nn.is_module(net) then
      caller.raise("%s: its constructor returned %s; expected a module", full, caller.shown(net))
    end
    described.note(net, name, all)
    return net
  end
  models.constructors[name], by_name[name] = constructor, constructor
end

--- cld.models.head_names: the kinds of heads, as a list of names.
models.head_names = heads.names
--- cld.models.resnets: the names of torchvision's ResNets, in order.
models.resnets = {}

for i, entry in ipairs(resnet.kinds) do models.resnets[i] = entry[1] end

--- cld.models.resnet18_cifar{low_dim = 128, width = 64, stem = "cifar", norm_linear = false, pool_window = false,
-- branches, projector} -> net, cld.models.resnet34_cifar{...} -> net, cld.models.resnet50_cifar{...} -> net: the
-- published CIFAR encoder with its names. net(images (N, 3, H, W)) gives rows of unit length (N, low_dim) for each
-- branch; a projector's rows are not normalised. stem "imagenet" is torchvision's, for images of at least 128 pixels.
--- cld.models.resnet18{head = "mlp", dim = 128, branches = {"instance", "group"}, ...}, cld.models.resnet34{...},
-- cld.models.resnet50{...}, cld.models.resnet101{...}, cld.models.resnet152{...}, cld.models.wide_resnet50_2{...},
-- cld.models.wide_resnet101_2{...}, cld.models.resnext50_32x4d{...}, cld.models.resnext101_32x4d{...},
-- cld.models.resnext101_32x8d{...}, cld.models.resnext101_64x4d{...}, cld.models.resnext152_32x4d{...},
-- cld.models.resnext152_32x8d{...}, cld.models.resnext152_64x4d{...} -> net: torchvision's ResNet of that name, with
-- its names of parameters and its initialisation. net(images (N, 3, H, W)) gives the features (N, dim) of each branch,
-- not normalised; net:features(images) the pooled features. With head = false net(images) gives the pooled features.
-- All settings: help(cld.models).
--
--     local net = cld.models.resnet18 { width = 8, head = "linear", dim = 16, branches = { "instance" }, small = true }
--     print(net(cld.rand(2, 3, 32, 32)).shape[2])      --> 16
for _, family in ipairs { resnet, cifar } do
  for _, entry in ipairs(family.kinds) do
    local name, kind = table.unpack(entry)
    register(name, function(settings) return family.build(kind, settings) end, family.defaults,
      function(full, settings) family.check(full, kind, settings) end)
  end
end

--- InfoMin's names of ResNets; a description has the usual name and the width.
models.infomin_names = {}

--- cld.models.resnet50x2{...}, cld.models.resnet50x4{...}, cld.models.resnext50{...}, cld.models.resnext101v1{...},
-- cld.models.resnext101v2{...}, cld.models.resnext101v3{...}, cld.models.resnext152v1{...},
-- cld.models.resnext152v2{...}, cld.models.resnext152v3{...} -> net: InfoMin's names of ResNets: resnet50 of twice and
-- four times the width; resnext50_32x4d; and of resnext101 and 152 v1 is 32x4d, v2 32x8d, v3 64x4d. Settings as
-- cld.models.resnet50.
for i, alias in ipairs(resnet.aliases) do
  local name, of, times = table.unpack(alias)
  models.infomin_names[i] = name
  by_name[name] = function(settings)
    local own = {}
    caller.check_fields("models." .. name, settings, sorted_keys(resnet.defaults))
    for key, value in pairs(settings or {}) do own[key] = value end
    own.width = times * caller.integer("models." .. name, "width", own.width or resnet.defaults.width)
    return models.constructors[of](own)
  end
  models.constructors[name] = by_name[name]
end

--- cld.models.classifier{encoder = description, classes =, dim =, layer = "features"} -> net: an encoder with a
-- classification layer `fc`; net(images) gives the logits. dim is the dimension of the encoder's features.
register("classifier", function(settings)
  return classifier.build(models.build(settings.encoder), settings)
end, nil, classifier.check)

-- The file of a function, or of the one at that level of calls from the caller's; nil if it is in none.
local function source_of(f)
  local known = debug.getinfo(math.type(f) and f + 1 or f, "S")
  return known and known.source:match "^@(.*)$"
end

--- cld.models.define(name, constructor[, defaults]): registers a network of your own: cld.models[name] { ... } is then
-- a constructor like the others. constructor(settings) -> a module; settings is a table of plain values (numbers,
-- strings, booleans and tables of them). defaults: {name = value}, for settings that are not given; with them no other
-- setting is accepted. To load a checkpoint of such a net, define the same name first.
--
--     cld.models.define("tiny", function(settings) return cld.nn.linear(3, settings.dim) end, { dim = 4 })
--     print(cld.models.tiny { dim = 2 }.weight.shape[1])  --> 2
function models.define(name, constructor, defaults)
  if type(name) ~= "string" or name == "" then
    caller.raise("models.define: expected a name, got %s", caller.shown(name))
  elseif models.constructors[name] or rawget(models, name) ~= nil then
    caller.raise("models.define: cld.models.%s exists already", name)
  elseif type(constructor) ~= "function" then
    caller.raise("models.define: the constructor of '%s' must be a function, got %s", name, caller.shown(constructor))
  elseif defaults ~= nil and type(defaults) ~= "table" then
    caller.raise("models.define: the defaults of '%s' must be a table, got %s", name, caller.shown(defaults))
  end
  register(name, constructor, defaults and described.plain("models.define", defaults))
  users[name] = source_of(2) or source_of(constructor) or ""
end

--- own_file(description) -> the file that called models.define for its constructor, or for that of an encoder in it;
-- loading such a checkpoint needs this file. "" if the call was not in a file; nil if cld.models makes all of it.
function models.own_file(how)
  local encoder = how.settings.encoder
  return users[how.constructor] or type(encoder) == "table" and models.own_file(encoder) or nil
end

--- description(net) -> {constructor = "resnet50", settings = {...}}, all settings, plain values; or nil and the
-- reason: no constructor of cld.models made it, or its tensors' names or shapes have changed since.
function models.description(net)
  if not nn.is_module(net) then
    caller.raise("models.description: expected a module, got %s", caller.shown(net))
  end
  return described.of(net)
end

--- cld.models.build(description) -> net: a new network from that constructor and those settings
-- (cld.models.description), with random weights.
--
--     local net = cld.models.resnet18_cifar { width = 4, low_dim = 8 }
--     local other = cld.models.build(cld.models.description(net))
--     print(#other:parameters() == #net:parameters())  --> true
function models.build(description)
  caller.require_fields("models.build", description, { "constructor", "settings" })
  local name = description.constructor
  local constructor = type(name) == "string" and models.constructors[name]
  if not constructor then
    caller.raise("models.build: there is no constructor %s%s; a constructor of one's own is made known by"
      .. " cld.models.define", caller.shown(name),
      type(name) == "string" and user_error.hint(name, sorted_keys(models.constructors)) or "")
  end
  return constructor(description.settings)
end

--- cld.models.from_options(opt[, {branches =, projector =}]) -> net: the CIFAR encoder that a recipe's options ask
-- for: arch, width, low_dim and norm_linear, of cld.options.encoder; and size, stem and pool if declared
-- (cld.options.images). Without those the stem is CIFAR's. The second argument gives settings that have no option.
function models.from_options(opt, given)
  caller.check_fields("models.from_options", given, { "branches", "projector" })
  local settings = cifar.settings_of(opt)
  for name, value in pairs(given or {}) do settings[name] = value end
  return models.constructors[opt.arch .. "_cifar"](settings)
end

--- cld.models.load(path[, {models_file =, object = "net", encoder = "query"}]) -> net, about: the network of a
-- checkpoint of any recipe (or its run's folder), or of a published file: .pth, .pt, .pth.tar, .t7, .safetensors. It
-- is the online encoder, on the cpu. models_file: a Lua file that calls models.define, run before. object: which of a
-- checkpoint's networks, if not `net`. encoder = "key": the network that follows it, MoCo's key encoder or BYOL's
-- target. about holds what is known: {path, layout ("cldlua" for our own), arch, epoch, description, test_view (a list
-- of cld.augment), views (such lists, used in training), layer, knn = {k, temperature}, options (of the run), left_out,
-- source, published (the accuracy that its authors report)}.
--
--     -- needs a run
--     local net, about = cld.models.load "runs/NAME"
function models.load(path, given) return require "cld.models.load".from(models, path, given) end

--- cld.models.export(net, path[, {format =, layer = "features", names = "torchvision", size =, view =, normalize =
-- false, force = false}]) -> how many tensors were written. For PyTorch and others. A failed export leaves no partial
-- file.
--
--   format  "torchvision" (the trunk, a .pth), "pth" (all of the network by our names), "detectron2" (a .pkl; it
--           skips the 3x3 convolution that a CIFAR encoder begins with), "onnx", "npy" (a folder of NAME.npy),
--           "npz", "safetensors"; without it the one of path's ending: .pth, .pt (torchvision), .pkl, .onnx, .npy,
--           .npz, .safetensors; torchvision if path has no ending
--   layer   of onnx: "features", the pooled ones, or "instance", the first output
--   names   of safetensors, npy and npz: "torchvision" (the trunk), or "own" (all tensors, as state_dict names them)
--   size    of onnx: pixels of the images, or {height, width}; without it the view's, or 224
--   view    the test view (cld.augment); an onnx file records its mean and std
--   normalize  of onnx: the model itself subtracts the view's mean and divides by its std, so it takes RGB from 0 to 1
--   force   whether an existing file may be replaced
--
--     -- needs a run
--     local net, about = cld.models.load "runs/NAME"
--     cld.models.export(net, "encoder.onnx", { view = about.test_view })
function models.export(net, path, options) return require "cld.export".write(net, path, options) end

local function unknown(_, key)
  return closed.refuse("cld.models", models, key, sorted_keys(models.constructors))
end

return setmetatable(models, { __index = setmetatable(by_name, { __index = unknown }) })
