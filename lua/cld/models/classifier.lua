--- An encoder with a linear classification layer on its features, which fine-tuning trains (cld.eval.finetuning). It
-- works like any network: net:features(images) is the input of fc, so that kNN, the linear probe and
-- recipes/features.lua can use it, and its description contains the encoder's.
local caller = require "cld.caller"
local nn = require "cld.nn"

local classifier = {}

local Classifier = nn.module "classifier"

function Classifier:build(encoder, settings)
  self.layer, self.feature_width = settings.layer, settings.dim
  self.encoder = encoder
  self.fc = nn.linear(settings.dim, settings.classes)
end

--- net:features(images (N, 3, H, W)) -> (N, dim): the encoder's layer.
function Classifier:features(images)
  if self.layer == "features" then return self.encoder:features(images) end
  return (self.encoder(images))
end

--- net(images) -> the classes' logits (N, classes).
function Classifier:forward(images) return self.fc(self:features(images)) end

nn.transient(Classifier)

--- check(name, settings): {encoder = a description, classes, dim, layer = "features" (the input of the encoder's heads)
-- or "instance" (its first output)}; dim is the dimension of that layer.
function classifier.check(name, settings)
  caller.require_fields(name, settings, { "encoder", "classes", "dim", "layer" })
  if type(settings.encoder) ~= "table" then
    caller.raise("%s: encoder must be a description of cld.models, got %s", name, caller.shown(settings.encoder))
  end
  for _, key in ipairs { "classes", "dim" } do settings[key] = caller.integer(name, key, settings[key]) end
  settings.layer = settings.layer or "features"
  if settings.layer ~= "features" and settings.layer ~= "instance" then
    caller.raise("%s: layer must be 'features' or 'instance', got %s", name, caller.shown(settings.layer))
  end
end

function classifier.build(encoder, settings) return Classifier(encoder, settings) end

return classifier
