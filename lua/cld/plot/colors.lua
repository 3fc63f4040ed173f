--- The colours of plots: Okabe and Ito's ("Color universal design", 2008), which colour-blind readers can tell apart,
-- without yellow, which is hard to see on white. Terminals get the nearest of xterm's 256 colours.
local colors = {
  ground = { 255, 255, 255 }, ink = { 34, 34, 34 }, frame = { 110, 110, 110 }, grid = { 226, 226, 226 },
  series = {
    { 0, 114, 178 }, { 213, 94, 0 }, { 0, 158, 115 }, { 204, 121, 167 }, { 230, 159, 0 }, { 86, 180, 233 },
    { 90, 90, 90 },
  },
  terminal = { 32, 202, 36, 175, 214, 117, 246 },
}

-- The lines of series 8 to 14 are dashed, those of 15 to 21 dotted: {drawn, left out} in pixels.
local dashes = { nil, { 7, 4 }, { 2, 3 } }

--- of(i) -> the colour of series i.
function colors.of(i) return colors.series[(i - 1) % #colors.series + 1] end

--- terminal_of(i) -> its number among xterm's 256.
function colors.terminal_of(i) return colors.terminal[(i - 1) % #colors.terminal + 1] end

--- dash(i) -> {drawn, left out} for the line of series i, or nil if it is solid.
function colors.dash(i) return dashes[((i - 1) // #colors.series) % 3 + 1] end

return colors
