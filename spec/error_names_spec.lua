--- If a function of tensors is called wrongly, its error names that function, and not an op inside it.
local cld = require "cld"
local core = require "cld.core"

local methods = getmetatable(cld.zeros(1)).methods

-- Arguments that some function or other does not take; each is tried on each.
local function bad_arguments()
  local none, one, vector, matrix = cld.zeros(0, 2), cld.tensor(1.5), cld.zeros(3), cld.zeros(2, 3)
  local integers, wide, closed = cld.zeros({ 2, 3 }, "i64"), cld.zeros(1, 1, 1, 1, 1, 1, 1, 1), cld.zeros(1)
  closed:close()
  local firsts = { none, one, vector, matrix, integers, wide, closed, cld.zeros(0), "x", {} }
  local rests = {
    {}, { 9 }, { -9 }, { 0 }, { "x" }, { {} }, { { 9 } }, { true }, { 1, 9 }, { 2, 2, 9 }, { 1, 1, 1, 1, 1 },
    { matrix }, { cld.zeros(4) }, { integers }, { 1, integers }, { 1, vector }, { matrix, matrix },
    { 1, integers, matrix },
    { 1, cld.zeros({ 1 }, "i64"), cld.zeros(7) }, { -1, 2 }, { { 1, 1 } }, { { 5, 5 } }, { { -5 } }, { 0 / 0 },
    { 99, 1 }, { { dtype = "x" } }, { { colour = 1 } }, { integers, integers }, { 1 << 40, 1 << 40 }, { { 2 }, 1 },
    { 1.5 },
  }
  return firsts, rests
end

-- "max: ...", "bad argument #2 to 'max' (...)", "calling 'max' on bad self", "cld.max"
local function names(message, name)
  message = message:gsub("^[^\n]-:%d+: ", "")
  return message:sub(1, #name + 2) == name .. ": " or message:find(("'%s'"):format(name), 1, true)
    or message:find(("calling '%s'"):format(name), 1, true)
end

-- A call as a person writes it, since Lua takes the function's name from there.
local function written(form, name, functions)
  return load(form:format(name), "=call", "t", { functions = functions })()
end

-- What belongs to no tensor, or answers with no error at all.
local skipped = { close = true, backward = true, manual_seed = true, set_rng_state = true, philox = true }

local function check_all(functions, form)
  local firsts, rests = bad_arguments()
  local bad = {}
  for name in pairs(functions) do
    if not skipped[name] then
      local f = written(form, name, functions)
      for _, first in ipairs(firsts) do
        for _, rest in ipairs(rests) do
          local ok, message = pcall(f, first, table.unpack(rest))
          message = tostring(message)
          if not ok and not names(message, name) and not message:find "out of memory" then bad[name] = message end
        end
      end
    end
  end
  assert.same({}, bad)
end

describe("errors name the function:", function()
  local method = "return function(t, ...) return t:%s(...) end"
  local field = "return function(...) return functions.%s(...) end"
  it("methods of tensors", function()
    local tensors = {}
    for name, f in pairs(methods) do tensors[name] = f end
    check_all(tensors, method)
  end)
  it("functions of tensors", function() check_all(core.tensor, field) end)
  it("cld.nn.functional", function() check_all(core.nn, field) end)

  -- What was called, and the op that it is made of.
  local composed = {
    { "max", function() cld.zeros(0):max() end }, { "min", function() cld.zeros(0):min() end },
    { "std", function() cld.zeros({ 2 }, "i64"):std() end },
    { "logsumexp", function() cld.zeros({ 2 }, "i64"):logsumexp() end },
    { "split", function() cld.zeros(3):split { 2, 9 } end }, { "tril", function() cld.zeros(3):tril() end },
    { "mm", function() cld.mm(cld.zeros(2, 3), cld.zeros(2, 3)) end },
    { "add_", function() cld.zeros(2):add_(cld.zeros(3)) end },
    { "div_", function() cld.zeros(2):div_(cld.zeros(3)) end },
    { "masked_fill", function() cld.zeros(2):masked_fill(cld.zeros({ 3 }, "u8"), 1) end },
    { "masked_select", function() cld.zeros(2):masked_select(cld.zeros(2)) end },
    { "cld", function() cld.losses.cld(cld.ones(2, 3), cld.ones(2, 3), { clusters = 0 }) end },
    { "cld", function() cld.losses.cld(cld.ones(2, 3), cld.ones(2, 3), { iterations = 0 }) end },
    { "normalized_cuts", function() cld.losses.normalized_cuts(cld.ones(2, 3), { clusters = 0 }) end },
    { "batch_norm1d", function() cld.nn.batch_norm1d(4)(cld.zeros(2, 3)) end },
    { "batch_norm1d", function() cld.nn.batch_norm1d(3)(cld.zeros(1, 3)) end },
    { "sgd:step", function() cld.optim.sgd({ cld.zeros(1):requires_grad_() }, { lr = 1 }):step "x" end },
    { "loader:rest", function()
      cld.data.loader { cld.data.tensors { images = cld.zeros({ 4, 2, 2, 3 }, "u8") }, batch_size = 2 }:rest "x"
    end },
    { "argmax", function() cld.zeros(0):argmax() end }, { "stack", function() cld.stack({ cld.zeros(2) }, 9) end },
  }
  for _, case in ipairs(composed) do
    it(case[1], function()
      local ok, message = pcall(case[2])
      assert.is_false(ok)
      assert.is_truthy(names(message, case[1]))
    end)
  end
end)
