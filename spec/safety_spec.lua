--- What Lua code can do to arguments behind a function's back: odd tables, metamethods, finalizers.
local cld = require "cld"
local check = require "spec.support.check"

describe("extents", function()
  it("whose product no integer holds are refused, in views too", function()
    check.fails(function() cld.ones(1, 1):expand(1 << 40, 1 << 40) end, "that many elements")
    check.fails(function() cld.ones(1, 1, 1):expand(1 << 40, 1 << 40, 1):narrow(3, 1, 0) end, "that many elements")
    check.fails(function() cld.zeros(0, 1 << 40, 1 << 40) end, "that many elements")
    check.fails(function() cld.zeros(1 << 40, 1 << 40, 0) end, "that many elements")
    assert.same({ 1 << 40, 2 }, cld.ones(1, 2):expand(1 << 40, 2).shape)
  end)

  it("come from tables with a sane length", function()
    local odd = setmetatable({}, { __len = function() return -1 end })
    check.fails(function() cld.zeros(odd) end, "negative")
    check.fails(function() cld.ones(2):reshape(odd) end, "negative")
    check.fails(function() cld.tensor(odd) end, "cannot be %-1")
  end)

  it("of convolutions and pools stay in their types", function()
    local functional = cld.nn.functional
    local x, w = cld.ones(1, 1, 4, 4), cld.ones(1, 1, 2, 2)
    for _, padding in ipairs { (1 << 31) - 1, 1 << 30 } do
      check.fails(function() functional.conv2d(x, w, nil, { padding = padding }) end, "out of memory")
    end
    check.fails(function() functional.conv2d(x, w, nil, { stride = 1 << 32 }) end, "stride must be less than 2^31")
    check.fails(function() functional.conv2d(x, w, nil, { groups = (1 << 32) + 1 }) end, "groups must be")
    check.fails(function() functional.conv2d(x, w, nil, { groups = 0 }) end, "groups must be at least 1")
    check.fails(function() functional.max_pool2d(x, (1 << 32) + 1) end, "kernel must be less than 2^31")
    local wide = x:narrow(4, 1, 1):narrow(3, 1, 1):expand(1, 1, 1 << 32, 1)
    check.fails(function() functional.adaptive_avg_pool2d(wide, 1) end, "too large")
  end)
end)

-- Enough dead tensors that the next one may start a collection.
local function litter() for _ = 1, 40 do cld.empty(1 << 20) end end

describe("tensors that nothing else keeps", function()
  it("may come from __index of a table of options", function()
    local x = cld.randn(4, 4, 8, 8)
    local options = setmetatable({ training = true }, { __index = function(_, key)
      if key == "residual" then return cld.full({ 4, 4, 8, 8 }, 1) end
    end })
    local expected = cld.nn.functional.batch_norm(x, nil, nil, nil, nil,
      { training = true, residual = cld.ones(4, 4, 8, 8) })
    for _ = 1, 20 do
      litter()
      check.close(cld.nn.functional.batch_norm(x, nil, nil, nil, nil, options), expected)
    end
  end)

  it("may come from __index of a list", function()
    local list = setmetatable({}, { __len = function() return 3 end, __index = function(_, i)
      litter()
      return cld.full({ 2 }, i)
    end })
    for _ = 1, 5 do
      assert.same({ 1, 1, 2, 2, 3, 3 }, cld.cat(list):totable())
      assert.same({ { 1, 1 }, { 2, 2 }, { 3, 3 } }, cld.stack(list):totable())
    end
  end)

  it("may be the gradient given to backward", function()
    local x = cld.ones(2):requires_grad_()
    for i = 1, 5 do
      x.grad = nil;
      (x * 3):backward(setmetatable({}, { __index = function(_, key)
        if key == "gradient" then return cld.full({ 2 }, i) end
      end }))
      assert.same({ 3 * i, 3 * i }, x.grad:totable())
    end
  end)
end)

describe("a tensor that is closed", function()
  it("while a function reads it is left to the collector", function()
    local x = cld.full({ 4, 4, 8, 8 }, 2)
    local function closing(key, value)
      return setmetatable({}, { __index = function(_, k)
        if k == key then x:close(); return value end
      end })
    end
    local w = cld.ones(1, 4, 1, 1)
    assert.equal(8, cld.nn.functional.conv2d(x, w, nil, closing("stride", 1))[{ 1, 1, 1, 1 }]:item())
    assert.equal(2, x[{ 1, 1, 1, 1 }]:item())
    x:close()
    check.fails(function() return x.shape end, "closed")
  end)

  it("by a finalizer, too", function()
    for _ = 1, 10 do
      local x = cld.full({ 1 << 20 }, 2)
      setmetatable({ x = x }, { __gc = function(self) self.x:close() end })
      litter()
      local ok, y = pcall(cld.exp, x) -- the finalizer ran before, during or after
      if ok then assert.equal(math.floor(math.exp(2)), y:floor()[1]:item())
      else assert.truthy(y:find "closed") end
    end
  end)
end)
