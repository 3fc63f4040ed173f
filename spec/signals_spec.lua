--- Ways to stop a run from outside: signals, ignored signals, outputs that are closed or have lost their reader.
local cld = require "cld"
local process = require "spec.support.process"

-- Two epochs of five steps. --at and --do: the command that is run in that step, counted from 0; $PID is the run.
-- --endless: steps until it is stopped, for a minute at most: what a run notes as a wish to stop it may never heed.
local recipe = [[
local cld = require "cld"
local over = cld.clock() + 60
local function is_over() return cld.clock() > over end
local opt = cld.options {
  { "epochs", 2, "", integer = true }, { "at", -1, "", integer = true }, { "do", "", "" },
  { "endless", false, "" }, cld.options.training,
}
local run = cld.run(opt)
local w = cld.zeros(1)
for _ in run:epochs { w = w } do
  while run.step_in_epoch < 5 or opt.endless and not is_over() do
    if run.step == opt.at then
      local command = opt["do"]:gsub("$PID", cld.host().pid)
      io.popen(command):close() -- not os.execute, which is deaf to SIGINT while it waits
    end
    w:add_(run.step)
    run:track { loss = 1 }
  end
  run:score { top1 = 0.5 }
end
]]

local signals = {
  INT = 2, TERM = 15, HUP = 1, PIPE = 13, USR1 = 10, USR2 = 12, ALRM = 14, VTALRM = 26, XCPU = 24, PWR = 30,
}

