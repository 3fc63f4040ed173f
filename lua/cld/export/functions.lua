--- Lets a forward call functions on values: cld.cat, cld.softmax, cld.nn.functional.relu, and tensor:matmul(value) or
-- tensor * value. While watch() is open, functions of tensors pass values to graph.methods and to the layers.
local core = require "cld.core"
local graph = require "cld.export.graph"
local layers = require "cld.export.layers"
local nn = require "cld.nn"
local operations = require "cld.export.operations"

local functions = {}

local is_value, is_tensor = graph.is_value, core.tensor.is_tensor

-- ---- cld.nn.functional by the layers -------------------------------------------------------

-- Adds the nodes of a layer of that class with these fields.
local function layer(class, fields, value) return layers[class.forward](graph.of(value), fields, value) end

local function pair(value) return type(value) == "table" and value or { value, value } end

local functional = {}

for _, name in ipairs { "max_pool2d", "avg_pool2d", "gelu", "leaky_relu", "silu", "adaptive_avg_pool2d" } do
  functional[name] = function(value, ...) return layer(nn[name], nn[name](...), value) end
end

function functional.conv2d(value, weight, bias, options)
  options = options or {}
  return layer(nn.conv2d, { weight = weight, bias = bias, settings = {
    stride = pair(options.stride or 1), padding = pair(options.padding or 0), dilation = pair(options.dilation or 1),
    groups = options.groups or 1,
  } }, value)
end

function functional.linear(value, weight, bias) return layer(nn.linear, { weight = weight, bias = bias }, value) end

local function eps_of(options) return options and options.eps or 1e-5 end

function functional.layer_norm(value, shape, weight, bias, options)
  return layer(nn.layer_norm, { shape = type(shape) == "table" and shape or { shape }, weight = weight, bias = bias,
    eps = eps_of(options) }, value)
end

function functional.group_norm(value, groups, weight, bias, options)
  return layer(nn.group_norm, { groups = groups, channels = value.shape[2], weight = weight, bias = bias,
    eps = eps_of(options) }, value)
end

function functional.dropout(value, _, training)
  if training == false then return value end
  graph.fail(graph.of(value), "cld.nn.functional.dropout is exported only with training = false, as self.training is")
end

-- ---- passing on ----------------------------------------------------------------------------

-- The first value among the arguments, or in a list among them.
local function value_in(...)
  for i = 1, select("#", ...) do
    local item = select(i, ...)
    if is_value(item) then return item end
    if type(item) == "table" and not getmetatable(item) then
      for _, inner in ipairs(item) do
        if is_value(inner) then return inner end
      end
    end
  end
end

local lists = { cat = true, stack = true }
local either = { -- functions whose first argument may be a tensor or a number
  add = true, sub = true, mul = true, div = true, pow = true, maximum = true, minimum = true, matmul = true, mm = true,
  bmm = true,
}

-- f, but a value among its arguments goes to the method of that name. shown: what the user calls it.
local function passing(f, name, shown, methods)
  return function(...)
    local value = value_in(...)
    if not value then return f(...) end
    local method = methods[name] or operations[name]
    if method and (lists[name] or either[name] or is_value((...))) then return method(...) end
    graph.refuse(graph.of(value), shown)
  end
end

-- Replaces the functions of a table; returns a function that puts them back.
local function replace(into, prefix, methods)
  local before = {}
  for name, f in next, into do
    if type(f) == "function" then before[name] = f end
  end
  for name, f in pairs(before) do into[name] = passing(f, name, prefix .. name, methods) end
  into.is_tensor = before.is_tensor and function(x) return is_value(x) or is_tensor(x) end
  return function()
    for name, f in pairs(before) do into[name] = f end
  end
end

local operators = { __add = "add", __sub = "sub", __mul = "mul", __div = "div", __pow = "pow" }

-- tensor + value and tensor:matmul(value).
local function replace_metatable()
  local meta, before = debug.getmetatable(core.tensor.zeros {}), {}
  for event, name in pairs(operators) do
    before[event] = meta[event]
    meta[event] = passing(meta[event], name, "tensor:" .. name, operations)
  end
  local index = meta.__index
  function meta.__index(tensor, key)
    local found = index(tensor, key)
    return type(found) == "function" and passing(found, key, "tensor:" .. key, operations) or found
  end
  return function()
    for event, f in pairs(before) do meta[event] = f end
    meta.__index = index
  end
end

--- watch() -> a guard: until it is closed, functions of tensors accept values.
function functions.watch()
  local cld = require "cld"
  local undo = {
    replace(cld, "cld.", operations), replace(core.tensor, "cld.", operations),
    replace(nn.functional, "cld.nn.functional.", functional), replace_metatable(),
  }
  return setmetatable({}, { __close = function()
    for _, back in ipairs(undo) do back() end
  end })
end

return functions
