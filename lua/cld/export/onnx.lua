--- A network as an ONNX model: opset 17, from `images`, f32 (N, 3, height, width) with any N, to `features`. The
-- model's metadata says how to prepare the images ("mean" and "std") and which layer the features are ("layer").
local caller = require "cld.caller"
local core = require "cld.core"
local sorted_keys = require "cld.sorted_keys"
local trace = require "cld.export.trace"

local onnx = {}

-- {height, width}: the given size, else the view's, else ImageNet's.
local function size_of(options)
  local size = options.size
  if type(size) == "table" and #size == 2 then
    return caller.integer("models.export", "size", size[1]), caller.integer("models.export", "size", size[2])
  elseif size ~= nil then
    local side = caller.integer("models.export", "size", size)
    return side, side
  end
  local ok, height, width = pcall(function() return options.view:size() end)
  if ok then return height, width end
  return 224, 224
end

local function put_facts(graph, options)
  graph:fact("layer", options.layer or "features")
  if not options.view then return end
  local mean, std = options.view:statistics()
  if options.normalize then mean, std = { 0, 0, 0 }, { 1, 1, 1 } end -- the model normalizes
  for name, list in pairs { mean = mean, std = std } do
    graph:fact(name, ("%.9g %.9g %.9g"):format(table.unpack(list)))
  end
end

-- Converts RGB from 0 to 1 into the input that the network was trained on.
local function normalization(options)
  if not options.normalize then return nil end
  if not options.view then
    caller.raise("models.export: normalize needs the view whose mean and deviation are to be in the model")
  end
  local mean, std = options.view:statistics()
  local function channels(list) return core.tensor.tensor(list):reshape { 1, 3, 1, 1 } end
  return function(images) return (images - channels(mean)) / channels(std) end
end

-- The network, or a copy in f32 if it has other weights: the file holds f32.
local function in_f32(net)
  for _, parameter in ipairs(net:parameters()) do
    if parameter.dtype ~= "f32" then return net:clone():to "f32" end
  end
  return net
end

local function traced_by(net, options)
  local height, width = size_of(options)
  return trace.of(in_f32(net), options.layer or "features", height, width, normalization(options)), height, width
end

--- problem(net, options) -> why write would fail, or nil.
function onnx.problem(net, options)
  local ok, problem = pcall(function()
    core.io.onnx_graph()
    traced_by(net, options)
  end)
  return not ok and tostring(problem) or nil
end

--- write(net, path, {layer, size, view, normalize}) -> how many constants were written.
function onnx.write(net, path, options)
  local _ <close> = core.text.c_locale()
  local graph = core.io.onnx_graph() -- raises if there is no protobuf-c
  local traced, height, width = traced_by(net, options)
  graph:input("images", { -1, 3, height, width }, "N")
  graph:output("features", traced.shape, "N")
  for _, constant in ipairs(traced.constants) do graph:constant(constant[1], constant[2]) end
  for _, node in ipairs(traced.nodes) do
    graph:node(node.op, node.name, node.inputs, node.outputs)
    for _, name in ipairs(sorted_keys(node.attributes)) do graph:attribute(name, node.attributes[name]) end
  end
  put_facts(graph, options)
  graph:save(path, "cldlua", core.system.versions().cldlua)
  return #traced.constants
end

return onnx
