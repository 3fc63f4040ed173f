--- NumPy's .npy files: round trips, the exact bytes, other writers' forms, damage.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"

describe("npy", function()
  local folder, path
  before_each(function()
    folder = process.temporary_folder()
    path = folder .. "/x.npy"
  end)
  after_each(function() process.remove(folder) end)

  local function by_hand(header, data, version)
    local length = string.pack(version and version > 1 and "<I4" or "<I2", #header)
    return process.write(path, "\x93NUMPY" .. string.char(version or 1, 0) .. length .. header .. data)
  end

  local function fails(pattern) return check.fails(function() cld.io.load_npy(path) end, pattern) end

  it("keeps dtype, shape and values", function()
    for _, dtype in ipairs { "f32", "f64", "f16", "i64", "i32", "u8" } do
      cld.io.save_npy(path, cld.tensor({ { 1, 2, 3 }, { 4, 5, 6 } }, dtype))
      local x = cld.io.load_npy(path)
      assert.equal(dtype, x.dtype)
      assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, x:totable())
    end
  end)

  it("writes the bytes that NumPy writes", function()
    cld.io.save_npy(path, cld.tensor({ 1, 2, 3 }, "i32"))
    local header = "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }"
    header = header .. (" "):rep(128 - 10 - 1 - #header) .. "\n"
    assert.equal("\x93NUMPY\1\0" .. string.pack("<I2", #header) .. header .. string.pack("<i4i4i4", 1, 2, 3),
      process.read(path))
    cld.io.save_npy(path, cld.zeros(2, 3))
    assert.matches("'shape': %(2, 3%), }", process.read(path))
    cld.io.save_npy(path, cld.tensor({ 1 }):reshape {})
    assert.matches("'shape': %(%), }", process.read(path))
    assert.equal(1, cld.io.load_npy(path):item())
  end)

  it("reads Fortran order, versions 2 and 3, bool, any order of keys", function()
    local columns = string.pack("<i4i4i4i4i4i4", 1, 4, 2, 5, 3, 6)
    by_hand("{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }", columns)
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, cld.io.load_npy(path):totable())
    for version = 2, 3 do
      by_hand("{'shape': (2,), 'descr': '|b1', 'fortran_order': False}", "\1\0", version)
      assert.same({ 1, 0 }, cld.io.load_npy(path):totable())
    end
  end)

  -- What is in the file byte by byte, and what it becomes.
  local types = {
    { "|i1", "bbb", { -128, -1, 127 }, "i32" }, { "|u1", "BBB", { 0, 128, 255 }, "u8" },
    { "<i2", "<hhh", { -32768, -2, 32767 }, "i32" }, { ">i2", ">hhh", { -32768, -2, 32767 }, "i32" },
    { "<u2", "<HHH", { 0, 258, 65535 }, "i32" }, { ">u2", ">HHH", { 0, 258, 65535 }, "i32" },
    { "<u4", "<I4I4I4", { 0, 16909060, 4294967295 }, "i64" }, { ">u4", ">I4I4I4", { 0, 16909060, 4294967295 }, "i64" },
    { "<u8", "<i8i8i8", { 0, 1, math.maxinteger }, "i64" }, { ">u8", ">i8i8i8", { 0, 1, math.maxinteger }, "i64" },
    { ">i4", ">i4i4i4", { -2147483648, -2, 2147483647 }, "i32" },
    { ">i8", ">i8i8i8", { math.mininteger, -2, math.maxinteger }, "i64" },
    { ">f4", ">fff", { -1.5, 0.25, 1e38 }, "f32" }, { ">f8", ">ddd", { -1.5, 1e300, 1 / 3 }, "f64" },
    { ">f2", ">I2I2I2", { 0x3c00, 0xc000, 0x3555 }, "f16", { 1, -2, 0.333251953125 } },
    { "<f2", "<I2I2I2", { 0x3c00, 0xc000, 0x3555 }, "f16", { 1, -2, 0.333251953125 } },
    { "|b1", "BBB", { 1, 0, 1 }, "u8" },
  }
  for _, case in ipairs(types) do
    local descr, format, values, dtype, expected = table.unpack(case)
    it(("reads %s as %s"):format(descr, dtype), function()
      by_hand(("{'descr': '%s', 'fortran_order': False, 'shape': (3,), }"):format(descr),
        string.pack(format, table.unpack(values)))
      local x = cld.io.load_npy(path)
      assert.equal(dtype, x.dtype)
      check.close(x, expected or values, { atol = 0, rtol = dtype == "f32" and 1e-7 or 0 })
    end)
  end

  it("reads what it converts in Fortran order and in any size", function()
    by_hand("{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }", string.pack(">hhhhhh", 1, 4, 2, 5, 3, -6))
    assert.same({ { 1, 2, 3 }, { 4, 5, -6 } }, cld.io.load_npy(path):totable())
    local list, bytes = {}, {}
    for i = 1, 1000 do list[i] = i * 40503 % 65536 end
    for i, n in ipairs(list) do bytes[i] = string.pack("<H", n) end
    by_hand("{'descr': '<u2', 'fortran_order': False, 'shape': (1000,), }", table.concat(bytes))
    assert.same(list, cld.io.load_npy(path):totable())
    by_hand("{'descr': '<i2', 'fortran_order': False, 'shape': (0, 3), }", "")
    assert.same({ 0, 3 }, cld.io.load_npy(path).shape)
  end)

  -- Headers that numpy.load takes, of two floats.
  local header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
  local function edited(from, to)
    local first, last = header:find(from, 1, true)
    return header:sub(1, first - 1) .. to .. header:sub(last + 1)
  end
  local headers = {
    ["a Python 2 long"] = edited("2", "2L"),
    ["a Python 2 long and a space"] = edited("2", "2 L"),
    ["double quotes"] = header:gsub("'", '"'),
    ["Python 2's unicode"] = header:gsub("'(%a)", "u'%1"):gsub("'<", "u'<"),
    ["byte order ="] = edited("<", "="),
    ["byte order |"] = edited("<", "|"),
    ["no byte order"] = edited("<", ""),
    ["a C type's code"] = edited("<f4", "<f"),
    ["a C type's code without a byte order"] = edited("<f4", "f"),
    ["NumPy's name"] = edited("<f4", "float32"),
    ["NumPy's other name"] = edited("<f4", "single"),
    ["no comma at the end"] = edited(", }", "}"),
    ["no spaces"] = header:gsub(" ", ""),
    ["tabs"] = header:gsub(" ", "\t"),
    ["Windows line ends"] = header:gsub(" ", "\r\n") .. "\r\n",
    ["comments"] = header:gsub(" ", " # a number\n"),
    ["a space before the colon"] = header:gsub(":", " :"),
    ["spaces before it"] = "  " .. header,
    ["a long padding"] = header .. (" "):rep(5000) .. "\n",
    ["a key twice"] = edited(", }", ", 'fortran_order': False }"),
  }
  for what, text in pairs(headers) do
    it("reads a header with " .. what, function()
      by_hand(text, string.pack("<ff", 1.5, -2))
      local x = cld.io.load_npy(path)
      assert.equal("f32", x.dtype)
      assert.same({ 1.5, -2 }, x:totable())
    end)
  end

  -- numpy.dtype(name).str on Linux.
  local names = {
    ["|b1"] = "? bool bool_", ["|i1"] = "b int8 byte", ["|u1"] = "B uint8 ubyte", ["<i2"] = "h int16 short",
    ["<u2"] = "H uint16 ushort", ["<i4"] = "i int32 intc", ["<u4"] = "I uint32 uintc", ["<f2"] = "e float16 half",
    ["<f8"] = "d float64 double float", ["<i8"] = "l q n p int64 int int_ long longlong intp",
    ["<u8"] = "L Q N P uint64 uint ulong ulonglong uintp",
  }
  for code, list in pairs(names) do
    it("knows NumPy's names of " .. code, function()
      local function load(descr)
        by_hand(edited("<f4", descr), "\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
        local x = cld.io.load_npy(path)
        return { x.dtype, x:totable() }
      end
      local expected = load(code)
      for name in list:gmatch "%S+" do assert.same(expected, load(name), name) end
    end)
  end

  it("reads big-endian C types", function()
    by_hand(edited("<f4", ">h"), string.pack(">hh", 258, -2))
    assert.same({ 258, -2 }, cld.io.load_npy(path):totable())
  end)

  it("does not call damaged what NumPy has and a tensor has not", function()
    local texts = { edited("'<f4'", "[('a', '<f4')]"), edited("(2,)", "(1, 1, 1, 1, 1, 1, 1, 1, 2)") }
    for i, descr in ipairs { "<c8", "<f16", "<U2", "|S2", "|O", "<M8[ns]", "|V4" } do
      texts[2 + i] = edited("<f4", descr)
    end
    for _, text in ipairs(texts) do
      by_hand(text, ("\0"):rep(8))
      local message = fails "x%.npy: "
      assert.is_nil(message:find("damaged", 1, true))
    end
  end)

  it("gives the first of several arrays in a file", function()
    by_hand(header, string.pack("<ff", 1, 2) .. "\x93NUMPY\1\0" .. string.pack("<s2", header) .. "12345678")
    assert.same({ 1, 2 }, cld.io.load_npy(path):totable())
  end)

  it("refuses a huge header before it is read", function()
    local file = assert(io.open(path, "wb"))
    file:write("\x93NUMPY\2\0", string.pack("<I4", 0xfffffff0), "{")
    file:seek("set", 1 << 32)
    file:write "\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    file:close()
    fails "x%.npy: its header has 4294967280 bytes"
  end)

  it("refuses a u8 that no dtype of ours holds", function()
    by_hand("{'descr': '<u8', 'fortran_order': False, 'shape': (2,), }", string.pack("<i8i8", 1, math.mininteger))
    fails "x%.npy: the value 9223372036854775808 does not fit i64, which u8 becomes"
  end)

  it("finds damage", function()
    fails "No such file"
    cld.io.save_npy(path, cld.tensor { 1, 2 })
    local whole = process.read(path)
    for length = 0, #whole - 1 do
      process.write(path, whole:sub(1, length))
      fails "x%.npy: "
    end
    local cases = {
      { "{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", "type '<c8'" },
      { "{'descr': '<f16', 'fortran_order': False, 'shape': (2,), }", "type '<f16'" },
      { "{'descr': '<', 'fortran_order': False, 'shape': (2,), }", "type '<'" },
      { "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", "not a plain type: %[%('a', '<f4'%)%]" },
      { "{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (2,), }", "not a plain type" },
      { "{'descr': '<f4\\x20', 'fortran_order': False, 'shape': (2,), }", "not a plain type" },
      { "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,), }", "neither True nor False" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", "not a tuple" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2), }", "not a tuple" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", "not a tuple" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,4), }", "do not fill" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", "do not fill" },
      { "{'descr': '<i2', 'fortran_order': False, 'shape': (5,), }", "do not fill" },
      { "{'descr': '<f4', 'shape': (2,), }", "lacks" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", "besides" },
      { "['descr']", "not a dictionary" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), ,}", "not a dictionary" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), } x", "goes on after" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (2.0,), }", "not a tuple" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': [2], }", "not a tuple" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775808,), }", "not a tuple" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807,), }", "do not fill" },
      { "{'descr: '<f4', 'fortran_order': False, 'shape': (2,), }", "not a dictionary" },
    }
    for _, case in ipairs(cases) do
      by_hand(case[1], ("\0"):rep(8))
      fails(case[2])
    end
    by_hand("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4611686018427387904, 4611686018427387904), }", "")
    fails "x%.npy: out of memory"
    by_hand("{}", "", 4)
    fails "version 4"
    process.write(path, "GIF89a and more")
    fails "not an %.npy file"
  end)

  it("refuses what NumPy has no type for", function()
    check.fails(function() cld.io.save_npy(path, cld.tensor({ 1 }, "bf16")) end, "NumPy has no bf16")
    assert.same({}, cld.io.list(folder))
  end)
end)
