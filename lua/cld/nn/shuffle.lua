--- ShuffleBN (He et al., "Momentum Contrast", CVPR 2020): the images of a batch pass through the key network in random
-- order, so that a key's batch statistics are not those of its query's block. The outputs come back in the original
-- order.
--
--   local keys = cld.no_grad(function() return (cld.nn.shuffled(encoder, view3, { block = 64 })) end)
--
-- With several ranks (cld.dist) each gets images from nearby ranks. A step can do other work while they travel:
--
--   local shuffled = cld.nn.shuffle(encoder, view3, { block = 64 })           -- starts the transfer
--   local q = net:each({ view1 }, { block = 64 })                             -- work that needs no keys
--   local keys = cld.no_grad(shuffled)
local core = require "cld.core"
local caller = require "cld.caller"
local module = require "cld.nn.module"
local parts = require "cld.nn.parts"
local functional, create = core.nn, core.tensor
local is_tensor, raise, integer = create.is_tensor, caller.raise, caller.integer

local function check_order(order, n, images)
  if not is_tensor(order) or order.dtype ~= "i64" or #order.shape ~= 1 or order.shape[1] ~= n then
    raise("nn.shuffle: the order of %d images is an i64[%d], got %s", n, n, caller.shown(order))
  elseif order.device ~= images.device then
    raise("nn.shuffle: the order is on %s, the images on %s", order.device, images.device)
  elseif order.device == "cpu" then -- a check on another device would wait for it
    local sorted <close> = order:sort()
    local range <close> = create.arange(0, n, 1)
    local same <close> = sorted:eq(range)
    if same:sum():item() ~= n then raise("nn.shuffle: the order has not each of 0 to %d once", n - 1) end
  end
  return order
end

local MOST_SHUFFLED = 512

-- A random order of the whole batch, drawn on the device of the images: the same on every device and every rank. A
-- batch above 512 images (the largest that was ever shuffled as a whole: eight GPUs with 64 each) is shuffled within
-- each 512: mixing thousands of images gains nothing, and ranks would have to exchange all of them.
local function drawn_order(n, device)
  local keys <close> = create.rand({ n }, { device = device })
  if n > MOST_SHUFFLED then
    for first = MOST_SHUFFLED, n - 1, MOST_SHUFFLED do
      local behind <close> = keys:narrow(1, first + 1, n - first)
      behind:add_(1)
    end
  end
  return keys:argsort()
end

-- Turns an order (n) of images into one of rows, `unit` rows per image.
local function rows_of(order, unit)
  if unit == 1 then return order end
  local within = create.arange(0, unit, 1):to(order.device)
  return ((order * unit):reshape { order.shape[1], 1 } + within:reshape { 1, unit }):reshape { order.shape[1] * unit }
end

-- The network's outputs for each group, concatenated.
local function run_groups(net, groups, unit, of_ranks, take)
  local outputs, count = {}, 0
  for g, group in ipairs(groups) do
    local given = of_ranks or { blocks = group.blocks, unit = unit }
    if #groups > 1 then given.done, given.rows, given.total = group.done, group.count, group.total end
    local results = table.pack(parts.with(given, net, take(group)))
    count = results.n
    for i = 1, count do
      if not is_tensor(results[i]) then
        raise("nn.shuffle: output %d: expected a tensor, got %s", i, caller.shown(results[i]))
      end
      outputs[i] = outputs[i] or {}
      outputs[i][g] = results[i]
    end
  end
  for i = 1, count do outputs[i] = #groups > 1 and create.cat(outputs[i], 1) or outputs[i][1] end
  return outputs, count
end

