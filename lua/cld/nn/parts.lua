--- Passes several views of the same images through a network as one batch, with the statistics of separate batches.
--
--   local q, g = net:each({ view1, view2 }, { block = 64, normalize = true }) -- a list per output: q[1], q[2]
--
-- A batch is divided into parts. Its rows are the views in sequence, and the images of each view are cut into blocks
-- whose sizes differ by at most one, the larger ones first (80 images, block 64: 40 + 40; 65: 33 + 32). `unit`
-- adjacent rows belong to one image (9 jigsaw patches; else 1). Each block of each view is a part, and batch norm uses
-- each part's own mean and variance. Its running statistics are updated once per view, in order, by the mean over the
-- view's blocks weighted by their rows; num_batches_tracked grows by the number of views.
--
-- While a network runs, nn.parts() returns the current parts. Your own layer must respect them if it mixes rows; if
-- its result for a row depends only on that row, it needs nothing. Code that changes the number of rows per image
-- calls the rest under nn.with_parts. In evaluation batch norm mixes no rows and ignores parts.
--
-- A batch that does not fit into memory at once can be processed in groups of whole blocks (nn.blocks), one call per
-- group. The parts then also say that this call has `rows` of a view's `total` images, and that `done` came before.
-- Each call updates the running statistics so that the result equals one call with all images. If views of another
-- size form their own batch in each group, `before` and `after` say how many views of the same images other calls
-- process earlier and later (kernels/parts.h):
--
--   for _, part in ipairs(nn.blocks(n, { block = 64, groups = 4 })) do
--     local q = net:each(views_of(part), { block = 64, done = part.done, total = n, after = 1 })        -- two views
--     local small = net:each(small_of(part), { block = 64, done = part.done, total = n, before = 2 })   -- and a third
--   end
--
-- With several ranks (cld.dist) each has some of the batch's images, and all counts above refer to those; but blocks
-- are cut from the whole batch. A block within one rank needs no communication. If a block spans several ranks, parts
-- also say that the batch has `images` images, cut into `of` blocks, that the blocks here start at `begin` (from 0),
-- and that `first` (from 0) is the first block with images here; `blocks` counts the blocks with images here.
-- Statistics are then those of all ranks.
local core = require "cld.core"
local caller = require "cld.caller"
local place = require "cld.place"
local dist = require "cld.dist"
local module = require "cld.nn.module"
local functional, create = core.nn, core.tensor
local is_tensor, raise, integer = create.is_tensor, caller.raise, caller.integer

local parts = {}

-- ---- what parts hold ---------------------------------------------------------

-- Per coroutine: one that yields keeps its own parts, and does not see those of another.
local held = setmetatable({}, { __mode = "k" })

--- cld.nn.parts() -> {views =, blocks =, unit =, ...} or nil: how the batch that passes through the network now is
-- divided into blocks and views with their own batch statistics; nil if it is one part. For a batch in groups also
-- done, rows, total, before and after, and for one that ranks share images, begin, of and first. Your own layers need
-- this if they mix rows. Do not write to the table.
function parts.current() return held[coroutine.running()] end

-- Checks that each rank has the same number of rows per image of the batch. If all ranks have the same number of
-- images, this rank can see that by itself; else the ranks ask each other, if there are more rows than images.
local function check_unit(batch, unit)
  if unit == 1 or batch.total == batch.rows * dist.world then return end
  for rank, other in ipairs(core.dist.gather_strings(tostring(unit))) do
    if other ~= tostring(unit) then
      raise("batch_norm: the rows are %d times the batch's images here and %s times on rank %d: if they are not of the"
        .. " loader's batch, but the same on all ranks, close a cld.dist.whole_batch() after the call", unit, other,
        rank - 1)
    end
  end
end

