--- Random numbers on ranks that have different numbers of rows: those drawn for rows are the same as in one process,
-- and generators that have diverged are reported.
local process = require "spec.support.process"
local ranks = require "spec.support.ranks"
local missing = ranks.missing()

-- From the third step on, which is the first that a device captures, each rank draws for its own rows, if it is asked.
local recipe = [[
local cld = require "cld"
local opt = cld.options {
  about = "an example", { "epochs", 1, "epochs", min = 1, integer = true }, { "own", false, "rows" },
  { "seeds", false, "a seed of its own for each rank" }, cld.options.training,
}
local run = cld.run(opt)
local set = cld.data.tensors { images = cld.zeros({ 14, 8, 8, 3 }, "u8"), labels = cld.arange(0, 14, 1), classes = 14 }
local loader = cld.data.loader { set, batch_size = 3, views = 1, workers = 0, device = opt.device }
local calls = 0
local step = cld.graph(function(labels)
  calls = calls + 1
  local function draw(m) return cld.rand({ m }, { device = labels.device }) end
  local n = labels.shape[1]
  return opt.own and calls > 2 and draw(n) or cld.dist.draw_rows(n, draw)
end)
if opt.seeds then cld.manual_seed(math.min(cld.dist.rank, 1) + 5) end
for epoch in run:epochs { state = cld.zeros(1), loader = loader } do
  for batch in loader:epoch(epoch) do run:track { value = step(batch.labels):mean() } end
end
]]

describe("random numbers of several ranks", function()
  if missing then return pending(missing) end
  local folder, script

  setup(function()
    folder = process.temporary_folder()
    script = process.write(folder .. "/example.lua", recipe)
  end)
  teardown(function() process.remove(folder) end)

  local function train(...)
    return ranks.run(2, { script, "--runs", folder, "--threads", "1", ... })
  end

  it("are one process's, row by row, and leave the generators alike", function()
    local _, err = ranks.script(3, [[
      local core = require "cld.core"
      local images, labels = cld.zeros({ 8, 8, 8, 3 }, "u8"), cld.arange(0, 8, 1)
      local set = cld.data.tensors { images = images, labels = labels, classes = 8 }
      for batch in cld.data.loader { set, batch_size = 8, views = 1, workers = 0 }:epoch(1) do
        for _, unit in ipairs { 1, 2 } do
          cld.manual_seed(7)
          local rows = unit * #batch.labels
          local own = dist.draw_rows(rows, function(m) return cld.rand(m, 3) end)
          local after = cld.get_rng_state().position
          cld.manual_seed(7)
          local all = cld.rand(8 * unit, 3)
          assert(own.shape[1] == rows and core.dist.gather_rows(own):eq(all):all():item() == 1)
          assert(after == cld.get_rng_state().position)
        end
      end
      assert(#dist.draw_rows(5, cld.rand) == 5) -- no batch is at hand: all have the same rows
      io.stderr:write("right\n")]])
    assert.equal("right\nright\nright\n", err)
  end)

  it("are those of the rows that a dropout has, of a part of the batch too", function()
    local _, err = ranks.script(3, [[
      local core, f = require "cld.core", cld.nn.functional
      local images, labels = cld.zeros({ 8, 8, 8, 3 }, "u8"), cld.arange(0, 8, 1)
      local set = cld.data.tensors { images = images, labels = labels, classes = 8 }
      local function position() return cld.get_rng_state().position end
      for batch in cld.data.loader { set, batch_size = 8, views = 1, workers = 0 }:epoch(1) do
        local n = #batch.labels
        local function zeros_of(rows, parts)
          cld.manual_seed(7)
          return cld.nn.with_parts(parts, function() return f.dropout(cld.ones(rows, 40), 0.5) end)
        end
        local whole = zeros_of(n)                                      -- of 3, 3 and 2 rows
        local second = zeros_of(1, { done = 1, rows = 1, total = n })  -- the second image of each rank
        assert(second:eq(whole:narrow(1, 2, 1)):all():item() == 1)
        assert(position() == 8 * 40)
        local views = zeros_of(2 * n, { views = 2 })
        assert(views:narrow(1, 1, n):eq(whole):all():item() == 1)
        assert(position() == 2 * 8 * 40)
      end
      io.stderr:write("right\n")]])
    assert.equal("right\nright\nright\n", err)
  end)

  local function parts_from(result, a, b)
    assert.equal(("cldlua: the random numbers of rank 0 are at position %d, those of rank 1 at %d: from here on the"
      .. " ranks would draw different ones. What a recipe draws for each of its rows goes through cld.dist.draw_rows,"
      .. " and all else all ranks draw alike\n"):format(a, b), (result.err:gsub("^\n", "")))
    assert.is_not.equal(0, result.code)
  end

  it("are told if the ranks have drawn different numbers of them", function()
    parts_from(train("--device", "cpu", "--own"), 3 + 3 + 2, 3 + 3 + 1)
  end)

  it("are told if their seeds differ, with all ranks that have another", function()
    local result = ranks.run(3, { script, "--runs", folder, "--threads", "1", "--device", "cpu", "--seeds" })
    assert.matches("the random numbers of rank 0 are at seed 5, those of ranks 1, 2 at 6: ", result.err)
  end)

  it("are told in a captured step", function()
    if not os.getenv "CLD_CUDA_PLUGIN" then return pending "there is no emulated device here" end
    parts_from(train("--device", "cuda", "--own"), 3 + 3 + 2, 3 + 3 + 1)
  end)

  it("are not told where they are alike", function()
    local result = train("--device", "cpu")
    assert.same({ 0, "" }, { result.code, result.err })
  end)
end)
