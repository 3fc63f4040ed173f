--- What every module can do with its tree of modules, parameters and buffers: lists, state, copies, moves.
local core = require "cld.core"
local states = require "cld.state"
local caller = require "cld.caller"
local place = require "cld.place"
local module = require "cld.nn.module"
local Module, members_of, marks, is_floating = module.base, module.members_of, module.marks, module.is_floating
local raise = caller.raise

-- ---- lists of members --------------------------------------------------------

-- Visit every parameter and buffer under every one of its names, depth first, in order of registration.
local function walk(self, prefix, visit)
  local members = members_of(self)
  for _, name in ipairs(members.names) do
    local value, kind = members.fields[name], members.kinds[name]
    if kind == "module" then
      walk(value, prefix .. name .. ".", visit)
    elseif kind then
      visit(prefix .. name, value, kind, members, name)
    end
  end
end

-- Visit every module of the tree once, the root first.
local function walk_modules(self, prefix, visit, seen)
  if seen[self] then return end
  seen[self] = true
  visit(prefix, self)
  local members = members_of(self)
  for _, name in ipairs(members.names) do
    if members.kinds[name] == "module" then
      walk_modules(members.fields[name], prefix == "" and name or prefix .. "." .. name, visit, seen)
    end
  end
end

-- The path of a module below root, for errors that name a layer.
function place.path_of(root, wanted)
  local found
  walk_modules(root, "", function(path, one)
    if rawequal(one, wanted) then found = path end
  end, {})
  return found
end

