--- The checkpoints that a run keeps besides the one that it resumes from (lua/cld/run/kept.lua).
local cld = require "cld"
local example = require "spec.support.example_run"
local history = require "cld.run.history"
local process = require "spec.support.process"

describe("a run that keeps checkpoints", function()
  local e, path
  before_each(function()
    e = example.start()
    path = e.path
    -- Its best epoch is the second; --score false is a run without scores.
    process.write(e.script, (example.recipe:gsub("top1 = 1 / epoch", "top1 = ({ 0.2, 0.9, 0.4, 0.3, 0.5 })[epoch]")))
  end)
  after_each(function() process.remove(e.folder) end)

  local function checkpoints(name)
    local names = {}
    for _, file in ipairs(cld.io.list(path(name))) do
      names[#names + 1] = file:match "^(.*)%.safetensors$"
      assert.is_nil(file:match "%.tmp$")
    end
    return table.concat(names, " ")
  end

  local function epoch_of(name, file)
    return cld.json.decode(cld.io.load_metadata(path(name, file .. ".safetensors")).position).epoch
  end

  local function inode(name, file)
    local pipe = io.popen(("stat -c %%i '%s'"):format(path(name, file .. ".safetensors")))
    local number = pipe:read "n"
    pipe:close()
    return number
  end

  local function w(file) return cld.load(file)["net.w"]:totable() end

  it("has the latest alone if it is not asked to", function()
    e.succeed("--name", "a")
    assert.equal("checkpoint", checkpoints "a")
  end)

  it("has those of the last epochs, and the best", function()
    e.succeed("--name", "a", "--keep-checkpoints", "2", "--epochs", "4")
    assert.equal("best checkpoint-3 checkpoint-4 checkpoint", checkpoints "a")
    assert.same({ 2, 3, 4, 4 },
      { epoch_of("a", "best"), epoch_of("a", "checkpoint-3"), epoch_of("a", "checkpoint-4"),
        epoch_of("a", "checkpoint") })
  end)

  it("writes nothing twice", function()
    e.succeed("--name", "a", "--keep-checkpoints", "2", "--epochs", "2")
    assert.equal(inode("a", "checkpoint"), inode("a", "checkpoint-2"))
    assert.equal(inode("a", "checkpoint"), inode("a", "best"))
  end)

  it("copies them where there are no links", function()
    local env = process.failing_files { FAIL_LINK = "95" }
    local result = e.start("--name", "a", "--keep-checkpoints", "2", "--epochs", "2")
    assert.equal(0, result.code)
    result = process.run { e.script, "--runs", e.folder .. "/runs", "--name", "b", "--threads", "1",
      "--keep-checkpoints", "2", "--epochs", "2", env = env }
    assert.same({ 0, "" }, { result.code, result.err })
    assert.equal(checkpoints "a", checkpoints "b")
    assert.not_equal(inode("b", "checkpoint"), inode("b", "checkpoint-2"))
    assert.same(w(path("a", "best.safetensors")), w(path("b", "best.safetensors")))
  end)

  it("says once what could not be kept, and goes on", function()
    local result = process.run { e.script, "--runs", e.folder .. "/runs", "--name", "a", "--threads", "1",
      "--keep-checkpoints", "2", "--epochs", "2", env = process.failing_files { FAIL_LINK = "28" } }
    assert.equal(0, result.code, result.err)
    assert.matches("cannot keep '[^']*/a/checkpoint.safetensors': No space left on device; checkpoint.safetensors is"
      .. " written, and the training goes on\n", result.out)
    assert.equal("checkpoint", checkpoints "a")
  end)

  it("writes the best epoch's whatever --save-every says", function()
    e.succeed("--name", "a", "--keep-checkpoints", "1", "--save-every", "3")
    assert.equal("best checkpoint-3 checkpoint", checkpoints "a")
    assert.equal(2, epoch_of("a", "best"))
  end)

  it("has no best one without scores", function()
    process.write(e.script, (example.recipe:gsub("\n  run:score[^\n]*", "")))
    e.succeed("--name", "a", "--keep-checkpoints", "2")
    assert.equal("checkpoint-2 checkpoint-3 checkpoint", checkpoints "a")
  end)

  it("keeps none of the middle of an epoch", function()
    assert.equal(143, e.start("--name", "a", "--keep-checkpoints", "2", "--at", "7", "--with", "TERM").code)
    assert.equal("best checkpoint-1 checkpoint", checkpoints "a")
  end)

  it("has the same after it was stopped and resumed", function()
    e.succeed("--name", "a", "--keep-checkpoints", "2", "--epochs", "4")
    e.start("--name", "b", "--keep-checkpoints", "2", "--epochs", "4", "--at", "12", "--with", "TERM")
    e.succeed("--resume", path "b", "--at", "-1")
    assert.equal(checkpoints "a", checkpoints "b")
    assert.same(w(path("a", "best.safetensors")), w(path("b", "best.safetensors")))
  end)

  it("keeps fewer at once when it is resumed with a smaller number, even if it is complete", function()
    e.succeed("--name", "a", "--keep-checkpoints", "3", "--epochs", "4")
    e.succeed("--resume", path "a", "--keep-checkpoints", "1")
    assert.equal("best checkpoint-4 checkpoint", checkpoints "a")
    assert.equal(2, epoch_of("a", "best"))
  end)

  it("removes nothing that is no file, and names it where a checkpoint is to be", function()
    e.succeed("--name", "a", "--keep-checkpoints", "2", "--epochs", "3")
    os.execute(("cd %s && mkdir checkpoint-1.safetensors checkpoint-4.safetensors"):format(path "a"))
    local result = e.succeed("--resume", path "a", "--epochs", "4")
    assert.matches("\ncannot replace '[^\n]*/a/checkpoint%-4.safetensors': Is a directory; checkpoint.safetensors is"
      .. " written, and the training goes on\n", result.out)
    assert.equal("folder", cld.io.exists(path("a", "checkpoint-1.safetensors")))
  end)

  it("keeps all that there are when it is resumed with none", function()
    e.succeed("--name", "a", "--keep-checkpoints", "3", "--epochs", "4")
    e.succeed("--resume", path "a", "--keep-checkpoints", "0")
    assert.equal("best checkpoint-2 checkpoint-3 checkpoint-4 checkpoint", checkpoints "a")
  end)

  it("makes up what it had no time for when it was killed", function()
    e.succeed("--name", "a", "--keep-checkpoints", "2", "--epochs", "2")
    os.execute(("cd %s && rm best.safetensors checkpoint-2.safetensors"):format(path "a"))
    e.succeed("--resume", path "a")
    assert.equal("best checkpoint-1 checkpoint-2 checkpoint", checkpoints "a")
  end)

  it("has no half file after a kill while it is kept, and makes up for it", function()
    local result = process.run { e.script, "--runs", e.folder .. "/runs", "--name", "a", "--threads", "1",
      "--keep-checkpoints", "2", "--epochs", "2", env = process.failing_files { AFTER_LINK = "kill -9 $PPID" } }
    assert.equal(137, result.code)
    local names = table.concat(cld.io.list(path "a"), " ")
    assert.matches("checkpoint%-1%.safetensors%.%x+%.tmp checkpoint.safetensors", names)
    e.succeed("--resume", path "a")
    assert.equal("best checkpoint-1 checkpoint-2 checkpoint", checkpoints "a")
  end)

  it("removes what a kill in between has left", function()
    e.succeed("--name", "a", "--keep-checkpoints", "2", "--epochs", "2")
    os.execute(("cd %s && ln checkpoint.safetensors best.safetensors.0123456789abcdef.tmp"):format(path "a"))
    e.succeed("--resume", path "a", "--epochs", "3")
    assert.equal("best checkpoint-2 checkpoint-3 checkpoint", checkpoints "a")
  end)

  -- ---- resumed from an older one --------------------------------------------------

  local function resumed(file, ...)
    e.succeed("--name", "a", "--keep-checkpoints", "4", "--epochs", "4")
    return e.succeed("--resume", path("a", file), ...)
  end

  it("goes on from an older one to the same end", function()
    e.succeed("--name", "whole", "--epochs", "4")
    local result = resumed "checkpoint-1.safetensors"
    assert.same(e.outcome "whole", e.outcome "a")
    assert.matches("\nwhat the run wrote after epoch 1 is superseded[^\n]*\nresumed from [^\n]*/a/checkpoint%-1"
      .. "%.safetensors, after epoch 1\n", result.out)
  end)

  it("goes on from the best one", function()
    local result = resumed("best.safetensors", "--epochs", "3")
    assert.matches("resumed from [^\n]*/a/best%.safetensors, after epoch 2\n", result.out)
    assert.equal("best checkpoint-1 checkpoint-2 checkpoint-3 checkpoint", checkpoints "a")
    assert.same({ 2, 3 }, { epoch_of("a", "best"), epoch_of("a", "checkpoint") })
  end)

  it("has a log that goes on from there", function()
    resumed("checkpoint-1.safetensors", "--epochs", "2")
    local run = history.read(path "a")
    local steps = {}
    for i, point in ipairs(run.curves.top1) do steps[i] = point.step end
    assert.same({ { 5, 10 }, 2, "ended" }, { steps, run.epochs_done, run.state })
  end)

  it("keeps later ones until the first new one stands", function()
    e.succeed("--name", "a", "--keep-checkpoints", "4", "--epochs", "4")
    assert.equal(137, e.start("--resume", path("a", "checkpoint-1.safetensors"), "--at", "6", "--with", "KILL").code)
    assert.equal("best checkpoint-1 checkpoint-2 checkpoint-3 checkpoint-4 checkpoint", checkpoints "a")
    assert.equal(1, epoch_of("a", "checkpoint"))
  end)

  it("removes them then, with a best one that never came to be", function()
    e.succeed("--name", "a", "--keep-checkpoints", "4", "--epochs", "4")
    process.write(e.script, (process.read(e.script):gsub("0%.9", "0.1")))
    e.succeed("--resume", path("a", "checkpoint-1.safetensors"), "--epochs", "2")
    assert.equal("best checkpoint-1 checkpoint-2 checkpoint", checkpoints "a")
    assert.equal(1, epoch_of("a", "best"))
  end)

  -- ---- bad input ------------------------------------------------------------------

  it("is not begun afresh where one is left", function()
    e.succeed("--name", "a", "--keep-checkpoints", "1", "--epochs", "1")
    os.execute(("rm %s"):format(path("a", "checkpoint.safetensors")))
    local result = e.start("--resume", path "a")
    assert.matches("^cldlua: the run folder '[^']*/a' has no checkpoint.safetensors: %-%-resume [^ ]*/a/best"
      .. ".safetensors continues from that one\n$", result.err)
    assert.matches("holds a checkpoint: %-%-resume continues it", e.start("--name", "a").err)
  end)

  it("says that a checkpoint to resume from is not there", function()
    e.succeed("--name", "a", "--epochs", "1")
    assert.matches("^cldlua: %-%-resume: there is no '[^']*/a/checkpoint%-7.safetensors'\n$",
      e.start("--resume", path("a", "checkpoint-7.safetensors")).err)
  end)

  for _, name in ipairs { "checkpoint-.safetensors", "checkpoint-03.safetensors", "checkpoint-1.safetensors.bak" } do
    it("is not resumed from " .. name, function()
      e.succeed("--name", "a", "--epochs", "1")
      os.execute(("cp %s %s"):format(path("a", "checkpoint.safetensors"), path("a", name)))
      assert.matches("is neither a run folder nor its checkpoint%.safetensors, checkpoint%-EPOCH",
        e.start("--resume", path("a", name)).err)
    end)
  end
end)
