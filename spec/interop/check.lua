--- `make test-interop`: checks that PyTorch, torchvision, onnxruntime, safetensors and detectron2's way of reading
-- understand what we write. Ends with "N passed, N failed". Python is $PEER_PYTHON, or python3. If it lacks a library,
-- a line says so, and the checks that need the library are left out.
--
--   files   networks in every format, read by read_exports.py
--   lines   the commands that recipes print at the end of a run, each run unchanged in a shell
local cld = require "cld"
local export = require "cld.export"
local exported = require "spec.support.exported"
local process = require "spec.support.process"
local trunk = require "cld.models.trunk"
local usage = require "cld.export.usage"

local python = os.getenv "PEER_PYTHON" or "python3"
local folder = process.temporary_folder()
local passed, failed = 0, 0

local function count(name, ok, why)
  if ok then passed = passed + 1 else failed = failed + 1 end
  print(("%-7s %s%s"):format(ok and "ok" or "FAILED", name, ok and "" or ": " .. tostring(why)))
  io.stdout:flush()
end

-- The exit status and the output of a command.
local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read "a"
  return pipe:close() == true, text
end

local function has(module) return (run(("%s -c 'import %s'"):format(usage.shell(python), module))) end

-- ---- files ---------------------------------------------------------------------------

-- {name, size of the images, network}
local networks = {
  { "CIFAR resnet18", 32, function() return cld.models.resnet18_cifar() end },
  { "CIFAR resnet18 of width 16, norm_linear", 32, function()
    return cld.models.resnet18_cifar { width = 16, norm_linear = true }
  end },
  { "CIFAR resnet34, a projector", 32, function()
    return cld.models.resnet34_cifar { width = 8, projector = { hidden = 32, dim = 16 } }
  end },
  { "CIFAR resnet18, a pooled corner", 96, function()
    return cld.models.resnet18_cifar { width = 8, stem = "imagenet", pool_window = 2 }
  end },
  { "resnet50, mlp", 96, function() return cld.models.resnet50() end },
  { "resnet50, norm_mlp, stem of 64", 64, function()
    return cld.models.resnet50 { width = 16, stem = 64, head = "norm_mlp", dim = 32 }
  end },
  { "resnet101, one branch", 64, function()
    return cld.models.resnet101 { width = 8, branches = { "instance" }, head = "linear" }
  end },
  { "wide_resnet50_2", 64, function() return cld.models.wide_resnet50_2 { width = 8 } end },
  { "resnext101_32x4d", 64, function() return cld.models.resnext101_32x4d { width = 16 } end },
  { "InfoMin's resnet18", 64, function() return cld.models.resnet18 { width = 8, layout = "infomin", dim = 16 } end },
}

local function put_arrays(path, entry, arrays)
  for part, tensor in pairs(arrays) do
    entry[part] = ("%s %s.npy"):format(path, part)
    cld.io.save_npy(entry[part], tensor)
  end
end

