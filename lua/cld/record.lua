--- How a record prints: an object in a PyTorch file whose class does not exist here (cld.load).
--
--   argparse.Namespace {arch = "resnet50", batch_size = 512, lr = 0.2}
local core = require "cld.core"

local printable_line = core.text.printable_line

local ENTRIES, STRING, CLASS = 24, 40, 120

local function is_record(value) return getmetatable(value) == core.io.record end

-- A value on one line, without the contents of tables.
local function brief(value)
  if type(value) == "string" then
    return ("%q"):format(#value > STRING and value:sub(1, STRING) .. "..." or value):gsub("\\\n", "\\n")
  elseif is_record(value) then
    return value.class
  elseif type(value) == "table" then
    local count = 0
    for _ in next, value do count = count + 1 end
    return count == 0 and "{}" or ("{%d %s}"):format(count, count == 1 and "entry" or "entries")
  elseif type(value) == "userdata" and getmetatable(value).__name == "cld.tensor" then
    local ok, text = pcall(function() return ("%s[%s]"):format(value.dtype, table.concat(value.shape, ", ")) end)
    return ok and text or "tensor (closed)"
  end
  return tostring(value)
end

local function texts_of(values, show)
  local texts, more = {}, 0
  for _, entry in ipairs(values) do
    if #texts < ENTRIES then texts[#texts + 1] = show(entry) else more = more + 1 end
  end
  if more > 0 then texts[#texts + 1] = ("... %d more"):format(more) end
  return table.concat(texts, ", ")
end

-- "a = 1, b = 2", by name. Empty tables are left out: a PyTorch module has a dozen of them.
local function fields(values)
  local keys = {}
  for key, value in next, values do
    if type(value) ~= "table" or next(value) ~= nil then keys[#keys + 1] = key end
  end
  table.sort(keys, function(a, b)
    if math.type(a) and math.type(b) then return a < b end
    return tostring(a) < tostring(b)
  end)
  return texts_of(keys, function(key)
    local named = type(key) == "string" and key:find "^[%a_][%w_]*$"
    return (named and key or "[" .. brief(key) .. "]") .. " = " .. brief(values[key])
  end)
end

return function(record)
  local text = tostring(record.class):sub(1, CLASS)
  if type(record.arguments) == "table" and #record.arguments > 0 then
    text = text .. "(" .. texts_of(record.arguments, brief) .. ")"
  end
  if type(record.state) == "table" and not is_record(record.state) then
    text = text .. " {" .. fields(record.state) .. "}"
  elseif record.state ~= nil then
    text = text .. " {" .. brief(record.state) .. "}"
  end
  if record.items then text = text .. (" with %d items"):format(#record.items) end
  if record.entries then text = text .. " of {" .. fields(record.entries) .. "}" end
  return (printable_line(text))
end
