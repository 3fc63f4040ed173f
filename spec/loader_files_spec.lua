--- The loader on image files: decoded once for all views, the same batches for any number of workers and on any device,
-- and what happens when files are damaged.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local process = require "spec.support.process"

local folder = os.tmpname()
os.remove(folder)

local function path(class, name) return ("%s/%s/%s"):format(folder, class, name) end

-- An image of smooth colours that are its own.
local function picture(seed, height, width)
  local y = cld.arange(0, height, 1, "f32"):reshape(height, 1, 1)
  local x = cld.arange(0, width, 1, "f32"):reshape(1, width, 1)
  local c = cld.tensor({ 1, 2, 3 }, "f32"):reshape(1, 1, 3)
  return ((((y * (0.05 + 0.01 * seed) + x * 0.03 + c * seed):sin()) + 1) * 127):to "u8"
end

-- Two classes of six images: JPEG and PNG of sizes of their own.
local function write_images()
  os.execute(("mkdir -p '%s/a' '%s/b'"):format(folder, folder))
  for i = 1, 6 do
    for k, class in ipairs { "a", "b" } do
      local name = ("%02d.%s"):format(i, i % 3 == 0 and "png" or "jpg")
      cld.image.write(path(class, name), picture(6 * k + i, 40 + 9 * i, 90 - 5 * i))
    end
  end
end

local function damage(class, name)
  local file = io.open(path(class, name), "wb")
  file:write "\255\216\255\224 no more of a JPEG"
  file:close()
end

local function loader(set, options)
  options[1] = set
  return cld.data.loader(options)
end

