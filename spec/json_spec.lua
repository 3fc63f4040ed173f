--- JSON text and back.
local cld = require "cld"
local check = require "spec.support.check"

describe("json", function()
  it("comes back as it was", function()
    local value = { a = 1, b = 2.0, c = { 1, 2, { x = "y" } }, d = "ü \"\\\n\1", e = true, f = 0.1, g = 1e300, h = -0.0,
      i = math.pi, j = math.mininteger, k = cld.json.null }
    local text = cld.json.encode(value)
    local back = cld.json.decode(text)
    assert.same(value, back)
    assert.equal("float", math.type(back.b))
    assert.equal("integer", math.type(back.a))
    assert.equal(text, cld.json.encode(back))
    assert.matches('"f":0%.1,', text)
    assert.same(value, cld.json.decode(cld.json.encode(value, 2)))
  end)

  it("says what it cannot", function()
    local circle = {}
    circle.circle = circle
    check.fails(function() cld.json.encode(0 / 0) end, "no number")
    check.fails(function() cld.json.encode { math.huge } end, "no number")
    check.fails(function() cld.json.encode(circle) end, "cycle")
    check.fails(function() cld.json.encode(print) end, "a function has no JSON form")
    check.fails(function() cld.json.encode { [3] = 1 } end, "keys must be strings")
    check.fails(function() cld.json.decode "[1,]" end, "line 1, column 4")
    check.fails(function() cld.json.decode '{"a":1,"a":2}' end, "duplicate")
    check.fails(function() cld.json.decode "" end, "json.decode")
  end)

  it("says in one line of printable text what is wrong with a text", function()
    local _, message = pcall(cld.json.decode, '{"a":\27[31m\n}')
    assert.matches("\\x1b", message)
    assert.is_nil(message:find "[%c]")
  end)
end)

-- Bytes that are no UTF-8 text: alone, cut off, too long, surrogates, beyond Unicode; and the characters that stand for
-- such bytes in a file.
local texts = {
  "d\xe9tail", "\xff", "\x80", "\xc3", "\xe2\x82", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
  "\xf0\x9f\x98", "\u{10FE80}", "\u{10FEE9}", "\u{10FEFF}", "\u{10FE7F}\u{10FF00}", "\u{e9}\xe9\u{10FEE9}\u{1F600}",
  "\xf4\x8f", "\xf4\x8f\xbb", "a\0b\xff",
}

describe("json text", function()
  for _, text in ipairs(texts) do
    it(("brings %q back as it was"):format(text), function()
      assert.equal(text, cld.json.decode(cld.json.encode(text)))
    end)

    it(("brings %q back as a key"):format(text), function()
      local key = text:gsub("%z", "")
      assert.same({ [key] = 1 }, cld.json.decode(cld.json.encode { [key] = 1 }))
    end)

    it(("of %q is UTF-8"):format(text), function()
      assert.is_truthy(utf8.len(cld.json.encode(text)))
    end)
  end

  it("brings every byte back as it was", function()
    local bytes = {}
    for byte = 0, 255 do bytes[#bytes + 1] = string.char(byte) end
    for _, text in ipairs { table.concat(bytes), table.concat(bytes, "\u{e9}"), table.concat(bytes):reverse() } do
      assert.equal(text, cld.json.decode(cld.json.encode(text)))
    end
  end)

  it("has the documented form of a byte", function()
    assert.equal([["d\udbff\udee9tail"]], cld.json.encode "d\xe9tail")
  end)

  it("has no control characters", function()
    assert.equal([["\u0000\n\r\t\u001b\u007f\u0085\\\""]], cld.json.encode "\0\n\r\t\27\127\u{85}\\\"")
  end)
end)
