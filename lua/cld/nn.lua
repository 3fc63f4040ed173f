--- Modules: trees of parameters, buffers and child modules, as PyTorch's nn.Module.
--
--   local Head = nn.module "Head"
--   function Head:build(width, dim)             -- the constructor: Head(512, 128)
--     self.linear = nn.linear(width, dim)       -- a module assigned to a field is a child,
--     self.scale  = nn.parameter(cld.ones(dim)) -- a tensor with requires_grad a parameter, any other a buffer
--   end
--   function Head:forward(x) return self.linear(x) * self.scale end
--
-- Intermediate tensors are declared `<close>`: what backward needs the tape keeps, the rest is freed at once instead
-- of waiting for the garbage collector.
local core = require "cld.core"
local states = require "cld.state"
local functional, create = core.nn, core.tensor

local nn = { functional = functional }

-- ---- the base class ---------------------------------------------------------

local Module = {}
Module.__index = Module

local function is_tensor(value) return math.type(value) == nil and type(value) == "userdata" end
local function is_module(value) return type(value) == "table" and rawget(value, "_members") ~= nil end

--- Assigning a module or a tensor to a new field registers it, in order.
function Module:__newindex(name, value)
  local kind
  if is_module(value) then kind = "module"
  elseif is_tensor(value) then kind = value.requires_grad and "parameter" or "buffer" end
  if kind then
    local members = self._members
    members[#members + 1] = { name = name, kind = kind }
  end
  rawset(self, name, value)
end

function Module:__call(...) return self:forward(...) end

function Module:__tostring()
  local lines = { self._name .. " {" }
  for _, member in ipairs(self._members) do
    local value = rawget(self, member.name)
    if is_module(value) then
      lines[#lines + 1] = "  " .. member.name .. " = " .. tostring(value):gsub("\n", "\n  ")
    elseif value then
      lines[#lines + 1] = ("  %s = %s[%s]"):format(member.name, value.dtype, table.concat(value.shape, ", "))
    end
  end
  lines[#lines + 1] = "}"
  return #lines == 2 and self._name .. " {}" or table.concat(lines, "\n")
end

--- A new class of modules. Class(...) makes one: `build(...)` is its constructor, `forward(...)` what a call does.
function nn.module(name)
  local class = setmetatable({}, {
    __index = Module,
    __call = function(class, ...)
      local self = setmetatable({ _members = {}, _name = name, training = true }, class)
      if class.build then class.build(self, ...) end
      return self
    end,
  })
  class.__index = class
  class.__newindex, class.__call, class.__tostring = Module.__newindex, Module.__call, Module.__tostring
  return class
end

--- A tensor that is trained.
function nn.parameter(tensor) return tensor:requires_grad_() end

-- Visit every parameter ("parameter") or buffer ("buffer") of the tree, depth first, in order of registration.
local function walk(self, prefix, visit)
  for _, member in ipairs(self._members) do
    local value = rawget(self, member.name)
    local path = prefix .. member.name
    if value == nil then goto continue end
    if member.kind == "module" then
      walk(value, path .. ".", visit)
    else
      visit(path, value, member.kind, self, member.name)
    end
    ::continue::
  end
end

-- An ordered list of (name, tensor): the iterator of a for loop, and a table by name as well.
local function named(self, wanted)
  local names, tensors = {}, {}
  walk(self, "", function(path, tensor, kind)
    if kind == wanted then
      names[#names + 1] = path
      tensors[path] = tensor
    end
  end)
  local function iterate()
    local i = 0
    return function()
      i = i + 1
      return names[i], tensors[names[i]]
    end
  end
  local next_one = iterate()
  return setmetatable(tensors, {
    __call = function() return next_one() end, __pairs = iterate, __len = function() return #names end,
  })
end

--- `for name, parameter in net:named_parameters() do`; also a table by name.
function Module:named_parameters() return named(self, "parameter") end
function Module:named_buffers() return named(self, "buffer") end

--- A list of the parameters, in order.
function Module:parameters()
  local list = {}
  walk(self, "", function(_, tensor, kind)
    if kind == "parameter" then list[#list + 1] = tensor end
  end)
  return list
end

--- The parameter with this dotted name, or an error.
function Module:get_parameter(name)
  return named(self, "parameter")[name] or error(("%s has no parameter '%s'"):format(self._name, name), 2)
end

--- {name = tensor}: all parameters and buffers, off the tape, sharing memory with the module.
function Module:state_dict()
  local state = {}
  walk(self, "", function(path, tensor) state[path] = tensor:detach() end)
  return state
end

-- Older checkpoints have none.
local function is_counter(name) return name:find "num_batches_tracked$" ~= nil end

--- Copy a state_dict in. Strict (the default): one error lists everything that is missing, unexpected or of another
-- shape, and then nothing is copied. `strict = false` takes what fits and returns the lists.
function Module:load_state_dict(state, options)
  return states.load(self._name, self:state_dict(), state,
    { strict = not options or options.strict ~= false, optional = is_counter })
end

--- Training mode (batch statistics) on or off, for the whole tree.
function Module:train(mode)
  rawset(self, "training", mode ~= false)
  for _, member in ipairs(self._members) do
    local value = rawget(self, member.name)
    if member.kind == "module" and value then value:train(mode) end
  end
  return self
end

function Module:eval() return self:train(false) end

--- Move every parameter and buffer to a device, or cast the floating-point ones to a dtype. What moves is a new tensor:
-- make the optimizer after it.
function Module:to(where)
  local is_dtype = pcall(create.empty, { 0 }, where)
  walk(self, "", function(_, tensor, kind, owner, name)
    local there = tensor.device == where or tensor.dtype == where or (is_dtype and tensor.dtype == "i64")
    if not there then
      local moved = tensor:detach():to(where)
      if kind == "parameter" then moved:requires_grad_() end
      rawset(owner, name, moved)
    end
  end)
  return self
end

function Module:zero_grad()
  for _, parameter in ipairs(self:parameters()) do parameter.grad = nil end
end

-- ---- layers -----------------------------------------------------------------

-- PyTorch's default for convolutions and linear layers: kaiming-uniform with a = sqrt(5), which is this bound.
local function uniform_fan_in(shape, fan_in)
  local bound = 1 / math.sqrt(fan_in)
  return nn.parameter(create.empty(shape):uniform_(-bound, bound))
end

local function pair(value) return type(value) == "table" and value or { value, value } end

local Conv2d = nn.module "conv2d"

--- nn.conv2d(in_channels, out_channels, kernel, {stride = 1, padding = 0, dilation = 1, groups = 1, bias = true})
function Conv2d:build(input, output, kernel, options)
  options = options or {}
  local size, groups = pair(kernel), options.groups or 1
  local fan_in = input // groups * size[1] * size[2]
  self.weight = uniform_fan_in({ output, input // groups, size[1], size[2] }, fan_in)
  if options.bias ~= false then self.bias = uniform_fan_in({ output }, fan_in) end
  self.settings = {
    stride = options.stride or 1, padding = options.padding or 0, dilation = options.dilation or 1, groups = groups,
  }
end

function Conv2d:forward(x) return functional.conv2d(x, self.weight, rawget(self, "bias"), self.settings) end

local BatchNorm2d = nn.module "batch_norm2d"

--- nn.batch_norm2d(channels, {momentum = 0.1, eps = 1e-5}). A call may fuse what follows:
-- bn(x, {relu = true}), bn(x, {relu = true, residual = r}) = relu(bn(x) + r).
function BatchNorm2d:build(channels, options)
  options = options or {}
  self.weight = nn.parameter(create.ones(channels))
  self.bias = nn.parameter(create.zeros(channels))
  self.running_mean = create.zeros(channels)
  self.running_var = create.ones(channels)
  self.num_batches_tracked = create.zeros({}, "i64")
  self.momentum, self.eps = options.momentum or 0.1, options.eps or 1e-5
end

function BatchNorm2d:forward(x, fuse)
  if self.training then self.num_batches_tracked:add_(1) end
  return functional.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, {
    training = self.training, momentum = self.momentum, eps = self.eps,
    relu = fuse and fuse.relu, residual = fuse and fuse.residual,
  })
end

local Linear = nn.module "linear"

--- nn.linear(in_features, out_features, {bias = true})
function Linear:build(input, output, options)
  self.weight = uniform_fan_in({ output, input }, input)
  if not (options and options.bias == false) then self.bias = uniform_fan_in({ output }, input) end
end

function Linear:forward(x) return functional.linear(x, self.weight, rawget(self, "bias")) end

local NormLinear = nn.module "norm_linear"

--- nn.norm_linear(in_features, out_features): cosines, normalize(x) . normalize(w) for every column w of the
-- weight, which is in x out, without bias (the NormLinear head of CLD).
function NormLinear:build(input, output)
  local columns = create.empty(input, output):uniform_(-1, 1)
  self.weight = nn.parameter(columns:normalize(1):contiguous())
end

function NormLinear:forward(x)
  local rows <close> = x:normalize()
  local columns <close> = self.weight:normalize(1)
  return rows:matmul(columns)
end

-- A module without parameters around a function of (x, settings).
local function stateless(name, apply)
  local Class = nn.module(name)
  function Class:build(...) self.arguments = table.pack(...) end
  function Class:forward(x) return apply(x, table.unpack(self.arguments, 1, self.arguments.n)) end
  return Class
end

nn.conv2d, nn.batch_norm2d, nn.linear, nn.norm_linear = Conv2d, BatchNorm2d, Linear, NormLinear
nn.relu = stateless("relu", function(x) return x:relu() end)
nn.flatten = stateless("flatten", function(x) return x:flatten(2, -1) end)
nn.normalize = stateless("normalize", function(x) return x:normalize() end)
--- nn.max_pool2d(kernel, {stride = kernel, padding = 0}), nn.avg_pool2d likewise, nn.adaptive_avg_pool2d(1)
nn.max_pool2d = stateless("max_pool2d", functional.max_pool2d)
nn.avg_pool2d = stateless("avg_pool2d", functional.avg_pool2d)
nn.adaptive_avg_pool2d = stateless("adaptive_avg_pool2d", functional.adaptive_avg_pool2d)

local Sequential = nn.module "sequential"

--- nn.sequential(a, b, ...): each on the output of the one before. Children are named "0", "1", ... as in PyTorch.
function Sequential:build(...)
  for i, child in ipairs { ... } do self[tostring(i - 1)] = child end
end

function Sequential:forward(x)
  for i, member in ipairs(self._members) do
    local input = x
    x = rawget(self, member.name)(x)
    -- Not the caller's own input, not a child that handed its input through, not the result.
    if i > 1 and not rawequal(input, x) then input:close() end
  end
  return x
end

nn.sequential = Sequential

return nn
