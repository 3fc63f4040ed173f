--- gather, scatter_add, index_select, index_add, index_copy: gradients, strides, dtypes, repeated and bad indices.
local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"
local values = formula.waves

local function index(list) return cld.tensor(list, "i64") end

it("gradients along each dimension, with repeated indices", function()
  local whole = index { { 1, 0, 1 }, { 2, 2, 0 } }
  check.gradcheck(function(x) return x:gather(1, whole) end, { values(3, 4) })
  check.gradcheck(function(x) return x:gather(2, whole) end, { values(2, 3) })
  check.gradcheck(function(x) return x:t():gather(2, whole) end, { values(3, 2) })
  check.gradcheck(function(x) return x:gather(1, index { { { 0 } }, { { 0 } }, { { 1 } } }) end, { values(2, 3, 2) })
  check.gradcheck(function(x, s) return x:scatter_add(2, whole, s) end, { values(2, 4), values(2, 3) })
  check.gradcheck(function(x, s) return x:scatter_add(1, whole, s) end, { values(3, 3), values(4, 5) })
  local some = index { 2, 0, 2 }
  for dim = 1, 3 do
    check.gradcheck(function(x) return x:index_select(dim, some) end, { values(3, 3, 3) })
    check.gradcheck(function(x, s) return x:index_add(dim, some, s) end, { values(3, 3, 3), values(3, 3, 3) })
    check.gradcheck(function(x, s) return x:index_copy(dim, index { 2, 0 }, s) end,
      { values(3, 3, 3), values(3, 3, 3):narrow(dim, 1, 2) })
  end
  check.gradcheck(function(x) return x:permute(3, 1, 2):index_select(1, some) end, { values(2, 4, 3) })
end)

it("values, in every dtype; the inputs stay as they were", function()
  for _, dtype in ipairs { "f32", "f64", "bf16", "f16", "i64", "i32", "u8" } do
    local x = cld.tensor({ { 1, 2, 3 }, { 4, 5, 6 } }, dtype)
    assert.same({ { 3, 1 }, { 5, 5 } }, x:gather(2, index { { 2, 0 }, { 1, 1 } }):totable(), dtype)
    assert.same({ { 3, 1, 3 }, { 6, 4, 6 } }, x:index_select(2, index { 2, 0, 2 }):totable(), dtype)
    assert.same({ { 4, 6 }, { 1, 3 } }, x:narrow(2, 1, 3):index_select(1, index { 1, 0 })
      :index_select(2, index { 0, 2 }):totable(), dtype)
    local source = cld.tensor({ { 10, 20, 30 }, { 40, 50, 60 } }, dtype)
    assert.same({ { 21, 42, 3 }, { 44, 115, 6 } },
      x:scatter_add(2, index { { 1, 0, 1 }, { 0, 1, 1 } }, source):totable(), dtype)
    assert.same({ { 51, 72, 93 }, { 4, 5, 6 } }, x:index_add(1, index { 0, 0 }, source):totable(), dtype)
    assert.same({ { 40, 50, 60 }, { 4, 5, 6 } }, x:index_copy(1, index { 0, 0 }, source):totable(), dtype)
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, x:totable())
  end
end)

it("large: as the plain loop, the same from run to run", function()
  local rows, n = 50, 40000
  local at = cld.randint(0, rows, { n })
  local source = cld.ones(n, 2)
  local counted = {}
  for _, row in ipairs(at:totable()) do counted[row + 1] = (counted[row + 1] or 0) + 1 end
  assert.same(counted, cld.zeros(rows, 2):index_add(1, at, source):select(2, 2):totable())
  assert.same(counted, cld.zeros(rows):scatter_add(1, at, cld.ones(n)):totable())
  local noise = cld.randn(n)
  assert.same(cld.zeros(rows):scatter_add(1, at, noise):totable(), cld.zeros(rows):scatter_add(1, at, noise):totable())
  local picked = cld.arange(0, rows, 1):index_select(1, at)
  check.close(picked, at:to("f32"), { atol = 0 })
end)

it("empty indices", function()
  local none = cld.zeros(0, { dtype = "i64" })
  assert.same({ 0, 3 }, cld.ones(2, 3):index_select(1, none).shape)
  assert.same({ { 1, 1 } }, cld.ones(1, 2):index_add(1, none, cld.ones(0, 2)):totable())
  assert.same({ 0, 3 }, cld.ones(2, 3):gather(1, cld.zeros(0, 3, { dtype = "i64" })).shape)
end)

it("a bad index is named with its place; nothing is written", function()
  local x = cld.ones(2, 3)
  check.fails(function() x:gather(2, index { { 0, 1 }, { 2, 3 } }) end,
    "gather: f32%[2, 3%] along dimension 2: index %[2, 2%] is 3; expected 0 to 2")
  check.fails(function() x:index_select(1, index { 0, -1 }) end,
    "index_select: f32%[2, 3%] along dimension 1: index %[2%] is %-1; expected 0 to 1")
  check.fails(function() x:scatter_add(1, index { { 0, 1, 2 } }, cld.ones(1, 3)) end,
    "scatter_add: .* index %[1, 3%] is 2")
  check.fails(function() x:index_add(2, index { 7 }, cld.ones(2, 1)) end,
    "index_add: .* index %[1%] is 7; expected 0 to 2")
  check.fails(function() x:index_copy(2, index { 7 }, cld.ones(2, 1)) end, "index_copy: .* index %[1%] is 7")
end)

it("shapes and dtypes that do not fit", function()
  local x = cld.ones(2, 3)
  check.fails(function() x:gather(1, cld.ones(2, 3)) end, "gather: the index must be i64, got f32%[2, 3%]")
  check.fails(function() x:gather(1, index { 0 }) end,
    "gather: the index i64%[1%] does not fit along dimension 1 of f32%[2, 3%]")
  check.fails(function() x:gather(1, index { { 0, 0, 0, 0 } }) end, "gather: the index i64%[1, 4%] does not fit")
  check.fails(function() x:index_select(1, index { { 0 } }) end,
    "index_select: the index must be 1%-d, got i64%[1, 1%]")
  check.fails(function() x:index_add(1, index { 0 }, cld.ones(2, 3)) end,
    "index_add: the source f32%[2, 3%] does not match")
  check.fails(function() x:index_copy(1, index { 0 }, cld.ones(1, 3, { dtype = "f64" })) end,
    "must have the dtype of f32%[2, 3%]")
end)
