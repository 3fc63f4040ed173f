--- Where a resumed run continues: with another batch size, other epochs, more images, between two epochs and in the
-- middle of one. A small run in a child process prints each step's number, learning rate and images.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"

-- --stop ends a session by SIGTERM in that step of it, counted from 1. --skip: the optimizer skips every step.
local recipe = [[
local cld = require "cld"
local opt = cld.options {
  about = "an example", { "epochs", 8, "epochs", min = 1, integer = true },
  { "batch-size", 8, "images per step", integer = true },
  { "lr", 0.1, "at batch size 128" }, { "schedule", "cosine", "" },
  { "milestones", "120,160", "", needs = { "schedule", "step" } },
  { "warmup-epochs", 0, "", integer = true }, { "warmup-factor", 100, "", integer = true }, { "lr-min", 0.0, "" },
  { "fill-epochs", 0, "", integer = true },
  { "images", 40, "in the data set", integer = true }, { "drop-last", false, "" }, { "stop", 0, "", integer = true },
  { "skip", false, "" },
  { "pause", 0.0, "seconds that each step takes" }, { "passes", 1, "through the loader in an epoch", integer = true },
  { "trace", "", "file to write to" }, cld.options.training,
}
local run = cld.run(opt)
local set = cld.data.tensors { images = cld.zeros({ opt.images, 1, 1, 3 }, "u8") }
local loader = cld.data.loader {
  set, batch_size = opt.batch_size, views = 1, drop_last = opt.drop_last, seed = opt.seed, workers = 0,
}
local lr = cld.schedule.from_options(opt, #loader)
local sgd = { skipped = 0, state_dict = function() return {} end, load_state_dict = function() end }
local trace = assert(io.open(opt.trace, "w"))
local steps = 0
for epoch in run:epochs { w = cld.zeros(1), sgd = sgd, loader = loader } do
  for pass = 1, opt.passes do for batch in loader:epoch(epoch) do
    steps = steps + 1
    trace:write(cld.json.encode {
      epoch = epoch, step = run.step, rate = lr(run.step) / (opt.lr * opt.batch_size / 128),
      index = batch.index:totable(),
    }, "\n")
    if opt.skip then sgd.skipped = sgd.skipped + 1 end
    if steps == opt.stop then io.popen("kill -TERM " .. cld.host().pid):close() end
    if opt.pause > 0 then os.execute("sleep " .. opt.pause) end
    run:track { rows = #batch.index }
  end end
  run:score { top1 = 0.5 }
end
]]

describe("the position of a resumed run", function()
  local folder, script
  before_each(function()
    folder = process.temporary_folder()
    script = process.write(folder .. "/example.lua", recipe)
  end)
  after_each(function() process.remove(folder) end)

  local function start(...)
    local trace = folder .. "/trace"
    local result = process.run {
      script, "--runs", folder .. "/runs", "--name", "run", "--threads", "1", "--device", "cpu", "--resume", "--trace",
      trace, ...,
    }
    local steps = {}
    for line in io.lines(trace) do steps[#steps + 1] = cld.json.decode(line) end
    return steps, result
  end

  -- The steps of a session that ends well, of one that is stopped in step n of it, and the output.
  local function finish(...)
    local steps, result = start(...)
    if result.code ~= 0 then error(("exit %d\n%s\n%s"):format(result.code, result.out, result.err), 2) end
    return steps, result.out
  end
  local function stop(n, ...)
    local steps, result = start("--stop", tostring(n), ...)
    if result.code ~= 143 then error(("exit %d\n%s\n%s"):format(result.code, result.out, result.err), 2) end
    return steps, result.out
  end
  local function go_on(...) return finish("--stop", "0", ...) end

  local function cosine(epochs, total) return (1 + math.cos(math.pi * epochs / total)) / 2 end

  -- The images of one epoch in several sessions, in order.
  local function images_of(epoch, ...)
    local list = {}
    for _, steps in ipairs { ... } do
      for _, step in ipairs(steps) do
        if step.epoch == epoch then table.move(step.index, 1, #step.index, #list + 1, list) end
      end
    end
    return list
  end

  -- The order of an epoch's images, which the batch size has no part in.
  local function order_of(epoch, images)
    local set = cld.data.tensors { images = cld.zeros({ images or 40, 1, 1, 3 }, "u8") }
    return cld.data.loader { set, batch_size = images or 40, views = 1, seed = 1 }:epoch(epoch)().index:totable()
  end

  local function log()
    local lines = {}
    for line in process.read(folder .. "/runs/run/log.jsonl"):gmatch "[^\n]+" do
      lines[#lines + 1] = cld.json.decode(line)
    end
    return lines
  end

  -- The means that the log has of an epoch.
  local function means_of(epoch)
    for _, line in ipairs(log()) do
      if line.event == "epoch" and line.epoch == epoch then return line.means end
    end
  end

  -- Rewrites the checkpoint's position.
  local function edit_position(edit)
    local path = folder .. "/runs/run/checkpoint.safetensors"
    local tensors, metadata = cld.load(path)
    local position = cld.json.decode(metadata.position)
    edit(position)
    metadata.position = cld.json.encode(position)
    cld.save(path, tensors, metadata)
  end
  -- As it was before a checkpoint told the images.
  local function forget_images() edit_position(function(position) position.seen = nil end) end

  describe("with another batch size between epochs", function()
    it("has the rate of the epochs done, again and again", function()
      finish("--epochs", "2", "--batch-size", "8")
      local done = 2
      for _, size in ipairs { 20, 8, 7, 64, 5 } do
        local steps = finish("--epochs", tostring(done + 1), "--batch-size", tostring(size))
        check.close(steps[1].rate, cosine(done, done + 1), { atol = 1e-12 })
        assert.equal(done * math.ceil(40 / size), steps[1].step)
        done = done + 1
      end
    end)

    it("follows the warm-up", function()
      finish("--epochs", "2", "--warmup-epochs", "4", "--warmup-factor", "10")
      local steps = finish("--epochs", "8", "--batch-size", "20")
      check.close({ steps[1].rate, steps[5].rate }, { (9 * 2 / 4 + 1) / 10, 1 }, { atol = 1e-12 })
    end)

    it("takes new milestones for the schedule that it has, and none for another", function()
      finish("--epochs", "2", "--schedule", "step", "--milestones", "9")
      check.close(finish("--epochs", "4", "--milestones", "2")[1].rate, 0.1, { atol = 1e-12 })
      finish("--epochs", "5", "--schedule", "cosine")
      local _, result = start("--epochs", "6", "--milestones", "2")
      assert.matches("option '%-%-milestones' has no effect with %-%-schedule cosine; it needs", result.err)
    end)

    it("steps down at its milestones", function()
      finish("--epochs", "3", "--schedule", "step", "--milestones", "4,6")
      local rates = {}
      for i, step in ipairs(finish("--epochs", "8", "--batch-size", "20")) do rates[i] = step.rate end
      check.close(rates, { 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01 }, { atol = 1e-12 })
    end)

    it("fills the bank for as many epochs", function()
      finish("--epochs", "2", "--fill-epochs", "1")
      for _, step in ipairs(finish("--epochs", "5", "--fill-epochs", "3", "--batch-size", "20")) do
        assert.equal(step.epoch > 3, step.rate > 0)
      end
    end)

    it("knows it from a checkpoint that counts steps alone", function()
      finish("--epochs", "6")
      forget_images()
      local steps = finish("--epochs", "8", "--batch-size", "20")
      check.close(steps[1].rate, cosine(6, 8), { atol = 1e-12 })
      assert.equal(12, steps[1].step)
    end)
  end)

  describe("with another batch size in the middle of an epoch", function()
    it("has the rate of the share of the epoch that was seen, and whole steps from the next epoch on", function()
      stop(28)
      local steps, out = go_on("--batch-size", "20")
      check.close(steps[1].rate, cosine(5.6, 8), { atol = 1e-12 })
      check.close(steps[1].step, 11.2, { atol = 1e-9 })
      assert.same({ 6, 7, 12 }, { steps[1].epoch, steps[2].epoch, steps[2].step })
      assert.equal("integer", math.type(steps[2].step))
      assert.equal(5, #steps)
      assert.matches("resumed from [^\n]*, after 24 of 40 images of epoch 6\n", out)
      assert.matches("\nepoch 6/8  rows [%d.]+  ", out)
    end)

    for name, case in pairs {
      ["larger"] = { 40, 8, 3, 20 }, ["smaller"] = { 40, 20, 1, 3 }, ["with a short last batch"] = { 50, 8, 4, 20 },
      ["larger than the data set"] = { 50, 8, 1, 100 }, ["of as many steps"] = { 50, 17, 1, 20 },
    } do
      it("gives each image of that epoch once, in its order: " .. name, function()
        local images, first, count, second = table.unpack(case)
        local before = stop(count, "--epochs", "1", "--images", tostring(images), "--batch-size", tostring(first))
        local after = go_on("--batch-size", tostring(second))
        assert.same(order_of(1, images), images_of(1, before, after))
      end)
    end

    it("gives each image once with a new size again and again", function()
      local sessions = { stop(2, "--images", "102", "--epochs", "2", "--batch-size", "10") }
      local seen = 20
      for i, size in ipairs { 7, 30, 5, 12 } do
        sessions[i + 1] = stop(1, "--batch-size", tostring(size))
        check.close(sessions[i + 1][1].step, math.ceil(102 / size) * seen / 102, { rtol = 1e-12 })
        seen = seen + size
      end
      sessions[6] = go_on("--batch-size", "8")
      assert.same(order_of(1, 102), images_of(1, table.unpack(sessions)))
      assert.same(order_of(2, 102), images_of(2, sessions[6]))
    end)

    it("ends as if undisturbed when it is stopped once more with the size it has by then", function()
      stop(7, "--epochs", "3")
      local path = folder .. "/runs/run/checkpoint.safetensors"
      local saved = process.read(path)
      local whole = go_on("--batch-size", "3")
      process.write(path, saved)
      local first = stop(4, "--batch-size", "3")
      local rest = go_on()
      assert.same(whole, table.move(rest, 1, #rest, #first + 1, first))
    end)

    it("steps down when the epoch begins, and not before", function()
      stop(14, "--schedule", "step", "--milestones", "3", "--epochs", "4")
      for _, step in ipairs(go_on("--batch-size", "7")) do
        check.close(step.rate, step.epoch > 3 and 0.1 or 1, { atol = 1e-12 })
      end
    end)

    it("fills the bank until the epoch ends, and not longer", function()
      stop(8, "--fill-epochs", "2", "--epochs", "4")
      for _, step in ipairs(go_on("--batch-size", "11")) do assert.equal(step.epoch > 2, step.rate > 0) end
    end)

    it("leaves out a short last batch if it is told to", function()
      local before = stop(3, "--images", "50", "--drop-last", "--epochs", "1")
      local after = go_on("--batch-size", "20")
      assert.same(table.move(order_of(1, 50), 1, 44, 1, {}), images_of(1, before, after))
    end)

    it("leaves out a last batch of one image", function()
      local before = stop(3, "--epochs", "2")
      local after = go_on("--batch-size", "3")
      assert.same(table.move(order_of(1), 1, 39, 1, {}), images_of(1, before, after))
      assert.same({ 5 + 13, 13 }, { #after, after[6].step })
    end)

    it("ends the epoch when what is left is less than a batch, and that is left out", function()
      stop(5, "--images", "50", "--drop-last", "--epochs", "2")
      local steps, out = go_on("--batch-size", "20")
      assert.same({ 2, 2 }, { #steps, steps[1].step })
      assert.matches("\nepoch 1/2  rows 8  [^\n]*\nepoch 1/2  top1", out)
    end)

    it("repeats no step when it was stopped after the last one", function()
      stop(5, "--epochs", "2")
      local steps, out = go_on("--batch-size", "7")
      assert.same({ 6, 2, 6 }, { #steps, steps[1].epoch, steps[1].step })
      assert.matches("\nepoch 1/2  top1", out)
    end)

    it("repeats no step when a short last batch had been left out, either", function()
      stop(2, "--images", "50", "--batch-size", "20", "--drop-last", "--epochs", "2")
      assert.equal(2, go_on("--batch-size", "8")[1].epoch)
    end)

    for epoch, steps in pairs { [1] = 3, [4] = 24 } do
      it("knows it from a checkpoint that counts steps alone, in epoch " .. epoch, function()
        local before = stop(steps, "--images", "50")
        forget_images()
        local after = go_on("--batch-size", "20")
        assert.same(order_of(epoch, 50), images_of(epoch, before, after))
        check.close(after[1].step, 3 * (epoch - 1) + 3 * 24 / 50, { rtol = 1e-12 })
      end)

      it("goes on from such a checkpoint as if undisturbed with the same size, in epoch " .. epoch, function()
        local before = stop(steps, "--images", "50")
        forget_images()
        edit_position(function(position) position.order.batch_size = 8.5 end) -- of no use, and no harm
        local after = go_on()
        assert.same(order_of(epoch, 50), images_of(epoch, before, after))
        assert.same({ steps, "integer" }, { after[1].step, math.type(after[1].step) })
      end)
    end

    it("takes the mean over the images", function()
      stop(3, "--images", "50", "--epochs", "1")
      go_on("--batch-size", "26")
      check.close(means_of(1).rows, (3 * 8 * 8 + 26 * 26) / 50, { rtol = 1e-12 })
    end)

    it("is not taken for diverged when it skips the rest of the epoch, and is when it skips a whole one", function()
      stop(1, "--images", "50", "--epochs", "1")
      go_on("--batch-size", "100", "--skip")
      local _, result = start("--epochs", "2", "--stop", "0", "--skip")
      assert.equal(1, result.code)
      assert.matches("epoch 2: the loss was not finite in any of 1 steps", result.err)
    end)
  end)

  it("follows the schedule of other --epochs, from where it stands", function()
    stop(28)
    check.close(stop(1, "--epochs", "16")[1].rate, cosine(5.6, 16), { atol = 1e-12 })
    check.close(stop(1, "--epochs", "7")[1].rate, cosine(5.8, 7), { atol = 1e-12 })
    local steps, out = finish("--epochs", "5")
    assert.equal(0, #steps)
    assert.matches("nothing is left to do", out)
    assert.equal(7, go_on("--epochs", "7")[1].epoch)
  end)

  it("follows another warm-up and another fill from where it stands", function()
    stop(12, "--warmup-epochs", "1")
    check.close(stop(1, "--warmup-epochs", "4", "--warmup-factor", "10")[1].rate, (9 * 2.4 / 4 + 1) / 10,
      { atol = 1e-12 })
    local steps = go_on("--fill-epochs", "4", "--warmup-epochs", "0")
    assert.equal(0, steps[1].rate)
    for _, step in ipairs(steps) do assert.equal(step.epoch > 4, step.rate > 0) end
  end)

  it("has the rate of the epochs done when the data set has grown", function()
    finish("--epochs", "4")
    local steps = finish("--epochs", "8", "--images", "90")
    check.close(steps[1].rate, cosine(4, 8), { atol = 1e-12 })
    assert.equal(4 * 12, steps[1].step)
  end)

  it("is right when a last batch that was left out is one no more", function()
    local before = stop(8, "--images", "50", "--drop-last", "--epochs", "3")
    local after = go_on("--no-drop-last")
    assert.same(order_of(2, 50), images_of(2, before, after))
    assert.same({ 9, 14 }, { after[1].step, after[6].step })
  end)

  it("counts the images of a short batch, not a full one's", function()
    local _, out = finish("--images", "10", "--batch-size", "1000", "--epochs", "1", "--pause", "0.2")
    assert.is_true(tonumber(out:match "epoch 1/1  rows 10  (%d+) images/s") <= 50)
  end)

  it("takes the mean of an epoch over its images", function()
    finish("--images", "50", "--batch-size", "20", "--epochs", "1")
    check.close(means_of(1).rows, (20 * 20 + 20 * 20 + 10 * 10) / 50, { rtol = 1e-12 })
  end)

  it("counts every step of a recipe that goes through the loader twice", function()
    local steps = finish("--passes", "2", "--epochs", "2", "--batch-size", "16")
    assert.same({ 12, 6, 11 }, { #steps, steps[7].step, steps[12].step })
    check.close(means_of(1).rows, (16 * 16 + 16 * 16 + 8 * 8) / 40, { rtol = 1e-12 })
  end)

  it("shows whole steps", function()
    stop(3)
    local _, out = go_on("--batch-size", "7", "--print-every", "0", "--epochs", "1")
    assert.matches("\nepoch 1/1  step 4/6  ", out)
    assert.matches("\nepoch 1/1  step 5/6  ", out)
  end)

  it("refuses a checkpoint whose images were tampered with", function()
    stop(3)
    local good
    edit_position(function(position) good = position.seen end)
    for _, change in ipairs {
      { images = -1 }, { images = 41 }, { images = "3" }, { of = "x" }, { batch_size = 0 }, { steps_per_epoch = 0 },
      { batch_size = 2.5 }, { of = 2 },
    } do
      edit_position(function(position)
        position.seen = {}
        for _, fields in ipairs { good, change } do
          for name, value in pairs(fields) do position.seen[name] = value end
        end
      end)
      local _, result = start("--stop", "0")
      assert.equal(1, result.code)
      assert.matches("damaged checkpoint: 'seen' of its position is a table\n$", result.err)
    end
  end)
end)
