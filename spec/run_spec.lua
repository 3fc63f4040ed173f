--- The run folder, checkpoints, resume, signals: a small recipe as a child process, stopped in every way there is.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"

-- Its "network" is a tensor that takes in a random number and the step's number at every step, so that a resumed run
-- that repeats, skips or redraws anything ends elsewhere; so do a plain tensor and a table of tensors beside it. --at
-- stops it at that step (counted from 0) by --with.
local recipe = [[
local cld = require "cld"
local opt = cld.options {
  about = "an example", { "epochs", 3, "epochs", min = 1 }, { "batch-size", 8, "images per step" },
  { "rate", 0.5, "decay" }, { "size", 3, "of the tensor" }, { "extra", false, "one object more" },
  { "centre", 2, "size of another" },
  { "at", -1, "step to stop at" }, { "with", "", "signals to send to itself" },
  { "pause", 0.0, "seconds that each step takes" }, cld.options.training,
}
local run = cld.run(opt)

local Net = {}
Net.__index = Net
function Net:state_dict() return { w = self.w } end
function Net:load_state_dict(state)
  if not state.w then error "net: w is missing" end
  if #state.w ~= #self.w then error(("net: w is [%d] here, [%d] in the state"):format(#self.w, #state.w)) end
  self.w = state.w
end
local function new_net() return setmetatable({ w = cld.zeros(opt.size) }, Net) end

local loader = setmetatable({}, { __len = function() return 5 end })
function loader:epoch()
  local step = self.first_image // opt.batch_size
  return function()
    step = step + 1
    return step <= 5 and step or nil
  end
end

local net = new_net()
local centre, table_of = cld.zeros(opt.centre), { a = cld.zeros(1), b = cld.ones(2, "f64") }
for epoch in run:epochs {
  net = net, loader = loader, extra = opt.extra and new_net() or nil, centre = centre, table_of = table_of,
} do
  for step in loader:epoch(epoch) do
    if run.step == opt.at then
      -- io.popen and not os.execute, which is deaf to SIGINT while it waits.
      for signal in opt.with:gmatch "%a+" do io.popen("kill -" .. signal .. " " .. cld.host().pid):close() end
    end
    if opt.pause > 0 then os.execute("sleep " .. opt.pause) end
    net.w = net.w * opt.rate + cld.rand(opt.size) + run.step
    centre:mul_(opt.rate):add_(run.step)
    table_of.b = table_of.b * 1.5 + run.step
    run:track { loss = net.w:sum(), step = step, broken = 0 / 0 }
  end
  run:score { top1 = 1 / epoch, top5 = 0.5 }
end
]]

