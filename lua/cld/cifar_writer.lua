--- Writes CIFAR's own file layouts: the python layout byte for byte as in the published files (Python 2's cPickle,
-- protocol 2), and the binary one. For procedural data, and for the specs of the readers.
--
-- A batch is {labels = list of 0-based integers, images = list of strings of 3072 bytes, three planes of 32 x 32},
-- and for CIFAR-100 {fine_labels =, coarse_labels =, images =}.
local core = require "cld.core"
local user_error = require "cld.user_error"

local writer = {}

-- ---- the pickle -------------------------------------------------------------

local function integer(n)
  if n >= 0 and n < 256 then return "K" .. string.char(n) end
  if n >= 0 and n < 65536 then return "M" .. string.pack("<I2", n) end
  return "J" .. string.pack("<i4", n)
end

local function text(s)
  if #s < 256 then return "U" .. string.pack("s1", s) end
  return "T" .. string.pack("<s4", s)
end

-- A pickle being written. cPickle numbers the objects that it memoizes (lists, strings, tuples, functions) from 1.
local function new_pickle()
  local parts, memo = { "\x80\x02" }, 0
  local pickle = {}
  function pickle.put(s) parts[#parts + 1] = s end
  function pickle.remember()
    memo = memo + 1
    pickle.put(memo < 256 and "q" .. string.char(memo) or "r" .. string.pack("<I4", memo))
    return memo
  end
  function pickle.text(s)
    pickle.put(text(s))
    pickle.remember()
  end
  -- Lists are written in batches of a thousand.
  function pickle.list(items, put_item)
    pickle.put "]"
    pickle.remember()
    for first = 1, #items, 1000 do
      pickle.put "("
      for i = first, math.min(first + 999, #items) do put_item(items[i]) end
      pickle.put "e"
    end
  end
  function pickle.integers(items)
    pickle.list(items, function(n) pickle.put(integer(n)) end)
  end
  -- A C-ordered array of u1.
  function pickle.matrix(rows)
    pickle.put "cnumpy.core.multiarray\n_reconstruct\n"
    pickle.remember()
    pickle.put "cnumpy\nndarray\n"
    pickle.remember()
    pickle.put "K\0\x85"
    pickle.remember()
    pickle.text "b"
    pickle.put "\x87"
    pickle.remember()
    pickle.put "R"
    pickle.remember()
    pickle.put("(K\1" .. integer(#rows) .. integer(#(rows[1] or "")) .. "\x86")
    pickle.remember()
    pickle.put "cnumpy\ndtype\n"
    pickle.remember()
    pickle.text "u1"
    pickle.put "K\0K\1\x87"
    pickle.remember()
    pickle.put "R"
    pickle.remember()
    pickle.put "(K\3"
    pickle.text "|"
    pickle.put "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0t"
    pickle.remember()
    pickle.put "b\x89"
    pickle.text(table.concat(rows))
    pickle.put "t"
    pickle.remember()
    pickle.put "b"
  end
  function pickle.texts(items) pickle.list(items, pickle.text) end
  function pickle.finish() return table.concat(parts) end
  return pickle
end

-- A dictionary; entries are {key, method above that writes the value, value}.
local function dictionary(entries)
  local pickle = new_pickle()
  pickle.put "}"
  pickle.remember()
  pickle.put "("
  for _, entry in ipairs(entries) do
    pickle.text(entry[1])
    pickle[entry[2]](entry[3])
  end
  pickle.put "u."
  return pickle.finish()
end

-- ---- files ------------------------------------------------------------------

--- The bytes of a batch file in the python layout; title is its batch_label.
function writer.python(batch, title)
  local names, entries = {}, { { "batch_label", "text", title } }
  for i = 1, #batch.images do names[i] = ("image_%06d.png"):format(i - 1) end
  for _, key in ipairs { "labels", "fine_labels", "coarse_labels" } do
    if batch[key] then entries[#entries + 1] = { key, "integers", batch[key] } end
  end
  entries[#entries + 1] = { "data", "matrix", batch.images }
  entries[#entries + 1] = { "filenames", "texts", names }
  return dictionary(entries)
end

--- The bytes of a batch file in the binary layout.
function writer.binary(batch)
  local rows = {}
  for i, image in ipairs(batch.images) do
    local labels = batch.labels and string.char(batch.labels[i])
      or string.char(batch.coarse_labels[i], batch.fine_labels[i])
    rows[i] = labels .. image
  end
  return table.concat(rows)
end

local function write(path, bytes) user_error.call(core.io.write_atomic, path, bytes) end

--- Makes the folder of a data set like CIFAR-10 under root, named as the published archives unpack. Returns it.
function writer.folder(root, layout)
  local folder = root .. (layout == "python" and "/cifar-10-batches-py" or "/cifar-10-batches-bin")
  user_error.call(core.io.mkdir, folder)
  return folder
end

--- Writes a data set like CIFAR-10 under root. train and test are batches (train is divided into the five files),
-- layout is "python" or "binary". Returns the folder. It is the user's error if the files cannot be written.
function writer.cifar10(root, layout, train, test, class_names)
  local python = layout == "python"
  local folder = writer.folder(root, layout)
  local function write_batch(name, batch, title)
    local path = ("%s/%s%s"):format(folder, name, python and "" or ".bin")
    write(path, python and writer.python(batch, title) or writer.binary(batch))
  end
  for i = 1, 5 do
    local first, last = #train.images * (i - 1) // 5 + 1, #train.images * i // 5
    write_batch("data_batch_" .. i, {
      labels = table.move(train.labels, first, last, 1, {}),
      images = table.move(train.images, first, last, 1, {}),
    }, ("training batch %d of 5"):format(i))
  end
  write_batch("test_batch", test, "testing batch 1 of 1")
  if python then
    write(folder .. "/batches.meta", dictionary { { "label_names", "texts", class_names } })
  else
    write(folder .. "/batches.meta.txt", table.concat(class_names, "\n") .. "\n")
  end
  return folder
end

return writer
