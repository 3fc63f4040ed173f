--- Modules: trees of parameters, buffers and child modules, like PyTorch's nn.Module.
--
--   local Head = nn.module "Head"               -- nn.module("Head", Base) is a subclass of Base
--   function Head:build(width, dim)             -- the constructor: Head(512, 128)
--     self.linear = nn.linear(width, dim)       -- a module assigned to a field is a child
--     self.scale  = nn.parameter(cld.ones(dim)) -- trained
--     self.center = nn.buffer(cld.zeros(dim))   -- part of the state, not trained
--   end
--   function Head:forward(x) return self.linear(x) * self.scale end
--
-- help "own network" is a guide, help "module" lists what every module can do. nn.each passes several views through a
-- network as one batch; nn.transient(Head), after the code above, closes a forward's temporaries at its end.
-- nn.functional has the functions, nn.init the initialisations of weights.
local caller = require "cld.caller"
local core = require "cld.core"
local module = require "cld.nn.module"
local layers = require "cld.nn.layers"
local containers = require "cld.nn.containers"
local init = require "cld.nn.init"
local parts = require "cld.nn.parts"
local shuffle = require "cld.nn.shuffle"
local projector = require "cld.nn.projector"
local scope = require "cld.nn.scope"
require "cld.nn.tree"
require "cld.nn.shown"
require "cld.nn.missing"

local nn = {
  module = module.class, parameter = module.parameter, buffer = module.buffer, is_module = module.is_module,
  sequential = containers.sequential, module_list = containers.module_list, projector = projector,
  functional = core.nn, init = init,
  transient = scope.transient, scope = scope.run, chain = scope.chain,
  parts = parts.current, with_parts = parts.with, blocks = parts.blocks, each = parts.each,
  shuffle = shuffle.shuffle, shuffled = shuffle.shuffled,
}
for name, class in pairs(layers) do nn[name] = class end

-- PyTorch users look for these here.
for _, name in ipairs { "relu", "sigmoid", "tanh", "softmax", "log_softmax", "normalize", "cross_entropy" } do
  nn.functional[name] = core.tensor[name]
end

local dropout = nn.functional.dropout

--- cld.nn.functional: layers as stateless functions of tensors and weights, on which the modules of cld.nn are built,
-- under PyTorch's names.
--- cld.nn.functional.dropout(x[, p = 0.5[, training = true[, parts = nn.parts()]]]) -> tensor: in training each
-- element is 0 with probability p, and 1 / (1 - p) times itself otherwise. The random numbers are drawn for the whole
-- current batch, and each of several ranks uses those of its rows: they equal one process's if x has rows for all of
-- the rank's images. With groups of blocks (nn.blocks) they differ from one process's. parts: whose rows x has.
function nn.functional.dropout(x, p, training, given, ...)
  return caller.call("dropout", dropout, x, p, training, given == nil and parts.current() or given, ...)
end

return nn
