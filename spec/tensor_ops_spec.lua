local cld = require "cld"
local check = require "spec.support.check"
local formula = require "spec.support.formula"
local counting = formula.counting

describe("views", function()
  it("reshape", function()
    local x = counting(2, 6)
    assert.same({ { 1, 2, 3, 4 }, { 5, 6, 7, 8 }, { 9, 10, 11, 12 } }, x:reshape(3, 4):totable())
    assert.same({ 3, 2, 2 }, x:reshape({ 3, -1, 2 }).shape)
    assert.same(cld.arange(1, 13, 1):totable(), x:view(-1):totable())
    local v = x:reshape(12)
    v[1] = 100
    assert.equal(100, x[{ 1, 1 }]:item())
    check.fails(function() x:reshape(5, -1) end, "reshape: f64%[2, 6%] has 12 elements and cannot become f64%[5, %-1%]")
    check.fails(function() x:reshape(5) end, "cannot become f64%[5%]")
    check.fails(function() x:reshape(-1, -1) end, "reshape: extent 2 cannot be %-1")
    assert.same({ 0, 5 }, cld.zeros(0, 2):reshape(0, 5).shape)
  end)

  it("reshape without copying what strides can show, copying what they cannot", function()
    local x = counting(4, 6)
    local columns = x:narrow(2, 1, 4) -- rows of 4 with stride 6
    local cut = columns:reshape(2, 2, 2, 2)
    cut[1] = 0
    assert.same({ 0, 0, 0, 0, 5, 6 }, x[1]:totable())
    local flat = columns:reshape(16)
    flat:fill_(-1)
    assert.same({ 0, 0, 0, 0, 5, 6 }, x[1]:totable())
    assert.same({ 1, 3, 2, 4 }, counting(2, 2):t():reshape(4):totable())
    assert.same({ { 1, 3, 2, 4 } }, counting(2, 1, 2):permute(2, 3, 1):reshape(1, 4):totable())
  end)

  it("permute, transpose, t", function()
    local x = counting(2, 3, 4)
    local y = x:permute(3, 1, 2)
    assert.same({ 4, 2, 3 }, y.shape)
    assert.equal(x[{ 2, 3, 4 }]:item(), y[{ 4, 2, 3 }]:item())
    assert.same(x:transpose(1, 3):totable(), x:permute({ 3, 2, 1 }):totable())
    assert.same(x:transpose(-1, 1):totable(), x:permute(3, 2, 1):totable())
    assert.same({ { 1, 3 }, { 2, 4 } }, counting(2, 2):t():totable())
    check.fails(function() x:permute(1, 2) end, "permute: f64%[2, 3, 4%] needs 3 dimensions listed, got 2")
    check.fails(function() x:permute(1, 2, 2) end, "permute: dimension 2 of .* is listed twice")
    check.fails(function() x:t() end, "t: expected at most two dimensions")
  end)

  -- Larger than the tiles in which the CPU turns what is transposed, and no multiple of them.
  for _, dtype in ipairs { "u8", "f16", "f32", "f64", "i64" } do
    it("copies and adds what is transposed: " .. dtype, function()
      local function ramp(n, step) return cld.arange(0, n, 1):mul(step):to(dtype) end
      local i, j, k = ramp(3, 60):reshape(3, 1, 1), ramp(67, 2):reshape(1, 67, 1), ramp(35, 1):reshape(1, 1, 35)
      local x, turned = i + j + k, i + j:transpose(2, 3) + k:transpose(2, 3)
      assert.same(turned:totable(), x:transpose(2, 3):contiguous():totable())
      assert.same((turned + turned):totable(), (turned + x:transpose(2, 3)):totable())
      assert.same((turned + turned):to("f64"):totable(), (x:transpose(2, 3) + turned):to("f64"):totable())
      local back = x:flip({ 2 }):transpose(2, 3)
      assert.same(turned:flip({ 3 }):totable(), back:contiguous():totable())
      local into = cld.zeros(3, 35, 67, "f64")
      into:copy_(x:transpose(2, 3))
      assert.same(turned:to("f64"):totable(), into:totable())
    end)
  end

  it("narrow, select, squeeze, unsqueeze, flatten", function()
    local x = counting(3, 4)
    assert.same({ { 2, 3 }, { 6, 7 }, { 10, 11 } }, x:narrow(2, 2, 2):totable())
    assert.same({ 3, 7, 11 }, x:select(2, 3):totable())
    assert.same({ 3, 0 }, x:narrow(2, 5, 0).shape)
    check.fails(function() x:narrow(1, 2, 3) end,
      "narrow: a length of 3 from position 2 does not fit in dimension 1 of f64%[3, 4%]")
    check.fails(function() x:narrow(1, 0, 1) end, "narrow: a length of 1 from position 0")
    check.fails(function() x:select(1, 4) end,
      "select: there is no position 4 in dimension 1 of f64%[3, 4%], which has 1 to 3")
    assert.same({ 1, 3, 4 }, x:unsqueeze(1).shape)
    assert.same({ 3, 1, 4 }, x:unsqueeze(2).shape)
    assert.same({ 3, 4, 1 }, x:unsqueeze(-1).shape)
    assert.same({ 3, 4 }, x:unsqueeze(3):squeeze(3).shape)
    assert.same({ 3, 4 }, x:reshape(1, 3, 1, 4, 1):squeeze().shape)
    assert.same({ 3, 4 }, x:squeeze(1).shape)
    check.fails(function() x:unsqueeze(4) end, "a new dimension cannot be there")
    local y = counting(2, 3, 4)
    assert.same({ 24 }, y:flatten().shape)
    assert.same({ 2, 12 }, y:flatten(2).shape)
    assert.same({ 6, 4 }, y:flatten(1, 2).shape)
    check.fails(function() y:flatten(3, 1) end, "flatten: dimension 3 lies after dimension 1")
  end)

  it("expand", function()
    local x = counting(2, 1)
    assert.same({ { 1, 1, 1 }, { 2, 2, 2 } }, x:expand(2, 3):totable())
    assert.same({ 4, 2, 3 }, x:expand(4, -1, 3).shape)
    assert.same({ 2, 3 }, x:expand_as(cld.zeros(2, 3)).shape)
    check.fails(function() x:expand(3, 3) end, "expand: f64%[2, 1%] cannot become f64%[3, 3%]")
    check.fails(function() x:expand(3) end, "expand: f64%[2, 1%] cannot become f64%[3%]")
    check.fails(function() x:expand(-1, 2, 1) end, "expand: f64%[2, 1%] cannot become f64%[%-1, 2, 1%]")
    check.fails(function() x:expand_as(cld.zeros(3, 3)) end, "expand_as: f64%[2, 1%] cannot become f64%[3, 3%]")
    check.fails(function() x:view(3) end, "view: f64%[2, 1%] has 2 elements and cannot become f64%[3%]")
  end)

  it("contiguous and clone", function()
    local x = counting(2, 3)
    assert.is_true(x == x:contiguous())
    local y = x:t():contiguous()
    assert.is_true(y:is_contiguous())
    assert.same({ { 1, 4 }, { 2, 5 }, { 3, 6 } }, y:totable())
    local z = x:clone()
    z:zero_()
    assert.equal(1, x[{ 1, 1 }]:item())
  end)

  it("cat and stack", function()
    local a, b = counting(2, 2), counting(1, 2)
    assert.same({ { 1, 2 }, { 3, 4 }, { 1, 2 } }, cld.cat({ a, b }):totable())
    assert.same({ { 1, 2, 1, 2 }, { 3, 4, 3, 4 } }, cld.cat({ a, a }, 2):totable())
    assert.same({ { 1, 2, 1, 2 }, { 3, 4, 3, 4 } }, cld.cat({ a, a }, -1):totable())
    assert.same({ { { 1, 2 }, { 3, 4 } }, { { 1, 2 }, { 3, 4 } } }, cld.stack({ a, a }):totable())
    assert.same({ { { 1, 1 }, { 2, 2 } }, { { 3, 3 }, { 4, 4 } } }, cld.stack({ a, a }, -1):totable())
    assert.same({ 2, 2, 2 }, cld.stack({ a, a }, 2).shape)
    check.fails(function() cld.cat({ a, b }, 2) end,
      "cat: tensor 1 is f64%[2, 2%], tensor 2 is f64%[1, 2%]; only dimension 2 may differ")
    check.fails(function() cld.stack { a, b } end, "stack: tensor 1 is f64%[2, 2%], tensor 2 is f64%[1, 2%]")
    check.fails(function() cld.cat { cld.tensor(1), cld.tensor(2) } end, "cat: tensors without dimensions")
    check.fails(function() cld.cat {} end, "at least one tensor")
    check.fails(function() cld.cat { a, 1 } end, "entry 2 is a number")
    check.fails(function() cld.cat({ a, b }, 3) end, "dimension 3")
  end)
end)

