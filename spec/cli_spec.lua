--- The command line of cldlua: what `lua` accepts, and errors as a user sees them.
local process = require "spec.support.process"

describe("cldlua", function()
  local folder

  before_each(function() folder = process.temporary_folder() end)
  after_each(function() process.remove(folder) end)

  -- Runs without the caller's LUA_INIT; env adds to the environment.
  local function run(options)
    options.unset = { "LUA_INIT", "LUA_INIT_5_4", "LUA_PATH", "LUA_CPATH" }
    return process.run(options)
  end

  local function script(name, text) return process.write(folder .. "/" .. name, text) end

  local function expect(result, expected)
    assert.are.equal(expected.err or "", result.err)
    assert.are.equal(expected.out or "", result.out)
    assert.are.equal(expected.code or 0, result.code)
  end

  describe("options", function()
    it("-e runs a string, attached or apart, several in order", function()
      expect(run { "-e", "x = 1", "-ex = x + 1", "-e", "print(x)" }, { out = "2\n" })
    end)

    it("-e runs before the script", function()
      local path = script("s.lua", "print(x, ...)")
      expect(run { "-e", "x = 'set'", path, "a" }, { out = "set\ta\n" })
    end)

    it("-l loads a module into a global, under its name or another", function()
      expect(run { "-l", "string", "-l", "s=string", "-e", "print(s == string)" }, { out = "true\n" })
      script("m-v2.lua", "return 7")
      expect(run { "-l", "m-v2", "-e", "print(m)", directory = folder,
        program = process.absolute(process.cldlua) }, { out = "7\n" })
    end)

    it("-l names a module that is not there", function()
      local result = run { "-l", "no_such_module" }
      assert.are.equal(1, result.code)
      assert.is_truthy(result.err:find("^cldlua: module 'no_such_module' not found"))
    end)

    it("-v prints the version and nothing else", function()
      local result = run { "-v" }
      assert.is_truthy(result.out:find("^cldlua .*Lua 5%.4"))
      assert.are.equal(0, result.code)
    end)

    it("-E ignores LUA_INIT and LUA_PATH", function()
      local env = { LUA_INIT = "print 'init'", LUA_PATH = "/nowhere/?.lua" }
      local result = process.run { "-E", "-e", "print((package.path:find('nowhere')))", env = env }
      expect(result, { out = "nil\n" })
    end)

    it("-E ignores every variable of cldlua, and no other", function()
      local show = "print(os.getenv 'CLD_CUDA_PLUGIN', os.getenv 'CLD_HOST_ORDER', os.getenv 'CLOD_X')"
      local env = { CLD_CUDA_PLUGIN = "/nowhere.so", CLD_HOST_ORDER = "reverse", CLOD_X = "x" }
      expect(process.run { "-E", "-e", show, env = env }, { out = "nil\tnil\tx\n" })
    end)

    it("-W turns warnings on", function()
      expect(run { "-W", "-e", "warn 'careful'" }, { err = "Lua warning: careful\n" })
      expect(run { "-e", "warn 'careful'" }, {})
    end)

    it("- reads the script from stdin, with arguments", function()
      expect(run { "-", "a", "b", stdin = "print(...) print(arg[0], arg[1], #arg)" }, { out = "a\tb\n-\ta\t2\n" })
    end)

    it("without anything, and without a terminal, runs stdin", function()
      expect(run { stdin = "print(1 + 1)" }, { out = "2\n" })
    end)

    it("-- ends the options", function()
      script("-odd.lua", "print 'odd'")
      expect(run { "--", "-odd.lua", directory = folder, program = process.absolute(process.cldlua) },
        { out = "odd\n" })
    end)

    it("-i goes on interactively after a script", function()
      local path = script("s.lua", "x = 20")
      local result = run { "-i", path, stdin = "x + 1\n" }
      assert.is_truthy(result.out:find("21", 1, true))
      assert.are.equal(0, result.code)
    end)

    it("--help lists them", function()
      local result = run { "--help" }
      assert.is_truthy(result.out:find("usage: cldlua", 1, true))
      assert.are.equal(0, result.code)
    end)

    it("an unknown one, or one without its argument, is an error with the usage", function()
      local unknown = run { "-x" }
      assert.is_truthy(unknown.err:find("^cldlua: unrecognized option '%-x'\nusage:"))
      assert.are.equal(1, unknown.code)
      for _, arguments in ipairs { { "-e" }, { "-l" }, { "-e", "-v" } } do
        local result = run(arguments)
        assert.is_truthy(result.err:find("^cldlua: argument missing after '" .. arguments[1]:gsub("-", "%%-")))
        assert.are.equal(1, result.code)
      end
    end)
  end)

  describe("scripts", function()
    it("get their arguments, and the whole command line around arg[0]", function()
      local path = script("s.lua", "print(..., select('#', ...)) print(arg[0], arg[1], arg[2], arg[-1], arg[-2])")
      local result = run { "-W", path, "one", "two words" }
      expect(result, { out = ("one\t2\n%s\tone\ttwo words\t-W\t%s\n"):format(path, process.cldlua) })
    end)

    it("may begin with a shebang line", function()
      expect(run { script("s.lua", "#!/usr/bin/env cldlua\nprint(debug.getinfo(1).currentline)") }, { out = "2\n" })
    end)

    it("set the exit code", function()
      assert.are.equal(7, run { "-e", "os.exit(7)" }.code)
      assert.are.equal(0, run { "-e", "os.exit(true, true)" }.code)
      assert.are.equal(1, run { "-e", "os.exit(false)" }.code)
    end)

    it("that are not there are one line and status 1", function()
      local result = run { "no/such/script.lua" }
      assert.are.equal("cldlua: cannot open no/such/script.lua: No such file or directory\n", result.err)
      assert.are.equal(1, result.code)
    end)

    it("that do not compile say where", function()
      local path = script("s.lua", "x = 1\nif x then\n")
      local result = run { path }
      assert.are.equal(("cldlua: %s:3: 'end' expected (to close 'if' at line 2) near <eof>\n"):format(path),
        result.err)
      assert.are.equal(1, result.code)
    end)

    it("that raise give file, line and traceback, and what they printed before", function()
      local path = script("s.lua", "print 'before'\nlocal function inner() error 'boom' end\n" ..
        "local function outer() inner() end\nouter()\n")
      local result = run { path }
      assert.are.equal("before\n", result.out)
      assert.is_truthy(result.err:find(("cldlua: %s:2: boom\nstack traceback:"):format(path), 1, true))
      assert.is_truthy(result.err:find(path .. ":4: in main chunk", 1, true))
      assert.are.equal(1, result.code)
    end)

    it("may raise anything", function()
      local named = run { "-e", "error(setmetatable({}, {__tostring = function() return 'T' end}))" }
      assert.are.equal("cldlua: T\n", named.err)
      for value, text in pairs { ["{}"] = "table", ["nil"] = "nil" } do
        local result = run { "-e", ("error(%s)"):format(value) }
        assert.is_truthy(result.err:find("^cldlua: %(error object is a " .. text .. " value%)"))
        assert.are.equal(1, result.code)
      end
    end)

    it("that write a file too large for the user's limit are told so", function()
      local path = script("s.lua", "require('cld').save(arg[1], { x = require('cld').zeros(10000) })")
      local result = run { "-c", 'ulimit -f 8; "$0" "$@"', process.cldlua, path, folder .. "/x.safetensors",
        program = "sh" }
      assert.is_truthy(result.err:find("^cldlua: [^\n]*File too large\n"), result.err)
      assert.are.equal(1, result.code)
      local child = run { "-e", "print(os.execute(\"sh -c 'ulimit -f 1; head -c 9999 /dev/zero >" .. folder
        .. "/big'\"))" }
      assert.is_truthy(child.out:find("signal") or child.out:find("153"), child.out .. child.err)
    end)

    it("that run out of stack are an error like any other", function()
      local result = run { "-e", "local function f() return 1 + f() end f()" }
      assert.is_truthy(result.err:find("stack overflow", 1, true))
      assert.are.equal(1, result.code)
    end)

    it("stop at Ctrl-C with a traceback and status 130", function()
      local path = script("s.lua", "io.write('running\\n') io.flush() while true do end")
      local result = process.terminal { path, timeout = 20, script = { { "wait", "running" }, { "send", "\3" } } }
      local pattern = "cldlua: [^\n]*interrupted!\nstack traceback:\n.*s.lua:1: in main chunk"
      assert.is_truthy(result.plain:find(pattern), result.plain .. result.err)
      assert.are.equal(130, result.code)
    end)

    it("stop at Ctrl-C also where they catch errors and in coroutines", function()
      for _, loop in ipairs {
        "while true do pcall(function() print 'running' while true do end end) end",
        "while true do pcall(coroutine.wrap(function() print 'running' while true do end end)) end",
      } do
        local result = process.terminal { "-e", loop, timeout = 20,
          script = { { "wait", "running" }, { "send", "\3" } } }
        assert.is_truthy(result.plain:find("interrupted!", 1, true), result.plain .. result.err)
        assert.are.equal(130, result.code)
      end
    end)

    it("have coroutines that behave as Lua's own", function()
      local path = script("s.lua", [[
        local function fail() error 'boom' end
        print(pcall(coroutine.wrap(fail)), select('#', coroutine.resume(coroutine.create(print))))
        local ok, message = pcall(function() local f = coroutine.wrap(fail) f() end)
        print(ok, message)
        local c = coroutine.create(function(...) local x <close> = setmetatable({}, { __close = function(_, e)
          print('closing', e) error 'again' end }) return coroutine.yield(...) end)
        print(coroutine.resume(c, 1, nil))
        print(coroutine.close(c))
        print(coroutine.close(c), coroutine.status(c))
        print(coroutine.resume(c))
        print(pcall(coroutine.close, coroutine.running()))
        print(pcall(coroutine.resume, 1))
        print(pcall(coroutine.wrap, 1))
        local w = coroutine.wrap(function() local y <close> = setmetatable({}, { __close = function() error({}) end })
          fail() end)
        print(type(select(2, pcall(w))))
        print(coroutine.resume(coroutine.running()))
        print(coroutine.wrap(function() return coroutine.isyieldable(), coroutine.running() ~= nil end)())
      ]])
      expect(run { path }, { out = run { path, program = "lua5.4" }.out })
    end)
  end)

  describe("LUA_INIT", function()
    it("runs before everything, its versioned form first", function()
      expect(process.run { "-e", "print 'then'", env = { LUA_INIT = "print 'first'" }, unset = { "LUA_INIT_5_4" } },
        { out = "first\nthen\n" })
      expect(process.run { "-e", "", env = { LUA_INIT = "print 'plain'", LUA_INIT_5_4 = "print '5.4'" } },
        { out = "5.4\n" })
    end)

    it("names a file after @", function()
      local path = script("init.lua", "print 'from file'")
      expect(process.run { "-e", "", env = { LUA_INIT = "@" .. path }, unset = { "LUA_INIT_5_4" } },
        { out = "from file\n" })
    end)

    it("with an error ends everything", function()
      local result = process.run { "-e", "print 1", env = { LUA_INIT = "error 'boom'" }, unset = { "LUA_INIT_5_4" } }
      assert.are.equal("", result.out)
      assert.is_truthy(result.err:find("^cldlua: LUA_INIT:1: boom"))
      assert.are.equal(1, result.code)
    end)
  end)

  describe("the module path", function()
    it("is found from any folder, also through a link", function()
      local program = process.absolute(process.cldlua)
      expect(run { "-e", "print(type(require 'cld'))", directory = folder, program = program }, { out = "table\n" })
      os.execute(("ln -s '%s' '%s/linked'"):format(program, folder))
      expect(run { "-e", "print(type(require 'cld'))", program = folder .. "/linked" }, { out = "table\n" })
    end)

    it("does not depend on LUA_PATH", function()
      local result = process.run { "-e", "print(type(require 'cld'))", env = { LUA_PATH = "/nowhere/?.lua" } }
      expect(result, { out = "table\n" })
    end)

    local function make(target)
      local command = "make -s -o all %s BUILD='%s' PREFIX='%s/usr' >/dev/null"
      assert.is_true(os.execute(command:format(target, process.build, folder)))
    end

    it("is share/lua/5.4 where cldlua is installed, from any folder, also through a link", function()
      make "install"
      local program = folder .. "/usr/bin/cldlua"
      os.execute(("ln -s '%s' '%s/linked'"):format(program, folder))
      for _, name in ipairs { program, folder .. "/linked" } do
        local result = run { "-e", "print(type(require 'cld'), package.path)", directory = "/", program = name }
        assert.is_truthy(result.out:find("table\t" .. folder .. "/usr/share/lua/5.4/?.lua", 1, true),
          result.out .. result.err)
      end
      local recipe = run { folder .. "/usr/share/cldlua/recipes/cifar10_npid_cld.lua", "--help", program = program }
      assert.is_truthy(recipe.out:find("--clusters", 1, true), recipe.err)
    end)

    it("uninstalls everything", function()
      make "install"
      make "uninstall"
      local pipe = io.popen(("find '%s/usr' -type f"):format(folder))
      assert.are.equal("", pipe:read("a"))
      pipe:close()
    end)

    it("is told in one line where an executable is alone", function()
      local alone = folder .. "/bin/cldlua"
      os.execute(("mkdir '%s/bin' && cp '%s' '%s'"):format(folder, process.cldlua, alone))
      expect(run { "-e", "print(1)", program = alone }, { out = "1\n" })
      for _, arguments in ipairs { { "-e", "require 'cld'" }, { "-l", "cld" }, { "-i" } } do
        arguments.program = alone
        local result = run(arguments)
        assert.is_truthy(result.err:find("^cldlua: [^\n]*'cld[^\n]*\n$"), result.err)
        local places = ("%s/lua nor in %s/share/lua/5.4"):format(folder, folder)
        assert.is_truthy(result.err:find(places, 1, true), result.err)
        assert.are.equal("", result.out)
        assert.are.equal(1, result.code)
      end
      local other = run { "-e", "require 'other'", program = alone }
      assert.is_truthy(other.err:find("module 'other' not found:\n", 1, true))
    end)

    it("leaves scripts without a global cld", function()
      expect(run { "-e", "print(cld)" }, { out = "nil\n" })
    end)
  end)
end)
