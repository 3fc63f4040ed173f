--- --tensorboard: what TensorBoard sees of a run that was stopped, killed, resumed or changed.
local cld = require "cld"
local history = require "cld.run.history"
local process = require "spec.support.process"
local recipes = require "spec.support.recipes"
local tensorboard = require "spec.support.tensorboard"

if not cld.tensorboard.is_supported() then return end -- event_spec.lua has what is then

-- Epochs of 24 images. --at N --with KILL: in that step, counted from 0; --evaluated N: in the evaluation after epoch
-- N, between its two parts.
local recipe = [[
local cld = require "cld"
local opt = cld.options {
  { "epochs", 3, "", integer = true }, { "batch-size", 8, "", integer = true }, { "at", -1, "", integer = true },
  { "with", "TERM", "" }, { "evaluated", 0, "", integer = true }, cld.options.training,
}
local run = cld.run(opt)
local set = cld.data.tensors { images = cld.zeros({ 24, 4, 4, 3 }, "u8"), labels = cld.zeros({ 24 }, "i64") }
local loader = cld.data.loader { set, batch_size = opt.batch_size, views = 2, workers = 0 }
local w = cld.zeros(1)
local function stop() io.popen(("kill -%s %d"):format(opt.with, cld.host().pid)):close() end
local function features(images) return images:flatten(2) end
for epoch in run:epochs { w = w, loader = loader } do
  for _ in loader:epoch(epoch) do
    if run.step == opt.at then stop() end
    w:add_(1)
    run:track({ loss = 1 / w:item(), odd = 0 / 0 }, { lr = 0.5 })
  end
  run:diagnose { effective_rank = w:item() }
  if epoch == opt.evaluated then stop() end
  cld.eval.features(features, set)
  run:score { top1 = epoch / 10 }
end
]]

local tags = {
  loss = "train/loss", odd = "train/odd", lr = "train/lr", images_per_second = "speed/images_per_second",
  data_wait = "speed/data_wait", effective_rank = "diagnostics/effective_rank", top1 = "score/top1",
}

