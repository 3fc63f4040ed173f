--- Images in a terminal: half blocks, characters, Sixel, Kitty's protocol, and which of them is chosen.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"
local screen = require "cld.core".screen
local shown = require "cld.image.shown"

describe("image.show", function()
  local function image(rows) return cld.tensor(rows, "u8") end
  local red, blue, black, white = { 255, 0, 0 }, { 0, 0, 255 }, { 0, 0, 0 }, { 255, 255, 255 }

  describe("half blocks", function()
    it("are two pixels each, in 24-bit colours", function()
      assert.equal("\27[38;2;255;0;0m\27[48;2;0;0;255m▀\27[0m\n", screen.blocks(image { { red }, { blue } }))
    end)

    it("set a colour only where it changes", function()
      assert.equal("\27[38;2;255;0;0m\27[48;2;0;0;255m▀▀\27[48;2;0;0;0m▀\27[0m\n",
        screen.blocks(image { { red, red, red }, { blue, blue, black } }))
    end)

    it("of a last odd row leave what is behind it as it is", function()
      assert.equal("\27[38;2;255;0;0m▀\27[0m\n", screen.blocks(image { { red } }))
    end)

    it("take the nearest of xterm's 256 colours", function()
      assert.equal("\27[38;5;196m\27[48;5;21m▀\27[48;5;16m▀\27[0m\n",
        screen.blocks(image { { red, red }, { blue, black } }, 256))
      assert.matches("38;5;231m.*48;5;244m", screen.blocks(image { { white }, { { 128, 128, 128 } } }, 256))
    end)
  end)

  it("has dense characters for bright pixels", function()
    local grey = { 128, 128, 128 }
    assert.equal(" +@\n", screen.characters(image { { black, grey, white } }))
  end)

  -- Sixel text -> {{palette's colour of each pixel in percent}, ...}: the other half of the format.
  local function sixel_pixels(text, width)
    local palette, rows, x, band, color = {}, {}, 0, 0, nil
    local body = text:match '^\27P0;1q"1;1;%d+;%d+(.*)\27\\\n$'
    local at = 1
    local function put(bits, count)
      for i = 0, 5 do
        if bits >> i & 1 == 1 then
          local row = rows[band + i + 1] or {}
          rows[band + i + 1] = row
          for column = x + 1, x + count do
            assert(not row[column] and column <= width)
            row[column] = palette[color]
          end
        end
      end
      x = x + count
    end
    while at <= #body do
      local index, r, g, b, after = body:match("^#(%d+);2;(%d+);(%d+);(%d+)()", at)
      if index then
        palette[tonumber(index)] = { tonumber(r), tonumber(g), tonumber(b) }
      else
        index, after = body:match("^#(%d+)()", at)
        if index then color = tonumber(index) end
      end
      if not after then
        local count, what, next_at = body:match("^!?(%d*)([?-~$-])()", at)
        after = next_at
        if what == "$" then x = 0
        elseif what == "-" then x, band = 0, band + 6
        else put(what:byte() - 63, tonumber(count) or 1) end
      end
      at = after
    end
    return rows, palette
  end

  it("has the pixels as Sixel graphics", function()
    local rows = {}
    for y = 1, 8 do
      rows[y] = {}
      for x = 1, 7 do rows[y][x] = (x + y) % 3 == 0 and red or x > 5 and white or blue end
    end
    local got, palette = sixel_pixels(screen.sixel(image(rows)), 7)
    assert.equal(2, #palette) -- and 0
    for y = 1, 8 do
      for x = 1, 7 do
        for c = 1, 3 do assert.equal(rows[y][x][c] == 255 and 100 or 0, got[y][x][c]) end
      end
    end
  end)

  it("has 256 colours as Sixel graphics, near those of an image with more", function()
    cld.manual_seed(1)
    local values = cld.rand(30, 40, 3) * 255
    local original = values:to("u8")
    local got, palette = sixel_pixels(screen.sixel(original), 40)
    assert.equal(255, #palette)
    local sum = 0
    local expected = original:totable()
    for y = 1, 30 do
      for x = 1, 40 do
        for c = 1, 3 do sum = sum + (got[y][x][c] * 2.55 - expected[y][x][c]) ^ 2 end
      end
    end
    local off = (sum / (30 * 40 * 3)) ^ 0.5
    assert.is_true(off <= 20) -- noise is the worst there is; seen: 14.5
  end)

  it("has a PNG in pieces for Kitty", function()
    cld.manual_seed(2)
    local noise = (cld.rand(60, 200, 3) * 255):to("u8")
    local text = shown.text(noise, "kitty", 80)
    local pieces, controls = {}, {}
    for control, data in text:gmatch "\27_G([^;]*);([^\27]*)\27\\" do
      controls[#controls + 1], pieces[#pieces + 1] = control, data
      assert.is_true(#data <= 4096)
    end
    assert.equal("a=T,f=100,q=2,m=1", controls[1])
    for i = 2, #controls do assert.equal(i == #controls and "m=0" or "m=1", controls[i]) end
    assert.equal(cld.text.base64(require "cld.core".picture.encode("png", noise, 75)), table.concat(pieces))
  end)

  it("is no wider than asked for, and a small image is enlarged where pixels are small", function()
    local wide = cld.zeros({ 50, 200, 3 }, "u8")
    local lines = select(2, shown.text(wide, "ascii", 40):gsub("\n", "\n"))
    assert.equal(40, #shown.text(wide, "ascii", 40):match "^[^\n]*")
    assert.equal(5, lines)
    assert.matches('"1;1;160;160', shown.text(cld.zeros({ 32, 32, 3 }, "u8"), "sixel", 80))
    assert.matches('"1;1;320;80', shown.text(cld.zeros({ 100, 400, 3 }, "u8"), "sixel", 40))
  end)

  it("says what it takes", function()
    local x = cld.zeros({ 2, 2, 3 }, "u8")
    check.fails(function() cld.image.show(x, { mode = "jpeg" }) end, 'mode must be "kitty", "sixel", "blocks"')
    check.fails(function() cld.image.show(x, { width = 0 }) end, "image.show: width must be a positive integer")
    check.fails(function() cld.image.show(cld.zeros(2)) end,
      "image.show: expected f32%[n, 3, height, width%], u8%[n, height, width, 3%], .*got f32%[2%]")
    check.fails(function() cld.image.show(cld.zeros(2, 2, 2)) end, "image.show: .*got f32%[2, 2, 2%]")
    check.fails(function() cld.image.show(cld.zeros({ 0, 2, 3 }, "u8")) end, "the image has no pixels")
    check.fails(function() cld.image.show(x, { widht = 3 }) end, "did you mean 'width'")
  end)

  describe("on", function()
    local show = 'local cld = require "cld"; cld.image.show(cld.zeros({ 4, 6, 3 }, "u8")%s)'
    local unset = { "COLORTERM", "NO_COLOR", "TERM_PROGRAM", "KITTY_WINDOW_ID", "TMUX", "STY" }
    local function on_terminal(env, script)
      env.LC_ALL = env.LC_ALL or "C.UTF-8"
      return process.terminal { "-e", show:format "", env = env, unset = unset, script = script or {} }.out
    end

    it("no terminal says so in one line", function()
      local result = process.run { "-e", show:format "", unset = unset }
      assert.equal(0, result.code)
      assert.matches("^image 6 x 4, which a terminal shows; [^\n]*\n$", result.out)
    end)

    it("no terminal does as it is told", function()
      local result = process.run { "-e", show:format ', { mode = "blocks" }', env = { COLORTERM = "truecolor" } }
      assert.matches("^\27%[38;2;0;0;0m\27%[48;2;0;0;0m▀▀▀▀▀▀\27%[0m\n", result.out)
    end)

    it("a terminal without an answer are half blocks in 256 colours", function()
      assert.matches("\27%[38;5;16m", on_terminal {})
    end)

    it("a terminal whose locale is not UTF-8 are characters", function()
      local out = on_terminal { LC_ALL = "C", COLORTERM = "truecolor" }
      assert.matches("      \r\n      \r\n", out)
      assert.is_nil(out:find "[\x80-\xff]")
    end)

    it("a terminal of 24 bits are half blocks in them", function()
      assert.matches("\27%[38;2;0;0;0m", on_terminal { COLORTERM = "truecolor" })
    end)

    it("a terminal that answers that it has Sixel is Sixel", function()
      assert.matches('\27P0;1q"1;1;', on_terminal({}, { { "wait", "\27[c" }, { "send", "\27[?62;4;22c" } }))
    end)

    it("a terminal that answers that it has none are half blocks", function()
      assert.matches("▀", on_terminal({}, { { "wait", "\27[c" }, { "send", "\27[?62;14;22;44c" } }))
    end)

    it("Kitty is its protocol", function()
      assert.matches("\27_Ga=T,f=100", on_terminal { TERM = "xterm-kitty" })
      assert.matches("\27_Ga=T,f=100", on_terminal { TERM_PROGRAM = "WezTerm" })
    end)

    it("a terminal without colours are characters, and nothing is asked", function()
      for _, env in ipairs { { NO_COLOR = "1" }, { TERM = "dumb" } } do
        local out = process.terminal { "-e", show:format "", env = env, unset = { "COLORTERM", "TMUX" },
          script = {} }.out
        assert.is_nil(out:find("\27", 1, true))
        assert.matches("^      \r\n      \r\n", out)
      end
    end)
  end)
end)
