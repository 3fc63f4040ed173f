--- PyTorch's files: what torch.save wrote, zip and legacy, from the fixtures and, if PyTorch is installed, fresh from
-- it. Then damaged and malicious files: they are read, or one line says what is wrong.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"
local torch_files = require "spec.support.torch_files"
local zip = require "spec.support.zip"

local none = cld.io.none
local formula = { { -3, -2, -1 }, { 0, 1, 2 } }

local function is_record(value) return getmetatable(value) == cld.io.record end

-- ---- what each file of the fixtures holds -----------------------------------------

local function check_plain(v)
  assert.equal(none, v.none)
  assert.equal("None", tostring(v.none))
  assert.same({ true, false, 200, -5, 1 << 40, 2.0 ^ 70, 0.1 },
    { v.yes, v.no, v.epoch, v.negative, v.large, v.larger, v.float })
  assert.equal("integer", math.type(v.large))
  assert.same({ "ü\n€😀", "\0\xff" }, { v.text, v.bytes })
  assert.same({ 1, { 2, 3 }, {} }, v.list)
  assert.same({ 1, "b" }, v.tuple)
  assert.same({ { 2, 3 }, { 5 }, { 1, 2 } }, { v.size, v.set, v.deque })
  assert.same({ a = { 1 } }, v.default)
  local pair
  for key in pairs(v.dict) do if type(key) == "table" then pair = key end end
  assert.same({ 1, 2 }, pair)
  assert.same({ "zero", "seven", "one", "nothing", "half", "pair" },
    { v.dict[0], v.dict[7], v.dict[true], v.dict[none], v.dict[1.5], v.dict[pair] })
  assert.same({ 71.5, 0.5, 5, true }, { v.best_acc1, v.half, v.count, v.flag })
  assert.same({ { 0, 1, 2 }, { 3, 4, 5 } }, v.array:totable())
  assert.equal("f64", v.array.dtype)
  assert.same({ { 0, 1, 2 }, { 3, 4, 5 } }, v.fortran:totable())
  assert.equal("i64", v.fortran.dtype)
  assert.equal(v, v.itself)
end

local checks = {}

function checks.dtypes(v)
  local unsigned, odd = { { 0, 1, 2 }, { 3, 4, 5 } }, { { 0, 1, 0 }, { 1, 0, 1 } }
  local expected = {
    float32 = "f32", float64 = "f64", float16 = "f16", bfloat16 = "bf16", int64 = "i64", int32 = "i32", int16 = "i32",
    int8 = "i32", uint8 = "u8", bool = "u8", uint16 = "i32", uint32 = "i64", uint64 = "i64",
  }
  for name, dtype in pairs(expected) do
    local values = name == "bool" and odd or name:find "^uint" and unsigned or formula
    assert.same({ dtype, values }, { v[name].dtype, v[name]:totable() }, name)
  end
end

checks["layouts of memory"] = function(v)
  for _, name in ipairs { "transposed", "offset", "strided", "shared", "parameter", "buffer", "channels last" } do
    assert.same(formula, v[name]:totable(), name)
  end
  assert.same({ 1000, 1000, 1000 }, v.expanded.shape)
  assert.equal(-3, v.expanded:narrow(1, 500, 1):narrow(2, 7, 1):narrow(3, 1, 1):item())
  assert.same({ {}, 7.5 }, { v.zero_d.shape, v.zero_d:item() })
  assert.same({ 0, 3 }, v.empty.shape)
  assert.same({ -3, -2, -1, 0, 1, 2 }, v.storage:totable())
  assert.same({ "u8", { 1, 2, 3 } }, { v.untyped.dtype, v.untyped:totable() })
  v["shared flat"]:fill_(5)
  assert.same({ { 5, 5, 5 }, { 5, 5, 5 } }, v.shared:totable())
end

for protocol = 2, 5 do checks["plain, protocol " .. protocol] = check_plain end

