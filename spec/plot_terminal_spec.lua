--- cld.plot.terminal: lines as braille text.
local check = require "spec.support.check"
local terminal = require "cld.plot.terminal"

describe("a plot in the terminal", function()
  local function rows_of(text)
    local rows = {}
    for row in (text .. "\n"):gmatch "([^\n]*)\n" do rows[#rows + 1] = row end
    return rows
  end

  local function wide(text)
    local most = 0
    for _, row in ipairs(rows_of(text)) do most = math.max(most, utf8.len((row:gsub("\27%[[%d;]*m", "")))) end
    return most
  end

  local rising = { name = "rising", x = { 0, 1, 2, 3 }, y = { 0, 1, 2, 3 } }
  local falling = { name = "falling", x = { 0, 3 }, y = { 3, 0 } }

  it("has each dot where it belongs", function()
    assert.equal([[
a title
 │                  ⢀⣀⠤⠔⠒⠉
2┤            ⣀⡠⠤⠒⠊⠉⠁
 │     ⢀⣀⡠⠤⠒⠊⠉
0┤⣀⠤⠔⠒⠉⠁
 └┬───────────┬──────────┬
  0           1          2]], terminal.lines({ { x = { 0, 2 }, y = { 0, 3 } } }, { width = 26, height = 7,
      title = "a title" }))
  end)

  it("is as large as it is asked to be", function()
    for _, size in ipairs { { 40, 10 }, { 80, 20 }, { 101, 33 } } do
      local text = terminal.lines({ rising, falling }, { width = size[1], height = size[2], title = "t" })
      assert.same(size, { wide(text), #rows_of(text) })
    end
  end)

  it("has no escape sequence without colour, whatever a name holds", function()
    local text = terminal.lines({ { name = "a\27[31mb\nc", x = { 1, 2 }, y = { 1, 2 } } }, { title = "\27]0;x\7" })
    assert.is_nil(text:find "\27")
    assert.matches("a\\x1b%[31mb\\nc", text)
  end)

  it("has a colour for each line", function()
    local text = terminal.lines({ rising, falling }, { width = 40, height = 10, color = true })
    assert.matches("\27%[36m[^\n]*\27%[0m rising  \27%[33m[^\n]*\27%[0m falling$", text)
    assert.equal(40, wide(text))
  end)

  it("has a pattern for each line without colours", function()
    local legend = rows_of(terminal.lines({ rising, falling }, { width = 40, height = 10 }))[10]
    assert.equal("⠤⠤⠤ rising  ⠤ ⠤ falling", legend)
  end)

  it("leaves a gap where there is no finite number", function()
    local function dots(y) -- characters with a dot in the row of the middle
      local text = terminal.lines({ { x = { 0, 1, 2, 3, 4 }, y = y } }, { width = 41, height = 8 })
      local _, count = text:gsub("[\xe2][\xa0-\xa3][\x80-\xbf]", "")
      return count
    end
    local whole = dots { 1, 1, 1, 1, 1 }
    for _, odd in ipairs { 0 / 0, 1 / 0, -1 / 0 } do
      local holed = dots { 1, 1, odd, 1, 1 }
      assert.is_true(holed < 0.6 * whole and holed > 0.4 * whole)
    end
  end)

  for name, line in pairs {
    ["a single point"] = { x = { 3 }, y = { 5 } },
    ["one value throughout"] = { x = { 1, 2 }, y = { 7, 7 } },
    ["zeros"] = { x = { 0, 0 }, y = { 0, 0 } },
    ["the largest numbers"] = { x = { 1, 2 }, y = { 1.7e308, -1.7e308 } },
    ["the largest number alone"] = { x = { 1, 2 }, y = { math.huge, 1.79e308 } },
    ["the smallest numbers"] = { x = { 1, 2 }, y = { 5e-324, 0 } },
    ["a hair's breadth"] = { x = { 1, 2 }, y = { 1, 1 + 2 ^ -52 } },
    ["integers"] = { x = { 1, 2 }, y = { math.maxinteger, math.mininteger } },
  } do
    it("draws " .. name, function()
      local text = terminal.lines({ line }, { width = 30, height = 8 })
      assert.is_not_nil(text:find "[\xe2][\xa0-\xa3][\x81-\xbf]")
      assert.is_nil(text:find "nan")
    end)
  end

  it("says that there is nothing yet", function()
    assert.equal("(nothing to draw yet)", terminal.lines {})
    assert.equal("(nothing to draw yet)", terminal.lines { { x = { 1 }, y = { 0 / 0 } } })
  end)

  it("labels small and large values so that they differ", function()
    for _, y in ipairs { { 0.001, 0.002 }, { 1e-9, 2e-9 }, { 1e9, 2e9 }, { 12345, 12350 } } do
      local labels, seen = {}, 0
      for label in terminal.lines({ { x = { 0, 1 }, y = y } }, { width = 40, height = 14 }):gmatch "([%d.e+-]+)┤" do
        assert.is_nil(labels[label], label)
        labels[label], seen = true, seen + 1
      end
      assert.is_true(seen >= 2)
    end
  end)

  it("refuses what is no line, at the caller's line", function()
    check.fails(function() terminal.lines { { x = { 1 }, y = { 1, 2 } } } end,
      "plot_terminal_spec.lua:%d+: plot.lines: line 1: 1 x and 2 y$")
    check.fails(function() terminal.lines { { x = { "a" }, y = { 1 } } } end, "expected numbers, got 'a' and 1$")
    check.fails(function() terminal.lines(3) end, "expected a list of {name =, x = {}, y = {}}, got 3$")
    check.fails(function() terminal.lines({}, { widht = 3 }) end, "widht")
    check.fails(function() terminal.lines({ rising }, { width = 0 }) end,
      "width is 0; expected a number of characters$")
  end)
end)
