--- recipes/select.lua and cld.eval.selection: what is read from a run's log, the rankings, Spearman's rho, and folders
-- that cannot be ranked; and that runs log the figures that they are ranked by.
local cld = require "cld"
local check = require "spec.support.check"
local files = require "spec.support.data_files"
local process = require "spec.support.process"
local recipes = require "spec.support.recipes"
local selection = require "cld.eval.selection"

describe("selection", function()
  local folder
  setup(function() folder = process.temporary_folder() end)
  teardown(function() process.remove(folder) end)

  -- A run's folder: a list of {rank, alignment, uniformity, group accuracy, nmi, kNN}, one an epoch.
  local function run_of(name, epochs, more)
    more = more or {}
    local path, lines = folder .. "/" .. name, {}
    local function add(event, epoch, fields)
      fields.event, fields.epoch = event, epoch
      lines[#lines + 1] = cld.json.encode(fields)
    end
    add("start", 0, {})
    for epoch, v in ipairs(epochs) do
      add("epoch", epoch, { means = { alignment = 9, uniformity = 9, group_accuracy = v[4] or nil, loss = 1 } })
      if not more.plain then
        add("diagnostics", epoch, {
          values = { effective_rank = v[1], alignment = v[2], uniformity = v[3], nmi = v[5] },
        })
      end
      if v[6] then add("score", epoch, { values = { top1 = v[6], top5 = 1 } }) end
    end
    if not more.unfinished then add("end", #epochs, {}) end
    lines[#lines + 1] = more.last
    files.write(path .. "/log.jsonl", table.concat(lines, "\n") .. "\n")
    files.write(path .. "/options.json", cld.json.encode { epochs = more.of or #epochs })
    files.write(path .. "/versions.json", cld.json.encode { recipe = "recipes/" .. (more.recipe or "a.lua") })
    return path
  end

  local a, b, c
  before_each(function()
    a = run_of("a", { { 5, 0.5, -1, 0.2, 0.1, 0.2 }, { 30, 0.2, -3, 0.6, 0.5, 0.7 } })
    b = run_of("b", { { 6, 0.5, -1, 0.2, 0.1, 0.2 }, { 20, 0.3, -2, 0.5, 0.6, 0.6 } })
    c = run_of("c", { { 7, 0.5, -1, 0.3, 0.1, 0.9 }, { 10, 0.1, -1, 0.1, 0.1, 0.5 } })
  end)

  local function ranked(runs) return selection.rank((selection.of_folders(runs, nil, "mean"))) end

  describe("of a run", function()
    it("takes the last epoch that has diagnostics, in place of the steps' own figures", function()
      local run = selection.read(a)
      assert.same({ "a.lua", 2, 2, true, 0.7 }, { run.recipe, run.epoch, run.epochs, run.ended, run.knn })
      assert.same({ effective_rank = 30, alignment = 0.2, uniformity = -3, group_accuracy = 0.6, nmi = 0.5,
        alignment_uniformity = -2.8 }, run.values)
    end)

    it("takes the epoch that it is given, and the last kNN up to it", function()
      local run = selection.read(run_of("few", { { 5, 0, -1, nil, 0.1, 0.4 }, { 6, 0, -1 } }), 2)
      assert.same({ 6, 0.4, nil }, { run.values.effective_rank, run.knn, run.values.nmi })
      assert.equal(5, selection.read(a, 1).values.effective_rank)
    end)

    it("takes what came last of an epoch made twice", function()
      local run = selection.read(run_of("twice", { { 5 } }, { last = cld.json.encode {
        event = "diagnostics", epoch = 1, values = { effective_rank = 8 } } .. "\n{\"event\": \"half" }))
      assert.same({ effective_rank = 8 }, run.values)
    end)
  end)

  it("puts runs in the order of each criterion, of equal ones in the middle of their places", function()
    local places = ranked({ a, b, c }).places
    assert.same({ { 1, 2, 3 }, { 2, 3, 1 }, { 1, 2, 3 }, { 1, 2, 3 }, { 2, 1, 3 } }, { places.effective_rank,
      places.alignment, places.uniformity, places.group_accuracy, places.nmi })
    check.close(places.mean, { 1.25, 1.75, 3 })
    assert.same({ 1.5, 1.5, 3 }, selection.places({ 4, 4, 1 }, 3, true))
    assert.same({ 2, 3, 1 }, selection.places({ 4, nil, 1 }, 3, false))
  end)

  it("tells Spearman's rho of each order with kNN", function()
    local rho = ranked({ a, b, c }).rho
    check.close(rho.effective_rank, 1)
    check.close(rho.alignment, -0.5)
    check.close(rho.nmi, 0.5)
    check.close(selection.spearman({ 1, 2, 3, 4, 5 }, { 2, 1, 4, 3, 5 }), 0.8)
    check.close(selection.spearman({ 1, 2.5, 2.5, 4 }, { 1, 2, 3, 4 }), 0.9486832980505138)
    assert.is_nil(selection.spearman({ 2, 2, 2 }, { 1, 2, 3 }))
  end)

  it("tells no rho of two runs, or where one has no kNN accuracy", function()
    assert.is_nil(ranked({ a, b }).rho)
    assert.is_nil(ranked({ a, b, run_of("blind", { { 5, 0, -1, 0.1, 0.1 } }) }).rho)
  end)

  it("leaves a criterion that one run lacks out of the mean", function()
    local result = ranked({ a, b, run_of("plain", { { 40, 0.4, -3, nil, 0.4, 0.1 } }) })
    assert.same({ "mean", "effective_rank", "alignment", "uniformity", "alignment_uniformity", "nmi" }, result.shared)
    assert.is_nil(result.rho.group_accuracy)
  end)

  describe("select", function()
    local function select(...) return process.run { "recipes/select.lua", ... } end

    it("prints a row for each run, the best first, and how well each order agrees with kNN", function()
      local result = select(c, a .. "/", b)
      assert.equal(0, result.code, result.err)
      local lines = {}
      for line in result.out:gmatch "[^\n]+" do lines[#lines + 1] = line end
      assert.equal(5, #lines)
      assert.matches("^run +epoch +rank +align +uniform +sum +group +nmi +mean place +kNN$", lines[1])
      assert.matches("/b +2 ", lines[2])
      assert.matches("/a +2 +30.0 %(1%) +0.200 %(2%) +%-3.000 %(1%) +%-2.800 %(1%) +0.600 %(1%) +0.500 %(2%) +1.25 "
        .. "+70.00 %%$", lines[3])
      assert.matches("/c +2 ", lines[4])
      assert.equal("Spearman's rho with kNN over 3 runs: mean 1.00, effective_rank 1.00, alignment -0.50, "
        .. "uniformity 1.00, alignment_uniformity 1.00, group_accuracy 1.00, nmi 0.50", lines[5])
    end)

    it("takes another epoch, and another order", function()
      local result = select(a, b, c, "--epoch", "1", "--by", "effective_rank")
      assert.matches("\n[^\n]*/c +1 +7.0 [^\n]*\n[^\n]*/b +1 [^\n]*\n[^\n]*/a +1 ", result.out)
    end)

    it("puts a run last that lacks the criterion, and says so", function()
      local result = select(run_of("old", { { 99, 0, -9 } }), a, "--by", "nmi")
      assert.matches("/old: it has logged no nmi, and comes last\n[^\n]*\n[^\n]*/a +2 [^\n]*\n[^\n]*/old +1 ",
        result.out)
    end)

    it("leaves out, in a line each, what cannot be ranked", function()
      local none = run_of("none", { { 5 } }, { plain = true })
      files.write(folder .. "/other/photo.txt", "x")
      local result = select(a, b, none, folder .. "/other", folder .. "/nowhere")
      assert.equal(0, result.code, result.err)
      assert.matches("/none: left out: its log has no diagnostics: [^\n]*\n", result.out)
      assert.matches("/other: left out: not a run's folder [^\n]*\n", result.out)
      assert.matches("/nowhere: left out: there is no such folder\n", result.out)
      result = select(a, run_of("long", { { 1 }, { 1 }, { 1, [5] = 0.1 } }), "--epoch", "3")
      assert.matches("/a: left out: its log has no diagnostics of epoch 3; the last are of epoch 2\n", result.out)
    end)

    it("leaves out a run whose features were not finite, and one that was given before", function()
      local bad = run_of("bad", { { "nan", "nan", "nan", 0.1, "nan" } })
      local result = select(bad, a, a .. "/", b)
      assert.matches("/bad: left out: its features were not finite in epoch 1\n", result.out)
      assert.matches("/a: left out: it was given before\n", result.out)
      assert.equal(1, _G.select(2, result.out:gsub("\n[^\n]*/a +2 ", "")))
    end)

    it("says that a run is unfinished, and that runs are of different recipes", function()
      local half = run_of("half", { { 5, 0, -1, 0.1, 0.1 } }, { unfinished = true, of = 8, recipe = "b.lua" })
      local result = select(a, half)
      assert.matches("/half: unfinished: epoch 1 of 8 counts\n", result.out)
      assert.is_nil(result.out:find("comes last", 1, true))
      assert.matches("\nruns of 2 recipes %(a.lua, b.lua%): [^\n]*\n", result.out)
      assert.is_nil(result.out:find("/a: unfinished", 1, true))
    end)

    for what, case in pairs {
      ["nothing"] = { {}, "expected folders of runs: cldlua recipes/select.lua runs/a runs/b" },
      ["a folder that is no run"] = { { "spec" }, "none of these can be ranked: spec: left out: not a run's folder" },
      ["an order by what no run has logged"] = { { "@ranks", "--by", "nmi" },
        "option '%-%-by': none of these runs has logged nmi; they have effective_rank" },
      ["runs without diagnostics"] = { { "@none", "spec" },
        "none of these can be ranked: [^\n]*/none: left out: its log has no diagnostics: [^\n]*; and 1 more" },
    } do
      it("refuses " .. what, function()
        run_of("none", { { 5 } }, { plain = true })
        run_of("ranks", { { 5 } })
        local given = {}
        for i, word in ipairs(case[1]) do given[i] = word:gsub("^@", folder .. "/") end
        local result = select(table.unpack(given))
        assert.equal(1, result.code, result.out)
        assert.matches("^cldlua: " .. case[2] .. "[^\n]*\n$", result.err)
      end)
    end
  end)
end)

describe("runs", function()
  local folder, toy
  setup(function() folder, toy = recipes.start() end)
  teardown(recipes.remove)

  it("of CLD and without it log what they are selected by", function()
    for _, lambda in ipairs { "1", "0" } do
      local name = "l" .. lambda
      local result = recipes.run("cifar10_npid_cld", "--data", toy, "--runs", folder .. "/runs", "--name", name,
        "--epochs", "1", "--batch-size", "24", "--width", "2", "--low-dim", "4", "--clusters", "4", "--warmup-epochs",
        "0", "--threads", "1", "--lambda", lambda)
      assert.equal(0, result.code, result.err)
      local run = selection.read(folder .. "/runs/" .. name)
      for _, criterion in ipairs { "effective_rank", "alignment", "uniformity", "nmi" } do
        assert.is_true(run.values[criterion] == run.values[criterion], criterion)
      end
      assert.equal(lambda == "1", run.values.group_accuracy ~= nil)
      assert.is_true(run.values.nmi > 0 and run.values.nmi <= 1 and run.knn > 0)
    end
  end)
end)
