--- How to use a trained network, as commands that run as they are. recipes/export.lua prints them after writing a file,
-- and a run prints them at its end (run/ending.lua).
--
--   for _, line in ipairs((usage.of_run { net = net, folder = "runs/a", object = "net", view = view })) do
--     print(line)
--   end
--
-- Paths are quoted for the shell, and handed to Python as arguments.
local core = require "cld.core"
local detectron2 = require "cld.export.detectron2"
local dist = require "cld.dist"
local export = require "cld.export"
local trunk = require "cld.models.trunk"

local usage = {}

-- ---- quoting ---------------------------------------------------------------------------

--- shell(text) -> one shell word. Characters that a terminal cannot show are escaped for bash, zsh and ksh.
function usage.shell(text)
  if text:find "^[%w_./:=@%%+,-]+$" and not text:find "^[-]" then return text end
  if core.text.printable_line(text) == text and not text:find "\\[xu]" then
    return "'" .. text:gsub("'", "'\\''") .. "'"
  end
  return "$'" .. text:gsub("[\\']", "\\%0"):gsub("[^ -~]", function(byte)
    return ("\\x%02x"):format(byte:byte())
  end) .. "'"
end

-- A Lua string literal for a text, on one line and in ASCII.
local function lua_text(text)
  return '"' .. text:gsub('[\\"]', "\\%0"):gsub("[^ -~]", function(byte)
    return ("\\%03d"):format(byte:byte())
  end) .. '"'
end

-- ---- torchvision's model ------------------------------------------------------------------

-- The models that torchvision has a function for; the others are made from the same class.
local known = {
  resnet18 = true, resnet34 = true, resnet50 = true, resnet101 = true, resnet152 = true, wide_resnet50_2 = true,
  wide_resnet101_2 = true, resnext50_32x4d = true, resnext101_32x8d = true, resnext101_64x4d = true,
}
local depths = { ["101"] = "3, 4, 23, 3", ["152"] = "3, 8, 36, 3" }

local function constructor(arch)
  if known[arch] then return ("torchvision.models.%s(weights=None)"):format(arch) end
  local depth, groups, per_group = arch:match "^resnext(%d+)_(%d+)x(%d+)d$"
  return ("torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [%s], groups=%s, width_per_group=%s)")
    :format(depths[depth], groups, per_group)
end

--- torchvision(found = what trunk.of returned, classes = the layer of classes or nil) -> statements of Python that make
-- `m` the torchvision model that the weights fit.
function usage.torchvision(found, classes)
  local lines = { "m = " .. constructor(found.arch) }
  local function add(...) lines[#lines + 1] = (...):format(select(2, ...)) end
  local bias = classes and (classes.bias and "" or ", bias=False")
  add("m.fc = torch.nn.%s", classes
    and ("Linear(%d, %d%s)"):format(classes.weight.shape[2], classes.weight.shape[1], bias) or "Identity()")
  if found.small then
    add("m.conv1 = torch.nn.Conv2d(3, %d, 3, padding=1, bias=False)", found.stem)
    add "m.maxpool = torch.nn.Identity()"
  elseif found.stem ~= 64 then
    add("m.conv1 = torch.nn.Conv2d(3, %d, 7, stride=2, padding=3, bias=False)", found.stem)
  end
  if found.stem ~= 64 then add("m.bn1 = torch.nn.BatchNorm2d(%d)", found.stem) end
  if found.width ~= 64 or found.stem ~= 64 then
    add("m.inplanes = %d", found.stem)
    add('[setattr(m, "layer%%d" %% i, m._make_layer(type(m.layer1[0]), %d << i - 1, len(getattr(m, "layer%%d" %% i)),'
      .. " 1 + (i > 1))) for i in (1, 2, 3, 4)]", found.width)
  end
  if found.window then add("m.avgpool = torch.nn.AvgPool2d((%d, %d))", found.window[1], found.window[2]) end
  return lines
end

local function sized(options)
  local side = options.size
  if side then return side, side end
  local ok, height, width = pcall(function() return options.view:size() end)
  if not ok then return 224, 224 end
  return height, width
end

--- input_text{view = a test view or nil, size, normalize} -> what the network takes, in words: "it takes (N, 3, 32,
-- 32), RGB from 0 to 1, less the mean ...".
function usage.input_text(options)
  local view = options.view
  if not view then return "it takes images as its training prepared them" end
  local mean, std = view:statistics()
  local function shown(list) return ("(%.4g, %.4g, %.4g)"):format(table.unpack(list)) end
  local rest = options.normalize and ""
    or (", less the mean %s, divided by the deviation %s"):format(shown(mean), shown(std))
  return ("it takes (N, 3, %d, %d), RGB from 0 to 1"):format(sized(options)) .. rest