describe("indexing", function()
  it("reads", function()
    local x = counting(3, 4)
    assert.same({ 5, 6, 7, 8 }, x[2]:totable())
    assert.equal(7, x[2][3]:item())
    assert.equal(7, x[{ 2, 3 }]:item())
    assert.same({ { 5, 6, 7, 8 }, { 9, 10, 11, 12 } }, x[{ { 2, 3 } }]:totable())
    assert.same({ 2, 6 }, x[{ { 1, 2 }, 2 }]:totable())
    assert.same({ { 2, 3 }, { 6, 7 }, { 10, 11 } }, x[{ {}, { 2, 3 } }]:totable())
    assert.same({ { 9, 10, 11, 12 }, { 1, 2, 3, 4 } }, x[cld.tensor({ 2, 0 }, "i64")]:totable())
    local sum = 0
    for i, row in x:rows() do sum = sum + i * row[1]:item() end
    assert.equal(1 + 2 * 5 + 3 * 9, sum)
  end)

  it("writes", function()
    local x = cld.zeros(2, 3)
    x[1] = 5
    x[{ 2, 3 }] = 7
    x[{ 2, { 1, 2 } }] = cld.tensor { 1, 2 }
    assert.same({ { 5, 5, 5 }, { 1, 2, 7 } }, x:totable())
    x[{ {}, 2 }] = cld.tensor({ 9 }, "i64")
    assert.same({ { 5, 9, 5 }, { 1, 9, 7 } }, x:totable())
  end)

  it("says what is out of range", function()
    local x = cld.zeros(3, 4)
    check.fails(function() for _ in ipairs(x) do end end, "index 4 of .*; expected 1 to 3 %(.* t:rows%(%)")
    check.fails(function() return x[0] end, "index 0 of dimension 1 of f32%[3, 4%]; expected 1 to 3")
    check.fails(function() return x[-4] end, "index %-4 of dimension 1 of f32%[3, 4%]; expected 1 to 3, or %-3 to %-1")
    check.fails(function() return x[{ 1, 5 }] end, "index 5 of dimension 2 of f32%[3, 4%]; expected 1 to 4")
    check.fails(function() return x[{ 1, 1, 1 }] end, "index 3 of f32%[3, 4%], which has 2 dimensions")
    check.fails(function() return x[{ { 1, 4 } }] end, "index 4 of dimension 1")
    check.fails(function() return x[{ { 2, 1 } }] end, "runs backwards")
    check.fails(function() return x[{ { 1 } }] end, "a range is {first, last}")
    check.fails(function() return x[{ "a" }] end, "index 1 is a string")
    check.fails(function() return x[1.5] end, "not by a number")
    check.fails(function() return x[true] end, "not by a boolean")
    check.fails(function() x:copy_(cld.zeros(5)) end, "copy_: f32%[5%] does not broadcast to f32%[3, 4%]")
    check.fails(function() x:masked_fill(cld.zeros(5, "u8"), 0) end, "masked_fill: f32%[3, 4%] and u8%[5%] do not")
    check.fails(function() x:masked_fill(x, 0) end, "masked_fill: a mask is u8.*got f32%[3, 4%]")
    check.fails(function() x:masked_fill(x:eq(0), cld.zeros(2)) end, "masked_fill: the value must be a number")
    check.fails(function() x[1] = cld.zeros(5) end, "assignment: f32%[5%] does not broadcast to f32%[4%]")
    check.fails(function() x[1] = "a" end, "number expected")
    check.fails(function() x[4] = 1 end, "index 4 of dimension 1")
  end)
end)

