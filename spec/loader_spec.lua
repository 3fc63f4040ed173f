--- The loader: every image once per epoch, the same batches for any number of workers, parts for ranks, resuming,
-- leaving early, and errors.
local cld = require "cld"
local check = require "spec.support.check"

-- n images of h x w, of one colour each that tells which they are; labels n - 1 - i.
local function dataset(n, h, w)
  local images, labels = {}, {}
  for i = 1, n do
    images[i] = {}
    for y = 1, h or 2 do
      images[i][y] = {}
      for x = 1, w or 3 do images[i][y][x] = { i, (i * 7 + x * 5) % 256, (y * 31) % 256 } end
    end
    labels[i] = n - i
  end
  return cld.data.tensors { images = cld.tensor(images, "u8"), labels = cld.tensor(labels, "i64") }
end

local function loader(set, options)
  options[1] = set
  return cld.data.loader(options)
end

-- What a loop over an epoch sees, as plain tables.
local function collect(l, epoch, first_image)
  local batches = {}
  for batch in l:epoch(epoch, first_image) do
    local seen = { index = batch.index:totable(), labels = batch.labels:totable(), views = {} }
    for v, view in ipairs(batch.views) do seen.views[v] = view:totable() end
    batches[#batches + 1] = seen
  end
  return batches
end

local function all_indices(batches)
  local list = {}
  for _, batch in ipairs(batches) do table.move(batch.index, 1, #batch.index, #list + 1, list) end
  return list
end

local function upto(n)
  local list = {}
  for i = 1, n do list[i] = i - 1 end
  return list
end

local function sorted(list)
  local copy = table.move(list, 1, #list, 1, {})
  table.sort(copy)
  return copy
end

describe("loader", function()
  it("gives every image once, in another order each epoch", function()
    local l = loader(dataset(40), { batch_size = 8, views = 1 })
    assert.equal(5, #l)
    assert.equal(5, l:steps())
    local first, second, again = all_indices(collect(l, 1)), all_indices(collect(l, 2)), all_indices(collect(l, 1))
    assert.same(upto(40), sorted(first))
    assert.same(upto(40), sorted(second))
    assert.same(first, again)
    assert.not_same(first, second)
    assert.not_same(first, upto(40))
    local other = all_indices(collect(loader(dataset(40), { batch_size = 8, views = 1, seed = 1 }), 1))
    assert.not_same(first, other)
  end)

  it("prints itself in a line", function()
    assert.equal("loader: 3 batches of 8, 1 view, f32 on cpu, of tensors: 20 images of 2 x 3, 20 classes",
      tostring(loader(dataset(20), { batch_size = 8, views = 1 })))
    assert.equal("loader: 1 batch of 32, 2 views, dtype auto on cpu, of tensors: 20 images of 2 x 3, 20 classes",
      tostring(loader(dataset(20), { batch_size = 32, dtype = "auto" })))
  end)

  it("gives images, indices and labels that belong together", function()
    local augment = cld.augment.none { size = { 2, 3 }, mean = { 0, 0, 0 }, std = { 1, 1, 1 } }
    for _, batch in ipairs(collect(loader(dataset(30), { batch_size = 10, views = 2, augment = augment }), 3)) do
      for i, index in ipairs(batch.index) do
        assert.equal(29 - index, batch.labels[i])
        for v = 1, 2 do check.close(batch.views[v][i][1][1][1] * 255, index + 1, { atol = 1e-4 }) end
      end
    end
  end)

  it("drops the last batch or gives what is left", function()
    local set = dataset(23)
    assert.equal(2, #loader(set, { batch_size = 10, drop_last = true }))
    local l = loader(set, { batch_size = 10, shuffle = false, views = 1 })
    assert.equal(3, #l)
    local batches = collect(l, 1)
    assert.equal(3, #batches[3].index)
    assert.same(upto(23), all_indices(batches))
  end)

  it("keeps the short last batch of CIFAR's 50,000 images, as the published code does", function()
    local set = cld.data.tensors { images = cld.zeros({ 50000, 1, 1, 3 }, "u8") }
    local l = loader(set, { batch_size = 256, views = 1 })
    assert.equal(196, #l)
    assert.same({ 1, 80 }, { l:rest(195 * 256) })
    assert.same({ 80, 3, 1, 1 }, l:epoch(1, 195 * 256)().views[1].shape)
  end)

  it("leaves out a last batch of one image, which another epoch has, unless it is told to give it", function()
    local set = dataset(21)
    local l = loader(set, { batch_size = 10, views = 1 })
    assert.equal(2, #l)
    local first, second = collect(l, 1), collect(l, 2)
    assert.same({ 2, 10, 10 }, { #first, #first[1].index, #first[2].index })
    assert.not_same(sorted(all_indices(first)), sorted(all_indices(second)))
    local all = loader(set, { batch_size = 10, views = 1, drop_single = false })
    assert.equal(3, #all)
    assert.same(upto(21), sorted(all_indices(collect(all, 1))))
    assert.same({ { 0, 0 }, { 1, 1 }, { 1, 10 } }, { { l:rest(20) }, { all:rest(20) }, { l:rest(10) } })
  end)

  it("gives batches of one image where that is their size", function()
    assert.same(upto(3), sorted(all_indices(collect(loader(dataset(3), { batch_size = 1, views = 1 }), 1))))
    assert.equal(1, #loader(dataset(1), { batch_size = 1 }))
  end)

  it("does not depend on workers or prefetch", function()
    local set = dataset(48, 9, 11)
    local augment = cld.augment.plus { size = 8, erasing = 0.5 }
    local expected
    for _, case in ipairs { { 0, 1 }, { 1, 1 }, { 1, 3 }, { 2, 2 }, { 5, 1 }, { 5, 4 } } do
      local l = loader(set, {
        batch_size = 6, views = 3, augment = augment, workers = case[1], prefetch = case[2], seed = 5,
      })
      local batches = collect(l, 4)
      assert.equal(8, #batches)
      expected = expected or batches
      assert.same(expected, batches)
    end
  end)

  it("draws each view of an image anew, whatever batch it is in", function()
    local set = dataset(12, 16, 16)
    local augment = cld.augment.base { size = 8 }
    local a = collect(loader(set, { batch_size = 12, views = 2, augment = augment, shuffle = false }), 1)[1]
    assert.not_same(a.views[1], a.views[2])
    local halves = collect(loader(set, { batch_size = 6, views = 2, augment = augment, shuffle = false }), 1)
    assert.same(a.views[2][9], halves[2].views[2][3])
    local later = collect(loader(set, { batch_size = 12, views = 2, augment = augment, shuffle = false }), 2)[1]
    assert.not_same(a.views[1], later.views[1])
  end)

  it("continues in the middle of an epoch", function()
    local l = loader(dataset(50, 8, 8), { batch_size = 5, augment = cld.augment.base { size = 8 } })
    local whole = collect(l, 7)
    local rest = collect(l, 7, 30)
    assert.same(table.move(whole, 7, 10, 1, {}), rest)
    assert.same({}, collect(l, 7, 50))
  end)

  it("continues an epoch with another batch size, each image once and with the views that it has", function()
    local set, augment = dataset(50, 8, 8), cld.augment.base { size = 8 }
    local function views_of(batches)
      local views = {}
      for _, batch in ipairs(batches) do
        for i, index in ipairs(batch.index) do views[index] = { batch.views[1][i], batch.views[2][i] } end
      end
      return views
    end
    local whole = collect(loader(set, { batch_size = 5, augment = augment }), 7)
    for _, size in ipairs { 1, 7, 20, 50, 1000 } do
      local l = loader(set, { batch_size = size, augment = augment, drop_last = false })
      local rest = collect(l, 7, 30)
      assert.same(table.move(all_indices(whole), 31, 50, 1, {}), all_indices(rest))
      assert.same(views_of(table.move(whole, 7, 10, 1, {})), views_of(rest))
      assert.same({ #rest, 20 }, { l:rest(30) })
    end
  end)

  it("tells what an epoch has from an image on", function()
    local set = dataset(50)
    local keeps = loader(set, { batch_size = 8, drop_last = false })
    local drops = loader(set, { batch_size = 8, drop_last = true })
    for first, expected in pairs {
      [0] = { 7, 50, 6, 48 }, [16] = { 5, 34, 4, 32 }, [45] = { 1, 5, 0, 0 }, [50] = { 0, 0, 0, 0 },
    } do
      local steps, images = keeps:rest(first)
      assert.same(expected, { steps, images, drops:rest(first) })
    end
    check.fails(function() keeps:rest(51) end, "loader: an epoch has 50 images; cannot start after 51")
    check.fails(function() keeps:rest(-1) end, "cannot start after %-1")
  end)

  it("gives each rank its part of every batch", function()
    local set = dataset(26)
    local function rank(r, drop_last)
      return collect(loader(set, { batch_size = 12, views = 1, rank = r, world = 3, drop_last = drop_last }), 2)
    end
    local whole = collect(loader(set, { batch_size = 12, views = 1, drop_last = false }), 2)
    local parts = { rank(0, false), rank(1, false), rank(2, false) }
    for step = 1, 2 do
      local joined = {}
      for r = 1, 3 do table.move(parts[r][step].index, 1, #parts[r][step].index, #joined + 1, joined) end
      assert.same(whole[step].index, joined)
    end
    assert.equal(4, #rank(1, true)[2].index)
    for r = 1, 3 do assert.same(whole[3].index, parts[r][3].index) end -- of two images all have both
  end)

  it("gives a rank whole blocks, if there are enough of them", function()
    local set = dataset(40)
    local function sizes(world, block)
      local rows = {}
      for r = 0, world - 1 do
        local options = { batch_size = 40, views = 1, rank = r, world = world, block = block }
        local share = loader(set, options):epoch(1)().share
        rows[r + 1] = share.rows
        assert.equal(40, share.total)
      end
      return rows
    end
    assert.same({ 16, 16, 8 }, sizes(3, 8)) -- five blocks of 8
    assert.same({ 14, 13, 13 }, sizes(3, 20)) -- two blocks: rows, as evenly as can be
    assert.same({ 20, 20 }, sizes(2, 0))
  end)

  it("gives each rank its part of what is left of an epoch", function()
    local set, joined = dataset(26), {}
    local whole = collect(loader(set, { batch_size = 26, views = 1 }), 2)[1].index
    local parts = {}
    for r = 1, 3 do
      local options = { batch_size = 9, views = 1, rank = r - 1, world = 3, drop_last = false }
      parts[r] = collect(loader(set, options), 2, 10)
    end
    for step = 1, 2 do
      for r = 1, 3 do table.move(parts[r][step].index, 1, #parts[r][step].index, #joined + 1, joined) end
    end
    assert.same(table.move(whole, 11, 26, 1, {}), joined)
  end)

  it("gives views in the dtype that is asked for", function()
    local set, options = dataset(6, 9, 8), { batch_size = 3, augment = cld.augment.base { size = 8 } }
    local function views(dtype, workers)
      options.dtype, options.workers = dtype, workers
      local list = {}
      for batch in loader(set, options):epoch(1) do table.move(batch.views, 1, 2, #list + 1, list) end
      return list
    end
    local full = views()
    for _, dtype in ipairs { "f32", "bf16", "f16" } do
      for workers = 0, 2 do
        for i, view in ipairs(views(dtype, workers)) do
          assert.equal(dtype, view.dtype)
          assert.same(full[i]:to(dtype):totable(), view:totable())
        end
      end
    end
  end)

  it("gives views in the precision's dtype, that of the epoch's start, where told to", function()
    local was = cld.precision()
    local _ <close> = setmetatable({}, { __close = function() cld.set_precision(was) end })
    local set = dataset(6)
    local auto, plain = loader(set, { batch_size = 2, dtype = "auto" }), loader(set, { batch_size = 2 })
    for _, case in ipairs { { "fp32", "f32" }, { "bf16", "bf16" }, { "fp16", "f16" }, { "tf32", "f32" } } do
      cld.set_precision(case[1])
      assert.equal("f32", plain:epoch(1)().views[1].dtype)
      local batches <close> = auto:epoch(1)
      cld.set_precision "fp32"
      for _ = 1, 3 do assert.equal(case[2], batches().views[2].dtype) end
    end
  end)

  it("gives a convolution the same numbers in the precision's dtype", function()
    local was = cld.precision()
    local _ <close> = setmetatable({}, { __close = function() cld.set_precision(was) end })
    local conv = cld.nn.conv2d(3, 4, 3)
    for _, precision in ipairs { "fp32", "bf16", "fp16" } do
      cld.set_precision(precision)
      local seen = {}
      for i, dtype in ipairs { "f32", "auto" } do
        local options = { batch_size = 4, views = 1, augment = cld.augment.base { size = 8 }, dtype = dtype }
        local x = loader(dataset(4, 9, 8), options):epoch(1)().views[1]
        seen[i] = conv(x):totable()
      end
      assert.same(seen[1], seen[2])
    end
  end)

  it("can be left at any time", function()
    local set, augment = dataset(64, 8, 8), cld.augment.base { size = 8 }
    for workers = 0, 3 do
      local l = loader(set, { batch_size = 4, workers = workers, prefetch = 2, augment = augment })
      for step = 1, 4 do
        local count = 0
        for _ in l:epoch(1) do
          count = count + 1
          if count == step then break end
        end
        assert.equal(step, count)
      end
      check.fails(function()
        for _ in l:epoch(1) do error "in the loop" end
      end, "in the loop")
      local abandoned = l:epoch(1) -- not closed: the collector's
      abandoned()
    end
    collectgarbage()
  end)

  it("outlives its data set's variables, and hands out batches that stay", function()
    local l = loader(dataset(20), { batch_size = 5, views = 1, prefetch = 1, shuffle = false })
    collectgarbage()
    local kept = {}
    for batch in l:epoch(1) do kept[#kept + 1] = batch.index end
    collectgarbage()
    assert.same({ 15, 16, 17, 18, 19 }, kept[4]:totable())
    assert.same({ 0, 1, 2, 3, 4 }, kept[1]:totable())
  end)

  it("ends, and stays ended", function()
    local batches = loader(dataset(4), { batch_size = 2, views = 1 }):epoch(1)
    assert.truthy(batches() and batches())
    assert.is_nil(batches())
    assert.is_nil(batches())
  end)

  it("takes its setting from the images where no augmentation is given", function()
    local l = loader(dataset(4, 5, 7), { batch_size = 4 })
    assert.same({ 4, 3, 5, 7 }, l:epoch(1)().views[2].shape)
  end)

  it("says that the data set belongs into the table", function()
    local set = dataset(10)
    check.fails(function() cld.data.loader(set) end, "data.loader: expected a table of options, got a dataset")
  end)

  it("says what is wrong", function()
    local set = dataset(10)
    local function fails(options, pattern) check.fails(function() loader(set, options) end, pattern) end
    fails({ batchsize = 4 }, "data.loader: unknown field 'batchsize'; did you mean 'batch_size'?")
    fails({ batch_size = 11, drop_last = true },
      "loader: batch_size 11 is more than the 10 images of the data set, and drop_last")
    check.fails(function() loader(dataset(1), { batch_size = 2 }) end,
      "loader: batch_size 2 is more than the 1 images of the data set, and drop_single leaves nothing")
    local _, message = pcall(loader, set, { batch_size = 11, drop_last = true })
    assert.equal("cld.user_error", getmetatable(message).__name) -- one line for the user, no traceback
    fails({ batch_size = 0 }, "loader: batch_size must be at least 1, got 0")
    fails({ batch_size = 4, rank = 2, world = 2 }, "rank must be 0 to world %- 1, got rank 2 of world 2")
    fails({ batch_size = 2, dtype = "float32" },
      "loader_spec.lua:%d+: data.loader: dtype must be one of f32, bf16, f16, auto, got 'float32'")
    fails({ batch_size = 4, world = 2, rank = 2 }, "rank must be 0 to world %- 1, got rank 2 of world 2")
    fails({ batch_size = 2, views = 0 }, "views must be 1 to 16, got 0")
    fails({ batch_size = 2, workers = -1 }, "workers must be 0 to 256, got %-1")
    fails({ batch_size = 2, prefetch = 0 }, "prefetch must be 1 to 1024 batches, got 0")
    fails({ batch_size = 2.5 }, "loader: field 'batch_size': expected an integer, got 2.5")
    for _, size in ipairs { 8.9, 1e30, 0 / 0, "wide" } do
      check.fails(function() cld.augment.none { size = { 8, size } } end, "augment.resize: size must be")
    end
    fails({ batch_size = 2, shuffle = 1 }, "loader: field 'shuffle': expected true or false, got 1")
    check.fails(function() cld.data.loader { batch_size = 2 } end,
      "the first entry must be a data set of cld.data, got nil")
    local l = loader(set, { batch_size = 5 })
    check.fails(function() l:epoch(-1) end, "expected the number of an epoch, an integer of at least 0, got %-1")
    check.fails(function() l:epoch(1, 11) end, "an epoch has 10 images; cannot start after 11")
    local batches <close> = l:epoch(1)
    local closed = l:epoch(1)
    getmetatable(closed).__close(closed)
    check.fails(function() closed() end, "the epoch was closed")
    assert.truthy(batches())
  end)
end)
