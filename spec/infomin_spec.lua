--- Three whole steps of recipes/imagenet_infomin_cld.lua against PyTorch (fixtures/make_infomin.py): the recipe itself
-- runs as a child process, with that script's images, weights, queue, shuffles and orders of patches. It ends the same
-- if the batch is cut into parts, and on a device.
local cld = require "cld"
local devices = require "spec.support.devices"
local recipes = require "spec.support.recipes"
local steps = require "spec.support.steps"

-- As in make_infomin.py.
local given = [[
  local formula = require "spec.support.formula"
  local dtype, device, BATCH, SIZE, PATCH, ROWS, DIM = "%s", "%s", 10, 16, 8, 24, 8

  local steps, order_count = 0, 0
  local resnet18 = cld.models.resnet18
  function cld.models.resnet18(settings)
    local net = formula.fill(resnet18(settings), dtype)
    function net.orders(n)
      local orders = {}
      for i = 0, n - 1 do
        orders[i + 1] = {}
        for j = 0, 8 do orders[i + 1][j + 1] = (5 * j + i + order_count) %% 9 end
      end
      order_count = order_count + 1
      return cld.tensor(orders, "i64"):to(device)
    end
    return net
  end

  local new_queue = cld.losses.moco_queue
  function cld.losses.moco_queue(options)
    options.dtype = dtype
    local queue = new_queue(options)
    queue:load_state_dict { memory = formula.uniform("memory", { ROWS, DIM }, dtype):normalize() }
    return queue
  end

  local function images(step, count)
    local views, of_step = {}, formula.uniform("step" .. step, { BATCH, 3, 1, 1 }, dtype, 2)
    for v = 1, count do
      views[v] = formula.uniform(("view%%d.step%%d"):format(v, step), { BATCH, 3, SIZE, SIZE }, dtype) + of_step
    end
    local all = cld.stack(views):to(device)
    local batch = {}
    for v = 1, count do batch[v] = all[v] end
    local noise = formula.uniform("patches.step" .. step, { BATCH, 9, 3 * PATCH * PATCH }, dtype)
    batch[count + 1] = (noise:reshape { BATCH, 9, 3, PATCH * PATCH } + of_step:reshape { BATCH, 1, 3, 1 })
      :reshape { 9 * BATCH, 3, PATCH, PATCH }:to(device)
    return batch
  end

  local new_loader = cld.data.loader
  function cld.data.loader(options)
    local views = #options.views - 1
    local loader = new_loader(options)
    local epoch = loader.epoch
    function loader:epoch(number)
      local batches, _, _, closing = epoch(self, number)
      return function()
        local batch = batches()
        if batch then batch.views = images(number - 1, views) end
        return batch
      end, nil, nil, closing
    end
    return loader
  end

  local shuffle = cld.nn.shuffle
  function cld.nn.shuffle(net, images, options)
    local order = {}
    for i = 0, BATCH - 1 do order[i + 1] = (7 * i + 3 + steps) %% BATCH end
    options.order, steps = cld.tensor(order, "i64"):to(device), steps + 1
    return shuffle(net, images, options)
  end

  function cld.diagnostics.rank() return 1 end
  function cld.diagnostics.two_views() return {} end]]

describe("three steps of InfoMin + CLD", function()
  local folder, photos
  setup(function()
    folder = recipes.start()
    photos = folder .. "/photos"
    assert(recipes.run("make_toy_data", "--out", photos, "--layout", "files", "--train", "10", "--test", "10",
      "--least-side", "16", "--most-side", "20").code == 0)
  end)
  teardown(recipes.remove)

  local fixture = cld.load "spec/fixtures/infomin.safetensors"

  local function names_of(run)
    if run:find "^plain" then return { "instance", "grad_norm" } end
    return { "instance", "cld", "group_accuracy", "grad_norm" }
  end

  local function agree(state, figures, case, tolerance)
    steps.compare_figures(figures, fixture[case .. ".losses"], names_of(case), tolerance)
    steps.agree(state, fixture, case, tolerance, 100)
  end

  -- The checkpoint, and each epoch's figures; an epoch is a step.
  local function train(dtype, device, run, ...)
    local result = recipes.run_after(given:format(dtype, device), "folder_infomin_cld", "--data", photos, "--runs",
      folder .. "/runs", "--name", run, "--threads", "1", "--device", device, "--precision", "fp32", "--no-graph",
      "--size", "16", "--small", "--width", "4", "--dim", "8", "--batch-size", "10", "--block", "4", "--queue", "24",
      "--moco-m", "0.9", "--lr", "0.05", "--epochs", "3", "--clusters", "2", "--knn-every", "0", ...)
    assert.equal(0, result.code, result.err)
    return steps.of(run, names_of(run))
  end

  local cases = {
    once = {}, twice = { "--double-enqueue" }, plain = { "--lambda", "0", "--queries", "1", "--head", "mlp" },
  }
  -- f64 shows that the mathematics is the same; f32 drifts a little in each step.
  for case, options in pairs(cases) do
    for dtype, tolerance in pairs { f64 = 1e-9, f32 = case == "once" and 5e-3 or nil } do
      it(("agree with PyTorch: %s, %s"):format(case, dtype), function()
        local state, figures = train(dtype, "cpu", case .. dtype, table.unpack(options))
        agree(state, figures, case, tolerance)
      end)
    end
  end

  for _, device in ipairs(devices.names) do
    it("agree with PyTorch, enqueued twice, on " .. device, function()
      local state, figures = train("f64", device, "device", "--double-enqueue")
      agree(state, figures, "twice", 1e-9)
    end)
  end

  it("are the same in two and in three parts", function()
    local state, figures = train("f64", "cpu", "whole")
    for parts = 2, 3 do
      local other, others = train("f64", "cpu", "parts" .. parts, "--accumulate", tostring(parts))
      steps.compare_figures(others, figures, names_of "whole", 1e-10)
      steps.same(state, other, 1e-10)
    end
  end)
end)
