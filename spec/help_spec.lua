--- help: every public name has a text, and what help finds and prints.
local cld = require "cld"
local collect = require "cld.help.collect"
local data = require "cld.help.data"
local find = require "cld.help.find"
local overview = require "cld.help.overview"
local process = require "spec.support.process"
local public = require "cld.help.public"
local shown = require "cld.help.shown"

local function lines_of(...)
  local found = type(...) == "string" and find.by_name(...) or find.by_value(...)
  return table.concat(shown.found(found, (...)), "\n")
end

local function name_of(found) return found and found.entry and found.entry.name end

describe("the texts of help", function()
  it("are there for every public name", function()
    assert.are.same({}, collect.missing(collect.entries(collect.files ".")))
  end)

  -- Of kinds that are made in Lua: an object of each.
  local function objects()
    local set = cld.data.tensors { images = cld.zeros({ 8, 8, 8, 3 }, "u8"), labels = cld.arange(8):remainder(2) }
    local queue = cld.losses.moco_queue { size = 8, dim = 4 }
    local net = cld.models.resnet18 { width = 2, dim = 4, small = true, head = "linear" }
    return {
      module = require "cld.nn.module".base, memory_bank = cld.losses.memory_bank { size = 8, dim = 4 },
      moco_queue = queue, infomin_loss = cld.losses.infomin { queue = queue }, augmentation = cld.augment.base(),
      dataset = set, loader = cld.data.loader { set, batch_size = 4 }, over_parts = cld.diagnostics.over_parts(4),
      linear_probe = cld.eval.linear_probe { net = net, train = set, test_view = cld.augment.none() },
    }
  end

  -- The functions of its class.
  local function methods_of(object)
    local meta = getmetatable(object)
    if rawget(object, "forward") then return object end
    if type(meta.__index) == "table" then return meta.__index end
    local found = {}
    for _, name in ipairs { "size", "read", "features", "step", "test", "check_frozen", "state_dict",
      "load_state_dict" } do
      local ok, value = pcall(function() return object[name] end)
      if ok and type(value) == "function" then found[name] = value end
    end
    return found
  end

  for _, kind in ipairs { "module", "memory_bank", "moco_queue", "infomin_loss", "augmentation", "dataset", "loader",
    "over_parts", "linear_probe" } do
    it("are there for every method of a " .. kind, function()
      local missing = {}
      for name, value in pairs(methods_of(objects()[kind])) do
        local is_public = type(value) == "function" and not name:find "^__"
        if is_public and not data().by_name[kind .. ":" .. name] then missing[#missing + 1] = name end
      end
      assert.are.same({}, missing)
    end)
  end

  it("of a view's step name all its settings", function()
    local missing = {}
    for _, kind in ipairs(cld.views.kinds()) do
      local signature = data().by_name["cld.augment." .. kind.name].signature
      for _, setting in ipairs(kind.settings) do
        local is_there = signature:find("%f[%w_]" .. setting.name .. " ?=")
        if not is_there then missing[#missing + 1] = kind.name .. "." .. setting.name end
      end
    end
    assert.are.same({}, missing)
  end)

  it("of a loader name all its settings", function()
    local entry = data().by_name["cld.data.loader"]
    for _, name in ipairs { "batch_size", "views", "augment", "device", "dtype", "resident", "workers", "prefetch",
      "seed", "shuffle", "decode", "max_bad", "strict", "drop_last", "drop_single", "block", "rank", "world" } do
      assert.is_truthy((entry.signature .. entry.text):find("%f[%w_]" .. name .. "%f[^%w_]"), name)
    end
  end)

  it("of a group of options list them with their defaults", function()
    assert.is_truthy(data().by_name["cld.options.knn"].text:find("%-%-knn%-k 200 +neighbours"))
  end)

  it("are one for each name", function()
    local seen, twice = {}, {}
    for _, entry in ipairs(data().entries) do
      if seen[entry.name] then twice[#twice + 1] = entry.name end
      seen[entry.name] = true
    end
    assert.are.same({}, twice)
  end)

  it("begin with the name that they are of", function()
    local wrong = {}
    for _, entry in ipairs(data().entries) do
      local last = entry.name:match "[^.:]+$"
      local begins_so = entry.signature:match("^[%w_.:]*%f[%w_]" .. last .. "%f[^%w_]")
      if not begins_so then wrong[#wrong + 1] = entry.signature end
    end
    assert.are.same({}, wrong)
  end)
end)

describe("help in a session", function()
  local function session(text)
    local result = process.run { "-i", stdin = text }
    assert.are.equal("", result.err)
    return result.out
  end

  it("is a global that prints what it is asked for", function()
    assert.is_truthy(session 'help "resume"\n':find("How a run goes on", 1, true))
  end)

  it("says how to ask when it is typed alone", function()
    assert.is_truthy(session "help\n":find('help "name" of a name', 1, true))
  end)

  it("returns nothing that would be printed as well", function()
    assert.is_nil(session 'help "resume"\n':find("nil", 1, true))
  end)

  it("shows a word that a terminal would obey as an escape", function()
    assert.is_truthy(session 'help "qq\\27[31mqq"\n':find("nothing is called 'qq\\x1b[31mqq'", 1, true))
  end)
end)

describe("help", function()
  it("finds a function by its whole name", function()
    assert.are.equal("cld.nn.conv2d", name_of(find.by_name "cld.nn.conv2d"))
  end)

  it("finds a function by its last name, if only one has it", function()
    assert.are.equal("cld.augment.rand_augment", name_of(find.by_name "rand_augment"))
  end)

  it("lists those that share a last name", function()
    local text = lines_of "conv2d"
    assert.is_truthy(text:find("cld.nn.conv2d", 1, true) and text:find("cld.nn.functional.conv2d", 1, true), text)
  end)

  it("takes x: for a tensor's", function() assert.are.equal("tensor:topk", name_of(find.by_name "x:topk")) end)

  it("finds a tensor's function by its name in cld", function()
    assert.are.equal("tensor:sum", name_of(find.by_name "cld.sum"))
  end)

  it("finds what a function is", function()
    assert.are.equal("cld.optim.ema", name_of(find.by_value(cld.optim.ema)))
  end)

  it("finds a tensor's method by its value", function()
    assert.are.equal("tensor:sum", name_of(find.by_value(cld.zeros(1).sum)))
  end)

  it("finds a class of layers", function()
    assert.are.equal("cld.nn.linear", name_of(find.by_value(cld.nn.linear)))
  end)

  it("finds a method that only its place tells", function()
    local queue = cld.losses.moco_queue { size = 4, dim = 2 }
    assert.are.equal("moco_queue:enqueue", name_of(find.by_value(queue.enqueue)))
  end)

  it("finds no_grad, which is there twice", function()
    assert.are.equal("cld.no_grad", name_of(find.by_value(cld.autograd.no_grad)))
  end)

  it("shows a module's content", function()
    local text = lines_of(cld.optim)
    assert.is_truthy(text:find("\n  clip_grad_norm +The gradients"), text)
  end)

  it("shows a tensor's methods by group", function()
    local text = lines_of(cld.zeros(1))
    assert.is_truthy(text:find("shape:\n    .*reshape.*choosing elements:\n    .*topk"), text)
  end)

  it("shows what a layer is, and what every module can do", function()
    local text = lines_of(cld.nn.linear(2, 3))
    assert.is_truthy(text:find "^cld%.nn%.linear%(" and text:find(":state_dict", 1, true), text)
  end)

  it("shows what an optimizer can do", function()
    local text = lines_of(cld.optim.sgd({ cld.ones(1):requires_grad_() }, { lr = 1 }))
    assert.is_truthy(text:find "\n  :step +Applies", text)
  end)

  it("shows a function's example", function()
    assert.is_truthy(lines_of(cld.cat):find("\n      print(#cld.cat(", 1, true))
  end)

  it("fits into 100 columns but for what stays as it is written", function()
    for _, line in ipairs(shown.overview()) do assert.is_true(utf8.len(line) <= 100, line) end
  end)

  it("names no source file in the line on a module", function()
    for _, line in ipairs(shown.overview()) do assert.is_nil(line:find "%w%.c%f[%W]" or line:find "runtime/", line) end
  end)

  -- The names of the groups of overview.lua, once each.
  local function listed(groups, internal)
    local names = table.move(internal, 1, #internal, 1, {})
    for _, group in ipairs(groups) do table.move(group, 2, #group, #names + 1, names) end
    table.sort(names)
    return names
  end

  local function members(is_module)
    local names = {}
    for _, entry in ipairs(find.members "cld") do
      if find.is_module(entry.name) == is_module then names[#names + 1] = entry.name:match "[^.]+$" end
    end
    table.sort(names)
    return names
  end

  it("lists every module in a group, or as an internal one", function()
    assert.same(members(true), listed(overview.modules, overview.internal.modules))
  end)

  it("lists every function of cld in a group, or as an internal one", function()
    assert.same(members(false), listed(overview.functions, overview.internal.functions))
  end)

  it("of nothing shows no internal function", function()
    assert.is_nil(table.concat(shown.overview(), "\n"):find "edit_distance")
  end)

  describe("of a recipe", function()
    it("has its usage, what it does and its options", function()
      local text = lines_of "folder_npid_cld"
      assert.matches("^usage: cldlua recipes/folder_npid_cld.lua %[options%]\n", text)
      assert.matches("\n\n  NPID %+ CLD on a folder of images\n\n  Options: .*%-%-batch%-size, ", text)
    end)
    it("takes its file as well", function()
      assert.are.equal(lines_of "pretrain", lines_of "recipes/pretrain.lua")
    end)
    it("comes after a function of its name", function()
      assert.matches("^Several have this name", lines_of "linear")
    end)
    it("is named where it is near", function()
      assert.matches("near it: folder_npid_cld", lines_of "folder_npid_cls")
    end)
  end)

  describe("of a recipe's option", function()
    it("has its text, its default and the recipes that take it", function()
      local text = lines_of "--size"
      assert.matches("^%-%-size <integer>\n  Height and width of a view", text)
      assert.matches("default: 224%)\n\n  in folder_byol_cld, [^-]*folder_npid_cld", text)
      assert.matches("default: 96%)\n\n  in stl10_byol_cld, stl10_moco_cld, stl10_npid_cld\n", text)
    end)
    it("takes the form that turns it off", function() assert.are.equal(lines_of "--graph", lines_of "--no-graph") end)
    it("is named where it is near", function() assert.matches("near it: %-%-size", lines_of "--szie") end)
    it("is told of as --help does", function()
      local help = process.run { "recipes/watch.lua", "--help" }.out
      assert.matches("%-%-every <number>%s+seconds between drawings %(above 0; default: 5%)", help)
      assert.matches("%-%-every <number>\n  Seconds between drawings %(above 0; default: 5%)", lines_of "--every")
    end)
  end)

  it("names what is near a name that is not there", function()
    assert.is_truthy(lines_of "linaer":find("cld.nn.linear", 1, true))
  end)

  it("of nothing says how to ask", function() assert.are.same(shown.overview(), shown.found(find.by_name " ", " ")) end)

  it("says that nothing is near", function()
    assert.are.equal("help: nothing is called 'qqqqqqqqqqqqqqqqq'", lines_of "qqqqqqqqqqqqqqqqq")
  end)

  local function sentence(name) return shown.sentence(data().by_name[name]) end

  it("begins a text with a capital", function() assert.is_truthy(sentence("cld.cat"):find "^One after the other") end)

  for name, beginning in pairs { ["cld.nn.gelu"] = "x times", ["tensor:exp"] = "e to the power",
    ["cld.image.hflip"] = "u8 (H", ["run:epochs"] = "for epoch in", ["module:each"] = "cld.nn.each of",
    ["cld.rand_like"] = "rand with" } do
    it("leaves the code at the beginning of a text as it is: " .. name, function()
      assert.are.equal(beginning, sentence(name):sub(1, #beginning))
    end)
  end

  it("keeps the dots at the end of a first sentence", function()
    assert.are.equal('"cpu", "cuda:0", ...', shown.line(data().by_name["tensor.device"]))
  end)

  it("has nothing on a number", function() assert.is_nil(find.by_value(3)) end)

  it("has a line on each kind of object", function()
    local without = {}
    for _, kind in pairs(public.kinds) do
      if not public.about_kinds[kind] or #find.members(kind, true) == 0 then without[#without + 1] = kind end
    end
    assert.are.same({}, without)
  end)
end)
