--- Figures about a training without labels: whether the views of an image move together and the images apart, and
-- whether the features still use their dimensions.
--
--   local seen = cld.diagnostics.views(q1, q2)               -- {alignment =, uniformity =}, tensors without dimensions
--   local rank = cld.diagnostics.rank { net = net, set = train, augment = view }      -- a number, at an epoch's end
--   local same = cld.diagnostics.two_views { net = net, set = train, views = views }  -- {alignment, uniformity, nmi}
--   run:diagnose { effective_rank = rank, nmi = same.nmi }   -- printed and logged, with a warning about a collapse
--
-- Call views in every step: it makes a few small launches and reads nothing back. rank and two_views use the same 512
-- images each time. The host computes the eigenvalues and counts the groups of images.
local caller = require "cld.caller"
local class = require "cld.class"
local core = require "cld.core"
local data = require "cld.data"
local dist = require "cld.dist"
local eval = require "cld.eval"
local extract = require "cld.eval.extract"
local losses = require "cld.losses"
local sorted_keys = require "cld.sorted_keys"
local create, no_grad = core.tensor, core.autograd.no_grad

local diagnostics = {}

local function check_rows(what, x)
  if not create.is_tensor(x) or x.ndim ~= 2 then
    caller.raise("%s: expected features (images, dim), got %s", what, caller.shown(x))
  end
end

--- cld.diagnostics.alignment(a, b) -> tensor: the mean over rows of |a - b|^2 of a and b (n, d), whose rows have unit
-- length: from 0 (two views of an image coincide) to 4 (Wang and Isola, ICML 2020, with alpha = 2). A tensor without
-- dimensions, off the tape.
function diagnostics.alignment(a, b)
  check_rows("diagnostics.alignment", a)
  check_rows("diagnostics.alignment", b)
  local _ <close> = no_grad()
  local apart <close> = a - b
  local squares <close> = apart * apart
  local sum <close> = squares:sum()
  return sum / #a
end

--- uniformity(x (n, d)) -> log of the mean over all pairs of rows of exp(-2 |x_i - x_j|^2): for rows of unit length,
-- from 0 (all rows are equal) down to about -4 (rows are spread over the sphere; Wang and Isola, ICML 2020, with t =
-- 2). Rows of zeros, which a head makes if all its units are dead, are equal too. A tensor without dimensions, off the
-- tape; NaN for a single row.
function diagnostics.uniformity(x)
  check_rows("diagnostics.uniformity", x)
  local _ <close> = no_grad()
  local n = #x
  local turned <close> = x:t()
  local products <close> = x:matmul(turned)
  local all <close> = products:flatten()
  -- -2 |x - y|^2 = 4 x.y - 2 x.x - 2 y.y, all from the same products: a row's distance to itself is exactly 0.
  local squares <close> = all[{ { 1, n * n, n + 1 } }] * 2
  local column <close> = squares:unsqueeze(2)
  local exponents <close> = products:mul_(4):sub_(squares):sub_(column)
  local values <close> = exponents:exp()
  local sum <close> = values:sum()
  local pairs_twice <close> = sum:sub_(n) -- without each row's pair with itself, exp(0)
  local mean <close> = pairs_twice:div_(n * (n - 1))
  return mean:log()
end

--- cld.diagnostics.views(q1, q2) -> {alignment =, uniformity =}: for the features of two views (n, d), rows of unit
-- length; pass the result to run:track. The uniformity is that of q1, over the rows of all ranks.
--
--     local q = cld.randn(16, 8):normalize()
--     print(cld.diagnostics.views(q, q).alignment:item())  --> 0.0
function diagnostics.views(q1, q2)
  local alignment = diagnostics.alignment(q1, q2)
  local _ <close> = no_grad()
  return { alignment = alignment, uniformity = diagnostics.uniformity(core.dist.gather_rows(q1)) }
end

-- ---- a batch in parts -------------------------------------------------------

local Parts = class.new "cld.over_parts"

