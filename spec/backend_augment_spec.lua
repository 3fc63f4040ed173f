--- Views made on a device, and the loader and the evaluation there, against the host's.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"
local process = require "spec.support.process"

-- n images of h x w with edges, flat parts and noise.
local function dataset(n, h, w)
  local noise = formula.uniform("image", { n, h, w, 3 }, "f32", 60)
  local wave = (cld.arange(n * h * w * 3):float() * 0.37):sin():reshape(n, h, w, 3) * 120
  local images = (wave + noise + 128):clamp(0, 255):to "u8"
  images:narrow(1, 1, 1):fill_(17) -- grey, without contrast
  local labels = {}
  for i = 1, n do labels[i] = i % 3 end
  return cld.data.tensors { images = images, labels = cld.tensor(labels, "i64"), classes = 3 }
end

-- Every batch of an epoch as plain tables.
local function collect(set, device, options, epoch, first_image)
  local settings = { set, batch_size = 4, device = device, seed = 11, drop_last = false }
  for key, value in pairs(options) do settings[key] = value end
  local batches, where = {}, nil
  for batch in cld.data.loader(settings):epoch(epoch or 3, first_image) do
    local seen = { index = batch.index:totable(), labels = batch.labels:totable(), views = {} }
    where = batch.views[1].device
    assert.same({ where, where }, { batch.index.device, batch.labels.device })
    for v, view in ipairs(batch.views) do
      assert.equal(options.dtype or "f32", view.dtype)
      seen.views[v] = view:totable()
    end
    batches[#batches + 1] = seen
  end
  return batches, where
end

local augment = cld.augment

local LISTS = 15

local function random_integer(state, low, high)
  state.at = (state.at * 6364136223846793005 + 1442695040888963407)
  return low + (state.at >> 33) % (high - low + 1)
end

-- One to seven steps in any order, a last one that gives the views their size, and perhaps normalize and erasing.
local function random_list(state)
  local function integer(low, high) return random_integer(state, low, high) end
  local function size() return { integer(1, 70), integer(1, 70) } end
  local function filter() return integer(0, 1) == 0 and "bilinear" or "bicubic" end
  local resizes = {
    function() return augment.random_resized_crop { size = size(), scale = { 0.05, 1 }, filter = filter() } end,
    function() return augment.resize { size = size(), filter = filter() } end,
    function() return augment.center_crop { size = size() } end,
    function() return augment.random_crop { size = size(), padding = integer(0, 5) } end,
  }
  local others = {
    function() return augment.flip() end,
    function() return augment.color_jitter { brightness = 0.8, contrast = 0.8, saturation = 0.8, hue = 0.5 } end,
    function() return augment.random_grayscale { p = 0.5 } end,
    function() return augment.gaussian_blur { sigma = { 0.1, 5 } } end,
    function() return augment.gaussian_blur { taps = 1 } end,
    function() return augment.solarize() end,
    function() return augment.rand_augment { n = 4, m = 6, mstd = 3, p = 1 } end,
  }
  local steps = {}
  for _ = 1, integer(0, 6) do
    local from = integer(0, 2) == 0 and resizes or others
    steps[#steps + 1] = from[integer(1, #from)]()
  end
  steps[#steps + 1] = resizes[integer(1, #resizes)]()
  for _ = 1, integer(0, 1) do steps[#steps + 1] = others[integer(1, #others)]() end
  if integer(0, 1) == 0 then
    steps[#steps + 1] = augment.normalize(augment.statistics.imagenet)
    for _ = 1, integer(0, 2) do steps[#steps + 1] = augment.erasing { p = 0.7, value = 1 } end
  end
  return augment.list(steps)
end

devices.each("the loader", function(device)
  local here = cld.cuda.resolve(device)
  -- The same bits: what is compared are the values that 8-bit levels become.
  local exactly = { atol = 0, rtol = 0 }

  local function same(set, options, epoch)
    local expected = collect(set, "cpu", options, epoch)
    local actual, where = collect(set, device, options, epoch)
    assert.equal(here, where)
    assert.equal(#expected, #actual)
    for i, batch in ipairs(expected) do
      assert.same(batch.index, actual[i].index)
      assert.same(batch.labels, actual[i].labels)
      check.close(actual[i].views, batch.views, exactly)
    end
  end

  local function only(settings) -- the parts that are named, on small views
    local options = { size = { 9, 7 }, mean = { 0.5, 0.4, 0.3 }, std = { 0.2, 0.3, 0.4 } }
    for key, value in pairs(settings) do options[key] = value end
    return augment.none(options)
  end
  local cases = {
    ["crops only"] = only { crop = true },
    ["the whole image at another size"] = only {},
    ["the image as it is"] = augment.none { size = { 16, 12 } },
    ["larger than the image"] = only { size = { 33, 40 }, crop = true },
    ["brightness"] = only { jitter_p = 1, jitter = { 0.8, 0, 0, 0 } },
    ["contrast"] = only { jitter_p = 1, jitter = { 0, 0.8, 0, 0 } },
    ["saturation"] = only { jitter_p = 1, jitter = { 0, 0, 2, 0 } },
    ["hue"] = only { jitter_p = 1, jitter = { 0, 0, 0, 0.5 } },
    ["grey"] = only { grayscale = 1 },
    ["blur"] = only { blur = 1, sigma = { 0.1, 2 } },
    ["a blur wider than the view"] = only { blur = 1, sigma = { 5, 9 } },
    ["flips"] = only { flip = 0.5 },
    ["erasing"] = only { erasing = 1 },
    ["crops of extreme ratio"] = only { crop = true, scale = { 0.9, 1 }, ratio = { 4, 5 } },
    ["CLD's base"] = augment.base { size = 16 },
    ["MoCo's"] = augment.plus { size = { 15, 11 }, erasing = true },
    ["crops of a resized image"] = augment.list {
      augment.resize { size = 20 }, augment.random_resized_crop { size = { 9, 13 } }, augment.flip(),
    },
    ["crops of a mirrored image"] = augment.list { augment.flip(), augment.random_resized_crop { size = 24 } },
    ["crops of a jittered image"] = augment.list {
      augment.color_jitter { brightness = 0.4, hue = 0.2 }, augment.random_resized_crop { size = 9 },
      augment.gaussian_blur(), augment.resize { size = { 14, 10 }, filter = "bicubic" },
    },
  }
  local names = {}
  for name in pairs(cases) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    it("makes the host's views: " .. name, function()
      same(dataset(10, 16, 12), { augment = cases[name], views = 2 })
    end)
  end

  it("makes the host's views: two random lists of each set, of any size up to 70 pixels", function()
    local state = { at = 5 }
    for _ = 1, LISTS do
      local set = dataset(3, random_integer(state, 1, 70), random_integer(state, 1, 70))
      local views, resident = { random_list(state), random_list(state) }, random_integer(state, 0, 1) == 1
      same(set, { views = views, batch_size = 2, resident = resident })
    end
  end)

  it("draws by the whole seed, the epoch, the view and the image", function()
    local set, options = dataset(10, 6, 6), { augment = augment.base { size = 6 }, views = 3, drop_last = false }
    for _, seed in ipairs { 5 << 32, -3 } do
      options.seed = seed
      for _, epoch in ipairs { 0, 1 << 21 } do same(set, options, epoch) end
    end
  end)

  it("makes CIFAR's", function()
    same(dataset(24, 32, 32), { augment = augment.plus { erasing = true }, views = 2 })
  end)

  it("makes views of images that need more than shared memory", function()
    same(dataset(2, 150, 130), { augment = augment.plus { size = 96, erasing = 0.5 }, views = 1 })
  end)

  it("makes views of nearly as much memory as a block may have", function()
    same(dataset(2, 5, 4), { augment = only { size = { 80, 95 } }, views = 1, batch_size = 1 })
    same(dataset(1, 5, 4), { augment = only { size = { 4, 1043 } }, views = 1, batch_size = 1 })
  end)

  it("makes one view after the other where each needs a lot of memory", function()
    local options = {
      size = { 2, 4096 }, crop = true, scale = { 0.0002, 0.0004 }, ratio = { 0.1, 1 }, flip = 0.5, erasing = 0.5,
      jitter_p = 0.5, jitter = { 0.4, 0.4, 0.4, 0.1 },
    }
    same(dataset(6, 22000, 4), { augment = only(options), views = 1, batch_size = 6 })
  end)

  for _, dtype in ipairs { "bf16", "f16" } do
    it("rounds to nearest: " .. dtype, function()
      same(dataset(10, 16, 12), { augment = augment.plus { size = { 15, 11 }, erasing = 0.5 }, dtype = dtype })
    end)
  end

  if cld.cuda.is_emulated() then
    it("makes all of a batch's views of 32 pixels with one launch for each list", function()
      local folder = process.temporary_folder()
      local script = process.write(folder .. "/views.lua", [==[
        local cld = require "cld"
        local set = cld.data.tensors {
          images = cld.zeros({ 8, 32, 32, 3 }, { dtype = "u8" }), labels = cld.zeros({ 8 }, { dtype = "i64" }),
          classes = 1,
        }
        local loader = cld.data.loader { set, batch_size = 4, augment = cld.augment[arg[1]](), device = "cuda" }
        for batch in loader:epoch(1) do batch.views[1]:cpu() end
      ]==])
      for _, preset in ipairs { "base", "plus" } do
        local launches = folder .. "/" .. preset
        local result = process.run { script, preset, env = { CLD_HOST_LAUNCHES = launches } }
        assert.equal("", result.err)
        local _, count = process.read(launches):gsub("follow_views[^\n]*\n", "")
        assert.equal(2 * 2, count) -- two batches of two views
      end
      process.remove(folder)
    end)
  end

  it("lays views out as the device's convolutions want them, and these take them as they are", function()
    local was = cld.set_precision "bf16"
    local _ <close> = setmetatable({}, { __close = function() cld.set_precision(was) end })
    local conv = cld.nn.conv2d(3, 1, 1):to(device)
    local function batches(dtype)
      local loader = cld.data.loader {
        dataset(4, 8, 8), batch_size = 4, views = 1, device = device, dtype = dtype,
        augment = augment.base { size = 64 },
      }
      return loader:epoch(1)
    end
    for _, dtype in ipairs { "f32", "auto" } do
      local view = batches(dtype)().views[1]
      check.fails(function() view:stride() end, "it is in the device's own layout")
    end
    -- What the tape keeps for the weight's gradient: the view itself, or a copy.
    local function kept(dtype)
      local view = batches(dtype)().views[1]
      conv(view) -- keeps its rounded weight
      collectgarbage()
      collectgarbage()
      local before = cld.cuda.memory().in_use
      local y = conv(view)
      return cld.cuda.memory().in_use - before - 2 * y:numel()
    end
    local bytes = 2 * 4 * 3 * 64 * 64
    assert(kept "f32" >= bytes)
    assert(kept "auto" < bytes // 2)
  end)

  it("gives a step the same numbers in either dtype, captured too", function()
    local was = cld.set_precision "bf16"
    local _ <close> = setmetatable({}, { __close = function() cld.set_precision(was) end })
    local conv = formula.fill(cld.nn.conv2d(3, 4, 3), "f32"):to(device)
    local function run(dtype, resident)
      local given, outputs = {}, {}
      local step = cld.graph(function(views)
        given[#given + 1] = views[1].dtype .. (pcall(views[1].stride, views[1]) and " strided" or " as the device's")
        return conv(views[1]):float()
      end)
      local loader = cld.data.loader {
        dataset(10, 8, 8), batch_size = 2, views = 1, device = device, dtype = dtype, resident = resident, workers = 0,
        augment = augment.base { size = 8 },
      }
      for batch in loader:epoch(1) do outputs[#outputs + 1] = step(batch.views):totable() end
      return outputs, given
    end
    local expected, f32 = run "f32"
    local actual, bf16 = run "auto"
    local sent, from_host = run("auto", false)
    assert.same({ "f32 as the device's", "bf16 as the device's", "bf16 as the device's" },
      { f32[3], bf16[3], from_host[3] })
    check.close(actual, expected, exactly)
    check.close(sent, expected, exactly)
  end)

  it("starts in the middle of an epoch, and takes its rank's part", function()
    local set = dataset(11, 6, 6)
    local options = { augment = augment.base { size = 6 }, views = 1, rank = 1, world = 2 }
    local whole = collect(set, device, options)
    check.close(collect(set, device, options, 3, 4)[1].views, whole[2].views, exactly)
    check.close(whole[1].views, collect(set, "cpu", options)[1].views, exactly)
  end)

  it("sends the images once, and what the host made where it is told to", function()
    local set = dataset(5, 6, 6)
    local settings = { set, batch_size = 2, device = device, augment = augment.base { size = 6 } }
    local one, two = cld.data.loader(settings), cld.data.loader(settings)
    assert.equal(here, one.settings.resident_images.device)
    assert.equal(one.settings.resident_images, two.settings.resident_images)
    settings.resident = false
    assert.is_nil(cld.data.loader(settings).settings.resident_images)
    local options = { augment = settings.augment, resident = false, workers = 2 }
    local batches, where = collect(set, device, options)
    assert.equal(here, where)
    check.close(batches[1].views, collect(set, device, { augment = settings.augment })[1].views, exactly)
  end)

  it("waits for nothing", function()
    local set = dataset(8, 6, 6)
    local loader = cld.data.loader { set, batch_size = 4, device = device, augment = augment.base { size = 6 } }
    local was = cld.cuda.forbid_waiting(true)
    local count = 0
    for _ in loader:epoch(1) do count = count + 1 end
    cld.cuda.forbid_waiting(was)
    assert.equal(2, count)
  end)

  it("brings a user's tensors to the host first", function()
    local set = dataset(4, 6, 6)
    local moved = cld.data.tensors { images = set.images:to(device), labels = set.labels:to(device), classes = 3 }
    assert.same({ "cpu", "cpu" }, { moved.images.device, moved.labels.device })
  end)

  it("says what is wrong", function()
    local set = dataset(4, 6, 6)
    check.fails(function() cld.data.loader { set, device = "gpu" } end,
      "backend_augment_spec.lua:%d+: data.loader: device must be cpu, cuda or cuda:N, got 'gpu'")
  end)
end)

devices.each("evaluation", function(device)
  it("computes where the network is", function()
    local here = cld.cuda.resolve(device)
    local set = dataset(12, 8, 8)
    local function net_on(where)
      local net = cld.nn.sequential(cld.nn.conv2d(3, 4, 3), cld.nn.flatten())
      return formula.fill(net, "f32"):to(where)
    end
    local expected = cld.eval.features(net_on "cpu", set, { batch_size = 5 })
    local features, labels = cld.eval.features(net_on(device), set, { batch_size = 5 })
    assert.same({ here, here }, { features.device, labels.device })
    check.close(features, expected, { atol = 1e-5, rtol = 1e-4 })
    assert.same(set.labels:totable(), labels:totable())
    local function pixels(images) return images:flatten(2, -1) end
    assert.equal("cpu", cld.eval.features(pixels, set).device)
    check.close((cld.eval.features(pixels, set, { device = device })), (cld.eval.features(pixels, set)))
  end)

  it("takes images in the precision's dtype where told to, to the same features", function()
    local was = cld.set_precision "bf16"
    local _ <close> = setmetatable({}, { __close = function() cld.set_precision(was) end })
    local set, net = dataset(7, 8, 8), cld.nn.conv2d(3, 4, 3):to(device)
    local function features(dtype)
      local seen
      local f = cld.eval.features(function(images)
        seen = images.dtype
        return net(images)
      end, set, { batch_size = 5, device = device, dtype = dtype })
      return f, seen
    end
    local expected, f32 = features()
    local actual, bf16 = features "auto"
    assert.same({ "f32", "bf16" }, { f32, bf16 })
    check.close(actual, expected, { atol = 0, rtol = 0 })
  end)

  it("scores by the neighbours' votes", function()
    local set, queries = dataset(12, 8, 8), dataset(7, 8, 8)
    local function score(where)
      return cld.eval.knn {
        net = function(images) return images:flatten(2, -1):normalize() end, memory = set, queries = queries, k = 4,
        device = where,
      }
    end
    check.close(score(device).top1, score("cpu").top1)
  end)
end)
