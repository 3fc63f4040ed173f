--- cld.dist: collectives among real processes, the batch that they share, and a single process without a job.
local cld = require "cld"
local core = require "cld.core"
local check = require "spec.support.check"
local process = require "spec.support.process"
local ranks = require "spec.support.ranks"
local missing = ranks.missing()

describe("cld.dist without a job", function()
  it("is one rank", function()
    assert.same({ 0, 0, 1 }, { cld.dist.rank, cld.dist.local_rank, cld.dist.world })
  end)

  it("gives back what it is given", function()
    local x = cld.tensor { { 1.0, 2.0 }, { 3.0, 4.0 } }
    for _, op in ipairs { "sum", "mean", "max", "min" } do
      assert.same({ { 1, 2 }, { 3, 4 } }, cld.dist.all_reduce(x, { op = op }):totable())
    end
    assert.same({ { 1, 2 }, { 3, 4 } }, cld.dist.all_gather(x):totable())
    assert.same({ { 1, 2 }, { 3, 4 } }, cld.dist.broadcast(x):totable())
    cld.dist.barrier()
  end)

  it("says what is wrong", function()
    check.fails(function() cld.dist.all_reduce(1) end, "dist.all_reduce: expected a tensor, got 1")
    check.fails(function() cld.dist.all_reduce(cld.zeros(2), { op = "prod" }) end,
      "dist.all_reduce: op must be sum, mean, max or min, got 'prod'")
    check.fails(function() cld.dist.broadcast(cld.zeros(2), { from = 1 }) end,
      "dist.broadcast: from must be a rank, 0 to 0, got 1")
    check.fails(function() cld.dist.all_gather(cld.tensor(1.5)) end,
      "spec.lua:%d+: dist.all_gather: expected rows, got one number")
  end)

  it("names what was called once, with its module", function()
    local w = cld.zeros(2):requires_grad_()
    check.fails(function() cld.dist.all_reduce(w) end, "spec.lua:%d+: dist.all_reduce: cannot write in place to f32")
    check.fails(function() cld.dist.broadcast(w) end, "spec.lua:%d+: dist.broadcast: cannot write in place to f32")
    check.fails(function() cld.dist.all_reduce(cld.zeros(2, "i64"), { op = "mean" }) end,
      "spec.lua:%d+: bad argument #1 to 'dist.all_reduce' %(the mean needs floats")
    w:close()
    check.fails(function() cld.dist.all_reduce(w) end,
      "spec.lua:%d+: dist.all_reduce: expected a tensor, got a closed tensor")
  end)
end)

describe("the batch at hand", function()
  local function share(total, block) return { split = true, total = total, block = block, begin = 0, rows = 1 } end

  it("is cut evenly, the larger parts first, or into whole blocks", function()
    -- core.dist.begin goes by the job's ranks: here there is one
    assert.same({ 0, 80 }, { core.dist.begin(share(80, 64), 0), core.dist.begin(share(80, 64), 1) })
  end)
end)

