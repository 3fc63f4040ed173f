--- The loader on each kind of data set: which labels count, what a function in Lua may do, how much is held in memory,
-- and the same images for any number of workers and ranks and after a resume, with damaged files among them.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"

local view = cld.augment.base { size = 8 }

local function image(i) return cld.full({ 10, 12, 3 }, i, "u8") end

local function loader(set, options)
  options[1] = set
  options.augment = options.augment or not options.views and view or nil
  return cld.data.loader(options)
end

local function collect(l, epoch, first_image)
  local batches = {}
  for batch in l:epoch(epoch or 1, first_image) do
    local seen = { index = batch.index:totable(), labels = batch.labels:totable(), views = {} }
    for v, one in ipairs(batch.views) do seen.views[v] = one:totable() end
    batches[#batches + 1] = seen
  end
  return batches
end

local function labels(set, options)
  options = options or { batch_size = #set, shuffle = false }
  return collect(loader(set, options))[1].labels
end

describe("the label of a batch", function()
  local function read(i) return image(i), i % 4 end

  it("is what a function in Lua returns", function()
    assert.same({ 1, 2, 3, 0, 1 }, labels(cld.data.custom { count = 5, read = read }))
  end)

  it("is the set's if it was given labels, whatever the function returns", function()
    local set = cld.data.custom { count = 3, read = read, labels = cld.tensor({ 7, 8, 9 }, "i64") }
    local _, label = set:read(2)
    assert.same({ { 7, 8, 9 }, 8 }, { labels(set), label })
  end)

  it("is that of a class in a subset of classes, which count anew", function()
    local set = cld.data.subset { cld.data.custom { count = 8, read = read }, classes = cld.tensor({ 2, 3 }, "i64") }
    local _, label = set:read(1)
    assert.same({ { 0, 1, 0, 1 }, 0 }, { labels(set), label })
  end)
end)

describe("a function in Lua that reads images", function()
  local function failing(read, pattern)
    check.fails(function() cld.data.custom({ count = 4, read = read }):read(1) end, pattern)
  end

  it("may raise anything", function()
    failing(function() error "no" end, "read%(1%): .*no")
    failing(function() error() end, "read%(1%): nil")
    failing(function() error { 1 } end, "read%(1%): table: ")
    local odd = setmetatable({}, { __tostring = function() error "deeper" end })
    failing(function() error(odd) end, "read%(1%): .*deeper")
    failing(function() coroutine.yield() end, "read%(1%): attempt to yield")
  end)

  it("that asks for itself is an error, and no crash", function()
    local set
    set = cld.data.custom { count = 4, read = function() return set:read(2) end }
    check.fails(function() set:read(1) end, "C stack overflow")
  end)

  it("may read from other sets", function()
    local inner = cld.data.custom { count = 4, read = function(i) return image(i), i end }
    local outer = cld.data.custom { count = 4, read = function(i) return inner:read(5 - i) end }
    assert.same({ 4, 3, 2, 1 }, labels(outer))
  end)

  it("that runs out of memory ends the epoch: the image is not called unreadable", function()
    local function read() error(cld.zeros { 1 << 20, 1 << 20, 1 << 20 }) end
    local l = loader(cld.data.custom { count = 4, read = read }, { batch_size = 2 })
    check.fails(function() collect(l) end, "memory")
    assert.same({}, l:unreadable())
  end)

  it("is asked for images no faster than they are made: few lie in memory", function()
    local made, start, most = cld.zeros({ 1000, 1000, 3 }, "u8"), cld.memory().resident, 0
    local set = cld.data.custom { count = 600, read = function()
      most = math.max(most, cld.memory().resident - start)
      return made
    end }
    local batches <close> = loader(set, { batch_size = 200, shuffle = false }):epoch(1)
    batches()
    assert(most < 9e8, most) -- of 1.8e9 in three batches
  end)
end)

-- ---- the same images, whoever makes them ----------------------------------------

describe("a loader of every kind of set, with damaged images,", function()
  local folder
  setup(function()
    folder = os.tmpname()
    os.remove(folder)
    cld.io.mkdir(folder)
    for i = 1, 9 do
      local name = ("%s/%d.%s"):format(folder, i, i % 2 == 0 and "png" or "jpg")
      cld.image.write(name, image(20 * i):clone())
    end
    local out = io.open(folder .. "/4.png", "wb")
    out:write "\137PNG\r\n\26\n no more"
    out:close()
    local whole = cld.rand({ 400, 60, 3 }):mul(255):to "u8" -- damaged below the rows that a crop may need
    cld.image.write(folder .. "/9.jpg", whole)
    local file = io.open(folder .. "/9.jpg", "rb")
    local bytes = file:read "a"
    file:close()
    file = io.open(folder .. "/9.jpg", "wb")
    file:write(bytes:sub(1, #bytes * 2 // 3))
    file:close()
    cld.io.save_npy(folder .. "/images.npy", cld.rand({ 9, 10, 12, 3 }):mul(255):to "u8")
    os.execute(("cd '%s' && tar -cf images.tar *.jpg *.png"):format(folder))
  end)
  teardown(function() os.execute(("rm -rf '%s'"):format(folder)) end)

  local function files() return cld.data.folder { root = folder, layout = "plain" } end
  local function read(i)
    if i == 3 then error "no such day" end
    return image(i), i
  end
  local kinds = {
    files = files,
    tar = function() return cld.data.tar { path = folder .. "/images.tar", layout = "plain" } end,
    npy = function()
      os.execute(("cp '%s/images.npy' '%s/short.npy'"):format(folder, folder))
      local set = cld.data.npy { images = folder .. "/short.npy" }
      os.execute(("truncate -s -100 '%s/short.npy'"):format(folder)) -- the last image cannot be read any more
      return set
    end,
    subset = function() return cld.data.subset { files(), indices = cld.tensor({ 8, 3, 2, 2, 5, 7, 0, 1 }, "i64") } end,
    concat = function() return cld.data.concat { files(), files() } end,
    memory = function() return cld.data.tensors { images = cld.rand({ 9, 10, 12, 3 }):mul(255):to "u8" } end,
    ["a function in Lua"] = function() return cld.data.custom { count = 9, read = read } end,
    ["a subset of a function in Lua"] = function()
      local set = cld.data.custom { count = 9, read = read, labels = cld.arange(0, 9, 1, "i64") }
      return cld.data.subset { set, indices = cld.tensor({ 8, 2, 2, 5, 7, 0, 1 }, "i64") }
    end,
  }
  local programs = {
    view, cld.augment.list {
      cld.augment.random_resized_crop { size = 255, scale = { 0.1, 0.5 } }, cld.augment.jigsaw(),
      cld.augment.normalize { mean = 0.5, std = 0.5 },
    },
  }

  for name, make in pairs(kinds) do
    describe(name .. ",", function()
      -- The batches of a loader with these settings, all of one set.
      local function runner()
        cld.manual_seed(1)
        local set = make()
        return function(changes, first_image)
          local all = { batch_size = 6, views = { programs[1] }, max_bad = 1 }
          for key, value in pairs(changes) do all[key] = value end
          local l = loader(set, all)
          l.bad.told = math.huge
          return collect(l, 3, first_image)
        end
      end

      it("makes the same for any number of workers and batches ahead", function()
        local quietly = runner()
        local expected = quietly { workers = 0 }
        for _, case in ipairs { { 1, 1 }, { 3, 4 }, { 16, 1 }, { 16, 4 } } do
          assert.same(expected, quietly { workers = case[1], prefetch = case[2] })
        end
      end)

      it("makes the same after a resume", function()
        local quietly = runner()
        local whole = quietly {}
        table.remove(whole, 1)
        assert.same(whole, quietly({}, 6))
      end)

      it("gives ranks their parts, and of fewer images than ranks all to each", function()
        local quietly = runner()
        local whole = quietly { drop_single = false }
        for world = 2, 3 do
          for step, batch in ipairs(whole) do
            local joined = { index = {}, labels = {}, views = { {} } }
            for rank = 0, #batch.index < world and 0 or world - 1 do
              local part = quietly({ rank = rank, world = world, drop_single = false, workers = rank })[step]
              for _, field in ipairs { "index", "labels" } do
                table.move(part[field], 1, #part[field], #joined[field] + 1, joined[field])
              end
              table.move(part.views[1], 1, #part.views[1], #joined.views[1] + 1, joined.views[1])
            end
            assert.same(batch, joined)
          end
        end
      end)
    end)
  end

  it("gives the patches of its parts", function()
    local l = loader(files(), { batch_size = 6, views = programs, max_bad = 1, rank = 1, world = 3 })
    l.bad.told = math.huge
    local batches = l:epoch(1)
    assert.same({ { 2, 3, 8, 8 }, { 18, 3, 64, 64 } }, (function()
      local views = batches().views
      return { views[1].shape, views[2].shape }
    end)())
    local rest = loader(files(), { batch_size = 8, views = programs, max_bad = 1, world = 4, drop_single = false })
    rest.bad.told = math.huge
    local last
    for batch in rest:epoch(1) do last = batch end
    assert.same({ 9, 3, 64, 64 }, last.views[2].shape) -- of one image, which all ranks have
  end)
end)

-- ---- on a device ------------------------------------------------------------------

devices.each("a loader of images that are all of one size", function(device)
  local patches = cld.augment.list {
    cld.augment.random_resized_crop { size = 255, scale = { 0.6, 1 } }, cld.augment.jigsaw(),
    cld.augment.color_jitter { brightness = 0.4, p = 1 }, cld.augment.normalize { mean = 0.5, std = 0.5 },
  }
  local large, small = cld.augment.plus { size = 40 }, cld.augment.byol_1 { size = 16 }
  local set
  setup(function()
    cld.manual_seed(1)
    set = cld.data.tensors { images = cld.rand({ 11, 30, 34, 3 }):mul(255):to "u8" }
  end)
  teardown(function() set = nil end)

  for name, views in pairs {
    ["nine patches of each beside a view"] = { small, patches },
    ["views of many sizes"] = { large, large, small, small, small },
  } do
    for where, resident in pairs { device = true, host = false } do
      it(("that lie on the %s makes the same of them: %s"):format(where, name), function()
        local function batches(on)
          return loader(set, { batch_size = 4, views = views, device = on, resident = resident, workers = 2 }):epoch(1)
        end
        local there <close> = batches(device)
        for expected in batches "cpu" do
          local batch = there()
          for v = 1, #views do check.close(batch.views[v]:to "cpu", expected.views[v], { atol = 1e-6, rtol = 1e-6 }) end
          assert.same(expected.index:totable(), batch.index:totable())
        end
        set.copies = nil
      end)
    end
  end
end)
