--- Whole steps of a recipe that ran as a child process, compared with a fixture: its checkpoint and logged figures.
local cld = require "cld"
local check = require "spec.support.check"
local recipes = require "spec.support.recipes"

local steps = {}

-- The recipes compute these in f32 whatever dtype the network has.
local SINGLE = { group_accuracy = true, grad_norm = true }

--- The checkpoint of a run, and the means with these names for each epoch: (epochs, names), f64.
function steps.of(run, names)
  local figures = {}
  for i, event in ipairs(recipes.events(run, "epoch")) do
    figures[i] = {}
    for column, name in ipairs(names) do figures[i][column] = event.means[name] end
  end
  return cld.load(recipes.checkpoint(run)), cld.tensor(figures, "f64")
end

--- Raises unless two tensors agree up to `tolerance` times the largest expected value.
function steps.compare(actual, expected, what, tolerance)
  expected = expected:double()
  local ok, message = pcall(check.close, actual:double(), expected,
    { atol = tolerance * math.max(expected:abs():amax():item(), 1e-3), rtol = 0 })
  assert(ok, what .. ": " .. tostring(message))
end

--- The same for figures with these names.
function steps.compare_figures(actual, expected, names, tolerance)
  for column, name in ipairs(names) do
    steps.compare(actual[{ {}, column }], expected[{ {}, column }], name,
      math.max(tolerance, SINGLE[name] and 1e-6 or 0))
  end
end

--- Compares a checkpoint's tensors with those of a fixture's case, CASE.NAME, or CASE.norm.NAME for a tensor's norm.
-- There must be at least `least` of them.
function steps.agree(state, fixture, case, tolerance, least)
  local compared = 0
  for entry, expected in pairs(fixture) do
    local name = entry:match("^" .. case .. "%.(.*)$")
    local norm = name and name:match "^norm%.(.*)$"
    local actual = name and (state[norm or name] or state["queue." .. name])
    if actual then
      if norm then actual = actual:double():square():sum():sqrt() end
      steps.compare(actual, expected, name, tolerance)
      compared = compared + 1
    end
  end
  assert(compared >= least, ("%d tensors of the case %s were compared, of %d and more"):format(compared, case, least))
end

--- Checks that two checkpoints agree in all tensors except the meters.
function steps.same(state, other, tolerance)
  for name, tensor in pairs(state) do
    if tensor:numel() > 0 and not name:find "^meters" then steps.compare(other[name], tensor, name, tolerance) end
  end
end

return steps
