--- cld.save and cld.load: tables in tables, types kept as they were read, NumPy's .npz.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"
local zip = require "spec.support.zip"

describe("saved", function()
  local folder, path
  before_each(function()
    folder = process.temporary_folder()
    path = folder .. "/x.safetensors"
  end)
  after_each(function() process.remove(folder) end)

  -- The same with tensors as {dtype, shape, values}, to compare.
  local function plain(value)
    if cld.is_tensor(value) then return { value.dtype, value.shape, value:flatten():totable() } end
    if type(value) ~= "table" then return value end
    local made = {}
    for key, item in pairs(value) do made[key] = plain(item) end
    return made
  end

  local function types_in(bytes)
    local header = bytes:sub(9, 8 + string.unpack("<I8", bytes))
    local types = {}
    for name, facts in pairs(cld.json.decode(header)) do types[name] = facts.dtype end
    return types
  end

  describe("tables in tables", function()
    local function nested()
      return {
        net = { layers = { { weight = cld.tensor { { 1, 2 }, { 3, 4 } } }, { weight = cld.tensor({ 5 }, "i64") } } },
        epoch = 3, rate = 0.1, whole = 2.0, name = "a \"b\"\n\0\xff", good = true, bad = false, none = {},
        list = { 1, 2.5, "three", { 4 }, false }, far = { math.huge, -math.huge, math.maxinteger },
      }
    end

    it("come back the same", function()
      cld.save(path, nested())
      local loaded, metadata, unread = cld.load(path)
      assert.same(plain(nested()), plain(loaded))
      assert.equal("float", math.type(loaded.whole))
      assert.equal("integer", math.type(loaded.epoch))
      assert.same({}, metadata)
      assert.same({}, unread)
    end)

    it("keep NaN", function()
      cld.save(path, { 0 / 0 })
      local value = cld.load(path)[1]
      assert.is_true(value ~= value)
    end)

    it("show their tensors to other readers, by their places", function()
      cld.save(path, nested())
      local tensors = cld.io.load(path)
      assert.same({ { 1, 2 }, { 3, 4 } }, tensors["net.layers.1.weight"]:totable())
      assert.same({ 5 }, tensors["net.layers.2.weight"]:totable())
    end)

    it("may have names with dots in them", function()
      local value = { a = { b = cld.tensor { 1 } }, ["a.b"] = cld.tensor { 2 } }
      cld.save(path, value)
      assert.same(plain(value), plain(cld.load(path)))
    end)

    it("may be lists at the top", function()
      cld.save(path, { cld.tensor { 1 }, cld.tensor { 2 } })
      assert.same({ 2 }, cld.load(path)[2]:totable())
    end)

    it("take metadata beside them", function()
      cld.save(path, { a = { 1 } }, { note = "x" })
      local loaded, metadata = cld.load(path)
      assert.same({ a = { 1 } }, loaded)
      assert.same({ note = "x" }, metadata)
    end)

    it("may hold one table at two places", function()
      local twice = { cld.tensor { 1 } }
      cld.save(path, { a = twice, b = twice })
      assert.same({ 1 }, cld.load(path).b[1]:totable())
    end)

    local function in_itself()
      local t = { a = {} }
      t.a.b = t
      return t
    end
    local function deep()
      local t = {}
      for _ = 1, 200 do t = { t } end
      return t
    end
    local cases = {
      ["a function"] = { { a = { b = { print } } }, "save: 'a%.b%.1' is a function; tensors, numbers, text" },
      ["a cycle"] = { in_itself, "save: 'a%.b' lies in itself: it is the table" },
      ["names and positions"] = { { a = { 1, 2, x = 3 } }, "save: 'a' has both names and positions as keys" },
      ["a hole"] = { { a = { [1] = 1, [3] = 3 } }, "save: 'a' is a list with nothing at position 2" },
      ["a key that is a float"] = { { [1.5] = 1 }, "save: the table has the key 1%.5; keys are names" },
      ["a key below 1"] = { { a = { [0] = 1 } }, "save: 'a' has the key 0; keys are names" },
      ["null"] = { { a = cld.json.null }, "save: 'a' is a userdata" },
      ["too many tables in tables"] = { deep, "lies more than 90 tables deep" },
      ["a network"] = { cld.nn.linear(1, 1), "save: the value is an object; what can be saved of it is its state" },
      ["a network in a table"] = { { a = { cld.nn.linear(1, 1) } }, "save: 'a%.1' is an object" },
      ["an optimizer"] = {
        { sgd = cld.optim.sgd({ cld.ones(1):requires_grad_() }, { lr = 1 }) },
        "save: 'sgd' is an object; what can be saved of it is its state, object:state_dict%(%)",
      },
      ["a memory bank"] = { { bank = cld.losses.memory_bank { size = 2, dim = 2 } }, "save: 'bank' is an object" },
      ["no table"] = { 3, "save: expected a table of tensors, got 3" },
    }
    for what, case in pairs(cases) do
      it("cannot hold " .. what, function()
        local value = case[1]
        if type(value) == "function" then value = value() end
        check.fails(function() cld.save(path, value) end, case[2])
        assert.same({}, cld.io.list(folder))
      end)
    end

    it("cannot hold a closed tensor", function()
      local t = cld.zeros(1)
      t:close()
      check.fails(function() cld.save(path, { a = { t } }) end, "'a%.1' is a closed tensor")
    end)

    local structures = {
      ["no JSON"] = { "{", "is not JSON" }, ["a null"] = { '{"a":null}', "holds a null" },
      ["no table"] = { "3", "is no table" }, ["an unknown word"] = { '{"a":["x",1]}', "holds something" },
      ["no number"] = { '{"a":["float","x"]}', "holds something" },
      ["a tensor that is not there"] = { '{"a":["tensor","b"]}', "names a tensor that is not there: 'b'" },
      ["a tensor less"] = { "{}", "does not name the tensor 'a'" },
      ["too many tables"] = { ("["):rep(5000), "is not JSON" },
    }
    for what, case in pairs(structures) do
      it("are damaged with a structure of " .. what, function()
        cld.io.save(path, { a = cld.tensor { 1 } }, { ["cldlua.structure"] = case[1] })
        check.fails(function() cld.load(path) end, "x%.safetensors: damaged file: .*" .. case[2])
      end)
    end
  end)

  describe("types", function()
    -- Every type of the format that can be had here: bytes that no conversion may change.
    local bytes = {}
    for i = 0, 255 do bytes[i + 1] = string.char(i) end
    bytes = table.concat(bytes)
    local cases = {
      { "I8", bytes }, { "I16", bytes }, { "U16", bytes }, { "U32", bytes }, { "BOOL", bytes }, { "U8", bytes },
      { "U64", string.pack("<i8i8", 5, math.maxinteger) }, { "F8_E4M3", bytes }, { "F8_E5M2", bytes },
      { "F8_E8M0", bytes }, { "F8_E4M3FNUZ", bytes }, { "F8_E5M2FNUZ", bytes }, { "F16", bytes }, { "BF16", bytes },
      { "I32", bytes }, { "I64", bytes }, { "F32", bytes }, { "F64", bytes },
    }
    local sizes = { I8 = 1, U8 = 1, BOOL = 1, I16 = 2, U16 = 2, F16 = 2, BF16 = 2, U32 = 4, I32 = 4, F32 = 4 }
    for _, case in ipairs(cases) do
      local name, data = table.unpack(case)
      it(("of %s are written as they came"):format(name), function()
        local count = #data // (sizes[name] or name:match "^F8" and 1 or 8)
        local header = ('{"a":{"dtype":"%s","shape":[%d],"data_offsets":[0,%d]}}'):format(name, count, #data)
        header = header .. (" "):rep(-#header % 8)
        local file = string.pack("<s8", header) .. data
        process.write(path, file)
        local loaded = cld.load(path)
        cld.save(path, loaded)
        assert.equal(file, process.read(path))
      end)
    end

    it("are those of the dtype once a tensor was written to, or computed", function()
      cld.save(path, { a = cld.tensor { 1, 2 }, b = cld.tensor { 3 } }, nil, { types = { a = "I8", b = "U16" } })
      local loaded = cld.load(path)
      loaded.a:add_(1000)
      loaded.b = loaded.b + 1
      cld.save(path, loaded)
      assert.same({ a = "I32", b = "I32" }, types_in(process.read(path)))
      assert.same({ 1001, 1002 }, cld.load(path).a:totable())
    end)

    it("are those of the dtype whoever has written to the tensor", function()
      local ways = {
        fill = function(t) t:fill_(3) end, index = function(t) t[1] = 7 end,
        copy = function(t) t:copy_(cld.zeros(3)) end,
        view = function(t) t:narrow(1, 1, 1):mul_(3) end,
        random = function(t) t:uniform_() end,
        sgd = function(t) cld.optim.sgd({ t:requires_grad_(true) }, { lr = 0.1 }):step((t * t):sum()) end,
        adamw = function(t) cld.optim.adamw({ t:requires_grad_(true) }, { lr = 0.1 }):step((t * t):sum()) end,
      }
      for name, way in pairs(ways) do
        cld.save(path, { a = cld.ones(3) }, nil, { types = { a = "F8_E4M3" } })
        local loaded = cld.load(path)
        way(loaded.a)
        cld.save(path, loaded)
        assert.equal("F32", types_in(process.read(path)).a, name)
      end
    end)

    -- What PyTorch has (fixtures/make_float8.py).
    for _, name in ipairs { "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0" } do
      it(("of %s have PyTorch's values, and its rounding"):format(name), function()
        local expected = cld.load "spec/fixtures/float8.safetensors"
        local header = ('{"a":{"dtype":"%s","shape":[256],"data_offsets":[0,256]}}'):format(name)
        process.write(path, string.pack("<s8", header) .. bytes)
        check.close(cld.load(path).a, expected["values " .. name], { atol = 0, rtol = 0, nan = true })
        if not expected["bytes " .. name] then return end
        cld.save(path, { x = expected.x }, nil, { types = { x = name } })
        local data = process.read(path):sub(-#expected.x)
        assert.same(expected["bytes " .. name]:totable(), { data:byte(1, -1) })
      end)
    end

    it("can be asked for", function()
      local value = { a = cld.tensor({ -128, 127 }, "i64"), b = cld.tensor { 0, 1 }, c = cld.tensor({ 1.5, -2 }, "f64"),
        d = { cld.tensor({ 65535 }, "i32") } }
      cld.save(path, value, nil, { types = { a = "I8", b = "BOOL", c = "F16", ["d.1"] = "U16" } })
      local types = types_in(process.read(path))
      types.__metadata__ = nil
      assert.same({ a = "I8", b = "BOOL", c = "F16", ["d.1"] = "U16" }, types)
      local loaded = cld.load(path)
      assert.same({ -128, 127 }, loaded.a:totable())
      assert.same({ 1.5, -2 }, loaded.c:totable())
    end)

    it("of 8-bit floats take the nearest value, of two the even one", function()
      local x = cld.tensor({ 1.0625, 1.1875, -448, 0.001953125, 0.0009765625, 0 / 0 })
      cld.save(path, { x = x }, nil, { types = { x = "F8_E4M3" } })
      check.close(cld.load(path).x, { 1, 1.25, -448, 0.001953125, 0, 0 / 0 }, { atol = 0, rtol = 0, nan = true })
    end)

    local refused = {
      { "I8", 128 }, { "I8", -129 }, { "U16", -1 }, { "U32", 4294967296 }, { "BOOL", 2 }, { "U64", -1 }, { "I16", 1.5 },
      { "I64", 0 / 0 }, { "U8", math.huge }, { "F8_E4M3", 449 }, { "F8_E8M0", 0 }, { "F8_E4M3", math.huge },
    }
    for _, case in ipairs(refused) do
      local name, value = table.unpack(case)
      it(("of %s do not take %s"):format(name, value), function()
        local x = math.type(value) == "integer" and cld.tensor({ value }, "i64") or cld.tensor({ value }, "f64")
        check.fails(function() cld.save(path, { x = x }, nil, { types = { x = name } }) end,
          "cannot write '.*x%.safetensors': tensor 'x': the value .* does not fit " .. name)
        assert.same({}, cld.io.list(folder))
      end)
    end

    it("that there are not are named", function()
      local x = { x = cld.tensor { 1 } }
      check.fails(function() cld.save(path, x, nil, { types = { x = "I9" } }) end, "'x' cannot be of type 'I9'; there")
      check.fails(function() cld.save(path, x, nil, { types = { y = "I8" } }) end, "save: there is no tensor 'y'")
      check.fails(function() cld.save(path, x, nil, { types = { x = 8 } }) end, "the type of 'x' is a number")
      check.fails(function() cld.save(path, x, nil, { type = {} }) end, "did you mean 'types'")
    end)
  end)

  describe("npz", function()
    before_each(function() path = folder .. "/x.npz" end)

    it("comes back the same", function()
      local value = { ["a/b"] = cld.tensor { { 1, 2 }, { 3, 4 } }, ["ü"] = cld.tensor({ 5 }, "i64"),
        [""] = cld.zeros(0, 3), ["c.npy"] = cld.tensor({ 7 }, "u8"), t = cld.tensor({ { 1, 2 }, { 3, 4 } }):t(),
        half = cld.tensor({ 1.5 }, "f16"), scalar = cld.tensor({ 2.5 }, "f64"):reshape {} }
      cld.save(path, value)
      local loaded, metadata, unread = cld.load(path)
      assert.same(plain(value), plain(loaded))
      assert.same({}, metadata)
      assert.same({}, unread)
    end)

    it("may be empty", function()
      cld.save(path, {})
      assert.same({}, (cld.load(path)))
    end)

    it("is the same whatever the order of the table", function()
      cld.save(path, { a = cld.zeros(1), b = cld.ones(2), c = cld.zeros(3) })
      local first = process.read(path)
      cld.save(path, { c = cld.zeros(3), b = cld.ones(2), a = cld.zeros(1) })
      assert.equal(first, process.read(path))
    end)

    -- What numpy.savez and savez_compressed made (fixtures/make_npz.py).
    for _, kind in ipairs { "stored", "deflated" } do
      it("of NumPy's is read and written as it came: " .. kind, function()
        local files = cld.load "spec/fixtures/npz.safetensors"
        process.write(path, string.char(table.unpack(files[kind]:totable())))
        check.fails(function() cld.load(path) end,
          "x.npz: cannot read the tensor 'complex' %(and 1 more%): 'complex.npy': the type '<c16' is unknown; known")
        local loaded, _, unread = cld.load(path, { skip = true })
        for _ = 1, 2 do
          assert.same({ "f64", { 2, 3 }, { 0, 1, 2, 3, 4, 5 } }, plain(loaded.fortran))
          assert.same({ "i32", { 3 }, { -128, 0, 127 } }, plain(loaded["in/side"]))
          assert.same({ "i32", { 2 }, { 0, 65535 } }, plain(loaded.u2))
          assert.same({ "u8", { 2 }, { 1, 0 } }, plain(loaded.bool))
          assert.same({ "i32", { 3 }, { 1, -2, 3 } }, plain(loaded.big))
          assert.same({ "f32", {}, { 1.5 } }, plain(loaded.scalar))
          cld.save(path, loaded)
          loaded = cld.load(path)
        end
        assert.matches("x%.npz: 'complex%.npy': the type '<c16' is unknown", unread.complex)
        assert.matches("the type '<U5' is unknown", unread.text)
        local bytes = process.read(path)
        for name, descr in pairs { ["in/side"] = "|i1", u2 = "<u2", bool = "|b1", big = "<i4" } do
          assert.truthy(bytes:find(name .. ".npy", 1, true))
          assert.truthy(bytes:find(("'descr': '%s'"):format(descr), 1, true), descr)
        end
      end)
    end

    local npy = "\x93NUMPY\1\0" .. string.pack("<s2", "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }")
      .. string.pack("<ff", 1, 2)

    it("is known by its content, whatever it is called", function()
      path = folder .. "/weights"
      process.write(path, zip.write { { "a.npy", npy } })
      assert.same({ 1, 2 }, cld.load(path).a:totable())
      assert.is_false(cld.io.is_torch(path))
    end)

    it("gives the last of two members with one name, and says what is no array", function()
      local other = npy:sub(1, -9) .. string.pack("<ff", 9, 2)
      process.write(path, zip.write { { "a.npy", npy }, { "a.npy", other }, { "readme.txt", "hello" } })
      local loaded, _, unread = cld.load(path, { skip = true })
      assert.same({ 9, 2 }, loaded.a:totable())
      assert.matches("does not end in %.npy", unread["readme.txt"])
    end)

    it("is found damaged", function()
      local whole = zip.write { { "a.npy", npy } }
      for _, case in ipairs {
        { whole:sub(1, 60), "directory at its end" },
        { whole:gsub(string.pack("<f", 2), string.pack("<f", 3)), "the member 'a%.npy'" },
        { zip.write { { "a.npy", npy:sub(1, -2) } }, "'a%.npy': damaged file: 7 bytes of data do not fill" },
        { zip.write { { "a.npy", npy .. "x" } }, "its member 'a%.npy' is too long" },
        { zip.write { { "a.npy", "hello, hello" } }, "'a%.npy': not an %.npy file" },
        { zip.write { { "a.npy", "" } }, "'a%.npy': not an %.npy file" },
      } do
        process.write(path, case[1])
        check.fails(function() cld.load(path) end, "x%.npz: .*" .. case[2])
      end
    end)

    it("is not allocated for what a member only claims", function()
      local claim = npy:gsub("%(2,%)", "(999999999999,)")
      local file = zip.write { { "a.npy", claim } }
      file = file:gsub(string.pack("<I4I4", #claim, #claim), string.pack("<I4I4", #claim, 0xfffffff0))
      process.write(path, file)
      check.fails(function() cld.load(path) end, "x%.npz: 'a%.npy': damaged: the archive of %d+ bytes cannot hold")
    end)

    it("holds nothing else", function()
      local x = cld.tensor { 1 }
      check.fails(function() cld.save(path, { a = { x } }) end, "an %.npz holds tensors by name, and 'a' is a table")
      check.fails(function() cld.save(path, { x }) end, "an %.npz holds tensors by name, and '1'")
      check.fails(function() cld.save(path, { a = x }, { k = 1 }) end, "no metadata")
      check.fails(function() cld.save(path, { a = cld.tensor({ 1 }, "bf16") }) end,
        "cannot write '.*x%.npz': tensor 'a': NumPy has no bf16")
      check.fails(function() cld.save(path, { ["\xff"] = x }) end, "is not UTF%-8 text")
      assert.same({}, cld.io.list(folder))
    end)
  end)
end)
