--- Networks as files for other programs: against a file made by PyTorch (fixtures), and read by our own readers. ONNX
-- is in export_onnx_spec; make test-interop uses PyTorch and torchvision themselves.
local cld = require "cld"
local check = require "spec.support.check"
local exported = require "spec.support.exported"
local process = require "spec.support.process"
local published = require "cld.models.published"
local trunk = require "cld.models.trunk"
local usage = require "cld.export.usage"

local folder
setup(function() folder = process.temporary_folder() end)
teardown(function() process.remove(folder) end)

local count = 0
local function fresh(name)
  count = count + 1
  return ("%s/%d %s"):format(folder, count, name or "file")
end

local lived, networks, equal, fixture = exported.lived, exported.networks, exported.equal, exported.fixture

-- Raises unless the state is the trunk's, bit for bit.
local function check_trunk(net, state)
  local number = 0
  for _, one in ipairs(trunk.of(net).tensors) do
    assert(state[one.name], one.name .. " is missing")
    assert(equal(one.tensor, state[one.name]), one.name .. " differs")
    number = number + 1
  end
  for _ in pairs(state) do number = number - 1 end
  assert.equal(0, number)
end

-- ---- PyTorch's format ---------------------------------------------------------------

-- The member of a stored zip archive, and the byte at which its content begins, from 0.
local function member(text, name)
  local at = 1
  while text:sub(at, at + 3) == "PK\3\4" do
    local length, extra = string.unpack("<I2I2", text, at + 26)
    local begin = at + 30 + length + extra
    local bytes = string.unpack("<I8", text, at + 30 + length + 4) -- in the field of zip64
    if text:sub(at + 30, at + 29 + length) == name then return text:sub(begin, begin + bytes - 1), begin - 1 end
    at = begin + bytes
  end
end

-- What make_export.py's `state` is.
local function torch_state()
  return {
    { "conv1.weight", cld.randn(4, 3, 3, 3) }, { "bn1.weight", cld.randn(4) },
    { "bn1.num_batches_tracked", cld.full({}, 300, { dtype = "i64" }) }, { "fc.weight", cld.rand(300, 700) },
    { "empty", cld.zeros(0, 3) }, { "half", cld.randn(2, 3):to "f16" }, { "brain", cld.randn(2, 3):to "bf16" },
    { "double", cld.randn(2):to "f64" }, { "bytes", cld.full({ 5 }, 7, { dtype = "u8" }) },
    { "ints", cld.full({ 5 }, -7, { dtype = "i32" }) },
  }
end

describe("a .pth file", function()
  it("has the pickle that torch.save writes, byte for byte", function()
    local path = fresh()
    cld.io.save_torch(path, torch_state())
    assert.equal(fixture "state data.pkl", (member(process.read(path), "archive/data.pkl")))
  end)

  it("is read back bit for bit", function()
    local path, state = fresh(), torch_state()
    cld.io.save_torch(path, state)
    local back, facts = cld.load(path)
    assert.equal("PyTorch zip", facts.format)
    for _, entry in ipairs(state) do assert.is_true(equal(entry[2], back[entry[1]]), entry[1]) end
  end)

  it("has every storage at a multiple of 64 bytes, for mmap", function()
    local path = fresh()
    cld.io.save_torch(path, torch_state())
    local text = process.read(path)
    for key = 0, 9 do
      local _, begin = member(text, "archive/data/" .. key)
      assert.equal(0, begin % 64)
    end
  end)

  it("says the byte order and the version of its format", function()
    local path = fresh()
    cld.io.save_torch(path, {})
    local text = process.read(path)
    assert.same({ "little", "3\n" }, { (member(text, "archive/byteorder")), (member(text, "archive/version")) })
  end)

  it("may have more tensors than a pickle's part of a dictionary", function()
    local path, state = fresh(), {}
    for i = 1, 2001 do state[i] = { "t" .. i, cld.full({ 1 }, i) } end
    cld.io.save_torch(path, state)
    local back = cld.load(path)
    for i = 1, 2001, 250 do assert.equal(i, back["t" .. i]:item()) end
  end)

  it("of strided tensors has them dense", function()
    local path, x = fresh(), cld.randn(3, 5)
    cld.io.save_torch(path, { { "x", x:t() } })
    assert.is_true(equal(x:t(), cld.load(path).x))
  end)

  it("needs names and open tensors", function()
    check.fails(function() cld.io.save_torch(fresh(), { { "x", 3 } }) end, "expected a list of {name, tensor}")
    check.fails(function() cld.io.save_torch(fresh(), { { 3, cld.zeros(1) } }) end, "expected a list of {name, tensor}")
  end)
end)

