--- Run by allocation_spec.lua under cldlua-failing: runs each job once for every allocation it makes, with that one
-- failing, and again with that one and all later ones failing. A job may then raise an error about memory, or succeed.
-- It must not crash, raise anything else, or leave a tensor behind. If a single allocation fails, a tensor or a kernel
-- gets its memory at the second try. A job marked `kernels` has no other memory except the headers of tensors.
local library = arg[1]
local arm = assert(package.loadlib(library, "luaopen_failing"))().arm
local cld = require "cld"

cld.set_num_threads(1) -- the same allocations in the same order every time

local function f64(t) return cld.tensor(t, "f64"):requires_grad_() end
local function image() return cld.ones({ 2, 3, 8, 8 }):requires_grad_() end
local file = os.tmpname()
local cifar = os.tmpname()
os.remove(cifar)
local function write(path, bytes)
  local out = assert(io.open(path, "wb"))
  out:write(bytes)
  out:close()
end
do -- a data set of five images in each layout, for one job to read
  local writer = require "cld.cifar_writer"
  local images = {}
  for i = 1, 5 do images[i] = ("\1"):rep(3072) end
  local batch = { labels = { 0, 1, 2, 3, 4 }, images = images }
  cld.io.mkdir(cifar)
  for _, layout in ipairs { "python", "binary" } do writer.cifar10(cifar, layout, batch, batch, { "a", "b" }) end
end

do -- images in a folder and in an archive, and ImageNet's development kit
  for _, name in ipairs { "a/1.jpg", "a/deeper/2.jpg", "b/3.jpg" } do
    cld.io.mkdir(cifar .. "/images/" .. name:match "^(.*)/")
    write(cifar .. "/images/" .. name, name)
  end
  assert(os.execute(("cd '%s' && tar --format=pax -cf images.tar images"):format(cifar)))
  local kit = cld.load "spec/fixtures/devkit.safetensors"
  cld.io.mkdir(cifar .. "/data")
  write(cifar .. "/data/meta.mat", string.char(table.unpack(kit["meta.mat"]:totable())))
  write(cifar .. "/data/ILSVRC2012_validation_ground_truth.txt", "1\n2\n")
end

do -- readable images, in each kind of data set
  for i, name in ipairs { "1.png", "2.jpg", "3.ppm", "4.png" } do
    cld.io.mkdir(cifar .. "/pictures")
    cld.image.write(cifar .. "/pictures/" .. name, cld.full({ 6, 5, 3 }, i, "u8"))
  end
  assert(os.execute(("cd '%s' && tar -cf pictures.tar pictures"):format(cifar)))
  cld.io.save_npy(cifar .. "/pictures.npy", cld.zeros({ 4, 6, 5, 3 }, "u8"))
end

-- An epoch of four images in batches of two, asked again after each failure: no batch may be lost, no image replaced.
local function load_all(set, device)
  local loader = cld.data.loader {
    set, batch_size = 2, views = { cld.augment.base { size = 4 }, cld.augment.plus { size = 6 } }, shuffle = false,
    workers = 0, device = device, resident = false,
  }
  local batches <close> = loader:epoch(1)
  local seen, failure = 0, nil
  for _ = 1, 12 do
    local ok, batch = pcall(batches)
    if not ok then
      failure = batch
    elseif batch then
      if batch.index:totable()[1] ~= seen or #batch.index ~= 2 then error "a batch was lost" end
      seen = seen + 2
    end
  end
  if failure then error(failure, 0) end
  if seen ~= 4 then error "a batch was lost" end
  if #loader:unreadable() > 0 then error("called damaged: " .. loader:unreadable()[1]) end
end

local function pictures() return cld.data.folder { root = cifar .. "/pictures" } end

-- The emulated device, if its plugin is available.
local emulated = os.getenv "CLD_CUDA_PLUGIN" and cld.cuda.is_available() and "cuda" or nil

