--- `make bench-tsne`: t-SNE of 10,000 x 128 features beside scikit-learn's, in one run. Prints the seconds, and the
-- Kullback-Leibler divergence of both results, measured in the same way over all pairs of points.
--
--   build/cldlua spec/bench/tsne.lua --build build [--points 10000]
--
-- The features are twenty clumps of random points on the sphere, like an encoder's. The peer is $PEER_PYTHON or
-- python3, if that has scikit-learn; without one only ours is printed.
local cld = require "cld"
local core = require "cld.core"

local opt = cld.options {
  about = "t-SNE beside scikit-learn's",
  { "build",  "build", "folder of the program, and of the files made" },
  { "points", 10000,   "how many points", min = 100, max = 100000, integer = true },
}
local here = arg[0]:match "^(.*)/[^/]*$" or "."
local folder = opt.build .. "/bench"
assert(os.execute("mkdir -p " .. folder))

cld.manual_seed(1)
local centers = cld.randn(20, 128)
local index = cld.arange(0, opt.points):to "i64" % 20
local features = (centers:index_select(1, index) + 0.9 * cld.randn(opt.points, 128)):normalize()
cld.io.save_npy(folder .. "/tsne_features.npy", features)

-- The divergence that a map leaves, over all pairs.
local function divergence(points)
  local _, kl = core.embed.tsne_gradient(features, points, { angle = 0 })
  return kl
end

local start = cld.clock()
local points = cld.eval.tsne(features)
local seconds = cld.clock() - start
local own = divergence(points)
print(("%d points, %d threads"):format(opt.points, cld.get_num_threads()))
print(("ours          %6.1f s  divergence %.4f"):format(seconds, own))

local python = os.getenv "PEER_PYTHON" or "python3"
local pipe = assert(io.popen(("%s %s/peer_tsne.py %s 2>&1"):format(python, here, folder)))
local text = pipe:read "a"
pipe:close()
local theirs = tonumber(text:match "seconds ([%d.]+)\n")
if not theirs then
  print(("scikit-learn  %s cannot: %s"):format(python, text:match "([^\n]*)\n*$"))
  return
end
local kl = divergence(cld.io.load_npy(folder .. "/tsne_points.npy"))
print(("scikit-learn  %6.1f s  divergence %.4f"):format(theirs, kl))
print(("ratio         %6.2f    %17.3f"):format(seconds / theirs, own / kl))
