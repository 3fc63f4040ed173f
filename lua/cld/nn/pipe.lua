--- A tensor through one module after the other, where what lies between is freed at once instead of waiting for the
-- garbage collector. That is safe only where nobody else can have it:
--
-- A class is `transient` when its forward keeps neither its input nor its output, and returns either the input itself
-- or a tensor that nobody else has. A module is, when its forward is such a one (not overridden) and so are all its
-- children. What passes between two transient modules is the pipe's own; what any other module has seen may be cached
-- there, or be a parameter, and is left to the collector.
local modules = require "cld.nn.module"
local is_module, members_of = modules.is_module, modules.members_of

local pipe = {}

local forwards = setmetatable({}, { __mode = "k" }) -- of transient classes

--- Declare a class transient, after its forward is defined.
function pipe.transient(class) forwards[class.forward] = true end

function pipe.is_transient(module)
  if not forwards[module.forward] or getmetatable(module).__call ~= modules.base.__call then return false end
  local members = members_of(module)
  for name, kind in next, members.kinds do
    if kind == "module" and not pipe.is_transient(members.fields[name]) then return false end
  end
  return true
end

--- run(x, {stage, ...}) -> y, mine: a stage is a module or {module, second argument}. Where `mine`, y may be closed.
function pipe.run(x, stages)
  local mine = false
  for _, stage in ipairs(stages) do
    local child, argument = stage, nil
    if not is_module(stage) then child, argument = stage[1], stage[2] end
    local transient = pipe.is_transient(child)
    local y = child(x, argument)
    local handed_through = rawequal(x, y)
    if transient and mine and not handed_through then x:close() end
    mine = transient and (mine or not handed_through)
    x = y
  end
  return x, mine
end

return pipe
