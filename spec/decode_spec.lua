--- Image files: the pixels that Pillow makes of each kind (fixtures/make_pictures.py), and what damaged files come to.
local cld = require "cld"
local check = require "spec.support.check"
local picture = require "cld.core".picture

local fixture = cld.load "spec/fixtures/pictures.safetensors"

describe("a file's pixels are Pillow's:", function()
  for name, expected in pairs(fixture) do
    local of, kind = name:match "^(%a+):(.*)$"
    if of == "pixels" then
      it(kind, function() check.close(picture.decode(fixture["file:" .. kind]), expected) end)
    elseif of == "upright" then
      it(kind .. " upright", function() check.close(picture.decode(fixture["file:" .. kind], true), expected) end)
    end
  end
end)
