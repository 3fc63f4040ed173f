--- Three whole steps of recipes/imagenet_mocov2_cld.lua against PyTorch (fixtures/make_mocov2.py): the recipe itself
-- runs as a child process, with that script's images, weights, queue and shuffles. It ends the same if the batch is cut
-- into parts.
local cld = require "cld"
local recipes = require "spec.support.recipes"
local steps = require "spec.support.steps"

-- As in make_mocov2.py.
local given = [[
  local formula = require "spec.support.formula"
  local dtype, BATCH, SIZE, ROWS, DIM = "%s", 10, 16, 24, 8

  local resnet18 = cld.models.resnet18
  function cld.models.resnet18(settings) return formula.fill(resnet18(settings), dtype) end

  local new_queue = cld.losses.moco_queue
  function cld.losses.moco_queue(options)
    options.dtype = dtype
    local queue = new_queue(options)
    queue:load_state_dict { memory = formula.uniform("memory", { ROWS, DIM }, dtype):normalize() }
    return queue
  end

  local function images(step)
    local views = {}
    for v = 1, 3 do
      views[v] = formula.uniform(("view%%d.step%%d"):format(v, step), { BATCH, 3, SIZE, SIZE }, dtype)
        + formula.uniform("step" .. step, { BATCH, 3, 1, 1 }, dtype, 2)
    end
    local all = cld.stack(views)
    return { all[1], all[2], all[3] }
  end

  local new_loader = cld.data.loader
  function cld.data.loader(options)
    local loader = new_loader(options)
    local epoch = loader.epoch
    function loader:epoch(number)
      local batches, _, _, closing = epoch(self, number)
      return function()
        local batch = batches()
        if batch then batch.views = images(number - 1) end
        return batch
      end, nil, nil, closing
    end
    return loader
  end

  local steps, shuffle = 0, cld.nn.shuffle
  function cld.nn.shuffle(net, images, options)
    local order = {}
    for i = 0, BATCH - 1 do order[i + 1] = (7 * i + 3 + steps) %% BATCH end
    options.order, steps = cld.tensor(order, "i64"), steps + 1
    return shuffle(net, images, options)
  end

  function cld.diagnostics.rank() return 1 end]]

describe("three steps of MoCo v2 + CLD", function()
  local folder, photos
  setup(function()
    folder = recipes.start()
    photos = folder .. "/photos"
    assert(recipes.run("make_toy_data", "--out", photos, "--layout", "files", "--train", "10", "--test", "10",
      "--least-side", "16", "--most-side", "20").code == 0)
  end)
  teardown(recipes.remove)

  local fixture = cld.load "spec/fixtures/mocov2.safetensors"
  local names = { "instance", "cld", "group_accuracy", "alignment", "uniformity", "grad_norm" }

  -- The checkpoint, and each epoch's figures; an epoch is a step.
  local function train(dtype, clusters, run, ...)
    local result = recipes.run_after(given:format(dtype), "folder_mocov2_cld", "--data", photos, "--runs",
      folder .. "/runs", "--name", run, "--threads", "1", "--device", "cpu", "--size", "16", "--small", "--width", "4",
      "--dim", "8", "--batch-size", "10", "--block", "4", "--queue", "24", "--moco-m", "0.9", "--lr", "0.05",
      "--epochs", "3", "--clusters", clusters, "--knn-every", "0", ...)
    assert.equal(0, result.code, result.err)
    return steps.of(run, names)
  end

  -- f64 shows that the mathematics is the same; f32 drifts a little in each step.
  local tolerances = { f64 = 1e-9, f32 = 5e-3 }
  for case, clusters in pairs { groups = "2", rows = "6" } do
    for dtype, tolerance in pairs(tolerances) do
      it(("agree with PyTorch: %s, %s"):format(case, dtype), function()
        local state, figures = train(dtype, clusters, case .. dtype)
        steps.compare_figures(figures, fixture[case .. ".losses"], names, tolerance)
        steps.agree(state, fixture, case, tolerance, 100)
      end)
    end
  end

  for parts = 2, 3 do
    it(("are the same in %d parts"):format(parts), function()
      local state, figures = train("f64", "2", "whole" .. parts)
      local other, others = train("f64", "2", "parts" .. parts, "--accumulate", tostring(parts))
      steps.compare_figures(others, figures, names, 1e-10)
      steps.same(state, other, 1e-10)
    end)
  end
end)
