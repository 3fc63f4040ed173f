--- Which letters standard output shows: all of Unicode, or only ASCII if the environment names a locale with another
-- encoding (LANG=C).
local letters = {}

--- Whether text is UTF-8. It is also if no locale is named at all, as in a container.
function letters.are_unicode()
  for _, name in ipairs { "LC_ALL", "LC_CTYPE", "LANG" } do
    local locale = os.getenv(name)
    if locale and locale ~= "" then return locale:lower():find "utf%-?8" ~= nil end
  end
  return true
end

--- The text with '?' for letters that are not shown.
function letters.shown(text)
  return letters.are_unicode() and text or (text:gsub(utf8.charpattern, function(letter)
    return #letter > 1 and "?" or nil
  end))
end

--- The text, cut to at most that many letters.
function letters.cut(text, most)
  if (utf8.len(text) or #text) <= most then return text end
  local mark = letters.are_unicode() and "\u{2026}" or "~"
  return text:sub(1, utf8.offset(text, most) - 1) .. mark
end

return letters
