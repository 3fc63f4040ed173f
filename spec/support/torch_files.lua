--- The files of fixtures/torch_files.safetensors, as text.
local cld = require "cld"

local files = {}

--- {["zip dtypes"] = text, ...}
function files.all()
  local texts = {}
  for name, tensor in pairs(cld.load "spec/fixtures/torch_files.safetensors") do
    local parts = {}
    for first = 1, #tensor, 4000 do
      parts[#parts + 1] = string.char(table.unpack(
        tensor:narrow(1, first, math.min(4000, #tensor - first + 1)):totable()))
    end
    texts[name] = table.concat(parts)
    tensor:close()
  end
  return texts
end

-- ---- pickles made by hand ---------------------------------------------------------

local function integer(n) return "\x8a\8" .. string.pack("<i8", n) end
files.integer = integer
function files.text(s) return "X" .. string.pack("<s4", s) end

--- The opcodes that push a storage of `count` elements, "FloatStorage" by default.
function files.storage(key, count, class)
  return ("(%sctorch\n%s\n%s%s%stQ"):format(files.text "storage", class or "FloatStorage", files.text(key),
    files.text "cpu", integer(count))
end

--- The opcodes that push a 1-d tensor of `length` elements, from element `begin`, over that storage.
function files.tensor(key, count, begin, length, stride)
  return ("ctorch._utils\n_rebuild_tensor_v2\n(%s%s%s\x85%s\x85\x89NtR"):format(files.storage(key, count),
    integer(begin), integer(length), integer(stride or 1))
end

--- A legacy file of a pickle, given without its protocol and end, and storages {{key, count, bytes}, ...}.
function files.legacy(pickle, storages)
  local keys, data = {}, {}
  for i, storage in ipairs(storages or {}) do
    keys[i] = files.text(storage[1])
    data[i] = string.pack("<i8", storage[2]) .. storage[3]
  end
  local magic = "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
  local listed = "\x80\2](" .. table.concat(keys) .. "e."
  return magic .. "\x80\2M\xe9\3." .. "\x80\2}." .. "\x80\2" .. pickle .. "." .. listed .. table.concat(data)
end

return files