function checks.training(v)
  assert.same({ 40, "resnet50" }, { v.epoch, v.arch })
  assert.equal("torch.optim.sgd.SGD", v.optimizer.class)
  local group = v.optimizer.state.param_groups[1]
  assert.same({ 0.5, 0.9 }, { group.lr, group.momentum })
  assert.same({ { -3.5, -2.5 }, { -1.5, -0.5 }, { 0.5, 1.5 } }, group.params[1]:totable())
  assert.same({ { 1, 1 }, { 1, 1 }, { 1, 1 } }, v.optimizer.state.state[group.params[1]].momentum_buffer:totable())
  assert.same({ 0, 1 }, v.optimizer_state.param_groups[1].params)
  assert.same({ 1, 1, 1 }, v.optimizer_state.state[1].momentum_buffer:totable())
  assert.equal("argparse.Namespace", v.args.class)
  assert.same({ arch = "resnet50", schedule = { 120, 160 }, lr = 0.2, dist_url = none, mlp = true }, v.args.state)
  assert.equal("torch.nn.modules.linear.Linear", v.model.class)
  assert.equal(group.params[1], v.model.state._parameters.weight)
  assert.same({ -3.5, -2.5 }, v.module["module.weight"]:totable()[1])
  assert.same(v.model_state.bias:totable(), v.module["module.bias"]:totable())
end

function checks.inert(v)
  local text = {}
  for _, name in ipairs { "device", "dtype", "function", "complex", "float8", "number", "date", "path", "names",
    "beyond", "negated", "nine" } do
    assert.is_true(is_record(v[name]), name)
    text[name] = tostring(v[name])
  end
  assert.equal('torch.device("cuda", 1)', text.device)
  assert.equal("torch.float16", text.dtype)
  assert.equal("__builtin__.len", text["function"])
  assert.equal("__builtin__.complex(1.0, 2.0)", text.number)
  assert.matches("^torch%._utils%._rebuild_tensor_v2%(persistent id, 0, ", text.complex)
  assert.equal("torch.ComplexFloatStorage", v.complex.arguments[1].arguments[2].class)
  assert.matches("^datetime%.date%(", text.date)
  assert.matches("^numpy%.ndarray%(", text.names)
  assert.same({ a = 2, b = 1 }, v.counter)
  assert.same(formula, v.kept:totable())
end

function checks.code(v)
  assert.equal('posix.system("touch ran")', tostring(v.code))
  assert.same({ "posix.system", { "touch ran" } }, { v.code.class, v.code.arguments })
  assert.is_nil(cld.io.exists "ran")
  assert.same(formula, v.weight:totable())
end

checks["one tensor"] = function(v) assert.same(formula, v:totable()) end

checks["MoCo v2 + CLD"] = function(v)
  assert.same({ 64, 3, 7, 7 }, v.state_dict["module.encoder_q.conv1.weight"].shape)
  assert.equal("torch.optim.sgd.SGD", v.optimizer.class)
  assert.equal(12, v.amp.loss_scaler0.unskipped)
end

checks["CIFAR NPID"] = function(v)
  assert.same({ 64, 3, 3, 3 }, v.net["module.conv1.weight"].shape)
  assert.matches("LinearAverage$", v.lemniscate.class)
  assert.same({ 50000, 128 }, v.lemniscate.state._buffers.memory.shape)
end