describe("ranks", function()
  if missing then return pending(missing) end

  -- What is asserted in the text holds on each of n ranks, which all come to its end.
  local function hold(n, text)
    local _, err = ranks.script(n, text .. '\nio.stderr:write("right\\n")')
    assert.equal(("right\n"):rep(n), err)
  end

  it("reduce, of any dtype", function()
    local out = ranks.script(3, [[
      for _, dtype in ipairs { "f32", "f64", "bf16", "f16", "i64", "i32", "u8" } do
        local line = { dtype }
        for _, op in ipairs { "sum", "max", "min" } do
          local x = cld.full({ 5 }, dist.rank + 1, dtype)
          line[#line + 1] = tostring(dist.all_reduce(x, { op = op })[5]:item())
        end
        print(table.concat(line, " "))
      end
      print(dist.all_reduce(cld.full({}, dist.rank + 1.0), { op = "mean" }):item())]])
    local floats = "%s 6.0 3.0 1.0\n"
    assert.equal(floats:format "f32" .. floats:format "f64" .. floats:format "bf16" .. floats:format "f16"
      .. "i64 6 3 1\ni32 6 3 1\nu8 6 3 1\n2.0\n", out)
  end)

  it("gather rows of different numbers, in order, and the gradient finds its rows", function()
    hold(3, [[
      local x = cld.full({ dist.rank + 1, 2 }, dist.rank + 1.0, "f64"):requires_grad_()
      local all = dist.all_gather(x)
      assert(all:sum(2):to "i64":totable()[4] == 6 and #all == 6);
      (all * all):sum():backward()                       -- each rank's loss counts a third
      assert(x.grad:eq(x * 2):all():item() == 1)]])
  end)

  it("get what one of them has, and strings", function()
    hold(2, [[
      local core = require "cld.core"
      local x = dist.broadcast(cld.full({ 3 }, dist.rank + 5.0), { from = 1 })
      assert(x[1]:item() == 6)
      assert(core.dist.broadcast_string(dist.rank == 0 and "zero" or "") == "zero")
      local all = core.dist.gather_strings(("x"):rep(dist.rank))
      assert(#all == 2 and all[1] == "" and all[2] == "x")
      local value = dist.shared(function() return { 1, "two", { three = 3.5 } } end)
      assert(value[2] == "two" and value[3].three == 3.5)
      local ok, message = pcall(dist.shared, function() error("no such thing", 0) end)
      assert(not ok and message == "no such thing")]])
  end)

  it("know at a step what any has wished at the one before", function()
    hold(2, [[
      local core = require "cld.core"
      local first = core.dist.agree { dist.rank == 1 and 10 or 0 }
      local second = core.dist.agree {}
      assert(first[1] == 0 and second[1] == 10)
      assert(core.dist.agree {}[1] == 0)]])
  end)

  it("give a batch's rows to each, and gather them in the batch's order", function()
    hold(3, [[
      local core = require "cld.core"
      local images = cld.zeros({ 11, 8, 8, 3 }, "u8")
      local set = cld.data.tensors { images = images, labels = cld.arange(0, 11, 1), classes = 11 }
      local seen = {}
      for batch in cld.data.loader { set, batch_size = 8, views = 1, shuffle = false, workers = 0 }:epoch(1) do
        seen[#seen + 1] = #batch.labels
        local all = core.dist.gather_rows(batch.labels):totable()
        for i, label in ipairs(all) do assert(label == i - 1 + 8 * (#seen - 1)) end
      end
      assert(table.concat(seen, " ") == ({ [0] = "3 1", "3 1", "2 1" })[dist.rank], table.concat(seen, " "))
      assert(core.dist.batch() == nil)]])
  end)

  it("have all of a batch that is smaller than they are", function()
    hold(3, [[
      local core = require "cld.core"
      local images = cld.zeros({ 2, 8, 8, 3 }, "u8")
      local set = cld.data.tensors { images = images, labels = cld.arange(0, 2, 1), classes = 2 }
      local batch = cld.data.loader { set, batch_size = 8, views = 1, workers = 0 }:epoch(1)()
      assert(#batch.labels == 2 and #core.dist.gather_rows(batch.labels) == 2)
      assert(core.dist.weight() == 1 / 3)]])
  end)

  -- 22 rows in blocks of 4, so 4 + 4 + 4 + 4 + 3 + 3, on three ranks: 8, 8, 6.
  local batch_of_22 = [[
    local core = require "cld.core"
    local set = cld.data.tensors {
      images = cld.zeros({ 22, 8, 8, 3 }, "u8"), labels = cld.arange(0, 22, 1), classes = 22,
    }
    local loader = cld.data.loader { set, batch_size = 22, views = 1, shuffle = false, workers = 0, block = 4 }
    local own
    for batch in loader:epoch(1) do own = batch.labels break end
  ]]

  it("get the rows of the groups of images that they share with others, and no more", function()
    hold(3, batch_of_22 .. [[
      local before = core.dist.counted().bytes
      local all, first = core.dist.gather_group(own, #own, 10)     -- 0 to 9, 10 to 19, 20 and 21
      core.dist.join(all)
      local from, to = table.unpack(({ [0] = { 0, 9 }, { 0, 19 }, { 10, 21 } })[dist.rank])
      assert(first == from and #all == to - from + 1)
      for i, label in ipairs(all:totable()) do assert(label == from + i - 1) end
      -- of rank 0's eight rows rank 1 needs all; of rank 1's the first two go to rank 0, the last six to rank 2
      assert(core.dist.counted().bytes - before == 8 * ({ [0] = 8, 2 + 6, 4 })[dist.rank])]])
  end)

  it("give back the gradients of such rows to the ranks that have them", function()
    hold(3, batch_of_22 .. [[
      for _, dtype in ipairs { "f64", "bf16" } do
        local x = cld.ones({ 2 * #own, 3 }, dtype):requires_grad_()  -- two rows for an image
        local all, first = core.dist.gather_group(x, #own, 10)
        core.dist.join(all)
        local weight = cld.full({ #all, 1 }, 2.0 ^ dist.rank, dtype)
        ;(all * weight):sum():backward(cld.tensor(1.0, dtype))
        local share = core.dist.batch()
        for i, row in ipairs(x.grad:double():totable()) do
          local image = share.begin + (i - 1) // 2
          -- each rank's loss counts by its rows: 8, 8 and 6 of 22
          local sum = ((image < 10 and 1 * 8 or 0) + (image < 20 and 2 * 8 or 0) + (image >= 10 and 4 * 6 or 0)) / 22
          assert(math.abs(row[1] - sum) <= (dtype == "f64" and 1e-12 or 0.02) and row[3] == row[1],
            ("image %d: %g, not %g"):format(image, row[1], sum))
        end
      end]])
  end)

  it("shuffle images, in each 512 by themselves, as one process does", function()
    local script = [[
      local core = require "cld.core"
      cld.manual_seed(3)
      local n = 1200
      local set = cld.data.tensors {
        images = cld.zeros({ n, 8, 8, 3 }, "u8"), labels = cld.arange(0, n, 1), classes = n,
      }
      local loader = cld.data.loader { set, batch_size = n, views = 1, workers = 0, block = 100, shuffle = false }
      local norm = cld.nn.batch_norm1d(2):to "f64"
      for batch in loader:epoch(1) do
        local x = batch.labels:double():reshape { #batch.labels, 1 } * cld.tensor({ { 1.0, -0.5 } }, "f64")
        local y = cld.no_grad(function() return (cld.nn.shuffled(norm, x, { block = 100 })) end)
        local all = core.dist.gather_rows(y)
        print(("%.9f %.9f %.9f"):format(all[1][1]:item(), all[600][2]:item(), all[1200][1]:item()))
        print(("%.9f"):format((all * cld.arange(0, n, 1):double():reshape { n, 1 }):sum():item()))
      end]]
    local alone = ranks.script(1, script)
    assert.equal(alone, (ranks.script(3, script)))
    assert.equal(alone, (ranks.script(2, script)))
  end)

  it("shuffle some of the batch's images, of any number of rows, among themselves", function()
    hold(2, [[
      local set = cld.data.tensors {
        images = cld.zeros({ 24, 8, 8, 3 }, "u8"), labels = cld.arange(0, 24, 1), classes = 24,
      }
      for batch in cld.data.loader { set, batch_size = 24, views = 1, workers = 0 }:epoch(1) do
        for unit, images in pairs { [2] = 6, [9] = 4 } do -- of twelve here
          local x = batch.labels:double():narrow(1, 1, images):reshape { images, 1 } * cld.ones({ 1, unit }, "f64")
          local seen
          local function net(rows)
            seen = rows:reshape { images, unit }
            return seen * 1, rows * 2
          end
          local y, z = cld.nn.shuffled(net, x:reshape { images * unit, 1 }, { block = 2, unit = unit })
          assert(seen:ne(x):any():item() and seen:eq(seen:narrow(2, 1, 1)):all():item())
          assert(y:eq(x):all():item() and z:reshape { images, unit }:eq(x * 2):all():item())
        end
      end]])
  end)

  it("hold no images of each other's while shuffled ones go through their network", function()
    hold(2, [[
      local set = cld.data.tensors { images = cld.zeros({ 8, 8, 8, 3 }, "u8") }
      for batch in cld.data.loader { set, batch_size = 8, views = 1, workers = 0 }:epoch(1) do
        local x = cld.zeros(4, 1 << 18)
        collectgarbage()
        collectgarbage "stop"
        local before, held = cld.memory().in_use, nil
        cld.nn.shuffled(function(rows)
          held = cld.memory().in_use - before
          return rows
        end, x, { block = 2 })
        collectgarbage "restart"
        assert(held >= 4 << 20 and held < 5 << 20, held)           -- its own four, shuffled
      end]])
  end)

  it("name the user's line where images are not those of the batch", function()
    hold(2, [[
      local set, nn = cld.data.tensors { images = cld.zeros({ 11, 8, 8, 3 }, "u8") }, cld.nn
      for _ in cld.data.loader { set, batch_size = 11, views = 1, workers = 0 }:epoch(1) do
        local x = cld.ones(4, 3)
        for name, call in pairs {
          ["nn.shuffle"] = function() nn.shuffle(print, x, { block = 2 }) end,
          ["nn.blocks"] = function() nn.blocks(4) end,
          each = function() nn.each(print, { x }) end,
          batch_norm = function() local _ = nn.batch_norm1d(3)(x) end,
        } do
          local text = select(2, pcall(call))
          local said = ": got 4 images on this rank; expected its [56] of the batch"
          assert(text:find("script.lua:%d+: " .. name .. said), text)
        end
      end]])
  end)

  it("let go of what was begun and never asked for at the next collective", function()
    hold(2, [[
      local set = cld.data.tensors { images = cld.zeros({ 8, 8, 8, 3 }, "u8") }
      for batch in cld.data.loader { set, batch_size = 8, views = 1, workers = 0 }:epoch(1) do
        local function abandoned()
          local x <close> = cld.zeros(4, 1 << 18)
          assert(not pcall(function()
            local shuffled = cld.nn.shuffle(function(rows) return rows end, x, { block = 2 })
            error(shuffled)
          end))
        end
        local row = cld.ones(1, 1):requires_grad_()
        for _, collective in ipairs {
          function() dist.all_reduce(cld.ones(1)) end, function() dist.all_gather(cld.ones(1)) end,
          function()
            local all = dist.all_gather(row)
            abandoned()
            all:sum():backward()                                      -- a reduce_scatter
          end,
        } do
          abandoned()
          collective()
          collectgarbage()
          assert(cld.memory().in_use < 1 << 20, cld.memory().in_use)
        end
      end]])
  end)

  it("have batch statistics of the whole batch where each has one row of it", function()
    hold(3, [[
      local set = cld.data.tensors {
        images = cld.zeros({ 3, 8, 8, 3 }, "u8"), labels = cld.arange(0, 3, 1), classes = 3,
      }
      local norm = cld.nn.batch_norm1d(1):to "f64"
      for batch in cld.data.loader { set, batch_size = 3, views = 1, workers = 0, shuffle = false }:epoch(1) do
        local y = norm(batch.labels:double():reshape { 1, 1 }):item()
        assert(math.abs(y - (dist.rank - 1) * 1.5 ^ 0.5) <= 1e-4, y)
      end
      assert(not pcall(norm, cld.ones({ 1, 1 }, "f64")))]])
  end)

  it("sum up gradients, those that some have not as zeros", function()
    hold(2, [[
      local a, b, c = cld.ones(2):requires_grad_(), cld.ones(2):requires_grad_(), cld.ones(2):requires_grad_()
      local sgd = cld.optim.sgd({ a, b, c }, { lr = 1 })
      local loss = (a * 3):sum()
      if dist.rank == 1 then loss = loss + (b * 4):sum() end
      sgd:step(loss)                                      -- each rank's loss counts a half
      assert(a[1]:item() == -2 and b[1]:item() == -1 and c[1]:item() == 1 and c.grad == nil)
      sgd:zero_grad(); (a * 3):sum():backward(); sgd:step()
      assert(a[1]:item() == -5)]])
  end)

  it("skip a step that one of them must skip", function()
    hold(2, [[
      local w = cld.ones(2):requires_grad_()
      local sgd = cld.optim.sgd({ w }, { lr = 1 })
      local made = sgd:step(dist.rank == 1 and (w * (0 / 0)):sum() or w:sum())
      assert(made:item() == 0 and w[1]:item() == 1 and sgd.skipped == 1)]])
  end)

  it("print once", function() assert.equal("hello\n", (ranks.script(2, "print 'hello'"))) end)

  it("have all cores if there is one of them, though mpirun binds it to one", function()
    local print_cores = [[for l in io.lines "/proc/self/status" do
      if l:find "Cpus_allowed_list" then print(l) end end]]
    local alone = process.run { "-e", print_cores }
    local bound = process.run { program = "mpirun", "--allow-run-as-root", "-n", "1",
      process.absolute(process.cldlua), "-e", print_cores, env = ranks.environment() }
    assert.equal(alone.out, bound.out)
  end)

  describe("of a plain mpirun, which gives them a terminal,", function()
    local function words()
      local env = ranks.environment()
      env.TERM = "xterm"
      return { program = "mpirun", "--allow-run-as-root", "-n", "1", process.absolute(process.cldlua), "-e",
        "print(require 'cld.core'.system.terminal() and 'a terminal' or 'none')", env = env }
    end

    it("see none if its output goes to a file", function() assert.equal("none\n", process.run(words()).out) end)

    it("see one if its output is one", function()
      local options = words()
      options.script = { { "wait", "a terminal" } }
      local result = process.terminal(options)
      assert.same({ 0, "" }, { result.code, result.err })
    end)
  end)

  it("start programs that are no ranks", function()
    local out = ranks.script(2, ([[
      local pipe = io.popen("%s -e 'print(require(\"cld\").dist.world)'")
      print(pipe:read "a"); pipe:close()]]):format(process.absolute(process.cldlua)))
    assert.equal("1\n\n", out)
  end)

  local function fails(n, text)
    local folder = process.temporary_folder()
    local path = process.write(folder .. "/script.lua", "local cld = require 'cld'\n" .. text)
    local result = ranks.run(n, { path })
    process.remove(folder)
    assert.is_not.equal(0, result.code)
    return result.err
  end

  it("tell once that there is no library for them", function()
    local result = ranks.run(2, { "-e", "", env = { CLD_MPI_PLUGIN = "/none.so" } })
    assert.equal(1, result.code)
    assert.matches("^cldlua: cannot load '/none.so': [^\n]*\n$", result.err)
  end)

  it("tell an error of all of them once", function()
    local err = fails(2, "error 'of all'")
    assert.matches("^cldlua: [^\n]*of all\n", err)
    assert.equal(1, select(2, err:gsub("of all", "")))
  end)

  it("are told of calls that are not alike", function()
    assert.matches("dist: the ranks call different things: all_reduce of f32%[[23]%], sum on rank [01], all_reduce of"
      .. " f32%[[23]%], sum on rank [01]\n", fails(2, "cld.dist.all_reduce(cld.zeros(2 + cld.dist.rank))"))
  end)

  it("are told of parameters that differ before the first step", function()
    assert.matches("sgd: parameter 2 is not the same on rank 0 and on rank 1 before the first step", fails(2, [[
      local a, b = cld.ones(2):requires_grad_(), cld.full({ 2 }, cld.dist.rank + 0.5):requires_grad_()
      cld.optim.sgd({ a, b }, { lr = 1 }):step((a * b):sum())]]))
  end)

  local batches = [[
    local function loader(n, batch)
      local set = cld.data.tensors {
        images = cld.zeros({ n, 8, 8, 3 }, "u8"), labels = cld.arange(0, n, 1), classes = n,
      }
      return cld.data.loader { set, batch_size = batch, views = 1, workers = 0 }
    end
    local net = cld.nn.batch_norm2d(3)
  ]]

  it("are told of a step of two loaders whose batches differ", function()
    assert.matches("loader: the current batch is another loader's", fails(2, batches .. [[
      local b = loader(9, 3):epoch(1)
      for batch in loader(12, 4):epoch(1) do net(batch.views[1]) net(b().views[1]) end]]))
  end)

  it("go on with a batch after a break, and compute alike under whole_batch", function()
    hold(2, batches .. [[
      local kept
      for batch in loader(7, 7):epoch(1) do kept = batch break end
      net(kept.views[1])
      assert(require "cld.core".dist.batch().total == 7)
      do
        local _ <close> = dist.whole_batch()
        net(cld.ones(12, 3, 8, 8))
      end]])
  end)

  it("end when one of them fails, with its error", function()
    assert.matches("^\n?cldlua: rank 1 on [^\n]* failed: [^\n]*of one\n",
      fails(2, "if cld.dist.rank == 1 then error 'of one' end cld.dist.barrier()"))
  end)

  it("end when one of them is killed, and say which", function()
    assert.matches("^\n?cldlua: rank 1 on [^\n]* has died[^\n]*\n$",
      fails(2, "if cld.dist.rank == 1 then os.execute 'kill -9 $PPID' end cld.dist.barrier()"))
  end)
end)