describe("a run that is asked to stop", function()
  local folder, script
  before_each(function()
    folder = process.temporary_folder()
    script = process.write(folder .. "/r.lua", recipe)
  end)
  after_each(function() process.remove(folder) end)

  local function start(...)
    return process.run { script, "--runs", folder, "--name", "r", "--device", "cpu", ... }
  end

  -- A line of shell; $CLD is the interpreter, $RUN the recipe with its folder.
  local function shell(line, ...)
    return process.run {
      program = "/bin/bash", "-c", line,
      env = {
        CLD = process.absolute(process.cldlua),
        RUN = ("%s --runs %s --name r --device cpu"):format(script, folder),
      }, ...,
    }
  end

  local function checkpoint() return cld.run.load(folder .. "/r/checkpoint.safetensors") end

  local function events()
    local list = {}
    for line in io.lines(folder .. "/r/log.jsonl") do list[#list + 1] = cld.json.decode(line) end
    return list
  end

  local function last_event()
    local list = events()
    return list[#list]
  end

  for name, number in pairs(signals) do
    describe("by SIG" .. name, function()
      local function stopped() return start("--at", "2", "--do", ("kill -%s $PID"):format(name)) end

      it("ends with 128 and its number, and no error", function()
        local result = stopped()
        assert.same({ 128 + number, "" }, { result.code, result.err })
      end)

      it("has written a checkpoint at the end of the step", function()
        stopped()
        assert.same({ 3, 3 }, { checkpoint().position.step, checkpoint().position.step_in_epoch })
      end)

      it("says in its log which signal it was", function()
        stopped()
        assert.same({ "interrupted", name }, { last_event().event, last_event().signal })
      end)

      it("goes on from there", function()
        stopped()
        assert.equal(0, start("--resume", "--at", "-1").code)
        assert.equal(45, checkpoint().states.w.value:item()) -- 0 + 1 + ... + 9
      end)

      it("goes on if the signal was ignored when it started", function()
        local result = shell(("trap '' %s; exec $CLD $RUN --at 2 --do 'kill -%s $PID'"):format(name, name))
        assert.same({ 0, "" }, { result.code, result.err })
        assert.equal("end", last_event().event)
      end)
    end)
  end

  -- Of two signals that wait at one moment the kernel decides which is the first.
  local taken = "; while grep -q 'Pnd:.*[^0:[:space:]]' /proc/$PID/status; do sleep 0.01; done; "

  it("counts the first of two signals", function()
    local result = start("--at", "2", "--do", "kill -USR1 $PID" .. taken .. "kill -TERM $PID; kill -USR1 $PID")
    assert.same({ 138, 3 }, { result.code, checkpoint().position.step })
    assert.equal("USR1", last_event().signal)
  end)

  it("leaves at once on a SIGINT after another signal", function()
    assert.equal(130, start("--at", "7", "--do", "kill -USR1 $PID" .. taken .. "kill -INT $PID").code)
    assert.equal(5, checkpoint().position.step)
  end)

  describe("and leaves its loop", function()
    -- Once the run is at `step`, `statement` is run with the signal, after what the pattern matches.
    local function stopped(pattern, step, statement)
      local line = ("if run.step == %d then io.popen('kill -TERM ' .. cld.host().pid):close() %s end")
        :format(step, statement)
      process.write(script, (recipe:gsub(pattern, function(found) return found .. " " .. line .. " " end))
        .. "io.stderr:write 'went on'")
      return start()
    end

    it("after the score goes no further, with a checkpoint", function()
      local result = stopped("run:score %b{}", 5, "break")
      assert.same({ 143, "" }, { result.code, result.err })
      assert.same({ "interrupted", "TERM" }, { last_event().event, last_event().signal })
      assert.equal(5, checkpoint().position.step)
    end)

    it("in the middle of an epoch goes no further, its last checkpoint kept", function()
      local result = stopped("opt.endless.- do", 7, "return")
      assert.same({ 143, "" }, { result.code, result.err })
      assert.equal(5, checkpoint().position.step)
    end)

    it("by an error ends with that", function()
      local result = stopped("run:score %b{}", 5, "error 'wrong'")
      assert.equal(1, result.code)
      assert.matches("wrong", result.err)
    end)
  end)

  it("leaves at once on SIGQUIT, as every program", function()
    assert.equal(131, shell("ulimit -c 0; exec $CLD $RUN --at 7 --do 'kill -QUIT $PID'").code)
    assert.equal(5, checkpoint().position.step)
  end)

  it("keeps what SIGTSTP and SIGCONT mean", function()
    local result = start("--at", "2", "--do", "kill -STOP $PID & sleep 0.3; kill -CONT $PID; kill -CONT $PID")
    assert.equal(0, result.code)
  end)

  it("stops when its soft limit of processor time is over", function()
    local result = shell("ulimit -c 0 -S -t 2; exec $CLD $RUN --endless --threads 1")
    assert.equal(152, result.code)
    assert.equal("XCPU", last_event().signal)
    assert.is_true(checkpoint().position.step > 0)
  end)

  for signal, code in pairs { INT = 130, TERM = 143, HUP = 129, USR1 = 138, XCPU = 152 } do
    it(("leaves at once on SIG%s before the first epoch"):format(signal), function()
      process.write(script, (recipe:gsub("local w =", function()
        return ('io.popen("kill -%s " .. cld.host().pid):close() while not is_over() do end local w ='):format(signal)
      end)))
      local result = shell("ulimit -c 0; exec $CLD $RUN")
      assert.equal(code, result.code)
      assert.is_nil(result.err:find "cldlua") -- a shell may say what killed it
    end)
  end

  it("is not stopped by an ignored SIGINT before the first epoch", function()
    process.write(script, (recipe:gsub("local w =", 'io.popen("kill -INT " .. cld.host().pid):close() %0')))
    assert.equal(0, shell("trap '' INT; exec $CLD $RUN").code)
  end)

  it("starts programs whose signals do what they do by default", function()
    start("--at", "2", "--do", ("grep -e SigIgn -e SigBlk /proc/self/status > %s/child"):format(folder))
    local before = process.run { program = "/bin/grep", "-e", "SigIgn", "-e", "SigBlk", "/proc/self/status" }.out
    assert.equal(before, process.read(folder .. "/child"))
  end)

  describe("because nobody reads its output", function()
    it("ends with 141 and a checkpoint, and no error", function()
      local result = shell "$CLD $RUN --endless --print-every 0 | head -n 9 >/dev/null; exit ${PIPESTATUS[0]}"
      assert.same({ 141, "" }, { result.code, result.err })
      assert.equal("PIPE", last_event().signal)
      assert.is_true(checkpoint().position.step > 0)
    end)

    it("does so if it is the errors that nobody reads", function()
      process.write(script, (recipe:gsub("w:add_", 'io.stderr:write "a line\\n" w:add_')))
      local result = shell "$CLD $RUN --endless 2>&1 >/dev/null | head -n 1 >/dev/null; exit ${PIPESTATUS[0]}"
      assert.equal(141, result.code)
      assert.is_true(checkpoint().position.step > 0)
    end)

    it("keeps the status of a signal that came first", function()
      local result = shell [[$CLD $RUN --print-every 0 --at 7 --do 'kill -TERM $PID; touch gone; sleep 0.5' | {
        while ! [ -e gone ]; do read -t 0.1 line; done; }; exit ${PIPESTATUS[0]}]]
      assert.equal(143, result.code)
      os.remove "gone"
    end)

    it("goes on if SIGPIPE was ignored when it started", function()
      local result = shell "trap '' PIPE; $CLD $RUN --print-every 0 | true; exit ${PIPESTATUS[0]}"
      assert.same({ 0, "" }, { result.code, result.err })
      assert.equal("end", last_event().event)
    end)

    it("goes on if the disk with the output is full", function()
      local result = shell "exec $CLD $RUN --print-every 0 >/dev/full"
      assert.same({ 0, "" }, { result.code, result.err })
      assert.equal("end", last_event().event)
    end)
  end)

  it("goes on without its terminal if SIGHUP was ignored", function()
    -- In full buffering only does stdio tell that a terminal's line was lost.
    local waits = [[io.stdout:setvbuf 'full'
      while run.step == 2 and io.stdout:write('.\n'):flush() and not is_over() do end]]
    process.write(script, (recipe:gsub("w:add_", waits .. " %0")))
    local line = ("trap '' HUP; '%s' %s --runs %s --name r --device cpu --print-every 0 2>&1 & exit"):format(
      process.absolute(process.cldlua), script, folder)
    process.terminal { script = {}, timeout = 3, program = "/bin/bash", "-c", line } -- it outlives the terminal
    local ended = cld.clock() + 60
    local path = folder .. "/r/log.jsonl"
    local function is_over() return cld.io.exists(path) and last_event().event == "end" end
    while cld.clock() < ended and not is_over() do os.execute "sleep 0.1" end
    assert.equal("end", last_event().event)
  end)

  it("stops with a checkpoint in a session too", function()
    local arguments = ("}, { runs = '%s', name = 'r', device = 'cpu', endless = true })"):format(folder)
    process.write(script, (recipe:gsub("cld.options {", "cld.options({"):gsub("\n}", "\n" .. arguments, 1)))
    process.terminal {
      "-i", script = { { "wait", "> " }, { "send", ("dofile '%s'\r"):format(script) }, { "wait", "step 2" },
        { "signal", "1" } }, env = { TERM = "xterm" },
    }
    assert.equal("HUP", last_event().signal)
    assert.is_true(checkpoint().position.step > 0)
  end)
end)

describe("a script", function()
  it("dies quietly of SIGPIPE, as in lua", function()
    local result = process.run {
      program = "/bin/bash", env = { CLD = process.absolute(process.cldlua) }, "-c",
      "$CLD -e 'for i = 1, 1e6 do print(i) end' | head -n 1; exit ${PIPESTATUS[0]}",
    }
    assert.same({ 141, "1\n", "" }, { result.code, result.out, result.err })
  end)

  it("is not stopped by a SIGINT that was ignored when it started", function()
    local result = process.run {
      program = "/bin/bash", env = { CLD = process.absolute(process.cldlua) }, "-c",
      [[trap '' INT; exec $CLD -e 'io.popen("kill -INT " .. require("cld").host().pid):close() print "alive"']],
    }
    assert.same({ 0, "alive\n", "" }, { result.code, result.out, result.err })
  end)

  it("is not stopped in a session by a SIGINT that was ignored when it started", function()
    local result = process.terminal {
      program = "/bin/bash", env = { CLD = process.absolute(process.cldlua), TERM = "xterm" }, "-c",
      "trap '' INT; exec $CLD -i",
      script = {
        { "wait", "> " },
        { "send", [[io.popen("kill -INT " .. cld.host().pid):close() print("ali" .. "ve")]] .. "\r" },
        { "wait", "alive" }, { "wait", "> " }, { "send", "\4" },
      },
    }
    assert.equal(0, result.code)
    assert.is_nil(result.plain:find "interrupted")
  end)
end)

describe("a program that is started with closed streams", function()
  local folder
  before_each(function()
    folder = process.temporary_folder()
    process.write(folder .. "/r.lua", recipe)
  end)
  after_each(function() process.remove(folder) end)

  local function run(line)
    return process.run {
      program = "/bin/bash", "-c", line, directory = folder, env = { CLD = process.absolute(process.cldlua) },
    }
  end

  for _, streams in ipairs { "<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-" } do
    it(("(%s) writes a log of JSON lines only"):format(streams), function()
      assert.equal(0, run(("exec $CLD r.lua --runs . --name r --print-every 0 %s"):format(streams)).code)
      for line in io.lines(folder .. "/r/log.jsonl") do cld.json.decode(line) end
    end)

    it(("(%s) prints into no file that it opens"):format(streams), function()
      local text = [[f = io.open("file", "w") print "printed" io.stderr:write "complained" f:write "written" f:close()]]
      assert.equal(0, run(("exec $CLD -e '%s' %s"):format(text, streams)).code)
      assert.equal("written", process.read(folder .. "/file"))
    end)
  end

  it("reads the end of the input where there is none", function()
    assert.equal(0, run("exec $CLD -e 'assert(io.read() == nil)' <&-").code)
  end)

  it("says what is wrong where it can", function()
    local result = run("exec $CLD -e 'error \"wrong\"' <&- >&-")
    assert.equal(1, result.code)
    assert.matches("wrong", result.err)
  end)
end)

describe("a program that a spec starts", function()
  it("is killed when it does not heed the time-out's SIGTERM", function()
    local deaf = "require('cld.core').system.catch_signals() while true do end"
    assert.equal(137, process.run { "-e", deaf, timeout = 0.5 }.code)
  end)

  it("has a limit of processor time that its children inherit", function()
    local limit = process.run { program = "/bin/bash", "-c", "(ulimit -H -t)", timeout = 3 }.out
    assert.equal(process.build:find "asan" and "240\n" or "60\n", limit)
  end)

  it("does not have the pseudo-terminal wait for it when it leaves the terminal and runs on", function()
    local leave = "exec sleep 20 <&- >&- 2>&-"
    local result = process.terminal { program = "/bin/sh", "-c", leave, script = {}, timeout = 2 }
    assert.same({ 124, "pty: the command did not end: '/bin/sh'\n" }, { result.code, result.err })
  end)

  it("ends when it prints more than the pseudo-terminal keeps", function()
    local result = process.terminal { program = "/bin/sh", "-c", "yes", script = {}, timeout = 5 }
    assert.equal(124, result.code)
    assert.matches("^pty: more than %d+ bytes of output\n", result.err)
  end)
end)
