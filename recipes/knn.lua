--- kNN accuracy of a checkpoint of any recipe, or of published weights; --baselines adds that of raw pixels and of an
-- untrained network. Images, their preparation, k, T and the layer are the run's own unless they are given.
--
--   cldlua recipes/knn.lua --checkpoint runs/NAME --baselines
--   cldlua recipes/knn.lua --checkpoint moco_v2_800ep_pretrain.pth.tar --data /imagenet --dataset imagenet
local cld = require "cld"
local user_error = require "cld.user_error"
local subject = require "cld.eval.subject"

local opt = cld.options {
  about = "kNN accuracy of a checkpoint",
  cld.options.checkpoint,
  { "knn-k",     0,      "neighbours that vote, at most all; 0: as many as in the run, or 200",
    min = 0, integer = true },
  { "knn-t",     0.0,    "temperature of their votes; 0: the run's, or 0.1", min = 0 },
  { "layer",     "auto", "what is compared: instance (the first output), features (what the heads see); auto: as in"
    .. " the run, of published weights features", choices = { "auto", "instance", "features" } },
  { "baselines", false,  "also score raw pixels and an untrained network" },
  cld.options.machine,
}
local device     = subject.set_up(opt)
local net, about = subject.load(opt)
local sets, data = subject.sets(opt, about)
if not sets.test then user_error.raise("%s: it has no test images with classes to score", data.data) end
local view       = subject.view(opt, about)
local wanted     = opt.knn_k > 0 and opt.knn_k or about.knn.k or 200
local t          = opt.knn_t > 0 and opt.knn_t or about.knn.temperature or 0.1
local layer      = subject.layer(opt, net, about, about.layer)
local memory     = sets.memory or sets.train
local k          = math.min(wanted, #memory)

local fewer = k < wanted and (" (all that there are, of %d)"):format(wanted) or ""
print(("k %d%s, T %g, layer %s, memory of %d images, %d queries"):format(k, fewer, t, layer, #memory, #sets.test))
print("images: " .. subject.view_text(view))

local function score(what, encoder, branch)
  local r = cld.eval.knn {
    net = encoder:to(device), memory = memory, queries = sets.test, k = k, temperature = t, augment = view,
    layer = not branch and layer or nil, branch = branch, workers = opt.workers,
  }
  local top5 = r.top5 and ("   top-5 %5.1f %%"):format(100 * r.top5) or ""
  print(("%-20s top-1 %5.1f %%%s"):format(what, 100 * r.top1, top5))
end

if opt.baselines then
  score("raw pixels", net, function(_, images) return images:flatten(2, -1) end)
  cld.manual_seed(data.seed)
  if about.description then score("untrained network", cld.models.build(about.description)) end
end
score(subject.weights_text(about), net)