-- The work before the network runs: a table with this rank's images (share), the order of all, and `group`, the number
-- of images that are shuffled among each other.
local function settle(net, images, options)
  caller.check_fields("nn.shuffle", options, { "block", "unit", "order", "groups" })
  options = options or {}
  if not is_tensor(images) or #images.shape == 0 then
    raise("nn.shuffle: expected a tensor of images, got %s", caller.shown(images))
  end
  local unit = integer("nn.shuffle", "unit", options.unit == nil and 1 or options.unit)
  local n = parts.images_of("nn.shuffle", images.shape[1], unit)
  local share = caller.call("nn.shuffle", core.dist.images, "nn.shuffle", n)
  local block = parts.size_of_block("nn.shuffle", options)
  local known = {
    unit = unit, share = share, of_ranks = parts.of_ranks(share, block, 1, unit),
    groups = parts.blocks(n, { block = options.block, groups = options.groups }),
  }
  local order = options.order and check_order(options.order, share.total, images)
  local training = not module.is_module(net) or net.training
  if training and functional.block_count(share.total, block) > 1 then
    known.order = order or drawn_order(share.total, images.device)
    known.group = order and share.total or math.min(share.total, MOST_SHUFFLED)
  end
  return known
end

-- The entries of `order` from `first` on, as row indices; row 0 is the first row of the image `from` (from 0).
local function places(order, first, count, from, unit)
  local cut = order:narrow(1, first, count)
  return rows_of(from > 0 and cut - from or cut, unit)
end

-- If there is nothing to shuffle: calls the network on the images as they are.
local function run_in_order(net, images, known)
  return run_groups(net, known.groups, known.unit, known.of_ranks, function(group)
    if #known.groups == 1 then return images end
    return images:narrow(1, group.done * known.unit + 1, group.count * known.unit)
  end)
end

-- The number of rows per image in an output.
local function unit_of(y, images)
  if y.ndim == 0 or #y == 0 or #y % images ~= 0 then
    raise("nn.shuffle: the rows of %s cannot be divided evenly among %d images", caller.shown(y), images)
  end
  return #y // images
end

-- near: the images of this rank and of the ranks with which it shuffles, from image `from` on. It is closed here.
local function run_shuffled(net, near, from, known)
  local share, unit, units = known.share, known.unit, {}
  core.dist.join(near)
  local outputs, count = run_groups(net, known.groups, unit, known.of_ranks, function(group)
    local own = near:index_select(1, places(known.order, share.begin + group.first, group.count, from, unit))
    if group.last then near:close() end -- the network's run does not need them
    return own
  end)
  local inverse = known.order:argsort()
  for i = 1, count do units[i] = unit_of(outputs[i], share.rows) end
  for i = 1, count do outputs[i] = core.dist.gather_group(outputs[i], share.rows, known.group) end
  for i = 1, count do
    local y = core.dist.join(outputs[i])
    outputs[i] = y:index_select(1, places(inverse, share.begin + 1, share.rows, from, units[i]))
  end
  return outputs, count
end

--- nn.shuffle(net, images, {block =, unit = 1, order =, groups = 1}) -> a function without arguments that gives the
-- network's outputs, in the images' order. Call it once; it uses the network as it is then. (A captured step of several
-- ranks must call it, because a graph must wait for all of its work.)
--
-- images: (n * unit, ...). order: i64 (n), from 0: the image at each position. Without it one is drawn from the global
-- generator at each nn.shuffle and each replay of a captured step: the stable order of n uniform numbers, separately
-- within each 512 if there are more. In evaluation, or if all images are one block, nothing is shuffled and nothing is
-- drawn. groups: the blocks are processed in that many calls (nn.blocks), which need the memory of one.
--
-- With several ranks n counts this rank's images, and the order covers all images. Each rank gets the images of every
-- group of 512 or more images in which it has a share. The transfer starts in nn.shuffle: do not write to the images
-- until the function has been called.
local function shuffle(net, images, options)
  local known = settle(net, images, options)
  local near, from, called
  if known.order then near, from = core.dist.gather_group(images, known.share.rows, known.group) end
  return function()
    if called then raise "nn.shuffle: its function was called before; the images are there for one call" end
    called = true
    local outputs, count
    if near then
      outputs, count = run_shuffled(net, near, from, known)
    else
      outputs, count = run_in_order(net, images, known)
    end
    return table.unpack(outputs, 1, count)
  end
end

--- cld.nn.shuffled(net, images[, options]) -> outputs: calls the function of nn.shuffle at once: the network's
-- outputs, with its batches shuffled between the blocks (MoCo's shuffled batch norm).
local function shuffled(net, images, options) return shuffle(net, images, options)() end

return { shuffle = shuffle, shuffled = shuffled }
