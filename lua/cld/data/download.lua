--- Published data sets: downloaded, checked, unpacked, put in place.
--
--   cld.data.download { name = "cifar10", root = "./data" }     --> "./data/cifar-10-batches-py"
--   cld.data.cifar10 { root = "./data", download = true }
--
-- During a download `root` holds: ARCHIVE.part, which grows and is continued after an interruption; ARCHIVE, once it is
-- complete and correct, or if the user has put it there; ARCHIVE.unpack, a folder that is filled and then renamed into
-- place. That folder is locked while it exists, so that a second process that fetches the same set is told so.
local core = require "cld.core"
local bar = require "cld.data.bar"
local caller = require "cld.caller"
local dist = require "cld.dist"
local say = require "cld.say"
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"
local system, files, jobs = core.system, core.io, core.download

local download = {}

-- ---- the published sets ---------------------------------------------------------

local toronto = "https://www.cs.toronto.edu/~kriz/"

--- The sets by name: title, and by layout an entry {title =, address =, md5 =, bytes =, folder = of the files in the
-- archive and then in the root, files = {{name, md5 =, bytes =}, ...}}. An unknown md5 or length is left out. Readers
-- try the layouts in this order; without a choice the first is fetched.
download.sets = {
  cifar10 = {
    title = "CIFAR-10",
    {
      layout = "python", address = toronto .. "cifar-10-python.tar.gz", folder = "cifar-10-batches-py",
      md5 = "c58f30108f718f92721af3b95e74349a", bytes = 170498071,
      files = {
        { "data_batch_1", md5 = "c99cafc152244af753f735de768cd75f" },
        { "data_batch_2", md5 = "d4bba439e000b95fd0a9bffe97cbabec" },
        { "data_batch_3", md5 = "54ebc095f3ab1f0389bbae665268c751" },
        { "data_batch_4", md5 = "634d18415352ddfa80567beed471001a" },
        { "data_batch_5", md5 = "482c414d41f54cd18b22e5b47cb7c3cb" },
        { "test_batch", md5 = "40351d587109b95175f43aff81a1287e" },
        { "batches.meta", md5 = "5ff9c542aee3614f3951f8cda6e48888" },
      },
    },
    {
      layout = "binary", address = toronto .. "cifar-10-binary.tar.gz", folder = "cifar-10-batches-bin",
      md5 = "c32a1d4ab5d03f1284b67883e8d87530", bytes = 170052171,
      files = {
        { "data_batch_1.bin", bytes = 30730000 }, { "data_batch_2.bin", bytes = 30730000 },
        { "data_batch_3.bin", bytes = 30730000 }, { "data_batch_4.bin", bytes = 30730000 },
        { "data_batch_5.bin", bytes = 30730000 }, { "test_batch.bin", bytes = 30730000 }, { "batches.meta.txt" },
      },
    },
  },
  cifar100 = {
    title = "CIFAR-100",
    {
      layout = "python", address = toronto .. "cifar-100-python.tar.gz", folder = "cifar-100-python",
      md5 = "eb9058c3a382ffc7106e4002c42a8d85", bytes = 169001437,
      files = {
        { "train", md5 = "16019d7e3df5f24257cddd939b257f8d" },
        { "test", md5 = "f0ef6b0ae62326f3e7ffdfab6717acfc" },
        { "meta", md5 = "7973b15100ade9c7d40fb424638fde48" },
      },
    },
    {
      layout = "binary", address = toronto .. "cifar-100-binary.tar.gz", folder = "cifar-100-binary",
      md5 = "03b5dce01913d631647c71ecec9e9cb8", bytes = 168513733,
      files = {
        { "train.bin", md5 = "6172c7755cfe09b2fe270c85cebc1b15", bytes = 153700000 },
        { "test.bin", md5 = "4499cfba6c016c1be1438163640a0898", bytes = 30740000 },
        { "fine_label_names.txt" }, { "coarse_label_names.txt" },
      },
    },
  },
  stl10 = {
    title = "STL-10",
    {
      layout = "binary", address = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz", folder = "stl10_binary",
      md5 = "91f7769df0f17e558f3565bffb0c7dfb", bytes = 2640397119,
      files = {
        { "train_X.bin", md5 = "918c2871b30a85fa023e0c44e0bee87f", bytes = 138240000 },
        { "train_y.bin", md5 = "5a34089d4802c674881badbb80307741", bytes = 5000 },
        { "test_X.bin", md5 = "7f263ba9f9e0b06b93213547f721ac82", bytes = 221184000 },
        { "test_y.bin", md5 = "36f9794fa4beb8a2c72628de14fa638e", bytes = 8000 },
        { "unlabeled_X.bin", md5 = "5242ba1fed5e4be9e1e742405eb56ca4", bytes = 2764800000 },
        { "class_names.txt" }, { "fold_indices.txt" },
      },
    },
  },
}

