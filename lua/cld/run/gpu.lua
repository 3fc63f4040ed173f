--- The note about an unused GPU: why it stays idle. Machines without a GPU get no note.
local core = require "cld.core"

local gpu = {}

local MOST = 16 -- GPUs in one machine

--- there([folder = "/dev"]) -> whether the NVIDIA driver shows a GPU to this process: its device files, which a
-- container has only if it was given one, and under WSL the device file of Windows' driver.
function gpu.there(folder)
  folder = folder or "/dev"
  for i = 0, MOST - 1 do
    if core.io.exists(("%s/nvidia%d"):format(folder, i)) then return true end
  end
  return core.io.exists(folder .. "/dxg") ~= nil
end

--- note(reason[, folder]) -> the line that a run prints when --device auto has become the cpu; nil if there is no GPU.
function gpu.note(reason, folder)
  return reason and gpu.there(folder) and "no GPU is used: " .. reason or nil
end

return gpu
