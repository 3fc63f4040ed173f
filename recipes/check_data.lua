--- Shows what a folder of images holds and what is wrong with it. Every file is read and fully decoded.
--
--   cldlua recipes/check_data.lua photos       a folder, also with train/ and test/ or val/ inside, or a .tar
--
-- The exit status is 1 if anything is bad: an unreadable file, a class without images, classes that differ between
-- train and test, or a training image that is also a test image. Duplicate images within a split and unsupported
-- formats (GIF, TIFF, ...) are warnings. Two images are the same if their files have the same bytes, compared by
-- length and a 64-bit digest.
local cld = require "cld"
local counter = require "cld.counter"
local say = require "cld.say"
local user_error = require "cld.user_error"

local opt = cld.options {
  about = "what a folder of images holds, and what is wrong with it",
  { "folder",  "", "the folder, or a .tar", value = "argument" },
  { "data",    "", "the same, if it is not given so", nonempty = true },
  { "inside",  "", "of a .tar: the folder in it" },
  { "workers", 1,  "threads that read and decode; 0: none of their own", min = 0, max = 256, integer = true },
  { "show",    20, "lines of each list; 0: all", min = 0, integer = true },
}
cld.dist.first_only()
if opt.folder ~= "" and opt.data ~= "" then
  user_error.raise("unexpected argument '%s': --data names the folder already", opt.folder)
end
local data = opt.folder ~= "" and opt.folder or opt.data
if data == "" then user_error.raise "check_data: which folder? check_data.lua FOLDER" end

-- ---- findings ---------------------------------------------------------------

local bad, warnings = 0, 0

local function found(count) bad = bad + count end
local function warned(count) warnings = warnings + count end

-- A heading and at most --show of the lines.
local function tell(heading, lines)
  if #lines == 0 then return end
  say(heading)
  local shown = opt.show == 0 and #lines or math.min(#lines, opt.show)
  for i = 1, shown do say("  " .. lines[i]) end
  if #lines > shown then say(("  ... and %d more (--show 0)"):format(#lines - shown)) end
end

local function plural(count, one, many) return ("%d %s"):format(count, count == 1 and one or many or one .. "s") end

-- ---- figures ----------------------------------------------------------------

