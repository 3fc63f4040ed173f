--- cld.report and recipes/report.lua: what is in the file, that nothing from other files can be markup, and that a run
-- that lacks something still gets a report.
local cld = require "cld"
local check = require "spec.support.check"
local curves = require "cld.report.curves"
local files = require "spec.support.data_files"
local map = require "cld.report.map"
local page = require "cld.report.page"
local pictures = require "cld.report.pictures"
local process = require "spec.support.process"
local recipes = require "spec.support.recipes"
local sample = require "cld.report.sample"
local settings = require "cld.report.settings"

-- What the page's scripts are given.
local function data_of(html)
  return cld.json.decode(html:match '<script type="application/json" id="data">(.-)</script>')
end

describe("a report's parts", function()
  it("have Base64 as RFC 4648 gives it", function()
    local vectors = { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", fooba = "Zm9vYmE=" }
    for bytes, text in pairs(vectors) do assert.equal(text, cld.text.base64(bytes)) end
    assert.equal("AP/+", cld.text.base64(cld.tensor({ 0, 255, 254 }, "u8")))
    check.fails(function() cld.text.base64(cld.zeros(3)) end, "expected a string or a u8 tensor")
  end)

  it("write no text that could end a script, and all of it", function()
    local odd = "</script><!-- & \u{2028}\u{2029} \u{202e} \xff <img src=x onerror=alert(1)>"
    local text = page.safe_json { odd .. "\0", [2] = { [odd] = odd } }
    assert.is_nil(text:find "[<>&]")
    assert.is_nil(text:find "\u{2028}" or text:find "\u{2029}")
    assert.same({ odd .. "\0", { [odd] = odd } }, cld.json.decode(text))
  end)

  it("spread rows evenly, each once, and the first few too", function()
    local rows, seen = sample.spread(1000, 1000), {}
    for _, row in ipairs(rows) do seen[row] = true end
    for row = 0, 999 do assert.is_true(seen[row]) end
    local tenths = {}
    for i = 1, 20 do tenths[rows[i] // 100] = true end
    for tenth = 0, 9 do assert.is_true(tenths[tenth]) end
    assert.same({ { 0 }, {} }, { sample.spread(1, 5), sample.spread(7, 0) })
  end)

  local function event(step, value, kind)
    local e = { event = kind or "progress", epoch = 1, step = step, seconds = step }
    e[kind == "diagnostics" and "values" or "means"] = { loss = value }
    return e
  end

  it("keep of a long curve its ends, its lowest and its highest", function()
    local events, before = {}, curves.most_points
    for i = 1, 5000 do events[i] = event(i, i % 7) end
    events[1234].means.loss, events[4321].means.loss, events[3000].means.loss = -50, 90, "nan"
    curves.most_points = 200
    local curve = curves.of(events).loss
    curves.most_points = before
    local low, high = math.huge, -math.huge
    for _, value in ipairs(curve.value) do
      if value ~= cld.json.null then low, high = math.min(low, value), math.max(high, value) end
    end
    assert.is_true(#curve.value <= 202)
    assert.same({ 1, 5000, -50, 90 }, { curve.step[1], curve.step[#curve.step], low, high })
  end)

  it("tell what is logged in training from what an evaluation finds", function()
    local made = curves.of { event(1, 5), event(2, 4), event(2, 9, "diagnostics") }
    assert.same({ 5, 4 }, made.loss.value)
    assert.same({ 9 }, made.loss_evaluated.value)
  end)

  it("put scores first and a recipe's own losses before the rest", function()
    assert.same({ "top1", "my_loss", "cld", "lr", "data_wait" }, curves.in_order {
      lr = 1, my_loss = 1, data_wait = 1, cld = 1, top1 = 1 })
  end)

  it("name the options that differ, first", function()
    local rows = settings.differing({
      { lr = 0.1, name = "a", seed = 1 }, { lr = 0.2, name = "b", seed = 1, beta = true },
    }).rows
    assert.same({ name = "beta", values = { false, "true" }, differs = true }, rows[1])
    assert.same({ name = "lr", values = { "0.1", "0.2" }, differs = true }, rows[2])
    assert.same({ name = "seed", values = { "1", "1" }, differs = false }, rows[3])
    assert.is_nil(rows[4])
  end)

  it("keep the thumbnails within their bytes, the first of them at least", function()
    cld.manual_seed(1)
    local images, labels = (cld.rand(300, 40, 48, 3) * 255):to "u8", cld.zeros({ 300 }, "i64")
    local set = cld.data.tensors { images = images, labels = labels }
    local all = pictures.new()
    for row = 0, 299 do assert.equal(row, all:add(set, row)) end
    assert.equal(7, all:add(set, 7))
    local sprite = all:sprite { bytes = 60000 }
    assert.is_true(#sprite.bytes <= 60000 and sprite.count < 300 and sprite.count >= 20)
    assert.same({ 300 - sprite.count, sprite.count }, { #sprite.missing, sprite.missing[1] })
    local picture = cld.image.decode(sprite.bytes)
    assert.same({ 32 * sprite.columns, 0 }, { picture.shape[2], picture.shape[1] % 32 })
  end)

  it("show the middle of an image at its slot", function()
    local set = cld.data.tensors {
      images = (cld.ones(3, 32, 64, 3) * cld.tensor({ 10, 120, 250 }):reshape(3, 1, 1, 1)):to "u8",
      labels = cld.tensor({ 2, 0, 1 }, "i64"),
    }
    local all = pictures.new()
    for _, row in ipairs { 2, 0 } do all:add(set, row) end
    local page_of = cld.image.decode(all:sprite { bytes = 1e6 }.bytes)
    assert.is_true(math.abs(page_of[16][16][1]:item() - 250) <= 3 and math.abs(page_of[16][48][1]:item() - 10) <= 3)
    assert.same({ { 2, 0 }, { 0, 0 } }, { all:facts().row, all:facts().set })
  end)

  it("say that there are too few images for a map", function()
    local notes, material = {}, { can_see = function() return true end }
    function material.queries() return { rows = { 0 } } end
    function material.note(_, text) notes[#notes + 1] = text end
    assert.is_nil(map.of(material))
    assert.same({ "A map needs 12 images; there is 1." }, notes)
  end)

  it("map as many points as there is time for", function()
    local features = cld.randn(1500, 4)
    assert.equal(1500, map.affordable(features, math.huge))
    assert.is_true(map.affordable(features, 1e-3) <= 1000)
  end)
end)

describe("a report", function()
  local folder, toy, html
  local report = function(...) return recipes.run("report", ...) end

  -- The command line of a small run.
  local function train(name, ...)
    return "--data", toy, "--runs", folder .. "/runs", "--name", name, "--batch-size", "24", "--width", "4",
      "--low-dim", "8", "--clusters", "6", "--warmup-epochs", "0", "--threads", "1", ...
  end

  setup(function()
    folder, toy = recipes.start()
    local result = recipes.run("cifar10_npid_cld", train("a", "--epochs", "2", "--knn-k", "20", "--report"))
    assert(result.code == 0, result.err)
    html = process.read(folder .. "/runs/a/report.html")
  end)
  teardown(recipes.remove)

  -- A run's folder that holds these files.
  local function run_of(name, log, options)
    local path = folder .. "/runs/" .. name
    files.write(path .. "/log.jsonl", log)
    files.write(path .. "/options.json", cld.json.encode(options or { epochs = 3 }))
    return path
  end

  it("is written by a run that ends, with all parts", function()
    local run = data_of(html).runs[1]
    for _, part in ipairs { "gallery", "map", "groups", "confusion", "views", "pictures", "curves", "facts" } do
      assert.is_table(run[part], part)
    end
    assert.same({}, run.notes)
    assert.equal("a", run.name)
  end)

  it("has every curve of the log", function()
    local run = data_of(html).runs[1]
    for _, name in ipairs { "top1", "instance", "cld", "lr", "images_per_second", "data_wait", "effective_rank" } do
      assert.is_table(run.curves[name], name)
    end
    assert.same({ 1, 2 }, run.curves.top1.epoch)
  end)

  it("has the accuracy of the run's own kNN in its confusion", function()
    local confusion, sum = data_of(html).runs[1].confusion, 0
    for _, cell in ipairs(confusion.cells) do sum = sum + cell[3] end
    local top1 = recipes.last("a", "score").values.top1
    assert.same({ 16, 16, 20, 48 }, { confusion.images, sum, confusion.k, confusion.memory })
    assert.is_true(math.abs(confusion.right / 16 - top1) <= 1e-6)
  end)

  it("shows each query's neighbours, the nearest first", function()
    local gallery = data_of(html).runs[1].gallery
    assert.equal(16, #gallery.queries)
    for _, query in ipairs(gallery.queries) do
      assert.equal(10, #query.neighbours)
      for i = 2, 10 do
        assert.is_true(query.neighbours[i].similarity <= query.neighbours[i - 1].similarity)
      end
    end
  end)

  it("has groups of all images that were grouped", function()
    local groups, sum = data_of(html).runs[1].groups, 0
    for _, group in ipairs(groups.groups) do sum = sum + group.size end
    assert.same({ groups.rows, 48, "the group branch" }, { sum, groups.rows, groups.by })
  end)

  it("needs nothing from anywhere", function()
    for address in html:gmatch '[sh]r[ce]f?="([^"]*)"' do
      assert.is_true(address:find "^data:image/jpeg;base64," == 1 or address:find "^#" == 1, address:sub(1, 60))
    end
    assert.is_nil(html:gsub("http://www%.w3%.org/2000/svg", ""):find "https?://")
    assert.is_nil(html:find "{{%u+}}")
  end)

  it("says without scripts that it needs them", function()
    assert.matches("<noscript>.-your browser does not run them%. Allow scripts.-</noscript>", html)
  end)

  it("is small", function() assert.is_true(#html <= 1e6) end)

  it("is made of a run's folder as by the run itself", function()
    local result = report(folder .. "/runs/a", "--out", folder .. "/again.html")
    assert.equal(0, result.code, result.err)
    local was, again = data_of(html).runs[1], data_of(process.read(folder .. "/again.html")).runs[1]
    assert.same(was.confusion.cells, again.confusion.cells)
    assert.equal(#was.map.slots, #again.map.slots)
    assert.same(was.views[1].steps, again.views[1].steps)
  end)

  it("shows runs side by side", function()
    local b = run_of("b", cld.json.encode { event = "epoch", epoch = 1, step = 4, means = { loss = 1 } } .. "\n",
      { epochs = 9 })
    local result = report(folder .. "/runs/a", b, "--out", folder .. "/both.html")
    assert.equal(0, result.code, result.err)
    local data = data_of(process.read(folder .. "/both.html"))
    assert.same({ "a", "b" }, { data.runs[1].name, data.runs[2].name })
    assert.matches("has no checkpoint", data.runs[2].notes[1])
    assert.is_true(data.settings.rows[1].differs)
  end)

  it("tells runs of one name apart, of which a checkpoint may be given", function()
    os.execute(("mkdir -p %s/others && cp -r %s/runs/a %s/others/a"):format(folder, folder, folder))
    local result = report(folder .. "/runs/a/checkpoint.safetensors", folder .. "/others/a", "--out",
      folder .. "/same.html")
    assert.equal(0, result.code, result.err)
    local data = data_of(process.read(folder .. "/same.html"))
    assert.same({ folder .. "/runs/a", folder .. "/others/a" }, { data.runs[1].name, data.runs[2].name })
  end)

  it("is made with the weights of the checkpoint that is named, from wherever", function()
    local kept = folder .. "/kept"
    os.execute(("cp -r %s/runs/a %s && cd %s && mv checkpoint.safetensors best.safetensors"):format(folder, kept, kept))
    for _, case in ipairs { { kept .. "/best.safetensors" }, { "best.safetensors", directory = kept } } do
      local result = process.run { process.absolute "recipes/report.lua", case[1], "--data", toy, "--out",
        folder .. "/best.html", program = process.absolute(process.cldlua), directory = case.directory }
      assert.equal(0, result.code, result.err)
      local run = data_of(process.read(folder .. "/best.html")).runs[1]
      assert.is_table(run.map)
      assert.same({ "The pictures are made with the weights of best.safetensors." }, run.notes)
    end
  end)

  it("has no pictures, and says why, if the images have gone", function()
    os.rename(toy, toy .. "-moved")
    local result = report(folder .. "/runs/a", "--out", folder .. "/gone.html")
    assert.equal(0, result.code, result.err)
    assert.matches("a: The run's images are not there, so there are no pictures", result.out)
    local run = data_of(process.read(folder .. "/gone.html")).runs[1]
    assert.is_nil(run.gallery or run.map or run.views)
    assert.is_table(run.curves.top1)
    local found = report(folder .. "/runs/a", "--data", toy .. "-moved", "--out", folder .. "/found.html")
    os.rename(toy .. "-moved", toy)
    assert.equal(0, found.code, found.err)
    assert.is_table(data_of(process.read(folder .. "/found.html")).runs[1].map)
  end)

  it("finds the images of a relative --data from any folder, also when all has moved", function()
    local program, here = process.absolute(process.cldlua), folder .. "/here"
    os.execute(("mkdir %s; ln -s ../toy %s/images"):format(here, here))
    local began = process.run { process.absolute "recipes/cifar10_npid_cld.lua", "--no-report", "--epochs", "1",
      "--knn-every", "0", directory = here, program = program, train("a", "--data", "images", "--runs", "my/runs") }
    assert.equal(0, began.code, began.err)
    for _, case in ipairs { { "true", here }, { "mv %s %s-moved", here .. "-moved" } } do
      os.execute(case[1]:format(here, here))
      local result = process.run { process.absolute "recipes/report.lua", case[2] .. "/my/runs/a", "--out",
        folder .. "/found.html", directory = "/", program = program }
      assert.equal(0, result.code, result.err)
      assert.is_table(data_of(process.read(folder .. "/found.html")).runs[1].gallery, result.out)
    end
  end)

  it("names the place of images that are not where the run was started", function()
    os.rename(folder .. "/here-moved/images", folder .. "/here-moved/none")
    local result = process.run { process.absolute "recipes/report.lua", folder .. "/here-moved/my/runs/a", "--out",
      folder .. "/found.html", directory = "/", program = process.absolute(process.cldlua) }
    assert.matches("there is no folder '/tmp/cld%-spec[^\n]*/here/images'", result.out)
  end)

  it("does not replace one that shows more, and says what", function()
    os.rename(toy, toy .. "-moved")
    local result = report(folder .. "/runs/a")
    os.rename(toy .. "-moved", toy)
    assert.equal(1, result.code)
    assert.matches("^cldlua: [^\n]*/runs/a/report.html shows what a new report cannot %(views, neighbours, map, groups,"
      .. " confusion%), and stays; %-%-out FILE writes the new one elsewhere\n$",
      (result.err:gsub("no GPU is used[^\n]*\n", "")))
    assert.equal(html, process.read(folder .. "/runs/a/report.html"))
  end)

  it("does not replace one that shows more although the run was renamed", function()
    os.execute(("cp -r %s/runs/a %s/renamed; mv %s %s-moved"):format(folder, folder, toy, toy))
    local result = report(folder .. "/renamed")
    os.rename(toy .. "-moved", toy)
    assert.equal(1, result.code)
  end)

  it("replaces one that shows more where --out names it", function()
    process.write(folder .. "/named.html", html)
    os.rename(toy, toy .. "-moved")
    local result = report(folder .. "/runs/a", "--out", folder .. "/named.html")
    os.rename(toy .. "-moved", toy)
    assert.equal(0, result.code, result.err)
    assert.is_nil(data_of(process.read(folder .. "/named.html")).runs[1].map)
  end)

  it("has the folder's name where that is the current one", function()
    local path = run_of("here", "", { epochs = 3 })
    local result = process.run { process.absolute "recipes/report.lua", ".", directory = path,
      program = process.absolute(process.cldlua) }
    assert.equal(0, result.code, result.err)
    assert.equal("here", data_of(process.read(path .. "/report.html")).runs[1].name)
  end)

  it("of a run that made no step tells its settings", function()
    local path = run_of("empty", "", { epochs = 3, lr = 0.5 })
    local result = report(path)
    assert.equal(0, result.code, result.err)
    assert.matches("empty: The run has logged no step, so there are no curves", result.out)
    assert.equal("lr", data_of(process.read(path .. "/report.html")).settings.rows[2].name)
  end)

  it("bears a log and options that are anything", function()
    local odd = "<script>alert(1)</script>"
    local path = run_of("odd", table.concat({
      cld.json.encode { event = "epoch", epoch = 1, step = 2, means = { [odd] = 1, loss = { 3 }, bad = "nan" }, now = 7,
        seconds = "inf", date = {}, best = { epoch = "x", value = {} } },
      cld.json.encode { event = "diagnostics", epoch = 1, values = "none", collapse = odd }, "{", "[]", "\xff",
    }, "\n"), { [odd] = odd, epochs = "many", list = { 1, { 2 } } })
    files.write(path .. "/versions.json", '{"host": 3, "command": [[]], "recipe": "' .. ("x"):rep(9) .. '"}')
    local result = report(path)
    assert.equal(0, result.code, result.err)
    local text = process.read(path .. "/report.html")
    assert.is_nil(text:find("<script>alert", 1, true))
    assert.is_table(data_of(text).runs[1].curves[odd])
  end)

  it("is refused in one line", function()
    local cases = {
      [{ folder .. "/nothing" }] = "nothing: there is no such folder\n$",
      [{ toy }] = "toy: not a run's folder %(it lacks log.jsonl or options.json%)\n$",
      [{}] = "expected the folder of a run, or several %(%-%-help lists the options%)\n$",
      [{ folder .. "/runs/a", "--out", toy .. "/" }] = "^cldlua: option '%-%-out': '[^\n]*/toy/' is a folder;"
        .. " expected the name of a file, such as '[^\n]*/toy/report.html'\n$",
      [{ folder .. "/runs/a", "--out", toy .. "x/r.html" }] = "option '%-%-out': there is no folder '[^\n]*/toyx'\n$",
    }
    for arguments, message in pairs(cases) do
      local result = report(table.unpack(arguments))
      assert.equal(1, result.code)
      assert.matches(message, (result.err:gsub("no GPU is used[^\n]*\n", "")))
    end
  end)

  it("is left out by --report false", function()
    local result = recipes.run("cifar10_npid_cld", train("none", "--epochs", "1", "--knn-k", "5", "--report", "false"))
    assert.equal(0, result.code, result.err)
    assert.is_nil(cld.io.exists(folder .. "/runs/none/report.html"))
    assert.is_nil(result.out:find "report: ")
  end)

  -- A limit on the size of files stands in for the full disk.
  it("that the disk has no room for fails no run, and the old one stays", function()
    local code = [[
      local report = require "cld.report"
      local html = report.html
      function report.html(...)
        local text = html(...)
        io.popen("prlimit --fsize=40000: --pid " .. cld.host().pid):close()
        return text
      end]]
    os.execute(("cp -r %s/runs/a %s/runs/full"):format(folder, folder))
    local result = recipes.run_after(code, "cifar10_npid_cld", "--resume", folder .. "/runs/full", "--epochs", "3",
      "--report")
    assert.equal(0, result.code, result.err)
    assert.matches("\nthe report was not written %(recipes/report.lua makes one of any run%): cannot write"
      .. " '[^\n]*/full/report.html': File too large\n", result.out)
    assert.equal(html, process.read(folder .. "/runs/full/report.html"))
    assert.equal(3, recipes.last("full", "end").epoch)
  end)

  it("that cannot be made fails no run", function()
    local result = recipes.run_after([[package.preload["cld.report"] = function() error("no report today", 0) end]],
      "cifar10_npid_cld", train("failing", "--epochs", "1", "--knn-k", "5", "--report"))
    assert.equal(0, result.code, result.err)
    assert.matches("\nthe report was not written %(recipes/report.lua makes one of any run%): no report today\n",
      result.out)
  end)
end)
