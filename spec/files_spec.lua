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

  it("are in use while they are locked", function()
    assert.is_false(cld.io.in_use(folder))
    local _ <close> = cld.io.lock(folder)
    assert.is_true(cld.io.in_use(folder))
  end)

  it("can be locked after a look at whether they are in use", function()
    cld.io.in_use(folder)
    local lock <close> = cld.io.lock(folder)
    assert.is_true(lock:locked())
  end)

  it("are in use or not where there is a folder alone", function()
    process.write(folder .. "/file", "x")
    assert.same({}, { cld.io.in_use(folder .. "/none"), cld.io.in_use(folder .. "/file") })
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

  describe("that are held", function()
    local path, held
    before_each(function()
      path = folder .. "/runs/a"
      held = assert(cld.io.claim(path))
    end)
    after_each(function() held:close() end)

    it("are read and written through the folder", function()
      held:write("text", "some")
      held:save("tensors", { a = cld.tensor { 1 } }, { key = 2 })
      assert.same({ "tensors", "text" }, held:list())
      assert.same({ "some", "file" }, { held:read "text", held:exists "text" })
      assert.is_nil(held:read "none")
      assert.is_nil(held:exists "none")
      local tensors, metadata = cld.load(path .. "/tensors")
      assert.same({ { 1 }, "2" }, { tensors.a:totable(), metadata.key })
    end)

    it("are held by one at a time", function()
      assert.is_nil(cld.io.claim(path))
      assert.is_nil(cld.io.lock(path))
      assert.is_true(held:locked())
    end)

    it("are removed when they are closed, with what the claim has made above them", function()
      held:close()
      assert.same({}, cld.io.list(folder))
    end)

    it("stay when something lies in them", function()
      held:write("text", "some")
      held:close()
      assert.same({ "text" }, cld.io.list(path))
    end)

    it("stay when they were there before the claim", function()
      cld.io.mkdir(folder .. "/b")
      cld.io.claim(folder .. "/b"):close()
      cld.io.lock(folder .. "/b"):close()
      assert.same({ "b", "runs" }, cld.io.list(folder))
    end)

    it("stay with those above them in which others are", function()
      cld.io.mkdir(folder .. "/runs/b")
      held:close()
      assert.same({ "b" }, cld.io.list(folder .. "/runs"))
    end)

    it("are written to where they have been moved", function()
      sh "mv runs elsewhere && mkdir -p runs/a"
      assert.equal(output "realpath elsewhere" .. "/a", held:where())
      held:write("text", "some")
      held:save("tensors", {})
      held:append("lines", "one")
      assert.same({ "lines", "tensors", "text" }, cld.io.list(folder .. "/elsewhere/a"))
      assert.same({}, cld.io.list(path))
      held:close()
      assert.same({}, cld.io.list(path))
    end)

    it("say that they are gone, and write nothing elsewhere", function()
      sh "rm -r runs/a && mkdir runs/a"
      assert.is_nil(held:where())
      for _, call in ipairs { { "write", "x", "some" }, { "save", "x", {} }, { "append", "x", "one" } } do
        check.fails(function() held[call[1]](held, call[2], call[3]) end,
          "cannot write '.*/runs/a/x': the folder was removed or replaced while it was in use")
      end
      held:close()
      assert.same({}, cld.io.list(path))
    end)

    it("must be there to be locked, and be folders", function()
      check.fails(function() cld.io.lock(folder .. "/none") end, "cannot lock the folder '.*/none': No such file")
      process.write(folder .. "/file", "x")
      check.fails(function() cld.io.lock(folder .. "/file") end, "cannot lock the folder '.*/file': Not a directory")
      check.fails(function() cld.io.claim(folder .. "/file") end, "cannot make the folder '.*/file': File exists")
      check.fails(function() cld.io.claim "" end, "cannot make the folder '': No such file")
    end)

    it("are of no use once they are closed", function()
      held:close()
      held:close()
      check.fails(function() held:write("x", "y") end, "the folder is closed")
    end)

    it("have links followed in them, which may dangle", function()
      sh "ln -s ../../b runs/a/text && ln -s no/where runs/a/lost"
      held:write("text", "some")
      assert.equal("some", process.read(folder .. "/b"))
      check.fails(function() held:write("lost", "x") end, "'.*/lost', a symbolic link to 'no/where': No such file")
      check.fails(function() held:append("lost", "x") end, "cannot write '.*/lost': No such file or directory")
    end)

    it("are not waited for at a pipe", function()
      sh "mkfifo runs/a/pipe"
      check.fails(function() held:read "pipe" end, "not a regular file")
      check.fails(function() held:append("pipe", "x") end, "not a regular file")
      check.fails(function() held:write("pipe", "x") end, "not a regular file")
    end)

    it("get lines, each on one of its own even after one that was cut", function()
      held:append("lines", "")
      assert.equal("", held:read "lines")
      held:append("lines", "one")
      held:append("lines", "two")
      assert.equal("one\ntwo\n", held:read "lines")
      held:write("lines", "one\ntw")
      held:append("lines", "three")
      assert.equal("one\ntw\nthree\n", held:read "lines")
    end)

    it("get no line on a full disk, with the reason", function()
      sh "ln -s /dev/full runs/a/lines"
      check.fails(function() held:append("lines", "x") end, "cannot write '.*/lines': No space left on device")
    end)
  end)
end)
