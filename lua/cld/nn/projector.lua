--- The projector, and the predictor, of BYOL and SimCLR.
local caller = require "cld.caller"
local containers = require "cld.nn.containers"
local layers = require "cld.nn.layers"
local modules = require "cld.nn.module"
local scope = require "cld.nn.scope"

local Projector = modules.class "projector"

--- cld.nn.projector(input, hidden, output) -> module: (N, input) to (N, output), two layers with a norm between them:
-- Linear without bias, batch norm, relu, Linear with bias (BYOL: Grill et al., 2020; SimCLR: Chen et al., 2020). The
-- parameters are `layers.0.weight`, `layers.1.weight`, `layers.1.bias`, `layers.3.weight`, `layers.3.bias`. Training
-- needs at least two rows; if a batch has parts (nn/parts.lua), two in each.
function Projector:build(input, hidden, output)
  input, hidden = caller.integer("projector", "input", input), caller.integer("projector", "hidden", hidden)
  output = caller.integer("projector", "output", output)
  self.layers = containers.sequential(layers.linear(input, hidden, { bias = false }), layers.batch_norm1d(hidden),
    layers.relu(), layers.linear(hidden, output))
end

function Projector:forward(x) return self.layers(x) end

scope.transient(Projector)

return Projector
