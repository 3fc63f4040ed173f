--- What a captured step took from the modules that it called: whether they were training, and which tensors they had.
-- Where that has changed since, the step would do something else.
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

-- What f itself switches between training and evaluation is its own affair.
local function forget_switched(notes)
  for module, note in next, notes do
    if note.training ~= module.training then note.training = nil end
  end
end

--- f(...), with a note of every module that is called meanwhile: notes[module] = {training, tensors}, as it was then.
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

--- Whether all is as it was noted.
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
