--- Files of tensors: cld.load and cld.save.
-- A table of tensors by name is a plain safetensors or .npz file. Any other table (tables in tables, lists, numbers,
-- text, booleans) is a safetensors file too: its tensors are named by their places ("layers.2.weight"), so that other
-- programs can read them, and one entry of the metadata describes the table as JSON:
--
--   a table {"key": value, ...}; a list ["list", value, ...]; a tensor ["tensor", its name in the file];
--   text, true, false and whole numbers as JSON has them; a float ["float", "1.5"], which may be inf or nan
local core = require "cld.core"
local caller = require "cld.caller"
local json = require "cld.json"
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"
local is_tensor = core.tensor.is_tensor

local saved = {}

local STRUCTURE = "cldlua.structure" -- the metadata's entry
local deepest = 90 -- levels of nested tables; in JSON's text at most 100

-- ---- the description of a table --------------------------------------------

local function place(path) return path == "" and "the table" or ("'%s'"):format(path) end

local function beneath(path, key) return path == "" and tostring(key) or path .. "." .. tostring(key) end

-- Whether all keys are 1 to n; raises for keys that cannot be saved.
local function is_list(values, path)
  local count, names, other = 0, 0, nil
  for key in next, values do
    count = count + 1
    if type(key) == "string" then names = names + 1
    elseif math.type(key) ~= "integer" or key < 1 then other = key end
  end
  if other ~= nil then
    caller.raise("save: %s has the key %s; keys are names, or positions from 1 on", place(path), caller.shown(other))
  end
  if names == count then return false end
  if names > 0 then caller.raise("save: %s has both names and positions as keys; make two of it", place(path)) end
  for i = 1, count do
    if values[i] == nil then caller.raise("save: %s is a list with nothing at position %d", place(path), i) end
  end
  return true
end

local function is_flat(values)
  for key, value in next, values do
    if type(key) ~= "string" or not is_tensor(value) then return false end
  end
  return true
end

-- A name that no other tensor has.
local function free_name(tensors, path)
  local name, again = path, 1
  while tensors[name] do
    again = again + 1
    name = ("%s (%d)"):format(path, again)
  end
  return name
end

local function state_of(value) return value.state_dict end

-- Refuses a network, an optimizer, a memory bank: their states can be saved, but not the objects.
local function check_no_object(value, path)
  if type(value) ~= "table" and type(value) ~= "userdata" then return end
  local found, state_dict = pcall(state_of, value)
  if not found or type(state_dict) ~= "function" or is_tensor(value) then return end
  caller.raise("save: %s is an object; what can be saved of it is its state, object:state_dict()",
    path == "" and "the value" or place(path))
end

-- Refuses the record that cld.load makes of a PyTorch or NumPy tensor whose type no dtype here holds: saved as a table,
-- its values would be lost.
local function check_no_unread_tensor(value, path)
  local class = getmetatable(value) == core.io.record and tostring(value.class) or ""
  if class:find "^torch%._utils%._rebuild_.*tensor" or class == "numpy.ndarray" then
    caller.raise("save: %s is a tensor that cld.load could not read, kept as the record %s; leave it out", place(path),
      tostring(value))
  end
end

-- The value's description; adds its tensors to `tensors`. `open`: the tables around it, each with its place.
local function describe(value, path, tensors, open, depth)
  local kind = type(value)
  if kind == "string" or kind == "boolean" or math.type(value) == "integer" then return value end
  if kind == "number" then
    return { "float", value ~= value and "nan" or ("%.17g"):format(value) }
  end
  if is_tensor(value) then
    if not pcall(function() return value.shape end) then caller.raise("save: %s is a closed tensor", place(path)) end
    local name = free_name(tensors, path)
    tensors[name] = value
    return { "tensor", name }
  end
  check_no_object(value, path)
  check_no_unread_tensor(value, path)
  if kind ~= "table" then
    caller.raise("save: %s is %s; tensors, numbers, text, booleans and tables of these can be saved", place(path),
      kind == "function" and "a function" or "a " .. kind)
  end
  if open[value] then caller.raise("save: %s lies in itself: it is %s", place(path), place(open[value])) end
  if depth == deepest then caller.raise("save: %s lies more than %d tables deep", place(path), deepest) end
  open[value] = path
  local description = {}
  if is_list(value, path) then
    description[1] = "list"
    for i, item in ipairs(value) do description[i + 1] = describe(item, beneath(path, i), tensors, open, depth + 1) end
  else
    for _, key in ipairs(sorted_keys(value)) do
      description[key] = describe(value[key], beneath(path, key), tensors, open, depth + 1)
    end
  end
  open[value] = nil
  return description
