--- Writes a tar archive file by file: POSIX ustar, with a pax header for a name that does not fit. Owner, permissions
-- and time are the same for every file, so that the same files give the same bytes.
--
--   local archive <close> = tar_writer.open "photos.tar"
--   archive:add("cat/1.jpg", bytes)
--   archive:commit()      -- only now does photos.tar exist; without this, nothing is left of it
local core = require "cld.core"
local user_error = require "cld.user_error"

local block = 512
local time = 315532800 -- 1980-01-01: tar warns about much older times

local Archive = {}
Archive.__index = Archive

local zeros = ("\0"):rep(block)
local function padded(text, length) return text .. zeros:sub(1, length - #text) end

-- name: at most 100 bytes; kind: "0" a file, "x" a header for the next entry.
local function header(name, size, kind)
  local before = padded(name, 100) .. ("%07o\0%07o\0%07o\0%011o\0%011o\0"):format(6 * 64 + 4 * 8 + 4, 0, 0, size, time)
  local after = padded(kind .. zeros:sub(1, 100) .. "ustar\00000", block - 156)
  local sum = 8 * (" "):byte() -- in the sum, the checksum itself counts as eight spaces
  for _, text in ipairs { before, after } do
    for i = 1, #text do sum = sum + text:byte(i) end
  end
  return before .. ("%06o\0 "):format(sum) .. after
end

local function record(key, value)
  local body = (" %s=%s\n"):format(key, value)
  local length = #body + 1
  while length ~= #body + #tostring(length) do length = #body + #tostring(length) end
  return length .. body
end

local function put(self, name, bytes, kind)
  user_error.call(self.file.put, self.file, header(name, #bytes, kind))
  user_error.call(self.file.put, self.file, bytes)
  user_error.call(self.file.put, self.file, zeros:sub(1, -#bytes % block))
end

--- Adds a file; the name may include folders.
function Archive:add(name, bytes)
  if #name > 100 then put(self, "PaxHeaders/" .. name:sub(1, 80), record("path", name), "x") end
  put(self, name:sub(1, 100), bytes, "0")
end

--- Ends the archive and gives it its final name.
function Archive:commit()
  user_error.call(self.file.put, self.file, zeros .. zeros)
  user_error.call(self.file.commit, self.file)
end

--- Discards the archive if it was not committed.
function Archive:close() self.file:close() end
Archive.__close = Archive.close

return { open = function(path) return setmetatable({ file = user_error.call(core.io.writer, path) }, Archive) end }
