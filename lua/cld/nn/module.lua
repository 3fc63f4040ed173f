--- The base class of modules: instances, classes, and the handling of assignments. tree.lua has the methods that work
-- on the whole tree below a module.
--
-- The assignment decides what a field is:
--   a module                                  is a child;
--   nn.parameter(t), nn.buffer(t)             are a parameter and a buffer, wherever they are assigned;
--   another tensor off the tape               is a parameter if it requires a gradient, else a buffer, if it is
--                                             assigned inside `build` or to the name of a member; elsewhere (a value
--                                             that forward keeps) it is a plain field;
--   a tensor on the tape, and anything else   is a plain field.
-- A plain table that holds modules is refused: they would be neither trained nor saved.
--
-- An instance is an empty table, so that every assignment comes here; its metatable's __index is the table of its
-- fields, whose own __index is the class.
local core = require "cld.core"
local caller = require "cld.caller"
local place = require "cld.place"
local create = core.tensor
local is_tensor, raise = create.is_tensor, caller.raise

local module = {}

-- ---- instances and classes ---------------------------------------------------

local Module = {}

local function results(...) return ... end

module.base = Module
local classes = setmetatable({}, { __mode = "k" }) -- all that module.class has made
module.classes = classes

--- Tensor of nn.parameter or nn.buffer -> "parameter" or "buffer".
module.marks = setmetatable({}, { __mode = "k" })
local marks = module.marks

--- cld.nn.is_module(value) -> boolean: whether value is a module, an instance of a class of cld.nn.module.
function module.is_module(value) return type(value) == "table" and rawget(value, "_members") ~= nil end

local is_module = module.is_module

--- A module's record of its members: their names in order of registration, and the positions of the names; the kinds of
-- the current members ("module", "parameter", "buffer"); the values of all fields, members or not.
function module.members_of(self) return rawget(self, "_members") end

local members_of = module.members_of

local function base_of(class)
  local meta = getmetatable(class)
  local base = meta and meta.__index
  return type(base) == "table" and base or nil -- the __index of the last is missing.lua's function
end

--- An instance without fields. Each metamethod comes from the nearest class that has it.
function module.allocate(class)
  local fields = setmetatable({ training = true }, { __index = class })
  local meta, level = {}, class
  while level do
    for key, value in next, level do
      if type(key) == "string" and key:sub(1, 2) == "__" and meta[key] == nil then meta[key] = value end
    end
    level = base_of(level)
  end
  local own_call = meta.__call
  if own_call ~= Module.__call then
    function meta.__call(self, ...) return results(module.run_own_call(own_call, self, ...)) end
    place.call_of_modules(meta.__call)
  end
  meta.__index = fields
  local members = { class = class, names = {}, positions = {}, kinds = {}, fields = fields, building = false }
  return setmetatable({ _members = members }, meta)
end

-- ---- registration ------------------------------------------------------------

local function refuse_table_of_modules(self, name, value)
  if type(value) ~= "table" or getmetatable(value) then return end
  for _, item in next, value do
    if is_module(item) then
      raise("%s.%s: modules in a plain table are neither trained nor saved; assign nn.module_list{...}", self._name,
        tostring(name))
    end
  end
end

local function check_member(self, name, value)
  if type(name) ~= "string" or name == "" or name:find(".", 1, true) then
    raise("%s: a member's name must be a string without dots, got %s", self._name, caller.shown(name))
  elseif Module[name] then
    raise("%s: a member cannot be called '%s': it would hide the method of every module", self._name, name)
  elseif is_module(value) then
    for _, inner in ipairs(Module.modules(value)) do
      if rawequal(inner, self) then raise("%s.%s: a module cannot be part of itself", self._name, name) end
    end
  end
end

