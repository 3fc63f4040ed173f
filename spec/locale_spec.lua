--- Text that is written or read for a file, an option or a message is the same in every locale.
local cld = require "cld"
local process = require "spec.support.process"

local has_localedef = os.execute "command -v localedef >/dev/null && [ -d /usr/share/i18n/locales ]"

-- 1,5; 1,5 in one byte per letter, of which some are control characters to ASCII; the Turkish i; a decimal point of two
-- bytes, with which Lua reads no 0.5 at all.
local locales = {
  { "de_DE", "UTF-8" }, { "fr_FR", "ISO-8859-1" }, { "ru_RU", "KOI8-R" }, { "tr_TR", "ISO-8859-9" },
  { "tr_TR", "UTF-8" }, { "ps_AF", "UTF-8" },
}

describe("a locale", function()
  if not has_localedef then
    pending "of another country needs localedef and its sources (the package locales)"
    return
  end

  local folder
  setup(function()
    folder = process.temporary_folder()
    for _, locale in ipairs(locales) do
      local line = "localedef -i %s -f %s %s/%s.%s >/dev/null 2>&1"
      assert(os.execute(line:format(locale[1], locale[2], folder, locale[1], locale[2])))
    end
  end)
  teardown(function() process.remove(folder) end)

  for _, locale in ipairs(locales) do
    local name = table.concat(locale, ".")
    local runs

    -- What the script prints after `before` has run, in that locale.
    local function printed(script, before)
      local set = ("assert(os.setlocale '%s')"):format(name)
      local result = process.run {
        env = { LOCPATH = folder }, "-e", before or "cld = require 'cld'", "-e", set, "-e", script,
      }
      assert.same({ 0, "" }, { result.code, result.err })
      return result.out
    end

    -- Of a run of one epoch in that locale: the child's result, and its folder.
    local function train(run, ...)
      local script = process.write(folder .. "/r.lua", ([[
        local cld = require "cld"
        assert(os.setlocale "%s")
        local opt = cld.options {
          { "epochs", 1, "", integer = true }, { "lr", 0.25, "", min = 0 }, { "text", "", "" }, cld.options.training,
        }
        local training = cld.run(opt)
        local w = cld.zeros(1)
        for epoch in training:epochs { w = w } do
          w:add_(opt.lr)
          training:track { loss = 1.25 }
          training:score { b = 0.125, B = 0.25 }
        end
        assert(opt.lr * 8 == 4 or opt.lr * 8 == 2)]]):format(name))
      return process.run { env = { LOCPATH = folder }, script, "--runs", runs, "--name", run, "--device", "cpu", ... }
    end

    describe(name, function()
      setup(function() runs = folder .. "/runs-" .. name end)

      it(name .. " changes no plot and no table in a table", function()
      local script = ([[
        local function content(path)
          local file <close> = assert(io.open(path, "rb"))
          return file:read "a"
        end
        local data = { a = { 1 / 2, 3 / 2, 5 / 4 }, ["\xfc"] = { 3 / 2, 3 / 4, 5 / 2 } }
        local svg = content(cld.plot.line(data, { file = "%s/x.svg", logy = true }))
        assert(svg:find ">0.5</text>" and not svg:find "%%d,%%d")
        cld.plot.line(data, { width = 100, height = 9 })
        cld.save("%s/x.safetensors", { a = { 1 / 2, { b = 1e300 } } })
        local loaded = cld.load "%s/x.safetensors"
        assert(loaded.a[1] * 2 == 1 and loaded.a[2].b == 1e300)
        assert(content "%s/x.safetensors":find("0.5", 1, true))]]):format(folder, folder, folder, folder)
      assert.truthy(printed(script):find("1.5", 1, true))
    end)

    it("writes JSON numbers with a point", function()
        assert.equal('{"a":1.5}', printed "io.write(cld.json.encode { a = 3 / 2 })")
      end)

      it("reads JSON numbers with a point", function()
        assert.equal("true", printed "io.write(tostring(cld.json.decode('[0.25]')[1] * 4 == 1))")
      end)

      it("leaves UTF-8 text as it is in JSON", function()
        local text = "\u{c4}\u{430}\u{131}\u{2028}I"
        assert.equal(('["%s"]'):format(text), printed(("io.write(cld.json.encode { '%s' })"):format(text)))
      end)

      it("orders the keys of JSON by their bytes", function()
        assert.equal('{"B":1,"a":2,"\u{e4}":3}', printed [[io.write(cld.json.encode { a = 2, B = 1, ["\u{e4}"] = 3 })]])
      end)

      it("writes the numbers of metadata with a point", function()
        local path = folder .. "/metadata.safetensors"
        printed(("cld.save('%s', { w = cld.zeros(1) }, { a = 3 / 2 })"):format(path))
        assert.equal("1.5", select(2, cld.load(path)).a)
      end)

      it("reads a file whose header has a number with a point", function()
        local header = '{"__metadata__":{"a":1.5}}'
        local path = process.write(folder .. "/real.safetensors", ("<I8"):pack(#header) .. header)
        local read = ("local ok, message = pcall(cld.load, '%s') io.write(message:match '[^:]*$')"):format(path)
        assert.equal(" metadata 'a' is not a string", printed(read))
      end)

      it("prints a tensor with points", function()
        assert.matches("mean 1.875\n  1.5000  2.2500$", printed "io.write(tostring(cld.tensor { 3 / 2, 9 / 4 }))")
      end)

      it("prints an optimizer with points", function()
        assert.matches("lr 0.5,", printed "io.write(tostring(cld.optim.sgd({ cld.zeros(1) }, { lr = 1 / 2 })))")
      end)

      it("has points in messages", function()
        assert.matches("got 1%.5.*is 2%.5,", printed [[
          local _, a = pcall(cld.nn.conv2d, 3 / 2)
          local _, b = pcall(cld.tensor, { 5 / 2 }, "i64")
          io.write(a, b)]])
      end)

      it("takes an option's value with a point only", function()
        assert.equal("true false", printed [[
          local function lr(text) return cld.options({ { "lr", 1 / 4, "" } }, { "--lr=" .. text }).lr end
          io.write(tostring(lr "0.5" * 2 == 1), " ", tostring((pcall(lr, "0,5"))))]])
      end)

      it("takes a list of integers", function()
        assert.equal("1;5", printed "io.write(table.concat(cld.options.integers '1, 5', ';'))")
      end)

      it("shows an option's range with points", function()
        assert.matches("from 0%.5 to 1%.5", printed [[
          local lr = { "lr", 1 / 1, "", min = 1 / 2, max = 3 / 2 }
          io.write(tostring(select(2, pcall(cld.options, { lr }, { "--lr=9" }))))]])
      end)

      it("loads modules that are asked for later", function()
        assert.equal("true", printed [[io.write(tostring(cld.schedule.cosine ~= nil and cld.run ~= nil))]])
      end)

      it("keeps the program's own locale", function()
        local own = printed("io.write(os.setlocale(), ' ', tostring(3 / 2))", "")
        assert.equal(own, printed [[
          cld.json.encode { a = 1 }
          pcall(cld.json.encode, { print })
          pcall(cld.options, { { "lr", 1, "" } }, { "--lr=x" })
          pcall(cld.json.decode, "x")
          io.write(os.setlocale(), " ", tostring(3 / 2))]])
      end)

      it("writes a log that can be read", function()
        assert.equal(0, train("log").code)
        local means
        for line in io.lines(runs .. "/log/log.jsonl") do means = cld.json.decode(line).means or means end
        assert.equal(1.25, means.loss)
      end)

      it("writes options that can be read", function()
        assert.equal(0, train("options", "--lr", "0.5").code)
        assert.equal(0.5, cld.json.decode(process.read(runs .. "/options/options.json")).lr)
      end)

      it("goes on from a checkpoint with the option that it was started with", function()
        train("resumed", "--lr", "0.5")
        local result = train("resumed", "--resume", "--epochs", "2")
        assert.same({ 0, "" }, { result.code, result.err })
        assert.equal(1, cld.run.load(runs .. "/resumed/checkpoint.safetensors").states.w.value:item())
      end)

      it("prints progress with points", function()
        assert.matches("loss 1.25.*\nepoch 1/1  B 25.00 %%  b 12.50 %%", train("progress").out)
      end)

      it("counts the same score as the best", function()
        train "best"
        assert.equal("B", cld.run.load(runs .. "/best/checkpoint.safetensors").position.best.name)
      end)
    end)
  end

  it("of the environment does not matter", function()
    local result = process.run {
      env = { LOCPATH = folder, LC_ALL = "de_DE.UTF-8", LANG = "de_DE.UTF-8" }, "-e",
      "io.write(require('cld').json.encode { 1.5 }, tostring(1.5))",
    }
    assert.equal("[1.5]1.5", result.out)
  end)

  it("does not change what the session prints", function()
    local result = process.run {
      env = { LOCPATH = folder }, stdin = "os.setlocale 'de_DE.UTF-8'\n3 / 2\n{ 3 / 2 }\n", "-i",
    }
    assert.matches("\n> 1%.5\n> {1%.5}\n", result.out)
  end)
end)
