--- Diagnostics of a training without labels, against NumPy and PyTorch (fixtures/make_diagnostics.py), and on devices.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local process = require "spec.support.process"

local fixture = cld.load "spec/fixtures/diagnostics.safetensors"
local diagnostics = cld.diagnostics

describe("diagnostics", function()
  it("alignment and uniformity are Wang and Isola's", function()
    local seen = diagnostics.views(fixture.q1, fixture.q2)
    check.close(seen.alignment, fixture.alignment, { atol = 1e-13, rtol = 0 })
    check.close(seen.uniformity, fixture.uniformity, { atol = 1e-13, rtol = 0 })
    local single = diagnostics.views(fixture.q1:float(), fixture.q2:float())
    check.close(single.uniformity:double(), fixture.uniformity, { atol = 1e-5, rtol = 0 })
  end)

  devices.each("alignment and uniformity", function(device)
    it("are captured, read nothing back and stay off the tape", function()
      local weight = cld.ones({ 1 }, { dtype = "f64", device = device }):requires_grad_()
      local step = cld.graph(function(q1, q2) return diagnostics.views(q1 * weight, q2) end, { device = device })
      for _ = 1, 4 do
        local seen = step(fixture.q1:to(device), fixture.q2:to(device))
        check.close(seen.alignment:cpu(), fixture.alignment, { atol = 1e-13, rtol = 0 })
        check.close(seen.uniformity:cpu(), fixture.uniformity, { atol = 1e-13, rtol = 0 })
        assert.is_false(seen.alignment.requires_grad or seen.uniformity.requires_grad)
      end
    end)
  end)

  it("the figures of parts are those of the whole batch", function()
    local function of(values, q1, q2, counts)
      local told, first = diagnostics.over_parts(fixture.q2), 1
      for _, count in ipairs(counts) do
        local rows = { { first, first + count - 1 } }
        told:add({ loss = values[rows]:mean() }, { q1[rows], q2 and q2[rows] or nil }, count)
        first = first + count
      end
      return told:means { extra = values[1] }
    end
    local values = fixture.q1[{ {}, 1 }]
    for _, counts in ipairs { { 12 }, { 5, 4, 3 } } do
      for _, q2 in ipairs { fixture.q2, false } do
        local told = of(values, fixture.q1, q2, counts)
        check.close(told.loss, values:mean(), { atol = 1e-14, rtol = 0 })
        check.close(told.alignment, fixture.alignment, { atol = 1e-13, rtol = 0 })
        check.close(told.uniformity, fixture.uniformity, { atol = 1e-13, rtol = 0 })
        assert.equal(values[1]:item(), told.extra:item())
      end
    end
  end)

  it("the uniformity of equal rows is 0, whatever their length, of a single row NaN", function()
    local same = cld.ones({ 5, 4 }, "f64") / 2
    for _, length in ipairs { 1, 0, 1e-3, 30 } do
      check.close(diagnostics.uniformity(same * length), cld.tensor(0, "f64"), { atol = 1e-12, rtol = 0 })
    end
    local one = diagnostics.uniformity(same[{ { 1, 1 } }]):item()
    assert.is_true(one ~= one)
  end)

  it("the uniformity of rows of any length goes by their distance", function()
    local rows = cld.tensor({ { 0, 0 }, { 0.3, 0.4 }, { 0, 0 }, { 3, 4 } }, "f64") -- 0.5, 0, 5, 0.5, 4.5 and 5 apart
    local mean = (1 + 2 * math.exp(-2 * 0.25) + 2 * math.exp(-2 * 25) + math.exp(-2 * 20.25)) / 6
    check.close(diagnostics.uniformity(rows), cld.tensor(math.log(mean), "f64"), { atol = 1e-14, rtol = 0 })
  end)

  for _, case in ipairs { "wide", "tall", "flat", "collapsed" } do
    it("the effective rank is RankMe's: " .. case, function()
      local rank = diagnostics.effective_rank(fixture["features." .. case])
      assert.is_true(math.abs(rank - fixture["rank." .. case]:item()) < 1e-9)
    end)
  end

  it("the effective rank is that of equal singular values where they are, 0 of zeros, NaN of NaN", function()
    assert.is_true(math.abs(diagnostics.effective_rank(cld.eye(6)) - 6) < 1e-9)
    assert.equal(0, diagnostics.effective_rank(cld.zeros(3, 4)))
    local bad = diagnostics.effective_rank(cld.tensor { { 1, 0 / 0 } })
    assert.is_true(bad ~= bad)
  end)

  it("the effective rank of more rows and dimensions than 512 is that of the first rows", function()
    local x = cld.zeros(514, 600)
    for i = 1, 514 do x[{ i, i <= 512 and (i - 1) % 3 + 1 or i }] = 1 end
    assert.is_true(math.abs(diagnostics.effective_rank(x) - 3) < 1e-2)
  end)

  it("a network's rank is that of its pooled features of images spread over the set, in evaluation mode", function()
    local norm = cld.nn.batch_norm2d(3)
    local net = cld.nn.sequential(norm)
    function net:features(images) return self(images):flatten(2, -1) end
    local set = cld.data.tensors { images = cld.randint(0, 256, { 10, 4, 4, 3 }):to "u8" }
    local view = cld.augment.none { size = 4 }
    local kept = cld.data.subset { set, indices = cld.tensor({ 0, 3, 6 }, "i64") }
    local images = cld.data.loader { kept, views = 1, augment = view, shuffle = false }:epoch(1)().views[1]
    local rank = diagnostics.rank { net = net, set = set, images = 3, augment = view, batch_size = 2 }
    assert.is_true(math.abs(rank - diagnostics.effective_rank(images:flatten(2, -1))) < 1e-3)
    assert.is_true(norm.training)
    assert.equal(0, norm.running_mean:abs():sum():item())
  end)

  it("the mutual information is 1 of the same groups, whatever they are called, and 0 of unrelated ones", function()
    local function nmi(a, b) return diagnostics.nmi(cld.tensor(a, "i64"), cld.tensor(b, "i64")) end
    check.close(nmi({ 0, 0, 1, 2 }, { 5, 5, 0, 1 }), 1)
    check.close(nmi({ 0, 0, 1, 1 }, { 0, 1, 0, 1 }), 0)
    check.close(nmi({ 0, 0, 1, 1 }, { 0, 0, 0, 1 }), 0.34371101848545077, { atol = 1e-12 }) -- scikit-learn's
    assert.equal(0, nmi({ 3, 3, 3 }, { 1, 1, 1 }))
    check.fails(function() nmi({ 0, 1 }, { 0 }) end, "diagnostics.nmi: expected labels i64 %(n%) of the same rows")
  end)

  describe("two views of the same images", function()
    local net = cld.nn.sequential(cld.nn.batch_norm2d(3))
    local set = cld.data.tensors { images = cld.randint(0, 256, { 40, 6, 6, 3 }):to "u8" }
    local function rows(_, images) return images:flatten(2, -1) end
    local function seen(more)
      local options = { net = function(images) return rows(nil, images) end, set = set,
        views = cld.augment.base { size = 6 } }
      for name, value in pairs(more or {}) do options[name] = value end
      return diagnostics.two_views(options)
    end

    it("are the same each time, and move no random numbers", function()
      local before = cld.get_rng_state()
      local first = seen()
      assert.same(before, cld.get_rng_state())
      cld.manual_seed(99)
      assert.same(first, seen { batch_size = 7, workers = 0 })
      assert.is_true(first.nmi > 0 and first.nmi < 1 and first.alignment > 0 and first.uniformity < 0)
    end)

    it("are one view twice if nothing is drawn: the same groups, no distance", function()
      local same = seen { views = cld.augment.none { size = 6 } }
      check.close(same.nmi, 1)
      check.close(same.alignment, 0)
    end)

    it("may have two augmentations, of which a list holds the first two", function()
      local plain, drawn = cld.augment.none { size = 6 }, cld.augment.base { size = 6 }
      assert.is_true(seen { views = { plain, drawn } }.alignment > 0)
      check.close(seen { views = { plain, plain, drawn } }.alignment, 0)
      check.close(seen { views = { plain } }.alignment, 0)
    end)

    it("leave the network as it is, in training mode", function()
      local before = net[1].running_mean:clone()
      function net:features(images) return self(images):flatten(2, -1) end
      seen { net = net, layer = "features" }
      assert.is_true(net[1].training)
      check.close(net[1].running_mean, before)
    end)

    it("are NaN if a feature is not finite", function()
      local bad = seen { net = function(images) return images:flatten(2, -1) / 0 end }
      for _, name in ipairs { "alignment", "uniformity", "nmi" } do assert.is_true(bad[name] ~= bad[name], name) end
    end)

    it("say what is wrong with what they are given", function()
      check.fails(function() seen { views = {} } end, "data.loader: views is an empty list")
      check.fails(function() seen { groups = 0 } end, "diagnostics.two_views: groups must be")
      check.fails(function() seen { layer = "last" } end, "diagnostics.two_views: layer must be 'instance'")
      check.fails(function() seen { net = 3 } end, "diagnostics.two_views: net must be a module or a function, got 3")
    end)
  end)

  it("features that are not 2-d are refused", function()
    check.fails(function() diagnostics.uniformity(cld.zeros(3)) end,
      "diagnostics.uniformity: expected features %(images, dim%)")
    check.fails(function() diagnostics.rank { nets = cld.nn.relu() } end, "diagnostics.rank: unknown field 'nets'")
    check.fails(function() diagnostics.rank {} end, "diagnostics.rank: net must be a module or a function, got nil")
    check.fails(function() diagnostics.rank { net = cld.nn.relu(), set = 3 } end,
      "diagnostics.rank: set must be a data set of cld.data, got 3")
  end)

  it("a collapse is named by the rank, or by images in one place", function()
    assert.matches("effective rank 1.20", diagnostics.collapse { effective_rank = 1.2 })
    assert.matches("uniformity %-1.0e%-04", diagnostics.collapse { effective_rank = 20, uniformity = -1e-4 })
    assert.is_nil(diagnostics.collapse { effective_rank = 3, uniformity = -1 })
    assert.is_nil(diagnostics.collapse { effective_rank = 0 / 0, uniformity = 0 / 0 })
    assert.is_nil(diagnostics.collapse {})
  end)
end)

