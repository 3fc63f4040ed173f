--- kNN accuracy of a checkpoint, beside that of raw pixels and of an untrained network with --baselines.
--
--   cldlua recipes/knn.lua --checkpoint runs/NAME/checkpoint.safetensors --baselines
local cld = require "cld"
local user_error = require "cld.user_error"

local opt = cld.options {
  about = "kNN accuracy of a checkpoint",
  { "checkpoint", "checkpoint.safetensors", "runs/NAME/checkpoint.safetensors, or runs/NAME", nonempty = true },
  { "data",       "",    "folder that holds the data set; empty: where the run had it" },
  cld.options.knn,
  { "baselines",  false, "also score raw pixels and an untrained network" },
  { "device",     "auto", "where to compute: cpu, cuda, cuda:N; auto: the first GPU, or the CPU", value = "device" },
  { "precision",  "fp32", "of convolutions and linear layers, whatever the run's was",
    choices = { "fp32", "tf32", "bf16", "fp16" } },
  { "threads",    0,     "compute threads; 0: OMP_NUM_THREADS, or one per core", min = 0 },
}
local device = user_error.call(cld.cuda.resolve, opt.device)
cld.set_precision(opt.precision)
if opt.threads > 0 then user_error.call(cld.set_num_threads, opt.threads) end

-- The network and its data as the run had them.
local run   = cld.run.load(opt.checkpoint, {
  { "dataset", "cifar10", "the kind of data set", choices = cld.data.splits.names },
  cld.options.encoder,
  { "seed", 1, "of the untrained network" },
})
local was   = run.options
if opt.data ~= "" then was.data = opt.data end
local sets  = cld.data.splits(was)
if not sets.test then user_error.raise("%s: it has no test images with classes to score", was.data) end
cld.manual_seed(was.seed)
local net   = cld.models.from_options(was):to(device)

local function score(what, branch)
  local r = cld.eval.knn {
    net = net, memory = sets.memory or sets.train, queries = sets.test, k = opt.knn_k, temperature = opt.knn_t,
    branch = branch, augment = sets.test_view,
  }
  print(("%-20s top-1 %5.1f %%   top-5 %5.1f %%"):format(what, 100 * r.top1, 100 * r.top5))
end

if opt.baselines then
  score("raw pixels", function(_, images) return images:flatten(2, -1):normalize() end)
  score("untrained network")
end

cld.run.restore(run, { net = net })
score(("after %d epochs"):format(run.position.epoch))
