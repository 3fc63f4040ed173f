--- Batch norm of blocks that span ranks: each rank gets the same results for its rows as a single process does. It runs
-- under cldlua-ranks (support/ranks.c), where one process plays all ranks.
local cld = require "cld"
local check = require "spec.support.check"
local devices = require "spec.support.devices"
local process = require "spec.support.process"
local nn = cld.nn.functional

local limits = { f64 = 1e-12, f32 = 1e-5, bf16 = 2e-2 }
local results = { "y", "dx", "dr", "mean", "var", "count", "dw", "db" }

local function run(device, dtype)
  local result = process.run { "spec/support/norm_ranks.lua", process.build .. "/ranks.so", device, dtype,
    program = process.build .. "/cldlua-ranks", timeout = 300 }
  assert.equal(0, result.code, result.err)
  return result.out
end

for _, device in ipairs { "cpu", table.unpack(devices.names) } do
  describe("batch norm of blocks that span ranks, on " .. device, function()
    for dtype, limit in pairs(limits) do
      it("is one process's, " .. dtype, function()
        local compared = {}
        for name, what, worst in run(device, dtype):gmatch "([^\n]+): (%w+)\t(%S+)\n" do
          if not (tonumber(worst) <= limit) then error(("%s: %s differs by %s"):format(name, what, worst)) end
          compared[what] = (compared[what] or 0) + 1
        end
        for _, what in ipairs(results) do assert.is_true(compared[what] >= 36, what) end
      end)
    end
  end)
end

describe("parts of a batch that ranks share", function()
  it("begin where the whole batch's blocks do, within the rows here", function()
    -- blocks of 4, 4, 3 images; images 3 to 9, two rows each, of two views
    local parts = { views = 2, unit = 2, blocks = 3, images = 11, begin = 3, of = 3 }
    local begins = {}
    for part = 0, 6 do begins[#begins + 1] = nn.part_begin(parts, 28, part) end
    assert.same({ 0, 2, 10, 14, 16, 24, 28 }, begins)
  end)

  it("must be those that the images lie in", function()
    local function norm(rows, parts, size)
      return function()
        nn.batch_norm(cld.randn { rows, 3, size or 2, 1 }, nil, nil, nil, nil, { training = true, parts = parts })
      end
    end
    check.fails(norm(4, { images = 6, begin = 3, of = 1 }), "4 images from 3 on are not all of a batch of 6")
    check.fails(norm(4, { images = 6, of = 7 }), "of must be 1 to 6, the number of images, got 7")
    check.fails(norm(4, { begin = 1 }), "images is missing")
    check.fails(norm(3, { images = 6, begin = 1, of = 2 }), "lie in 2 from block 0 on, not in 1 from 0 on")
    check.fails(norm(3, { images = 6, begin = 3, of = 2 }), "lie in 1 from block 1 on, not in 1 from 0 on")
  end)

  it("need two values per channel in a whole block, not here", function()
    local function norm(images, of)
      local x = cld.randn { 1, 3, 1, 1 }
      return nn.batch_norm(x, nil, nil, nil, nil, { training = true, parts = { images = images, of = of } })
    end
    assert.has_no.errors(function() norm(4, 2) end)
    check.fails(function() norm(3, 2) end, "more than one value per channel, and block 2 of 2 of 3 images has one")
  end)

  it("hold while a network runs, and are checked", function()
    local given = { views = 2, blocks = 1, images = 11, begin = 5, of = 3, first = 1 }
    cld.nn.with_parts(given, function()
      local now = cld.nn.parts()
      for name, value in pairs(given) do assert.equal(value, now[name]) end
    end)
    local function with(parts) return function() cld.nn.with_parts(parts, function() end) end end
    check.fails(with { begin = 1 }, "nn.with_parts: begin needs the number of images in the batch; images is missing")
    check.fails(with { images = 2, of = 3 }, "nn.with_parts: 2 images cannot be split into 3 blocks")
    check.fails(with { images = 2, of = 1, begin = 2 }, "nn.with_parts: image 2, from 0, is none of 2")
    check.fails(with { images = 4, of = 2, blocks = 2, first = 1 }, "2 blocks from 1 on are not all of 2")
    check.fails(with { images = 4 }, "nn.with_parts: of")
  end)

  it("are told apart by a captured step", function()
    local described = require("cld.nn.parts").described
    local one = cld.nn.with_parts({ images = 4, of = 1, begin = 0 }, described)
    assert.are_not.equal(one, cld.nn.with_parts({ images = 4, of = 1, begin = 2 }, described))
  end)
end)