describe("run:diagnose", function()
  local recipe = [[
    local cld = require "cld"
    local opt = cld.options { about = "", { "epochs", 1, "", integer = true },
    { "same", 0.0, "" }, { "rank", 25.5, "" }, cld.options.training }
    local run = cld.run(opt)
    for _ in run:epochs { w = cld.zeros(1) } do
      for _ = 1, 3 do run:track { uniformity = -opt.same } end
      run:diagnose { effective_rank = cld.tensor(opt.rank > 0 and opt.rank or 0 / 0) }
    end]]

  local function run(...)
    local folder <close> = setmetatable({ path = process.temporary_folder() }, {
      __close = function(self) process.remove(self.path) end,
    })
    local script = process.write(folder.path .. "/r.lua", recipe)
    local result = process.run { script, "--runs", folder.path, "--name", "r", "--threads", "1", ... }
    if result.code ~= 0 then return result.err end
    for line in io.lines(folder.path .. "/r/log.jsonl") do
      local event = cld.json.decode(line)
      if event.event == "diagnostics" then return result.out, event end
    end
  end

  it("prints and logs what is seen", function()
    local out, event = run("--same", "0.5")
    assert.matches("\nepoch 1/1  effective_rank 25.5\ndone: ", out)
    assert.same({ { effective_rank = 25.5 }, 1, nil }, { event.values, event.epoch, event.collapse })
  end)

  it("names a collapse, and goes on", function()
    local out, event = run("--same", "0.00001")
    assert.matches("\nepoch 1/1  the features have collapsed: [^\n]*\ndone: ", out)
    assert.matches("^the features have collapsed", event.collapse)
  end)

  it("ends a run whose features are not finite", function()
    assert.matches("^cldlua: epoch 1: features of the training images are not finite: the training has diverged [^\n]*"
      .. "; there is no checkpoint\n$", (run("--rank", "0")))
  end)
end)
