--- The interactive session, typed on a pseudo-terminal as a user would.
local process = require "spec.support.process"
local typed = require "spec.support.session"

local ENTER, TAB, CTRL_C, CTRL_D, CTRL_Z = "\r", "\t", "\3", "\4", "\26"
local SIGINT, SIGCONT, SIGSTOP = 2, 18, 19
local has, has_not = typed.has, typed.has_not

describe("the session", function()
  local home

  before_each(function() home = process.temporary_folder() end)
  after_each(function() process.remove(home) end)

  local function session(steps, options) return typed.session(home, steps, options) end
  local function shell(arguments, steps) return typed.shell(home, arguments, steps) end

  describe("values", function()
    it("expressions print theirs, statements do not", function()
      local out = session { "6 * 7" .. ENTER, { "\n42\r" }, "x = 5" .. ENTER, "x, 'a'" .. ENTER, { "5\ta" } }
      has_not(out, "nil")
    end)

    it("a call without results prints nothing, one that returns nil prints nil", function()
      local out = session { "(function() end)()" .. ENTER, { "> " }, "nil" .. ENTER, { "\nnil\r" } }
      has_not(out, "end)()\nnil")
    end)

    it("_ is the last one", function() session { "20 + 1" .. ENTER, { "\n21\r" }, "_ * 2" .. ENTER, { "\n42\r" } } end)

    it("tables show what is in them, inner ones where they are short", function()
      session {
        "{ 1, 'two', { 3, { 4, { 5 } } }, name = 'x', [2.5] = true }" .. ENTER,
        { [[{1, "two", {3, {4, {1 entry}}}, [2.5] = true, name = "x"}]] },
        "_.self = _" .. ENTER .. "_" .. ENTER, { "self = {6 entries}" },
        "{}" .. ENTER, { "\n{}\r" },
      }
    end)

    it("large tables are cut", function()
      session {
        "(function() local t = {} for i = 1, 500 do t[i] = i end return t end)()" .. ENTER, { "... 460 more" },
      }
    end)

    it("tables that can print themselves do, and one that cannot is an error", function()
      session {
        "setmetatable({}, { __tostring = function() return 'myself' end })" .. ENTER, { "\nmyself\r" },
        "setmetatable({}, { __tostring = function() error 'cannot' end })" .. ENTER, { "cannot" },
        "'still ' .. 'here'" .. ENTER, { "still here\r" },
      }
    end)

    it("tensors print their dtype, shape and values; cld is there without require", function()
      session { "cld.tensor({ { 1, 2 }, { 3, 4 } }, 'f64')" .. ENTER, { "f64" } }
    end)
  end)

  describe("input over several lines", function()
    it("goes on with >> until a statement is complete", function()
      session {
        "for i = 1, 3 do" .. ENTER, { ">> " }, "print('<' .. i .. '>')" .. ENTER, { ">> " }, "end" .. ENTER,
        { "<3>\r" },
      }
    end)

    it("works for expressions, long strings and tables", function()
      session {
        "1 +" .. ENTER, { ">> " }, "41" .. ENTER, { "\n42\r" },
        "#[[ab" .. ENTER, { ">> " }, "cd]]" .. ENTER, { "\n5\r" },
        "{ 1," .. ENTER, { ">> " }, "2 }" .. ENTER, { "{1, 2}" },
      }
    end)

    it("a leading = is a return, as in lua", function()
      session { "= 1 + 1" .. ENTER, { "\n2\r" }, "=1, 2" .. ENTER, { "1\t2" }, "= 40 +" .. ENTER, { ">> " },
        "2" .. ENTER, { "\n42\r" }, "do" .. ENTER, { ">> " }, "= 5" .. ENTER, { "unexpected symbol" } }
    end)

    it("a prompt may have several lines and any length", function()
      local long = ("\u{e9}"):rep(100)
      local out = session {
        "_PROMPT = 'above\\n' .. ('\u{e9}'):rep(80) .. '> '" .. ENTER, { "above\r\n" }, { long:sub(1, 160) .. ">" },
        "1 + 1" .. ENTER, { "\n2\r" }, { long:sub(1, 160) .. ">" }, "_PROMPT = nil" .. ENTER,
      }
      has_not(out, "^J")
    end)

    it("a prompt that cannot be shown is the usual one", function()
      session { "_PROMPT = setmetatable({}, { __tostring = error })" .. ENTER, { "> " }, "1 + 1" .. ENTER, { "\n2\r" } }
    end)

    it("shows the prompts of _PROMPT and _PROMPT2", function()
      session {
        "_PROMPT, _PROMPT2 = 'one> ', 'two> '" .. ENTER, { "one> " }, "do" .. ENTER, { "two> " }, "end" .. ENTER,
        { "one> " }, "_PROMPT = nil" .. ENTER,
      }
    end)
  end)

  describe("tab within help \"...\"", function()
    local complete = require "cld.repl.complete"

    it("completes a topic", function() assert.are.equal("ume", complete.at 'help "res') end)

    it("completes a name", function() assert.are.equal("ear", complete.at "help('cld.nn.lin") end)

    it("lists topics, and names up to their next point", function()
      local _, list = complete.at 'help "'
      assert.is_truthy(list:find("own network", 1, true) and list:find "%f[%w]cld%f[%s]", list)
    end)

    it("offers nothing where nothing fits", function() assert.is_nil(complete.at 'help "zzz') end)
  end)

  describe("errors", function()
    it("are one line where the typed line itself is at fault, and the session goes on", function()
      local out = session {
        "error 'boom'" .. ENTER, { "cldlua: stdin:1: boom" }, "x = = 1" .. ENTER, { "unexpected symbol near '='" },
        "1 + 1" .. ENTER, { "\n2\r" },
      }
      has_not(out, "traceback")
    end)

    it("are one line where the library refuses what was typed", function()
      local out = session {
        "cld.losses.infomin { queue = 1 }" .. ENTER, { "cldlua: infomin: queue is 1; expected one of" },
        "cld.run {}" .. ENTER, { "cldlua: run: the options lack an integer 'epochs'\r" },
        "cld.optoins" .. ENTER, { "cld has no 'optoins'; did you mean 'options'?" }, "1 + 1" .. ENTER, { "\n2\r" },
      }
      has_not(out, "traceback")
    end)

    it("are one line where a method is called with a dot", function()
      local out = session {
        "net = cld.nn.linear(2, 2)" .. ENTER, { "> " }, "net.parameters()" .. ENTER,
        { "cldlua: parameters needs ':': write net:parameters()\r" }, "1 + 1" .. ENTER, { "\n2\r" },
      }
      has_not(out, "traceback")
    end)

    it("are one line where a <close> variable cannot be closed", function()
      local out = session {
        "local q <close> = 42" .. ENTER, { "cldlua: stdin:1: variable 'q' got a non-closable value\r\n> " },
      }
      has_not(out, "is closed at the end")
    end)

    it("name what Lua has in place of Python's words", function()
      session {
        "x != 1" .. ENTER, { "near '!'; in Lua it is x ~= y\r" }, "len({})" .. ENTER, { "'len'); in Lua it is #x\r" },
        "for i in range(3):" .. ENTER, { "; in Lua it is for i = 1, n do" }, { "> " }, "1 + 1" .. ENTER, { "\n2\r" },
      }
    end)

    it("in functions have a traceback that ends in the typed line", function()
      local out = session {
        "function f() error 'boom' end" .. ENTER, { "> " }, "x = f()" .. ENTER, { "boom" }, { "in function 'f'" },
        { "stdin:1: in main chunk" }, "1 + 1" .. ENTER, { "\n2\r" },
      }
      has_not(out, "repl.lua")
    end)

    it("in a function that the library calls have none of the library's lines", function()
      local out = session {
        "cld.timeit(function() error 'boom' end)" .. ENTER, { "boom" }, { "in local 'f'" }, { "> " },
        "1 + 1" .. ENTER, { "\n2\r" },
      }
      has_not(out, "timeit.lua")
      has_not(out, "tail calls")
    end)

    it("may be any value", function() session { "error({})" .. ENTER, { "(error object is a table value)" } } end)
  end)

  describe("assignments to what the session itself uses", function()
    local function survives(line)
      session {
        line .. ENTER, { "> " }, "local q = 1" .. ENTER, { "> " }, "q + 6" .. ENTER, { "\n7\r" }, { "> " },
        "for i = 1, 2 do" .. ENTER,
        { ">> " }, "end" .. ENTER, { "> " }, "1 + 41" .. ENTER, { "\n42\r" }, { "> " },
        "{ 'x', y = 1 }" .. ENTER, { [[{"x", y = 1}]] }, { "> " }, "cld.zer" .. TAB, { "os" }, CTRL_C, { "> " },
        "f()" .. ENTER, { "cldlua: " }, { "> " },
      }
    end

    it("do no harm, one by one", function()
      for _, line in ipairs {
        "table = { 1, 2 }", "load = 5", "io = nil", "tostring = nil", "rawget = nil", "print = nil", "type = 'adam'",
        "math = 1", "pcall = 1", "string, debug, os, package = nil", "_G = nil", "cld = cld; _ENV._ENV = 1",
      } do survives(line) end
    end)

    it("do no harm, all at once", function()
      survives("for name in pairs(_G) do if name ~= 'cld' then _G[name] = nil end end")
      survives("for _, lib in ipairs { table, math, io, os, debug, coroutine, package, string } do "
        .. "for name in pairs(lib) do lib[name] = nil end end")
    end)

    it("and strict globals do none either", function()
      local strict = "setmetatable(_G, { __newindex = function(_, k) error('no global ' .. k) end, "
        .. "__index = function(_, k) error('no global ' .. k) end })"
      survives(strict)
      session { strict .. ENTER, { "> " }, "1 + 1" .. ENTER, { "\n2\r" }, "_ + 1" .. ENTER, { "\n3\r" } }
      survives("rawset(_G, '_', nil) " .. strict)
    end)

    it("in a script before the session are no different", function()
      local path = process.write(home .. "/s.lua", "table, string, type, print, load, pcall = nil")
      session({ "1 + 1" .. ENTER, { "\n2\r" }, "{ 1 }" .. ENTER, { "{1}" } }, { arguments = { "-i", path } })
    end)

    it("in a script before the session, without which cld cannot be loaded, leave a session without cld", function()
      local path = process.write(home .. "/s.lua", "require, setmetatable, pairs = nil")
      session({ "1 + 1" .. ENTER, { "\n2\r" } }, { arguments = { "-i", path } })
    end)
  end)

  describe("Ctrl-C", function()
    it("ends an endless loop, not the session", function()
      session {
        "x = 0 while true do x = x + 1 if x == 2 then print('go' .. 'ing') end end" .. ENTER, { "going\r" }, CTRL_C,
        { "interrupted!" },
        "x > 1" .. ENTER, { "\ntrue\r" },
        "print('a' .. 'gain') while true do end" .. ENTER, { "again\r" }, CTRL_C, { "interrupted!" },
      }
    end)

    it("ends printing as well", function()
      session {
        "setmetatable({}, { __tostring = function() print('go' .. 'ing') while true do end end })" .. ENTER,
        { "going\r" }, CTRL_C, { "interrupted!" }, "1 + 1" .. ENTER, { "\n2\r" },
      }
    end)

    it("ends loops that catch errors", function()
      session {
        "while true do pcall(function() print('go' .. 'ing') while true do end end) end" .. ENTER, { "going\r" },
        CTRL_C, { "interrupted!" }, "1 + 1" .. ENTER, { "\n2\r" },
        "print('st' .. 'art') while true do pcall(pcall, error) end" .. ENTER, { "start\r" }, CTRL_C,
        { "interrupted!" },
        "repeat local ok = xpcall(function() print('o' .. 'n') while true do end end, print) until ok" .. ENTER,
        { "on\r" }, CTRL_C, { "cldlua: stdin:1: interrupted!" },
      }
    end)

    it("ends coroutines, and those that catch errors", function()
      session {
        "coroutine.wrap(function() print('go' .. 'ing') while true do end end)()" .. ENTER, { "going\r" }, CTRL_C,
        { "interrupted!" }, "1 + 1" .. ENTER, { "\n2\r" },
        "while true do pcall(coroutine.wrap(function() print('o' .. 'n') while true do end end)) end" .. ENTER,
        { "on\r" }, CTRL_C, { "interrupted!" }, "1 + 2" .. ENTER, { "\n3\r" },
        "print('st' .. 'art') while true do pcall(function() coroutine.wrap(function() end)() end) end" .. ENTER,
        { "start\r" }, CTRL_C, { "interrupted!" },
        "c = coroutine.create(function() print('f' .. 'in') while true do coroutine.yield() end end)" .. ENTER,
        { "> " }, "while true do coroutine.resume(c) end" .. ENTER, { "fin\r" }, CTRL_C, { "interrupted!" },
      }
    end)

    it("does not reach coroutines that are resumed later", function()
      session {
        "function count() for i = 1, 1e9 do coroutine.yield(i) end end" .. ENTER, { "> " },
        "do local x <close> = setmetatable({}, { __close = function() c = coroutine.wrap(count) c() end }) "
          .. "print('go' .. 'ing') while true do end end" .. ENTER,
        { "going\r" }, CTRL_C, { "interrupted!" }, "c()" .. ENTER, { "\n2\r" },
      }
    end)

    it("lets what is to be closed be closed", function()
      session {
        "do local x <close> = setmetatable({}, { __close = function() local n = 0 for i = 1, 100 do n = n + i end "
          .. "print('closed', n) end }) print('go' .. 'ing') while true do end end" .. ENTER,
        { "going\r" }, CTRL_C, { "closed\t5050" }, { "interrupted!" },
      }
    end)

    it("ends a k-means of many iterations", function()
      session {
        "x = cld.randn(256, 64)" .. ENTER, { "> " },
        "print('go' .. 'ing') cld.losses.kmeans(x, 64, 2000000000)" .. ENTER, { "going\r" }, CTRL_C, { "interrupted!" },
        "#cld.losses.kmeans(x, 64, 2)" .. ENTER, { "\n256\r" },
      }
    end)

    it("again and again waits for a call that cannot be stopped", function()
      session {
        "s = ('a'):rep(26) p = ('a?'):rep(26) .. s" .. ENTER, { "> " },
        "print('go' .. 'ing') s:find(p)" .. ENTER, { "going\r" },
        { pause = 0.2 }, CTRL_C, { pause = 0.2 }, CTRL_C, { "cannot be stopped" }, CTRL_C, { pause = 0.2 }, CTRL_C,
        { "interrupted!" },
        "1 + 1" .. ENTER, { "\n2\r" },
      }
    end)

    it("at the prompt gives up the line", function()
      local out = session { "garbage", CTRL_C, { "> " }, "1 + 1" .. ENTER, { "\n2\r" } }
      has_not(out, "cldlua:")
    end)

    it("at the prompt is the same as a SIGINT from elsewhere", function()
      session { "garbage", { "garbage" }, SIGINT, { "> " }, "1 + 1" .. ENTER, { "\n2\r" } }
    end)

    it("at the prompt works as before when the session was stopped and goes on", function()
      session {
        "garb", { "garb" }, SIGSTOP, SIGCONT, { "> garb" }, "age", { "age" }, CTRL_C, { "> " }, "1 + 1" .. ENTER,
        { "\n2\r" }, { "> " }, SIGINT, { "> " },
      }
      local out = shell({ program = "bash", "--norc", "--noprofile", "-i" }, {
        { "$ " }, "$CLDLUA" .. ENTER, { "> " }, "40 +", { "40 +" }, CTRL_Z, { "Stopped" }, { "$ " }, "fg" .. ENTER,
        { "> 40 +" }, " 2" .. ENTER, { "\n42\r" }, { "> " }, "garbage", { "garbage" }, CTRL_C, { "> " },
        "1 + 1" .. ENTER, { "\n2\r" }, { "> " }, CTRL_Z, { "Stopped" }, { "$ " }, "fg" .. ENTER, { "\r>" }, CTRL_D,
        { "$ " }, "exit" .. ENTER,
      })
      has_not(out, "40 +40 +")
    end)

    it("at a plain prompt gives up the line as well", function()
      shell({ program = "sh", "-c", "$CLDLUA | (trap '' INT; cat)" }, {
        { "> " }, "garbage", { "garbage" }, CTRL_C, { "> " }, "1 + 1" .. ENTER, { "\n2\r" }, CTRL_D,
      })
    end)

    it("in a continuation gives up all of it", function()
      session { "for i = 1, 3 do" .. ENTER, { ">> " }, CTRL_C, { "> " }, "1 + 1" .. ENTER, { "\n2\r" } }
    end)
  end)

  describe("tab", function()
    it("completes globals, with the parenthesis of a function", function()
      session { "tonu" .. TAB, { "mber(" }, "'7') + 1" .. ENTER, { "\n8\r" } }
    end)

    it("completes fields and keywords, as far as the candidates agree", function()
      session {
        "string.fo" .. TAB, { "rmat(" }, "'%03d', 7)" .. ENTER, { "\n007\r" },
        "retu" .. TAB, { "rn" }, " 9" .. ENTER, { "\n9\r" },
        "t = { alpha_one = 1, alpha_two = 2 }" .. ENTER, { "> " }, "t.a" .. TAB, { "lpha_" }, "two" .. ENTER,
        { "\n2\r" },
      }
    end)

    it("lists the candidates where they differ", function()
      local out = session {
        "t = { aa1 = 1, aa2 = 2, b = 3 }" .. ENTER, { "> " }, "t.aa" .. TAB, { "aa1  aa2" }, { "t.aa" }, "1" .. ENTER,
        { "\n1\r" },
      }
      has_not(out, "aa2  b")
    end)

    it("completes methods through metatables", function()
      session {
        "A = { greet = function() return 'hello' end }" .. ENTER, { "> " },
        "B = setmetatable({}, { __index = A })" .. ENTER, { "> " },
        "o = setmetatable({ greeting = 1 }, { __index = B })" .. ENTER, { "> " },
        "o:gr" .. TAB, { "eet(" }, ")" .. ENTER, { "hello\r" },
        "s = 'abc'" .. ENTER, { "> " }, "s:up" .. TAB, { "per(" }, ")" .. ENTER, { "ABC\r" },
      }
    end)

    it("completes a tensor's methods and properties", function()
      session {
        "t = cld.tensor { 1, 2, 3 }" .. ENTER, { "> " }, "t:backw" .. TAB, { "ard(" }, CTRL_C, { "> " },
        "t.dty" .. TAB, { "pe" }, ENTER, { "\nf32\r" },
      }
    end)

    it("completes fields of what is in brackets", function()
      session {
        "t = { { alpha = 7 }, ['a b'] = { beta = { [10] = 'x' } } }" .. ENTER, { "> " },
        "t[1].al" .. TAB, { "pha" }, ENTER, { "\n7\r" }, "t['a b'].be" .. TAB, { "ta" }, "[10]:up" .. TAB, { "per(" },
        ")" .. ENTER, { "\nX\r" },
        "net = cld.nn.sequential(cld.nn.relu())" .. ENTER, { "> " }, 'net["0"].for' .. TAB, { "ward" }, CTRL_C,
      }
    end)

    it("offers nothing where it cannot know", function()
      local out = session {
        "x = { ['0'] = { abc = 1 }, f = print, abc = 2 }" .. ENTER, { "> " }, "x.0.ab" .. TAB, "Q", CTRL_C, { "> " },
        "x:f().ab" .. TAB, "Q", CTRL_C, { "> " }, "x.f().ab" .. TAB, "Q", CTRL_C, { "> " }, "('x').ab" .. TAB, "Q",
        CTRL_C, { "> " }, "x." .. TAB, { "abc  f" }, CTRL_C, { "> " }, "1 ..x.ab" .. TAB, { "c" }, CTRL_C, { "> " },
      }
      local _, count = out:gsub("ab\a?Q", "")
      assert.are.equal(4, count, out)
    end)

    it("completes cld's modules, loaded or not", function()
      session { "cld.sched" .. TAB, { "ule" }, CTRL_C, { "> " }, "cld.schedule.warmup_c" .. TAB, { "osine" }, CTRL_C }
    end)

    it("calls nobody's functions and survives odd values", function()
      local out = session {
        "o = setmetatable({}, { __index = function() print('call' .. 'ed') error 'x' end })" .. ENTER, { "> " },
        "o.fi" .. TAB, "x" .. CTRL_C, { "> " }, "o.a.b" .. TAB, "x" .. CTRL_C, { "> " },
        "p = setmetatable({}, { __pairs = error, __metatable = 1 })" .. ENTER, { "> " },
        "p." .. TAB, "x" .. CTRL_C, { "> " }, "3.4" .. TAB, "x" .. CTRL_C, { "> " },
        "(" .. TAB, "x" .. CTRL_C, { "> " },
        "c = {} c.__index = c setmetatable(c, c)" .. ENTER, { "> " }, "c.x" .. TAB, "x" .. CTRL_C, { "> " },
        "1 + 1" .. ENTER, { "\n2\r" },
      }
      has_not(out, "called")
      has_not(out, "cldlua: ")
    end)

    it("indents an empty line", function() session { TAB .. "1 + 1" .. ENTER, { "\n2\r" } } end)
  end)

  describe("the terminal", function()
    it("is left as it was by a signal that ends the session", function()
      local out = shell({ program = "sh", "-c", "trap : TERM; stty -a; $CLDLUA; stty -a" }, {
        { "> " }, "os.execute('(sleep 0.2; kill -TERM ' .. cld.host().pid .. ') &')" .. ENTER, { "intr = ^C" },
      })
      local modes = {}
      for mode in out:gmatch("speed %d+.-tostop.-echoke[^\n]*") do modes[#modes + 1] = mode end
      assert.are.equal(2, #modes, out)
      assert.are.equal(modes[1], modes[2])
    end)

    it("takes letters of all languages, whatever the locale", function()
      for _, lang in ipairs { "C", "", "xx_XX.UTF-8", "C.UTF-8" } do
        session({ "print('h\u{e9}llo \u{65e5}\u{672c}', #'\u{e9}')" .. ENTER, { "h\u{e9}llo \u{65e5}\u{672c}\t2" } },
          { lang = lang })
      end
    end)
  end)

  describe("the rest", function()
    it("starts with what this is and what it runs on", function()
      assert.is_truthy(session({}):find("^cldlua %d[^\n]*Lua 5%.4[^\n]*\ncpu: [^\n]*thread[^\n]*\n> "))
    end)

    it("ends with os.exit and its code", function()
      session({ "os.exit(3, true)" .. ENTER }, { leave = false, code = 3 })
    end)

    it("follows a script with -i, its globals alive", function()
      local path = process.write(home .. "/s.lua", "answer = 42")
      session({ "answer" .. ENTER, { "\n42\r" } }, { arguments = { "-i", path } })
    end)

    it("says of a script with -i what is wrong with it as without", function()
      local wrong = { ["local x = = 1"] = "s.lua:1: unexpected symbol near '='", ["\nerror 'no'"] = "s.lua:2: no" }
      for text, pattern in pairs(wrong) do
        local path = process.write(home .. "/s.lua", text)
        local result = process.run { "-i", path, stdin = "" }
        assert.are.equal(1, result.code)
        has(result.err, pattern)
      end
      has(process.run({ "-i", home .. "/none.lua", stdin = "" }).err, "cannot open " .. home .. "/none.lua")
    end)

    it("takes lines from a pipe as well", function()
      local result = process.run { "-i", stdin = "1 + 1\nfor i = 1, 2 do\nprint(i)\nend\nerror 'x'\n'la' .. 'st'" }
      has(result.out, "> 2\n")
      has(result.out, "last")
      has(result.err, "stdin:1: x")
      assert.are.equal(0, result.code)
    end)
  end)
end)
