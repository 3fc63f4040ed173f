--- Folders, whole files, locks.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"

describe("files and folders", function()
  local folder
  before_each(function() folder = process.temporary_folder() end)
  after_each(function() process.remove(folder) end)

  local function sh(command, ...) assert(os.execute("cd " .. folder .. " && " .. command:format(...)), command) end

  -- What a command prints, without the line's end.
  local function output(command, ...)
    local pipe = assert(io.popen("cd " .. folder .. " && " .. command:format(...)))
    local text = pipe:read "a"
    pipe:close()
    return (text:gsub("\n$", ""))
  end

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
    sh "ln -s none link" -- it is there, and what it names is not
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

  for name, writer in pairs {
    ["cld.save"] = {
      function(path, number) cld.save(path, { a = cld.tensor { number } }) end,
      function(path) return cld.load(path).a:totable()[1] end,
    },
    save_npy = {
      function(path, number) cld.io.save_npy(path, cld.tensor { number }) end,
      function(path) return cld.io.load_npy(path):totable()[1] end,
    },
    write_atomic = {
      function(path, number) cld.io.write_atomic(path, tostring(number)) end,
      function(path) return tonumber(process.read(path)) end,
    },
  } do
    local save, load = table.unpack(writer)

    describe(name, function()
      local file
      before_each(function() file = folder .. "/file" end)

      it("leaves nothing beside the file", function()
        for i = 1, 3 do save(file, i) end
        assert.equal(3, load(file))
        assert.same({ "file" }, cld.io.list(folder))
      end)

      it("writes through no link that was planted at a temporary's name", function()
        process.write(folder .. "/victim", "precious")
        local pid = cld.host().pid
        sh("for n in file.%d.tmp file.tmp .file.tmp; do ln -s victim $n; done", pid)
        save(file, 1)
        assert.equal("precious", process.read(folder .. "/victim"))
        assert.equal(1, load(file))
      end)

      for _, mode in ipairs { "600", "640", "664", "444", "755" } do
        it("keeps the mode " .. mode, function()
          save(file, 1)
          sh("chmod %s file", mode)
          save(file, 2)
          assert.same({ 2, mode }, { load(file), output "stat -c %%a file" })
        end)
      end

      it("gives a new file the mode that the umask leaves", function()
        save(file, 1)
        assert.equal(output "touch other && stat -c %%a other", output "stat -c %%a file")
      end)

      it("keeps owner and group where the system allows it", function()
        if output "id -u" ~= "0" then return pending "only root may give files away" end
        save(file, 1)
        sh "chown 1234:4321 file && chmod 660 file"
        save(file, 2)
        assert.equal("1234:4321 660", output "stat -c '%%u:%%g %%a' file")
      end)

      it("writes what a symbolic link names, and keeps the link", function()
        sh "mkdir -p far/away && ln -s far/away/target file"
        save(folder .. "/far/away/target", 1)
        sh "chmod 600 far/away/target"
        save(file, 2)
        assert.equal(2, load(folder .. "/far/away/target"))
        assert.equal("far/away/target 600", output "echo $(readlink file) $(stat -c %%a far/away/target)")
        assert.same({ "target" }, cld.io.list(folder .. "/far/away"))
      end)

      it("follows links to links, relative and absolute, through linked folders", function()
        sh "mkdir -p a b && ln -s ../b/second a/first && ln -s $PWD/c/third b/second && ln -s a c && ln -s a/first file"
        save(file, 1)
        assert.equal(1, load(folder .. "/a/third"))
        assert.equal("a/first ../b/second", output "echo $(readlink file) $(readlink a/first)")
      end)

      it("makes what a dangling link names", function()
        sh "mkdir far && ln -s far/none file"
        save(file, 1)
        assert.equal(1, load(folder .. "/far/none"))
        assert.equal("far/none", output "readlink file")
      end)

      it("says where a link leads that cannot be followed", function()
        sh "ln -s no/such/target file && ln -s loop loop && ln -s /dev/null null && mkdir f && ln -s f folder"
        local function fails(link, pattern) check.fails(function() save(folder .. "/" .. link, 1) end, pattern) end
        fails("file", "cannot write '.*/file', a symbolic link to 'no/such/target': No such file or directory")
        fails("loop", "cannot write '.*/loop': Too many levels of symbolic links")
        fails("null", "cannot write '.*/null': it is not a regular file")
        fails("folder", "cannot write '.*/folder': it is not a regular file")
        assert.same({ "f", "file", "folder", "loop", "null" }, cld.io.list(folder))
      end)

      it("refuses what is no file's name", function()
        for _, path in ipairs { "", "/", ".", "..", "new/", "/dev/null", "new/." } do
          check.fails(function() save(path == "new/" and folder .. "/new/" or path, 1) end, "cannot write '")
        end
        assert.same({}, cld.io.list(folder))
      end)

      it("takes the longest name that a file may have", function()
        local longest = ("x"):rep(255)
        save(folder .. "/" .. longest, 1)
        assert.same({ longest }, cld.io.list(folder))
        check.fails(function() save(folder .. "/" .. longest .. "x", 1) end, "File name too long")
      end)
    end)
  end

  it("are written to by several at once, each whole", function()
    local script = process.write(folder .. "/write.lua", [[
      local cld = require "cld"
      for i = 1, 100 do cld.save(arg[1], { a = cld.full({ 5000 }, tonumber(arg[2])) }) end]])
    cld.io.mkdir(folder .. "/to")
    local path = folder .. "/to/file"
    cld.save(path, { a = cld.full({ 5000 }, 0) })
    local writers = {}
    for i = 1, 3 do
      writers[i] = assert(io.popen(("%s %s %s %d 2>&1"):format(process.cldlua, script, path, i)))
    end
    for _ = 1, 200 do
      local values = cld.load(path).a
      assert.equal(values:min():item(), values:max():item())
    end
    for _, writer in ipairs(writers) do
      assert.equal("", writer:read "a")
      assert.is_true(writer:close())
    end
    assert.same({ "file" }, cld.io.list(folder .. "/to"))
  end)

  it("are written in the folder of what a link names", function()
    sh "mkdir far && ln -s far/target link"
    local result = process.run { "-e", "require 'cld'.io.write_atomic('link', 'x')", directory = folder,
      program = process.absolute(process.cldlua), env = process.failing_files { BEFORE_RENAME = "ls far > seen" } }
    assert.same({ 0, "" }, { result.code, result.err })
    assert.matches("^target%.%x+%.tmp\n$", process.read(folder .. "/seen"))
    assert.equal("x", process.read(folder .. "/far/target"))
  end)

  it("are seen by nobody before they are whole who may not see the old one", function()
    sh "touch secret && chmod 600 secret"
    local result = process.run { "-e", "require 'cld'.io.write_atomic('secret', 'x')", directory = folder,
      program = process.absolute(process.cldlua),
      env = process.failing_files { BEFORE_RENAME = "stat -c %a secret.*.tmp > seen" } }
    assert.same({ 0, "" }, { result.code, result.err })
    assert.equal("600\n", process.read(folder .. "/seen"))
  end)

  it("that are in place are no failure when their folder cannot be flushed, which is told once", function()
    process.write(folder .. "/file", "old")
    local result = process.run { "-e", [[
      local io_ = require "cld".io
      io_.write_atomic("file", "new")
      io_.write_atomic("other", "new")]], directory = folder, program = process.absolute(process.cldlua),
      env = process.failing_files { FAIL_FOLDER_FSYNC = "5" } }
    assert.same({ 0, "" }, { result.code, result.out })
    assert.equal("cldlua: warning: 'file' is written and in place, but its folder cannot be flushed to the disk"
      .. " (Input/output error): a power cut may bring back what was there before\n", result.err)
    assert.same({ "new", "new" }, { process.read(folder .. "/file"), process.read(folder .. "/other") })
  end)

  it("are written where folders cannot be flushed at all, without a word", function()
    local result = process.run { "-e", "require 'cld'.io.write_atomic('file', 'x')", directory = folder,
      program = process.absolute(process.cldlua), env = process.failing_files { FAIL_FOLDER_FSYNC = "22" } }
    assert.same({ 0, "", "x" }, { result.code, result.err, process.read(folder .. "/file") })
  end)
end)