function place.names_of(holder, held)
  local names = {}
  for name, value in next, members_of(holder).fields do
    if rawequal(value, held) and type(name) == "string" then names[#names + 1] = name end
  end
  return names
end

-- An ordered list of (name, value): the iterator of a for loop, and also a table by name. add(name, value) appends an
-- entry, unless the value is already there. (Two userdata may be the same tensor, which == detects; only tensors of the
-- same size are compared, because a step may list many.)
local function new_list()
  local names, values, positions, seen, same_size = {}, {}, {}, {}, {}
  local function after(name)
    local i = name == nil and 1 or positions[name] + 1
    return names[i], values[names[i]]
  end
  local function known(value)
    if seen[value] then return true end
    seen[value] = true
    if module.is_module(value) then return false end
    local size = value:numel()
    local others = same_size[size] or {}
    for _, other in ipairs(others) do
      if other == value then return true end
    end
    others[#others + 1] = value
    same_size[size] = others
    return false
  end
  local function add(name, value)
    if known(value) then return end
    names[#names + 1] = name
    positions[name], values[name] = #names, value
  end
  local list = setmetatable(values, {
    __call = function(_, _, name) return after(name) end,
    __pairs = function(self) return function(_, name) return after(name) end, self, nil end,
    __len = function() return #names end,
  })
  return list, add
end

local function named_tensors(self, wanted)
  local list, add = new_list()
  walk(self, "", function(path, tensor, kind)
    if kind == wanted then add(path, tensor) end
  end)
  return list
end

local function values_of(list)
  local values = {}
  for _, value in list do values[#values + 1] = value end
  return values
end

--- module:named_parameters() -> list: for name, parameter in net:named_parameters() do ... end; also a table by name,
-- and # gives their number. Each tensor occurs once, under its first name.
function Module:named_parameters() return (named_tensors(self, "parameter")) end
--- module:named_buffers() -> list: the buffers (in the state, but not trained), in the form of named_parameters.
function Module:named_buffers() return (named_tensors(self, "buffer")) end

--- module:named_children() -> list: the modules that are fields of this one, in the form of named_parameters.
function Module:named_children()
  local list, add = new_list()
  local members = members_of(self)
  for _, name in ipairs(members.names) do
    if members.kinds[name] == "module" then add(name, members.fields[name]) end
  end
  return list
end

--- module:named_modules() -> list: this module, named "", and all below it, in the form of named_parameters.
function Module:named_modules()
  local list, add = new_list()
  walk_modules(self, "", add, {})
  return list
end

--- module:parameters() -> {tensor, ...}: the parameters as a plain list, as an optimizer takes them.
function Module:parameters() return values_of(self:named_parameters()) end
--- module:buffers() -> {tensor, ...}: the buffers as a plain list.
function Module:buffers() return values_of(self:named_buffers()) end
--- module:children() -> {module, ...}: the modules that are fields of this one.
function Module:children() return values_of(self:named_children()) end
--- module:modules() -> {module, ...}: this module and all below it.
function Module:modules() return (values_of(Module.named_modules(self))) end

local function get(self, wanted, name)
  local found
  walk(self, "", function(path, tensor, kind)
    if kind == wanted and path == name then found = tensor end
  end)
  return found or raise("%s has no %s '%s'", self._name, wanted, tostring(name))
end

--- module:get_parameter(name) -> tensor: the parameter with this dotted name, such as "layer1.0.conv1.weight"; an
-- error if there is none.
function Module:get_parameter(name) return (get(self, "parameter", name)) end
--- module:get_buffer(name) -> tensor: the buffer with this dotted name, or an error.
function Module:get_buffer(name) return (get(self, "buffer", name)) end

-- ---- state -------------------------------------------------------------------

--- module:state_dict() -> {name = tensor}: all parameters and buffers, off the tape, sharing memory with the module. A
-- shared tensor is there under every name.
function Module:state_dict()
  local state = {}
  walk(self, "", function(path, tensor) state[path] = tensor:detach() end)
  return state
end

--- module:state_list() -> {{name, tensor}, ...}: the content of state_dict, in PyTorch's order.
function Module:state_list()
  local list = {}
  walk(self, "", function(path, tensor) list[#list + 1] = { path, tensor:detach() } end)
  return list
end

-- Older checkpoints have no counters.
local function is_counter(name) return name:find "num_batches_tracked$" ~= nil end

--- module:load_state_dict(state[, {strict = true}]) -> {missing =, unexpected =, misshaped =, mistyped =}: copies a
-- state_dict in. Strict: one error lists everything that is missing, unexpected or of another shape, and then nothing
-- is copied. {strict = false}, or false, copies what fits and returns the lists. net:load_state_dict(cld.load(path))
-- passes all three results of cld.load. The third lists what could not be read; if it is given, the second is the
-- file's metadata, not options. The error then says which missing tensors could not be read.
--
--     local a, b = cld.nn.linear(2, 2), cld.nn.linear(2, 2)
--     b:load_state_dict(a:state_dict())
--     print(a.weight:allclose(b.weight))        --> true
function Module:load_state_dict(state, options, unread)
  if type(unread) == "table" then options = nil end
  if type(options) == "boolean" then options = { strict = options } end
  caller.check_fields("load_state_dict", options, { "strict" })
  return states.load(self._name, self:state_dict(), state,
    { strict = not options or options.strict ~= false, optional = is_counter, unread = unread })
end

--- module:clone() -> module: a copy with its own tensors; tensors shared inside the module are shared inside the copy.
-- Plain fields are not copied: both modules have the same.
function Module:clone()
  local modules, tensors = {}, {}
  local function copy_tensor(tensor)
    for old, new in next, tensors do
      if old == tensor then return new end
    end
    local new = tensor:detach():clone():requires_grad_(tensor.requires_grad)
    tensors[tensor], marks[new] = new, marks[tensor]
    return new
  end
  local function copy(old)
    if modules[old] then return modules[old] end
    local from = members_of(old)
    local new = module.allocate(from.class)
    local to = members_of(new)
    modules[old] = new
    for position, name in ipairs(from.names) do to.names[position], to.positions[name] = name, position end
    for name, value in next, from.fields do
      to.kinds[name] = from.kinds[name]
      to.fields[name] = module.is_module(value) and copy(value) or from.kinds[name] and copy_tensor(value) or value
    end
    return new
  end
  return (copy(self))
end

-- ---- the whole tree ----------------------------------------------------------

--- module:apply(f) -> module: calls f(module) once for every module, children before their parents.
function Module:apply(f)
  local seen = {}
  local function visit(one)
    if seen[one] then return end
    seen[one] = true
    for _, child in ipairs(Module.children(one)) do visit(child) end
    f(one)
  end
  visit(self)
  return self
end

--- module:train([mode = true]) -> module: training mode (batch statistics, dropout) on or off, for the whole tree.
function Module:train(mode)
  self.training = mode ~= false
  for _, child in ipairs(self:children()) do child:train(mode) end
  return self
end

--- module:eval() -> module: evaluation mode: train(false).
function Module:eval() return self:train(false) end

--- module:requires_grad_([wanted = true]) -> module: sets whether its parameters are trained; false freezes them.
function Module:requires_grad_(wanted)
  for _, parameter in ipairs(self:parameters()) do parameter:requires_grad_(wanted ~= false) end
  return self
end

--- module:zero_grad(): clears the gradients of all its parameters.
function Module:zero_grad()
  for _, parameter in ipairs(self:parameters()) do parameter.grad = nil end
end

local is_integer = { i64 = true, i32 = true, u8 = true }

--- module:to(device or dtype) -> module: moves every parameter and buffer to a device, or casts the floating-point
-- ones to a dtype. A moved tensor is a new tensor, trained or frozen and shared like the old one, so create the
-- optimizer after the move.
function Module:to(where)
  if type(where) ~= "string" or is_integer[where] then
    raise("to: expected a device or a floating-point dtype, got %s", caller.shown(where))
  end
  if core.cuda.is_name(where) then where = caller.call("to", core.cuda.resolve, where) end
  local moved = {}
  local function move(tensor)
    for old, new in next, moved do
      if old == tensor then return new end
    end
    local new = caller.call("to", tensor.to, tensor:detach(), where)
    if tensor.requires_grad then new:requires_grad_() end
    moved[tensor], marks[new] = new, marks[tensor]
    return new
  end
  walk(self, "", function(_, tensor, _, members, name)
    local here = tensor.device == where or is_floating[where] and not is_floating[tensor.dtype] or tensor.dtype == where
    if not here then members.fields[name] = move(tensor) end
  end)
  return self
end

return Module
