--- cld.run.history: what can be read from a run's folder.
local cld = require "cld"
local files = require "spec.support.data_files"
local history = require "cld.run.history"
local process = require "spec.support.process"

describe("history", function()
  local folder
  setup(function() folder = process.temporary_folder() end)
  teardown(function() process.remove(folder) end)

  local function run_of(name, events, more)
    local lines = {}
    for i, event in ipairs(events) do lines[i] = cld.json.encode(event) end
    local path = folder .. "/" .. name
    files.write(path .. "/log.jsonl", table.concat(lines, "\n") .. (more or "\n"))
    files.write(path .. "/options.json", cld.json.encode { epochs = 3 })
    files.write(path .. "/versions.json", cld.json.encode { recipe = "recipes/a.lua" })
    return path
  end

  local function start(epoch, step) return { event = "start", epoch = epoch, step = step, steps_per_epoch = 10 } end
  local function progress(epoch, step, loss)
    return { event = "progress", epoch = epoch, step = step, step_in_epoch = step % 10, means = { loss = loss } }
  end
  local function epoch(e, loss) return { event = "epoch", epoch = e, step = 10 * e, means = { loss = loss } } end

  local function points(run, name)
    local list = {}
    for i, point in ipairs(run.curves[name]) do list[i] = { point.step, point.epoch, point.value } end
    return list
  end

  it("has a curve of each thing that was logged, by step and by epochs done", function()
    local run = history.read(run_of("plain", { start(0, 0), progress(1, 5, 3), epoch(1, 2), progress(2, 15, 1) }))
    assert.same({ { 5, 0.5, 3 }, { 10, 1, 2 }, { 15, 1.5, 1 } }, points(run, "loss"))
  end)

  it("has what holds at a step, scores, diagnostics and speeds as curves of their own", function()
    local run = history.read(run_of("kinds", { start(0, 0), {
      event = "epoch", epoch = 1, step = 10, means = { loss = 1 }, now = { lr = 0.5 }, images_per_second = 7,
      data_wait = 0.25,
    }, { event = "score", epoch = 1, step = 10, values = { top1 = 0.75 } } }))
    local last = {}
    for name, curve in pairs(run.curves) do last[name] = curve[#curve].value end
    assert.same({ loss = 1, lr = 0.5, images_per_second = 7, data_wait = 0.25, top1 = 0.75 }, last)
  end)

  it("has the skipped steps as a curve once there are any", function()
    local function skipped(e, count) return { event = "epoch", epoch = e, step = 10 * e, skipped = count } end
    local run = history.read(run_of("skipped", { start(0, 0), skipped(1, 0), skipped(2, 3), skipped(3, 4) }))
    assert.same({ { 20, 2, 3 }, { 30, 3, 4 } }, points(run, "skipped"))
  end)

  it("tells what the evaluation has logged from what the steps have under the same name", function()
    local run = history.read(run_of("both", { start(0, 0), epoch(1, 2),
      { event = "diagnostics", epoch = 1, step = 10, values = { loss = 7, nmi = 0.5 } } }))
    assert.same({ { { 10, 1, 2 } }, { { 10, 1, 7 } }, { { 10, 1, 0.5 } } },
      { points(run, "loss"), points(run, "loss_evaluated"), points(run, "nmi") })
  end)

  it("leaves out what a resumed run has made anew", function()
    local run = history.read(run_of("killed", {
      start(0, 0), epoch(1, 9), progress(2, 15, 8), epoch(2, 7), start(1, 10), progress(2, 14, 6), epoch(2, 5),
    }))
    assert.same({ { 10, 1, 9 }, { 14, 1.4, 6 }, { 20, 2, 5 } }, points(run, "loss"))
  end)

  it("keeps what was logged up to the step inside of an epoch where the run goes on", function()
    local run = history.read(run_of("inside", {
      start(0, 0), progress(1, 4, 9), progress(1, 8, 8), start(0, 4), progress(1, 6, 7),
    }))
    assert.same({ { 4, 0.4, 9 }, { 6, 0.6, 7 } }, points(run, "loss"))
  end)

  it("leaves out an evaluation that is made anew, and keeps the epoch's steps", function()
    local function seen(e, value)
      return { event = "diagnostics", epoch = e, step = 10 * e, values = { nmi = value } }
    end
    local run = history.read(run_of("evaluated", {
      start(0, 0), epoch(1, 9), seen(1, 5), epoch(2, 8), seen(2, 4), { event = "interrupted", epoch = 2, step = 20 },
      start(1, 20), seen(2, 3),
    }))
    assert.same({ { { 10, 1, 9 }, { 20, 2, 8 } }, { { 10, 1, 5 }, { 20, 2, 3 } } },
      { points(run, "loss"), points(run, "nmi") })
  end)

  it("reads a value that was not finite", function()
    local run = history.read(run_of("odd", { start(0, 0), epoch(1, "nan"), epoch(2, "-inf") }))
    local loss = run.curves.loss
    assert.is_true(loss[1].value ~= loss[1].value and loss[2].value == -math.huge)
  end)

  it("leaves out a line that is not whole", function()
    local run = history.read(run_of("cut", { start(0, 0), epoch(1, 2) }, '\n{"event":"epoch","epoch":2,"me'))
    assert.same({ { 10, 1, 2 } }, points(run, "loss"))
  end)

  for state, last in pairs { ended = "end", interrupted = "interrupted", stopped = "progress" } do
    it("knows a run that is " .. state, function()
      local run = history.read(run_of(state, { start(0, 0), epoch(1, 2), { event = last, epoch = 1, step = 10 } }))
      assert.same({ state, 1 }, { run.state, run.epochs_done })
    end)
  end

  it("knows a run that stopped when it went on after its end", function()
    local run = history.read(run_of("longer", {
      start(0, 0), epoch(1, 2), { event = "end", epoch = 1, step = 10 }, start(1, 10),
    }))
    assert.equal("stopped", run.state)
  end)

  it("knows a run that is going by its folder, which it holds", function()
    local path = run_of("going", { start(0, 0), epoch(1, 2) })
    local _ <close> = cld.io.lock(path)
    assert.equal("running", history.read(path).state)
  end)

  it("knows a run that has ended while its folder is still held", function()
    local path = run_of("reporting", { start(0, 0), epoch(1, 2), { event = "end", epoch = 1, step = 10 } })
    local _ <close> = cld.io.lock(path)
    assert.equal("ended", history.read(path).state)
  end)

  it("does not say which of both an unfinished run is where locks cannot tell", function()
    local path = run_of("elsewhere", { start(0, 0), epoch(1, 2) })
    local code = ('print(require "cld.run.history".read(%q).state)'):format(path)
    local result = process.run { "-e", code, env = process.failing_files { FAIL_FOLDER_FLOCK = "37" } } -- ENOLCK
    assert.equal("unfinished\n", result.out)
  end)

  it("waits for no pipe in place of a file", function()
    for _, name in ipairs { "log.jsonl", "options.json", "versions.json" } do
      local path = run_of("pipe-" .. name, { start(0, 0), epoch(1, 2) })
      os.execute(("cd %s && rm -f %s && mkfifo %s"):format(path, name, name))
      local code = ('print((require "cld.run.history".read(%q)))'):format(path)
      assert.equal(0, process.run { "-e", code, timeout = 10 }.code)
    end
  end)

  it("says that a file cannot be read", function()
    local path = run_of("secret", { start(0, 0) })
    os.execute(("chmod 755 %s; chmod 000 %s/log.jsonl"):format(folder, path))
    local words = { process.absolute(process.cldlua), "-e",
      ('print(select(2, require "cld.run.history".read(%q)))'):format(path) }
    if io.popen("id -u"):read "n" == 0 then -- whom no permission stops
      table.move({ "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups" }, 1, 4, 1,
        table.move(words, 1, #words, 5))
    end
    assert.equal("its log.jsonl cannot be read: Permission denied\n", process.run { program = "env",
      table.unpack(words) }.out)
  end)

  it("takes no step for a share of an epoch that has none", function()
    local run = history.read(run_of("no-steps", {
      { event = "start", epoch = 0, step = 0, steps_per_epoch = 0 }, progress(1, 4, 9),
    }))
    assert.same({ { 4, 1, 9 } }, points(run, "loss"))
  end)

  it("has no time that no run can have taken", function()
    local run = history.read(run_of("forever", {
      { event = "epoch", epoch = 1, step = 4, seconds = 60 }, { event = "epoch", epoch = 2, step = 8, seconds = 1e300 },
    }))
    assert.equal(60, run.seconds)
  end)

  it("says that there is no folder", function()
    assert.same({ nil, "there is no such folder" }, { history.read(folder .. "/none") })
  end)

  it("says that a run's options are damaged", function()
    local path = run_of("damaged", { start(0, 0) })
    files.write(path .. "/options.json", '{"epochs": ')
    assert.same({ nil, "its options.json is damaged: not a JSON object" }, { history.read(path) })
  end)

  it("says that a folder is no run's", function()
    files.write(folder .. "/other/a.txt", "")
    assert.same({ nil, "not a run's folder (it lacks log.jsonl or options.json)" },
      { history.read(folder .. "/other") })
  end)
end)
