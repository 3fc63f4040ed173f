--- What log.jsonl and the progress line tell about a run: a small one in a child process.
local cld = require "cld"
local process = require "spec.support.process"

-- Two optimizers, each of which skips the steps that --first and --second name.
local recipe = [[
local cld = require "cld"
local opt = cld.options {
  about = "an example", { "epochs", 2, "epochs", min = 1, integer = true },
  { "batch-size", 8, "images per step", integer = true },
  { "first", "", "" }, { "second", "", "" }, { "count-images", true, "" }, { "odd", false, "" }, cld.options.training,
}
local run = cld.run(opt)
local function optimizer()
  return { skipped = 0, state_dict = function() return {} end, load_state_dict = function() end }
end
local set = cld.data.tensors { images = cld.zeros({ 24, 1, 1, 3 }, "u8") }
local loader = cld.data.loader { set, batch_size = opt.batch_size, views = 1, workers = 0 }
local plain = setmetatable({ epoch = function(_, e) return loader:epoch(e) end }, { __len = function() return 3 end })
local trunk, head = optimizer(), optimizer()
for epoch in run:epochs { trunk = trunk, head = head, loader = opt.count_images and loader or plain } do
  for batch in loader:epoch(epoch) do
    local step = (" %d "):format(run.step)
    if opt.first:find(step, 1, true) then trunk.skipped = trunk.skipped + 1 end
    if opt.second:find(step, 1, true) then head.skipped = head.skipped + 1 end
    run:track({ loss = run.step }, not opt.odd and { lr = cld.tensor(0.5 ^ run.step, "f64") } or { lr = "fast" })
  end
end
]]

describe("the log of a run", function()
  local folder, script
  before_each(function()
    folder = process.temporary_folder()
    script = process.write(folder .. "/example.lua", recipe)
  end)
  after_each(function() process.remove(folder) end)

  local function start(...)
    return process.run {
      script, "--runs", folder .. "/runs", "--name", "run", "--threads", "1", "--device", "cpu", ...,
    }
  end

  local function log(event)
    local lines = {}
    for line in io.lines(folder .. "/runs/run/log.jsonl") do
      local entry = cld.json.decode(line)
      if entry.event == event then lines[#lines + 1] = entry end
    end
    return lines
  end

  it("has the rate of the last step, and means over the epoch", function()
    local result = start()
    assert.equal(0, result.code, result.err)
    local epochs = log "epoch"
    assert.same({ { lr = 0.25 }, { lr = 0.03125 } }, { epochs[1].now, epochs[2].now })
    assert.same({ 1, 4 }, { epochs[1].means.loss, epochs[2].means.loss })
    assert.matches("\nepoch 1/2  loss 1  lr 0.25  %d+ images/s  data %d+ %%  0:00\n", result.out)
  end)

  it("has images per second and the share of waiting, of progress and of epochs", function()
    assert.equal(0, start("--print-every", "0").code)
    for event, count in pairs { progress = 4, epoch = 2 } do
      local lines = log(event)
      assert.equal(count, #lines)
      for _, line in ipairs(lines) do
        assert.is_true(line.images_per_second > 0)
        assert.is_true(line.data_wait >= 0 and line.data_wait <= 1)
      end
    end
  end)

  it("leaves out what is not known", function()
    assert.equal(0, start("--no-count-images").code)
    local line = log "epoch"[1]
    assert.is_nil(line.data_wait)
  end)

  it("sums the steps that all optimizers have skipped, whatever their names", function()
    local result = start("--first", " 0 4 ", "--second", " 4 5 ")
    assert.equal(0, result.code, result.err)
    local epochs = log "epoch"
    assert.same({ 1, 4 }, { epochs[1].skipped, epochs[2].skipped })
    assert.matches("epoch 2/2  loss 4  lr 0.03125  skipped 4  ", result.out)
  end)

  it("ends a run of which any optimizer has skipped a whole epoch", function()
    local result = start("--second", " 3 4 5 ")
    assert.equal(1, result.code)
    assert.matches("^cldlua: epoch 2: the loss was not finite in any of 3 steps", result.err)
  end)

  it("refuses what is no number", function()
    assert.matches("run:track: 'lr' must be a number or a tensor of one element, got .*fast", start("--odd").err)
  end)
end)
