--- Data sets fetched from a server that misbehaves (spec/support/server.c). Nothing here leaves the machine.
local cld = require "cld"
local check = require "spec.support.check"
local cifar = require "cld.cifar_writer"
local process = require "spec.support.process"
local download = require "cld.data.download"

local archive_name = "set.tar.gz"

local function shell(format, ...)
  local pipe = assert(io.popen(format:format(...)))
  local text = pipe:read "a"
  assert(pipe:close(), text)
  return text
end

local function md5(path) return shell("md5sum '%s'", path):match "^%x+" end
local function exists(path) return cld.io.exists(path) end

-- Bytes that gzip does not make fewer.
local function noise(count)
  local words, x = {}, 12345
  for i = 1, count // 4 do
    x = (x * 1103515245 + 12345) & 0x7fffffff
    words[i] = string.pack("<I4", x * 2654435761 & 0xffffffff)
  end
  return table.concat(words)
end

describe("a data set that is fetched", function()
  local site, server, port, root, base, entry -- of all: the server's folder and its archive; of each: the data folder

  setup(function()
    site = process.temporary_folder()
    shell("mkdir '%s/files'", site)
    process.write(site .. "/files/a.bin", noise(300000))
    process.write(site .. "/files/b.txt", "two\n")
    shell("cd '%s' && tar czf %s files", site, archive_name)
    base = {
      title = "TEST", address = "http://127.0.0.1:1/" .. archive_name, md5 = md5(site .. "/" .. archive_name),
      bytes = #process.read(site .. "/" .. archive_name), folder = "files",
      files = { { "a.bin", md5 = md5(site .. "/files/a.bin"), bytes = 300000 }, { "b.txt" } },
    }
    server = assert(io.popen(("exec '%s/spec/server' '%s'"):format(process.build, site)))
    port = server:read "n"
  end)
  teardown(function()
    server:close()
    process.remove(site)
  end)
  before_each(function()
    root = process.temporary_folder()
    entry = setmetatable({}, { __index = base })
    os.remove(site .. "/requests")
  end)
  after_each(function() process.remove(root) end)

  local function url(mode) return ("http://127.0.0.1:%d/%s"):format(port, mode) end
  local function path(suffix) return ("%s/%s%s"):format(root, archive_name, suffix or "") end
  local function requests() return exists(site .. "/requests") and process.read(site .. "/requests") or "" end

  local function get(mode, settings)
    local all = { entry = entry, root = root, mirror = url(mode), quiet = true, stall = 1, retries = 0 }
    for name, value in pairs(settings or {}) do all[name] = value end
    return cld.data.download(all)
  end

  local function is_complete(folder)
    assert.equal(root .. "/files", folder)
    assert.equal(base.files[1].md5, md5(folder .. "/a.bin"))
    assert.same({ "files" }, cld.io.list(root))
    assert.same({ "a.bin", "b.txt" }, cld.io.list(folder))
  end

  -- The message, which names the address and what to do; nothing is left but `left`.
  local function fails(mode, pattern, left, settings)
    local message = check.fails(function() get(mode, settings) end, pattern)
    message = tostring(message)
    assert.truthy(message:find(url(mode), 1, true), message)
    assert.truthy(message:find("--mirror URL), or put the file at '" .. path() .. "' yourself", 1, true), message)
    assert.same(left or {}, cld.io.list(root))
    return message
  end

  -- ---- when all is well ---------------------------------------------------------

  it("is unpacked, and nothing else is left", function() is_complete(get "ok") end)
  it("comes from the address of the set", function()
    entry.address = url "ok" .. "/" .. archive_name
    is_complete(cld.data.download { entry = entry, root = root, quiet = true })
  end)
  it("comes from a mirror's folder, with or without a slash, or from the archive's own address", function()
    local own = url("ok/" .. archive_name)
    for _, mirror in ipairs { url "ok", url "ok/", own, own .. "?key=1" } do
      is_complete(get("ok", { mirror = mirror }))
      shell("rm -r '%s/files'", root)
    end
  end)
  it("goes into a folder that is made", function()
    assert.equal(root .. "/new/data/files", get("ok", { root = root .. "/new/data" }))
  end)
  it("is not fetched again", function()
    get "ok"
    os.remove(site .. "/requests")
    is_complete(get "404")
    assert.equal("", requests())
  end)
  it("is found in every place where the readers look", function()
    get "ok"
    for _, place in ipairs { "TEST/files", "TEST", "." } do
      shell("cd '%s' && mkdir new && mkdir -p new/%s && cp files/* new/%s/", root, place, place)
      local folder = get("404", { root = root .. "/new" })
      assert.truthy(exists(folder .. "/a.bin"))
      shell("rm -r '%s/new'", root)
    end
  end)
  it("keeps the archive when told to, and unpacks it later", function()
    get("ok", { keep = true })
    assert.same({ "files", archive_name }, cld.io.list(root))
    shell("rm -r '%s/files'", root)
    os.remove(site .. "/requests")
    get "404"
    assert.equal("", requests())
    assert.same({ "files", archive_name }, cld.io.list(root))
  end)
  it("gets the files that its folder lacks", function()
    get "ok"
    os.remove(root .. "/files/a.bin")
    process.write(root .. "/files/notes", "mine")
    get "ok"
    assert.equal(base.files[1].md5, md5(root .. "/files/a.bin"))
    assert.equal("mine", process.read(root .. "/files/notes"))
  end)
  it("needs neither md5 nor length", function()
    entry = { title = "TEST", address = base.address, folder = "files", files = { { "a.bin" } } }
    for _, mode in ipairs { "ok", "nolength" } do
      is_complete(get(mode))
      shell("rm -r '%s/files'", root)
    end
  end)
  it("follows redirects", function()
    for _, mode in ipairs { "301", "302" } do
      is_complete(get(mode))
      shell("rm -r '%s/files'", root)
    end
  end)
  it("comes without a Content-Length", function() is_complete(get "nolength") end)
  it("comes slowly", function() is_complete(get "slow") end)

  -- ---- breaks -------------------------------------------------------------------

  for _, mode in ipairs { "break", "cut", "stall" } do
    it("that stops half-way (" .. mode .. ") is kept and continued", function()
      local reason = mode == "stall" and "no data arrived for 1 s" or "the connection was lost after %d+ bytes"
      local message = fails(mode, reason, { archive_name .. ".part" })
      local half = #process.read(path ".part")
      assert.equal(base.bytes // 2, half)
      assert.truthy(message:find("MB are kept in '" .. path ".part" .. "', and the next try", 1, true), message)
      is_complete(get "ok")
      assert.equal(("/%s/%s 0\n/ok/%s %d\n"):format(mode, archive_name, archive_name, half), requests())
    end)
  end
  it("is continued at once as long as something comes", function()
    fails("break", "was lost", { archive_name .. ".part" }, { retries = 3 })
    local _, count = requests():gsub("\n", "")
    assert.equal(4, count)
    assert.truthy(#process.read(path ".part") > base.bytes * 0.93)
    is_complete(get "ok")
  end)
  it("begins anew where the server does not know ranges", function()
    process.write(path ".part", ("x"):rep(1000))
    is_complete(get "norange")
  end)
  it("begins anew where a range is another", function()
    process.write(path ".part", process.read(site .. "/" .. archive_name):sub(1, 1000))
    is_complete(get "badrange")
    assert.equal(("/badrange/%s 1000\n/badrange/%s 0\n"):format(archive_name, archive_name), requests())
  end)
  it("begins anew after a .part that is too long", function()
    process.write(path ".part", ("x"):rep(base.bytes + 1))
    is_complete(get "ok")
    assert.equal(("/ok/%s 0\n"):format(archive_name), requests())
  end)
  it("begins anew after a .part of something else", function()
    process.write(path ".part", ("x"):rep(1000))
    is_complete(get "ok")
    assert.equal(("/ok/%s 1000\n/ok/%s 0\n"):format(archive_name, archive_name), requests())
  end)
  it("asks for nothing where the .part is complete", function()
    process.write(path ".part", process.read(site .. "/" .. archive_name))
    is_complete(get "404")
    assert.equal("", requests())
  end)
  it("begins anew where the server's file is shorter than the .part and no length is known", function()
    entry = { title = "TEST", address = base.address, folder = "files", files = { { "a.bin" } } }
    process.write(path ".part", ("x"):rep(base.bytes + 1000))
    is_complete(get "ok")
  end)

  -- ---- wrong answers ------------------------------------------------------------

  it("is one clear error where the server does not give it", function()
    fails("404", "the server has no such file %(404%)")
    fails("403", "the server denies access to it %(403%)")
    fails("500", "the server reports an error of its own %(500%)")
    fails("418", "the server answered with status 418")
    fails("close", "the server closed the connection without an answer")
    fails("reset", "cannot fetch")
    fails("mute", "no data arrived for 1 s")
  end)
  it("is one clear error after endless redirects, and to another protocol", function()
    fails("loop", "the server redirects more than 10 times")
    fails("away", 'Protocol "ftp" not supported')
  end)
  it("is one clear error where the length is another", function()
    fails("long", ("another file: %d bytes long, expected %d"):format(base.bytes + 100, base.bytes))
    fails("short", ("another file: %d bytes long, expected %d"):format(base.bytes - 100, base.bytes))
    fails("endless", ("another file: longer than %d bytes"):format(base.bytes))
  end)
  it("keeps what it has where a range is of another file", function()
    process.write(path ".part", process.read(site .. "/" .. archive_name):sub(1, 1000))
    fails("longrange", ("another file: %d bytes long"):format(base.bytes + 100), { archive_name .. ".part" })
    assert.equal(1000, #process.read(path ".part"))
  end)
  it("is one clear error where the server sends a web page", function()
    fails("page", "the server sent a web page, not the file")
  end)
  it("is one clear error where it is another file, which is removed", function()
    fails("other", "not the published file, and was removed: its md5 is %x+, expected " .. base.md5)
  end)
  it("is one clear error where nobody listens", function()
    check.fails(function() get("ok", { mirror = "http://127.0.0.1:1/" }) end, "TEST: cannot fetch 'http://127.0.0.1:1/"
      .. archive_name .. "': .*onnect.*--mirror URL")
    assert.same({}, cld.io.list(root))
  end)
  it("is one clear error where there is no such machine", function()
    check.fails(function() get("ok", { mirror = "http://no.such.machine.invalid/" }) end,
      "Could not resolve .*no.such.machine.invalid")
  end)
  it("is one clear error where https answers in plain text", function()
    check.fails(function() get("ok", { mirror = url("ok"):gsub("http", "https") }) end, "cannot fetch 'https:.*SSL")
  end)
  it("does not show the password of an address", function()
    local message = tostring(check.fails(function()
      get("404", { mirror = url("404"):gsub("//", "//me:secret@") })
    end, "404"))
    assert.falsy(message:find "secret")
  end)
  it("refuses other protocols", function()
    for _, mirror in ipairs { "file:///tmp/", "ftp://127.0.0.1/", "127.0.0.1/x", "http://" } do
      check.fails(function() get("ok", { mirror = mirror }) end, "does not begin with http:// or https://")
    end
  end)

  -- ---- the data folder ----------------------------------------------------------

  it("unpacks an archive that a person has put there, and leaves it", function()
    process.write(path(), process.read(site .. "/" .. archive_name))
    assert.equal(root .. "/files", get "404")
    assert.equal("", requests())
    assert.same({ "files", archive_name }, cld.io.list(root))
  end)
  it("refuses an archive that a person has put there and is another", function()
    process.write(path(), ("x"):rep(base.bytes))
    check.fails(function() get "ok" end, "set.tar.gz' is not the published file: its md5 is %x+, expected")
    process.write(path(), "x")
    check.fails(function() get "ok" end, ("it is 1 bytes long, expected %d"):format(base.bytes))
    assert.equal("x", process.read(path()))
  end)
  it("does not touch a folder with other files of the same names", function()
    shell("mkdir '%s/files'", root)
    process.write(root .. "/files/a.bin", "mine")
    check.fails(function() get "ok" end,
      "a.bin' is not the published file: it is 4 bytes long, .*leave out %-%-download")
    process.write(root .. "/files/a.bin", ("x"):rep(300000))
    check.fails(function() get "ok" end, "a.bin' is not the published file: its md5 is")
    assert.equal("", requests())
    assert.same({ "files" }, cld.io.list(root))
  end)
  it("is one clear error where the root is a file", function()
    process.write(root .. "/file", "")
    check.fails(function() get("ok", { root = root .. "/file" }) end, "cannot make the folder '.*/file'")
  end)
  it("is one clear error where a folder or a pipe is in the way", function()
    shell("mkdir '%s'", path ".part")
    check.fails(function() get "ok" end, "cannot write '.*%.part': Is a directory")
    shell("rmdir '%s' && mkfifo '%s'", path ".part", path ".part")
    check.fails(function() get "ok" end, "cannot write '.*%.part': it is not a regular file")
    shell("rm '%s' && mkdir '%s'", path ".part", path())
    check.fails(function() get "ok" end, "set.tar.gz' is not the published file: it is not a file")
  end)
  it("waits for nobody who fetches the same", function()
    local held <close> = cld.io.claim(path ".unpack")
    check.fails(function() get "ok" end, "TEST: another process is fetching it")
    assert.truthy(held)
  end)
  it("clears away what a killed process has left", function()
    shell("mkdir -p '%s/files' && echo 1 > '%s/files/a.bin'", path ".unpack", path ".unpack")
    is_complete(get "ok")
  end)
  it("says so where the disk is full, and keeps the part", function()
    local code = ([[cld = require "cld"; cld.data.download { root = "%s", quiet = true, entry = { title = "T",
      address = "%s/%s", folder = "files", files = { { "a.bin" } } } }]]):format(root, url "ok", archive_name)
    local result = process.run { program = "/bin/bash", "-c", "ulimit -f 100; exec " .. process.cldlua .. " -e '"
      .. code .. "'" }
    assert.truthy(result.err:find "cannot write '.*set.tar.gz.part': File too large\n", result.err)
    assert.equal(1, result.code)
    assert.equal(102400, #process.read(path ".part"))
  end)

  -- ---- archives -----------------------------------------------------------------

  -- Of an archive that `commands` make in a folder of their own, from the folder `files` with a file in it.
  local function unpack(commands)
    shell("mkdir -p '%s/make/files' && cd '%s/make' && echo 1 > files/a.bin && %s", root, root, commands)
    process.write(path(), process.read(root .. "/make/x.tar"))
    shell("rm -r '%s/make'", root)
    return get("404", { entry = { title = "TEST", address = base.address, folder = "files", files = { { "a.bin" } } } })
  end
  local function refuses(commands, pattern)
    check.fails(function() unpack(commands) end, pattern)
    assert.same({ archive_name }, cld.io.list(root))
  end

  it("may be a plain tar with ./ before its names", function()
    assert.equal("1\n", process.read(unpack "tar cf x.tar ./files" .. "/a.bin"))
  end)
  it("may have sparse files and long names", function()
    local long = ("n"):rep(150)
    unpack(("truncate -s 100000 files/s && echo 2 >> files/s && truncate -s 200000 files/s && echo 3 > files/%s && "
      .. "tar cSf x.tar files"):format(long))
    local sparse = process.read(root .. "/files/s")
    assert.equal(("\0"):rep(100000) .. "2\n" .. ("\0"):rep(99998), sparse)
    assert.equal("3\n", process.read(root .. "/files/" .. long))
  end)
  it("does not leave its folder", function()
    refuses("echo 2 > ../up; tar cPf x.tar files ../up; rm ../up", "its member '%.%./up' leads out of its folder")
    refuses("tar cf x.tar files --transform='s,a.bin,../../../up,'", "leads out of its folder")
    refuses("tar cPf x.tar files --transform='s,files/a.bin,/tmp/cld-spec-absolute,'", "has an absolute path")
    assert.falsy(exists "/tmp/cld-spec-absolute")
  end)
  it("has no links and devices", function()
    refuses("ln -s /tmp files/l && tar cf x.tar files", "its member 'files/l' is a link; links are not unpacked")
    refuses("ln files/a.bin files/l && tar cf x.tar files", "is a link")
    refuses("mkfifo files/p && tar cf x.tar files", "its member 'files/p' is a device, a pipe or a socket")
  end)
  it("has no file twice", function()
    refuses("cp -r files more && tar cf x.tar files more --transform=s,more,files,",
      "its member 'files/a.bin' occurs twice")
  end)
  it("has no control characters in a message", function()
    refuses([[ln -s /tmp "$(printf 'files/\033[2J')" && tar cf x.tar files]], "its member 'files/\\x1b%[2J' is a link")
  end)
  it("is one clear error where it is damaged, empty or another", function()
    refuses("head -c 100000 /dev/urandom > files/b && tar cf y files && head -c 60000 y > x.tar", "cannot unpack '.*'")
    refuses("head -c 100000 /dev/urandom > files/b && tar czf y files && head -c 60000 y > x.tar", "cannot unpack '.*'")
    refuses("head -c 5000 /dev/zero > x.tar", "cannot unpack '.*'")
    refuses(": > x.tar", "cannot unpack '.*'")
    refuses("echo this is no archive > x.tar", "cannot unpack '.*': Unrecognized archive format")
    refuses("mkdir d && tar cf x.tar d", "cannot unpack '.*': it holds no files")
    refuses("mv files other && tar cf x.tar other", "is not the published archive: it holds no 'files/a.bin'")
  end)

  -- ---- for people ---------------------------------------------------------------

  -- A program that fetches the set with what is printed.
  local function script(mode)
    return process.write(root .. "/fetch.lua", ([[
      local cld = require "cld"
      cld.data.download { root = "%s", mirror = "%s", every = 0.2, entry = { title = "TEST", address = "%s",
        md5 = "%s", bytes = %d, folder = "files", files = { { "a.bin" } } } }
      print "done" ]]):format(root, url(mode), base.address, base.md5, base.bytes))
  end

  it("is a line now and then where there is no terminal", function()
    local result = process.run { script "slow" }
    assert.equal("", result.err)
    local first = ("fetching %s/%s (0.3 MB) into %s\n"):format(url "slow", archive_name, root)
    assert.equal(first, result.out:sub(1, #first))
    assert.truthy(result.out:find "\nfetching set.tar.gz  +%d+ %%  0%.%d of 0%.3 MB  %d+%.%d MB/s  0:0%d\n", result.out)
    assert.truthy(result.out:find "\ndone\n$")
    assert.falsy(result.out:find "\27")
  end)
  it("is a bar on a terminal, which goes away", function()
    local result = process.terminal { script "slow", script = {} }
    assert.truthy(result.out:find "\r\27%[Kfetching set.tar.gz %[#+%-+%]  +%d+ %%  0%.%d of 0%.3 MB", result.out)
    assert.truthy(result.out:find "\r\27%[Kdone\r\n$", result.out)
  end)
  it("stops within a second after Ctrl-C, and says what is kept", function()
    local start = cld.clock()
    local result = process.terminal { script "stall", script = { { "wait", "%  0." }, { "send", "\3" } } }
    assert.equal(130, result.code)
    assert.truthy(cld.clock() - start < 5)
    assert.truthy(result.plain:find "TEST: stopped %(SIGINT%); 0%.%d MB are kept in '.*%.part', and the next try")
    assert.same({ "fetch.lua", archive_name .. ".part" }, cld.io.list(root))
  end)
  it("goes through a proxy where the environment says so", function()
    local code = ([[require "cld".data.download { root = "%s", quiet = true, entry = { title = "T",
      address = "http://far.away.invalid/ok/%s", folder = "files", files = { { "a.bin" } } } }]])
    local result = process.run {
      "-e", code:format(root, archive_name), env = { http_proxy = "http://127.0.0.1:" .. port },
      unset = { "no_proxy", "NO_PROXY" },
    }
    assert.equal("", result.err)
    assert.same({ "files" }, cld.io.list(root))
  end)

  -- ---- the sets ------------------------------------------------------------------

  describe("by name", function()
    local sets, copy = download.sets, nil
    local image = ("\1"):rep(3072)
    before_each(function()
      local batch = { labels = { 0, 1 }, images = { image, image } }
      local train = { labels = { 0, 1, 2, 3, 4 }, images = { image, image, image, image, image } }
      cifar.cifar10(site, "python", train, batch, { "a", "b", "c", "d", "e", "f", "g", "h", "i", "j" })
      shell("cd '%s' && tar czf cifar-10-python.tar.gz cifar-10-batches-py", site)
      copy = { title = sets.cifar10.title, {} }
      for key, value in pairs(sets.cifar10[1]) do copy[1][key] = value end
      copy[1].md5 = md5(site .. "/cifar-10-python.tar.gz")
      copy[1].bytes = #process.read(site .. "/cifar-10-python.tar.gz")
      copy[1].files = { { "test_batch" }, { "batches.meta" }, { "data_batch_1" } }
      download.sets = setmetatable({ cifar10 = copy }, { __index = sets })
    end)
    after_each(function() download.sets = sets end)

    it("is fetched by the reader, when told to", function()
      local printed = process.run { "-e", ([=[
        local cld, set = require "cld", require "cld.data.download".sets.cifar10[1]
        set.md5, set.bytes, set.files = "%s", %d, { { "test_batch" } }
        for _, mirror in ipairs { "%s", "%s" } do
          print(cld.data.cifar10 { root = "%s/d", split = "test", download = true, mirror = mirror })
        end]=]):format(copy[1].md5, copy[1].bytes, url "ok", url "404", root) }
      assert.equal("", printed.err)
      local _, count = printed.out:gsub("\ncifar10 test: 2 images of 32 x 32, 10 classes", "")
      assert.equal(2, count)
    end)
    it("is not fetched by the reader otherwise", function()
      check.fails(function() cld.data.cifar10 { root = root } end,
        "or let %-%-download %(recipes/download.lua cifar10%) do it")
    end)
    it("is fetched in another spelling, too", function()
      assert.equal(root .. "/cifar-10-batches-py",
        cld.data.download { name = "CIFAR-10", root = root, mirror = url "ok", quiet = true })
    end)
  end)

  it("has a known address, md5 and length, whichever it is", function()
    local count = 0
    for name, set in pairs(download.sets) do
      for _, layout in ipairs(set) do
        count = count + 1
        assert.truthy(layout.address:find "^https?://.*%.tar%.gz$", name)
        assert.truthy(layout.md5:find "^%x+$" and #layout.md5 == 32, name)
        assert.truthy(layout.bytes > 1e8, name)
        for _, file in ipairs(layout.files) do assert.truthy(not file.md5 or #file.md5 == 32, file[1]) end
      end
    end
    assert.equal(5, count)
  end)
  it("is a user's mistake under another name", function()
    check.fails(function() cld.data.download { name = "cifar11", root = root } end,
      "no address for the data set 'cifar11'; known data sets: cifar10, cifar100, stl10; did you mean 'cifar10'")
    check.fails(function() cld.data.download { name = "stl10", layout = "python" } end,
      "STL%-10: there is no layout 'python'; known layouts: binary")
    check.fails(function() cld.data.download {} end, "name must be one of cifar10, cifar100, stl10, got nil")
    check.fails(function() cld.data.download { name = "stl10", rooot = "x" } end, "root")
    check.fails(function() cld.data.download { name = "stl10", stall = "x" } end, "stall must be a number, got 'x'")
  end)
  it("is asked for on the command line", function()
    local function run(...) return process.run { "recipes/download.lua", ... } end
    assert.truthy(run().err:find "which data set%? download.lua NAME")
    assert.truthy(run("cifar11").err:find "no address for the data set 'cifar11'")
    local result = run("--root", root, "stl10", "--mirror", url "404")
    local start = ("cldlua: STL-10: cannot fetch '%s/stl10_binary.tar.gz': the server has no such"):format(url "404")
    assert.equal(start, result.err:sub(1, #start))
    assert.equal(1, result.code)
    assert.same({}, cld.io.list(root))
  end)
end)

describe("md5", function()
  it("is RFC 1321's of its test suite", function()
    local folder = process.temporary_folder()
    for text, sum in pairs {
      [""] = "d41d8cd98f00b204e9800998ecf8427e", a = "0cc175b9c0f1b6a831c399e269772661",
      abc = "900150983cd24fb0d6963f7d28e17f72", ["message digest"] = "f96b697d7cb7938d525a2f31aaf161d0",
      abcdefghijklmnopqrstuvwxyz = "c3fcd3d76192e4007dfb496cca67e13b",
      ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 = "d174ab98d277d9f5a5611c2c9f419d9f",
      [("1234567890"):rep(8)] = "57edf4a22be3c955ac49da2e2107b67a",
    } do
      local job = cld.download.checksum(process.write(folder .. "/x", text))
      local state, bytes, found = job:step(1)
      assert.same({ "complete", #text, sum }, { state, bytes, found })
      job:close()
    end
    process.remove(folder)
  end)
  it("is md5sum's at every length around its blocks", function()
    local folder = process.temporary_folder()
    local text = noise(1000)
    for bytes = 0, 200 do process.write(("%s/%03d"):format(folder, bytes), text:sub(1, bytes)) end
    process.write(folder .. "/999", noise(600000))
    for line in shell("cd '%s' && md5sum *", folder):gmatch "[^\n]+" do
      local sum, name = line:match "^(%x+) +(%d+)$"
      local job <close> = cld.download.checksum(folder .. "/" .. name)
      local _, _, found = job:step(10)
      assert.equal(sum, found, name)
    end
    process.remove(folder)
  end)
end)
