--- Sorts ImageNet's validation images into class folders: ILSVRC2012_val_00000001.JPEG to n01751748/, and so on. Prints
-- what it would do; --move does it. An image that is already in its folder stays there, so an interrupted run can
-- simply be repeated.
--
--   cldlua recipes/valprep.lua --data imagenet/val --devkit ILSVRC2012_devkit_t12.tar.gz
--   cldlua recipes/valprep.lua --data imagenet/val --list valprep.sh --move
local cld = require "cld"
local say = require "cld.say"
local user_error = require "cld.user_error"

local opt = cld.options {
  about = "moves ImageNet's validation images into class folders",
  { "data",   "",    "folder that holds the images, ILSVRC2012_val_*.JPEG", nonempty = true },
  { "devkit", "",    "which class each is of: the development kit, its folder or ILSVRC2012_devkit_t12.tar.gz" },
  { "list",   "",    "or a text with lines 'mv NAME WNID/', such as valprep.sh; it is read, not run" },
  { "move",   false, "move them; without it nothing is changed" },
}
cld.dist.first_only()

-- ---- each image's class -----------------------------------------------------

-- A list of { name, wnid }, in order.
local function from_devkit(path)
  local plan = {}
  for i, wnid in ipairs(user_error.call(cld.files.devkit, path)) do
    plan[i] = { ("ILSVRC2012_val_%08d.JPEG"):format(i), wnid }
  end
  return plan
end

local function from_list(path)
  local file, problem = io.open(path, "rb")
  if not file then user_error.raise("valprep: cannot read the list %s", problem) end
  local text = file:read "a"
  file:close()
  if not text then user_error.raise("valprep: cannot read the list '%s'", path) end
  local plan, class_of, number = {}, {}, 0
  for line in (text .. "\n"):gmatch "(.-)\r?\n" do
    number = number + 1
    if line:find "^%s*mv%s" then
      local name, wnid = line:match "^%s*mv%s+([%w_][%w_.-]*)%s+(n%d%d%d%d%d%d%d%d)/?%s*$"
      if not name then
        user_error.raise("valprep: line %d of '%s' is not 'mv NAME WNID/': %s", number, path, line:sub(1, 100))
      end
      if class_of[name] and class_of[name] ~= wnid then
        user_error.raise("valprep: '%s' has %s in two classes, %s and %s", path, name, class_of[name], wnid)
      end
      if not class_of[name] then plan[#plan + 1] = { name, wnid } end
      class_of[name] = wnid
    end
  end
  if #plan == 0 then user_error.raise("valprep: '%s' has no line 'mv NAME WNID/'", path) end
  return plan
end

if opt.data == "" then user_error.raise("valprep: --data is missing: the folder that holds the images") end
if (opt.devkit == "") == (opt.list == "") then
  user_error.raise("valprep: give one of --devkit and --list, which say what class each image is of")
end
local plan = opt.devkit ~= "" and from_devkit(opt.devkit) or from_list(opt.list)

-- ---- the files as they are --------------------------------------------------

-- The names in a folder as keys; none if there is no such folder.
local function names_in(folder)
  local found = {}
  if not cld.io.exists(folder) then return found end
  for _, name in ipairs(user_error.call(cld.io.list, folder)) do found[name] = true end
  return found
end

if cld.io.exists(opt.data) ~= "folder" then user_error.raise("valprep: there is no folder '%s'", opt.data) end
local at_top, in_class, classes = names_in(opt.data), {}, 0
local moves, missing, placed = {}, {}, 0
for _, entry in ipairs(plan) do
  local name, wnid = table.unpack(entry)
  if not in_class[wnid] then
    in_class[wnid] = names_in(opt.data .. "/" .. wnid)
    classes = classes + 1
  end
  local is_placed = in_class[wnid][name]
  if is_placed and at_top[name] then
    user_error.raise("valprep: %s lies both in '%s' and in its folder %s; remove one of them", name, opt.data, wnid)
  elseif is_placed then
    placed = placed + 1
  elseif at_top[name] then
    moves[#moves + 1] = entry
  else
    missing[#missing + 1] = name
  end
end
if #moves + placed == 0 then
  user_error.raise("valprep: '%s' has none of the %d images, such as %s", opt.data, #plan, plan[1][1])
end

-- ---- moving -----------------------------------------------------------------

say(("%d images of %d classes: %d in their folders, %d to move, %d missing"):format(#plan, classes, placed, #moves,
  #missing))
if not opt.move then
  for i = 1, math.min(3, #moves) do say(("  would move %s to %s/"):format(table.unpack(moves[i]))) end
  if #moves > 3 then say(("  ... and %d more"):format(#moves - 3)) end
  if #moves > 0 then say "Nothing was moved: --move does it." end
else
  for i, entry in ipairs(moves) do
    local name, wnid = table.unpack(entry)
    local folder = opt.data .. "/" .. wnid
    user_error.call(cld.io.mkdir, folder)
    local ok, problem = os.rename(opt.data .. "/" .. name, folder .. "/" .. name)
    if not ok then user_error.raise("valprep: stopped after %d images: %s", i - 1, problem) end
  end
  say(("%d images moved"):format(#moves))
end
if #missing > 0 then
  user_error.raise("valprep: %d of the %d images are missing, the first %s", #missing, #plan, missing[1])
end
