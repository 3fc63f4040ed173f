--- Text from files (names, settings, paths) cannot control the terminal that shows it, whichever way it gets there.
-- Terminals without control sequences get plain lines.
local cld = require "cld"
local process = require "spec.support.process"

local ESCAPE = "\27[31m\7\r\u{9b}2J\u{202e}\127\nforged: line" -- what a file's name may hold
local SHOWN = [[\x1b[31m\x07\x0d\u{9b}2J\u{202e}\x7f\nforged: line]]

local function plain(pattern) return (pattern:gsub("%W", "%%%0")) end

-- What a terminal would obey in it, or nil.
local function obeyed(text)
  return text:match "[\0-\8\11-\31\127]" or text:match "\u{c2}[\x80-\x9f]" or text:match "\u{202e}"
    or not utf8.len(text) and "no UTF-8" or nil
end

describe("printable text", function()
  local text = cld.text

  it("is as it was where nothing is to be escaped", function()
    for _, good in ipairs { "", "abc \\ '\"", "\u{e9}\u{4e2d}\u{1F600}", "a\n\tb", "\u{a0}\u{200d}" } do
      assert.equal(good, text.printable(good))
    end
  end)

  it("shows control characters as Lua's escapes", function()
    assert.equal([[\x00\x1b[0m\x08\x7f]], text.printable "\0\27[0m\8\127")
  end)

  it("shows the controls of Unicode as Lua's escapes", function()
    local controls = "\u{80}\u{9f}\u{202e}\u{2066}\u{2028}\u{61c}"
    assert.equal([[\u{80}\u{9f}\u{202e}\u{2066}\u{2028}\u{61c}]], text.printable(controls))
  end)

  it("shows bytes that are no UTF-8", function()
    assert.equal([[d\xe9tail\xc3]], text.printable "d\xe9tail\xc3")
    assert.equal([[\xed\xa0\x80\xc0\xaf\xf4\x90\x80\x80]], text.printable "\xed\xa0\x80\xc0\xaf\xf4\x90\x80\x80")
  end)

  it("does not change a second time", function()
    local once = text.printable(ESCAPE .. "\xff")
    assert.equal(once, text.printable(once))
  end)

  it("keeps newlines and tabs only where there are lines", function()
    assert.equal("a\n\tb", text.printable "a\n\tb")
    assert.equal([[a\n\tb]], text.printable_line "a\n\tb")
  end)

  it("is the literal of a Lua string", function()
    local bytes = {}
    for byte = 0, 255 do bytes[#bytes + 1] = string.char(byte) end
    local all = table.concat(bytes):gsub('[\\"]', "")
    assert.equal(all, load('return "' .. text.printable_line(all) .. '"')())
  end)
end)

describe("a name with escape codes", function()
  local folder
  before_each(function() folder = process.temporary_folder() end)
  after_each(function() process.remove(folder) end)

  -- An uncaught error of the interpreter, on one line but for its traceback.
  local function complains(result, pattern)
    assert.equal(1, result.code)
    assert.is_nil(obeyed(result.err))
    assert.matches("^cldlua: [^\n]*" .. plain(pattern or SHOWN), result.err)
    assert.is_nil(result.err:find "\nforged")
  end

  -- A safetensors file of this header.
  local function safetensors(header)
    return process.write(folder .. "/f.safetensors", ("<I8"):pack(#header) .. header)
  end

  local quoted = cld.json.encode(ESCAPE)

  for what, header in pairs {
    ["of a tensor"] = ('{%s:{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}'):format(quoted),
    ["of metadata"] = ('{"__metadata__":{%s:1}}'):format(quoted),
  } do
    it(what .. " in a safetensors file is shown escaped", function()
      complains(process.run { "-e", ("require('cld').load('%s')"):format(safetensors(header)) })
    end)
  end

  it("in a header that is no JSON is not shown", function()
    local path = safetensors('{"a":\27[31m\27[2J}')
    complains(process.run { "-e", ("require('cld').load('%s')"):format(path) }, "the header is not JSON")
  end)

  it("of a dtype that is not read is escaped in what load says of it", function()
    local path = safetensors(('{"a":{"dtype":%s,"shape":[0],"data_offsets":[0,0]}}'):format(quoted))
    assert.matches(plain(SHOWN), select(3, cld.load(path, { skip = true })).a)
  end)

  it("that is not UTF-8 in a header is shown escaped", function()
    local result = process.run { "-e", ("require('cld').load('%s')"):format(safetensors '{"\xe9":1}') }
    assert.equal(1, result.code)
    assert.is_nil(obeyed(result.err))
  end)

  it("of a .npy file's type is shown escaped", function()
    local header = ("{'descr': '%s', 'fortran_order': False, 'shape': (1,), }"):format "\27[31m"
    header = header .. (" "):rep(117 - #header) .. "\n"
    local path = process.write(folder .. "/a.npy", "\x93NUMPY\1\0" .. ("<I2"):pack(#header) .. header .. "\0\0\0\0")
    local result = process.run { "-e", ("require('cld').io.load_npy('%s')"):format(path) }
    assert.equal(1, result.code)
    assert.is_nil(obeyed(result.err))
  end)

  it("of a file that is not there is shown escaped", function()
    local script = process.write(folder .. "/load.lua", "require('cld').load(arg[1])")
    complains(process.run { script, folder .. "/" .. ESCAPE })
  end)

  it("of a state's entry is shown escaped", function()
    complains(process.run { process.write(folder .. "/load.lua", [[
      local cld = require "cld"
      cld.nn.linear(1, 1):load_state_dict { [arg[1] ] = cld.zeros(1) }]]), ESCAPE })
  end)

  it("of an optimizer's entry is shown escaped", function()
    complains(process.run { process.write(folder .. "/load.lua", [[
      local cld = require "cld"
      cld.optim.sgd({ cld.zeros(1) }, { lr = 0.1 }):load_state_dict { [arg[1] ] = cld.zeros(1) }]]), ESCAPE })
  end)

  it("of a script is shown escaped", function()
    local script = process.write(folder .. "/a\27[31m.lua", "error 'here'")
    local result = process.run { script }
    assert.is_nil(obeyed(result.err))
    assert.matches(plain [[a\x1b[31m.lua:1: here]], result.err)
  end)

  it("of a script that is not there is shown escaped", function()
    assert.is_nil(obeyed(process.run { folder .. "/\27[31m\xe9.lua" }.err))
  end)

  it("of an option of the interpreter is shown escaped", function()
    local result = process.run { "-\27[31m\xe9" }
    assert.equal(1, result.code)
    assert.is_nil(obeyed(result.err))
  end)

  it("in an error that is a recipe's own keeps its lines", function()
    local result = process.run { "-e", "error('a\\n\\tb \\27[31m', 0)" }
    assert.matches("^cldlua: a\n\tb " .. plain [[\x1b[31m]] .. "\nstack traceback:\n\t", result.err)
  end)

  it("is the script's own affair where that prints it", function()
    assert.equal("\27[31m\n", process.run { "-e", "print '\\27[31m'" }.out)
  end)

  -- ---- a run ------------------------------------------------------------------

  local recipe = [[
    local cld = require "cld"
    local opt = cld.options { { "epochs", 1, "", integer = true }, { "data", "x", "" },
    { "n", 1, "", integer = true }, cld.options.training }
    local run = cld.run(opt)
    local states = { w = cld.zeros(1) }
    if opt.n == 2 then states.w = cld.zeros(2) end
    for _ in run:epochs(states) do
      for _ = 1, 3 do run:track { ["loss" .. opt.data:sub(1, 9)] = 1 } end
      run:score { ["top" .. opt.data:sub(1, 9)] = 0.5 }
    end]]

  local function start(...)
    local script = process.write(folder .. "/r.lua", recipe)
    return process.run { script, "--runs", folder, "--device", "cpu", "--print-every", "0", ... }
  end

  local function succeeds(...)
    local result = start(...)
    assert.same({ 0, "" }, { result.code, result.err })
    assert.is_nil(obeyed(result.out))
    assert.is_nil(result.out:find "\nforged")
    return result.out
  end

  it("of a run and its settings is shown escaped", function()
    assert.matches(plain(SHOWN), succeeds("--name", ESCAPE, "--data", ESCAPE))
  end)

  for what, order in pairs {
    ["whose folder cannot be locked"] = { FAIL_FOLDER_FLOCK = "22" },
    ["whose folder cannot be flushed"] = { FAIL_FOLDER_FSYNC = "5" },
  } do
    it(("of a run %s is shown escaped"):format(what), function()
      local script = process.write(folder .. "/r.lua", recipe)
      local result = process.run { script, "--runs", folder, "--name", ESCAPE, "--device", "cpu",
        env = process.failing_files(order) }
      assert.equal(0, result.code)
      assert.matches("^[^\n]*" .. plain(SHOWN) .. "[^\n]*\n$", result.err)
      assert.is_nil(obeyed(result.err))
    end)
  end

  it("of a setting that a checkpoint had is shown escaped", function()
    succeeds("--name", "r", "--data", ESCAPE)
    assert.matches("changed on resume: data x %(was " .. plain(SHOWN),
      succeeds("--name", "r", "--data", "x", "--epochs", "2", "--resume"))
  end)

  it("of a checkpoint that does not fit is shown escaped", function()
    succeeds("--name", ESCAPE)
    complains(start("--resume", folder .. "/" .. ESCAPE, "--epochs", "2", "--n", "2"))
  end)

  for _, option in ipairs { "--epochs", "--device", "--resume", "--precision", "--runs", "--unknown", "-x" } do
    it(("as the value of %s is shown escaped"):format(option), function()
      local result = start(option, "/dev/null/" .. ESCAPE)
      assert.equal(1, result.code)
      assert.is_nil(obeyed(result.err))
      assert.is_nil(result.err:find "\nforged")
    end)
  end

  it("of a recipe is shown escaped in its help", function()
    local script = process.write(folder .. "/r\27[31m.lua", recipe)
    local result = process.run { script, "--help" }
    assert.equal(0, result.code)
    assert.is_nil(obeyed(result.out))
  end)

  it("that cannot be a name in a checkpoint is refused when it is tracked", function()
    local result = process.run { process.write(folder .. "/r.lua", recipe), "--runs", folder, "--data", "\xff" }
    assert.equal(1, result.code)
    assert.matches(plain [[run:track: the name 'loss\xff' is not UTF-8 text]], result.err)
  end)

  it("is cut to the terminal's columns between characters", function()
    local script = process.write(folder .. "/r.lua", (recipe:gsub("for _ = 1, 3 do", [[
      local started = cld.clock()
      while cld.clock() - started < 0.6 do ]]):gsub("opt%.data:sub%(1, 9%)", "opt.data")))
    local result = process.terminal {
      script = {}, script, "--runs", folder, "--device", "cpu", "--data", ("\u{e9}"):rep(200), "--epochs", "1",
    }
    assert.equal(0, result.code)
    assert.is_truthy(result.out:find "\27%[K")
    assert.is_truthy(utf8.len(result.out))
  end)

  -- ---- the session ------------------------------------------------------------

  for what, line in pairs {
    ["a string"] = "'a\\27[31m\\xe9'", ["a table"] = "{ 'a\\27[31m\\xe9', ['a\\27[31m\\xe9'] = 1 }",
    ["an error"] = "error 'a\\27[31m\\xe9'",
    ["an error's value"] = "error(setmetatable({}, { __tostring = function() return 'a\\27[31m\\xe9' end }))",
    ["a long string in a table"] = "{ ('\\u{e9}'):rep(100) }",
    ["a value"] = "setmetatable({}, { __tostring = function() return 'a\\27' end })",
  } do
    it(("in %s is shown escaped by the session"):format(what), function()
      local result = process.run { "-i", stdin = line .. "\n" }
      assert.is_nil(obeyed(result.out))
      assert.is_nil(obeyed(result.err))
    end)
  end
end)

describe("a terminal", function()
  local folder
  before_each(function() folder = process.temporary_folder() end)
  after_each(function() process.remove(folder) end)

  local recipe = [[
    local cld = require "cld"
    local run = cld.run(cld.options { { "epochs", 1, "", integer = true }, cld.options.training })
    for _ in run:epochs { w = cld.zeros(1) } do
      local started = cld.clock()
      while cld.clock() - started < 0.6 do run:track { loss = 1 } end
    end]]

  -- A command on a terminal of this kind; nil: TERM is not set.
  local function on(kind, script, ...)
    local arguments = { program = "/usr/bin/env", script = script }
    local words = { "-u", "TERM", process.absolute(process.cldlua), ... }
    if kind then words = { "TERM=" .. kind, process.absolute(process.cldlua), ... } end
    return process.terminal(table.move(words, 1, #words, 1, arguments))
  end

  local kinds = { ["TERM=dumb"] = "dumb", ["TERM=unknown"] = "unknown", ["an empty TERM"] = "", ["no TERM"] = false }
  for name, kind in pairs(kinds) do
    describe("with " .. name, function()
      it("gets plain lines of a run", function()
        local script = process.write(folder .. "/r.lua", recipe)
        local result = on(kind, {}, script, "--runs", folder, "--print-every", "0", "--device", "cpu")
        assert.equal(0, result.code)
        assert.is_nil(result.out:gsub("\r\n", "\n"):match "[\r\27]")
        assert.matches("step %d+  loss 1\r\n", result.out)
      end)

      it("is none to write in place on", function()
        assert.matches("nil", on(kind, {}, "-e", "print((require('cld').terminal()))").out)
      end)

      it("gets a session of plain lines", function()
        local result = on(kind, { { "wait", "> " }, { "send", "6 * 7\r" }, { "wait", "42" }, { "wait", "> " },
          { "send", "\4" } }, "-i")
        assert.same({ 0, "" }, { result.code, result.err })
        assert.is_nil(result.out:find "\27")
      end)

      it("stops a call of a session by Ctrl-C", function()
        local result = on(kind, { { "wait", "> " }, { "send", "print('go' .. 'ing') while true do end\r" },
          { "wait", "going" }, { "send", "\3" }, { "wait", "interrupted!" }, { "wait", "> " }, { "send", "\4" } }, "-i")
        assert.same({ 0, "" }, { result.code, result.err })
      end)
    end)
  end

  it("with a cursor gets one line redrawn in place", function()
    local result = on("xterm", {}, process.write(folder .. "/r.lua", recipe), "--runs", folder, "--device", "cpu")
    assert.matches("\r\27%[Kepoch 1/1  step %d+  loss 1", result.out)
  end)
end)

describe("a path that is not UTF-8", function()
  local folder, script
  before_each(function()
    folder = process.temporary_folder()
    script = process.write(folder .. "/r.lua", [[
      local cld = require "cld"
      local opt = cld.options { { "epochs", 1, "", integer = true }, { "data", "x", "" }, cld.options.training }
      local run = cld.run(opt)
      for _ in run:epochs { w = cld.zeros(1) } do run:track { loss = 1 } end
      local out = io.open(arg[0]:match "^(.*)/[^/]*$" .. "/data", "w")
      out:write(opt.data)
      out:close()]])
  end)
  after_each(function() process.remove(folder) end)

  local function succeeds(...)
    local result = process.run { ... }
    assert.same({ 0, "" }, { result.code, result.err })
    assert.is_truthy(utf8.len(result.out))
    return result
  end

  local function is_json(path)
    for line in io.lines(path) do
      assert.is_truthy(utf8.len(line))
      cld.json.decode(line)
    end
  end

  for _, name in ipairs { "d\xe9tail", "\xff", "a\u{10FEE9}b", "\xed\xa0\x80", "\u{e9}\xe9" } do
    describe(("(%q)"):format(name), function()
      it("as an option is the same after a resume", function()
        succeeds(script, "--runs", folder, "--name", "r", "--data", "/tmp/" .. name)
        succeeds(script, "--runs", folder, "--name", "r", "--resume", "--epochs", "2")
        assert.equal("/tmp/" .. name, process.read(folder .. "/data"))
      end)

      it("as a run's name is found again", function()
        succeeds(script, "--runs", folder, "--name", name)
        local result = succeeds(script, "--runs", folder, "--name", name, "--resume", "--epochs", "2")
        assert.matches("resumed from", result.out)
      end)

      it("as the folder of the runs is found again", function()
        succeeds(script, "--runs", folder .. "/" .. name)
        local result = succeeds(script, "--runs", folder .. "/" .. name, "--resume", "--epochs", "2")
        assert.matches("resumed from", result.out)
      end)

      it("as a path to resume is found", function()
        succeeds(script, "--runs", folder, "--name", name)
        local path = ("%s/%s/checkpoint.safetensors"):format(folder, name)
        local result = succeeds(script, "--resume", path, "--epochs", "2")
        assert.matches("resumed from", result.out)
      end)

      it("as a recipe's is copied and recorded", function()
        local recipe = process.write(("%s/%s.lua"):format(folder, name), process.read(script))
        succeeds(recipe, "--runs", folder .. "/runs")
        local run = ("%s/runs/%s"):format(folder, name)
        assert.equal(process.read(script), process.read(("%s/%s.lua"):format(run, name)))
        assert.equal(recipe, cld.json.decode(process.read(run .. "/versions.json")).command[1])
      end)

      it("leaves files of JSON", function()
        succeeds(script, "--runs", folder, "--name", name, "--data", name)
        local run = folder .. "/" .. name
        is_json(run .. "/log.jsonl")
        for _, file in ipairs { "options.json", "versions.json" } do
          local text = process.read(run .. "/" .. file)
          assert.is_truthy(utf8.len(text))
          cld.json.decode(text)
        end
      end)

      it("on LUA_PATH is searched", function()
        local modules = folder .. "/" .. name
        cld.io.mkdir(modules)
        process.write(modules .. "/of_ours.lua", "return 42")
        local result = process.run { "-e", "io.write((require 'of_ours'))", env = { LUA_PATH = modules .. "/?.lua" } }
        assert.equal("42", result.out)
      end)

      it("that is not there is one line of an error", function()
        local result = process.run { script, "--resume", "/nowhere/" .. name }
        assert.equal(1, result.code)
        assert.is_truthy(utf8.len(result.err))
        assert.is_nil(result.err:find "traceback")
      end)
    end)
  end
end)