describe("arithmetic", function()
  it("takes tensors and numbers on both sides", function()
    local x, y = cld.tensor({ 1, 2, 4 }, "f64"), cld.tensor({ 2, 2, 2 }, "f64")
    for _, case in ipairs {
      { x + y, { 3, 4, 6 } }, { x - y, { -1, 0, 2 } }, { x * y, { 2, 4, 8 } }, { x / y, { 0.5, 1, 2 } },
      { x ^ y, { 1, 4, 16 } }, { x + 1, { 2, 3, 5 } }, { 1 + x, { 2, 3, 5 } }, { x - 1, { 0, 1, 3 } },
      { 1 - x, { 0, -1, -3 } }, { x * 3, { 3, 6, 12 } }, { 3 * x, { 3, 6, 12 } }, { x / 4, { 0.25, 0.5, 1 } },
      { 4 / x, { 4, 2, 1 } }, { x ^ 2, { 1, 4, 16 } }, { 2 ^ x, { 2, 4, 16 } }, { -x, { -1, -2, -4 } },
      { x:maximum(2), { 2, 2, 4 } }, { x:minimum(y), { 1, 2, 2 } }, { x:clamp(1.5, 3), { 1.5, 2, 3 } },
      { x:clamp(nil, 3), { 1, 2, 3 } },
    } do
      check.close(case[1], case[2])
    end
    assert.equal(1 / 3, (cld.tensor(1, "f64") / 3):item())
  end)

  it("compares elementwise", function()
    local x, y = cld.tensor { 1, 2, 3 }, cld.tensor { 2, 2, 2 }
    for name, expected in pairs { eq = { 0, 1, 0 }, ne = { 1, 0, 1 }, lt = { 1, 0, 0 }, le = { 1, 1, 0 },
      gt = { 0, 0, 1 }, ge = { 0, 1, 1 } } do
      assert.same(expected, x[name](x, y):totable(), name)
      assert.same(expected, x[name](x, 2):totable(), name)
      assert.equal("u8", x[name](x, y).dtype)
    end
  end)

  it("compares single values with < and <=", function()
    local x = cld.tensor(0.5)
    assert.is_true(x < 1 and 0 <= x and x <= cld.tensor { 0.5 } and not (x > 0.5))
    assert.is_false(cld.tensor(0 / 0) < 1)
    check.fails(function() return cld.zeros(2) < 1 end, "one element, got f32%[2%]")
  end)

  it("names op and shapes", function()
    check.fails(function() return cld.zeros(2, 3) + cld.zeros(4) end, "add.*f32%[2, 3%].*f32%[4%]")
    check.fails(function() return cld.zeros(2, 3) + "x" end, "string")
    check.fails(function() return cld.zeros(2, 3):matmul(cld.zeros(2, 3)) end, "matmul.*f32%[2, 3%].*f32%[2, 3%]")
  end)

  it("casts", function()
    local x = cld.tensor { 1.5, 2 }
    assert.is_true(x == x:to("f32"))
    assert.is_true(x == x:cpu())
    assert.equal("f64", x:to("f64").dtype)
    assert.equal("f64", x:to({ dtype = "f64", device = "cpu" }).dtype)
    for method, dtype in pairs { float = "f32", double = "f64", half = "f16", bfloat16 = "bf16", long = "i64",
      int = "i32", byte = "u8" } do
      assert.equal(dtype, x[method](x).dtype)
    end
    assert.same({ 1, 2 }, x:long():totable())
    assert.equal("i32", x:cast("i32").dtype)
    check.fails(function() x:to("f65") end,
      "to: 'f65' is neither a dtype %(f32 .* u8%) nor a device %(cpu, cuda, cuda:N%)")
    check.fails(function() x:to() end, "expected a dtype, a device or a table")
  end)

  it("writes in place", function()
    local x = cld.tensor { 1, 2, 3 }
    assert.is_true(x == x:add_(cld.tensor { 1, 1, 1 }))
    assert.same({ 2, 3, 4 }, x:totable())
    assert.same({ 4, 6, 8 }, x:mul_(2):totable())
    assert.same({ 3, 5, 7 }, x:sub_(1):totable())
    assert.same({ 1.5, 2.5, 3.5 }, x:div_(2):totable())
    assert.same({ 2, 2.5, 3 }, x:clamp_(2, 3):totable())
    assert.same({ 3, 3.5, 4 }, x:add_(cld.tensor(1)):totable())
    assert.same({ 9, 9, 9 }, x:fill_(9):totable())
    assert.same({ 0, 0, 0 }, x:zero_():totable())
    assert.same({ 1, 2, 3 }, x:copy_(cld.tensor({ 1, 2, 3 }, "i64")):totable())
    check.fails(function() x:add_(cld.zeros(2, 3)) end, "add_: the result would be f32%[2, 3%]")
    check.fails(function() cld.zeros(2, "i64"):mul_(0.5) end, "mul_: the result is f32, which i64%[2%] cannot hold")
  end)
end)