-- ---- jobs -----------------------------------------------------------------------

local slice = 0.1     -- seconds between checks for signals
local stopped = {}    -- the error that unwinds everything after a signal

-- Runs a job to its end. Returns what its last step returned.
local function finish(job, view)
  local _ <close> = view
  local _ <close> = job
  while true do
    local state, have, text = job:step(slice)
    if state ~= "running" then return state, have, text end
    view:draw(have)
    if system.interrupted() then error(stopped, 0) end
  end
end

-- The size of a regular file; nil for anything else (opening a pipe would wait for a writer).
local function size(path)
  if files.exists(path) ~= "file" then return nil end
  local file <close> = io.open(path, "rb")
  return file and file:seek "end"
end

-- How a file differs from {md5 =, bytes =}; nil if it does not.
local function difference(path, expected, settings)
  local kind = files.exists(path)
  if kind ~= "file" then return kind and "it is not a file" or "it does not exist" end
  local bytes = size(path)
  if not bytes then return "it cannot be read" end
  if expected.bytes and bytes ~= expected.bytes then
    return ("it is %d bytes long, expected %d"):format(bytes, expected.bytes)
  end
  if not expected.md5 then return end
  local view = bar.new { what = "checking " .. path:match "[^/]*$", bytes = bytes, quiet = settings.quiet,
    every = settings.every }
  local _, _, md5 = finish(jobs.checksum(path), view)
  if md5 ~= expected.md5 then return ("its md5 is %s, expected %s"):format(md5, expected.md5) end
end

-- ---- what is there already ------------------------------------------------------

