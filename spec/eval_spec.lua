--- cld.eval: features of any network and image size, training flags that must not change, scores. The votes of the
-- neighbours are in weighted_knn_spec.
local cld = require "cld"
local check = require "spec.support.check"
local nn = cld.nn

-- n images of h x w, each of one grey, two classes in turn: the even ones are dark.
local function dataset(n, h, w)
  local greys = {}
  for i = 1, n do greys[i] = i % 2 == 1 and i or 200 + i end
  local images = cld.tensor(greys, "f32"):reshape(n, 1, 1, 1):expand(n, h or 4, w or 6, 3):contiguous():to "u8"
  local labels = {}
  for i = 1, n do labels[i] = (i - 1) % 2 end
  return cld.data.tensors { images = images, labels = cld.tensor(labels, "i64") }
end

local function mean_and_one(images)
  local mean = images:mean(4):mean(3)
  return cld.cat({ mean, cld.ones(mean.shape[1], 1) }, 2):normalize()
end

describe("eval.features", function()
  it("takes modules of one or several outputs and functions, at the images' own size", function()
    local seen
    local net = nn.sequential(function(x)
      seen = x.shape
      return x:flatten(2, -1)
    end)
    local features, labels = cld.eval.features(net, dataset(5, 4, 6), { batch_size = 2 })
    assert.same({ 1, 3, 4, 6 }, seen)
    assert.same({ 5, 72 }, features.shape)
    assert.same({ 0, 1, 0, 1, 0 }, labels:totable())
    assert.same({ 5, 4 }, cld.eval.features(mean_and_one, dataset(5)).shape)
    local two = function(images) return mean_and_one(images), images end
    assert.same({ 5, 4 }, cld.eval.features(two, dataset(5)).shape)
    local function branch(f, images) return (select(2, f(images))):flatten(2, -1) end
    assert.same({ 5, 72 }, cld.eval.features(two, dataset(5), { branch = branch }).shape)
  end)

  it("normalizes as told, by default with CIFAR's statistics", function()
    local set = dataset(1)
    local function first(options)
      return cld.eval.features(function(x) return x:mean(4):mean(3) end, set, options):totable()[1]
    end
    check.close(first { mean = { 0, 0, 0 }, std = { 1, 1, 1 } }, { 1 / 255, 1 / 255, 1 / 255 }, { atol = 1e-6 })
    local cifar, expected = cld.augment.statistics.cifar, {}
    for c = 1, 3 do expected[c] = (1 / 255 - cifar.mean[c]) / cifar.std[c] end
    check.close(first(), expected, { atol = 1e-5 })
    check.fails(function() first { mean = { 0, 0, 0 }, augment = cld.augment.none { size = { 4, 6 } } } end,
      "eval_spec.lua:%d+: eval: mean and std are settings of the augmentation")
  end)

  it("leaves every training flag as it was, after an error too", function()
    local net = nn.sequential(nn.sequential(nn.dropout(0.5)), nn.flatten())
    net[1]:eval()
    local function flags() return { net.training, net[1].training, net[1][1].training, net[2].training } end
    local before, during = flags(), nil
    local function watch(f, images)
      during = flags()
      return f(images)
    end
    cld.eval.features(net, dataset(2), { branch = watch })
    assert.same({ false, false, false, false }, during)
    assert.same({ true, false, false, true }, before)
    assert.same(before, flags())
    check.fails(function() cld.eval.features(net, dataset(2), { branch = function() error "stop" end }) end, "stop")
    assert.same(before, flags())
    assert.is_true(cld.is_grad_enabled())
  end)

  it("says what is wrong", function()
    local set = dataset(2)
    check.fails(function() cld.eval.features(mean_and_one, set, { batchsize = 1 }) end,
      "eval_spec.lua:%d+: eval.features: unknown field 'batchsize'; did you mean 'batch_size'?")
    check.fails(function() cld.eval.features(nil, set) end, "net must be a module or a function, got nil")
    check.fails(function() cld.eval.features(mean_and_one, {}) end,
      "the second argument must be a data set of cld.data, got a table")
    check.fails(function() cld.eval.features(function() end, set) end, "to return a tensor, got nil")
    check.fails(function() cld.eval.features(function(x) return x:flatten(1, 2):flatten(2, 3) end, set) end,
      "expected features of 2 images, one row each, got f32%[6, 24%]")
    check.fails(function() cld.eval.features(mean_and_one, set, { layer = "instance", branch = mean_and_one }) end,
      "give either layer or branch")
  end)
end)