local jobs = {
  { "a loader of files", function() load_all(pictures()) end },
  { "a loader of an archive", function() load_all(cld.data.tar { path = cifar .. "/pictures.tar" }) end },
  { "a loader of an .npy file", function() load_all(cld.data.npy { images = cifar .. "/pictures.npy" }) end },
  { "a loader of selections", function()
    local some = cld.data.subset { pictures(), indices = cld.tensor({ 3, 1 }, "i64") }
    load_all(cld.data.concat { some, some })
  end },
  { "a loader of a function in Lua", function()
    load_all(cld.data.custom { count = 4, read = function(i) return cld.full({ 6, 5, 3 }, i, "u8"), i end })
  end },
  { "a loader for a device", function() load_all(pictures(), emulated) end, kernels = emulated ~= nil },
  { "creation and views", function()
    local x = cld.arange(12):reshape(3, 4)
    return x:narrow(1, 1, 2):transpose(1, 2):contiguous():totable(), tostring(x)
  end },
  { "arithmetic and backward", function()
    local x, y = f64 { { 1, 2 }, { 3, 4 } }, f64 { 5, 6 }
    local z = ((x * y + 1):log() / x:exp() - y):square():mean()
    z:backward()
    return x.grad, y.grad
  end },
  { "products, softmax and normalize", function()
    local x, w = f64 { { 1, 2 }, { 3, 4 } }, f64 { { 1, -1 }, { 2, 0 } }
    local y = x:matmul(w):log_softmax(2):normalize()
    y:sum():backward()
  end },
  { "indexing and sorting", function()
    local x, i = f64 { { 1, 5, 3 }, { 9, 2, 4 } }, cld.tensor({ 1, 0 }, "i64")
    local values, where = x:topk(2, 2)
    x:gather(2, where):sum():backward()
    return x:index_select(1, i), x:sort(2), cld.cat({ x, x }, 1), values
  end },
  { "random numbers", function() return cld.randn(4, 4), cld.randperm(10) end },
  { "kernels with a workspace", function()
    local x = cld.tensor({ { 3, 1, 2 }, { 6, 4, 5 } }, "f64")
    x:t():matmul(x)
    x:narrow(2, 1, 2):t():to("f16"):matmul(x:to("f16"))
    x:sort(2)
    x:topk(1, 2)
    cld.ones(40000):sum()
    cld.randn({ 5 }, "f16")
  end, kernels = true },
  { "convolution, norm and pooling", function()
    local nn = cld.nn
    local net = nn.sequential {
      nn.conv2d(3, 16, 3, { padding = 1 }), nn.batch_norm2d(16), nn.relu(), nn.max_pool2d(2), nn.avg_pool2d(2),
      nn.adaptive_avg_pool2d(1),
    }
    local x = image()
    local y = net(x)
    assert(table.concat(y.shape, " ") == "2 16 1 1", "the layers did not run")
    y:square():mean():backward()
    for name, parameter in net:named_parameters() do assert(parameter.grad, name .. " has no gradient") end
    assert(net[2].num_batches_tracked:item() == 1, "batch_norm2d did not run")
    return x.grad
  end },
  { "a network's step", function()
    local net = cld.models.resnet18_cifar { low_dim = 8, width = 16 }
    local sgd = cld.optim.sgd(net:parameters(), { lr = 0.1, momentum = 0.9, weight_decay = 1e-4 })
    local f, g = net(cld.ones { 2, 3, 8, 8 })
    sgd:step(f:sum() + g:sum())
  end, sparse = 37 },
  { "a step in fp16", function()
    cld.set_precision "fp16"
    local _ <close> = setmetatable({}, { __close = function() cld.set_precision "fp32" end })
    local net = cld.nn.sequential(cld.nn.conv2d(3, 4, 3), cld.nn.batch_norm2d(4), cld.nn.flatten(), cld.nn.linear(4, 2))
    local sgd = cld.optim.sgd(net:parameters(), { lr = 0.1, momentum = 0.9 })
    local x = cld.rand { 2, 3, 3, 3 }
    sgd:step(net(x):square():sum())
    sgd:load_state_dict(sgd:state_dict())
    return net(x)
  end },
  { "the losses", function()
    local bank = cld.losses.memory_bank { size = 8, dim = 4, momentum = 0.5, temperature = 0.1 }
    local nce = cld.losses.memory_bank { size = 8, dim = 4, momentum = 0.5, temperature = 0.1, negatives = 3 }
    local queue = cld.losses.moco_queue { size = 8, dim = 4, temperature = 0.1 }
    local f, g = cld.randn(4, 4):requires_grad_(), cld.randn(4, 4):requires_grad_()
    local a, b, index = f:normalize(), g:normalize(), cld.tensor({ 0, 2, 4, 6 }, "i64")
    local group = cld.losses.cld(a, b, { clusters = 2, iterations = 3, temperature = 0.2 })
      + cld.losses.cld(a, b, { grouping = "ncut", clusters = 2, iterations = 3, block = 2 })
    local loss = bank:loss(a, index) + nce:loss(a, index) + queue:loss(a, b:detach()) + group
    loss:backward()
    queue:enqueue(b:detach())
  end },
  { "a loader, asked again after a failure", function()
    local set = cld.data.tensors { images = cld.zeros({ 6, 4, 4, 3 }, "u8") }
    local loader = cld.data.loader { set, batch_size = 2, views = 2, shuffle = false, workers = 0, dtype = "bf16" }
    local batches <close> = loader:epoch(1)
    local seen, failure = 0, nil
    for _ = 1, 10 do
      local ok, batch = pcall(batches)
      if not ok then
        failure = batch
      elseif batch then
        if batch.index:totable()[1] ~= seen then error "a batch was lost" end
        for v = 1, 2 do -- of black images
          if not (math.abs(batch.views[v]:totable()[2][1][4][4] + 2.4291) < 0.01) then error "a view is wrong" end
        end
        seen = seen + 2
      end
    end
    if failure then error(failure, 0) end
    if seen ~= 6 then error "a batch was lost" end
  end },
  { "files", function()
    cld.save(file, { x = cld.ones(3), y = cld.zeros(2, 2) }, { step = "1" })
    return (cld.load(file))
  end },
  { "a held folder", function()
    local held <close> = cld.io.claim(file .. ".d")
    local _ <close> = setmetatable({}, { __close = function() os.remove(file .. ".d/text") end })
    held:write("text", "some")
    held:append("text", "more")
    return held:where(), held:list(), held:read "text"
  end },
  { "files of others", function()
    local header = '{"__metadata__":{"k":"v"},"w":{"dtype":"I16","shape":[2],"data_offsets":[0,4]},'
      .. '"q":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[4,6]}}'
    write(file, string.pack("<s8", header) .. "\1\0\2\0\3\4")
    local loaded = cld.load(file)
    write(file, "\x93NUMPY\1\0" .. string.pack("<s2", '{"descr": ">i2", "fortran_order": True, "shape": (2L, 1)}')
      .. "\0\1\0\2")
    return loaded, cld.io.load_npy(file)
  end },
  { "files for PyTorch, detectron2 and ONNX", function()
    local list = { { "x", cld.ones(3) }, { "y", cld.zeros(2, 2):t() } }
    cld.io.save_torch(file, list)
    cld.io.save_detectron2(file, list, "cldlua")
    local graph = cld.io.onnx_graph()
    graph:constant("w", list[2][2])
    graph:input("images", { -1, 2 }, "N")
    graph:output("features", { -1, 2 }, "N")
    graph:node("Gemm", "n", { "images", "w" }, { "features" })
    graph:attribute("transB", 1)
    graph:attribute("alpha", 0.5)
    graph:attribute("pads", { 1, 2 })
    graph:fact("key", "value")
    graph:save(file, "cldlua", "1")
  end },
  { "CIFAR", function()
    local python = cld.data.cifar10 { root = cifar, split = "train", layout = "python" }
    return python.images, cld.data.cifar10({ root = cifar, split = "test", layout = "binary" }).labels
  end },
  { "images in folders and archives", function()
    local folder = cld.files.list(cifar .. "/images", { classes = { "b", "a" } })
    local tar <close> = cld.files.tar(cifar .. "/images.tar") -- with or without its index
    local archive = tar:list { classes = { "a" } }
    return folder:path(1), folder:labels(), archive:members(), archive:class_names()
  end },
  { "an archive read through", function()
    os.remove(cifar .. "/images.tar.index.safetensors")
    return cld.files.tar(cifar .. "/images.tar"):list { layout = "plain" }
  end },
  { "ImageNet's development kit", function() return cld.files.devkit(cifar) end },
  { "nearest neighbours", function()
    local memory, labels = cld.randn(20, 4):normalize(), cld.zeros({ 20 }, "i64")
    return cld.eval.weighted_knn(memory, labels, cld.randn(5, 4):normalize(), { k = 3, temperature = 0.1, classes = 2 })
  end },
}

