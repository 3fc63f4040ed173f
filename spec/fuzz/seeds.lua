--- Writes the files that `make fuzz` starts from, the fixtures of one kind, into a folder:
-- seeds.lua jpeg|png|zip|legacy|npz|events FOLDER
local cld = require "cld"

local kind, folder = arg[1], arg[2]
if kind == "events" then
  local from <close> = assert(io.open("spec/fixtures/tensorboard.events", "rb"))
  local to <close> = assert(io.open(folder .. "/tensorboard", "wb"))
  to:write(from:read "a")
  return
end

local is_torch = kind == "zip" or kind == "legacy"
local patterns = { "^" .. kind .. " (.*)$" }
local fixture = is_torch and "torch_files" or kind == "npz" and "npz" or "pictures"
if kind == "npz" then patterns = { "^(.*)$" }
elseif not is_torch then patterns = { "^file:(" .. kind .. ".*)$", "^parts:(" .. kind .. ".*)$" } end

local function text_of(bytes)
  local parts = {}
  for first = 1, #bytes, 4000 do
    parts[#parts + 1] = string.char(table.unpack(bytes:narrow(1, first, math.min(4000, #bytes - first + 1)):totable()))
  end
  return table.concat(parts)
end

for name, bytes in pairs(cld.load("spec/fixtures/" .. fixture .. ".safetensors")) do
  for _, pattern in ipairs(patterns) do
    local seed = name:match(pattern)
    if seed then
      local file <close> = assert(io.open(folder .. "/" .. seed:gsub("%W", "_"), "wb"))
      file:write(text_of(bytes))
    end
  end
end
