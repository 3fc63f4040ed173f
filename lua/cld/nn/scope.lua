--- Scopes: tensors that a forward made and does not return are closed at its end, without waiting for the garbage
-- collector. So a block is plain Lua:
--
--   function Block:forward(x) return (self.bn(self.conv(x)) + x):relu() end
--   nn.transient(Block)
--
-- nn.transient(Class) is a promise: after a call of a module of this class, every tensor of its forward that is still
-- needed is in its results or in a field of a module. (A forward that puts tensors into tables or variables of others
-- breaks it.) The layers and models of cld are declared so; other classes keep what they make.
--
-- At the end of the call, also after an error, every tensor made in it is closed, except
--   what is returned, also in plain tables. If the results contain anything else that may hold tensors (a function, an
--     object), nothing is closed;
--   what was assigned to a field of a module during the call, or is in a plain table that is a field of the module;
--   what a module of an undeclared class made or was given, since it may have kept it. A subclass that overrides
--     forward is not declared, nor is a class with a __call of its own.
-- What the tape has saved stays alive in the tape.
--
-- nn.scope(f, ...) does the same for a function: f(...), and what f made and does not return is closed.
local core = require "cld.core"
local modules = require "cld.nn.module"
local place = require "cld.place"
local call = place.call
local is_tensor, is_module, members_of = core.tensor.is_tensor, modules.is_module, modules.members_of
local current, enter = core.scope.current, core.scope.enter

local scope = {}

-- ---- frames ------------------------------------------------------------------------

-- A call that closes tensors at its end. made: {tensor = true}, filled by C; made.outer: that of the call around it.
-- outer: the frame around this one; module: the one whose forward runs, if any; assigned: tables that became fields of
-- modules; keeps_all: any of the tensors may be in use elsewhere.
local Frame = {}

local function frame_now()
  local made = current()
  return made and made.frame
end

local function open(module)
  local outer = frame_now()
  local frame = setmetatable({ made = { outer = outer and outer.made }, outer = outer, module = module }, Frame)
  frame.made.frame = frame
  enter(frame.made)
  return frame
end

-- ---- the tensors in a value ----------------------------------------------------------

local DEEPEST = 16 -- nested tables are searched down to this level

-- Calls visit(tensor) for every tensor in value; false if value may hold others.
local function each_tensor(value, visit, depth)
  local kind = type(value)
  if kind == "userdata" then
    if not is_tensor(value) then return false end
    visit(value)
    return true
  elseif kind ~= "table" then
    return kind ~= "function" and kind ~= "thread"
  elseif is_module(value) then
    return true -- its tensors are kept: they were assigned to its fields
  elseif getmetatable(value) or depth == DEEPEST then
    return false
  end
  local known = true
  for key, item in next, value do
    if not each_tensor(key, visit, depth + 1) then known = false end
    if not each_tensor(item, visit, depth + 1) then known = false end
  end
  return known
end

-- For a value that something holds beyond the call: no frame closes the tensors in it.
local function keep(frame, value)
  local function release(tensor)
    local one = frame
    while one do
      one.made[tensor] = nil
      one = one.outer
    end
  end
  if each_tensor(value, release, 1) then return end
  local one = frame
  while one do
    one.keeps_all = true
    one = one.outer
  end
end

-- ---- the end of a call -----------------------------------------------------------------

-- Hands the results to the frame around this one.
local function settle(frame, ...)
  local made, outer = frame.made, frame.outer
  local function hand_on(tensor)
    if not made[tensor] then return end
    made[tensor] = nil
    if outer then outer.made[tensor] = true end
  end
  for i = 1, select("#", ...) do
    if not each_tensor((select(i, ...)), hand_on, 1) then frame.keeps_all = true end
  end
  return ...
end

local function is_plain_table(value)
  return type(value) == "table" and not is_module(value) and not getmetatable(value)
end

-- Tables may have been filled after they became fields.
local function keep_tables(frame)
  for _, value in ipairs(frame.assigned or {}) do keep(frame, value) end
  if not frame.module then return end
  for _, value in next, members_of(frame.module).fields do
    if is_plain_table(value) then keep(frame, value) end
  end
end

function Frame.__close(frame)
  local outer = frame.outer
  enter(outer and outer.made)
  keep_tables(frame)
  if outer and frame.assigned then
    outer.assigned = outer.assigned or {}
    table.move(frame.assigned, 1, #frame.assigned, #outer.assigned + 1, outer.assigned)
  end
  if frame.keeps_all then return end
  for tensor in next, frame.made do
    if type(tensor) == "userdata" then tensor:close() end
  end
end

-- ---- calls --------------------------------------------------------------------------

--- cld.nn.scope(f, ...) -> f's results: f(...), and every tensor that f made and does not return is closed at once,
-- without waiting for the garbage collector.
function scope.run(f, ...)
  local frame <close> = open()
  return settle(frame, f(...))
end

local function inside(forward, self, ...)
  local frame <close> = open(self)
  return settle(frame, forward(self, ...))
end

local Outside = { __close = function(self) enter(self.made) end }

-- f(self, ...) may keep what it is given and what it makes.
local function outside(f, self, ...)
  local frame = frame_now()
  if not frame then return call(f, self, ...) end
  for i = 1, select("#", ...) do keep(frame, (select(i, ...))) end
  local _ <close> = setmetatable({ made = frame.made }, Outside)
  enter(nil)
  return f(self, ...)
end

for _, f in ipairs { scope.run, inside, outside } do place.keep(f) end

-- The forwards of classes declared by scope.transient, and by scope.leaf.
local transient, leaves = setmetatable({}, { __mode = "k" }), setmetatable({}, { __mode = "k" })

--- cld.nn.transient(Class): declares that tensors which a call makes and does not return may be closed at its end, to
-- save memory. Call it after the class's forward is defined; not for a forward that stores tensors in other tables.
function scope.transient(class) transient[class.forward] = true end

--- Like transient, for a class whose forward leaves no tensors to close, so that it needs no scope of its own.
function scope.leaf(class) leaves[class.forward] = true end

function modules.run_forward(self, ...)
  local forward = self.forward
  if leaves[forward] then return forward(self, ...) end
  if transient[forward] then return inside(forward, self, ...) end
  return outside(forward, self, ...)
end

modules.run_own_call = outside

function modules.on_assign(value)
  local frame = frame_now()
  if not frame then return end
  keep(frame, value)
  if is_plain_table(value) then
    frame.assigned = frame.assigned or {}
    frame.assigned[#frame.assigned + 1] = value
  end
end

-- Closes the tensor if this frame owns it, since then nobody else needs it.
local function close_between(tensor, result)
  local frame = frame_now()
  if not frame or frame.keeps_all or not frame.made[tensor] then return end
  if rawequal(tensor, result) or not is_tensor(result) then return end
  frame.made[tensor] = nil
  tensor:close()
end

--- cld.nn.chain(x, {stage, ...}) -> tensor: passes x through the stages in order: a module, {module, second argument},
-- or a function. The tensor between two stages is closed as soon as the second has run (if that is a module).
function scope.chain(x, stages)
  for i = 1, #stages do
    local stage, argument = stages[i], nil
    if is_plain_table(stage) then stage, argument = table.unpack(stage, 1, 2) end
    local y = stage(x, argument)
    if i > 1 and is_module(stage) then close_between(x, y) end
    x = y
  end
  return x
end

return scope
