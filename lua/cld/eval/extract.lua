--- The features of a data set: passes its images, un-augmented and in order, through a network in evaluation mode, off
-- the tape. Used by everything that evaluates a frozen network: kNN, the linear probe, files of features.
local augment = require "cld.augment"
local caller = require "cld.caller"
local core = require "cld.core"
local data = require "cld.data"
local dist = require "cld.dist"
local nn = require "cld.nn"
local user_error = require "cld.user_error"
local create, no_grad, raise = core.tensor, core.autograd.no_grad, caller.raise

local extract = {}

--- If set, called before each batch: cld.run reacts to signals there, since a pass over a large data set takes too
-- long to wait for.
extract.on_batch = nil

--- If set, called about features that are not finite, before the error: cld.run ends the training and keeps the
-- checkpoint from before it diverged.
extract.on_not_finite = nil

--- The options that `batches` and `all` take.
extract.options = {
  "batch_size", "augment", "branch", "layer", "mean", "std", "device", "dtype", "workers", "max_bad", "strict",
}

-- ---- the network --------------------------------------------------------------

--- Sets evaluation mode until the guard is closed, which restores every module's mode.
function extract.in_eval_mode(net)
  if not nn.is_module(net) then return nil end
  local was = {}
  for _, module in ipairs(net:modules()) do was[module] = module.training end
  net:eval()
  return setmetatable({}, {
    __close = function()
      for module, training in pairs(was) do module.training = training end
    end,
  })
end

--- Raises unless net is a module or a function, and dataset, called `what`, a data set.
function extract.check(name, net, dataset, what)
  local meta = getmetatable(net)
  if type(net) ~= "function" and not (type(net) == "table" and meta and meta.__call) then
    raise("%s: net must be a module or a function, got %s", name, caller.shown(net))
  elseif not data.is_dataset(dataset) then
    raise("%s: %s must be a data set of cld.data, got %s", name, what, caller.shown(dataset))
  end
end

local function has_features(net) return nn.is_module(net) and type(net.features) == "function" end

local layers = {}
function layers.instance(net, images) return (net(images)) end
function layers.features(net, images) return net:features(images) end

--- A function (net, images) that returns the layer's output: "instance" is the network's first output, "features" is
-- what net:features(images) returns, the input of the heads.
function extract.layer(name, net, layer)
  if not layers[layer] then
    raise("%s: layer must be 'instance' (the first output) or 'features' (what the heads see), got %s", name,
      caller.shown(layer))
  elseif layer == "features" and not has_features(net) then
    raise("%s: the network has no method 'features', so its layer can only be 'instance', the first output", name)
  end
  return layers[layer]
end

--- The layer for a linear classifier: the input of the heads, if the network defines it.
function extract.last_layer(net) return has_features(net) and "features" or "instance" end

local function branch_of(name, net, options)
  if not options.branch then return extract.layer(name, net, options.layer or "instance") end
  if options.layer then raise("%s: give either layer or branch", name) end
  return options.branch
end

--- Where the network computes: options.device, or its parameters' device, else the cpu.
function extract.device(net, options)
  if options.device then return options.device end
  local first = nn.is_module(net) and net:parameters()[1]
  return first and first.device or "cpu"
end

