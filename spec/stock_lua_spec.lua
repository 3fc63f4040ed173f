--- The same module in a stock lua5.4: build/cld/core.so and the Lua files. install_spec.lua tests them installed.
local process = require "spec.support.process"

describe("a stock lua5.4", function()
  local function run(code)
    return process.run {
      "-e", code, program = "lua5.4", unset = { "LUA_INIT", "LUA_INIT_5_4" },
      env = {
        LUA_PATH = "lua/?.lua;lua/?/init.lua;;", LUA_CPATH = process.build .. "/?.so;;",
        LD_PRELOAD = process.sanitizer(),
      },
    }
  end

  it("loads cld and computes", function()
    local result = run [[
      local cld = require "cld"
      local x = cld.tensor({ { 1, 2 }, { 3, 4 } }, "f64"):requires_grad_()
      local y = (x * x):sum()
      y:backward()
      print(y:item(), table.concat(x.grad:totable()[2], " "))]]
    assert.are.equal("", result.err)
    assert.are.equal("30.0\t6.0 8.0\n", result.out)
    assert.are.equal(0, result.code)
  end)

  it("gives errors the position of the script", function()
    local result = run "local cld = require 'cld'\nlocal x = cld.tensor({ 1, 2 }) + cld.tensor({ 1, 2, 3 })"
    assert.is_truthy(result.err:find("(command line):2: ", 1, true), result.err)
    assert.are.equal(1, result.code)
  end)
end)
