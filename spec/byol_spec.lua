--- Three whole steps of recipes/cifar10_byol_cld.lua against PyTorch (fixtures/make_byol.py): the recipe itself runs as
-- a child process, with that script's images and weights.
local cld = require "cld"
local recipes = require "spec.support.recipes"
local steps = require "spec.support.steps"

-- As in make_byol.py.
local given = [[
  local formula = require "spec.support.formula"
  local dtype, BATCH, SIZE = "%s", 10, 16

  local from_options, projector = cld.models.from_options, cld.nn.projector
  function cld.models.from_options(...) return formula.fill(from_options(...), dtype) end
  function cld.nn.projector(...) return formula.fill(projector(...), dtype) end

  local function images(step)
    local views = {}
    for v = 1, 2 do
      views[v] = formula.uniform(("view%%d.step%%d"):format(v, step), { BATCH, 3, SIZE, SIZE }, dtype)
        + formula.uniform("step" .. step, { BATCH, 3, 1, 1 }, dtype, 2)
    end
    local all = cld.stack(views)
    return { all[1], all[2] }
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

  function cld.diagnostics.rank() return 1 end
  function cld.eval.knn() return { top1 = 0 } end]]
local cases = {
  sgd = { "--lr", "0.05", "--lr-at", "0", "--tau", "0.9" },
  lars = {
    "--optimizer", "lars", "--lars-eta", "0.02", "--weight-decay", "0.01", "--lr", "0.5", "--lr-at", "0",
    "--warmup-epochs", "1", "--warmup-factor", "0", "--tau", "0.9", "--tau-schedule", "cosine", "--byol-scale", "4",
    "--accumulate", "2",
  },
}

describe("three steps of BYOL + CLD", function()
  local folder, toy
  setup(function()
    folder = recipes.start()
    assert(recipes.run("make_toy_data", "--out", folder .. "/ten", "--train", "10", "--test", "10").code == 0)
    toy = folder .. "/ten"
  end)
  teardown(recipes.remove)

  local fixture = cld.load "spec/fixtures/byol.safetensors"
  local names = { "instance", "cld", "group_accuracy", "alignment", "uniformity", "grad_norm" }

  -- The checkpoint, and each epoch's figures; an epoch is a step.
  local function train(dtype, case)
    local run = case .. dtype
    local result = recipes.run_after(given:format(dtype), "cifar10_byol_cld", "--data", toy, "--runs",
      folder .. "/runs", "--name", run, "--threads", "1", "--device", "cpu", "--width", "4", "--low-dim", "8",
      "--hidden", "12", "--projection-dim", "6", "--clusters", "3", "--batch-size", "10", "--epochs", "3",
      table.unpack(cases[case]))
    assert.equal(0, result.code, result.err)
    return steps.of(run, names)
  end

  -- f64 shows that the mathematics is the same; f32 drifts a little in each step.
  for case in pairs(cases) do
    for dtype, tolerance in pairs { f64 = 1e-9, f32 = 5e-3 } do
      it(("agree with PyTorch: %s, %s"):format(case, dtype), function()
        local state, figures = train(dtype, case)
        steps.compare_figures(figures, fixture[case .. ".losses"], names, tolerance)
        steps.agree(state, fixture, case, tolerance, 150)
      end)
    end
  end
end)
