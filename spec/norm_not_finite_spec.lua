--- Batch norm on a batch that is not finite: the step is skipped, and nothing of the batch stays in the running
-- statistics.
local cld = require "cld"
local devices = require "spec.support.devices"

local nan, inf = 0 / 0, math.huge

local function state(net)
  local list = {}
  for name, tensor in pairs(net:state_dict()) do list[name] = tensor:totable() end
  return list
end

for _, device in ipairs { "cpu", table.unpack(devices.names) } do
  describe("batch norm on " .. device, function()
    -- Channels enough for several blocks of threads, the blocked layout of the cpu, and neither.
    for _, channels in ipairs { 3, 32, 40 } do
      for _, dtype in ipairs { "f32", "f64" } do
        for what, value in pairs { NaN = nan, ["an infinity"] = inf, ["a square that overflows"] = 1e200 } do
          if dtype == "f32" and value == 1e200 then value = 3e38 end
          it(("of %d channels, %s: %s in one of them moves none"):format(channels, dtype, what), function()
            local bn = cld.nn.batch_norm2d(channels):to(device):to(dtype)
            bn(cld.randn({ 4, channels, 3, 3 }, { device = device, dtype = dtype }))
            local before = state(bn)
            local x = cld.ones({ 4, channels, 3, 3 }, { device = device, dtype = dtype })
            x[{ 2, channels, 1, 3 }] = value
            bn(x)
            assert.same(before, state(bn))
            assert.equal(1, before.num_batches_tracked)
          end)
        end
      end
    end

    it("moves by the next batch that is finite", function()
      local bn, other = cld.nn.batch_norm2d(4):to(device), cld.nn.batch_norm2d(4):to(device)
      local x = cld.randn({ 4, 4, 3, 3 }, { device = device })
      bn(x * nan)
      bn(x)
      other(x)
      assert.same(state(other), state(bn))
    end)

    it("still hands the NaN on, so that the step is skipped", function()
      local bn = cld.nn.batch_norm2d(2):to(device)
      local y = bn(cld.full({ 2, 2, 2, 2 }, nan, { device = device }))
      assert.equal(16, y:isnan():sum():item())
    end)

    for name, wrap in pairs { ["as it is"] = function(f) return f end, captured = cld.graph } do
      it("a skipped step leaves the whole network as it was, " .. name, function()
        cld.manual_seed(1)
        local net = cld.nn.sequential(cld.nn.conv2d(3, 8, 3), cld.nn.batch_norm2d(8), cld.nn.relu(),
          cld.nn.flatten(), cld.nn.linear(8 * 4 * 4, 2), cld.nn.batch_norm1d(2)):to(device)
        local sgd = cld.optim.sgd(net:parameters(), { lr = 0.1, momentum = 0.9 })
        local x = cld.randn({ 4, 3, 6, 6 }, { device = device })
        local step = wrap(function(images)
          sgd:step(net(images):square():mean())
          return {}
        end)
        for _ = 1, 4 do step(x) end
        local before = state(net)
        local bad = x:clone()
        bad[{ 2, 1, 1, 1 }] = nan
        step(bad)
        assert.same(before, state(net))
        assert.equal(1, sgd.skipped)
        step(x)
        assert.equal(5, net[2].num_batches_tracked:item())
      end)
    end
  end)
end