--- cld.diagnostics.over_parts(key) -> over_parts: collects the figures of a step that processes its n images in parts.
-- key is the keys (n, d), or n. The means equal those of a single part with all images, so they do not depend on the
-- number of parts. Without a second query view the alignment is between the query and the key. With two, the number of
-- images is enough as key.
--   local told = cld.diagnostics.over_parts(key)
--   told:add({ instance = loss, ... }, q, count)          -- once for each part of `count` images; q: its query views
--   return told:means { grad_norm = sgd.grad_norm }       -- of all images; with alignment and uniformity
function diagnostics.over_parts(key)
  local images = math.type(key) == "integer" and key
  if not images then check_rows("diagnostics.over_parts", key) end
  return setmetatable({ key = not images and key, images = images or #key, sums = {}, queries = { {}, {} } }, Parts)
end

--- over_parts:add({name = tensor}, {queries, ...}, count): adds the figures of a part with `count` images, and its
-- query views (count, d).
function Parts:add(values, queries, count)
  local _ <close> = no_grad()
  for name, value in pairs(values) do
    local weighted = value:detach()
    if count < self.images then weighted = weighted * (count / self.images) end
    self.sums[name] = self.sums[name] and self.sums[name] + weighted or weighted
  end
  for v, rows in ipairs(queries) do table.insert(self.queries[v], rows:detach()) end
end

local function joined(parts) return #parts > 1 and create.cat(parts, 1) or parts[1] end

--- over_parts:means([{name = value}]) -> {name = tensor}: means over all images, with alignment and uniformity and the
-- given values: for run:track.
function Parts:means(others)
  local _ <close> = no_grad()
  local means = diagnostics.views(joined(self.queries[1]), joined(self.queries[2]) or self.key)
  for _, values in ipairs { self.sums, others or {} } do
    for name, value in pairs(values) do means[name] = value end
  end
  return means
end

-- ---- effective rank ---------------------------------------------------------

local MOST = 512 -- the most rows of the matrix whose eigenvalues are computed: 0.05 s

--- effective_rank(x (n, d)) -> exp of the entropy of x's singular values, taken as shares of their sum (Roy and
-- Vetterli, 2007; as a measure of pretrained features RankMe: Garrido et al., ICML 2023): from 1 (all rows are
-- multiples of one) to the smaller of n and d. The rows are not centred. If n and d both exceed 512, the first 512
-- rows count. 0 if x is zero, NaN if it is not finite.
function diagnostics.effective_rank(x)
  check_rows("diagnostics.effective_rank", x)
  local _ <close> = no_grad()
  local rows <close> = x[{ { 1, math.min(#x, x.shape[2] <= MOST and #x or MOST) } }]
  local all <close> = rows:to "cpu":double()
  if all:isfinite():all():item() == 0 then return 0 / 0 end
  local turned <close> = all:t()
  local gram <close> = #all <= all.shape[2] and all:matmul(turned) or turned:matmul(all)
  local values = gram:eigvalsh():totable()
  local sum, entropy = 0, 0
  for i, value in ipairs(values) do
    -- A value that should be zero is a rounding error, and its square root would count.
    values[i] = value > values[#values] * 1e-14 * #values and math.sqrt(value) or 0
    sum = sum + values[i]
  end
  if sum == 0 then return 0 end
  for _, value in ipairs(values) do
    local share = value / sum
    if share > 0 then entropy = entropy - share * math.log(share) end
  end
  return math.exp(entropy)
end

local chosen = setmetatable({}, { __mode = "k" }) -- {set = {count = subset}}: a damaged image is named only once

-- That many images, spread evenly over the set: if the set is sorted by class, so is the result.
local function some(set, count)
  if #set <= count then return set end
  chosen[set] = chosen[set] or {}
  if not chosen[set][count] then
    local indices = {}
    for i = 0, count - 1 do indices[i + 1] = i * #set // count end
    chosen[set][count] = data.subset { set, indices = create.tensor(indices, "i64") }
  end
  return chosen[set][count]
end

--- rank{net =, set =, images = 512, and the options of cld.eval.features} -> effective_rank of net:features, the
-- pooled features, of so many images of a data set, un-augmented, the same ones each time. The network does not
-- change. Any number of the images may be damaged (max_bad = 1): the training decides how many are too many.
function diagnostics.rank(options)
  caller.require_fields("diagnostics.rank", options, { "net", "set", "images", table.unpack(eval.feature_options) })
  extract.check("diagnostics.rank", options.net, options.set, "set")
  local count = caller.integer("diagnostics.rank", "images", options.images or MOST, 1)
  local given = { layer = "features", max_bad = 1, strict = false }
  for name, value in pairs(options) do
    if name ~= "net" and name ~= "set" and name ~= "images" then given[name] = value end
  end
  local features <close> = (eval.features(options.net, some(options.set, count), given))
  return diagnostics.effective_rank(features)
end

-- ---- two views, at an epoch's end ---------------------------------------------

--- cld.diagnostics.nmi(a, b) -> number: the normalized mutual information 2 I(a; b) / (H(a) + H(b)) of two labellings,
-- i64 (n), of the same n rows: from 0 (independent) to 1 (the same groups). 0 if both have only one group. Chance
-- alone gives more than 0, and more with more groups: do not compare values for different numbers of groups.
function diagnostics.nmi(a, b)
  local x, y = a:totable(), b:totable()
  if type(x) ~= "table" or type(y) ~= "table" or #x ~= #y or #x == 0 then
    caller.raise("diagnostics.nmi: expected labels i64 (n) of the same rows, got %s and %s", caller.shown(a),
      caller.shown(b))
  end
  local function entropy(counts)
    local sum = 0
    for _, key in ipairs(sorted_keys(counts)) do
      local share = counts[key] / #x
      sum = sum - share * math.log(share)
    end
    return sum
  end
  local of_x, of_y, of_both = {}, {}, {}
  for i = 1, #x do
    local both = ("%d %d"):format(x[i], y[i])
    of_x[x[i]], of_y[y[i]] = (of_x[x[i]] or 0) + 1, (of_y[y[i]] or 0) + 1
    of_both[both] = (of_both[both] or 0) + 1
  end
  local alone = entropy(of_x) + entropy(of_y)
  return alone > 0 and math.max(0, 2 * (alone - entropy(of_both)) / alone) or 0
end

-- Puts k rows spread over the set first, where k-means begins: `some` often returns rows sorted by class.
local function spread_first(n, k)
  local order, taken = {}, {}
  for i = 0, k - 1 do
    order[i + 1] = i * n // k
    taken[i * n // k] = true
  end
  for i = 0, n - 1 do
    if not taken[i] then order[#order + 1] = i end
  end
  return create.tensor(order, "i64")
end

-- The first two views that a recipe trains on: one augmentation, used for both, or a list of them.
local function two_of(views)
  if getmetatable(views) ~= nil or type(views) ~= "table" then return { views, views } end
  return { views[1], views[2] or views[1] }
end

local NMI_GROUPS = 32 -- for 512 images; the same for all runs, whatever groups they train with

-- The features of both views (n, d), rows of unit length.
local function features_of_views(options, set)
  local branch = extract.layer("diagnostics.two_views", options.net, options.layer or "instance")
  local loader = data.loader {
    set, views = two_of(options.views), batch_size = options.batch_size or 256, shuffle = false, drop_single = false,
    device = extract.device(options.net, options), workers = options.workers, max_bad = 1, strict = false, seed = 0,
  }
  local parts = { {}, {} }
  for batch in loader:epoch(1) do
    if extract.on_batch then extract.on_batch() end
    local _ <close> = extract.in_eval_mode(options.net)
    local _ <close> = no_grad()
    for v = 1, 2 do
      local made = branch(options.net, batch.views[v]) -- may belong to the network: left to the collector
      table.insert(parts[v], core.dist.gather_rows(made:float():normalize()))
    end
  end
  return create.cat(parts[1], 1), create.cat(parts[2], 1)
end

--- two_views{net =, set =, views =, layer = "instance", images = 512, groups = 32, workers, batch_size, device} ->
-- {alignment =, uniformity =, nmi =}, numbers. They describe two views of each of that many images of a data set, the
-- same images with the same augmentation each time. The features are those of the layer, with rows of unit length, by
-- the network in evaluation mode. nmi compares the groups that k-means makes of either view's rows (10 iterations, at
-- least 8 images per group, starting at the same images). The number of groups does not depend on the run's own, so
-- that runs can be compared. views: an augmentation, or a list of which the first two count. The program's random
-- numbers do not advance. All are NaN if a feature is not finite. The cost is a forward of 1,024 images.
function diagnostics.two_views(options)
  local name = "diagnostics.two_views"
  caller.require_fields(name, options, {
    "net", "set", "views", "layer", "images", "groups", "workers", "batch_size", "device",
  })
  extract.check(name, options.net, options.set, "set")
  local set = some(options.set, caller.integer(name, "images", options.images or MOST, 2))
  local groups = caller.integer(name, "groups", options.groups or NMI_GROUPS, 1)
  local _ <close> = no_grad()
  local _ <close> = dist.whole_batch() -- every rank has all rows of both views
  local a, b = features_of_views(options, set)
  if extract.odd_rows(a):item() + extract.odd_rows(b):item() > 0 then
    return { alignment = 0 / 0, uniformity = 0 / 0, nmi = 0 / 0 }
  end
  local k = math.max(1, math.min(groups, #set // 8))
  local order = spread_first(#set, k):to(a.device)
  local in_a = losses.kmeans(a:index_select(1, order), k, 10)
  local in_b = losses.kmeans(b:index_select(1, order), k, 10)
  local seen = diagnostics.views(a, b)
  return {
    alignment = seen.alignment:item(), uniformity = seen.uniformity:item(), nmi = diagnostics.nmi(in_a, in_b),
  }
end

-- ---- collapse ---------------------------------------------------------------

--- cld.diagnostics.collapse{effective_rank =, uniformity =} -> text or nil: the evidence that the network gives nearly
-- the same features for all images: an effective rank below 1.5, or a uniformity above -0.01 (the mean |x - y|^2 of
-- two images is then below 0.005). Each is a number or nil.
function diagnostics.collapse(seen)
  local rank, uniformity = seen.effective_rank, seen.uniformity
  if rank and rank < 1.5 then
    return ("the features have collapsed: all images have the same direction (effective rank %.2f)"):format(rank)
  elseif uniformity and uniformity > -0.01 then
    return ("the features have collapsed: all images lie in one place (uniformity %.1e)"):format(uniformity)
  end
  return nil
end

return diagnostics
