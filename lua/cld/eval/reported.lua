--- The top-1 accuracy that is reported for a network of published settings: linear evaluation on ImageNet, in percent.
-- A network of other settings is another experiment, and has no number to be compared with.
local reported = {}

local shared = {
  dataset = "imagenet", classes = "", size = 224, epochs = 200, last = "drop", queue = 65536, moco_t = 0.2,
  moco_m = 0.999, lr_at = 0, momentum = 0.9, weight_decay = 1e-4, schedule = "cosine-epochs", lr_min = 0,
}

-- {top-1 by head, branches, options}. MoCo v2: Chen et al., 2020, eight GPUs of 32 images; MoCo v2 + CLD: Wang, Liu and
-- Yu, CVPR 2021, eight of 64.
local experiments = {
  { by_head = { mlp = 67.5 }, branches = 1,
    options = { queries = 1, lambda = 0, batch_size = 256, block = 32, lr = 0.03 } },
  { by_head = { mlp = 69.2, norm_mlp = 70.0 }, branches = 2,
    options = { queries = 2, lambda = 0.25, batch_size = 512, block = 64, lr = 0.2, cld_rows = "block", clusters = 120,
      iterations = 5, cld_t = 0.4, detach_centroids = false } },
}

local function agree(options, wanted)
  for name, value in pairs(wanted) do
    if options[name] ~= value then return false end
  end
  return true
end

--- of(description of a network (cld.models.description) or nil, options of its run, epochs that were trained) -> the
-- number, or nil: not all that matters is as published.
function reported.of(description, options, epoch)
  local s = description and description.constructor == "resnet50" and description.settings
  if not s or s.width ~= 64 or s.dim ~= 128 or s.small or type(s.branches) ~= "table" then return nil end
  if epoch ~= shared.epochs or not agree(options, shared) then return nil end
  if (options.grouping or "kmeans") ~= "kmeans" then return nil end
  for _, experiment in ipairs(experiments) do
    if #s.branches == experiment.branches and agree(options, experiment.options) then
      return experiment.by_head[s.head]
    end
  end
  return nil
end

return reported
