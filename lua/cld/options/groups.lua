--- Options that several recipes share, in named groups. Each is a list of declarations to use in cld.options{...}.
-- Calling a group gives the same list with other defaults, for a recipe whose published settings differ:
--
--   cld.options.knn,
--   cld.options.cld { clusters = 200, lambda = 0.8 },
--
-- and group:fixed { name = why } marks options that a resumed run may not change (cld.options, fixed).
--
-- The comment on a group names the functions that read it: a recipe with the group passes its options to them.
local caller = require "cld.caller"
local models = require "cld.models"
local user_error = require "cld.user_error"
local values = require "cld.options.values"

local function field_name(name) return (name:gsub("-", "_")) end

-- Raises if a field of `given` is not in the group.
local function check_fields(group, given)
  local fields, rest = {}, {}
  for field in pairs(given) do rest[field] = true end
  for i, declaration in ipairs(group) do
    fields[i] = field_name(declaration[1])
    rest[fields[i]] = nil
  end
  local unknown = next(rest)
  if unknown ~= nil then
    caller.raise("options: the group has no '%s'%s", tostring(unknown), user_error.hint(tostring(unknown), fields))
  end
end

-- A list of the same declarations with other defaults.
local function with_defaults(group, defaults)
  check_fields(group, defaults)
  local copy = {}
  for i, declaration in ipairs(group) do
    local field = field_name(declaration[1])
    local value = defaults[field]
    copy[i] = declaration
    if value ~= nil then
      local own = setmetatable({ kind = values.kind(declaration) }, { __index = declaration })
      local converted = values.convert(own, value)
      if converted == nil then
        caller.raise("options: the default '%s' is %s; expected %s", field, tostring(value), values.expected(own))
      end
      copy[i] = setmetatable({ declaration[1], converted, declaration[3] }, { __index = declaration })
    end
  end
  return setmetatable(copy, getmetatable(group))
end

-- A list of the same declarations, some of which a resumed run may not change.
local function with_fixed(group, reasons)
  check_fields(group, reasons)
  local copy = {}
  for i, declaration in ipairs(group) do
    local reason = reasons[field_name(declaration[1])]
    copy[i] = reason and setmetatable({ fixed = reason }, { __index = declaration }) or declaration
  end
  return setmetatable(copy, getmetatable(group))
end

local Group = { __call = with_defaults, __index = { fixed = with_fixed } }

local function group(list) return setmetatable(list, Group) end

local groups = {}

--- The options that every training recipe has in addition to its method: the run folder, the machine. See cld.run.
groups.training = group {
  { "seed",        1,      "seed of all that is random", min = 0, integer = true },
  { "threads",     0,      "threads of the kernels; 0: OMP_NUM_THREADS, or one per core; resumed: as before",
    min = 0, integer = true },
  { "winograd",    true,   "faster 3 x 3 convolutions, at most a decimal digit less precise" },
  { "workers",     1,      "threads of the loader; 0: none of its own", min = 0, max = 256, integer = true },
  { "device",      "auto", "where to compute: cpu, cuda, cuda:N; auto: the first GPU, or the CPU", value = "device" },
  { "precision",   "auto", "of convolutions, the rest is fp32; auto: bf16 on a GPU that has it, else fp32; resumed: as"
    .. " before", choices = { "auto", "fp32", "tf32", "bf16", "fp16" } },
  { "graph",       true,   "capture the training step as a CUDA graph" },
  { "runs",        "runs", "folder of the run folders", nonempty = true },
  { "name",        "",     "name of the run folder in it; empty: the recipe's, numbered if it exists" },
  { "resume",      false,  "continue a run: its folder or a checkpoint in it; alone: --name's, or the recipe's latest,"
    .. " and if there is none a new one. It goes on where it stands in epochs, whatever batch size, epochs or schedule"
    .. " are given anew", value = "optional" },
  { "save-every",  1,      "epochs between checkpoints", min = 1, max = 1000000, integer = true },
  { "keep-checkpoints", 0, "keep checkpoint-EPOCH.safetensors of the last so many epochs, and best.safetensors of the"
    .. " one with the best score; 0: checkpoint.safetensors alone", min = 0, max = 1000000, integer = true },
  { "tensorboard", false, "write TensorBoard's files too, into the run folder's tensorboard/" },
  { "print-every", 10,     "seconds between progress lines where the output is no terminal", min = 0,
    integer = true },
  { "report",      true,  "at the end write report.html into the run's folder; it takes a minute at most" },
  { "print-ranks", false,  "of several ranks: with each epoch, what each one's steps took and waited for" },
  { "timeout",     600,    "of several ranks: seconds that one may keep the others waiting; 0: any time", min = 0,
    integer = true },
}

