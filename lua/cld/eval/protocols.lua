--- Protocols of linear evaluation: a linear classifier is trained on the features of a frozen network.
--
-- moco: He et al.'s (MoCo v2), also used by MoCo v2 + CLD. infomin: Tian et al.'s (InfoMin, PyContrast), also used by
-- InfoMin + CLD. Both are for ImageNet at 224 pixels. For other images nothing is published: those settings are ours.
local augment = require "cld.augment"
local caller = require "cld.caller"
local schedule = require "cld.schedule"
local sorted_keys = require "cld.sorted_keys"

local protocols = {}

--- The settings of each; a protocol of your own may set the same:
--   epochs, batch_size
--   lr, momentum, weight_decay   SGD's; lr is the rate itself, whatever the batch size
--   milestones, gamma            the rate is multiplied by gamma after so many epochs
--   init                         "normal": weights N(0, 0.01), bias 0; "uniform": PyTorch's default of a linear layer
--   scale                        of the random crop, shares of the image's area; then a flip
--   rand_augment                 RandAugment of the training images
--   test_every                   epochs between two tests; the first two epochs, all from the last milestone on, and
--                                the last epoch are tested as well
protocols.named = {
  moco = {
    epochs = 100, batch_size = 256, lr = 30, momentum = 0.9, weight_decay = 0, milestones = { 60, 80 }, gamma = 0.1,
    init = "normal", scale = { 0.08, 1 }, rand_augment = false, test_every = 10,
  },
  infomin = { -- 61 epochs: counted from 1, the published script trains while epoch <= 61
    epochs = 61, batch_size = 256, lr = 30, momentum = 0.9, weight_decay = 0, milestones = { 30, 40, 50 }, gamma = 0.2,
    init = "uniform", scale = { 0.2, 1 }, rand_augment = true, test_every = 1,
  },
}

--- The names of the settings.
protocols.fields = sorted_keys(protocols.named.moco)

--- Scales the milestones to a training of another length; milestones that then coincide become one.
function protocols.scaled(milestones, from, to)
  local list = {}
  for _, milestone in ipairs(milestones) do
    local at = math.floor(milestone * to / from + 0.5)
    if at >= 1 and at < to and at > (list[#list] or 0) then list[#list + 1] = at end
  end
  return list
end

local function check(name, p)
  for _, key in ipairs { "epochs", "batch_size", "test_every" } do p[key] = caller.integer(name, key, p[key]) end
  for _, key in ipairs { "lr", "momentum", "weight_decay", "gamma" } do
    if type(p[key]) ~= "number" or not (p[key] >= 0 and p[key] < math.huge) then
      caller.raise("%s: %s must be a number of at least 0, got %s", name, key, caller.shown(p[key]))
    end
  end
  if p.init ~= "normal" and p.init ~= "uniform" then
    caller.raise("%s: init must be 'normal' or 'uniform', got %s", name, caller.shown(p.init))
  elseif type(p.milestones) ~= "table" then
    caller.raise("%s: milestones must be a list of numbers of epochs, got %s", name, caller.shown(p.milestones))
  end
end

--- settings(name of the caller, protocol = "moco"|"infomin"|{a setting that differs from moco's = value}, own) -> all
-- settings, checked. own: {name = value} that replace the protocol's; with other epochs the milestones keep their
-- share of the training, unless they are given too.
function protocols.settings(name, protocol, own)
  protocol = protocol == nil and "moco" or protocol
  local base = protocols.named[protocol]
  if type(protocol) == "table" then
    caller.check_fields(name .. ": protocol", protocol, protocols.fields)
    base = protocols.named.moco
  elseif not base then
    caller.raise("%s: protocol must be %s, or a table of settings, got %s", name,
      table.concat(sorted_keys(protocols.named), " or "), caller.shown(protocol))
  end
  local all = {}
  for _, field in ipairs(protocols.fields) do
    all[field] = base[field]
    for _, given in ipairs { type(protocol) == "table" and protocol or {}, own or {} } do
      if given[field] ~= nil then all[field] = given[field] end
    end
  end
  check(name, all)
  if rawequal(all.milestones, base.milestones) and all.epochs ~= base.epochs then
    all.milestones = protocols.scaled(all.milestones, base.epochs, all.epochs)
  end
  return all
end

--- The learning rate as a function of the step, from 0.
function protocols.rate(p, steps_per_epoch)
  if #p.milestones == 0 then return schedule.constant { base = p.lr } end
  return schedule.step { base = p.lr, steps_per_epoch = steps_per_epoch, milestones = p.milestones, gamma = p.gamma }
end

--- Whether epoch, counted from 1, ends with a test.
function protocols.is_tested(p, epoch)
  local done = epoch - 1 -- the published count
  local last_milestone = p.milestones[#p.milestones] or p.epochs
  return done <= 1 or done % p.test_every == 0 or done >= last_milestone or epoch == p.epochs
end

--- The training images' augmentation: {size =, mean =, std =} are what the network was trained on.
function protocols.view(p, images)
  local view = augment.crop_flip { size = images.size, scale = p.scale, mean = images.mean, std = images.std }
  if p.rand_augment then table.insert(view, #view, augment.rand_augment()) end
  return view
end

return protocols
