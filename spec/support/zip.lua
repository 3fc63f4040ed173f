--- Zip archives as text, for the specs of their readers: stored members only.
local zip = {}

local function crc32(text)
  local crc = 0xffffffff
  for i = 1, #text do
    crc = crc ~ text:byte(i)
    for _ = 1, 8 do crc = crc >> 1 ~ (crc & 1 == 1 and 0xedb88320 or 0) end
  end
  return crc ~ 0xffffffff
end

--- zip.write { { "name", "content" }, ... }
function zip.write(members)
  local parts, directory, offset = {}, {}, 0
  for i, member in ipairs(members) do
    local name, content = member[1], member[2]
    local facts = string.pack("<I2I2I2I2I2I4I4I4I2I2", 20, 0, 0, 0, 33, crc32(content), #content, #content, #name, 0)
    parts[i] = "PK\3\4" .. facts .. name .. content
    directory[i] = "PK\1\2\20\0" .. facts .. string.pack("<I2I2I2I4I4", 0, 0, 0, 0, offset) .. name
    offset = offset + #parts[i]
  end
  local listed = table.concat(directory)
  local ending = string.pack("<I2I2I2I2I4I4I2", 0, 0, #members, #members, #listed, offset, 0)
  return table.concat(parts) .. listed .. "PK\5\6" .. ending
end

return zip
