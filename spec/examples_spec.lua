--- The examples as a newcomer runs them, on a few toy images; the optimizer in Lua against the one in C.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local process = require "spec.support.process"
local recipes = require "spec.support.recipes"

describe("examples", function()
  local folder, toy
  lazy_setup(function() folder, toy = recipes.start() end)
  lazy_teardown(recipes.remove)

  local own = {
    simclr = { "--data", "TOY" }, classifier = { "--data", "TOY" }, byol = { "--data", "TOY", "--hidden", "8" },
    own_adamw = { "--data", "TOY" }, own_images = { "--count", "40" },
  }
  local function run(name, ...)
    local given = { "--runs", folder .. "/runs", "--width", "4", "--batch-size", "16", ... }
    for _, word in ipairs(own[name]) do given[#given + 1] = word == "TOY" and toy or word end
    return recipes.run("examples/" .. name, table.unpack(given))
  end

  for name in pairs(own) do
    it(name .. " trains, and is scored", function()
      local result = run(name, "--epochs", "1", "--device", "cpu", "--name", name)
      assert.equal("", result.err)
      assert.equal(0, result.code)
      assert.matches("epoch 1/1  .*loss %d", result.out)
      assert.matches("top1 %d", result.out)
      local epoch = recipes.last(name, "epoch") -- the names that tools read
      assert.is_true(epoch.now.lr > 0 and epoch.means.grad_norm > 0)
      assert.is_true(epoch.images_per_second > 0 and epoch.data_wait >= 0)
    end)

    for _, option in ipairs { "--width", "--batch-size", "--epochs" } do
      it(name .. " takes no half for " .. option, function()
        local result = recipes.run("examples/" .. name, option, "8.5")
        assert.equal(1, result.code)
        assert.matches(("^cldlua: option '%s': expected an integer of at least %%d, got '8.5'\n$"):format(
          option:gsub("%-", "%%-")), result.err)
      end)
    end

    it(name .. " is under seventy lines", function()
      local _, lines = process.read(("recipes/examples/%s.lua"):format(name)):gsub("\n", "")
      assert.is_true(lines < 70, name .. " has " .. lines)
    end)
  end

  it("classifier that diverges says so in a line", function()
    local result = run("classifier", "--epochs", "2", "--lr", "1e20", "--device", "cpu", "--name", "diverged")
    assert.equal(1, result.code)
    assert.matches("^cldlua: epoch 1: [^\n]*: the training has diverged [^\n]*\n$", result.err)
  end)

  it("own_images resumes in the middle of an epoch, with as many images as it began with", function()
    local stopped = recipes.run_after([[
      local count, bank = 0, cld.losses.memory_bank
      function cld.losses.memory_bank(...)
        local made = bank(...)
        local class = getmetatable(made).__index
        local loss = class.loss
        function class.loss(...)
          count = count + 1
          if count == 3 then io.popen("kill -INT " .. cld.host().pid):close() end
          return loss(...)
        end
        return made
      end]], "examples/own_images", "--runs", folder .. "/runs", "--width", "4", "--batch-size", "8", "--count", "40",
      "--epochs", "1", "--device", "cpu", "--no-graph", "--name", "stopped")
    assert.matches("interrupted %(SIGINT%) after step %d of epoch 1", stopped.out .. stopped.err)
    local result = recipes.run("examples/own_images", "--resume", folder .. "/runs/stopped")
    assert.equal("", result.err)
    assert.matches("\ndone: 1 epoch", result.out)
  end)

  it("own_adamw resumes", function()
    run("own_adamw", "--epochs", "1", "--device", "cpu", "--name", "first")
    local result = run("own_adamw", "--epochs", "2", "--device", "cpu", "--resume", folder .. "/runs/first")
    assert.equal("", result.err)
    assert.matches("epoch 2/2  .*loss %d", result.out)
  end)

  for _, device in ipairs(devices.names) do
    it("classifier, captured on " .. device, function()
      local result = run("classifier", "--epochs", "2", "--device", device, "--name", "captured")
      assert.equal("", result.err)
      assert.matches("epoch 2/2  .*loss %d", result.out)
    end)
  end
end)

describe("AdamW in Lua", function()
  -- The class that recipes/examples/own_adamw.lua begins with.
  local function class()
    local text = process.read "recipes/examples/own_adamw.lua"
    return load(text:match "^(.-)\nlocal opt = " .. "\nreturn AdamW")()
  end

  local function network(device)
    cld.manual_seed(3)
    return cld.nn.sequential(cld.nn.linear(6, 8), cld.nn.tanh(), cld.nn.linear(8, 3)):to(device)
  end

  local function steps(device, captured)
    local net, images = network(device), cld.arange(24):to("f32"):reshape(4, 6):sin():to(device)
    local labels = cld.tensor({ 0, 1, 2, 1 }, "i64"):to(device)
    local adamw = class().new(net, { betas = { 0.9, 0.95 }, eps = 1e-8, weight_decay = 0.1 })
    local step = cld.graph(function(x, rate)
      local loss = net(x):cross_entropy(labels)
      adamw:step(loss, rate)
      return loss
    end, { enabled = captured })
    for i = 1, 8 do step(images * i, 0.01 * i) end
    return net, adamw
  end

  local function expected()
    local net, images = network "cpu", cld.arange(24):to("f32"):reshape(4, 6):sin()
    local adamw = cld.optim.adamw(net, { betas = { 0.9, 0.95 }, eps = 1e-8, weight_decay = 0.1 })
    local labels = cld.tensor({ 0, 1, 2, 1 }, "i64")
    for i = 1, 8 do adamw:step(net(images * i):cross_entropy(labels), { lr = 0.01 * i }) end
    return net
  end

  local function same(net)
    local parameters = expected():parameters()
    for i, p in ipairs(net:parameters()) do check.close(p, parameters[i], { atol = 2e-5 }) end
  end

  it("is cld.optim.adamw", function() same((steps("cpu", true))) end)

  it("keeps its state", function()
    local _, adamw = steps("cpu", true)
    local _, other = steps("cpu", true)
    other.count:zero_()
    other.first[1]:zero_()
    other:load_state_dict(adamw:state_dict())
    assert.equal(8, other.count:item())
    check.close(other.first[1], adamw.first[1])
  end)

  for _, device in ipairs(devices.names) do
    it("is it captured on " .. device .. " too", function() same((steps(device, true))) end)
  end
end)
