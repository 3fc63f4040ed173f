--- Plots: what is drawn as pixels, as SVG and as characters; axes, histograms, mistakes.
local cld = require "cld"
local axes = require "cld.plot.axes"
local check = require "spec.support.check"
local core = require "cld.core"
local process = require "spec.support.process"

describe("plot", function()
  local folder
  before_each(function() folder = process.temporary_folder() end)
  after_each(function() process.remove(folder) end)

  describe("axes", function()
    local function ticks(least, most, count, options)
      local words = {}
      for i, tick in ipairs(axes.new(least, most, options or {}):ticks(count)) do words[i] = tick.text end
      return table.concat(words, " ")
    end

    local cases = {
      { 0, 10, 5, "0 2 4 6 8 10" }, { 0, 1, 5, "0.0 0.2 0.4 0.6 0.8 1.0" }, { -3, 3, 4, "-2 0 2" },
      { 0.001, 0.0042, 4, "0.001 0.002 0.003 0.004" }, { 0, 1e9, 3, "0 5e8 1e9" }, { 0, 1e-9, 3, "0 5e-10 1e-9" },
      { 100000, 900000, 4, "200000 400000 600000 800000" }, { 0, 0, 2, "-0.5 0.0 0.5" },
    }
    for _, case in ipairs(cases) do
      local least, most, count, expected = table.unpack(case)
      it(("from %g to %g have ticks at %s"):format(least, most, expected), function()
        assert.equal(expected, ticks(least, most, count))
      end)
    end

    it("have two ticks at least", function()
      assert.equal("1 2", ticks(0.42, 2.58, 2))
    end)

    it("of logarithms have ticks at powers of ten, and between few of them", function()
      assert.equal("0.001 0.01 0.1 1", ticks(0.001, 1, 5, { log = true }))
      assert.equal("0.2 0.5 1 2", ticks(0.2, 3, 5, { log = true }))
      assert.equal("1e-6 0.001 1", ticks(1e-8, 1, 3, { log = true }))
    end)

    it("say where a number lies, also if the range is too large for a number", function()
      local axis = axes.new(-1.5e308, 1.5e308, {})
      assert.is_true(math.abs(axis:share(0) - 0.5) <= 1e-15)
      assert.is_true(math.abs(axis:share(1.5e308) - 1) <= 1e-15)
    end)
  end)

  describe("a canvas", function()
    local function canvas() return cld.full({ 20, 30, 3 }, 255, { dtype = "u8" }) end
    local black = { 0, 0, 0 }
    local function ink(image) return (255 - image:select(3, 1):double()):sum():item() / 255 end

    it("has as much ink as a rectangle has area, of parts of pixels too", function()
      local image = canvas()
      core.plot.rectangle(image, 3.25, 4, 10.75, 6.5, { color = black })
      assert.is_true(math.abs(ink(image) - 7.5 * 2.5) <= 0.1)
      assert.equal(0, image[{ 6, 7, 1 }]:item())
    end)

    it("has as much ink as a disc has area", function()
      local image = canvas()
      core.plot.discs(image, cld.tensor({ { 12.3, 9.6 } }, "f64"), { color = black, width = 12 })
      assert.is_true(math.abs(ink(image) / (math.pi * 36) - 1) <= 0.02)
    end)

    it("has as much ink as a line has area, whatever its direction", function()
      for _, line in ipairs { { { 5, 10 }, { 25, 10 } }, { { 6, 4 }, { 22, 16 } }, { { 15, 3 }, { 15.5, 17 } } } do
        local image = canvas()
        core.plot.lines(image, cld.tensor(line, "f64"), { color = black, width = 3 })
        local length = math.sqrt((line[2][1] - line[1][1]) ^ 2 + (line[2][2] - line[1][2]) ^ 2)
        assert.is_true(math.abs(ink(image) / (3 * length + math.pi * 2.25) - 1) <= 0.03)
      end
    end)

    it("is covered once where a line crosses itself", function()
      local image = canvas()
      core.plot.lines(image, cld.tensor({ { 5, 10 }, { 25, 10 }, { 5, 10 } }, "f64"),
        { color = black, width = 3, opacity = 0.5 })
      assert.is_true(math.abs(image[{ 10, 15, 1 }]:item() - 127.5) <= 1)
    end)

    it("has gaps in lines at points that are not finite, and dots between two gaps", function()
      local image = canvas()
      local inf, nan = math.huge, 0 / 0
      local points = { { 2, 5 }, { 8, 5 }, { nan, 5 }, { 14, 5 }, { 20, -inf }, { 22, 5 }, { 28, 5 } }
      core.plot.lines(image, cld.tensor(points, "f64"), { color = black, width = 2 })
      assert.equal(0, image[{ 5, 5, 1 }]:item())
      assert.equal(255, image[{ 5, 11, 1 }]:item())
      assert.is_true(image[{ 5, 14, 1 }]:item() <= 120)
      assert.equal(255, image[{ 5, 18, 1 }]:item())
      assert.equal(0, image[{ 5, 25, 1 }]:item())
    end)

    it("is left alone by what lies outside", function()
      local image = canvas()
      core.plot.lines(image, cld.tensor({ { -1e300, -5 }, { 1e300, -5 }, { 1e300, 1e300 } }, "f64"), { color = black })
      core.plot.rectangle(image, 100, 100, 1e300, 1e300, { color = black })
      core.plot.discs(image, cld.tensor({ { -50, 5 } }, "f64"), { color = black, width = 9 })
      assert.equal(0, ink(image))
    end)

    it("has a part of a dashed line", function()
      local image = canvas()
      core.plot.lines(image, cld.tensor({ { 2, 5 }, { 14, 5 }, { 28, 5 } }, "f64"),
        { color = black, width = 2, on = 6, off = 6 })
      for x = 1, 4 do assert.equal(0, image[{ 5, 3 + x, 1 }]:item()) end
      assert.equal(255, image[{ 5, 12, 1 }]:item())
      assert.equal(0, image[{ 5, 17, 1 }]:item())
    end)

    it("has text, each character of its own", function()
      local seen = {}
      for code = 33, 126 do
        local image = cld.full({ 40, 40, 3 }, 255, { dtype = "u8" })
        core.plot.text(image, string.char(code), 5, 28, 30, false, { color = black })
        local key = table.concat(image:select(3, 1):reshape(-1):totable(), ",")
        assert.is_nil(seen[key], string.char(code))
        seen[key] = true
      end
    end)

    it("has text upwards as it has it from left to right", function()
      local image = cld.full({ 60, 60, 3 }, 255, { dtype = "u8" })
      local turned = cld.full({ 60, 60, 3 }, 255, { dtype = "u8" })
      core.plot.text(image, "Rg2", 4, 40, 20, false, { color = black })
      core.plot.text(turned, "Rg2", 40, 56, 20, true, { color = black })
      assert.is_true(math.abs(ink(image) - ink(turned)) <= 0.5)
      assert.same(image:select(3, 1):totable(), turned:select(3, 1):t():flip(2):totable())
    end)

    it("thins a line to what can be seen", function()
      cld.manual_seed(3)
      local x = cld.arange(0, 20000, 1):double() / 20000 * 28 + 1
      local y = cld.rand(20000):double() * 15 + 2
      y[7000] = 0 / 0
      local points = cld.stack({ x, y }, 2)
      local thin = core.plot.thinned(points)
      assert.is_true(thin.shape[1] <= 8 * 30 + 4)
      local full, thinned = canvas(), canvas()
      core.plot.lines(full, points, { color = black, width = 2 })
      core.plot.lines(thinned, thin, { color = black, width = 2 })
      local off = (full:double() - thinned:double()):abs():mean():item()
      assert.is_true(off <= 3, off)
    end)
  end)

  it("counts as numpy.histogram does", function()
    local counts = core.plot.histogram(cld.tensor { 1, 2, 2, 3, 3.5, 5, 0 / 0, math.huge, -7 }, 1, 5, 4)
    assert.same({ 1, 2, 2, 1 }, counts:totable())
  end)

  it("makes braille of dots", function()
    local dots = cld.zeros({ 4, 4 }, "u8")
    dots[{ 1, 1 }], dots[{ 4, 2 }], dots[{ 3, 4 }], dots[{ 1, 4 }] = 7, 3, 255, 9
    assert.same({ { 3 << 8 | 0x81, 9 << 8 | 0x28 } }, core.plot.braille(dots):totable())
  end)

  describe("as SVG", function()
    local function svg(kind, data, options)
      options.file = folder .. "/x.svg"
      assert.equal(options.file, cld.plot[kind](data, options))
      return process.read(options.file)
    end

    it("has a path for each series, which is in pieces at gaps", function()
      local text = svg("line", { a = { 1, 2, 0 / 0, 4, 3 }, b = { { 1, 5 }, { 2, math.huge } } }, {})
      local paths = {}
      for path in text:gmatch '<path class="line" d="([^"]*)"' do paths[#paths + 1] = path end
      assert.equal(2, #paths)
      assert.matches("^M[%d.]+ [%d.]+L[%d.]+ [%d.]+M[%d.]+ [%d.]+L[%d.]+ [%d.]+$", paths[1])
      assert.matches("^M[%d.]+ [%d.]+h0$", paths[2])
    end)

    it("places points by their values", function()
      local text = svg("line", { { { 0, 10 }, { 1, 100 } } }, { logy = true, width = 400, height = 300 })
      local x0, y0, x1, y1 = text:match '<path class="line" d="M([%d.]+) ([%d.]+)L([%d.]+) ([%d.]+)"'
      local left, tick0 = text:match '<path d="M([%d.]+) ([%d.]+)L[%d.]+ [%d.]+" stroke="#e2e2e2"/>'
      assert.truthy(left and tick0)
      assert.is_true(tonumber(x0) < tonumber(x1) and tonumber(y0) > tonumber(y1))
      assert.is_true(tonumber(x1) <= 400 and tonumber(y1) >= 0)
    end)

    it("escapes text of any origin", function()
      local text = svg("line", { ["<b>&\"'"] = { 1, 2 } }, { title = "</svg><script>\27[31m", ylabel = "a\nb" })
      assert.is_nil(text:find("<script", 1, true))
      assert.is_nil(text:find("\27", 1, true))
      assert.truthy(text:find("&lt;b&gt;&amp;&quot;&#39;", 1, true))
      assert.truthy(text:find("&lt;/svg&gt;&lt;script&gt;\\x1b[31m", 1, true))
    end)

    it("has a disc for each point, and a bar for each part with values", function()
      local text = svg("scatter", cld.tensor { { 1, 2 }, { 3, 4 }, { 2, 0 / 0 } }, {})
      assert.equal(2, select(2, text:match 'class="dots" d="([^"]*)"':gsub("h0", "")))
      text = svg("hist", { 1, 2, 2, 3 }, { bins = 4 })
      assert.equal(3, select(2, text:gsub('class="bar"', "")))
    end)
  end)

  it("as PNG has its series' colours on white", function()
    local file = cld.plot.line({ { 0, 1 }, { 1, 0 } }, { file = folder .. "/x.png", width = 300, height = 200 })
    local image = cld.image.read(file)
    assert.same({ 200, 300, 3 }, image.shape)
    assert.same({ 255, 255, 255 }, image[{ 1, 1 }]:totable())
    local function count(r, g, b)
      local wanted = cld.tensor({ r, g, b }, "u8"):reshape(1, 1, 3)
      return image:eq(wanted):double():sum(3):eq(3):double():sum():item()
    end
    assert.is_true(count(0, 114, 178) >= 150)
    assert.is_true(count(213, 94, 0) >= 150)
  end)

  describe("in the terminal", function()
    local function run(code, options)
      options = options or {}
      table.insert(options, "-e")
      table.insert(options, 'local cld = require "cld"; ' .. code)
      options.script, options.env = {}, options.env or { LC_ALL = "C.UTF-8" }
      return (options.on_terminal and process.terminal or process.run)(options)
    end

    it("is braille between axes", function()
      local result = run [[cld.plot.line({ 3, 2, 1.5, 1.2 },
        { title = "loss", xlabel = "epoch", width = 30, height = 9 })]]
      assert.equal("", result.err)
      local lines = {}
      for line in result.out:gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
      assert.equal(9, #lines)
      assert.equal("             loss", lines[1])
      assert.matches("^3", lines[2])
      assert.matches("^ ⣇⣀⣀", lines[7])
      assert.matches("^ +2 +4$", lines[8])
      assert.matches("^ +epoch$", lines[9])
      assert.is_nil(result.out:find("\27", 1, true))
    end)

    it("is ASCII if the locale is not UTF-8", function()
      local result = run([[cld.plot.line({ 3, 2, 1 }, { title = "\u{e4}b", width = 24, height = 8 })]],
        { env = { LC_ALL = "C" } })
      assert.matches("^ +%?b\n", result.out)
      assert.matches("\n |[^\n]*\n", result.out)
      assert.matches("|____", result.out)
      assert.is_nil(result.out:find "[\x80-\xff]")
    end)

    it("is braille if no locale is named", function()
      local result = run("cld.plot.line({ 3, 2, 1 }, { width = 24, height = 8 })",
        { env = {}, unset = { "LC_ALL", "LC_CTYPE", "LANG" } })
      assert.matches("⣀", result.out)
    end)

    it("has colours on a terminal, without NO_COLOR", function()
      local code = "cld.plot.scatter({ a = { 1, 2 }, b = { 2, 1 } }, { width = 30, height = 9 })"
      local out = run(code, { on_terminal = true, unset = { "NO_COLOR" } }).out
      assert.truthy(out:find("\27[38;5;32m", 1, true) and out:find("\27[38;5;202m", 1, true))
      out = run(code, { on_terminal = true, env = { NO_COLOR = "1" } }).out
      assert.is_nil(out:find("\27[38", 1, true))
    end)

    it("obeys nothing that a label says", function()
      local result = run [[cld.plot.hist({ ["\27[2J"] = { 1, 2 } }, { title = "a\nb", width = 40 })]]
      assert.is_nil(result.out:find("\27", 1, true))
      assert.matches("a\\nb", result.out)
    end)

    it("is text that a program takes, without colours if it asks for none", function()
      local text = cld.plot.text({ { 0, 3 }, { 3, 0 } }, { width = 30, height = 9, color = false })
      assert.same({ nil, 9 }, { text:find "\27", select(2, text:gsub("\n", "")) })
    end)

    it("tells lines apart by dashes if there are no colours", function()
      local result = run [[
        local two = { { { 0, 3 }, { 0, 3 }, label = "a" }, { { 0, 3 }, { 3, 0 }, label = "b" } }
        io.write(cld.plot.text(two, { width = 30, height = 9, color = false }))]]
      assert.matches("^⠤⠤ a  ⠤⠄ b\n", result.out)
    end)

    it("takes any finite numbers", function()
      for _, data in ipairs { "{ 1e308, -1e308 }", "{ 5 }", "{ 0, 0 }", "{ 1e-320, 2e-320 }", "{ 1e15, 1e15 + 1 }" } do
        local result = run(("cld.plot.line(%s, { width = 30, height = 8 }) cld.plot.hist(%s)"):format(data, data))
        assert.equal("", result.err)
        assert.equal(0, result.code)
      end
    end)
  end)

  it("takes the same data in all its forms", function()
    local function text(data, kind)
      local file = cld.plot[kind or "line"](data, { file = folder .. "/x.svg" })
      return process.read(file)
    end
    local plain = text { 1, 3, 2 }
    assert.equal(plain, text(cld.tensor { 1, 3, 2 }))
    assert.equal(plain, text { { { 1, 2, 3 }, { 1, 3, 2 } } })
    assert.equal(plain, text { cld.tensor({ 1, 3, 2 }, "i64") })
    assert.equal(text { { { 1, 3, 2 }, label = "a" } }, text { a = { 1, 3, 2 } })
    assert.equal(text(cld.tensor { { 1, 4 }, { 2, 5 } }, "scatter"), text({ { { 1, 2 }, { 4, 5 } } }, "scatter"))
  end)

  it("orders labels by the numbers in them", function()
    local data = {}
    for _, label in ipairs { "run 10", "run 9", "lr 0.1", "lr 0.03", "run 1" } do data[label] = { 1, 2 } end
    local labels = {}
    for i, one in ipairs(require "cld.plot.series".of("plot", data)) do labels[i] = one.label end
    assert.are.same({ "lr 0.03", "lr 0.1", "run 1", "run 9", "run 10" }, labels)
  end)

  local mistakes = {
    { "line", {}, nil, "plot%.line: there is nothing to plot: the table is empty" },
    { "line", { 0 / 0 }, nil, "plot%.line: there is nothing to plot: no point is finite" },
    { "line", { -1, 0 }, { logy = true }, "no point is finite, and above 0 on an axis of logarithms" },
    { "hist", { { 0 / 0 } }, nil, "plot%.hist: there is nothing to plot: no value is finite" },
    { "line", { { { 1, 2 }, { 3 } } }, nil, "plot%.line: series 1: 2 x and 1 y" },
    { "line", { 1, "x" }, nil, "plot%.line: y: entry 2 is 'x'" },
    { "line", { a = 3 }, nil, "plot%.line: series 'a': expected y or {x, y, label = }, got 3" },
    { "line", { a = {} }, nil, "plot%.line: series 'a': expected y or {x, y, label = }, got an empty table" },
    { "line", 3, nil, "plot%.line: expected numbers, a list" },
    { "line", { { { 1 }, label = 3 } }, nil, "series 1: label is 3; expected text" },
    { "line", { 1 }, { file = "x.jpg" }, "the name of a file to write ends in %.svg or %.png, got 'x%.jpg'" },
    { "line", { 1 }, { width = 0 }, "plot%.line: width must be a positive integer" },
    { "line", { 1 }, { width = 100000 }, "plot%.line: width is 100000; at most 10000" },
    { "line", { 1 }, { titel = "x" }, "did you mean 'title'" },
    { "line", { 1 }, { file = "/nowhere/x.svg" }, "cannot write '/nowhere/x%.svg': No such file" },
    { "scatter", { 1 }, { file = "/nowhere/x.png" }, "cannot write '/nowhere/x%.png': No such file" },
    { "hist", { 1 }, { bins = 0 }, "plot%.hist: bins must be a positive integer" },
    { "scatter", { 1 }, { bins = 3 }, "plot%.scatter: unknown field 'bins'" },
  }
  for _, mistake in ipairs(mistakes) do
    local kind, data, options, pattern = table.unpack(mistake, 1, 4)
    it("says: " .. pattern:gsub("%%", ""), function()
      check.fails(function() cld.plot[kind](data, options) end, pattern)
    end)
  end

  it("says that a matrix is no line", function()
    check.fails(function() cld.plot.line(cld.zeros(2, 3)) end, "plot%.line: y: expected a 1%-d tensor, got f32%[2, 3%]")
  end)
end)