-- ---- weights ---------------------------------------------------------------------------

describe("models.export", function()
  for name, make in pairs(networks) do
    it("torchvision is the trunk bit for bit: " .. name, function()
      local net, path = lived(make()), fresh()
      cld.models.export(net, path)
      check_trunk(net, (cld.load(path)))
    end)

    it("detectron2 is read as such, bit for bit: " .. name, function()
      local net, path = lived(make()), fresh()
      cld.models.export(net, path, { format = "detectron2" })
      local found = published.recognise((cld.load(path)))
      assert.equal("detectron2", found.layout)
      check_trunk(net, found.state)
    end)

    it("safetensors is the trunk bit for bit: " .. name, function()
      local net, path = lived(make()), fresh()
      cld.models.export(net, path, { format = "safetensors" })
      local state, metadata = cld.load(path)
      assert.equal("pt", metadata.format)
      check_trunk(net, state)
    end)

    it("pth is all of the network by our names: " .. name, function()
      local net, path = lived(make()), fresh()
      assert.equal(#net:state_list(), cld.models.export(net, path, { format = "pth" }))
      local back = cld.load(path)
      for own, tensor in pairs(net:state_dict()) do assert.is_true(equal(tensor, back[own]), own) end
    end)

    it("a published file's reader makes the same network of it: " .. name, function()
      local net, path = lived(make()), fresh()
      cld.models.export(net, path)
      local again = cld.models.load(path)
      local x = cld.randn(2, 3, 32, 32)
      net:eval()
      again:eval()
      assert.is_true(equal(net:features(x), again:features(x)))
    end)
  end

  it("npy is the trunk bit for bit, and may be replaced", function()
    local net, path, state = lived(networks.cifar()), fresh(), {}
    cld.models.export(net, path, { format = "npy" })
    check.fails(function() cld.models.export(net, path, { format = "npy" }) end, "%(force = true%) replaces .npy files")
    for _, file in ipairs(cld.io.list(path)) do
      state[file:match "^(.*)%.npy$"] = cld.io.load_npy(path .. "/" .. file)
    end
    check_trunk(net, state)
  end)

  it("npz is the trunk bit for bit", function()
    local net, path = lived(networks.cifar()), fresh() .. ".npz"
    cld.models.export(net, path)
    check_trunk(net, (cld.load(path)))
  end)

  it("of bf16 weights NumPy's formats have f32", function()
    local net = networks.cifar():to "bf16"
    for format, key in pairs { detectron2 = "stem.conv1.weight", npz = "conv1.weight", npy = "conv1.weight" } do
      local path = fresh()
      cld.models.export(net, path, { format = format })
      local state = format == "npy" and { [key] = cld.io.load_npy(path .. "/" .. key .. ".npy") } or cld.load(path)
      assert.is_true(equal(net.conv1.weight:detach():to "f32", (state.model or state)[key]), format)
    end
  end)

  it("detectron2's file says who wrote it and that names are matched by their ends", function()
    local path = fresh()
    cld.models.export(networks.cifar(), path, { format = "detectron2" })
    local value = cld.load(path)
    assert.same({ "cldlua", true }, { value.__author__, value.matching_heuristics })
  end)

  it("safetensors and npy have all of the network with its own names", function()
    local net, path = networks.cifar(), fresh()
    cld.models.export(net, path, { format = "safetensors", names = "own" })
    local state = cld.load(path)
    for own in pairs(net:state_dict()) do assert.is_truthy(state[own], own) end
  end)

  it("a classifier's layer of classes is torchvision's fc", function()
    local encoder = networks.bottleneck()
    local net = cld.models.classifier {
      encoder = cld.models.description(encoder), classes = 5, dim = encoder.feature_width, layer = "features",
    }
    local path = fresh()
    cld.models.export(net, path)
    local state = cld.load(path)
    assert.is_true(equal(net.fc.weight:detach(), state["fc.weight"]))
    assert.is_true(equal(net.fc.bias:detach(), state["fc.bias"]))
  end)

  it("the same weights are the same bytes", function()
    local net = networks.cifar()
    for _, format in ipairs { "torchvision", "detectron2", "safetensors", "onnx" } do
      local a, b = fresh(), fresh()
      cld.models.export(net, a, { format = format })
      cld.models.export(net, b, { format = format })
      assert.is_true(process.read(a) == process.read(b), format)
    end
  end)
end)

-- ---- bad input -----------------------------------------------------------------------------------

describe("models.export refuses", function()
  local net
  setup(function() net = networks.cifar() end)

  it("an unknown format, and offers the nearest", function()
    check.fails(function() cld.models.export(net, fresh(), { format = "onx" }) end,
      "export_spec.lua:%d+: models.export: format must be .*got 'onx'; did you mean 'onnx'")
  end)

  it("an unknown option", function()
    check.fails(function() cld.models.export(net, fresh(), { fromat = "onnx" }) end, "unknown field 'fromat'")
  end)

  it("names of its own where the format has its names", function()
    check.fails(function() cld.models.export(net, fresh(), { names = "own" }) end, "it has its own names")
  end)

  it("what is of a graph for a format of weights", function()
    check.fails(function() cld.models.export(net, fresh(), { layer = "instance" }) end, "'layer' is of format onnx")
    check.fails(function() cld.models.export(net, fresh(), { normalize = true }) end, "'normalize' is of format onnx")
  end)

  it("a network without a trunk for a format of trunks, and says which ones do", function()
    for _, format in ipairs { "torchvision", "detectron2", "safetensors", "npy", "npz" } do
      local path = fresh()
      check.fails(function() cld.models.export(cld.nn.linear(2, 2), path, { format = format }) end,
        ("^format %s: the network has no ResNet's trunk .*formats pth and onnx"):format(format))
      assert.is_nil(cld.io.exists(path))
    end
  end)

  it("a file that is there, unless it is forced", function()
    local path = process.write(fresh(), "precious")
    check.fails(function() cld.models.export(net, path) end, "there already; %-%-force %(force = true%) replaces it")
    assert.equal("precious", process.read(path))
    cld.models.export(net, path, { force = true })
    check_trunk(net, (cld.load(path)))
  end)

  it("a folder in place of a file", function()
    check.fails(function() cld.models.export(net, folder, { force = true }) end, "it is a folder; the name of a file")
    check.fails(function() cld.models.export(net, folder, { format = "pth", force = true }) end,
      "it is a folder; format pth writes a file")
  end)

  it("a file in place of a folder, and a folder that holds other things", function()
    local path = process.write(fresh(), "precious")
    check.fails(function() cld.models.export(net, path, { format = "npy", force = true }) end, "it is no folder")
    check.fails(function() cld.models.export(net, folder, { format = "npy", force = true }) end, "not empty, it holds")
  end)

  it("a place where nothing can be written, and leaves nothing", function()
    for _, format in ipairs(require "cld.export".formats) do
      check.fails(function() cld.models.export(net, folder .. "/none/file", { format = format }) end,
        "^format " .. format .. ": .*none/file.*")
    end
    assert.is_nil(cld.io.exists(folder .. "/none"))
  end)

  it("a full disk, and leaves nothing", function()
    for _, format in ipairs { "torchvision", "detectron2", "onnx", "npy", "npz" } do
      local place = process.temporary_folder()
      local script = process.write(place .. "/script.lua", ([[
        local cld = require "cld"
        cld.models.export(cld.models.resnet18_cifar { width = 8 }, %q, { format = %q })]]):format(place .. "/out",
        format))
      local result = process.run { program = "sh", "-c", ("ulimit -f 64; trap '' XFSZ; exec build/cldlua %s")
        :format(script) }
      assert.equal(1, result.code)
      assert.matches("File too large", result.err)
      assert.is_nil(result.err:find "%.tmp")
      os.remove(script)
      assert.same({}, cld.io.list(place))
      process.remove(place)
    end
  end)
end)

-- ---- the key encoder ---------------------------------------------------------------------------------

describe("a checkpoint's key encoder", function()
  -- As a run would write it.
  local function written(nets)
    local tensors, models = {}, {}
    for name, net in pairs(nets) do
      models[name] = cld.models.description(net)
      for key, tensor in pairs(net:state_dict()) do tensors[name .. "." .. key] = tensor end
    end
    local path = fresh "checkpoint.safetensors"
    cld.save(path, tensors, {
      format = "cldlua checkpoint 1", options = cld.json.encode { epochs = 1 },
      position = cld.json.encode { epoch = 1, step = 9, step_in_epoch = 0, seconds = 1.5,
        rng = { seed = 1, position = 2 } }, description = cld.json.encode { models = models },
    })
    return path
  end

  for _, name in ipairs { "keys", "target" } do
    it("is the network called " .. name, function()
      local net, key = networks.cifar(), networks.cifar()
      local path = written { net = net, [name] = key }
      local query, follower = cld.models.load(path), cld.models.load(path, { encoder = "key" })
      assert.is_true(equal(net:state_dict()["conv1.weight"], query:state_dict()["conv1.weight"]))
      assert.is_true(equal(key:state_dict()["conv1.weight"], follower:state_dict()["conv1.weight"]))
    end)
  end

  it("that is not there is one line", function()
    local path = written { net = networks.cifar() }
    check.fails(function() cld.models.load(path, { encoder = "key" }) end, "it has no key encoder .*it holds net$")
    check.fails(function() cld.models.load(path, { encoder = "both" }) end, "encoder must be 'query' or 'key'")
  end)

  it("of published weights is not read", function()
    local path = fresh()
    cld.models.export(networks.cifar(), path)
    check.fails(function() cld.models.load(path, { encoder = "key" }) end, "only the query encoder is read")
  end)
end)

-- ---- load_published --------------------------------------------------------------------------------------

describe("net:load_published", function()
  -- What f prints, and its result.
  local function printed(f)
    local lines, write = {}, io.stdout.write
    local script = {}
    getmetatable(io.stdout).__index.write = function(file, ...)
      if file ~= io.stdout then return write(file, ...) end
      for _, text in ipairs { ... } do lines[#lines + 1] = text end
      return file
    end
    local ok, result = pcall(f)
    getmetatable(io.stdout).__index.write = write
    script.text = table.concat(lines)
    if not ok then error(result, 0) end
    return result, script.text
  end

  it("fills the trunk bit for bit, from every layout that is written", function()
    for _, format in ipairs { "torchvision", "pth", "detectron2", "safetensors" } do
      local net, path = lived(networks.cifar()), fresh()
      cld.models.export(net, path, { format = format })
      local other = cld.models.resnet18 { width = 4, small = true, dim = 8 }
      local result = printed(function() return other:load_published(path) end)
      assert.equal(120, result.taken)
      local state = {}
      for _, one in ipairs(trunk.of(other).tensors) do state[one.name] = one.tensor end
      check_trunk(net, state)
    end
  end)

  it("leaves heads as they are, and says what was left out", function()
    local net, path = lived(networks.bottleneck()), fresh()
    cld.models.export(net, path, { format = "pth" })
    local other = networks.bottleneck()
    local head = other.groupDis.weight:clone()
    local result, text = printed(function() return other:load_published(path) end)
    assert.is_true(equal(head, other.groupDis.weight))
    assert.same({ fc = 2, groupDis = 1, instDis = 1 }, result.left_out)
    assert.matches("layout MoCo v2 %+ CLD, resnet50, width 4: 318 tensors of the trunk taken; left out: fc %(2%), "
      .. "groupDis %(1%), instDis %(1%)\n$", text)
  end)

  it("refuses another kind of network, and changes nothing", function()
    local path = fresh()
    cld.models.export(networks.cifar(), path)
    local other = networks.bottleneck()
    local before = other.conv1.weight:clone()
    check.fails(function() other:load_published(path) end,
      "it holds a resnet18, width 4, a 3x3 stem; the network here is a resnet50, width 4")
    assert.is_true(equal(before, other.conv1.weight))
  end)

  it("refuses a network without a trunk, and a file without one", function()
    check.fails(function() cld.nn.linear(2, 2):load_published "x.pth" end, "the network has no ResNet's trunk")
    local path = fresh()
    cld.io.save_torch(path, { { "weight", cld.zeros(2) } })
    check.fails(function() networks.cifar():load_published(path) end, "it holds no ResNet")
    check.fails(function() networks.cifar():load_published(folder .. "/none.pth") end, "cannot read .*none.pth")
  end)
end)

-- ---- the lines -----------------------------------------------------------------------------------------------

describe("a path in a command", function()
  for _, path in ipairs { "plain", "it's a", '"two" words', "$HOME `x` \\n !", "new\nline", "\xff\x01", "-dash",
    "ü€" } do
    it("comes out of the shell as it was: " .. ("%q"):format(path), function()
      local result = process.run { program = "bash", "-c", "printf %s " .. usage.shell(path) }
      assert.equal(path, result.out)
    end)
  end
end)

describe("torchvision's model in a command", function()
  local function statements(net) return table.concat(usage.torchvision(trunk.of(net)), "; ") end

  it("of a network as published is torchvision's own", function()
    assert.equal("m = torchvision.models.resnet18(weights=None); m.fc = torch.nn.Identity()",
      statements(cld.models.resnet18()))
  end)

  it("of a CIFAR network has its stem", function()
    local text = statements(cld.models.resnet18_cifar())
    assert.matches("m.conv1 = torch.nn.Conv2d%(3, 64, 3, padding=1, bias=False%); m.maxpool = torch.nn.Identity%(%)$",
      text)
  end)

  it("of another width has its layers", function()
    assert.matches("m.bn1 = torch.nn.BatchNorm2d%(16%); m.inplanes = 16; .*16 << i %- 1",
      statements(cld.models.resnet18 { width = 16 }))
  end)

  it("that torchvision has no function for is of its class", function()
    assert.matches("torchvision.models.ResNet%(.*Bottleneck, %[3, 8, 36, 3%], groups=32, width_per_group=4%)",
      statements(cld.models.resnext152_32x4d { width = 16 }))
  end)
end)

describe("detectron2's settings", function()
  local view = cld.augment.none { size = 224, mean = { 0.5, 0.4, 0.2 }, std = { 0.2, 0.4, 0.1 } }
  local function lines(net, of) return usage.of_export(net, "a b.pkl", { format = "detectron2", view = of }) end

  it("of a ResNet-50 are the file, RGB, mean and deviation of pixels up to 255, and where the stride is", function()
    local found = lines(cld.models.resnet50 { dim = 4 }, view)
    assert.equal("detectron2's settings: MODEL.WEIGHTS 'a b.pkl' INPUT.FORMAT RGB MODEL.PIXEL_MEAN '[127.5, 102, 51]'"
      .. " MODEL.PIXEL_STD '[51, 102, 25.5]' MODEL.RESNETS.STRIDE_IN_1X1 False", found[1])
    assert.equal(2, #found)
  end)

  it("of another network are its depth, widths and groups", function()
    assert.matches(" MODEL.RESNETS.DEPTH 101 MODEL.RESNETS.NUM_GROUPS 32 MODEL.RESNETS.RES2_OUT_CHANNELS 64"
      .. " MODEL.RESNETS.STEM_OUT_CHANNELS 16 MODEL.RESNETS.STRIDE_IN_1X1 False MODEL.RESNETS.WIDTH_PER_GROUP 1$",
      lines(cld.models.resnext101_32x4d { width = 16, dim = 4 }, view)[1])
    assert.matches(" MODEL.RESNETS.DEPTH 34 MODEL.RESNETS.RES2_OUT_CHANNELS 64$",
      lines(cld.models.resnet34 { head = false }, view)[1])
  end)

  it("say so if nothing is known of the images", function()
    assert.matches("INPUT.FORMAT RGB .*; MODEL.PIXEL_MEAN and MODEL.PIXEL_STD as its training prepared images$",
      lines(networks.bottleneck())[1])
  end)

  it("are followed by what detectron2 lacks of a CIFAR encoder", function()
    local found = lines(cld.models.resnet18_cifar(), view)
    assert.equal(3, #found)
    assert.matches("^detectron2's ResNet begins with a 7x7 convolution .* this network with a 3x3 .*stem.conv1.weight",
      found[2])
  end)

  it("are followed by what it lacks of a narrow ResNet-18", function()
    local found = lines(cld.models.resnet18 { width = 8, head = false }, view)
    assert.equal(3, #found)
    assert.matches("^detectron2's ResNet%-18 and ResNet%-34 have width 64, this network has 8: ", found[2])
  end)
end)

describe("the lines of a network of one's own", function()
  local dist = require "cld.dist"
  local net = cld.nn.sequential(cld.nn.conv2d(3, 4, 3), cld.nn.adaptive_avg_pool2d(1), cld.nn.flatten())
  local function first() return usage.of_run({ net = net, object = "net", folder = "r", models_file = "my.lua" })[1] end

  it("make ONNX of it", function() assert.matches("%-%-require my.lua %-%-out r/net.onnx$", first()) end)

  it("make a .pth of it in a job of several ranks, where its forward might wait for the others", function()
    dist.alone = false
    local line = first()
    dist.alone = true
    assert.matches("%-%-require my.lua %-%-out r/net.pth %-%-format pth$", line)
  end)
end)
