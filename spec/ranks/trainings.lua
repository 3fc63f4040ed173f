--- The trainings of the checks: toy images, command lines that take a second or two, the comparison of two final
-- checkpoints.
local cld = require "cld"
local json = require "cld.json"
local jobs = require "spec.ranks.jobs"

local trainings = {}

local COMMON = "--knn-every 0 --width 4 --size 16 --batch-size 14 --lr 0.05 --clusters 4 --warmup-epochs 0"
  .. " --threads 1 --save-every 1"

--- By name: the recipe and its options. A memory bank, one with noise-contrastive estimation, a queue, blocks with a
-- queue, a target network. 14 images are not a whole number of blocks, nor of ranks; the last batch is smaller.
trainings.methods = {
  npid = "recipes/folder_npid_cld.lua --augment base",
  nce = "recipes/folder_npid_cld.lua --augment base --nce-k 16 --fill-epochs 1",
  moco = "recipes/folder_moco_cld.lua --augment base --queue 24",
  mocov2 = "recipes/folder_mocov2_cld.lua --augment base --small --dim 16 --queue 24 --block 4",
  byol = "recipes/folder_byol_cld.lua --hidden 16 --projection-dim 8",
}
trainings.names = { "npid", "nce", "moco", "mocov2", "byol" }

--- The folder of the toy images, made once.
function trainings.data(build)
  local path = build .. "/ranks/toy"
  if not jobs.exists(path) then
    jobs.must(("mkdir -p %s/ranks && %s/cldlua recipes/make_toy_data.lua --out %s.new --layout files --train 53"
      .. " --test 20 --least-side 20 --most-side 40 && mv %s.new %s"):format(build, build, path, path, path))
  end
  return path
end

-- A recipe in f64 has its own entry.
local function wide(build, recipe)
  local path = ("%s/ranks/wide_%s"):format(build, recipe:match "[^/]+$")
  local file = assert(io.open(path, "w"))
  file:write(('dofile "spec/support/wide.lua"\nrequire("cld").run.recipe("../../%s")\n'):format(recipe))
  file:close()
  return path
end

-- From {build =, method =, wide = compute in f64, runs =, name =, workers = 0, epochs = 3}: the recipe, and its options
-- besides --data and --name.
local function parts(t)
  local recipe, options = trainings.methods[t.method]:match "^(%S+) (.*)"
  return t.wide and wide(t.build, recipe) or recipe,
    ("%s %s --epochs %d --workers %d --runs %s"):format(options, COMMON, t.epochs or 3, t.workers or 0, t.runs)
end

--- The command line for `world` ranks on this machine, by `cldlua --ranks` or by mpirun.
function trainings.command(t, world, by_mpirun)
  local program = t.build .. "/cldlua"
  if by_mpirun then
    program = ("mpirun -n %d --oversubscribe --allow-run-as-root %s"):format(world, program)
  elseif world > 1 then
    program = ("%s --ranks %d"):format(program, world)
  end
  local recipe, options = parts(t)
  return ("%s %s --data %s --name %s %s"):format(program, recipe, trainings.data(t.build), t.name, options)
end

--- The environment variables for the scripts of recipes/cluster/, for the same.
function trainings.settings(t, more)
  local recipe, options = parts(t)
  return { CLDLUA = t.build .. "/cldlua", RECIPE = recipe, DATA = trainings.data(t.build), NAME = t.name,
    OPTIONS = options .. " " .. (more or "") }
end

-- ---- two checkpoints ----------------------------------------------------------------------------------------------

-- {name = {dtype =, shape =, bytes =}} of a safetensors file, as stored, and the position of its run.
local function read(path)
  local text = jobs.read(path)
  local size = ("<I8"):unpack(text)
  local header = json.decode(text:sub(9, 8 + size))
  local position = json.decode(header.__metadata__.position)
  header.__metadata__ = nil
  for _, tensor in pairs(header) do
    local from, to = table.unpack(tensor.data_offsets)
    tensor.bytes = text:sub(9 + size + from, 8 + size + to)
  end
  return header, position
end

-- The part of the position that must be the same: not what a clock says.
local function place(position, same_ranks)
  position.seconds = nil
  if not same_ranks then position.ranks = nil end
  return json.encode(position)
end

local function distance(a, b)
  if a:numel() == 0 then return 0 end
  local x, y = a:double(), b:double()
  return (x - y):abs():max():item() / math.max(1e-3, x:abs():max():item())
end

-- The first name that only one of the two has.
local function unmatched(x, y)
  for name in pairs(x) do if not y[name] then return name end end
  for name in pairs(y) do if not x[name] then return name end end
end

local function different_bits(x, y)
  for name, tensor in pairs(x) do
    if tensor.dtype ~= y[name].dtype or tensor.bytes ~= y[name].bytes then return name .. " is not the same" end
  end
end

--- The largest difference between two checkpoints' tensors, and which tensor it is in. Meters are f32, and do not
-- affect training.
function trainings.farthest(a, b)
  local x, y, worst, whose = cld.load(a), cld.load(b), 0, "none"
  for name, tensor in pairs(x) do
    local d = name:find "^meters" and 0 or distance(tensor, y[name])
    if d ~= d then return d, name end
    if d > worst then worst, whose = d, name end
  end
  return worst, whose
end

local function far_apart(a, b, tolerance)
  local d, name = trainings.farthest(a, b)
  if not (d <= tolerance) then return ("%s differs by %.3g"):format(name, d) end
end

--- The difference between two final checkpoints as text, or nil. Without a tolerance every bit of every tensor is
-- compared, and the position, including that of the random numbers. With one, the numbers of ranks may differ.
function trainings.difference(a, b, tolerance)
  if not jobs.exists(b) then return "there is no " .. b end
  local x, x_position = read(a)
  local y, y_position = read(b)
  local place_x, place_y = place(x_position, not tolerance), place(y_position, not tolerance)
  if place_x ~= place_y then return ("one is at %s, the other at %s"):format(place_x, place_y) end
  local alone = unmatched(x, y)
  if alone then return "only one has " .. alone end
  if tolerance then return far_apart(a, b, tolerance) end
  return different_bits(x, y)
end

return trainings