end

-- ---- commands -----------------------------------------------------------------------------

-- A Python command with the paths as its arguments.
local function python(statements, ...)
  local words = { "python3", "-c", "'" .. table.concat(statements, "; ") .. "'" }
  for _, path in ipairs { ... } do words[#words + 1] = usage.shell(path) end
  return table.concat(words, " ")
end

local function torchvision_command(found, classes, options, path)
  local statements = { "import sys, torch, torchvision" }
  table.move(usage.torchvision(found, classes), 1, 99, 2, statements)
  statements[#statements + 1] = "m.load_state_dict(torch.load(sys.argv[1], weights_only=True))"
  statements[#statements + 1] = ("print(m.eval()(torch.zeros(1, 3, %d, %d)).shape)"):format(sized(options))
  return python(statements, path)
end

-- {format = statements that read the file named by the argument}
local readers = {
  pth = { "import sys, torch", "state = torch.load(sys.argv[1], weights_only=True)", "print(len(state), *state)" },
  safetensors = { "import sys, safetensors.torch", "state = safetensors.torch.load_file(sys.argv[1])",
    "print(len(state), *state)" },
  npy = { "import sys, pathlib, numpy",
    "state = {p.name[:-4]: numpy.load(p) for p in pathlib.Path(sys.argv[1]).glob(\"*.npy\")}",
    "print(len(state), *state)" },
  npz = { "import sys, numpy", "state = dict(numpy.load(sys.argv[1]))", "print(len(state), *state)" },
  detectron2 = { "import sys, pickle", "model = pickle.load(open(sys.argv[1], \"rb\"))[\"model\"]",
    "print(len(model), *model)" },
}

--- of_export(net, path, {format, view, size}) -> lines: how to read what was exported, the command last.
function usage.of_export(net, path, options)
  local found, format, lines = trunk.of(net), options.format, {}
  if format == "torchvision" then
    return { torchvision_command(found, export.classes(net), options, path) }
  elseif format == "onnx" then
    return { python({ "import sys, numpy, onnxruntime", "net = onnxruntime.InferenceSession(sys.argv[1])",
      ("print(net.run(None, {\"images\": numpy.zeros((1, 3, %d, %d), \"float32\")})[0].shape)"):format(
        sized(options)) }, path) }
  elseif format == "detectron2" then
    lines = { detectron2.settings(found, options.view, usage.shell(path)), table.unpack(detectron2.missing(found)) }
  end
  lines[#lines + 1] = python(readers[format], path)
  return lines
end

-- The interpreter, as it was started.
local function interpreter()
  local first = 0
  while arg and arg[first - 1] do first = first - 1 end
  return usage.shell(arg and arg[first] or "cldlua")
end

-- The path of recipes/export.lua: beside the running recipe, or where a checkout or an installation has it; or nil.
local function recipe_path()
  local own = arg and type(arg[0]) == "string" and arg[0]:match "^(.*)/[^/]*$"
  local source = debug.getinfo(1, "S").source:gsub("/[^/.]+/%.%./", "/")
  local checkout = source:match "^@(.*)/lua/cld/export/usage%.lua$"
  local prefix = source:match "^@(.*)/share/lua/5%.4/cld/export/usage%.lua$"
  local places = {}
  if own then places[1] = own .. "/export.lua" end
  if checkout then places[#places + 1] = checkout .. "/recipes/export.lua" end
  if prefix then places[#places + 1] = prefix .. "/share/cldlua/recipes/export.lua" end
  for _, path in ipairs(places) do
    if core.io.exists(path) == "file" then return path end
  end
end

-- cld.models.load of a checkpoint, as Lua.
local function load_call(models, checkpoint, models_file)
  return ("%s.load(%s%s)"):format(models, lua_text(checkpoint),
    models_file and (", { models_file = %s }"):format(lua_text(models_file)) or "")
end

-- models_file: the Lua file that makes the network known, or nil.
local function export_command(checkpoint, out, models_file)
  local recipe = recipe_path()
  if recipe then
    return ("%s %s --checkpoint %s%s --out %s"):format(interpreter(), usage.shell(recipe), usage.shell(checkpoint),
      models_file and " --require " .. usage.shell(models_file) or "", usage.shell(out))
  end
  local code = ('local models = require "cld.models"; models.export(%s, %s)'):format(
    load_call("models", checkpoint, models_file), lua_text(out))
  return ("%s -e %s"):format(interpreter(), usage.shell(code))
end

-- The tensors of an object of the checkpoint in PyTorch.
local function tensors_command(folder, object)
  return python({ "import sys, safetensors.torch",
    ("state = {k[%d:]: v for k, v in safetensors.torch.load_file(sys.argv[1]).items() if k.startswith(\"%s.\")}")
      :format(#object + 1, object), "print(len(state), *state)" }, folder .. "/checkpoint.safetensors")
end

-- Why recipes/export.lua cannot read a network of the user's own; nil if it can.
local function unreadable(of)
  local advice = "cld.models.define in a file of its own makes it known (help \"own network\")"
  if of.undescribed then return ("no export of the network: %s; %s"):format(of.undescribed, advice) end
  local is_script = arg and of.models_file == arg[0] or of.models_file == ""
  return is_script and ("no export of the network: cld.models.define is called by the script that trains; %s"):format(
    advice) or nil
end

-- The lines for a network without a trunk, which has no torchvision model: ONNX if its forward can be followed. With
-- several ranks the forward might wait for the others, which do not call it.
local function of_any(of)
  local problem = dist.alone and require "cld.export.onnx".problem(of.net, { view = of.view })
  local is_onnx = dist.alone and not problem
  local command = export_command(of.folder, of.folder .. (is_onnx and "/net.onnx" or "/net.pth"), of.models_file)
  return { is_onnx and command or command .. " --format pth", tensors_command(of.folder, of.object) },
    { problem and "no ONNX model of the network: " .. problem or nil }
end

--- of_run{net, folder = the run's, object = the network's name in the checkpoint, view = its test view or nil,
-- undescribed = why the checkpoint does not say how the network is made, or nil, models_file = what models.own_file
-- returns} -> commands that run where the run was started, and notes: the weights as a PyTorch file, torchvision's
-- model with them, the network here. For a network without a ResNet's trunk: an ONNX model, or the weights; its
-- tensors in PyTorch.
function usage.of_run(of)
  local why = unreadable(of)
  if why then return { tensors_command(of.folder, of.object) }, { why } end
  local found = trunk.of(of.net)
  if not found then return of_any(of) end
  local out = of.folder .. "/torchvision.pth"
  local code = ('local cld = require "cld"; local net, about = %s; print(net, about.test_view)'):format(
    load_call("cld.models", of.folder, of.models_file))
  return {
    export_command(of.folder, out, of.models_file),
    torchvision_command(found, export.classes(of.net), { view = of.view }, out),
    ("%s -e %s"):format(interpreter(), usage.shell(code)),
  }, {}
end

return usage