describe("run", function()
  local folder, script
  before_each(function()
    folder = process.temporary_folder()
    script = process.write(folder .. "/example.lua", recipe)
  end)
  after_each(function() process.remove(folder) end)

  local function start(...)
    return process.run { script, "--runs", folder .. "/runs", "--threads", "1", ... }
  end

  local function succeed(...)
    local result = start(...)
    if result.code ~= 0 then error(("exit %d\n%s\n%s"):format(result.code, result.out, result.err), 2) end
    return result
  end

  local function path(name, file) return ("%s/runs/%s%s"):format(folder, name, file and "/" .. file or "") end

  -- What must be equal at the end of two runs: all tensors, the position but for the time, the epochs' means.
  local function outcome(name)
    local tensors, metadata = cld.load(path(name, "checkpoint.safetensors"))
    local values = {}
    for key, tensor in pairs(tensors) do values[key] = tensor:totable() end
    local position = cld.json.decode(metadata.position)
    position.seconds = nil
    return { values = values, position = position }
  end

  local function log(name)
    local lines = {}
    for line in process.read(path(name, "log.jsonl")):gmatch "[^\n]+" do lines[#lines + 1] = cld.json.decode(line) end
    return lines
  end

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
      refused("does not fit this run: 'net': net: w is %[4%] here, %[3%] in the state", "--resume", "--size", "4")
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
      refused("not a safetensors file", "--resume")
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
      tampered("its position are no table", "position", "3")
      tampered("its options are no table", "options", "null")
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
      tampered("'meters': 'nothing' is no sum", "meters.nothing", cld.zeros(1, "f64"))
      tampered("'meters': 'sum.loss' is no sum and no count", "meters.sum.loss", cld.zeros(1))
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
      refused("'.*/busy' is in use by a run that is still going", "--name", "busy")
    end)

    it("a full disk in the middle of a checkpoint", function()
      assert.equal(143, start("--size", "100000", "--at", "7", "--with", "TERM").code)
      local before = process.read(path("example", "checkpoint.safetensors"))
      local command = ('trap "" XFSZ; ulimit -f 200; exec %s %s --runs %s/runs --resume --at -1')
        :format(process.cldlua, script, folder)
      local result = process.run { program = "/bin/sh", "-c", command }
      assert.equal(1, result.code)
      assert.matches("cldlua: cannot write '.*checkpoint.safetensors': File too large; the checkpoint before it is",
        result.err)
      assert.equal(before, process.read(path("example", "checkpoint.safetensors")))
      for _, file in ipairs(cld.io.list(path "example")) do assert.is_nil(file:find "tmp") end
      succeed("--resume", "--at", "-1")
    end)
  end)

  describe("in its folder", function()
    local runs
    before_each(function() runs = folder .. "/runs" end)

    -- The recipe runs a shell command in its eighth step, the third of epoch 2; $runs is the folder of run folders.
    local function in_step_8(command)
      process.write(script, (recipe:gsub("if run%.step == opt%.at then",
        function(line) return ("if run.step == 7 then io.popen([[runs='%s'; %s]]):close() end %s"):format(runs, command,
          line) end)))
    end

    local gone = "^cldlua: the run folder '.*/example' was removed or replaced while the run was going: its checkpoint"
      .. " could not be kept, and the run ends after step 5 of epoch 2\n$"

    local function ends_without_folder(...)
      local result = start(...)
      assert.equal(1, result.code)
      assert.matches(gone, result.err)
      return result
    end

    it("ends with one message when that is removed, and does not make it anew", function()
      in_step_8 "rm -rf $runs/example"
      ends_without_folder()
      assert.same({}, cld.io.list(runs))
    end)

    it("puts nothing into one that has taken its place", function()
      in_step_8 "rm -rf $runs/example; mkdir $runs/example; echo mine >$runs/example/mine"
      ends_without_folder()
      assert.same({ "mine" }, cld.io.list(path "example"))
    end)

    it("leaves alone the run that has taken its place", function()
      process.write(folder .. "/b.lua", recipe)
      in_step_8(("rm -rf $runs/example; %s %s --runs $runs --name example --epochs 1 --threads 1 >/dev/null")
        :format(process.cldlua, folder .. "/b.lua"))
      ends_without_folder()
      assert.equal(1, outcome("example").position.epoch)
      assert.same({ "b.lua", "checkpoint.safetensors", "log.jsonl", "options.json", "versions.json" },
        cld.io.list(path "example"))
      assert.equal("end", log("example")[4].event)
    end)

    it("that is gone says so when a signal ends it", function()
      in_step_8 "rm -rf $runs/example"
      local result = start("--at", "7", "--with", "TERM")
      assert.equal(1, result.code)
      assert.matches((gone:gsub("step 5", "step 3")), result.err)
    end)

    it("says so when it is gone before the first epoch", function()
      process.write(script, (recipe:gsub("local Net = {}", ("io.popen('rm -rf %s/example'):close() %%0"):format(runs))))
      local result = start()
      assert.equal(1, result.code)
      assert.matches("^cldlua: cannot write '.*/example/options.json': the folder was removed or replaced while it was"
        .. " in use\n$", result.err)
    end)

    it("goes on in one that is renamed, whatever has come to its old place", function()
      succeed("--name", "whole")
      in_step_8 "mv $runs/example $runs/moved; mkdir $runs/example"
      assert.matches("done: 3 epochs in [^\n]*/runs/moved/checkpoint.safetensors\n$", succeed().out)
      assert.same(outcome "whole", outcome "moved")
      assert.same({}, cld.io.list(path "example"))
    end)

    it("names its new place to whoever resumes it", function()
      in_step_8 "mv $runs/example $runs/moved"
      local result = start("--at", "8", "--with", "TERM")
      assert.equal(143, result.code)
      assert.matches("%-%-resume [^\n]*/runs/moved continues", result.out)
    end)

    it("may be elsewhere, behind a symbolic link", function()
      succeed("--name", "whole")
      os.execute(("mkdir %s/elsewhere; ln -s ../elsewhere %s/example"):format(folder, runs))
      assert.equal(143, start("--name", "example", "--at", "7", "--with", "TERM").code)
      succeed("--resume", path "example", "--at", "-1")
      assert.same(outcome "whole", outcome "example")
      assert.equal("file", cld.io.exists(folder .. "/elsewhere/checkpoint.safetensors"))
    end)

    it("stays where it is when the recipe changes its working folder", function()
      process.write(script, (recipe:gsub("local Net = {}", 'require "lfs".chdir "/" %0')))
      local result = process.run { "example.lua", "--runs", "runs", "--threads", "1", directory = folder,
        program = process.absolute(process.cldlua) }
      assert.same({ 0, "" }, { result.code, result.err })
      assert.same({ "checkpoint.safetensors", "example.lua", "log.jsonl", "options.json", "versions.json" },
        cld.io.list(path "example"))
    end)

    it("begins a new log when the old one was moved away", function()
      in_step_8 "mv $runs/example/log.jsonl $runs/old.jsonl"
      succeed()
      local events = {}
      for i, line in ipairs(log "example") do events[i] = line.event end
      assert.same({ "epoch", "score", "epoch", "score", "end" }, events)
    end)

    -- A limit on the size of files stands in for the full disk: a record's write stops in the middle.
    it("has whole lines again after the disk was full", function()
      process.write(script, (recipe:gsub("if run%.step == opt%.at then", [[
        local function limit(to) io.popen(("prlimit --fsize=%%s: --pid %%d"):format(to, cld.host().pid)):close() end
        if run.step == 3 then limit(#io.open(run.folder .. "/log.jsonl"):read "a" + 20) end
        if run.step == 9 then limit "unlimited" end %0]])))
      local result = process.run { program = "/bin/sh", "-c", ('trap "" XFSZ; exec %s %s --runs %s --threads 1 '
        .. "--print-every 0 --save-every 3"):format(process.cldlua, script, runs) }
      assert.equal(0, result.code)
      assert.matches("^cannot write '.*/example/log.jsonl': File too large; the training goes on, and this log lacks"
        .. " what cannot be written\n$", result.err)
      local steps, torn, last = {}, 0, nil
      for line in process.read(path("example", "log.jsonl")):gmatch "[^\n]+" do
        local ok, record = pcall(cld.json.decode, line)
        if not ok then torn = torn + 1 end
        if ok then steps[#steps + 1], last = record.event == "progress" and record.step or nil, record.event end
      end
      assert.same({ 1, "end" }, { torn, last })
      assert.same({ 1, 2, 3, 11, 12, 13, 14 }, steps)
    end)

    it("is refused at once when nothing can be written there", function()
      os.execute(("mkdir -p %s/example; chmod 755 %s; chmod 555 %s/example"):format(runs, folder, runs))
      local words = { process.cldlua, script, "--runs", runs, "--name", "example" }
      if io.popen("id -u"):read "n" == 0 then -- whom no permission stops
        table.move({ "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups" }, 1, 4, 1,
          table.move(words, 1, #words, 5))
      end
      local result = process.run { program = "env", table.unpack(words) }
      assert.equal(1, result.code)
      assert.matches("^cldlua: cannot write in the folder '.*/example': Permission denied\n$", result.err)
    end)

    -- What others do to the folder while it is being claimed; the run is to have the one that the path then names.
    for _, moment in ipairs { "BEFORE_FOLDER_FLOCK", "AFTER_FOLDER_FLOCK" } do
      for what, command in pairs {
        removed = "rm -rf %s", replaced = "rm -rf %s; mkdir %s", ["moved away"] = "mv %s %s.old",
      } do
        it(("is the one at its path when another was %s %s"):format(what, moment:lower():gsub("_", " ")), function()
          command = command:gsub("%%s", path "example")
          local result = process.run { script, "--runs", runs, "--name", "example", "--threads", "1",
            env = process.failing_files { [moment] = command } }
          assert.same({ 0, "" }, { result.code, result.err })
          assert.equal(3, outcome("example").position.epoch)
        end)
      end
    end

    it("is not found in use when it was that of a run whose folder is gone", function()
      cld.io.mkdir(path "example")
      local _ <close> = cld.io.lock(path "example")
      local result = process.run { script, "--runs", runs, "--name", "example", "--threads", "1",
        env = process.failing_files { BEFORE_FOLDER_FLOCK = ("rm -r %s; mkdir %s"):gsub("%%s", path "example") } }
      assert.same({ 0, "" }, { result.code, result.err })
    end)

    it("is not made anew when it is removed while --resume PATH claims it", function()
      assert.equal(143, start("--at", "7", "--with", "TERM").code)
      local result = process.run { script, "--resume", path "example",
        env = process.failing_files { BEFORE_FOLDER_FLOCK = "rm -r " .. path "example" } }
      assert.equal(1, result.code)
      assert.matches("^cldlua: cannot lock the folder '.*/example': No such file or directory\n$", result.err)
      assert.same({}, cld.io.list(runs))
    end)

    it("goes on with a word where folders cannot be locked", function()
      for _, reason in ipairs { 22, 37, 38, 95 } do -- EINVAL, ENOLCK, ENOSYS, EOPNOTSUPP
        local result = process.run { script, "--runs", runs, "--threads", "1", "--epochs", "1",
          env = process.failing_files { FAIL_FOLDER_FLOCK = tostring(reason) } }
        assert.equal(0, result.code)
        assert.matches("^the file system of '.*/example[-%d]*' cannot lock folders: [^\n]*\n$", result.err)
      end
      assert.equal(4, #cld.io.list(runs))
    end)

    it("is another for each of those that start at the same moment", function()
      local started = {}
      for i = 1, 4 do
        started[i] = assert(io.popen(("%s %s --runs %s --threads 1 2>&1"):format(process.cldlua, script, runs)))
      end
      for _, pipe in ipairs(started) do
        pipe:read "a"
        assert.is_true(pipe:close())
      end
      assert.same({ "example", "example-2", "example-3", "example-4" }, cld.io.list(runs))
      for _, name in ipairs(cld.io.list(runs)) do assert.equal(3, outcome(name).position.epoch) end
    end)

    it("belongs to one of those that start under one name", function()
      local started, succeeded = {}, 0
      for i = 1, 4 do
        started[i] = assert(io.popen(("%s %s --runs %s --name x --threads 1 2>&1"):format(process.cldlua, script,
          runs)))
      end
      for _, pipe in ipairs(started) do
        local text = pipe:read "a"
        local ok = pipe:close()
        succeeded = succeeded + (ok and 1 or 0)
        local why = text:match "cldlua: the run folder '.*/x' (.*)"
        if not ok then assert.truthy(why:find "^is in use" or why:find "^holds a checkpoint", text) end
      end
      assert.equal(1, succeeded)
      assert.equal(3, outcome("x").position.epoch)
    end)

    -- A run that fails before its first epoch.
    local function fail_after(command)
      process.write(script, ([[
        local cld = require "cld"
        local run = cld.run(cld.options { { "epochs", 1, "epochs" }, cld.options.training })
        io.popen("%s"):close()
        error("no data", 0)]]):format(command))
      assert.equal(1, start().code)
    end

    it("is removed with those above it when it fails before the first epoch", function()
      fail_after "true"
      assert.is_nil(cld.io.exists(runs))
    end)

    it("is left when something lies in it", function()
      fail_after(("touch %s/example/x"):format(runs))
      assert.same({ "x" }, cld.io.list(path "example"))
    end)

    it("is left when it was there before", function()
      cld.io.mkdir(path "example")
      fail_after "true"
      assert.same({}, cld.io.list(path "example"))
    end)

    it("is left to whoever has taken its place", function()
      fail_after(("rmdir %s/example; mkdir %s/example"):format(runs, runs))
      assert.same({ "example" }, cld.io.list(runs))
    end)

    it("is removed when the recipe has changed its working folder", function()
      process.write(script, [[
        local cld = require "cld"
        local run = cld.run(cld.options { { "epochs", 1, "epochs" }, cld.options.training })
        require "lfs".chdir "/"
        error("no data", 0)]])
      local result = process.run { "example.lua", directory = folder, program = process.absolute(process.cldlua) }
      assert.equal(1, result.code)
      assert.same({ "example.lua" }, cld.io.list(folder))
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
        cld.run(cld.options { { "epochs", 1, "epochs" }, cld.options.training })
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
      cld.run(cld.options { { "epochs", 1, "epochs" }, cld.options.training })
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
    for _, case in ipairs {
      { "run:track {}", "%(command line%):1: run:track: call it inside `for epoch in run:epochs" },
      { "run:save()", "run:save: call it inside" },
      { "run:epochs { net = {} }", "%(command line%):1: run:epochs: 'net' has no state_dict" },
      { "run:epochs { net = { w = 1 } }", "and is no tensor or table of tensors" },
      { "run:epochs { meters = { state_dict = print } }", "'meters' cannot be the name of an object" },
    } do
      local code = ("cld = require 'cld'; local run = cld.run { epochs = 1, runs = '%s' } %s"):format(folder, case[1])
      local result = process.run { "-e", code }
      assert.equal(1, result.code)
      assert.matches(case[2], result.err)
    end
  end)
end)