local function kind_of_tensor(self, name, value)
  local members = members_of(self)
  if marks[value] then return marks[value] end
  local kind = value.requires_grad and "parameter" or "buffer"
  if value.is_leaf then return (members.building or members.positions[name]) and kind or nil end
  local was = members.kinds[name]
  if was then
    raise("%s.%s is a %s; a tensor on the tape (from %s) cannot take its place: detach() it", self._name, name, was,
      value.grad_fn)
  end
end

function Module:__newindex(name, value)
  local members = members_of(self)
  local kind = is_module(value) and "module" or is_tensor(value) and kind_of_tensor(self, name, value) or nil
  if kind then
    check_member(self, name, value)
    if not members.positions[name] then
      members.names[#members.names + 1] = name
      members.positions[name] = #members.names
    end
  else
    refuse_table_of_modules(self, name, value)
  end
  members.kinds[name] = kind
  members.fields[name] = value
  module.on_assign(value)
end

local function construct(class, ...)
  local self = module.allocate(class)
  local members = members_of(self)
  members.building = true
  if class.build then class.build(self, ...) end
  members.building = false
  for name, value in next, members.fields do refuse_table_of_modules(self, name, value) end -- if filled since
  return self
end

--- cld.nn.module(name[, Base]) -> Class: makes a new class of modules. Class(...) creates one: `build(...)` is its
-- constructor, `forward(...)` is what a call runs; both come from the base if the class has none.
--
--     local Scale = cld.nn.module "Scale"
--     function Scale:build(dim) self.weight = cld.nn.parameter(cld.ones(dim)) end
--     function Scale:forward(x) return x * self.weight end
--     print(#Scale(4):parameters(), Scale(4)(cld.ones(2, 4)):sum():item())  --> 1 8.0
function module.class(name, ...)
  local base = Module
  if select("#", ...) > 0 then base = ... end
  if type(name) ~= "string" then raise("nn.module: expected the name of a class, got %s", caller.shown(name)) end
  if base ~= Module and not (base and classes[base]) then
    raise("nn.module: the base of %s must be a class of modules, got %s", name, caller.shown(base))
  end
  local class = setmetatable({ _name = name }, { __index = base, __call = construct })
  classes[class] = true
  return class
end

module.is_floating = { f32 = true, f64 = true, bf16 = true, f16 = true }

local function check_tensor(what, value)
  if not is_tensor(value) then raise("%s: expected a tensor, got %s", what, caller.shown(value)) end
end

--- cld.nn.parameter(t) -> tensor: a tensor that is trained once it is assigned to a module's field: t itself, or its
-- value if t is on the tape. Floats only.
function module.parameter(t)
  check_tensor("nn.parameter", t)
  if not module.is_floating[t.dtype] then
    raise("nn.parameter: only floating-point tensors are trained, got %s", t.dtype)
  end
  local leaf = (t.is_leaf and t or t:detach()):requires_grad_()
  marks[leaf] = "parameter"
  return leaf
end

--- cld.nn.buffer(t) -> tensor: a tensor that is part of a module's state and is not trained: t itself, or its value if
-- t has a gradient.
function module.buffer(t)
  check_tensor("nn.buffer", t)
  local leaf = t.requires_grad and t:detach() or t
  marks[leaf] = "buffer"
  return leaf
end

-- ---- calls -------------------------------------------------------------------

module.on_call = nil -- a function that gets each called module: noted.lua sets it

-- scope.lua sets these: run_forward(module, ...) calls its forward, run_own_call(f, module, ...) a class's own __call;
-- on_assign(value) learns of each value that becomes a field of a module.
module.run_forward, module.run_own_call, module.on_assign = nil, nil, nil

-- Not a tail call: the module stays on the stack, so that an error can name its layer.
function Module:__call(...)
  local on_call = module.on_call
  if on_call then on_call(self) end
  return results(module.run_forward(self, ...))
end

place.call_of_modules(Module.__call)

--- module:forward(...) -> ...: what net(...) calls. A class defines it; without it a call is an error.
function Module:forward() raise("%s has no forward: function %s:forward(x) ... end", self._name, self._name) end

return module