local function put(path, name, size, net)
  local images, entry = cld.rand(3, 3, size, size), { name = name, tensors = #net:state_list() }
  local _ <close> = cld.no_grad()
  put_arrays(path, entry, { images = images, features = net:features(images), instance = (net(images)) })
  for _, format in ipairs(export.formats) do
    for _, layer in ipairs(format == "onnx" and { "features", "instance" } or { "" }) do
      local key = format == "onnx" and "onnx " .. layer or format
      entry[key] = path .. " " .. key
      cld.models.export(net, entry[key], { format = format, size = size, layer = layer ~= "" and layer or nil })
    end
  end
  entry.statements = table.concat(usage.torchvision(trunk.of(net), export.classes(net)), "\n")
  return entry
end

-- A network of one's own, which only ONNX takes whole.
local function put_own(path, name, net)
  local images, entry = cld.randn(3, 3, 16, 16), { name = name, ["onnx instance"] = path .. " onnx" }
  local _ <close> = cld.no_grad()
  put_arrays(path, entry, { images = images, instance = (net(images)) })
  cld.models.export(net, entry["onnx instance"], { format = "onnx", size = 16, layer = "instance" })
  return entry
end

local function check_files()
  local manifest = {}
  cld.manual_seed(1)
  for i, entry in ipairs(networks) do
    local name, size, make = table.unpack(entry)
    manifest[i] = put(("%s/%d"):format(folder, i), name, size, exported.lived(make()):eval())
  end
  for name, make in pairs(exported.own) do
    local i = #manifest + 1
    manifest[i] = put_own(("%s/%d"):format(folder, i), "a forward that has " .. name, make():eval())
  end
  local path = process.write(folder .. "/manifest.json", cld.json.encode(manifest))
  local ok, text = run(("%s spec/interop/read_exports.py %s"):format(usage.shell(python), path))
  for line in text:gmatch "[^\n]+" do
    local kind, claim = line:match "^(%S+) (.*)$"
    if kind == "ok" or kind == "FAILED" then count(claim, kind == "ok", "see there") else print(line) end
  end
  if not ok then count("read_exports.py runs", false, text:sub(-400)) end
end

-- ---- lines -----------------------------------------------------------------------------

-- The commands that a run prints at its end.
local function commands(text)
  local found, rest = {}, text:match "how to use the weights[^\n]*\n(.*)$" or ""
  for line in rest:gmatch "[^\n]+" do
    local command = line:match "^  (%S.*)$"
    if not command then break end
    found[#found + 1] = command
  end
  return found
end

-- Runs a recipe, and then the commands that it prints, in a folder whose name a shell would take apart if it were not
-- quoted.
local function check_lines(name, recipe, expected, prepare)
  local place = ("%s/it's %s $(x)"):format(folder, name:gsub("%W", " "))
  cld.io.mkdir(place)
  local bin = folder .. "/bin"
  if not cld.io.exists(bin) then
    cld.io.mkdir(bin)
    process.write(bin .. "/python3", ("#!/bin/sh\nexec %s \"$@\"\n"):format(usage.shell(python)))
    assert(run("chmod +x " .. usage.shell(bin .. "/python3")))
  end
  local root = process.absolute "."
  local there = ("cd %s && PATH=%s:$PATH "):format(usage.shell(place), usage.shell(bin))
  local cldlua = there .. process.absolute "build/cldlua" .. " " .. root .. "/recipes/"
  assert(run(cldlua .. "make_toy_data.lua --out toy --train 48 --test 16"))
  if prepare then assert(run(cldlua .. prepare)) end
  local ok, text = run(cldlua .. recipe .. " --threads 2 --name " .. usage.shell("a b's"))
  count(name .. ": the run", ok, text:sub(-800))
  local lines = commands(text)
  count(name .. ": says how to use it", #lines == #expected, ("%d lines"):format(#lines))
  for i, line in ipairs(lines) do
    local fine, output = run(there .. "sh -c " .. usage.shell(line))
    count(("%s: line %d runs"):format(name, i), fine and output:find(expected[i] or "") ~= nil, line .. "\n" .. output)
  end
end

local SMALL = " --data toy --epochs 1 --batch-size 16 --width 8"
print("python: " .. python)
check_files()
if has "torch, torchvision, safetensors" then
  local three = { "format torchvision", "torch.Size%(%[1, 64%]%)", "cifar_resnet" }
  check_lines("NPID + CLD", "cifar10_npid_cld.lua --clusters 4" .. SMALL, three)
  check_lines("MoCo + CLD", "cifar10_moco_cld.lua --clusters 4 --queue 64" .. SMALL, three)
  check_lines("BYOL + CLD", "cifar10_byol_cld.lua --clusters 4" .. SMALL, three)
  check_lines("fine-tuning", "finetune.lua --checkpoint runs/first --epochs 1 --lr 0.1 --head-lr 1 --batch-size 16", {
    "format torchvision", "torch.Size%(%[1, 10%]%)", "classifier",
  }, "cifar10_npid_cld.lua --clusters 4 --name first" .. SMALL)
else
  print "skipped the lines of runs: they need torch, torchvision and safetensors"
end
process.remove(folder)
print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and 0 or 1, true)
