--- The published top-1 accuracy for a network with published settings: linear evaluation on ImageNet, in percent. A
-- network with other settings is another experiment, with no number to compare.
local reported = {}

local shared = {
  dataset = "imagenet", classes = "", size = 224, last = "drop", queue = 65536, moco_m = 0.999, lr_at = 0,
  momentum = 0.9, weight_decay = 1e-4,
}
local moco_v2 = { moco_t = 0.2, schedule = "cosine-epochs", lr_min = 0 }
local infomin = { moco_t = 0.15, schedule = "infomin", jigsaw = true, beta = 0.5 }
local one_view = { queries = 1, lambda = 0, batch_size = 256, block = 32, lr = 0.03 }
local with_cld = { queries = 2, lambda = 0.25, batch_size = 512, block = 64, lr = 0.2, cld_rows = "block",
  clusters = 120, iterations = 5, detach_centroids = false }

-- {top-1 by head and epochs, layout and branches of the network, lists of options}. MoCo v2: Chen et al., 2020, eight
-- GPUs of 32 images; InfoMin: Tian et al., 2020, as Wang, Liu and Yu trained it; with CLD: their CVPR 2021, eight of
-- 64, InfoMin's keys enqueued twice.
local experiments = {
  { by_head = { mlp = { [200] = 67.5 } }, branches = 1, options = { moco_v2, one_view } },
  { by_head = { mlp = { [200] = 69.2 }, norm_mlp = { [200] = 70.0 } }, branches = 2,
    options = { moco_v2, with_cld, { cld_t = 0.4 } } },
  { by_head = { mlp = { [100] = 67.4 } }, layout = "infomin", branches = 1,
    options = { infomin, one_view, { double_enqueue = false } } },
  { by_head = { mlp = { [100] = 69.5, [200] = 70.6 }, norm_mlp = { [100] = 70.1, [200] = 71.5 } },
    layout = "infomin", branches = 2, options = { infomin, with_cld, { cld_t = 0.8, double_enqueue = true } } },
}

local function agree(options, wanted)
  for name, value in pairs(wanted) do
    if rawget(options, name) ~= value then return false end
  end
  return true
end

--- of(description of a network (cld.models.description) or nil, options of its run, epochs that were trained) -> the
-- number, or nil if a setting that matters is not as published.
function reported.of(description, options, epoch)
  local s = description and description.constructor == "resnet50" and description.settings
  if not s or s.width ~= 64 or s.stem or s.dim ~= 128 or s.small or type(s.branches) ~= "table" then return nil end
  if epoch ~= options.epochs or not agree(options, shared) then return nil end
  if (options.grouping or "kmeans") ~= "kmeans" then return nil end
  for _, experiment in ipairs(experiments) do
    local fits = #s.branches == experiment.branches and s.layout == experiment.layout
    for _, wanted in ipairs(experiment.options) do fits = fits and agree(options, wanted) end
    local by_epoch = fits and experiment.by_head[s.head]
    if by_epoch and by_epoch[epoch] then return by_epoch[epoch] end
  end
  return nil
end

return reported
