-- Makes the recipe on the same command line compute in f64: cldlua -e 'dofile "spec/support/wide.lua"' recipes/x.lua
-- ... Views, networks, banks and queues become f64, so that several ranks can be compared with one process to more
-- digits than f32 has.
local cld = require "cld"
local Module = cld.nn and require "cld.nn.module".base

local move = Module.to
function Module:to(where)
  move(self, where)
  return move(self, "f64")
end

local function widen(views)
  for i, view in ipairs(views) do views[i] = view:double() end
  return views
end

local loader = cld.data.loader
rawset(cld.data, "loader", function(options)
  local made = loader(options)
  local own = getmetatable(made)
  local wide = setmetatable({ __name = own.__name }, { __index = own })
  for _, name in ipairs { "__tostring", "__len" } do wide[name] = own[name] end
  wide.__index = function(_, key)
    if key ~= "epoch" then return own[key] end
    return function(self, ...)
      local batches, _, _, closing = own.epoch(self, ...)
      return function()
        local batch = batches()
        if batch then batch.views = widen(batch.views) end
        return batch
      end, nil, nil, closing
    end
  end
  return setmetatable(made, wide)
end)

for _, name in ipairs { "memory_bank", "moco_queue" } do
  local make = cld.losses[name]
  cld.losses[name] = function(options)
    options.dtype = "f64"
    return make(options)
  end
end
