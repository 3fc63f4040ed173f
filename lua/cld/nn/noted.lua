--- Records which modules a captured step called, whether they were training, and their tensors. If any of this has
-- changed since, a replay would not do what the step does now.
local modules = require "cld.nn.module"
local members_of = modules.members_of

local noted = {}

local function tensors_of(module)
  local members, tensors = members_of(module), {}
  for name, kind in next, members.kinds do
    if kind ~= "module" then tensors[name] = members.fields[name] end
  end
  return tensors
end

-- Forgets the mode of modules that f itself switched between training and evaluation.
local function forget_switched(notes)
  for module, note in next, notes do
    if note.training ~= module.training then note.training = nil end
  end
end

--- f(...), recording every module that is called in it: notes[module] = {training, tensors}, as it was then.
function noted.during(notes, f, ...)
  local before = modules.on_call
  local _ <close> = setmetatable({}, { __close = function()
    modules.on_call = before
    forget_switched(notes)
  end })
  function modules.on_call(module)
    notes[module] = notes[module] or { training = module.training, tensors = tensors_of(module) }
    if before then before(module) end
  end
  return (f(...))
end

--- Whether everything is still as recorded.
function noted.holds(notes)
  for module, note in next, notes do
    if note.training ~= nil and note.training ~= module.training then return false end
    local fields = members_of(module).fields
    for name, tensor in next, note.tensors do
      if not rawequal(fields[name], tensor) then return false end
    end
  end
  return true
end

return noted
