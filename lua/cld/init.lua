--- The module, `local cld = require "cld"`: tensors, gradients, files and the process, and all other modules.
--
-- Joins the C functions (`cld.core`, one table per binding file) with the parts written in Lua (one file each here,
-- loaded on first use).
local core = require "cld.core"
require "cld.built".watch()
local closed = require "cld.closed"
require "cld.uncaught"

local composed = {
  "augment", "autograd", "data", "diagnostics", "dist", "eval", "graph", "help", "image", "json", "losses", "models",
  "nn", "optim", "options", "plot", "report", "run", "schedule", "tensorboard", "timeit",
}

local cld = {}

-- The functions of these tables are in cld itself: cld.zeros, cld.no_grad, cld.memory.
local merged = { tensor = true, autograd = true, system = true }
for name, functions in pairs(core) do
  if not merged[name] then
    cld[name] = functions
  else
    for key, value in pairs(functions) do cld[key] = value end
  end
end
local saved = require "cld.saved"
cld.load, cld.save = saved.load, saved.save
--- cld.io.none: Python's None, in what cld.load reads out of PyTorch's files.
--- cld.io.record: the metatable of objects in PyTorch files whose class does not exist here: records {class,
-- arguments, state, items, entries}, which print themselves.
core.io.record.__tostring = function(record) return require "cld.record" (record) end

-- lua/cld/<name>.lua replaces the C table of the same name.
for _, name in ipairs(composed) do cld[name] = nil end
cld.grad = nil -- in cld.autograd, which has cld.Function and the like too
cld.picture = nil -- image files: in cld.image
cld.scope = nil -- scopes of temporaries: nn.scope
cld.embed = nil -- maps of features: in cld.eval
cld.screen = nil -- images in a terminal: image.show

-- A missing field is a typing error in every table of functions; use rawget or pairs to test for one.
return setmetatable(cld, {
  __index = function(self, key)
    for _, name in ipairs(composed) do
      if name == key then
        local _ <close> = core.text.c_locale() -- Lua reads numbers in its files by the locale
        local module = closed.close("cld." .. name, (require("cld." .. name)))
        rawset(self, key, module)
        return module
      end
    end
    return closed.refuse("cld", self, key, table.move(composed, 1, #composed, 1, {}))
  end,
  __pairs = function(self)
    for _, name in ipairs(composed) do local _ = self[name] end
    return next, self, nil
  end,
})
