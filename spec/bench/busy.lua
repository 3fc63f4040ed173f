--- A small training beside busy neighbours: `cldlua busy.lua --neighbours N` prints one JSON line with its images per
-- second. The program starts the neighbours itself: N processes that compute without a pause.
local cld = require "cld"

local opt = cld.options {
  about = "NPID + CLD of a small network, for some seconds, beside busy programs",
  { "neighbours", 0,   "programs that compute all the time", min = 0, max = 64, integer = true },
  { "seconds",    4.0, "how long to train, after two steps of warm-up", above = 0 },
  { "width",      8,   "channels of the first stage", min = 1, integer = true },
  { "batch",      64,  "images per step", min = 2, integer = true },
}

-- ---- neighbours: they end with this program, or by themselves after a while ------------

local pids = {}

local function start_neighbours()
  local spin = ("timeout %d '%s' -e 'while true do end' >/dev/null 2>&1 & echo $!"):format(60 + 2 * opt.seconds // 1,
    arg[-1])
  for i = 1, opt.neighbours do
    local pipe <close> = assert(io.popen(spin))
    pids[i] = pipe:read "l"
  end
end

local function stop_neighbours()
  if #pids > 0 then os.execute("kill " .. table.concat(pids, " ")) end
end

-- ---- the training ------------------------------------------------------------------------

local images = 4096
local net = cld.models.resnet18_cifar { width = opt.width }
local bank = cld.losses.memory_bank { size = images, dim = 128, momentum = 0.5, temperature = 0.1 }
local sgd = cld.optim.sgd(net:parameters(), { momentum = 0.9, weight_decay = 7e-4 })
local loader = cld.data.loader {
  require "spec.bench.images"(images), batch_size = opt.batch, views = 2, augment = cld.augment.cifar(),
}

local function train(batch)
  local f1, g1 = net(batch.views[1])
  local f2, g2 = net(batch.views[2])
  local instance = (bank:loss(f1, batch.index) + bank:loss(f2, batch.index)) / 2
  local group = cld.losses.cld(g1, g2, { clusters = opt.batch // 2, iterations = 5, temperature = 0.2 })
  sgd:step(instance + group, { lr = 0.001 })
end

-- Images per second over opt.seconds.
local function measure()
  local epoch, steps, start = 0, -2, nil
  while true do
    epoch = epoch + 1
    for batch in loader:epoch(epoch) do
      train(batch)
      steps = steps + 1
      if steps == 0 then start = cld.clock() end
      local seconds = steps > 0 and cld.clock() - start or 0
      if seconds >= opt.seconds then return steps * opt.batch / seconds end
    end
  end
end

start_neighbours()
local ok, images_per_s = pcall(measure)
stop_neighbours()
assert(ok, images_per_s)
print(cld.json.encode { images_per_s = images_per_s })