describe("a run with --tensorboard", function()
  local folder, script
  before_each(function()
    folder = process.temporary_folder()
    script = process.write(folder .. "/example.lua", recipe)
  end)
  after_each(function() process.remove(folder) end)

  local function start(...)
    return process.run { script, "--runs", folder .. "/runs", "--threads", "1", "--device", "cpu", "--print-every", "0",
      ... }
  end
  local function begin(...) return start("--name", "a", ...) end
  local function resume(...)
    local result = start("--resume", folder .. "/runs/a", "--at", "-1", "--evaluated", "0", ...)
    assert.equal(0, result.code, result.err)
    return result
  end
  local function seen() return tensorboard.read(folder .. "/runs/a/tensorboard") end

  -- TensorBoard has what the log tells, each step once.
  local function is_the_log()
    local scalars, curves = seen(), history.read(folder .. "/runs/a").curves
    for name, tag in pairs(tags) do
      local points, expected = {}, {}
      for i, point in ipairs(scalars[tag] or {}) do points[i] = point[1] end
      for i, point in ipairs(curves[name] or {}) do expected[i] = point.step end
      assert.same(expected, points, name)
    end
    local count = 0
    for tag in pairs(scalars) do count = count + (#scalars[tag] > 0 and 1 or 0) end
    return count
  end

  local function steps(tag)
    local list = {}
    for i, point in ipairs(seen()[tag]) do list[i] = point[1] end
    return list
  end

  it("has what is logged, by step and time", function()
    assert.equal(0, begin("--tensorboard").code)
    assert.equal(7, is_the_log())
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, steps "train/loss")
    local scalars = seen()
    assert.is_true(math.abs(scalars["score/top1"][3][2] - 0.3) < 1e-6)
    local date = history.read(folder .. "/runs/a").events[2].date
    local board = folder .. "/runs/a/tensorboard/"
    local event = cld.io.read_events(board .. cld.io.list(board)[1])
    local at = event[#event].wall_time
    assert.equal(date:sub(1, 16), os.date("!%Y-%m-%dT%H:%M", math.floor(event[4].wall_time)))
    assert.is_true(math.abs(at - os.time()) < 60)
  end)

  it("writes nothing unless it is asked to", function()
    assert.equal(0, begin().code)
    assert.is_nil(cld.io.exists(folder .. "/runs/a/tensorboard"))
  end)

  for _, signal in ipairs { "TERM", "KILL" } do
    it("has no step twice after SIG" .. signal .. " and a resume", function()
      assert.is_true(begin("--tensorboard", "--at", "5", "--with", signal).code > 128)
      resume()
      assert.equal(7, is_the_log())
      assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, steps "train/loss")
    end)
  end

  it("has none twice after several, one of them killed at once", function()
    begin("--tensorboard", "--at", "4", "--with", "KILL")
    start("--resume", folder .. "/runs/a", "--at", "3", "--with", "KILL")
    start("--resume", folder .. "/runs/a", "--at", "7", "--with", "TERM")
    resume()
    assert.equal(7, is_the_log())
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, steps "train/loss")
  end)

  it("has an evaluation once that was stopped and made anew", function()
    assert.equal(143, begin("--tensorboard", "--evaluated", "2").code)
    resume()
    assert.equal(7, is_the_log())
    assert.same({ 3, 6, 9 }, steps "diagnostics/effective_rank")
  end)

  it("goes on from an older checkpoint", function()
    begin("--tensorboard", "--keep-checkpoints", "3")
    assert.equal(0, start("--resume", folder .. "/runs/a/checkpoint-1.safetensors", "--epochs", "2").code)
    assert.equal(7, is_the_log())
    assert.same({ 1, 2, 3, 4, 5, 6 }, steps "train/loss")
  end)

  it("counts its steps anew with another batch size", function()
    begin("--tensorboard", "--epochs", "2")
    resume("--batch-size", "4", "--epochs", "3")
    assert.same({ 2, 4, 6, 8, 10, 12, 13, 14, 15, 16, 17, 18 }, steps "train/loss")
    assert.same({ 6, 12, 18 }, steps "score/top1")
  end)

  it("has also what was logged without it", function()
    begin("--epochs", "1")
    resume("--epochs", "2", "--tensorboard")
    resume("--epochs", "3", "--no-tensorboard")
    resume("--epochs", "4", "--tensorboard")
    assert.equal(7, is_the_log())
    assert.equal(12, #steps "train/loss")
  end)

  it("has the views once", function()
    begin("--tensorboard", "--at", "4", "--with", "KILL")
    resume()
    local _, images = seen()
    assert.same({ 1, 0 }, { #images.views, images.views[1][1] })
    assert.equal(3, #cld.image.decode(images.views[1][2]).shape)
  end)

  it("is refused in a line by a build without protobuf-c", function()
    local init = process.write(folder .. "/init.lua",
      'require "cld.core".io.has_events = function() return nil, "why" end')
    local result = process.run { script, "--tensorboard", "--runs", folder .. "/runs", "--device", "cpu",
      env = { LUA_INIT = "@" .. init } }
    assert.same({ 1, "cldlua: option '--tensorboard': why\n" }, { result.code, result.err })
    assert.is_nil(cld.io.exists(folder .. "/runs"))
  end)

  it("says in a line that its folder cannot be made, before it trains", function()
    os.execute(("mkdir -p %s/runs/a; touch %s/runs/a/tensorboard"):format(folder, folder))
    local result = begin("--tensorboard")
    assert.equal(1, result.code)
    assert.matches("^cldlua: cannot make the folder '[^']*/runs/a/tensorboard': [^\n]*\n$", result.err)
  end)

  -- A limit on the size of files stands in for the full disk.
  it("goes on when the disk is full, and says so once", function()
    process.write(script, (recipe:gsub("w:add_%(1%)", [[
      if run.step == 2 then
        local path = run.board.writer.file:path()
        io.popen(("prlimit --fsize=%%d: --pid %%d"):format(#io.open(path):read "a" + 9, cld.host().pid)):close()
      end %0]]):gsub("run:diagnose", 'io.popen("prlimit --fsize=unlimited: --pid " .. cld.host().pid):close() %0')))
    local result = process.run { program = "/bin/sh", "-c", ('trap "" XFSZ; exec %s %s --runs %s/runs --name a '
      .. "--threads 1 --epochs 1 --print-every 0 --tensorboard"):format(process.cldlua, script, folder) }
    assert.equal(0, result.code, result.err)
    assert.matches("cannot write '[^']*tfevents[^']*': File too large; the training goes on, and TensorBoard's files"
      .. " lack what cannot be written\n", result.err)
    local _, count = result.err:gsub("TensorBoard's files lack", "")
    assert.equal(1, count)
  end)
end)

describe("a recipe with --tensorboard", function()
  local folder, board
  setup(function()
    local toy
    folder, toy = recipes.start()
    local result = recipes.run("cifar10_npid_cld", "--data", toy, "--runs", folder .. "/runs", "--name", "board",
      "--epochs", "1", "--batch-size", "24", "--width", "2", "--low-dim", "4", "--clusters", "4", "--knn-k", "5",
      "--warmup-epochs", "0", "--threads", "1", "--tensorboard", "--device", "cpu")
    assert(result.code == 0, result.err)
    board = folder .. "/runs/board/tensorboard"
  end)
  teardown(recipes.remove)

  it("has the features of its test images for the projector, their classes and thumbnails", function()
    local rows = {}
    for line in io.lines(board .. "/instance/tensors.tsv") do rows[#rows + 1] = select(2, line:gsub("\t", "")) end
    assert.same({ 16, 3 }, { #rows, rows[1] }) -- 4 columns
    local net, about = cld.models.load(folder .. "/runs/board")
    local test = cld.data.splits(about.options).test
    local features = cld.eval.features(net, test, { augment = about.test_view, layer = "instance" })
    local first = {}
    local line = io.lines(board .. "/instance/tensors.tsv")()
    for number in line:gmatch "[^\t]+" do first[#first + 1] = tonumber(number) end
    assert.is_true((features[1] - cld.tensor(first)):abs():max():item() <= 1e-5)
    local names = {}
    for name in io.lines(board .. "/instance/metadata.tsv") do names[#names + 1] = name end
    assert.same({ 16, test.class_names[test.labels[5]:item() + 1] }, { #names, names[5] })
    assert.same({ 128, 128, 3 }, cld.image.read(board .. "/instance/sprite.png").shape)
  end)

  it("has the views of its augmentation", function()
    local _, images = tensorboard.read(board)
    assert.equal(1, #images.views)
  end)
end)
