--- RandAugment's draws: which ops, how strong, and the matrices of those that move pixels, as in timm and PyContrast.
local cld = require "cld"
local check = require "spec.support.check"
local drawn = require "spec.support.drawn"

local augment = cld.augment
local list = augment.list
local draws, share, near, spread = drawn.views, drawn.share, drawn.near, drawn.spread
local DRAWS = drawn.COUNT

describe("rand_augment", function()
  -- One op of each view, always applied, so that its kind can be counted.
  local single = list { augment.rand_augment { n = 1, p = 1 } }
  local exact = list { augment.rand_augment { n = 1, p = 1, mstd = 0 } }
  local kinds = {}
  for _, op in ipairs { "AUTOCONTRAST", "EQUALIZE", "INVERT", "POSTERIZE", "SOLARIZE", "SOLARIZE_ADD", "SATURATION",
                        "CONTRAST", "BRIGHTNESS", "SHARPNESS" } do
    kinds[op] = function(view) return view[1].op == op end
  end
  local function affine(predicate)
    return function(view) return view[1].op == "AFFINE" and predicate(table.unpack(view[1].matrix)) end
  end
  kinds.rotate = affine(function(a) return a ~= 1 end)
  kinds.shear_x = affine(function(a, b) return a == 1 and b ~= 0 end)
  kinds.shear_y = affine(function(a, _, _, d) return a == 1 and d ~= 0 end)
  kinds.translate_x = affine(function(a, _, c) return a == 1 and c ~= 0 end)
  kinds.translate_y = affine(function(a, _, _, _, _, f) return a == 1 and f ~= 0 end)

  it("draws each of 15 ops alike", function()
    local views, all = draws(single, 9000), 0
    for _, predicate in pairs(kinds) do
      local found = share(views, predicate)
      near(found, 1 / 15, 9000)
      all = all + found
    end
    check.close(all, 1, { atol = 1e-9 })
  end)

  it("applies each op with probability 0.5", function()
    local views = draws(list { augment.rand_augment() })
    for n, expected in ipairs { 0.25, 0.5, 0.25 } do
      near(share(views, function(view) return #view == n end), expected)
    end
  end)

  it("draws with replacement", function()
    local views = draws(list { augment.rand_augment { p = 1 } }, 9000)
    near(share(views, function(view) return view[1].op == "INVERT" and view[2].op == "INVERT" end), 1 / 225, 9000)
  end)

  it("has magnitude 10 in half of the draws", function()
    local views = draws(single, 9000)
    local posterized, kept = 0, 0
    for _, view in ipairs(views) do
      if view[1].op == "POSTERIZE" then
        posterized = posterized + 1
        assert.truthy(view[1].level == 4 or view[1].level == 3)
        if view[1].level == 4 then kept = kept + 1 end
      end
    end
    near(kept / posterized, 0.5, posterized)
  end)

  it("has a normal magnitude around m", function()
    -- Of m 5, deviation 1: the factor is 1 with deviation 0.18, and 0.683 of them lie within one.
    local views, n, within = draws(list { augment.rand_augment { n = 1, m = 5, mstd = 1, p = 1 } }, 9000), 0, 0
    local mean = spread(views, function(view) return view[1].factor end)
    for _, view in ipairs(views) do
      if view[1].factor then
        n = n + 1
        if math.abs(view[1].factor - 1) <= 0.18 then within = within + 1 end
      end
    end
    near(within / n, 0.6827, n)
    assert.truthy(math.abs(mean - 1) <= 4 * 0.18 / math.sqrt(n), mean)
  end)

  local function at(m, op)
    local a = list { augment.rand_augment { n = 1, m = m, mstd = 0, p = 1 } }
    for sample = 1, 500 do
      local view = a:draw({ sample = sample }, 20, 33)[1]
      if view[1].op == op then return view[1].level or view[1].factor end
    end
  end
  -- op, at m = 10, at m = 5
  for _, case in ipairs {
    { "POSTERIZE", 4, 2 }, { "SOLARIZE", 256, 128 }, { "SOLARIZE_ADD", 110, 55 }, { "SATURATION", 1.9, 1 },
    { "CONTRAST", 1.9, 1 }, { "BRIGHTNESS", 1.9, 1 }, { "SHARPNESS", 1.9, 1 },
  } do
    it("has the argument of the magnitude: " .. case[1], function()
      check.close(at(10, case[1]), case[2], { atol = 1e-6 })
      check.close(at(5, case[1]), case[3], { atol = 1e-6 })
    end)
  end

  -- The matrices of an image of 20 x 33 at magnitude 10, as PIL.Image.rotate(30) and (-30), and PyContrast make them.
  local matrices = {
    rotate = { { 0.866025403784439, -0.5, 7.210580837556757, 0.5, 0.866025403784439, -6.910254037844389 },
               { 0.866025403784438, 0.5, -2.7894191624432274, -0.5, 0.866025403784438, 9.58974596215562 } },
    shear_x = { { 1, 0.3, 0, 0, 1, 0 }, { 1, -0.3, 0, 0, 1, 0 } },
    shear_y = { { 1, 0, 0, 0.3, 1, 0 }, { 1, 0, 0, -0.3, 1, 0 } },
    translate_x = { { 1, 0, 14.85, 0, 1, 0 }, { 1, 0, -14.85, 0, 1, 0 } },
    translate_y = { { 1, 0, 0, 0, 1, 9 }, { 1, 0, 0, 0, 1, -9 } },
  }
  for name, pair in pairs(matrices) do
    it("moves pixels by Pillow's matrix, either way: " .. name, function()
      local n, first = 0, 0
      for _, view in ipairs(draws(exact, DRAWS, 20, 33)) do
        if kinds[name](view) then
          local m = view[1].matrix
          local sum = m[2] + m[3] + m[4] + m[6]
          local expected = pair[math.abs(sum - (pair[1][2] + pair[1][3] + pair[1][4] + pair[1][6])) < 1e-3 and 1 or 2]
          check.close(m, expected, { atol = 1e-13, rtol = 0 })
          n, first = n + 1, first + (expected == pair[1] and 1 or 0)
        end
      end
      near(first / n, 0.5, n)
    end)
  end

  it("resamples bilinearly or bicubically, each half of the time", function()
    local n, bicubic = 0, 0
    for _, view in ipairs(draws(single)) do
      if view[1].op == "AFFINE" then
        n, bicubic = n + 1, bicubic + view[1].filter - 1
        assert.same({ 124, 116, 104 }, view[1].fill)
      end
    end
    near(bicubic / n, 0.5, n)
  end)
end)
