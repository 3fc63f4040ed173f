--- ONNX models: against a file made by onnx.helper (fixtures), and with the graph computed node by node
-- (support/onnx.lua). make test-interop uses onnxruntime itself.
local cld = require "cld"
local check = require "spec.support.check"
local exported = require "spec.support.exported"
local onnx = require "spec.support.onnx"
local process = require "spec.support.process"

local lived, networks, equal, fixture = exported.lived, exported.networks, exported.equal, exported.fixture

local folder
setup(function() folder = process.temporary_folder() end)
teardown(function() process.remove(folder) end)

local count = 0
local function fresh()
  count = count + 1
  return ("%s/%d"):format(folder, count)
end

-- Exports, reads back, computes the graph, and compares with the network, to a share of the largest value.
local function check_onnx(net, layer, size, tolerance)
  local path = fresh()
  cld.models.export(net, path, { format = "onnx", layer = layer, size = size })
  local made, x = onnx.read(path), cld.randn(3, 3, size, size)
  net:eval()
  local expected = layer == "features" and net:features(x) or net(x)
  local apart = (onnx.run(made, x) - expected):abs():max():item() / expected:abs():max():item()
  assert.is_true(apart <= (tolerance or 1e-5), ("apart by %g"):format(apart))
  return made
end

describe("an ONNX file", function()
  it("is what onnx.helper makes of the same nodes, byte for byte", function()
    local net = cld.nn.sequential(cld.nn.conv2d(3, 2, 3, { stride = 2, padding = 1, bias = false }),
      cld.nn.leaky_relu(0.25))
    do
      local _ <close> = cld.no_grad()
      net[1].weight:copy_(cld.arange(0, 54, 1):reshape { 2, 3, 3, 3 })
    end
    local path = fresh()
    cld.models.export(net, path, { format = "onnx", size = 8 })
    local version = cld.versions().cldlua -- as long as the fixture's
    local text = process.read(path):gsub("\26." .. version:gsub("%p", "%%%0"), "\26\7VERSION", 1)
    local own, theirs = text:gsub("^.-\26", "\26"), fixture("small onnx"):gsub("^.-\26", "\26")
    assert.is_true(own == theirs)
  end)

  for name, make in pairs(networks) do
    for _, layer in ipairs { "features", "instance" } do
      it(("computes what the network does: %s, %s"):format(name, layer), function()
        check_onnx(lived(make()), layer, 32)
      end)
    end
  end

  for name, settings in pairs {
    projector = { "resnet18_cifar", { width = 4, projector = { hidden = 12, dim = 6 } } },
    ["norm_linear of CIFAR"] = { "resnet18_cifar", { width = 4, norm_linear = true } },
    ["group alone"] = { "resnet18_cifar", { width = 4, branches = { "group" } } },
    ["groups of convolutions"] = { "resnext50_32x4d", { width = 16, head = "linear", dim = 4 } },
    ["no head"] = { "resnet34", { width = 4, head = false } },
    ["the mlp of MoCo v2"] = { "resnet18", { width = 4, branches = { "instance" }, dim = 4 } },
  } do
    it("computes what the network does: " .. name, function()
      check_onnx(lived(cld.models[settings[1]](settings[2])), "instance", 32)
    end)
  end

  it("of a pooled corner has that window", function()
    local net = lived(cld.models.resnet18_cifar { width = 4, stem = "imagenet", pool_window = 2 })
    check_onnx(net, "features", 96)
  end)

  it("of a classifier gives the logits", function()
    local encoder = networks.cifar()
    local net = cld.models.classifier {
      encoder = cld.models.description(encoder), classes = 5, dim = encoder.feature_width, layer = "features",
    }
    check_onnx(lived(net), "instance", 32)
  end)

  it("goes from images to features, of any number of images", function()
    local made = check_onnx(networks.cifar(), "features", 16)
    assert.same({ images = { "N", 3, 16, 16 } }, made.inputs)
    assert.same({ features = { "N", 32 } }, made.outputs)
    assert.same({ 8, 17, "cldlua" }, { made.ir_version, made.opset, made.producer_name })
  end)

  it("has the nodes of a ResNet, called as its layers are", function()
    local made, counts = check_onnx(networks.cifar(), "features", 16), {}
    for _, node in ipairs(made.nodes) do counts[node.op] = (counts[node.op] or 0) + 1 end
    assert.same({ Conv = 20, BatchNormalization = 20, Relu = 17, Add = 8, GlobalAveragePool = 1, Flatten = 1 }, counts)
    assert.equal("conv1/Conv", made.nodes[1].name)
    assert.is_truthy(made.constants["layer4.1.conv2/weight"])
  end)

  it("says how the images are prepared", function()
    local path = fresh()
    local view = cld.augment.none { size = 24, mean = { 0.5, 0.25, 0.125 }, std = { 1, 2, 4 } }
    cld.models.export(networks.cifar(), path, { format = "onnx", view = view, layer = "instance" })
    local made = onnx.read(path)
    assert.same({ mean = "0.5 0.25 0.125", std = "1 2 4", layer = "instance" }, made.facts)
    assert.same({ "N", 3, 24, 24 }, made.inputs.images)
  end)

  it("may normalize the images itself", function()
    local net, path = lived(networks.cifar()), fresh()
    local view = cld.augment.none { size = 16, mean = { 0.5, 0.25, 0.125 }, std = { 1, 2, 4 } }
    cld.models.export(net, path, { format = "onnx", view = view, normalize = true })
    local made, x = onnx.read(path), cld.rand(2, 3, 16, 16)
    net:eval()
    local mean, std = cld.tensor { 0.5, 0.25, 0.125 }, cld.tensor { 1, 2, 4 }
    local expected = net:features((x - mean:reshape { 1, 3, 1, 1 }) / std:reshape { 1, 3, 1, 1 })
    check.close(onnx.run(made, x), expected)
    assert.same({ mean = "0 0 0", std = "1 1 1", layer = "features" }, made.facts)
  end)

  it("needs the view whose normalization it is to do", function()
    check.fails(function() cld.models.export(networks.cifar(), fresh(), { format = "onnx", normalize = true }) end,
      "normalize needs the view")
  end)

  it("leaves the network in training as it was", function()
    local net = networks.cifar()
    net.layer2:eval()
    local before = net.bn1.running_mean:clone()
    cld.models.export(net, fresh(), { format = "onnx", size = 16 })
    assert.same({ true, false, true }, { net.training, net.layer2[1].training, net.layer3[1].training })
    assert.is_true(equal(before, net.bn1.running_mean))
  end)

  it("is f32 of a network of another dtype", function()
    for _, dtype in ipairs { "f16", "bf16", "f64" } do
      local net, path = lived(networks.cifar()):to(dtype), fresh()
      cld.models.export(net, path, { format = "onnx", size = 16 })
      local x, plain = cld.randn(2, 3, 16, 16), net:to("f32"):eval()
      assert.is_true(cld.allclose(onnx.run(onnx.read(path), x), plain:features(x), { rtol = 1e-4, atol = 1e-4 }), dtype)
    end
  end)

  it("takes the memory of a few maps, not of all", function()
    local layers = { cld.nn.conv2d(3, 8, 3, { padding = 1 }) }
    for i = 2, 40 do layers[i] = cld.nn.relu() end
    local net, path = cld.nn.sequential(table.unpack(layers)), fresh()
    collectgarbage()
    collectgarbage("stop") -- which would free them some time
    cld.reset_peak()
    local before, map = cld.memory().in_use, 3 * 8 * 64 * 64 * 4
    cld.models.export(net, path, { format = "onnx", size = 64 })
    local taken = cld.memory().peak - before
    collectgarbage("restart")
    assert.is_true(taken < 8 * map, taken / map)
  end)

  it("is refused if it had more than 2 GiB", function()
    local graph = cld.io.onnx_graph()
    local large = cld.empty(1 << 28) -- 1 GiB, of which no page is touched
    for i = 1, 3 do graph:constant("c" .. i, large) end
    local path = fresh()
    check.fails(function() graph:save(path, "cldlua", "1") end, "more than 2 GiB")
    assert.is_nil(cld.io.exists(path))
  end)
end)

