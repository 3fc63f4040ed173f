--- What the interactive session remembers: its history, and the local variables that were typed.
local process = require "spec.support.process"
local typed = require "spec.support.session"

local ENTER, TAB, CTRL_C, UP, LEFT = "\r", "\t", "\3", "\27[A", "\2"
local has, has_not = typed.has, typed.has_not

describe("the session's", function()
  local home

  before_each(function() home = process.temporary_folder() end)
  after_each(function() process.remove(home) end)

  local function session(steps, options) return typed.session(home, steps, options) end

  describe("history", function()
    it("comes back with the arrow keys, in this session and the next", function()
      session { "41 + 1" .. ENTER, { "\n42\r" }, { "> " }, UP, { "41 + 1" }, ENTER, { "\n42\r" } }
      session { UP, { "41 + 1" }, ENTER, { "\n42\r" } }
    end)

    it("is a file of the user's alone, without empty lines, bounded", function()
      session { "x = 1" .. ENTER, { "> " }, ENTER, { "> " }, "x = 2" .. ENTER }
      local path = home .. "/.local/state/cldlua/history"
      assert.are.equal("x = 1\nx = 2\n", process.read(path))
      local pipe = io.popen("stat -c %a " .. home .. "/.local/state/cldlua")
      assert.are.equal("700", pipe:read("l"))
      pipe:close()
      local lines = {}
      for i = 1, 2500 do lines[i] = "x = " .. i end
      process.write(path, table.concat(lines, "\n") .. "\n")
      session { UP, { "x = 2500" }, ENTER }
      local _, kept = process.read(path):gsub("\n", "")
      assert.are.equal(1001, kept)
    end)

    it("is readable by the user alone, also where it was not", function()
      local path = home .. "/.local/state/cldlua/history"
      local function mode()
        local pipe = io.popen("stat -c %a " .. path)
        local text = pipe:read("l")
        pipe:close()
        return text
      end
      session { "x = 1" .. ENTER }
      assert.are.equal("600", mode())
      os.execute("chmod 644 " .. path)
      local lines = {}
      for i = 1, 2500 do lines[i] = "x = " .. i end
      process.write(path, table.concat(lines, "\n") .. "\n")
      session { "x = 1" .. ENTER }
      assert.are.equal("600", mode())
    end)

    it("has the lines of a block as one, in this session and the next", function()
      local block = { "for i = 1, 2 do" .. ENTER, { ">> " }, "print('<' .. i .. '>')" .. ENTER, { ">> " },
        "end" .. ENTER, { "<2>\r" }, { "> " } }
      local again = { UP, { "for i = 1, 2 do" }, { "print('<' .. i .. '>')" }, { "end" }, ENTER, { "<1>\r" },
        { "<2>\r" } }
      session(table.move(again, 1, #again, #block + 1, block))
      assert.are.equal("for i = 1, 2 do\vprint('<' .. i .. '>')\vend\n",
        process.read(home .. "/.local/state/cldlua/history"):match "^[^\n]*\n")
      session(again)
    end)

    it("lets a block be edited", function()
      session {
        "(function()" .. ENTER, { ">> " }, "return 40" .. ENTER, { ">> " }, "end)()" .. ENTER, { "\n40\r" }, { "> " },
        UP, { "end)()" }, LEFT:rep(#"\nend)()") .. "+2" .. ENTER, { "\n42\r" },
      }
    end)

    it("of a session that had a line for each is read", function()
      local path = home .. "/.local/state/cldlua/history"
      session {}
      process.write(path, "for i = 1, 2 do\nprint 'a\\nb'\nend\n")
      session { UP, { "end" }, UP, { "print 'a\\nb'" }, ENTER, { "a\r\nb\r" } }
    end)

    it("has what was given up, and what is no Lua", function()
      session { "do" .. ENTER, { ">> " }, "1 + 1" .. ENTER, { "unexpected symbol" }, { "> " }, UP, { "do" },
        { "1 + 1" }, CTRL_C, { "> " }, "if x then" .. ENTER, { ">> " }, CTRL_C, { "> " }, UP, { "if x then" }, CTRL_C }
    end)

    it("whose place is taken by a folder or a pipe does no harm", function()
      local path = home .. "/.local/state/cldlua/history"
      for _, command in ipairs { "mkdir -p %s", "rmdir %s; mkfifo %s" } do
        os.execute((command:gsub("%%s", path)))
        session { "1 + 1" .. ENTER, { "\n2\r" }, { "> " }, UP, { "1 + 1" }, CTRL_C }
      end
    end)

    it("that cannot be written does no harm", function()
      process.write(home .. "/.local", "a file where a folder should be")
      session { "1 + 1" .. ENTER, { "\n2\r" } }
    end)
  end)

  describe("local variables", function()
    it("live on in the next lines, shared with functions", function()
      session {
        "local n = 0; function inc() n = n + 1 end" .. ENTER, { "> " }, "n" .. ENTER, { "\n0\r" }, "inc()" .. ENTER,
        { "> " }, "n" .. ENTER, { "\n1\r" }, "local n = 'new'" .. ENTER, { "> " }, "inc()" .. ENTER, { "> " },
        "n" .. ENTER, { "\nnew\r" },
      }
    end)

    it("of several lines, and what stands before an error", function()
      session {
        "local function f(x)" .. ENTER, { ">> " }, "return x + 1" .. ENTER, { ">> " }, "end" .. ENTER, { "> " },
        "f(41)" .. ENTER, { "\n42\r" }, "local a = 7; error 'boom'" .. ENTER, { "cldlua: stdin:1: boom" },
        "a" .. ENTER, { "\n7\r" },
      }
    end)

    it("that are <const> stay so, and <close> ones are closed, which is told once", function()
      local out = session {
        "local k <const> = 5" .. ENTER, { "> " }, "k = 6" .. ENTER, { "attempt to assign to const variable 'k'" },
        "closed = 0" .. ENTER, { "> " }, "function on_close() closed = closed + 1 end" .. ENTER, { "> " },
        "local c <close> = setmetatable({}, { __close = on_close })" .. ENTER, { "a <close> variable is closed" },
        "local c <close> = setmetatable({}, { __close = on_close })" .. ENTER, { "> " }, "closed, c" .. ENTER,
        { "2\tnil" },
      }
      local _, count = out:gsub("a <close> variable", "")
      assert.are.equal(1, count)
    end)

    it("are completed by tab, with their fields", function()
      session {
        "local alphabet = { gamma = 11 }" .. ENTER, { "> " }, "alpha" .. TAB, { "bet" }, ".ga" .. TAB, { "mma" },
        " + 1" .. ENTER, { "\n12\r" },
      }
    end)

    it("leave tracebacks as they are", function()
      local out = session {
        "local function f() error 'boom' end" .. ENTER, { "> " }, "x = f()" .. ENTER, { "boom" },
        { "stdin:1: in main chunk" },
      }
      has_not(out, "repl.lua")
      has_not(out, "keep")
    end)

    it("of a script are there with -i, shared with its functions", function()
      local path = process.write(home .. "/s.lua", "#!/usr/bin/env cldlua\nlocal n, limit <const> = 1, 9\n"
        .. "local function up(by)\n  n = n + by\n  return n\nend\nlocal rest = { ... }\n"
        .. "print(up(1), debug.getinfo(1, 'l').currentline)\nreturn nil")
      local out = session({
        "up(40)" .. ENTER, { "\n42\r" }, "n = 7 up(1)" .. ENTER, { "> " }, "n" .. ENTER, { "\n8\r" },
        "limit = 1" .. ENTER, { "attempt to assign to const variable 'limit'" }, "rest[2]" .. ENTER, { "\ntwo\r" },
      }, { arguments = { "-i", path, "one", "two" } })
      has(out, "2\t8")
    end)
  end)
end)
