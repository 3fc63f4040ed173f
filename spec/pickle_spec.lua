--- The pickle reader: Python 2's other protocols, opcodes one by one, and damage: truncations, thousands of changed
-- bytes, malicious pickles. A reader of untrusted files may do only two things: read, or say what is wrong.
local cld = require "cld"
local check = require "spec.support.check"
local cifar = require "spec.support.cifar"
local process = require "spec.support.process"
local writer = require "cld.cifar_writer"

describe("the pickle reader", function()
  local root, folder
  before_each(function()
    root = process.temporary_folder()
    folder = cifar.write10(root, "python")
  end)
  after_each(function() process.remove(root) end)

  local function read(bytes)
    os.remove(folder .. "/test_batch") -- ext4 flushes a file that is rewritten in place: milliseconds each
    process.write(folder .. "/test_batch", bytes)
    return cld.data.cifar10 { root = root, split = "test" }
  end
  local function fails(pattern, bytes) return check.fails(function() read(bytes) end, pattern) end

  -- The array of one row of 3072 zeros as Python 2 writes it, in protocol 0 or, with binary lengths, 1.
  local function protocol0_array(text)
    return "cnumpy.core.multiarray\n_reconstruct\np3\n(cnumpy\nndarray\np4\n(I0\ntp5\nS'b'\np6\ntp7\nRp8\n"
      .. "(I1\n(I1\nI3072\ntp9\ncnumpy\ndtype\np10\n(S'u1'\np11\nI0\nI1\ntp12\nRp13\n"
      .. "(I3\nS'|'\np14\nNNNI-1\nI-1\nI0\ntp15\nb"
      .. "I00\n" .. text .. "\np16\ntp17\nb"
  end

  it("reads protocol 0", function()
    local escaped = ("\\x00\\xff\\n\\\\\\'a\"\\t"):rep(384) -- eight bytes each
    local set = read("(dp1\nS'labels'\np2\n(lp18\nI7\nasS'data'\n" .. protocol0_array("S'" .. escaped .. "'") .. "s.")
    assert.same({ 7 }, set.labels:totable())
    local red = {}
    for x = 1, 8 do red[x] = set.images:totable()[1][1][x][1] end
    assert.same({ 0, 255, 10, 92, 39, 97, 34, 9 }, red)
  end)

  it("reads Python 2's long integers and quotes of both kinds", function()
    local array = protocol0_array("S'" .. ("\\x07"):rep(3072) .. "'")
    local set = read('(dp1\nS"labels"\np2\n(L5L\nlsS\'data\'\n' .. array .. "s.")
    assert.same({ 5 }, set.labels:totable())
  end)

  it("reads protocol 1", function()
    local image = ("\1"):rep(3072)
    local array = "cnumpy.core.multiarray\n_reconstruct\nq\1(cnumpy\nndarray\nq\2(K\0tq\3U\1bq\4tq\5Rq\6"
      .. "(K\1(K\1M\0\12tq\7cnumpy\ndtype\nq\8(U\2u1K\0K\1tq\9Rq\x0b"
      .. "(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tbI00\nT" .. string.pack("<s4", image) .. "tb"
    assert.same({ 2 }, read("}(U\6labels](K\2eU\4data" .. array .. "u.").labels:totable())
  end)

  it("names the file, the byte and the opcode it does not know", function()
    fails("/test_batch: not a CIFAR batch file: at byte 3, the pickle opcode 'Q' %(0x51%) is unknown", "\x80\2}Q.")
    fails("at byte 2, the pickle opcode 0xff is unknown", "\x80\2\xff")
    fails("at byte 2, the pickle's protocol is 9; 0 to 5 are known", "\x80\9")
  end)

  it("runs nothing", function()
    fails("it uses 'os.system', .* %(nothing was run%)", "\x80\2cos\nsystem\nU\7echo hi\x85R.")
    fails("it uses '__builtin__.eval'", "c__builtin__\neval\n(S'1'\ntR.")
    fails([[it uses 'po\x1b%[2Jsix.sys\ntem']], "\x80\4\x8c\9po\27[2Jsix\x8c\7sys\ntem\x93.")
    fails("it uses 'posix.system'", "\x80\4\x8c\5posix\x8c\6system\x93.")
    fails("the pickle opcode 'i'", "(S'x'\nios\nsystem\n.")
    fails("numpy.ndarray is called", "\x80\2cnumpy\nndarray\n)R.")
    fails("something that is not a function is called", "\x80\2U\1x)R.")
    fails("a state that is not an array's is set", "\x80\2}U\1x)b.")
  end)

  it("tells pickles that use the machine wrongly", function()
    fails("its value is not a dictionary", "\x80\2].")
    fails("an opcode lacks its 1 operands", "\x80\2.")
    fails("an opcode lacks its mark", "\x80\2}u.")
    fails("an opcode lacks its 2 operands", "\x80\2}(K\1s.")
    fails("there is no list to put items into", "\x80\2(K\1e.")
    fails("items are put into something that is not a list", "\x80\2}(K\1e.")
    fails("a dictionary's key lacks its value", "\x80\2}(K\1u.")
    fails("memo number 5 was never put", "\x80\2h\5.")
    fails("memo number 4294967295 is out of range", "\x80\2}r\xff\xff\xff\xff.")
    fails("memo number .* is out of range", "\x80\2}p-1\n.")
    fails("memo number .* was never put", "g-7\n.")
    fails("a line is not an integer", "I12x\n.")
    fails("a line is not an integer", "I-\n.")
    fails("a line is not an integer", "L\n.")
    fails("a string has no quotes", "Sabc\n.")
    fails("a string has an unknown escape", "S'\\q'\n.")
    fails("a string has an unknown escape", "S'\\x1'\n.")
    fails("a string has an unknown escape", "S'\\'\n.")
    fails("something other than text is encoded", "\x80\2c_codecs\nencode\nU\1xU\6latin1\x86R.")
    local other = "X\2\0\0\0\xc4\x80X\6\0\0\0latin1"
    fails("text to encode as latin1 has other characters", "\x80\2c_codecs\nencode\n" .. other .. "\x86R.")
    local ascii = "\x80\2c_codecs\nencode\nX\1\0\0\0a"
    fails("text is encoded as 'utf%-8'; only latin1 is known", ascii .. "X\5\0\0\0utf-8\x86R.")
    fails("text is encoded without the name of an encoding", ascii .. "\x85R.")
    fails("text is encoded without the name of an encoding", ascii .. "K\1\x86R.")
    fails("a dictionary is made of something that is not a pair", "\x80\2ccollections\nOrderedDict\n](K\1e\x85R.")
    fails("a NumPy number has no dtype", "\x80\2cnumpy.core.multiarray\nscalar\nNU\1x\x86R.")
    fails("an array's order is not C, F or K", "\x80\2cnumpy.core.numeric\n_frombuffer\n(NNNU\1AtR.")
    fails("a name is not text", "\x80\4K\1K\2\x93.")
    fails("there is no set to put items into", "\x80\4(\x90.")
    fails("an opcode lacks its 3 operands", "\x80\4]]\x92.")
    fails("an opcode lacks its mark", "\x80\0021.")
    fails("an opcode lacks its 1 operands", "\x80\0020.")
    fails("truncated: the file ends after 4 bytes", "\x80\2}(")
    fails("truncated", "\x80\2T\xff\xff\xff\xffabc")
    fails("truncated", "\x80\4\x8e\xff\xff\xff\xff\xff\xff\xff\xff")
    fails("truncated", "")
  end)

  it("is not led in circles", function()
    -- A list that holds itself, a dictionary that holds itself, a thousand nested tuples.
    fails("'data' should be a 2%-d array", "\x80\2}q\1(U\6labels]q\2(h\2eU\4datah\1u.")
    fails("'data' should be a 2%-d array", "\x80\2}(U\4data)" .. ("\x85"):rep(100000) .. "u.")
  end)

  it("checks the array against its bytes", function()
    local whole = writer.python({ labels = { 1 }, images = cifar.images(1) }, "x")
    assert.equal(1, #read(whole))
    local function edited(from, to)
      local first, last = whole:find(from, 1, true)
      return whole:sub(1, first - 1) .. to .. whole:sub(last + 1)
    end
    fails("'data' should be a 2%-d array of u1", edited("K\1M\0\12\x86", "K\2M\0\12\x86"))
    fails("'data' should be a 2%-d array of u1", edited("K\1M\0\12\x86", "J\xff\xff\xff\xffM\0\12\x86"))
    fails("'data' should be a 2%-d array of u1", edited("K\1M\0\12\x86", "J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"))
    fails("'data' has 1536 columns; an image of CIFAR%-10 has 3072", edited("K\1M\0\12\x86", "K\2M\0\6\x86"))
    fails("'labels' should be a list of 1 integers", edited("(K\1e", "(K\1K\2e"))
    fails("'labels' should be a list of 1 integers", edited("(K\1e", "(Ne"))
    fails("'labels' should be a list of 1 integers", edited("labels", "lapels"))
    fails("row 0 has label %-1;", edited("(K\1e", "(J\xff\xff\xff\xffe"))
  end)

  local whole = writer.python({ labels = { 1, 2 }, images = cifar.images(2) }, "training batch 1 of 5")

  it("tells every truncation", function()
    for length = 0, #whole - 1 do
      -- The pixels are one string: the ends of that are enough.
      if length < 300 or length > #whole - 100 or length % 97 == 0 then
        fails("test_batch: truncated", whole:sub(1, length))
      end
    end
  end)

  it("survives changed bytes", function()
    local first = whole:find(cifar.images(1)[1], 1, true)
    local state = 12345
    local function random(n)
      state = (state * 1103515245 + 12345) % 2147483648
      return state // 65536 % n
    end
    local read_anyway = 0
    for _ = 1, 3000 do
      local bytes = whole
      for _ = 1, 1 + random(3) do
        local at = random(2) == 0 and 1 + random(first) or #whole - random(60)
        bytes = bytes:sub(1, at - 1) .. string.char(random(256)) .. bytes:sub(at + 1)
      end
      local ok, message = pcall(read, bytes)
      if ok then read_anyway = read_anyway + 1 else assert.truthy(tostring(message):find("test_batch", 1, true)) end
    end
    assert.truthy(read_anyway > 0 and read_anyway < 3000)
  end)
end)
