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
    check.fails(function() cld.json.encode "\xff" end, "not UTF%-8")
    check.fails(function() cld.json.decode "[1,]" end, "line 1, column 4")
    check.fails(function() cld.json.decode '{"a":1,"a":2}' end, "duplicate")
    check.fails(function() cld.json.decode "" end, "json.decode")
  end)
end)