-- A network of a user's own, of all layers that are exported and in none of our ways of putting them together.
local Own = cld.nn.module "Own"

function Own:build(width, dim)
  self.trunk = cld.nn.sequential(
    cld.nn.conv2d(3, width, 3, { stride = 2, padding = 1 }), cld.nn.batch_norm2d(width), cld.nn.gelu(),
    cld.nn.max_pool2d(2), cld.nn.group_norm(2, width), cld.nn.silu(), cld.nn.dropout(0.5),
    cld.nn.avg_pool2d(3, { stride = 2, padding = 1 }), cld.nn.leaky_relu(0.2), cld.nn.adaptive_avg_pool2d { 2, 2 },
    function(x) return x:sigmoid() * 2 - 0.5 end, cld.nn.flatten())
  self.head = cld.nn.linear(width * 4, dim)
  self.norm = cld.nn.layer_norm(dim)
  self.scale = cld.nn.parameter(cld.rand(dim))
end

function Own:features(images) return self.trunk(images) end

function Own:forward(images)
  local y = self.head(self:features(images))
  return (self.norm(y) * self.scale / 2 + y):tanh():normalize()
end

describe("an ONNX file of a user's own network", function()
  for _, layer in ipairs { "features", "instance" } do
    it("computes what the network does: " .. layer, function() check_onnx(lived(Own(8, 6)), layer, 32) end)
  end

  for name, make in pairs(exported.own) do
    it("follows " .. name, function() check_onnx(make(), "instance", 16) end)
  end

  it("follows reshape and mean", function()
    local Pooled = cld.nn.module "Pooled"
    function Pooled:build() self.conv = cld.nn.conv2d(3, 4, 3) end
    function Pooled:forward(x)
      local y = self.conv(x)
      return y:reshape(y.shape[1], 4, -1):mean(3) - y:mean { 3, 4 } * 3
    end
    check_onnx(Pooled(), "instance", 8)
  end)

  local function refused(forward, message, layers)
    local Bad = cld.nn.module "Bad"
    function Bad:build() self.block = cld.nn.sequential(table.unpack(layers or { cld.nn.conv2d(3, 4, 3) })) end
    Bad.forward = forward or function(self, x) return self.block(x) end
    local path = fresh()
    check.fails(function() cld.models.export(Bad(), path, { format = "onnx", size = 8 }) end, message)
    assert.is_nil(cld.io.exists(path))
  end

  it("names the module whose forward does what is not known", function()
    local one = "in the network itself %%(Bad%%): its forward uses %s, which cannot be exported; what can are layers"
    refused(function(self, x) return self.block(x):cumsum(2) end, one:format "x:cumsum")
    refused(function(self, x) return cld.where(x, x, self.block(x)) end, one:format "cld.where")
    refused(function(self, x) return cld.nn.functional.pad(self.block(x), { 1, 1 }) end,
      one:format "cld.nn.functional.pad")
    refused(function(self, x) return cld.zeros_like(self.block(x)) end, one:format "cld.zeros_like")
    refused(function(self, x) return self.block(x) // 2 end, one:format "//")
    local function twice(_, x) return x * 2 end
    local double = cld.Function { forward = twice, backward = twice }
    refused(function(self, x) return double(self.block(x)) end, one:format "a cld.Function")
    refused(function(self, x)
      local largest, at = self.block(x):max(2)
      return largest + at
    end, "computes with nil: if those are the positions of x:max%(dim%)")
    refused(function(self, x)
      local y = self.block(x)
      y[1] = 0
      return y
    end, one:format "x%[%.%.%.%] = y")
    refused(function(self, x) return cld.ones(4):expand_as(self.block(x)) end, one:format "tensor:expand_as")
  end)

  it("says how to call a function that is hidden in a local variable", function()
    local cat, relu = cld.cat, cld.relu
    local said = "its forward cannot be followed: .*; call it by its full name"
    refused(function(self, x) return cat({ self.block(x) }, 2) end, said)
    refused(function(self, x) return relu(self.block(x)) end, said)
  end)

  it("refuses what has not a row for each image", function()
    refused(function(self, x) return self.block(x):mean { 1, 3, 4 } end, "what comes out is %[4%] for 2 images")
    refused(function(self, x) return self.block(x):permute(2, 1, 3, 4) end, "what comes out is %[4, 2, 6, 6%]")
    refused(function(self, x) return self.block(x)[1] end, "what comes out is %[4, 6, 6%] for 2 images")
  end)

  it("refuses integers made of what comes from the images", function()
    refused(function(self, x) return self.block(x):to "i64" end, "turns f32 into i64, which cannot be exported")
  end)

  it("leaves cld as it was, also after an error", function()
    local cat, relu, index = cld.cat, cld.nn.functional.relu, debug.getmetatable(cld.ones(1)).__index
    refused(function(self, x) return cld.where(self.block(x)) end, "cld.where")
    assert.same({ cat, relu, index }, { cld.cat, cld.nn.functional.relu, debug.getmetatable(cld.ones(1)).__index })
  end)

  it("names a layer that is not exported", function()
    refused(nil, "in 'block.0' %(conv2d%): padding_mode 'reflect'",
      { cld.nn.conv2d(3, 4, 3, { padding = 1, padding_mode = "reflect" }) })
    refused(nil, "in 'block.0' %(batch_norm2d%): a batch norm without running statistics",
      { cld.nn.batch_norm2d(3, { track_running_stats = false }) })
    refused(nil, "in 'block.0' %(adaptive_avg_pool2d%): 3 x 3 windows of 8 x 8 maps",
      { cld.nn.adaptive_avg_pool2d(3) })
  end)

  it("names the layer whose input does not fit", function()
    refused(nil, "in 'block.0' %(conv2d%): its forward cannot be followed: conv2d: ", { cld.nn.conv2d(5, 4, 3) })
  end)

  it("refuses random numbers, which the file would hold as they fell once", function()
    refused(function(self, x) return self.block(x + cld.randn(1, 3, 8, 8)) end,
      "its forward uses a number or tensor that changes from call to call")
  end)

  it("refuses what depends on the number of images", function()
    local changes = "its forward uses a number or tensor that changes"
    refused(function(self, x) return self.block(x) / #x end, changes)
    refused(function(self, x) return self.block(x + cld.ones(#x, 3, 8, 8)) end, changes)
    refused(function(self, x) return self.block(x):view(2, -1) end, "reshapes the first dimension")
    refused(function(self, x) return #x > 2 and self.block(x):relu() or self.block(x) end,
      "its forward does other things from call to call or with another number of images")
  end)

  it("takes constants that each call makes anew", function()
    local Shifted = cld.nn.module "Shifted"
    function Shifted:build() self.conv = cld.nn.conv2d(3, 4, 3) end
    function Shifted:forward(x) return self.conv(x + cld.tensor({ 1, 2, 3 }):reshape { 1, 3, 1, 1 }):mean { 3, 4 } end
    check_onnx(Shifted(), "instance", 8)
  end)

  it("names an index, and a forward that returns a table", function()
    refused(function(self, x) return self.block(x)[{ {}, { 1, 3, 2 } }] end, "its forward uses x%[%.%.%.%] with a")
    refused(function(self, x) return self.block(x):softmax(7) end,
      "its forward cannot be followed: dimension 7 of f32%[2, 4, 6, 6%]; expected 1 to 4")
    refused(function(self, x) return self.block(x)[{ {}, 5 }] end, "cannot be followed: index 5 of dimension 2")
    refused(function(self, x) return { self.block(x) } end, "it returns a table; expected a tensor")
  end)

  it("does not go on with what is no longer the images'", function()
    refused(function() return cld.zeros(2, 3) end, "what comes out does not depend on the images")
  end)
end)
