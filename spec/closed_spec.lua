--- In every table of functions a missing name is an error that names the nearest one.
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
