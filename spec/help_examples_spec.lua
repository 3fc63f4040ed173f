--- The examples in help's texts run, and print what they claim.
local cld = require "cld"
local data = require "cld.help.data"
local process = require "spec.support.process"

describe("the examples of help", function()
  local result

  setup(function()
    local folder = process.temporary_folder()
    local here = os.getenv "PWD"
    local command = ("cd '%s' && '%s' '%s/spec/support/help_examples.lua' result.json >/dev/null"):format(folder,
      process.absolute(process.cldlua), here)
    assert.is_true(os.execute(command))
    result = cld.json.decode(process.read(folder .. "/result.json"))
    process.remove(folder)
  end)

  it("all run and print what they say", function()
    local problems = {}
    for i, failure in ipairs(result.failed) do problems[i] = table.concat(failure, ": ") end
    assert.are.equal("", table.concat(problems, "\n"))
  end)

  it("are run but for a few", function()
    local count = 0
    for _, entry in ipairs(data().entries) do count = count + (entry.example and 1 or 0) end
    assert.is_true(result.ran >= count * 0.9)
  end)
end)
