--- `make bench-pretrain`: one command on a folder of images, ours and LightlyTrain's, in turn: time, memory, and the
-- kNN accuracy of what each has learned. recipes/knn.lua measures both, on the features of torchvision's ResNet-18
-- before its last layer.
--
-- Both get the same images, size of the views, batch and number of epochs; a third row is ours with as many epochs as
-- fit the peer's processor time. The peer's python is $PEER_PYTHON or python3, with lightly-train. Its default method
-- distils a network that it downloads; --peer-method names another.
local cld = require "cld"

local opt = cld.options {
  about = "One command on a folder of images: ours and LightlyTrain's",
  { "build",  "build", "the build folder", nonempty = true },
  { "images", 1000,  "generated images to train on; half as many to test on", min = 40, integer = true },
  { "size",   64,    "pixels of a view; from 64 on both have torchvision's first layers", min = 64, integer = true },
  { "epochs", 40,    "epochs of both", min = 1, integer = true },
  { "batch",  64,    "images per step, of both", min = 8, integer = true },
  { "peer-method", "", "LightlyTrain's method, such as dino or simclr; empty: its default" },
}
local cldlua, here = opt.build .. "/cldlua", arg[0]:match "^(.*)/" or "."
local python = os.getenv "PEER_PYTHON" or "python3"
local place = opt.build .. "/bench/pretrain"
local photos = ("%s/images-%d"):format(place, opt.images)

local function quiet(format, ...)
  local command = format:format(...)
  if not os.execute(("%s >'%s/log' 2>&1"):format(command, place)) then
    os.execute(("tail -n 20 '%s/log' >&2"):format(place))
    error("failed: " .. command, 0)
  end
end

-- {seconds, processor_seconds, mb} of a command; mb is the memory of its largest process.
local function measured(format, ...)
  local measure = ("'%s' '%s/peer_pretrain.py' measure '%s/measured' "):format(python, here, place)
  quiet("%s", measure .. format:format(...))
  local file = assert(io.open(place .. "/measured"))
  local result = cld.json.decode(file:read "a")
  file:close()
  return result
end

-- The top-1 of kNN on the pooled features, in per cent.
local function knn(checkpoint)
  quiet("'%s' recipes/knn.lua --checkpoint '%s' --data '%s' --dataset folder --size %d --layer features --knn-k 20",
    cldlua, checkpoint, photos, opt.size)
  local best
  for line in io.lines(place .. "/log") do best = line:match "top%-1 +([%d.]+) %%" or best end
  return tonumber(best)
end

assert(os.execute(("mkdir -p '%s' && rm -rf '%s/runs' '%s/peer'"):format(place, place, place)))
if not cld.io.exists(photos) then
  quiet("'%s' recipes/make_toy_data.lua --out '%s' --layout files --train %d --test %d --least-side %d --most-side 220",
    cldlua, photos, opt.images, opt.images // 2, opt.size)
end

local rows = {}
local function row(name, result, checkpoint)
  result.name, result.knn = name, knn(checkpoint)
  rows[#rows + 1] = result
end

local function ours(name, epochs)
  row(("cldlua, pretrain.lua, %d epochs"):format(epochs), measured("'%s' recipes/pretrain.lua --data '%s' --runs"
    .. " '%s/runs' --name %s --size %d --epochs %d --batch-size %d --arch resnet18 --linear-epochs 0", cldlua, photos,
    place, name, opt.size, epochs, opt.batch), place .. "/runs/" .. name)
end

ours("ours", opt.epochs)
if os.execute(("'%s' -c 'import lightly_train' >/dev/null 2>&1"):format(python)) then
  local method = opt.peer_method ~= "" and "--method " .. opt.peer_method or ""
  local result = measured("'%s' '%s/peer_pretrain.py' train --data '%s/train' --out '%s/peer' --size %d --epochs %d"
    .. " --batch %d %s", python, here, photos, place, opt.size, opt.epochs, opt.batch, method)
  row(("LightlyTrain%s, %d epochs"):format(method ~= "" and ", " .. opt.peer_method or "", opt.epochs), result,
    place .. "/peer/exported.pt")
  local worth = result.processor_seconds / rows[1].processor_seconds -- its processor time, in runs of ours
  ours("longer", math.floor(opt.epochs * worth))
else
  io.stderr:write("no lightly-train in " .. python .. ": only our figures (PEER_PYTHON can name another python)\n")
end

print(("%d images at %d pixels, batches of %d, ResNet-18 with torchvision's first layers"):format(opt.images, opt.size,
  opt.batch))
print("| what | seconds | processor seconds | largest process, MB | kNN top-1, % |\n|---|---|---|---|---|")
for _, r in ipairs(rows) do
  print(("| %s | %.0f | %.0f | %.0f | %.1f |"):format(r.name, r.seconds, r.processor_seconds, r.mb, r.knn))
end
