--- ImageNet's development kit: MATLAB 5 as SciPy writes it, the ground truth, where the kit is found, malicious files.
local cld = require "cld"
local check = require "spec.support.check"
local process = require "spec.support.process"

local fixture = cld.load "spec/fixtures/devkit.safetensors"
local function bytes_of(name) return string.char(table.unpack(fixture[name]:totable())) end

-- The WordNet ids of the leaves, by number, as make_devkit.py has them.
local wnids = {}
for i = 0, 8 do wnids[i + 1] = ("n%08d"):format(1440764 + 7919 * (100 - i)) end

describe("ImageNet's development kit", function()
  local root
  before_each(function() root = process.temporary_folder() end)
  after_each(function() process.remove(root) end)

  local truth = "data/ILSVRC2012_validation_ground_truth.txt"
  local function make(folder, meta, lines)
    cld.io.mkdir(folder .. "/data")
    os.remove(folder .. "/data/meta.mat") -- some file systems flush a file that is written over
    os.remove(folder .. "/" .. truth)
    process.write(folder .. "/data/meta.mat", meta or bytes_of "meta.mat")
    process.write(folder .. "/" .. truth, lines or "9\n1\n1\n5\n")
    return folder
  end
  local expected = { wnids[9], wnids[1], wnids[1], wnids[5] }
  local function fails(pattern, meta, lines)
    make(root, meta, lines)
    return check.fails(function() cld.files.devkit(root) end, pattern)
  end

  for name, what in pairs { ["meta.mat"] = "compressed", ["plain.mat"] = "not compressed",
    ["numbers.mat"] = "of integers, in a column, after another variable" } do
    it("says each image's class if its structs are " .. what, function()
      make(root, bytes_of(name))
      assert.same(expected, cld.files.devkit(root))
    end)
  end

  describe("is found", function()
    it("in a folder above it", function()
      make(root .. "/ILSVRC2012_devkit_t12")
      assert.same(expected, cld.files.devkit(root))
    end)
    -- True if libarchive is there; else what is said without it was checked.
    local function pack()
      make(root .. "/ILSVRC2012_devkit_t12")
      assert(os.execute("cd " .. root .. " && tar -czf ILSVRC2012_devkit_t12.tar.gz ILSVRC2012_devkit_t12 && "
        .. "rm -r ILSVRC2012_devkit_t12"))
      local ok, message = pcall(cld.files.devkit, root)
      if ok then return true end
      assert.truthy(message:find "this build has no libarchive; unpack it", message)
    end
    it("in its archive", function()
      if not pack() then return pending "no libarchive" end
      assert.same(expected, cld.files.devkit(root .. "/ILSVRC2012_devkit_t12.tar.gz"))
    end)
    it("in a folder that holds its archive", function()
      if not pack() then return pending "no libarchive" end
      assert.same(expected, cld.files.devkit(root))
    end)
    it("or the error says what was expected", function()
      check.fails(function() cld.files.devkit(root) end,
        "no data/meta.mat there; expected the folder ILSVRC2012_devkit_t12, one that holds it, or .*tar.gz")
    end)
    it("not in an archive that is cut off", function()
      if not pack() then return pending "no libarchive" end
      local path = root .. "/ILSVRC2012_devkit_t12.tar.gz"
      process.write(path, process.read(path):sub(1, -200))
      check.fails(function() cld.files.devkit(path) end, "t12.tar.gz: cannot be unpacked: ")
    end)
    it("not in another archive", function()
      if not pack() then return pending "no libarchive" end
      local path = root .. "/other.tar.gz"
      process.write(root .. "/x", "")
      assert(os.execute("cd " .. root .. " && tar -czf other.tar.gz x"))
      check.fails(function() cld.files.devkit(path) end, "other.tar.gz: no data/meta.mat there")
    end)
    it("with both of its files", function()
      make(root)
      os.remove(root .. "/" .. truth)
      check.fails(function() cld.files.devkit(root) end, "ground_truth.txt': No such file")
    end)
  end)

  describe("'s ground truth", function()
    it("may end without a newline, and have Windows' ones", function()
      make(root, nil, "9\r\n1")
      assert.same({ wnids[9], wnids[1] }, cld.files.devkit(root))
    end)
    for lines, what in pairs { ["1\n0\n"] = "0", ["1\n10\n"] = "beyond the classes", ["1\n-1\n"] = "negative",
      ["1\nx\n"] = "a letter", ["1\n\n2\n"] = "empty", ["1\n2 3\n"] = "two numbers", ["1\n2\0003\n"] = "a zero byte",
      ["1\n99999999999999999999\n"] = "huge" } do
      it("has no line that is " .. what, function()
        fails("ground_truth.txt: line 2 is not the number of a class, 1 to 9$", nil, lines)
      end)
    end
    it("is not empty", function() fails("ground_truth.txt: it is empty", nil, "") end)
  end)

  describe("'s meta.mat is an error", function()
    it("if it lacks a number", function()
      fails("meta.mat: the number of class n%d+, 200, is .* out of range", bytes_of "no leaf.mat")
    end)
    it("if it has another variable only", function()
      fails("meta.mat: it has no variable 'synsets'", bytes_of "other.mat")
    end)
    it("if it has no structs", function() fails("'synsets' is not an array of structs", bytes_of "cell.mat") end)
    it("if it is empty", function() fails("not a MATLAB file of version 5", "") end)
    it("if it is text", function() fails("not a MATLAB file of version 5", ("text"):rep(100)) end)
    it("if it is of version 7.3", function()
      fails("a MATLAB file of version 7.3", "\x89HDF\r\n\x1a\n" .. ("\0"):rep(500))
    end)
    it("if it is big-endian", function()
      local bytes = bytes_of "plain.mat"
      fails("in little%-endian order", bytes:sub(1, 124) .. "\1\0MI" .. bytes:sub(129))
    end)
    for _, name in ipairs { "meta.mat", "plain.mat" } do
      it("wherever it is cut off: " .. name, function()
        local bytes = bytes_of(name)
        for length = 0, #bytes - 9, 1 + #bytes // 200 do fails("meta.mat: ", bytes:sub(1, length)) end
      end)
    end
    it("or other values, whatever byte is changed", function()
      local bytes, read = bytes_of "plain.mat", 0
      for at = 129, #bytes, 1 + #bytes // 400 do
        for _, byte in ipairs { "\0", "\x7f", "\xff" } do
          make(root, bytes:sub(1, at - 1) .. byte .. bytes:sub(at + 1))
          local ok, message = pcall(cld.files.devkit, root)
          if ok then read = read + 1 else assert.truthy(tostring(message):find "/data/.-: ", message) end
        end
      end
      assert.is_true(read > 0)
    end)
    it("if what is compressed is damaged", function()
      local bytes = bytes_of "meta.mat"
      fails("its compressed data cannot be unpacked", bytes:sub(1, 300) .. ("\xff"):rep(50) .. bytes:sub(351))
    end)
  end)
end)
