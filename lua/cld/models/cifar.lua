--- The published CIFAR encoders of NPID and CLD: `resnet18_cifar`, 34, 50. The trunk is torchvision's except for names
-- and initialisation: `shortcut.0` for `downsample.0`, heads `linear` and `groupDis.0`, and both features have unit
-- length. With the stem "imagenet" the same encoder takes larger images.
local caller = require "cld.caller"
local heads = require "cld.models.heads"
local nn = require "cld.nn"
local resnet = require "cld.models.resnet"
local user_error = require "cld.user_error"

local cifar = {}

local Encoder = nn.module("cifar_resnet", resnet.trunk)

-- The convolutions of the stem "cifar" keep PyTorch's default initialisation, as in the published code.
function Encoder:build(kind, settings)
  local small, head = settings.stem == "cifar", settings.norm_linear and nn.norm_linear or nn.linear
  resnet.trunk.build(self, kind, { width = settings.width, small = small, shortcut = "shortcut" })
  self.branches = settings.branches
  for _, branch in ipairs(settings.branches) do
    if branch == "group" then
      self.groupDis = nn.sequential(head(self.feature_width, settings.low_dim), nn.normalize())
    elseif settings.projector then
      self.projector = nn.projector(self.feature_width, settings.projector.hidden, settings.projector.dim)
    else
      self.linear = head(self.feature_width, settings.low_dim)
    end
  end
  self.pool_window = settings.pool_window
  if not small then resnet.draw_convolutions(self) end
end

function Encoder:branch(name, features)
  if name == "group" then return self.groupDis(features) end
  return self.projector and self.projector(features) or self.linear(features):normalize()
end

--- net:heads(features (N, F)) -> the instance and the group features, (N, low_dim) each, rows of unit length, in the
-- order of `branches`. A projector's rows are of its own dimension, and not normalised.
function Encoder:heads(features)
  local first, second = self.branches[1], self.branches[2]
  if not second then return self:branch(first, features) end
  return self:branch(first, features), self:branch(second, features)
end

function Encoder:forward(x) return self:heads(self:features(x)) end

nn.transient(Encoder)

--- The settings, with their defaults. norm_linear makes the heads NormLinear layers; projector = {hidden =, dim =}
-- makes the instance branch an nn.projector (BYOL, SimCLR). The maps are pooled as a whole, or with pool_window (an
-- integer or {height, width}) over one window of this size in the top-left corner: for 96-pixel images, the published
-- code pools 7 of the map's 12 rows and columns.
cifar.defaults = {
  stem = "cifar", low_dim = 128, branches = { "instance", "group" }, projector = false, width = 64, norm_linear = false,
  pool_window = false,
}

cifar.kinds = {}
for _, entry in ipairs(resnet.kinds) do
  local name, kind = table.unpack(entry)
  if name == "resnet18" or name == "resnet34" or name == "resnet50" then
    cifar.kinds[#cifar.kinds + 1] = { name .. "_cifar", kind }
  end
end

function cifar.check(name, _, settings)
  heads.check_branches(name, settings.branches, settings.projector)
  for _, key in ipairs { "low_dim", "width" } do settings[key] = caller.integer(name, key, settings[key]) end
  if settings.stem ~= "cifar" and settings.stem ~= "imagenet" then
    caller.raise("%s: stem is %s; expected 'cifar' or 'imagenet'", name, caller.shown(settings.stem))
  end
end

function cifar.build(kind, settings) return Encoder(kind, settings) end

-- The published window, after a check that it fits into the maps exactly once.
local function corner(size, stem)
  local reduction = stem == "imagenet" and 32 or 8
  local side = (size + reduction - 1) // reduction
  if side < 7 or side >= 14 then
    user_error.raise("option '--pool': corner is 7 x 7 of maps of 7 to 13 rows; %d pixels make %d with the stem %s,"
      .. " --size %d to %d would do", size, side, stem, 6 * reduction + 1, 13 * reduction)
  end
  return 7
end

--- settings_of(opt) -> the settings that a recipe's options ask for, see models.from_options.
function cifar.settings_of(opt)
  local stem = rawget(opt, "stem") or "cifar"
  if stem == "auto" then stem = opt.size < 128 and "cifar" or "imagenet" end
  return {
    stem = stem, low_dim = opt.low_dim, width = opt.width, norm_linear = opt.norm_linear,
    pool_window = rawget(opt, "pool") == "corner" and corner(opt.size, stem) or nil,
  }
end

return cifar
