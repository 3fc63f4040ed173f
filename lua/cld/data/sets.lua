--- Data sets made from other data sets. None of them copies files, and only small sets in memory copy images.
--
--   local animals = cld.data.subset { set, classes = { "cat", "dog" } }
--   local both    = cld.data.concat { photos, more_photos }
--   local tail    = cld.data.long_tailed { cifar, factor = 100 }
--   local tenth   = cld.data.labelled_share { imagenet, share = 0.1 }
local core = require "cld.core"
local caller = require "cld.caller"
local dataset = require "cld.data.dataset"
local user_error = require "cld.user_error"
local create = core.tensor

local sets = {}

local COPY_BYTES = 2 ^ 30 -- a subset copies at most this many bytes of images in memory, so that a GPU can hold them

-- ---- random choices -----------------------------------------------------------

-- f() with random numbers from this seed; the program's own generator does not advance.
local function with_seed(seed, f)
  local before = create.get_rng_state()
  create.manual_seed(seed)
  local ok, result = pcall(f)
  create.set_rng_state(before)
  if not ok then error(result, 0) end
  return result
end

-- The images of each class, as lists of indices from 0, in random order. Images without a label are left out.
local function shuffled_classes(set, seed)
  local classes = {}
  for c = 1, set.classes do classes[c] = {} end
  for i, label in ipairs(set.labels:totable()) do
    local list = classes[label + 1]
    if list then list[#list + 1] = i - 1 end
  end
  return with_seed(seed, function()
    for c, list in ipairs(classes) do
      local mixed = {}
      if #list > 0 then
        for k, at in ipairs(create.randperm(#list):totable()) do mixed[k] = list[at + 1] end
      end
      classes[c] = mixed
    end
    return classes
  end)
end

-- ---- rows of one set ----------------------------------------------------------

--- rows_of(set, indices, fields): the images of set at the indices (i64, on the cpu, from 0), in this order. fields:
-- the new set's own fields: name, and labels, classes and class_names if they differ from the set's.
local function rows_of(set, indices, fields)
  local made = {
    name = fields.name, labels = fields.labels or set.labels:index_select(1, indices),
    classes = fields.classes or set.classes, class_names = fields.class_names or set.class_names,
    seed = fields.seed, reading = rawget(set, "reading"), digest = rawget(set, "digest"),
  }
  local path_of, rows = rawget(set, "path_of"), nil
  if path_of then
    made.path_of = function(i)
      rows = rows or indices:totable()
      return path_of(rows[i] + 1)
    end
  end
  local images = rawget(set, "images")
  local height, width = set:size()
  if images and #indices * height * width * 3 <= COPY_BYTES then
    made.images = images:index_select(1, indices)
    return dataset.in_memory(made)
  end
  made.source = user_error.call(core.dataset.select, { set.source }, indices)
  return dataset.new(made)
end

sets.rows_of = rows_of

local function check_indices(set, indices)
  if type(indices) == "table" and #indices > 0 then
    local ok, made = pcall(create.tensor, indices, "i64")
    indices = ok and made or indices
  end
  if not create.is_tensor(indices) or indices.dtype ~= "i64" or indices.ndim ~= 1 or #indices == 0 then
    caller.raise("data.subset: indices must be an i64 vector of at least one image, got %s", caller.shown(indices))
  end
  local low, high = indices:min():item(), indices:max():item()
  if low < 0 or high >= #set then
    caller.raise("data.subset: indices must be 0 to %d, the images of %s counted from 0; got %d", #set - 1, set.name,
      low < 0 and low or high)
  end
  return indices:to("cpu"):contiguous()
end

-- The labels in the user's list (names, or an i64 tensor of labels), in the set's order, each once.
local function check_classes(set, classes)
  local wanted = {}
  if create.is_tensor(classes) and classes.dtype == "i64" and classes.ndim == 1 then
    for _, label in ipairs(classes:totable()) do
      if label < 0 or label >= set.classes then
        caller.raise("data.subset: classes: %s has the labels 0 to %d, got %d", set.name, set.classes - 1, label)
      end
      wanted[label] = true
    end
  elseif type(classes) == "table" and #classes > 0 then
    local at = {}
    for c, name in ipairs(set.class_names or {}) do at[name] = c - 1 end
    for _, name in ipairs(classes) do
      if type(name) ~= "string" or not at[name] then
        caller.raise("data.subset: classes: %s has no class %s%s", set.name, caller.shown(name),
          type(name) == "string" and user_error.hint(name, set.class_names or {})
            or "; a list must hold names, and labels must be an i64 tensor")
      end
      wanted[at[name]] = true
    end
  else
    caller.raise("data.subset: classes must be a list of names or an i64 tensor of labels, got %s",
      caller.shown(classes))
  end
  local kept = {}
  for label = 0, set.classes - 1 do
    if wanted[label] then kept[#kept + 1] = label end
  end
  return kept
end

local function of_classes(set, classes, name)
  local kept = check_classes(set, classes)
  local new, names = {}, set.class_names and {}
  for k, label in ipairs(kept) do
    new[label] = k - 1
    if names then names[k] = set.class_names[label + 1] end
  end
  local indices, labels = {}, {}
  for i, label in ipairs(set.labels:totable()) do
    if new[label] then indices[#indices + 1], labels[#labels + 1] = i - 1, new[label] end
  end
  if #indices == 0 then caller.raise("data.subset: %s has no image of these classes", set.name) end
  return rows_of(set, create.tensor(indices, "i64"), {
    name = name or ("%s, %d classes"):format(set.name, #kept), labels = create.tensor(labels, "i64"), classes = #kept,
    class_names = names,
  })
end

--- cld.data.subset{set, indices = i64 vector} -> dataset, cld.data.subset{set, classes = {name, ...} or i64 labels} ->
-- dataset: the images at these positions, from 0, in this order; or the images of these classes, in the set's order,
-- labelled 0, 1, ... in the order of `classes`.
--
--     local set = cld.data.tensors { images = cld.zeros({ 6, 8, 8, 3 }, "u8"), labels = cld.arange(6):remainder(3) }
--     print(#cld.data.subset { set, classes = cld.tensor({ 0, 2 }, "i64") })  --> 4
function sets.subset(options)
  caller.require_fields("data.subset", options, { "indices", "classes", "name" })
  local set = dataset.check("data.subset", options[1])
  if (options.indices == nil) == (options.classes == nil) then
    caller.raise "data.subset: give either indices or classes"
  end
  if options.classes then return of_classes(set, options.classes, options.name) end
  return rows_of(set, check_indices(set, options.indices), { name = options.name or set.name .. ", a subset" })
end

-- ---- sets put together ----------------------------------------------------------

local function same_names(a, b)
  if not a or not b then return true end
  if #a ~= #b then return false end
  for i, name in ipairs(a) do
    if name ~= b[i] then return false end
  end
  return true
end

-- The class names and the number of classes, for sets whose classes agree. A set without names agrees with any names
-- that cover its labels.
local function common_classes(parts)
  local named, most = nil, parts[1]
  for _, set in ipairs(parts) do
    if named and not same_names(named.class_names, set.class_names) then
      caller.raise("data.concat: %s and %s have different classes", named.name, set.name)
    end
    named = named or set.class_names and set
    if set.classes > most.classes then most = set end
  end
  if named and most.classes > named.classes then
    caller.raise("data.concat: %s has %d classes, but %s has %d", named.name, named.classes, most.name, most.classes)
  end
  return named and named.class_names, most.classes
end

-- The images in memory as one tensor, if all sets have them in one size and they are few enough to copy.
local function images_of(parts, count)
  local height, width = parts[1]:size()
  local all = {}
  for p, set in ipairs(parts) do
    local h, w = set:size()
    all[p] = rawget(set, "images")
    if not all[p] or h ~= height or w ~= width then return nil end
  end
  return count * height * width * 3 <= COPY_BYTES and create.cat(all, 1) or nil
end

-- The file of an image, if all parts have files.
local function paths_of(parts)
  for _, set in ipairs(parts) do
    if not rawget(set, "path_of") then return nil end
  end
  return function(i)
    for _, set in ipairs(parts) do
      if i <= #set then return rawget(set, "path_of")(i) end
      i = i - #set
    end
  end
end

--- cld.data.concat{a, b, ...} -> dataset: the images of all sets, one set after the other. The sets must have the same
-- classes, or none.
--
--     local a = cld.data.tensors { images = cld.zeros({ 3, 8, 8, 3 }, "u8") }
--     print(#cld.data.concat { a, a })          --> 6
function sets.concat(options)
  caller.require_fields("data.concat", options, { "name" })
  local parts, count = {}, 0
  for p = 1, math.max(1, #options) do
    parts[p] = dataset.check("data.concat", options[p])
    count = count + #parts[p]
  end
  local names, classes = common_classes(parts)
  local made = {
    name = options.name or #parts == 1 and parts[1].name or ("%s and %d more"):format(parts[1].name, #parts - 1),
    classes = classes, class_names = names, reading = rawget(parts[1], "reading"), path_of = paths_of(parts),
    images = images_of(parts, count),
  }
  local labels, rows, sources, part_of = {}, {}, {}, {}
  for p, set in ipairs(parts) do
    labels[p], sources[p] = set.labels, set.source
    rows[p] = create.arange(0, #set, 1, "i64")
    part_of[p] = create.full({ #set }, p - 1, "i32")
  end
  made.labels = create.cat(labels, 1)
  if made.images then return dataset.in_memory(made) end
  made.source = user_error.call(core.dataset.select, sources, create.cat(rows, 1), create.cat(part_of, 1))
  return dataset.new(made)
end

-- ---- long tails, few labels -----------------------------------------------------

local function check_number(name, what, value, low, high)
  if type(value) == "number" and value >= low and value <= high then return value end
  caller.raise("%s: %s must be a number from %g to %g, got %s", name, what, low, high, caller.shown(value))
end

local function check_seed(name, options) return caller.integer(name, "seed", options.seed or 0, 0) end

local function check_labelled(name, set)
  if set.classes < 1 or set.labels:max():item() < 0 then
    caller.raise("%s: %s has no labels", name, set.name)
  end
end

--- long_tailed{set, factor = 100, kind = "exponential"|"step", seed = 0}: keeps int(n_max mu^(c / (C - 1))) images of
-- class c (from 0, the first is the largest) of C, with mu = 1 / factor and n_max the size of the largest class (Cao
-- et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019); step: the second
-- half of the classes keeps int(n_max mu). The seed selects the images.
function sets.long_tailed(options)
  caller.require_fields("data.long_tailed", options, { "factor", "kind", "seed" })
  local set = dataset.check("data.long_tailed", options[1])
  check_labelled("data.long_tailed", set)
  local factor = check_number("data.long_tailed", "factor", options.factor or 100, 1, 1e6)
  local seed, kind = check_seed("data.long_tailed", options), options.kind or "exponential"
  if kind ~= "exponential" and kind ~= "step" then
    caller.raise("data.long_tailed: kind must be exponential or step, got %s", caller.shown(kind))
  end
  local classes, most, indices = shuffled_classes(set, seed), 0, {}
  for _, list in ipairs(classes) do most = math.max(most, #list) end
  for c, list in ipairs(classes) do
    local share = kind == "step" and (c > #classes // 2 and 1 / factor or 1)
      or #classes == 1 and 1 or (1 / factor) ^ ((c - 1) / (#classes - 1))
    local count = math.floor(most * share)
    if count > #list then
      user_error.raise("%s cannot be long-tailed by %g: class %s would keep %d images and has %d; expected classes of"
        .. " about one size", set.name, factor, set.class_names and caller.shown(set.class_names[c]) or c - 1, count,
        #list)
    end
    table.move(list, 1, count, #indices + 1, indices)
  end
  table.sort(indices)
  local _ <close> = core.text.c_locale()
  return rows_of(set, create.tensor(indices, "i64"), {
    name = ("%s, long-tailed by %g"):format(set.name, factor), seed = seed,
  })
end

--- cld.data.labelled_share{set, share = 0.1, seed = 0} -> dataset, cld.data.labelled_share{set, list = path} ->
-- dataset: floor(share N) images, with class counts that differ by at most one. A smaller share with the same seed is
-- a subset of a larger one. With a list: the images whose file names the text lists, one per line, like SimCLR's lists
-- of 1 and 10 % of ImageNet.
function sets.labelled_share(options)
  caller.require_fields("data.labelled_share", options, { "share", "seed", "list" })
  local set = dataset.check("data.labelled_share", options[1])
  check_labelled("data.labelled_share", set)
  if options.list then
    if options.share or options.seed then caller.raise "data.labelled_share: give a list, or a share and a seed" end
    return sets.listed(set, options.list)
  end
  local share = check_number("data.labelled_share", "share", options.share or 0.1, 0, 1)
  local seed, indices = check_seed("data.labelled_share", options), {}
  local classes = shuffled_classes(set, seed)
  local wanted = math.floor(share * #set + 1e-9)
  for round = 1, #set do -- takes the round-th image of every class, until there are enough
    for _, list in ipairs(classes) do
      if #indices < wanted and list[round] then indices[#indices + 1] = list[round] end
    end
    if #indices >= wanted then break end
  end
  if #indices == 0 then
    caller.raise("data.labelled_share: a share of %g of %d images is no image", share, #set)
  end
  table.sort(indices)
  local _ <close> = core.text.c_locale()
  return rows_of(set, create.tensor(indices, "i64"), {
    name = ("%s, %g %% of the labels"):format(set.name, 100 * share), seed = seed,
  })
end

--- cld.data.split{set, share = 0.1, seed = 0} -> rest, taken: takes that share of each class, at least one image if it
-- has two. Images without a label are in neither.
--
--     local set = cld.data.tensors { images = cld.zeros({ 20, 8, 8, 3 }, "u8"), labels = cld.arange(20):remainder(2) }
--     local train, test = cld.data.split { set, share = 0.2 }
--     print(#train, #test)                      --> 16 4
function sets.split(options)
  caller.require_fields("data.split", options, { "share", "seed" })
  local set = dataset.check("data.split", options[1])
  local share = check_number("data.split", "share", options.share or 0.1, 0, 1)
  local classes, taken, left = shuffled_classes(set, check_seed("data.split", options)), {}, {}
  for _, list in ipairs(classes) do
    local count = #list < 2 and 0 or math.max(1, math.min(#list - 1, math.floor(share * #list)))
    table.move(list, 1, count, #taken + 1, taken)
    table.move(list, count + 1, #list, #left + 1, left)
  end
  if #taken == 0 then
    user_error.raise("data.split: no class of %s has two images, so none can be taken from it", set.name)
  end
  table.sort(taken)
  table.sort(left)
  return rows_of(set, create.tensor(left, "i64"), { name = ("%s, %d images"):format(set.name, #left) }),
    rows_of(set, create.tensor(taken, "i64"), { name = ("%s, %d others"):format(set.name, #taken) })
end

-- The part after the last slash.
local function base_of(path) return path:match "^.*/(.*)$" or path end

-- The names in a list, by the part after their last slash: {base = {{name =, line =}, ...}}.
local function read_names(path)
  local file, problem = io.open(path, "rb")
  local text
  if file then
    text, problem = file:read "a"
    file:close()
    problem = problem and ("%s: %s"):format(path, problem)
  end
  if not text then user_error.raise("cannot read the list %s", problem) end
  if text:find("\0", 1, true) then
    user_error.raise("%s: it is not text; expected a list, one file name per line", path)
  end
  local by_base, number = {}, 0
  for line in (text .. "\n"):gmatch "(.-)\r?\n" do
    number = number + 1
    local name = line:match "^%s*(.-)%s*$"
    local base = base_of(name)
    if name ~= "" then
      by_base[base] = by_base[base] or {}
      table.insert(by_base[base], { name = name, line = number })
    end
  end
  if next(by_base) == nil then user_error.raise("%s: the list is empty", path) end
  return by_base
end

-- The images that a list names, by file name or by the end of the path.
function sets.listed(set, path)
  if type(path) ~= "string" then
    caller.raise("data.labelled_share: list must be the path of a text file, got %s", caller.shown(path))
  end
  local path_of = rawget(set, "path_of")
  if not path_of then caller.raise("data.labelled_share: %s has no files that a list could name", set.name) end
  local by_base, indices = read_names(path), {}
  for i = 1, #set do
    local file = path_of(i)
    local taken = false
    for _, entry in ipairs(by_base[base_of(file)] or {}) do
      if ("/" .. file):sub(-#entry.name - 1) == "/" .. entry.name then
        if entry.file then
          user_error.raise("%s, line %d: '%s' matches two files of %s: %s and %s", path, entry.line, entry.name,
            set.name, entry.file, file)
        end
        entry.file, taken = file, true
      end
    end
    if taken then indices[#indices + 1] = i - 1 end
  end
  local absent, names, unknown = nil, 0, 0
  for _, entries in pairs(by_base) do
    for _, entry in ipairs(entries) do
      names, unknown = names + 1, unknown + (entry.file and 0 or 1)
      if not entry.file and (not absent or entry.line < absent.line) then absent = entry end
    end
  end
  if absent then
    user_error.raise("%s, line %d: '%s' is not among the %d images of %s (%d of %d names are not)", path, absent.line,
      absent.name, #set, set.name, unknown, names)
  end
  return rows_of(set, create.tensor(indices, "i64"), { name = ("%s, listed by %s"):format(set.name, path) })
end

return sets
