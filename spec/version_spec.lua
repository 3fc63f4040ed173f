--- `cldlua --version`, and cld.built_with(), which it prints.
local cld = require "cld"
local process = require "spec.support.process"

describe("cldlua --version", function()
  local function run(options)
    options[1] = options[1] or "--version"
    options.unset = { "CLD_CUDA_PLUGIN", "CLD_MPI_PLUGIN" }
    return process.run(options)
  end

  -- {compiler = "gcc ...", ...} of the lines after the first
  local function rows(text)
    local found = {}
    for name, value in text:gmatch "\n(%S[^\n]-)  +([^\n]+)" do found[name] = value end
    return found
  end

  it("begins with what -v says", function()
    local first = run({ "-v" }).out
    assert.equal(first, run({}).out:sub(1, #first))
  end)

  it("names the commit, Lua and oneDNN", function()
    local versions = cld.versions()
    assert.matches(("^cldlua %s %%(%s%%) on %s, oneDNN %%d"):format(versions.cldlua:gsub("%p", "%%%0"),
      versions.commit:gsub("%p", "%%%0"), versions.lua), run({}).out)
  end)

  it("has a line for each part, whether it is there or not", function()
    local found = rows(run({}).out)
    for _, name in ipairs {
      "compiler", "kernels", "images", "jansson", "libedit", "libcurl", "libarchive", "protobuf-c", "MPI", "CUDA",
      "Lua files", "recipes",
    } do
      assert.matches("%S", found[name] or "", name)
    end
    assert.matches("libjpeg%-turbo %d.*libpng %d", found.images)
    assert.matches("^gcc %d", found.compiler)
  end)

  it("tells of optional libraries what the build found", function()
    local built, found = cld.built_with(), rows(run({}).out)
    for name, row in pairs { libedit = "libedit", libcurl = "libcurl", libarchive = "libarchive",
      protobuf_c = "protobuf-c" } do
      if built[name] then
        assert.equal(built[name], found[row]:match "^[%w.]+")
      else
        assert.matches("^no: ", found[row])
      end
    end
  end)

  it("says that a library which the environment names is not there", function()
    local found = rows(run({ env = { CLD_CUDA_PLUGIN = "/nowhere/a.so", CLD_MPI_PLUGIN = "/nowhere/b.so" } }).out)
    assert.equal("no: there is no /nowhere/a.so", found.CUDA)
    assert.equal("no: there is no /nowhere/b.so", found.MPI)
  end)

  it("prints a path with control characters as text", function()
    local found = rows(run({ env = { CLD_CUDA_PLUGIN = "/nowhere/a\27[31m.so" } }).out)
    assert.is_nil(found.CUDA:find("\27", 1, true))
  end)

  it("loads neither CUDA nor MPI", function()
    local result = run { "-e", [[
      assert(#require "cld.version" () > 8)
      for line in io.lines "/proc/self/maps" do
        if line:find "libcld_" or line:find "libmpi" or line:find "libcuda" then print(line) end
      end]] }
    assert.equal("", result.err)
    assert.equal("", result.out)
  end)

  it("runs nothing from standard input", function()
    assert.is_nil(run({ "--version", stdin = "print 'run'" }).out:find("run\n", 1, true))
  end)
end)

describe("cld.built_with()", function()
  it("has a text or nothing for each part", function()
    for name, value in pairs(cld.built_with()) do assert.matches("%S", value, name) end
  end)
end)
