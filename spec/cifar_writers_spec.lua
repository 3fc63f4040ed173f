--- CIFAR's files from other writers: pickled again by other programs, edited on other systems; and files, also large
-- ones, that are not what their names promise.
local cld = require "cld"
local check = require "spec.support.check"
local cifar = require "spec.support.cifar"
local process = require "spec.support.process"
local writer = require "cld.cifar_writer"

describe("CIFAR of other writers", function()
  local root, folder
  before_each(function()
    root = process.temporary_folder()
    folder = cifar.write10(root, "python")
  end)
  after_each(function() process.remove(root) end)

  local function read(bytes)
    if bytes then process.write(folder .. "/test_batch", bytes) end
    return cld.data.cifar10 { root = root, split = "test" }
  end
  local function fails(pattern, bytes) return check.fails(function() read(bytes) end, pattern) end

  -- ---- pickles ----------------------------------------------------------------

  local fixtures, names = {}, {}
  for name, tensor in pairs(cld.load "spec/fixtures/cifar_writers.safetensors") do
    local parts = {}
    for first = 1, #tensor, 4000 do
      parts[#parts + 1] = string.char(table.unpack(
        tensor:narrow(1, first, math.min(4000, #tensor - first + 1)):totable()))
    end
    fixtures[name] = table.concat(parts)
    names[#names + 1] = name
    tensor:close()
  end
  table.sort(names)

  -- One row is all of the formula's values.
  local function check_rows(set)
    assert.same({ 2, 32, 32, 3 }, set.images.shape)
    local values = set.images:totable()
    for row = 0, 1 do
      for y = 0, 31 do
        for x = 0, 31 do
          for c = 0, 2 do
            if values[row + 1][y + 1][x + 1][c + 1] ~= cifar.pixel(row, c * 1024 + y * 32 + x) then
              error(("row %d, pixel (%d, %d, %d)"):format(row, y, x, c))
            end
          end
        end
      end
    end
  end

  -- labels and data as pickles of their own.
  local function dictionary(labels, data)
    return "\x80\2}(U\6labels" .. labels:sub(3, -2) .. "U\4data" .. data:sub(3, -2) .. "u."
  end

  for _, name in ipairs(names) do
    if name:match "^labels" or name:match "^scalars" then
      it("reads " .. name, function()
        local set = read(dictionary(fixtures[name], fixtures.data))
        assert.same({ 3, 1 }, set.labels:totable())
        assert.equal("i64", set.labels.dtype)
      end)
    elseif name:match "^names" then
      it("reads " .. name, function()
        process.write(folder .. "/batches.meta", fixtures[name])
        assert.same({ "airplane", "Käfer", "鳥" }, read().class_names)
      end)
    elseif name ~= "data" then
      it("reads " .. name, function()
        local set = read(fixtures[name])
        assert.same({ 3, 1 }, set.labels:totable())
        check_rows(set)
      end)
    end
  end

  it("reads an OrderedDict of Python 2, made of pairs", function()
    local set = read("ccollections\nOrderedDict\n((lp1\n(lp2\nS'labels'\na(I3\nI1\ntaa(lp3\nS'data'\na"
      .. fixtures.data:sub(3, -2) .. "aatR.")
    assert.same({ 3, 1 }, set.labels:totable())
  end)

  it("reads labels that are Python 2's long integers", function()
    assert.same({ 3, 1 }, read(dictionary("\x80\2(L3L\nL1L\nl.", fixtures.data)).labels:totable())
  end)

  it("reads escapes of a text line", function()
    local data = fixtures["planes, protocol 0"] -- V lines with \u005c for a backslash
    assert.truthy(data:find("\\u005c", 1, true))
    check_rows(read(data))
  end)

  local integers = "'labels' should be a list of 2 integers; "
  local wrong_labels = {
    ["floats"] = { "\x80\2]G\0\0\0\0\0\0\0\0aG\0\0\0\0\0\0\0\0a.", "entry 0: it is a number" },
    ["words"] = { "\x80\2]K\3aU\1xa.", "entry 1: it is a string" },
    ["bools"] = { "\x80\2]\x88a\x89a.", "entry 0: it is a bool" },
    ["three integers"] = { "\x80\2](K\0K\0K\0e.", "it is a list of 3" },
    ["nothing"] = { "\x80\2N.", "it is None" },
    ["a class"] = { "\x80\2cos\nsystem\nU\2ls\x85R.", "it uses 'os.system', .* %(nothing was run%)" },
    ["integers of 16 bytes"] = { "\x80\2]\x8a\x10" .. ("\1"):rep(16) .. "aK\1a.", "entry 0: it is a number" },
    ["a dictionary"] = { "\x80\2}.", "it is a dictionary" },
  }
  for what, case in pairs(wrong_labels) do
    it("says that labels are " .. what, function()
      fails("test_batch: not a CIFAR batch file: " .. integers .. case[2],
        dictionary(case[1], fixtures.data))
    end)
  end

  it("says that an array of labels is too long", function()
    fails(integers .. "it is an array of i8 %(3%)", dictionary(fixtures["labels <i8"]:gsub("K\2\x85", "K\3\x85"):gsub(
      "C\x10.-t", "C\x18" .. ("\0"):rep(24) .. "t"), fixtures.data))
  end)

  it("says that pixels are a list", function()
    fails("'data' should be a 2%-d array of u1, .*; it is a list of 0", dictionary(fixtures["labels <i8"], "\x80\2]."))
  end)

  it("says that images are interleaved", function()
    local shape = "(K\2K\3K K t"
    local planes = fixtures["planes, protocol 2"]
    assert.truthy(planes:find(shape, 1, true))
    fails("'data' should be a 2%-d array of u1, .*%(N, 3, 32, 32%); it has 4 dimensions",
      (planes:gsub("%(K\2K\3K K t", "(K\2K K K\3t")))
  end)

  it("takes an unknown name beside what is wanted, and runs nothing", function()
    local marker = root .. "/ran"
    local call = "cos\nsystem\n" .. "X" .. string.pack("<s4", "touch " .. marker) .. "\x85R"
    assert.equal(2, #read(dictionary(fixtures["labels <i8"], fixtures.data):sub(1, -3) .. "U\1x" .. call .. "u."))
    assert.is_nil(cld.io.exists(marker))
  end)

  -- ---- sizes ------------------------------------------------------------------

  -- A file of `size` bytes that begins with `start`; the rest takes no space.
  local function sparse(path, size, start)
    os.remove(path)
    local file = assert(io.open(path, "wb"))
    file:write(start)
    file:seek("set", size - 1)
    file:write "\0"
    file:close()
  end

  -- Resident memory that the failing read takes.
  local function peak_of_failing(pattern, options)
    local script = process.write(root .. "/read.lua", ([[
      local cld = require "cld"
      local before = cld.memory().resident
      local ok, message = pcall(cld.data.%s, { root = %q, split = %q, layout = %q })
      print(cld.memory().resident_peak - before)
      print(ok, message)]]):format(options[1] or "cifar10", root, options.split or "test", options.layout or "auto"))
    local result = process.run { script }
    assert.matches(pattern, result.out)
    return tonumber(result.out:match "^%d+")
  end

  local huge = {
    ["of zeros"] = { "", "opcode 0x00 is unknown" },
    ["of zeros after a pickle's beginning"] = { "\x80\2}q\1", "opcode 0x00 is unknown" },
    ["with a string that fills it"] = { "\x80\2}(U\4dataT\0\0\0\xa0", "opcode 0x00 is unknown" },
    ["with a line that does not end"] = { "(dp1\nS'", "truncated", 128 << 20 },
  }
  for what, case in pairs(huge) do
    it("refuses a huge batch " .. what .. " without holding it", function()
      sparse(folder .. "/test_batch", case[3] or 3 << 30, case[1])
      local peak = peak_of_failing("test_batch: .*" .. case[2], {})
      assert.truthy(peak < 16 << 20, peak)
    end)
  end

  it("refuses a file of 4 GB by its size", function()
    sparse(folder .. "/test_batch", 1 << 32, "\x80\2}")
    fails "test_batch: too large for a CIFAR batch file: 4294967296 bytes"
  end)

  it("refuses CIFAR-100's train of 4 GB", function()
    sparse(root .. "/train", 1 << 32, "\x80\2}")
    check.fails(function() cld.data.cifar100 { root = root } end, "/train: too large for a CIFAR batch file")
  end)

  it("refuses a binary file of 4 GB and the wrong size", function()
    folder = cifar.write10(root, "binary")
    sparse(folder .. "/test_batch.bin", 1 << 32, "\1")
    local peak = peak_of_failing("test_batch.bin: truncated, or not CIFAR%-10", { layout = "binary" })
    assert.truthy(peak < 16 << 20, peak)
  end)

  it("refuses a binary file of more than 4 GB, whatever its size", function()
    folder = cifar.write10(root, "binary")
    sparse(folder .. "/test_batch.bin", 3073 * 1400000, "\1")
    local peak = peak_of_failing("test_batch.bin: too large for a CIFAR batch file: 4302200000 bytes",
      { layout = "binary" })
    assert.truthy(peak < 16 << 20, peak)
  end)

  it("refuses a pickle that is all values", function()
    process.write(folder .. "/test_batch", "\x80\2" .. ("]"):rep(8 << 20) .. ".")
    local peak = peak_of_failing("test_batch: .* more values than a CIFAR batch file of its size", {})
    assert.truthy(peak < 128 << 20, peak) -- under AddressSanitizer too
  end)

  it("refuses a list of names of 4 GB", function()
    folder = cifar.write10(root, "binary")
    sparse(folder .. "/batches.meta.txt", 1 << 32, "airplane\n")
    check.fails(function() cld.data.cifar10 { root = root, split = "test", layout = "binary" } end,
      "batches.meta.txt: too large for a list of names: 4294967296 bytes")
  end)

  -- ---- the names of the classes -------------------------------------------------

  local list = table.concat(cifar.classes, "\n") .. "\n"
  local texts = {
    ["Windows line ends"] = list:gsub("\n", "\r\n"),
    ["old Mac line ends"] = list:gsub("\n", "\r"),
    ["a byte-order mark"] = "\xef\xbb\xbf" .. list,
    ["a byte-order mark and Windows line ends"] = "\xef\xbb\xbf" .. list:gsub("\n", "\r\n"),
    ["spaces at the ends of lines"] = list:gsub("\n", " \t\n"),
    ["spaces at the beginnings of lines"] = "  " .. list:gsub("\n", "\n\t"),
    ["blank lines at the end"] = list .. "\n \n\r\n",
    ["blank lines at the beginning"] = "\n\n" .. list,
    ["blank lines between"] = list:gsub("\n", "\n\n"),
    ["no line end at the end"] = list:sub(1, -2),
    ["more lines than classes"] = list .. "zebra\n",
  }
  for what, text in pairs(texts) do
    it("are read with " .. what, function()
      folder = cifar.write10(root, "binary")
      process.write(folder .. "/batches.meta.txt", text)
      assert.same(cifar.classes, cld.data.cifar10({ root = root, layout = "binary" }).class_names)
    end)
  end

  it("may be blank", function()
    folder = cifar.write10(root, "binary")
    process.write(folder .. "/batches.meta.txt", "\n \r\n")
    assert.is_nil(cld.data.cifar10({ root = root, layout = "binary" }).class_names)
  end)

  it("in UTF-16 are an error that says so", function()
    folder = cifar.write10(root, "binary")
    process.write(folder .. "/batches.meta.txt", "\xff\xfe" .. list:gsub(".", "%0\0"))
    check.fails(function() cld.data.cifar10 { root = root, layout = "binary" } end,
      "batches.meta.txt: it holds zero bytes; the names of the classes should be in UTF%-8")
  end)

  it("lose a carriage return in a pickle too", function()
    local text = process.read(folder .. "/batches.meta")
    process.write(folder .. "/batches.meta", (text:gsub("U\8airplane", "U\x0aairplane\r\n")))
    assert.same(cifar.classes, read().class_names)
  end)

  it("are looked for once among many keys", function()
    cifar.write100(root, "python")
    local hundred, others = ("X\1\0\0\0n"):rep(100), ("X\x10\0\0\0fine_label_namexN"):rep(120000)
    process.write(root .. "/meta", "\x80\2}(X\x10\0\0\0fine_label_names(" .. hundred .. "l" .. others .. "u.")
    local start = os.clock()
    assert.equal("n", cld.data.cifar100({ root = root }).class_names[100])
    assert.is_true(os.clock() - start < 2) -- once for each name: ten seconds
  end)

  it("may be a tuple", function()
    process.write(folder .. "/batches.meta", "\x80\2}U\x0blabel_namesX\2\0\0\0upX\4\0\0\0down\x86s.")
    assert.same({ "up", "down" }, read().class_names)
  end)

  -- ---- what cannot be read --------------------------------------------------------

  describe("a folder", function()
    local function none_of(pattern, path)
      local message = check.fails(function() cld.data.cifar10 { root = path or root } end, pattern)
      assert.is_nil(message:find("unpack", 1, true))
    end
    local function link(target, path) assert(os.execute(("ln -s '%s' '%s'"):format(target, path))) end

    it("that is a file is said to be one", function()
      none_of("CIFAR%-10: cannot read the folder '.*/archive': it is not a folder",
        process.write(root .. "/archive", "x"))
    end)

    it("that is a link to nothing is said to be one", function()
      link("nowhere", root .. "/link")
      none_of("CIFAR%-10: cannot read the folder '.*/link': it is a link whose target does not exist",
        root .. "/link")
    end)

    it("that is a link to itself is said to be one", function()
      link("link", root .. "/link")
      none_of("CIFAR%-10: cannot read the folder '.*/link': Too many levels of symbolic links", root .. "/link")
    end)

    it("of the files that is a link to nothing is said to be one", function()
      os.rename(folder, root .. "/moved")
      link("nowhere", folder)
      none_of "CIFAR%-10: cannot read the folder '.*/cifar%-10%-batches%-py': it is a link whose target"
    end)

    it("of the files that is a file is said to be one", function()
      os.rename(folder, root .. "/moved")
      process.write(folder, "x")
      none_of "CIFAR%-10: cannot read the folder '.*/cifar%-10%-batches%-py': it is not a folder"
    end)

    it("that cannot be read does not hide another that can", function()
      os.rename(folder, root .. "/moved")
      link("nowhere", folder)
      os.rename(root .. "/moved", root .. "/CIFAR-10")
      assert.equal(3, #read())
    end)

    -- Who runs this may be root, whom no permission stops.
    local function as_nobody(path)
      local script = process.write(root .. "/read.lua", ([[
        local cld = require "cld"
        print(pcall(cld.data.cifar10, { root = %q, split = "test" }))]]):format(path or root))
      os.execute(("chmod 755 '%s'; chmod 644 '%s'"):format(root, script))
      local command = ('if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=65534 --clear-groups "$@"; fi; exec "$@"')
      local result = process.run { program = "/bin/sh", "-c", command, "sh", process.absolute(process.cldlua), script }
      assert.is_nil(result.out:find("unpack", 1, true))
      return result.out
    end

    it("without permission is said to be one", function()
      os.execute(("chmod 0 '%s'"):format(folder))
      assert.matches("CIFAR%-10: cannot read the folder '.*/cifar%-10%-batches%-py': Permission denied", as_nobody())
      os.execute(("chmod 755 '%s'"):format(folder))
    end)

    it("in one without permission is said to be in one", function()
      os.execute(("mkdir '%s/closed'; mv '%s' '%s/closed'; chmod 0 '%s/closed'"):format(root, folder, root, root))
      assert.matches("CIFAR%-10: cannot read the folder '.*/closed.*': Permission denied",
        as_nobody(root .. "/closed/cifar-10-batches-py"))
      assert.matches("CIFAR%-10: cannot read the folder '.*/closed.*': Permission denied", as_nobody(root .. "/closed"))
      os.execute(("chmod 755 '%s/closed'"):format(root))
    end)

    it("with a file without permission names the file", function()
      os.execute(("chmod 0 '%s/test_batch'"):format(folder))
      assert.matches("CIFAR%-10: cannot read '.*/test_batch': Permission denied", as_nobody())
    end)

    it("with names of classes without permission names their file", function()
      os.execute(("chmod 0 '%s/batches.meta'"):format(folder))
      assert.matches("CIFAR%-10: cannot read '.*/batches.meta': Permission denied", as_nobody())
    end)

    it("with a file that is a link to nothing names the file", function()
      os.remove(folder .. "/data_batch_3")
      link("nowhere", folder .. "/data_batch_3")
      none_of "CIFAR%-10: cannot read '.*/data_batch_3': it is a link whose target does not exist"
    end)

    it("with a file that is a folder names the file", function()
      os.remove(folder .. "/data_batch_3")
      cld.io.mkdir(folder .. "/data_batch_3")
      none_of "CIFAR%-10: cannot read '.*/data_batch_3': it is not a regular file"
    end)

    it("with folders alone in place of files names the first", function()
      os.rename(folder, root .. "/moved")
      for _, name in ipairs { "data_batch_1", "test_batch" } do cld.io.mkdir(folder .. "/" .. name) end
      none_of "CIFAR%-10: cannot read '.*/cifar%-10%-batches%-py/data_batch_1': it is a folder$"
    end)

    it("with links to themselves alone names the first", function()
      os.rename(folder, root .. "/moved")
      cld.io.mkdir(folder)
      link("test_batch", folder .. "/test_batch")
      none_of "CIFAR%-10: cannot read '.*/cifar%-10%-batches%-py/test_batch': Too many levels of symbolic links$"
    end)
  end)

  it("100 in the binary layout is found beside folders called train and test", function()
    cld.io.mkdir(root .. "/train")
    cld.io.mkdir(root .. "/test")
    folder = root .. "/cifar-100-binary"
    cld.io.mkdir(folder)
    cifar.write100(folder, "binary")
    assert.equal(3, #cld.data.cifar100 { root = root })
  end)

  it("is read with more labels than the reader's window holds", function()
    local count, images, labels = 20000, cifar.images(2), {}
    local batch = { labels = labels, images = {} }
    for i = 1, count do batch.images[i], labels[i] = images[i % 2 + 1], i % 10 end
    local set = read(writer.python(batch, "long"))
    assert.equal(count, #set)
    assert.same(labels, set.labels:totable())
  end)
end)
