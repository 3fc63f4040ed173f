--- Modules as text: tostring(net), net:summary().
local cld = require "cld"
local check = require "spec.support.check"
local nn = cld.nn

local function lines(...) return table.concat({ ... }, "\n") end

-- The text of the row that begins with this name.
local function row(net, name)
  for text in tostring(net):gmatch "[^\n]+" do
    if text:match "^%s*(%S+)" == name then return text:match "^%s*%S+%s+(.-)%s*$" end
  end
  error("no row " .. name)
end

describe("a module as text", function()
  it("has a line for each child, and totals", function()
    assert.equal(lines(
      "resnet(512 features, head mlp: instance, group) {",
      "  conv1     conv2d(3 -> 16, 7x7, stride 2, padding 3, no bias)    2,352",
      "  bn1       batch_norm2d(16)                                         32",
      "  maxpool   max_pool2d(3x3, stride 2, padding 1)",
      "  layer1    3 x bottleneck(16 -> 64, ...)                        14,016",
      "  layer2    4 x bottleneck(64 -> 128, stride 2, ...)             77,568",
      "  layer3    6 x bottleneck(128 -> 256, stride 2, ...)           447,488",
      "  layer4    3 x bottleneck(256 -> 512, stride 2, ...)           939,520",
      "  fc        sequential(linear(512 -> 512), relu)                262,656",
      "  instDis   linear(512 -> 128)                                   65,664",
      "  groupDis  linear(512 -> 128)                                   65,664",
      "}",
      "1,874,960 parameters in 165 tensors, 7.5 MB; f32 on cpu"), tostring(cld.models.resnet50 { width = 16 }))
  end)

  it("names groups", function()
    local net = cld.models.resnext50_32x4d { width = 16, head = false }
    assert.truthy(row(net, "layer1"):find("3 x bottleneck(16 -> 64, 32 in 32 groups, ...)", 1, true))
    assert.truthy(tostring(net.layer1[1]):find("conv2d(32 -> 32, 3x3, padding 1, 32 groups, no bias)", 1, true))
  end)

  it("folds equal entries of a list, and says how many more there are", function()
    local list = nn.sequential()
    for _ = 1, 60 do list:append(nn.linear(2, 2)) end
    assert.equal(lines("sequential {", "  0 - 59  60 x linear(2 -> 2)  360", "}",
      "360 parameters in 120 tensors, 1.4 kB; f32 on cpu"), tostring(list))
    local _, all = tostring(list):gsub("\n", "")
    assert.equal(3, all)
    for i = 1, 60 do list[i] = nn.linear(i, 1) end
    local text = tostring(list)
    assert.truthy(text:find("\n  ... 29 more\n}", 1, true))
    assert.equal(34, select(2, text:gsub("\n", "")))
  end)

  it("is one line where there is nothing below", function()
    assert.equal("linear(3 -> 2): 8 parameters in 2 tensors, 32 B; f32 on cpu", tostring(nn.linear(3, 2)))
    assert.equal("norm_linear(3 -> 2): 6 parameters in 1 tensor, 24 B; f32 on cpu", tostring(nn.norm_linear(3, 2)))
    assert.equal("conv2d(2 -> 4, 3x2, stride 2, padding 1x0): 52 parameters in 2 tensors, 208 B; f32 on cpu",
      tostring(nn.conv2d(2, 4, { 3, 2 }, { stride = 2, padding = { 1, 0 } })))
    assert.equal("relu", tostring(nn.relu()))
    assert.equal("dropout(0.25)", tostring(nn.dropout(0.25)))
    assert.equal("avg_pool2d(2x2)", tostring(nn.avg_pool2d(2)))
    assert.equal("sequential", tostring(nn.sequential()))
  end)

  it("shows a class's own tensors and what extra_repr says", function()
    local Head = nn.module "head"
    function Head:build()
      self.scale = nn.parameter(cld.ones({ 3 }, "f64"))
      self.center = nn.buffer(cld.zeros(2, 2))
      self.blocks = nn.module_list { nn.linear(2, 2), nn.linear(2, 2) }
    end
    local head = Head()
    head.scale:requires_grad_(false)
    assert.equal(lines("head {", "  scale   parameter f64[3]     3", "  center  buffer f32[2, 2]",
      "  blocks  2 x linear(2 -> 2)  12", "}",
      "15 parameters in 5 tensors (3 frozen), 72 B; f64 and f32 on cpu, in evaluation mode"), tostring(head:eval()))
    function Head:extra_repr() return "of " .. #self.blocks end
    assert.equal("head(of 2) {", tostring(head):match "^[^\n]+")
  end)

  it("shows the members of a layer that lost its weight", function()
    local linear = nn.linear(2, 2)
    linear.weight = nil
    assert.equal("linear(bias f32[2]): 2 parameters in 1 tensor, 8 B; f32 on cpu", tostring(linear))
  end)

  it("names its device", function()
    local found = cld.cuda.devices()
    if #found == 0 then return end
    assert.truthy(tostring(nn.linear(2, 2):to "cuda"):find "f32 on cuda")
  end)

  it("keeps its two methods' names from members", function()
    for _, name in ipairs { "summary", "extra_repr" } do
      check.fails(function() nn.relu()[name] = nn.relu() end, "a member cannot be called '" .. name .. "'")
    end
  end)
end)

describe("a module's summary", function()
  it("is the whole tree", function()
    local net = nn.sequential(nn.sequential(nn.linear(2, 3), nn.relu()), nn.sequential(nn.linear(3, 2), nn.relu()))
    assert.equal(lines("sequential",
      "  0    sequential      9", "    0  linear(2 -> 3)  9", "    1  relu",
      "  1    sequential      8", "    0  linear(3 -> 2)  8", "    1  relu",
      "17 parameters in 4 tensors, 68 B; f32 on cpu"), net:summary())
  end)

  it("has equal blocks once", function()
    local text = cld.models.resnet18 { width = 2, head = false }:summary()
    assert.truthy(text:find "\n    0 %- 1 +2 x basic_block%(2 %-> 2%) +160\n      conv1 ")
    assert.truthy(text:find "\n    0 +basic_block%(2 %-> 4, stride 2%) ")
    assert.truthy(text:find "\n    1 +basic_block%(4 %-> 4%) ")
    local _, projections = text:gsub("downsample +sequential +%d+\n +0 +conv2d%(%d+ %-> %d+, 1x1, stride 2", "")
    assert.equal(3, projections)
  end)
end)