--- The parts for batch norm on that many rows: the current ones; or, if there are none and the batch is split over
-- ranks, parts that make the whole batch one part.
function parts.of_norm(rows)
  local now = parts.current()
  if now or dist.alone then return now end
  local batch = core.dist.batch()
  if not batch then return nil end
  local unit = rows % batch.rows == 0 and rows // batch.rows or 1
  check_unit(batch, unit)
  return parts.of_ranks(caller.call("batch_norm", core.dist.images, "batch_norm", rows // unit), 0, 1, unit)
end

--- of_ranks(share, block, views, unit) -> the parts of a batch that is split over the ranks, if a block spans several;
-- else nil.
function parts.of_ranks(share, block, views, unit)
  if not share.split or not core.dist.spans(share, block) then return nil end
  local blocks = functional.block_count(share.total, block)
  local first, last = 0, blocks - 1
  while functional.part_begin({ blocks = blocks }, share.total, first + 1) <= share.begin do first = first + 1 end
  while functional.part_begin({ blocks = blocks }, share.total, last) >= share.begin + share.rows do last = last - 1 end
  return {
    views = views, unit = unit, blocks = last - first + 1, images = share.total, begin = share.begin, of = blocks,
    first = first,
  }
end

--- The current parts as a string, which differs if they differ.
function parts.described()
  local now = parts.current()
  if not now then return "whole" end
  return ("parts %d %d %d %s %s %s %s %s %s %s %s %s"):format(now.views, now.blocks, now.unit, now.done, now.rows,
    now.total, now.before, now.after, now.images, now.begin, now.of, now.first)
end

-- The images and blocks of a shared batch that are on this rank.
local function check_here(new, given)
  if given.images == nil then
    for _, name in ipairs { "begin", "of", "first" } do
      if given[name] ~= nil then
        raise("nn.with_parts: %s needs the number of images in the batch; images is missing", name)
      end
    end
    return
  end
  new.images, new.of = integer("nn.with_parts", "images", given.images), integer("nn.with_parts", "of", given.of)
  new.begin = integer("nn.with_parts", "begin", given.begin or 0, 0)
  new.first = integer("nn.with_parts", "first", given.first or 0, 0)
  if new.of > new.images then raise("nn.with_parts: %d images cannot be split into %d blocks", new.images, new.of) end
  if new.begin >= new.images then
    raise("nn.with_parts: image %d, from 0, is none of %d", new.begin, new.images)
  elseif new.first + new.blocks > new.of then
    raise("nn.with_parts: %d blocks from %d on are not all of %d", new.blocks, new.first, new.of)
  end
end

local function checked(given)
  if given == nil then return nil end
  caller.check_fields("nn.with_parts", given, {
    "views", "blocks", "unit", "done", "rows", "total", "before", "after", "images", "begin", "of", "first",
  })
  local new = {}
  for _, name in ipairs { "views", "blocks", "unit" } do
    new[name] = integer("nn.with_parts", name, given[name] == nil and 1 or given[name])
  end
  check_here(new, given)
  if given.total == nil and given.rows == nil and given.done == nil then return new end
  new.total, new.rows = integer("nn.with_parts", "total", given.total), integer("nn.with_parts", "rows", given.rows)
  new.done = integer("nn.with_parts", "done", given.done or 0, 0)
  for _, name in ipairs { "before", "after" } do
    if given[name] ~= nil then new[name] = integer("nn.with_parts", name, given[name], 0) end
  end
  if new.done + new.rows > new.total then
    raise("nn.with_parts: %d images behind %d others are no part of %d", new.rows, new.done, new.total)
  end
  return new
end

--- cld.nn.with_parts({views = 1, blocks = 1, unit = 1, ...} or nil, f, ...) -> f's results: f(...), with the batch
-- divided like this (cld.nn.parts lists the fields), or undivided. The previous parts are restored afterwards, after
-- an error too.
function parts.with(given, f, ...)
  local thread = coroutine.running()
  local before = held[thread]
  local _ <close> = setmetatable({}, { __close = function() held[thread] = before end })
  held[thread] = checked(given)
  return f(...)
end

place.keep(parts.with, 2)

-- ---- cuts --------------------------------------------------------------------

--- size_of_block(name, options) -> options.block, checked; 0 if there is none.
function parts.size_of_block(name, options)
  local block = options and options.block
  return block == nil and 0 or integer(name, "block", block)
end

-- The block size that gives that many blocks of all the batch's images.
local function block_of_count(name, options, images)
  local count = integer(name, "count", options.count)
  if options.block ~= nil then raise("%s: give either block or count", name) end
  return -(-images // count)
end

-- The number of blocks that begin on this rank, and the fewest that begin on any rank.
local function whole_blocks(share, block)
  local all = functional.block_count(share.total, block)
  if not share.split then return all, all end
  local own, fewest, from, rank = all, all, 0, 0
  for next_rank = 1, dist.world do
    local to = from
    while to < all and functional.part_begin({ blocks = all }, share.total, to) < core.dist.begin(share, next_rank) do
      to = to + 1
    end
    if rank == dist.rank then own = to - from end
    fewest, from, rank = math.min(fewest, to - from), to, next_rank
  end
  return own, fewest
end

--- nn.blocks(n, {block = images (nil: one block of all), or count = of so many blocks; groups = 1}) -> {{first =,
-- count =, blocks =, done =, total =, block =, last =}, ...}: n images in groups of whole blocks, at most one group
-- per block; their numbers of blocks differ by at most one, the larger groups first. A group has `count` images from
-- `first` (counted from 1) on, in `blocks` blocks of at most `block` images; `done` of `total` = n images come before
-- it; `last` says whether it is the last group. No block has a single image, unless n is 1.
--
-- If a batch is split over ranks (cld.dist), n counts this rank's images, and block and count refer to the whole
-- batch. Every rank has the same number of groups; if a block spans several ranks, there is one group.
function parts.blocks(n, options)
  caller.check_fields("nn.blocks", options, { "block", "count", "groups" })
  options = options or {}
  n = integer("nn.blocks", "n", n)
  local groups = integer("nn.blocks", "groups", options.groups == nil and 1 or options.groups)
  local share = caller.call("nn.blocks", core.dist.images, "nn.blocks", n)
  local block = options.count and block_of_count("nn.blocks", options, share.total)
    or parts.size_of_block("nn.blocks", options)
  local of_ranks = parts.of_ranks(share, block, 1, 1)
  if of_ranks then
    return { { first = 1, count = n, blocks = of_ranks.blocks, done = 0, total = n, block = block, last = true } }
  end
  local blocks, fewest = whole_blocks(share, block)
  local cut = { blocks = blocks }
  groups = math.min(groups, fewest)
  local list = {}
  for i = 0, groups - 1 do
    local from = functional.part_begin({ blocks = groups }, blocks, i)
    local to = functional.part_begin({ blocks = groups }, blocks, i + 1)
    local done = functional.part_begin(cut, n, from)
    local count = functional.part_begin(cut, n, to) - done
    list[i + 1] = { first = done + 1, count = count, blocks = to - from, done = done, total = n, block = block,
      last = i == groups - 1 }
  end
  return list
end

-- ---- views -------------------------------------------------------------------

local function check_views(views)
  if type(views) ~= "table" or getmetatable(views) or #views == 0 then
    local is_empty = type(views) == "table" and next(views) == nil
    raise("each: expected a list of views, got %s", is_empty and "an empty table" or caller.shown(views))
  end
  local first = views[1]
  for i, view in ipairs(views) do
    if not is_tensor(view) then raise("each: view %d: expected a tensor, got %s", i, caller.shown(view)) end
    if view.device ~= first.device then
      raise("each: view %d is on %s, view 1 on %s", i, view.device, first.device)
    elseif view.dtype ~= first.dtype or table.concat(view.shape, " ") ~= table.concat(first.shape, " ") then
      raise("each: view %d is %s, view 1 %s; views of one call must be alike", i, caller.shown(view),
        caller.shown(first))
    end
  end
  if #first.shape == 0 then raise("each: a view of no dimension has no images") end
end

--- images_of(name, rows, unit) -> the number of images in that many rows.
function parts.images_of(name, rows, unit)
  if rows == 0 or rows % unit ~= 0 then
    raise("%s: %d rows cannot be divided into images of %d rows", name, rows, unit)
  end
  return rows // unit
end

-- One list per output, with an entry for each view.
local function by_view(views, normalize, ...)
  local lists = table.pack(...)
  for i = 1, lists.n do
    local y = lists[i]
    if not is_tensor(y) then raise("each: output %d: expected a tensor, got %s", i, caller.shown(y)) end
    if #y.shape == 0 or y.shape[1] % views ~= 0 then
      raise("each: output %d, %s, does not fall into %d views", i, caller.shown(y), views)
    end
    lists[i] = functional.split_rows(normalize and caller.call("each", y.normalize, y, -1) or y, views)
  end
  return table.unpack(lists, 1, lists.n)
end

-- A group of whole blocks in a step belongs to one rank; only a whole batch may have blocks that span several.
local function parts_of_views(views, images, unit, options)
  local block = parts.size_of_block("each", options)
  local of_ranks = not dist.alone and (options.total == nil or options.total == images)
    and parts.of_ranks(caller.call("each", core.dist.images, "each", images), block, views, unit)
  return of_ranks or { views = views, blocks = functional.block_count(images, block), unit = unit }
end

--- nn.each(f, {v1, v2, ...}, {block =, unit = 1, normalize = false, done =, total =, before = 0, after = 0}) -> one
-- list per output of f, each with an entry per view. f, a module or a function, is called once with the rows of all
-- views, under its own parts: the outer parts have no effect inside. net:each(views, options) is the same.
--
-- views: of equal shape, dtype and device; (n * unit, ...) each. Views that are consecutive in memory, as a loader's
-- are, are not copied. block: at most this many images in a block; nil: each view is one. normalize: the rows of every
-- output (rows, d) are divided by their length. The first dimension of an output must be a multiple of the number of
-- views. total: the step's number of images, if these are n of them, and `done` came before (nn.blocks); before,
-- after: views of these n images that pass through f in other calls of the step.
function parts.each(f, views, options)
  caller.check_fields("each", options, { "block", "unit", "normalize", "done", "total", "before", "after" })
  options = options or {}
  check_views(views)
  local unit = integer("each", "unit", options.unit == nil and 1 or options.unit)
  local images = parts.images_of("each", views[1].shape[1], unit)
  local given = parts_of_views(#views, images, unit, options)
  if options.total ~= nil then
    given.total, given.done, given.rows = options.total, options.done, images
    given.before, given.after = options.before, options.after
  end
  local rows = #views == 1 and views[1] or caller.call("each", functional.join_rows, views)
  return by_view(#views, options.normalize, parts.with(given, f, rows))
end

--- module:each({v1, v2, ...}[, options]) -> one list per output, each with an entry per view: cld.nn.each of this
-- module: passes several views through the network as one batch, each with its own batch statistics.
--
--     local net = cld.nn.sequential(cld.nn.linear(4, 2), cld.nn.batch_norm1d(2))
--     local features = net:each({ cld.rand(8, 4), cld.rand(8, 4) }, { normalize = true })
--     print(#features, features[2].shape[1])    --> 2 8
module.base.each = parts.each

return parts
