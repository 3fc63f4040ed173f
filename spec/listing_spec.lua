--- The images of folders: torchvision's order, which folders are classes, and folders with faults.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"

describe("a listing", function()
  local root
  before_each(function() root = process.temporary_folder() end)
  after_each(function() process.remove(root) end)

  local function sh(command, ...) assert(os.execute("cd " .. root .. " && " .. command:format(...)), command) end

  -- Empty files, their folders made.
  local function make(...)
    for _, name in ipairs { ... } do
      local folder = name:match "^(.*)/[^/]*$"
      if folder then cld.io.mkdir(root .. "/" .. folder) end
      process.write(root .. "/" .. name, "")
    end
  end
  local function list(options) return cld.files.list(root, options) end
  local function paths(listing)
    local names = {}
    for i = 1, #listing do names[i] = listing:path(i):sub(#root + 2) end
    return names
  end
  local function fails(pattern, options) return check.fails(function() list(options) end, pattern) end

  describe("beside torchvision's ImageFolder", function()
    local expected = cld.load "spec/fixtures/listing.safetensors"
    local function lines(name)
      local found = {}
      local text = string.char(table.unpack(expected[name]:totable()))
      for line in text:gmatch "([^\n]+)\n" do found[#found + 1] = line end
      return found
    end
    local found
    before_each(function()
      make(table.unpack(lines "tree"))
      for _, link in ipairs(lines "links") do
        local target, name = link:match "^(.-)\t(.*)$"
        sh("ln -s '%s' '%s'", target, name)
      end
      found = list()
    end)
    -- Without the kinds that torchvision reads and we do not.
    local function is_read(path)
      local kind = path:lower():match "%.(%a+)$"
      return kind ~= "bmp" and kind ~= "tif" and kind ~= "tiff" and kind ~= "webp"
    end

    it("has a link whose file is gone, for whoever reads it to find out", function()
      local before = #found
      sh("ln -s none '%s/zzzz.jpg'", paths(found)[1]:match "^(.*)/")
      local ok, with_link = pcall(list)
      assert.is_true(ok, tostring(with_link))
      assert.equal(before + 1, #with_link)
    end)
    it("has its files in its order", function()
      local wanted = {}
      for _, path in ipairs(lines "paths") do
        if is_read(path) then wanted[#wanted + 1] = path end
      end
      assert.is_true(#wanted > 30)
      assert.same(wanted, paths(found))
    end)
    it("has its labels", function()
      local wanted, labels = {}, expected.labels:totable()
      for i, path in ipairs(lines "paths") do
        if is_read(path) then wanted[#wanted + 1] = labels[i] end
      end
      assert.same(wanted, found:labels():totable())
    end)
    it("has its classes", function() assert.same(lines "classes", found:class_names()) end)
    it("counts the images of other kinds", function()
      local counts, text = found:unreadable()
      assert.same({ BMP = 1, TIFF = 2, WebP = 1, GIF = 1 }, counts)
      assert.equal("1 BMP, 2 TIFF, 1 WebP, 1 GIF", text)
    end)
  end)

  describe("without classes", function()
    it("is of the images at the top, with labels -1", function()
      make("b.jpg", "a.jpg", "notes/read.txt")
      local found = list()
      assert.same({ "a.jpg", "b.jpg" }, paths(found))
      assert.same({ -1, -1 }, found:labels():totable())
      assert.same({}, found:class_names())
    end)
    it("takes sub-folders in when told that they are no classes", function()
      make("b.jpg", "2019/a.jpg", "2019/may/c.jpg", "2019-x/d.jpg")
      local found = list { layout = "plain" }
      assert.same({ "b.jpg", "2019/a.jpg", "2019-x/d.jpg", "2019/may/c.jpg" }, paths(found))
      assert.same({ -1, -1, -1, -1 }, found:labels():totable())
    end)
    it("takes class folders in, too", function()
      make("a/1.jpg", "b/2.jpg")
      assert.same({ -1, -1 }, list({ layout = "plain" }):labels():totable())
    end)
  end)

  describe("of images at the top and in sub-folders", function()
    before_each(function() make("top.jpg", "a/1.jpg", "b/2.jpg") end)
    it("is an error that names one of each", function()
      fails "there are images both at its top %('top.jpg'%) and in sub%-folders %('a/1.jpg'%)"
    end)
    it("leaves the top out when told that there are classes", function()
      assert.same({ "a/1.jpg", "b/2.jpg" }, paths(list { layout = "classes" }))
    end)
  end)

  describe("of some of the classes", function()
    before_each(function() make("a/1.jpg", "b/2.jpg", "c/3.jpg") end)
    it("numbers these alone, in bytewise order", function()
      local found = list { classes = { "c", "a" } }
      assert.same({ "a/1.jpg", "c/3.jpg" }, paths(found))
      assert.same({ 0, 1 }, found:labels():totable())
      assert.same({ "a", "c" }, found:class_names())
    end)
    it("does not enter the others", function()
      sh "mkfifo b/pipe.jpg" -- an error, were it seen
      assert.equal(2, #list { classes = { "c", "a" } })
    end)
    it("names those that are not there", function()
      fails("no folders for 2 of the wanted classes: d, e$", { classes = { "e", "a", "d" } })
    end)
    it("refuses a name that is twice in the list", function()
      fails("the list of classes: 'a' is listed twice", { classes = { "a", "b", "a" } })
    end)
    it("refuses a layout without classes", function()
      fails("got a list of classes, but a layout without classes", { classes = { "a" }, layout = "plain" })
    end)
    it("refuses a path", function() fails("'../a' is not a folder's name", { classes = { "../a" } }) end)
  end)

  describe("of a split", function()
    local function split(name) return cld.files.find_split(root, name):sub(#root + 2) end
    local function no_split(name, pattern) check.fails(function() split(name) end, pattern) end
    it("is that of its folder", function()
      make("train/a/1.jpg", "test/a/1.jpg")
      assert.same({ "train", "test" }, { split "train", split "test" })
    end)
    it("test is val/ if there is no test/", function()
      make("train/a/1.jpg", "val/a/1.jpg", "devkit/x")
      assert.equal("val", split "test")
    end)
    it("test is test/ if there are both", function()
      make("train/a/1.jpg", "val/a/1.jpg", "test/a/1.jpg")
      assert.same({ "test", "val" }, { split "test", split "val" })
    end)
    it("train is the root if there are none", function()
      make("a/1.jpg")
      assert.equal("", split "train")
      no_split("test", "no test split: it has no folder train/ with test/ or val/ beside it")
    end)
    it("does not take a class called train for one", function()
      make("train/1.jpg", "tram/1.jpg")
      assert.equal("", split "train")
    end)
    it("that is missing is an error", function()
      make "train/a/1.jpg"
      no_split("test", "no val split: of train/, test/ and val/ it has train/")
    end)
    it("has the classes of the other, or names the first that is not in both", function()
      make("train/a/1.jpg", "train/b/1.jpg", "test/a/1.jpg", "test/c/1.jpg")
      local train, test = cld.files.list(root .. "/train"), cld.files.list(root .. "/test")
      train:check_same_classes(train)
      check.fails(function() train:check_same_classes(test) end,
        "the classes of '.*/train' %(2%) and '.*/test' %(2%) differ: 'b' is only in the first")
    end)
  end)

  describe("is an error", function()
    it("if there is no such folder", function()
      check.fails(function() cld.files.list(root .. "/none") end, "there is no folder '.*/none'")
    end)
    it("if it is a file", function()
      make "file"
      check.fails(function() cld.files.list(root .. "/file") end, "/file: Not a directory")
    end)
    it("if it is empty", function() fails "no images in it, and no sub%-folders; .jpg .jpeg" end)
    it("if a class has no images, which it names", function()
      make("a/1.jpg", "b/notes.txt", "c/photo.webp")
      fails "no images in 2 of the 3 class folders: 'b', 'c'; .* are read; left out: 1 WebP$"
    end)
    it("if a link leads back", function()
      make "a/b/1.jpg"
      sh "ln -s .. a/b/up"
      fails "/a/b/up: a link back to '.*/a', a loop$"
    end)
    it("if a class is a link to its root", function()
      make "a/1.jpg"
      sh "ln -s . self"
      fails "/self: a link back to '.*', a loop$"
    end)
    it("if a link is one to itself", function()
      make "a/1.jpg"
      sh "ln -s 2.jpg a/2.jpg"
      fails "/a/2.jpg: Too many levels of symbolic links$"
    end)
    for kind, command in pairs { fifo = "mkfifo a/p.png", device = "ln -s /dev/zero a/p.png" } do
      it("if an image is no regular file but a " .. kind, function()
        make "a/1.jpg"
        sh(command)
        fails "/a/p.png: not a regular file"
      end)
    end
    it("if a file's name is not UTF-8", function()
      make("a/1.jpg", "a/caf\xe9.jpg")
      fails "/a/caf\\xe9.jpg: the name is not UTF%-8; rename the file$"
    end)
    it("if a folder's name is not UTF-8", function()
      make "caf\xe9/1.jpg"
      fails "/caf\\xe9: the name is not UTF%-8; rename the folder$"
    end)
    it("if a path is longer than the system's", function()
      local long = ("d"):rep(250)
      make "class/1.jpg"
      for i, top in ipairs { "class", "other" } do -- 10 folders in each, and one below the other: 5,000 bytes
        sh("mkdir -p %s/%s", top, (long .. "/"):rep(10))
        if i == 2 then sh("mv other class/%s", (long .. "/"):rep(10)) end
      end
      fails "the path is longer than the 4095 bytes that a path may have"
    end)
    it("if a folder cannot be read", function()
      make("a/1.jpg", "a/closed/2.jpg")
      sh "chmod 755 . && chmod 0 a/closed"
      local script = process.write(root .. "/list.lua",
        ("print(pcall(require('cld').files.list, %q))"):format(root))
      local run = { "-c", 'if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=65534 --clear-groups "$@"; fi; exec "$@"',
        "sh", process.absolute(process.cldlua), script, program = "/bin/sh" }
      local result = process.run(run)
      sh "chmod 755 a/closed"
      assert.truthy(result.out:find "/a/closed: Permission denied", result.out .. result.err)
    end)
  end)

  it("ignores what is no image, whatever it is", function()
    make("a/1.jpg", "a/caf\xe9.txt")
    sh "mkfifo a/pipe"
    assert.same({ "a/1.jpg" }, paths(list()))
  end)
  it("does not mind a slash after the folder's name", function()
    make "a/1.jpg"
    assert.equal(root .. "/a/1.jpg", cld.files.list(root .. "//"):path(1))
  end)
  it("is checked", function()
    make "a/1.jpg"
    local found = list()
    check.fails(function() found:path(2) end, "no image has this number")
    found:close()
    check.fails(function() return #found end, "the listing was closed")
    check.fails(function() list { layout = "flat" } end, "layout must be auto, classes or plain")
    check.fails(function() list { clases = {} } end, "classes")
    check.fails(function() list { classes = { 1 } } end, "classes must be a list of names")
  end)
end)
