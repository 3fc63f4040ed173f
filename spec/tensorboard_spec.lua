--- cld.tensorboard: a writer that a recipe uses directly.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"

if not cld.tensorboard.is_supported() then return end -- event_spec.lua has what is then

describe("a TensorBoard writer", function()
  local folder, board
  before_each(function()
    folder = process.temporary_folder()
    board = cld.tensorboard.writer(folder .. "/board")
  end)
  after_each(function()
    board:close()
    process.remove(folder)
  end)

  local function read(name) return process.read(folder .. "/board/" .. name) end

  -- All events of the folder's files but their versions, in TensorBoard's order.
  local function events()
    local all = {}
    for _, name in ipairs(cld.io.list(folder .. "/board")) do
      if name:find "tfevents" then
        local own = cld.io.read_events(folder .. "/board/" .. name)
        table.move(own, 2, #own, #all + 1, all)
      end
    end
    return all
  end

  it("writes scalars, of numbers and tensors, at once", function()
    board:scalar("train/loss", 0.5, 3, 100)
    board:scalar("train/loss", cld.tensor(0.25), 4)
    local found = events()
    assert.same({ "start", 0 }, { found[1].session, found[1].step })
    assert.same({ wall_time = 100, step = 3, values = { { tag = "train/loss", scalar = 0.5 } } }, found[2])
    assert.same({ 4, 0.25 }, { found[3].step, found[3].values[1].scalar })
    assert.is_true(math.abs(found[3].wall_time - os.time()) < 60)
  end)

  it("writes images that are the same when they are read", function()
    local picture = cld.arange(24 * 30 * 3):reshape(24, 30, 3):remainder(251):to "u8"
    board:image("small", picture, 0)
    board:image("large", cld.zeros({ 200, 300, 3 }, "u8"), 0)
    local found = events()
    local small, large = found[2].values[1].image, found[3].values[1].image
    assert.same({ 24, 30, 200, 300 }, { small.height, small.width, large.height, large.width })
    assert.same(picture:totable(), cld.image.decode(small.bytes):totable())
    assert.same({ 200, 300, 3 }, cld.image.decode(large.bytes).shape)
  end)

  it("goes on in a folder from a step", function()
    board:close()
    board = cld.tensorboard.writer(folder .. "/board", { step = 7 })
    local found = events()
    assert.same({ "start", 0, "start", 7 }, { found[1].session, found[1].step, found[2].session, found[2].step })
  end)

  local function pictures(n)
    local list = {}
    for i = 1, n do list[i] = cld.full({ 20 + i, 40, 3 }, i, "u8") end
    return list
  end

  it("writes an embedding with the names of classes, and thumbnails", function()
    board:embedding("test", cld.tensor { { 1, -0.1 }, { 1e-7, 0 / 0 }, { 16777217, 3 } },
      { labels = cld.tensor({ 1, 0, -1 }, "i64"), class_names = { "a\tcat", "dog" }, images = pictures(3) })
    assert.equal("1\t-0.1\n1e-07\tnan\n16777216\t3\n", read "test/tensors.tsv")
    assert.equal("dog\na\\tcat\n-1\n", read "test/metadata.tsv")
    local sprite = cld.image.read(folder .. "/board/test/sprite.png")
    assert.same({ 64, 64, 3 }, sprite.shape)
    assert.same({ 1, 2, 3, 0 }, { sprite[10][10][1]:item(), sprite[10][40][1]:item(), sprite[40][10][1]:item(),
      sprite[40][40][1]:item() })
    assert.equal([[
embeddings {
  tensor_name: "test"
  tensor_shape: 3
  tensor_shape: 2
  tensor_path: "test/tensors.tsv"
  metadata_path: "test/metadata.tsv"
  sprite {
    image_path: "test/sprite.png"
    single_image_dim: 32
    single_image_dim: 32
  }
}
]], read "projector_config.pbtxt")
  end)

  it("writes f32 so that they are read back to the bit", function()
    local x = cld.randn(40, 5) * 10 ^ 3
    board:embedding("x", x)
    local at, values = 0, x:flatten():totable()
    for number in read("x/tensors.tsv"):gmatch "[^\t\n]+" do
      at = at + 1
      assert.equal(values[at], string.unpack("<f", string.pack("<f", tonumber(number))))
    end
    assert.equal(200, at)
    assert.equal("0\n1\n2\n", read("x/metadata.tsv"):sub(1, 6))
  end)

  it("names all embeddings of the writer once", function()
    for _, name in ipairs { "a", "b", "a" } do board:embedding(name, cld.zeros(2, 3)) end
    local _, count = read("projector_config.pbtxt"):gsub("embeddings {", "")
    assert.equal(2, count)
  end)

  for name, case in pairs {
    ["a value that is none"] = { "scalar", { "a", "b", 1 }, "scalar: 'a' must be a number .*, got 'b'$" },
    ["a step that is none"] = { "scalar", { "a", 1, 1.5 },
      "scalar: the step must be an integer of at least 0, got 1.5$" },
    ["no name"] = { "scalar", { "", 1, 1 }, "scalar: the name must be a text, got ''$" },
    ["a name that is no UTF-8"] = { "scalar", { "\xff", 1, 1 }, "scalar: the name must be a text" },
    ["an image that is none"] = { "image", { "a", 3, 1 }, "image: 'a' must be u8%[height, width, 3%], got 3$" },
    ["an embedding's name that leads elsewhere"] = { "embedding", { "../a", cld.zeros(1, 1) },
      "embedding: the name is that of a folder, .*; got '../a'$" },
    ["an embedding that is none"] = { "embedding", { "a", cld.zeros(3) },
      "embedding: 'a' must be a tensor %(rows, columns%), got f32%[3%]$" },
    ["too few labels"] = { "embedding", { "a", cld.zeros(3, 1), { labels = { 1 } } },
      "embedding: 'a' has 3 rows; labels must be as many, got 1$" },
  } do
    it("refuses " .. name .. " at the caller's line", function()
      check.fails(function() board[case[1]](board, table.unpack(case[2])) end, "tensorboard_spec.lua:%d+: " .. case[3])
    end)
  end

  it("that is closed says so", function()
    board:close()
    check.fails(function() board:scalar("a", 1, 1) end, "scalar: the writer is closed$")
  end)

  it("says that a folder cannot be made", function()
    process.write(folder .. "/file", "")
    check.fails(function() cld.tensorboard.writer(folder .. "/file/in") end, "cannot make the folder '[^']*/file")
  end)
end)
