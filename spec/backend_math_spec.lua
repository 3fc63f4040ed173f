--- Elementwise ops, copies, reductions, scans, softmax and products on a device against the cpu: odd shapes, strides,
-- broadcasting, the device's own layout, every dtype, NaN and infinities, empty tensors.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"
local nn = cld.nn.functional

local floats = { "f32", "f64", "bf16", "f16" }
local all = { "f32", "f64", "bf16", "f16", "i64", "i32", "u8" }

-- A function that makes the tensor, so that none outlives its test.
local function values(dtype, ...)
  local shape = { ... }
  return function() return (formula.waves(table.unpack(shape)) * 20):to(dtype) end
end

local function positive(dtype, ...)
  local shape = { ... }
  return function() return (formula.waves(table.unpack(shape)):abs() * 3 + 1):to(dtype) end
end

-- What a kernel may get wrong: NaN, infinities, zeros of both signs, halves, the ends of the ranges.
local function special(dtype)
  return function()
    local list = { 0 / 0, math.huge, -math.huge, 0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1, -1, 3, -7, 300, -300, 1e-3 }
    for i = #list + 1, 37 do list[i] = (i - 20) * 0.25 end
    return cld.tensor(list, dtype)
  end
end

-- Ways to look at a matrix: each gives a kernel other strides.
local views = {
  dense = function(x) return x end,
  transposed = function(x) return x:t() end,
  narrow = function(x) return x:narrow(2, 2, x.shape[2] - 2) end,
  ["first columns"] = function(x) return x:narrow(2, 1, x.shape[2] - 2) end, -- aligned, and ends within a step
  ["first columns of odd rows"] = function(x)
    local rows = x:numel() // 17
    return x:reshape(-1):narrow(1, 1, rows * 17):reshape(rows, 17):narrow(2, 1, 16)
  end,
  ["narrow rows"] = function(x) return x:narrow(1, 2, x.shape[1] - 2) end,
  ["every other"] = function(x)
    return x:reshape(-1):narrow(1, 1, x:numel() // 2 * 2):reshape(x:numel() // 2, 2):select(2, 2)
  end,
  expanded = function(x) return x:unsqueeze(2):expand(x.shape[1], 3, x.shape[2]) end,
  ["a column expanded"] = function(x) return x:select(2, 1):unsqueeze(2):expand(x.shape[1], 9) end,
  ["one expanded"] = function(x) return x:select(1, 1):select(1, 1):expand(5, 7) end,
}

devices.each("copy", function(device)
  local cases = {}
  for _, from in ipairs(all) do
    for _, to in ipairs(all) do
      cases[from .. " to " .. to] = { function(x, s)
        local list = { s:to(to), x:reshape(-1):to(to) }
        for _, name in ipairs { "transposed", "narrow", "every other", "expanded" } do
          list[#list + 1] = views[name](x):to(to)
        end
        return table.unpack(list)
      end, values(from, 33, 41), (from:match "f" and special or values)(from, 3) }
    end
  end
  for name, view in pairs(views) do
    cases["into the same shape, " .. name] = { function(x) return view(x):clone(), view(x):contiguous() end,
      values("f32", 70, 67) }
  end
  for _, dtype in ipairs { "f32", "bf16", "u8", "f64" } do
    cases["into a view, " .. dtype] = { function(x, d)
      local out = cld.zeros(67, 70, { dtype = dtype, device = d })
      out:t():copy_(x)
      local inner = cld.zeros(72, 80, { dtype = dtype, device = d })
      inner:narrow(1, 2, 70):narrow(2, 3, 67):copy_(x)
      local row = cld.zeros(70, 67, { dtype = dtype, device = d })
      row:copy_(x:narrow(1, 3, 1))
      return out, inner, row
    end, values("f32", 70, 67) }
  end
  -- (n, c, h, w) as channels last and back, and a weight; extents about those of a tile
  for _, shape in ipairs { { 2, 3, 5, 7 }, { 1, 64, 9, 1 }, { 3, 33, 8, 9 }, { 2, 130, 1, 67 }, { 70, 3, 3, 3 },
    { 1, 2, 40, 41 } } do
    for _, dtypes in ipairs {
      { "f32", "f32" }, { "f32", "bf16" }, { "u8", "f32" }, { "u8", "bf16" }, { "f64", "i64" }, { "u8", "u8" },
    } do
      local name = ("channels last, %s of %s to %s"):format(table.concat(shape, "x"), table.unpack(dtypes))
      cases[name] = { function(x)
        local last = x:permute(1, 3, 4, 2):to(dtypes[2]):contiguous()
        return last, last:permute(1, 4, 2, 3):contiguous(), x:permute(4, 3, 2, 1):to(dtypes[2])
      end, values(dtypes[1], table.unpack(shape)) }
    end
  end
  cases["eight dimensions"] = { function(x)
    return x:permute(8, 3, 5, 1, 2, 7, 4, 6):contiguous(), x:permute(1, 3, 2, 5, 4, 7, 6, 8):to "f64"
  end, values("f32", 2, 3, 2, 2, 3, 2, 1, 5) }
  cases["more elements than a block has"] = { function(x)
    return x:clone(), x:to "bf16", x:narrow(1, 2, 20000):to "f16"
  end, values("f32", 20003) }
  cases["empty and 0-d"] = { function(x, y) return x:to "f64", x:t():contiguous(), y:to "i32", y:clone() end,
    function() return cld.zeros(0, 3) end, function() return cld.tensor(2.5, "f32") end }
  cases.fill = { function(d)
    local list = {}
    for _, dtype in ipairs(all) do
      list[#list + 1] = cld.full({ 1003 }, 3, { dtype = dtype, device = d })
      local x = cld.zeros(7, 33, { dtype = dtype, device = d })
      x:narrow(2, 3, 11):fill_(100)
      x:t():narrow(1, 1, 3):fill_(dtype:match "f" and 2.5 or 2)
      list[#list + 1] = x
    end
    return table.unpack(list)
  end }
  devices.cases(device, cases)
end)

devices.each("unary", function(device)
  local cases = {}
  local both = {
    neg = 1, abs = 1, sign = 1, square = 1, relu = 1, floor = 1, ceil = 1, round = 1, logical_not = 1, isnan = 1,
    isfinite = 1,
  }
  local real = { exp = 1, log = 1, sqrt = 1, rsqrt = 1, reciprocal = 1, sin = 1, cos = 1, tanh = 1, sigmoid = 1 }
  for name in pairs(both) do
    for _, dtype in ipairs(all) do
      cases[name .. " of " .. dtype] = { function(x, s) return x[name](x), s[name](s), x:t()[name](x:t()) end,
        values(dtype, 31, 33), (dtype:match "f" and special or values)(dtype, 5) }
    end
  end
  for name in pairs(real) do
    for _, dtype in ipairs(floats) do
      cases[name .. " of " .. dtype] = { function(x, s) return x[name](x), s[name](s), x:t()[name](x:t()) end,
        positive(dtype, 31, 33), special(dtype) }
    end
  end
  local scalar = {
    add = function(x) return x + 3 end,
    mul = function(x) return x * -2 end,
    ["sub from"] = function(x) return 5 - x end,
    pow = function(x) return x ^ 3 end,
    clamp = function(x) return x:clamp(-2, 7), x:clamp(3, 1) end,
    eq = function(x) return x:eq(2), x:ne(2), x:lt(2), x:le(2), x:gt(2), x:ge(2) end,
  }
  local fractions = {
    add = function(x) return x + 0.3 end,
    ["div of"] = function(x) return 5 / x, x / 3 end,
    pow = function(x) return x ^ 2, x ^ 0.5, x ^ -1, x ^ 0, x ^ 2.3 end,
    clamp = function(x) return x:clamp(0 / 0, 1), x:clamp(-1, 0 / 0) end,
  }
  cases["clamp of integers to what none reaches"] = { function(x)
    return x:clamp(-math.huge, 1), x:clamp(0, math.huge), x:to "i32":clamp(-1e300, 1)
  end, values("i64", 40) }
  for name, f in pairs(scalar) do
    for _, dtype in ipairs(all) do
      cases[name .. " a number, " .. dtype] = { f, (dtype:match "f" and special or values)(dtype, 40) }
    end
  end
  for name, f in pairs(fractions) do
    for _, dtype in ipairs(floats) do
      cases[name .. " a fraction, " .. dtype] = { f, special(dtype), nan = true }
    end
  end
  for _, n in ipairs { 1, 7, 33, 1003, 5000 } do
    for _, dtype in ipairs { "f32", "bf16", "u8" } do
      cases[("%d of %s"):format(n, dtype)] = { function(x)
        return -x, x:gt(1), n > 3 and -x:narrow(1, 2, n - 2) or x, n > 3 and x:narrow(1, 4, n - 3):lt(0) or x
      end, values(dtype, n) }
    end
  end
  for name, view in pairs(views) do
    cases["of a view, " .. name] = { function(x) return view(x) * 2, view(x):ge(1) end, values("f32", 34, 40) }
  end
  cases["in place"] = { function(x)
    local y = x:clone()
    y:narrow(1, 2, 5):mul_(3)
    y:t():mul_(0.5)
    return y
  end, values("f32", 9, 13) }
  for _, dtype in ipairs { "f32", "bf16" } do
    cases["in place, rows that end within a step, " .. dtype] = { function(x)
      local y = x:clone()
      y:narrow(2, 1, 38):mul_(3)
      y:narrow(2, 1, 9):fill_(1)
      return y
    end, values(dtype, 9, 40) }
  end
  cases["gradients of relu at zeros of both signs"] = { function(x) return x:relu() end, special "f32",
    gradients = true }
  cases.gradients = { function(x) return (x:exp() + x:tanh() * x:relu() + x:sigmoid():sqrt()):clamp(-1, 5) end,
    function() return formula.waves(5, 7):to "f32" end, gradients = true }
  cases.empty = { function(x) return -x, x:exp(), x:isnan() end, function() return cld.zeros(3, 0) end }
  devices.cases(device, cases)
end)

devices.each("binary", function(device)
  local cases = {}
  local both = {
    add = function(a, b) return a + b end,
    sub = function(a, b) return a - b end,
    mul = function(a, b) return a * b end,
    maximum = function(a, b) return a:maximum(b), a:minimum(b) end,
    compare = function(a, b) return a:eq(b), a:ne(b), a:lt(b), a:le(b), a:gt(b), a:ge(b) end,
    logical = function(a, b) return a:logical_and(b), a:logical_or(b) end,
  }
  local dividing = {
    div = function(a, b) return a / b end,
    floor_divide = function(a, b) return a // b end,
    remainder = function(a, b) return a % b end,
  }
  for name, f in pairs(both) do
    for _, dtype in ipairs(all) do
      local make = dtype:match "f" and special or values
      cases[name .. " of " .. dtype] = { function(a, b, s)
        local list = table.pack(f(a, b))
        for _, y in ipairs { f(a:t(), b:t()) } do list[#list + 1] = y end
        for _, y in ipairs { f(s:unsqueeze(1), s:unsqueeze(2)) } do list[#list + 1] = y end
        return table.unpack(list, 1, #list)
      end, values(dtype, 31, 33), positive(dtype, 31, 33), make(dtype, 37) }
    end
  end
  for name, f in pairs(dividing) do
    for _, dtype in ipairs(all) do
      if name ~= "div" or dtype:match "f" then
        cases[name .. " of " .. dtype] = { function(a, b) return f(a, b), f(a, -b), f(a, b:t():contiguous():t()) end,
          values(dtype, 31, 33), positive(dtype, 31, 33) }
      end
    end
    for _, dtype in ipairs { "f32", "f64" } do
      cases[name .. " of special values, " .. dtype] = { function(s) return f(s:unsqueeze(1), s:unsqueeze(2)) end,
        special(dtype) }
    end
  end
  for _, dtype in ipairs { "i64", "i32" } do
    cases["integers of both signs, " .. dtype] = { function(a)
      local x, y = a:unsqueeze(1), a:unsqueeze(2)
      return x // y, x % y, x ^ (y * 0 + 3), x ^ (y * 0 - 3), x ^ (y * 0 - 4)
    end, function() return cld.tensor({ -7, -3, -2, -1, 1, 2, 3, 7, 100 }, dtype) end }
  end
  cases["the smallest integer by -1"] = { function(a) return a // (a * 0 - 1), a % (a * 0 - 1) end,
    function() return cld.tensor({ math.mininteger, -7, 5 }, "i64") end }
  cases["remainders whose product with the divisor is no number"] = { function(a)
    return a:unsqueeze(1) % a:unsqueeze(2)
  end, function() return cld.tensor({ 1e-30, -1e-30, 3e-30, -3e-30, 1e30, -1e30 }, "f32") end }
  for _, dtype in ipairs(floats) do
    cases["pow of " .. dtype] = { function(a, b) return a ^ b end, positive(dtype, 9, 11), positive(dtype, 9, 11) }
  end
  -- broadcasting: rows, columns, single numbers, both sides, at aligned and odd extents
  for _, n in ipairs { 7, 32, 33, 256 } do
    for _, dtype in ipairs { "f32", "bf16" } do
      cases[("broadcast, %d columns of %s"):format(n, dtype)] = { function(x, row, column, one, block)
        return x + row, x - column, x * one, row * column, block * x, row - x, x:maximum(column)
      end, values(dtype, 19, n), values(dtype, n), values(dtype, 19, 1), values(dtype, 1), values(dtype, 3, 1, n) }
    end
  end
  for name, view in pairs(views) do
    cases["of views, " .. name] = { function(x, y) return view(x) * view(y), view(x) + 1, view(x):lt(view(y)) end,
      values("f32", 34, 40), positive("f32", 34, 40) }
  end
  cases["in place"] = { function(x, y)
    local z = x:clone()
    z:add_(y)
    z:narrow(2, 3, 4):add_(y:narrow(2, 1, 4))
    z:add_(y:narrow(1, 1, 1))
    return z
  end, values("f32", 6, 8), values("f32", 6, 8) }
  cases.gradients = { function(a, b) return a * b + a / b - a:maximum(b) + a ^ b end, positive("f64", 5, 7),
    positive("f64", 7), gradients = true }
  cases.where = { function(a, b, c)
    local list = {}
    for _, dtype in ipairs(all) do
      local x, y = a:to(dtype), (7 - b):to(dtype)
      list[#list + 1] = cld.where(c:gt(0), x, y)
      list[#list + 1] = cld.where(c:t():gt(1):t(), x:t():contiguous():t(), y)
      list[#list + 1] = cld.where(c:narrow(1, 1, 1):gt(0), x, y:narrow(2, 1, 1))
      list[#list + 1] = cld.where(c:narrow(2, 1, 1):gt(0), x, y)
    end
    return table.unpack(list)
  end, values("f32", 19, 40), values("f32", 19, 40), values("f32", 19, 40) }
  it("reports an integer divisor of 0", function()
    local a, b = cld.tensor({ 7, 8 }, "i32"):to(device), cld.tensor({ 1, 0 }, "i32"):to(device)
    check.fails(function() return (a // b):totable() end, "integer division: divisor is 0")
    check.fails(function() return (a % b):totable() end, "integer division: divisor is 0")
    assert.same({ 7, 8 }, (a // (b + 1 - b)):totable())
  end)
  cases.empty = { function(a, b) return a + b, a:lt(b), cld.where(a:lt(b), a, b) end,
    function() return cld.zeros(0, 3) end, function() return cld.zeros(1, 3) end }
  devices.cases(device, cases)
end)

devices.each("reductions", function(device)
  local cases = {}
  local kinds = {
    sum = function(x, ...) return x:sum(...) end,
    amax = function(x, ...) return x:amax(...) end,
    amin = function(x, ...) return x:amin(...) end,
    any = function(x, ...) return x:any(...) end,
    all = function(x, ...) return x:all(...) end,
  }
  local function every(f, x, dims)
    local list = { f(x) }
    for _, dim in ipairs(dims) do list[#list + 1] = f(x, dim) end
    return table.unpack(list)
  end
  for name, f in pairs(kinds) do
    for _, dtype in ipairs(all) do
      local make = dtype:match "f" and special or values
      cases[name .. " of " .. dtype] = { function(x, s)
        local whole = (x / 8):floor():to(dtype) -- sums without rounding
        local list = { every(f, whole, { 1, 2 }) }
        for _, y in ipairs { every(f, whole:t(), { 1 }) } do list[#list + 1] = y end
        for _, y in ipairs { f(s), f(x:narrow(1, 2, 9):narrow(2, 3, 21), 1), f(s:unsqueeze(2), 2) } do
          list[#list + 1] = name == "sum" and dtype:match "f" and y:to "f32" or y
        end
        return table.unpack(list)
      end, values(dtype, 31, 33), make(dtype, 9) }
    end
  end
  local shapes = {
    { 1 }, { 7 }, { 33 }, { 1003 }, { 40001 }, { 300, 5 }, { 5, 300 }, { 2000, 3 }, { 3, 2001 }, { 1, 64 }, { 64, 1 },
    { 130, 64 }, { 64, 1024 }, { 3000, 33 }, { 3000, 32 },
  }
  for _, shape in ipairs(shapes) do
    for _, dtype in ipairs { "f32", "bf16", "i64" } do
      cases[("shape %s of %s"):format(table.concat(shape, "x"), dtype)] = { function(x)
        local list = {}
        for dim = 1, #shape do
          for _, y in ipairs { x:sum(dim), x:amax(dim), x:argmax(dim), x:argmin(dim) } do list[#list + 1] = y end
        end
        return x:sum(), x:amin(), x:argmax(), table.unpack(list)
      end, values(dtype, table.unpack(shape)), atol = 2e-3 }
    end
  end
  cases["rows that end within a step"] = { function(x)
    local y = x:narrow(2, 1, 38)
    return y:sum(), y:amin(), y:sum(1), y:sum(2), y:amax(2)
  end, values("f32", 34, 40), atol = 1e-3 }
  cases["several dimensions"] = { function(x)
    local list = {}
    for _, dims in ipairs { { 1, 3 }, { 2, 4 }, { 1, 2, 4 }, { 2, 3 }, { 1, 3, 4 }, { 1, 2 }, { 3, 4 }, { 1, 4 } } do
      list[#list + 1] = x:sum(dims)
      list[#list + 1] = x:sum(dims, true)
      list[#list + 1] = x:permute(3, 1, 4, 2):amax(dims)
    end
    return table.unpack(list)
  end, values("f32", 5, 6, 7, 8), atol = 1e-3 }
  cases["prod, mean, var"] = { function(x, y) return y:prod(1), y:prod(), x:mean(1), x:mean(2), x:var(2), x:std(1) end,
    values("f32", 40, 24), function() return formula.waves(5, 4):to "f64" end, rtol = 1e-4 }
  for _, dtype in ipairs(floats) do
    cases["extremes with NaN, " .. dtype] = { function(s)
      local x = s:unsqueeze(1):expand(3, 37):contiguous()
      local late = cld.cat({ s:narrow(1, 2, 30), s }, 1)
      return s:amax(), s:amin(), s:argmax(), s:argmin(), x:amax(1), x:argmax(1), x:argmin(2), late:argmax(),
        late:argmin(), late:unsqueeze(2):expand(67, 3):contiguous():argmax(1)
    end, special(dtype) }
  end
  cases["the first of equals"] = { function(x)
    return x:argmax(1), x:argmin(1), x:argmax(2), x:argmin(2), x:argmax()
  end, function() return (formula.waves(70, 300) * 2):to "i32" end }
  cases.gradients = { function(x) return x:sum(1) * x:amax(2):sum() + x:mean(1) end, values("f64", 7, 5),
    gradients = true }
  cases.empty = { function(x) return x:sum(), x:sum(1), x:sum(2), x:any(), x:all(), x:prod(1) end,
    function() return cld.zeros(0, 3) end }
  devices.cases(device, cases)
end)

devices.each("scans", function(device)
  local cases = {}
  for _, dtype in ipairs(all) do
    cases["cumsum of " .. dtype] = { function(x) return x:cumsum(1), x:cumsum(2), x:t():cumsum(1) end,
      values(dtype, 70, 67) }
  end
  for _, n in ipairs { 1, 7, 64, 65, 2048, 2049, 9000 } do
    cases["a line of " .. n] = { function(x, y) return x:cumsum(1), y:cumsum(1), y:cumsum(2) end, values("f32", n),
      values("i64", n, 2), atol = 1e-4 }
  end
  cases["a line of more chunks than a block has threads"] = { function(x)
    local y = x:cumsum(1)
    return y:narrow(1, y.shape[1] - 9, 10), y:narrow(1, 2048 * 256, 3)
  end, function() return cld.ones(2048 * 257 + 5, { dtype = "u8" }) end }
  cases["many lines side by side"] = { function(x) return x:cumsum(1) end, values("f32", 70, 4100) }
  cases.gradients = { function(x) return x:cumsum(2) end, values("f64", 3, 2100), gradients = true }
  devices.cases(device, cases)
end)

devices.each("softmax and normalize", function(device)
  local cases = {}
  for _, dtype in ipairs(floats) do
    for _, shape in ipairs { { 5, 1 }, { 3, 7 }, { 33, 10 }, { 4, 1000 }, { 2, 5000 }, { 1003, 3 } } do
      cases[("%s of %s"):format(table.concat(shape, "x"), dtype)] = { function(x)
        return x:softmax(2), x:log_softmax(2), x:softmax(1), x:t():log_softmax(1), x:normalize(2)
      end, values(dtype, table.unpack(shape)) }
    end
  end
  for _, n in ipairs { 5, 997, 5003 } do -- the last step is in part; below 0, which stands for what is beyond the end
    for _, dtype in ipairs { "f32", "bf16" } do
      cases[("a line of %d of %s"):format(n, dtype)] = { function(x)
        return x:softmax(1), x:log_softmax(1), x:narrow(1, 2, n - 1):softmax(1)
      end, function() return (formula.waves(n) * 3 - 200):to(dtype) end }
    end
    cases[("gradients of a line of %d"):format(n)] = { function(x) return x:softmax(1) + x:log_softmax(1) end,
      function() return (formula.waves(n) * 3 - 200):to "f32" end, gradients = true }
  end
  cases["views"] = { function(x)
    return x:narrow(2, 1, 37):softmax(2), x:narrow(2, 2, 36):log_softmax(2), x:narrow(2, 1, 36):softmax(2)
  end, values("f32", 9, 40) }
  cases["extremes"] = { function(x) return x:softmax(2), x:log_softmax(2) end, function()
    local inf = math.huge
    local rows = { { -inf, 0, 1 }, { -inf, -inf, -inf }, { inf, 0, 1 }, { 0 / 0, 0, 1 }, { 1e30, 1e30, 0 } }
    return cld.tensor(rows, "f32")
  end }
  cases["rows that are zero, huge, tiny"] = { function(x)
    return x:normalize(2), (x * 1e30):normalize(2), (x * 1e-30):normalize(2)
  end, function() return cld.tensor({ { 0, 0, 0 }, { 3, 0, -4 }, { 1e8, 1, 1 } }, "f32") end }
  cases["gradients, three dimensions"] = { function(x)
    return x:softmax(2) * 3 + x:log_softmax(3):square()
  end, function() return formula.waves(4, 6, 5):to "f64" end, gradients = true }
  cases["gradients of rows"] = { function(x) return x:softmax(2) + x:log_softmax(2) end,
    function() return formula.waves(7, 300):to "f32" end, gradients = true }
  cases["gradients of long rows"] = { function(x) return x:softmax(2) end,
    function() return formula.waves(2, 3000):to "f32" end, gradients = true }
  cases["gradients of a zero row"] = { function(x) return x:normalize(2) end,
    function() return cld.tensor({ { 0, 0, 0 }, { 3, 0, -4 } }, "f32") end, gradients = true }
  cases["gradients of unit rows"] = { function(x) return x:normalize(2) end,
    function() return formula.waves(9, 128):to "f32" end, gradients = true }
  cases.empty = { function(x) return x:softmax(2), x:log_softmax(1) end, function() return cld.zeros(0, 3) end }
  devices.cases(device, cases)
end)

devices.each("cross entropy", function(device)
  local cases = {}
  local function labels(rows, classes)
    return function() return cld.arange(0, rows):to("i64") * 7 % classes end
  end
  for _, dtype in ipairs(floats) do
    for _, shape in ipairs { { 5, 1 }, { 3, 7 }, { 33, 10 }, { 300, 128 }, { 4, 1000 }, { 2, 5000 }, { 2, 2049 } } do
      local rows, classes = table.unpack(shape)
      for name, options in pairs {
        mean = { accuracy = true }, sum = { reduction = "sum", label_smoothing = 0.1, temperature = 0.2 },
        none = { reduction = "none", accuracy = true }, each = { reduction = "none", label_smoothing = 0.2 },
      } do
        cases[("%s of %s, %s"):format(table.concat(shape, "x"), dtype, name)] = { function(x, y)
          x:requires_grad_()
          local loss, accuracy = cld.cross_entropy(x, y, options)
          local weights = (cld.arange(0, loss:numel(), 1) * 0.7 + 0.4):cos():reshape(loss.shape)
          loss:backward(weights:to(loss.dtype):to(x.device))
          return loss:detach(), x.grad, accuracy or loss:detach()
        end, values(dtype, rows, classes), labels(rows, classes) }
      end
    end
  end
  cases["of columns, of a part that is not aligned"] = { function(x, y)
    return cld.cross_entropy(x:t(), y) + cld.cross_entropy(x:t():narrow(2, 2, 8), y)
  end, values("f32", 12, 20), labels(20, 8), gradients = true }
  cases["extremes, ties"] = { function(x, y)
    x:requires_grad_()
    local loss, accuracy = cld.cross_entropy(x, y, { reduction = "none", accuracy = true })
    loss:sum():backward()
    local smooth = cld.cross_entropy(x:detach(), y, { reduction = "none", label_smoothing = 0.5 })
    return loss:detach(), x.grad, accuracy, smooth
  end, function()
    local inf, nan = math.huge, 0 / 0
    local rows = { { -inf, 0, 1 }, { -inf, -inf, -inf }, { inf, 0, 1 }, { nan, 0, 1 }, { 1e30, 1e30, 0 },
      { 0, nan, nan }, { 0, nan, nan }, { 5, 5, 5 }, { 5, 5, 5 }, { 1e7, 1e7 + 1, 1e7 + 2 } }
    return cld.tensor(rows, "f32")
  end, function() return cld.tensor({ 0, 0, 0, 0, 1, 1, 2, 0, 1, 2 }, "i64") end }
  cases.empty = { function(x, y)
    return cld.cross_entropy(x, y), cld.cross_entropy(x, y, { reduction = "sum" }),
      cld.cross_entropy(x, y, { reduction = "none" })
  end, function() return cld.zeros(0, 3) end, function() return cld.zeros({ 0 }, "i64") end }
  devices.cases(device, cases)

  it("reports a label that no class has when the device is next waited for", function()
    for _, classes in ipairs { 5, 300, 0 } do
      local x, y = cld.zeros(3, classes):to(device), cld.tensor({ 0, classes, 0 }, "i64"):to(device)
      check.fails(function() cld.cross_entropy(x, y):item() end, "entropy: label " .. classes .. " is out of range")
    end
    local x, y = cld.zeros(3, 5):to(device), cld.tensor({ 0, 1, -1 }, "i64"):to(device)
    check.fails(function() cld.cross_entropy(x, y):item() end, "label %-1 is out of range: expected 0 to 4")
  end)
end)

devices.each("products", function(device)
  local cases = {}
  local tolerance = { f32 = 1e-4, f64 = 1e-10, bf16 = 8e-2, f16 = 1e-2, i64 = 0, i32 = 0, u8 = 0 }
  local function small(dtype, ...)
    local shape = { ... }
    return function() return (formula.waves(table.unpack(shape)) * (dtype:match "f" and 1 or 4)):to(dtype) end
  end
  for _, dtype in ipairs(all) do
    cases[dtype] = { function(a, b, c)
      return a:matmul(b), b:t():matmul(a:t()), a:matmul(c:t()), a:t():matmul(c:narrow(2, 1, 7):narrow(1, 1, 5)),
        a:narrow(2, 3, 6):matmul(b:narrow(1, 3, 6)), b:narrow(2, 2, 3):t():matmul(c:t()),
        a:select(1, 2):unsqueeze(1):expand(4, 9):matmul(b), a:matmul(b:select(2, 1)), a:select(1, 1):matmul(b)
    end, small(dtype, 5, 9), small(dtype, 9, 33), small(dtype, 33, 9), atol = tolerance[dtype] }
    cases["batched, " .. dtype] = { function(a, b)
      return a:bmm(b), b:transpose(2, 3):bmm(a:transpose(2, 3)), a:matmul(b:select(1, 1)),
        a:permute(2, 1, 3):matmul(b:narrow(3, 1, 1):expand(3, 6, 5):contiguous():narrow(1, 1, 1)),
        a:narrow(1, 2, 2):matmul(b:narrow(1, 1, 2))
    end, small(dtype, 3, 4, 6), small(dtype, 3, 6, 5), atol = tolerance[dtype] }
  end
  cases["empty sums and results"] = { function(a, b)
    return a:matmul(b), a:narrow(1, 1, 0):matmul(b), b:t():narrow(1, 1, 0):matmul(b)
  end, function() return cld.zeros(3, 0) end, function() return cld.zeros(0, 4) end }
  -- The bias as a vector of its own, and as views that no library takes: not at the start of memory, not dense.
  local function with_bias(rows, input, output, dtype, factors)
    return { function(x, w, b)
      local list = { nn.linear(x, w), nn.linear(x, w, b:narrow(1, 1, output)), nn.linear(x, w, b:narrow(1, 2, output)) }
      local pairs_of = b:narrow(1, 1, 2 * output):reshape(output, 2)
      list[#list + 1] = nn.linear(x, w, pairs_of:select(2, 2))
      list[#list + 1] = nn.linear(x, w, b:narrow(1, 3, 1):expand(output))
      return table.unpack(list)
    end, small(factors or dtype, rows, input), small(dtype, output, input), small(dtype, 2 * output + 3),
      atol = tolerance[factors or dtype] * 2 }
  end
  for _, dtype in ipairs(all) do
    for _, shape in ipairs { { 5, 9, 33 }, { 1, 17, 8 }, { 70, 3, 1 }, { 16, 64, 40 } } do
      cases[("a bias, %s, %d to %d of %d rows"):format(dtype, shape[2], shape[3], shape[1])] =
        with_bias(shape[1], shape[2], shape[3], dtype)
    end
    for _, shape in ipairs { { 0, 4, 3 }, { 3, 0, 4 }, { 3, 4, 0 }, { 0, 0, 2 } } do
      cases[("a bias of an empty product, %s, %d to %d of %d rows"):format(dtype, shape[2], shape[3], shape[1])] = {
        nn.linear, function() return cld.zeros(shape[1], shape[2], { dtype = dtype }) end,
        function() return cld.zeros(shape[3], shape[2], { dtype = dtype }) end, small(dtype, shape[3]),
      }
    end
  end
  for _, half in ipairs { "bf16", "f16" } do
    cases["a bias of f32 beside factors of " .. half] = with_bias(9, 31, 24, "f32", half)
  end
  for _, dtype in ipairs { "f32", "f64" } do
    cases["gradients of linear, " .. dtype] = { nn.linear, small(dtype, 6, 5), small(dtype, 4, 5), small(dtype, 4),
      gradients = true }
  end
  cases["gradients of bf16 by way of f32"] = { function(x, w) return x:to "bf16":matmul(w:to "bf16":t()):to "f32" end,
    small("f32", 6, 5), small("f32", 4, 5), gradients = true, atol = 5e-2 }
  devices.cases(device, cases)
end)

devices.each("the device's own layout", function(device)
  -- What a convolution with the identity hands out.
  local function laid_out(x)
    local channels = x.shape[2]
    local identity = cld.eye(channels):reshape(channels, channels, 1, 1):to(x.device)
    return nn.conv2d(x, identity, nil, {})
  end
  local cases = {}
  for _, shape in ipairs { { 2, 16, 3, 5 }, { 1, 64, 1, 1 }, { 3, 48, 7, 2 }, { 2, 16, 17, 17 } } do
    cases[table.concat(shape, "x")] = { function(x, channel)
      local y = laid_out(x)
      local blocked = y * 0
      blocked:copy_(x)
      local sum = y + y
      sum:add_(x)
      return y:contiguous(), y:relu(), y * 2 + 1, y + y:relu(), y * x, x - y * 2, y * channel, y:gt(0),
        cld.where(y:gt(0), y, x * 0), y:to "f64", y:to "bf16":to "f32", y:to "i64", y:sum(), y:sum { 1, 3, 4 },
        y:narrow(2, 1, 3):contiguous(), y:permute(4, 2, 1, 3):contiguous(), blocked, sum
    end, function() return formula.waves(table.unpack(shape)):to "f32" end, positive("f32", 1, shape[2], 1, 1),
      atol = 1e-4 }
  end
  devices.cases(device, cases)
end)

-- Seconds and gigabytes on the host; milliseconds on a GPU.
devices.each("more elements than 32 bits count", function(device)
  if cld.cuda.is_emulated() then return end
  local rows, columns = 65537, 32768
  local n = rows * columns + 13

  it("are added, summed, compared, selected, moved", function()
    local x <close> = cld.ones(n, { dtype = "u8", device = device })
    x[n] = 3
    x[rows * columns] = 2
    do
      local twice <close> = x + x
      assert.equal(2 * (n + 3), twice:sum():item())
      assert.same({ 6, 2 }, twice:index_select(1, cld.tensor({ n - 1, n - 2 }, "i64"):to(device)):totable())
    end
    assert.equal(n - 1, x:argmax():item())
    local odd <close> = x:ne(1)
    assert.same({ { rows * columns - 1 }, { n - 1 } }, odd:nonzero():totable())
    local matrix = x:narrow(1, 1, rows * columns):reshape(rows, columns)
    local other <close> = matrix:t():contiguous()
    assert.equal(2, other[columns][rows]:item())
    assert.equal(rows + 1, other[columns]:sum():item())
    assert.equal(rows * columns + 1, other:sum():item())
    assert.same({ rows + 1, columns + 1 }, { matrix:sum(1)[columns]:item(), matrix:sum(2)[rows]:item() })
  end)
end)
