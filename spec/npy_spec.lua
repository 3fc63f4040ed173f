--- NumPy's .npy files, folders and whole files.
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

  it("finds damage", function()
    fails "No such file"
    cld.io.save_npy(path, cld.tensor { 1, 2 })
    local whole = process.read(path)
    for length = 0, #whole - 1 do
      process.write(path, whole:sub(1, length))
      fails "x%.npy: "
    end
    local cases = {
      { "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", "type '>f4'" },
      { "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", "not a plain type" },
      { "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,), }", "neither True nor False" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", "not a tuple" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,2), }", "not a tuple" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", "not a tuple" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,4), }", "do not fill" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", "do not fill" },
      { "{'descr': '<f4', 'shape': (2,), }", "lacks" },
      { "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", "besides" },
      { "['descr']", "not a dictionary" },
    }
    for _, case in ipairs(cases) do
      by_hand(case[1], ("\0"):rep(8))
      fails(case[2])
    end
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

describe("files and folders", function()
  local folder
  before_each(function() folder = process.temporary_folder() end)
  after_each(function() process.remove(folder) end)

  it("are made, told apart and listed", function()
    assert.is_true(cld.io.mkdir(folder .. "/a/b/"))
    assert.is_false(cld.io.mkdir(folder .. "/a"))
    cld.io.write_atomic(folder .. "/a/file", "text")
    assert.equal("text", process.read(folder .. "/a/file"))
    assert.equal("folder", cld.io.exists(folder .. "/a"))
    assert.equal("file", cld.io.exists(folder .. "/a/file"))
    assert.equal("other", cld.io.exists "/dev/null")
    assert.is_nil(cld.io.exists(folder .. "/none"))
    assert.same({ "b", "file" }, cld.io.list(folder .. "/a"))
    check.fails(function() cld.io.mkdir(folder .. "/a/file/c") end, "cannot make the folder '.*/a/file'")
    check.fails(function() cld.io.list(folder .. "/none") end, "No such file")
    check.fails(function() cld.io.write_atomic("/dev/null", "x") end, "not a regular file")
  end)

  it("are locked by one at a time", function()
    local lock = cld.io.lock(folder)
    assert.is_nil(cld.io.lock(folder))
    getmetatable(lock).__close(lock)
    local again <close> = cld.io.lock(folder)
    assert.truthy(again)
  end)
end)

describe("json", function()
  it("comes back as it was", function()
    local value = { a = 1, b = 2.0, c = { 1, 2, { x = "y" } }, d = "ü \"\\\n\1", e = true, f = 0.1, g = 1e300, h = -0.0,
      i = math.pi, j = math.mininteger, k = cld.json.null }
    local text = cld.json.encode(value)
    local back = cld.json.decode(text)
    assert.same(value, back)
    assert.equal("float", math.type(back.b))
    assert.equal("integer", math.type(back.a))
    assert.equal(text, cld.json.encode(back))
    assert.matches('"f":0%.1,', text)
    assert.same(value, cld.json.decode(cld.json.encode(value, 2)))
  end)

  it("says what it cannot", function()
    local circle = {}
    circle.circle = circle
    check.fails(function() cld.json.encode(0 / 0) end, "no number")
    check.fails(function() cld.json.encode { math.huge } end, "no number")
    check.fails(function() cld.json.encode(circle) end, "cycle")
    check.fails(function() cld.json.encode(print) end, "a function has no JSON form")
    check.fails(function() cld.json.encode { [3] = 1 } end, "keys must be strings")
    check.fails(function() cld.json.encode "\xff" end, "not UTF%-8")
    check.fails(function() cld.json.decode "[1,]" end, "line 1, column 4")
    check.fails(function() cld.json.decode '{"a":1,"a":2}' end, "duplicate")
    check.fails(function() cld.json.decode "" end, "json.decode")
  end)
end)