describe("a PyTorch file", function()
  local folder, path
  before_each(function()
    folder = process.temporary_folder()
    path = folder .. "/x.pth"
  end)
  after_each(function() process.remove(folder) end)

  local texts = torch_files.all()
  local function read(text)
    os.remove(path)
    process.write(path, text)
    return cld.load(path)
  end

  for name, text in pairs(texts) do
    local format, content = name:match "^(%a+) (.*)$"
    it("is read as PyTorch wrote it: " .. name, function()
      local value, facts = read(text)
      assert.same({ format = "PyTorch " .. format }, facts)
      assert.is_true(cld.io.is_torch(path))
      checks[content](value)
    end)
  end

  local python = os.getenv "PEER_PYTHON" or "python3"
  local has_torch = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"
  if os.execute(("'%s' -c \"%s\" 2>/dev/null"):format(python, has_torch)) then
    it("is read as the PyTorch here writes it", function()
      assert(os.execute(("'%s' spec/fixtures/make_torch_files.py '%s'"):format(python, folder)))
      local count = 0
      for _, name in ipairs(cld.io.list(folder)) do
        local content, format = name:match "^(.*)%.(%a+)%.pth$"
        local value, facts = cld.load(folder .. "/" .. name)
        assert.same({ format = "PyTorch " .. format }, facts)
        checks[content](value)
        count = count + 1
      end
      assert.truthy(count >= 20)
    end)
  end

  it("prints what it does not know", function()
    local value = read(texts["zip training"])
    local args = 'argparse.Namespace {arch = "resnet50", dist_url = None, lr = 0.2, mlp = true, schedule = {2 entries}}'
    assert.equal(args, tostring(value.args))
    local optimizer = "^torch%.optim%.sgd%.SGD {.*param_groups = {1 entry}, state = {2 entries}}$"
    assert.matches(optimizer, tostring(value.optimizer))
    assert.matches("_parameters = {2 entries}", tostring(value.model))
    local odd = read(torch_files.legacy("c\27[2J\nx\n)R(K\1e")) -- items of an object
    assert.equal([[\x1b[2J.x with 1 items]], tostring(odd))
  end)

  it("goes into a module as cld.load gives it", function()
    local text = torch_files.text
    local pickle = "}(" .. text "weight" .. torch_files.tensor("a", 6, 0, 6) .. text "bias"
      .. torch_files.tensor("b", 2, 0, 2) .. "u"
    process.write(path, torch_files.legacy(pickle,
      { { "a", 6, string.pack("<ffffff", 1, 2, 3, 4, 5, 6) }, { "b", 2, string.pack("<ff", 7, 8) } }))
    local net = cld.nn.module "pair"()
    net.weight, net.bias = cld.nn.parameter(cld.zeros(6)), cld.nn.parameter(cld.zeros(2))
    net:load_state_dict(cld.load(path))
    assert.same({ { 1, 2, 3, 4, 5, 6 }, { 7, 8 } }, { net.weight:totable(), net.bias:totable() })
  end)

  it("may be larger than 4 GB", function()
    local elements = 1 << 29 -- complex numbers, which stay in the file: a hole in it
    local complex = torch_files.storage("a", elements, "ComplexFloatStorage")
    local text = torch_files.legacy("(" .. complex .. torch_files.tensor("b", 2, 0, 2) .. "t",
      { { "a", elements, "" }, { "b", 2, string.pack("<ff", 1.5, -2) } })
    local file = assert(io.open(path, "wb"))
    file:write(text:sub(1, -17))
    file:seek("cur", 8 * elements)
    file:write(text:sub(-16))
    file:close()
    local value = cld.load(path)
    assert.is_true(is_record(value[1]))
    assert.same({ 1.5, -2 }, value[2]:totable())
  end)

  it("may be a plain pickle", function()
    local value, facts = read "\x80\2}(X\1\0\0\0aK\5X\1\0\0\0b]K\7au."
    assert.same({ { a = 5, b = { 7 } }, { format = "pickle" } }, { value, facts })
  end)

  it("may be written by a big-endian machine", function()
    local value = read(zip.write {
      { "x/data.pkl", "\x80\2" .. torch_files.tensor("0", 2, 0, 2) .. "." }, { "x/byteorder", "big" },
      { "x/data/0", string.pack(">ff", 1.5, -2) },
    })
    assert.same({ 1.5, -2 }, value:totable())
  end)

  it("may have a part of a storage as a storage, as PyTorch once did", function()
    local view = ("(%s%s%st"):format(torch_files.text "v", torch_files.integer(1), torch_files.integer(2))
    local storage = torch_files.storage("0", 4):sub(1, -3) .. view .. "tQ"
    local value = read(torch_files.legacy(storage, { { "0", 4, string.pack("<ffff", 1, 2, 3, 4) } }))
    assert.same({ 2, 3 }, value:totable())
  end)

  -- ---- damage ---------------------------------------------------------------------

  local function fails(pattern, text)
    local message = check.fails(function() read(text) end, pattern)
    assert.is_nil(message:find "\n")
    return message
  end

  it("tells every truncation", function()
    for _, name in ipairs { "zip one tensor", "legacy one tensor" } do
      local text = texts[name]
      for length = 1, #text - 1 do
        local message = fails("x%.pth: ", text:sub(1, length))
        if length > 13 then assert.matches("truncated", message) end
      end
    end
  end)

  it("compares checksums", function()
    local text = texts["zip one tensor"]
    local at = text:find(string.pack("<ff", -3, -2), 1, true)
    fails("x%.pth: .*'.*data/0'.*CRC", text:sub(1, at - 1) .. "\1" .. text:sub(at + 1))
  end)

  it("keeps a tensor of an unknown type as a record, which cld.save refuses", function()
    local value = read(texts["zip inert"])
    for _, name in ipairs { "complex", "float8", "beyond", "names" } do
      check.fails(function() cld.save(folder .. "/x.safetensors", { w = cld.ones(1), a = { value[name] } }) end,
        "save: 'a.1' is a tensor that cld.load could not read, kept as the record [%w_.]+%(.*; leave it out$")
    end
    assert.is_nil(cld.io.exists(folder .. "/x.safetensors"))
  end)

  it("survives changed bytes", function()
    local state = 12345
    local function random(n)
      state = (state * 1103515245 + 12345) % 2147483648
      return state // 65536 % n
    end
    for _, name in ipairs { "legacy plain, protocol 2", "legacy training", "zip inert" } do
      local whole, read_anyway = texts[name], 0
      for _ = 1, 300 do
        local text = whole
        for _ = 1, 1 + random(3) do
          local at = 1 + random(#text)
          text = text:sub(1, at - 1) .. string.char(random(256)) .. text:sub(at + 1)
        end
        local ok, message = pcall(read, text)
        if ok then read_anyway = read_anyway + 1 else assert.truthy(tostring(message):find("x.pth", 1, true)) end
      end
      assert.truthy(read_anyway < 300)
    end
    collectgarbage()
  end)

  local function zipped(pickle, storage)
    return zip.write { { "x/data.pkl", "\x80\2" .. pickle .. "." }, storage and { "x/data/0", storage } }
  end

  it("claims what it does not have", function()
    local billions = 2500000000
    fails("damaged: its storage '0' claims 10000000000 bytes, but its member has 4",
      zipped(torch_files.tensor("0", billions, 0, billions), "1234"))
    fails("truncated: its storage '0' of 10000000000 bytes should begin at byte %d+, but the file has %d+$",
      torch_files.legacy(torch_files.tensor("0", billions, 0, 1), { { "0", billions, "1234" } }))
    fails("its storage '0' of 18446744073709551615 bytes",
      torch_files.legacy(torch_files.tensor("0", math.maxinteger, 0, 1), { { "0", math.maxinteger, "1234" } }))
    fails("the pickle gives another size to its storage '0'",
      torch_files.legacy(torch_files.tensor("0", 1, 0, 1), { { "0", 2, "12345678" } }))
    fails("damaged: it lacks the storage '0'", zipped(torch_files.tensor("0", 1, 0, 1)))
    fails("damaged: it lacks the storage '0'", torch_files.legacy(torch_files.tensor("0", 1, 0, 1)))
    fails("damaged: nothing refers to its storage 'b'", torch_files.legacy("N", { { "b", 1, "1234" } }))
    fails("its storage '0' has two types or sizes",
      zipped(torch_files.tensor("0", 1, 0, 1) .. "0" .. torch_files.tensor("0", 2, 0, 1), "1234"))
    local outside = "damaged: a tensor reaches beyond the 1 elements of its storage '0'"
    fails(outside, zipped(torch_files.tensor("0", 1, 0, billions), "1234"))
    fails(outside, zipped(torch_files.tensor("0", 1, 1, 1), "1234"))
    fails(outside, zipped(torch_files.tensor("0", 1, math.maxinteger, 1), "1234"))
    fails(outside, zipped(torch_files.tensor("0", 1, 0, 3, math.maxinteger), "1234"))
    fails(outside, zipped(torch_files.tensor("0", 1, 0, math.maxinteger, 0), "1234"))
  end)

  it("leaves alone a tensor whose arguments are no tensor's", function()
    for _, pickle in ipairs {
      torch_files.tensor("0", 1, -1, 1), torch_files.tensor("0", 1, 0, 1, -1), torch_files.tensor("0", 1, 0, -1),
      "ctorch._utils\n_rebuild_tensor_v2\n)R", "ctorch._utils\n_rebuild_tensor_v2\nK\5R",
      "ctorch._utils\n_rebuild_tensor_v2\n)R)R", "ctorch._utils\n_rebuild_from_type_v2\n)R",
    } do
      assert.is_true(is_record((read(zipped(pickle, "1234")))))
    end
    assert.is_true(is_record((read(zipped "K\5Q"))))
    assert.equal(none, (read(zipped "ctorch._utils\n_rebuild_parameter\n)R")))
    assert.equal(5, (read(zipped "ctorch._utils\n_rebuild_parameter\nK\5\x85R")))
  end)

  it("is not led in circles, nor into depths", function()
    local value = read "\x80\2]q\0h\0a."
    assert.equal(value, value[1])
    read("\x80\2N" .. ("\x85"):rep(100000) .. ".") -- nested tuples
    read("\x80\2ctorch._utils\n_rebuild_parameter\nq\0N" .. ("\x85q\x010h\0h\1R"):rep(20000) .. ".")
    local doubled = {} -- lists of two, each of the one before twice: 2^200 values if they were copied
    for i = 1, 200 do doubled[i] = ("](h%ch%ceq%c0"):format(i - 1, i - 1, i) end
    read("\x80\2]q\0000" .. table.concat(doubled) .. "h\xc8.")
  end)

  it("takes no more memory than it has bytes, many times over", function()
    fails("its NumPy arrays are larger than the file", "\x80\2cnumpy.core.numeric\n_frombuffer\nq\0"
      .. "(U\200" .. ("x"):rep(200) .. "cnumpy\ndtype\nU\2u1\x85RM\200\0\x85U\1Ctq\x010](" .. ("h\0h\1R"):rep(50)
      .. "e.")
    local claiming = zipped(torch_files.tensor("0", 1 << 23, 0, 1), "1234") -- of 32 MB, as a member's size does
    fails("its storages claim more than 1%d+ bytes, but the file has %d+",
      (claiming:gsub("\4\0\0\0\4\0\0\0\8\0", "\0\0\0\2\0\0\0\2\8\0")))
  end)

  it("is another's zip archive", function()
    fails("x%.pth: a zip archive, but not one of PyTorch's: it has no data%.pkl; its first member is '%[Content_Types",
      zip.write { { "[Content_Types].xml", "" }, { "word/document.xml", "" } })
    fails("x%.pth: a TorchScript archive, which holds code; in PyTorch, torch%.save",
      zip.write { { "x/data.pkl", "\x80\2N." }, { "x/code/__torch__.py", "" }, { "x/constants.pkl", "\x80\2)." } })
  end)

  it("is told from safetensors whose header's length looks like another file's beginning", function()
    for _, length in ipairs { 0x8b1f, 0x0280, 0x7d0280 } do
      local header = '{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'
      process.write(path, string.pack("<I8", length) .. header .. (" "):rep(length - #header) .. "\5\6")
      assert.is_false(cld.io.is_torch(path))
      assert.same({ 5, 6 }, cld.load(path).x:totable())
    end
  end)

  it("is another kind of file", function()
    fails("not a safetensors or PyTorch file: it is a tar archive; if PyTorch before 0%.1%.10 wrote it",
      ("storages"):rep(40):sub(1, 257) .. "ustar" .. ("\0"):rep(300))
    fails("it is compressed with gzip", "\x1f\x8b\8\0")
    fails("it is a web page; the download went wrong", "<!DOCTYPE html><html>")
    fails("it is a NumPy array; cld%.io%.load_npy reads it", "\x93NUMPY\1\0")
    fails("it is a file of Lua's Torch 7, not of PyTorch", "\4\0\0\0\1\0\0\0\3\0\0\0V 1")
    fails("git lfs pull", "version https://git-lfs.github.com/spec/v1\n")
    fails("of PyTorch's legacy format only version 1001 can be read",
      (texts["legacy one tensor"]:gsub("M\xe9\3", "M\xea\3")))
    fails("not a PyTorch file that can be read: at byte 2 of data%.pkl, the pickle opcode 'i'", zipped "ios\nsystem\n")
    check.fails(function() cld.load(folder) end, "it is not a regular file")
    check.fails(function() cld.load(folder .. "/none.pth") end, "No such file")
  end)
end)
