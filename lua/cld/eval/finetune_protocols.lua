--- Protocols of fine-tuning, for ImageNet at 224 pixels. For other images nothing is published: those settings are
-- ours.
--
-- openselfsup: the benchmark of OpenSelfSup (semi-supervised classification), a grid of rates. swav: Caron et al.'s
-- (NeurIPS 2020), one pair of rates for 1 % and for 10 % of the labels.
local augment = require "cld.augment"
local caller = require "cld.caller"
local options = require "cld.options"
local protocols_of_linear = require "cld.eval.protocols"
local sets = require "cld.data.sets"
local sorted_keys = require "cld.sorted_keys"
local user_error = require "cld.user_error"

local protocols = {}

--- The settings of each:
--   epochs, batch_size
--   momentum, weight_decay  SGD's
--   milestones, gamma       the rates are multiplied by gamma after so many epochs
--   scale                   of the random crop, shares of the image's area; then a flip
protocols.named = {
  openselfsup = {
    epochs = 20, batch_size = 256, momentum = 0.9, weight_decay = 5e-4, milestones = { 12, 16 }, gamma = 0.2,
    scale = { 0.08, 1 },
  },
  swav = {
    epochs = 20, batch_size = 256, momentum = 0.9, weight_decay = 0, milestones = { 12, 16 }, gamma = 0.2,
    scale = { 0.08, 1 },
  },
}

--- The names of the settings, and of the protocols.
protocols.fields = sorted_keys(protocols.named.openselfsup)
protocols.names = sorted_keys(protocols.named)

local OPENSELFSUP = { lr = { 0.1, 0.01, 0.001 }, head_lr = { 1, 10, 100 } }

-- By the share of the labels: the rate of the layers, and the rate of the new layer.
local SWAV = { { share = 0.01, lr = 0.02, head = 5 }, { share = 0.1, lr = 0.01, head = 0.2 } }

--- settings(name of the caller, protocol = "openselfsup"|"swav"|{a setting that differs from openselfsup's = value},
-- own) -> all settings. own: {name = value} that replace the protocol's; with other epochs the milestones keep their
-- share of the training, unless they are given too.
function protocols.settings(name, protocol, own)
  protocol = protocol == nil and "openselfsup" or protocol
  local base = protocols.named[protocol] or protocols.named.openselfsup
  if type(protocol) == "table" then
    caller.check_fields(name .. ": protocol", protocol, protocols.fields)
  elseif not protocols.named[protocol] then
    caller.raise("%s: protocol must be %s, or a table of settings, got %s", name, table.concat(protocols.names, " or "),
      caller.shown(protocol))
  end
  local all = {}
  for _, field in ipairs(protocols.fields) do
    all[field] = base[field]
    for _, given in ipairs { type(protocol) == "table" and protocol or {}, own or {} } do
      if given[field] ~= nil then all[field] = given[field] end
    end
  end
  if rawequal(all.milestones, base.milestones) and all.epochs ~= base.epochs then
    all.milestones = protocols_of_linear.scaled(all.milestones, base.epochs, all.epochs)
  end
  return all
end

--- The rate as a function of the step, from 0, starting at `lr`.
function protocols.rate(p, lr, steps_per_epoch)
  return protocols_of_linear.rate({ lr = lr, milestones = p.milestones, gamma = p.gamma }, steps_per_epoch)
end

--- The training images' augmentation, at the test view's size and with its statistics.
function protocols.view(p, test_view)
  local mean, std = test_view:statistics()
  local height, width = test_view:size(224, 224) -- for a view without a fixed size: that of images of 224 x 224
  return augment.crop_flip { size = { height, width }, scale = p.scale, mean = mean, std = std }
end

-- ---- for the recipe -----------------------------------------------------------------

--- settle(opt): replaces options epochs, batch_size and weight_decay that are not set with the protocol's, before
-- cld.run.
function protocols.settle(opt)
  local p = protocols.named[opt.protocol]
  for _, name in ipairs { "epochs", "batch_size" } do
    if opt[name] == 0 then opt[name] = p[name] end
  end
  if opt.batch_size == 1 then
    user_error.raise "option '--batch-size': expected at least 2, since batch norm is trained, got 1"
  end
  if opt.weight_decay == -1 then opt.weight_decay = p.weight_decay end
  if opt.weight_decay < 0 then
    user_error.raise("option '--weight-decay': expected -1 or at least 0, got %g", opt.weight_decay)
  end
end

--- of_options(opt) -> the protocol's settings, with what opt replaces.
function protocols.of_options(opt)
  return protocols.settings("finetune", opt.protocol,
    { epochs = opt.epochs, batch_size = opt.batch_size, weight_decay = opt.weight_decay })
end

--- training_set(opt, sets, data) -> the labelled images that --long-tail, --labels or --list keep of the training set,
-- and their share of it.
function protocols.training_set(opt, all, of)
  local whole = all.memory or all.train
  if not all.test or whole.classes < 2 then
    user_error.raise("%s: it has no training and test images with classes", of.data)
  end
  if opt.long_tail > 1 then
    if opt.labels < 1 or opt.list ~= "" then
      user_error.raise("option '--long-tail': --%s would choose among the classes anew; expected one of the two",
        opt.labels < 1 and "labels" or "list")
    end
    whole = sets.long_tailed { whole, factor = opt.long_tail, kind = opt.long_tail_kind, seed = opt.seed }
  end
  local part = whole
  if opt.list ~= "" then
    if opt.labels < 1 then user_error.raise "option '--list': it names the labelled images; --labels would too" end
    if not rawget(whole, "path_of") then
      user_error.raise("option '--list': %s has no files that a list could name; --labels takes a share", whole.name)
    end
    part = sets.labelled_share { whole, list = opt.list }
  elseif opt.labels < 1 then
    if opt.labels * #whole < 1 then
      user_error.raise("option '--labels': %g of the %d images of %s is none; at least %g is one", opt.labels, #whole,
        whole.name, 1 / #whole)
    end
    part = sets.labelled_share { whole, share = opt.labels, seed = opt.seed }
  end
  return part, #part / #whole
end

local function rates_of(opt, share)
  local lr, head = options.numbers(opt.lr) or {}, options.numbers(opt.head_lr) or {}
  if opt.protocol == "openselfsup" then
    return #lr > 0 and lr or OPENSELFSUP.lr, #head > 0 and head or OPENSELFSUP.head_lr
  end
  for _, known in ipairs(SWAV) do
    if math.abs(share / known.share - 1) < 0.05 then
      lr = #lr > 0 and lr or { known.lr }
      head = #head > 0 and head or { known.head / known.lr }
    end
  end
  if #lr == 0 or #head == 0 then
    user_error.raise("option '--protocol': swav has rates for 1 %% and 10 %% of the labels, and these are %.3g %%: give"
      .. " --lr and --head-lr", 100 * share)
  end
  return lr, head
end

--- grid(opt, share of the labels) -> {{lr =, head_lr =}, ...}: each rate combined with each factor of the new layer.
function protocols.grid(opt, share)
  local list, lr, head = {}, rates_of(opt, share)
  for _, rate in ipairs(lr) do
    for _, factor in ipairs(head) do list[#list + 1] = { lr = rate, head_lr = factor } end
  end
  return list
end

return protocols
