--- recipes/export.lua, and the commands that a run prints at its end, which are run here unchanged, except Python's
-- (spec/interop).
local cld = require "cld"
local process = require "spec.support.process"
local recipes = require "spec.support.recipes"

local folder, toy
local SMALL = { "--epochs", "1", "--batch-size", "16", "--width", "4", "--clusters", "4", "--threads", "1" }

local function arguments(...)
  return table.unpack(table.move(SMALL, 1, #SMALL, select("#", ...) + 1, { ... }))
end

-- The commands that a run's output names.
local function commands(text)
  local found = {}
  for line in (text:match "how to use the weights[^\n]*\n(.*)$" or ""):gmatch "[^\n]+" do
    found[#found + 1] = line:match "^  (%S.*)$"
  end
  return found
end

local function sh(command) return process.run { program = "bash", "-c", command } end

local moco -- the result of a run, in a folder whose name needs quotes
setup(function()
  folder, toy = recipes.start()
  moco = recipes.run("cifar10_moco_cld", arguments("--data", toy, "--queue", "64", "--runs", folder .. "/it's runs",
    "--name", "a b"))
  assert(moco.code == 0, moco.err)
end)
teardown(function() recipes.remove() end)

describe("a run's end", function()
  it("says in three lines how to use what it learned", function()
    local lines = commands(moco.out)
    assert.equal(3, #lines)
    assert.matches("recipes/export.lua %-%-checkpoint '.*/it'\\''s runs/a b' %-%-out '.*/a b/torchvision.pth'$",
      lines[1])
    assert.matches("^python3 %-c 'import sys, torch, torchvision; m = torchvision.models.resnet18", lines[2])
    assert.matches("torch.nn.Conv2d%(3, 4, 3, padding=1, bias=False%)", lines[2])
    assert.matches("'.*/it'\\''s runs/a b/torchvision.pth'$", lines[2])
  end)

  it("whose first and third run as they stand", function()
    local lines = commands(moco.out)
    local made, here = sh(lines[1]), sh(lines[3])
    assert.equal("", made.err .. here.err)
    assert.same({ 0, 0 }, { made.code, here.code })
    assert.matches("120 tensors, format torchvision; it takes %(N, 3, 32, 32%), RGB from 0 to 1", made.out)
    assert.matches("cifar_resnet", here.out)
    local state = cld.load(folder .. "/it's runs/a b/torchvision.pth")
    local net = cld.models.load(folder .. "/it's runs/a b")
    assert.equal(1, state["layer4.1.conv2.weight"]:eq(net.layer4[2].conv2.weight):all():item())
  end)

  it("of a recipe elsewhere names the recipe for exports where it is", function()
    process.write(folder .. "/mine.lua", [[
      local cld = require "cld"
      local net = cld.models.resnet18 { width = 4, head = false }
      local run = cld.run(cld.options { about = "mine", { "epochs", 1, "epochs", integer = true },
        cld.options.training })
      for _ in run:epochs { net = net } do run:track { loss = 1 } end]])
    local result = process.run { "mine.lua", directory = folder, program = process.absolute(process.cldlua) }
    local line = commands(result.out)[1] or result.err
    local path = line:match "cldlua (%S+) %-%-checkpoint runs/mine %-%-out runs/mine/torchvision.pth$"
    assert.equal("file", cld.io.exists(path or ""), line)
  end)

  describe("of a network of one's own", function()
    -- The output of a run of `net`, in its own folder: a file that defines `layers` as cld.models.mine (or the script
    -- does), and a script that trains.
    local count = 0
    local function train(layers, net, in_script)
      count = count + 1
      local place = ("%s/own %d"):format(folder, count)
      cld.io.mkdir(place)
      local define = ([[
        local cld = require "cld"
        cld.models.define("mine", function() return cld.nn.sequential(%s) end)]]):format(layers)
      process.write(place .. "/my_net.lua", define)
      local script = ([[
        local cld = require "cld"
        local run = cld.run(cld.options { about = "own", { "epochs", 1, "epochs", integer = true },
          cld.options.training })
        run:describe { test_view = cld.augment.none { size = 16 } }
        for _ in run:epochs { net = %s } do run:track { loss = 1 } end]]):format(net)
      process.write(place .. "/own.lua", (in_script and define or 'require "my_net"\n') .. script)
      local result = process.run { "own.lua", "--name", "own", directory = place,
        program = process.absolute(process.cldlua) }
      return result.out, place
    end
    local IMAGES = "cld.nn.conv2d(3, 4, 3), cld.nn.adaptive_avg_pool2d(1), cld.nn.flatten()"

    it("is a line that writes it as ONNX and runs, and one that reads its tensors", function()
      local out, place = train(IMAGES, "cld.models.mine {}")
      local lines = commands(out)
      assert.equal(2, #lines, out)
      assert.matches("recipes/export.lua %-%-checkpoint runs/own %-%-require ./my_net.lua %-%-out runs/own/net.onnx$",
        lines[1])
      local made = sh(("cd '%s' && %s"):format(place, lines[1]))
      assert.equal("", made.err)
      assert.matches("\nruns/own/net.onnx: 2 tensors, format onnx; it takes %(N, 3, 16, 16%)", made.out)
      assert.matches('safetensors.torch.load_file.*k.startswith%("net."%)', lines[2])
    end)

    it("is its weights if its forward cannot be followed, and why", function()
      local out, place = train("cld.nn.linear(2, 3)", "cld.models.mine {}")
      local lines = commands(out)
      assert.matches("%-%-require ./my_net.lua %-%-out runs/own/net.pth %-%-format pth$", lines[1])
      assert.matches("\nno ONNX model of the network: format onnx: in '0' %(linear%): its forward cannot be", out)
      local made = sh(("cd '%s' && %s"):format(place, lines[1]))
      assert.matches("\nruns/own/net.pth: 2 tensors, format pth;", made.out .. made.err)
    end)

    it("is torchvision's if it has a ResNet's trunk", function()
      local out, place = train("cld.models.resnet18 { width = 4, head = false }", "cld.models.mine {}")
      local lines = commands(out)
      assert.equal(3, #lines, out)
      local made, here = sh(("cd '%s' && %s"):format(place, lines[1])), sh(("cd '%s' && %s"):format(place, lines[3]))
      assert.matches("\nruns/own/torchvision.pth: 120 tensors, format torchvision;", made.out .. made.err)
      assert.matches("sequential", here.out .. here.err)
    end)

    it("is its tensors alone if nothing says how it is made", function()
      local out, place = train(IMAGES, "cld.nn.sequential(" .. IMAGES .. ")")
      local lines = commands(out)
      assert.equal(1, #lines, out)
      assert.matches('safetensors.torch.load_file.*k.startswith%("net."%)', lines[1])
      assert.matches("\nno export of the network: no constructor of cld.models made it; cld.models.define in a file of",
        out)
      local result = recipes.run("export", "--checkpoint", place .. "/runs/own", "--out", folder .. "/none")
      assert.matches("^cldlua: [^\n]*does not say how its 'net' is made[^\n]*\n$", result.err)
    end)

    it("is its tensors alone if the script that trains defines it", function()
      local out = train(IMAGES, "cld.models.mine {}", true)
      assert.equal(1, #commands(out), out)
      assert.matches("\nno export of the network: cld.models.define is called by the script that trains; ", out)
    end)
  end)

  it("never fails the run", function()
    local result = recipes.run_after("require 'cld.export.usage'.of_run = function() error 'no way' end",
      "cifar10_npid_cld", arguments("--data", toy, "--runs", folder .. "/runs", "--name", "npid"))
    assert.equal(0, result.code)
    assert.matches("\ncannot say how to use the weights: .*no way\n", result.out)
  end)
end)

describe("recipes/export.lua", function()
  -- A fresh name, and the result of an export there.
  local count = 0
  local function export(...)
    count = count + 1
    local out = ("%s/out %d"):format(folder, count)
    return recipes.run("export", "--checkpoint", folder .. "/it's runs/a b", "--out", out, ...), out
  end

  local readers = {
    torchvision = "torch.load", pth = "torch.load", detectron2 = "pickle.load", onnx = "onnxruntime",
    npy = "numpy.load", npz = "numpy.load", safetensors = "safetensors.torch",
  }
  for format, reader in pairs(readers) do
    it("writes " .. format .. " and says how it is read", function()
      local result, out = export("--format", format)
      assert.equal(0, result.code, result.err)
      assert.is_truthy(cld.io.exists(out))
      local last = result.out:match "([^\n]*)\n$"
      assert.matches("^python3 %-c .*" .. reader:gsub("%p", "%%%0"), last)
      assert.equal("'" .. out .. "'", last:match "'[^']*'$")
    end)
  end

  it("writes the format that the file's name ends with", function()
    for ending, format in pairs { ["a.ONNX"] = "onnx", ["a.pkl"] = "detectron2", ["a.safetensors"] = "safetensors",
      ["a.npy"] = "npy", ["a.npz"] = "npz", ["a.pth"] = "torchvision", ["a.PT"] = "torchvision",
      ["a.pth.tar"] = "torchvision", ["b.onnx.pth"] = "torchvision" } do
      local result = export("--out", folder .. "/" .. ending)
      assert.matches("tensors, format " .. format .. ";", result.out)
    end
  end)

  it("takes the key encoder", function()
    local _, query = export("--format", "pth")
    local _, key = export("--format", "pth", "--encoder", "key")
    local expected = cld.models.load(folder .. "/it's runs/a b", { object = "keys" }).conv1.weight
    local own, other = cld.load(key)["conv1.weight"], cld.load(query)["conv1.weight"]
    assert.same({ 1, 0 }, { own:eq(expected):all():item(), other:eq(expected):all():item() })
  end)

  local function refused(message, ...)
    local result = export(...)
    assert.equal(1, result.code)
    assert.matches("^cldlua: [^\n]*" .. message .. "[^\n]*\n$", result.err)
  end

  it("refuses an unknown format in one line", function()
    refused("option '%-%-format': expected one of auto, torchvision, pth, detectron2, onnx, npy, npz, safe"
      .. "tensors,"
      .. " got 'onx'", "--format", "onx")
  end)

  it("writes encoder with the format's ending if no file is given", function()
    local result = process.run { process.absolute "recipes/export.lua", "--checkpoint", folder .. "/it's runs/a b",
      "--format", "detectron2", directory = folder, program = process.absolute(process.cldlua) }
    assert.matches("\nencoder.pkl: 120 tensors, format detectron2;", result.out)
  end)

  it("says that detectron2 goes by the name, and that a reader may", function()
    assert.matches("\ndetectron2 reads such a file only if its name ends with .pkl\n",
      (export("--format", "detectron2")).out)
    assert.matches("\n.weights is not an ending of format pth; that is .pth\n",
      (export("--format", "pth", "--out", folder .. "/a.weights")).out)
  end)

  it("refuses an ending that no format has in one line", function()
    refused("cannot tell the format of '.*/a.h5': .h5 is none of .npy, .npz, .onnx, .pkl, .pt, .pth, .safetensors; ",
      "--out", folder .. "/a.h5")
  end)

  it("refuses the ending of another format in one line", function()
    refused("'.*/c.pth' is to have format safetensors, and .pth is the ending of format torchvision; give it another",
      "--out", folder .. "/c.pth", "--format", "safetensors")
  end)

  it("refuses a folder as the file in one line", function()
    refused("cannot write '.*': it is a folder", "--out", folder)
  end)

  it("refuses an unwritable place in one line", function()
    refused("/none/x", "--out", folder .. "/none/x")
  end)

  it("refuses the key encoder of a run without one in one line", function()
    local result = recipes.run("export", "--checkpoint", folder .. "/runs/npid", "--encoder", "key", "--out",
      folder .. "/none")
    assert.equal(1, result.code)
    assert.matches("it has no key encoder %(no object 'keys' or 'target'%); it holds bank, [^\n]*net, sgd\n$",
      result.err)
  end)
end)
