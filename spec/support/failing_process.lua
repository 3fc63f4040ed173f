--- Run by allocation_spec.lua under cldlua-failing: jobs in child processes in which one allocation of the whole
-- process fails, including Lua's and the libraries', or all from one on. A job must then succeed, or raise an error
-- about memory. It must never call a good file damaged. Only oneDNN and libarchive may crash, because they use memory
-- that they did not get.
-- `failing_process.lua LIBRARY SAMPLES [JOB]`: SAMPLES of each job's allocations.
local failing = assert(package.loadlib(arg[1], "luaopen_failing"))()
local samples, only = tonumber(arg[2]), arg[3]
local cld = require "cld"
local core = require "cld.core"

cld.set_num_threads(1) -- the same allocations in the same order every time; a child would lack other threads

local folder = os.tmpname()
os.remove(folder)
core.io.mkdir(folder)
local runs = folder .. "/runs"

-- A training whose network is one tensor.
local function train(options)
  local opt = { epochs = 2, runs = runs, name = "r", threads = 1, text = "a string" }
  for name, value in pairs(options) do opt[name] = value end
  local run = cld.run(opt)
  local w = cld.zeros(3)
  for epoch in run:epochs { w = w } do
    w:add_(epoch)
    run:track { loss = w:sum() }
  end
end

local state = { x = cld.ones(3), y = cld.zeros(2, 2) }
local text = '{"a": [1, 2.5, "text", null, {"b": true}], "c": "\\u00e9", "long": [0.1234567890123456789, "'
  .. ("long "):rep(30) .. '", ' .. ("9"):rep(300) .. '.5]}'
cld.save(folder .. "/good.safetensors", state, { step = "1" })
core.io.save_npy(folder .. "/good.npy", state.x)
for name, content in pairs(require "spec.support.torch_files".all()) do
  local format = name:match "^(%a+) training$"
  if format then require "spec.support.process".write(folder .. "/" .. format .. ".pth", content) end
end
cld.load(folder .. "/zip.pth") -- loads libarchive, too
failing.child(function() train {} end)
local photo = cld.arange(0, 40 * 50 * 3):remainder(251):reshape(40, 50, 3):to("u8")
do
  local image = ("\1"):rep(3072)
  local batch = { labels = { 0, 1, 0, 1, 0 }, images = { image, image, image, image, image } }
  local writer = require "cld.cifar_writer"
  for _, layout in ipairs { "python", "binary" } do writer.cifar10(folder, layout, batch, batch, { "a", "b" }) end
end

local jobs = {
  { "decoding JSON", function() return cld.json.decode(text) end },
  { "encoding JSON", function() return cld.json.encode({ a = { 1, 2.5, "text" }, c = "\u{e9}" }, 2) end },
  { "saving tensors", function() cld.save(folder .. "/x.safetensors", state, { step = "1" }) end },
  { "saving for PyTorch, detectron2 and ONNX", function()
    local list, graph = { { "x", state.x } }, core.io.onnx_graph()
    core.io.save_torch(folder .. "/x.pth", list)
    core.io.save_detectron2(folder .. "/x.pkl", list, "cldlua")
    graph:constant("x", state.x)
    graph:node("Add", "n", { "x", "x" }, { "y" })
    graph:save(folder .. "/x.onnx", "cldlua", "1")
  end },
  { "loading tensors", function() return cld.load(folder .. "/good.safetensors") end },
  { "a PyTorch file", function() return cld.load(folder .. "/zip.pth"), cld.load(folder .. "/legacy.pth") end,
    library = "libarchive" },
  { "an npy file", function()
    core.io.save_npy(folder .. "/x.npy", state.x)
    return core.io.load_npy(folder .. "/good.npy")
  end },
  { "CIFAR, pickled", function() return cld.data.cifar10 { root = folder, split = "train", layout = "python" } end },
  { "CIFAR, binary", function() return cld.data.cifar10 { root = folder, split = "test", layout = "binary" } end },
  { "a JPEG", function()
    cld.image.write(folder .. "/x.jpg", photo)
    return cld.image.read(folder .. "/x.jpg")
  end },
  { "a PNG", function()
    cld.image.write(folder .. "/x.png", photo)
    return cld.image.read(folder .. "/x.png")
  end },
  { "views of images", function()
    local set = cld.data.tensors { images = cld.zeros({ 4, 8, 8, 3 }, "u8") }
    local loader = cld.data.loader { set, batch_size = 2, views = 2, workers = 0 }
    for batch in loader:epoch(1) do assert(#batch.views == 2) end
  end },
  { "a checkpoint", function()
    local checkpoint = require "cld.run.checkpoint"
    local loaded = checkpoint.load(runs .. "/r/checkpoint.safetensors")
    cld.run.restore(loaded, { w = checkpoint.object(cld.zeros(3)) })
  end },
  { "a fresh run", function() train { runs = folder .. "/fresh" } end, after = function()
    os.execute("rm -rf '" .. folder .. "/fresh'")
  end },
  { "a resumed run", function() train { resume = true, epochs = 3 } end },
  { "a step of oneDNN", function()
    local nn = cld.nn
    local convolutions = nn.sequential(nn.conv2d(3, 16, 3, { padding = 1 }), nn.conv2d(16, 32, 1))
    local net = nn.sequential(convolutions, nn.flatten(), nn.linear(2048, 4))
    cld.optim.sgd(net:parameters(), { lr = 0.1 }):step(net(cld.ones { 2, 3, 8, 8 }):sum())
  end, library = "oneDNN" },
}

-- What a child reports of the job if `count` allocations from `first` on fail, and how many allocations it made.
local function attempt(job, first, count)
  local status, said = failing.child(function()
    failing.arm(first, count, "whole")
    local ok, problem = pcall(job[2])
    local seen = failing.arm()
    return ("\1%d %s"):format(seen, ok and "" or tostring(problem))
  end)
  if job.after then job.after() end
  local seen, problem = said:match "\1(%d+) (.*)$"
  return status, problem or said, tonumber(seen)
end

local bad, attempts, crashes = 0, 0, 0

local function judge(job, first, count)
  local status, problem = attempt(job, first, count)
  attempts = attempts + 1
  if status == -11 and job.library then
    crashes = crashes + 1
  elseif status < 0 or problem ~= "" and not problem:find "memory"
    or problem:find "damaged" or problem:find "UTF%-8" or problem:find "JSON" then
    bad = bad + 1
    print(("%s: allocation %d (%d fail): status %d: %s"):format(job[1], first, count, status, problem))
  end
end

for _, job in ipairs(jobs) do
  if not only or only == job[1] then
    local status, problem, total = attempt(job, -1, 1)
    if status ~= 0 or problem ~= "" then error(("%s does not work: %d %s"):format(job[1], status, problem)) end
    for _, count in ipairs { 1, math.maxinteger } do
      for i = 0, math.min(samples, total) - 1 do judge(job, 1 + i * total // math.min(samples, total), count) end
    end
  end
end
os.execute("rm -rf '" .. folder .. "'")
print(("%d attempts, %d bad, %d crashes in libraries"):format(attempts, bad, crashes))
