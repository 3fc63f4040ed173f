--- A build that is older than lua/cld: the C side lacks a function.
local process = require "spec.support.process"

describe("a build that lacks a function of the C side", function()
  local function without(table, name, code)
    return process.run { "-e", ("require('cld.core').%s.%s = nil; %s"):format(table, name, code) }
  end

  it("is named in one line as cld is loaded", function()
    local result = without("tensor", "is_tensor", "require 'cld'.models.load 'nothing'")
    assert.equal(1, result.code)
    assert.matches("^cldlua: the build is of other sources than [^\n]*/lua/cld: its C side has no"
      .. " 'cld.core.tensor.is_tensor'; run make %(and make install%)\n$", result.err)
  end)

  it("is named in one line when the function is called", function()
    local folder = process.temporary_folder()
    local result = without("system", "catch_signals", ([[
      local run = require "cld".run { epochs = 1, runs = "%s" }
      for _ in run:epochs {} do end]]):format(folder))
    process.remove(folder)
    assert.matches("^cldlua: the build is of other sources [^\n]*'cld.core.system.catch_signals'; run make [^\n]*\n$",
      result.err)
  end)

  it("leaves a user's own typing errors what they are", function()
    local result = process.run { "-e", "print(pcall(function() return require 'cld'.io.lod end)) "
      .. "print(pcall(function() return require 'cld.core'.sytem end))" }
    assert.matches("cld.io has no 'lod'; did you mean 'load'%?\n", result.out)
    assert.matches("cld.core has no 'sytem'; did you mean 'system'%?\n", result.out)
  end)
end)
