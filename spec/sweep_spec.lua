--- cld.data.sweep: every image once, in order, readable or not; and cld.io.writer, which packs sets.
local cld = require "cld"
local check = require "spec.support.check"
local picture = require "cld.core".picture
local process = require "spec.support.process"

local function image(height, width, level) return cld.full({ height, width, 3 }, level, "u8") end

describe("a sweep", function()
  local root
  before_each(function() root = process.temporary_folder() end)
  after_each(function() process.remove(root) end)

  local function write(name, height, width, level) cld.image.write(root .. "/" .. name, image(height, width, level)) end
  local function sweep(options)
    local items = {}
    options[1] = options[1] or cld.data.folder { root = root }
    for item in cld.data.sweep(options) do items[#items + 1] = item end
    return items
  end

  for _, workers in ipairs { 0, 1, 5 } do
    it(("gives every image in order, by %d workers"):format(workers), function()
      for i = 1, 60 do write(("%02d.png"):format(i), i, 1, i) end
      local items = sweep { workers = workers }
      assert.equal(60, #items)
      for i, item in ipairs(items) do
        assert.equal(i, item.row)
        assert.equal(i, item.height)
      end
    end)
  end
  it("gives what cannot be read too, and why", function()
    write("1.png", 4, 5, 0)
    process.write(root .. "/2.png", "")
    local items = sweep {}
    assert.is_nil(items[1].problem)
    assert.equal("an empty file", items[2].problem)
  end)
  it("tells files apart by their bytes", function()
    for i = 0, 9 do process.write(("%s/%d.ppm"):format(root, i), "P6 1 1 255\n" .. string.char(i % 9, 0, 0)) end
    local seen, items = {}, sweep {}
    for _, item in ipairs(items) do seen[item.digest] = (seen[item.digest] or 0) + 1 end
    assert.equal(2, seen[items[1].digest])
    assert.equal(items[1].digest, items[10].digest)
    local count = 0
    for _ in pairs(seen) do count = count + 1 end
    assert.equal(9, count)
  end)
  it("makes a JPEG of an image that is no file", function()
    local set = cld.data.tensors { images = image(6, 8, 100):reshape(1, 6, 8, 3) }
    local made = sweep({ set, make = "jpeg", quality = 50 })[1].made
    assert.equal(string.char(table.unpack(picture.encode("jpeg", image(6, 8, 100), 50):totable())), made)
  end)
  it("goes through a set that is written in Lua, on its own thread", function()
    local set = cld.data.custom { count = 9, read = function(i) return image(i, 3, i), i end }
    local items = sweep { set, workers = 3, make = "square", side = 2 }
    for i = 1, 9 do assert.equal(string.char(i):rep(12), items[i].made) end
  end)
  it("makes a square as the center view's crop does", function()
    local y, x = cld.arange(0, 25, 1, "f32"):reshape(25, 1, 1), cld.arange(0, 31, 1, "f32"):reshape(1, 31, 1)
    local one = (y * 9 + x * 3 + cld.zeros { 1, 1, 3 }):to "u8"
    local set = cld.data.tensors { images = one:reshape(1, 25, 31, 3) }
    local view = cld.augment.list {
      cld.augment.resize { size = 10 }, cld.augment.center_crop { size = 10 },
      cld.augment.normalize { mean = 0, std = 1 },
    }
    local batch
    for b in cld.data.loader { set, views = { view }, batch_size = 1, drop_single = false }:epoch(1) do batch = b end
    local made = sweep({ set, make = "square", side = 10 })[1].made
    local pixels = cld.tensor({ made:byte(1, -1) }, "f32"):reshape(10, 10, 3):permute(3, 1, 2)
    check.close(batch.views[1][1] * 255, pixels, { atol = 1e-3 })
  end)
  it("can be left early", function()
    for i = 1, 40 do write(("%02d.png"):format(i), 9, 9, i) end
    for item in cld.data.sweep { cld.data.folder { root = root }, workers = 3 } do
      if item.row == 5 then break end
    end
  end)
  it("wants a make that there is", function()
    local set = cld.data.tensors { images = image(6, 8, 100):reshape(1, 6, 8, 3) }
    check.fails(function() sweep { set, make = "png" } end, "make must be nothing, jpeg or square, got 'png'")
  end)
  it("wants a side for squares", function()
    local set = cld.data.tensors { images = image(6, 8, 100):reshape(1, 6, 8, 3) }
    check.fails(function() sweep { set, make = "square" } end, "side must be 1 to 65535 pixels, got 0")
  end)
end)

describe("a writer", function()
  local root
  before_each(function() root = process.temporary_folder() end)
  after_each(function() process.remove(root) end)

  it("puts the file in its place when it is committed", function()
    local writer = cld.io.writer(root .. "/x")
    writer:put "one "
    writer:put "two"
    assert.is_nil(cld.io.exists(root .. "/x"))
    writer:commit()
    assert.equal("one two", process.read(root .. "/x"))
  end)
  it("changes bytes that were put before", function()
    local writer = cld.io.writer(root .. "/x")
    writer:put "one two"
    writer:patch(0, "ONE")
    writer:put "."
    writer:commit()
    assert.equal("ONE two.", process.read(root .. "/x"))
  end)
  it("puts the elements of a tensor, row by row", function()
    local writer = cld.io.writer(root .. "/x")
    writer:put(cld.tensor({ { 1, 2 }, { 3, 4 } }, "f32"):t())
    writer:put(cld.tensor({ -5 }, "i64"))
    writer:commit()
    assert.equal(string.pack("<ffffi8", 1, 3, 2, 4, -5), process.read(root .. "/x"))
  end)
  it("leaves nothing of a file that is not committed", function()
    do
      local writer <close> = cld.io.writer(root .. "/x")
      writer:put "one"
    end
    assert.same({}, cld.io.list(root))
  end)
  it("says where it cannot write", function()
    check.fails(function() cld.io.writer(root .. "/none/x") end, "cannot write .*none/x.: No such file or directory")
  end)
  it("writes nothing after the commit", function()
    local writer = cld.io.writer(root .. "/x")
    writer:commit()
    check.fails(function() writer:put "one" end, "the file is already committed or closed")
  end)
end)