-- {[value] = count} -> smallest, median, largest
local function quantiles(histogram, total)
  local values = {}
  for value in pairs(histogram) do values[#values + 1] = value end
  table.sort(values)
  local seen = 0
  for _, value in ipairs(values) do
    seen = seen + histogram[value]
    if 2 * seen >= total then return values[1], value, values[#values] end
  end
end

local function add(histogram, key) histogram[key] = (histogram[key] or 0) + 1 end

local function row(name, text) say(("  %-14s %s"):format(name, text)) end

local function tell_classes(set)
  local counts, list = {}, {}
  for _, label in ipairs(set.labels:totable()) do add(counts, label + 1) end
  for c, name in ipairs(set.class_names or {}) do list[c] = { name = name, count = counts[c] or 0 } end
  if #list == 0 then return row("classes", "none: the images are not in class folders") end
  local sizes = {}
  for _, class in ipairs(list) do add(sizes, class.count) end
  table.sort(list, function(a, b)
    if a.count ~= b.count then return a.count > b.count end
    return a.name < b.name
  end)
  local smallest, median, largest = quantiles(sizes, #list)
  row("classes", ("%d: smallest %d (%s), median %d, largest %d (%s)"):format(#list, smallest, list[#list].name, median,
    largest, list[1].name))
  if #list > 10 then return end
  for _, class in ipairs(list) do row("", ("%7d  %s"):format(class.count, class.name)) end
end

-- How many images there are of each kind that can matter to a user.
local function tell_kinds(figures)
  local words = {}
  for _, name in ipairs { "JPEG", "PNG", "PPM", "gray", "CMYK", "with alpha", "of 16 bits", "EXIF says turned" } do
    local count = figures.kinds[name]
    if count then words[#words + 1] = ("%d %s"):format(count, name) end
  end
  row("files", ("%s; %.1f MB"):format(table.concat(words, ", "), figures.bytes / 1e6))
end

local function note_kinds(figures, item)
  add(figures.kinds, item.kind)
  if item.channels == 1 then add(figures.kinds, "gray") end
  if item.channels == 4 then add(figures.kinds, "CMYK") end
  if item.alpha then add(figures.kinds, "with alpha") end
  if item.bits == 16 then add(figures.kinds, "of 16 bits") end
  if item.orientation ~= 1 then add(figures.kinds, "EXIF says turned") end
end

-- ---- a part -----------------------------------------------------------------

-- digest -> the first image with it, as one integer that stands for {part, row}; digest -> a list of the other images.
local first_of, others_of, parts = {}, {}, nil
local rows = 1 << 40

local function note_digest(part_number, item)
  local here = part_number * rows + item.row
  local key = item.digest ~ item.file_bytes
  if not first_of[key] then
    first_of[key] = here
  else
    others_of[key] = others_of[key] or {}
    table.insert(others_of[key], here)
  end
end

-- The set, or nil, and the problems found. A folder without a valid layout is checked as a plain folder of files.
local function open(part)
  local problems = {}
  local ok, set = pcall(cld.data.parts.open, part, { problems = problems })
  if not ok then
    table.insert(problems, 1, tostring(set))
    local rest = {}
    ok, set = pcall(cld.data.parts.open, part, { problems = rest, layout = "plain" })
    for _, problem in ipairs(rest) do problems[#problems + 1] = problem end
  end
  return ok and set or nil, problems
end

local function read_all(number, part, set)
  local count, unreadable = counter.new(part.split or part.where, #set), {}
  local figures = { kinds = {}, shorter = {}, longer = {}, bytes = 0, images = 0 }
  local function interrupted()
    local name, signal = cld.interrupted()
    count:clear()
    say(("interrupted (SIG%s) after %d of %d images of %s"):format(name, count.done, #set, part.where))
    os.exit(128 + signal, true)
  end
  for item in cld.data.sweep { set, workers = opt.workers, on_signal = interrupted } do
    if item.problem then
      unreadable[#unreadable + 1] = ("%s: %s"):format(set.source:describe(item.row - 1), item.problem)
    else
      figures.images = figures.images + 1
      figures.bytes = figures.bytes + item.file_bytes
      add(figures.shorter, math.min(item.height, item.width))
      add(figures.longer, math.max(item.height, item.width))
      note_kinds(figures, item)
      note_digest(number, item)
    end
    count:step()
  end
  count:clear()
  return figures, unreadable
end

local sides = "smallest %d, median %d, largest %d pixels"
local function tell_part(number, part)
  local set, problems = open(part)
  part.set = set
  say(("%s%s"):format(part.split and part.split .. ": " or "", part.where))
  if set then
    local figures, unreadable = read_all(number, part, set)
    row("images", ("%d%s"):format(#set, #unreadable > 0 and (", %d of them unreadable"):format(#unreadable) or ""))
    tell_classes(set)
    if figures.images > 0 then
      row("shorter side", sides:format(quantiles(figures.shorter, figures.images)))
      row("longer side", sides:format(quantiles(figures.longer, figures.images)))
      tell_kinds(figures)
    end
    local _, text = set.listing:unreadable()
    if text ~= "" then
      row("left out", text .. ": kinds that are not read")
      warned(1)
    end
    found(#unreadable)
    tell(("bad: %s cannot be read"):format(plural(#unreadable, "file")), unreadable)
  end
  found(#problems)
  tell(part.is_archive and "bad: the archive itself" or "bad: the folder itself", problems)
end

-- ---- all parts --------------------------------------------------------------

local function name_of(place) return parts[place // rows].set.source:describe(place % rows - 1) end
local function label_of(place) return parts[place // rows].set.labels[place % rows]:item() end

local function tell_duplicates()
  local groups, across, within, in_classes = {}, {}, {}, 0
  for key, others in pairs(others_of) do groups[#groups + 1] = table.move(others, 1, #others, 2, { first_of[key] }) end
  table.sort(groups, function(a, b) return a[1] < b[1] end)
  for _, group in ipairs(groups) do
    local names, differ, labels_differ = {}, false, false
    for i, place in ipairs(group) do
      if i <= 5 then names[i] = name_of(place) end
      differ = differ or place // rows ~= group[1] // rows
      labels_differ = labels_differ or label_of(place) ~= label_of(group[1])
    end
    if #group > 5 then names[6] = ("and %d more"):format(#group - 5) end
    if labels_differ then in_classes = in_classes + 1 end
    local list = differ and across or within
    list[#list + 1] = table.concat(names, " = ") .. (labels_differ and "  (of different classes)" or "")
  end
  found(#across)
  warned(#within)
  tell(("bad: %s in more than one split"):format(plural(#across, "image is", "images are")), across)
  tell(("warning: %s more than once in one split"):format(plural(#within, "image is", "images are")), within)
end

parts = cld.data.parts.find(data, opt.inside ~= "" and opt.inside or nil)
cld.catch_signals()
for number, part in ipairs(parts) do tell_part(number, part) end
for number = 2, #parts do
  local a, b = parts[1].set, parts[number].set
  if a and b then
    local ok, problem = pcall(a.listing.check_same_classes, a.listing, b.listing)
    if not ok then
      found(1)
      tell("bad: the splits do not fit together", { tostring(problem) })
    end
  end
end
tell_duplicates()
cld.restore_signals()
say(bad == 0 and warnings == 0 and "nothing is wrong" or ("%s, %s"):format(
  bad == 0 and "nothing is bad" or plural(bad, "thing is bad", "things are bad"), plural(warnings, "warning")))
os.exit(bad == 0, true)