--- A checkpoint to evaluate, and the images for it: cld.eval.subject.
groups.checkpoint = group {
  { "checkpoint", "checkpoint.safetensors", "of any recipe, or its run's folder; or published weights: .pth, .pth.tar,"
    .. " .t7, .safetensors", nonempty = true, path = true, fixed = "whose network its checkpoint holds" },
  { "require",    "",    "a Lua file that makes your own networks known (cld.models.define)", path = true },
  { "data",       "",    "folder that holds the images; empty: where the run had them", path = true },
  { "dataset",    "own", "the kind of data set; own: the run's, or a folder", choices = {
    "own", "cifar10", "cifar100", "folder", "imagenet", "kitchen_hc", "stl10" } },
  { "classes",    "own", "of ImageNet's: all, imagenet100, or a text file with a WordNet id a line; own: the run's, or"
    .. " all", nonempty = true },
  { "size",       0,     "height and width of the network's input, in pixels; 0: what it was trained for", min = 0,
    max = 3584, integer = true },
}

--- Where to compute, for recipes that do not train: cld.eval.subject.
groups.machine = group {
  { "device",    "auto", "where to compute: cpu, cuda, cuda:N; auto: the first GPU, or the CPU", value = "device" },
  { "precision", "fp32", "of convolutions, the rest is fp32; whatever the run's was",
    choices = { "fp32", "tf32", "bf16", "fp16" } },
  { "threads",   0,      "compute threads; 0: OMP_NUM_THREADS, or one per core", min = 0, integer = true },
  { "workers",   1,      "threads that read and decode images; 0: none of their own",
    min = 0, max = 256, integer = true },
}

--- The encoder: cld.models.from_options.
groups.encoder = group {
  { "arch",        "resnet18", "encoder", choices = { "resnet18", "resnet34", "resnet50" } },
  { "width",       64,         "channels of the first stage", min = 1, max = 4096, integer = true },
  { "low-dim",     128,        "dimension of the features", min = 1, max = 65536, integer = true },
  { "norm-linear", false,      "NormLinear heads instead of Linear" },
}

