--- The first files that `make fuzz` changes: those of fixtures/pictures.safetensors of a kind. seeds.lua KIND FOLDER
local cld = require "cld"

local kind, folder = arg[1], arg[2]
for name, bytes in pairs(cld.load "spec/fixtures/pictures.safetensors") do
  local seed = name:match("^file:(" .. kind .. ".*)$") or name:match("^parts:(" .. kind .. ".*)$")
  if seed then
    local file <close> = assert(io.open(folder .. "/" .. seed:gsub("%W", "_"), "wb"))
    file:write(string.char(table.unpack(bytes:totable())))
  end
end
