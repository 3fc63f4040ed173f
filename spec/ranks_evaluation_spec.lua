--- Everything except pre-training on two ranks of a real mpirun: the recipes that evaluate a checkpoint, those that
-- write data, unreadable images, and what all ranks hold.
local cld = require "cld"
local devices = require "spec.support.devices"
local files = require "spec.support.data_files"
local process = require "spec.support.process"
local jobs = require "spec.support.ranks"

local launchers = { "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMI_SIZE", "PMIX_RANK",
  "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "LUA_INIT", "LUA_INIT_5_4" }

local function reason()
  if not cld.io.exists(process.build .. "/libcld_mpi.so") then return "there is no libcld_mpi.so (make, with mpicc)" end
  if not os.execute "command -v mpirun >/dev/null" then return "mpirun is not installed" end
end

describe("several ranks,", function()
  local folder, weights, photos

  local function run(ranks, ...)
    return process.run { "--ranks", tostring(ranks), unset = launchers,
      env = jobs.environment { OMP_NUM_THREADS = "1" }, ... }
  end

  -- The same of a job that fails, after which mpirun waits for as long as it is told.
  local function fails(ranks, ...)
    return process.run { "-n", tostring(ranks), "--bind-to", "none", "--map-by", ":OVERSUBSCRIBE", "--mca",
      "odls_base_sigkill_timeout", "1", "--mca", "orte_execute_quiet", "1", process.cldlua, program = "mpirun",
      unset = launchers,
      env = jobs.environment { OMPI_ALLOW_RUN_AS_ROOT = "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM = "1" }, ... }
  end

  local function ok(...)
    local result = run(...)
    if result.code ~= 0 then error(result.out .. result.err, 2) end
    return result.out
  end

  local function recipe(ranks, name, ...) return ok(ranks, "recipes/" .. name .. ".lua", ...) end

  if reason() then
    pending(reason() .. ": no ranks were started")
    return
  end

  setup(function()
    folder = process.temporary_folder()
    process.run { "recipes/make_toy_data.lua", "--out", folder .. "/toy", "--train", "40", "--test", "17" }
    weights = folder .. "/weights.safetensors"
    cld.manual_seed(1)
    cld.save(weights, cld.models.resnet18({ small = true, width = 4, head = false }):state_dict())
    photos = folder .. "/photos"
    for i = 0, 11 do
      files.write(("%s/%s/%02d.ppm"):format(photos, i % 2 == 0 and "a" or "b", i), files.ppm(8, 8, { 20 * i, 9, 200 }))
    end
    -- In the set's order class after class: of batches of 12 rank 0 has a, and rank 1 has b.
    files.write(photos .. "/b/05.ppm", "no image")
  end)
  teardown(function() process.remove(folder) end)

  local judged = { "--threads", "1" }
  local function of_toy(...)
    local list = { "--checkpoint", weights, "--data", folder .. "/toy", "--dataset", "cifar10", "--size", "32",
      table.unpack(judged) }
    return table.unpack(table.move({ ... }, 1, select("#", ...), #list + 1, list))
  end

  -- What the run has logged: {event, values} of epochs and scores.
  local function logged(name)
    local list = {}
    for line in io.lines(("%s/runs/%s/log.jsonl"):format(folder, name)) do
      local event = cld.json.decode(line)
      if event.event == "epoch" then list[#list + 1] = event.means end
      if event.event == "score" then list[#list + 1] = event.values end
    end
    return list
  end

  local function assert_same_log(one, two, tolerance)
    local a, b = logged(one), logged(two)
    assert.is_true(#a > 1 and #a == #b)
    for i, values in ipairs(a) do
      for name, value in pairs(values) do
        local difference = math.abs(value - b[i][name]) / (1 + math.abs(value))
        if not (difference <= tolerance) then error(("%s: %g and %g"):format(name, value, b[i][name])) end
      end
    end
  end

  it("score by kNN what one process does", function()
    local one, two = recipe(1, "knn", of_toy("--baselines")), recipe(2, "knn", of_toy("--baselines"))
    assert.matches("\nraw pixels +top%-1 +[%d.]+ %%", one)
    assert.equal(one, two)
  end)

  -- Ties within the parts and between them; k above a part's rows and above all; classes that a part has none of; ranks
  -- without a row or a query; queries that are taken some at a time.
  local function score_parts(device)
    return process.write(folder .. "/nearest.lua", ([[
      local cld, core = require "cld", require "cld.core"
      local extract, neighbours = require "cld.eval.extract", require "cld.eval.neighbours"
      local dist, checksum = cld.dist, core.dist.checksum
      cld.set_num_threads(1)
      local function part(x)
        local begin, count = extract.part(#x)
        return x:narrow(1, begin + 1, count)
      end
      for _, case in ipairs { { 301, 4, 23, 7, "f32", 20 }, { 300, 16, 9, 6, "f32", 150, true },
        { 50, 3, 8, 5, "f64", 200 }, { 2, 3, 1, 2, "f32", 1 }, { 7, 2, 2, 3, "f32", 3 } } do
        local size, dim, queries, classes, dtype, k, has_no_ties = table.unpack(case)
        cld.manual_seed(size)
        local memory, asked = cld.randn(size, dim):to(dtype), cld.randn(queries, dim):to(dtype)
        if not has_no_ties then memory, asked = memory:mul(2):round(), asked:mul(2):round() end
        local labels = cld.arange(0, size, 1):to "i64":floor_divide(size // classes + 1)
        local truth = cld.arange(0, queries, 1):to "i64":remainder(classes):to "DEVICE"
        memory, labels, asked = memory:to "DEVICE", labels:to "DEVICE", asked:to "DEVICE"
        local whole
        for _, bytes in ipairs { 128 << 20, 1 } do
          neighbours.list_bytes = bytes
          local scores = dist.all_gather(neighbours.scores("scores", part(memory), part(labels), part(asked),
            { k = k, classes = classes }, dist.world > 1))
          local seen = cld.eval.score(memory, labels, asked, truth, { k = k })
          whole = whole or checksum(scores)
          assert(whole == checksum(scores))
          print(whole, checksum(scores:argmax(2)), seen.top1, seen.top5)
        end
      end]]):gsub("DEVICE", device))
  end

  it("have the scores of one process to the last bit, each by a part of the memory", function()
    local script = score_parts "cpu"
    local one = ok(1, script)
    assert.matches("\t0%.21739130434783\t0%.65", one)
    for ranks = 2, 3 do assert.equal(one, ok(ranks, script)) end
  end)

  it("have them so on the emulated device", function()
    if not os.getenv "CLD_CUDA_PLUGIN" then return pending "there is no emulated device here" end
    local script = score_parts "cuda"
    assert.equal(ok(1, script), ok(3, script))
  end)

  it("hold a part of the memory each for kNN of a network", function()
    local script = process.write(folder .. "/parts.lua", [[
      local cld, core = require "cld", require "cld.core"
      local rows, nearest = {}, core.losses.nearest
      function core.losses.nearest(memory, ...)
        rows[#rows + 1] = #memory
        return nearest(memory, ...)
      end
      local set = cld.data.tensors { images = cld.arange(11 * 12):reshape { 11, 2, 2, 3 }:to "u8",
        labels = cld.arange(11):to "i64":remainder(5) }
      local seen = cld.eval.knn { net = function(x) return x:flatten(2, -1) end, memory = set, queries = set, k = 4,
        batch_size = 4 }
      local held = {}
      for _, one in ipairs(core.dist.gather_strings(table.concat(rows, " "))) do held[#held + 1] = one end
      print(seen.top1, seen.top5, table.concat(held, ", "))]])
    local score = ok(1, script):match "^(.*)\t11\n$"
    assert.equal(score .. "\t3, 4, 4\n", ok(3, script))
  end)

  it("say alike what is wrong with the labels that one of them has", function()
    local result = fails(2, process.write(folder .. "/labels.lua", [[
      local cld = require "cld"
      local rows = cld.ones(4, 2)
      cld.eval.score(rows, cld.tensor({ 0, 1, 2, 9 }, "i64"), rows, cld.zeros({ 4 }, "i64"), { classes = 3 })]]))
    assert.equal(1, result.code)
    assert.matches("^cldlua: [^\n]*labels.lua:3: eval.score: label 9 is none of 3 classes; expected 0 to 2\n",
      result.err)
  end)

  it("say alike what is wrong with features of which only some of them have rows", function()
    local result = fails(3, process.write(folder .. "/features.lua", [[
      local cld = require "cld"
      local labels = cld.zeros({ 2 }, "i64")
      cld.eval.score(cld.ones(2, 4), labels, cld.ones(2, 3), labels)]]))
    assert.equal(1, result.code)
    assert.matches("^cldlua: [^\n]*features.lua:3: eval.score: memory is f32%[2, 4%], queries f32%[2, 3%]; expected the"
      .. " same dtype and dimension\n", result.err)
  end)

  it("say what MPI says where they exchange other numbers of rows", function()
    local result = fails(2, process.write(folder .. "/rows.lua", [[
      local core = require "cld.core"
      local rank = core.dist.ranks().rank
      local rows = 4 + 2 * rank
      core.dist.set_batch { split = true, total = 2 * rows, block = 1, begin = rank * rows, rows = rows }
      core.dist.join((core.dist.gather_group(require "cld".ones(rows, 2), rows, 20)))]]))
    assert.equal(1, result.code)
    assert.matches("do their tensors have different shapes%?%): MPI_ERR_TRUNCATE", result.err)
  end)

  it("evaluate linearly as one process does", function()
    for ranks = 1, 2 do
      recipe(ranks, "linear", of_toy("--epochs", "2", "--batch-size", "15", "--runs", folder .. "/runs", "--name",
        "linear-" .. ranks))
    end
    assert_same_log("linear-1", "linear-2", 1e-5)
  end)

  it("fine-tune as one process does", function()
    for ranks = 1, 2 do
      recipe(ranks, "finetune", of_toy("--epochs", "1", "--batch-size", "20", "--lr", "0.01,0.001", "--head-lr", "1",
        "--runs", folder .. "/runs", "--name", "finetune-" .. ranks))
    end
    assert_same_log("finetune-1", "finetune-2", 1e-3)
  end)

  it("write features once", function()
    local only_0 = "local dist, core = require 'cld.dist', require 'cld.core' if dist.rank > 0 then"
      .. " function core.io.writer() error('rank 1 writes', 0) end end"
    local function features(ranks, name)
      local out = ok(ranks, "-e", only_0, "recipes/features.lua",
        of_toy("--batch-size", "5", "--split", "test", "--out", folder .. name))
      assert.matches("npy: f32 %(17, 32%)", out)
      return cld.io.load_npy(folder .. name .. ".npy")
    end
    local difference = (features(1, "/one") - features(2, "/two")):abs():amax():item()
    assert.is_true(difference <= 1e-5)
  end)

  it("pack a folder as one process does, without the ranks that are in its way", function()
    recipe(1, "pack", "--data", photos .. "/a", "--out", folder .. "/one")
    recipe(2, "pack", "--data", photos .. "/a", "--out", folder .. "/two")
    assert.equal(process.read(folder .. "/one.tar"), process.read(folder .. "/two.tar"))
  end)

  -- Features of the photos, twice, each batch of 12 images. `start`: run, or fails.
  local function read_photos(start, settings)
    return start(2, process.write(folder .. "/read.lua", ([[
      local cld = require "cld"
      local set = cld.data.folder { root = "%s" }
      local function net(images) return images:flatten(2, -1) end
      local view = cld.augment.none { size = 8 }
      for _ = 1, 2 do cld.eval.features(net, set, { augment = view, batch_size = 12, %s }) end
      print(#cld.data.loader({ set, augment = view, %s }):unreadable())]]):format(photos, settings, settings)))
  end

  it("name an image that one of them cannot read once, and count it for all", function()
    local result = read_photos(run, "max_bad = 0.1")
    assert.same({ 0, "" }, { result.code, result.err })
    assert.matches("^cannot read an image, another takes its place %(1 of 12 so far%): [^\n]*/b/05.ppm: [^\n]*\n1\n$",
      result.out)
  end)

  it("end where all together cannot read too many", function()
    files.write(photos .. "/a/02.ppm", "no image") -- rank 0's: each rank has one, which is allowed
    local result = read_photos(fails, "max_bad = 0.1")
    files.write(photos .. "/a/02.ppm", files.ppm(8, 8, { 1, 2, 3 }))
    assert.equal(1, result.code)
    assert.matches("^cldlua: 2 of 12 images cannot be read, more than the 1 that are allowed %(max%-bad%): [^\n]*\n$",
      result.err)
    for _, name in ipairs { "a/02.ppm", "b/05.ppm" } do assert.truthy(result.out:find(name, 1, true)) end
  end)

  it("end with the cause where one may not go on", function()
    local result = read_photos(fails, "strict = true")
    assert.equal(1, result.code)
    assert.matches("^\n?cldlua: rank 1 on [^\n]* failed: [^\n]*/b/05.ppm: [^\n]*\n$", result.err)
    assert.equal("", result.out)
  end)

  -- A run of a linear layer by an optimizer and a loss over rows of its own; `change` is run at the second epoch's end.
  local function train(start, ranks, change)
    return start(ranks, process.write(folder .. "/train.lua", ([[
      local cld = require "cld"
      local images = cld.arange(10 * 12):reshape { 10, 2, 2, 3 }:to "u8"
      local net, set = cld.nn.linear(12, 3), cld.data.tensors { images = images }
      net.weight:detach():copy_(cld.arange(36):reshape { 3, 12 } / 36)
      local run = cld.run { epochs = 3, seed = 1, threads = 1, runs = "%s/runs", name = "own-%d" }
      local loader = cld.data.loader { set, batch_size = 4, views = 1 }
      local momentum = cld.zeros_like(net.weight)
      for epoch in run:epochs { net = net, own = { momentum = momentum }, loader = loader } do
        for batch in loader:epoch(epoch) do
          local rows = cld.dist.gather_rows(net(batch.views[1]:flatten(2, -1)))
          local loss = rows:matmul(rows:t()):tanh():mean()
          for _, p in ipairs(net:parameters()) do p.grad = nil end
          loss:backward()
          cld.dist.reduce_gradients(net)
          local _ <close> = cld.no_grad()
          net.weight:sub_(momentum:mul_(0.9):add_(net.weight.grad))
          run:track { loss = loss }
        end
        if epoch == 2 then %s end
      end
      print(("%%.5f"):format(net.weight:square():sum():item()))]]):format(folder, ranks, change)))
  end

  it("train by a loss and an optimizer in Lua as one process does", function()
    local one, two = train(run, 1, ""), train(run, 2, "")
    assert.same({ 0, 0 }, { one.code, two.code }, two.err)
    assert.equal(one.out:match "[^\n]+\n$", two.out:match "[^\n]+\n$")
    assert_same_log("own-1", "own-2", 1e-5)
  end)

  it("end at an epoch's end where they do not hold the same", function()
    local result = train(fails, 3, "if cld.dist.rank == 1 then momentum[1][2]:add_(1e-7) end")
    assert.equal(1, result.code)
    assert.matches("^cldlua: 'own.momentum' of rank 1 differs from rank 0's: [^\n]*\n$", result.err)
    assert.matches("\nepoch 2/3 [^\n]*\n$", result.out)
  end)

  it("see of a network what one process does, within a batch too", function()
    local script = process.write(folder .. "/seen.lua", ([[
      local cld = require "cld"
      cld.set_num_threads(1)
      local net = cld.models.resnet18 { small = true, width = 4, branches = { "instance" } }
      local set, views = cld.data.cifar10 { root = "%s/toy" }, cld.augment.base { size = 32 }
      for batch in cld.data.loader { set, batch_size = 40, views = 1 }:epoch(1) do
        local seen = cld.diagnostics.two_views { net = net, set = set, views = views, groups = 4 }
        seen.rank = cld.diagnostics.rank { net = net, set = set }
        for _, name in ipairs { "alignment", "uniformity", "nmi", "rank" } do print(("%%.4g"):format(seen[name])) end
        local rows = cld.dist.gather_rows(batch.index)
        print(#rows, rows:sum():item()) -- the batch is at hand again
      end]]):format(folder))
    local one = ok(1, script)
    assert.matches("\n40\t780\n$", one)
    assert.equal(one, ok(2, script))
  end)

  it("fetch a data set once, and wait for it", function()
    local out = ok(2, "-e", [[
      local cld, core = require "cld", require "cld.core"
      if cld.dist.rank == 1 then
        for name in pairs(core.download) do core.download[name] = function() error("rank 1 fetches", 0) end end
      end
      local set = { name = "cifar10", root = "]] .. folder .. [[/none", mirror = "http://127.0.0.1:9/", retries = 0 }
      local _, problem = pcall(cld.data.download, set)
      for _, text in ipairs(core.dist.gather_strings(tostring(problem))) do print(text:match "cannot fetch '[^']*'") end
      print(core.dist.set_timeout(600))]])
    local line = "cannot fetch 'http://127.0.0.1:9/cifar-10-python.tar.gz'\n"
    assert.equal(line .. line .. "600.0\n", out:match "\n(.*)$")
  end)

  it("hear of a signal that one of them got", function()
    local out = ok(2, "-e", [[
      local cld = require "cld"
      cld.catch_signals()
      if cld.dist.rank == 1 then io.popen("kill -USR1 " .. cld.host().pid):close() end
      local name, number
      repeat name, number = cld.dist.interrupted() until name
      print(name, number)]])
    assert.equal("USR1\t10\n", out)
  end)

  it("are told apart where their data differ", function()
    local result = fails(2, process.write(folder .. "/differ.lua", ([[
      local cld = require "cld"
      local set = cld.data.folder { root = "%s/" .. (cld.dist.rank == 0 and "a" or "b"), layout = "plain" }
      cld.eval.features(function(x) return x:flatten(2, -1) end, set, { augment = cld.augment.none { size = 8 } })
    ]]):format(photos)))
    assert.equal(1, result.code)
    assert.matches("^cldlua: the data's files differs between the ranks: %-?%d+ on rank 0 ", result.err)
  end)
end)

describe("a tensor's checksum", function()
  local checksum = require("cld.core").dist.checksum

  it("is that of its elements' bits, in order, however they lie and wherever", function()
    local x = cld.arange(1, 36):reshape { 5, 7 }
    local sum = checksum(x)
    assert.equal(sum, checksum(x:clone()))
    assert.equal(sum, checksum(x:t():contiguous():t()))
    assert.are_not.equal(sum, checksum(x:flip(1)))
    for _, device in ipairs(devices.names) do assert.equal(sum, checksum(x:to(device))) end
  end)

  it("is another for a change of any bit, in a last element that is no whole word too", function()
    for _, dtype in ipairs { "f32", "f64", "bf16", "i64", "u8" } do
      for _, count in ipairs { 1, 3, 8, 9 } do
        local x = cld.zeros({ count }, { dtype = dtype })
        local sum = checksum(x)
        for i = 1, count do
          local y = x:clone()
          y[i]:fill_(1)
          assert.are_not.equal(sum, checksum(y))
        end
      end
    end
    assert.are_not.equal(checksum(cld.tensor { 0.0 }), checksum(cld.tensor { -0.0 }))
    assert.are_not.equal(checksum(cld.zeros { 2 }), checksum(cld.zeros { 3 }))
  end)
end)

describe("cld.dist of one process", function()
  local script = [[
    local cld = require "cld"
    local dist = cld.dist
    local x, y = cld.tensor({ 1, 2, 3 }):requires_grad_(), cld.tensor { 4, 5 }
    assert(dist.rank == 0 and dist.local_rank == 0 and dist.world == 1)
    for _, op in ipairs { "sum", "mean", "max", "min" } do assert(rawequal(dist.all_reduce(y, { op = op }), y)) end
    assert(rawequal(dist.broadcast(y, { from = 0 }), y) and y[1]:item() == 4 and y[2]:item() == 5)
    for _, gather in ipairs { dist.all_gather, dist.gather_rows } do
      x.grad = nil
      gather(x):square():sum():backward()
      assert(x.grad[3]:item() == 6 and #gather(x) == 3)
    end
    dist.reduce_gradients { x }
    dist.barrier()
    dist.first_only()
    assert(x.grad[3]:item() == 6 and dist.interrupted() == nil)
    print "identities"]]

  it("is identities in cldlua", function()
    assert.equal("identities\n", process.run { "-e", script, unset = launchers }.out)
  end)

  it("and in a stock Lua", function()
    local result = process.run { "-e", script, program = "lua5.4", unset = launchers,
      env = { LUA_PATH = "lua/?.lua;lua/?/init.lua;;", LUA_CPATH = process.build .. "/?.so;;",
        LD_PRELOAD = process.sanitizer() } }
    assert.equal("identities\n", result.out, result.err)
  end)

  it("is identities in a session", function()
    local result = process.terminal { unset = launchers, script = {
      { "wait", "> " }, { "send", "cld.dist.world, cld.dist.all_gather(cld.ones { 2 }):sum():item()\n" },
      { "wait", "1\t2.0" }, { "wait", "> " }, { "send", "\4" } } }
    assert.same({ 0, "" }, { result.code, result.err })
  end)
end)