end

-- Calls f(...) of C. An error in an argument is raised at the user's line, an error in a file as it is.
local function call(name, f, ...)
  local results = table.pack(pcall(f, ...))
  if results[1] then return table.unpack(results, 2, results.n) end
  local argument = type(results[2]) == "string" and results[2]:match "bad argument #%d+ to '[^']*' (%b())"
  if argument then caller.raise("%s: %s", name, argument:sub(2, -2)) end
  error(results[2], 0)
end

-- ---- saving ----------------------------------------------------------------

local function save_npz(path, values, metadata, options)
  if metadata ~= nil and next(metadata) ~= nil or options ~= nil and options.types ~= nil then
    caller.raise "save: an .npz holds arrays alone, no metadata and no types; .safetensors has room for both"
  end
  for key, value in next, values do
    if type(key) ~= "string" or not is_tensor(value) then
      caller.raise("save: an .npz holds tensors by name, and '%s' is %s; .safetensors takes tables in tables",
        tostring(key), caller.shown(value))
    end
  end
  call("save", core.io.save_npz, path, values)
end

--- cld.save(path, values[, metadata[, {types = {name = "I8"}}]]): writes a file of tensors. An existing file stays
-- until the new one is complete. values is {name = tensor}, or any table of tables, lists (keys from 1), tensors,
-- numbers, text and booleans, which cld.load returns as it was. If the path ends in .npz, a {name = tensor} is written
-- as NumPy's archive; any other path gives a safetensors file, whose metadata are {key = text, number or boolean}. A
-- tensor from cld.load that has not been changed is written with its original type (I8, I16, U16, U32, U64, BOOL,
-- F8_E4M3, ...); a tensor computed from it has its own dtype. types sets a type by the tensor's name: an integer type
-- takes whole numbers in its range, a float type the nearest value.
--
--     cld.save("x.safetensors", { w = cld.ones(2, 2), epoch = 3, seen = { 1, 2.5, "three" } })
--     print(cld.load("x.safetensors").seen[3])  --> three
function saved.save(path, values, metadata, options)
  if type(path) ~= "string" then caller.raise("save: expected a file's path, got %s", caller.shown(path)) end
  check_no_object(values, "")
  if type(values) ~= "table" then
    caller.raise("save: expected a table of tensors, got %s", caller.shown(values))
  end
  caller.check_fields("save", options, { "types" })
  if path:match "%.npz$" then return save_npz(path, values, metadata, options) end
  if metadata ~= nil and type(metadata) ~= "table" then
    caller.raise("save: metadata are a table {key = text}, got %s", caller.shown(metadata))
  end
  if metadata and metadata[STRUCTURE] ~= nil then
    caller.raise("save: the metadata's key '%s' is taken: it says how tables are put together", STRUCTURE)
  end
  if is_flat(values) then
    call("save", core.io.save, path, values, metadata, options and options.types)
    return
  end
  local tensors, entries = {}, {}
  for key, value in pairs(metadata or {}) do entries[key] = value end
  local _ <close> = core.text.c_locale()
  entries[STRUCTURE] = json.encode(describe(values, "", tensors, {}, 0))
  call("save", core.io.save, path, tensors, entries, options and options.types)
end

-- ---- loading ---------------------------------------------------------------

local function damaged(path, problem)
  user_error.raise("%s: damaged file: its metadata's %s %s", path, STRUCTURE, problem)
end

