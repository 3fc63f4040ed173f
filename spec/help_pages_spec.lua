--- The pages of help: HTML, the man page, topics, and the names of PyTorch.
local cld = require "cld"
local data = require "cld.help.data"
local find = require "cld.help.find"
local man = require "cld.help.man"
local process = require "spec.support.process"
local pytorch = require "cld.help.pytorch"
local shown = require "cld.help.shown"

describe("the HTML pages", function()
  local folder
  local pages = {} -- file -> text

  setup(function()
    folder = process.temporary_folder()
    require "cld.help.html".write(folder .. "/docs")
    for _, file in ipairs(cld.io.list(folder .. "/docs")) do pages[file] = process.read(folder .. "/docs/" .. file) end
  end)

  teardown(function() process.remove(folder) end)

  -- Calls f(file, text) for each page.
  local function each(f)
    for file, text in pairs(pages) do
      if file:find "%.html$" then f(file, text) end
    end
  end

  it("are one for each module, kind and topic, and the index", function()
    local wanted = { "index.html", "cld.html", "cld.nn.html", "cld.nn.functional.html", "tensor.html", "loader.html",
      "topic-resume.html", "topic-from-pytorch.html" }
    for _, file in ipairs(wanted) do assert.is_truthy(pages[file], file) end
  end)

  it("have links that lead somewhere", function()
    local broken = {}
    each(function(file, text)
      for target in text:gmatch 'href="([^"]*)"' do
        local page, id = target:match "^([^#]*)#?(.*)$"
        local is_there = pages[page] and (id == "" or pages[page]:find('id="' .. id .. '"', 1, true))
        if not is_there then broken[#broken + 1] = file .. ": " .. target end
      end
    end)
    assert.are.same({}, broken)
  end)

  it("have names in the search box that lead somewhere", function()
    local broken = {}
    for name, target in pages["search.js"]:gmatch '%["([^"]*)","([^"]*)"%]' do
      local page, id = target:match "^([^#]*)#?(.*)$"
      local is_there = pages[page] and (id == "" or pages[page]:find('id="' .. id .. '"', 1, true))
      if not is_there then broken[#broken + 1] = name .. ": " .. target end
    end
    assert.are.same({}, broken)
  end)

  it("have each id once", function()
    local twice = {}
    each(function(file, text)
      local seen = {}
      for id in text:gmatch ' id="([^"]*)"' do
        if seen[id] then twice[#twice + 1] = file .. ": " .. id end
        seen[id] = true
      end
    end)
    assert.are.same({}, twice)
  end)

  it("close every tag that they open", function()
    local void = { meta = true, link = true, input = true }
    local wrong = {}
    each(function(file, text)
      local open = {}
      for slash, tag in text:gsub("<!DOCTYPE html>", ""):gmatch "<(/?)(%w+)[^<>]*>" do
        if slash == "" then
          if not void[tag] then open[#open + 1] = tag end
        elseif table.remove(open) ~= tag then
          wrong[#wrong + 1] = file .. ": " .. tag
        end
      end
      if #open > 0 then wrong[#wrong + 1] = file .. ": " .. table.concat(open, " ") end
    end)
    assert.are.same({}, wrong)
  end)

  it("escape what the texts hold", function()
    each(function(file, text)
      local rest = text:gsub("<!DOCTYPE html>", ""):gsub("</?%w+[^<>]*>", "")
      assert.is_nil(rest:find "[<>]", file)
    end)
  end)

  it("take nothing from elsewhere", function()
    for file, text in pairs(pages) do assert.is_nil(text:find "https?://", file) end
  end)

  it("have every entry", function()
    local missing = {}
    for _, entry in ipairs(data().entries) do
      local owner, last = entry.name:match "^(.*)[.:]([%w_]+)$"
      local page = find.is_module(entry.name) and pages[entry.name .. ".html"] or owner and pages[owner .. ".html"]
      local is_there = page and (find.is_module(entry.name) or page:find('id="' .. last .. '"', 1, true))
      if not is_there then missing[#missing + 1] = entry.name end
    end
    assert.are.same({}, missing)
  end)
end)

describe("the man page", function()
  local usage, page

  setup(function()
    usage = process.run({ "--help" }).out
    page = man.page(usage, cld.versions())
  end)

  it("has every option that --help prints", function()
    local flags = {}
    for flag in usage:gmatch "\n  (%-[^ ]*)" do flags[#flags + 1] = flag end
    assert.is_true(#flags >= 10)
    for i, option in ipairs(man.options(usage)) do assert.is_truthy(option[1]:find(flags[i], 1, true), flags[i]) end
    assert.are.equal(#flags, #man.options(usage))
  end)

  it("has every variable of ours that the program reads", function()
    for _, name in ipairs { "CLD_TIMEOUT", "CLD_CUDA_PLUGIN", "CLD_MPI_PLUGIN", "CLD_JOB_OF_ONE" } do
      assert.is_truthy(page:find(name, 1, true), name)
    end
  end)

  it("is troff without a warning", function()
    if not os.execute "command -v groff >/dev/null" then return pending "no groff here" end
    local folder = process.temporary_folder()
    local path = process.write(folder .. "/cldlua.1", page)
    local pipe = io.popen(("groff -man -ww -Tutf8 -z '%s' 2>&1"):format(path))
    local said = pipe:read "a"
    pipe:close()
    process.remove(folder)
    assert.are.equal("", said)
  end)

  it("takes a text with a backslash and a dot as it is", function()
    local made = man.page("  -x y   a \\ b\n  -z     .hidden\n", { cldlua = "1" })
    assert.is_truthy(made:find("a \\e b", 1, true) and made:find("\\&.hidden", 1, true), made)
  end)
end)

describe("the topics", function()
  it("name recipes that are there", function()
    local missing = {}
    for _, topic in ipairs(data().topics) do
      for path in topic.text:gmatch "recipes/[%w_/]+%.lua" do
        if not cld.io.exists(path) then missing[#missing + 1] = topic.name .. ": " .. path end
      end
    end
    assert.are.same({}, missing)
  end)

  it("name functions that are there", function()
    local missing = {}
    for _, topic in ipairs(data().topics) do
      for name in topic.text:gmatch "%f[%w_]cld%.[%w_.]*[%w_]" do
        local found = find.by_name(name)
        if found.near then missing[#missing + 1] = topic.name .. ": " .. name end
      end
    end
    assert.are.same({}, missing)
  end)

  for _, word in ipairs { "resume", "checkpoint", "devices", "precision", "views", "datasets", "ranks", "options",
    "indexing", "knn", "own network", "own_loss", "from PyTorch", "gpu", "own images" } do
    it("are found by " .. word, function() assert.is_truthy(find.by_name(word).topic) end)
  end

  it("on the session tells that local variables live on, and that Ctrl-C does not end it", function()
    local text = find.by_name("session").topic.text
    assert.is_truthy(text:find("local variable lives on", 1, true) and text:find("the session goes on", 1, true), text)
  end)

  it("do not hide a function of the same name", function()
    assert.are.equal("cld.graph", find.by_name("graph").module or find.by_name("graph").entry.name)
  end)

  it("name the module of the same name", function()
    assert.are.equal("cld.options", find.by_name("options").also)
  end)
end)

describe("from PyTorch", function()
  it("names what is there", function()
    local missing = {}
    for _, group in ipairs(pytorch.groups) do
      for i = 2, #group do
        local here = group[i][2]
        local found = here and find.by_name(here)
        if found and not (found.entry or found.module) then missing[#missing + 1] = group[i][1] .. ": " .. here end
      end
    end
    assert.are.same({}, missing)
  end)

  it("says what to do if nothing is", function()
    for _, group in ipairs(pytorch.groups) do
      for i = 2, #group do assert.is_truthy(group[i][2] or group[i][3], group[i][1]) end
    end
  end)

  it("has each name once", function()
    local seen = {}
    for _, group in ipairs(pytorch.groups) do
      for i = 2, #group do
        assert.is_nil(seen[group[i][1]], group[i][1])
        seen[group[i][1]] = true
      end
    end
  end)

  it("covers the names that are used most", function()
    local missing = {}
    for name in process.read "spec/fixtures/pytorch_names.txt":gmatch "%S+" do
      if not pytorch.find(name) then missing[#missing + 1] = name end
    end
    assert.are.same({}, missing)
  end)

  it("finds a name by its last part alone", function()
    local without = {}
    for _, name in ipairs { "CosineAnnealingLR", "StepLR", "clip_grad_norm_", "GradScaler", "DistributedDataParallel",
      "make_grid", "SummaryWriter", "deepcopy", "lr_scheduler", "NTXentLoss", "optim.LARS" } do
      if not pytorch.find(name) then without[#without + 1] = name end
    end
    assert.are.same({}, without)
  end)

  for what, read in pairs {
    ["Tensor.tolist"] = function() return cld.ones(2).tolist end,
    ["Tensor.cuda"] = function() return cld.ones(2):cuda() end,
    ["Tensor.numpy"] = function() return cld.ones(2):numpy() end, -- 'numel' is near, and not meant
    ["Module.cuda"] = function()
      return cld.nn.linear(1, 1):cuda()
    end,
    ["torch.float32"] = function() return cld.float32 end,
  } do
    it("is named by the error of a name that is not there: " .. what, function()
      local _, message = pcall(read)
      assert.is_truthy(tostring(message):find(('; help "%s" says what is here instead'):format(what), 1, true), message)
    end)
  end

  it("prefers the whole name to its last part", function()
    assert.are.equal("torch.linalg.norm", pytorch.find("torch.linalg.norm")[1])
  end)

  it("is what help says of a name of PyTorch's", function()
    local text = table.concat(shown.found(find.by_name "torch.nn.Conv2d", "torch.nn.Conv2d"), "\n")
    assert.is_truthy(text:find("is here: cld.nn.conv2d", 1, true), text)
  end)
end)
