--- recipes/watch.lua as a user runs it: on a terminal and into a pipe, for a run that continues meanwhile.
local cld = require "cld"
local files = require "spec.support.data_files"
local process = require "spec.support.process"

describe("watch", function()
  local folder
  before_each(function() folder = process.temporary_folder() end)
  after_each(function() process.remove(folder) end)

  local function epoch(e, more)
    return cld.json.encode { event = "epoch", epoch = e, step = 10 * e, seconds = 60 * e,
      means = { loss = 1 / e, ["\27[31mred"] = e }, now = { lr = 0.1 }, images_per_second = 7, data_wait = 0.5 }
      .. "\n" .. (more and cld.json.encode { event = more, epoch = e, step = 10 * e } .. "\n" or "")
  end

  local function run_of(name, log)
    files.write(folder .. "/" .. name .. "/log.jsonl",
      cld.json.encode { event = "start", epoch = 0, step = 0, steps_per_epoch = 10 } .. "\n" .. log)
    files.write(folder .. "/" .. name .. "/options.json", cld.json.encode { epochs = 3 })
    return folder .. "/" .. name
  end

  local function watch(...)
    return process.run { env = { LC_ALL = "C.UTF-8" }, "recipes/watch.lua", ... }
  end

  it("draws once, as plain text into a pipe", function()
    local result = watch(run_of("a", epoch(1) .. epoch(2)), "--once", "--width", "100", "--height", "60")
    assert.same({ 0, "" }, { result.code, result.err })
    assert.is_nil(result.out:find "\27")
    assert.matches("/a: stopped without ending, 2 of 3 epochs, 2:00\n", result.out)
    assert.matches("\n +loss  0.5 ", result.out)
    assert.matches("\n +\\x1b%[31mred", result.out)
  end)

  it("ends when the run has ended", function()
    local result = watch(run_of("a", epoch(1, "end")))
    assert.same({ 0, "" }, { result.code, result.err })
    assert.matches("/a: ended, 1 of 3 epochs", result.out)
  end)

  it("draws anew in place while the run goes on, and ends with it", function()
    local path = run_of("a", epoch(1))
    local _ <close> = cld.io.lock(path)
    files.write(folder .. "/more", epoch(2, "end"))
    local result = process.terminal {
      "-c", ("(sleep 0.4; cat %s/more >>%s/log.jsonl) & exec %s recipes/watch.lua %s --every 0.05 --only loss,lr")
        :format(folder, path, process.cldlua, path),
      program = "/bin/sh", script = { { "wait", "loss  1" }, { "wait", "loss  0.5" } } }
    assert.equal(0, result.code, result.err)
    assert.matches("running, 1 of 3 epochs.*\r\27%[%d+A\27%[J[^\n]*ended, 2 of 3 epochs", result.out)
  end)

  it("ends with a run that stops without an end, and says what resumes it", function()
    local path = run_of("a", epoch(1))
    files.write(path .. "/versions.json", cld.json.encode { recipe = "my recipes/a.lua" })
    local result = process.run { program = "/bin/sh", "-c", ([[
      flock $run sh -c 'until grep -q "running, 1 of 3" $run/seen; do sleep 0.05; done' 2>$run/waiting &
      while flock -n $run true; do sleep 0.05; done
      exec %s recipes/watch.lua $run --every 0.05 >$run/seen]]):format(process.cldlua), env = { run = path } }
    assert.equal(0, result.code, result.err)
    assert.matches("\n[^\n]*/a: the run stopped after epoch 1 without ending %(killed, or an error%?%); resume it with:"
      .. " cldlua 'my recipes/a.lua' %-%-resume [^\n]*/a\n$", process.read(path .. "/seen"))
  end)

  it("goes on with a run of which it cannot tell whether it was killed", function()
    local result = process.terminal { "recipes/watch.lua", run_of("a", epoch(1)), "--every", "0.05",
      env = process.failing_files { FAIL_FOLDER_FLOCK = "37" }, -- ENOLCK
      script = { { "wait", "running, or killed, 1 of 3" }, { "pause", "0.2" }, { "send", "\3" } } }
    assert.equal(130, result.code, result.err)
  end)

  it("is left by Ctrl-C", function()
    local path = run_of("a", epoch(1))
    local _ <close> = cld.io.lock(path)
    local result = process.terminal { "recipes/watch.lua", path,
      script = { { "wait", "loss" }, { "pause", "0.1" }, { "send", "\3" } } }
    assert.equal(130, result.code, result.err)
    assert.is_nil(result.out:find "traceback")
  end)

  for name, env in pairs { NO_COLOR = { NO_COLOR = "1" }, ["TERM=dumb"] = { TERM = "dumb" } } do
    it("has no colours on a terminal with " .. name, function()
      local result = process.terminal { "recipes/watch.lua", run_of("a", epoch(1) .. epoch(2)), "--once", env = env,
        script = {} }
      assert.equal(0, result.code, result.err)
      assert.is_nil(result.out:find "\27")
    end)
  end

  it("has them on another", function()
    local result = process.terminal { "recipes/watch.lua", run_of("a", epoch(1) .. epoch(2)), "--once", script = {} }
    assert.matches("\27%[38;5;32m", result.out)
  end)

  it("shows several runs, a line of each, and the curves that it is asked for alone", function()
    local result = watch(run_of("a", epoch(1) .. epoch(2)), run_of("b", epoch(1, "end")), "--once", "--only", "loss")
    assert.matches("\n +loss  0.5  1\n", result.out)
    assert.matches("\n⠤⠤ a  ⠤⠄ b\n", result.out)
    assert.is_nil(result.out:find "\nlr")
  end)

  it("shows a run that has logged nothing", function()
    assert.matches("/a: stopped without ending, 0 of 3 epochs\nnothing is logged yet\n[^\n]*: the run stopped in its"
      .. " first epoch",
      watch(run_of("a", ""), "--once").out)
  end)

  for name, case in pairs {
    ["no run"] = { {}, "expected the folder of a run, such as runs/NAME" },
    ["a folder that is none"] = { { "spec" }, "spec: not a run's folder %(it lacks log.jsonl or options.json%)" },
    ["one that is not there"] = { { "/nowhere" }, "/nowhere: there is no such folder" },
  } do
    it("says in a line that there is " .. name, function()
      local result = watch(table.unpack(case[1]))
      assert.equal(1, result.code)
      assert.matches("^cldlua: " .. case[2] .. "\n$", result.err)
    end)
  end

  it("shows a value that is not a number without a sign", function()
    local log = cld.json.encode { event = "epoch", epoch = 1, step = 10, means = { loss = "nan", other = "nan" } }
    local result = watch(run_of("a", log .. "\n"), "--once", "--width", "40", "--height", "12")
    assert.matches("\nloss  nan\n", result.out)
    assert.matches("\nother  nan\n", result.out)
  end)

  -- The columns of the longest line, and the number of lines.
  local function extent(text)
    local columns, rows = 0, 0
    for line in text:gmatch "([^\n]*)\n" do columns, rows = math.max(columns, utf8.len(line)), rows + 1 end
    return columns, rows
  end

  for _, size in ipairs { { 5, 3 }, { 23, 30 }, { 24, 9 }, { 60, 8 }, { 100, 1 } } do
    it(("stays within %d x %d"):format(table.unpack(size)), function()
      local result = watch(run_of("a", epoch(1) .. epoch(2)), run_of("b", epoch(1)), "--once", "--width",
        tostring(size[1]), "--height", tostring(size[2]))
      assert.same({ 0, "" }, { result.code, result.err })
      local columns, rows = extent(result.out:gsub("[^\n]*the run stopped[^\n]*\n", ""))
      assert.is_true(columns <= size[1] and rows <= size[2], result.out)
    end)
  end

  it("draws no point that lies nowhere", function()
    local log = cld.json.encode { event = "epoch", epoch = math.maxinteger, step = 4, seconds = 1e300,
      means = { loss = 1e308 } }
    local result = watch(run_of("a", log .. "\n"), "--once")
    assert.same({ 0, "" }, { result.code, result.err })
  end)

  it("clears a terminal that has become narrower, and so has wrapped its lines", function()
    local result = process.terminal { "-e", [[
      local block = require "cld.redrawn".block()
      block:draw "one\ntwo"
      os.execute "stty cols 40"
      block:draw "three"]], script = {} }
    assert.equal("one\r\ntwo\r\n\27[H\27[Jthree\r\n", result.out)
  end)

  it("shows the last values where there is no room for a plot", function()
    local result = watch(run_of("a", epoch(1) .. epoch(2)), "--once", "--width", "20", "--height", "4")
    assert.matches("\nloss  0.5\nlr  0.1\nimages_per_second  7\n", result.out)
  end)

  it("says that no curve is asked for by name", function()
    local result = watch(run_of("a", epoch(1)), "--once", "--only", " ,")
    assert.equal(1, result.code)
    assert.matches("^cldlua: option '%-%-only': expected names of curves, separated by commas, got ' ,'\n$", result.err)
  end)

  it("says which curves there are to one that asks for another", function()
    local result = watch(run_of("a", epoch(1)), "--once", "--only", "los")
    assert.equal(1, result.code)
    assert.matches("^cldlua: option '%-%-only': no run has logged 'los'; did you mean 'loss'%?; known curves: loss, lr,"
      .. "[^\n]*\n$", result.err)
  end)
end)
