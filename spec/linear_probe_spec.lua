--- cld.eval.linear_probe and cld.eval.linear: the protocols' tables, steps against PyTorch's, what is kept and what
-- must not change, and wrong data. The recipe is in evaluation_recipes_spec.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local protocols = require "cld.eval.protocols"
local sets = require "spec.support.sets"
local nn = cld.nn

local function pixels(images) return images:flatten(2, -1) end

-- Images of one pixel, their labels in turn, grey by label with a little of the place.
local function set_of(n, classes, more)
  local labels, greys = {}, {}
  for i = 1, n do
    labels[i] = (i - 1) % classes
    greys[i] = labels[i] * (200 // classes) + i % 5
  end
  local options = { images = cld.tensor(greys, "f32"):reshape(n, 1, 1, 1):expand(n, 2, 2, 3):contiguous():to "u8",
    labels = sets.i64(labels), classes = classes }
  for name, value in pairs(more or {}) do options[name] = value end
  return cld.data.tensors(options)
end

local function probe_of(more)
  local options = { net = pixels, train = set_of(24, 6) }
  for name, value in pairs(more or {}) do options[name] = value end
  return cld.eval.linear_probe(options)
end

-- The epochs that are tested, in the published count from `first` on.
local function tested(p, first)
  local list = {}
  for epoch = 1, p.epochs do
    if protocols.is_tested(p, epoch) then list[#list + 1] = epoch - 1 + first end
  end
  return list
end

describe("the protocol", function()
  it("moco tests epochs 0, 1, 10, 20 to 70, and every one from 80 on", function()
    local expected = { 0, 1, 10, 20, 30, 40, 50, 60, 70 }
    for epoch = 80, 99 do expected[#expected + 1] = epoch end
    assert.same(expected, tested(protocols.settings("spec", "moco"), 0))
  end)

  it("infomin tests every one of its epochs 1 to 61", function()
    local expected = {}
    for epoch = 1, 61 do expected[epoch] = epoch end
    assert.same(expected, tested(protocols.settings("spec", "infomin"), 1))
  end)

  it("moco has the rate 30, a tenth from epoch 60, a hundredth from epoch 80", function()
    local rate = protocols.rate(protocols.settings("spec", "moco"), 7)
    for epoch, expected in pairs { [0] = 30, [59] = 30, [60] = 3, [79] = 3, [80] = 0.3, [99] = 0.3 } do
      check.close(rate(epoch * 7), expected)
      check.close(rate(epoch * 7 + 6), expected)
    end
  end)

  it("infomin has the rate 30, a fifth of it from epochs 31, 41 and 51, counted from 1", function()
    local rate = protocols.rate(protocols.settings("spec", "infomin"), 7)
    for epoch, expected in pairs { [1] = 30, [30] = 30, [31] = 6, [40] = 6, [41] = 1.2, [50] = 1.2, [51] = 0.24,
      [61] = 0.24 } do
      check.close(rate((epoch - 1) * 7), expected)
      check.close(rate((epoch - 1) * 7 + 6), expected)
    end
  end)

  it("takes a batch of 256 and the crop and steps that were published", function()
    local images = { size = 224, mean = { 0, 0, 0 }, std = { 1, 1, 1 } }
    local function of(name)
      local p = protocols.settings("spec", name)
      local view, ops = protocols.view(p, images), {}
      for i, step in ipairs(view) do ops[i] = step.op end
      return { p.batch_size, view[1].scale, ops, p.weight_decay, p.momentum }
    end
    assert.same({ 256, { 0.08, 1 }, { "random_resized_crop", "flip", "normalize" }, 0, 0.9 }, of "moco")
    assert.same({ 256, { 0.2, 1 }, { "random_resized_crop", "flip", "rand_augment", "normalize" }, 0, 0.9 },
      of "infomin")
  end)

  it("keeps the milestones' share of a training of other length", function()
    assert.same({ 6, 8 }, protocols.settings("spec", "moco", { epochs = 10 }).milestones)
    assert.same({}, protocols.settings("spec", "moco", { epochs = 1 }).milestones)
    assert.same({ 3 }, protocols.settings("spec", "moco", { epochs = 10, milestones = { 3 } }).milestones)
    assert.same({ 6, 8 }, protocols.settings("spec", { epochs = 10 }).milestones)
  end)

  it("draws the classifier as published", function()
    cld.manual_seed(3)
    local moco = probe_of { protocol = "moco", net = function(x) return pixels(x):tile(1, 100) end }
    check.close(moco.weight:std():item(), 0.01, { atol = 1e-3 })
    assert.equal(0, moco.bias:ne(0):any():item())
    local infomin = probe_of { protocol = "infomin" }
    local bound = 1 / math.sqrt(12)
    for _, t in ipairs { infomin.weight, infomin.bias } do
      local largest = t:abs():amax():item()
      assert.is_true(largest <= bound and largest > bound / 4)
    end
  end)

  it("is refused under another name, or with a setting that it does not have", function()
    check.fails(function() probe_of { protocol = "mocco" } end,
      "eval.linear_probe: protocol must be infomin or moco, or a table of settings, got 'mocco'")
    check.fails(function() probe_of { protocol = { epoch = 3 } } end, "unknown field 'epoch'; did you mean 'epochs'")
    check.fails(function() probe_of { protocol = { epochs = 0 } } end, "epochs must be a positive integer, got 0")
  end)
end)

describe("eval.linear_probe", function()
  local fixture = cld.load "spec/fixtures/linear.safetensors"
  for _, device in ipairs(devices.names) do
    for case, decay in pairs { plain = 0, decay = 0.01 } do
      it(("makes PyTorch's steps: %s, on %s"):format(case, device), function()
        local train = sets.pixels { 0, 1, 2, 3, 4, 5 }
        local probe = cld.eval.linear_probe { net = pixels, train = train, weight_decay = decay, device = device }
        cld.no_grad(function()
          probe.weight:copy_(fixture.weight)
          probe.bias:copy_(fixture.bias)
        end)
        local losses = {}
        for s = 1, #fixture.x do
          local images = fixture.x[s]:reshape(12, 3, 1, 1):to(device)
          local batch = { views = { images }, labels = fixture.labels[s]:to(device) }
          losses[s] = probe:step(batch, fixture.rates[s]:item()).loss:item()
        end
        check.close(losses, fixture[case .. "/losses"], { atol = 1e-3, rtol = 1e-4 })
        local scale = fixture[case .. "/weight"]:abs():amax():item()
        check.close(probe.weight, fixture[case .. "/weight"], { atol = 1e-5 * scale, rtol = 0 })
        check.close(probe.bias, fixture[case .. "/bias"], { atol = 1e-5 * scale, rtol = 0 })
      end)
    end
  end

  it("sees what the heads of a network see, and an output where it has no heads", function()
    local net = cld.models.resnet18_cifar { width = 4, low_dim = 8 }
    assert.same({ 6, 32 }, probe_of({ net = net }).weight.shape)
    assert.same({ 6, 8 }, probe_of({ net = net, layer = "instance" }).weight.shape)
    assert.same({ 6, 12 }, probe_of().weight.shape)
    check.fails(function() probe_of { layer = "features" } end, "the network has no method 'features'")
    check.fails(function() probe_of { layer = "fc" } end, "layer must be 'instance' .* or 'features' .*, got 'fc'")
  end)

  local function batch_of(n) return { views = { cld.rand(n, 3, 2, 2) }, labels = sets.i64 { 0, 1, 2, 3 } } end

  it("trains nothing of the network, moves no statistics and leaves its mode as it was", function()
    local net = cld.models.resnet18_cifar { width = 4, low_dim = 8 }
    local probe = probe_of { net = net }
    assert.is_true(net.training and net.bn1.training)
    local before = {}
    for name, tensor in pairs(net:state_dict()) do before[name] = tensor:clone() end
    probe:step(batch_of(4), 30)
    probe:check_frozen()
    assert.is_true(net.training and net.bn1.training)
    for name, tensor in pairs(net:state_dict()) do assert.equal(0, tensor:ne(before[name]):any():item(), name) end
    for _, parameter in ipairs(net:parameters()) do assert.is_nil(parameter.grad) end
  end)

  for what, change in pairs {
    ["layer1.0.conv1.weight"] = function(t) t[{ 1, 1, 1, 1 }] = t[{ 1, 1, 1, 1 }]:item() * (1 + 2 ^ -20) end,
    ["bn1.running_var"] = function(t) t:mul_(2) end,
    ["bn1.num_batches_tracked"] = function(t) t:add_(1) end,
    ["bn1.bias"] = function(t) t:mul_(-1) end, -- of zeros
  } do
    it("names the tensor of the network that has changed: " .. what, function()
      local net = cld.models.resnet18_cifar { width = 4, low_dim = 8 }
      local probe = probe_of { net = net }
      change(net:state_dict()[what])
      check.fails(function() probe:check_frozen() end,
        "'" .. what:gsub("%.", "%%.") .. "' of the frozen network is no longer what it was in the checkpoint")
    end)
  end

  it("goes on from its state, bit for bit", function()
    cld.manual_seed(5)
    local one = probe_of()
    local batches = { batch_of(4), batch_of(4), batch_of(4) }
    one:step(batches[1], 30)
    one:test(set_of(12, 6), 3)
    local saved = {}
    for name, tensor in pairs(one:state_dict()) do saved[name] = tensor:clone() end
    local other = probe_of()
    other:load_state_dict(saved)
    assert.same({ one.best.epoch, one.best.top1 }, { other.best.epoch, other.best.top1 })
    for s = 2, 3 do
      one:step(batches[s], 3)
      other:step(batches[s], 3)
    end
    local state = other:state_dict()
    for name, tensor in pairs(one:state_dict()) do assert.same(tensor:totable(), state[name]:totable(), name) end
    check.fails(function() other:load_state_dict { weight = saved.weight } end, "linear_probe: .* missing: best.bias")
  end)

  it("keeps the best classifier", function()
    local probe = probe_of { net = function(x) return x:mean(4):mean(3) end }
    local test = set_of(12, 6)
    assert.is_nil(probe.best)
    cld.no_grad(function()
      probe.weight:zero_()
      probe.bias:copy_(cld.tensor { 0, 1, 0, 0, 0, 0 })
    end)
    probe:test(test, 1)
    check.close(probe.best.top1, 1 / 6)
    local kept = probe.bias:clone()
    cld.no_grad(function() probe.bias:copy_(cld.tensor { 1, 0, 0, 0, 0, 0 }) end)
    probe:test(test, 2) -- as good, not better
    assert.equal(1, probe.best.epoch)
    assert.equal("linear_probe: 6 classes of 3 outputs, f32 on cpu; best top-1 16.67 %, epoch 1", tostring(probe))
    assert.same(kept:totable(), probe:state_dict()["best.bias"]:totable())
  end)
end)

describe("its scores", function()
  it("are top-1 and top-5, and top-1 alone of fewer than five classes", function()
    local values = probe_of():test(set_of(12, 6))
    assert.is_true(values.top1 >= 0 and values.top5 >= values.top1)
    local few = set_of(12, 4)
    values = probe_of { train = few }:test(few)
    assert.is_number(values.top1)
    assert.is_nil(values.top5)
  end)

  it("are of classes with many, some and few training images, as means over classes", function()
    local labels = {}
    for c, count in ipairs { 100, 99, 21, 20, 3, 1 } do
      for _ = 1, count do labels[#labels + 1] = c - 1 end
    end
    local probe = probe_of { train = sets.pixels(labels), net = function(x) return x:mean(4):mean(3) end }
    cld.no_grad(function()
      probe.weight:zero_()
      probe.bias:copy_(cld.tensor { 0, 1, 0, 0, 0, 0 }) -- says class 1, which is one of the two medium ones
    end)
    local values = probe:test(sets.pixels { 0, 0, 1, 1, 1, 2, 3, 4, 5 })
    check.close({ values.top1, values.many, values.medium, values.few }, { 3 / 9, 0, 1 / 2, 0 })
  end)

  it("have no such groups where all classes are alike", function()
    local values = probe_of():test(set_of(12, 6))
    assert.same({ nil, nil, nil }, { values.many, values.medium, values.few })
  end)

  it("are an error of weights that are not finite", function()
    local probe = probe_of()
    cld.no_grad(function() probe.weight:fill_(0 / 0) end)
    check.fails(function() probe:test(set_of(12, 6)) end,
      "^the classifier's scores of 12 of 12 images are not finite: it has diverged")
  end)
end)

describe("linear evaluation refuses", function()
  local function refused(pattern, more) check.fails(function() probe_of(more) end, pattern) end

  it("a class that the training set lacks", function()
    refused("tensors has 2 images of class label 5, and the training set has none of it", {
      train = set_of(20, 5), test = set_of(12, 6),
    })
    refused("class 'owl' %(label 2%)", {
      train = sets.pixels({ 0, 1, 1 }, { class_names = { "cat", "dog", "owl" } }),
      test = sets.pixels({ 0, 2 }, { class_names = { "cat", "dog", "owl" } }),
    })
  end)

  it("images without a label", function()
    refused("2 of the 4 images of tensors have no label", { train = sets.pixels { 0, -1, 1, -1 } })
    refused("1 of the 2 images of tensors have no label", { test = sets.pixels { 0, -1 } })
  end)

  it("a data set of one class", function()
    refused("the 3 images of tensors are of one class", { train = sets.pixels { 1, 1, 1 } })
  end)

  it("a network that is not finite, and names the tensor", function()
    local net = cld.models.resnet18_cifar { width = 4, low_dim = 8 }
    cld.no_grad(function() net.layer2[1].bn1.weight[1] = 0 / 0 end)
    refused("^the network's 'layer2.0.bn1.weight' is not finite: the checkpoint has diverged", { net = net })
  end)

  it("features that are not finite", function()
    refused("features of 1 of 1 images are not finite", { net = function(x) return pixels(x) * (0 / 0) end })
  end)

  it("features that are no rows", function()
    refused("the network must make features %(images, dim%), got f32%[1, 3, 2, 2%]", { net = function(x) return x end })
  end)
end)

describe("eval.linear", function()
  local function evaluate(more)
    cld.manual_seed(2)
    local options = { net = pixels, train = set_of(60, 6), test = set_of(24, 6), epochs = 20, batch_size = 16 }
    for name, value in pairs(more or {}) do options[name] = value end
    return cld.eval.linear(options)
  end

  it("tells greys apart", function()
    local result, probe = evaluate()
    assert.is_true(result.top1 > 0.6, tostring(result.top1))
    assert.is_true(result.top5 >= result.top1)
    assert.same({ epoch = result.epoch, top1 = result.top1 }, probe.best)
  end)

  it("is the same for the same seed", function() assert.same((evaluate()), (evaluate())) end)

  it("calls on_test after each test, with its values", function()
    local epochs = {}
    evaluate { epochs = 12, milestones = { 11 }, on_test = function(epoch, values)
      epochs[#epochs + 1] = epoch
      assert.is_number(values.top1)
    end }
    assert.same({ 1, 2, 11, 12 }, epochs)
  end)

  it("checks after the first epoch that nothing of the network has changed", function()
    local net = nn.sequential(nn.flatten(), nn.batch_norm1d(12))
    local function moving(n, images)
      n[2].running_mean:add_(1)
      return n(images)
    end
    check.fails(function() evaluate { net = net, branch = moving } end, "'1.running_mean' of the frozen network")
  end)

  it("says what is wrong", function()
    check.fails(function() cld.eval.linear { net = pixels, trian = 1 } end,
      "linear_probe_spec.lua:%d+: eval.linear: unknown field 'trian'; did you mean 'train'?")
    check.fails(function() evaluate { test = {} } end, "eval.linear: test must be a data set of cld.data, got a table")
    check.fails(function() evaluate { lr = -1 } end, "lr must be a number of at least 0, got %-1")
  end)
end)

describe("folds", function()
  local folds = require "cld.eval.folds"

  -- Three folds of five images in batches of two: three steps each.
  local function made()
    local list = {}
    for f = 1, 3 do
      list[f] = cld.data.loader { sets.pixels { f, f, f, f, f }, batch_size = 2, views = 1, drop_single = false }
    end
    return folds.loader(list)
  end

  local function seen(loader)
    local words = {}
    for batch, fold in loader:epoch(1) do
      words[#words + 1] = ("%d:%d x%d"):format(fold, batch.labels[1]:item(), #batch.labels)
    end
    return table.concat(words, " ")
  end

  it("come one after the other, each with its short last batch", function()
    assert.equal(9, #made())
    assert.equal("1:1 x2 1:1 x2 1:1 x1 2:2 x2 2:2 x2 2:2 x1 3:3 x2 3:3 x2 3:3 x1", seen(made()))
  end)

  it("go on in the fold where a run stood", function()
    local loader = made()
    for step, expected in pairs { [2] = "1:1 x1 2:2 x2 2:2 x2 2:2 x1 3:3 x2 3:3 x2 3:3 x1",
      [3] = "2:2 x2 2:2 x2 2:2 x1 3:3 x2 3:3 x2 3:3 x1", [7] = "3:3 x2 3:3 x1", [9] = "" } do
      loader.first_image = step * 2
      assert.equal(expected, seen(loader))
    end
  end)

  it("count the images that there are, and the seconds that were waited for them", function()
    local list = {}
    for f = 1, 2 do list[f] = cld.data.loader { set_of(20, 2), batch_size = 256, views = 1 } end
    local loader = folds.loader(list)
    assert.equal(20, loader.batch_size)
    assert.equal(0, loader.waited)
    seen(loader)
    assert.is_true(loader.waited > 0 and loader.waited == list[1].waited + list[2].waited)
    loader.first_image = 20
    assert.matches("^2:%d x20$", seen(loader))
  end)

  it("have as many steps each", function()
    local function of(n) return cld.data.loader { set_of(n, 2), batch_size = 2, views = 1 } end
    check.fails(function() folds.loader { of(4), of(8) } end, "fold 2 has 4 steps, and fold 1 has 2")
  end)

  it("have a mean, and a deviation of top-1", function()
    local means = folds.mean {
      { top1 = 0.2, top5 = 0.8 }, { top1 = 0.4, top5 = 1 }, { top1 = 0.6, top5 = 0.9, few = 1 },
    }
    check.close({ means.top1, means.top1_deviation, means.top5 }, { 0.4, 0.2, 0.9 })
    assert.is_nil(folds.mean { { top1 = 1, few = 1 }, { top1 = 1 } }.few)
    assert.same({ top1 = 1 }, folds.mean { { top1 = 1 } })
  end)
end)
