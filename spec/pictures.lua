--- Not a spec: `make pictures` makes the README's two pictures from the demo's run: its report in a headless Chromium,
-- and a terminal with its curves, some of its views and a text of help.
--
--   build/cldlua spec/pictures.lua --build build
--
-- The terminal shows what programs write to a pseudo-terminal (script, from util-linux), as a page in the same browser.
local cld = require "cld"

local opt = cld.options {
  about = "the README's pictures",
  { "build", "build", "where the program and the demo's run are" },
  { "out",   "recipes/guide/pictures", "the folder to write to" },
}
local run = opt.build .. "/runs/demo-1"
local columns = 100

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

local function output(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "a"
  local ok = pipe:close()
  if not ok then error(command .. "\n" .. text, 0) end
  return text
end

local function write(path, text)
  local file <close> = assert(io.open(path, "wb"))
  file:write(text)
end

-- ---- a page of what a terminal shows -----------------------------------------------------

local function xterm(number)
  if number >= 232 then
    local level = 8 + 10 * (number - 232)
    return level, level, level
  end
  local function level(i) return i == 0 and 0 or 55 + 40 * i end
  number = number - 16
  return level(number // 36), level(number // 6 % 6), level(number % 6)
end

-- "38;5;32" -> style's color; "48;2;r;g;b" -> its background; "0" -> none.
local function apply(style, codes)
  local numbers = {}
  for digits in codes:gmatch "%d+" do numbers[#numbers + 1] = math.tointeger(digits) end
  local i = 1
  repeat
    local code = numbers[i] or 0
    if code == 0 then style.color, style.background = nil, nil end
    if code == 39 then style.color = nil end
    if code == 49 then style.background = nil end
    if code == 38 or code == 48 then
      local r, g, b = numbers[i + 2], numbers[i + 3], numbers[i + 4]
      if numbers[i + 1] == 5 then r, g, b = xterm(r) end
      style[code == 38 and "color" or "background"] = ("rgb(%d,%d,%d)"):format(r, g, b)
      i = i + (numbers[i + 1] == 5 and 2 or 4)
    end
    i = i + 1
  until i > #numbers
end

-- Braille is in no fixed-width font of Debian's: each character has a cell of its own.
local function escaped(text)
  text = text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" })
  return (text:gsub("\xe2[\xa0-\xa3][\x80-\xbf]", "<b>%0</b>"))
end

local function html_of(text)
  local style, parts = {}, {}
  local at = 1
  text = text:gsub("\r", "")
  while at <= #text do
    local from, to, codes = text:find("\27%[([%d;]*)m", at)
    local piece = text:sub(at, (from or 0) - 1):gsub("\27%[[%d;?]*[A-Za-z]", "")
    if #piece > 0 then
      local css = (style.color and "color:" .. style.color .. ";" or "")
        .. (style.background and "background:" .. style.background or "")
      parts[#parts + 1] = ('<span style="%s">%s</span>'):format(css, escaped(piece))
    end
    if not from then break end
    apply(style, codes)
    at = to + 1
  end
  return table.concat(parts)
end

local function terminal(command)
  return output("TERM=xterm-256color COLORTERM=truecolor NO_COLOR= script -qec "
    .. quoted(("stty cols %d rows 40; %s"):format(columns, command)) .. " /dev/null")
end

local program = opt.build .. "/cldlua"
local shown = {}

local function show(line, text) shown[#shown + 1] = "\27[38;5;70m" .. line .. "\27[0m\n" .. text end

local watch = ("recipes/watch.lua %s --only top1,cld,effective_rank,grad_norm"):format(run)
show("$ cldlua " .. watch, terminal(("%s %s --once --height 24"):format(program, watch)))
local views = [[
local cld = require "cld"
local set = cld.data.cifar10 { root = %q }
local view = cld.augment.base { size = 32 }
local list = {}
for i = 1, 2 do
  for copy = 1, 3 do list[#list + 1] = view:views(set:read(i * 7), { sample = i, view = copy }) end
end
cld.image.show(cld.cat(list, 1), { columns = 6, width = 98 })]]
local toy = opt.build .. "/toy-1"
show("> cld.image.show(views, { columns = 6 })", terminal(("%s -e %s"):format(program, quoted(views:format(toy)))))
local help = quoted 'local cld = require "cld"; cld.help(cld.nn.linear)'
show("> help(cld.nn.linear)", terminal(("%s -e %s"):format(program, help)))

local page = [[
<!doctype html><meta charset="utf-8"><style>
body { margin: 0; background: #1c1f24; color: #d7dae0 }
pre { margin: 16px 18px; font: 13px/16px "DejaVu Sans Mono", monospace }
b { display: inline-block; width: 7.827px; height: 16px; overflow: hidden; vertical-align: top }
b { font: 10.7px/15px "DejaVu Sans"; transform: scaleY(1.35) }
</style><pre>]] .. html_of(table.concat(shown, "\n")) .. "</pre>"

-- ---- the pictures --------------------------------------------------------------------------

local browser
for _, name in ipairs { "chromium", "chromium-browser", "google-chrome" } do
  browser = browser or output(("command -v %s || true"):format(name)):match "%S+"
end
if not browser then error("pictures: there is no Chromium here (Debian: apt-get install chromium)", 0) end

local here = output "pwd":gsub("\n", "") .. "/"

-- What the browser shows of an address, as an image.
local function screenshot(address, width, height)
  local path = opt.build .. "/screenshot.png"
  output(("%s --headless --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=4000 --screenshot=%s"
    .. " --window-size=%d,%d %s 2>&1"):format(browser, quoted(path), width, height, quoted("file://" .. address)))
  return cld.image.read(path)
end

local function save(image, name)
  local path = ("%s/%s.png"):format(opt.out, name)
  cld.image.write(path, image)
  local file <close> = assert(io.open(path, "rb"))
  print(("%s: %d KB"):format(path, file:seek "end" // 1000))
end

assert(os.execute("mkdir -p " .. quoted(opt.out)))
write(opt.build .. "/terminal.html", page)
save(screenshot(here .. opt.build .. "/terminal.html", 830, 760), "terminal")

-- Two parts of the report beside each other: its beginning, and the map of the features with what follows.
local report = assert(io.open(run .. "/report.html", "rb")):read "a"
local rest = "header, #curves, #settings, #views, #neighbours { display: none }"
write(opt.build .. "/map.html", (report:gsub("</head>", "<style>" .. rest .. "</style></head>", 1)))
local left = screenshot(here .. run .. "/report.html", 1000, 1120)
local right = screenshot(here .. opt.build .. "/map.html", 1000, 1120)
local both = cld.full({ 1120, 2020, 3 }, 200, { dtype = "u8" })
both:narrow(2, 1, 1000):copy_(left)
both:narrow(2, 1021, 1000):copy_(right)
save(cld.image.resize(both, { 616, 1111 }), "report")