local archs = table.move(models.infomin_names, 1, #models.infomin_names, #models.resnets + 1,
  table.move(models.resnets, 1, #models.resnets, 1, {}))

--- An encoder of torchvision's kind: cld.models[opt.arch].
groups.resnet = group {
  { "arch",  "resnet50", "encoder; some by InfoMin's names: resnext101v1 to v3 are 32x4d, 32x8d and 64x4d, x2 and x4"
    .. " have so many times the channels", choices = archs },
  { "width", 64,         "channels of the first layer; all others are proportional", min = 1, max = 4096,
    integer = true },
  { "head",  "mlp",      "what makes the compared features of the pooled ones", choices = models.head_names },
  { "dim",   128,        "dimension of the compared features", min = 1, max = 65536, integer = true },
  { "small", false,      "for small images: the first layer 3x3 with stride 1, and no max-pool" },
}

-- The largest possible size: evaluation resizes to 8/7 of it, and no view may be larger than 4096.
local size = { "size", 224, "height and width of a view, in pixels; half as many take a quarter of the time", min = 16,
  max = 3584, integer = true }

--- Only the views' size.
groups.view = group { size }

--- Options that depend on the size of the images, for recipes on images other than CIFAR's: the views' size, and the
-- encoder's stem and pooling (cld.models.from_options).
groups.images = group {
  size,
  { "stem", "auto", "the encoder's first layers: cifar (3x3, stride 1), imagenet (7x7 and max-pool, each of stride 2);"
    .. " auto: imagenet from 128 pixels on", choices = { "auto", "cifar", "imagenet" } },
  { "pool", "all",  "what of the last maps is averaged: all, or the 7x7 in the top-left corner, as published for 96"
    .. " pixels", choices = { "all", "corner" } },
}

-- For a data set that can be downloaded; its reader takes both (cld.data.download).
local download = {
  { "download", false, "fetch the data set into --data if it is not there" },
  { "mirror",   "",    "another address to fetch it from: the archive's, or of the folder that holds it",
    needs = { "download", true } },
}

local function and_download(list) return table.move(download, 1, #download, #list + 1, list) end

--- CIFAR's files: cld.data[opt.dataset] { root = opt.data, layout = opt.layout }.
groups.cifar = group(and_download {
  { "dataset", "cifar10", "which data set", choices = { "cifar10", "cifar100" } },
  { "data",    "./data",  "folder that holds it", nonempty = true, path = true },
  { "layout",  "auto",    "its files", choices = { "auto", "python", "binary" } },
})

-- How image files are read, and how many may be damaged, for a loader of the set (cld.data.loader).
local files = {
  { "decode",  "fast", "JPEG files at a smaller scale, if every view shrinks them by more anyway (evaluation never is):"
    .. " fast; or exact", choices = { "fast", "exact" } },
  { "max-bad", 0.01,   "share of the images that may be unreadable, each replaced by another; more end the run",
    min = 0, max = 1 },
  { "strict",  false,  "end the run at the first image that cannot be read" },
}

local function named(dataset, list)
  local own = { { "dataset", dataset, "the kind of data set", choices = { dataset } } }
  for _, more in ipairs { list, files } do table.move(more, 1, #more, #own + 1, own) end
  return group(own)
end

--- A folder of images: cld.data.splits.
groups.folder = named("folder", {
  { "data",    "./data", "the folder: of class folders, of plain files, or with train/ and test/ or val/ inside",
    nonempty = true, path = true },
  { "layout",  "auto",   "whether sub-folders are classes: classes (images beside them are left out) or plain (no"
    .. " classes); auto: classes if all images are in them, plain if none is", choices = {
    "auto", "classes", "plain" } },
  { "holdout", 0.1,      "share of each class that is kept from training to measure kNN accuracy by, if there is no"
    .. " test/ or val/; 0: none", min = 0, max = 0.9 },
  { "upright", false,    "turn images as their EXIF orientation says" },
})

--- ImageNet: cld.data.splits.
groups.imagenet = named("imagenet", {
  { "data",    "./data", "folder that holds train/ and val/, or the archives as they were published", nonempty = true,
    path = true },
  { "classes", "",       "only these: imagenet100, or a text file with a WordNet id a line; empty: all" },
})

--- STL-10: cld.data.splits.
groups.stl10 = named("stl10", and_download {
  { "data",  "./data", "folder that holds stl10_binary/", nonempty = true, path = true },
  { "split", "train",  "what to train on; kNN's memory is always train", choices = {
    "train", "train+unlabeled", "unlabeled" } },
})

--- Kitchen-HC: cld.data.splits.
groups.kitchen_hc = named("kitchen_hc", {
  { "data", "./data", "folder that holds Kitchen-HC/{train,test}/", nonempty = true, path = true },
})

--- The instance branch of NPID: cld.losses.memory_bank.
groups.npid = group {
  { "nce-t",       0.1, "temperature of the comparison with the memory bank", above = 0 },
  { "nce-k",       0,   "negatives drawn per image; 0 is the full softmax", min = 0, max = 1048576, integer = true },
  { "nce-m",       0.5, "momentum of the memory bank's rows", min = 0, max = 1 },
  { "fill-epochs", 0,   "epochs before the warm-up in which only the memory bank learns, of which --nce-k then takes"
    .. " its normalizer; fewer than --epochs", min = 0, integer = true },
}

--- The instance branch of MoCo: cld.losses.moco_queue, cld.optim.ema.
groups.moco = group {
  { "queue",  12288, "keys in the queue: the negatives; at least a batch", min = 1, max = 16777216, integer = true },
  { "moco-t", 0.07,  "temperature of the comparison with the keys", above = 0 },
  { "moco-m", 0.999, "momentum of the key encoder", min = 0, max = 1 },
}

--- The instance branch of MoCo v2 with one or two query views: cld.losses.moco_queue, cld.optim.ema.
groups.moco_v2 = group {
  { "queue",   65536, "keys in the queue: the negatives; at least a batch", min = 1, max = 16777216, integer = true },
  { "moco-t",  0.2,   "temperature of the comparison with the keys", above = 0 },
  { "moco-m",  0.999, "momentum of the key encoder", min = 0, max = 1 },
  { "queries", 2,     "query views of an image; 1, which needs --lambda 0, is MoCo v2 as it was published", min = 1,
    max = 2, integer = true },
}

--- The instance branch of InfoMin: cld.losses.moco_queue, cld.losses.infomin, cld.optim.ema.
groups.infomin = group {
  { "queue",          65536, "keys in the queue: the negatives; at least a batch", min = 1, max = 16777216,
    integer = true },
  { "moco-t",         0.15,  "temperature of the comparison with the keys", above = 0 },
  { "moco-m",         0.999, "momentum of the key encoder, which moves after each step", min = 0, max = 1 },
  { "queries",        2,     "query views of an image; 1, which needs --lambda 0, is InfoMin as it was published",
    min = 1, max = 2, integer = true },
  { "jigsaw",         true,  "nine patches of each image as a further query" },
  { "beta",           0.5,   "weight of the patches' loss, that of the views' being one less it", min = 0, max = 1,
    needs = { "jigsaw", true } },
  { "double-enqueue", false, "enqueue the keys after each query view, so that the second has them as negatives too:"
    .. " the habit of the authors' code, with which the published accuracy was reached" },
}

-- The widths of a projector (cld.nn.projector).
local function projector(hidden, dim)
  return { "hidden", hidden, "width of the hidden layer of the projector, and of a predictor", min = 1, max = 65536,
      integer = true },
    { "projection-dim", dim, "dimension of what they make", min = 1, max = 65536, integer = true }
end

--- BYOL: its networks, cld.losses.byol, cld.schedule.byol_tau.
local hidden, dim = projector(4096, 256)
groups.byol = group {
  hidden, dim,
  { "tau",          0.99,     "momentum of the target at the first step", min = 0, max = 1 },
  { "tau-schedule", "cosine", "how it goes on: cosine, up to 1 at the last step; or constant", choices = {
    "cosine", "constant" } },
  { "byol-scale",   4.0,      "factor of BYOL's loss; 4, the published sum of two squared distances, or 1, the mean of"
    .. " two cosine distances", above = 0 },
}

--- SimCLR: its projector, cld.losses.nt_xent.
hidden, dim = projector(2048, 128)
groups.simclr = group {
  hidden, dim,
  { "simclr-t", 0.5, "temperature of NT-Xent", above = 0 },
}

-- Which rows CLD groups, and the last batch: for every method that divides its batches.
local cld_rows = { "cld-rows", "block", "the rows that CLD groups: of a block, as published, or of the whole batch",
  choices = { "block", "batch" } }
local last = { "last", "drop", "the last, smaller batch of an epoch: drop or keep", choices = { "drop", "keep" } }

--- How a batch is divided: cld.nn.blocks, the loader. Batch statistics are computed over one view of a block of images,
-- as on one of several GPUs; a step that runs block after block needs less memory.
groups.blocks = group {
  { "block",      64,      "images that share batch statistics; sizes of a batch's blocks differ by at most one",
    min = 2, max = 65536, integer = true },
  cld_rows,
  { "accumulate", 1,       "parts of whole blocks that a step makes one after the other, to the same result up to"
    .. " rounding: as much less memory", min = 1, max = 65536, integer = true },
  last,
}

--- The same for a method whose batch statistics are computed over all images that go through the network at once, and
-- whose blocks only matter to CLD.
groups.micro_batches = group {
  { "block",      64, "images that CLD groups by themselves; sizes of a batch's blocks differ by at most one", min = 2,
    max = 65536, integer = true },
  cld_rows,
  { "accumulate", 1,  "micro-batches that a step makes one after the other, each with batch statistics and groups of"
    .. " its own: as much less memory", min = 1, max = 65536, integer = true },
  last,
}

--- The group branch, CLD: cld.losses.cld_settings.
groups.cld = group {
  { "lambda",     1.0, "weight of the CLD loss; 0 is the method without it", min = 0 },
  { "grouping",   "kmeans", "how the rows of a view are grouped: by k-means, or by normalized cuts", choices = {
    "kmeans", "ncut" } },
  { "clusters",   128, "groups of the rows of a view", min = 1, max = 65536, integer = true },
  { "iterations", 5,   "k-means iterations; ncut makes them too", min = 1, max = 1000, integer = true },
  { "eigenvectors", 0, "of ncut: how many, at most as many as rows; 0: as many as --clusters", min = 0,
    max = 65536, integer = true, needs = { "grouping", "ncut" } },
  { "cld-t",      0.2, "temperature of the CLD loss", above = 0 },
  { "detach-centroids", false, "no gradient through the centroids" },
}

--- The optimizer: cld.optim.sgd, the loader.
groups.sgd = group {
  { "batch-size",   256,  "images per step; the last step of an epoch takes what is left, if kept", min = 2,
    max = 65536, integer = true },
  { "lr",           0.03, "learning rate at a batch size of --lr-at, scaled linearly", above = 0 },
  { "lr-at",        128,  "the batch size that --lr is meant for; 0: --lr as it is, whatever the batch size", min = 0,
    max = 1048576, integer = true },
  { "momentum",     0.9,  "momentum of the gradients", min = 0, max = 1 },
  { "weight-decay", 7e-4, "weight decay", min = 0 },
}

--- Which optimizer: cld.optim.from_options.
groups.optimizer = group {
  { "optimizer", "sgd", "sgd, or lars for large batches, which leaves biases and norms out of its own rates and of the"
    .. " decay", choices = { "sgd", "lars" } },
  { "lars-eta",  0.001, "LARS: a tensor's step, as a share of its norm, at the rate 1", above = 0,
    needs = { "optimizer", "lars" } },
}

--- How long to train, and the learning rate over time: cld.schedule.from_options, which reads lr and batch-size too.
groups.schedule = group {
  { "epochs",        200,       "training epochs", min = 1, max = 1000000, integer = true },
  { "schedule",      "cosine",  "learning rate over time: cosine, falling at every step; cosine-epochs, after every"
    .. " epoch, without warm-up; infomin, after every epoch to lr / 1000, and batches above 256 warm up from 0.01 over"
    .. " 5 epochs; step, at the milestones", choices = { "cosine", "cosine-epochs", "infomin", "step" } },
  { "warmup-epochs", 5,         "epochs of linear warm-up", min = 0, integer = true },
  { "warmup-factor", 100,       "the warm-up starts at lr divided by this; 0: at 0", min = 0, integer = true,
    needs = { "schedule", "cosine", "step" } },
  { "lr-min",        1e-6,      "where the cosine ends", min = 0, needs = { "schedule", "cosine", "cosine-epochs" } },
  { "milestones",    "120,160", "epochs at which --schedule step takes the rate times gamma", value = "integers",
    needs = { "schedule", "step" } },
  { "gamma",         0.1,       "its factor", min = 0, needs = { "schedule", "step" } },
}

--- The evaluation by kNN, and how often: the evaluate method of cld.run. cld.run:describe stores k and the temperature
-- in the checkpoint.
groups.knn = group {
  { "knn-k",     200, "neighbours that vote, at most all images of the memory", min = 1, integer = true },
  { "knn-t",     0.1, "temperature of their votes", above = 0 },
  { "knn-every", 1,   "epochs between evaluations by kNN; 0: none", min = 0, integer = true },
}

return groups
