--- What is seen of a training without labels, against NumPy and PyTorch (fixtures/make_diagnostics.py), and on devices.
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
    { "same", 0.0, "" }, cld.options.training }
    local run = cld.run(opt)
    for _ in run:epochs { w = cld.zeros(1) } do
      for _ = 1, 3 do run:track { uniformity = -opt.same } end
      run:diagnose { effective_rank = cld.tensor(25.5) }
    end]]

  local function run(...)
    local folder <close> = setmetatable({ path = process.temporary_folder() }, {
      __close = function(self) process.remove(self.path) end,
    })
    local script = process.write(folder.path .. "/r.lua", recipe)
    local result = process.run { script, "--runs", folder.path, "--name", "r", "--threads", "1", ... }
    assert.equal(0, result.code, result.err)
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
end)