local function collect()
  collectgarbage()
  collectgarbage()
end

local bad, runs = 0, 0

-- One run in which the allocations first, ..., first + count - 1 fail. True if the job made at least `first`.
local function run(job, first, count)
  local name, body = job[1], job[2]
  collect()
  local alive = cld.tensors_alive()
  arm(first, count)
  local ok, message = pcall(body)
  local seen = arm()
  message = tostring(message)
  collect()
  runs = runs + 1
  local left = cld.tensors_alive() - alive
  local second_try_failed = count == 1
    and (message:find("out of memory: wanted") or job.kernels and not message:find("header"))
  if not ok and (not message:find("memory") or second_try_failed) then
    bad = bad + 1
    print(("%s: allocation %d (%d fail): raised '%s'"):format(name, first, count, message))
  elseif left ~= 0 then
    bad = bad + 1
    print(("%s: allocation %d (%d fail): %d tensors left; %s"):format(name, first, count, left,
      ok and "succeeded" or message))
  end
  return seen >= first
end

for _, job in ipairs(jobs) do
  assert(pcall(job[2])) -- objects that are made once and kept
  for _, count in ipairs { 1, math.maxinteger } do
    local n = 1
    while run(job, n, count) do n = n + (job.sparse or 1) end
  end
end
os.remove(file)
os.execute("rm -rf '" .. cifar .. "'")
print(("%d runs, %d bad"):format(runs, bad))
os.exit(bad == 0, true)
