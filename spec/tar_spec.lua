--- Tar archives read in place: what the system's tar writes, archives in archives, damaged and malicious ones; the kept
-- index; archives as data sets.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"

-- A header of ustar's form as text; fields of `f` replace what it would have.
local function header(name, size, f)
  f = f or {}
  local function field(text, length) return (text .. ("\0"):rep(length)):sub(1, length) end
  local head = field(name, 100) .. field("0000644", 8) .. field("0000000", 8) .. field("0000000", 8)
    .. (f.size or ("%011o\0"):format(size)) .. field("00000000000", 12)
  local tail = (f.type or "0") .. field("", 100) .. "ustar\00000" .. field("", 64 + 16 + 155 + 12)
  local sum = 8 * 32
  for _, part in ipairs { head, tail } do
    for i = 1, #part do sum = sum + part:byte(i) end
  end
  return head .. (f.checksum or ("%06o\0 "):format(sum)) .. tail
end
local function padded(data) return data .. ("\0"):rep(-#data % 512) end
local function member(name, data, f) return header(name, #data, f) .. padded(data) end
local finish = ("\0"):rep(1024)
local function record(key, value)
  local text = " " .. key .. "=" .. value .. "\n"
  local length = #text + 1
  while #tostring(length) + #text ~= length do length = length + 1 end
  return length .. text
end

describe("a tar archive", function()
  local root
  before_each(function() root = process.temporary_folder() end)
  after_each(function() process.remove(root) end)

  local function sh(command, ...) assert(os.execute("cd " .. root .. " && " .. command:format(...)), command) end
  local function make(files)
    for name, text in pairs(files) do
      local folder = name:match "^(.*)/[^/]*$"
      if folder then cld.io.mkdir(root .. "/" .. folder) end
      process.write(root .. "/" .. name, text)
    end
  end
  local function archive(text) return process.write(root .. "/x.tar", text) end
  local function fails(pattern) check.fails(function() cld.files.scan_tar(root .. "/x.tar") end, pattern) end
  -- {name = content}, read where the index says.
  local function contents(tar, path)
    local found, file = {}, assert(io.open(path or root .. "/x.tar", "rb"))
    for i = 1, #tar do
      local name, offset, size = tar:member(i)
      file:seek("set", offset)
      found[name] = size == 0 and "" or file:read(size)
    end
    file:close()
    return found
  end
  local function scan() return contents(cld.files.scan_tar(root .. "/x.tar")) end

  local long = ("folder"):rep(15) .. "/" .. ("name"):rep(40) .. ".jpg" -- longer than any field

  describe("of the system's tar", function()
    local files = { ["a/1.jpg"] = ("x"):rep(511), ["a/2.jpg"] = ("y"):rep(512), ["b/3.jpg"] = ("z"):rep(513),
      ["b/empty"] = "", ["b/ü.png"] = "u" }
    for _, format in ipairs { "ustar", "gnu", "pax", "v7", "oldgnu" } do
      it("is read in the format " .. format, function()
        make(files)
        sh("tar --format=%s -cf x.tar a b", format)
        assert.same(files, scan())
      end)
    end
    for _, format in ipairs { "gnu", "pax" } do
      it("has long names in the format " .. format, function()
        make { [long] = "long", ["a/1.jpg"] = "short" }
        sh("tar --format=%s -cf x.tar folder* a", format)
        assert.same({ [long] = "long", ["a/1.jpg"] = "short" }, scan())
      end)
    end
    it("has names in two fields in the format ustar", function()
      local name = ("f"):rep(90) .. "/" .. ("n"):rep(90)
      make { [name] = "two" }
      sh "tar --format=ustar -cf x.tar f*"
      assert.same({ [name] = "two" }, scan())
    end)
    it("has names without ./", function()
      make(files)
      sh "tar -cf /tmp/$$.tar . && mv /tmp/$$.tar x.tar"
      assert.same(files, scan())
    end)
  end)

  describe("of others", function()
    it("has sizes in binary", function()
      archive(member("a.jpg", "data", { size = "\x80" .. ("\0"):rep(10) .. "\4" }) .. finish)
      assert.same({ ["a.jpg"] = "data" }, scan())
    end)
    it("has sizes in extended headers", function()
      archive(member("pax", record("size", "4"), { type = "x" }) .. header("a.jpg", 0) .. padded "data"
        .. member("b.jpg", "more") .. finish)
      assert.same({ ["a.jpg"] = "data", ["b.jpg"] = "more" }, scan())
    end)
    it("has global extended headers", function()
      archive(member("pax", record("comment", "x"), { type = "g" }) .. member("a.jpg", "data") .. finish)
      assert.same({ ["a.jpg"] = "data" }, scan())
    end)
  end)

  describe("of archives", function()
    before_each(function()
      make { ["n2/b.JPEG"] = "bb", ["n1/a.JPEG"] = "a", ["n1/c.JPEG"] = "ccc" }
      sh "for n in n1 n2; do (cd $n && tar -cf ../$n.tar *); done"
    end)
    it("has their files, in folders of the archives' names", function()
      sh "tar -cf x.tar n2.tar n1.tar"
      assert.same({ ["n2/b.JPEG"] = "bb", ["n1/a.JPEG"] = "a", ["n1/c.JPEG"] = "ccc" }, scan())
    end)
    it("is refused in a third level", function()
      sh "tar -cf y.tar n1.tar && tar -cf x.tar y.tar"
      fails "x.tar: in 'y.tar': an archive in an archive in an archive; only two levels are read: 'n1.tar' at byte 512"
    end)
    it("names the one that is cut off", function()
      sh "head -c 700 n1.tar >n3.tar && tar -cf x.tar n2.tar n3.tar"
      fails "x.tar: in 'n3.tar': truncated: the archive ends within 'a.JPEG' at byte"
    end)
    it("names the one that is none", function()
      make { ["n3.tar"] = ("text"):rep(500) }
      sh "tar -cf x.tar n3.tar"
      fails "x.tar: in 'n3.tar': not a tar archive"
    end)
    it("names the one without files", function()
      sh "mkdir n4 && tar -cf n4.tar n4 && tar -cf x.tar n4.tar"
      fails "without files: 'n4.tar'"
    end)
  end)

  describe("is an error", function()
    it("if it is cut off within a file", function()
      archive((member("a.jpg", ("x"):rep(2000)) .. finish):sub(1, 1500))
      fails "x.tar: truncated: the archive ends within 'a.jpg' at byte 0"
    end)
    it("if it is cut off between files", function()
      archive(member("a.jpg", "data"))
      fails "x.tar: truncated: no block of zeros ends it at byte 1024"
    end)
    it("if it is cut off within a header", function()
      archive(member("a.jpg", "data") .. header("b.jpg", 3):sub(1, 300))
      fails "x.tar: truncated: no block of zeros"
    end)
    it("if it claims a file of exabytes", function()
      archive(header("a.jpg", 0, { size = "\x80" .. ("\0"):rep(3) .. "\x7f" .. ("\xff"):rep(7) }) .. finish)
      fails "truncated: the archive ends within 'a.jpg'"
    end)
    it("if a size is negative", function()
      archive(header("a.jpg", 0, { size = ("\xff"):rep(12) }) .. finish)
      fails "a header whose size is not a number"
    end)
    it("if a checksum is wrong", function()
      archive(member("a.jpg", "data") .. member("b.jpg", "data", { checksum = "000001\0 " }) .. finish)
      fails "x.tar: a header whose checksum is wrong: the archive is damaged at byte 1024"
    end)
    it("if a name has ..", function()
      archive(member("a/../../b.jpg", "data") .. finish)
      fails "x.tar: a name with '..', which is refused: 'a/../../b.jpg'"
    end)
    it("if an extended header's name has ..", function()
      archive(member("pax", record("path", "../b.jpg"), { type = "x" }) .. member("b.jpg", "data") .. finish)
      fails "a name with '..'"
    end)
    it("if a name is absolute", function()
      make { ["a.jpg"] = "data" }
      sh "tar -P -cf x.tar $PWD/a.jpg"
      fails "x.tar: an absolute name, which is refused: '/tmp/"
    end)
    it("if a name is empty", function()
      archive(member("", "data") .. finish)
      fails "a member without a name"
    end)
    it("if a file is sparse, as GNU writes it", function()
      sh "truncate -s 1M a.jpg && echo x >>a.jpg && tar --format=gnu -S -cf x.tar a.jpg"
      fails "a sparse file, which is not read: 'a.jpg'"
    end)
    it("if a file is sparse, as pax has it", function()
      sh "truncate -s 1M a.jpg && echo x >>a.jpg && tar --format=pax -S -cf x.tar a.jpg"
      fails "a sparse file, which is not read"
    end)
    it("if an image is a link", function()
      make { ["a.jpg"] = "data" }
      sh "ln a.jpg b.jpg && tar -cf x.tar a.jpg b.jpg"
      fails "an image that is a link .*: 'b.jpg'"
    end)
    it("if an image is a fifo", function()
      sh "mkfifo a.jpg && tar -cf x.tar a.jpg"
      fails "an image that is not a regular file: 'a.jpg'"
    end)
    for what, text in pairs {
      ["whose length is too large"] = "99 path=x\n", ["without a length"] = "path=x\n", ["without a key"] = "7 pathx\n",
      ["whose length is too small"] = "2 path=x\n", ["whose size is no number"] = record("size", "-1"),
    } do
      it("if it has an extended header " .. what, function()
        archive(member("pax", text, { type = "x" }) .. member("b.jpg", "data") .. finish)
        fails "extended header"
      end)
    end
    it("if an extended header is huge", function()
      archive(member("pax", ("x"):rep(1100000), { type = "x" }) .. member("b.jpg", "data") .. finish)
      fails "an extended header of more than a megabyte"
    end)
    it("if it is empty", function()
      archive ""
      fails "x.tar: empty, not a tar archive"
    end)
    it("if it is none", function()
      archive(("text"):rep(500))
      fails "x.tar: not a tar archive"
    end)
    it("if it is a folder", function()
      check.fails(function() cld.files.tar(root) end, "not a regular file")
    end)
    for flag, names in pairs { z = { "gzip", "gunzip" }, j = { "bzip2", "bunzip2" }, J = { "xz", "unxz" } } do
      it("that says what to do if it is compressed with " .. names[1], function()
        make { ["a.jpg"] = "data" }
        if not os.execute("cd " .. root .. " && tar -c" .. flag .. "f x.tar a.jpg 2>/dev/null") then
          return pending("no " .. names[1])
        end
        fails("x.tar: compressed with " .. names[1] .. ": .* unpack it with tar %-xf, or .* with " .. names[2])
      end)
    end
  end)

  it("leaves out folders, devices and links that are no images", function()
    make { ["a/1.jpg"] = "data" }
    sh "ln -s 1.jpg a/link && mkfifo a/pipe && tar -cf x.tar a"
    assert.same({ ["a/1.jpg"] = "data" }, scan())
  end)

  describe("'s index", function()
    local path
    before_each(function()
      make { ["a/1.jpg"] = "one", ["b/2.jpg"] = "second" }
      sh "tar -cf x.tar a b"
      path = root .. "/x.tar"
    end)
    local index = "/x.tar.index.safetensors"
    local function open() return cld.files.tar(path) end
    local function was_there(tar) return select(2, tar:index()) end

    it("is kept beside it", function()
      local first, again = open(), open()
      assert.same({ root .. index, false }, { first:index() })
      assert.same({ root .. index, true }, { again:index() })
      assert.same({ ["a/1.jpg"] = "one", ["b/2.jpg"] = "second" }, contents(again))
    end)
    it("is made anew when the archive has changed", function()
      open()
      make { ["a/1.jpg"] = "three" }
      sh "tar -cf x.tar a b && touch -d '1 hour ago' x.tar"
      local tar = open()
      assert.is_false(was_there(tar))
      assert.equal("three", contents(tar)["a/1.jpg"])
      assert.is_true(was_there(open()))
    end)
    -- The index, its tensors or metadata changed by edit, is not used.
    local function is_refused(edit)
      open()
      local tensors, metadata = cld.load(root .. index)
      edit(tensors, metadata)
      cld.save(root .. index, tensors, metadata)
      local tar = open()
      assert.is_false(was_there(tar))
      assert.same({ ["a/1.jpg"] = "one", ["b/2.jpg"] = "second" }, contents(tar))
    end
    it("is of use as it is when written again", function()
      open()
      cld.save(root .. index, cld.load(root .. index))
      assert.is_true(was_there(open()))
    end)
    it("is refused when an offset lies beyond the archive", function()
      is_refused(function(tensors) tensors.offsets[2] = 1 << 40 end)
    end)
    it("is refused when an offset is negative", function()
      is_refused(function(tensors) tensors.offsets[1] = -512 end)
    end)
    it("is refused when a file ends beyond the archive", function()
      is_refused(function(tensors) tensors.sizes[1] = 1 << 62 end)
    end)
    it("is refused when a size is negative", function()
      is_refused(function(tensors) tensors.sizes[1] = -1 end)
    end)
    it("is refused when a name lies elsewhere", function()
      is_refused(function(tensors) tensors.name_offsets[2] = 1000 end)
    end)
    it("is refused when a name does not end", function()
      is_refused(function(tensors) tensors.names[-1] = 65 end)
    end)
    it("is refused when its lists differ in length", function()
      is_refused(function(tensors) tensors.sizes = tensors.sizes:narrow(1, 1, 1) end)
    end)
    it("is refused when a list is missing", function()
      is_refused(function(tensors) tensors.sizes = nil end)
    end)
    it("is refused when a list is of another dtype", function()
      is_refused(function(tensors) tensors.offsets = tensors.offsets:float() end)
    end)
    it("is refused when it is of another archive", function()
      is_refused(function(_, metadata) metadata.archive_bytes = "1" end)
    end)
    it("is refused when it says nothing of itself", function()
      is_refused(function(_, metadata) metadata.format = nil end)
    end)
    it("is made anew when it is damaged", function()
      open()
      process.write(root .. index, "damaged")
      assert.is_false(was_there(open()))
      assert.is_true(was_there(open()))
    end)

    -- What a person who may not write beside the archive sees, with these variables.
    local function as_nobody(...)
      local script = process.write(root .. "/open.lua",
        ("for i = 1, 2 do print(require('cld').files.tar(%q):index()) end"):format(path))
      sh "chmod 755 . && mkdir -p home && chmod 777 home"
      local command = 'if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=65534 --clear-groups "$@"; fi; chmod 555 .; '
        .. 'exec "$@"'
      local run = { "-c", "cd " .. root .. "; " .. command, "sh", "env", ... }
      table.move({ process.absolute(process.cldlua), script }, 1, 2, #run + 1, run)
      run.program = "/bin/sh"
      local result = process.run(run)
      sh "chmod 755 ."
      assert.equal("", result.err)
      return result.out
    end
    it("is kept in the user's cache if the archive's folder is not writable", function()
      local out = as_nobody("XDG_CACHE_HOME=" .. root .. "/home")
      local where = root:gsub("%W", "%%%0") .. "/home/cldlua/x%.tar%.%x+%.index%.safetensors"
      assert.truthy(out:find("^" .. where .. "\tfalse\n" .. where .. "\ttrue\n$"), out)
    end)
    it("is kept in ~/.cache if no other is named", function()
      local out = as_nobody("-u", "XDG_CACHE_HOME", "HOME=" .. root .. "/home")
      assert.truthy(out:find("/home/.cache/cldlua/x.tar.", 1, true), out)
    end)
    it("is done without, if it can be kept nowhere", function()
      local out = as_nobody("-u", "XDG_CACHE_HOME", "HOME=/nowhere")
      assert.truthy(out:find("^nil\tcannot write '.*x.tar.index.safetensors': Permission denied\n"), out)
    end)
  end)

  describe("as a data set", function()
    local function listed(options, how)
      local tar = cld.files.scan_tar(root .. "/x.tar")
      return (how or tar.list)(tar, options), tar
    end
    local function names(listing, tar)
      local found = {}
      for i, m in ipairs(listing:members():totable()) do found[i] = (tar:member(m + 1)) end
      return found
    end

    it("has the order and the labels of the unpacked folder", function()
      make { ["b/2.jpg"] = "", ["b/10.jpg"] = "", ["b/x/1.jpg"] = "", ["b/x/y/2.jpg"] = "", ["b/x-1/3.jpg"] = "",
        ["b-c/1.png"] = "", ["B/1.JPG"] = "", ["a/scan.tif"] = "", ["a/1.jpg"] = "", ["b/x1/5.jpg"] = "" }
      sh "mkdir all && mv a b b-c B all && (cd all && tar -cf ../x.tar b b-c a B)"
      local listing, tar = listed()
      local folder = cld.files.list(root .. "/all")
      local wanted = {}
      for i = 1, #folder do wanted[i] = folder:path(i):sub(#root + 6) end
      assert.same(wanted, names(listing, tar))
      assert.same(folder:labels():totable(), listing:labels():totable())
      assert.same({ "B", "a", "b", "b-c" }, listing:class_names())
      assert.equal("1 TIFF", select(2, listing:unreadable()))
    end)
    it("has the classes of inner archives", function()
      make { ["n2/b.JPEG"] = "bb", ["n1/a.JPEG"] = "a" }
      sh "for n in n1 n2; do (cd $n && tar -cf ../$n.tar *); done; tar -cf x.tar n2.tar n1.tar"
      local listing, tar = listed()
      assert.same({ "n1/a.JPEG", "n2/b.JPEG" }, names(listing, tar))
      assert.same({ "n1", "n2" }, listing:class_names())
      assert.same({ 0, 1 }, listing:labels():totable())
      assert.equal(root .. "/x.tar/n2/b.JPEG", listing:path(2))
    end)
    it("leaves out the folder that holds everything", function()
      make { ["photos/cat/1.jpg"] = "", ["photos/dog/2.jpg"] = "", ["photos/notes.txt"] = "" }
      sh "tar -cf x.tar photos"
      assert.same({ "cat", "dog" }, listed():class_names())
    end)
    it("without folders has no classes", function()
      make { ["2.JPEG"] = "", ["1.JPEG"] = "" }
      sh "tar -cf x.tar *.JPEG"
      local listing, tar = listed()
      assert.same({ "1.JPEG", "2.JPEG" }, names(listing, tar))
      assert.same({ -1, -1 }, listing:labels():totable())
    end)
    it("has no classes when it is told so", function()
      make { ["a/1.jpg"] = "", ["b/2.jpg"] = "" }
      sh "tar -cf x.tar a b"
      assert.same({ -1, -1 }, listed({ layout = "plain" }):labels():totable())
    end)
    it("is of some classes", function()
      make { ["a/1.jpg"] = "", ["b/2.jpg"] = "", ["c/3.jpg"] = "" }
      sh "tar -cf x.tar a b c"
      local listing = listed { classes = { "c", "a" } }
      assert.same({ { "a", "c" }, { 0, 1 } }, { listing:class_names(), listing:labels():totable() })
      check.fails(function() listed { classes = { "0", "b", "d" } } end, "2 of the wanted classes: 0, d$")
    end)
    it("with a folder of files that are no images is an error, unless the classes are named", function()
      make { ["all/a/1.jpg"] = "", ["all/b/2.webp"] = "", ["all/notes.txt"] = "" }
      sh "tar -cf x.tar all"
      check.fails(function() listed { inside = "all" } end, "no images in its folder 'b', .*; left out: 1 WebP")
      assert.equal(1, #listed { inside = "all", classes = { "a" } })
    end)
    it("refuses classes in a layout without any", function()
      make { ["a/1.jpg"] = "" }
      sh "tar -cf x.tar a"
      check.fails(function() listed { classes = { "a" }, layout = "plain" } end, "a layout without classes")
    end)
    it("wants to be told which split", function()
      make { ["train/a/1.jpg"] = "", ["train/b/2.jpg"] = "", ["val/a/3.jpg"] = "" }
      sh "tar -cf x.tar train val"
      check.fails(listed, "it holds several splits, such as '%a+': choose one")
      assert.same({ "a", "b" }, listed({ inside = "train" }):class_names())
      check.fails(function() listed { inside = "test" } end, "no images in that folder of it")
    end)
    it("with images at the top and in folders is an error", function()
      make { ["1.jpg"] = "", ["b/2.jpg"] = "" }
      sh "tar -cf x.tar 1.jpg b"
      check.fails(listed, "there are images both at its top %('1.jpg'%) and in folders %('b/2.jpg'%)")
      assert.equal(1, #listed { layout = "classes" })
    end)
    it("takes the last of a name", function()
      archive(member("a/1.jpg", "old") .. member("a/1.jpg", "newer") .. finish)
      local listing, tar = listed()
      assert.equal(1, #listing)
      assert.equal(5, (select(3, tar:member(listing:members()[1]:item() + 1))))
    end)
    it("without images is an error", function()
      make { ["a/1.txt"] = "", ["a/1.gif"] = "" }
      sh "tar -cf x.tar a"
      check.fails(listed, "no images in it; .* are read; left out: 1 GIF")
    end)
    it("with a name that is not UTF-8 is an error", function()
      archive(member("caf\xe9.jpg", "data") .. finish)
      check.fails(listed, "the name 'caf\\xe9.jpg' is not UTF%-8")
    end)

    describe("of WebDataset", function()
      it("has the labels beside the images", function()
        archive(member("0002.jpg", "x") .. member("0002.cls", "7") .. member("0001.cls", "3\n")
          .. member("0001.seg.jpg", "y") .. member("0001.json", "{}") .. finish)
        local listing, tar = listed()
        assert.same({ "0001.seg.jpg", "0002.jpg" }, names(listing, tar))
        assert.same({ 3, 7 }, listing:labels():totable())
        assert.equal(8, #listing:class_names())
      end)
      for text, what in pairs { ["x"] = "text", ["-1"] = "less than 0", ["1000000"] = "too large", [""] = "empty",
        [("1"):rep(100)] = "long" } do
        it("refuses a label that is " .. what, function()
          archive(member("1.jpg", "x") .. member("1.cls", text) .. finish)
          check.fails(listed, "'1.cls' is not a label: expected a number from 0 to 999999")
        end)
      end
      it("names an image without a label", function()
        archive(member("1.jpg", "x") .. member("1.cls", "0") .. member("2.jpg", "x") .. finish)
        check.fails(listed, "'2.jpg' has no label: there is no '2.cls'")
      end)
    end)
  end)
end)