-- The value of a description. `left`: tensors that no description has used.
local function rebuild(description, path, file)
  if type(description) ~= "table" then
    if description == json.null then damaged(path, "holds a null") end
    return description
  end
  local kind = description[1]
  if kind == nil then
    local made = {}
    for key, item in pairs(description) do made[key] = rebuild(item, path, file) end
    return made
  end
  if kind == "list" then
    local made = {}
    for i = 2, #description do made[i - 1] = rebuild(description[i], path, file) end
    return made
  end
  local word = description[2]
  if kind == "float" and word == "nan" then return 0 / 0 end
  if kind == "float" and (word == "inf" or word == "-inf") then return word == "inf" and math.huge or -math.huge end
  if kind == "float" and type(word) == "string" and tonumber(word) then return tonumber(word) + 0.0 end
  if kind ~= "tensor" or type(word) ~= "string" then damaged(path, "holds something that no table is made of") end
  local tensor = file.tensors[word]
  if not tensor and not file.unread[word] then
    damaged(path, ("names a tensor that is not there: '%s'"):format(word))
  end
  file.left[word] = nil
  return tensor
end

-- Rebuilds the saved table from the file's content.
local function assemble(path, tensors, text, unread)
  local _ <close> = core.text.c_locale()
  local read, description = pcall(json.decode, text)
  if not read then
    user_error.check_memory(path, description)
    damaged(path, "is not JSON")
  end
  local left = {}
  for name in pairs(tensors) do left[name] = true end
  local values = rebuild(description, path, { tensors = tensors, unread = unread, left = left })
  if type(values) ~= "table" then damaged(path, "is no table") end
  for _, name in ipairs(sorted_keys(left)) do damaged(path, ("does not name the tensor '%s'"):format(name)) end
  return values
end

-- Raises if tensors were not read: cld.save would then write a file without them.
local function check_read(path, unread)
  local names = sorted_keys(unread)
  if #names == 0 then return end
  local why = unread[names[1]]
  if why:sub(1, #path + 2) == path .. ": " then why = why:sub(#path + 3) end
  local others = #names > 1 and (" (and %d more)"):format(#names - 1) or ""
  user_error.raise("%s: cannot read the tensor '%s'%s: %s; cld.load(path, { skip = true }) leaves such tensors out",
    path, names[1], others, why)
end

--- cld.load(path[, {skip = false}]) -> values, metadata, unread: the content of a file, whose type is recognized by its
-- content. Safetensors: {name = tensor} or the nested table that cld.save was given, {key = text}, {name = why that
-- tensor was left out}. NumPy's .npz: {name = tensor}, {}, {name = why}. PyTorch's (.pth, .pt, .pth.tar, .t7;
-- cld.io.is_torch(path) says so): the value, {format = "PyTorch zip", "PyTorch legacy" or "pickle"}, {}. No code of
-- the file runs. Dictionaries become tables with their keys; lists, tuples and sets become tables from 1; None becomes
-- cld.io.none; tensors, parameters, storages and NumPy arrays become tensors, which share a storage if they did. An
-- object of any other class becomes a record, which prints itself: {class = "torch.optim.sgd.SGD", arguments, state,
-- items, entries}; its metatable is cld.io.record. So does a PyTorch tensor whose type no dtype here holds (8-bit
-- floats, u64, complex numbers); cld.save refuses that record. Tensors are on the cpu. A type that is not a dtype here
-- becomes the next one that holds it: i8, i16, u16 become i32; u32, u64 i64; bool u8; safetensors' 8-bit floats f32.
-- cld.save writes the original type. If no dtype here can hold a tensor's type or values (text, complex numbers, u64
-- from 2^63 on), that is an error, which names the tensor; with skip it is left out of values, and unread says why.
--
--     cld.save("weights.safetensors", { w = cld.ones(2, 2) }, { made = "today" })
--     local tensors, notes = cld.load "weights.safetensors"
--     print(tensors.w:sum():item(), notes.made)  --> 4.0 today
function saved.load(path, options)
  if type(path) ~= "string" then caller.raise("load: expected a file's path, got %s", caller.shown(path)) end
  caller.check_fields("load", options, { "skip" })
  local values, facts, unread = call("load", core.io.load, path)
  if not (options and options.skip) then check_read(path, unread or {}) end
  local structure = type(facts) == "table" and facts[STRUCTURE]
  if not structure then return values, facts, unread end
  facts[STRUCTURE] = nil
  return assemble(path, values, structure, unread), facts, unread
end

return saved
