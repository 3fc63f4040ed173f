--- A run in its folder: files that are moved, removed, linked or locked, or cannot be written.
local cld = require "cld"
local example = require "spec.support.example_run"
local process = require "spec.support.process"

local recipe = example.recipe

describe("a run in its folder", function()
  local folder, script, start, succeed, path, outcome, log
  before_each(function()
    local e = example.start()
    folder, script = e.folder, e.script
    start, succeed, path, outcome, log = e.start, e.succeed, e.path, e.outcome, e.log
  end)
  after_each(function() process.remove(folder) end)

  local runs
  before_each(function() runs = folder .. "/runs" end)

  -- The recipe runs a shell command in its eighth step, the third of epoch 2; $runs is the folder of run folders.
  local function in_step_8(command)
    process.write(script, (recipe:gsub("if run%.step == opt%.at then",
      function(line) return ("if run.step == 7 then io.popen([[runs='%s'; %s]]):close() end %s"):format(runs, command,
        line) end)))
  end

  local gone = "^cldlua: the run folder '.*/example' was removed or replaced while the run was running: its checkpoint"
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
    assert.same({ "b.lua", "checkpoint.safetensors", "log.jsonl", "options.json", "report.html", "versions.json" },
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

  it("is taken when another has looked for a moment whether it is in use", function()
    local result = process.run { script, "--runs", runs, "--name", "example", "--threads", "1", "--epochs", "1",
      env = process.failing_files { BUSY_FOLDER_FLOCK = "3" } }
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

  for _, name in ipairs { "versions.json", "log.jsonl", "options.json" } do
    it("says in one line that its " .. name .. " is a pipe", function()
      assert.equal(143, start("--at", "7", "--with", "TERM").code)
      os.execute(("cd %s && rm %s && mkfifo %s"):format(path "example", name, name))
      local result = start("--resume", path "example")
      assert.equal(1, result.code)
      assert.matches("^cldlua: cannot %a+ '[^\n]*/example/" .. name .. "': it is not a regular file\n$", result.err)
    end)
  end

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
      local run = cld.run(cld.options { { "epochs", 1, "epochs", integer = true }, cld.options.training })
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
      local run = cld.run(cld.options { { "epochs", 1, "epochs", integer = true }, cld.options.training })
      require "lfs".chdir "/"
      error("no data", 0)]])
    local result = process.run { "example.lua", directory = folder, program = process.absolute(process.cldlua) }
    assert.equal(1, result.code)
    assert.same({ "example.lua" }, cld.io.list(folder))
  end)
end)
