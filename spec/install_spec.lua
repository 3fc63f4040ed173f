--- make install and make uninstall, into a folder of their own.
local cld = require "cld"
local process = require "spec.support.process"

describe("make install", function()
  local folder, prefix
  local unset = { "LUA_INIT", "LUA_INIT_5_4", "LUA_PATH", "LUA_CPATH" }

  local function make(target, place, more)
    local text = "make -s -o all -o docs %s BUILD='%s' %s 2>&1"
    local pipe = io.popen(text:format(target, process.build, place) .. (more or ""))
    local said = pipe:read "a"
    assert(pipe:close(), said)
  end

  local function output(command)
    local pipe = io.popen(command)
    local text = pipe:read "a"
    pipe:close()
    return (text:gsub("\n$", ""))
  end

  lazy_setup(function()
    folder = process.temporary_folder()
    prefix = folder .. "/root/opt/our cld" -- a folder's name may have a space
    make("install", ("PREFIX='/opt/our cld' DESTDIR='%s/root'"):format(folder))
  end)
  lazy_teardown(function() process.remove(folder) end)

  local function installed(options)
    options.program, options.unset, options.directory = prefix .. "/bin/cldlua", unset, "/"
    return process.run(options)
  end

  it("has an interpreter that runs from anywhere", function()
    local result = installed { "-e", "print(require 'cld'.ones(2, 3):sum():item())" }
    assert.equal("", result.err)
    assert.equal("6.0\n", result.out)
  end)

  it("has an interpreter that knows where its parts lie", function()
    local out = installed({ "--version" }).out
    for _, place in ipairs { "share/lua/5.4/cld", "share/cldlua/recipes" } do
      assert.is_truthy(out:find(prefix .. "/" .. place .. "\n", 1, true), out)
    end
  end)

  it("has the recipes, which run", function()
    local result = installed { prefix .. "/share/cldlua/recipes/folder_npid_cld.lua", "--help" }
    assert.equal("", result.err)
    assert.matches("NPID %+ CLD", result.out)
  end)

  it("tells pkg-config where they are", function()
    local pc = ("PKG_CONFIG_PATH='%s/lib/pkgconfig' pkg-config cldlua "):format(prefix)
    assert.equal("/opt/our cld/share/cldlua/recipes", output(pc .. "--variable=recipesdir"))
    assert.equal("/opt/our cld/lib/lua/5.4", output(pc .. "--variable=cdir"))
    assert.equal(cld.versions().cldlua, output(pc .. "--modversion"))
  end)

  it("tells pkg-config of a folder with a name that sed would take for its own", function()
    make("install", ([[PREFIX='/opt/a&b|c@[1].*' DESTDIR='%s/odd']]):format(folder))
    local pc = ("PKG_CONFIG_PATH='%s/odd/opt/a&b|c@[1].*/lib/pkgconfig' pkg-config cldlua "):format(folder)
    assert.equal("/opt/a&b|c@[1].*/bin", output(pc .. "--variable=bindir"))
    assert.equal("/opt/a&b|c@[1].*", output(pc .. "--variable=prefix"))
    assert.equal("/x/bin", output(pc .. "--define-variable=prefix=/x --variable=bindir"))
  end)

  it("refuses a folder with a quote in its name, in one line", function()
    local text = "env -u MAKEFLAGS make -s -o all -o docs install BUILD='%s'"
      .. [[ PREFIX="/opt/it's" DESTDIR='%s/quote' 2>&1]]
    local said = output(text:format(process.build, folder))
    assert.matches("make install: a folder with a ' in its name is not taken", said)
    assert.is_nil(said:find("\n", 1, true))
    assert.is_nil(cld.io.exists(folder .. "/quote"))
  end)

  it("is found by a stock lua5.4", function()
    local lua = prefix .. "/share/lua/5.4/"
    local result = process.run {
      "-e", "print(require('cld').ones(2, 3):sum():item(), require('cld.nn') == require('cld').nn)",
      program = "lua5.4", directory = "/", unset = unset,
      env = {
        LUA_PATH = lua .. "?.lua;" .. lua .. "?/init.lua;;", LUA_CPATH = prefix .. "/lib/lua/5.4/?.so;;",
        LD_PRELOAD = process.sanitizer(),
      },
    }
    assert.equal("", result.err)
    assert.equal("6.0\ttrue\n", result.out)
  end)

  it("installs what make has written if it is there: Lua files, the man page, the pages of make docs", function()
    local build = folder .. "/build"
    os.execute(("cd '%s' && mkdir -p build/docs/api build/cld build/lua/cld/help"):format(folder))
    for _, file in ipairs {
      "cldlua", "cld/core.so", "cldlua.1", "docs/index.html", "docs/api/nn.html", "lua/cld/help/made.lua",
    } do
      process.write(build .. "/" .. file, "x")
    end
    make("install", ("PREFIX=/usr DESTDIR='%s/docs' BUILD='%s' CUDA_ARCH= MPI=none"):format(folder, build))
    for _, file in ipairs {
      "man/man1/cldlua.1", "doc/cldlua/html/index.html", "doc/cldlua/html/api/nn.html", "lua/5.4/cld/help/made.lua",
    } do
      assert.equal("file", cld.io.exists(("%s/docs/usr/share/%s"):format(folder, file)), file)
    end
  end)

  it("is taken back whole by make uninstall, which leaves what others have put there", function()
    local place, there = ("PREFIX='/usr' DESTDIR='%s/both'"):format(folder), folder .. "/both/usr"
    os.execute(("mkdir -p '%s/share/lua/5.4' '%s/bin'"):format(there, there))
    process.write(there .. "/share/lua/5.4/other.lua", "")
    make("install", place)
    make("uninstall", place)
    assert.equal(there .. "/share/lua/5.4/other.lua", output(("find '%s' -type f"):format(there)))
    local left = output(("find '%s' -type d -empty ! -path '*/share/man' | sort"):format(there))
    assert.equal(("%s/bin\n%s/lib"):format(there, there), left) -- the system's own folders stay, man too
  end)
end)
