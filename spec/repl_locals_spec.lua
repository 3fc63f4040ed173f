--- The session's local variables: the next lines can use what a line declares, as the same variable and by Lua's rules.
local process = require "spec.support.process"
local tokens = require "cld.repl.tokens"

-- A session of its own: type(line) -> its results, or nil and the error.
local function new_session()
  local path = package.searchpath("cld.repl.locals", package.path)
  local locals = assert(loadfile(path))()
  local session = { told = {}, locals = locals }
  function locals.told(what) session.told[#session.told + 1] = what end
  function session.type(text)
    local f, message, refused = locals.load("return " .. text, "=stdin")
    if not f and not refused then f, message = locals.load(text, "=stdin") end
    if not f then return nil, message end
    local results = table.pack(pcall(f))
    if results[1] then return table.unpack(results, 2, results.n) end
    return nil, tostring(results[2])
  end
  return session
end

describe("a local variable of the session", function()
  local line, session
  before_each(function()
    session = new_session()
    line = session.type
  end)

  it("is there in the next line", function()
    line "local x, y = 1, 'two'"
    assert.same({ 1, "two" }, { line "x, y" })
  end)
  it("is one with those of the functions that use it", function()
    line "local n = 0; function _inc() n = n + 1 end"
    line "_inc() _inc()"
    assert.equal(2, line "n")
    line "n = 10 _inc()"
    assert.equal(11, line "n")
    _G._inc = nil
  end)
  it("is one for functions of several lines", function()
    line "local n = 0"
    line "local function up() n = n + 1 return n end"
    line "local function down() n = n - 1 return n end"
    line "up() up() up()"
    assert.equal(2, line "down()")
    assert.equal(2, line "n")
  end)
  it("without a value is nil, and can be set", function()
    line "local a, b"
    line "a = 3"
    assert.same({ 3, nil }, { line "a, b" })
    assert.is_nil(rawget(_G, "a"))
  end)
  it("hides a global of its name, which is what it was", function()
    line "local print = 5"
    assert.equal(5, line "print")
    assert.equal("function", type(print))
  end)
  it("begins after its own statement", function()
    _G.outer_value = 4
    line "local outer_value = outer_value + 1"
    line "local outer_value = outer_value * 2"
    assert.equal(10, line "outer_value")
    _G.outer_value = nil
  end)
  it("of a function may be recursive", function()
    line "local function fact(k) return k < 2 and 1 or k * fact(k - 1) end"
    assert.equal(120, line "fact(5)")
  end)
  it("of a variable that is a function is not", function()
    line "local f = function() return f end"
    assert.is_nil(line "f()")
  end)
  it("declared anew is another: older functions keep the older", function()
    line "local x = 1 local function old() return x end"
    line "local x = 2 local function new() return x end"
    line "x = 3"
    assert.same({ 3, 1, 3 }, { line "x, old(), new()" })
  end)
  it("declared twice in a line is the second", function()
    line "local x = 1 local function old() return x end local x = 2"
    assert.same({ 2, 1 }, { line "x, old()" })
  end)
  it("declared twice in a statement is the last", function()
    line "local x, x = 1, 2"
    assert.equal(2, line "x")
  end)
  it("of a block, a loop or a function is none", function()
    line "do local a = 1 end for b = 1, 1 do local c = b end for d in pairs { 1 } do end"
    line "while true do local e = 1 break end repeat local f = 1 until f if true then local g else local h end"
    line "local function fun(i) local j end fun()"
    for name in ("abcdefghij"):gmatch "." do assert.is_false(session.locals.get(name), name) end
  end)
  it("takes all values of a call, and of ...", function()
    line "local a, b, c = (function() return 1, 2 end)()"
    assert.same({ 1, 2 }, { line "a, b" })
    line "local n = select('#', ...)"
    assert.equal(0, line "n")
  end)
  it("is kept when an error comes after it, not when it comes before", function()
    line "local a = 1 error 'boom' local b = 2"
    assert.equal(1, line "a")
    assert.is_false(session.locals.get "b")
  end)
  it("is kept when the line returns after it", function()
    assert.equal(7, line "local a = 7 if a then return a end local b = 2")
    assert.equal(7, line "a")
    assert.is_false(session.locals.get "b")
    assert.equal(9, line "local c = 9 return c")
    assert.equal(9, line "c")
  end)
  it("may be jumped over", function()
    line "goto done local a = 1 ::done::"
    assert.is_false(session.locals.get "a")
  end)
  it("may be declared again and again", function()
    line "local i = 0 ::top:: local j = i i = i + 1 if i < 3 then goto top end"
    assert.same({ 3, 2 }, { line "i, j" })
  end)
  it("ends with its line if it is <close>, which is told", function()
    line "local closed = 0"
    line "local x <close> = setmetatable({}, { __close = function() closed = closed + 1 end }) local y = closed"
    assert.same({ 1, 0 }, { line "closed, y" })
    assert.is_false(session.locals.get "x")
    assert.same({ "closed" }, session.told)
  end)
  it("beside a <close> one lives on", function()
    line "local a <const>, b <close>, c = 1, nil, 3"
    assert.same({ 1, 3 }, { line "a, c" })
    assert.is_false(session.locals.get "b")
  end)

  describe("that is <const>", function()
    it("has its value, of a constant expression too", function()
      line "local a <const>, b <const> = 5, { 6 }"
      line "local c <const> = 'text'"
      assert.same({ 5, 6, "text" }, { line "a, b[1], c" })
    end)
    it("cannot be assigned to, in Lua's words", function()
      line "local a <const> = 5"
      assert.same({ nil, "stdin:1: attempt to assign to const variable 'a'" }, { line "a = 6" })
      local _, message = line "print()\nlocal f = function() a = 7 end"
      assert.equal("stdin:2: attempt to assign to const variable 'a'", message)
      assert.equal(5, line "a")
    end)
    it("may be declared anew", function()
      line "local a <const> = 5"
      line "local a = 6"
      line "a = 7"
      assert.equal(7, line "a")
    end)
  end)

  it("has errors of the lines that were typed", function()
    line "local a = 1"
    local _, message = line "local b = a\n\nlocal c = a.x.y"
    assert.equal("stdin:3: attempt to index a number value (upvalue 'a')", message)
  end)
  it("is not hidden by what is in strings and comments", function()
    line [=[local s = [[local t = 1]] -- local u = 2
      local v = 'local w' --[==[ local x
      local y ]==] local z = "\"local q"]=]
    assert.same({ "s", "v", "z" }, session.locals.names())
    assert.equal('"local q', line "z")
  end)
  it("is kept out of the way of its own machinery's names", function()
    _G.keep = 4
    line "local keep1 = keep"
    line "local keep = keep + keep1"
    assert.same({ 8, 4 }, { line "keep, keep1" })
    _G.keep = nil
  end)
  it("named _ENV ends with its line", function()
    line "local _ENV = { x = 1 } local y = x"
    assert.is_false(session.locals.get "_ENV")
    assert.equal("function", line "type(print)")
    assert.equal(1, line "y")
  end)
  it("is one of as many as are typed; one line may use nearly as many as Lua has", function()
    local sum = {}
    for i = 1, 400 do
      line(("local v%d = %d"):format(i, i))
      if i <= 190 then sum[i] = "v" .. i end
    end
    assert.equal(190 * 191 // 2, line(table.concat(sum, " + ")))
    assert.equal(400, line "v400")
    for i = 191, 300 do sum[i] = "v" .. i end
    local _, message = line(table.concat(sum, " + "))
    assert.matches("^it uses 300 of the session's local variables, which are too many for one line: ", message)
  end)
  it("may be one of as many in a line as Lua has", function()
    local names, values = {}, {}
    for i = 1, 200 do names[i], values[i] = "w" .. i, i end
    line(("local %s = %s"):format(table.concat(names, ", "), table.concat(values, ", ")))
    assert.equal(200, line "w200")
    assert.same({}, session.told)
  end)
end)

-- Each ends where @ stands: a name or a call goes on with what may be arguments, in the next line too; a literal not.
describe("the end of a local statement", function()
  local cases = {
    "local x = f(1)(2).a:b 'c' [[d]] {e = 1}[2]@\nlocal last = 1@",
    "local x = -#{ 1 } ^ 2 .. 'a' == 'b' and not nil or {}@\n(print)(0)",
    "local x = f\n(print)(0)@", "local x = f@;(print)(0)", "local x = f@ print(0)",
    "local x = 5@\n(print)(0)", "local x = 'a'@\n(print)(0)", "local x = nil@\n(print)(0)",
    "local x = function(a) return function() end end@\n(print)(0)", "local x = ...@\n(print)(0)",
    "local x@\n(print)(0)",
    "local x <const> = 1, f { 2 }, (3)@\nx2 = 4", "local x <const>, y <close> = nil@ z = 1",
    "local x = a.b\n.c@\nlocal y@", "local x = { function() if a then while b do end end end }@\ny = 2",
    "local x = 0x1p4 // 3e-2 ~ 7 >> 1 << 2 & ~1 | 0xA.8p0@\nprint()", "local x = 1 < 2, 3 > 4, 5 ~= 6@;print()",
    "local function f() repeat local a until a for i = 1, 2 do end end@ local g = f@",
    "local x = a:b():c{}.d@\n::l::",
    "local x = 'a' -- b\n.. 'c'@ -- d\nfor i = 1, 2 do local z = i end local y@",
    "local x = a and b or c@ goto l ::l::",
    "if a then local b = 1 elseif c then local d else local e end local f@", "local x = [==[ ]] local y ]==]@",
    "local x = '\\'' .. \"\\\\\"@ local y = '\\z\n  local'@",
  }
  for _, marked in ipairs(cases) do
    it((marked:gsub("%s+", " ")), function()
      local text, expected, found = "", {}, {}
      for piece, mark in marked:gmatch "([^@]*)(@?)" do
        text = text .. piece
        if mark == "@" then expected[#expected + 1] = #text end
      end
      assert(load(text, "=text"))
      for _, declared in ipairs(tokens.declarations(tokens.of(text))) do found[#found + 1] = declared.last end
      assert.same(expected, found)
    end)
  end
end)

describe("a script's own variables", function()
  local folder
  before_each(function() folder = process.temporary_folder() end)
  after_each(function() process.remove(folder) end)

  it("live on, and those of the session are not the script's", function()
    local session = new_session()
    session.type "local n, seen = 1, 'mine'"
    local path = process.write(folder .. "/s.lua", "_found = seen local n = 2 local made = 'here'")
    assert(session.locals.load_file(path))()
    assert.is_nil(rawget(_G, "_found"))
    assert.same({ 2, "mine", "here" }, { session.type "n, seen, made" })
  end)

  it("live on of a recipe that another one runs, in cldlua -i", function()
    process.write(folder .. "/inner.lua", "local net, n = 'a net', 2")
    local outer = process.write(folder .. "/outer.lua", "local n = 1 require 'cld'.run.recipe 'inner.lua'")
    local result = process.run { "-i", outer, stdin = "net, n\n" }
    assert.equal("", result.err)
    assert.is_truthy(result.out:find("a net\t2", 1, true), result.out)
  end)
end)

describe("the words of Lua code", function()
  local function words(text)
    local list = {}
    for i, token in ipairs(tokens.of(text)) do list[i] = token.text end
    return list
  end

  it("are those of all our own files", function()
    local pipe = assert(io.popen "find lua -name '*.lua'")
    for path in pipe:lines() do
      local file = assert(io.open(path, "rb"))
      local all = words((file:read("a"):gsub("^#[^\n]*", "")))
      file:close()
      local again = table.concat(all, "\n")
      assert(load(again, "=" .. path))
      assert.equal(again, table.concat(words(again), "\n"), path)
    end
    pipe:close()
  end)

  it("of any bytes come to an end", function()
    math.randomseed(7)
    local bits = { "local", " ", "\n", "x", "=", "[[", "]]", "'", '"', "\\", "--", "[==[", "(", ")", "{", "}", "do",
      "function", "end", "1", ".", "..", ":", "<", ">", "const", ",", "if",
      "repeat", "until", "\0", "\255", ";", "and", "#" }
    for _ = 1, 2000 do
      local text = {}
      for i = 1, math.random(12) do text[i] = bits[math.random(#bits)] end
      local code = table.concat(text)
      local list = tokens.of(code)
      assert.is_true(#list <= #code)
      if load(code) then tokens.declarations(list) end
    end
  end)
end)
