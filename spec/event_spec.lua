--- TensorBoard's event files: those of its own writer and of ours, and torn and damaged ones.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"
local read_events = cld.io.read_events

local fixture = "spec/fixtures/tensorboard.events" -- make_tensorboard.py

if not cld.tensorboard.is_supported() then
  describe("event files without protobuf-c", function()
    it("are refused in a line", function()
      check.fails(function() read_events(fixture) end, "this build of cldlua writes and reads no TensorBoard files")
    end)
  end)
  return
end

describe("an event file", function()
  local folder
  before_each(function() folder = process.temporary_folder() end)
  after_each(function() process.remove(folder) end)

  local function written(text) return process.write(folder .. "/events", text) end

  -- {tag = value} of an event.
  local function values(event)
    local found = {}
    for _, value in ipairs(event.values) do found[value.tag] = value end
    return found
  end

  describe("of TensorBoard's own writer", function()
    local events, torn
    setup(function() events, torn = read_events(fixture) end)

    it("has a version, and a session that starts", function()
      assert.same({ 8, 0, "brain.Event:2", "start" }, { #events, torn, events[1].file_version, events[2].session })
    end)

    it("has wall times and steps", function()
      for i, step in ipairs { 0, 1, 2, 3, 1 << 40, 5, 5 } do
        assert.same({ 999.5 + i, step }, { events[i + 1].wall_time, events[i + 1].step })
      end
    end)

    it("has scalars of the old kind and tensors of the new", function()
      local old, new = values(events[3]), values(events[4])
      assert.equal(0.5, old["old/scalar"].scalar)
      assert.same({ 0.25, 1.5, -2.5, 7 }, { new["new/scalar"].scalar, new["new/content"].scalar,
        new["new/double"].scalar, new["new/int"].scalar })
      assert.equal("scalars", new["new/scalar"].plugin)
    end)

    it("has images of both kinds", function()
      local old, new = values(events[3])["old/image"].image, values(events[5])["new/image"].strings
      assert.same({ 2, 3, 3 }, { old.height, old.width, old.channels })
      assert.same({ "3", "2", old.bytes }, new)
      assert.same({ 0, 1, 2 }, cld.image.decode(old.bytes)[1][1]:totable())
      assert.same({ 2, 3, 3 }, cld.image.decode(old.bytes).shape)
    end)

    it("has what is not finite, and odd names, as they are", function()
      local odd = values(events[6])
      assert.is_true(odd["old/scalar"].scalar ~= odd["old/scalar"].scalar)
      assert.equal(-1, odd["Ä\n"].scalar)
    end)

    it("has nothing of what is not known", function()
      assert.same({ { { tag = "vector", plugin = "other" }, { tag = "histogram" } } }, { events[7].values })
      assert.is_nil(events[8].values)
    end)
  end)

  it("of ours is read as it was written", function()
    local file = cld.io.event_writer(folder)
    file:start(3, 12.5)
    file:scalar("a/b", -0.1, 7, 13.25)
    file:image("c", cld.tensor({ 1, 2, 3 }, "u8"), 40, 50, 8, 14)
    local path = file:path()
    file:close()
    local events = read_events(path)
    assert.same({ "brain.Event:2", 4 }, { events[1].file_version, #events })
    assert.same({ wall_time = 12.5, step = 3, session = "start" }, events[2])
    check.close(events[3].values[1].scalar, -0.1, { rtol = 1e-7 })
    assert.same({ "a/b", 7, 13.25 }, { events[3].values[1].tag, events[3].step, events[3].wall_time })
    assert.same({ tag = "c", image = { height = 40, width = 50, channels = 3, bytes = "\1\2\3" } }, events[4].values[1])
  end)

  it("of a later writer has a name that comes after, whatever the clock says", function()
    process.write(folder .. "/events.out.tfevents.9900000000.host.1.0", "")
    local file = cld.io.event_writer(folder)
    assert.matches("/events.out.tfevents.9900000001%.[^/]*$", file:path())
    file:close()
    check.fails(function() file:scalar("a", 1, 1, 1) end, "the event file is closed")
  end)

  it("that is torn has its whole events, and how much is left", function()
    local text = process.read(fixture)
    local whole, _ = #read_events(fixture), nil
    for cut = 1, #text - 1, 7 do
      local events, torn = read_events(written(text:sub(1, cut)))
      assert.is_true(#events < whole)
      assert.is_true(torn > 0 or cut == 0 or #events > 0)
      assert.is_true(torn <= cut)
    end
  end)

  it("that is empty has none", function() assert.same({ {}, 0 }, { read_events(written "") }) end)

  it("that is damaged anywhere is an error or torn, and never another content", function()
    local text = process.read(fixture)
    local good, refused = #read_events(fixture), 0
    for at = 1, #text, 3 do
      local other = string.char(text:byte(at) ~ 1 << at % 8)
      local ok, events, torn = pcall(read_events, written(text:sub(1, at - 1) .. other .. text:sub(at + 1)))
      assert.is_true(not ok or torn > 0 and #events < good, at)
      if not ok then
        refused = refused + 1
        assert.matches("/events: damaged event file: wrong checksum of the %a+ of the event at byte %d+$", events)
      end
    end
    assert.equal((#text + 2) // 3, refused)
  end)

  it("whose length is absurd is torn, and takes no memory", function()
    local head = string.pack("<I8", 1 << 60)
    -- The masked CRC-32C of these eight bytes, bit by bit.
    local crc = 0xffffffff
    for i = 1, 8 do
      crc = crc ~ head:byte(i)
      for _ = 1, 8 do crc = crc >> 1 ~ (crc & 1) * 0x82f63b78 end
    end
    crc = ~crc & 0xffffffff
    local masked = ((crc >> 15 | crc << 17) & 0xffffffff) + 0xa282ead8 & 0xffffffff
    assert.same({ {}, 32 }, { read_events(written(head .. string.pack("<I4", masked) .. ("x"):rep(20))) })
  end)

  it("that is another kind of file is an error", function()
    check.fails(function() read_events "Makefile" end, "damaged event file: wrong checksum of the length")
    check.fails(function() read_events(folder) end, "not a regular file")
    check.fails(function() read_events(folder .. "/none") end, "No such file")
  end)

  -- A limit on the size of files stands in for the full disk.
  it("on a full disk ends with a whole event, and goes on when there is room", function()
    local script = process.write(folder .. "/full.lua", [[
      local cld = require "cld"
      local function limit(to) io.popen(("prlimit --fsize=%s: --pid %d"):format(to, cld.host().pid)):close() end
      local file = cld.io.event_writer(arg[1])
      file:scalar("before", 1, 1, 1)
      limit(#io.open(file:path()):read "a" + 20)
      print(pcall(file.scalar, file, "lost", 2, 2, 2))
      limit "unlimited"
      file:scalar("after", 3, 3, 3)
      print(file:path())]])
    local result = process.run { program = "/bin/sh", "-c", ('trap "" XFSZ; exec %s %s %s'):format(process.cldlua,
      script, folder) }
    assert.equal(0, result.code, result.err)
    assert.matches("^false\tcannot write '[^']*': File too large\n", result.out)
    local events, torn = read_events(result.out:match "\n([^\n]+)\n$")
    assert.same({ "before", "after", 0 }, { events[2].values[1].tag, events[3].values[1].tag, torn })
  end)
end)
