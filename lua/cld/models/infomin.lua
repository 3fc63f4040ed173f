--- The layout "infomin": InfoMin's network (Tian et al., NeurIPS 2020) as PyContrast and InfoMin + CLD published it.
-- The trunk's names begin with `encoder.`, the outputs are rows of unit length, and jigsaw patches have their own
-- head.
--
-- | kind | instance and group | instance alone | group alone |
-- |---|---|---|---|
-- | linear, norm_linear | proj1.0; proj2.0 | head.0 | proj2.0 |
-- | mlp, norm_mlp | head.0, relu; proj1.0, proj2.0 | head.0, relu, head.2 | head.0, relu; proj2.0 |
--
-- The jigsaw head takes the nine patches of an image: head_jig.fc1 on each patch (for mlp and norm_mlp fc1.0, relu,
-- fc1.2), then head_jig.fc2 on the nine results side by side. norm_ makes all last layers NormLinear; the hidden ones,
-- head.0 and head_jig.fc1.0, are F x F with bias in both.
local caller = require "cld.caller"
local core = require "cld.core"
local autograd, create = core.autograd, core.tensor
local nn = require "cld.nn"
local resnet = require "cld.models.resnet"

local PATCHES = 9

-- ---- the jigsaw head --------------------------------------------------------

local JigsawHead = nn.module "jigsaw_head"

function JigsawHead:build(F, dim, last, is_mlp)
  self.fc1 = is_mlp and nn.sequential(nn.linear(F, F), nn.relu(), last(F, dim)) or last(F, dim)
  self.fc2 = last(PATCHES * dim, dim)
end

-- Each image's rows of y (9 n, dim) in its order (n, 9), side by side: (n, 9 dim).
local function arranged(y, order)
  local images = order.shape[1]
  local nines = create.full({ images }, PATCHES, { dtype = "i64", device = order.device }) -- no copy from the host
  local rows = (order + (nines:cumsum(1) - PATCHES):reshape { images, 1 }):reshape { images * PATCHES }
  return y:index_select(1, rows):reshape { images, -1 }
end

--- features (9 n, F), order i64 (n, 9) -> (n, dim)
function JigsawHead:forward(features, order) return self.fc2(arranged(self.fc1(features), order)) end

nn.transient(JigsawHead)

-- ---- the order of patches ---------------------------------------------------

-- For an order on the cpu: checking one on a GPU would wait for the device.
local function check_permutations(order)
  local _ <close> = autograd.no_grad()
  local sorted <close> = order:sort(2)
  local range <close> = create.arange(0, PATCHES, 1)
  local same <close> = sorted:eq(range:reshape { 1, PATCHES })
  if same:all():item() == 0 then
    caller.raise("jigsaw: each row of the order must have 0 to %d once", PATCHES - 1)
  end
end

local function check_order(order, images, device)
  local expected = ("expected i64[%d, %d], the patch at each place of each image"):format(images, PATCHES)
  if not create.is_tensor(order) then
    caller.raise("jigsaw: the order is %s; %s", caller.shown(order), expected)
  elseif order.dtype ~= "i64" or #order.shape ~= 2 or order.shape[1] ~= images or order.shape[2] ~= PATCHES then
    caller.raise("jigsaw: the order is %s; %s", caller.shown(order), expected)
  elseif order.device ~= device then
    caller.raise("jigsaw: the order is on %s, the patches on %s", order.device, device)
  elseif device == "cpu" then
    check_permutations(order)
  end
  return order
end

-- The number of images whose patches these are.
local function count_images(patches)
  if not create.is_tensor(patches) or #patches.shape ~= 4 then
    caller.raise("jigsaw: the patches are %s; expected (9 n, 3, height, width), nine of each image",
      caller.shown(patches))
  end
  local rows = patches.shape[1]
  if rows == 0 or rows % PATCHES ~= 0 then
    caller.raise("jigsaw: %d patches are not nine of each image", rows)
  end
  return rows // PATCHES
end

-- ---- the network ------------------------------------------------------------

local InfoMin = nn.module "infomin"

local function wants(settings, wanted)
  for _, branch in ipairs(settings.branches) do
    if branch == wanted then return true end
  end
  return false
end