describe("reductions and selection", function()
  it("take no, one or several dimensions", function()
    local x = counting(2, 3)
    assert.equal(21, x:sum():item())
    assert.same({ 5, 7, 9 }, x:sum(1):totable())
    assert.same({ { 6 }, { 15 } }, x:sum(2, true):totable())
    assert.same({ { 21 } }, x:sum({ 1, 2 }, true):totable())
    assert.same({ 2, 5 }, x:mean(-1):totable())
    check.close(x:var(2), { 1, 1 })
    check.close(x:var(2, false), { 2 / 3, 2 / 3 })
    check.close(x:std(), math.sqrt(3.5))
    check.close(x:norm(2, 1), { math.sqrt(17), math.sqrt(29), math.sqrt(45) })
    assert.equal(720, x:prod():item())
    assert.equal(1, x:gt(5):any():item())
    assert.equal(0, x:gt(5):all():item())
    check.fails(function() x:sum(3) end, "dimension 3")
    check.fails(function() x:sum({ 1, 1 }) end, "sum: dimension 1 is given twice for f64")
  end)

  it("take a tensor without dimensions as one line", function()
    local x = cld.tensor(3, "f64"):requires_grad_()
    for _, dim in ipairs { 1, -1 } do
      for _, name in ipairs { "sum", "mean", "prod", "amax", "amin", "cumsum", "logsumexp" } do
        check.close(x[name](x, dim), 3)
      end
      for _, name in ipairs { "softmax", "normalize" } do check.close(x[name](x, dim), 1) end
      check.close(x:log_softmax(dim), 0)
      check.close(x:norm(2, dim), 3)
      check.close(x:var(dim, false), 0)
      check.close(x:argmax(dim), 0)
      check.close(x:sum({ dim }), 3)
      for _, name in ipairs { "max", "min", "sort" } do
        local values, index = x[name](x, dim)
        check.close(values, 3)
        check.close(index, 0)
      end
      assert.equal(1, (x:topk(1, dim)):numel())
      assert.equal(0, x:squeeze(dim).ndim)
    end
    for _, name in ipairs { "max", "min" } do
      x.grad = nil
      x[name](x, 1):backward()
      check.close(x.grad, 1)
    end
    check.fails(function() x:sum(2) end, "dimension 2 of f64%[%]; expected 1 to 1, or %-1 to %-1")
    for _, f in ipairs { function() x:size(1) end, function() x:narrow(1, 1, 1) end, function() x:select(1, 1) end,
      function() x:gather(1, cld.tensor(0, "i64")) end } do
      check.fails(f, "f64%[%] has no dimension 1; it is one number")
    end
  end)

  it("find extremes and where they are, counted from 0", function()
    local x = cld.tensor({ { 1, 5, 5 }, { 7, 2, 0 } }, "f64")
    assert.equal(7, x:max():item())
    assert.equal(0, x:min():item())
    local values, index = x:max(2)
    assert.same({ 5, 7 }, values:totable())
    assert.same({ 1, 0 }, index:totable())
    assert.equal("i64", index.dtype)
    values, index = x:min(1, true)
    assert.same({ { 1, 2, 0 } }, values:totable())
    assert.same({ { 0, 1, 1 } }, index:totable())
    assert.equal(3, x:argmax():item())
    assert.same({ 1, 0 }, x:argmax(2):totable())
    assert.same({ { 0 }, { 2 } }, x:argmin(2, true):totable())
    assert.same({ 7, 5, 5 }, x:amax(1):totable())
    assert.same({ { 3, 5, 5 }, { 7, 3, 3 } }, x:max(cld.full({ 2, 3 }, 3, "f64")):totable())
  end)

  it("sort, topk, where, gather and scatter", function()
    local x = cld.tensor({ { 3, 1, 2 }, { 4, 6, 5 } }, "f64")
    local values, index = x:sort()
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, values:totable())
    assert.same({ { 1, 2, 0 }, { 0, 2, 1 } }, index:totable())
    assert.same({ { 0, 2, 1 }, { 1, 2, 0 } }, x:argsort(2, true):totable())
    values, index = x:topk(2)
    assert.same({ { 3, 2 }, { 6, 5 } }, values:totable())
    assert.same({ { 0, 2 }, { 1, 2 } }, index:totable())
    assert.same({ { 1 }, { 4 } }, (x:topk(1, 2, false)):totable())
    assert.same({ { 3, 0, 0 }, { 4, 6, 5 } }, cld.where(x:ge(3), x, 0):totable())
    assert.same({ { 3, 9, 9 }, { 4, 6, 5 } }, x:masked_fill(x:lt(3), 9):totable())
    assert.same({ { 2 }, { 4 } }, x:gather(2, cld.tensor({ { 2 }, { 0 } }, "i64")):totable())
    local rows = cld.tensor({ 1, 1 }, "i64")
    assert.same({ { 4, 6, 5 }, { 4, 6, 5 } }, x:index_select(1, rows):totable())
    assert.same({ { 3, 1, 2 }, { 11, 8, 9 } }, (x:index_add(1, rows,
      cld.tensor({ { 3, 1, 2 }, { 4, 1, 2 } }, "f64"))):totable())
    local second = cld.tensor({ 1 }, "i64")
    assert.same({ { 3, 1, 2 }, { 0, 0, 0 } }, x:index_copy(1, second, cld.zeros(1, 3, "f64")):totable())
    assert.same({ { 3, 1, 2 }, { 4, 6, 6 } }, x:scatter_add(2, cld.tensor({ { 0 }, { 2 } }, "i64"),
      cld.tensor({ { 0 }, { 1 } }, "f64")):totable())
  end)
end)
