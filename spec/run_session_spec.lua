--- Several runs in one process, as in a session: each ends with its loop, whatever still refers to it.
local process = require "spec.support.process"

local script = [[
local cld = require "cld"
local function start(epochs, resume)
  return cld.run { epochs = epochs, runs = arg[1], name = "run", resume = resume }
end
local function loop(run, how)
  for _ in run:epochs { w = cld.zeros(1) } do
    run:track { loss = 1 }
    if how == "error" then error "stopped" end
    if how == "break" then break end
  end
end
]]

describe("a run whose loop has ended", function()
  local folder
  before_each(function() folder = process.temporary_folder() end)
  after_each(function() process.remove(folder) end)

  local function session(lines)
    return process.run { process.write(folder .. "/session.lua", script .. lines), folder .. "/runs" }
  end

  for _, how in ipairs { "whole", "error", "break" } do
    it("lets go of its folder: " .. how, function()
      local result = session(([[
        local first = start(2)
        pcall(loop, first, "%s")
        local second = start(3, true)
        loop(second)
        print(first.step, second.step)]]):format(how))
      assert.equal("", result.err)
      assert.matches(how == "whole" and "\n2\t3\n$" or "\n1\t3\n$", result.out)
    end)
  end

  it("says so when it is used", function()
    local result = session [[
      local run = start(1)
      loop(run)
      print(run:where() == arg[1] .. "/run")
      for _, use in ipairs { "track", "score", "save", "epochs" } do
        print((select(2, pcall(run[use], run, { loss = 1 })):gsub("^.-:%d+: ", "")))
      end]]
    local inside = ": call it inside `for epoch in run:epochs{...}`\n"
    assert.equal("true\nrun:track" .. inside .. "run:score" .. inside .. "run:save" .. inside
      .. "run:epochs: this run has ended; cld.run with resume = true continues it\n",
      result.out:match "\n(true\n.*)")
  end)
end)
