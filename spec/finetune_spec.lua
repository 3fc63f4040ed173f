--- cld.eval.finetuning and its protocols: steps against PyTorch's, the grid, what is kept of it and resumed, scores on
-- the test set, and wrong data. The recipe is in finetune_recipe_spec.
local cld = require "cld"
local check = require "spec.support.check"
local protocols = require "cld.eval.finetune_protocols"
local sets = require "spec.support.sets"
local nn = cld.nn

local Small = nn.module "spec_small"
function Small:build(settings)
  self.conv = nn.conv2d(3, settings.width, 3, { padding = 1, bias = false })
  self.bn = nn.batch_norm2d(settings.width)
  self.head = nn.linear(settings.width, 2)
end
function Small:features(x) return self.bn(self.conv(x)):relu():mean({ 3, 4 }) end
function Small:forward(x) return self.head(self:features(x)) end
if not cld.models.constructors.spec_small then
  cld.models.define("spec_small", function(settings) return Small(settings) end, { width = 5 })
end

-- So many images of 4 x 4 of each class, each class of another colour.
local function set_of(counts, more)
  local labels, greys = {}, {}
  for class, count in ipairs(counts) do
    for i = 1, count do
      labels[#labels + 1] = class - 1
      greys[#greys + 1] = (class - 1) * 60 + i % 7
    end
  end
  local options = {
    images = cld.tensor(greys, "f32"):reshape(#greys, 1, 1, 1):expand(#greys, 4, 4, 3):contiguous():to "u8",
    labels = sets.i64(labels), classes = #counts,
  }
  for name, value in pairs(more or {}) do options[name] = value end
  return cld.data.tensors(options)
end

local function tuning_of(more)
  local options = {
    net = cld.models.spec_small(), train = set_of { 6, 6, 6 }, test = set_of { 2, 2, 2 },
    test_view = cld.augment.none { size = 4 }, steps_per_epoch = 2, protocol = { epochs = 3, milestones = { 1, 2 } },
    grid = { { lr = 0.1, head_lr = 10 } },
  }
  for name, value in pairs(more or {}) do options[name] = value end
  return cld.eval.finetuning(options)
end

local function step(tuning, images, labels, at)
  local loss = cld.cross_entropy(tuning.net(images), labels)
  tuning.sgd:step(loss, { lr = tuning:rate(at) })
  return loss
end

-- A training on one batch, a step an epoch; from the epoch `first` on, up to `last`.
local function train(tuning, first, last)
  local images, labels = cld.tensor(0):expand(6, 3, 4, 4) + cld.arange(6):reshape(6, 1, 1, 1) / 6, sets.i64 {
    0, 1, 2, 0, 1, 2 }
  for epoch = first, last do
    local own = tuning:begin(epoch)
    step(tuning, images, labels, epoch - 1)
    tuning:test(own)
  end
end

local function differs(a, b)
  for name, tensor in pairs(a) do
    if tensor:ne(b[name]):any():item() ~= 0 then return name end
  end
end

local function copied(state)
  local copies = {}
  for name, tensor in pairs(state) do copies[name] = tensor:clone() end
  return copies
end

describe("fine-tuning", function()
  it("makes the steps that PyTorch makes, of both rates, the decay and the milestones", function()
    local fixture = cld.load "spec/fixtures/finetune.safetensors"
    local tuning = tuning_of()
    local before = {}
    for name in pairs(tuning.net:state_dict()) do before[name] = fixture["before/" .. name] end
    tuning:begin(1)
    tuning.net:load_state_dict(before, false)
    for at = 0, 5 do
      local own = tuning:begin(at // 2 + 1)
      assert.equal(at // 2 + 1, own)
      local loss = step(tuning, fixture.images[at + 1], fixture.labels[at + 1], at)
      check.close(loss:item(), fixture.losses[at + 1]:item(), { atol = 1e-5 })
    end
    local compared = 0
    for name, tensor in pairs(tuning.net:state_dict()) do
      local expected = fixture["after/" .. name]
      if expected then
        local apart = (tensor:double() - expected:double()):abs():max():item()
        assert.is_true(apart <= 2e-5, name .. " " .. apart)
        compared = compared + 1
      end
    end
    assert.equal(7, compared)
  end)

  it("leaves the network that it was given as it is", function()
    local net = cld.models.spec_small()
    local before = copied(net:state_dict())
    train(tuning_of { net = net, steps_per_epoch = 1 }, 1, 3)
    assert.is_nil(differs(before, net:state_dict()))
  end)

  it("gives a network that its description makes, whose features are what the new layer sees", function()
    local tuning = tuning_of()
    local how = cld.models.description(tuning.net)
    assert.same({ "classifier", 3, 5, "features", "spec_small" }, { how.constructor, how.settings.classes,
      how.settings.dim, how.settings.layer, how.settings.encoder.constructor })
    local other = cld.models.build(how)
    other:load_state_dict(tuning.net:state_dict())
    local images = cld.randn(2, 3, 4, 4)
    assert.same({ 2, 5 }, other:features(images).shape)
    check.close((other(images) - tuning.net(images)):abs():max():item(), 0)
  end)

  it("tunes a network again that was fine-tuned before, with another new layer", function()
    local first = tuning_of()
    local again = tuning_of { net = first.net, train = set_of { 3, 3 }, test = set_of { 1, 1 } }
    assert.same({ 2, 5 }, again.net.fc.weight.shape)
    assert.is_nil(differs(first.net.encoder:state_dict(), again.net.encoder:state_dict()))
  end)

  it("may take the output of a network in place of its features", function()
    assert.same({ 3, 2 }, tuning_of { layer = "instance" }.net.fc.weight.shape)
  end)

  describe("over a grid", function()
    local grid = { { lr = 0.1, head_lr = 1 }, { lr = 0.01, head_lr = 10 }, { lr = 0, head_lr = 1 } }
    local function of_grid(more)
      local options = { grid = grid, steps_per_epoch = 1, protocol = { epochs = 2, milestones = { 1 } } }
      for name, value in pairs(more or {}) do options[name] = value end
      return tuning_of(options)
    end

    it("begins each training at the same weights, with no momentum", function()
      local tuning = of_grid()
      local start = copied(tuning.net:state_dict())
      for training = 1, 3 do
        local own, is_new = tuning:begin(2 * training - 1)
        assert.same({ 1, true, training }, { own, is_new, tuning.training })
        assert.is_nil(differs(start, tuning.net:state_dict()))
        assert.equal(0, tuning.sgd:state_dict()["momentum.1"]:numel())
        train(tuning, 2 * training - 1, 2 * training - 1)
        assert.is_truthy(differs(start, tuning.net:state_dict()))
        assert.same({ 2, false }, { tuning:begin(2 * training) })
      end
    end)

    it("has the rate of each, from its own first step on", function()
      local tuning = of_grid()
      for epoch, expected in ipairs { 0.1, 0.02, 0.01, 0.002, 0, 0 } do
        tuning:begin(epoch)
        check.close(tuning:rate(epoch - 1), expected)
      end
    end)

    it("ends with the network of the training whose last epoch is the best", function()
      local tuning = of_grid()
      local kept, scores, last = {}, {}, nil
      local test = tuning.test
      function tuning:test(own)
        local values = test(self, own)
        scores[self.training], last = values.top1, own
        return values
      end
      for training = 1, 3 do
        train(tuning, 2 * training - 1, 2 * training - 1)
        local own = tuning:begin(2 * training)
        kept[training] = copied(tuning.net:state_dict())
        tuning:test(own)
      end
      assert.equal(2, last)
      local best = 1
      for i = 2, 3 do
        if scores[i] > scores[best] then best = i end
      end
      assert.is_nil(differs(kept[best], tuning.net:state_dict()))
      local entry = grid[best]
      assert.truthy(tuning:summary()[5]:find(("last epoch: top-1 %.2f %% (lr %g, head x %g); best epoch"):format(
        100 * scores[best], entry.lr, entry.head_lr), 1, true))
    end)

    it("goes on where it was stopped, bit for bit", function()
      local whole = of_grid()
      local start = copied(whole.net:state_dict())
      train(whole, 1, 6)
      local first = of_grid()
      first.net:load_state_dict(start)
      for name, tensor in pairs(first.start) do tensor:copy_(start[name]) end
      train(first, 1, 3) -- in the middle of the second training
      local second = of_grid()
      second.net:load_state_dict(first.net:state_dict())
      second:load_state_dict(first:state_dict())
      train(second, 4, 6)
      assert.is_nil(differs(whole.net:state_dict(), second.net:state_dict()))
      assert.same(whole:summary(), second:summary())
    end)

    it("goes on to the next training where one has diverged, and says so", function()
      local tuning = of_grid()
      tuning:begin(1)
      tuning.net.fc.weight:detach():fill_(0 / 0)
      assert.is_nil(tuning:test(2))
      train(tuning, 3, 6)
      assert.matches("^ +0.1 +1  diverged$", tuning:summary()[2])
      assert.is_nil(tuning.skipped)
    end)
  end)

  it("ends where its only training has diverged", function()
    local tuning = tuning_of()
    tuning:begin(1)
    tuning.net.fc.weight:detach():fill_(0 / 0)
    check.fails(function() tuning:test(1) end, "the classifier's scores of 6 of 6 images are not finite")
    assert.equal(0, tuning.skipped)
  end)

  it("tells the accuracy over classes with many, some and few images", function()
    local tuning = tuning_of { train = set_of { 120, 40, 5 } }
    tuning:begin(1)
    local values = tuning:test(1)
    for _, name in ipairs { "top1", "many", "medium", "few" } do
      assert.is_true(values[name] >= 0 and values[name] <= 1, name)
    end
    check.close((values.many + values.medium + values.few) / 3, values.top1)
    assert.matches("top1 +many +medium +few", tuning:summary()[1])
  end)

  for what, case in pairs {
    ["a class without an image"] = { { train = set_of { 4, 0, 4, 0 } },
      "fine%-tuning: 2 of the 4 classes of tensors have no image %(the first: label 1%); a larger share" },
    ["images of one class"] = { { train = set_of { 4 }, test = set_of { 1 } },
      "fine%-tuning: the 4 images of tensors are of one class" },
    ["test images of another class"] = { { train = set_of { 4, 4 } },
      "fine%-tuning: tensors has 2 images of class label 2, and the training set has none of it" },
    ["images without a label"] = { { test = set_of({ 1, 1 }, { labels = sets.i64 { 0, -1 }, classes = 2 }) },
      "fine%-tuning: 1 of the 2 images of tensors have no label" },
    ["an empty grid"] = { { grid = {} }, "eval.finetuning: grid must be a list" },
    ["another protocol"] = { { protocol = "simclr" }, "protocol must be openselfsup or swav, or a table" },
    ["a network of no constructor"] = { { net = nn.relu() }, "the network's constructor is not known" },
  } do
    it("refuses " .. what, function() check.fails(function() tuning_of(case[1]) end, case[2]) end)
  end
end)

describe("the protocols of fine-tuning", function()
  local function options_of(more)
    local opt = { protocol = "openselfsup", lr = "", head_lr = "", labels = 1.0, list = "", long_tail = 1, seed = 1,
      long_tail_kind = "exponential", epochs = 0, batch_size = 0, weight_decay = -1 }
    for name, value in pairs(more or {}) do opt[name] = value end
    return opt
  end

  local function pairs_of(grid)
    local list = {}
    for i, entry in ipairs(grid) do list[i] = ("%g %g"):format(entry.lr, entry.head_lr) end
    return table.concat(list, ", ")
  end

  it("openselfsup has 20 epochs of 256 images, a fifth of the rate after 12 and 16, decay 5e-4", function()
    local opt = options_of()
    protocols.settle(opt)
    assert.same({ 20, 256, 5e-4 }, { opt.epochs, opt.batch_size, opt.weight_decay })
    local p = protocols.of_options(opt)
    assert.same({ { 12, 16 }, 0.2, 0.9, { 0.08, 1 } }, { p.milestones, p.gamma, p.momentum, p.scale })
    assert.equal("0.1 1, 0.1 10, 0.1 100, 0.01 1, 0.01 10, 0.01 100, 0.001 1, 0.001 10, 0.001 100",
      pairs_of(protocols.grid(opt, 1)))
  end)

  it("swav has no decay, and rates by the share of the labels", function()
    local opt = options_of { protocol = "swav" }
    protocols.settle(opt)
    assert.equal(0, opt.weight_decay)
    assert.equal("0.02 250", pairs_of(protocols.grid(opt, 0.01)))
    assert.equal("0.01 20", pairs_of(protocols.grid(opt, 128116 / 1281167)))
    check.fails(function() protocols.grid(opt, 1) end,
      "option '%-%-protocol': swav has rates for 1 %% and 10 %% of the labels, and these are 100 %%: give %-%-lr")
    opt.lr, opt.head_lr = "0.5", "1,2"
    assert.equal("0.5 1, 0.5 2", pairs_of(protocols.grid(opt, 1)))
  end)

  it("shorter, lower the rate at the same share of the training", function()
    assert.same({ 6, 8 }, protocols.settings("spec", "openselfsup", { epochs = 10 }).milestones)
  end)

  it("take nested, stratified shares of the labels", function()
    local whole = set_of { 40, 40, 40 }
    local function greys_of(share)
      local opt = options_of { labels = share }
      local part, own = protocols.training_set(opt, { train = whole, test = whole }, { data = "x" })
      check.close(own, share)
      local counts, seen = { 0, 0, 0 }, {}
      for i, label in ipairs(part.labels:totable()) do
        counts[label + 1] = counts[label + 1] + 1
        local key = ("%d %d"):format(label, part.images[i]:flatten()[1]:item())
        seen[key] = (seen[key] or 0) + 1
      end
      return counts, part, seen
    end
    local _, _, few = greys_of(0.25)
    local _, _, more = greys_of(0.5)
    for key, count in pairs(few) do assert.is_true(count <= (more[key] or 0), key) end
    assert.same({ 1, 1, 1 }, (greys_of(0.025)))
    assert.same({ 10, 10, 10 }, (greys_of(0.25)))
    assert.equal(whole, select(2, greys_of(1)))
  end)

  it("make the set long-tailed", function()
    local whole = set_of { 100, 100 }
    local part = protocols.training_set(options_of { long_tail = 10 }, { train = whole, test = whole },
      { data = "x" })
    assert.equal(110, #part)
  end)

  for what, case in pairs {
    ["a list and a share"] = { { list = "x", labels = 0.5 }, "option '%-%-list': it names the labelled images" },
    ["a share of a long tail"] = { { long_tail = 2, labels = 0.5 }, "'%-%-long%-tail': %-%-labels would choose" },
    ["a list for images without files"] = { { list = "x" }, "option '%-%-list': tensors has no files" },
    ["a share of none"] = { { labels = 0.001 }, "option '%-%-labels': 0.001 of the 12 images of tensors is none" },
  } do
    it("refuse " .. what, function()
      local whole = set_of { 6, 6 }
      check.fails(function()
        protocols.training_set(options_of(case[1]), { train = whole, test = whole }, { data = "x" })
      end, case[2])
    end)
  end

  it("refuse images without classes", function()
    check.fails(function() protocols.training_set(options_of(), { train = set_of { 3 } }, { data = "photos" }) end,
      "^photos: it has no training and test images with classes$")
  end)
end)
