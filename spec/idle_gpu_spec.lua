--- What a run says about a GPU that it does not use.
local gpu = require "cld.run.gpu"
local process = require "spec.support.process"

describe("a GPU that is not used", function()
  local folder
  before_each(function() folder = process.temporary_folder() end)
  after_each(function() process.remove(folder) end)

  it("is not spoken of if there is none", function()
    assert.is_false(gpu.there(folder))
    assert.is_nil(gpu.note("there is no driver", folder))
  end)
  it("is if there is one", function()
    process.write(folder .. "/nvidia3", "")
    assert.is_true(gpu.there(folder))
    assert.equal("no GPU is used: there is no driver", gpu.note("there is no driver", folder))
    assert.is_nil(gpu.note(nil, folder))
  end)
end)