--- The preparation of an image: options.augment, or only normalization by mean and std (default: CIFAR's).
function extract.view(dataset, options)
  if not options.augment then
    local height, width = dataset:size()
    if not height then
      raise("eval: the images of %s have sizes of their own: give an augment, such as cld.augment.center { size = 224 }"
        , dataset.name)
    end
    return augment.none { size = { height, width }, mean = options.mean, std = options.std }
  elseif options.mean or options.std then
    raise "eval: mean and std are settings of the augmentation: give it or them"
  end
  return options.augment
end

-- ---- passes over a data set -----------------------------------------------------

-- Gathers on all ranks the batch's rows, of which each rank has computed some.
local function of_all_ranks(batch, features)
  if dist.alone then return batch, features end
  local gather = core.dist.gather_rows
  return { views = batch.views, index = gather(batch.index), labels = gather(batch.labels) }, gather(features)
end

--- `for batch, features in extract.batches(name, net, dataset, options) do`: batch is the loader's, features (n, ...)
-- is the network's output for its images; 16-bit output becomes f32. Ranks share the work, and each gets all rows of
-- features (of the views only its own).
function extract.batches(name, net, dataset, options)
  local branch = branch_of(name, net, options)
  dist.check_alike({ images = #dataset, files = rawget(dataset, "digest") },
    function(fact) return "the data's " .. fact end)
  local loader = data.loader {
    dataset, batch_size = options.batch_size or 256, views = 1, shuffle = false, drop_single = false,
    augment = extract.view(dataset, options), device = extract.device(net, options), dtype = options.dtype,
    decode = "exact", workers = options.workers, max_bad = options.max_bad, strict = options.strict,
  }
  local batches, _, _, closing = loader:epoch(1)
  return function()
    local batch = batches()
    if not batch then return nil end
    if extract.on_batch then extract.on_batch() end
    local _ <close> = extract.in_eval_mode(net)
    local _ <close> = no_grad()
    local features = branch(net, batch.views[1])
    if not create.is_tensor(features) then
      raise("%s: expected the network (or `branch`) to return a tensor, got %s", name, caller.shown(features))
    elseif features.ndim < 1 or #features ~= #batch.labels then
      raise("%s: expected features of %d images, one row each, got %s", name, #batch.labels, caller.shown(features))
    end
    local is_half = features.dtype == "bf16" or features.dtype == "f16"
    return of_all_ranks(batch, is_half and features:float() or features)
  end, nil, nil, closing
end

--- The number of rows with a value that is not finite, as a tensor without dimensions. Does not wait for the device.
function extract.odd_rows(x)
  local _ <close> = no_grad()
  local rows <close> = x:flatten(2, -1)
  local finite <close> = rows:isfinite()
  local whole <close> = finite:all(2)
  local count <close> = whole:sum()
  return #x - count
end

--- Raises if features are not finite, after telling the run.
function extract.raise_not_finite(odd, count)
  local problem = ("the network's features of %d of %d images are not finite"):format(odd, count)
  if extract.on_not_finite then extract.on_not_finite(problem) end
  user_error.raise("%s: the checkpoint has diverged, or the precision is too low", problem)
end

--- dim(name, net, dataset, options) -> the dimension of the features, from those of one image: the first, or another if
-- that cannot be read.
function extract.dim(name, net, dataset, options)
  local one = setmetatable({ batch_size = 1 }, { __index = options })
  local _ <close> = dist.whole_batch()
  local batches, _, _, closing = extract.batches(name, net, dataset, one)
  local _ <close> = closing
  local _, features = batches()
  if features.ndim ~= 2 then
    raise("%s: the network must make features (images, dim), got %s", name, caller.shown(features))
  end
  if extract.odd_rows(features):item() > 0 then extract.raise_not_finite(1, 1) end
  return features.shape[2]
end

-- Sums up tensors without dimensions, on their device.
local function add(sum, x)
  if not sum then return x end
  local _ <close> = sum
  local _ <close> = x
  return sum + x
end

--- part(count) -> begin (from 0), rows: this rank's part of `count` rows, which are divided among the ranks in order.
-- A rank may have none.
function extract.part(count)
  local begin = count * dist.rank // dist.world
  return begin, count * (dist.rank + 1) // dist.world - begin
end

--- all(name, net, dataset, options[, rows[, part]]) -> features (n, ...), labels i64 (n), on the device. With `rows`
-- they must be (n, dim) and finite; rows == "unit" scales each row to unit length. With `part` a rank keeps only its
-- own rows, as extract.part divides them.
function extract.all(name, net, dataset, options, rows, part)
  local features, odd
  local labels, done = {}, 0
  local begin, count = 0, #dataset
  if part then begin, count = extract.part(count) end
  for batch, made in extract.batches(name, net, dataset, options) do
    local _ <close> = no_grad()
    if rows then
      if made.ndim ~= 2 then
        raise("%s: the network must make features (images, dim), got %s", name, caller.shown(made))
      end
      odd = add(odd, extract.odd_rows(made))
    end
    if not features then
      features = create.empty({ count, table.unpack(made.shape, 2) }, { dtype = made.dtype, device = made.device })
    end
    local from, to = math.max(done, begin), math.min(done + #made, begin + count)
    if from < to then
      local own <close> = made:narrow(1, from - done + 1, to - from)
      local unit <close> = rows == "unit" and own:normalize() or nil
      local place <close> = features:narrow(1, from - begin + 1, to - from)
      place:copy_(unit or own)
      labels[#labels + 1] = batch.labels:narrow(1, from - done + 1, to - from)
    end
    done = done + #made
  end
  local odd_rows = odd and odd:item() or 0
  if odd_rows > 0 then extract.raise_not_finite(odd_rows, #dataset) end
  local own = #labels > 0 and create.cat(labels, 1) or create.zeros({ 0 }, "i64")
  return features, own:to(features.device)
end

return extract
