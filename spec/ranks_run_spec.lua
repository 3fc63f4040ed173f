--- A run of several ranks: one folder, one log, stopped together, resumed by any number of ranks; and ranks that do
-- different things.
local cld = require "cld"
local process = require "spec.support.process"
local ranks = require "spec.support.ranks"
local tensorboard = require "spec.support.tensorboard"
local missing = ranks.missing()

describe("a run of several ranks", function()
  if missing then return pending(missing) end
  local folder, photos

  setup(function()
    folder = process.temporary_folder()
    photos = folder .. "/photos"
    assert.equal(0, process.run { "recipes/make_toy_data.lua", "--out", photos, "--layout", "files", "--train", "40",
      "--test", "10", "--least-side", "16", "--most-side", "24" }.code)
  end)
  teardown(function() process.remove(folder) end)

  -- Code that runs before the recipe, on every rank.
  local function words(code, ...)
    local list, own = code and { "-e", code } or {}, {
      "recipes/folder_mocov2_cld.lua", "--data", photos, "--size", "16", "--augment", "base", "--runs", folder,
      "--batch-size", "8", "--block", "4", "--dim", "8", "--small", "--queue", "16", "--clusters", "4", "--width", "2",
      "--workers", "0", "--knn-every", "0", "--device", "cpu", "--lr", "0.02", ...,
    }
    return table.move(own, 1, #own, #list + 1, list)
  end

  local function train(n, code, ...) return ranks.run(n, words(code, ...)) end

  local function checkpoint(name) return ("%s/%s/checkpoint.safetensors"):format(folder, name) end

  local wide = "dofile 'spec/support/wide.lua'"

  -- In its third step a signal comes to one rank alone.
  local function stopped(rank, signal)
    return wide .. ([[
      local cld = require "cld"
      local count, loss = 0, cld.losses.cld
      function cld.losses.cld(...)
        count = count + 1
        if count == 3 and cld.dist.rank == %d then os.execute("kill -%s " .. cld.host().pid) end
        return loss(...)
      end]]):format(rank, signal)
  end

  it("says who they are, and trains in one folder", function()
    local result = train(2, nil, "--epochs", "2", "--name", "plain", "--threads", "1")
    assert.equal(0, result.code, result.err)
    assert.matches("\n2 ranks on 1 machine, Open MPI %d[%d.]*\n", result.out)
    local starts = 0
    for line in io.lines(folder .. "/plain/log.jsonl") do
      if cld.json.decode(line).event == "start" then starts = starts + 1 end
    end
    assert.equal(1, starts)
    assert.equal("", result.err)
  end)

  it("keeps checkpoints and writes TensorBoard's files on rank 0, and goes on from an older one", function()
    local more = { "--name", "kept", "--threads", "1", "--keep-checkpoints", "2", "--save-every", "2", "--knn-k", "5" }
    if cld.tensorboard.is_supported() then more[#more + 1] = "--tensorboard" end
    local result = train(2, nil, "--epochs", "3", table.unpack(more))
    assert.same({ 0, "" }, { result.code, result.err })
    local function checkpoints()
      local names = {}
      for _, name in ipairs(cld.io.list(folder .. "/kept")) do names[#names + 1] = name:match "^(.*)%.safetensors$" end
      return table.concat(names, " ")
    end
    assert.equal("checkpoint-2 checkpoint-3 checkpoint", checkpoints())
    result = ranks.run(2, words(nil, "--resume", folder .. "/kept/checkpoint-2.safetensors"))
    assert.equal(0, result.code, result.err)
    local _, count = result.out:gsub("what the run wrote after epoch 2 is superseded", "")
    assert.equal(1, count)
    if not cld.tensorboard.is_supported() then return end
    local steps = {}
    for i, point in ipairs(tensorboard.read(folder .. "/kept/tensorboard")["train/lr"]) do steps[i] = point[1] end
    assert.same({ 5, 10, 15 }, steps)
    assert.equal("file", cld.io.exists(folder .. "/kept/tensorboard/projector_config.pbtxt"))
  end)

  it("has one speed and one mean of all ranks in its log", function()
    local one = train(1, nil, "--epochs", "1", "--name", "one", "--threads", "1", "--no-winograd")
    local two = train(2, nil, "--epochs", "1", "--name", "two", "--threads", "1", "--no-winograd")
    assert.equal(0, one.code + two.code, two.err)
    local function means(name)
      for line in io.lines(("%s/%s/log.jsonl"):format(folder, name)) do
        local event = cld.json.decode(line)
        if event.event == "epoch" then return event.means end
      end
    end
    for name, value in pairs(means "one") do
      assert.is_true(math.abs(value - means "two"[name]) <= 2e-2 * math.max(1, math.abs(value)), name)
    end
  end)

  it("prints what each rank's steps took, if it is asked", function()
    local out = train(2, nil, "--epochs", "1", "--name", "told", "--threads", "1", "--print-ranks").out
    assert.matches("\nrank 0 on [^\n]* s a step: [^\n]*\nrank 1 on [^\n]*\nthe slowest is rank [01] on ", out)
  end)

  it("stops together when a signal comes to one of them, and goes on by any number of ranks", function()
    local whole = train(1, wide, "--epochs", "2", "--name", "whole", "--threads", "1")
    assert.equal(0, whole.code, whole.err)
    local cut = train(2, stopped(1, "USR1"), "--epochs", "2", "--name", "cut", "--threads", "1")
    assert.matches("interrupted %(SIGUSR1%) after step %d of epoch 1; %-%-resume", cut.out)
    assert.is_not.equal(0, cut.code)
    local three = train(3, stopped(0, "TERM"), "--epochs", "2", "--name", "cut", "--threads", "1", "--resume")
    assert.matches("resumed from .*interrupted %(SIGTERM%)", three.out)
    local rest = train(1, wide, "--epochs", "2", "--name", "cut", "--threads", "1", "--resume")
    assert.equal(0, rest.code, rest.err)
    local apart, at = ranks.difference(checkpoint "whole", checkpoint "cut")
    assert.is_true(apart <= 1e-8, ("%s is %.2g apart"):format(at, apart))
  end)

  it("does not take over the threads of another number of ranks", function()
    assert.equal(0, train(1, nil, "--epochs", "1", "--name", "threads", "--threads", "2").code)
    local result = train(2, nil, "--epochs", "2", "--name", "threads", "--resume")
    assert.equal(0, result.code, result.err)
    local share = math.max(1, cld.host().cores // 2)
    assert.matches((", %d thread%s on "):format(share, share == 1 and "" or "s"), result.out)
  end)

  local function fails(message, n, code, ...)
    local result = train(n, code, ...)
    assert.is_not.equal(0, result.code)
    assert.matches(message, result.err)
  end

  it("ends if the ranks' options differ, and names the option", function()
    fails("^\n?cldlua: option %-%-lr differs between the ranks: 0.02 on rank 0 %([^\n]*%), 0.5 on rank 1 [^\n]*\n$", 2,
      "if require 'cld'.dist.rank == 1 then arg[#arg + 1] = '--lr' arg[#arg + 1] = '0.5' end", "--name", "options")
  end)

  it("ends if their data differ", function()
    fails("cldlua: the number of images differs between the ranks: 40 on rank 0 [^\n]*, 30 on rank 1 ", 2, [[
      local cld = require "cld"
      local splits = cld.data.splits
      function cld.data.splits(opt)
        local sets = splits(opt)
        if cld.dist.rank == 1 then sets.train = cld.data.subset { sets.train, indices = cld.arange(0, 30, 1) } end
        return sets
      end]], "--name", "data")
  end)

  it("is refused where another run is going", function()
    assert.equal(0, train(1, nil, "--epochs", "1", "--name", "busy").code)
    local held = cld.io.claim(folder .. "/busy")
    local result = train(2, nil, "--epochs", "2", "--name", "busy", "--resume")
    held:close()
    assert.matches("^\n?cldlua: the run folder '[^\n]*' is in use by a run that is still running\n$", result.err)
  end)
end)
