--- Images in a terminal: chooses the best way that the terminal has to show one, and the size.
local core = require "cld.core"
local caller = require "cld.caller"
local letters = require "cld.letters"
local screen = core.screen

local shown = {}

local modes = { "kitty", "sixel", "blocks", "ascii" }
local CELL = 8         -- a character's width in pixels, if the terminal does not report it
local LEAST = 160      -- pixels across; a smaller image is enlarged in modes with a screen's pixels
local MOST_TIMES = 8   -- the largest factor by which an image is enlarged
local KITTY_PIECE = 4096 -- bytes of Base64 in a command: the protocol's limit

local function is_one_of(word, list)
  for _, one in ipairs(list) do
    if one == word then return true end
  end
  return false
end

local function variable(name) return os.getenv(name) or "" end

-- Whether the terminal is known to have Kitty's protocol. tmux and screen do not let it through.
local function has_kitty()
  if variable "TMUX" ~= "" or variable "STY" ~= "" then return false end
  return variable "KITTY_WINDOW_ID" ~= "" or is_one_of(variable "TERM", { "xterm-kitty", "xterm-ghostty" })
    or is_one_of(variable "TERM_PROGRAM", { "WezTerm", "ghostty" })
end

local function colors()
  local kind = variable "COLORTERM"
  return (kind == "truecolor" or kind == "24bit" or variable "TERM":find "%-direct$") and 0 or 256
end

--- mode() -> the best way to show images on standard output: "kitty", "sixel", "blocks", "ascii" (a terminal without
-- colours, NO_COLOR, or a locale that is not UTF-8), or nil if it is not a terminal.
function shown.mode()
  if not screen.facts().terminal then return nil end
  if not core.system.terminal() or variable "NO_COLOR" ~= "" then return "ascii" end
  if has_kitty() then return "kitty" end
  return screen.has_sixel() and "sixel" or letters.are_unicode() and "blocks" or "ascii"
end

-- The image resized to this many pixels across, with its height in proportion.
local function scaled(image, width)
  local height = math.max(1, math.floor(image.shape[1] * width / image.shape[2] + 0.5))
  if width == image.shape[2] then return image end
  return core.image.resize(image, { height, width }, "bicubic")
end

-- The image for modes with a screen's pixels: at most `columns` characters wide, and not tiny.
local function fitted(image, columns)
  local facts = screen.facts()
  local room = columns * (facts.pixels and facts.pixels // math.max(facts.columns, 1) or CELL)
  local width = image.shape[2]
  if width < LEAST then width = width * math.min(MOST_TIMES, math.ceil(LEAST / width)) end
  return scaled(image, math.max(1, math.min(width, room)))
end

-- Kitty's graphics protocol: a PNG in pieces, where each but the last says that more follows.
local function kitty(image)
  local data = core.text.base64(core.picture.encode("png", image, 75))
  local parts = {}
  for first = 1, #data, KITTY_PIECE do
    local more = first + KITTY_PIECE <= #data and 1 or 0
    local control = first == 1 and "a=T,f=100,q=2,m=" .. more or "m=" .. more
    parts[#parts + 1] = ("\27_G%s;%s\27\\"):format(control, data:sub(first, first + KITTY_PIECE - 1))
  end
  return table.concat(parts) .. "\n"
end

--- text(image, mode, columns) -> an image u8 (height, width, 3) as text for a terminal, at most that many characters
-- wide.
function shown.text(image, mode, columns)
  if mode == "kitty" then return kitty(fitted(image, columns)) end
  if mode == "sixel" then return screen.sixel(fitted(image, columns)) end
  image = scaled(image, math.min(image.shape[2], columns))
  if mode == "ascii" then return screen.characters(image) end
  return screen.blocks(image, colors())
end

--- show(name, image, {mode, width}): see cld.image.show. image is a single image already, u8 (height, width, 3).
function shown.show(name, image, options)
  if options.mode ~= nil and not is_one_of(options.mode, modes) then
    caller.raise("%s: mode must be %s, got %s", name, '"' .. table.concat(modes, '", "') .. '"',
      caller.shown(options.mode))
  end
  local columns = options.width or screen.facts().columns
  caller.integer(name, "width", columns)
  if image.shape[1] == 0 or image.shape[2] == 0 then caller.raise("%s: the image has no pixels", name) end
  local mode = options.mode or shown.mode()
  if not mode then
    return require "cld.say"(('image %d x %d, which a terminal shows; mode = "blocks" writes it as text all the same, '
      .. 'cld.image.write("x.png", image) as a file'):format(image.shape[2], image.shape[1]))
  end
  io.stdout:write(shown.text(image, mode, math.min(columns, 1000)))
  io.stdout:flush()
end

return shown
