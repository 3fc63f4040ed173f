--- cld: the module. `local cld = require "cld"`.
-- What C offers (`cld.core`, one table per binding file) and what is composed of it in Lua (one file each here).
local core = require "cld.core"

local cld = {}

-- Tensor creation, the tape and the system's facts are cld's own functions: cld.zeros, cld.no_grad, cld.memory.
for _, name in ipairs { "tensor", "autograd", "system" } do
  for key, value in pairs(core[name] or {}) do cld[key] = value end
end
for name, functions in pairs(core) do
  if type(functions) == "table" and name ~= "tensor" and name ~= "autograd" and name ~= "system" then
    cld[name] = functions
  end
end

return cld