function InfoMin:build(kind, settings)
  self.encoder = resnet.trunk(kind, settings)
  resnet.draw_convolutions(self.encoder)
  self.feature_width = self.encoder.feature_width
  self.head_kind, self.branches = settings.head, settings.branches
  local F, dim, is_mlp = self.feature_width, settings.dim, settings.head:find "mlp" ~= nil
  local last = settings.head:find "^norm_" and nn.norm_linear or nn.linear
  local has_group = wants(settings, "group")
  if is_mlp then self.head = nn.sequential(nn.linear(F, F), nn.relu()) end
  if not has_group then
    self.head = self.head or nn.sequential()
    self.head:append(last(F, dim))
  elseif wants(settings, "instance") then
    self.proj1 = nn.sequential(last(F, dim))
  end
  local jigsaw = settings.jigsaw and JigsawHead(F, dim, last, is_mlp) or nil -- the same weights without a group branch
  if has_group then self.proj2 = nn.sequential(last(F, dim)) end
  self.head_jig = jigsaw
end

function InfoMin:extra_repr()
  return ("%d features, head %s: %s"):format(self.feature_width, self.head_kind, table.concat(self.branches, ", "))
end

--- net:features(images (N, 3, H, W)) -> the pooled features (N, F).
function InfoMin:features(x) return self.encoder(x) end

local function heads_of(self, features)
  local hidden = self.head and self.head(features) or features
  if not self.proj2 then return hidden:normalize(-1) end
  local rows = {}
  for i, branch in ipairs(self.branches) do
    rows[i] = (branch == "instance" and self.proj1 or self.proj2)(hidden):normalize(-1)
  end
  return table.unpack(rows)
end

--- net:heads(features (N, F)) -> the branches' features, (N, dim) each, rows of unit length, in the order of
-- `branches`.
function InfoMin:heads(features) return nn.scope(heads_of, self, features) end

function InfoMin:forward(x) return self:heads(self:features(x)) end

nn.transient(InfoMin)

local function jigsaw_of(self, patches, order)
  local images, features = order.shape[1], self:features(patches)
  if features.shape[1] ~= images * PATCHES then
    caller.raise("jigsaw: the encoder makes %d rows of %d patches", features.shape[1], images * PATCHES)
  end
  return self.head_jig(features, order):normalize(-1)
end

--- net:jigsaw(patches (9 N, 3, h, w)[, order i64 (N, 9)]) -> (N, dim), rows of unit length. The nine patches of an
-- image are adjacent, as the loader makes them (cld.augment.jigsaw). order, from 0: position j of the nine takes patch
-- order[j] of its image. Without it one is drawn for each image, from the global generator, on the patches' device. On
-- the cpu an invalid order is an error; elsewhere it is not checked.
--
-- Blocks of batch statistics count images, not patches: cld.nn.each(function(x) return net:jigsaw(x, order) end, {
-- patches }, { block = 64, unit = 9 }).
function InfoMin:jigsaw(patches, order)
  if not self.head_jig then
    caller.raise "jigsaw: the network has no head for patches; make it with jigsaw = true"
  end
  local images = count_images(patches)
  if order ~= nil then
    check_order(order, images, patches.device)
  else
    order = InfoMin.orders(images, patches.device)
  end
  return nn.scope(jigsaw_of, self, patches, order)
end

--- net.orders(images, device) -> i64 (images, 9): a permutation of the patches for each image, drawn from the global
-- generator: the order of nine uniform numbers. At each replay of a captured step they are new.
function InfoMin.orders(images, device)
  caller.integer("orders", "images", images, 0)
  local share = caller.call("orders", core.dist.images, "orders", images) -- drawn for all ranks' images
  local keys <close> = create.rand({ share.total, PATCHES }, { device = device })
  local own <close> = keys:narrow(1, share.begin + 1, share.rows)
  return own:argsort(2)
end

resnet.layouts.infomin = {
  check = function(name, settings)
    if not settings.head then
      caller.raise("%s: layout 'infomin' has a head; expected head = 'mlp' or another kind, got false", name)
    end
    if settings.projector then
      caller.raise("%s: layout 'infomin' has no projector; expected projector = false", name)
    end
    if type(settings.jigsaw) ~= "boolean" then
      caller.raise("%s: jigsaw must be true or false, got %s", name, caller.shown(settings.jigsaw))
    end
    settings.projector = nil
  end,
  build = InfoMin,
}

return InfoMin
