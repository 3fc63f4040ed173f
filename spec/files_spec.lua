--- Folders, whole files, locks.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"

describe("files and folders", function()
  local folder
  before_each(function() folder = process.temporary_folder() end)
  after_each(function() process.remove(folder) end)

  it("are made, told apart and listed", function()
    assert.is_true(cld.io.mkdir(folder .. "/a/b/"))
    assert.is_false(cld.io.mkdir(folder .. "/a"))
    cld.io.write_atomic(folder .. "/a/file", "text")
    assert.equal("text", process.read(folder .. "/a/file"))
    assert.equal("folder", cld.io.exists(folder .. "/a"))
    assert.equal("file", cld.io.exists(folder .. "/a/file"))
    assert.equal("other", cld.io.exists "/dev/null")
    assert.is_nil(cld.io.exists(folder .. "/none"))
    assert.same({ "b", "file" }, cld.io.list(folder .. "/a"))
    check.fails(function() cld.io.mkdir(folder .. "/a/file/c") end, "cannot make the folder '.*/a/file'")
    os.execute(("ln -s none '%s/link'"):format(folder)) -- it is there, and what it names is not
    check.fails(function() cld.io.mkdir(folder .. "/link") end, "cannot make the folder '.*/link': File exists")
    check.fails(function() cld.io.list(folder .. "/none") end, "No such file")
    check.fails(function() cld.io.write_atomic("/dev/null", "x") end, "not a regular file")
  end)

  it("are locked by one at a time", function()
    local lock = cld.io.lock(folder)
    assert.is_nil(cld.io.lock(folder))
    getmetatable(lock).__close(lock)
    local again <close> = cld.io.lock(folder)
    assert.truthy(again)
  end)
end)
