--- Safetensors files: round trips, the exact bytes, files of other writers, every kind of damage, failing writes.
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

  describe("damage", function()
    it("is found at every truncation, with the file's name in the message", function()
      cld.save(path, { a = cld.tensor { 1, 2 }, b = cld.tensor({ 3 }, "u8") }, { k = "v" })
      local whole = process.read(path)
      for length = 0, #whole - 1 do
        process.write(path, whole:sub(1, length))
        local message = fails("x%.safetensors: ")
        assert.truthy(message:find("not a safetensors file", 1, true) or message:find("damaged file", 1, true))
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
      { "a foreign file", "#!/bin/sh\necho hello\n", "not a safetensors file" },
      { "another length", string.pack("<I8", 16) .. "PK\3\4 and so on .", "not a safetensors file" },
      { "broken JSON", { '{"a":}' }, "not JSON" },
      { "text after the JSON", { "{}x" }, "not JSON" },
      { "a name twice", { "{" .. one .. "," .. one .. "}", data }, "duplicate" },
      { "an unknown dtype", { '{"a":{"dtype":"U16","shape":[4],"data_offsets":[0,8]}}', data }, "dtype U16" },
      { "a missing field", { '{"a":{"dtype":"F32","shape":[2]}}', data }, "not described by" },
      { "a field too many", { '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}}', data }, "not described" },
      { "a tensor that is no object", { '{"a":3}' }, "not described by" },
      { "a negative size", { '{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}', data }, "not a size" },
      { "a fractional size", { '{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}', data }, "not a size" },
      { "too many dimensions", { '{"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,8],"data_offsets":[0,8]}}', data },
        "9 dimensions" },
      { "bytes that do not fit the shape", { '{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}', data },
        "do not fill" },
      { "a shape that overflows",
        { '{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}' }, "do not fill" },
      { "a size beyond 64 bits", { '{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]}}', data },
        "not JSON" },
      { "a shape that no tensor can have",
        { '{"a":{"dtype":"F32","shape":[0,4611686018427387904,4611686018427387904],"data_offsets":[0,0]}}' },
        "tensor 'a': .*/x%.safetensors: out of memory" },
      { "offsets the wrong way", { '{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}', data }, "not a range" },
      { "offsets before the data", { '{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}', data }, "not a range" },
      { "a tensor beyond the end", { "{" .. one .. "}", "1234" }, "cut off" },
      { "a gap", { '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', data }, "gap" },
      { "an overlap", { "{" .. one .. ',"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', data }, "overlap" },
      { "bytes to spare", { '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', data }, "4 bytes follow" },
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
      check.fails(function() cld.save(path, { a = 1 }) end, "'a' is not an open tensor but a number")
      check.fails(function() cld.save(path, { cld.tensor { 1 } }) end, "keys must be names, found a number")
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
