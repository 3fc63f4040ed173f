--- Runs, checkpoints, resume, signals: a small recipe in a child process. Its folder is in run_folder_spec.lua.
local cld = require "cld"
local check = require "spec.support.check"
local example = require "spec.support.example_run"
local process = require "spec.support.process"

local recipe = example.recipe

describe("run", function()
  local folder, script, start, succeed, path, outcome, log
  before_each(function()
    local e = example.start()
    folder, script = e.folder, e.script
    start, succeed, path, outcome, log = e.start, e.succeed, e.path, e.outcome, e.log
  end)
  after_each(function() process.remove(folder) end)

  it("leaves a folder that tells what was done", function()
    local result = succeed("--epochs", "2", "--rate", "0.25")
    assert.equal("", result.err)
    assert.same({ "checkpoint.safetensors", "example.lua", "log.jsonl", "options.json", "versions.json" },
      cld.io.list(path "example"))
    local options = cld.json.decode(process.read(path("example", "options.json")))
    assert.same({ 2, 0.25, 8, "auto" }, { options.epochs, options.rate, options.batch_size, options.device })
    assert.equal(recipe, process.read(path("example", "example.lua")))
    local versions = cld.json.decode(process.read(path("example", "versions.json")))
    assert.equal(cld.versions().commit, versions.versions.commit)
    local events, score = {}, nil
    for i, line in ipairs(log "example") do
      events[i] = line.event
      if line.event == "score" then score = line end
    end
    assert.same({ "start", "epoch", "score", "epoch", "score", "end" }, events)
    assert.same({ epoch = 1, name = "top1", value = 1 }, score.best)
    assert.same({ top1 = 0.5, top5 = 0.5 }, score.values)
    local _, metadata = cld.load(path("example", "checkpoint.safetensors"))
    assert.equal("2", metadata.epoch)
    assert.equal(0.25, cld.json.decode(metadata.options).rate)
  end)

  it("prints the settings, a line per epoch with means and speed, the scores and the best", function()
    local result = succeed("--epochs", "2")
    assert.matches("rate +0%.5", result.out)
    assert.matches("epoch 1/2  broken nan  loss [%d.]+  step 3  %d+ images/s", result.out)
    assert.matches("epoch 2/2  top1 50%.00 %%  top5 50%.00 %%  %(best top1 100%.00 %%, epoch 1%)", result.out)
    assert.matches("done: 2 epochs", result.out)
  end)

  it("logs a mean that is not a number without a sign", function()
    succeed("--epochs", "1")
    assert.equal("nan", log "example"[2].means.broken)
  end)

  it("shows progress in place on a terminal", function()
    local result = process.terminal { script = {}, script, "--runs", folder .. "/runs", "--epochs=1", "--pause=0.1" }
    assert.equal(0, result.code)
    assert.matches("\r\27%[Kepoch 1/1  step 3/5  [^\n]*loss [%d.]+  [^\n]*images/s  ETA 0:0%d\r\27%[K", result.out)
    assert.matches("epoch 1/1  top1", result.plain)
  end)

  it("shows and logs progress from time to time elsewhere", function()
    local result = succeed("--epochs=2", "--print-every=0")
    assert.matches("\nepoch 2/2  step 3/5  [^\n]*loss [%d.]+  step 2  %d+ images/s  ETA 0:00\n", result.out)
    local line = log "example"[3]
    assert.same({ "progress", 1, 2, 2 }, { line.event, line.epoch, line.step, line.step_in_epoch })
    assert.equal(1.5, line.means.step)
  end)

  it("numbers the folders of one recipe and keeps what has a name", function()
    succeed "--epochs=1"
    succeed "--epochs=1"
    assert.same({ "example", "example-2" }, cld.io.list(folder .. "/runs"))
    succeed("--epochs=1", "--name", "mine")
    local before = process.read(path("mine", "checkpoint.safetensors"))
    local result = start("--epochs=1", "--name", "mine")
    assert.equal(1, result.code)
    assert.matches("'.*/mine' holds a checkpoint: %-%-resume continues it, %-%-name starts another\n$", result.err)
    assert.equal(before, process.read(path("mine", "checkpoint.safetensors")))
  end)

  describe("resumed", function()
    for _, case in ipairs {
      { "KILL", 137, { 0, 3, 5, 7, 14 } }, { "TERM", 143, { 0, 4, 7, 14 } }, { "INT", 130, { 2, 9 } },
    } do
      local signal, code, steps = table.unpack(case)
      for _, step in ipairs(steps) do
        it(("after SIG%s in step %d ends as if undisturbed"):format(signal, step), function()
          succeed("--name", "whole")
          local result = start("--name", "stopped", "--at", tostring(step), "--with", signal)
          assert.equal(code, result.code)
          if signal ~= "KILL" then
            assert.matches("interrupted %(SIG" .. signal .. "%) after step %d of epoch %d; %-%-resume .*/stopped",
              result.out)
          end
          succeed("--name", "stopped", "--resume", "--at", "-1")
          assert.same(outcome "whole", outcome "stopped")
        end)
      end
    end

    it("after kill -9 at any moment, again and again, ends as if undisturbed", function()
      succeed("--name", "whole")
      local code
      for i = 1, 100 do
        code = process.run { program = "timeout", "-s", "KILL", tostring(0.01 * i), process.cldlua, script, "--runs",
          folder .. "/runs", "--threads", "1", "--name", "stopped", "--resume" }.code
        if code == 0 then break end
      end
      assert.equal(0, code)
      assert.same(outcome "whole", outcome "stopped")
    end)

    it("twice, by folder and by file, is the same", function()
      succeed("--name", "whole")
      assert.equal(143, start("--name", "stopped", "--at", "3", "--with", "TERM").code)
      assert.equal(143, start("--resume", path "stopped", "--at", "11", "--with", "TERM").code)
      succeed("--resume", path("stopped", "checkpoint.safetensors"), "--at", "-1")
      assert.same(outcome "whole", outcome "stopped")
    end)

    it("without a name is the recipe's latest", function()
      succeed()
      assert.equal(143, start("--at", "7", "--with", "TERM").code)
      local result = succeed("--resume", "--at", "-1")
      assert.matches("resumed from .*/example%-2/checkpoint.safetensors, after step 3 of epoch 2", result.out)
      assert.same(outcome "example", outcome "example-2")
    end)

    it("without a name passes over folders of no run", function()
      assert.equal(143, start("--at", "7", "--with", "TERM").code)
      for _, ending in ipairs { "2", "03", "0x10", "1e3", "9223372036854775807", "99999999999999999999", "x" } do
        cld.io.mkdir(folder .. "/runs/example-" .. ending)
      end
      local result = succeed("--resume", "--at", "-1")
      assert.matches("resumed from .*/example/checkpoint.safetensors, after step 3 of epoch 2", result.out)
    end)

    it("keeps its settings but for those that are given anew", function()
      assert.equal(143, start("--rate", "0.25", "--at", "7", "--with", "TERM").code)
      local result = succeed("--resume", "--at", "-1", "--epochs", "4")
      assert.matches("changed on resume: at %-1 %(was 7%), epochs 4 %(was 3%)", result.out)
      local options = cld.json.decode(process.read(path("example", "options.json")))
      assert.same({ 0.25, 4 }, { options.rate, options.epochs })
      assert.equal(4, outcome("example").position.epoch)
    end)

    it("when it is complete does nothing", function()
      succeed()
      local before = outcome "example"
      assert.matches("nothing is left to do", succeed("--resume").out)
      assert.same(before, outcome "example")
    end)

    it("with nothing to resume starts at the beginning and says so", function()
      assert.matches("nothing to resume in .*/new", succeed("--resume", "--name", "new").out)
    end)

    describe("has the number of threads it had,", function()
      local function with(environment, ...)
        local result = process.run {
          script, "--runs", folder .. "/runs", "--name", "threads", env = { OMP_NUM_THREADS = environment }, ...,
        }
        return result, cld.json.decode(process.read(path("threads", "options.json"))).threads
      end

      it("which is stored where the machine chose it", function()
        local _, threads = with("3", "--at", "7", "--with", "TERM")
        assert.equal(3, threads)
        local result
        result, threads = with("1", "--resume", "--at", "-1")
        assert.equal(0, result.code)
        assert.equal(3, threads)
        assert.matches(" 3 threads on ", result.out)
        assert.is_nil(result.out:find "threads %d %(was")
      end)

      it("unless it is given another", function()
        for given, is in pairs { ["2"] = 2, ["0"] = 1 } do
          with("3", "--at", "7", "--with", "TERM")
          local result, threads = with("1", "--resume", "--at", "-1", "--threads", given)
          assert.equal(is, threads)
          assert.matches(("changed on resume: at %%-1 %%(was 7%%), threads %d %%(was 3%%)"):format(is), result.out)
          assert(os.remove(path("threads", "checkpoint.safetensors")))
        end
      end)

      it("which it tells where there are fewer cores", function()
        local cores = cld.host().cores
        with("1", "--at", "7", "--with", "TERM", "--threads", tostring(cores + 1))
        local result, threads = with("1", "--resume", "--at", "-1")
        assert.equal(cores + 1, threads)
        assert.matches(("%d threads as before, for the same results, on %d cores: %%-%%-threads %d is faster\n")
          :format(cores + 1, cores, cores), result.out)
      end)
    end)

    it("clears away what a kill in the middle of a write has left", function()
      assert.equal(143, start("--at", "7", "--with", "TERM").code)
      for _, name in ipairs { "checkpoint.safetensors.123.tmp", "options.json.4.tmp", "example.lua.5.tmp", "my.tmp" } do
        process.write(path("example", name), "x")
      end
      process.write(path("example", "options.json.0123456789abcdef.tmp"), "x")
      succeed("--resume", "--at", "-1")
      assert.same({ "checkpoint.safetensors", "example.lua", "log.jsonl", "my.tmp", "options.json", "versions.json" },
        cld.io.list(path "example"))
    end)

    it("leaves what another program is writing there, and a link", function()
      assert.equal(143, start("--at", "7", "--with", "TERM").code)
      local busy, link = path("example", "features.safetensors.12ab.tmp"), path("example", "x.json.12ab.tmp")
      local result = process.run { program = "/bin/sh", "-c",
        ("exec 9>%s; flock 9; ln -s %s %s; exec %s %s --runs %s/runs --threads 1 --resume --at -1"):format(busy, script,
          link, process.cldlua, script, folder) }
      assert.same({ 0, "" }, { result.code, result.err })
      assert.same({ "file", "file", recipe },
        { cld.io.exists(busy), cld.io.exists(link), process.read(script) })
    end)

    it("keeps a recipe that was changed beside the first", function()
      assert.equal(143, start("--at", "7", "--with", "TERM").code)
      process.write(script, recipe .. "\n-- changed\n")
      succeed("--resume", "--at", "-1")
      assert.equal(recipe, process.read(path("example", "example.lua")))
      assert.equal(recipe .. "\n-- changed\n", process.read(path("example", "example-from-epoch-2.lua")))
    end)

    it("goes on with a log that was cut in the middle of a line", function()
      assert.equal(137, start("--at", "7", "--with", "KILL").code)
      local file = assert(io.open(path("example", "log.jsonl"), "a"))
      file:write '{"event":'
      file:close()
      succeed("--resume", "--at", "-1")
      assert.matches('{"event":\n{', process.read(path("example", "log.jsonl")))
    end)
  end)

  describe("refuses with one line, status 1, and nothing lost:", function()
    local function refused(pattern, ...)
      local result = start(...)
      assert.equal(1, result.code)
      assert.matches("^cldlua: [^\n]*" .. pattern .. "[^\n]*\n$", result.err)
    end

    it("another network", function()
      assert.equal(143, start("--at", "7", "--with", "TERM").code)
      local files = { "checkpoint.safetensors", "options.json", "log.jsonl" }
      local before = {}
      for i, file in ipairs(files) do before[i] = process.read(path("example", file)) end
      refused("does not fit this run: 'net': net: w is %[4%] here, %[3%] in the state; changed options: size 4"
        .. " %(was 3%)", "--resume", "--size", "4")
      refused("does not fit this run: 'extra': net: w is missing", "--resume", "--extra")
      refused("'centre': tensors: the state does not fit: 1 of another shape: value %(%[3%] here, %[2%] in the state%)",
        "--resume", "--centre", "3")
      for i, file in ipairs(files) do assert.equal(before[i], process.read(path("example", file))) end
    end)

    it("an object that is gone", function()
      assert.equal(143, start("--extra", "--at", "7", "--with", "TERM").code)
      refused("'extra' is not in this run", "--resume", "--no-extra")
    end)

    it("a broken or foreign checkpoint", function()
      succeed()
      local whole = process.read(path("example", "checkpoint.safetensors"))
      process.write(path("example", "checkpoint.safetensors"), whole:sub(1, -2))
      refused("checkpoint.safetensors: damaged file", "--resume")
      process.write(path("example", "checkpoint.safetensors"), "hello, this is a text")
      refused("not a safetensors or PyTorch file", "--resume")
      cld.save(path("example", "checkpoint.safetensors"), { a = cld.zeros(1) })
      refused("not a checkpoint of a run", "--resume")
    end)

    it("a checkpoint whose facts were tampered with", function()
      assert.equal(143, start("--at", "7", "--with", "TERM").code)
      local file = path("example", "checkpoint.safetensors")
      local tensors, metadata = cld.load(file)
      local function tampered(pattern, key, value)
        local facts = {}
        for name, text in pairs(metadata) do facts[name] = text end
        facts[key] = value
        cld.save(file, tensors, facts)
        refused("example/checkpoint%.safetensors: damaged checkpoint: " .. pattern, "--resume")
      end
      local position = metadata.position
      tampered("its position: .*line 1", "position", "{broken")
      tampered("its position is not a table", "position", "3")
      tampered("its options is not a table", "options", "null")
      tampered("'epoch' of its position is nil", "position", "{}")
      tampered("'epoch' of its position is %-1", "position", (position:gsub('("epoch":)%d+(,"order")', "%1-1%2")))
      tampered("'step' of its position is 'a'", "position", (position:gsub('"step":%d+', '"step":"a"')))
      tampered("'seconds' of its position is %-", "position", (position:gsub('"seconds":', '"seconds":-1')))
      tampered("'rng' of its position is 7", "position", (position:gsub('"rng":%b{}', '"rng":7')))
      tampered("'best' of its position is a table", "position", (position:gsub('"best":%b{}', '"best":{}')))
    end)

    it("options that a run could not have had", function()
      assert.equal(143, start("--at", "7", "--with", "TERM").code)
      local file = path("example", "checkpoint.safetensors")
      local tensors, metadata = cld.load(file)
      for change, pattern in pairs {
        ['"epochs":"x"'] = "its option 'epochs' is 'x'; expected an integer of at least 1",
        ['"epochs":-3'] = "its option 'epochs' is %-3; expected an integer of at least 1",
        ['"threads":"all"'] = "its option 'threads' is 'all'; expected an integer of at least 1",
      } do
        local facts = { format = metadata.format, position = metadata.position }
        facts.options = metadata.options:gsub(change:match '^"%a+":' .. "%w+", change)
        cld.save(file, tensors, facts)
        local result = process.run { script, "--runs", folder .. "/runs", "--resume" }
        assert.equal(1, result.code)
        assert.matches("^cldlua: [^\n]*example/checkpoint%.safetensors: " .. pattern .. "[^\n]*\n$", result.err)
      end
    end)

    it("meters and tensors that are none of a run's", function()
      assert.equal(143, start("--at", "7", "--with", "TERM").code)
      local file = path("example", "checkpoint.safetensors")
      local tensors, metadata = cld.load(file)
      local function tampered(pattern, name, tensor)
        local changed = {}
        for key, value in pairs(tensors) do changed[key] = value end
        changed[name] = tensor
        cld.save(file, changed, metadata)
        refused(pattern, "--resume")
      end
      tampered("'meters': 'nothing' is neither a sum", "meters.nothing", cld.zeros(1, "f64"))
      tampered("'meters': 'sum.loss' is neither a sum nor a count", "meters.sum.loss", cld.zeros(1))
      tampered("'meters': 'count.loss' is missing", "meters.count.loss", nil)
      tampered("'centre': .*1 of another dtype: value %(f32 here, i64 in the state%)", "centre.value",
        cld.zeros(2, "i64"))
    end)

    it("a path that is not there, or is no run", function()
      refused("%-%-resume: there is no '/nowhere'", "--resume", "/nowhere")
      refused("neither a run folder nor its checkpoint", "--resume", script)
    end)

    it("a run folder that cannot be made", function()
      refused("cannot make the folder '/proc/none'", "--runs", "/proc/none")
    end)

    it("a run folder in use", function()
      cld.io.mkdir(path "busy")
      local _ <close> = cld.io.lock(path "busy")
      refused("'.*/busy' is in use by a run that is still running", "--name", "busy")
    end)

    it("a full disk in the middle of a checkpoint", function()
      assert.equal(143, start("--size", "100000", "--at", "7", "--with", "TERM").code)
      local before = process.read(path("example", "checkpoint.safetensors"))
      local command = ('trap "" XFSZ; ulimit -f 200; exec %s %s --runs %s/runs --resume --at -1')
        :format(process.cldlua, script, folder)
      local result = process.run { program = "/bin/sh", "-c", command }
      assert.equal(1, result.code)
      assert.matches("cldlua: cannot write '.*checkpoint.safetensors': File too large; the previous checkpoint is",
        result.err)
      assert.equal(before, process.read(path("example", "checkpoint.safetensors")))
      for _, file in ipairs(cld.io.list(path "example")) do assert.is_nil(file:find "tmp") end
      succeed("--resume", "--at", "-1")
    end)
  end)

  it("leaves at once on a second SIGINT", function()
    local result = start("--at", "7", "--with", "INT INT")
    assert.equal(130, result.code)
    assert.is_nil(result.out:find "interrupted")
    assert.equal(1, outcome("example").position.epoch)
  end)

  it("leaves at once on a signal before the first epoch", function()
    for signal, code in pairs { INT = 130, TERM = 143 } do
      process.write(script, ([[
        local cld = require "cld"
        cld.run(cld.options { { "epochs", 1, "epochs", integer = true }, cld.options.training })
        io.popen("kill -%s " .. cld.host().pid):close()
        while true do end]]):format(signal))
      local result = start()
      assert.same({ code, "" }, { result.code, result.err })
      assert.matches("threads +1", result.out)
    end
  end)

  it("says after which epoch it was interrupted between two", function()
    process.write(script, (recipe:gsub("run:score {", [[io.popen("kill -TERM " .. cld.host().pid):close() %0]])))
    local result = start()
    assert.equal(143, result.code)
    assert.matches("interrupted %(SIGTERM%) after epoch 1; %-%-resume .*/example continues\n", result.out)
  end)

  it("says that nothing is left to do if it was interrupted after its last epoch", function()
    process.write(script, (recipe:gsub("run:score {", [[io.popen("kill -TERM " .. cld.host().pid):close() %0]])))
    local result = start("--epochs=1")
    assert.equal(143, result.code)
    assert.matches("interrupted %(SIGTERM%) after epoch 1; the run is complete %(recipes/report.lua makes its report%)"
      .. "\n", result.out)
  end)

  it("tells an epoch's time and speed without its evaluation", function()
    process.write(script, (recipe:gsub("run:score {", 'os.execute "sleep 1.2" %0')))
    assert.matches("epoch 1/1  [^\n]* images/s  0:00\nepoch 1/1  top1", succeed("--epochs=1").out)
  end)

  it("tells the user's line what it can neither track nor score", function()
    for _, case in ipairs {
      { "track(nil)", "run:track: expected a table {name = number or tensor of one element}, got nil" },
      { "track 'loss'", "run:track: expected a table {name = number or tensor of one element}, got 'loss'" },
      { "track { loss = 'x' }", "run:track: 'loss' must be a number or a tensor of one element, got 'x'" },
      { "track { loss = true }", "run:track: 'loss' must be a number or a tensor of one element, got true" },
      { "track { loss = cld.zeros(2) }", "run:track: 'loss' must be a number or a tensor of one element, got f32[2]" },
      { "track { 1 }", "run:track: expected names of values, got 1" },
      { "score(nil)", "run:score: expected a table {name = number or tensor of one element}, got nil" },
      { "score {}", "run:score: expected at least one score, such as top1" },
      { "score { top1 = 'x' }", "run:score: 'top1' must be a number or a tensor of one element, got 'x'" },
      { "score { top1 = cld.zeros(2) }", "run:score: 'top1' must be a number or a tensor of one element, got f32[2]" },
      { "score { top1 = {} }", "run:score: 'top1' must be a number or a tensor of one element, got a table" },
    } do
      process.write(script, ("local cld = require 'cld'\n" ..
        "local run = cld.run(cld.options { { 'epochs', 1, '' }, cld.options.training })\n" ..
        "for _ in run:epochs {} do\n  run:%s\nend"):format(case[1]))
      local result = start()
      assert.equal(1, result.code)
      assert.truthy(result.err:find("example.lua:4: " .. case[2] .. "\n", 1, true), result.err)
    end
    process.write(script, "local cld = require 'cld'\n" ..
      "local run = cld.run(cld.options { { 'epochs', 2, '' }, cld.options.training })\n" ..
      "for _ in run:epochs {} do run:track {} run:score { top1 = cld.tensor { 0.25 }, x = 1 / 0 } end")
    assert.matches("best top1 25.00 %%, epoch 1", succeed().out)
  end)

  it("turns Winograd's convolutions off where told", function()
    process.write(script, [[
      local cld = require "cld"
      cld.run(cld.options { { "epochs", 1, "epochs", integer = true }, cld.options.training })
      print("winograd was " .. tostring(cld.nn.functional.set_winograd(true)))]])
    assert.matches("winograd was true", succeed().out)
    assert.matches("winograd was false", succeed("--no-winograd").out)
  end)

  it("passes an error in the recipe through with file, line and traceback", function()
    process.write(script, recipe:gsub("net%.w %* opt%.rate", "net.v * opt.rate"))
    local result = start()
    assert.equal(1, result.code)
    assert.matches("example%.lua:%d+: attempt to .* 'v'", result.err)
    assert.matches("stack traceback", result.err)
  end)

  it("runs a recipe under other defaults and keeps both sources", function()
    process.write(folder .. "/other.lua", [[
      local cld = require "cld"
      cld.options.defaults { epochs = 1 }
      cld.run.recipe "example.lua"]])
    local result = process.run { folder .. "/other.lua", "--runs", folder .. "/runs" }
    assert.equal(0, result.code)
    assert.equal(1, outcome("other").position.epoch)
    assert.equal(recipe, process.read(path("other", "example.lua")))
    assert.equal("file", cld.io.exists(path("other", "other.lua")))
  end)

  it("says how it is to be used", function()
    check.fails(function() cld.run {} end, "the options lack an integer 'epochs'")
    check.fails(function() cld.run() end, "run: expected what cld.options returned, got nil")
    for _, case in ipairs {
      { "run:track {}", "%(command line%):1: run:track: call it inside `for epoch in run:epochs" },
      { "run:save()", "run:save: call it inside" },
      { "run:epochs()", "%(command line%):1: run:epochs: expected {name = object, ...}, got nil" },
      { "run:epochs { net = {} }", "%(command line%):1: run:epochs: 'net' cannot be saved: it has no state_dict" },
      { "run:epochs { net = { w = 1 } }", "and is not a tensor or a table of tensors" },
      { "run:epochs { meters = { state_dict = print } }", "'meters' cannot be the name of an object" },
    } do
      local code = ("cld = require 'cld'; local run = cld.run { epochs = 1, runs = '%s' } %s"):format(folder, case[1])
      local result = process.run { "-e", code }
      assert.equal(1, result.code)
      assert.matches(case[2], result.err)
    end
  end)
end)
