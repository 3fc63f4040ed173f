--- Indexing, sorting, positions and random numbers on a device, against the cpu: every dtype, lines along every
-- dimension, entries that occur twice, units of 1 to 16 bytes, several tiles of a sort, NaN and ties.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"

local exact = { atol = 0, rtol = 0 }
local dtypes = { "f32", "f64", "bf16", "f16", "i64", "i32", "u8" }

-- i64 of the shape, in 0 .. extent - 1, in no order.
local function indices(extent, ...)
  local x <close> = formula.uniform("index", { ... }, "f64")
  return (x * extent / 2 + extent / 2):floor():to "i64"
end

-- With many ties; whole numbers of at most 100, which every dtype holds.
local function coarse(dtype, ...) return (formula.uniform("x", { ... }, "f64") * 50 + 50):floor():to(dtype) end

devices.each("indexing", function(device)
  for _, dtype in ipairs(dtypes) do
    it("reads, adds and copies " .. dtype, function()
      local x, at = coarse(dtype, 5, 7, 6), indices(7, 5, 9, 6)
      local line, source = indices(7, 11), coarse(dtype, 5, 11, 6)
      devices.same(device, function(t, i) return t:gather(2, i) end, { x, at }, exact)
      devices.same(device, function(t, i) return t:index_select(2, i) end, { x, line }, exact)
      devices.same(device, function(t, i, s) return t:scatter_add(2, i, s) end, { x, at, source }, exact)
      devices.same(device, function(t, i, s) return t:index_add(2, i, s) end, { x, line, source }, exact)
      devices.same(device, function(t, i, s) return t:index_copy(2, i, s) end, { x, line, source }, exact)
    end)
  end

  it("along each dimension, of views and of rows of any width", function()
    for _, width in ipairs { 1, 2, 3, 4, 8, 12 } do
      local x, source = formula.waves(6, 5, width):to "f32", formula.waves(9, 9, 12):to "f32"
      for dim = 1, 3 do
        local line = indices(x.shape[dim], 9)
        local shape = { 6, 5, width }
        shape[dim] = 9
        local rest = function(s) return s:narrow(1, 1, shape[1]):narrow(2, 1, shape[2]):narrow(3, 1, shape[3]) end
        devices.same(device, function(t, i, s)
          return t:index_select(dim, i), t:index_add(dim, i, rest(s)), t:index_copy(dim, i, rest(s)),
            t:transpose(1, 3):index_select(4 - dim, i), t:narrow(1, 2, 4):index_select(2, i:clamp(0, 4))
        end, { x, line, source }, exact)
      end
    end
  end)

  it("of slices that are not aligned as their width would have it", function()
    devices.same(device, function(x, y, i, s)
      local late, part, odd = x:narrow(3, 2, 8), x:narrow(3, 1, 6), y:narrow(3, 1, 4)
      return late:index_select(2, i), part:index_select(2, i), odd:index_select(2, i),
        late:index_add(2, i, s:narrow(3, 2, 8)), late:index_copy(2, i, s:narrow(3, 2, 8)),
        part:index_copy(2, i, s:narrow(3, 1, 6)), odd:index_copy(2, i, s:narrow(3, 1, 4))
    end, { formula.waves(3, 5, 12):to "f32", formula.waves(3, 5, 10):to "f32", indices(5, 7),
      formula.waves(3, 7, 11):to "f32" }, exact)
  end)

  it("of rows that are not aligned as their width would have it", function()
    devices.same(device, function(x, y, i, s)
      local part, odd = x:narrow(2, 1, 6), y:narrow(2, 1, 4)
      return part:index_select(1, i), part:index_select(1, i:narrow(1, 1, 1)), odd:index_select(1, i),
        x:narrow(2, 1, 8):index_copy(1, i, s:narrow(2, 1, 8)), odd:index_copy(1, i, s:narrow(2, 1, 4))
    end, { formula.waves(5, 12):to "f32", formula.waves(5, 10):to "f32", indices(5, 7), formula.waves(7, 11):to "f32" },
      exact)
  end)

  it("where all of a line hits one entry, the same as the next line's", function()
    devices.same(device, function(x, i, s) return x:scatter_add(2, i, s), x:scatter_add(2, i + 3, s) end,
      { formula.waves(5, 4), cld.zeros(5, 6, { dtype = "i64" }), formula.waves(5, 6) }, exact)
  end)

  it("with gradients, also where one index is the whole line", function()
    devices.same(device, function(x, i) return x:gather(2, i) end, { formula.waves(9, 7), indices(7, 9, 1) },
      { gradients = true, atol = 0, rtol = 0 })
    devices.same(device, function(x, i) return x:index_select(1, i) end, { formula.waves(9, 7), indices(9, 40) },
      { gradients = true, atol = 0, rtol = 0 })
    devices.same(device, function(x, i, s) return x:scatter_add(1, i, s) end,
      { formula.waves(9, 7), indices(9, 1, 7), formula.waves(1, 7) }, { gradients = true, atol = 0, rtol = 0 })
  end)

  it("adds up in the order of the index, in long lines too", function()
    devices.same(device, function(x, i, s)
      return x:index_add(1, i, s), x:select(2, 1):scatter_add(1, i, s:select(2, 2))
    end, { formula.waves(5, 2):to "f32", indices(5, 5000), formula.waves(5000, 2):to "f32" }, exact)
  end)

  it("reads and writes by x[index]", function()
    devices.same(device, function(x, i, s)
      local y = x:clone()
      y[i] = s
      y[3] = 7
      return y, x[i], y[{ 2, 3 }]
    end, { formula.waves(6, 4), indices(6, 3), formula.waves(3, 4) }, exact)
  end)

  it("of nothing", function()
    devices.same(device, function(x, i)
      return x:index_select(1, i), x:index_add(1, i, x:narrow(1, 1, 0)), x:index_copy(1, i, x:narrow(1, 1, 0))
    end, { formula.waves(3, 2), cld.zeros(0, { dtype = "i64" }) }, exact)
  end)

  it("reports an index out of range when the device is next waited for", function()
    local x, bad = formula.waves(3, 4):to(device), cld.tensor({ 0, 9 }, "i64"):to(device)
    check.fails(function() x:index_select(1, bad):totable() end, "index_select: index 9")
    check.fails(function() x:index_add(1, bad, x:narrow(1, 1, 2)):totable() end, "index_add: index 9")
    check.fails(function() x:index_copy(1, bad, x:narrow(1, 1, 2)):totable() end, "index_copy: index 9")
    local whole = cld.tensor({ { 0, -1, 0 }, { 1, 1, 1 } }, "i64"):to(device)
    check.fails(function() x:gather(1, whole):totable() end, "gather: index %-1")
    check.fails(function() x:scatter_add(1, whole, x):totable() end, "scatter_add: index %-1")
    check.fails(function() x:scatter_add(1, whole:narrow(1, 1, 1), x):totable() end, "scatter_add: index %-1")
    assert.equal(12, x:sum():to("cpu"):numel() + 11) -- and then all is well
  end)
end)

