--- The report as one self-contained HTML file: the style and the scripts of page/, the pictures as data: URLs, and the
-- data as JSON. Text from a run's files is never markup: all of it is in the JSON, where characters that could end a
-- script are escaped, and the scripts put it into the page as text.
local core = require "cld.core"
local json = require "cld.json"
local user_error = require "cld.user_error"
local base64 = core.text.base64

local page = {}

local folder = debug.getinfo(1, "S").source:match "^@(.*)/page%.lua$"

-- In page order.
local scripts = { "draw.js", "curves.js", "settings.js", "gallery.js", "map.js", "groups.js", "confusion.js",
  "main.js" }

local function part(name)
  local path = ("%s/page/%s"):format(folder or ".", name)
  local file = io.open(path, "rb")
  if not file then
    user_error.raise("the report's '%s' is missing; is cldlua installed as a whole (make install)?", path)
  end
  local text = file:read "a"
  file:close()
  return text
end

local escapes = {
  ["<"] = "\\u003c", [">"] = "\\u003e", ["&"] = "\\u0026", ["\u{2028}"] = "\\u2028", ["\u{2029}"] = "\\u2029",
}

--- safe_json(value) -> its JSON, safe inside a script element whatever text it contains: the escaped characters occur
-- only in strings.
function page.safe_json(value)
  local text = json.encode(value):gsub("[<>&]", escapes)
  return (text:gsub("\u{2028}", escapes):gsub("\u{2029}", escapes))
end

local function picture(id, bytes)
  return ('<img id="%s" class="store" alt="" src="data:image/jpeg;base64,%s">\n'):format(id, base64(bytes))
end

--- html(data, {{id, bytes of a JPEG}, ...}) -> the file's text. The scripts find a picture by its id.
function page.html(data, pictures)
  local style, code, store = part "style.css", {}, {}
  for i, name in ipairs(scripts) do code[i] = part(name) end
  for i, one in ipairs(pictures) do store[i] = picture(one[1], one[2]) end
  local fill = {
    STYLE = style, SCRIPT = table.concat(code, "\n"), PICTURES = table.concat(store), DATA = page.safe_json(data),
  }
  return (part "page.html":gsub("{{(%u+)}}", fill))
end

return page
