--- A disk that stalls (support/stalling.c): what waits for the slow file, what does not, and how a program can still
-- end. Each script gets the folder of images. The 9th file stalls, for longer than a spec may take unless STALL_SECONDS
-- is set.
local cld = require "cld"
local process = require "spec.support.process"

local STALL = 30
local AT_ONCE = 12 -- seconds, far from the 30: on a busy machine, with the start of the program

-- A signal comes as soon as the file is being read.
local prelude = [[
local cld = require "cld"
local folder = arg[1]
table.remove(arg, 1)
local view = cld.augment.base { size = 16 }
local function images() return cld.data.folder { root = folder, layout = "plain" } end
local function exists(path)
  local file = io.open(path)
  return file and file:close()
end
local function pause(seconds) io.popen(("sleep %g"):format(seconds)):close() end
local function await_stall()
  while not exists(os.getenv "STALL_STARTED") do pause(0.05) end
end
local function signal_at_stall(name)
  os.execute(("(while ! test -e '%s'; do sleep 0.05; done; sleep 0.3; kill -%s %d) >/dev/null 2>&1 &"):format(
    os.getenv "STALL_STARTED", name, cld.host().pid))
end
]]

local training = prelude .. [[
local opt = cld.options {
  { "epochs", 1, "", integer = true }, { "signal", "", "" }, { "evaluates", false, "" }, cld.options.training,
}
local set = cld.data.tensors { images = cld.zeros({ 8, 16, 16, 3 }, "u8"), labels = cld.zeros({ 8 }, "i64") }
local loader = cld.data.loader {
  opt.evaluates and set or images(), batch_size = 2, augment = view, shuffle = false,
}
local run = cld.run(opt)
local w = cld.zeros(1)
signal_at_stall(opt.signal)
for epoch in run:epochs { w = w, loader = loader } do
  for _ in loader:epoch(epoch) do
    w:add_(1)
    run:track { loss = 1 }
  end
  if opt.evaluates then
    cld.eval.features(function(x) return x:flatten(2) end, images(), { augment = view })
  end
end
]]

describe("a file whose reading stalls", function()
  local folder, images
  before_each(function()
    folder = process.temporary_folder()
    images = folder .. "/images"
    cld.io.mkdir(images)
    for i = 1, 12 do cld.image.write(("%s/%02d.png"):format(images, i), cld.full({ 20, 24, 3 }, i, "u8")) end
  end)
  after_each(function() process.remove(folder) end)

  local function run(script, stall, ...)
    local path = process.write(folder .. "/script.lua", script)
    local env = process.failing_files {
      STALL_NAME = "/09.png", STALL_SECONDS = tostring(stall or STALL), STALL_STARTED = folder .. "/started",
      STALL_ONCE = "1",
    }
    env.LD_PRELOAD = process.absolute(process.build .. "/spec/stalling.so")
    local start = cld.clock()
    local result = process.run { path, images, env = env, ... }
    result.seconds = cld.clock() - start
    return result
  end

  local function train(...) return run(training, nil, "--runs", folder, "--name", "r", "--device", "cpu", ...) end
  local function position() return cld.run.load(folder .. "/r/checkpoint.safetensors").position end

  it("holds up its own step alone: the others are made, as far as the prefetch allows", function()
    local result = run(prelude .. [[
      local l = cld.data.loader {
        images(), batch_size = 2, augment = view, shuffle = false, workers = 2, prefetch = 2, views = 1,
      }
      local batches <close> = l:epoch(1)
      for _ = 1, 4 do batches() end
      local four = l.waited
      local fifth, five = batches(), l.waited
      print(table.concat(fifth.index:totable(), " "), five - four > four)
      print(table.concat(batches().index:totable(), " "), l.waited - five < five - four, batches())
    ]], 2.5)
    assert.same({ "", 0 }, { result.err, result.code })
    assert.equal("8 9\ttrue\n10 11\ttrue\tnil\n", result.out)
  end)

  for name, number in pairs { INT = 2, TERM = 15 } do
    it(("lets SIG%s end the run, with a checkpoint"):format(name), function()
      local result = train("--signal", name)
      assert.same({ 128 + number, "" }, { result.code, result.err })
      assert(result.seconds < AT_ONCE, result.seconds)
      assert.equal(4, position().step)
    end)
  end

  it("lets a signal end an evaluation, which the resumed run repeats", function()
    local result = train("--signal", "INT", "--evaluates")
    assert.same({ 130, "" }, { result.code, result.err })
    assert(result.seconds < AT_ONCE, result.seconds)
    assert.same({ 4, 4 }, { position().step, position().step_in_epoch })
  end)

  it("lets a signal end the run where a function in Lua reads, image after image", function()
    local slow = training:gsub("opt.evaluates and set or images%(%)", [[
      cld.data.custom { count = 1000, read = function()
        io.open(os.getenv "STALL_STARTED", "w"):close()
        pause(0.1)
        return cld.zeros({ 20, 20, 3 }, "u8"), 0
      end }]]):gsub("batch_size = 2", "batch_size = 500")
    local result = run(slow, nil, "--runs", folder, "--name", "r", "--device", "cpu", "--signal", "TERM")
    assert.same({ 143, "" }, { result.code, result.err })
    assert(result.seconds < AT_ONCE, result.seconds)
  end)

  it("lets a loop be left, and is no burden when it can be read at last", function()
    local result = run(prelude .. [[
      local function leave()
        local l = cld.data.loader {
          images(), batch_size = 2, augment = view, shuffle = false, workers = 3, max_bad = 0,
        }
        for batch in l:epoch(1) do
          if batch.index:totable()[1] == 6 then
            await_stall()
            break
          end
        end
      end
      -- What the worker finds at last is a damaged file: it is noted where nobody looks any more.
      io.open(folder .. "/09.png", "wb"):write "\137PNG\r\n\26\n no more":close()
      local alive = cld.tensors_alive()
      leave()
      collectgarbage()
      collectgarbage()
      print(cld.tensors_alive() > alive)
      pause(2.5)
      for _ in cld.data.loader { images(), batch_size = 2, augment = view, shuffle = false }:epoch(1) do break end
      collectgarbage()
      collectgarbage()
      print(cld.tensors_alive() - alive)
    ]], 2.5)
    assert.same({ "", 0 }, { result.err, result.code })
    assert.equal("true\n0\n", result.out)
  end)

  it("lets a program end that leaves its loop", function()
    local result = run(prelude .. [[
      for batch in cld.data.loader { images(), batch_size = 2, augment = view, shuffle = false }:epoch(1) do
        if batch.index:totable()[1] == 6 then
          await_stall()
          break
        end
      end
    ]])
    assert.same({ "", 0 }, { result.err, result.code })
    assert(result.seconds < AT_ONCE, result.seconds)
  end)
end)