devices.each("sorting", function(device)
  for _, dtype in ipairs(dtypes) do
    it("of " .. dtype, function()
      local x = coarse(dtype, 3, 70, 2)
      devices.same(device, function(t)
        local a, i = t:sort(2)
        local b, j = t:sort(2, true)
        local c, k = t:topk(5, 1 + 1)
        local d, l = t:topk(9, 2, false)
        return a, i, b, j, c, k, d, l
      end, { x }, exact)
    end)
  end

  it("of several tiles, whole and in part", function()
    for _, n in ipairs { 1, 2, 33, 2048, 2049, 7001 } do
      local x = coarse("f32", 2, n)
      devices.same(device, function(t)
        local results = {}
        for _, k in ipairs { 1, (n + 1) // 2, n } do
          local a, i = t:topk(k)
          local b, j = t:topk(k, 2, false)
          table.move({ a, i, b, j }, 1, 4, #results + 1, results)
        end
        return table.unpack(results)
      end, { x }, exact)
    end
  end)

  it("of NaN, infinities, -0 and views", function()
    local nan = 0 / 0
    local x = cld.tensor { { nan, 1, -math.huge, 0, -0.0, math.huge, -1, nan }, { 3, nan, 3, 0, 0, -0.0, 2, 1 } }
    devices.same(device, function(t)
      local a, i = t:sort()
      local b, j = t:sort(2, true)
      local c, k = t:t():sort(1)
      return a, i, b, j, c, k
    end, { x }, exact)
    local integers = cld.tensor({ -5, 7, math.mininteger, math.maxinteger, 0 }, "i64")
    devices.same(device, function(t) return (t:sort()) end, { integers }, exact)
  end)

  it("with gradients", function()
    devices.same(device, function(x) return (x:topk(3, 1)) end, { formula.waves(7, 3) },
      { gradients = true, atol = 0, rtol = 0 })
  end)
end)

devices.each("nonzero", function(device)
  for _, dtype in ipairs(dtypes) do
    it("of " .. dtype, function()
      local x = (formula.uniform("x", { 3, 7, 5 }, "f64") * 3):round():abs():to(dtype)
      devices.same(device, function(t) return t:nonzero(), t:transpose(1, 3):nonzero() end, { x }, exact)
    end)
  end

  it("of more pieces than a block has threads", function()
    devices.same(device, function(x)
      local y = x:expand(256 * 4096 // 64 + 64, 64):nonzero()
      return y:narrow(1, y.shape[1] - 9, 10), y.shape[1]
    end, { (formula.uniform("x", { 64 }, "f64") * 2):round():to "u8" }, exact)
  end)

  it("of many pieces, of none, of one element", function()
    devices.same(device, function(x) return x:nonzero(), (x * 0):nonzero(), x:narrow(1, 1, 0):nonzero() end,
      { (formula.uniform("x", { 9001 }, "f64") * 2):round() }, exact)
    devices.same(device, function(x) return x:nonzero() end, { cld.tensor(3.0) }, exact)
    devices.same(device, function(x) return x:masked_select(x:gt(0)) end, { formula.waves(31, 3) }, exact)
  end)
end)

devices.each("random numbers", function(device)
  it("are the cpu's, whatever the shape and the position", function()
    for _, dtype in ipairs { "f32", "f64", "bf16", "f16" } do
      devices.same(device, function(x, where)
        cld.manual_seed(7)
        local results = {}
        for i, n in ipairs { 1, 5, 1023, 2 } do -- odd positions too
          results[i] = cld.empty(n, { dtype = dtype, device = where }):uniform_(-1, 3)
        end
        results[5] = cld.empty(7, 3, { dtype = dtype, device = where }):t():uniform_(0, 2)
        results[6] = x
        return table.unpack(results)
      end, { cld.zeros(1) }, exact)
    end
  end)

  it("of seeds and positions beyond 32 bits", function()
    devices.same(device, function(x, where)
      cld.set_rng_state { seed = (5 << 40) + 7, position = (3 << 36) + 1 }
      return cld.empty(1001, { device = where }):uniform_(), x
    end, { cld.zeros(1) }, exact)
  end)

  it("are below the upper end after rounding", function()
    for _, dtype in ipairs { "f32", "f64", "bf16", "f16" } do
      for _, bounds in ipairs { { 1, 1 + 2 ^ -22 }, { -1, 0 }, { 0, 1 }, { -3, -2 }, { 0.25, 0.3 }, { 3, 3 } } do
        devices.same(device, function(_, where)
          cld.manual_seed(3)
          return cld.empty(4000, { dtype = dtype, device = where }):uniform_(bounds[1], bounds[2])
        end, { cld.zeros(1) }, exact)
      end
    end
  end)

  it("of the normal distribution, but for the rounding of log and cos", function()
    for dtype, tolerance in pairs { f32 = 1e-5, f64 = 1e-12, bf16 = 0.02, f16 = 0.002 } do
      devices.same(device, function(_, where)
        cld.manual_seed(4)
        return cld.empty(3001, { dtype = dtype, device = where }):normal_(2, 3)
      end, { cld.zeros(1) }, { atol = tolerance, rtol = tolerance })
    end
  end)
end)
