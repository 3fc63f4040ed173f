--- Safetensors files: round trips, the exact bytes, other writers' files, every kind of damage, failing writes.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"

describe("safetensors", function()
  local folder, path
  before_each(function()
    folder = process.temporary_folder()
    path = folder .. "/x.safetensors"
  end)
  after_each(function() process.remove(folder) end)

  -- A file by hand: the header's text and the data's bytes.
  local function by_hand(header, data, length)
    return process.write(path, string.pack("<I8", length or #header) .. header .. (data or ""))
  end

  local function fails(pattern) return check.fails(function() cld.load(path) end, pattern) end

  describe("round trip", function()
    it("keeps names, dtypes, shapes and values", function()
      local values = { { 1, 2, 3 }, { 4, 5, 6 } }
      local tensors = {}
      for _, dtype in ipairs { "f32", "f64", "bf16", "f16", "i64", "i32", "u8" } do
        tensors["a." .. dtype] = cld.tensor(values, dtype)
      end
      tensors.empty = cld.zeros(0, 3)
      tensors.scalar = cld.tensor({ 7.5 }):reshape {}
      cld.save(path, tensors)
      local loaded, metadata = cld.load(path)
      assert.same({}, metadata)
      for name, tensor in pairs(tensors) do
        assert.equal(tensor.dtype, loaded[name].dtype)
        assert.same(tensor.shape, loaded[name].shape)
        if name ~= "empty" and name ~= "scalar" then assert.same(values, loaded[name]:totable()) end
        loaded[name] = nil
      end
      assert.is_nil(next(loaded))
    end)

    it("writes views as they look", function()
      local x = cld.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
      cld.save(path, { t = x:transpose(1, 2), row = x:narrow(1, 2, 1) })
      local loaded = cld.load(path)
      assert.same({ { 1, 4 }, { 2, 5 }, { 3, 6 } }, loaded.t:totable())
      assert.same({ { 4, 5, 6 } }, loaded.row:totable())
    end)

    it("keeps metadata, names and values in any UTF-8", function()
      local metadata = { epoch = 3, note = 'a "quoted" line\nand λ', done = true }
      cld.save(path, { ["ünïcode.\"name\""] = cld.tensor { 1 } }, metadata)
      local loaded, got = cld.load(path)
      assert.same({ epoch = "3", note = metadata.note, done = "true" }, got)
      assert.same({ 1 }, loaded["ünïcode.\"name\""]:totable())
    end)

    it("holds no tensor at all", function()
      cld.save(path, {})
      assert.same({}, (cld.load(path)))
    end)
  end)

  it("writes the same bytes whatever the order of the table: wide dtypes first, then by name", function()
    cld.save(path, { b = cld.tensor({ 1, 2 }, "f32"), a = cld.tensor({ 3 }, "u8"), c = cld.tensor({ 4 }, "i64"),
      ["a.b"] = cld.tensor({ 5 }, "f32") }, { k = "v" })
    local header = '{"__metadata__":{"k":"v"},'
      .. '"c":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},'
      .. '"a.b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},'
      .. '"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]},'
      .. '"a":{"dtype":"U8","shape":[1],"data_offsets":[20,21]}}'
    header = header .. (" "):rep(-#header % 8)
    local data = string.pack("<i8fffB", 4, 5, 1, 2, 3)
    assert.equal(string.pack("<I8", #header) .. header .. data, process.read(path))
  end)

  it("reads what other writers make: any order, spaces, BOOL, empty shapes", function()
    by_hand('{ "w" : {"shape":[2], "dtype":"F32", "data_offsets":[1, 9]},\n'
      .. '"__metadata__":{"format":"pt"}, "mask":{"dtype":"BOOL","shape":[],"data_offsets":[0,1]} }   ',
      string.pack("<Bff", 1, 0.5, -2))
    local loaded, metadata = cld.load(path)
    assert.same({ 0.5, -2 }, loaded.w:totable())
    assert.equal("u8", loaded.mask.dtype)
    assert.equal(1, loaded.mask:item())
    assert.same({ format = "pt" }, metadata)
  end)

  -- Of other dtypes than ours: the bytes, and what they become.
  local widened = {
    { "I8", "bbb", { -128, -1, 127 }, "i32" }, { "I16", "<hhh", { -32768, -2, 32767 }, "i32" },
    { "U16", "<HHH", { 0, 258, 65535 }, "i32" }, { "U32", "<I4I4I4", { 0, 16909060, 4294967295 }, "i64" },
    { "U64", "<i8i8i8", { 0, 1, math.maxinteger }, "i64" }, { "BOOL", "BBB", { 0, 1, 1 }, "u8" },
  }
  for _, case in ipairs(widened) do
    local name, format, values, dtype = table.unpack(case)
    it(("reads %s as %s"):format(name, dtype), function()
      local data = string.pack(format, table.unpack(values))
      by_hand(('{"a":{"dtype":"%s","shape":[3],"data_offsets":[0,%d]}}'):format(name, #data), data)
      local loaded, _, unread = cld.load(path)
      assert.equal(dtype, loaded.a.dtype)
      assert.same(values, loaded.a:totable())
      assert.same({}, unread)
    end)
  end

  -- A tensor `q` that cannot be had here, beside a weight.
  local unreadable = {
    { "F6_E2M3", "[4]", 3, "its dtype F6_E2M3" }, { "F4", "[2,2]", 2, "its dtype F4" },
    { "C64", "[1]", 8, "its dtype C64" }, { "I128", "[1]", 16, "its dtype I128" },
    { "f32", "[1]", 4, "its dtype f32" }, { "", "[1]", 4, "its dtype  cannot be read" },
    { "U64", "[1]", 8, "the value 9223372036854775808 does not fit i64, which U64 becomes",
      string.pack("<i8", math.mininteger) },
    { "U8", "[1,1,1,1,1,1,1,1,8]", 8, "it has 9 dimensions; a tensor has at most 8" },
    { "F32", "[0,4611686018427387904,4611686018427387904]", 0, "its shape is too large" },
    { "F32", "[18446744073709551615,0]", 0, "its shape is too large" },
  }
  for _, case in ipairs(unreadable) do
    local dtype, shape, size, why, data = table.unpack(case)
    it(("reads a weight beside a tensor of %s %s, and says why not that"):format(dtype, shape), function()
      by_hand(('{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        .. '"q":{"dtype":"%s","shape":%s,"data_offsets":[4,%d]}}'):format(dtype, shape, 4 + size),
        string.pack("<f", 1.5) .. (data or ("\1"):rep(size)))
      check.fails(function() cld.load(path) end, "cannot read the tensor 'q': " .. why:gsub("%p", "%%%0")
        .. ".*; cld.load%(path, { skip = true }%) leaves such tensors out$")
      local loaded, _, unread = cld.load(path, { skip = true })
      assert.same({ 1.5 }, loaded.w:totable())
      assert.is_nil(loaded.q)
      assert.equal(why, unread.q:sub(1, #why))
      unread.q = nil
      assert.same({}, unread)
    end)
  end

  -- What the format's own reader takes.
  local plain = '"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}'
  local taken = {
    ["null metadata"] = '{"__metadata__":null,' .. plain .. "}",
    ["metadata at the end"] = "{" .. plain .. ',"__metadata__":{"k":"v"}}',
    ["an unknown field"] = '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"note":"x"}}',
    ["unknown fields of every kind"] = '{"a":{"x":[1,-2.5e-3,true,false,null,{"y":{"z":[]}},"\\n\\u0000"],"dtype":"U8",'
      .. '"":0,"shape":[2],"x":{},"data_offsets":[0,2]}}',
    ["an unknown field that is nested"] = '{"a":{"x":' .. ("["):rep(100) .. ("]"):rep(100)
      .. ',"dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
    ["escapes in what it knows"] = '{"\\u0061":{"\\u0064type":"U\\u0038","shape":[2],"data_offsets":[0,2]}}',
    ["white space of every kind"] = "{" .. plain:gsub("([:,])", "%1 \t\r\n") .. "}\n\t\r ",
    ["empty tensors at either end"] = "{" .. plain .. ',"b":{"dtype":"F32","shape":[0,3],"data_offsets":[2,2]},'
      .. '"c":{"dtype":"F64","shape":[0],"data_offsets":[0,0]}}',
  }
  for what, header in pairs(taken) do
    it("reads a header with " .. what, function()
      by_hand(header, "\1\2")
      assert.same({ 1, 2 }, cld.load(path).a:totable())
    end)
  end

  it("reads names and metadata of any characters", function()
    by_hand('{"__metadata__":{"a\\u0000b":"\\ud83d\\ude00\\u00e9\\u0000"},'
      .. '"x\\u0000y":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},'
      .. '"x\\u0000":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
      .. '"":{"dtype":"U8","shape":[],"data_offsets":[2,3]}}', "\1\2\3")
    local loaded, metadata = cld.load(path)
    assert.same({ 1, 2 }, loaded["x\0y"]:totable())
    assert.equal(3, loaded[""]:item())
    assert.same({ ["a\0b"] = "😀é\0" }, metadata)
  end)

  it("says of a file without a byte that it is empty", function()
    process.write(path, "")
    check.fails(function() cld.load(path) end, "x%.safetensors: the file is empty")
  end)

  it("names the tensor of a checkpoint that could not be read", function()
    local checkpoint = require "cld.run.checkpoint"
    local header = '{"__metadata__":{"format":"cldlua checkpoint 1","options":"{}","position":'
      .. '"{\\"epoch\\":1,\\"step\\":1,\\"step_in_epoch\\":0,\\"seconds\\":1,'
      .. '\\"rng\\":{\\"seed\\":1,\\"position\\":0}}"},'
      .. '"net.w":{"dtype":"F4","shape":[4],"data_offsets":[0,2]},'
      .. '"other.w":{"dtype":"F4","shape":[4],"data_offsets":[2,4]}}'
    by_hand(header, "\1\2\3\4")
    local loaded = checkpoint.load(path)
    local message = check.fails(function()
      checkpoint.restore(loaded, { net = checkpoint.object { w = cld.zeros(2) } }, true)
    end, "x%.safetensors does not fit this run: 'net%.w' could not be read: its dtype F4")
    assert.is_nil(message:find("other", 1, true))
  end)

  -- Headers that ask for more memory than they have bytes. Python would take gigabytes for some of them.
  describe("a hostile header", function()
    local million = 1000000
    local tensor = '"%s":{"dtype":"U8","shape":[0],"data_offsets":[0,0]%s}'
    local headers = {
      ["of empty objects"] = "{" .. tensor:format("a", ',"x":[' .. ("{},"):rep(3 * million) .. "0]") .. "}",
      ["of dimensions"] = '{"a":{"dtype":"U8","shape":[' .. ("0,"):rep(4 * million) .. '0],"data_offsets":[0,0]}}',
      ["of digits"] = "{" .. tensor:format("a", ',"x":' .. ("1"):rep(9 * million)) .. "}",
      ["of members"] = "{" .. tensor:format("a", ',"x":{' .. ('"":0,'):rep(2 * million) .. '"":0}') .. "}",
      ["of one long name"] = "{" .. tensor:format(("x"):rep(9 * million), "") .. "}",
    }
    for what, header in pairs(headers) do
      it(what .. " takes little more memory than its own", function()
        by_hand(header)
        local script = process.write(folder .. "/load.lua", [[
          local cld = require "cld"
          local before = cld.memory().resident
          cld.load(arg[1], { skip = true })
          print(cld.memory().resident_peak - before)]])
        local result = process.run { script, path }
        assert.equal("", result.err)
        local peak = tonumber(result.out)
        assert.truthy(peak <= 4 * #header, peak)
      end)
    end

    it("of too many tensors is refused", function()
      by_hand("{" .. (tensor:format("a", "") .. ","):rep(million) .. tensor:format("a", "") .. "}")
      fails "x%.safetensors: it has more than 1000000 tensors"
    end)

    it("of too many entries of metadata is refused", function()
      by_hand('{"__metadata__":{' .. ('"":"",'):rep(million) .. '"":""}}')
      fails "x%.safetensors: it has more than 1000000 entries of metadata"
    end)
  end)

  it("reads a hundred thousand tensors", function()
    local entries, count = {}, 100000
    for i = 1, count do
      entries[i] = ('"layers.%d.weight":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}'):format(i, 4 * i - 4, 4 * i)
    end
    by_hand("{" .. table.concat(entries, ",") .. "}", string.pack("<f", 2):rep(count))
    local loaded = cld.load(path)
    assert.equal(2, loaded["layers.100000.weight"]:item())
    for _, tensor in pairs(loaded) do tensor:close() end
  end)

  describe("damage", function()
    it("is found at every truncation, with the file's name in the message", function()
      cld.save(path, { a = cld.tensor { 1, 2 }, b = cld.tensor({ 3 }, "u8") }, { k = "v" })
      local whole = process.read(path)
      for length = 1, #whole - 1 do -- of none: see above
        process.write(path, whole:sub(1, length))
        local message = fails("x%.safetensors: ")
        assert.truthy(message:find("not a safetensors or", 1, true) or message:find("damaged file", 1, true))
      end
      process.write(path, whole .. "\0")
      fails "1 bytes follow the last tensor"
    end)

    it("is found in any byte of the header without a crash", function()
      cld.save(path, { a = cld.tensor { 1, 2 }, b = cld.tensor({ 3 }, "u8") }, { k = "v" })
      local whole = process.read(path)
      for i = 1, #whole - 9 do
        for _, byte in ipairs { 0, 0x22, 0x39, 0x7d, 0xff } do
          process.write(path, whole:sub(1, i - 1) .. string.char(byte) .. whole:sub(i + 1))
          pcall(cld.load, path) -- some changes are legal: another name, another value
        end
      end
    end)

    local one = '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    local data = ("\0"):rep(8)
    local cases = {
      { "a foreign file", "#!/bin/sh\necho hello\n", "not a safetensors or PyTorch file" },
      { "another length", string.pack("<I8", 16) .. "PK\3\4 and so on .", "not a safetensors or PyTorch file" },
      { "broken JSON", { '{"a":}' }, "not JSON" },
      { "text after the JSON", { "{}x" }, "not JSON" },
      { "a name twice", { "{" .. one .. "," .. one .. "}", data }, "duplicate" },
      { "a missing field", { '{"a":{"dtype":"F32","shape":[2]}}', data }, "not described by" },
      { "a tensor that is no object", { '{"a":3}' }, "not described by" },
      { "a negative size", { '{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}', data }, "not a size" },
      { "a fractional size", { '{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}', data }, "not a size" },
      { "bytes that do not fit the shape", { '{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}', data },
        "do not fill" },
      { "a shape that overflows",
        { '{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}' }, "do not fill" },
      { "a size beyond 64 bits", { '{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]}}', data },
        "not a size" },
      { "offsets the wrong way", { '{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}', data }, "not a range" },
      { "offsets before the data", { '{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}', data }, "not a range" },
      { "a tensor beyond the end", { "{" .. one .. "}", "1234" }, "cut off" },
      { "a gap", { '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', data }, "gap" },
      { "an overlap", { "{" .. one .. ',"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', data }, "overlap" },
      { "bytes to spare", { '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', data }, "4 bytes follow" },
      { "a size with an exponent", { '{"a":{"dtype":"F32","shape":[2e0],"data_offsets":[0,8]}}', data }, "not a size" },
      { "a size after a zero", { '{"a":{"dtype":"F32","shape":[02],"data_offsets":[0,8]}}', data }, "not a size" },
      { "three offsets", { '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}}', data }, "not a range" },
      { "one offset", { '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}', data }, "not a range" },
      { "a field twice", { '{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', data },
        "not described by one dtype" },
      { "a dtype that is no text", { '{"a":{"dtype":1,"shape":[2],"data_offsets":[0,8]}}', data }, "not described by" },
      { "half a byte", { '{"a":{"dtype":"F4","shape":[15],"data_offsets":[0,8]}}', data }, "do not fill" },
      { "an unread tensor that does not fill its bytes",
        { '{"a":{"dtype":"C64","shape":[2],"data_offsets":[0,8]}}', data }, "C64 elements do not fill" },
      { "an unknown dtype in a gap", { '{"a":{"dtype":"X","shape":[1],"data_offsets":[4,8]}}', data }, "gap" },
      { "text that is no UTF-8", { '{"a\xff":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', data }, "not UTF%-8" },
      { "overlong UTF-8", { '{"a\xc0\xaf":{}}', data }, "not UTF%-8" },
      { "a surrogate in UTF-8", { '{"a\xed\xa0\x80":{}}', data }, "not UTF%-8" },
      { "half a surrogate pair", { '{"a\\ud83d":{}}', data }, "unknown escape" },
      { "an unknown escape", { '{"a\\x41":{}}', data }, "unknown escape" },
      { "a line end in a name", { '{"a\n":{}}', data }, "control character" },
      { "a comma too many", { "{" .. one .. ",}", data }, "not JSON" },
      { "a comma too few", { "{" .. one .. one:gsub("a", "b", 1) .. "}", data }, "not JSON" },
      { "a word of another language", { '{"a":{"x":None}}', data }, "not JSON" },
      { "deep nesting", { '{"a":{"x":' .. ("["):rep(100000) .. "}}", data }, "nested more than 128 deep" },
      { "metadata twice", { '{"__metadata__":{},"__metadata__":{}}' }, "__metadata__ is a duplicate" },
      { "a key of the metadata twice", { '{"__metadata__":{"k":"a","k":"b"}}' }, "metadata 'k' is a duplicate" },
      { "metadata that is no text", { '{"__metadata__":{"k":3}}' }, "metadata 'k' is not a string" },
      { "metadata that is no table", { '{"__metadata__":[]}' }, "__metadata__ is not an object" },
    }
    for _, case in ipairs(cases) do
      local what, file, pattern = table.unpack(case)
      it("is found: " .. what, function()
        if type(file) == "table" then by_hand(table.unpack(file)) else process.write(path, file) end
        fails(pattern)
      end)
    end
  end)

  describe("what cannot be read or written", function()
    it("is named with the reason", function()
      fails "No such file or directory"
      check.fails(function() cld.load(folder) end, "not a regular file")
      check.fails(function() cld.save(folder .. "/no/x", {}) end, "cannot write '.*/no/x': No such file")
      check.fails(function() cld.save(folder, {}) end, "not a regular file")
      check.fails(function() cld.save(path, { a = cld.tensor { 1 } }, { m = {} }) end, "'m' is a table")
      check.fails(function() cld.save(path, { ["a\0b"] = cld.tensor { 1 } }) end, "zero byte")
      check.fails(function() cld.save(path, { ["\xff"] = cld.tensor { 1 } }) end, "not UTF%-8")
      check.fails(function() cld.save(path, { __metadata__ = cld.tensor { 1 } }) end, "the name is taken")
      assert.same({}, cld.io.list(folder))
    end)

    -- A limit on the size of files stands in for the full disk: the write fails in the middle, with a reason.
    it("leaves the old file and no temporary when the disk is full", function()
      cld.save(path, { a = cld.tensor { 1, 2, 3 } })
      local before = process.read(path)
      local script = process.write(folder .. "/fill.lua", [[
        local cld = require "cld"
        local ok, message = pcall(cld.save, arg[1], { a = cld.zeros(1000000) })
        print(ok, message)]])
      local result = process.run { program = "/bin/sh", "-c",
        ('trap "" XFSZ; ulimit -f 100; exec %s %s %s'):format(process.cldlua, script, path) }
      assert.matches("^false%s+cannot write '.*x%.safetensors': File too large", result.out)
      assert.equal(before, process.read(path))
      assert.same({ "fill.lua", "x.safetensors" }, cld.io.list(folder))
    end)

    it("leaves the old file when the process dies before the rename", function()
      cld.save(path, { a = cld.tensor { 1 } })
      process.write(path .. ".12345.tmp", "half a file")
      assert.same({ 1 }, cld.load(path).a:totable())
      cld.save(path, { a = cld.tensor { 2 } })
      assert.same({ 2 }, cld.load(path).a:totable())
    end)
  end)

  it("replaces a file in one step: a reader sees the old or the new one", function()
    local script = process.write(folder .. "/write.lua", [[
      local cld = require "cld"
      for i = 1, 200 do cld.save(arg[1], { a = cld.full({ 5000 }, i) }) end]])
    cld.save(path, { a = cld.full({ 5000 }, 0) })
    local writer = assert(io.popen(("%s %s %s"):format(process.cldlua, script, path)))
    for _ = 1, 200 do
      local a <close> = cld.load(path).a
      local values = a:totable()
      for i = 2, #values do
        if values[i] ~= values[1] then error "a torn file" end
      end
    end
    assert.is_true(writer:close())
  end)
end)