local function collect(l, epoch, first_image)
  local batches = {}
  for batch in l:epoch(epoch or 1, first_image) do
    local seen = { index = batch.index:totable(), labels = batch.labels:totable(), views = {} }
    for v, view in ipairs(batch.views) do seen.views[v] = view:float():totable() end
    batches[#batches + 1] = seen
  end
  return batches
end

local function all(batches, field)
  local list = {}
  for _, batch in ipairs(batches) do table.move(batch[field], 1, #batch[field], #list + 1, list) end
  return list
end

-- f() with what it says on standard output left out, and its lines.
local function quiet(f)
  local lines, was = {}, io.stdout
  local stand_in = setmetatable({}, { __index = { write = function(_, ...)
    lines[#lines + 1] = table.concat { ... }
    return true
  end } })
  io.stdout = stand_in -- luacheck: ignore
  local results = table.pack(pcall(f))
  io.stdout = was -- luacheck: ignore
  if not results[1] then error(results[2], 0) end
  return lines, table.unpack(results, 2, results.n)
end

describe("a loader of files", function()
  before_each(write_images)
  after_each(function() os.execute(("rm -rf '%s'"):format(folder)) end)

  local function set() return cld.data.folder { root = folder } end
  local views = {
    cld.augment.plus { size = 24 }, cld.augment.byol_2 { size = 32 }, cld.augment.list {
      cld.augment.resize { size = 40 }, cld.augment.flip(), cld.augment.random_resized_crop { size = 16 },
      cld.augment.color_jitter { hue = 0.2 },
    },
  }

  it("gives views of different programs and sizes", function()
    local batch = loader(set(), { batch_size = 5, views = views }):epoch(1)()
    assert.same({ { 5, 3, 24, 24 }, { 5, 3, 32, 32 } }, { batch.views[1].shape, batch.views[2].shape })
  end)

  it("gives nine patches of each image, image by image", function()
    local program = cld.augment.list {
      cld.augment.random_resized_crop { size = 255, scale = { 0.6, 1 } }, cld.augment.flip(), cld.augment.jigsaw(),
      cld.augment.normalize { mean = 0.5, std = 0.5 },
    }
    local one = loader(set(), { batch_size = 4, views = { views[1], program }, shuffle = false })
    local batch = one:epoch(1)()
    assert.same({ 36, 3, 64, 64 }, batch.views[2].shape)
    local image = cld.data.subset { set(), indices = cld.tensor({ 2 }, "i64") }
    assert.equal(9, loader(image, { batch_size = 1, views = { program } }):epoch(1)().views[1].shape[1])
  end)

  it("does not depend on workers or prefetch", function()
    local expected
    for _, case in ipairs { { 0, 1 }, { 1, 3 }, { 4, 2 }, { 16, 1 } } do
      local seen = collect(loader(set(), { batch_size = 5, views = views, workers = case[1], prefetch = case[2] }))
      expected = expected or seen
      assert.same(expected, seen)
    end
  end)

  it("decodes parts of files to the pixels of the whole", function()
    local exact = collect(loader(set(), { batch_size = 12, views = views, decode = "exact", shuffle = false }))[1]
    for i, p in ipairs(set().paths) do
      local image = cld.image.read(p)
      for v, program in ipairs(views) do
        local view = program:views(image, { seed = 0, epoch = 1, sample = i - 1, view = v })
        assert.same(view:totable()[1], exact.views[v][i])
      end
    end
  end)

  it("makes patches of a file that cannot be shrunk from the pixels of the whole", function()
    local root = process.temporary_folder()
    local png = root .. "/one.png"
    cld.image.write(png, picture(3, 172, 219))
    local image, program = cld.image.read(png), cld.augment.infomin_jigsaw { view = 32 }
    local one = cld.data.folder { root = root }
    for seed = 1, 40 do
      local batch = loader(one, { batch_size = 1, views = { program }, seed = seed, drop_single = false }):epoch(1)()
      local whole = program:views(image, { seed = seed, epoch = 1, sample = 0, view = 1 })
      assert.equal(0, batch.views[1]:ne(whole):any():item(), "seed " .. seed)
    end
    process.remove(root)
  end)

  it("decodes at a smaller scale only if every view shrinks the image by far more, to nearly the same views", function()
    cld.manual_seed(1)
    os.execute(("rm -r '%s/a' '%s/b'"):format(folder, folder))
    cld.io.mkdir(folder .. "/a")
    local coarse = cld.rand({ 1, 3, 20, 30 }):mul(255) -- blocks of 8 pixels, and noise on them
    local blocks = coarse:unsqueeze(4):unsqueeze(6):expand(1, 3, 20, 8, 30, 8):reshape(3, 160, 240)
    local noisy = blocks:mul(0.8):add(cld.rand({ 3, 160, 240 }):mul(51)):permute(2, 3, 1):contiguous()
    cld.image.write(path("a", "1.jpg"), noisy:to "u8")
    local function view(decode, ...)
      local programs = {}
      for i, size in ipairs { ... } do
        programs[i] = cld.augment.list { cld.augment.resize { size = { 2 * size, 3 * size } } }
      end
      return loader(set(), { batch_size = 1, views = programs, decode = decode }):epoch(1)().views[1]
    end
    local function difference(...) return (view("exact", ...) - view("fast", ...)):abs():mean():item() * 255 end
    for _, size in ipairs { 5, 10, 20 } do -- 1/16, 1/8 and 1/4
      local found = difference(size)
      assert(found > 0 and found < 2, ("%d: %g"):format(size, found))
    end
    assert.same({ 0, 0 }, { difference(40), difference(10, 40) })
  end)

  it("keeps its lists as they were when they are edited meanwhile", function()
    local a = cld.augment.base { size = 16 }
    local settings = { batch_size = 3, views = { a }, prefetch = 1 }
    local expected, l, seen = collect(loader(set(), settings)), loader(set(), settings), {}
    for batch in l:epoch(1) do
      seen[#seen + 1] = batch.views[1]:totable()
      a[1].size, a[2].p = 9, 0
      table.insert(a, 2, cld.augment.solarize { p = 1 })
    end
    for i, batch in ipairs(expected) do assert.same(batch.views[1], seen[i]) end
    assert.equal(#expected, #seen)
  end)

  it("goes on in the middle of an epoch", function()
    local l = loader(set(), { batch_size = 5, views = views })
    assert.same(collect(l, 3)[2], collect(l, 3, 5)[1])
  end)

  it("counts the seconds that its consumer waited", function()
    local l = loader(set(), { batch_size = 5, views = views })
    collect(l)
    local once = l.waited
    collect(l)
    assert(once > 0 and l.waited > once)
  end)

  -- ---- damaged files ----------------------------------------------------------

  local function damaged(options)
    damage("a", "02.jpg")
    options.batch_size, options.views, options.max_bad = options.batch_size or 5, views, options.max_bad or 0.2
    return loader(set(), options)
  end

  it("puts another image in the place of a damaged one, with its own index and label", function()
    local _, batches = quiet(function() return collect(damaged { shuffle = false }) end)
    local index, labels = all(batches, "index"), all(batches, "labels")
    assert.equal(12, #index)
    assert.not_equal(1, index[2])
    for i, row in ipairs(index) do assert.equal(row < 6 and 0 or 1, labels[i]) end
    index[2] = 1
    assert.same({ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 }, index)
  end)

  it("takes the same image for any number of workers, and after a resume", function()
    local _, expected = quiet(function() return collect(damaged { workers = 0 }, 2) end)
    for _, workers in ipairs { 1, 4 } do
      local _, seen = quiet(function() return collect(damaged { workers = workers }, 2) end)
      assert.same(expected, seen)
    end
    local _, rest = quiet(function() return collect(damaged { workers = 2 }, 2, 5) end)
    assert.same({ expected[2], expected[3] }, rest)
  end)

  it("names it once, and says why", function()
    local l
    local lines = quiet(function()
      l = damaged {}
      collect(l, 1)
      collect(l, 2)
      collect(loader(l.dataset, { batch_size = 4, views = views, max_bad = 0.2 }))
    end)
    assert.equal(1, #lines)
    assert.matches("cannot read an image, another takes its place %(1 of 12 so far%): .*/a/02.jpg: ", lines[1])
    assert.equal(1, #l:unreadable())
    assert.matches("/a/02.jpg: ", l:unreadable()[1])
  end)

  it("stops at the first if it is strict", function()
    check.fails(function() collect(damaged { strict = true }) end, "/a/02.jpg: ")
  end)

  it("stops with a list when there are more than max_bad", function()
    for _, name in ipairs { "01.jpg", "04.jpg", "05.jpg" } do damage("b", name) end
    local _, message = pcall(quiet, function() collect(damaged { workers = 2 }) end)
    assert.matches("3 of 12 images cannot be read, more than the 2 that are allowed %(max%-bad%): ", tostring(message))
    assert.matches("; [^;]*/b/0%d.jpg: a JPEG that ends within its header", tostring(message))
  end)

  it("bears one of a small set, and none if it is told to", function()
    quiet(function() collect(damaged { max_bad = 0.01 }) end)
    check.fails(function() quiet(function() collect(damaged { max_bad = 0 }) end) end,
      "more than the 0 that are allowed")
  end)

  it("gives up when nothing can be read", function()
    local one = cld.data.subset { set(), indices = cld.tensor({ 1, 1 }, "i64") }
    damage("a", "02.jpg")
    local l = loader(one, { batch_size = 2, views = views, max_bad = 1 })
    check.fails(function() quiet(function() collect(l) end) end,
      "image %d and 100 others tried in its place cannot be read; the last is .*/a/02.jpg")
  end)

  it("replaces files that are gone, changed or no files", function()
    local files = set()
    os.remove(path("a", "01.jpg"))
    os.execute(("rm '%s' && mkfifo '%s'"):format(path("a", "04.jpg"), path("a", "04.jpg")))
    local lines = quiet(function()
      collect(loader(files, { batch_size = 5, views = views, max_bad = 0.5, shuffle = false }))
    end)
    assert.matches("/a/01.jpg: cannot be read: No such file", lines[1])
    assert.matches("/a/04.jpg: a FIFO, not a regular file", lines[2])
  end)

  it("checks what it is told", function()
    check.fails(function() loader(set(), { views = {} }) end, "data.loader: views is an empty list")
    check.fails(function() loader(set(), { views = { views[1], nil, views[2] } }) end, "view 2 must be .* got nil")
    check.fails(function() loader(set(), { views = { "plus" } }) end, "view 1 must be an augmentation of cld.augment")
    check.fails(function() loader(set(), {}) end, "differ in size: give an augment, such as")
    check.fails(function() loader(set(), { views = views, augment = views[1] }) end, "leave out augment")
    check.fails(function() loader(set(), { views = views, decode = "quick" }) end, "decode must be one of fast, exact")
    check.fails(function() loader(set(), { views = views, max_bad = 2 }) end, "max_bad is a share of the images")
  end)
end)

describe("a loader of a set that is written in Lua", function()
  local function custom(read, count)
    return cld.data.custom { count = count or 10, read = read }
  end
  local view = cld.augment.base { size = 16 }

  it("does not depend on workers, and takes labels as they are read", function()
    local function read(i) return picture(i, 20 + i, 30), i % 4 end
    local expected
    for _, workers in ipairs { 0, 1, 3 } do
      local seen = collect(loader(custom(read), { batch_size = 4, augment = view, workers = workers }))
      expected = expected or seen
      assert.same(expected, seen)
    end
    local index, labels = all(expected, "index"), all(expected, "labels")
    for k, row in ipairs(index) do assert.equal((row + 1) % 4, labels[k]) end
  end)

  it("replaces images whose reading fails, and names them", function()
    local function read(i)
      if i == 3 then error "no such day" end
      return picture(i, 20, 20), 0
    end
    local lines = quiet(function() collect(loader(custom(read), { batch_size = 5, augment = view })) end)
    assert.equal(1, #lines)
    assert.matches("read%(3%): .*no such day", lines[1])
  end)

  it("stays stopped when too many cannot be read", function()
    local l = loader(custom(function(i) return i > 4 and picture(i, 20, 20) or nil end), {
      batch_size = 5, augment = view, max_bad = 0.1,
    })
    local batches <close> = l:epoch(1)
    for _ = 1, 2 do
      local ok, message = pcall(quiet, function()
        repeat until not batches()
      end)
      assert.is_false(ok)
      assert.matches("cannot be read, more than the 1 that are allowed", tostring(message))
    end
  end)

  it("may be read from a coroutine", function()
    local l = loader(custom(function(i) return picture(i, 20, 20) end), { batch_size = 5, augment = view })
    local batches = coroutine.wrap(function() coroutine.yield(#collect(l)) end)()
    assert.equal(2, batches)
  end)
end)

devices.each("a loader of files", function(device)
  setup(write_images)
  teardown(function() os.execute(("rm -rf '%s'"):format(folder)) end)

  for name, programs in pairs {
    ["plus and BYOL's"] = { cld.augment.plus { size = 24, erasing = 1 }, cld.augment.byol_2 { size = 64 } },
    ["InfoMin's"] = { cld.augment.infomin { size = 40 } },
    ["a crop after colours"] = { cld.augment.list {
      cld.augment.resize { size = { 40, 40 } }, cld.augment.color_jitter { brightness = 0.4, p = 1 },
      cld.augment.random_crop { size = 32, padding = 4 }, cld.augment.flip(),
      cld.augment.normalize { mean = 0.5, std = 0.5 },
    } },
  } do
    it("makes the host's pixels of " .. name, function()
      local function views(where)
        local set = cld.data.folder { root = folder }
        return collect(loader(set, { batch_size = 5, views = programs, device = where, workers = 2 }))
      end
      check.close(views(device), views "cpu", { atol = 1e-6, rtol = 1e-6 })
    end)
  end
end)