describe("eval.knn", function()
  it("scores", function()
    local score = cld.eval.knn { net = mean_and_one, memory = dataset(20), queries = dataset(6), k = 5 }
    assert.same({ top1 = 1 }, score) -- of two classes, of which the first five are all
    local five = cld.data.tensors { images = cld.zeros({ 5, 4, 6, 3 }, "u8"), labels = cld.arange(0, 5, 1, "i64") }
    assert.same({ top1 = 0.2, top5 = 1 }, cld.eval.knn { net = mean_and_one, memory = five, queries = five, k = 5 })
  end)

  it("compares features by their cosine, whatever their length", function()
    local function longer(images) return mean_and_one(images) * cld.arange(1, #images + 1, 1, "f32"):unsqueeze(2) end
    assert.same({ top1 = 1 }, cld.eval.knn { net = longer, memory = dataset(20), queries = dataset(6), k = 5 })
  end)

  it("compares the layer that it is told to", function()
    local Net = nn.module "net"
    function Net.features(_, images) return mean_and_one(images) end
    function Net.forward(_, images) return images:flatten(2, -1) * 0 + 1 end
    local function top1(layer)
      return cld.eval.knn { net = Net(), memory = dataset(20), queries = dataset(6), k = 1, layer = layer }.top1
    end
    assert.same({ 1, 0.5, 0.5 }, { top1 "features", top1 "instance", top1(nil) })
    check.fails(function() top1 "heads" end, "eval.knn: layer must be 'instance' .*, got 'heads'")
    check.fails(function()
      cld.eval.knn { net = mean_and_one, memory = dataset(20), queries = dataset(6), layer = "features" }
    end, "the network has no method 'features'")
  end)

  it("says what is wrong", function()
    local set = dataset(2)
    check.fails(function() cld.eval.knn { net = mean_and_one, memory = set, querys = set } end,
      "eval_spec.lua:%d+: eval.knn: unknown field 'querys'; did you mean 'queries'?")
    check.fails(function() cld.eval.knn { net = mean_and_one, memory = set } end,
      "eval.knn: queries must be a data set of cld.data, got nil")
    check.fails(function() cld.eval.knn() end, "eval.knn: expected a table of options, got nil")
    local function maps(x) return x:narrow(2, 1, 1) end
    check.fails(function() cld.eval.knn { net = maps, memory = set, queries = set } end,
      "eval_spec.lua:%d+: eval.knn: the network must make features %(images, dim%), got f32%[%d+, 1, ")
    check.fails(function() cld.eval.knn { net = mean_and_one, memory = set, queries = set, k = 0 } end,
      "eval_spec.lua:%d+: eval.knn: k must be a positive integer, got 0")
  end)
end)

describe("eval.accuracy", function()
  local scores = cld.tensor { { 0.1, 0.9, 0 }, { 0.5, 0.4, 0.6 } }:totable()

  it("is of the first and of five by default", function()
    local s, labels = cld.tensor(scores), cld.tensor({ 1, 0 }, "i64")
    assert.same({ 0.5, 1 }, { cld.eval.accuracy(s, labels) })
    assert.same({ 0.5, 1, 1 }, { cld.eval.accuracy(s, labels, { 1, 2, 3 }) })
  end)

  it("says what is wrong", function()
    local s, labels = cld.tensor(scores), cld.tensor({ 1, 0 }, "i64")
    check.fails(function() cld.eval.accuracy(s, labels, 5) end, "eval_spec.lua:%d+: eval.accuracy: ks must be a list")
    check.fails(function() cld.eval.accuracy(s, labels, { 0 }) end, "k must be a positive integer, got 0")
    check.fails(function() cld.eval.accuracy(s, cld.zeros({ 3 }, "i64")) end,
      "expected scores %(m, classes%) and labels %(m%), got f32%[2, 3%] and i64%[3%]")
  end)
end)

describe("what is not finite is no score", function()
  local nan, inf = 0 / 0, math.huge

  for what, value in pairs { NaN = nan, infinity = inf } do
    it(("eval.knn: features of %s, one line that says how many"):format(what), function()
      local set = dataset(6)
      local function net(x) return x:flatten(2, -1) * value end
      local failed, message = pcall(cld.eval.knn, { net = net, memory = set, queries = set, k = 3 })
      assert.is_false(failed)
      assert.equal("the network's features of 6 of 6 images are not finite: the checkpoint has diverged, or the " ..
        "precision is too low", tostring(message))
    end)
  end

  it("eval.knn: the features of some images", function()
    local set = dataset(6)
    local function net(x)
      local y = x:flatten(2, -1):clone()
      y[{ 2, 1 }] = nan
      return y
    end
    check.fails(function() cld.eval.knn { net = net, memory = set, queries = set, k = 3 } end,
      "features of 1 of 6 images")
  end)

  it("eval.weighted_knn: features in the memory, or of the queries", function()
    local good, bad = cld.ones(3, 2), cld.tensor { { 1, 0 }, { nan, 1 }, { 1, inf } }
    local labels = cld.tensor({ 0, 1, 0 }, "i64")
    check.fails(function() cld.eval.weighted_knn(bad, labels, good) end,
      "eval.weighted_knn: the features in the memory of 2 of 3 rows are not finite")
    check.fails(function() cld.eval.weighted_knn(good, labels, bad) end,
      "eval.weighted_knn: the features of the queries of 2 of 3 rows are not finite")
  end)

  it("eval.accuracy: scores of NaN; but classes may be ruled out by -inf", function()
    local labels = cld.tensor({ 0, 1 }, "i64")
    check.fails(function() cld.eval.accuracy(cld.tensor { { 1, 0 }, { nan, 0 } }, labels, { 1 }) end,
      "eval.accuracy: the scores of 1 of 2 rows are NaN")
    assert.equal(1, (cld.eval.accuracy(cld.tensor { { 1, -inf }, { -inf, 0 } }, labels, { 1 })))
  end)

  for _, device in ipairs(require "spec.support.devices".names) do
    it("eval.knn on " .. device, function()
      local set = dataset(6)
      local function net(x) return x:flatten(2, -1) * nan end
      check.fails(function() cld.eval.knn { net = net, memory = set, queries = set, k = 3, device = device } end,
        "features of 6 of 6 images are not finite")
    end)
  end
end)
