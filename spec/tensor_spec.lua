local cld = require "cld"
local check = require "spec.support.check"

describe("cld.tensor", function()
  it("takes nested tables and gives them back", function()
    local values = { { { 1, 2 }, { 3, 4 }, { 5, 6 } }, { { 7, 8 }, { 9, 10 }, { 11, 12.5 } } }
    for _, dtype in ipairs { "f32", "f64", "bf16", "f16" } do
      local t = cld.tensor(values, dtype)
      assert.same({ 2, 3, 2 }, t.shape)
      assert.equal(dtype, t.dtype)
      assert.same(values, t:totable())
    end
  end)

  it("is f32 on the cpu by default", function()
    local t = cld.tensor { 1, 2, 3 }
    assert.equal("f32", t.dtype)
    assert.equal("cpu", t.device)
    assert.equal(1, t.ndim)
    assert.equal(3, #t)
    assert.equal(3, t:numel())
  end)

  it("keeps integers exact, and gives integers back", function()
    local big = math.maxinteger - 1
    local t = cld.tensor({ big, -big }, "i64")
    assert.same({ big, -big }, t:totable())
    assert.equal("integer", math.type(cld.tensor({ 7 }, "u8"):item()))
    assert.equal("float", math.type(cld.tensor({ 7 }):item()))
    assert.same({ 1, 0 }, cld.tensor({ true, false }, "u8"):totable())
    assert.same({ -2147483648, 2147483647 }, cld.tensor({ -2147483648, 2147483647 }, "i32"):totable())
  end)

  it("keeps the sign of zero", function()
    for _, dtype in ipairs { "f32", "f64", "bf16", "f16" } do
      assert.equal("-0.0", tostring(cld.tensor({ 1, -0.0 }, dtype)[2]:item()))
    end
    assert.same({ 0 }, cld.tensor({ -0.0 }, "i64"):totable())
  end)

  it("makes a 0-d tensor of a number and a copy of a tensor", function()
    local t = cld.tensor(2.5)
    assert.same({}, t.shape)
    assert.equal(2.5, t:item())
    assert.equal(2.5, t:totable())
    local copy = cld.tensor(t)
    t:fill_(1)
    assert.equal(2.5, copy:item())
    assert.same({ 0 }, cld.tensor({}).shape)
    assert.same({ 2, 0 }, cld.tensor({ {}, {} }).shape)
  end)

  it("takes options", function()
    local t = cld.tensor({ 1, 2 }, { dtype = "f64", device = "cpu", requires_grad = true })
    assert.equal("f64", t.dtype)
    assert.is_true(t.requires_grad)
  end)

  it("names the place of what does not fit", function()
    check.fails(function() cld.tensor { { 1, 2 }, { 3 } } end, "%[2%] has 1 entries where its neighbours have 2")
    check.fails(function() cld.tensor { { 1, 2 }, 3 } end, "%[2%] is a number where its neighbours are tables")
    check.fails(function() cld.tensor { 1, { 2 } } end, "%[2%] is a table; expected a number")
    check.fails(function() cld.tensor { { 1, "x" } } end, "%[1%]%[2%] is a string; expected a number")
    check.fails(function() cld.tensor { 1, nil, 3 } end, "%[2%] is a nil")
    check.fails(function() cld.tensor({ 1, 1.5 }, "i64") end, "%[2%] is 1.5, which is not an integer, as i64 needs")
    check.fails(function() cld.tensor({ 256 }, "u8") end, "%[1%] is 256, which u8 cannot hold")
    check.fails(function() cld.tensor({ 0 / 0 }, "i32") end, "not an integer")
    check.fails(function() cld.tensor({ 1 }, "f33") end, "unknown dtype 'f33'")
    check.fails(function() cld.tensor("abc") end, "expected a table, a number or a tensor")
    check.fails(function() cld.tensor({ 1 }, { dtyp = "f64" }) end, "unknown field 'dtyp'; did you mean 'dtype'")
    check.fails(function() cld.tensor({ 1 }, { dtype = "i64", requires_grad = true }) end, "only floating%-point")
    local deep = 1
    for _ = 1, 9 do deep = { deep } end
    check.fails(function() cld.tensor(deep) end, "nested more than 8 deep")
  end)

  it("gives the position of the caller", function()
    check.fails(function() return cld.zeros(2):reshape(3) end, "tensor_spec.lua:%d+: reshape")
  end)
end)

describe("creation", function()
  it("takes the shape as numbers or as a table, then options", function()
    for _, t in ipairs { cld.zeros(2, 3), cld.zeros { 2, 3 }, cld.zeros({ 2, 3 }, "f32"), cld.zeros(2, 3, "f32"),
      cld.zeros(2, 3, { dtype = "f32" }), cld.zeros { 2, 3, dtype = "f32" } } do
      assert.equal("f32", t.dtype)
      assert.same({ { 0, 0, 0 }, { 0, 0, 0 } }, t:totable())
    end
    assert.equal("f64", cld.ones(2, "f64").dtype)
    assert.is_true(cld.ones(2, { requires_grad = true }).requires_grad)
    assert.same({}, cld.ones({}).shape)
  end)

  it("fills", function()
    assert.same({ 1, 1 }, cld.ones(2):totable())
    assert.same({ { 7, 7 } }, cld.full({ 1, 2 }, 7):totable())
    assert.same({ 7 }, cld.full({ 1 }, 7, "i64"):totable())
    assert.same({ 3, 2 }, cld.empty(3, 2).shape)
    local x = cld.tensor({ { 1, 2 } }, "f64")
    for name, value in pairs { zeros_like = 0, ones_like = 1 } do
      assert.same({ { value, value } }, cld[name](x):totable())
      assert.equal("f64", cld[name](x).dtype)
      assert.equal("i64", cld[name](x, "i64").dtype)
    end
    assert.same({ { 4, 4 } }, cld.full_like(x, 4):totable())
    assert.same({ 1, 2 }, cld.empty_like(x).shape)
  end)

  it("counts", function()
    assert.same({ 0, 1, 2, 3 }, cld.arange(4):totable())
    assert.equal("i64", cld.arange(4).dtype)
    assert.equal("f32", cld.arange(4.0).dtype)
    assert.same({ 2, 4 }, cld.arange(2, 6, 2):totable())
    assert.same({ 3, 2, 1 }, cld.arange(3, 0, -1):totable())
    assert.same({ 0 }, cld.arange(0).shape)
    check.close(cld.arange(0, 1, 0.25, "f64"), { 0, 0.25, 0.5, 0.75 })
    check.close(cld.linspace(1, 2, 5, "f64"), { 1, 1.25, 1.5, 1.75, 2 })
    assert.same({ 3 }, cld.linspace(3, 9, 1):totable())
    assert.same({ 0, 1, 3, 5 }, cld.linspace(0, 5, 4, "i64"):totable())
    assert.same({ -5, -1, 1, 5 }, cld.linspace(-5, 5, 4, "i32"):totable())
    for n = 2, 200 do assert.equal(1, cld.linspace(0, 1, n, "f64")[n]:item()) end
    assert.same({ { 1, 0 }, { 0, 1 } }, cld.eye(2):totable())
    assert.same({ { 1, 0, 0 }, { 0, 1, 0 } }, cld.eye(2, 3):totable())
  end)

  it("refuses what cannot be", function()
    check.fails(function() cld.zeros(2, -1) end, "extent 2 is %-1; expected at least 0")
    check.fails(function() cld.zeros(1, 1, 1, 1, 1, 1, 1, 1, 1) end, "at most 8 dimensions")
    check.fails(function() cld.zeros { 2, "x" } end, "entry 2 of the shape is a string")
    check.fails(function() cld.zeros(1 << 40, 1 << 40) end, "out of memory")
    check.fails(function() cld.zeros(2, { dtype = "f64", shape = 1 }) end, "unknown field 'shape'")
    check.fails(function() cld.zeros(2, "cuda9") end, "unknown dtype")
    check.fails(function() cld.zeros(2, { device = "tpu" }) end, "no device 'tpu'")
    check.fails(function() cld.arange(0, 1, 0) end, "arange")
    check.fails(function() cld.linspace(0, 1, -1) end, "linspace")
  end)
end)

describe("random numbers", function()
  it("follow from the seed and the position", function()
    cld.manual_seed(7)
    local a, b = cld.rand(5), cld.randn(5)
    local state = cld.get_rng_state()
    local c = cld.randperm(9)
    cld.manual_seed(7)
    assert.same(a:totable(), cld.rand(5):totable())
    assert.same(b:totable(), cld.randn(5):totable())
    assert.same(c:totable(), cld.randperm(9):totable())
    cld.set_rng_state(state)
    assert.same(c:totable(), cld.randperm(9):totable())
    assert.not_same(c:totable(), cld.randperm(9):totable())
    assert.equal(7, state.seed)
  end)

  it("have the distribution asked for", function()
    cld.manual_seed(1)
    local u = cld.empty(10000, "f64"):uniform_(-1, 3)
    assert.is_true(u:min():item() >= -1 and u:max():item() < 3)
    check.close(u:mean():item(), 1, { atol = 0.05, rtol = 0 })
    local n = cld.empty(10000, "f64"):normal_(2, 0.5)
    check.close(n:mean():item(), 2, { atol = 0.03, rtol = 0 })
    check.close(n:std():item(), 0.5, { atol = 0.02, rtol = 0 })
    check.close(cld.rand_like(u):mean():item(), 0.5, { atol = 0.02, rtol = 0 })
    check.close(cld.randn_like(u):std():item(), 1, { atol = 0.03, rtol = 0 })
  end)

  it("make integers in [low, high) and permutations", function()
    cld.manual_seed(3)
    local seen = {}
    for _, v in ipairs(cld.randint(-2, 3, 1000):totable()) do seen[v] = (seen[v] or 0) + 1 end
    for v = -2, 2 do assert.is_true(seen[v] > 120, "too few of " .. v) end
    assert.is_nil(seen[3])
    local p = cld.randperm(100):totable()
    table.sort(p)
    assert.same(cld.arange(100):totable(), p)
    check.fails(function() cld.randint(3, 3, 2) end, "randint: there is no integer in %[3, 3%)")
    check.fails(function() cld.rand(3, "i64") end, "floating%-point")
  end)
end)

describe("facts", function()
  it("are properties and methods", function()
    local t = cld.zeros(2, 3, 4)
    assert.same({ 2, 3, 4 }, t.shape)
    assert.same({ 2, 3, 4 }, t:size())
    assert.equal(4, t:size(-1))
    assert.same({ 12, 4, 1 }, t:stride())
    assert.equal(4, t:stride(2))
    assert.is_true(t:is_contiguous())
    assert.is_false(t:transpose(1, 2):is_contiguous())
    assert.is_true(t.is_leaf)
    assert.is_nil(t.grad_fn)
    assert.is_nil(t.__no_such_thing)
    assert.is_true(cld.is_tensor(t))
    assert.is_false(cld.is_tensor({}))
  end)

  it("that there are not are errors with the nearest name", function()
    local t = cld.zeros(2, 3)
    check.fails(function() return t.shaep end, "_spec.lua:%d+: a tensor has no field 'shaep'; did you mean 'shape'")
    check.fails(function() return t.matmull end, "a tensor has no method 'matmull'; did you mean 'matmul'")
    check.fails(function() t:summ() end, "_spec.lua:%d+: a tensor has no method 'summ'; did you mean 'sum'%?")
    check.fails(function() return t.no_such_thing_at_all end, "a tensor has no field 'no_such_thing_at_all'$")
    assert.same({ 3, 2 }, t.T.shape)
    check.fails(function() return cld.zeros(2).T end, "T: expected two dimensions, got f32%[2%]")
  end)

  it("are checked", function()
    local t = cld.zeros(2, 3)
    check.fails(function() t:size(3) end, "dimension 3 of f32%[2, 3%]; expected 1 to 2")
    check.fails(function() t:size(0) end, "dimension 0")
    check.fails(function() t.shape = {} end, "field 'shape' cannot be set")
    check.fails(function() t:item() end, "item: the tensor must have one element, got f32%[2, 3%]")
    check.fails(function() return #cld.tensor(1) end, "no length")
    check.fails(function() t.requires_grad_(1) end, "cld.tensor expected, got number")
  end)

  it("== is identity", function()
    local a, b = cld.zeros(2), cld.zeros(2)
    assert.is_true(a == a:to("f32"))
    assert.is_false(a == b)
    assert.is_false(a == a:detach())
  end)
end)

describe("lifetime", function()
  it("ends with close, <close> or collection, and views share it", function()
    local before = cld.tensors_alive()
    do
      local t <close> = cld.zeros(3)
      local v = t:narrow(1, 1, 2)
      t:close()
      t:close()
      assert.equal(before + 1, cld.tensors_alive())
      assert.same({ 0, 0 }, v:totable())
      check.fails(function() return t.shape end, "the tensor was closed")
      check.fails(function() return v + t end, "the tensor was closed")
      assert.equal("tensor (closed)", tostring(t))
      v:close()
    end
    assert.equal(before, cld.tensors_alive())
    local _ = cld.zeros(3)
    _ = nil -- luacheck: ignore
    collectgarbage()
    assert.equal(before, cld.tensors_alive())
  end)

  it("leaves nothing behind where an op fails", function()
    local a, b = cld.zeros(2), cld.zeros(3)
    collectgarbage()
    local before = cld.tensors_alive()
    for _, f in ipairs { function() return a + b end, function() return cld.cat({ a, b, 3 }) end,
      function() return cld.stack { a, b } end, function() return a[3] end, function() return a:matmul(b) end,
      function() a[1] = b end, function() return cld.tensor { { 1 }, { 1, 2 } } end,
      function() return cld.zeros(2, { requires_grad = 3 }) end } do
      check.fails(f, ".")
    end
    collectgarbage()
    assert.equal(before, cld.tensors_alive())
  end)

  it("collects garbage under pressure of memory that Lua does not see", function()
    collectgarbage()
    local before, most = cld.tensors_alive(), 0
    for _ = 1, 64 do
      cld.zeros(1 << 20) -- 4 MB
      most = math.max(most, cld.tensors_alive() - before)
    end
    assert.is_true(most < 40, most .. " tensors of 4 MB were alive at once")
  end)
end)

describe("printing", function()
  it("shows dtype, shape, device, a summary and the values", function()
    assert.equal("tensor f32[] on cpu: 3.5", tostring(cld.tensor(3.5)))
    assert.equal("tensor i64[] on cpu: -4", tostring(cld.tensor(-4, "i64")))
    assert.equal("tensor f32[0, 3] on cpu, no elements", tostring(cld.zeros(0, 3)))
    assert.equal(table.concat({ "tensor f64[2, 2] on cpu", "min -2, max 10.5, mean 3.125",
      "    1.0000    3.0000", "   -2.0000   10.5000" }, "\n"), tostring(cld.tensor({ { 1, 3 }, { -2, 10.5 } }, "f64")))
    assert.equal("tensor i64[3] on cpu\nmin 7, max 100\n    7    8  100", tostring(cld.tensor({ 7, 8, 100 }, "i64")))
  end)

  it("shows the corners of what is large", function()
    local text = tostring(cld.arange(100):reshape(10, 10))
    assert.equal(table.concat({ "tensor i64[10, 10] on cpu", "min 0, max 99",
      "   0   1   2  ...   7   8   9", "  10  11  12  ...  17  18  19", "  20  21  22  ...  27  28  29", "  ...",
      "  70  71  72  ...  77  78  79", "  80  81  82  ...  87  88  89", "  90  91  92  ...  97  98  99" }, "\n"), text)
    text = tostring(cld.zeros(5, 2, 2, 3))
    assert.truthy(text:find("[1, 1, :, :]", 1, true))
    assert.truthy(text:find("[5, 2, :, :]", 1, true))
    assert.is_true(#tostring(cld.zeros(9, 9, 9, 9, 9)) < 2000)
  end)

  it("shows what is not finite, and very small or large values", function()
    local text = tostring(cld.tensor({ 1, 0 / 0, 1 / 0 }))
    assert.truthy(text:find("2 not finite", 1, true))
    for _, value in ipairs { 0 / 0, -(0 / 0) } do
      assert.falsy(tostring(cld.tensor { value, 1 }):find "-nan")
      assert.equal("tensor f32[] on cpu: nan", tostring(cld.tensor(value)))
      assert.equal("nan", tostring(cld.tensor({ value }, "f64")):match "%S+$")
    end
    assert.truthy(text:find("inf"))
    assert.truthy(tostring(cld.tensor { 1e-8, 2 }):find("1.0000e-08", 1, true))
  end)

  it("shows the tape", function()
    local x = cld.tensor({ 1, 2 }, { requires_grad = true })
    assert.truthy(tostring(x):find("on cpu, requires_grad\n", 1, true))
    assert.truthy(tostring(x:reshape(2, 1)):find("on cpu, from reshape\n", 1, true))
  end)
end)
