--- Views and blocks of a batch through a network: nn.parts, with_parts, blocks, each, shuffled.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local formula = require "spec.support.formula"
local nn = cld.nn

local limits = { f64 = { atol = 1e-12, rtol = 1e-12 }, f32 = { atol = 1e-5, rtol = 1e-5 } }

-- Convolutions, norms and a residual; two outputs.
local Net = nn.module "net"
function Net:build(dtype)
  self.conv1, self.bn1 = nn.conv2d(3, 16, 3, { padding = 1, bias = false }), nn.batch_norm2d(16)
  self.conv2, self.bn2 = nn.conv2d(16, 16, 3, { padding = 1, bias = false }), nn.batch_norm2d(16)
  self.instance, self.group = nn.linear(16, 4), nn.linear(16, 5)
  self:to(dtype)
end
function Net:forward(x)
  local y = self.bn1(self.conv1(x), { relu = true })
  local z = self.bn2(self.conv2(y), { relu = true, residual = y })
  local features = z:mean { 3, 4 }
  return self.instance(features), self.group(features)
end

local function state(net)
  local list = {}
  for name, tensor in pairs(net:state_dict()) do list[#list + 1] = { name, tensor } end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

local function same_state(a, b, tolerance)
  local theirs = state(b)
  for i, entry in ipairs(state(a)) do check.close(entry[2], theirs[i][2], tolerance) end
end

local function gradients(net)
  local list = {}
  for _, parameter in ipairs(net:parameters()) do list[#list + 1] = parameter.grad end
  return list
end

local function views(n, count, dtype, device)
  local list = {}
  for v = 1, count do list[v] = formula.uniform("view " .. v, { n, 3, 6, 5 }, dtype):to(device or "cpu") end
  return list
end

local function twins(dtype, device)
  cld.manual_seed(3)
  local net = Net(dtype):to(device or "cpu")
  return net, net:clone()
end

local function loss_of(...)
  local loss = 0
  for i, y in ipairs { ... } do loss = loss + (y * y * (0.5 + i)):sum() end
  return loss
end

describe("nn.parts", function()
  it("is what with_parts says, and nil outside", function()
    assert.is_nil(nn.parts())
    nn.with_parts({ views = 2, blocks = 3 }, function()
      assert.same({ views = 2, blocks = 3, unit = 1 }, nn.parts())
      nn.with_parts({ unit = 9, rows = 2, total = 7, done = 1 }, function()
        assert.same({ views = 1, blocks = 1, unit = 9, rows = 2, total = 7, done = 1 }, nn.parts())
      end)
      nn.with_parts(nil, function() assert.is_nil(nn.parts()) end)
      assert.equal(3, nn.parts().blocks)
    end)
    assert.is_nil(nn.parts())
  end)

  it("hands arguments and results through", function()
    assert.same({ 3, nil, 5, n = 3 }, table.pack(nn.with_parts({}, function(a, b) return a, nil, b end, 3, 5)))
  end)

  it("is put back after an error", function()
    assert.is_false(pcall(nn.with_parts, { views = 2 }, error, "no"))
    assert.is_nil(nn.parts())
  end)

  it("belongs to the coroutine that set them", function()
    local co = coroutine.wrap(function()
      nn.with_parts({ views = 4 }, function()
        coroutine.yield()
        coroutine.yield(nn.parts().views)
      end)
    end)
    co()
    assert.is_nil(nn.parts())
    assert.equal(4, nn.with_parts({ views = 2 }, co))
  end)

  it("names what is wrong", function()
    check.fails(function() nn.with_parts({ views = 0 }, print) end, "views must be a positive integer, got 0")
    check.fails(function() nn.with_parts({ view = 2 }, print) end, "nn.with_parts.*view")
    check.fails(function() nn.with_parts({ rows = 3, total = 4, done = 2 }, print) end,
      "3 images behind 2 others are no part of 4")
  end)
end)

describe("nn.blocks", function()
  it("cuts whole blocks, whose cuts alone are the same", function()
    for n = 1, 600, 7 do
      for block = 1, 70, 3 do
        local whole = nn.blocks(n, { block = block })[1].blocks
        for groups = 1, 8, 3 do
          local list, done, blocks = nn.blocks(n, { block = block, groups = groups }), 0, 0
          assert(#list == math.min(groups, whole))
          for i, g in ipairs(list) do
            local alone = nn.blocks(g.count, { block = block })[1]
            assert(g.first == done + 1 and g.done == done and g.total == n and alone.blocks == g.blocks,
              ("%d images, block %d, group %d of %d"):format(n, block, i, groups))
            assert(i == 1 or g.blocks == list[i - 1].blocks or g.blocks == list[i - 1].blocks - 1)
            for b = 0, g.blocks do
              local here = nn.functional.part_begin({ blocks = g.blocks }, g.count, b)
              assert(done + here == nn.functional.part_begin({ blocks = whole }, n, blocks + b))
            end
            done, blocks = done + g.count, blocks + g.blocks
          end
          assert(done == n and blocks == whole)
        end
      end
    end
  end)

  it("makes blocks that differ by at most one image, the larger first, and none of one image", function()
    local function sizes(n, block)
      local list, blocks = {}, nn.blocks(n, { block = block })[1].blocks
      for b = 1, blocks do
        list[b] = nn.functional.part_begin({ blocks = blocks }, n, b)
          - nn.functional.part_begin({ blocks = blocks }, n, b - 1)
      end
      return list
    end
    assert.same({ 40, 40 }, sizes(80, 64))
    assert.same({ 33, 32 }, sizes(65, 64))
    assert.same({ 64 }, sizes(64, 64))
    assert.same({ 3, 2 }, sizes(5, 2))
    assert.same({ 3, 2, 2 }, sizes(7, 1))
    assert.same({ 1 }, sizes(1, 64))
    assert.same({ 9 }, sizes(9))
  end)
end)

for _, device in ipairs { "cpu", table.unpack(devices.names) } do
  describe("net:each on " .. device, function()
    for dtype, tolerance in pairs(limits) do
      it("is a call for each view, " .. dtype, function()
        local net, other = twins(dtype, device)
        local v = views(6, 2, dtype, device)
        local q, g = net:each(v)
        loss_of(q[1], g[1], q[2], g[2]):backward()
        local q1, g1 = other(v[1])
        local q2, g2 = other(v[2])
        loss_of(q1, g1, q2, g2):backward()
        for i, pair in ipairs { { q[1], q1 }, { q[2], q2 }, { g[1], g1 }, { g[2], g2 } } do
          assert.same(i <= 2 and { 6, 4 } or { 6, 5 }, pair[1].shape)
          check.close(pair[1], pair[2], tolerance)
        end
        for i, gradient in ipairs(gradients(net)) do
          check.close(gradient, gradients(other)[i], { atol = tolerance.atol * 20, rtol = tolerance.rtol * 20 })
        end
        same_state(net, other, tolerance)
      end)
    end

    it("is a call for each block, of rows divided by their length", function()
      local net, other = twins("f64", device)
      local v = views(7, 2, "f64", device) -- blocks of 4 and 3
      local q = net:each(v, { block = 4, normalize = true })
      for i = 1, 2 do
        local first, second = other(v[i]:narrow(1, 1, 4)), other(v[i]:narrow(1, 5, 3))
        check.close(q[i], cld.cat({ first, second }, 1):normalize(-1), limits.f64)
      end
      assert.equal(2, net.bn1.num_batches_tracked:item())
    end)

    it("in groups of blocks leaves the statistics of one call", function()
      local net, other = twins("f64", device)
      local v = views(7, 2, "f64", device)
      local whole = net:each(v, { block = 3 })
      for _, group in ipairs(nn.blocks(7, { block = 3, groups = 2 })) do
        local here = { v[1]:narrow(1, group.first, group.count), v[2]:narrow(1, group.first, group.count) }
        local q = other:each(here, { block = 3, done = group.done, total = group.total })
        for i = 1, 2 do check.close(q[i], whole[i]:narrow(1, group.first, group.count), limits.f64) end
      end
      same_state(net, other, limits.f64)
    end)

    it("in groups of blocks leaves the statistics of one call of each, of views and of patches", function()
      local net, other = twins("f64", device)
      local v, patches = views(7, 2, "f64", device), views(21, 1, "f64", device)[1] -- three rows of an image
      net:each(v, { block = 3 })
      net:each({ patches }, { block = 3, unit = 3 })
      for _, group in ipairs(nn.blocks(7, { block = 3, groups = 2 })) do
        local done, total = group.done, group.total
        local here = { v[1]:narrow(1, group.first, group.count), v[2]:narrow(1, group.first, group.count) }
        other:each(here, { block = 3, done = done, total = total, after = 1 })
        other:each({ patches:narrow(1, 3 * done + 1, 3 * group.count) },
          { block = 3, unit = 3, done = done, total = total, before = 2 })
      end
      assert.equal(3, other.bn1.num_batches_tracked:item())
      same_state(net, other, limits.f64)
    end)

    it("gives an image that has several rows to one block", function()
      local net, other = twins("f64", device)
      local patches = views(10, 1, "f64", device)[1] -- 5 images of 2 rows: blocks of 3 and 2 images
      local q = net:each({ patches }, { block = 3, unit = 2 })
      local first, second = other(patches:narrow(1, 1, 6)), other(patches:narrow(1, 7, 4))
      check.close(q[1], cld.cat({ first, second }, 1), limits.f64)
    end)

    it("in evaluation moves nothing", function()
      local net, other = twins("f64", device)
      net:eval()
      local v = views(4, 2, "f64", device)
      local q = net:each(v, { block = 2 })
      check.close(q[2], (net(v[2])), limits.f64)
      same_state(net, other, limits.f64)
    end)

    it("goes by the batch in evaluation where no statistics are kept", function()
      local bn = nn.batch_norm2d(3, { track_running_stats = false }):to("f64"):to(device):eval()
      local v = views(4, 2, "f64", device)
      check.close(bn:each(v)[2], bn(v[2]), limits.f64)
    end)

    it("takes views that lie together as they are", function()
      local all = views(8, 1, "f32", device)[1]
      local inside
      local function look(x)
        inside = x
        return x:mean { 2, 3, 4 }
      end
      local first, second = all:narrow(1, 1, 4), all:narrow(1, 5, 4)
      nn.each(look, { first, second })
      assert.same({ 8, 3, 6, 5 }, inside.shape)
      first:fill_(7)
      assert.equal(7, inside[{ 1, 1, 1, 1 }]:item()) -- the same memory
      nn.each(look, { second, first })
      second:fill_(9)
      assert.is_true(inside[{ 1, 1, 1, 1 }]:item() ~= 9)
    end)
  end)
end

describe("net:each", function()
  it("replaces the parts outside, which hold again after it", function()
    nn.with_parts({ views = 7 }, function()
      nn.each(function(x)
        assert.same({ views = 2, blocks = 1, unit = 1 }, nn.parts())
        return x
      end, { cld.zeros { 2, 3 }, cld.zeros { 2, 3 } })
      assert.equal(7, nn.parts().views)
    end)
  end)

  it("has gradients through views, outputs that nobody uses, and a function", function()
    check.gradcheck(function(a, b)
      local y = nn.each(function(x) return x:exp() end, { a, b })
      return y[1] * 2
    end, { formula.uniform("a", { 3, 2 }, "f64"), formula.uniform("b", { 3, 2 }, "f64") })
  end)

  it("finds the loader's views of a batch together", function()
    local loader = cld.data.loader { require "spec.bench.images"(8), batch_size = 4, views = 3 }
    local seen
    for batch in loader:epoch(1) do
      nn.each(function(x)
        seen = x
        return x
      end, batch.views)
      batch.views[3]:fill_(5)
      assert.equal(5, seen[{ 12, 3, 32, 32 }]:item())
    end
    assert.same({ 12, 3, 32, 32 }, seen.shape)
  end)

  it("names what is wrong", function()
    local net = nn.linear(2, 3)
    check.fails(function() net:each(cld.zeros { 2, 2 }) end, "each: expected a list of views, got")
    check.fails(function() net:each {} end, "each: expected a list of views, got an empty table")
    check.fails(function() net:each { cld.zeros { 2, 2 }, 5 } end, "view 2: expected a tensor, got 5")
    check.fails(function() net:each { cld.zeros { 2, 2 }, cld.zeros { 3, 2 } } end,
      "view 2 is f32%[3, 2%], view 1 f32%[2, 2%]")
    check.fails(function() net:each({ cld.zeros { 3, 2 } }, { unit = 2 }) end, "3 rows cannot be divided into images")
    check.fails(function() net:each({ cld.zeros { 3, 2 } }, { blocks = 2 }) end, "each: .*blocks")
    check.fails(function() net:each({ cld.zeros { 3, 2 } }, { block = 0 }) end, "block must be a positive integer")
    check.fails(function()
      nn.each(function(x) return x:sum { 1 } end, { cld.zeros { 2, 3 }, cld.zeros { 2, 3 } })
    end, "output 1, f32%[3%], does not fall into 2 views")
    check.fails(function()
      local Bad = nn.module "bad"
      function Bad:build() self.each = nn.linear(1, 1) end
      Bad()
    end, "each")
  end)
end)

for _, device in ipairs { "cpu", table.unpack(devices.names) } do
  describe("nn.shuffled on " .. device, function()
    it("is the network's call for each block of the shuffled images, in the images' order", function()
      local net, other = twins("f64", device)
      local images = views(7, 1, "f64", device)[1]
      local order = cld.tensor({ 3, 6, 0, 2, 5, 1, 4 }, "i64"):to(device)
      local q, g = nn.shuffled(net, images, { block = 4, order = order })
      local mixed = images:index_select(1, order)
      local q1, g1 = other(mixed:narrow(1, 1, 4))
      local q2, g2 = other(mixed:narrow(1, 5, 3))
      local inverse = order:argsort()
      check.close(q, cld.cat({ q1, q2 }, 1):index_select(1, inverse), limits.f64)
      check.close(g, cld.cat({ g1, g2 }, 1):index_select(1, inverse), limits.f64)
      assert.equal(1, net.bn1.num_batches_tracked:item())
    end)

    it("in groups is what it is in one", function()
      local net, other = twins("f64", device)
      local images = views(11, 1, "f64", device)[1]
      local order = cld.tensor({ 3, 6, 0, 2, 5, 1, 4, 10, 9, 7, 8 }, "i64"):to(device)
      local q = nn.shuffled(net, images, { block = 3, order = order })
      check.close((nn.shuffled(other, images, { block = 3, order = order, groups = 3 })), q, limits.f64)
      same_state(net, other, limits.f64)
    end)

    it("shuffles more than 512 images in each 512 by itself", function()
      local rows, seen = cld.arange(0, 1030, 1):to("f64"):reshape(1030, 1):to(device), nil
      local y = nn.shuffled(function(x)
        seen = x:flatten():totable()
        return x
      end, rows, { block = 64 })
      local moved = 0
      for i, row in ipairs(seen) do
        assert.equal((i - 1) // 512, row // 512)
        if row ~= i - 1 then moved = moved + 1 end
      end
      assert.is_true(moved > 900)
      assert.equal(0, y:ne(rows):sum():item())
    end)

    it("keeps the rows of an image together", function()
      local rows = cld.arange(0, 8, 1):to("f64"):reshape(8, 1):to(device)
      local seen
      local y = nn.shuffled(function(x)
        seen = x:flatten():totable()
        return x, x:reshape(4, 2)
      end, rows, { block = 2, unit = 2, order = cld.tensor({ 2, 0, 3, 1 }, "i64"):to(device) })
      assert.same({ 4, 5, 0, 1, 6, 7, 2, 3 }, seen)
      assert.same(rows:totable(), y:totable())
    end)

    it("draws the cpu's order, as many numbers as there are images", function()
      local function seen_order(where)
        local seen
        cld.manual_seed(11)
        nn.shuffled(function(x)
          seen = x:flatten():totable()
          return x
        end, cld.arange(0, 9, 1):to("f32"):reshape(9, 1):to(where), { block = 3 })
        return seen, cld.get_rng_state().position
      end
      local order, position = seen_order(device)
      assert.same({ seen_order "cpu" }, { order, position })
      cld.manual_seed(11)
      cld.rand { 9 }
      assert.equal(cld.get_rng_state().position, position)
      table.sort(order)
      assert.same({ 0, 1, 2, 3, 4, 5, 6, 7, 8 }, order)
    end)

    it("draws nothing for one block or in evaluation", function()
      local net = twins("f32", device)
      local images = views(6, 1, "f32", device)[1]
      local before = cld.get_rng_state().position
      nn.shuffled(net, images, { block = 6 })
      net:eval()
      check.close((nn.shuffled(net, images, { block = 2, groups = 2 })), (net(images)), limits.f32)
      assert.equal(before, cld.get_rng_state().position)
    end)

    it("draws anew at each replay of a captured step", function()
      local seen = {}
      local step = cld.graph(function(x)
        local inside
        nn.shuffled(function(y)
          inside = y + 0
          return y
        end, x, { block = 8 })
        return inside
      end)
      local x = cld.arange(0, 32, 1):to("f32"):reshape(32, 1):to(device)
      for i = 1, 5 do seen[i] = table.concat(step(x):flatten():totable(), " ") end
      for i = 1, 4 do assert.is_true(seen[i] ~= seen[i + 1]) end
    end)
  end)
end

describe("nn.shuffled", function()
  it("takes images of 8 bits", function()
    local x = cld.arange(0, 6, 1):to("u8"):reshape(6, 1)
    assert.same(x:totable(), nn.shuffled(function(y) return y end, x, { block = 2 }):totable())
  end)

  it("gives its outputs once", function()
    local shuffled = nn.shuffle(function(y) return y end, cld.ones(6, 1), { block = 2 })
    shuffled()
    check.fails(shuffled, "nn.shuffle: its function was called before")
  end)

  it("names what is wrong", function()
    local x = cld.zeros { 4, 2 }
    local function order(list)
      return function()
        nn.shuffled(function(y) return y end, x, { block = 2, order = cld.tensor(list, "i64") })
      end
    end
    check.fails(order { 0, 1, 2 }, "the order of 4 images is an i64%[4%], got i64%[3%]")
    check.fails(order { 0, 1, 1, 2 }, "the order has not each of 0 to 3 once")
    check.fails(function() nn.shuffled(print, 5) end, "expected a tensor of images, got 5")
    check.fails(function() nn.shuffled(print, x, { unit = 3 }) end, "4 rows cannot be divided into images of 3 rows")
    check.fails(function() nn.shuffled(function() return 1 end, x, { block = 2 }) end, "output 1: expected a tensor")
    for shape, y in pairs { ["f32[]"] = x:sum(), ["f32[1, 1]"] = cld.ones(1, 1), ["f32[6, 1]"] = cld.ones(6, 1) } do
      check.fails(function() nn.shuffled(function() return y end, x, { block = 2 }) end,
        "nn.shuffle: the rows of " .. shape:gsub("%p", "%%%0") .. " cannot be divided evenly among 4 images")
    end
  end)
end)

devices.each("the loader's views", function(device)
  it("are joined as the device's convolutions want them", function()
    for _, resident in ipairs { true, false } do
      local loader = cld.data.loader {
        require "spec.bench.images"(8), batch_size = 4, views = 2, device = device, dtype = "bf16", resident = resident,
      }
      for batch in loader:epoch(1) do
        local y = nn.each(function(x) return x end, batch.views)
        local whole = nn.functional.join_rows(batch.views)
        for v = 1, 2 do
          check.close(y[v], batch.views[v], { atol = 0, rtol = 0 })
          check.close(whole:narrow(1, 4 * v - 3, 4), batch.views[v], { atol = 0, rtol = 0 })
        end
      end
    end
  end)
end)

devices.each("a captured step under parts", function(device)
  it("is captured anew where they differ", function()
    local bn = nn.batch_norm2d(3):to(device)
    local step = cld.graph(function(x) return bn(x) end)
    local x = views(4, 1, "f32", device)[1]
    local function under(given) return nn.with_parts(given, step, x):totable() end
    local whole, halves
    for _ = 1, 5 do
      whole, halves = under(nil), under { blocks = 2 }
    end
    check.close(whole, bn(x))
    check.close(halves, cld.cat({ bn(x:narrow(1, 1, 2)), bn(x:narrow(1, 3, 2)) }, 1))
  end)

  it("finds its views together", function()
    local step = cld.graph(function(v)
      local seen
      nn.each(function(x)
        seen = x
        return x
      end, v)
      v[2]:fill_(5)
      return seen:narrow(1, 5, 4) + 0 -- view 2's memory
    end)
    local v = views(4, 2, "f32", device)
    for _ = 1, 4 do check.close(step(v), cld.full({ 4, 3, 6, 5 }, 5)) end
  end)
end)