-- "complete"; "missing", and the names of the missing files; or "wrong", the path of a file that is not the set's, and
-- why.
local function examine(folder, entry, settings)
  local missing = {}
  for _, file in ipairs(entry.files) do
    local path = folder .. "/" .. file[1]
    if not files.exists(path) then
      missing[#missing + 1] = file[1]
    else
      local problem = difference(path, { bytes = file.bytes }, settings)
      if problem then return "wrong", path, problem end
    end
  end
  if #missing == #entry.files then return "missing", missing end
  for _, file in ipairs(entry.files) do
    local path = folder .. "/" .. file[1]
    local problem = file.md5 and files.exists(path) and difference(path, file, settings)
    if problem then return "wrong", path, problem end
  end
  if #missing > 0 then return "missing", missing end
  return "complete"
end

-- The folder in which the set is complete, or nil: tries all places where the readers look.
local function place(entry, settings)
  local root, folder, title = settings.root, entry.folder, entry.title
  for _, path in ipairs {
    root .. "/" .. folder, ("%s/%s/%s"):format(root, title, folder), root .. "/" .. title, root,
  } do
    local state, at, problem = examine(path, entry, settings)
    if state == "complete" then return path end
    if state == "wrong" and path == root .. "/" .. folder then
      user_error.raise("%s: '%s' is not the published file: %s. Move '%s' away to have it fetched, or leave out "
        .. "--download to use it as it is", title, at, problem, path)
    end
  end
end

-- ---- fetching -------------------------------------------------------------------

local function name_of(address) return address:match "([^/]*)$" end

-- The address without a password, for messages.
local function shown(address) return (address:gsub("^(%a+://)[^/@]*@", "%1")) end

-- The archive's address: the mirror itself if it ends with the archive's name, else that name in the mirror's folder.
local function source(entry, mirror)
  local name = name_of(entry.address)
  if not mirror or mirror == "" then return entry.address end
  if not mirror:find "^[Hh][Tt][Tt][Pp][Ss]?://[^/]" then
    user_error.raise("%s: the mirror '%s' does not begin with http:// or https://; to use an archive on disk, put it "
      .. "into the data folder as '%s'", entry.title, shown(mirror), name)
  end
  if mirror:match "([^/]*)$":match "^[^?#]*" == name then return mirror end
  return mirror:gsub("/*$", "/") .. name
end

local function advice(entry, settings)
  return ("try again, give another address (--mirror URL), or put the file at '%s/%s' yourself"):format(settings.root,
    name_of(entry.address))
end

-- "; 1.2 MB are kept in PATH, and the next try continues from there", if any bytes have arrived.
local function kept(part)
  local bytes = size(part) or 0
  if bytes == 0 then return "" end
  return ("; %s are kept in '%s', and the next try continues from there"):format(bar.size(bytes), part)
end

-- Fills `part`. After an interruption it continues by itself if data has arrived since the last one.
local function fill(part, entry, settings)
  local address = source(entry, settings.mirror)
  for try = 0, settings.retries do
    local before = size(part) or 0
    local view = bar.new { what = "fetching " .. name_of(entry.address), bytes = entry.bytes, have = before,
      quiet = settings.quiet, every = settings.every }
    local job = user_error.call(jobs.fetch, address, part, { bytes = entry.bytes or 0, stall = settings.stall })
    local state, have, reason = finish(job, view)
    if state == "complete" then return address end
    if have <= before or try == settings.retries then
      user_error.raise("%s: cannot fetch '%s': %s; %s%s", entry.title, shown(address), reason,
        advice(entry, settings), kept(part))
    end
    if not settings.quiet then say(("%s: %s; going on"):format(shown(address), reason)) end
  end
end

-- Puts the archive, complete and correct, at its path. Returns true if it was fetched now.
local function fetch(archive, entry, settings)
  local part = archive .. ".part"
  if files.exists(archive) then
    local problem = difference(archive, entry, settings)
    if not problem then return false end
    user_error.raise("%s: '%s' is not the published file: %s. Remove it to have it fetched", entry.title, archive,
      problem)
  end
  for try = 1, 2 do
    local continued = (size(part) or 0) > 0
    local address = source(entry, settings.mirror)
    if not settings.quiet then
      say(("%s %s%s into %s"):format(continued and "continuing" or "fetching", shown(address),
        entry.bytes and (" (%s)"):format(bar.size(entry.bytes)) or "", settings.root))
    end
    fill(part, entry, settings)
    local problem = difference(part, entry, settings)
    if not problem then break end
    os.remove(part)
    if not continued or try == 2 then -- else the bytes from an earlier download may be wrong
      user_error.raise("%s: what came from '%s' is not the published file, and was removed: %s; %s", entry.title,
        shown(address), problem, advice(entry, settings))
    end
  end
  local ok, problem = os.rename(part, archive)
  if not ok then user_error.raise("%s: cannot rename '%s': %s", entry.title, part, problem) end
  return true
end

-- ---- unpacking ------------------------------------------------------------------

local function move(from, to, entry)
  local ok, problem = os.rename(from, to)
  if not ok then user_error.raise("%s: cannot move '%s' into place: %s", entry.title, from, problem) end
end

-- Unpacks the archive into `scratch`, and moves the files to `target`. An existing folder gets only the missing files.
local function unpack(archive, scratch, target, entry, settings)
  local view = bar.new { what = "unpacking " .. archive:match "[^/]*$", bytes = size(archive), quiet = settings.quiet,
    every = settings.every }
  user_error.call(jobs.empty, scratch)
  local job = user_error.call(jobs.unpack, archive, scratch)
  user_error.call(finish, job, view)
  local unpacked = scratch .. "/" .. entry.folder
  local state, missing, problem = examine(unpacked, entry, settings)
  if state ~= "complete" then
    user_error.raise("%s: '%s' is not the published archive: %s", entry.title, archive, state == "wrong"
      and ("in '%s' %s"):format(missing, problem) or ("it holds no '%s/%s'"):format(entry.folder, missing[1]))
  end
  if not files.exists(target) then return move(unpacked, target, entry) end
  local _, absent = examine(target, entry, settings)
  for _, name in ipairs(absent) do move(unpacked .. "/" .. name, target .. "/" .. name, entry) end
end

-- ---- all steps together ---------------------------------------------------------

-- The scratch folder, locked. Closing it empties and removes it while the lock is held. The claim itself does this, and
-- removes a root that it has made, unless the folder is an old one, left by a process that was killed.
local function hold(scratch, entry)
  local is_old = files.exists(scratch)
  local folder = user_error.call(files.claim, scratch)
  if not folder then
    user_error.raise("%s: another process is fetching it, and holds '%s'; wait until it ends", entry.title, scratch)
  end
  return setmetatable({}, { __close = function()
    pcall(jobs.empty, scratch)
    if is_old or not folder:locked() then os.remove(scratch) end
    folder:close()
  end })
end

local function bring(entry, settings)
  local archive = settings.root .. "/" .. name_of(entry.address)
  local scratch, target = archive .. ".unpack", settings.root .. "/" .. entry.folder
  local _ <close> = hold(scratch, entry)
  local there = place(entry, settings) -- another process may have been quicker
  if there then return there end
  local fetched = fetch(archive, entry, settings)
  unpack(archive, scratch, target, entry, settings)
  if fetched and not settings.keep then os.remove(archive) end
  return target
end

local function in_session() return package.loaded["cld.repl"] ~= nil end

-- Calls f(); signals are only noted until finish() reacts. In a session Ctrl-C is an error, as everywhere there.
local function heeding_signals(f, entry, settings)
  local part = settings.root .. "/" .. name_of(entry.address) .. ".part"
  if in_session() then return f() end
  system.catch_signals()
  local ok, result = pcall(f)
  local name, number = system.interrupted()
  if not ok and result == stopped then
    say(("%s: stopped (SIG%s)%s"):format(entry.title, name, kept(part)))
    os.exit(128 + number, true)
  end
  system.restore_signals()
  if not ok then error(result, 0) end
  return result
end

local function plain(name) return (name:lower():gsub("[-_]", "")) end

-- The set's layouts as entries; only the requested one, if there is a request.
local function entries(options)
  if options.entry then return { options.entry } end
  local names = sorted_keys(download.sets)
  if type(options.name) ~= "string" then
    caller.raise("data.download: name must be one of %s, got %s", table.concat(names, ", "),
      caller.shown(options.name))
  end
  local set, list, layouts, wanted = download.sets[plain(options.name)], {}, {}, options.layout or "auto"
  if not set then
    user_error.raise("no address for the data set '%s'; known data sets: %s%s", options.name,
      table.concat(names, ", "), user_error.hint(options.name, names))
  end
  for _, entry in ipairs(set) do
    layouts[#layouts + 1] = entry.layout
    entry.title = set.title
    if wanted == "auto" or wanted == entry.layout then list[#list + 1] = entry end
  end
  if #list == 0 then
    user_error.raise("%s: there is no layout %s; known layouts: %s", set.title, caller.shown(wanted),
      table.concat(layouts, ", "))
  end
  return list
end

local defaults = {
  root = "./data",
  mirror = false, -- another address, of the archive or of the folder that holds it
  keep = false,   -- keeps the archive after unpacking
  stall = 60,     -- gives up a server after so many seconds without a byte
  retries = 4,    -- how often a broken transfer is continued at once, if data has arrived since the last time
  every = 10,     -- seconds between lines if the output is not a terminal
  quiet = false,
}
local fields = { "name", "entry", "layout", table.unpack(sorted_keys(defaults)) }

local function get(options)
  caller.require_fields("data.download", options, fields)
  local settings = {}
  for name, default in pairs(defaults) do
    local value = options[name]
    if value == nil then value = default end
    if type(value) ~= type(default) and not (name == "mirror" and type(value) == "string") then
      caller.raise("data.download: %s must be a %s, got %s", name, type(default), caller.shown(value))
    end
    settings[name] = value
  end
  if settings.root == "" then caller.raise "data.download: root must be a folder, got ''" end
  local list = entries(options)
  return heeding_signals(function()
    for _, entry in ipairs(list) do
      local folder = place(entry, settings)
      if folder then return folder end
    end
    return bring(list[1], settings)
  end, list[1], settings)
end

--- cld.data.download{name, root =, mirror, layout = "auto", keep, stall, retries, every, quiet} -> folder: fetches a
-- published data set ("cifar10", "cifar100", "stl10") into root, checks and unpacks it; with several ranks, rank 0
-- does so for all. Does nothing if the files are there: those with a known md5 are read and compared. An archive in
-- the root is checked and unpacked as if it had been fetched. Instead of the name you can give an entry like those in
-- lua/cld/data/download.lua's list.
function download.get(options)
  local _ <close> = dist.without_timeout()
  return dist.shared(get, options)
end

--- For the readers, with their own options: fetches the set if options.download is true.
function download.for_reader(name, options)
  if not options.download then return end
  download.get { name = name, root = options.root, layout = options.layout, mirror = options.mirror }
end

return download
