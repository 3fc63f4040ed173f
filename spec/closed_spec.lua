--- A name that is not there is an error that names the nearest one: in every table of functions, and if it is called as
-- an object's method.
local cld = require "cld"
local check = require "spec.support.check"
local closed = require "cld.closed"
local process = require "spec.support.process"

-- A registry, which is asked for names that may not be there.
local open = { ["cld.models.constructors"] = true }

-- visit(path, table) for every public table of functions, however deep.
local function walk(visit)
  local seen = {}
  local function down(path, value)
    if seen[value] or open[path] then return end
    seen[value] = true
    if closed.is_functions(value) then visit(path, value) end
    for name, inner in pairs(value) do
      local is_class = type(inner) == "table" and rawget(inner, "_name") ~= nil
      if type(name) == "string" and type(inner) == "table" and not is_class then down(path .. "." .. name, inner) end
    end
  end
  down("cld", cld)
end

describe("tables of functions", function()
  it("are all closed", function()
    local count, left_open = 0, {}
    walk(function(path, functions)
      count = count + 1
      local ok, message = pcall(function() return functions.qqzzx end)
      if ok or not tostring(message):find("closed_spec.lua:%d+: " .. path:gsub("%p", "%%%0") .. " has no 'qqzzx'") then
        left_open[path] = tostring(message)
      end
    end)
    assert.same({}, left_open)
    assert.is_true(count >= 20)
  end)

  it("are those that there are", function()
    local paths = {}
    walk(function(path) paths[path] = true end)
    for _, name in ipairs {
      "augment", "autograd", "cuda", "data", "dist", "eval", "image", "io", "json", "losses", "models", "nn",
      "nn.functional", "nn.init", "optim", "options", "run", "schedule",
    } do
      assert.is_true(paths["cld." .. name], name)
    end
  end)

  it("are nil for whoever asks raw, by a number, or for a metamethod", function()
    walk(function(_, functions)
      assert.is_nil(rawget(functions, "qqzzx"))
      assert.is_nil(functions[1])
      assert.is_nil(functions.__qqzzx)
    end)
  end)

  it("are listed by pairs as before", function()
    local names = {}
    for name in pairs(cld.optim) do names[#names + 1] = name end
    table.sort(names)
    assert.same({ "adam", "adamw", "clip_grad_norm", "ema", "from_options", "lars", "no_decay", "sgd" }, names)
  end)

  local near = {
    { "nn", "Linear", "linear" }, { "nn", "BatchNorm2d", "batch_norm2d" }, { "nn", "ReLU", "relu" },
    { "optim", "Adam", "adam" }, { "optim", "SGD", "sgd" }, { "cuda", "is_availabe", "is_available" },
    { "schedule", "CosineAnnealingLR", "cosine" }, { "models", "ResNet50", "resnet50" },
    { "nn", "BCEWithLogitsLoss", "cld.nn.functional.bce_with_logits" },
    { "nn", "MSELoss", "cld.nn.functional.mse_loss" }, { "nn", "CrossEntropyLoss", "cld.cross_entropy" },
  }
  for _, case in ipairs(near) do
    local module, theirs, ours = table.unpack(case)
    it(("%s.%s: %s"):format(module, theirs, ours), function()
      check.fails(function() return cld[module][theirs] end,
        ("cld.%s has no '%s'; did you mean '%s'%%?$"):format(module, theirs, ours))
    end)
  end
  it("cld.Linear: cld.nn.linear", function()
    check.fails(function() return cld.Linear end, "cld has no 'Linear'; did you mean 'cld.nn.linear'%?$")
  end)
  it("offer nothing when nothing is near", function()
    check.fails(function() return cld.optim.xyzzyplugh end, "cld.optim has no 'xyzzyplugh'$")
  end)

  it("are closed from the first look on, before anything else is loaded", function()
    local result = process.run { "-e", "print(pcall(function() return require 'cld'.optim.Adam end))" }
    assert.is_truthy(result.out:find("cld.optim has no 'Adam'; did you mean 'adam'?", 1, true), result.out)
  end)

  it("registries, members of modules and classes of one's own stay nil", function()
    assert.is_nil(cld.models.constructors.no_such_net)
    assert.is_nil(cld.nn.linear(1, 1, { bias = false }).bias)
    local Own = cld.nn.module "Own"
    assert.is_nil(Own.anything)
    assert.is_nil(Own().anything)
  end)
end)

describe("objects made in Lua", function()
  local objects = {
    memory_bank = function() return cld.losses.memory_bank { size = 4, dim = 2 } end,
    moco_queue = function() return cld.losses.moco_queue { size = 4, dim = 2 } end,
    infomin_loss = function()
      return cld.losses.infomin { queue = cld.losses.moco_queue { size = 4, dim = 2 } }
    end,
    augmentation = function() return cld.augment.base { size = 32 } end,
    dataset = function()
      return cld.data.tensors { images = cld.zeros({ 2, 4, 4, 3 }, "u8"), labels = cld.zeros({ 2 }, "i64") }
    end,
    over_parts = function() return cld.diagnostics.over_parts(4) end,
  }
  objects.loader = function() return cld.data.loader { objects.dataset(), batch_size = 2 } end

  for kind, make in pairs(objects) do
    it(("name the methods of %s where it lacks the one that is called"):format(kind), function()
      local object = make()
      local function call() object:qqzzx() end
      check.fails(call, "closed_spec.lua:%d+: " .. kind .. " has no method 'qqzzx'; it has ")
    end)
  end

  it("name the nearest method", function()
    local bank = objects.memory_bank()
    local function call() bank:los(1) end
    check.fails(call, ": memory_bank has no method 'los'; did you mean 'loss'%?$")
  end)
  it("do so for a call with a dot", function()
    local bank = objects.memory_bank()
    local function call() bank.los(1) end
    check.fails(call, ": memory_bank has no method 'los'; did you mean 'loss'%?$")
  end)
  it("have nil in a field that is read and not called", function()
    assert.is_nil(objects.memory_bank().normalizer)
  end)
  it("have nil in a method that is asked for before it is called", function()
    local bank = objects.memory_bank()
    assert.is_nil(bank.update and bank:update())
  end)
  it("have nil in a missing field of a data set", function() assert.is_nil(objects.dataset().paths) end)
end)
