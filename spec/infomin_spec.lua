--- Three whole steps of recipes/imagenet_infomin_cld.lua against PyTorch (fixtures/make_infomin.py): the recipe itself
-- as a child process, given that script's images, weights, queue, shuffles and orders of patches. In parts of the batch
-- it ends the same, and so it does on a device.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local recipes = require "spec.support.recipes"

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

  local shuffled = cld.nn.shuffled
  function cld.nn.shuffled(net, images, options)
    local order = {}
    for i = 0, BATCH - 1 do order[i + 1] = (7 * i + 3 + steps) %% BATCH end
    options.order, steps = cld.tensor(order, "i64"):to(device), steps + 1
    return shuffled(net, images, options)
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

  -- The checkpoint, and each epoch's figures; an epoch is a step.
  local function train(dtype, device, run, ...)
    local result = recipes.run_after(given:format(dtype, device), "folder_infomin_cld", "--data", photos, "--runs",
      folder .. "/runs", "--name", run, "--threads", "1", "--device", device, "--precision", "fp32", "--no-graph",
      "--size", "16", "--small", "--width", "4", "--dim", "8", "--batch-size", "10", "--block", "4", "--queue", "24",
      "--moco-m", "0.9", "--lr", "0.05", "--epochs", "3", "--clusters", "2", "--knn-every", "0", ...)
    assert.equal(0, result.code, result.err)
    local figures = {}
    for line in io.lines(("%s/runs/%s/log.jsonl"):format(folder, run)) do
      local event = cld.json.decode(line)
      if event.event == "epoch" then
        local means = event.means
        figures[#figures + 1] = means.cld and { means.instance, means.cld, means.group_accuracy, means.grad_norm }
          or { means.instance, means.grad_norm }
      end
    end
    return cld.load(recipes.checkpoint(run)), cld.tensor(figures, "f64")
  end

  local fixture = cld.load "spec/fixtures/infomin.safetensors"

  local function compare(actual, expected, what, tolerance)
    expected = expected:double()
    local ok, message = pcall(check.close, actual:double(), expected,
      { atol = tolerance * math.max(expected:abs():amax():item(), 1e-3), rtol = 0 })
    assert(ok, what .. ": " .. tostring(message))
  end

  -- The group accuracy and the norm of the gradients are f32 in any.
  local function compare_figures(actual, expected, tolerance)
    local columns = expected.shape[2]
    for column = 1, columns do
      local is_f32 = column > 2 or column == columns
      compare(actual[{ {}, column }], expected[{ {}, column }], "figure " .. column,
        math.max(tolerance, is_f32 and 1e-6 or 0))
    end
  end

  local function agree(state, figures, case, tolerance)
    compare_figures(figures, fixture[case .. ".losses"], tolerance)
    local compared = 0
    for entry, expected in pairs(fixture) do
      local name = entry:match("^" .. case .. "%.(.*)$")
      local norm = name and name:match "^norm%.(.*)$"
      if norm then
        compare(state[norm]:double():square():sum():sqrt(), expected, name, tolerance)
      elseif name == "memory" or name == "pointer" then
        compare(state["queue." .. name], expected, name, tolerance)
      elseif name and name ~= "losses" then
        compare(state[name], expected, name, tolerance)
      end
      compared = compared + (name and 1 or 0)
    end
    assert.is_true(compared > 100)
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
      compare_figures(others, figures, 1e-10)
      for name, tensor in pairs(state) do
        if tensor:numel() > 0 and not name:find "^meters" then compare(other[name], tensor, name, 1e-10) end
      end
    end
  end)
end)
